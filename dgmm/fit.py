"""Fit: what the user holds. Methods orchestrate; the numbers come from the modules below."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from dgmm import prediction, storage
from dgmm.design import Column, Specification
from dgmm.estimate import Estimate, Request
from dgmm.inference import reported
from dgmm.inference.average_slopes import average_contrast, average_slopes
from dgmm.inference.contrasts import coefficient_table, hypothesis, term_tests, wald_test
from dgmm.inference.curves import curve_table
from dgmm.inference.drop_effects import drop_effects
from dgmm.inference.drop_terms import drop_terms
from dgmm.inference.explained import explained
from dgmm.inference.influential import influence_table
from dgmm.inference.likelihood_ratio import compare_nested
from dgmm.inference.mean_part import MeanPart
from dgmm.inference.nesting import Candidate
from dgmm.inference.profile import check_profile, profile_interval
from dgmm.inference.random_profiles import RandomProfile, random_profile
from dgmm.inference.replicates import Replicates, bootstrap, ratio_p_value
from dgmm.inference.reported import component_name
from dgmm.inference.resampling import percentile_intervals
from dgmm.inference.restricted import restricted_information
from dgmm.inference.satterthwaite import Satterthwaite, satterthwaite
from dgmm.inference.surfaces import targets
from dgmm.inference.tables import Anova
from dgmm.inference.wald import intervals, wald_table
from dgmm.information import Information, information, reported_packing
from dgmm.missing import imputations
from dgmm.prediction.log_scores import log_scores
from dgmm.report.summary import Summary, summarise
from dgmm.runtime.registry import suggestion

__all__ = ["Fit", "LogLik", "row_labels"]

CONFIDENCE = ("wald", "profile", "bootstrap", "percentile")


class LogLik(NamedTuple):
    """Marginal log-likelihood: ``float(loglik)`` is its value."""

    value: float
    mc_error: float  # Monte Carlo standard error; quadrature: change between the last two rules
    df: float
    nobs: int
    likelihood: str

    def __float__(self) -> float:
        return float(self.value)

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
    index: np.ndarray  # (N,) labels of the rows in the user's frame, canonical order
    rows: np.ndarray  # positions of these rows
    call: dict[str, Any]
    versions: dict[str, str]
    messages: tuple[str, ...]
    nested_spec: Specification | None  # of the classical model beneath a deep one
    terms: tuple[str, ...]  # (p,) term of the formula that each linear coefficient belongs to
    covariates: dict[str, Column]  # of the right-hand side as given, canonical order
    fit_again: Callable[..., Fit]  # mixed_model() for update()
    fit_outcome: Callable[..., Fit]  # the same model for another outcome, for refit()

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
        (sum X'V^-1 X)^-1, for Gaussian linear models; "sandwich" robust to what the model says
        about the dependence within subjects (many subjects needed; not after REML).
        """
        if kind not in ("default", "hessian", "gls", "sandwich"):
            known = "'default', 'hessian', 'gls' or 'sandwich'"
            raise ValueError(f"kind is {known}, not {kind!r}")
        if kind == "default" and self.info is None:
            kind = "gls" if self.estimate.method == "reml" else "none"
        if kind == "hessian" and self.info is None:
            raise ValueError("this fit has no Hessian (REML, or se=None); use kind='gls'")
        names = list(self.estimate.model.names)
        info = self.info
        if kind == "sandwich":
            if self.estimate.method == "reml":
                raise ValueError("kind='sandwich' is for maximum likelihood; refit by method='ml'")
            draws = self.request.control.hessian_draws
            info, kind = information(self.estimate, kind, self.request.seed, draws), "default"
        matrix = reported.beta_vcov(self.estimate, info, kind)
        return pd.DataFrame(matrix, index=names, columns=names)

    def std_errors(self, kind: str = "default") -> pd.Series:
        """Standard errors of the linear coefficients; see :meth:`vcov` for ``kind``."""
        V = self.vcov(kind)
        with np.errstate(invalid="ignore"):
            return pd.Series(np.sqrt(np.diag(V)), index=V.index, name="Std. Error")

    def coefficients(self, df: str | None = None) -> pd.DataFrame:
        """The Wald table of the linear coefficients.

        df: None for z tests, "satterthwaite" for t tests with the GLS standard errors (Gaussian
            linear models), as lmerTest.
        """
        moments = self._moments(df)
        if moments is None:
            return wald_table(self.fixef(), self.std_errors())
        error = self.std_errors(kind="gls")
        return coefficient_table(self.fixef(), error, moments, np.eye(len(error)))

    # -- curves --------------------------------------------------------------------------------

    def effects(
        self,
        covariates: str | Sequence[str],
        *,
        term: str | None = None,
        at: Mapping[str, Any] | None = None,
        grid: int = 101,
        level: float = 0.95,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """The fixed part mu1 over a grid of a covariate, with pointwise and simultaneous bands.

            fit +- z se,   fit +- c se with c the quantile of max |J d| / se,  d ~ N(0, V)

        Every function of the covariates in the formula (splines, interactions, networks) follows;
        V is the joint covariance of linear coefficients and network weights.

        Args:
            covariates: one name, or two for a surface (of a second numeric covariate five values).
            term: the contribution of one term alone, such as "dnn(age)" or "ns(age, 3)", with mean
                zero over the sample; by default the whole fixed part.
            at: values of other covariates (by default means and reference levels), or the values
                that the grid goes through.
            grid: number of points, from the smallest to the largest value of the sample.
            level: probability that a pointwise interval covers, and that the whole curve lies
                inside the simultaneous band.
            seed: of the simulation of c; by default that of the fit.

        Returns:
            A frame with the covariates, ``fit, se, lower, upper, sim_lower, sim_upper`` on the
            scale of the linear predictor.

        Raises:
            ValueError: an unknown covariate, level or term, or a fit without standard errors.

        Example:
            >>> import dgmm
            >>> milk = dgmm.datasets.load("milk")
            >>> fit = dgmm.mixed_model("protein ~ ns(Time, 4) + Diet + (1 | Cow)", milk)
            >>> fit.effects("Time", grid=3)["fit"].round(2).to_list()
            [3.85, 3.52, 3.6]

        References:
            Marra and Wood (2012), Scandinavian J. Statistics 39, 53-74; Ruppert, Wand and Carroll
            (2003), Semiparametric Regression, section 6.5.
        """
        return curve_table(
            self._mean_part(),
            covariates,
            term=term,
            at=at,
            grid=grid,
            level=level,
            seed=self.request.seed if seed is None else seed,
        )

    def held_covariates(self) -> dict[str, Any]:
        """Where :meth:`effects` holds covariates of the fixed part that it does not vary.

        Means of numbers over the rows of the fit, reference levels of categories.
        """
        mean = self._mean_part()
        return {name: mean.typical[name] for name in mean.own}

    def slopes(
        self, covariates: str | Sequence[str] | None = None, *, level: float = 0.95
    ) -> pd.DataFrame:
        """Average slopes of covariates, linear or inside a network; all of them by default.

            mean over the observed rows of d mu1 / d x,   se by the delta method

        Of a category or a boolean, the average difference of every level from the reference.
        """
        return average_slopes(self._mean_part(), covariates, level)

    def contrast(
        self, one: Mapping[str, Any], other: Mapping[str, Any], *, level: float = 0.95
    ) -> pd.DataFrame:
        """The average difference of mu1 between two settings, ``{"age": 60}`` and ``{"age": 40}``.

        mean over the observed rows of mu1(one, rest as observed) - mu1(other, rest as observed)
        """
        return average_contrast(self._mean_part(), one, other, level)

    def _mean_part(self) -> MeanPart:
        info = self._joint_information()
        return MeanPart(self.estimate, info, self.spec, self.covariates, self.terms)

    def _joint_information(self) -> Information | None:
        """That of the fit, with the joint covariance that files do not hold."""
        info, deep = self._information(), not self.estimate.model.linear
        if not deep or info is None or info.joint is not None or info.resampled is not None:
            return info
        draws = self.request.control.hessian_draws
        again = information(self.estimate, self.call["se"], self.request.seed, draws)
        return replace(info, joint=again.joint)

    # -- random part ---------------------------------------------------------------------------

    def var_corr(self) -> pd.DataFrame:
        """Variance components of linear random effects, one row per (co)variance.

        Columns group, name1, name2 (missing for a standard deviation), sdcor, vcov, std_error (of
        log SD or atanh correlation). A neural latent has no such table: its implied standard
        deviations over time are in the summary and in :meth:`random_profile`.
        """
        table = reported.components(self.estimate, self._information(), self.groups).table
        rows = [*table[["group", "name1", "name2", "estimate"]].itertuples(index=False, name=None)]
        sd = {(group, one): value for group, one, two, value in rows if pd.isna(two)}
        vcov = [
            value**2 if pd.isna(two) else value * sd[group, one] * sd[group, two]
            for group, one, two, value in rows
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

    def random_profile(
        self,
        times: Sequence[float] | None = None,
        *,
        term: int | None = None,
        at: Mapping[str, Any] | None = None,
        level: float = 0.95,
        draws: int = 4096,
    ) -> RandomProfile:
        """Standard deviation, correlation and share of the random part mu2(b, t) over time.

            SD(t) = sd{mu2(b, t)},   ICC(t) = var{mu2(b, t)} / [var{mu2(b, t)} + v_e(t)]

        v_e is the residual variance on the scale of the linear predictor, as in :meth:`icc`. Exact
        for linear random effects (T D T'), by quasi-random draws of b for neural ones.

        Args:
            times: values of the time variable; by default five from the first to the last.
            term: position of one random part; by default all that enter the mean together.
            at: values of other covariates of the random part; by default means and references.
            level: of the intervals, made on the log (SD) and logit (ICC) scale by the delta method;
                linear random effects only.
            draws: of b.

        Returns:
            A record with ``table`` (a row per time) and ``correlation`` (times by times).

        Example:
            >>> import dgmm
            >>> sleep = dgmm.datasets.load("sleepstudy")
            >>> fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep)
            >>> fit.random_profile([0, 9]).table["sd"].round(2).to_list()
            [23.78, 58.41]
        """
        return random_profile(self._mean_part(), times, term=term, at=at, level=level, draws=draws)

    def sigma(self) -> float:
        """Residual standard deviation, 1 for families without one (as in R).

        Missing when dispersion= gives every row its own.
        """
        model = self.estimate.model
        if "log_sigma" not in model.family.extra:
            return 1.0
        at = model.one_number("log_sigma")
        return float("nan") if at is None else float(self.estimate.theta["extra"][at].exp())

    def family_parameters(self, level: float = 0.95) -> pd.DataFrame:
        """Further parameters of the family, such as a shape or a probability of zero.

        Columns estimate and std_error (delta method) on the natural scale, and lower, upper: a Wald
        interval made on the unconstrained scale. A residual standard deviation is in
        :meth:`var_corr` instead.
        """
        return reported.family_parameters(self.estimate, self.info, level)

    def part_coefficients(self) -> dict[str, pd.DataFrame]:
        """Wald tables of the coefficients of zi= and dispersion=, on the scale of their link."""
        return reported.part_coefficients(self.estimate, self.info)

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

    def log_score(self, newdata: Any, *, seed: int | None = None) -> pd.DataFrame:
        """Marginal log-likelihood of every subject of ``newdata`` under this fit.

            l_i = log integral p(y_i | b; theta-hat) N(b; 0, I) db

        Args:
            newdata: rows with outcomes; missing ones contribute nothing. The subjects are taken
                as new: outcomes that the fit has seen of the same ids are not used.
            seed: of the draws, by default that of the fit. Those of a subject depend on its id,
                not on who else is there, so two fits may be compared on any subset.

        Returns:
            A frame with one row per subject, in the order of the ids: ``log_score``; ``mc_error``,
            the Monte Carlo standard error after importance sampling, the change to the next longer
            rule after quadrature, zero when exact, missing after Laplace's approximation; ``nobs``,
            the outcomes it is the density of. Errors of subjects are independent: that of a mean
            over n subjects is the root of their sum of squares, divided by n.

        Raises:
            ValueError: several grouping factors, or a column of the formula is missing.

        Example:
            >>> import dgmm
            >>> sleep = dgmm.datasets.load("sleepstudy")
            >>> new = sleep["Subject"].isin(["308", "309"])
            >>> fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep[~new])
            >>> fit.log_score(sleep[new])["log_score"].round(2).to_dict()
            {'308': -60.57, '309': -47.28}

        References:
            Gneiting and Raftery (2007), J. American Statistical Association 102, 359-378.
        """
        start = self.request.seed if seed is None else seed
        table = log_scores(self.estimate, self.spec, newdata, self.request, start)
        return table.rename_axis(index=self.groups[0])

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

    # -- tests and intervals -------------------------------------------------------------------

    def confint(
        self,
        level: float = 0.95,
        *,
        method: str = "wald",
        parm: str | Sequence[str] | None = None,
        nsim: int = 500,
        seed: int | None = None,
        workers: int = 1,
        path: str | Path | None = None,
    ) -> pd.DataFrame:
        """Confidence intervals of coefficients, standard deviations, correlations and sigma.

            wald:       theta_j +- z se_j; log(sd), atanh(correlation) and the unconstrained scale
                        of a parameter of the family for theta
            profile:    {v : 2 [l(theta-hat) - max l(theta; theta_j = v)] <= z^2}
            bootstrap:  percentiles of estimates from outcomes simulated from the fit
            percentile: percentiles of estimates from subjects drawn with replacement

        Args:
            level: probability that the interval covers.
            method: "wald", "profile" (classical models, exact or quadrature likelihood; of the ML
                likelihood for REML fits, as in lme4), "bootstrap" (classical models) or
                "percentile" (fits with se="bootstrap").
            parm: names of rows to calculate; all by default (profile: coefficients and variance
                components; the parameters of the family have none).
            nsim: replicates of the bootstrap; 1000 or more for a report.
            seed: of the bootstrap; by default that of the fit.
            workers: processes of the bootstrap, one thread each.
            path: CSV file in which the bootstrap keeps its replicates; after an interruption the
                same call goes on where it ended.

        Raises:
            ValueError: an unknown name or method, or a method that the fit does not allow.

        Example:
            >>> import dgmm
            >>> sleep = dgmm.datasets.load("sleepstudy")
            >>> fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep)
            >>> fit.confint(method="profile", parm="Days").round(2).to_numpy().tolist()
            [[7.36, 13.58]]

        References:
            Bates, Maechler, Bolker and Walker (2015), J. Statistical Software 67(1), section 5.1;
            Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.
        """
        if method not in CONFIDENCE:
            known = ", ".join(map(repr, CONFIDENCE))
            raise ValueError(f"method={method!r} is not one of {known}")
        wald = self._wald_intervals(level)
        names = self._chosen(parm, list(wald.index))
        if method == "wald":
            return wald.loc[names]
        if method == "percentile":
            found = percentile_intervals(self.estimate, self.info, self.groups, level)
            return pd.DataFrame(found, index=wald.index, columns=wald.columns).loc[names]
        if method == "profile":
            done = self.estimate
            check_profile(done)
            if done.method == "reml":
                done = self.fit_outcome(self, None, method="ml").estimate
            at = dict(zip(wald.index, targets(done), strict=False))
            names = names if parm is not None else list(at)
            for name in names:
                if name not in at:
                    raise ValueError(
                        f"there is no profile for {name!r}, a parameter of the family or of zi= "
                        "or dispersion=; use method='wald' or 'bootstrap'"
                    )
            ends = [
                profile_interval(done, at[name], tuple(wald.loc[name]), level) for name in names
            ]
            return pd.DataFrame(ends, index=names, columns=wald.columns)
        drawn = self.bootstrap(nsim, seed=seed, workers=workers, path=path)
        if drawn.failed:
            warnings.warn(
                f"{len(drawn.failed)} of {nsim} bootstrap replicates could not be fitted and are "
                f"left out, the first because: {drawn.failed[0]}",
                UserWarning,
                stacklevel=2,
            )
        table = pd.DataFrame(drawn.intervals(level), index=wald.index, columns=wald.columns)
        return table.loc[names]

    def bootstrap(
        self,
        nsim: int = 500,
        *,
        seed: int | None = None,
        workers: int = 1,
        path: str | Path | None = None,
    ) -> Replicates:
        """Estimates from ``nsim`` simulated and refitted outcomes; see :meth:`confint`.

        The record has ``values``, a frame with one row per replicate, and ``failed``, the reasons
        why others could not be fitted.
        """
        return bootstrap(
            self.estimate,
            self.request,
            self.groups,
            list(self._wald_intervals(0.95).index),
            nsim=nsim,
            seed=self.request.seed if seed is None else seed,
            workers=workers,
            path=None if path is None else Path(path),
        )

    def anova(
        self,
        *others: Fit,
        L: Any = None,
        df: str | None = None,
        nsim: int | None = None,
        seed: int | None = None,
        workers: int = 1,
    ) -> Anova:
        """Test terms, a linear hypothesis, or nested models against each other.

            terms, L beta = 0:  (L b)'(L V L')^-1 (L b) ~ chi2(r), or F(r, df)
            nested models:      2 (l_1 - l_0) ~ chi2, or a mixture of chi2 for a variance

        Args:
            others: further fits; all are sorted by their parameters and each is tested against
                the one before it. One more random effect beside q correlated ones has the null
                distribution 1/2 chi2(q) + 1/2 chi2(q + 1).
            L: a dict {coefficient: factor}, a list of coefficients that are zero together, or an
                array (r, p). Without it and without others, one test per term.
            df: "satterthwaite" for F (or t) tests of Gaussian linear models.
            nsim: replicates of a parametric bootstrap in place of the chi2 distributions.
            seed: of that bootstrap; by default that of the fit.
            workers: processes of that bootstrap.

        Raises:
            ValueError: fits of different data, REML fits with different fixed parts, models that
                are not nested or have networks; the message says what differs.

        Example:
            >>> import dgmm
            >>> sleep = dgmm.datasets.load("sleepstudy")
            >>> big = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep)
            >>> small = dgmm.mixed_model("Reaction ~ Days + (1 | Subject)", sleep)
            >>> small.anova(big).table.loc["model 2", "null"]
            '0.5 chi2(1) + 0.5 chi2(2)'

        References:
            Stram and Lee (1994), Biometrics 50, 1171-1177; Fai and Cornelius (1996), J.
            Statistical Computation and Simulation 54, 363-378.
        """
        if others:
            if L is not None or df is not None:
                raise ValueError("L= and df= belong to Wald tests of one fit; give one fit only")
            for one in others:
                if not isinstance(one, Fit):
                    raise TypeError(f"anova() compares fits of mixed_model(), not {one!r}")
            start = self.request.seed if seed is None else seed

            def simulated(small: Candidate, big: Candidate, value: float) -> tuple[float, int]:
                assert nsim is not None
                return ratio_p_value(small, big, value, nsim=nsim, seed=start, workers=workers)

            candidates = [fit._candidate() for fit in (self, *others)]
            return compare_nested(candidates, None if nsim is None else simulated)
        moments = self._moments(df)
        V = self.vcov(kind="default" if moments is None else "gls").to_numpy()
        if L is None:
            return term_tests(self.fixef(), V, self.terms, moments)
        return wald_test(self.fixef(), V, hypothesis(L, self.estimate.model.names), moments)

    def drop1(self) -> Anova:
        """AIC and likelihood-ratio test of every term of the fixed part that can be left out.

        A term within a higher interaction stays, as in R; columns are left out as they are coded.
        """
        return drop_terms(self.estimate, self.request, self.terms, self.df())

    def ranova(self) -> Anova:
        """AIC and likelihood-ratio test of every random effect that can be left out.

            2 (l - l_without) ~ 1/2 chi2(q) + 1/2 chi2(q + 1)

        q is the number of effects that it is correlated with. The last random effect is tested
        against independent observations. An intercept stays while its part has slopes. Columns
        of a basis such as ns() are left out one by one: for the whole term compare two fits by
        :meth:`anova`.

        References:
            Self and Liang (1987), J. American Statistical Association 82, 605-610.
        """
        return drop_effects(self.estimate, self.request, self.groups, self.df())

    def influence(self) -> pd.DataFrame:
        """Cook's distance and dfbetas of every subject, by one step from the fit.

            Cook's distance = d'V^-1 d / p,   dfbetas = d / se,   d = beta-hat - beta(-i)

        References:
            Cook (1977), Technometrics 19, 15-18; Pregibon (1981), Annals of Statistics 9, 705-724.
        """
        V, names = self.vcov().to_numpy(), list(self.estimate.model.names)
        table = influence_table(self.estimate, V, names, self.request.seed)
        return table.rename_axis(index=self.groups[0])

    def icc(self, form: str = "lognormal") -> pd.Series:
        """Intraclass correlation, v_b / (v_b + v_e) adjusted and v_b / (v_f + v_b + v_e) not.

        v_f, v_b, v_e: variances of the fixed part, of the random part (mean over the rows when
        there are random slopes) and of the residual, on the scale of the linear predictor. form:
        of v_e under a log link, "lognormal", "trigamma" or "delta".

        References:
            Nakagawa, Johnson and Schielzeth (2017), J. Royal Society Interface 14: 20170213.
        """
        v = explained(self.estimate, form)
        total = v.random + v.residual
        values = {"adjusted": v.random / total, "unadjusted": v.random / (v.fixed + total)}
        return pd.Series(values, name="ICC")

    def r2(self, form: str = "lognormal") -> pd.Series:
        """R2 of the fixed part (marginal) and of both parts (conditional).

            marginal = v_f / (v_f + v_b + v_e),   conditional = (v_f + v_b) / (v_f + v_b + v_e)

        The variances are those of :meth:`icc`.

        References:
            Nakagawa and Schielzeth (2013), Methods in Ecology and Evolution 4, 133-142; random
            slopes: Johnson (2014), same journal 5, 944-946.
        """
        v = explained(self.estimate, form)
        total = v.fixed + v.random + v.residual
        values = {"marginal": v.fixed / total, "conditional": (v.fixed + v.random) / total}
        return pd.Series(values, name="R2")

    def refit(self, y: Any) -> Fit:
        """The same model fitted to another outcome of the same rows.

        y: one value per row of :meth:`fitted`, in that order, missing where not observed; for
            binomial outcomes the number of successes.
        """
        return self.fit_outcome(self, y)

    def _wald_intervals(self, level: float) -> pd.DataFrame:
        fixed = self.fixef()
        bounds = intervals(fixed.to_numpy(), self.std_errors().to_numpy(), level)
        table = reported.components(self.estimate, self._information(), self.groups).table
        inner = intervals(table["working"].to_numpy(), table["std_error"].to_numpy(), level)
        is_pair = table["name2"].notna().to_numpy()[:, None]
        outer = np.where(is_pair, np.tanh(inner), np.exp(inner))
        names = [*fixed.index, *(component_name(row) for row in table.itertuples())]
        own = self.family_parameters(level)
        outer = np.vstack([outer, own[["lower", "upper"]].to_numpy()])
        names += list(own.index)
        for part, coefficients in self.part_coefficients().items():
            pair = coefficients["Estimate"].to_numpy(), coefficients["Std. Error"].to_numpy()
            outer = np.vstack([outer, intervals(*pair, level)])
            names += [f"{part}_{name}" for name in coefficients.index]
        percent = [f"{50 * (1 - level):g} %", f"{50 * (1 + level):g} %"]
        return pd.DataFrame(np.vstack([bounds, outer]), index=names, columns=percent)

    def _chosen(self, parm: str | Sequence[str] | None, known: list[str]) -> list[str]:
        names = known if parm is None else [parm] if isinstance(parm, str) else list(parm)
        for name in names:
            if name not in known:
                hint = suggestion(str(name), known)
                raise ValueError(f"there is no parameter {name!r}{hint} Known: {', '.join(known)}.")
        return names

    def _information(self) -> Information | None:
        """That of the fit; of the restricted likelihood after REML."""
        if self.info is None and self.estimate.method == "reml" and self.call["se"] is not None:
            return restricted_information(self.estimate)
        return self.info

    def _moments(self, df: str | None) -> Satterthwaite | None:
        if df not in (None, "satterthwaite"):
            raise ValueError(f"df is None (z tests) or 'satterthwaite', not {df!r}")
        return None if df is None else satterthwaite(self.estimate)

    def _candidate(self) -> Candidate:
        parts = [f"{part} = {self.call[part]}" for part in ("zi", "dispersion") if self.call[part]]
        return Candidate(
            ", ".join([self.formula, *parts]),
            self.estimate,
            self.request,
            self.rows,
            self.df(),
            self.nobs(),
        )

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
        interval: "confidence" for the expected value (all parameters, network weights too, and
            the random effects of a subject; parameters at a boundary are held), "prediction" for
            a new outcome (adds the family's own variation; for binomial outcomes of ``newdata``,
            one trial).
        new_groups: "population" or "error" when an id was not in the fit (and has no history).

        Returns a frame with ``fit`` and, with an interval, ``se, lower, upper``.
        """
        wanted = prediction.Wanted(type, scale, interval, level, new_groups, draws)
        random = self.request.seed if seed is None else seed
        return prediction.predict(
            self.estimate,
            self._information() if interval is None else self._joint_information(),
            self.spec,
            wanted,
            newdata,
            history,
            self._order(),
            random,
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

    def impute(self, m: int = 20, *, seed: int, data: Any = None) -> list[pd.DataFrame]:
        """Complete the missing outcomes m times, in the user's row order.

            theta ~ N(theta-hat, V),   b | y_observed, theta,   y_missing | b, theta

        After se="bootstrap" theta is one of the resamples.

        Args:
            m: number of completed data sets.
            seed: of the draws.
            data: the frame of the fit; every result is a copy of it with a complete outcome.
                Without it the results have what a fit keeps: subject, time, outcome and
                ``imputed``.

        Parameters without a standard error (se=None, network weights, variances at their boundary)
        stay at their estimates. A fit with missing="pattern" imputes under its restriction.

        Raises:
            ValueError: several grouping factors, an outcome that is computed from columns, a frame
                that is not the one of the fit.

        Example:
            >>> import dgmm
            >>> sleep = dgmm.datasets.load("sleepstudy")
            >>> sleep.loc[[3, 8], "Reaction"] = None
            >>> fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep)
            >>> completed = fit.impute(m=3, seed=1, data=sleep)
            >>> len(completed), int(completed[0]["Reaction"].isna().sum())
            (3, 0)

        References:
            Rubin (1987), Multiple Imputation for Nonresponse in Surveys.
        """
        _check_number(m, 1)
        return imputations.frames(
            self.estimate,
            self.spec,
            data,
            self._order(),
            lambda done: self._completed(done, m, seed),
        )

    def pattern_profile(
        self, m: int = 20, *, seed: int, delta: float | None = None, level: float = 0.95
    ) -> pd.DataFrame:
        """Mean outcome of all subjects at every planned visit under a pattern-mixture model.

            E y_t = sum_d pi_d E(y_t | d),   d the last visit seen,

        by Rubin's rules over m completed data sets, whose spread between subjects holds that of
        the pi_d. For fits with missing="pattern".

        Args:
            m: number of completed data sets.
            seed: of the draws.
            delta: shift of the linear predictor after dropout, by default that of the fit.
            level: probability that an interval covers.

        Returns:
            A row per visit: its mean time, the share of outcomes seen, estimate, std_error, df,
            fmi (fraction of missing information), lower, upper.

        References:
            Little (1993), J. American Statistical Association 88, 125-134; Thijs et al. (2002),
            Biostatistics 3, 245-265.
        """
        if self.estimate.patterns is None:
            raise ValueError("pattern_profile() is for fits with missing='pattern'")
        _check_number(m, 2)
        return imputations.profile(
            self.estimate, self._completed(self.estimate, m, seed, delta), level
        )

    def _completed(
        self, done: Estimate, m: int, seed: int, delta: float | None = None
    ) -> Iterator[Tensor]:
        draws = self.request.control.hessian_draws
        return imputations.outcomes(done, self._information(), m, seed, draws, delta)

    # -- reports and files ---------------------------------------------------------------------

    def summary(self, df: str | None = None) -> Summary:
        """The report; ``print`` it, or read its tables.

        df: "satterthwaite" for t tests of the coefficients, see :meth:`coefficients`.
        """
        return summarise(self, df)

    def update(self, formula: str | None = None, data: Any = None, **changes: Any) -> Fit:
        """Refit with a new formula (dots stand for the old sides) or other arguments.

        ``data`` must be given: a fit does not keep the user's frame.
        """
        if data is None:
            raise ValueError("update() needs data=: a fit does not keep a copy of the data frame")
        return self.fit_again(self, formula, data, changes)

    def save(self, path: str | Path) -> None:
        """Write the fit to one file (safetensors and JSON); ``dgmm.load`` reads it back."""
        storage.save(self, Path(path))

    def __repr__(self) -> str:
        return f"<Fit {self.formula!r}: {self.loglik()}>"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def _labels(self) -> pd.Index:
        return pd.Index(self.index.tolist())

    def _order(self) -> tuple[pd.Index, np.ndarray]:
        return self._labels(), self.rows

    def _series(self, values: np.ndarray, name: str) -> pd.Series:
        series = pd.Series(values, index=self._labels(), name=name)
        return series.iloc[np.argsort(self.rows, kind="stable")]


def _check_number(m: int, least: int) -> None:
    if not isinstance(m, int | np.integer) or m < least:
        raise ValueError(f"m is a number of completed data sets, at least {least}, not {m!r}")


def row_labels(index: pd.Index) -> np.ndarray:
    """The labels of an index, (N,): numbers as they are, all others (dates, pairs) as objects."""
    values = index.to_numpy()
    return values if values.dtype.kind in "iufb" else index.astype(object).to_numpy()
