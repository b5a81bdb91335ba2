"""compare(fit): the classical counterpart by statsmodels MixedLM, side by side.

The counterpart has the same columns; networks are replaced by their inputs as linear terms and
neural random effects by linear ones on the same basis. MixedLM is fitted with ``reml=False``. Its
standard errors of variance parameters mix scaled and unscaled parameters and are not shown.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from dgmm.design import rebuild
from dgmm.estimate import Estimate
from dgmm.fit import Fit
from dgmm.latent import theta_of_covariances
from dgmm.multivariate.fit import MultivariateFit
from dgmm.panel import Panel
from dgmm.prediction.moments import given_history
from dgmm.report.layout import number
from dgmm.runtime.gate import gate

__all__ = ["Comparison", "compare"]

NOTICED = 0.05
"""Log-likelihood that a maximum may miss without a word."""


@dataclass(frozen=True)
class Comparison:
    """Tables of the two fits; ``str`` prints them beside each other."""

    formula: str
    fixed: pd.DataFrame
    random: pd.DataFrame
    statistics: pd.DataFrame
    notes: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"Comparison with statsmodels MixedLM (ML)\nFormula: {self.formula}"]
        for title, table in (
            ("Fixed effects:", self.fixed),
            ("Random effects (standard deviations and correlations):", self.random),
            ("Fit:", self.statistics),
        ):
            shown = table.map(lambda value: "" if pd.isna(value) else number(value, 5))
            parts.append(f"{title}\n{shown.to_string()}")
        if self.notes:
            parts.append("\n".join(f"* {note}" for note in self.notes))
        return "\n\n".join(parts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        tables = (self.fixed, self.random, self.statistics)
        return "\n".join(t.to_html(float_format=lambda x: f"{x:.5g}", na_rep="") for t in tables)


@gate
def compare(fit: Fit, newdata: Any = None) -> Comparison:
    """Fit the classical counterpart with statsmodels MixedLM and set it beside ``fit``.

    Args:
        fit: a Gaussian fit with identity link, classical or deep, fitted by ML (not REML).
        newdata: rows of subjects that were held out, outcomes included. The table then gives the
            root mean squared error for them without any history (population profile), and of the
            later half of their visits given the earlier half.

    Raises:
        ValueError: for other families (MixedLM is Gaussian) and REML fits.
    """
    if isinstance(fit, MultivariateFit):
        raise TypeError(
            "compare() sets a model of one outcome beside MixedLM; of several outcomes anova(fit) "
            "compares with the separate models, log_score(fit, newdata) for new subjects"
        )
    _check(fit)
    below = fit.estimate.nested or fit.estimate
    model, seconds = _mixedlm(below)
    peer = _peer_estimate(below, model)
    names = ("dgmm", "MixedLM")
    notes = [f"MixedLM took {seconds:.2f} s"]
    if not model.converged:
        notes.append("MixedLM reports that it did not converge")
    short = below.log_likelihood - float(model.llf)
    if short > NOTICED:
        notes.append(
            f"MixedLM stopped {short:.3g} below the maximum of this model: the difference is not "
            "one of models. Its search depends on the origin of time; centre the covariates"
        )
    statistics = pd.DataFrame(index=[], columns=list(names), dtype=float)
    statistics.loc["log-likelihood"] = [fit.estimate.log_likelihood, float(model.llf)]
    statistics.loc["sigma"] = [fit.sigma(), float(np.sqrt(model.scale))]
    inside = [_rmse(done, done.panel, done.observed) for done in (fit.estimate, peer)]
    statistics.loc["RMSE, subjects of the fit"] = inside
    if newdata is not None:
        for label, values in _held_out(fit, peer, newdata).items():
            statistics.loc[label] = values
    if not fit.estimate.model.linear:
        notes.append("MixedLM has the networks replaced by linear terms on the same bases")
    return Comparison(
        fit.formula,
        _fixed_table(fit, below, model),
        _random_table(fit, below, model),
        statistics,
        tuple(notes),
    )


def _check(fit: Fit) -> None:
    if fit.estimate.panel.several:
        raise ValueError("compare() is for models with one grouping factor")
    family = fit.estimate.model.family
    if not family.conjugate:
        raise ValueError(
            f"compare() sets a Gaussian fit beside statsmodels MixedLM; this fit has family "
            f"{family.name!r}. Compare with another dgmm fit through loglik() and aic()."
        )
    if fit.estimate.method == "reml":
        raise ValueError("compare() compares maximum likelihood fits; refit with method='ml'")
    if not (fit.estimate.nested or fit.estimate).model.by_columns:
        raise ValueError("MixedLM has no paths; compare() needs random effects of columns")
    if any(latent.by_reported for latent in (fit.estimate.nested or fit.estimate).model.latents):
        raise ValueError("MixedLM has free covariances only, no cs(), ar1() or hom=TRUE")
    weights = fit.estimate.observed.rows.data.weights
    if bool((weights != 1).any()):
        raise ValueError("MixedLM knows no prior weights; compare() needs a fit without weights")


def _mixedlm(done: Estimate) -> tuple[Any, float]:
    """MixedLM on the very columns of the classical estimate."""
    from statsmodels.regression.mixed_linear_model import MixedLM, MixedLMParams  # slow to import

    rows, panel = done.observed.rows, done.observed
    y = (rows.data.y / rows.data.trials - rows.offset).numpy()
    T = np.concatenate([part.numpy() for part in rows.T], axis=1)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MixedLM(y, rows.X.numpy(), groups=panel.subject.numpy(), exog_re=T)
        free = None
        if any(len(latent.blocks()) > 1 for latent in done.model.latents):
            free = MixedLMParams.from_components(
                fe_params=np.ones(rows.X.shape[1]), cov_re=np.eye(T.shape[1])
            )
        result = model.fit(reml=False, free=free)
    return result, time.perf_counter() - started


def _peer_estimate(below: Estimate, result: Any) -> Estimate:
    """MixedLM's estimates in the place of ours: same predictions machinery, its numbers."""
    theta = dict(below.theta)
    beta = torch.from_numpy(np.asarray(result.fe_params, dtype=float))
    theta["beta"] = torch.linalg.solve(below.model.basis, beta)
    D = torch.from_numpy(np.array(result.cov_re, dtype=float))
    ends = np.cumsum([latent.dim for latent in below.model.latents])
    blocks = [
        D[last - latent.dim : last, last - latent.dim : last]
        for latent, last in zip(below.model.latents, ends, strict=True)
    ]
    theta |= theta_of_covariances(below.model.latents, blocks)
    theta["extra"] = torch.tensor([0.5 * np.log(result.scale)], dtype=torch.float64)
    return replace(below, theta=theta)


def _fixed_table(fit: Fit, below: Estimate, result: Any) -> pd.DataFrame:
    ours = pd.DataFrame({"dgmm": fit.fixef(), "dgmm SE": fit.std_errors()})
    theirs = pd.DataFrame(
        {"MixedLM": np.asarray(result.fe_params), "MixedLM SE": np.asarray(result.bse_fe)},
        index=list(below.model.names),
    )
    order = [*ours.index, *(name for name in theirs.index if name not in ours.index)]
    return ours.join(theirs, how="outer").loc[order]


def _random_table(fit: Fit, below: Estimate, result: Any) -> pd.DataFrame:
    names = [name for latent in below.model.latents for name in latent.names]
    D = np.asarray(result.cov_re)
    sd = np.sqrt(np.diag(D))
    labels = [f"sd({name})" for name in names]
    values = list(sd)
    for r in range(len(names)):
        for c in range(r):
            labels.append(f"cor({names[c]}, {names[r]})")
            values.append(D[r, c] / (sd[r] * sd[c]))
    table = pd.DataFrame({"MixedLM": values}, index=labels)
    ours = fit.var_corr()
    shown = {}
    for row in ours[ours["group"] != "Residual"].itertuples():
        pair = not pd.isna(row.name2)
        shown[f"cor({row.name1}, {row.name2})" if pair else f"sd({row.name1})"] = row.sdcor
    table.insert(0, "dgmm", pd.Series(shown, dtype=float).reindex(table.index))
    return table if table["dgmm"].notna().any() else table[["MixedLM"]]


def _rmse(done: Estimate, target: Panel, history: Panel) -> float:
    fitted = given_history(done, done.theta, history, target, "response", seed=0).mean
    if not len(fitted):  # no subject has such a visit
        return float("nan")
    y = target.rows.data.y
    seen = ~torch.isnan(y)
    return float((y - fitted)[seen].square().mean().sqrt())


def _held_out(fit: Fit, peer: Estimate, newdata: Any) -> dict[str, list[float]]:
    """RMSE without history, and of the later half of the visits given the earlier half."""
    deep = Panel.from_design(rebuild(fit.memory.spec, newdata, outcome=True))
    known = set(fit.estimate.panel.ids.tolist()) & set(deep.ids.tolist())
    if known:
        raise ValueError(
            f"newdata must hold subjects that were not in the fit; {sorted(map(str, known))[0]} was"
        )
    classical = deep
    if fit.memory.nested_spec is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # given for the design of the fit itself
            classical = Panel.from_design(rebuild(fit.memory.nested_spec, newdata, outcome=True))
    panels = [deep, classical]
    out: dict[str, list[float]] = {
        "RMSE, held-out, no history": [],
        "RMSE, held-out, later visits given earlier": [],
    }
    for done, panel in zip((fit.estimate, peer), panels, strict=True):
        none = panel.keep(torch.zeros(panel.n_rows, dtype=torch.bool))
        out["RMSE, held-out, no history"].append(_rmse(done, panel, none))
        early = panel.rows.occasion < (panel.count[panel.subject] + 1) // 2
        past = panel.keep(early & panel.observed)
        later = panel.keep(~early)
        out["RMSE, held-out, later visits given earlier"].append(_rmse(done, later, past))
    return out
