"""Metropolis-within-Gibbs: any family with a log-density, exact draws wherever they exist.

One sweep: per factor Metropolis steps for the effects of every level, all at once, and for each
effect one along which its variance moves too; coefficients, in the mean of each factor's effects
exactly, and all of them, with gamma held and together with the further parameters of the family,
by a Langevin step, those that are centred by their means by another with u held; thresholds
together with the effects, and covariances, exactly. Steps have the shape of the curvature at the
pooled fit: D^-1 + T_j'W_j T_j of the effects, with W the expected information about the predictor,
and minus the Hessian of the coefficients. A sweep costs as much as there are rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import optimize, sparse

from dgmm.bayes.conditionals.coefficients import draw_coefficients
from dgmm.bayes.conditionals.covariance import draw_covariance
from dgmm.bayes.conditionals.location import draw_location
from dgmm.bayes.conditionals.scale import log_ratio_of_scale, scaled
from dgmm.bayes.conditionals.walks import LANGEVIN, Langevin, LangevinOfEach, aim, decide, tuned
from dgmm.bayes.sampler import Move, Pooled, Sampler, State, inverse
from dgmm.mcmc import Streams
from dgmm.numerics.cholesky import backward, cholesky
from dgmm.numerics.walled import Walled

__all__ = ["Metropolis"]

INNER = 3
"""Steps of the effects in a sweep: one costs little beside the rest and moves them half as far."""


@dataclass(frozen=True, eq=False)
class Metropolis(Sampler):
    """The sampler of every family that is not conjugate."""

    # -- the pooled fit ------------------------------------------------------------------------

    @cached_property
    def pooled(self) -> Pooled:
        """The posterior mode without random effects."""
        p, size = self.layout.p, self.layout.size
        precision, mean = self.prior_precision, self.prior.mean * size

        def negative(vector: np.ndarray) -> tuple[float, np.ndarray]:
            beta, extra = vector[:p], vector[p:]
            total, of_eta, of_extra = self._total(self._pooled_eta(beta), extra)
            gap, apart = beta - mean, (extra - self.prior.extra_mean) / self.prior.extra_sd
            value = -total + 0.5 * gap @ precision @ gap + 0.5 * apart @ apart
            slope = np.append(
                precision @ gap - self.rows.z.T @ of_eta, apart / self.prior.extra_sd - of_extra
            )
            return value, slope

        start = np.append(mean, self.prior.extra_mean)
        found = optimize.minimize(Walled(negative), start, jac=True, method="L-BFGS-B").x
        beta, extra = found[:p], found[p:]
        eta = torch.from_numpy(self._pooled_eta(beta))
        family, data = self.layout.model.family, self.seen.rows.data
        weight = family.information(data, eta, torch.from_numpy(extra)).expand_as(eta).numpy()
        P = (self.rows.z * weight[:, None]).T @ self.rows.z + precision
        error = np.sqrt(np.diag(np.linalg.inv(P)))
        return Pooled(beta, error, float(1 / max(weight.mean(), 1e-8)), extra)

    def _pooled_eta(self, beta: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.rows.offset + self.rows.z @ beta
        return found

    def _total(self, eta: np.ndarray, extra: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """sum log p(y_i | eta_i) with its slopes in eta (N,) and extra (R,)."""
        family, data = self.layout.model.family, self.seen.rows.data
        at = torch.from_numpy(eta.copy()).requires_grad_()
        of_family = torch.from_numpy(extra.copy()).requires_grad_()
        total = family.log_density(data, at, of_family).sum()
        found = torch.autograd.grad(total, (at, of_family), allow_unused=True)
        slopes = [np.zeros_like(extra) if one is None else one.numpy() for one in found]
        return float(total.detach()), slopes[0], slopes[1]

    @cached_property
    def _weight(self) -> np.ndarray:
        """W at the pooled fit, (N,)."""
        eta = torch.from_numpy(self._pooled_eta(self.pooled.beta))
        extra = torch.from_numpy(self.pooled.extra)
        found = self.layout.model.family.information(self.seen.rows.data, eta, extra)
        return found.expand_as(eta).numpy()

    @cached_property
    def _curvature(self) -> tuple[np.ndarray, ...]:
        """T_j'W_j T_j of every factor, (K, K, m)."""
        return tuple(
            np.moveaxis(self._by_level[f] @ _products(t, self._weight), 0, -1).reshape(
                t.shape[1], t.shape[1], -1
            )
            for f, t in enumerate(self.rows.t)
        )

    @cached_property
    def _moves(self) -> tuple[tuple[Move, ...], ...]:
        return self.moves(self._curvature)

    @cached_property
    def _by_level(self) -> tuple[sparse.csr_array, ...]:
        """Sums over the rows of every level, (m, N) per factor."""
        rows = np.arange(len(self.rows.offset))
        pairs = zip(self.layout.factors, self.rows.level, strict=True)
        return tuple(
            sparse.csr_array((np.ones(len(rows)), (level, rows)), shape=(factor.m, len(rows)))
            for factor, level in pairs
        )

    def own(self, state: State) -> tuple[np.ndarray, ...]:
        return self._curvature

    # -- the sweep -----------------------------------------------------------------------------

    def sweep(self, state: State, streams: Streams, gain: float) -> None:
        precision = [inverse(D) for D in state.D]
        eta = self.predictor(state)
        height = self.heights(eta, state.extra)
        for f in range(len(self.layout.factors)):
            for _ in range(INNER):
                eta, height = self._effects(f, state, precision[f], eta, height, streams, gain)
            for move in self._moves[f]:
                eta, height = self._scale(f, move, state, precision[f], eta, height, streams, gain)
        eta, height = self._coefficients(state, precision, eta, height, streams, gain)
        eta, height = self._deviations(state, precision, eta, height, streams, gain)
        eta = self._location(state, precision, eta, streams)
        for f in range(len(self.layout.factors)):
            state.D[f] = draw_covariance(
                precision[f], self.gamma(state, f), self.prior.blocks[f], streams
            )
        state.sweeps += 1

    def predictor(self, state: State) -> np.ndarray:
        """eta of the observed rows, (N, C)."""
        eta = (self.rows.offset + self.rows.z @ self.pooled.beta)[:, None]
        eta = eta + self.left @ state.beta
        for t, level, u in zip(self.rows.t, self.rows.level, state.u, strict=True):
            eta += _added(t, level, u)
        return eta

    def heights(self, eta: np.ndarray, extra: np.ndarray) -> np.ndarray:
        """log p(y_i | eta_i), (N, C)."""
        family, data = self.layout.model.family, self.seen.rows.data
        wide = torch.from_numpy(np.ascontiguousarray(eta.T))
        of_family = torch.from_numpy(np.ascontiguousarray(extra))[:, :, None]
        return family.log_density(data, wide, of_family).numpy().T

    def _effects(
        self,
        f: int,
        state: State,
        precision: np.ndarray,
        eta: np.ndarray,
        height: np.ndarray,
        streams: Streams,
        gain: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """One step of every level of a factor."""
        u, t, level = state.u[f], self.rows.t[f], self.rows.level[f]
        K, C, m = u.shape
        name = f"effects {f + 1}"
        scale = state.scales.setdefault(name, np.full((C, m), np.log(2.4 / np.sqrt(K))))
        L = cholesky(precision[:, :, :, None] + self._curvature[f][:, :, None, :])
        noise = streams.normal(K, m).swapaxes(0, 1)
        step = np.exp(scale) * backward(L, noise[:, None])[:, 0]
        mean = self.mean(state, f)
        gap = u if mean is None else u - mean
        moved = eta + _added(t, level, step)
        new = self.heights(moved, state.extra)
        ratio = (self._by_level[f] @ (new - height)).T  # (C, m)
        ratio = ratio - np.einsum("abc,acm,bcm->cm", precision, step, gap + 0.5 * step)
        taken = decide(ratio, streams.uniform(m))
        state.u[f] = u + np.where(taken, step, 0.0)
        state.scales[name] = tuned(scale, ratio, gain, aim(K))
        _count(state, name, taken.mean(1) / INNER, gain)
        at = taken.T[level]
        return np.where(at, moved, eta), np.where(at, new, height)

    def _scale(
        self,
        f: int,
        move: Move,
        state: State,
        precision: np.ndarray,
        eta: np.ndarray,
        height: np.ndarray,
        streams: Streams,
        gain: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """One step of log c, along which effects and their covariance move together."""
        columns, way, block = move.columns, move.way, precision[move.at]
        scale = state.scales.setdefault(move.name, np.full(state.chains, np.log(0.3)))
        c = np.exp(np.exp(scale) * streams.normal(1)[:, 0])
        step = (c - 1)[:, None] * self.gamma(state, f)[columns[way.k]]
        along = self.rows.t[f][:, columns] @ way.v
        moved = eta + along[:, None] * step.T[self.rows.level[f]]
        new = self.heights(moved, state.extra)
        ratio = (new - height).sum(0) + np.log(c)
        ratio = ratio + log_ratio_of_scale(block, way, c, move.prior)
        taken = decide(ratio, streams.uniform(1)[:, 0])
        step = np.where(taken[:, None], step, 0.0)
        state.u[f][columns] += way.v[:, None, None] * step
        precision[move.at] = scaled(block, way, np.where(taken, c, 1.0))
        state.scales[move.name] = tuned(scale, ratio, gain, aim(1))
        _count(state, move.name, taken, gain)
        return np.where(taken, moved, eta), np.where(taken, new, height)

    def _location(
        self, state: State, precision: list[np.ndarray], eta: np.ndarray, streams: Streams
    ) -> np.ndarray:
        """Thresholds of the family together with the effects of one in every factor."""
        r = self.layout.model.family.location
        for f, t in enumerate(self.rows.t if r is not None else ()):
            for k in np.flatnonzero((t == 1).all(0)):
                gap = state.extra[r] - self.prior.extra_mean[r]
                sd = float(self.prior.extra_sd[r])
                d = draw_location(self.gamma(state, f), precision[f], int(k), gap, sd, streams)
                state.extra[r] += d
                state.u[f][k] += d[:, None]
                eta = eta + d
        return eta

    def _coefficients(
        self,
        state: State,
        precision: list[np.ndarray],
        eta: np.ndarray,
        height: np.ndarray,
        streams: Streams,
        gain: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients in the mean of effects exactly, then all given gamma by a step."""
        self._means(state, precision, streams)
        for other in self._elsewhere:
            other.recentred(state, self)
            other._means(state, precision, streams)
            self.recentred(state, other)
        p = self.layout.p
        size = p + len(state.extra)
        if not size:
            return eta, height
        name = "coefficients"
        scale = state.scales.setdefault(name, np.zeros(state.chains))
        noise = streams.normal(size).T
        slope = self._gradient(state.beta, eta, state.extra)
        both = self._langevin.step(scale, slope, noise)
        step, of_family = both[:p], both[p:]
        moved, extra = eta + self.rows.z @ step, state.extra + of_family
        new = self.heights(moved, extra)
        after = self._gradient(state.beta + step, moved, extra)
        ratio = (new - height).sum(0) + self._langevin.back(scale, slope, after, noise)
        middle = self._of_prior(state.beta + 0.5 * step, state.extra + 0.5 * of_family)
        ratio = ratio + (both * middle).sum(0)
        taken = decide(ratio, streams.uniform(1)[:, 0])
        step = np.where(taken, step, 0.0)
        state.beta = state.beta + step
        state.extra = np.where(taken, extra, state.extra)
        for f, E in enumerate(self.centring.E):
            if (self.centring.inside == f).any():  # gamma stays where it is
                state.u[f] = state.u[f] + np.tensordot(E, step, axes=([1], [0])).swapaxes(1, 2)
        state.scales[name] = tuned(scale, ratio, gain, LANGEVIN, most=0.0)
        _count(state, name, taken, gain)
        return np.where(taken, moved, eta), np.where(taken, new, height)

    def _deviations(
        self,
        state: State,
        precision: list[np.ndarray],
        eta: np.ndarray,
        height: np.ndarray,
        streams: Streams,
        gain: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients of columns that are centred by their means, u held, by a Langevin step."""
        J, name = self._partly, "deviations"
        if not len(J):
            return eta, height
        P, shift = self.of_means(state, precision)
        R = self.left[:, J]
        known = (R * self._weight[:, None]).T @ R
        langevin = LangevinOfEach(known[:, :, None] + P[np.ix_(J, J)])
        scale = state.scales.setdefault(name, np.zeros(state.chains))
        noise = streams.normal(len(J)).T

        def pull(beta: np.ndarray) -> np.ndarray:
            found: np.ndarray = (shift - np.einsum("abc,bc->ac", P, beta))[J]
            return found

        slope = R.T @ self._slopes(eta, state.extra)[0] + pull(state.beta)
        step = np.zeros_like(state.beta)
        step[J] = langevin.step(scale, slope, noise)
        moved = eta + R @ step[J]
        new = self.heights(moved, state.extra)
        after = R.T @ self._slopes(moved, state.extra)[0] + pull(state.beta + step)
        ratio = (new - height).sum(0) + langevin.back(scale, slope, after, noise)
        ratio = ratio + (step[J] * pull(state.beta + 0.5 * step)).sum(0)
        taken = decide(ratio, streams.uniform(1)[:, 0])
        state.beta = state.beta + np.where(taken, step, 0.0)
        state.scales[name] = tuned(scale, ratio, gain, LANGEVIN, most=0.0)
        _count(state, name, taken, gain)
        return np.where(taken, moved, eta), np.where(taken, new, height)

    def _means(self, state: State, precision: list[np.ndarray], streams: Streams) -> None:
        """The coefficients in the mean of effects given these and all others."""
        P, shift = self.of_means(state, precision)
        inside, out = np.flatnonzero(~self._out), np.flatnonzero(self._out)
        if len(inside):
            rest = np.einsum("abc,bc->ac", P[np.ix_(inside, out)], state.beta[out])
            own = P[np.ix_(inside, inside)]
            state.beta[inside] = draw_coefficients(own, shift[inside] - rest, streams)

    @cached_property
    def _elsewhere(self) -> tuple[Metropolis, ...]:
        return self.elsewhere(np.ones(self.layout.p, dtype=bool))

    def _gradient(self, beta: np.ndarray, eta: np.ndarray, extra: np.ndarray) -> np.ndarray:
        """d log p(y, beta, extra | gamma) / d (beta, extra), (p + R, C)."""
        of_eta, inner = self._slopes(eta, extra)
        return np.concatenate([self.rows.z.T @ of_eta, inner]) + self._of_prior(beta, extra)

    def _slopes(self, eta: np.ndarray, extra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """d log p(y | eta, extra) in eta (N, C) and extra (R, C)."""
        family, data = self.layout.model.family, self.seen.rows.data
        wide = torch.from_numpy(np.ascontiguousarray(eta.T))
        of_family = torch.from_numpy(np.ascontiguousarray(extra))[:, :, None]
        found = None if len(extra) else family.derivatives(data, wide, of_family, order=1)
        if found is not None:
            return found.first.numpy().T, np.zeros_like(extra)
        wide.requires_grad_()
        of_family.requires_grad_()
        total = family.log_density(data, wide, of_family).sum()
        slope, own = torch.autograd.grad(total, (wide, of_family), allow_unused=True)
        return slope.numpy().T, np.zeros_like(extra) if own is None else own.numpy()[:, :, 0]

    def _of_prior(self, beta: np.ndarray, extra: np.ndarray) -> np.ndarray:
        """d log p(beta, extra) / d (beta, extra), (p + R, C)."""
        of_beta = self.prior_shift[:, None] - self.prior_precision @ beta
        centre, sd = self.prior.extra_mean[:, None], self.prior.extra_sd[:, None]
        return np.concatenate([of_beta, (centre - extra) / np.square(sd)])

    @cached_property
    def _out(self) -> np.ndarray:
        """The columns that are in no mean of effects as a whole, (p,) bool."""
        return (self.centring.inside < 0) | self.left.any(0)

    @cached_property
    def _partly(self) -> np.ndarray:
        """Positions of the columns that are centred by their means, with deviations left."""
        return np.flatnonzero((self.centring.inside >= 0) & self.left.any(0))

    @cached_property
    def _langevin(self) -> Langevin:
        """Steps under minus the Hessian at the pooled fit, made definite where it is not."""
        p, z = self.layout.p, torch.from_numpy(self.rows.z)
        family, data = self.layout.model.family, self.seen.rows.data
        offset = torch.from_numpy(self.rows.offset)

        def total(vector: torch.Tensor) -> torch.Tensor:
            return family.log_density(data, offset + z @ vector[:p], vector[p:]).sum()

        at = torch.from_numpy(np.append(self.pooled.beta, self.pooled.extra))
        H = -torch.autograd.functional.hessian(total, at).numpy()
        prior = np.zeros_like(H)
        prior[:p, :p], prior[p:, p:] = self.prior_precision, np.diag(self.prior.extra_sd**-2)
        value, vector = np.linalg.eigh(0.5 * (H + H.T))
        return Langevin((vector * np.maximum(value, 0.0)) @ vector.T + prior)


def _added(t: np.ndarray, level: np.ndarray, u: np.ndarray) -> np.ndarray:
    """t_i'u[level_i] of every row, (N, C), for u (K, C, m)."""
    total = t[:, 0, None] * u[0].T[level]
    for k in range(1, len(u)):
        total += t[:, k, None] * u[k].T[level]
    return total


def _products(t: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """w t t' of every row, (N, K K)."""
    return ((t * weight[:, None])[:, :, None] * t[:, None, :]).reshape(len(t), -1)


def _count(state: State, name: str, taken: np.ndarray, gain: float) -> None:
    """Add to the shares of acceptance after warm-up, (C,)."""
    if not gain:
        state.accepted[name] = state.accepted.get(name, np.zeros(state.chains)) + taken
