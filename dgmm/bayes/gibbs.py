"""Gibbs sampling for Gaussian outcomes: every conditional is drawn exactly, from cross-products.

One sweep: per factor the effects and, for each of them, a scale move; coefficients; covariances;
the residual variance. It costs as much as there are cells of levels, whatever the number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dgmm.bayes.conditionals.coefficients import draw_coefficients
from dgmm.bayes.conditionals.covariance import draw_covariance
from dgmm.bayes.conditionals.effects import draw_effects
from dgmm.bayes.conditionals.residual import draw_residual
from dgmm.bayes.conditionals.scale import propose_scale, scaled
from dgmm.bayes.products import Products, products_of
from dgmm.bayes.sampler import Move, Pooled, Sampler, State, inverse
from dgmm.mcmc import Streams

__all__ = ["Gibbs"]


@dataclass(frozen=True, eq=False)
class Gibbs(Sampler):
    """The sampler of a Gaussian outcome with identity link."""

    @cached_property
    def products(self) -> Products:
        """Cross-products of the observed rows, about the pooled fit."""
        return products_of(self.layout, self.panel, self.left)

    @cached_property
    def pooled(self) -> Pooled:
        found = self.products
        variance = max(float(found.yy.mean()) / max(found.N - self.layout.p, 1), 1e-300)
        z = self.rows.z * np.sqrt(self.seen.rows.data.weights.numpy())[:, None]
        error = np.sqrt(variance * np.diag(np.linalg.pinv(z.T @ z)))
        return Pooled(found.origin, error, variance, np.array([0.5 * np.log(variance)]))

    @cached_property
    def _moves(self) -> tuple[tuple[Move, ...], ...]:
        return self.moves([own.G for own in self.products.factors])

    def own(self, state: State) -> tuple[np.ndarray, ...]:
        return tuple(one.G / np.exp(2 * state.extra[0]).mean() for one in self.products.factors)

    def sweep(self, state: State, streams: Streams, gain: float) -> None:
        precision = [inverse(D) for D in state.D]
        sigma2 = np.exp(2 * state.extra[0])
        for f in range(len(self.layout.factors)):
            self._effects(f, state, precision, sigma2, streams)
        others = self._coefficients(state, precision, sigma2, streams)
        for other in self._elsewhere:
            other.recentred(state, self)
            other._coefficients(state, precision, sigma2, streams)
            self.recentred(state, other)
            others = self._of_effects(state)
        products = self.products
        for f in range(len(self.layout.factors)):
            state.D[f] = draw_covariance(
                precision[f], self.gamma(state, f), self.prior.blocks[f], streams
            )
        squares = self._squares_left(state, others)
        sigma2 = draw_residual(sigma2, squares, products.N, self.prior.sigma2, streams)
        state.extra = 0.5 * np.log(sigma2)[None]
        state.sweeps += 1

    def _coefficients(
        self, state: State, precision: list[np.ndarray], sigma2: np.ndarray, streams: Streams
    ) -> np.ndarray:
        """beta given the effects with what is centred in them; R'T u, (p, C)."""
        products, others = self.products, self._of_effects(state)
        P, shift = self.of_means(state, precision)
        if products.RR.any():
            P = P + products.RR[:, :, None] / sigma2
            shift = shift + (products.Ry - others) / sigma2
        if self.layout.p:
            state.beta = draw_coefficients(P, shift, streams)
        return others

    @cached_property
    def _elsewhere(self) -> tuple[Gibbs, ...]:
        """With several factors the means of their effects move against each other."""
        return self.elsewhere(self.centring.inside >= 0) if len(self.layout.factors) > 1 else ()

    # -- pieces --------------------------------------------------------------------------------

    def _effects(
        self,
        f: int,
        state: State,
        precision: list[np.ndarray],
        sigma2: np.ndarray,
        streams: Streams,
    ) -> None:
        """The effects of a factor, then each direction of them together with its variance."""
        own = self.products.factors[f]
        rest = own.h - np.tensordot(own.H, state.beta, axes=([1], [0])).swapaxes(1, 2)
        rest = rest - self._of_others(f, state)
        mean = self.mean(state, f)
        u = draw_effects(own.G, rest, mean, precision[f], sigma2, streams)
        left = rest - np.einsum("abm,bcm->acm", own.G, u)
        for move in self._moves[f]:
            columns, way = move.columns, move.way
            k = columns[way.k]
            gamma = u[k] if mean is None else u[k] - mean[k]
            along = np.einsum("abm,b->am", own.G[:, columns], way.v)
            s1 = (gamma * np.tensordot(way.v, left[columns], axes=1)).sum(1)
            s2 = np.square(gamma) @ np.tensordot(way.v, along[columns], axes=1)
            block = precision[f][move.at]
            c = propose_scale(s1, s2, sigma2, block, way, move.prior, streams)
            step = (c - 1)[:, None] * gamma
            u[columns] += way.v[:, None, None] * step
            left -= along[:, None] * step
            precision[f][move.at] = scaled(block, way, c)
        state.u[f] = u

    def _of_others(self, f: int, state: State) -> np.ndarray | float:
        """T_fj' sum_g T_g u_g over the other factors g, (K, C, m)."""
        own, total = self.products.factors[f], None
        for g, u in enumerate(state.u):
            if g != f:
                by_cell = np.einsum("abn,bcn->acn", own.across[g], u[:, :, own.levels[g]])
                total = by_cell if total is None else total + by_cell
        return 0.0 if total is None else own.sum_cells(total)

    def _of_effects(self, state: State) -> np.ndarray:
        """R'T u over all factors, (p, C)."""
        total = np.zeros_like(state.beta)
        for own, u in zip(self.products.factors, state.u, strict=True):
            K, p, m = own.H.shape
            flat = u.swapaxes(1, 2).reshape(K * m, -1)
            total += own.H.swapaxes(0, 1).reshape(p, K * m) @ flat
        return total

    def _squares_left(self, state: State, others: np.ndarray) -> np.ndarray:
        """SSR (C,): |y - R beta - T u|^2."""
        products, beta = self.products, state.beta
        total = products.yy - 2 * (products.Ry * beta).sum(0)
        total = total + np.einsum("pc,pr,rc->c", beta, products.RR, beta)
        total = total + 2 * np.einsum("pc,pc->c", beta, others)
        for f, (own, u) in enumerate(zip(products.factors, state.u, strict=True)):
            total = total - 2 * (own.h * u).sum((0, 2))
            total = total + np.einsum("abm,acm,bcm->c", own.G, u, u)
            for g in range(f):
                v = u[:, :, own.levels[f]]
                w = state.u[g][:, :, own.levels[g]]
                total = total + 2 * np.einsum("abn,acn,bcn->c", own.across[g], v, w, optimize=True)
        return np.maximum(total, 0.0)
