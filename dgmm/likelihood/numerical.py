"""Any latent structure, any node rule: log p(y) at nodes around the modes, by autograd."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dgmm.likelihood.answers import Compared, Each, Observed
from dgmm.likelihood.base import ROUNDS, Likelihood, Maximum, unreached
from dgmm.likelihood.compared import by_importance
from dgmm.likelihood.gaussian import closed_form, per_subject, without_noise
from dgmm.likelihood.growth import MOST_AUTOMATIC, first_quadrature, grow, not_by_columns
from dgmm.likelihood.limits import TIE, bounded
from dgmm.likelihood.nodes import Frozen, freeze, places
from dgmm.likelihood.polish import Polished, polish
from dgmm.likelihood.posterior import NodePosterior, NormalPosterior, Posterior
from dgmm.likelihood.rules import Importance, Laplace, NodeRule, Quadrature
from dgmm.model import Model
from dgmm.numerics.ascent import whitening
from dgmm.numerics.hessian import STEP, Curvature, short_steps, whitened_jacobian
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta
from dgmm.posterior.proposal import Places
from dgmm.runtime.progress import Progress

__all__ = [
    "LinearGaussian",
    "NodeLaplace",
    "NodeQuadrature",
    "Numerical",
    "Sampled",
    "gradient_hessian",
    "independent_likelihoods",
    "no_density",
]

PREDICTION_DRAWS = 256
"""Draws per subject of the posterior behind a prediction."""


SCORE_STEP = 1e-3
"""Relative step of the differences, of fourth order, that scores of Laplace's rule are made of."""


def no_density(model: Model) -> str | None:
    """Why b, or y given b, has no density, in a sentence; None when both have one."""
    if reason := without_noise(model):
        return reason
    flat = [latent.label for latent in model.latents if latent.flat]
    if flat:
        return f"{flat[0]} has a diffuse start, which is for Gaussian outcomes: take start='known'"
    return None


@dataclass(frozen=True, eq=False)
class Numerical(Likelihood):
    """Nodes that follow the posterior of every subject from fixed anchors."""

    @property
    @abstractmethod
    def rule(self) -> NodeRule:
        """The node rule of a reported value."""

    @classmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        return cls.one_factor(panel) or no_density(model)

    # -- the function ----------------------------------------------------------------------------

    def near(self, theta: Theta) -> Frozen:
        rng = np.random.default_rng(self.integration.seed)
        return freeze(self.model, theta, self.kept, self._search_rule(), rng)

    def value(self, theta: Theta) -> float:
        return float(self.each(theta).value.sum())

    def value_and_gradient(
        self, theta: Theta, free: Collection[str] | None = None
    ) -> tuple[float, Theta]:
        return self.near(theta).value_and_gradient(theta, free)

    def each(self, theta: Theta) -> Each:
        value = self._by(self.rule, theta)
        longer = self.rule.longer(self.model.k)
        if longer is None:
            return Each(value, torch.full_like(value, math.nan), 0.0)
        better = self._by(longer, theta)
        return Each(value, (better - value).abs(), abs(float((better - value).sum())))

    def _by(self, rule: NodeRule, theta: Theta) -> Tensor:
        rng = np.random.default_rng(self.integration.seed)
        return freeze(self.model, theta, self.kept, rule, rng).per_subject(theta)

    def scores(self, theta: Theta, packing: Packing | None = None) -> Tensor:
        return self.anchored(theta).scores(theta, packing)

    def information(self, theta: Theta, packing: Packing) -> Observed:
        curvature = gradient_hessian(self.anchored(theta), theta, packing)
        form = "observed information, central differences of the score at frozen nodes"
        return Observed(curvature, form)

    def posterior(self, theta: Theta) -> Posterior:
        rng, keys = np.random.default_rng([self.integration.seed, 37]), self.kept.keys
        rule = self._posterior_rule()
        frozen = freeze(self.model, theta, self.kept, rule, rng, keys=keys)
        return NodePosterior(frozen, theta)

    def _search_rule(self) -> NodeRule:
        return self.rule

    def score_rule(self) -> NodeRule:
        return self.rule

    def _posterior_rule(self) -> NodeRule:
        return self.rule

    # -- the search ------------------------------------------------------------------------------

    def maximise(self, start: Callable[[], Theta], verbose: int = 0) -> Maximum:
        """The highest of the maxima from the starting values that the latent structures name."""
        tolerance, first = self._tolerance(), start()
        reached = [
            self.polished(self._nearer(theta), verbose=verbose, tolerance=tolerance)
            for theta in self.model.starts(first)
        ]
        top = max(one.path[-1] for one in reached)
        # of maxima that rounding tells apart the first: threads add up in another order
        found = self.concluded(
            next((one for one in reached if one.path[-1] > top - TIE), reached[0])
        )
        return bounded(self, found, first)

    def _nearer(self, theta: Theta) -> Theta:
        """The maximum of Laplace's approximation where its derivatives are closed.

        Nodes follow theta over a few standard deviations of b given y: with much data per subject
        that is a short way, and a search from far would go it many times.
        """
        if not_by_columns(self.model):
            return theta
        found = grow(self.model, self.kept, theta, Laplace(), self.integration)
        return found.engine.theta(found.found.x)

    def _tolerance(self) -> float:
        """Newton decrement at which a search for the final maximum ends."""
        return self.integration.tolerance / 100

    def polished(
        self,
        theta: Theta,
        *,
        free: Collection[str] | None = None,
        rounds: int = ROUNDS,
        tolerance: float = 3e-3,
        evaluations: int = 40,
        verbose: int = 0,
    ) -> Polished:
        with Progress(verbose, ROUNDS, "marginal likelihood") as bar:
            return polish(
                self.model,
                theta,
                self.kept,
                self.rule,
                self.integration.seed,
                free=free,
                rounds=rounds,
                tolerance=tolerance,
                evaluations=evaluations,
                progress=bar,
            )

    def concluded(self, polished: Polished) -> Maximum:
        theta, tolerance = polished.theta, self.integration.tolerance
        value, error = self._final(theta, polished)
        return Maximum(
            self,
            theta,
            value,
            error,
            polished.decrement,
            polished.evaluations,
            polished.decrement < tolerance,
            unreached(polished.decrement, tolerance),
        )

    def _final(self, theta: Theta, polished: Polished) -> tuple[float, float]:
        """The value and by how much a longer rule moves it, 0 where there is none."""
        value = polished.frozen.value(theta)
        longer = self.rule.longer(self.model.k)
        if longer is None:
            return value, 0.0
        again = freeze(self.model, theta, self.kept, longer, np.random.default_rng(0))
        return value, abs(again.value(theta) - value)

    def describe(self) -> str:
        return self.rule.describe(self.model.k)


@dataclass(frozen=True, eq=False)
class LinearGaussian(Numerical):
    """y and b jointly normal, loadings of b as they come: one node gives l exactly."""

    word = "exact"
    exact = True
    normal = True

    @property
    def rule(self) -> NodeRule:
        return Laplace()

    @classmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        return super().cannot(model, panel) or closed_form(model)

    def each(self, theta: Theta) -> Each:
        value = per_subject(self.model, theta, self.kept)
        return Each(value, torch.zeros_like(value), 0.0)

    def posterior(self, theta: Theta) -> Posterior:
        return NormalPosterior(self.model, theta, self.kept)

    def describe(self) -> str:
        return "exact"


@dataclass(frozen=True, eq=False)
class NodeLaplace(Numerical):
    """One node at the mode, with networks on the fixed side."""

    word = "laplace"

    @property
    def rule(self) -> NodeRule:
        return Laplace()

    @classmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        if not all(latent.linear for latent in model.latents):
            return (
                "likelihood='laplace' is for models without dnn() left of a bar fitted by "
                "method='ml'; use 'importance', which is the likelihood itself"
            )
        return super().cannot(model, panel)

    def scores(self, theta: Theta, packing: Packing | None = None) -> Tensor:
        """Differences of every l_i, whose mode and determinant move with theta."""
        packing = self.model.packing if packing is None else packing
        frozen, x = self.anchored(theta), packing.pack(theta).detach()

        def each(vector: Tensor) -> Tensor:
            moved = {**theta, **packing.unpack(vector)}
            return frozen.moved(moved).per_subject(moved)

        columns = []
        for j, h in enumerate((SCORE_STEP * x.abs().clamp(min=1.0)).tolist()):
            unit = torch.zeros_like(x)
            unit[j] = h
            near, far = each(x + unit) - each(x - unit), each(x + 2 * unit) - each(x - 2 * unit)
            columns.append((8 * near - far) / (12 * h))
        return torch.stack(columns, dim=1)

    def compared(self, theta: Theta, value: float) -> Compared | None:
        return by_importance(self, theta, value)

    def posterior(self, theta: Theta) -> Posterior:
        return NormalPosterior(self.model, theta, self.kept)


@dataclass(frozen=True, eq=False)
class NodeQuadrature(Numerical):
    """Gauss-Hermite nodes around the mode, at most three random effects."""

    word = "quadrature"
    grows = True

    @classmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        return super().cannot(model, panel) or Quadrature.cannot(model.k)

    @classmethod
    def automatic(cls, model: Model) -> bool:
        return model.k <= MOST_AUTOMATIC and all(latent.linear for latent in model.latents)

    @property
    def rule(self) -> NodeRule:
        return first_quadrature(self.model.k, self.integration)


@dataclass(frozen=True, eq=False)
class Sampled(Numerical):
    """Importance sampling: any latent dimension, with a Monte Carlo error.

    ``keyed``: draws of a subject depend on its id, not on who else is there.
    """

    keyed: bool = False

    word = "importance"
    sampled = True

    @classmethod
    def automatic(cls, model: Model) -> bool:
        return not model.serial or any(latent.neural for latent in model.latents)

    @property
    def rule(self) -> NodeRule:
        return Importance(self.integration.draws)

    def each(self, theta: Theta) -> Each:
        return self._averaged(self._table(theta))

    def table(self, theta: Theta) -> Tensor:
        """l_i by every one of some independent scrambles, (replicates, n)."""
        return self._table(theta)

    def _table(self, theta: Theta, start: Places | None = None) -> Tensor:
        keys = self.kept.keys if self.keyed else None
        integration = self.integration
        return independent_likelihoods(
            self.model,
            theta,
            self.kept,
            self.rule,
            integration.replicates,
            integration.seed,
            start,
            keys,
        )

    def _averaged(self, table: Tensor) -> Each:
        value = torch.logsumexp(table, 0) - math.log(len(table))
        spread = torch.exp(table - value).std(0)  # of the likelihood, relative to its mean
        total = float(table.sum(1).std() / math.sqrt(len(table)))
        return Each(value, spread / math.sqrt(len(table)), total)

    def _final(self, theta: Theta, polished: Polished) -> tuple[float, float]:
        found = self._averaged(self._table(theta, places(polished.frozen)))
        return float(found.value.sum()), found.total_error

    def _search_rule(self) -> NodeRule:
        return Importance(self.integration.polish_draws)

    def score_rule(self) -> NodeRule:
        return Importance(self.integration.hessian_draws)

    def _posterior_rule(self) -> NodeRule:
        return Importance(PREDICTION_DRAWS)

    def _tolerance(self) -> float:
        return min(3e-3, self.integration.tolerance)

    def by_id(self) -> Likelihood:
        return replace(self, keyed=True)


def independent_likelihoods(
    model: Model,
    theta: Theta,
    panel: Panel,
    rule: NodeRule,
    replicates: int,
    seed: int,
    start: Places | None = None,
    keys: Sequence[int] | None = None,
) -> Tensor:
    """l_i by every one of some independent scrambles, (replicates, n)."""
    values = []
    for number in range(replicates):
        rng = np.random.default_rng([seed, 71, number])
        frozen = freeze(model, theta, panel, rule, rng, start, keys)
        start = places(frozen)
        values.append(frozen.per_subject(theta))
    return torch.stack(values)


def gradient_hessian(frozen: Frozen, theta: Theta, packing: Packing) -> Curvature:
    """Central differences of the gradient of l at frozen nodes, nodes following theta."""
    scores = frozen.scores(theta, packing)
    back = whitening((scores.T @ scores).numpy(), np.zeros(packing.size))
    back = short_steps(back, scores.numpy())

    def gradient(vector: np.ndarray) -> np.ndarray:
        moved = {**theta, **packing.unpack(torch.from_numpy(vector))}
        try:
            at = frozen.moved(moved)
            return packing.pack(at.value_and_gradient(moved, packing.shapes)[1]).numpy()
        except torch.linalg.LinAlgError:
            return np.full(packing.size, np.nan)

    return whitened_jacobian(gradient, packing.pack(theta).numpy(), back, STEP)
