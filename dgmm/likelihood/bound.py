"""Importance-weighted bounds, for models whose likelihood no rule can calculate: recursions.

    l_i >= E log 1/K sum_k p(y_i | b_k) p(b_k) / q(b_k | y_i),   b_k ~ q

rises with K to l_i (Burda, Grosse and Salakhutdinov, 2016, ICLR). q is an amortised posterior that
was learnt with theta. The error that is reported is that of
the value as an estimate of the bound; how far the bound is below l is not known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from dgmm.likelihood.answers import Each, Observed
from dgmm.likelihood.base import Likelihood, Maximum
from dgmm.likelihood.posterior import Effects, OverNodes, Posterior, Predictive
from dgmm.model import Model
from dgmm.panel import Block, Panel
from dgmm.parameters import Packing, Theta
from dgmm.posterior.modes import weighted_moments

__all__ = ["ImportanceBound", "Proposal", "Weighted", "WeightedPosterior"]

CELLS = 400_000
"""Rows times draws held at once."""

MOST_EFFECTS = 500
"""Elements of b up to which their covariance is given."""

NO_MAXIMUM = (
    "of this model a bound is known and no likelihood: there are no scores, standard errors and "
    "tests; for errors resample the subjects and fit again"
)


class Weighted(Protocol):
    """Draws of b with what makes them draws from p(b | y)."""

    @property
    def b(self) -> Tensor:
        """(M, n, k)."""
        ...

    @property
    def log_ratio(self) -> Tensor:
        """log q(b) - log p(b), (M, n)."""
        ...

    def log_likelihood(self, model: Model, ready: Theta, block: Block) -> Tensor:
        """log p(y_i | b_i), (M, n)."""
        ...


class Proposal(Protocol):
    """Where draws of b come from."""

    def draws(self, model: Model, ready: Theta, block: Block, e: Tensor) -> Weighted:
        """Draws of the subjects of a block by white noise e (M, n, k)."""
        ...

    def one_step(
        self,
        model: Model,
        ready: Theta,
        block: Block,
        size: int,
        generator: torch.Generator,
        scale: str,
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of eta or g^-1(eta) of every row given the outcomes before, (n, J)."""
        ...

    def filtered(
        self, model: Model, ready: Theta, block: Block, size: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of the latent variables of every row given the outcomes so far,

        (n, J, d) each.
        """
        ...

    def smoothed(
        self, model: Model, ready: Theta, block: Block, b: Tensor, log_weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Those given all outcomes, of weighted draws b (M, n, k)."""
        ...


@dataclass(frozen=True, eq=False)
class ImportanceBound(Likelihood):
    """K = ``integration.draws`` draws a subject."""

    proposal: Proposal | None = None  # before it is learnt

    word = "bound"
    sampled = True
    bound = True

    @classmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        if not model.recursive:
            return "it is for recursions left of a bar, vrnn() and dmm(); others have a likelihood"
        return cls.one_factor(panel)

    def value(self, theta: Theta) -> float:
        return float(self.each(theta).value.sum())

    def each(self, theta: Theta) -> Each:
        K = self.integration.draws
        value, error = torch.zeros(2, self.panel.n, dtype=torch.float64)
        for block, _, terms in self.weighted(theta, self.kept, K):
            mean = torch.logsumexp(terms, 0) - math.log(K)
            value[block.subjects] = mean
            error[block.subjects] = (terms - mean).exp().std(0) / math.sqrt(K)
        return Each(value, error, float(error.square().sum().sqrt()))

    def stream(self, number: int) -> torch.Generator:
        """Random numbers of one use."""
        return torch.Generator().manual_seed(1_000_003 * self.integration.seed + number)

    def learnt(self) -> Proposal:
        """Where draws come from.

        Raises:
            ValueError: nothing has been learnt.
        """
        if self.proposal is None:
            raise ValueError("the bound of a recursion has draws of a posterior that is learnt")
        return self.proposal

    def one_step(self, theta: Theta, panel: Panel, scale: str) -> Predictive:
        """Moments of eta or g^-1(eta) of every row given the outcomes of the rows before, (N,)."""
        mean, variance = torch.zeros(2, panel.n_rows, dtype=torch.float64)
        draws, generator, proposal = self.integration.draws, self.stream(97), self.learnt()
        with torch.no_grad():
            ready = self.model.prepare({n: v.detach() for n, v in theta.items()})
            for block in panel.blocks(cells=max(1, CELLS // draws)):
                found = proposal.one_step(self.model, ready, block, draws, generator, scale)
                rows = replace(panel, masked=False).block(block.subjects)
                for out, value in zip((mean, variance), found, strict=True):
                    out[rows.index[rows.mask]] = value[rows.mask]
        return Predictive(mean, variance)

    def weighted(
        self, theta: Theta, panel: Panel, draws: int, stream: int = 0
    ) -> Iterator[tuple[Block, Tensor, Tensor]]:
        """Per block draws b (M, n, k) of q and log {p(y | b) p(b) / q(b)}, (M, n).

        A set of draws is made again by its number ``stream``.
        """
        generator, proposal = self.stream(83 + stream), self.learnt()
        with torch.no_grad():
            ready = self.model.prepare({n: v.detach() for n, v in theta.items()})
            for block in panel.blocks(cells=max(1, CELLS // draws)):
                size = (draws, len(block.subjects), self.model.k)
                e = torch.randn(size, generator=generator, dtype=torch.float64)
                drawn = proposal.draws(self.model, ready, block, e)
                density = drawn.log_likelihood(self.model, ready, block)
                yield block, drawn.b, density - drawn.log_ratio

    def value_and_gradient(
        self, theta: Theta, free: Collection[str] | None = None
    ) -> tuple[float, Theta]:
        raise ValueError(NO_MAXIMUM)

    def scores(self, theta: Theta, packing: Packing | None = None) -> Tensor:
        raise ValueError(NO_MAXIMUM)

    def information(self, theta: Theta, packing: Packing) -> Observed:
        raise ValueError(NO_MAXIMUM)

    def maximise(self, start: Callable[[], Theta], verbose: int = 0) -> Maximum:
        raise ValueError(NO_MAXIMUM)

    def reached(self, theta: Theta, proposal: Proposal) -> Maximum:
        """The record of a theta at which a training has ended, with its q."""
        own = replace(self, proposal=proposal)
        each = own.each(theta)
        return Maximum(
            own, theta, float(each.value.sum()), each.total_error, math.nan, 0, converged=True
        )

    def posterior(self, theta: Theta) -> Posterior:
        return WeightedPosterior(self, theta, self.panel)

    def describe(self) -> str:
        return f"importance-weighted lower bound, {self.integration.draws} draws of q per subject"


@dataclass(frozen=True)
class WeightedPosterior(OverNodes):
    """Draws of q, weighted by p(b | y) / q(b)."""

    likelihood: ImportanceBound
    theta: Theta
    history: Panel  # a masked panel, or one of outcomes that were all seen

    @property
    def model(self) -> Model:
        return self.likelihood.model

    @property
    def subjects(self) -> int:
        return self.history.n

    def _nodes(self) -> Iterator[tuple[Block, Tensor, Tensor]]:
        likelihood = self.likelihood
        return likelihood.weighted(self.theta, likelihood.kept, likelihood.integration.draws, 1)

    def _random(self, b: Tensor, rows: Block, history: Block) -> Tensor:
        """Rows of the history know which of its outcomes were seen."""
        if history.mask.shape != rows.mask.shape:
            return super()._random(b, rows, history)
        told = [own.mask for own in history.blocks]
        ready = self.model.at(self._ready, b, rows, told)
        return self.model.mu2(ready, b, rows.rows, seen=history.mask)

    def predictive_each(self, target: Panel, scale: str) -> list[Predictive]:
        """:meth:`predictive` of every outcome of ``target``, all from the same draws."""
        found = [torch.zeros(2, one.n_rows, dtype=torch.float64) for one in target.panels]
        for block, b, terms in self._nodes():
            rows, weight = target.block(block.subjects), torch.softmax(terms, 0)
            told = [own.mask for own in block.blocks]
            with torch.no_grad():
                ready = self.model.at(self._ready, b, rows, told)
                for o, own in enumerate(rows.blocks):
                    value = self.model.outcomes[o].mu1(ready, own.rows)
                    value = value + self.model.mu2(ready, b, own.rows, outcome=o, seen=told[o])
                    if scale == "response":
                        extra = self.model.extra(ready, own.rows, b, o)
                        value = self.model.outcomes[o].family.mean(value, extra)
                    here = torch.stack(weighted_moments(value, weight))
                    found[o][:, own.index[own.mask]] = here[:, own.mask]
        return [Predictive(mean, variance) for mean, variance in found]

    def one_step(self, target: Panel, scale: str) -> Predictive:
        return self.likelihood.one_step(self.theta, self.likelihood.kept, scale)

    def states(self, filtered: bool = False) -> Predictive:
        likelihood, panel = self.likelihood, self.likelihood.kept
        proposal, draws = likelihood.learnt(), likelihood.integration.draws
        generator = likelihood.stream(101)
        found = list[tuple[Tensor, Tensor, Tensor]]()
        with torch.no_grad():
            for block, b, terms in self._nodes():
                if filtered:
                    own = proposal.filtered(self.model, self._ready, block, draws, generator)
                else:
                    own = proposal.smoothed(self.model, self._ready, block, b, terms)
                rows = replace(panel, masked=False).block(block.subjects)
                mean, variance = (one[rows.mask] for one in own)
                found.append((rows.index[rows.mask], mean, variance))
        at, mean, variance = (torch.cat(list(some)) for some in zip(*found, strict=True))
        order = torch.argsort(at)
        return Predictive(mean[order].T, variance[order].T)

    def effects(self) -> Effects:
        if self.model.k > MOST_EFFECTS:
            raise ValueError(
                f"b of a subject has {self.model.k} elements, white noise of every step: "
                "read states()"
            )
        return super().effects()
