"""Importance sampling from an encoder: log p(y) and p(b | y) of subjects without a search.

    g(b) = 13/16 q(b | y) + 1/8 N(b; 0, I) + 1/16 N(b; a, 4 R R'),
    w_m = p(y, b_m) / g(b_m),   b_m ~ g,        log p(y) ~ log 1/M sum_m w_m

The prior takes one draw of eight: a mode that q has missed has draws then, and no weight is larger
than 8 max p(y | b). A density twice as wide as R keeps the tails of q from harm. The effective
number of draws and the shape k of the tail of the weights
(:mod:`dgmm.numerics.pareto`) say of every subject how good q is. Where k > 0.7, of four times as
many draws too, they are replaced by draws around the moments of p(b | y) that
:mod:`dgmm.posterior.proposal` finds, and a quarter as many from the prior.

Whatever q is, weights make it right: it decides how many draws are worth something, and no value.

References:
    Owen and Zhou (2000), J. American Statistical Association 95, 135-143; Vehtari, Simpson, Gelman,
    Yao and Gabry (2024), J. Machine Learning Research 25(72).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.encoders import Encoder, Mixed, MixedPosterior
from dgmm.likelihood import Each, Likelihood
from dgmm.likelihood.numerical import Sampled
from dgmm.likelihood.posterior import OverNodes
from dgmm.model import Model
from dgmm.model.density import log_prior
from dgmm.networks import Weights
from dgmm.numerics.pareto import UNRELIABLE, tail_shape
from dgmm.numerics.quadrature import keyed_uniforms, log_t, sobol_t
from dgmm.panel import Block, Panel
from dgmm.parameters import Theta
from dgmm.posterior.proposal import FREEDOM, find_places
from dgmm.runtime.devices import to

__all__ = ["DRAWS", "ByEncoder", "Drawn", "EncoderPosterior"]

DRAWS, MORE = 128, 4
"""Per subject, and how many times as many where k > 0.7: k of few draws is uncertain."""

PRIOR, WIDE, WIDER = 1 / 8, 1 / 16, 2.0
"""Shares of the draws from the prior and from the wide component, and how much wider that is."""

FEWER = 4
"""Refined draws for each of the prior among them: modes that a search misses have draws too."""

ROUNDING = 0.01
"""Nats by which single precision may be off at the centre; it is corrected by as much."""

FEW = 4_000
"""Draws of all subjects of a block below which double precision is as fast."""

CELLS = 5_000
"""Rows of the subjects worked through at once."""


class Drawn(NamedTuple):
    """Weighted draws of p(b | y) of the subjects of a block."""

    block: Block
    b: Tensor  # (M, n, k)
    log_weight: Tensor  # (M, n) log p(y, b) - log g(b) - log M
    shape: Tensor  # (n,) k of the tail of the weights that q gave
    refined: Tensor  # (n,) bool: the draws are not those of q

    def at(self, which: Tensor) -> Drawn:
        """Those of some of the subjects, ``which`` (n,) bool."""
        return Drawn(
            self.block.some(which),
            self.b[:, which],
            self.log_weight[:, which],
            self.shape[which],
            self.refined[which],
        )

    @property
    def effective(self) -> Tensor:
        """Effective number of draws, (n,)."""
        return 1 / torch.softmax(self.log_weight, 0).square().sum(0)


@dataclass(frozen=True, eq=False)
class EncoderPosterior(OverNodes):
    """b given the outcomes seen, by weighted draws of an encoder."""

    own: Model
    theta: Theta
    history: Panel  # observed rows
    encoder: Mixed | Encoder | None  # None: draws around the moments for every subject
    phi: Weights
    seed: int
    size: int = DRAWS

    @property
    def model(self) -> Model:
        return self.own

    @property
    def subjects(self) -> int:
        return self.history.n

    def _nodes(self) -> Iterator[tuple[Block, Tensor, Tensor]]:
        for block, b, log_weight, *_ in self.drawn():
            yield block, b, log_weight

    def log_weights(self) -> list[Tensor]:
        return [one.log_weight for one in self.drawn()]

    def drawn(self) -> Iterator[Drawn]:
        """The draws, some subjects at a time; not all subjects have the same number.

        Those with k > 0.7 come last.
        """
        ready, phi = self._ready, self._single()
        keys, left = torch.tensor(self.history.keys), torch.arange(self.history.n)
        shape = torch.zeros(self.history.n, dtype=torch.float64)
        for times in (1, MORE) if self.encoder is not None else ():
            bad = list[Tensor]()
            for at in self._parts(left, times):
                block = self.history.block(at)
                with torch.no_grad():
                    found = self._weighted(block, keys[at], ready, phi, times * self.size)
                shape[at] = found.shape
                poor = found.shape > UNRELIABLE
                if bool(poor.any()):
                    bad.append(at[poor])
                    found = found.at(~poor)
                if len(found.shape):
                    yield found
            if not bad:
                return
            left = torch.cat(bad)
        for at in self._parts(left, MORE):
            with torch.no_grad():
                found = self._refined(self.history.block(at), keys[at], ready, MORE * self.size)
            yield found if self.encoder is None else found._replace(shape=shape[at])

    def _single(self) -> Weights:
        """The network of the mixture works in single precision, all densities in double."""
        if not isinstance(self.encoder, Mixed):
            return self.phi
        return {n: w if n.startswith("base.") else w.float() for n, w in self.phi.items()}

    def _parts(self, subjects: Tensor, times: int) -> Iterator[Tensor]:
        """Some subjects at a time, those with alike numbers of outcomes together."""
        count = self.history.count[subjects]
        order = torch.argsort(count, stable=True)
        longest = int(count.max()) if len(count) else 1
        return iter(subjects[order].split(max(1, CELLS // (times * max(longest, 1)))))

    def _weighted(self, block: Block, keys: Tensor, ready: Theta, phi: Weights, size: int) -> Drawn:
        """Draws of q, of the prior and of the wide component."""
        assert self.encoder is not None
        q = self.encoder.posterior(phi, self.own, ready, block)
        q = q if isinstance(q, MixedPosterior) else MixedPosterior.normal(q)
        u = keyed_uniforms(keys.tolist(), 1 + self.own.k, size, self.seed)
        b, log_q = q.defended(PRIOR, WIDE, WIDER).drawn(u)
        height = self._heights(block, b, q.centre, ready)
        weight = height - log_q.double() - math.log(size)
        weight = torch.nan_to_num(weight, nan=-torch.inf)
        shape = tail_shape(weight.float()).double()
        return Drawn(block, b, weight, shape, torch.zeros(len(keys), dtype=torch.bool))

    @cached_property
    def _light(self) -> tuple[Model, Theta]:
        """The model in single precision."""
        return to((self.own, self._ready), "cpu", torch.float32)

    def _heights(self, block: Block, b: Tensor, centre: Tensor, ready: Theta) -> Tensor:
        """log p(y, b), (M, n), in single precision where its rounding does no harm.

        Differences from the centre are what draws need; the value there is that of both.
        """
        if b.shape[0] * b.shape[1] < FEW:
            return self.own.log_joint(ready, b, block)
        model, known = self._light
        light = to(block, "cpu", torch.float32)
        exact = self.own.log_joint(ready, centre, block)
        rounding = exact - model.log_joint(known, centre.float(), light).double()
        if not bool((rounding.abs() < ROUNDING).all()):
            return self.own.log_joint(ready, b, block)
        return model.log_joint(known, b.float(), light).double() + rounding

    def _refined(self, block: Block, keys: Tensor, ready: Theta, size: int) -> Drawn:
        """Draws around the moments of p(b | y), and a quarter as many from the prior."""
        k, prior = self.own.k, size // FEWER
        every = size + prior
        placed = find_places(self.own, self.theta, block).placed
        rng = np.random.default_rng([self.seed, 103])
        e = sobol_t(len(keys), k, size, rng, FREEDOM, keys.tolist()).e
        near = placed.mode + torch.einsum("nab,mnb->mna", placed.root, e)
        u = keyed_uniforms(keys.tolist(), k, prior, self.seed + 1)
        b = torch.cat([near, torch.special.ndtri(u)])
        gap = (b - placed.mode).permute(1, 2, 0)
        e = torch.linalg.solve_triangular(placed.root, gap, upper=True).permute(2, 0, 1)
        log_near = log_t(e, FREEDOM) - placed.log_det_root + math.log(size / every)
        log_g = torch.logaddexp(log_near, log_prior(b) + math.log(prior / every))
        weight = self.own.log_joint(ready, b, block) - log_g - math.log(every)
        weight = torch.nan_to_num(weight, nan=-torch.inf)
        return Drawn(block, b, weight, tail_shape(weight), torch.ones(len(keys), dtype=torch.bool))


@dataclass(frozen=True, eq=False)
class ByEncoder(Sampled):
    """The likelihood of a model with the encoder that comes with its fit."""

    encoder: Mixed | Encoder | None = None
    phi: Weights | None = None

    @classmethod
    def of_fit(cls, likelihood: Likelihood, encoder: Mixed | Encoder, phi: Weights) -> ByEncoder:
        """The likelihood of the same model and rows."""
        return cls(
            likelihood.model, likelihood.panel, likelihood.integration, encoder=encoder, phi=phi
        )

    def each(self, theta: Theta) -> Each:
        value, error = torch.zeros(2, self.kept.n, dtype=torch.float64)
        for one in self.posterior(theta).drawn():
            at, M = one.block.subjects, len(one.b)
            value[at] = torch.logsumexp(one.log_weight, 0)
            error[at] = (1 / one.effective - 1 / M).clamp(min=0).sqrt()
        return Each(value, error, float(error.square().sum().sqrt()))

    def posterior(self, theta: Theta) -> EncoderPosterior:
        theta = {name: value.detach() for name, value in theta.items()}
        seed, phi = self.integration.seed, self.phi or {}
        return EncoderPosterior(self.model, theta, self.kept, self.encoder, phi, seed)
