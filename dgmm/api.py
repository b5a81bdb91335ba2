"""Entry points: mixed_model(), fit_many(), lm_list() and load()."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dgmm import storage
from dgmm.bayes import Prior
from dgmm.design import build_design
from dgmm.estimate import Control
from dgmm.families import Family
from dgmm.families import find as find_family
from dgmm.files.stored import is_stored
from dgmm.fit import Fit, fit_model
from dgmm.formula import Several, grouped_formula, named_parts, parse_formula, spread
from dgmm.inference.subject_fits import SubjectFits, subject_fits
from dgmm.many.fits import ManyFits
from dgmm.many.run import fit_each
from dgmm.multivariate.fit import MultivariateFit, fit_several
from dgmm.panel import Panel
from dgmm.plan import (
    INSTEAD,
    Call,
    as_counted,
    is_deep,
    latent_words,
    read_control,
    read_prior,
    read_values,
    structures,
)
from dgmm.runtime.gate import gate
from dgmm.runtime.whole_file import path_of

__all__ = ["fit_many", "lm_list", "load", "mixed_model"]


@partial(gate, instead=INSTEAD)
def mixed_model(
    formula: str | Several,
    data: Any,
    *,
    family: Any = "gaussian",
    link: str | None = None,
    method: str = "auto",
    likelihood: str = "auto",
    encoder: str = "sites",
    missing: str = "observed",
    restriction: str = "acmv",
    delta: float = 0.0,
    se: str | None = "hessian",
    bounds: Any = None,
    outcome: Any = None,
    zi: Any = None,
    oi: Any = None,
    dispersion: Any = None,
    weights: Any = None,
    offset: Any = None,
    missing_covariates: str = "drop",
    starts: int | None = None,
    seed: int = 0,
    device: str = "auto",
    verbose: int = 1,
    control: Control | dict[str, Any] | None = None,
    chains: int = 4,
    draws: int = 2000,
    warmup: int = 500,
    prior: Prior | str | None = None,
) -> Fit | MultivariateFit:
    """Fit a classical or deep generalized mixed model.

        b_i ~ N(0, I),   y_ij | b_i ~ F(g^-1{offset + mu1(x_ij) + mu2(b_i, t_ij)}, sigma)

    Args:
        formula: ``y ~ x + dnn(age, sex) + (dnn(ns(time, 4)) | id)``; linear terms, splines,
            ``dnn()`` networks. ``(x || id)`` makes all effects independent, those of the levels
            of a category too (as lme4 2.0; 1.1 keeps these correlated). Groups may be nested
            (``(1 | a/b)``) or crossed (``(1 | a) + (1 | b)``) when every term is linear. Two-column
            outcomes: ``cbind(success, failure)`` or ``success / trials``. Options inside ``dnn()``:
            ``hidden=`` (by default (32, 32), left of a bar (16, 16)), ``activation=``, ``ridge=``;
            left of a bar also ``latent=`` (the dimension of b), ``basis=`` and ``form=``:
            "coefficients" (of the basis, a network of b), "warped" (the same, and one curve that b
            shifts, stretches and scales in time) or "dense" (a network of b and the terms
            together), by default the first; "auto" is the second where the columns are functions
            of one time and it predicts subjects held out better by two standard errors, else the
            first. Paths, alone or beside ``(1 | id)``: ``(ou(time) | id)``, ``rw(time)`` (random
            walk) and ``llt(time)`` (local linear trend) at any times, ``ar1(visit)`` and
            ``ssm(visit, state=2)`` at whole numbers; ``start="diffuse"`` of rw and llt leaves
            open where a subject begins. Recursions of networks, of which a bound is known:
            ``(vrnn(visit, latent=2) | id)`` (a recurrent network of the outcomes before, with
            latent variables), ``dmm(time, state=2)`` (a deep Markov model, any times) and
            ``kvae(visit, code=1, state=2, K=3)`` (a code moved by mixed linear state spaces),
            with ``hidden=``, ``posterior=`` and inputs ``control=~ u``; vrnn also with
            ``memory="outcomes"`` (of which latent variables are no part) and ``dropout=0.2``, kvae
            with ``decoder=(64, 64)`` (layers) and ``encoder="joint"`` (one network of all outcomes
            of a visit, for pictures); outcomes of ``mv()`` share one. A covariance before the bar,
            ``cs(0 + visit | id)``: "us" (free, as without a word), "diag" (``||``), "cs" (one
            correlation) or "ar1" (rho from column to column); ``hom=TRUE`` for one variance, the
            default of "ar1" alone.
            Correlated random effects right of a bar, ``(1 | cre(id, ~ x + z))``: the mean of the
            random intercept is linear in the means of x and z over the rows of a subject (with
            ``dnn(x)`` also a network of them; ``device="chamberlain"``, ``time=``: in their values
            at every time), and ``scale=~ w`` makes its standard deviation log-linear; see
            :meth:`dgmm.Fit.panel_test`.
            Several outcomes of the same subjects: ``mv("y ~ x + (1 |p| id)", "z ~ (1 |p| id)")``,
            parts of one name being correlated, or ``mv(y1, y2) ~ x + (1 | id)``; see
            :func:`dgmm.mv`. The result is then a :class:`dgmm.MultivariateFit`.
        data: a data frame (pandas, polars, pyarrow, ...), one row per measurement. Rows with a
            missing outcome are kept (valid under MAR). Rows that are not in memory, for Gaussian
            models of linear terms and one grouping factor (``pip install 'dgmm[large]'``): the
            path of a parquet file, a folder or a pattern of them, a ``pyarrow.dataset``, a
            relation of DuckDB.
        family: "gaussian", "bernoulli", "binomial", "poisson" or another word of
            ``dgmm.families``, or a Family of your own; of several outcomes one for all, or a list.
        link: one of the family's links; its first one by default.
        method: "ml" (maximum likelihood, penalised with networks, which are integrated out left
            of a bar), "reml", and two that learn on a variational bound before they are brought
            to that same maximum: "vae" (variational auto-encoder: decoder and encoder learn
            together) and "vb" (networks left of a bar; q(b | y) by Newton steps). "auto" is ML.
            "gibbs" samples the posterior of a model of linear terms under ``prior``.
        likelihood: "exact" (Gaussian, linear random effects), "filter" (the same beside paths, by
            the Kalman filter), "quadrature" (at most three random effects; the rule grows until
            the log-likelihood moves less than 0.01), "importance" (any), "laplace" (any without
            networks left of a bar: an approximation, fast); "auto" takes the first of the first
            four that applies. With several grouping factors "exact", or "laplace" for other
            outcomes, and beside paths "filter" or "laplace"; "bound" is that of recursions.
        encoder: "sites", "dense" or "recurrent".
        missing: "observed": outcomes that were not seen contribute nothing, which is right when
            they are missing at random. "saem": the same likelihood by stochastic approximation
            EM, for ``encoder="dense"``, which then sees imputed outcomes in place of missing ones.
            "pattern": a model per dropout pattern; see :meth:`dgmm.Fit.pattern_profile`.
        restriction: of missing="pattern", whose outcomes stand in after dropout: "acmv" of all who
            were seen at that visit (missing at random), "ccmv" of completers, "ncmv" of those who
            left next.
        delta: of missing="pattern", added to the linear predictor of visits after dropout.
        se: "hessian" (the information, network weights included), "sandwich" (cluster-robust),
            "bootstrap" (subjects resampled ``control["resamples"]`` times), the last two for one
            grouping factor, or None.
        outcome: of several outcomes in a long frame, a row for each value: the column that says
            which outcome a row is of, the values being in the column ``value``, or a pair of both
            columns.
        bounds: (lower, upper) of an outcome on an interval (families "beta", "ordered_beta",
            "zero_one_inflated_beta", "logit_normal"), or the limits of censoring
            ("censored_gaussian", where None is no limit).
        zi: a formula for the probability of a structural zero, on the logit scale, such as
            ``"~ z + (1 | id)"``; makes a count family zero-inflated, and models the zeros of a
            hurdle family and both ends of "zero_one_inflated_beta". Of several outcomes a mapping
            of their names to formulas (fixed terms), as oi and dispersion.
        oi: a formula for the probability of the upper end among outcomes at either end, on the
            logit scale ("zero_one_inflated_beta").
        dispersion: a formula such as ``"~ x"`` for the dispersion parameter of the family on its
            log scale (log sigma of a Gaussian outcome). ``"~ 0"`` leaves a Gaussian outcome without
            noise about its path, as the residuals of corCAR1() of nlme are.
        weights: prior weights, a column name or one value per row; a pandas Series is aligned by
            its index.
        offset: added to the linear predictor, likewise.
        missing_covariates: "drop" rows with a missing covariate, with one counted warning, or
            raise an "error".
        starts: number of starts of a fit with networks; the spread is reported. By default 2 with
            neural random effects, else 1. Neural random effects: every start is brought to a
            maximum, that of the largest penalised likelihood is reported, and predictions and log
            scores average over those near it. Networks on the fixed side alone: the start of the
            largest evidence is kept.
        seed: of every random number used.
        device: of the ELBO stage (method "vae" or "vb"): "cpu", "cuda", or "auto",
            which takes a graphics card when there is one and the mini-batches are large enough.
        verbose: 0 silent, 1 a progress line on a terminal, 2 everywhere.
        control: rare options, a :class:`dgmm.Control` or a dict of its fields.
        chains: of method="gibbs": Gibbs sampling of a Gaussian outcome, Metropolis steps for the
            effects and coefficients of others.
        draws: kept of every chain.
        warmup: sweeps before them, which are dropped; step lengths are learnt there.
        prior: of method="gibbs", made by :func:`dgmm.prior`; by default half-t standard deviations
            and weak normal coefficients, printed in the summary. "hoff" is unit information.

    Returns:
        A :class:`dgmm.Fit`; start with ``print(fit.summary())``.

    Raises:
        FormulaError, ValueError: the formula, a column or an option cannot work; the message says
            which and what would.

    Example:
        >>> import dgmm
        >>> sleep = dgmm.datasets.load("sleepstudy")
        >>> fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep)
        >>> round(float(fit.loglik()), 3)
        -875.97

    References:
        Laird and Ware (1982), Biometrics 38, 963-974; Bates, Maechler, Bolker and Walker (2015),
        J. Statistical Software 67(1); Kingma and Welling (2014), ICLR; Rizopoulos, van Gerwen and
        Willemsen, deep mixed-effects models by variational auto-encoders (slides).
    """
    several = formula if isinstance(formula, Several) else spread(formula)
    if several is None and isinstance(family, list | tuple):
        raise ValueError("one outcome has one family, not a list; several outcomes are mv(...)")
    call = Call(
        formula="" if several else formula,  # type: ignore[arg-type]
        family="gaussian" if several else family,
        link=link,
        method=method,
        likelihood=likelihood,
        encoder=encoder,
        missing=missing,
        restriction=restriction,
        delta=delta,
        se=se,
        bounds=None if several else bounds,
        zi=zi,
        oi=oi,
        dispersion=dispersion,
        weights=read_values(weights, data, "weights"),
        offset=read_values(offset, data, "offset"),
        missing_covariates=missing_covariates,
        starts=starts,
        seed=seed,
        device=device,
        verbose=verbose,
        control=read_control(control),
        chains=chains,
        draws=draws,
        warmup=warmup,
        prior=read_prior(prior),
    )
    if several is not None and is_stored(data):
        raise ValueError(
            "several outcomes, mv(...), are fitted to a data frame: read the rows by dgmm.read()"
        )
    if several is not None:
        return fit_several(several, call, family, bounds, outcome, data)
    if outcome is not None:
        raise ValueError("outcome= is for models of several outcomes, mv(...)")
    for name, part in named_parts(call.formula):
        raise ValueError(
            f"{part}: the name `{name}` joins the parts of several outcomes, mv(...); of one "
            f"outcome write {part.replace(f'|{name}|', '|')}"
        )
    return fit_model(call, data)


@partial(gate, instead=INSTEAD)
def fit_many(
    formula: str,
    data: Any,
    *,
    by: str | None = None,
    outcomes: Sequence[str] | None = None,
    family: Any = "gaussian",
    link: str | None = None,
    method: str = "auto",
    likelihood: str = "auto",
    se: str | None = "hessian",
    bounds: Any = None,
    zi: Any = None,
    dispersion: Any = None,
    weights: Any = None,
    offset: Any = None,
    missing_covariates: str = "drop",
    seed: int = 0,
    control: Control | dict[str, Any] | None = None,
    workers: int = 1,
) -> ManyFits:
    """Fit one formula to many outcomes, or to every part of a frame, each model for itself.

        y_g = X_g beta_g + T_g b_g + e_g,   g = 1, ..., G

    Linear mixed models with one random part, ``us`` or ``diag``, are fitted together: the search
    of :func:`dgmm.mixed_model` goes on for all models at once, and one that has reached its maximum
    leaves it. Every model has the estimates that it has alone. Models out of the usual (too few
    rows, columns that depend on others, an outcome that does not vary), other formulas and other
    families are fitted one by one. A model that cannot be fitted is told in its row and stops no
    other.

    Args:
        formula: as in :func:`dgmm.mixed_model`; with ``outcomes`` its left side is left open,
            ``~ x + (1 | id)``.
        data: a data frame, one row per measurement.
        by: a column: every level of it has a model of its rows.
        outcomes: columns of a wide frame: every one is the outcome of a model of all rows.
        family: as in :func:`dgmm.mixed_model`, as all arguments below but the last.
        link: one of the family's links.
        method: "ml", the default, or "reml"; others are fitted one by one.
        likelihood: as there.
        se: "hessian", None, or another word (one by one).
        bounds: of an outcome on an interval.
        zi: a formula for the probability of a structural zero.
        dispersion: a formula for the dispersion parameter.
        weights: a column name or one value per row.
        offset: likewise.
        missing_covariates: "drop" or "error".
        seed: of every random number used.
        control: rare options.
        workers: processes for models that are fitted one by one.

    Returns:
        A :class:`dgmm.ManyFits` with tables of a row per model: ``glance`` (log-likelihood,
        singular, converged, status), ``coefficients``, ``std_errors``, ``var_corr``; ``fits[i]``
        and ``fits.fit(label)`` are ordinary fits.

    Raises:
        ValueError: neither or both of by= and outcomes=; no model can be fitted.
        FormulaError: as :func:`dgmm.mixed_model`.

    Example:
        >>> import dgmm
        >>> rats = dgmm.datasets.load("bodyweight")
        >>> fits = dgmm.fit_many("weight ~ Time + (Time | Rat)", rats, by="Diet")
        >>> fits.coefficients["Time"].round(3).to_list()
        [0.36, 0.965, 0.658]
    """
    if isinstance(formula, Several) or spread(formula) is not None:
        raise ValueError("fit_many() has one outcome a model; joint models of several are mv(...)")
    call = Call(
        formula=formula,
        family=family,
        link=link,
        method=method,
        likelihood=likelihood,
        se=se,
        bounds=bounds,
        zi=zi,
        dispersion=dispersion,
        weights=read_values(weights, data, "weights"),
        offset=read_values(offset, data, "offset"),
        missing_covariates=missing_covariates,
        seed=seed,
        verbose=0,
        control=read_control(control),
    )
    if workers < 1:
        raise ValueError(f"workers is a number of processes, at least 1, not {workers}")
    return fit_each(call, data, by, outcomes, workers)


@partial(gate, instead=INSTEAD)
def lm_list(
    formula: str,
    data: Any,
    *,
    family: str | Family = "gaussian",
    link: str | None = None,
    weights: Any = None,
    offset: Any = None,
) -> SubjectFits:
    """Fit the same (generalized) linear model to every subject on its own.

        eta_ij = offset_ij + x_ij'beta_i

    Args:
        formula: ``y ~ x | id``, or the formula of a mixed model, whose fixed part is then taken.
        data: a data frame, one row per measurement.
        family: as in :func:`dgmm.mixed_model`.
        link: one of the family's links.
        weights: prior weights, a column name or one value per row; a pandas Series is aligned by
            its index.
        offset: added to the linear predictor, likewise.

    Returns:
        A record with ``coefficients`` and ``std_errors`` (a row per subject), ``counts``, and the
        pooled ``sigma``. A subject whose data do not determine its coefficients has missing ones.

    Example:
        >>> import dgmm
        >>> fits = dgmm.lm_list("Reaction ~ Days | Subject", dgmm.datasets.load("sleepstudy"))
        >>> fits.coefficients.loc["308"].round(3).to_list()
        [244.193, 21.765]

    References:
        Pinheiro and Bates (2000), Mixed-Effects Models in S and S-PLUS, section 4.1.
    """
    text = grouped_formula(formula)
    parsed = parse_formula(text, latent_words=latent_words(), structures=structures())
    if is_deep(parsed):
        raise ValueError("lm_list() is for linear terms; leave out dnn()")
    if any(term.given for term in parsed.latents):
        raise ValueError("lm_list() fits subjects alone, where means do not vary; leave out cre()")
    chosen = find_family(family, link)
    design, chosen = as_counted(build_design(parsed, data, weights=weights, offset=offset), chosen)
    group = design.latents[0].grouping.name
    return subject_fits(Panel.from_design(design), chosen, list(design.fixed.names), group)


@gate
def load(path: str | Path) -> Fit | MultivariateFit:
    """Read a fit written by ``fit.save``; nothing in the file is executed."""
    return storage.load(path_of(path, "load"), Fit, MultivariateFit)
