"""Gaussian outcome, identity link, random effects T Lambda b: log p(y) in closed form.

Everything comes from sufficient statistics; the restricted likelihood integrates beta out too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgmm.latent import Pattern
from dgmm.likelihood.answers import Each, Observed, VarianceMoments
from dgmm.likelihood.base import Integration, Likelihood, Maximum, chosen_columns
from dgmm.likelihood.gaussian_offset import ResidualLikelihood
from dgmm.likelihood.posterior import NormalPosterior, Posterior
from dgmm.likelihood.profiling import Profile, maximise
from dgmm.likelihood.rules import Laplace, NodeRule
from dgmm.likelihood.statistics import statistics
from dgmm.likelihood.sufficient import GaussianValue, Sufficient, profiled_deviance
from dgmm.likelihood.summed import SummedPosterior
from dgmm.likelihood.summed import summed_statistics as summed
from dgmm.model import Model
from dgmm.numerics.hessian import central_jacobian
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta
from dgmm.posterior.modes import find_modes

__all__ = [
    "Gaussian",
    "closed_form",
    "degenerate",
    "digits_left",
    "jointly_normal",
    "per_subject",
    "profile_theta",
    "without_noise",
]

MOMENT_STEP = 1e-4
"""Relative step of central differences in the variance parameters; their error is its square."""

WIDE = 2e4
"""Spread about the fixed part in residual standard deviations that deserves a word."""

LOST = 13.2
"""Digits of double precision, less those of long sums."""

GLS_FORM = "GLS form; variance parameters by the Hessian of the restricted likelihood"


def jointly_normal(model: Model) -> str | None:
    """Why y is not jointly normal with b, in a sentence; None when it is."""
    for outcome in model.outcomes:
        if not outcome.family.conjugate or outcome.parts:
            return (
                "it is for a Gaussian outcome with identity link and one residual variance, not "
                f"for family {outcome.family.name!r} with link {outcome.family.link.name!r}"
                + (" and dispersion= or zi=" if outcome.parts else "")
            )
    if not all(latent.linear for latent in model.latents):
        return "it is for linear random effects, and a term left of a bar has a network"
    return None


def closed_form(model: Model) -> str | None:
    """Why y is not jointly normal with b and noise, in a sentence; None when it is."""
    return without_noise(model) or jointly_normal(model)


def degenerate(model: Model) -> str | None:
    """Why outcomes without noise have no density, in a sentence; None when they have one."""
    if model.family.noise or model.nondegenerate:
        return None
    return (
        "dispersion='~ 0' leaves the outcome to a path, which must vary at every time, the first "
        "one too: take ar1(), ou() or a stationary ssm()"
    )


def without_noise(model: Model) -> str | None:
    """Why a likelihood of y given b does not apply, in a sentence; None when there is one."""
    if model.family.noise:
        return None
    return degenerate(model) or "it is for outcomes with noise, and dispersion='~ 0' leaves none"


@dataclass(frozen=True, eq=False)
class Gaussian(Likelihood):
    """The (restricted) log-likelihood of a linear mixed model with one grouping factor."""

    restricted: bool = False

    word = "exact"
    exact = True
    normal = True

    @classmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        if reason := cls.one_factor(panel):
            return reason
        if model.networks or not model.by_columns:
            return "it is for random effects T Lambda b and models without dnn()"
        if len(model.outcomes) > 1:
            return "it is for one outcome"
        return closed_form(model)

    @classmethod
    def of(
        cls, model: Model, panel: Panel, integration: Integration, restricted: bool = False
    ) -> Likelihood:
        return cls(model, panel, integration, restricted)

    # -- the function ----------------------------------------------------------------------------

    @cached_property
    def statistics(self) -> Sufficient:
        """One pass over the observed rows, or their sums where they are not in memory."""
        sums = self.observed.sums
        return statistics(self.model, self.observed) if sums is None else summed(self.model, sums)

    @cached_property
    def _at(self) -> GaussianValue:
        return GaussianValue(self.statistics, self.restricted)

    def value(self, theta: Theta) -> float:
        return self._at(self._vector(theta))

    def value_and_gradient(
        self, theta: Theta, free: Collection[str] | None = None
    ) -> tuple[float, Theta]:
        x = self._vector(theta)
        return self._at(x), self._gradient(self._at.gradient(x), free)

    def each(self, theta: Theta) -> Each:
        """l_i of every subject; of the likelihood, which the restricted one is no sum of."""
        value = per_subject(self.model, theta, self.observed)
        return Each(value, torch.zeros_like(value), 0.0)

    def scores(self, theta: Theta, packing: Packing | None = None) -> Tensor:
        """Gradients of l_i; of the likelihood, which the restricted one is no sum of."""
        engine = ResidualLikelihood(self.model, self.observed)
        x = engine.vector(theta)
        found = engine.value_and_gradient(x, scores=True).scores
        assert found is not None
        return chosen_columns(found * engine.working_slope(x), self.model.packing, packing)

    def information(self, theta: Theta, packing: Packing) -> Observed:
        curvature, form = self._at.hessian(self._vector(theta))
        form = GLS_FORM if self.restricted else form
        return Observed(curvature, form).among(self.model.packing, packing)

    def gls_covariance(self, theta: Theta) -> Tensor:
        return torch.from_numpy(self._at.gls_covariance(self._vector(theta)))

    def mean_integrated(self, theta: Theta) -> float:
        if self.restricted:
            return 0.0
        return 0.5 * float(torch.linalg.slogdet(self.gls_covariance(theta))[1])

    def variance_moments(self, theta: Theta) -> VarianceMoments | None:
        at = self._at
        closed = at.variance_moments(self._vector(theta))
        if closed is not None:
            return VarianceMoments(*closed)
        psi = at.variance_vector(self._vector(theta))
        step = MOMENT_STEP * np.maximum(1.0, np.abs(psi))
        information = -central_jacobian(at.variance_gradient, psi, step).matrix
        slopes = [
            (at.gls_of_variances(psi + u) - at.gls_of_variances(psi - u)) / (2 * h)
            for u, h in zip(np.diag(step), step, strict=True)
        ]
        return VarianceMoments(at.gls_of_variances(psi), np.array(slopes), information)

    def posterior(self, theta: Theta) -> Posterior:
        if self.observed.sums is not None:
            return SummedPosterior.of(self.statistics, self._vector(theta))
        return NormalPosterior(self.model, theta, self.observed)

    # -- the search ------------------------------------------------------------------------------

    def _profile(self) -> Profile:
        return maximise(self.statistics, reml=self.restricted)

    def maximise(self, start: Callable[[], Theta], verbose: int = 0) -> Maximum:
        found = self._profile()
        theta = profile_theta(self.model, found)
        told = () if found.converged else (f"optimiser: {found.message}",)
        return Maximum(
            self,
            theta,
            found.log_likelihood,
            0.0,
            0.0,
            found.evaluations,
            found.converged,
            (*told, *digits_left(self.statistics, found)),
        )

    def independence(self, theta: Theta) -> float:
        none = np.zeros(len(self.statistics.pattern.row))
        return -0.5 * profiled_deviance(self.statistics, none, self.restricted).value

    def score_rule(self) -> NodeRule:
        return Laplace()

    def choice(self) -> dict[str, Any]:
        return {**super().choice(), "restricted": self.restricted}

    def describe(self) -> str:
        return "exact"


def digits_left(stats: Sufficient, found: Profile) -> tuple[str, ...]:
    """The note about residuals so much smaller than random effects that sums lose them."""
    left = stats.unit * math.sqrt(stats.C[-1, -1] / stats.N) / math.exp(found.log_sigma)
    if left < WIDE:
        return ()
    digits = max(0, math.floor(LOST - 2 * math.log10(left)))
    return (
        f"about the fixed part the outcome varies {left:.2g} times as much as its residuals do, of "
        f"which double precision keeps about {digits} digits, in standard errors too: take the "
        "mean of every group, or another reference, from the outcome first",
    )


def profile_theta(model: Model, profile: Profile) -> Theta:
    """theta of a profile."""
    pattern = Pattern.of(model.latents)
    return {
        "beta": torch.from_numpy(profile.beta),
        **pattern.to_theta(profile.Lambda[pattern.row, pattern.column]),
        "extra": torch.tensor([profile.log_sigma], dtype=torch.float64),
    }


def per_subject(model: Model, theta: Theta, panel: Panel) -> Tensor:
    """l_i = log p(y_i, b) - log p(b | y_i) at the mode, (n,): exact where b | y is normal."""
    out = torch.zeros(panel.n, dtype=torch.float64)
    ready = model.prepare({name: value.detach() for name, value in theta.items()})
    for block in panel.blocks():
        anchor = find_modes(model, theta, block)
        with torch.no_grad():
            joint = model.log_joint(ready, anchor.mode, block)
        out[block.subjects] = joint + anchor.log_det_root + 0.5 * model.k * math.log(2 * math.pi)
    return out
