"""Likelihoods that are highest at an infinite end of the range of a parameter: no maximum."""

from __future__ import annotations

from dataclasses import replace

from dgmm.likelihood.base import Likelihood, Maximum
from dgmm.model import without
from dgmm.parameters import Theta, part

__all__ = ["TIE", "bounded"]

TIE = 1e-6
"""Log-likelihood by which one maximum must be above another to be preferred."""


def bounded(likelihood: Likelihood, found: Maximum, start: Theta) -> Maximum:
    """The maximum ``found``, or where l is higher at an infinite end a point near that.

    A latent structure names its limit, which is a structure itself, so that the supremum is the
    maximum of another model. It is looked for where the search did not converge, or was on its way.
    """
    model = likelihood.model
    for i, latent in enumerate(model.latents):
        key = f"latent{i + 1}."
        end = latent.unbounded(part(start, key))
        on_the_way = end is not None and end.far(part(found.theta, key))
        if end is None or (found.converged and not on_the_way):
            continue
        other = likelihood.under(without(model, i, end.latent, end.left))
        theta = {**start, **{f"{key}{n}": value for n, value in end.weights.items()}}
        theta = {name: theta[name] for name in other.model.packing.shapes}
        tolerance = likelihood.integration.tolerance / 100
        there = other.concluded(other.polished(theta, tolerance=tolerance))
        # what a longer rule would change is no gain, unless the search was on its way there
        gap = TIE + found.mc_error + there.mc_error
        least = found.log_likelihood + (-gap if on_the_way else gap)
        nothing = other.independence(there.theta)  # where the limit is flat, it is no limit
        if there.log_likelihood > max(least, nothing + gap):
            weights = end.back(part(there.theta, key))
            theta = {**there.theta, **{f"{key}{n}": value for n, value in weights.items()}}
            found = replace(
                there, likelihood=likelihood, theta=theta, converged=False, messages=(end.note,)
            )
    return found
