"""Fit: the model of a call fitted to data, with every function of a fit as a method."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, final

import numpy as np
import pandas as pd
import torch

from dgmm.design import Design, as_numbers, by_index, dependent_columns, numbered
from dgmm.diagnostics.check import check
from dgmm.diagnostics.predictive import calibration, pp_check
from dgmm.diagnostics.residuals import residuals
from dgmm.diagnostics.scoring import scoring_rules
from dgmm.estimate import Control, Estimate, Request, estimate
from dgmm.estimate.again import refit_estimate
from dgmm.estimate.patterns import with_patterns
from dgmm.estimate.resume import checkpoint_for, checkpoint_of_more
from dgmm.estimate.sampled import more_draws
from dgmm.families import Family
from dgmm.files.stored import is_stored
from dgmm.formula import Formula, update_formula, with_own_options
from dgmm.inference.anova import anova, drop1, ranova
from dgmm.inference.confint import bootstrap, confint
from dgmm.inference.covariate_effects import contrast, effects, held_covariates, slopes
from dgmm.inference.criteria import (
    LogLik,
    aic,
    bic,
    deviance,
    df,
    df_residual,
    loglik,
    n_groups,
    nobs,
)
from dgmm.inference.emmeans import emmeans
from dgmm.inference.explained import icc, r2
from dgmm.inference.fixed_effects import coefficients, std_errors, vcov
from dgmm.inference.influential import influence
from dgmm.inference.left_out import loo
from dgmm.inference.panel_tests import panel_test
from dgmm.inference.population_coefficients import marginal_coefs
from dgmm.inference.posterior import posterior_draws, posterior_table, prior_draws
from dgmm.inference.resampling import resampled_information
from dgmm.inference.to_arviz import as_arviz
from dgmm.inference.variance_parameters import (
    boundary,
    family_parameters,
    is_singular,
    part_coefficients,
    random_profile,
    sigma,
    var_corr,
)
from dgmm.information import Information, information, posterior_information
from dgmm.large import fit_stored
from dgmm.missing.impute import impute, pattern_profile
from dgmm.plan import (
    INSTEAD,
    Call,
    check_options,
    check_varies,
    make_request,
    parse_call,
    read_designs,
    read_family,
)
from dgmm.prediction.of_subjects import posterior
from dgmm.prediction.predict import fitted, log_score, predict, prior_predictive, simulate
from dgmm.prediction.ranef import coef, ranef
from dgmm.prediction.same_frame import is_frame_of
from dgmm.prediction.states import states
from dgmm.record import Fitted, Memory, chains_of, check_alone, check_rows
from dgmm.report.brief import brief
from dgmm.report.notes import separation_messages, statistical_messages
from dgmm.report.summary import summary
from dgmm.report.tables import glance
from dgmm.report.tidy import augment, tidy
from dgmm.runtime.gate import gate_methods
from dgmm.runtime.versions import versions
from dgmm.runtime.warned import warn_user
from dgmm.storage import save

__all__ = ["Fit", "LogLik", "canonical_outcome", "fit_model", "information_of"]

NO_FACTOR = "a covariance matrix is singular in double precision"
"""In place of what linear algebra says of its matrices."""


@partial(gate_methods, instead=INSTEAD)
@final
class Fit(Fitted):
    """A fitted mixed model.

    Tables come back as data frames with named rows; ``summary(fit)`` prints the report. Every
    method exists as a function too: ``fixef(fit)`` is ``fit.fixef()``.
    """

    # the fixed part
    vcov = vcov
    std_errors = std_errors
    coefficients = coefficients
    effects = effects
    held_covariates = held_covariates
    slopes = slopes
    contrast = contrast
    emmeans = emmeans
    marginal_coefs = marginal_coefs

    # the random part, and what the family adds
    var_corr = var_corr
    random_profile = random_profile
    sigma = sigma
    family_parameters = family_parameters
    part_coefficients = part_coefficients
    is_singular = is_singular
    boundary = boundary
    ranef = ranef
    coef = coef
    states = states

    # the likelihood
    loglik = loglik
    df = df
    deviance = deviance
    aic = aic
    bic = bic
    nobs = nobs
    n_groups = n_groups
    df_residual = df_residual

    # intervals, tests, diagnostics
    confint = confint
    bootstrap = bootstrap
    anova = anova
    drop1 = drop1
    ranova = ranova
    influence = influence
    check = check
    pp_check = pp_check
    calibration = calibration
    scoring_rules = scoring_rules
    panel_test = panel_test
    icc = icc
    r2 = r2

    # draws from a posterior and its prior
    posterior_table = posterior_table
    posterior_draws = posterior_draws
    prior_draws = prior_draws
    prior_predictive = prior_predictive
    loo = loo
    as_arviz = as_arviz

    # predictions
    fitted = fitted
    residuals = residuals
    predict = predict
    posterior = posterior
    simulate = simulate
    log_score = log_score
    impute = impute
    pattern_profile = pattern_profile

    # report and file
    summary = summary
    glance = glance
    tidy = tidy
    augment = augment
    save = save

    def refit(self, y: Any) -> Fit:
        """The same model fitted to another outcome of the same rows.

        y: one value per row of :meth:`fitted`, in that order (a pandas Series by its index),
            missing where not observed; for binomial outcomes the number of successes, for
            categories their labels or numbers.

        Raises:
            ValueError: the fit is one outcome of several, or outcomes that its model cannot have.
        """
        check_alone(self, "refit()", "call it on the joint fit, with all outcomes")
        request, call = self.request, self.call
        done = refit_estimate(self.estimate, request, canonical_outcome(self, y))
        done = with_patterns(done, request) if call.missing == "pattern" else done
        info = information_of(done, call.se, request)
        messages = (*done.messages, *statistical_messages(done, info))
        return replace(self, estimate=done, information=info, messages=messages)

    def more(self, draws: int, *, checkpoint: str | None = None) -> Fit:
        """The fit with further draws: its chains go on where they stand.

        The draws are those that a longer run would have had.

        draws: further ones of every chain.
        checkpoint: file that the chains write as they go; the same call goes on from it.

        Raises:
            ValueError: the fit was not sampled (method="gibbs"), or the file is that of other
                chains or cannot be written.
        """
        chains_of(self, "more()")
        if draws < 1:
            raise ValueError(f"draws is a number of draws of each chain, at least 1, not {draws!r}")
        request, old = self.request, self.estimate
        if checkpoint is not None:
            words = self.call.words() | {"formula": self.formula}
            file = checkpoint_of_more(checkpoint, old, draws, words, versions())
            request = replace(request, checkpoint=file)
        done = more_draws(old, request, draws)
        assert done.chains is not None
        info = posterior_information(done.model, done.chains)
        if not done.converged:
            warn_user(f"the fit has not converged: {'; '.join(done.messages)}")
        kept = tuple(message for message in self.messages if message not in old.messages)
        call = replace(self.call, draws=done.chains.draws)
        return replace(
            self, call=call, estimate=done, information=info, messages=(*done.messages, *kept)
        )

    def update(self, formula: str | None = None, data: Any = None, **changes: Any) -> Fit:
        """Refit with a new formula (dots stand for the old sides) or other arguments.

        data: by default the frame of the fit, which is kept by reference: as it is now.

        Raises:
            ValueError: no data= for a fit read from a file, which does not hold the frame; another
                frame, where weights= or offset= were values for the rows of the old one.
            TypeError: an argument that mixed_model() does not have.
        """
        stale = [name for name in self.call.arrays() if name not in changes]
        if stale and data is not None and not is_frame_of(self, data):
            raise ValueError(
                f"{stale[0]}= was one value per row of the frame of the fit, and data= is another "
                f"one: give {stale[0]}= again, as a column of it or as values for its rows"
            )
        frame = self.memory.frame if data is None else data
        if frame is None:
            raise ValueError(
                "update() needs data=: this fit was read from a file, and files do not hold the "
                "data frame"
            )
        text = self.formula if formula is None else update_formula(self.formula, formula)
        return fit_model(self.call.changed({**changes, "formula": text}, frame), frame)

    def __repr__(self) -> str:
        return brief(self)

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def fit_model(call: Call, data: Any) -> Fit:
    """Fit the model of a call to a data frame: the work of ``mixed_model`` and ``update``."""
    parsed, family = parse_call(call), read_family(call)
    check_options(call)
    if is_stored(data):
        return _fit_stored(call, parsed, family, data)
    design, nested, family = read_designs(call, parsed, family, data)
    request, packages = make_request(call, design, family), versions()
    checkpoint = checkpoint_for(call.control, design, call.words(), packages)
    done = _estimate(design, nested, replace(request, checkpoint=checkpoint))
    separated = separation_messages(design, done)
    info = information_of(done, call.se, request)
    if not done.converged:
        warn_user(f"the fit has not converged: {'; '.join(done.messages)}")
    return Fit(
        replace(
            call,
            formula=_settled(parsed.text, done),
            control=_without_checkpoint(call.control),
        ),
        Memory.of(design, nested, data),
        done,
        info,
        (*done.messages, *design.messages, *separated, *statistical_messages(done, info)),
        packages,
    )


def _fit_stored(call: Call, parsed: Formula, family: Family, data: Any) -> Fit:
    """The model fitted to rows that are not in memory."""
    try:
        found = fit_stored(call, parsed, family, data)
    except (FloatingPointError, np.linalg.LinAlgError, torch.linalg.LinAlgError) as error:
        what = str(error) if isinstance(error, FloatingPointError) else NO_FACTOR
        raise ValueError(
            f"the likelihood cannot be calculated ({what}). Look for values out of scale"
        ) from error
    done = found.estimate
    info = information_of(done, call.se, found.request)
    if not done.converged:
        warn_user(f"the fit has not converged: {'; '.join(done.messages)}")
    messages = (*done.messages, *found.messages, *statistical_messages(done, info))
    settled = replace(call, formula=parsed.text)
    return Fit(settled, found.memory, done, info, messages, versions())


def _without_checkpoint(control: Control) -> Control:
    """The options that a fit keeps, which says nothing of the file that it was written to."""
    return control if control.checkpoint is None else replace(control, checkpoint=None)


def _settled(text: str, done: Estimate) -> str:
    """The formula with the forms that the fit has chosen: what is made of it keeps them."""
    if done.form_choice is None:
        return text
    model = done.model
    pairs = zip(model.latents, model.targets, strict=True)
    return with_own_options(text, [one.spelled() for one, at in pairs if one.neural and at == 0])


def information_of(done: Estimate, se: str | None, request: Request) -> Information | None:
    """What ``se=`` asks for of an estimate: None after se=None, and after REML.

    Raises:
        ValueError: the standard errors cannot be calculated.
    """
    if done.chains is not None:
        return posterior_information(done.model, done.chains)
    if se is None or request.method == "reml" or done.likelihood.bound:
        return None
    if se == "bootstrap":
        return resampled_information(done, request)
    try:
        return information(done, se, request.seed, request.control.hessian_draws)
    except FloatingPointError as error:
        raise ValueError(
            f"the standard errors cannot be calculated ({error}): the model may be too rich for "
            "these data. Use fewer terms, or se=None for a fit without standard errors"
        ) from error


def canonical_outcome(fit: Fitted, y: Any) -> torch.Tensor:
    """Outcomes in the user's order, as the family counts them, in canonical order (N,)."""
    check_rows(fit, "refit()")
    panel, family = fit.estimate.panel, fit.estimate.model.family
    if isinstance(y, pd.Series):
        y = by_index(y, fit.memory.labels[fit.memory.back], "the outcome of refit()")
    spec = fit.memory.spec
    y = numbered(y, spec.response_levels, spec.ordered_response)
    values = as_numbers(y, "the outcome of refit() is one number per row")
    if values.shape != (panel.n_rows,):
        raise ValueError(
            f"refit() needs one outcome for each of the {panel.n_rows} rows of the fit, in the "
            f"order of fitted(); it got an array of shape {values.shape}"
        )
    canonical = np.empty(panel.n_rows)
    canonical[fit.memory.back] = values
    seen, data = ~np.isnan(canonical), panel.rows.data
    trials, weights = data.trials.numpy()[seen], data.weights.numpy()[seen]
    canonical[seen] = family.read(canonical[seen], trials, weights)[0]
    if seen.any():
        check_varies(canonical[seen] / trials, spec.parsed().response.text)
    X, names = panel.rows.X.numpy()[seen], fit.estimate.model.names
    unknown = dependent_columns(X, names) if len(X) >= len(names) else names
    if unknown:
        raise ValueError(
            "refit() keeps the columns of the fit, and the outcomes given say nothing about "
            f"{', '.join(f'`{name}`' for name in unknown)}: call mixed_model() on a frame with them"
        )
    return torch.from_numpy(canonical)


def _estimate(design: Design, nested: Design | None, request: Request) -> Estimate:
    try:
        return estimate(design, nested, request)
    except (FloatingPointError, np.linalg.LinAlgError, torch.linalg.LinAlgError) as error:
        y, X = design.y[design.observed], design.fixed
        ranges = ", ".join(
            f"`{name}` {low:.3g} to {high:.3g}"
            for name, low, high in zip(X.names, X.matrix.min(0), X.matrix.max(0), strict=True)
            if name != "(Intercept)"
        )
        found = str(error) if isinstance(error, FloatingPointError) else NO_FACTOR
        raise ValueError(
            f"the likelihood cannot be calculated ({found}). Look for values out of scale: the "
            f"outcome `{design.formula.response.text}` runs from {y.min():.3g} to {y.max():.3g}"
            + (f"; {ranges}" if ranges else "")
        ) from error
