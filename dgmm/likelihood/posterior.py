"""b given the outcomes seen, at one theta: normal, at weighted nodes, or level by level.

Predictions, random effects and imputations read their moments off these records and do not ask
which likelihood made them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import Tensor

from dgmm.likelihood.nodes import Frozen
from dgmm.model import Model
from dgmm.panel import Block, Panel
from dgmm.parameters import Theta
from dgmm.posterior.modes import Anchor, find_modes, mean_shift, moments, weighted_moments

__all__ = [
    "Effects",
    "NodePosterior",
    "NormalPosterior",
    "OverNodes",
    "Posterior",
    "Predictive",
    "over_normal",
]

POINTS = 20
"""Gauss-Hermite nodes for the mean outcome under a normal linear predictor."""


class Predictive(NamedTuple):
    """Mean and variance over b of a function of every row, (N,)."""

    mean: Tensor
    variance: Tensor


class Effects(NamedTuple):
    """b of the levels of every grouping factor given y: mean and covariance of each level."""

    mean: tuple[Tensor, ...]  # per factor (m_f, K_f), columns in the order of its terms
    covariance: tuple[Tensor, ...]  # (m_f, K_f, K_f)


class Posterior(ABC):
    """The distribution of b given the outcomes seen."""

    @abstractmethod
    def effects(self) -> Effects:
        """Mean and covariance of b per grouping factor."""

    @abstractmethod
    def log_density(self) -> Tensor:
        """log p(y_i) of the outcomes seen, (n,), up to a constant that b does not enter."""

    @abstractmethod
    def predictive(self, target: Panel, scale: str) -> Predictive:
        """Moments of eta ("link") or g^-1(eta) ("response") at the rows of ``target``.

        ``target`` has the subjects of the panel in the same order, or known levels of all factors.
        """

    def one_step(self, target: Panel, scale: str) -> Predictive:
        """Moments as those of :meth:`predictive`, given the outcomes of earlier rows alone."""
        raise ValueError("type='one_step' is for models with vrnn() or dmm() left of a bar")

    @abstractmethod
    def draws(self, target: Panel, size: int, generator: torch.Generator) -> Tensor:
        """Draws of eta at the rows of ``target``, (size, N); rows of a subject share b."""

    def near(self, theta: Theta) -> Posterior | None:
        """The posterior at another theta nearby, which follows from this one smoothly.

        None where nothing that was found at this theta helps at another.
        """
        return None

    def log_weights(self) -> list[Tensor]:
        """Logarithms of importance weights (M, n_c) of some subjects at a time; none without."""
        return []

    def effect_draws(self, generator: torch.Generator) -> Tensor:
        """One draw of b for every subject, (n, k)."""
        raise ValueError("random effects of several grouping factors have no draws by subject")

    def states(self, filtered: bool = False) -> Predictive:
        """Moments of the states of all paths at every row, (d, N) each, term after term.

        filtered: given the outcomes up to the row alone.
        """
        raise ValueError(
            "states() is for models with paths that are fitted by the filter, likelihood='filter' "
            "or 'laplace'"
        )


def over_normal(model: Model, theta: Theta, target: Panel, eta: Predictive) -> Predictive:
    """Moments of g^-1(eta) for normal eta at the rows of ``target``."""
    points, weight = (torch.from_numpy(x)[:, None] for x in hermegauss(POINTS))
    weight = weight / weight.sum()
    extra = model.extra(theta, target.rows)
    value = model.family.mean(eta.mean + eta.variance.sqrt() * points, extra)
    first = (weight * value).sum(0)
    return Predictive(first, (weight * (value - first).square()).sum(0))


@dataclass(frozen=True)
class NormalPosterior(Posterior):
    """N(mode, P^-1) of every subject: exact for Gaussian outcomes, else Laplace's approximation.

    Outside Gaussian models b | y is skew. There predictions and draws are around the mean to first
    order, with l3 the third derivative of a row's log density in eta,

        E(b | y) - mode = P^-1 sum_j 1/2 l3_j (J_j P^-1 J_j') J_j'

    without which an average of predictions is off that of the outcomes. The effects of subjects are
    modes. Tierney, Kass and Kadane (1989), JASA 84, 710-716.
    """

    model: Model
    theta: Theta
    history: Panel  # observed rows
    start: Tensor | None = None  # (n, k) places near the modes
    shift: Tensor | None = None  # (n, k) E(b | y) - mode where it is known in closed form

    @cached_property
    def _anchors(self) -> list[tuple[Block, Anchor]]:
        def found(block: Block) -> Anchor:
            near = None if self.start is None else self.start[block.subjects]
            return find_modes(self.model, self.theta, block, near)

        return [(block, found(block)) for block in self.history.blocks()]

    def near(self, theta: Theta) -> Posterior:
        """Newton's method begins at the modes."""
        return NormalPosterior(self.model, theta, self.history, self.effects().mean[0])

    def _centre(self, block: Block, anchor: Anchor) -> Tensor:
        """E(b | y), (n_c, k); one standard deviation from the mode at most."""
        model = self.model
        linear = all(latent.linear for latent in model.latents)
        if linear and all(one.family.conjugate for one in model.outcomes):
            return anchor.mode
        if self.shift is None:
            shift = mean_shift(model, self._ready, anchor, block)
        else:
            shift = self.shift[block.subjects]
        size = torch.linalg.solve_triangular(anchor.root, shift[..., None], upper=True).norm(dim=1)
        return anchor.mode + shift / size.clamp(min=1.0)

    @cached_property
    def _ready(self) -> Theta:
        with torch.no_grad():
            return self.model.prepare({name: v.detach() for name, v in self.theta.items()})

    def effects(self) -> Effects:
        k, n = self.model.k, self.history.n
        mean = torch.zeros(n, k, dtype=torch.float64)
        covariance = torch.zeros(n, k, k, dtype=torch.float64)
        for block, anchor in self._anchors:
            mean[block.subjects] = anchor.mode
            covariance[block.subjects] = anchor.covariance
        return Effects((mean,), (covariance,))

    def log_density(self) -> Tensor:
        out = torch.zeros(self.history.n, dtype=torch.float64)
        with torch.no_grad():
            for block, anchor in self._anchors:
                joint = self.model.log_joint(self._ready, anchor.mode, block)
                out[block.subjects] = joint + anchor.log_det_root
        return out

    def predictive(self, target: Panel, scale: str) -> Predictive:
        model, ready = self.model, self._ready
        mean, variance = torch.zeros(2, target.n_rows, dtype=torch.float64)
        for block, anchor in self._anchors:
            rows, centre = target.block(block.subjects), self._centre(block, anchor)
            with torch.no_grad():
                eta = model.mu1(ready, rows.rows) + model.mu2(ready, centre, rows.rows)
                J = model.jacobian(ready, anchor.mode, rows.rows)
                spread = (J @ anchor.root).square().sum(-1)
            mean[rows.index[rows.mask]] = eta[rows.mask]
            variance[rows.index[rows.mask]] = spread[rows.mask]
        found = Predictive(mean, variance)
        if scale == "link" or model.family.conjugate:
            return found
        return over_normal(model, self.theta, target, found)

    def effect_draws(self, generator: torch.Generator) -> Tensor:
        out = torch.zeros(self.history.n, self.model.k, dtype=torch.float64)
        for block, anchor in self._anchors:
            noise = torch.randn(anchor.mode.shape, generator=generator, dtype=torch.float64)
            centre = self._centre(block, anchor)
            out[block.subjects] = centre + (anchor.root @ noise[..., None])[..., 0]
        return out

    def draws(self, target: Panel, size: int, generator: torch.Generator) -> Tensor:
        model, ready = self.model, self._ready
        out = torch.zeros(size, target.n_rows, dtype=torch.float64)
        for block, anchor in self._anchors:
            rows, shape = target.block(block.subjects), (size, *anchor.mode.shape)
            noise = torch.randn(shape, generator=generator, dtype=torch.float64)
            b = self._centre(block, anchor) + torch.einsum("nab,mnb->mna", anchor.root, noise)
            with torch.no_grad():
                eta = model.mu1(ready, rows.rows) + model.mu2(ready, b, rows.rows)
            out[:, rows.index[rows.mask]] = eta[:, rows.mask]
        return out


class OverNodes(Posterior):
    """Weighted nodes of every subject: skew and several modes stay what they are."""

    theta: Theta

    @property
    @abstractmethod
    def model(self) -> Model:
        """The model."""

    @property
    @abstractmethod
    def subjects(self) -> int:
        """n."""

    @abstractmethod
    def _nodes(self) -> Iterator[tuple[Block, Tensor, Tensor]]:
        """Per block: nodes b (M, n, k), and their log weights (M, n)."""

    @cached_property
    def _ready(self) -> Theta:
        with torch.no_grad():
            return self.model.prepare({n: v.detach() for n, v in self.theta.items()})

    def _random(self, b: Tensor, rows: Block, history: Block) -> Tensor:
        """mu2 at some rows of the subjects of a block, (M, n, J)."""
        return self.model.mu2(self.model.at(self._ready, b, rows), b, rows.rows)

    def _at(self, target: Panel) -> Iterator[tuple[Block, Tensor, Tensor, Tensor]]:
        """Per block of ``target``: nodes b (M, n, k), their log weights (M, n), eta (M, n, J)."""
        for block, b, terms in self._nodes():
            rows = target.block(block.subjects)
            with torch.no_grad():
                eta = self.model.mu1(self._ready, rows.rows) + self._random(b, rows, block)
            yield rows, b, terms, eta

    def effects(self) -> Effects:
        k, n = self.model.k, self.subjects
        mean = torch.zeros(n, k, dtype=torch.float64)
        covariance = torch.zeros(n, k, k, dtype=torch.float64)
        for block, b, terms in self._nodes():
            found = moments(b, terms)
            mean[block.subjects] = found.mean
            covariance[block.subjects] = found.covariance
        return Effects((mean,), (covariance,))

    def log_density(self) -> Tensor:
        out = torch.zeros(self.subjects, dtype=torch.float64)
        for block, _, terms in self._nodes():
            out[block.subjects] = torch.logsumexp(terms, 0)
        return out

    def predictive(self, target: Panel, scale: str) -> Predictive:
        model, ready = self.model, self._ready
        mean, variance = torch.zeros(2, target.n_rows, dtype=torch.float64)
        for rows, b, terms, value in self._at(target):
            with torch.no_grad():
                weight = torch.softmax(terms, 0)
                if scale == "response":
                    value = model.family.mean(value, model.extra(ready, rows.rows, b))
                first, second = weighted_moments(value, weight)
            mean[rows.index[rows.mask]] = first[rows.mask]
            variance[rows.index[rows.mask]] = second[rows.mask]
        return Predictive(mean, variance)

    def effect_draws(self, generator: torch.Generator) -> Tensor:
        """A node of every subject, drawn by its weight."""
        out = torch.zeros(self.subjects, self.model.k, dtype=torch.float64)
        for block, b, terms in self._nodes():
            weight = _shares(terms)
            chosen = torch.multinomial(weight, 1, generator=generator)[:, 0]
            out[block.subjects] = b[chosen, torch.arange(len(chosen))]
        return out

    def draws(self, target: Panel, size: int, generator: torch.Generator) -> Tensor:
        """Nodes drawn by their weights."""
        out = torch.zeros(size, target.n_rows, dtype=torch.float64)
        for rows, _, terms, eta in self._at(target):
            weight = _shares(terms)
            chosen = torch.multinomial(weight, size, replacement=True, generator=generator).T
            drawn = eta.gather(0, chosen[..., None].expand(-1, -1, eta.shape[-1]))
            out[:, rows.index[rows.mask]] = drawn[:, rows.mask]
        return out


def _shares(log_weight: Tensor) -> Tensor:
    """Probabilities of the nodes of every subject, (n, M), of log weights (M, n)."""
    found = torch.softmax(log_weight, 0).T
    if not bool(found.isfinite().all()):
        raise FloatingPointError("the outcomes have no density at any node")
    return found


@dataclass(frozen=True)
class NodePosterior(OverNodes):
    """Nodes around the modes."""

    frozen: Frozen
    theta: Theta

    def near(self, theta: Theta) -> Posterior:
        """The nodes follow theta."""
        return NodePosterior(self.frozen, theta)

    @property
    def model(self) -> Model:
        return self.frozen.model

    @property
    def subjects(self) -> int:
        return self.frozen.n

    def _nodes(self) -> Iterator[tuple[Block, Tensor, Tensor]]:
        return self.frozen.weighted_nodes(self._ready)

    def log_weights(self) -> list[Tensor]:
        return [terms for _, _, terms in self._nodes()]
