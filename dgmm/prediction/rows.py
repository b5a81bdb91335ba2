"""Fitted values, predictions, random effects and simulated outcomes of an estimate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import special
from torch import Tensor

from dgmm.design import Specification, rebuild
from dgmm.estimate import Estimate
from dgmm.information import Information, MeanSlopes, find_boundary, mean_packing
from dgmm.likelihood.crossed_laplace import effects_of_levels
from dgmm.model.simulation import simulate_crossed, simulate_panel
from dgmm.panel import Crossing, Panel
from dgmm.parameters import Theta, part
from dgmm.prediction.moments import (
    Predictive,
    given_history,
    marginal,
    mean_subject,
    outcomes_seen,
    posterior_draws,
    random_effects,
)
from dgmm.prediction.sensitivity import parameter_variance
from dgmm.runtime.registry import suggestion

__all__ = ["Wanted", "fitted", "predict", "residuals", "simulations"]

TYPES = ("subject", "mean_subject", "marginal")
SCALES = ("response", "link")
INTERVALS = (None, "confidence", "prediction")
NEW_GROUPS = ("population", "error")


@dataclass(frozen=True)
class Wanted:
    """The checked options of a prediction."""

    type: str
    scale: str
    interval: str | None
    level: float
    new_groups: str
    draws: int

    def __post_init__(self) -> None:
        for name, value, known in (
            ("type", self.type, TYPES),
            ("scale", self.scale, SCALES),
            ("interval", self.interval, INTERVALS),
            ("new_groups", self.new_groups, NEW_GROUPS),
        ):
            if value not in known:
                words = [str(word) for word in known]
                hint = suggestion(str(value), words)
                raise ValueError(f"{name}={value!r} is not one of {', '.join(words)}{hint}")
        if self.draws < 1:
            raise ValueError(f"draws is a number of draws, at least 1, not {self.draws!r}")
        if not 0 < self.level < 1:
            raise ValueError(f"level is a probability between 0 and 1, not {self.level!r}")


def boundary_names(done: Estimate) -> tuple[str, ...]:
    """Random effects whose own variance is estimated as zero."""
    return find_boundary(done)[0]


# -- rows of the fit -----------------------------------------------------------------------------


def fitted(done: Estimate, scale: str, seed: int) -> np.ndarray:
    """E{h(eta) | y} for every planned row, (N,)."""
    Wanted("subject", scale, None, 0.95, "population", 1)
    found = given_history(done, done.theta, done.observed, done.panel, scale, seed)
    return found.mean.numpy()


def residuals(done: Estimate, type: str, seed: int) -> np.ndarray:
    """Response or Pearson residuals, NaN where the outcome is missing."""
    if type not in ("response", "pearson"):
        raise ValueError(f"type={type!r} is not one of response, pearson")
    data = done.panel.rows.data
    mu = torch.from_numpy(fitted(done, "response", seed))
    raw = done.model.family.response(data) - mu
    if type == "response":
        return raw.numpy()
    eta = torch.from_numpy(fitted(done, "link", seed))
    extra = done.model.extra(done.theta, done.panel.rows)
    variance = done.model.family.variance(eta, data, extra)
    return (raw / variance.sqrt()).numpy()


def simulations(done: Estimate, nsim: int, seed: int, condition: bool) -> np.ndarray:
    """Outcomes for every planned row, (N, nsim)."""
    if nsim < 1:
        raise ValueError(f"nsim is a number of draws, at least 1, not {nsim!r}")
    generator = torch.Generator().manual_seed(seed)
    if done.panel.crossing is not None:
        return _crossed_simulations(done, nsim, generator, condition)
    history = done.model.history(done.panel)
    effects = random_effects(done, history, seed)[0] if condition else None
    draws = [
        simulate_panel(done.model, done.theta, done.panel, generator, effects) for _ in range(nsim)
    ]
    return torch.stack(draws, dim=1).numpy()


def _crossed_simulations(
    done: Estimate, nsim: int, generator: torch.Generator, condition: bool
) -> np.ndarray:
    kept = effects_of_levels(done.model, done.theta, done.observed).mean if condition else None
    draws = [
        simulate_crossed(done.model, done.theta, done.panel, generator, kept) for _ in range(nsim)
    ]
    return torch.stack(draws, dim=1).numpy()


# -- random effects ------------------------------------------------------------------------------


def random_effect_table(done: Estimate, seed: int, cond_var: bool) -> pd.DataFrame:
    """See :meth:`dgmm.fit.Fit.ranef`."""
    mean, covariance = random_effects(done, done.observed, seed)
    matrix, names = effect_matrix(done, range(len(done.model.latents)))
    return _effect_table(mean, covariance, matrix, names, done.panel.ids, cond_var)


def factor_tables(done: Estimate, cond_var: bool) -> dict[str, pd.DataFrame]:
    """The same per grouping factor, when there are several."""
    crossing = done.panel.crossing
    assert crossing is not None
    effects = effects_of_levels(done.model, done.theta, done.observed)
    tables = {}
    for f, name in enumerate(crossing.names):
        matrix, names = effect_matrix(done, crossing.terms(f))
        labels = crossing.labels[f]
        table = _effect_table(
            effects.mean[f], effects.covariance[f], matrix, names, labels, cond_var
        )
        tables[name] = table.rename_axis(index=name)
    return tables


def _effect_table(
    mean: Tensor,
    covariance: Tensor,
    matrix: Tensor,
    names: list[str],
    labels: np.ndarray,
    cond_var: bool,
) -> pd.DataFrame:
    index = pd.Index(list(labels), name="subject")
    frame = pd.DataFrame((mean @ matrix.T).numpy(), index=index, columns=names)
    if cond_var:
        spread = torch.einsum("ak,nkl,al->na", matrix, covariance, matrix).clamp(min=0).sqrt()
        for j, name in enumerate(names):
            frame[f"sd({name})"] = spread[:, j].numpy()
    return frame


def effect_matrix(done: Estimate, terms: Iterable[int]) -> tuple[Tensor, list[str]]:
    """b of some terms -> what is shown: Lambda b of columns, b itself of neural latents.

    The states of a path are at its rows and belong in no table of subjects.
    """
    blocks, names, neural = [], [], 0
    for term in terms:
        latent = done.model.latents[term]
        if latent.by_columns:
            blocks.append(latent.loadings(part(done.theta, f"latent{term + 1}.")))
            inside = done.model.part_of(term)
            names += [f"{inside}:{name}" if inside else name for name in latent.names]
        elif latent.serial:
            blocks.append(torch.zeros(0, latent.dim, dtype=torch.float64))
        else:
            blocks.append(torch.eye(latent.dim, dtype=torch.float64))
            names += [f"b{neural + j + 1}" for j in range(latent.dim)]
            neural += latent.dim
    if not names:
        raise ValueError(
            "ranef() has a row per subject, and a path has a state at every visit: read them from "
            "fitted() or predict(type='subject')"
        )
    return torch.block_diag(*blocks), names


def subject_coefficients(done: Estimate, fixef: pd.Series, seed: int) -> pd.DataFrame:
    """See :meth:`dgmm.fit.Fit.coef`."""
    if any(latent.neural for latent in done.model.latents):
        raise ValueError(
            "coef() adds random to fixed effects, which a neural random part does not have. Read "
            "subject profiles from predict(type='subject'), or fit the classical model."
        )
    return _coefficients(random_effect_table(done, seed, cond_var=False), fixef)


def factor_coefficients(done: Estimate, fixef: pd.Series) -> dict[str, pd.DataFrame]:
    """The same per grouping factor: fixed effects plus those of this factor."""
    tables = factor_tables(done, cond_var=False)
    return {
        name: _coefficients(table, fixef).rename_axis(index=name) for name, table in tables.items()
    }


def _coefficients(effects: pd.DataFrame, fixef: pd.Series) -> pd.DataFrame:
    table = pd.DataFrame(
        np.tile(fixef.to_numpy(), (len(effects), 1)), index=effects.index, columns=fixef.index
    )
    for name in effects:
        table[name] = table.get(name, 0.0) + effects[name]
    return table


# -- new rows ------------------------------------------------------------------------------------


def predict(
    done: Estimate,
    info: Information | None,
    spec: Specification,
    wanted: Wanted,
    newdata: Any,
    history: Any,
    order: tuple[pd.Index, np.ndarray],
    seed: int,
) -> pd.DataFrame:
    """See :meth:`dgmm.fit.Fit.predict`."""
    if newdata is None:
        target, (index, rows), size = done.panel, order, int(order[1].max()) + 1
        labels = pd.Series(index, index=rows)
    else:
        design = rebuild(spec, newdata, outcome=False)
        target, rows, size = Panel.from_design(design), design.rows, len(newdata)
        labels = pd.Series(design.index, index=rows)
    past = _history(done, spec, target, history)
    if wanted.new_groups == "error" and done.panel.crossing is not None:
        _refuse_unknown_levels(done.panel.crossing, target)
    elif wanted.new_groups == "error":
        _refuse_unknown(spec, target, past, history is None)
    columns = _interval(done, info, wanted, past, target, seed)
    frame = pd.DataFrame({name: value.numpy() for name, value in columns.items()}, index=rows)
    if newdata is None:
        frame = frame.sort_index(kind="stable")
        return frame.set_axis(labels.loc[frame.index].to_numpy(), axis=0)
    frame = frame.reindex(range(size))  # rows without covariates come back as missing
    original = getattr(newdata, "index", None)
    return frame if original is None or callable(original) else frame.set_axis(original, axis=0)


def _refuse_unknown(spec: Specification, target: Panel, past: Panel, of_fit: bool) -> None:
    """new_groups="error": subjects without any outcome behind their prediction."""
    empty = target.ids[(past.count == 0).numpy()]
    if len(empty):
        group = spec.parsed().latents[0].group
        where = "the fit" if of_fit else "history"
        raise ValueError(
            f"`{group}` has {len(empty)} levels without outcomes in {where}, for example "
            f"{empty[0]!r}. Give their past outcomes as history=, or allow "
            "new_groups='population'."
        )


def _refuse_unknown_levels(crossing: Crossing, target: Panel) -> None:
    """new_groups="error" with several grouping factors: levels that the fit does not know."""
    for name, level in zip(crossing.names, target.rows.level, strict=True):
        unknown = int((level < 0).sum())
        if unknown:
            raise ValueError(
                f"`{name}` has levels that are not in the fit in {unknown} rows; allow "
                "new_groups='population', which gives them the average"
            )


def _history(done: Estimate, spec: Specification, target: Panel, history: Any) -> Panel:
    """Observed outcomes of the subjects of ``target``, in its order."""
    if done.panel.crossing is not None:
        if history is not None:
            raise ValueError(
                "history= is for models with one grouping factor; with several, levels of the fit "
                "are predicted from the data of the fit and new ones get the average"
            )
        return done.observed
    if history is None:
        return done.observed.align(target.ids)
    return outcomes_seen(done, spec, history).align(target.ids)


def _interval(
    done: Estimate,
    info: Information | None,
    wanted: Wanted,
    past: Panel,
    target: Panel,
    seed: int,
) -> dict[str, Tensor]:
    point = _point(done, done.theta, wanted.type, wanted.scale, past, target, seed).mean
    if wanted.interval is None:
        return {"fit": point}
    if info is None:
        raise ValueError("intervals need standard errors; this fit has none (se=None)")
    if wanted.interval == "prediction":
        return {"fit": point, **_outcome_interval(done, info, wanted, past, target, seed)}
    family, z = done.model.family, float(special.ndtri(0.5 + wanted.level / 2))
    if wanted.type == "marginal" and wanted.scale == "response":
        se = _parameter_sd(done, info, wanted.type, "response", past, target, seed)
        scale = family.mean_link  # symmetric on this scale, so never out of range
        eta = scale.forward(point)
        spread = se / scale.derivative(eta).abs()
        ends = torch.stack([scale.inverse(eta + side * spread) for side in (-z, z)])
        return {"fit": point, "se": se, "lower": ends.min(0).values, "upper": ends.max(0).values}
    eta, spread = _link_spread(done, info, wanted, past, target, seed)
    if wanted.scale == "link":
        return {"fit": point, "se": spread, "lower": eta - z * spread, "upper": eta + z * spread}
    extra = done.model.extra(done.theta, target.rows)
    se = spread * family.mean_slope(eta, extra).abs()
    ends = torch.stack([family.mean(eta + side * spread, extra) for side in (-z, z)])
    return {"fit": point, "se": se, "lower": ends.min(0).values, "upper": ends.max(0).values}


def _link_spread(
    done: Estimate,
    info: Information,
    wanted: Wanted,
    past: Panel,
    target: Panel,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Mean of eta and its standard deviation from parameters and, for a subject, from b."""
    link = _point(done, done.theta, wanted.type, "link", past, target, seed)
    of_theta = _parameter_sd(done, info, wanted.type, "link", past, target, seed)
    # a population mean has no random effect of its own; a new outcome of anyone has
    if wanted.type == "subject" or wanted.interval == "prediction":
        return link.mean, (of_theta.square() + link.variance).sqrt()
    return link.mean, of_theta


def _point(
    done: Estimate, theta: Theta, type: str, scale: str, past: Panel, target: Panel, seed: int
) -> Predictive:
    if type == "subject":
        return given_history(done, theta, past, target, scale, seed)
    population = marginal(done, theta, target, scale)
    if type == "marginal":
        return population
    return Predictive(mean_subject(done, theta, target, scale), population.variance)


def _parameter_sd(
    done: Estimate,
    info: Information,
    type: str,
    scale: str,
    past: Panel,
    target: Panel,
    seed: int,
) -> Tensor:
    """Delta method: standard deviation of a mean from the reported parameters, (N,).

    Of mu1 itself, and of eta given a subject's outcomes, from network weights too, by their joint
    covariance.
    """
    if (type, scale) == ("subject", "link") and info.joint is not None:
        V = torch.nan_to_num(info.joint.vcov)
        return parameter_variance(done.model, done.theta, V, past, target).sqrt()
    if (type, scale) == ("mean_subject", "link") and info.joint is not None:
        J = MeanSlopes.at(done.model, done.theta).jacobian(target.rows)
        at = info.joint.packing.positions(mean_packing(done.model).shapes)
        V = torch.nan_to_num(info.joint.vcov[at][:, at])
        return torch.einsum("np,pq,nq->n", J, V, J).clamp(min=0).sqrt()
    x = info.packing.pack(done.theta)
    V = torch.nan_to_num(info.vcov, nan=0.0)
    step = 0.05 * V.diagonal().clamp(min=1e-10).sqrt()

    def mean(vector: Tensor) -> Tensor:
        theta = {**done.theta, **info.packing.unpack(vector)}
        return _point(done, theta, type, scale, past, target, seed).mean

    unit = torch.diag(step)
    columns = [(mean(x + u) - mean(x - u)) / (2 * h) for u, h in zip(unit, step, strict=True)]
    jacobian = torch.stack(columns, dim=1)
    return torch.einsum("np,pq,nq->n", jacobian, V, jacobian).clamp(min=0).sqrt()


def _outcome_interval(
    done: Estimate,
    info: Information,
    wanted: Wanted,
    past: Panel,
    target: Panel,
    seed: int,
) -> dict[str, Tensor]:
    """Standard deviation and quantiles of a new outcome, by simulation of eta and y.

    In closed form where the likelihood is exact.
    """
    if wanted.scale == "link":
        raise ValueError("interval='prediction' is about outcomes: use scale='response'")
    if done.likelihood == "exact" and wanted.type == "subject":  # eta | y and y | eta are normal
        eta, spread = _link_spread(done, info, wanted, past, target, seed)
        extra = done.model.extra(done.theta, target.rows)
        variance = done.model.family.variance(eta, target.rows.data, extra)
        se, z = (spread.square() + variance).sqrt(), float(special.ndtri(0.5 + wanted.level / 2))
        return {"se": se, "lower": eta - z * se, "upper": eta + z * se}
    generator = torch.Generator().manual_seed(seed + 41)
    noise = torch.randn(wanted.draws, target.n_rows, generator=generator, dtype=torch.float64)
    if wanted.type == "subject":
        spread = _parameter_sd(done, info, wanted.type, "link", past, target, seed)
        eta = posterior_draws(done, past, target, wanted.draws, seed)
    else:
        eta, spread = _link_spread(done, info, wanted, past, target, seed)
    family, data = done.model.family, target.rows.data
    extra = done.model.extra(done.theta, target.rows)
    y = family.simulate(eta + spread * noise, data, extra, generator) / data.trials
    tail = (1 - wanted.level) / 2
    ends = torch.quantile(y, torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return {"se": y.std(0), "lower": ends[0], "upper": ends[1]}
