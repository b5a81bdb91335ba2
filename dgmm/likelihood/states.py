"""States and random effects given the outcomes seen: the smoother, a line of it for every question.

In units of sigma, with own columns O = [F, T Lambda] of the subject and o = (delta, b),

    P = O'V^-1 O + (0, I),   E(o | y) = P^-1 O'V^-1 e,   e = y - X beta,
    E(eta | y) = X beta + U E(o | y) + c'E(z | e),   U = O - c'E(z | O),
    var(eta | y) = sigma^2 {c'var(z | e) c + U P^-1 U'},

V that of paths and errors, E(z | .) the smoother, linear in its right-hand side. Draws are from
the prior, corrected by the smoother of what they miss: Durbin and Koopman (2002), Biometrika 89,
603-615.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.latent import Pattern
from dgmm.likelihood.filtered import FilteredValue, relative
from dgmm.likelihood.packed import Packed, eliminated, sigma_of
from dgmm.likelihood.posterior import Effects, Posterior, Predictive, over_normal
from dgmm.likelihood.state_laplace import StateLaplace
from dgmm.model import Model, course
from dgmm.numerics.cholesky import backward, cholesky, forward, solve
from dgmm.numerics.kalman import Backward, System, filtered
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = ["Pseudo", "StatePosterior", "pseudo_outcomes"]

CELLS = 2_000_000
"""Entries of draws held at once."""

MOST = 4_000_000
"""Entries of covariances of white noise that are made."""


class Pseudo(NamedTuple):
    """Gaussian outcomes of packed rows with the posterior of those of any family at its mode."""

    e: np.ndarray  # (N,) less X beta
    noise: np.ndarray  # (N,)
    skew: np.ndarray  # (N,) added to e it moves E(u | e) from the mode to E(u | y), first order
    each: np.ndarray  # (n,) Laplace's l_i of every series


def pseudo_outcomes(model: Model, theta: Theta, history: Panel) -> Pseudo:
    """Those at the modes."""
    engine = StateLaplace(model, history)
    mode, skew = engine.skewed(model.packing.pack(theta).detach().numpy())
    return Pseudo(mode.e, 1 / mode.W, skew, engine.each_at(mode))


@dataclass(frozen=True)
class StatePosterior(Posterior):
    """The posterior of a model with paths: exact of a Gaussian one, else normal.

    Outside Gaussian models predictions, states and draws are around E(. | y) to first order, as
    those of :class:`~dgmm.likelihood.posterior.NormalPosterior`; effects of subjects are modes.
    ``history`` has the rows at which anything is asked; in a masked panel those whose outcome was
    not seen have states alone.
    """

    model: Model
    theta: Theta
    history: Panel
    pseudo: Pseudo | None = None  # Gaussian outcomes in the place of those of another family

    # -- the smoother ----------------------------------------------------------------------------

    @cached_property
    def _packed(self) -> Packed:
        return Packed.of(self.model.sized(self.history), self.history)

    @cached_property
    def _sigma(self) -> Tensor:
        """The unit of all that is smoothed."""
        if self.pseudo is not None:
            return torch.ones(1, dtype=torch.float64)
        return sigma_of(self.model, {name: v.detach() for name, v in self.theta.items()})

    @cached_property
    def _noise(self) -> np.ndarray:
        """Variances of errors, (N,)."""
        return self._packed.noise if self.pseudo is None else self.pseudo.noise

    @cached_property
    def _system(self) -> System:
        theta = {name: value.detach() for name, value in self.theta.items()}
        moving = relative(self._packed.model, theta, self._sigma)
        return replace(self._packed.system(moving), R=self._noise)

    @cached_property
    def _mu1(self) -> np.ndarray:
        """E eta of every packed row: offset + X beta, and what inputs add, (N,)."""
        with torch.no_grad():
            ready = self.model.prepare(self.theta)
            mu1 = self.model.mu1(ready, self.history.rows)
            mu1 = mu1 + course(self._packed.model, ready, self.history)
        found: np.ndarray = mu1.numpy()[self._packed.places]
        return found

    @cached_property
    def _own(self) -> np.ndarray:
        """O, (o, N)."""
        packed = self._packed
        pattern, unit = Pattern.of(self.model.latents), self.model.unit
        Lambda = pattern.fill(pattern.of_theta(self.theta).detach().numpy())
        return np.concatenate([packed.flat * unit, Lambda.T @ packed.t * unit / float(self._sigma)])

    @cached_property
    def _smoothed_own(self) -> Backward:
        return filtered(self._system, self._own).backward()

    @cached_property
    def _factor(self) -> np.ndarray:
        """chol(P) of every series, (o, o, n); NaN where its outcomes do not tell its start."""
        z, f = self._smoothed_own.forward.whitened, len(self._packed.flat)
        G = self._packed.sums(z, z)
        known = eliminated(G[:f], f)[2].all(0)
        prior = np.diag(np.arange(len(G)) >= f).astype(float)
        L = cholesky(G + prior[:, :, None])
        L[..., ~known] = np.nan
        return L

    def _of_own(self, e: np.ndarray) -> tuple[np.ndarray, Backward]:
        """E(o | e) (o, h, n) and the smoother of residuals e (h, N) in units of sigma."""
        back = filtered(self._system, e).backward()
        z, own = back.forward.whitened, self._smoothed_own.forward.whitened
        if not len(own):
            return np.zeros((0, len(e), self._packed.series)), back
        return solve(self._factor, self._packed.sums(own, z)), back

    def _random_part(self, e: np.ndarray) -> np.ndarray:
        """E(T Lambda b + F delta + c'z | e), (h, N), in units of sigma."""
        e, level = self._centred(e)
        own, back = self._of_own(e)
        found: np.ndarray = np.einsum("an,ahn->hn", self._system.c, back.mean) + level
        for U, o in zip(self._free, own, strict=True):
            found += U * o[:, self._packed.steps.series]
        return found

    def _centred(self, e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """e without what F explains of it in a subject, and that: large levels have no digits."""
        flat, f = self._own[: len(self._packed.flat)], len(self._packed.flat)
        if not f:
            return e, np.zeros_like(e)
        both = np.concatenate([flat, e])
        L, K, _ = eliminated(self._packed.sums(flat * self._packed.seen, both), f)
        delta = backward(L, K[:, f:])
        level = sum(
            column * own[:, self._packed.steps.series]
            for column, own in zip(flat, delta, strict=True)
        )
        return e - level, level

    @cached_property
    def _free(self) -> np.ndarray:
        """U, (o, N)."""
        found: np.ndarray = self._own - np.einsum(
            "an,ahn->hn", self._system.c, self._smoothed_own.mean
        )
        return found

    @property
    def _residual(self) -> np.ndarray:
        """e, (1, N) in units of sigma."""
        if self.pseudo is not None:
            return self.pseudo.e[None]
        data = self.history.rows.data
        y = (data.y / data.trials).numpy()[self._packed.places]
        residual = np.where(self._packed.seen > 0, y - self._mu1, 0.0)
        return residual[None] / float(self._sigma)

    @property
    def _centre(self) -> np.ndarray:
        """Residuals whose smoother has the means of what is not normal, (1, N)."""
        return self._residual if self.pseudo is None else self._residual + self.pseudo.skew

    def _unpacked(self, values: np.ndarray) -> Tensor:
        """Values (..., N) in the order of the rows of the history."""
        found = np.empty_like(values)
        found[..., self._packed.places] = values
        return torch.from_numpy(found)

    # -- the questions ---------------------------------------------------------------------------

    def effects(self) -> Effects:
        """b of every subject: of a path its white noise, one element a row and state.

        Of long paths, and of those with a diffuse start, the covariance of the noise is not made:
        there it is zero.
        """
        packed, model, n = self._packed, self._packed.model, self.history.n
        f, series, step = len(packed.flat), packed.steps.series, torch.from_numpy(packed.step)
        own, back = self._of_own(self._centred(self._residual)[0])
        noise = back.innovations[:, 0]
        for one, o in zip(self._smoothed_own.innovations.swapaxes(0, 1), own, strict=True):
            noise = noise - one * o[0, series]
        who = torch.from_numpy(packed.order)
        mean = torch.zeros(n, model.k, dtype=torch.float64)
        covariance = torch.zeros(n, model.k, model.k, dtype=torch.float64)
        sigma, first, b, state, start = float(self._sigma), 0, f, 0, 0
        for latent in model.latents:
            if latent.by_states:
                for k in range(latent.states):
                    at = first + latent.flat + latent.states * step + k
                    mean[who[series], at] = torch.from_numpy(noise[state + k])
                if latent.flat:
                    delta = self._starts()[start : start + latent.flat]
                    at = torch.arange(first, first + latent.flat)
                    mean[who[: packed.series, None], at] = torch.from_numpy(sigma * delta.T)
                state, start = state + latent.states, start + latent.flat
            else:
                at = torch.arange(first, first + latent.dim)
                inside = slice(b, b + latent.dim)
                mean[who[: packed.series, None], at] = torch.from_numpy(own[inside, 0].T.copy())
                b += latent.dim
            first += latent.dim
        columns = torch.cat(
            [torch.full((one.dim,), one.by_columns) for one in model.latents]
        ).nonzero()[:, 0]
        if not f and n * model.k**2 < MOST:
            covariance = self._dense()
        elif len(columns):
            inverse = self._inverse()[f:, f:]
            cov = torch.eye(len(columns), dtype=torch.float64).repeat(n, 1, 1)
            cov[who[: packed.series]] = torch.from_numpy(np.moveaxis(inverse, -1, 0).copy())
            covariance[:, columns[:, None], columns] = cov
        return Effects((mean,), (covariance,))

    def _dense(self) -> Tensor:
        """I - J'(J J' + R)^-1 J of all elements of b, J those of the predictor, (n, k, k)."""
        packed, model = self._packed, self._packed.model
        seen = self._unpacked(packed.seen)
        noise, k = self._unpacked(self._noise * float(self._sigma) ** 2), model.k
        found = torch.empty(self.history.n, k, k, dtype=torch.float64)
        ready = model.prepare({name: value.detach() for name, value in self.theta.items()})
        with torch.no_grad():
            for block in self.history.blocks():
                zero = torch.zeros(len(block.subjects), k, dtype=torch.float64)
                J = model.jacobian(ready, zero, block.rows)
                counts = block.mask & (seen[block.index] > 0)
                J = torch.where(counts[..., None], J, 0.0)
                R = torch.where(counts, noise[block.index], 1.0)
                root = torch.linalg.cholesky(J @ J.mT + torch.diag_embed(R))
                along = torch.linalg.solve_triangular(root, J, upper=False)
                found[block.subjects] = torch.eye(k, dtype=torch.float64) - along.mT @ along
        return found

    def states(self, filtered: bool = False) -> Predictive:
        if filtered:
            raise ValueError(
                "type='filtered' is for recursions; the states of a linear path are 'smoothed', "
                "given all outcomes: for those before a time take the rows up to it as data"
            )
        system, packed = self._system, self._packed
        series, f = packed.steps.series, len(packed.flat)
        own, back = self._of_own(self._centre)
        z = -self._smoothed_own.mean  # (d, o, N): what is left of them beside the states of F
        z[:, :f] += packed.flat_states
        mean = back.mean[:, 0] + np.einsum("don,on->dn", z, own[:, 0][:, series])
        variance = np.einsum("ddn->dn", self._smoothed_own.covariance).copy()
        L = self._factor[..., series]
        for k in range(len(system.A)) if len(own) else ():
            variance[k] += (forward(L, z[k][:, None]) ** 2).sum((0, 1))
        sigma = float(self._sigma)
        spread = sigma**2 * variance.clip(min=0.0)
        return Predictive(self._unpacked(sigma * mean), self._unpacked(spread))

    def _inverse(self) -> np.ndarray:
        """P^-1, (o, o, n)."""
        identity = np.broadcast_to(np.eye(len(self._own))[..., None], self._factor.shape)
        return solve(self._factor, identity)

    def _starts(self) -> np.ndarray:
        """E(delta | y) in units of sigma, (f, n)."""
        return self._of_own(self._residual)[0][: len(self._packed.flat), 0]

    def log_density(self) -> Tensor:
        found = torch.zeros(self.history.n, dtype=torch.float64)
        if self.pseudo is not None:
            found[self._packed.order[: self._packed.series]] = torch.from_numpy(self.pseudo.each)
            return found
        vector = self._packed.model.packing.pack(self.theta).detach().numpy()
        each = torch.from_numpy(FilteredValue(self._packed).each(vector))
        found[self._packed.order[: self._packed.series]] = each
        return found

    def predictive(self, target: Panel, scale: str) -> Predictive:
        self._check(target)
        series = self._packed.steps.series
        eta = self._mu1 + float(self._sigma) * self._random_part(self._centre)[0]
        c, back = self._system.c, self._smoothed_own
        variance = np.einsum("an,abn,bn->n", c, back.covariance, c)
        if len(self._own):
            inner = forward(self._factor[..., series], self._free[:, None])[:, 0]
            variance = variance + (inner**2).sum(0)
        spread = float(self._sigma) ** 2 * variance.clip(min=0.0)
        found = Predictive(self._unpacked(eta), self._unpacked(spread))
        if scale == "link" or self.model.family.conjugate:
            return found
        return over_normal(self.model, self.theta, target, found)

    def draws(self, target: Panel, size: int, generator: torch.Generator) -> Tensor:
        self._check(target)
        out = torch.empty(size, target.n_rows, dtype=torch.float64)
        step = max(1, CELLS // max(1, target.n_rows * (1 + self._packed.model.k // 8)))
        for first in range(0, size, step):
            at = slice(first, min(first + step, size))
            out[at] = self._drawn(target, at.stop - at.start, generator)
        return out

    def _drawn(self, target: Panel, size: int, generator: torch.Generator) -> Tensor:
        model, packed, sigma = self._packed.model, self._packed, float(self._sigma)
        ready = model.prepare({name: value.detach() for name, value in self.theta.items()})
        b = torch.randn(size, target.n, model.k, generator=generator, dtype=torch.float64)
        first = 0
        for latent in model.latents:  # the smoother finds where a diffuse path begins
            b[..., first : first + latent.flat] = 0.0
            first += latent.dim
        eta = torch.zeros(size, target.n_rows, dtype=torch.float64)
        with torch.no_grad():
            for block in target.blocks():
                value = model.mu2(ready, b[:, block.subjects], block.rows)
                eta[:, block.index[block.mask]] = value[:, block.mask]
            eta = eta - course(model, ready, target)  # which is in mu1
        noise = torch.randn(size, target.n_rows, generator=generator, dtype=torch.float64)
        made = eta.numpy()[:, packed.places] / sigma
        missed = noise.numpy()[:, packed.places] * np.sqrt(self._noise)
        e = np.where(packed.seen > 0, self._centre - made - missed, 0.0)
        found = self._mu1 + sigma * (made + self._random_part(e))
        return self._unpacked(found)

    def _check(self, target: Panel) -> None:
        if target.n_rows != self.history.n_rows:
            raise ValueError("states are known at the rows of the history, joined by time")
