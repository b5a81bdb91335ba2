"""Fit: what the user holds. Methods orchestrate; the numbers come from the modules below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dgmm import natural, prediction, storage
from dgmm.design import Specification
from dgmm.estimate import Estimate, Request
from dgmm.information import Information, reported_packing
from dgmm.report import Summary, summarise
from dgmm.wald import intervals, wald_table

__all__ = ["Fit", "LogLik"]


class LogLik(NamedTuple):
    """Marginal log-likelihood: ``float(loglik)`` is its value."""

    value: float
    mc_error: float  # Monte Carlo standard error; for quadrature the change under a longer rule
    df: float
    nobs: int
    likelihood: str

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        error = f", Monte Carlo s.e. {self.mc_error:.2g}" if self.likelihood == "importance" else ""
        return f"'log Lik.' {self.value:.4f} (df={self.df:g}{error})"


@dataclass(frozen=True)
class Fit:
    """A fitted mixed model.

    Tables come back as data frames with named rows; ``summary(fit)`` prints the report. Every
    method exists as a function too: ``fixef(fit)`` is ``fit.fixef()``.
    """

    formula: str
    spec: Specification
    estimate: Estimate
    request: Request
    info: Information | None
    groups: tuple[str, ...]  # grouping factor of each latent term
    index: tuple[Any, ...]  # labels of the rows in the user's frame, canonical order
    rows: np.ndarray  # positions of these rows
    call: dict[str, Any]
    versions: dict[str, str]
    messages: tuple[str, ...]
    nested_spec: Specification | None  # of the classical model beneath a deep one
    refit: Callable[..., Fit]  # mixed_model() for update()

    # -- fixed part ----------------------------------------------------------------------------

    def fixef(self) -> pd.Series:
        """Linear coefficients, named as the columns they belong to."""
        model = self.estimate.model
        beta = model.beta(self.estimate.theta).detach().numpy()
        return pd.Series(beta, index=list(model.names), name="Estimate")

    def vcov(self, kind: str = "default") -> pd.DataFrame:
        """Covariance matrix of the linear coefficients.

        kind: "default" is the form named in the summary (what se= asked for; "gls" after REML;
        missing values after se=None); "hessian" the inverse observed information; "gls" lme4's
        (sum X'V^-1 X)^-1, for Gaussian linear models.
        """
        if kind not in ("default", "hessian", "gls"):
            raise ValueError(f"kind is 'default', 'hessian' or 'gls', not {kind!r}")
        if kind == "default" and self.info is None:
            kind = "gls" if self.estimate.method == "reml" else "none"
        if kind == "hessian" and self.info is None:
            raise ValueError("this fit has no Hessian (REML, or se=None); use kind='gls'")
        names = list(self.estimate.model.names)
        matrix = natural.beta_vcov(self.estimate, self.info, kind)
        return pd.DataFrame(matrix, index=names, columns=names)

    def std_errors(self, kind: str = "default") -> pd.Series:
        """Standard errors of the linear coefficients; see :meth:`vcov` for ``kind``."""
        V = self.vcov(kind)
        with np.errstate(invalid="ignore"):
            return pd.Series(np.sqrt(np.diag(V)), index=V.index, name="Std. Error")

    def coefficients(self) -> pd.DataFrame:
        """The Wald table of the linear coefficients."""
        return wald_table(self.fixef(), self.std_errors())

    # -- random part ---------------------------------------------------------------------------

    def var_corr(self) -> pd.DataFrame:
        """Variance components of linear random effects, one row per (co)variance.

        Columns group, name1, name2 (missing for a standard deviation), sdcor, vcov, std_error (of
        log SD or atanh correlation). A neural latent has no such table: its implied standard
        deviations over time are in the summary and in :meth:`random_profile`.
        """
        table = natural.components(self.estimate, self.info, self.groups).table
        sd = {
            (row.group, row.name1): row.estimate for row in table.itertuples() if pd.isna(row.name2)
        }
        vcov = [
            row.estimate**2
            if pd.isna(row.name2)
            else row.estimate * sd[row.group, row.name1] * sd[row.group, row.name2]
            for row in table.itertuples()
        ]
        return pd.DataFrame(
            {
                "group": table["group"],
                "name1": table["name1"],
                "name2": table["name2"],
                "sdcor": table["estimate"],
                "vcov": vcov,
                "std_error": table["std_error"],
            }
        )

    def random_profile(self, term: int = 0) -> natural.Profile:
        """SD of mu2(b, t) at the first, middle and last time, and the correlations."""
        return natural.time_profile(self.estimate, term)

    def sigma(self) -> float:
        """Residual standard deviation, 1 for families without one (as in R)."""
        family = self.estimate.model.family
        if "log_sigma" not in family.extra:
            return 1.0
        return float(self.estimate.theta["extra"][family.extra.index("log_sigma")].exp())

    def is_singular(self) -> bool:
        """True when a variance component is estimated at its boundary."""
        return bool(self.boundary())

    def boundary(self) -> tuple[str, ...]:
        """Random effects whose own variance is estimated as zero."""
        from_info = self.info.boundary if self.info is not None else ()
        return from_info or prediction.boundary_names(self.estimate)

    def ranef(self, *, cond_var: bool = False) -> pd.DataFrame | dict[str, pd.DataFrame]:
        """E(b | y) per subject, in the units of the coefficients (linear latents).

        With several grouping factors a dict of such tables, one per factor; after Laplace's
        approximation they hold the conditional modes, as in lme4.

        For a neural latent the columns are the coordinates b1, b2, ... themselves, which are only
        defined up to rotation: read profiles from :meth:`predict` instead. With ``cond_var`` the
        posterior standard deviations follow as further columns ``sd(...)``.
        """
        if self.estimate.panel.crossing is not None:
            return prediction.factor_tables(self.estimate, cond_var)
        table = prediction.random_effect_table(self.estimate, self.request.seed, cond_var)
        return table.rename_axis(index=self.groups[0])

    def coef(self) -> pd.DataFrame | dict[str, pd.DataFrame]:
        """Fixed plus random effects of every subject; per factor when there are several."""
        if self.estimate.panel.crossing is not None:
            return prediction.factor_coefficients(self.estimate, self.fixef())
        table = prediction.subject_coefficients(self.estimate, self.fixef(), self.request.seed)
        return table.rename_axis(index=self.groups[0])

    # -- likelihood ----------------------------------------------------------------------------

    def df(self) -> float:
        """Parameters: all, or effective degrees of freedom with networks (NaN if se=None)."""
        if not self.estimate.model.linear:
            return float("nan") if self.info is None else self.info.effective["total"]
        return float(reported_packing(self.estimate.model).size)

    def loglik(self) -> LogLik:
        """Marginal log-likelihood (restricted for REML) with its Monte Carlo error."""
        done = self.estimate
        return LogLik(done.log_likelihood, done.mc_error, self.df(), self.nobs(), done.likelihood)

    def deviance(self) -> float:
        """-2 log-likelihood."""
        return -2 * self.estimate.log_likelihood

    def aic(self) -> float:
        """-2 l + 2 df; with networks conditional on the ridge, df effective."""
        return self.deviance() + 2 * self.df()

    def bic(self, n: str = "observations") -> float:
        """-2 l + log(n) df with n the number of "observations" (as lme4) or of "subjects"."""
        if n not in ("observations", "subjects"):
            raise ValueError(f"n is 'observations' or 'subjects', not {n!r}")
        size = self.nobs() if n == "observations" else self.n_groups()
        if isinstance(size, dict):
            raise ValueError(
                "with several grouping factors there is no one number of subjects; use "
                "bic('observations')"
            )
        return self.deviance() + float(np.log(size)) * self.df()

    def nobs(self) -> int:
        """Number of observed outcomes."""
        return int(self.estimate.panel.observed.sum())

    def n_groups(self) -> int | dict[str, int]:
        """Number of subjects; with several grouping factors the levels of each."""
        crossing = self.estimate.panel.crossing
        if crossing is None:
            return self.estimate.panel.n
        sizes = map(len, crossing.labels)
        return dict(zip(crossing.names, sizes, strict=True))

    def df_residual(self) -> float:
        """Observed outcomes minus parameters."""
        return self.nobs() - self.df()

    def confint(self, level: float = 0.95) -> pd.DataFrame:
        """Wald intervals: coefficients on their own scale, standard deviations on the log scale,

        correlations on the atanh scale; network weights have none.
        """
        fixed = self.fixef()
        bounds = intervals(fixed.to_numpy(), self.std_errors().to_numpy(), level)
        table = natural.components(self.estimate, self.info, self.groups).table
        inner = intervals(table["working"].to_numpy(), table["std_error"].to_numpy(), level)
        is_pair = table["name2"].notna().to_numpy()[:, None]
        outer = np.where(is_pair, np.tanh(inner), np.exp(inner))
        names = [*fixed.index, *(component_name(row) for row in table.itertuples())]
        percent = [f"{50 * (1 - level):g} %", f"{50 * (1 + level):g} %"]
        return pd.DataFrame(np.vstack([bounds, outer]), index=names, columns=percent)

    # -- predictions ---------------------------------------------------------------------------

    def fitted(self, scale: str = "response") -> pd.Series:
        """E{g^-1(eta) | y} of every row kept, missing outcomes included, in the user's order."""
        mean = prediction.fitted(self.estimate, scale, self.request.seed)
        return self._series(mean, "fitted")

    def residuals(self, type: str = "response") -> pd.Series:
        """Observed minus fitted; type "pearson" divides by the conditional standard deviation.

        Rows whose outcome is missing have a missing residual.
        """
        values = prediction.residuals(self.estimate, type, self.request.seed)
        return self._series(values, "residuals")

    def predict(
        self,
        newdata: Any = None,
        *,
        type: str = "subject",
        scale: str = "response",
        history: Any = None,
        interval: str | None = None,
        level: float = 0.95,
        new_groups: str = "population",
        draws: int = 1000,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Predictions for the rows of ``newdata`` (default: the rows of the fit).

        type:
            "subject"       E{h(eta) | the subject's observed outcomes}: those of the fit, or
                            those of ``history`` (past rows of the same ids, known or new), which
                            takes the place of the data of the fit for every subject. Without any
                            outcome the prior stands: the population average
            "mean_subject"  h(mu1), the subject whose random part is zero
            "marginal"      E h(eta) over subjects
        scale: "response" (h = g^-1) or "link" (h the identity).
        interval: "confidence" for the expected value (parameters and random effects; network
            weights held), "prediction" for a new outcome (adds the family's own variation; for
            binomial outcomes of ``newdata``, one trial).
        new_groups: "population" or "error" when an id was not in the fit (and has no history).

        Returns a frame with ``fit`` and, with an interval, ``se, lower, upper``.
        """
        wanted = prediction.Wanted(type, scale, interval, level, new_groups, draws)
        random = self.request.seed if seed is None else seed
        return prediction.predict(
            self.estimate, self.info, self.spec, wanted, newdata, history, self._order(), random
        )

    def simulate(
        self, nsim: int = 1, *, seed: int, condition_on_data: bool = False
    ) -> pd.DataFrame:
        """Outcomes drawn from the fitted model for every row, one column per draw.

        New random effects by default; ``condition_on_data`` keeps E(b | y) of every subject.
        """
        values = prediction.simulations(self.estimate, nsim, seed, condition_on_data)
        frame = pd.DataFrame(values, index=self._labels())
        frame.columns = [f"sim_{j + 1}" for j in range(nsim)]
        return frame.iloc[np.argsort(self.rows, kind="stable")]

    # -- reports and files ---------------------------------------------------------------------

    def summary(self) -> Summary:
        """The report; ``print`` it, or read its tables."""
        return summarise(self)

    def update(self, formula: str | None = None, data: Any = None, **changes: Any) -> Fit:
        """Refit with a new formula (dots stand for the old sides) or other arguments.

        ``data`` must be given: a fit does not keep the user's frame.
        """
        if data is None:
            raise ValueError("update() needs data=: a fit does not keep a copy of the data frame")
        return self.refit(self, formula, data, changes)

    def save(self, path: str | Path) -> None:
        """Write the fit to one file (safetensors and JSON); ``dgmm.load`` reads it back."""
        storage.save(self, Path(path))

    def __repr__(self) -> str:
        return f"<Fit {self.formula!r}: {self.loglik()}>"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def _labels(self) -> pd.Index:
        return pd.Index(list(self.index))

    def _order(self) -> tuple[pd.Index, np.ndarray]:
        return self._labels(), self.rows

    def _series(self, values: np.ndarray, name: str) -> pd.Series:
        series = pd.Series(values, index=self._labels(), name=name)
        return series.iloc[np.argsort(self.rows, kind="stable")]


def component_name(row: Any) -> str:
    """sd_(Intercept)|Subject, cor_Days.(Intercept)|Subject, sigma: as lme4 names them."""
    if row.group == "Residual":
        return "sigma"
    if pd.isna(row.name2):
        return f"sd_{row.name1}|{row.group}"
    return f"cor_{row.name2}.{row.name1}|{row.group}"
