"""Modes of b | y for all subjects of a classical model at once, subjects along the last axis.

Every predictor of a row (eta, and the extra parameters of the family) is linear in the parameters,

    eta_s = offset_s + X_s beta_s + T_s Lambda b,      b ~ N(0, I_k).

With g and W the first derivative and minus the second of log p(y | eta), the modes solve
Lambda'T'g = b by Newton steps with H = I + Lambda'T'W T Lambda.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dgmm.families.derivatives import RowDerivatives, row_derivatives
from dgmm.likelihood.slabs import Slab, slabs
from dgmm.likelihood.vector import ClassicalObjective
from dgmm.model import Model
from dgmm.numerics.cholesky import cholesky, solve
from dgmm.panel import Panel

__all__ = ["CELLS", "SlabModes", "between"]

CELLS = 40_000
"""Entries (measurements times subjects) worked through at once."""

NEWTON_STEPS = 100
CAREFUL_AFTER = 6
LARGEST_STEP = 4.0  # change of a predictor: a factor of 55 under a log link
SAFE_STEP = 1.0  # below, whole steps go up under all links in use
SETTLED = 1e-8  # Newton decrement before the last step: quadratic convergence does the rest
LOST = 1e-2  # Newton decrement above which what was found is no mode


@dataclass(frozen=True)
class Parameters:
    """The parameters taken apart."""

    fixed: list[Tensor]  # per predictor, long (N,) or a number
    Lambda: np.ndarray  # (q, k), q = k


class SlabModes(ClassicalObjective):
    """Predictors, derivatives and modes, a slab of subjects at a time.

    Modes of a point that the search goes on from are kept, as the start of the next ones.
    """

    def __init__(self, model: Model, panel: Panel) -> None:
        super().__init__(model, panel)
        self.predictor = np.array(model.predictor_of_columns())
        self.moving = sorted(set(self.predictor.tolist()))
        self.slabs = list(slabs(panel, list(self.columns.unbind(1)), CELLS))
        self.designs = model.outcome.extra_designs(panel.rows)
        self.constants = self._constants()

    def begin(self) -> None:
        super().begin()
        # written anew by every call: fresh memory for all rows would cost more than the sums
        self.omega = [torch.empty_like(self.eta) for _ in range(1 + len(self.model.extra_sizes))]

    def _constants(self) -> np.ndarray:
        """What closed derivatives leave out of every l_i, (n,)."""
        family, out = self.model.family, np.zeros(self.panel.n)
        probe = torch.zeros(1, 1, dtype=torch.float64)
        for slab in self.slabs if not family.extra else ():
            if family.derivatives(slab.data, probe, probe[:0], 1) is not None:
                constant = family.constant(slab.data).expand(slab.shape)
                out[slab.subjects] = slab.masked(constant).sum(0).numpy()
        return out

    # -- parameters ----------------------------------------------------------------------------

    def point(self, x: np.ndarray) -> Parameters:
        _, _, *extra = self._split(x)
        fixed = [self._fixed_part(x)]
        for part, design in zip(extra, self.designs, strict=True):
            coefficient = torch.from_numpy(part)
            fixed.append(coefficient if design is None else design @ coefficient)
        return Parameters(fixed, self.Lambda(x))

    # -- one slab ------------------------------------------------------------------------------

    def fixed(self, slab: Slab, point: Parameters) -> list[Tensor]:
        """The fixed part of every predictor, (J, n)."""
        return [
            slab.gather(f) if len(f) == self.panel.n_rows else f.reshape(1, 1).expand(slab.shape)
            for f in point.fixed
        ]

    def shifted(self, slab: Slab, fixed: list[Tensor], c: np.ndarray) -> list[Tensor]:
        """Predictors with the random part T c added: c (q, ..., n) -> (..., J, n)."""
        out = list(fixed)
        for T, values, s in zip(slab.T, c, self.predictor, strict=True):
            shift = torch.from_numpy(np.ascontiguousarray(values))[..., None, :]
            out[s] = out[s] + (shift if T is None else T * shift)
        if c.ndim > 2:
            shape = (*c.shape[1:-1], *slab.shape)
            out = [o.expand(shape) for o in out]
        return out

    def sums(self, slab: Slab, values: list[Tensor]) -> np.ndarray:
        """sum_j T_q values of its predictor, (q, ..., n)."""
        columns = [
            (values[s] if T is None else values[s] * T).sum(-2)
            for T, s in zip(slab.T, self.predictor, strict=True)
        ]
        return torch.stack(columns).numpy()

    def crossed(self, slab: Slab, values: dict[tuple[int, int], Tensor]) -> np.ndarray:
        """sum_j T_a T_c values_ac over pairs of columns, (q, q, n)."""
        q = len(slab.T)
        out = np.empty((q, q, slab.shape[1]))
        for a in range(q):
            Ta, s = slab.T[a], int(self.predictor[a])
            for c in range(a + 1):
                weighted = values[s, int(self.predictor[c])]
                for T in (Ta, slab.T[c]):
                    weighted = weighted if T is None else weighted * T
                out[a, c] = out[c, a] = weighted.sum(0).numpy()
        return out

    def derivatives(self, slab: Slab, predictors: list[Tensor], order: int) -> RowDerivatives:
        found = row_derivatives(self.model.family, slab.data, predictors, self.moving, order)
        if slab.mask is None:
            return found
        return RowDerivatives(
            slab.masked(found.value),
            tuple(slab.masked(v) for v in found.first),
            {key: slab.masked(v) for key, v in found.second.items()},
            {key: slab.masked(v) for key, v in found.third.items()},
            None if found.fourth is None else slab.masked(found.fourth),
        )

    def precision(
        self, slab: Slab, found: RowDerivatives, Lambda: np.ndarray, safe: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """T'WT (q, q, n) and H = I + Lambda'T'W T Lambda; ``safe`` keeps W >= 0."""
        bent = found.second
        if safe:
            bent = {
                key: value.clamp(max=0.0) if key[0] == key[1] else torch.zeros_like(value)
                for key, value in bent.items()
            }
        C = -self.crossed(slab, bent)
        H = between(Lambda, C)
        H[np.arange(len(H)), np.arange(len(H))] += 1.0
        return C, H

    def find_modes(self, slab: Slab, fixed: list[Tensor], Lambda: np.ndarray) -> np.ndarray:
        """Newton for all subjects of a slab from the modes kept, or from zero, (k, n).

        Raises FloatingPointError where the modes are not found.
        """
        b, height = self.modes[:, slab.subjects], None
        for number in range(NEWTON_STEPS):
            step, decrement = self._newton(slab, fixed, Lambda, b)
            reach = self._reach(slab, Lambda @ step)
            largest, furthest = float(decrement.max()), float(reach.max())
            if number == 0 and not furthest < LARGEST_STEP and b.any():
                b = self._or_zero(slab, fixed, Lambda, b)
                continue
            if not (np.isfinite(largest) and np.isfinite(furthest)):
                raise FloatingPointError("the modes of the random effects overflow")
            if furthest < SAFE_STEP and number < CAREFUL_AFTER:
                b, height = b + step, None
            else:
                step = step * np.minimum(1.0, LARGEST_STEP / np.maximum(reach, 1e-300))
                if height is None:
                    height = self.height_at(slab, fixed, Lambda, b)
                before = b
                b, height = self._line_search(slab, fixed, Lambda, b, step, height)
                if not (b != before)[:, decrement >= SETTLED].any():
                    break  # no digits are left to go up, or nowhere to go
            if largest < SETTLED:
                break
        if largest > LOST:
            raise FloatingPointError("the modes of the random effects are not found")
        self.latest[:, slab.subjects] = b
        return b

    def _newton(
        self, slab: Slab, fixed: list[Tensor], Lambda: np.ndarray, b: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The Newton step of every subject (k, n), and its decrement (n,)."""
        found = self.derivatives(slab, self.shifted(slab, fixed, Lambda @ b), 2)
        gradient = Lambda.T @ self.sums(slab, list(found.first)) - b
        _, H = self.precision(slab, found, Lambda, safe=False)
        L = cholesky(H)
        if np.isnan(L).any():
            L = cholesky(self.precision(slab, found, Lambda, safe=True)[1])
        step = solve(L, gradient[:, None])[:, 0]
        return step, (gradient * step).sum(0)

    def _reach(self, slab: Slab, c: np.ndarray) -> np.ndarray:
        """The most that coefficients c (q, n) of the columns change a predictor, (n,).

        eta counts in units of the model, extra parameters on their log or logit scale.
        """
        total = np.zeros(c.shape[1])
        for top, values, s in zip(slab.most, np.abs(c), self.predictor, strict=True):
            most = values if top is None else values * top
            total += most if s else most / self.model.unit
        return total

    def _or_zero(
        self, slab: Slab, fixed: list[Tensor], Lambda: np.ndarray, b: np.ndarray
    ) -> np.ndarray:
        """b, or zero for the subjects whose log p(y, b) is higher there."""
        zero = np.zeros_like(b)
        there = self.height_at(slab, fixed, Lambda, zero)
        return np.where(self.height_at(slab, fixed, Lambda, b) >= there, b, zero)

    def height_at(
        self, slab: Slab, fixed: list[Tensor], Lambda: np.ndarray, b: np.ndarray
    ) -> np.ndarray:
        found = self.derivatives(slab, self.shifted(slab, fixed, Lambda @ b), 1)
        height: np.ndarray = found.value.sum(0).numpy() - 0.5 * (b**2).sum(0)
        return height

    def _line_search(
        self,
        slab: Slab,
        fixed: list[Tensor],
        Lambda: np.ndarray,
        b: np.ndarray,
        step: np.ndarray,
        height: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Halve the step of each subject until its log p(y, b) does not fall."""
        length, done = np.ones(b.shape[1]), np.zeros(b.shape[1], dtype=bool)
        best, top = b, height
        for _ in range(30):
            trial = b + length * step
            value = self.height_at(slab, fixed, Lambda, trial)
            accept = ~done & (value >= height - 1e-12 * np.abs(height))
            best, top = np.where(accept, trial, best), np.where(accept, value, top)
            done |= accept
            if done.all():
                break
            length = np.where(done, length, 0.5 * length)
        return best, top

    def root(self, slab: Slab, found: RowDerivatives, Lambda: np.ndarray) -> np.ndarray:
        """chol(H) at a mode; where H is not positive definite, with the positive part of W."""
        L = cholesky(self.precision(slab, found, Lambda, safe=False)[1])
        bad = np.isnan(L).any((0, 1))
        if bad.any():
            L[:, :, bad] = cholesky(self.precision(slab, found, Lambda, safe=True)[1])[:, :, bad]
        return L


def between(Lambda: np.ndarray, C: np.ndarray) -> np.ndarray:
    """Lambda'C Lambda for symmetric C (q, q, n), (k, k, n)."""
    half = np.tensordot(Lambda.T, C, axes=1)
    return np.tensordot(Lambda.T, half.transpose(1, 0, 2), axes=1)
