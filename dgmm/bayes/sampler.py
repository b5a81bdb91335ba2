"""What a sampler of mixed models is: a state of several chains, and a sweep that moves it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, NamedTuple, Self

import numpy as np
import torch

from dgmm.bayes.centring import EXACT, Centring, possible
from dgmm.bayes.conditionals.coefficients import of_effects
from dgmm.bayes.conditionals.scale import Direction, directions
from dgmm.bayes.layout import Layout, Rows
from dgmm.bayes.priors import CovariancePrior
from dgmm.bayes.specified import Specified
from dgmm.mcmc import Streams
from dgmm.numerics.cholesky import cholesky, solve
from dgmm.panel import Panel

__all__ = ["Move", "Pooled", "Sampler", "State", "inverse"]

MODEST = 0.5
"""Standard deviation of an effect where chains begin, in units of the residual one."""

APART = 1.0
"""Standard deviation of the logarithm of a variance between chains that begin."""


@dataclass
class State:
    """Where C chains are; a sweep changes it in place.

    beta: (p, C) on the scaled columns, less those of the pooled fit. u: (K, C, m) per factor, the
    effects with what is centred in them. D: (K, K, C) per factor. extra: (R, C), further parameters
    of the family (log sigma of a Gaussian outcome). scales: log lengths of Metropolis steps;
    accepted: their shares of acceptance summed over ``sweeps`` sweeps.
    """

    beta: np.ndarray
    u: list[np.ndarray]
    D: list[np.ndarray]
    extra: np.ndarray
    scales: dict[str, np.ndarray] = field(default_factory=dict)
    accepted: dict[str, np.ndarray] = field(default_factory=dict)
    sweeps: int = 0

    @property
    def chains(self) -> int:
        """C."""
        return self.beta.shape[1]


@dataclass(frozen=True)
class Pooled:
    """The fit without random effects, near which chains begin."""

    beta: np.ndarray  # (p,) on the scaled columns
    error: np.ndarray  # (p,) standard errors
    variance: float  # of the residual on the scale of the predictor
    extra: np.ndarray  # (R,)


class Move(NamedTuple):
    """A direction along which the effects of a block and their covariance move together."""

    name: str
    columns: list[int]  # the block
    at: tuple[np.ndarray, ...]  # its entries of D
    prior: CovariancePrior
    way: Direction


@dataclass(frozen=True, eq=False)
class Sampler(ABC):
    """A sampler of one model: its columns, its priors, and what stands in the mean of effects."""

    layout: Layout
    panel: Panel  # planned rows
    prior: Specified
    centring: Centring

    # -- the chain -----------------------------------------------------------------------------

    @abstractmethod
    def sweep(self, state: State, streams: Streams, gain: float) -> None:
        """Every conditional once; ``gain`` of the adaptation of step lengths, 0 after warm-up."""

    @property
    @abstractmethod
    def pooled(self) -> Pooled:
        """The fit without random effects."""

    @abstractmethod
    def own(self, state: State) -> tuple[np.ndarray, ...]:
        """What the outcomes of a level say of its effects, T_j'W T_j per factor, (K, K, m)."""

    def start(self, streams: Streams) -> State:
        """Where chains begin: about the pooled fit, variances over a wide range."""
        pooled = self.pooled
        beta = pooled.error[:, None] * streams.normal(self.layout.p).T
        D, u = [], []
        for f, factor in enumerate(self.layout.factors):
            size = np.sqrt(np.square(self.rows.t[f]).mean(0))
            sd = MODEST * np.sqrt(pooled.variance) / np.where(size > 0, size, 1.0)
            variance = np.square(sd)[:, None] * np.exp(APART * streams.normal(factor.K).T)
            D.append(np.eye(factor.K)[:, :, None] * variance[:, None])
            u.append(np.einsum("kpm,pc->kcm", self.centring.E[f], beta))
        extra = pooled.extra[:, None] + 0.1 * streams.normal(len(pooled.extra)).T
        return State(beta, u, D, extra)

    # -- moves of a scale ----------------------------------------------------------------------

    def moves(self, information: Sequence[np.ndarray]) -> tuple[tuple[Move, ...], ...]:
        """Those of every factor, from what the outcomes say of its effects, (K, K, m)."""
        found = []
        for f, (own, blocks) in enumerate(zip(information, self.prior.blocks, strict=True)):
            total = own.sum(-1)
            found.append(
                tuple(
                    Move(f"scale {f + 1}.{block[way.k] + 1}", list(block), at, prior, way)
                    for block, prior in blocks
                    if not prior.fixed
                    for at in (np.ix_(block, block),)
                    for way in directions(total[at])
                )
            )
        return tuple(found)

    # -- other centrings -----------------------------------------------------------------------

    shared: ClassVar[tuple[str, ...]] = ("pooled",)  # what all centrings have in common

    def elsewhere(self, movable: np.ndarray) -> tuple[Self, ...]:
        """The sampler with its movable columns (p,) centred in each factor that can hold them.

        A draw under every centring moves each sum of a coefficient and the effects beside it.
        """
        found = possible(self.layout, self.panel)
        first, samplers = self.centring.inside, list[Self]()
        for f, own in enumerate(found):
            can = ~np.isnan(own).any((0, 2)) & movable
            inside = np.where(can, f, first)
            if (inside == first).all():
                continue
            E = tuple(
                np.where((inside == g)[None, :, None], np.nan_to_num(one), 0.0)
                for g, one in enumerate(found)
            )
            other = replace(self, centring=Centring(E, inside))
            other.__dict__.update({name: getattr(self, name) for name in self.shared})
            samplers.append(other)
        return tuple(samplers)

    def recentred(self, state: State, before: Sampler) -> None:
        """The same point, that of a sampler with other columns in the effects, with its own."""
        for f in range(len(state.u)):
            gamma, mean = before.gamma(state, f), self.mean(state, f)
            state.u[f] = gamma if mean is None else gamma + mean

    # -- what is read off it -------------------------------------------------------------------

    def gamma(self, state: State, f: int) -> np.ndarray:
        """The effects without what is centred in them, (K, C, m)."""
        mean = self.mean(state, f)
        return state.u[f] if mean is None else state.u[f] - mean

    def mean(self, state: State, f: int) -> np.ndarray | None:
        """E_fj beta (K, C, m), None where nothing is centred."""
        if not (self.centring.inside == f).any():
            return None
        E = self.centring.E[f]
        found: np.ndarray = np.tensordot(E, state.beta, axes=([1], [0])).swapaxes(1, 2)
        return found

    def coefficients(self, state: State) -> np.ndarray:
        """beta on the scaled columns, (p, C)."""
        found: np.ndarray = state.beta + self.pooled.beta[:, None]
        return found

    def missing(self, state: State, seeds: np.ndarray) -> np.ndarray:
        """y | beta, gamma of the planned rows without an outcome, (N_mis, C).

        Nothing is drawn given them: they are integrated out of all other conditionals.

        seeds: a number in (0, 1) for every chain.
        """
        panel, family = self._gap, self.layout.model.family
        rows, beta = self.layout.rows(panel), self.coefficients(state)
        eta = rows.offset[:, None] + rows.z @ beta
        for f, (t, level) in enumerate(zip(rows.t, rows.level, strict=True)):
            eta += np.einsum("nk,kcn->nc", t, self.gamma(state, f)[:, :, level])
        drawn = np.empty_like(eta)
        for c, uniform in enumerate(seeds):
            generator = torch.Generator().manual_seed(int(uniform * 2**52))
            one, extra = (torch.from_numpy(v[:, c].copy()) for v in (eta, state.extra))
            drawn[:, c] = family.simulate(one, panel.rows.data, extra, generator).numpy()
        return drawn

    # -- shared pieces -------------------------------------------------------------------------

    @cached_property
    def seen(self) -> Panel:
        """The rows with an outcome."""
        return self.panel.observed_rows()

    @cached_property
    def rows(self) -> Rows:
        """They as arrays."""
        return self.layout.rows(self.seen)

    @cached_property
    def left(self) -> np.ndarray:
        """What of the columns of the observed rows is outside of the effects, (N, p)."""
        rows, found = self.rows, self.rows.z.copy()
        for t, level, E in zip(rows.t, rows.level, self.centring.E, strict=True):
            found -= np.einsum("ik,ikp->ip", t, np.moveaxis(E, -1, 0)[level])
        rounding = np.sqrt(np.square(found).mean(0)) < EXACT
        return np.where(rounding & (self.centring.inside >= 0), 0.0, found)

    @cached_property
    def _gap(self) -> Panel:
        panel = self.panel.keep(~self.panel.observed)
        data = panel.rows.data
        nothing = data._replace(y=torch.zeros_like(data.y))
        return panel.with_data(nothing)

    @cached_property
    def prior_precision(self) -> np.ndarray:
        """That of the coefficients on the scaled columns, (p, p)."""
        size = self.layout.size
        found: np.ndarray = self.prior.precision / size / size[:, None]
        return found

    @cached_property
    def prior_shift(self) -> np.ndarray:
        """Precision times mean of beta less that of the pooled fit, (p,)."""
        mean = self.prior.mean * self.layout.size - self.pooled.beta
        found: np.ndarray = self.prior_precision @ mean
        return found

    @cached_property
    def _squares(self) -> tuple[np.ndarray, ...]:
        """sum_j E_j[a, l] E_j[b, r] per factor, (K, p, K, p)."""
        return tuple(np.einsum("alm,brm->albr", E, E) for E in self.centring.E)

    def of_means(self, state: State, precision: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """What prior and effects say of beta: precision (p, p, C), precision times mean (p, C)."""
        P = np.repeat(self.prior_precision[:, :, None], state.chains, axis=2)
        shift = np.repeat(self.prior_shift[:, None], state.chains, axis=1)
        for f, E in enumerate(self.centring.E):
            if (self.centring.inside == f).any():
                inner, right = of_effects(E, self._squares[f], state.u[f], precision[f])
                P, shift = P + inner, shift + right
        return P, shift


def inverse(D: np.ndarray) -> np.ndarray:
    """D^-1 of every chain, (K, K, C)."""
    return solve(cholesky(D), np.broadcast_to(np.eye(len(D))[:, :, None], D.shape))
