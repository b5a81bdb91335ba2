"""Notes about the approximation of the likelihood: quadrature, Laplace, Monte Carlo."""

from __future__ import annotations

import math

import numpy as np
import torch

from dgmm.estimate import Estimate
from dgmm.information import Information

__all__ = ["of_approximation", "of_monte_carlo", "of_quadrature"]

FAR = 0.25
"""Standard errors: an interval of 95% that is off by so much covers 94.3%."""

NOTHING = 1e-6
"""Log-likelihood that is rounding: the approximation is exact for a Gaussian outcome."""

MUCH = 0.5
"""Log-likelihood that moves AIC by 1."""

ALIKE = 0.5
"""Share of subjects without a change of their outcomes above which they are spoken of."""


def of_quadrature(done: Estimate, info: Information | None) -> tuple[str, ...]:
    """A rule with too few points."""
    if not done.likelihood.grows or done.mc_error <= 0.01:
        return ()
    said = (
        f"the log-likelihood still changes by {done.mc_error:.2g} between two quadrature "
        "rules: estimates of large variances may be off; raise points, or use "
        "likelihood='importance'"
    )
    return (said + _unchanging(done),)


def _unchanging(done: Estimate) -> str:
    """Subjects whose outcomes are all alike, where they are most: a variance has no upper bound."""
    panel, (latent, *_) = done.observed, done.model.latents
    code, y = panel.subject.numpy(), panel.rows.data.y.numpy() / panel.rows.data.trials.numpy()
    count = np.bincount(code)
    low, high = np.full(len(count), np.inf), np.full(len(count), -np.inf)
    np.minimum.at(low, code, y)
    np.maximum.at(high, code, y)
    told = count > 1
    alike, every = int((low == high)[told].sum()), int(told.sum())
    if not every or alike / every <= ALIKE:
        return ""
    return (
        f". The outcomes of {alike} of {every} subjects with several rows are all alike: they say "
        f"that {latent.label} has a large variance and not how large, and nothing of effects "
        f"within, which rest on {every - alike} subjects. Under a proper prior (method='gibbs') "
        "there is a posterior, and the likelihood given the sums of subjects (cre() and "
        "panel_test(), logit link) needs no such integral"
    )


def of_approximation(done: Estimate, info: Information | None) -> tuple[str, ...]:
    """Laplace's approximation beside a better likelihood, and what to use where it is poor."""
    try:
        found = done.likelihood.compared(done.theta, done.log_likelihood)
    except (FloatingPointError, np.linalg.LinAlgError, torch.linalg.LinAlgError):
        return ("Laplace's approximation: no other likelihood can be calculated at its maximum",)
    if found is None or abs(found.difference) + found.error < NOTHING:
        return ()
    side = "higher" if found.difference >= 0 else "lower"
    error = f" (Monte Carlo s.e. {found.error:.2g})" if found.error > 0 else ""
    said = (
        f"Laplace's approximation: at its maximum {found.by} puts the log-likelihood "
        f"{abs(found.difference):.2g} {side}{error}"
    )
    if not math.isnan(found.away):
        said += f" and its own maximum about {found.away:.2g} standard errors away"
    if found.error > MUCH:
        return (f"{said}: too uncertain to judge it",)
    if not (found.away > FAR or abs(found.difference) > MUCH + 2 * found.error):
        return (said,)
    instead = (
        f"use likelihood={found.word!r}"
        if found.word
        else "with several grouping factors there is no other likelihood; variances and "
        "coefficients of models with few outcomes per level tend to zero with it"
    )
    return (f"{said}: it is poor here, {instead}",)


def of_monte_carlo(done: Estimate, info: Information | None) -> tuple[str, ...]:
    """A log-likelihood that is too uncertain to be compared."""
    if not done.likelihood.sampled or done.mc_error <= 0.5:
        return ()
    return (
        f"the Monte Carlo error of the log-likelihood is {done.mc_error:.2g}: differences "
        f"below {4 * done.mc_error:.1f} mean nothing; raise control draws",
    )
