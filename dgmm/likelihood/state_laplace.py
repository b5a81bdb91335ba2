"""Laplace's approximation with paths, its gradient and scores in closed form, O(rows).

At the mode u of the random part (:mod:`dgmm.likelihood.state_modes`), with S = var(u), V = S + 1/W,
v = var(u | u + g / W) row by row, and derivatives of log p(y | eta, extra),

    l = log p(y | eta) - u'g / 2 - log det(I + S W) / 2,
    t = v l3 / 2,   h = E(u | t / W),   rho = V^-1 t / W = t - W h.

W and u move with everything: in predictor s (0 is eta, the others the extra parameters)

    dl / d predictor_s = l_s + v l_00s / 2 + h l_0s,
    dl / dS = (g g' - V^-1 + rho g' + g rho') / 2,

so three right-hand sides, those of g and rho and what random effects take out of V^-1, give the
slopes in the matrices of the filter, and T'g, T'rho those in Lambda. The same as in
:mod:`dgmm.likelihood.adaptive_engine`, where it is written for random effects alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.likelihood.packed import moving_packing
from dgmm.likelihood.path_weights import PathSlopes, PathWeights
from dgmm.likelihood.state_modes import (
    Mode,
    Pseudo,
    Rows,
    find_mode,
    joined_sides,
    smooth,
    total_log_det,
)
from dgmm.model import Model
from dgmm.numerics.ascent import Evaluation
from dgmm.numerics.cholesky import backward, forward
from dgmm.numerics.kalman import Backward, Slopes
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta

__all__ = ["StateLaplace"]

LEAST = 0.01
"""The least that is known of a parameter on a log scale: a standard error of 10 is flat."""


class _Bent(NamedTuple):
    """Third derivatives at a mode: what they bend, and how far the mean lies from the mode."""

    own: Backward  # of the columns C of random effects
    v: np.ndarray  # (N,)
    t: np.ndarray  # (N,)
    h: np.ndarray  # (N,) E(u | t / W), E(u | y) - u to first order
    behind: Pseudo  # of t / W


@dataclass(frozen=True)
class _Slopes:
    """The slopes of l: in predictors row by row, in Lambda and in the paths series by series."""

    omega: list[np.ndarray]  # S of (N,)
    loadings: np.ndarray  # (q, k, n)
    paths: PathWeights
    matrices: Slopes


class StateLaplace:
    """l of a packed theta; modes are followed from one call to the next."""

    def __init__(self, model: Model, panel: Panel) -> None:
        self.rows = Rows.of(model, panel)
        self.evaluations = 0
        self._kept: np.ndarray | None = None
        self._latest: np.ndarray | None = None

    @property
    def packing(self) -> Packing:
        """Names and shapes of theta."""
        return self.rows.model.packing

    def theta(self, x: np.ndarray) -> Theta:
        """theta of a vector."""
        return self.packing.unpack(torch.from_numpy(x))

    def mode(self, x: np.ndarray, order: int = 2) -> tuple[Mode, PathWeights]:
        """The mode at a vector, and the paths there."""
        theta, paths = self._paths(x)
        mode = find_mode(self.rows, theta, paths.system, self._kept, order, signed=True)
        self._latest = mode.u
        return mode, paths

    def proposal(self, x: np.ndarray, order: int = 2) -> Mode:
        """The mode with errors of positive variances, a distribution for draws."""
        theta, paths = self._paths(x)
        return find_mode(self.rows, theta, paths.system, self._kept, order)

    def _paths(self, x: np.ndarray) -> tuple[Theta, PathWeights]:
        """theta of a vector, and the paths there."""
        theta = self.theta(x)
        own = {name: theta[name] for name in moving_packing(self.rows.model).shapes}
        return theta, PathWeights.of(self.rows.packed, own)

    def skewed(self, x: np.ndarray) -> tuple[Mode, np.ndarray]:
        """:meth:`proposal`, and t / W (N,): u + E(u | t / W) is E(u | y) to first order.

        A series moves by one standard deviation of any of its rows at most.
        """
        mode, packed = self.proposal(x, 3), self.rows.packed
        found = self._bent(mode, self.rows.Lambda(self.theta(x)).detach().numpy())
        longest = np.ones(packed.series)
        with np.errstate(divide="ignore", invalid="ignore"):
            length = np.where(packed.seen > 0, np.abs(found.h) / np.sqrt(found.v), 0.0)
        np.maximum.at(longest, packed.steps.series, np.nan_to_num(length, nan=0.0))
        return mode, found.t / mode.W / longest[packed.steps.series]

    def keep(self) -> None:
        """Let the next search for modes begin where the last one ended."""
        self._kept = self._latest

    # -- the function ----------------------------------------------------------------------------

    def each(self, x: np.ndarray) -> np.ndarray:
        """l of every series, (n,)."""
        return self.each_at(self.mode(x)[0])

    def each_at(self, mode: Mode) -> np.ndarray:
        """l of every series at its mode, (n,)."""
        found: np.ndarray = self.rows.constant + mode.height - 0.5 * total_log_det(mode, self.rows)
        return found

    def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
        """l(x), its gradient, and with ``scores`` the gradient of every l_i."""
        self.evaluations += 1
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            mode, paths = self.mode(x, 3)
            value = float(self.each_at(mode).sum())
            found = self._slopes(mode, paths, self.theta(x))
            table = self._scores(found, self.theta(x))
        return Evaluation(value, table.sum(0), table if scores else None)

    def information(self, x: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The outer product of the scores, (P, P)."""
        found: np.ndarray = scores.T @ scores
        return found

    def least_information(self, x: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
        """What is known at the least, (P,)."""
        flat = {
            name: torch.full(shape, LEAST if name != "beta" else 0.0, dtype=torch.float64)
            for name, shape in self.packing.shapes.items()
        }
        least: np.ndarray = self.packing.pack(flat).numpy()
        return least

    # -- the gradient ----------------------------------------------------------------------------

    def _slopes(self, mode: Mode, paths: PathWeights, theta: Theta) -> _Slopes:
        rows, near = self.rows, mode.smoothed
        seen = rows.packed.seen
        Lambda = rows.Lambda(theta).detach().numpy()
        q, k = Lambda.shape
        bent = self._bent(mode, Lambda)
        v, h, rho = bent.v, bent.h, bent.behind.a[0]
        omega = []
        for s, first in enumerate(mode.found.first):
            second, third = mode.found.second[0, s].numpy(), mode.found.third[0, 0, s].numpy()
            total = first.numpy() + 0.5 * v * third + h * second
            omega.append(np.where(seen > 0, total, 0.0))
        weight = np.eye(k + 2)
        weight[k:, k:] = [[1.0, 1.0], [1.0, 0.0]]
        matrices = joined_sides(bent.own, near.sides, bent.behind.sides).slopes(weight)
        g = np.stack([rows.per_series(one * mode.g) for one in rows.T]) if q else _none(rows)
        r = np.stack([rows.per_series(one * rho) for one in rows.T]) if q else _none(rows)
        bg, br = Lambda.T @ g, Lambda.T @ r
        GL = np.einsum("abn,bk->akn", near.G, Lambda)
        identity = np.broadcast_to(np.eye(k)[..., None], near.L.shape)
        inverse = backward(near.L, forward(near.L, identity))
        to_Lambda = g[:, None] * bg + r[:, None] * bg + g[:, None] * br
        to_Lambda -= np.einsum("akn,kln->aln", GL, inverse)
        return _Slopes(omega, to_Lambda, paths, matrices)

    def _bent(self, mode: Mode, Lambda: np.ndarray) -> _Bent:
        """Of a mode of order 3."""
        rows, near = self.rows, mode.smoothed
        seen, series, k = rows.packed.seen > 0, rows.packed.steps.series, Lambda.shape[1]
        # columns C of T Lambda L'^-1, so that var(b | .) is theirs: v = c'Vc + sum (C - c'E(z|C))^2
        identity = np.broadcast_to(np.eye(k)[..., None], near.L.shape)
        turn = np.einsum("ak,kln->aln", Lambda, backward(near.L, identity))  # (q, k, n)
        wide = turn[..., series]
        C = np.einsum("an,akn->kn", rows.T, wide)
        z = near.z
        own = z.forward.backward(
            np.einsum("an,akn->kn", z.v, wide), np.einsum("dan,akn->dkn", z.m, wide)
        )
        c = near.system.c
        free = C - np.einsum("dn,dkn->kn", c, own.mean)
        v = np.einsum("dn,den,en->n", c, own.covariance, c) + (free**2).sum(0)
        v = np.where(seen, v, 0.0)
        t = 0.5 * v * mode.found.third[0, 0, 0].numpy()
        behind = smooth(rows, near.system, Lambda, (t / mode.W)[None])
        return _Bent(own, v, t, np.where(seen, behind.u[0], 0.0), behind)

    def _scores(self, found: _Slopes, theta: Theta) -> np.ndarray:
        """The gradient of every l_i in the order of theta, (n, P)."""
        _, X, designs = self.rows.own
        parts: dict[str, np.ndarray] = {"beta": self._sums(X, found.omega[0])}
        extra = [
            self._sums(torch.ones(len(w), 1, dtype=torch.float64) if Z is None else Z, w)
            for w, Z in zip(found.omega[1:], designs, strict=True)
        ]
        parts["extra"] = np.concatenate([np.zeros((self.rows.packed.series, 0)), *extra], axis=1)
        moving = moving_packing(self.rows.model)
        columns = found.paths.scores(PathSlopes(found.matrices, found.omega[0]))
        first = 0
        for name, value in found.paths.weights.items():
            parts[name] = columns[:, first : first + value.numel()]
            first += value.numel()
        still = [
            name
            for name in self.packing.shapes
            if name.startswith("latent") and name not in moving.shapes
        ]
        for name in still:
            slopes = self._loading_slopes(theta, name)  # (size, q, k)
            parts[name] = np.einsum("wak,akn->nw", slopes, found.loadings)
        return np.concatenate([parts[name] for name in self.packing.shapes], axis=1)

    def _loading_slopes(self, theta: Theta, name: str) -> np.ndarray:
        def loadings(x: Tensor) -> Tensor:
            return self.rows.Lambda({**theta, name: x})

        jacobian = torch.autograd.functional.jacobian(loadings, theta[name].detach())
        found: np.ndarray = jacobian.permute(2, 0, 1).numpy()
        return found

    def _sums(self, X: Tensor, w: np.ndarray) -> np.ndarray:
        """sum_j X_ij w_ij of every series, (n, p)."""
        columns = [self.rows.per_series(column * w) for column in X.numpy().T]
        return np.stack(columns, axis=1) if columns else np.zeros((self.rows.packed.series, 0))


def _none(rows: Rows) -> np.ndarray:
    return np.zeros((0, rows.packed.series))
