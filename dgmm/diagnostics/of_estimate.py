"""Checks of the estimate: was a maximum reached, is it one, how good is the likelihood."""

from __future__ import annotations

import numpy as np
import torch

from dgmm.diagnostics.evidence import Evidence
from dgmm.diagnostics.finding import LOOK, OK, POOR, Check, Finding
from dgmm.inference.posterior import posterior_table
from dgmm.information import boundary_reasons
from dgmm.likelihood import choose
from dgmm.mcmc.diagnostics import pareto_k
from dgmm.report.collapse_notes import collapse_messages
from dgmm.report.likelihood_notes import of_approximation, of_quadrature
from dgmm.report.notes import of_encoder

__all__ = ["ESTIMATE"]

HEAVY = 0.7
"""Pareto k above which importance weights are not reliable."""

MUCH = 0.5
"""Log-likelihood that moves AIC by 1."""


def convergence(evidence: Evidence) -> Finding:
    """The Newton decrement that was left, or the R-hat of chains."""
    done = evidence.done
    if done.sampled:
        return _chains(evidence)
    said = f"Newton decrement {done.decrement:.2g} standard errors"
    if np.isnan(done.decrement):
        said = "no Newton decrement is known"
    if done.converged:
        return Finding("convergence", said)
    return Finding(
        "convergence",
        f"not reached: {'; '.join(done.messages)}",
        POOR,
        "estimates may still move by the Newton decrement, in standard errors",
        "scale covariates, drop terms that the data say little about"
        + ("" if done.model.linear else "; a larger ridge=, more starts="),
    )


def _chains(evidence: Evidence) -> Finding:
    table = posterior_table(evidence.fit)
    worst, least = float(table["R-hat"].max()), float(table["ESS bulk"].min())
    said = f"largest R-hat {worst:.3f}, smallest effective sample size {least:.0f}"
    good = not evidence.done.messages
    return Finding(
        "convergence",
        said,
        OK if good else LOOK if evidence.done.converged else POOR,
        "chains are not in one place yet, or move slowly" if not good else "",
        "draw on by more()" if not good else "",
    )


def standard_errors(evidence: Evidence) -> Finding | None:
    """A Hessian that is positive definite."""
    info = evidence.fit.information
    if info is None or info.posterior:
        return None
    if not info.messages:
        return Finding("standard errors", f"{info.form or 'known'}")
    return Finding(
        "standard errors",
        "; ".join(info.messages),
        LOOK,
        "the log-likelihood is flat in some direction: that combination of parameters is not "
        "identified, others are",
        "leave out a term, or take a simpler random part",
    )


def boundary(evidence: Evidence) -> Finding:
    """Variances of zero and correlations of one."""
    reasons = boundary_reasons(evidence.done)
    if not reasons:
        return Finding("boundary", "no variance at zero, no correlation at one")
    return Finding(
        "boundary",
        "; ".join(reasons),
        LOOK,
        "the fixed effects are usable; tests of the random part are conservative",
        "compare a simpler random part by anova() or ranova()",
    )


def collapse(evidence: Evidence) -> Finding | None:
    """Latent directions without a use, encoders that say little."""
    if evidence.done.activity is None:
        return None
    said = (*collapse_messages(evidence.done), *of_encoder(evidence.done, None))
    if not said:
        return Finding("collapse", "every latent direction tells subjects apart")
    return Finding("collapse", "; ".join(said), LOOK, advice="see the note")


def integration(evidence: Evidence) -> Finding:
    """How the integral over random effects is calculated, beside Laplace's approximation."""
    done, likelihood = evidence.done, evidence.done.likelihood
    notes = (*of_quadrature(done, None), *of_approximation(done, None))
    poor = any("poor" in note or "raise points" in note for note in notes)
    if notes:
        return Finding("integration", "; ".join(notes), LOOK if poor else OK)
    if likelihood.normal:
        return Finding("integration", "exact")
    said = likelihood.describe()
    try:
        plain = choose(done.model, done.panel, "laplace", likelihood.integration)
        gap = done.log_likelihood - plain.value(done.theta)
    except (ValueError, ArithmeticError, torch.linalg.LinAlgError):
        return Finding("integration", said)
    side = "lower" if gap >= 0 else "higher"
    return Finding("integration", f"{said}; Laplace's approximation is {abs(gap):.2g} {side} here")


def monte_carlo(evidence: Evidence) -> Finding | None:
    """The Monte Carlo error of the log-likelihood and the tail of its weights."""
    done = evidence.done
    if not done.likelihood.sampled or done.sampled:
        return None
    with torch.no_grad():
        weights = done.likelihood.posterior(done.theta).log_weights()
    k = np.concatenate([pareto_k(one.numpy()) for one in weights]) if weights else np.zeros(0)
    heavy = int((k > HEAVY).sum())
    said = f"log-likelihood +- {done.mc_error:.2g}; Pareto k at most {k.max(initial=0.0):.2f}"
    if not heavy and done.mc_error <= MUCH:
        return Finding("Monte Carlo error", said)
    return Finding(
        "Monte Carlo error",
        f"{said}, above {HEAVY:g} for {heavy} of {len(k)} subjects",
        LOOK,
        "of these subjects a few draws have most of the weight; differences of log-likelihoods "
        f"below {4 * done.mc_error:.1f} mean nothing",
        "raise control draws",
    )


ESTIMATE: tuple[Check, ...] = (
    convergence,
    standard_errors,
    boundary,
    collapse,
    integration,
    monte_carlo,
)
