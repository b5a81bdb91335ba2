"""The estimators of a panel for the model of a fit: of its subjects, of their changes, of both."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from dgmm.estimate import Estimate
from dgmm.estimate.again import refit_without
from dgmm.inference import reported
from dgmm.inference.influential import gaussian_scores
from dgmm.inference.within import (
    Estimator,
    Sample,
    first_differences,
    given_sum,
    swamy_arora,
    within,
)
from dgmm.information import information
from dgmm.record import Fitted

__all__ = ["Estimators", "estimators", "mixed", "within_of"]


class Estimators(NamedTuple):
    """Side by side; None where a family has none of the kind.

    within, random: without the means. swamy: that of Swamy and Arora, with s_a and s_e. cre: the
    fit. differences: of rows that follow each other.
    """

    within: Estimator | None
    random: Estimator
    swamy: Estimator | None
    cre: Estimator
    differences: Estimator | None
    variances: dict[str, float]


def estimators(fit: Fitted, sample: Sample, levels: Sample) -> Estimators:
    """All of them; ``levels`` is the sample without the means."""
    done, request = fit.estimate, fit.request
    if request.method != "reml":  # the model without means needs no encoder and no draws
        request = replace(request, method="ml")
    means = [j for j, name in enumerate(sample.names) if name not in levels.names]
    random, cre = mixed(fit, refit_without(done, request, means)), mixed(fit, done)
    inner = within_of(done, levels)
    if not done.model.family.conjugate:
        return Estimators(inner, random, None, cre, None, {})
    swamy, level, noise = swamy_arora(levels)
    differences = first_differences(levels)
    return Estimators(inner, random, swamy, cre, differences, {"s_a": level, "s_e": noise})


def within_of(done: Estimate, sample: Sample) -> Estimator | None:
    """The estimator in which levels of subjects play no part, if the family has one."""
    family = done.model.family
    return within(sample) if family.conjugate else given_sum(family, sample)


def mixed(fit: Fitted, done: Estimate) -> Estimator:
    """Coefficients of a mixed model; of a Gaussian one by generalized least squares."""
    names, basis = tuple(done.model.names), done.model.basis
    beta: np.ndarray = done.model.beta(done.theta).detach().numpy()
    if done.likelihood.normal:
        scores, inner = gaussian_scores(done)
        inverse = torch.linalg.inv(inner.sum(0))
        moved = scores @ inverse @ basis.T
        return Estimator(
            names, beta, (basis @ inverse @ basis.T).numpy(), (moved.T @ moved).numpy()
        )
    draws, seed = fit.call.control.hessian_draws, fit.call.seed
    found = [
        reported.beta_vcov(done, information(done, kind, seed, draws), "default")
        for kind in ("hessian", "sandwich")
    ]
    return Estimator(names, beta, *found)
