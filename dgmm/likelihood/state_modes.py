"""Modes of paths and random effects of any outcome, by Newton steps through the filter.

At a predictor eta = X beta + u an outcome is as good as a Gaussian one: with the slope g of
log p(y | eta) and W minus its curvature, u + g / W is u with an error of variance 1 / W, and

    u_new = E(u | u + g / W) = S a,   a = (S + W^-1)^-1 (u + g / W),   S = var(u),

is a Newton step, O(rows) by the smoother. At the mode a = g. Every subject has a step length of its
own, halved until log p(y | eta) - u'a / 2 does not fall. After Shephard and Pitt (1997), Biometrika
84, 653-667, and Durbin and Koopman (2012), section 10.6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.families import Observations
from dgmm.families.derivatives import RowDerivatives, row_derivatives
from dgmm.likelihood.packed import Packed
from dgmm.model import Model, driven
from dgmm.numerics.cholesky import backward, cholesky, forward, log_det
from dgmm.numerics.kalman import Backward, System, filtered
from dgmm.panel import Panel
from dgmm.parameters import Theta, part

__all__ = ["Mode", "Pseudo", "Rows", "find_mode", "joined_sides", "smooth", "total_log_det"]

ITERATIONS = 60
"""Newton steps at most."""

DONE = 1e-13
"""Square of a Newton step, in units of the curvature, that is rounding."""

LEAST = 1e-9
"""Curvature of a row whose log-density is not concave in eta: next to nothing is known there."""

HALVINGS = 12

LAST = 2
"""Newton steps with curvatures of either sign that end a search."""


@dataclass(frozen=True)
class Rows:
    """Packed rows of a model of any family, with what a theta makes of their predictors."""

    packed: Packed

    @classmethod
    def of(cls, model: Model, panel: Panel) -> Rows:
        """Those of a panel; rows of a masked one that were not seen have states alone."""
        return cls(Packed.of(model.sized(panel), panel))

    @property
    def model(self) -> Model:
        """The model, with room for all rows."""
        return self.packed.model

    @cached_property
    def _at(self) -> Tensor:
        """Where the rows lie in the sorted panel."""
        return torch.from_numpy(self.packed.steps.rows)

    @cached_property
    def own(self) -> tuple[Tensor, Tensor, list[Tensor | None]]:
        """Offset (N,), X basis (N, p), and the columns of the extra parameters."""
        rows = self.packed.panel.rows.take(self._at)
        return rows.offset, rows.X @ self.model.basis, self.model.outcome.extra_designs(rows)

    @cached_property
    def data(self) -> Observations:
        """Outcomes, trials, weights."""
        return self.packed.panel.rows.take(self._at).data

    @cached_property
    def closed(self) -> bool:
        """Whether derivatives are in closed form; then order 2 comes without a value."""
        family, probe = self.model.family, torch.zeros(1, dtype=torch.float64)
        return not family.extra and family.derivatives(self.data, probe, probe[:0], 1) is not None

    @cached_property
    def constant(self) -> np.ndarray:
        """What closed derivatives leave out of every l_i, (n,)."""
        if not self.closed:
            return np.zeros(self.packed.series)
        constant = self.model.family.constant(self.data).expand(len(self._at)).numpy()
        return self.per_series(np.where(self.packed.seen > 0, constant, 0.0))

    @cached_property
    def T(self) -> np.ndarray:
        """Columns of random effects, (q, N)."""
        pairs = zip(self.packed.panel.rows.T, self.model.latents, strict=True)
        columns = [T[self._at].numpy().T for T, one in pairs if one.by_columns]
        return np.concatenate([np.zeros((0, len(self._at))), *columns])

    def Lambda(self, theta: Theta) -> Tensor:
        """The loadings of all random effects, (q, k), differentiable in theta."""
        blocks = [
            one.loadings(part(theta, f"latent{i}."))
            for i, one in enumerate(self.model.latents, 1)
            if one.by_columns
        ]
        return torch.block_diag(*blocks) if blocks else torch.zeros(0, 0, dtype=torch.float64)

    def predictors(self, theta: Theta) -> list[Tensor]:
        """eta without random part, then the extra parameters, (N,) each."""
        offset, X, designs = self.own
        found, first = [offset + X @ theta["beta"]], 0
        if driven(self.model):
            found[0] = found[0] + torch.from_numpy(self.packed.course(theta))
        for size, design in zip(self.model.extra_sizes, designs, strict=True):
            own = theta["extra"][first : first + size]
            found.append(own.expand(len(offset)) if design is None else design @ own)
            first += size
        return found

    def per_series(self, values: np.ndarray) -> np.ndarray:
        """Sums over the rows of every series, (n,)."""
        return np.bincount(self.packed.steps.series, values, self.packed.series)


class Pseudo(NamedTuple):
    """The smoother of some right-hand sides e: var(e) = S + noise."""

    system: System
    z: Backward  # of T in the filter alone
    G: np.ndarray  # (q, q, n) of the innovations of T
    L: np.ndarray  # chol(I + Lambda'G Lambda), (k, k, n)
    u: np.ndarray  # (h, N) E(u | e)
    a: np.ndarray  # (h, N) var(e)^-1 e
    sides: Backward  # of e without T o, o = E(b | e)

    @property
    def log_F(self) -> np.ndarray:
        """By rows; with log |L L'| their sum is log |S + noise| of what was seen, (N,)."""
        return self.z.forward.log_F


def smooth(rows: Rows, system: System, Lambda: np.ndarray, e: np.ndarray) -> Pseudo:
    """u and a of right-hand sides e (h, N), the random effects taken out of the states."""
    T, series, q = rows.T, rows.packed.steps.series, len(rows.T)
    found = filtered(system, np.concatenate([T, e]))
    G = rows.packed.sums(found.v[:q] * found.gain, found.v)
    k = Lambda.shape[1]
    M = np.einsum("ak,abn,bl->kln", Lambda, G[:, :q], Lambda)
    M[np.arange(k), np.arange(k)] += 1
    L = cholesky(M)
    c = np.einsum("ak,ahn->khn", Lambda, G[:, q:])
    own = np.einsum("ak,khn->ahn", Lambda, backward(L, forward(L, c)))[..., series]
    v = found.v[q:] - (own * found.v[:q, None]).sum(0)
    m = found.m[:, q:] - np.einsum("dan,ahn->dhn", found.m[:, :q], own)
    sides = found.backward(v, m)
    u = np.einsum("dn,dhn->hn", system.c, sides.mean) + (own * T[:, None]).sum(0)
    through = found.backward(found.v[:q], found.m[:, :q])
    return Pseudo(system, through, G[:, :q], L, u, sides.w, sides)


@dataclass(frozen=True)
class Mode:
    """Where Newton ended: the random part u, what the outcomes say there, and its smoother."""

    u: np.ndarray  # (N,)
    found: RowDerivatives
    W: np.ndarray  # (N,) 1 where nothing was seen
    g: np.ndarray  # (N,) 0 there
    e: np.ndarray  # (N,) u + g / W
    height: np.ndarray  # (n,) log p(y | eta) - u'g / 2
    smoothed: Pseudo


def find_mode(
    rows: Rows,
    theta: Theta,
    system: Callable[[np.ndarray], System],
    start: np.ndarray | None = None,
    order: int = 2,
    signed: bool = False,
) -> Mode:
    """The mode of u at a theta.

    Args:
        rows: the rows.
        theta: the parameters.
        system: the matrices of the filter by variances of the errors, (N,).
        start: a random part (N,) near the mode; by default zero.
        order: of the derivatives at the mode, 2 in eta alone or 3 in all predictors.
        signed: W is minus the curvature there, of either sign; else it is positive.
    """
    with torch.no_grad():
        Lambda, fixed = rows.Lambda(theta).numpy(), rows.predictors(theta)
    seen, series = rows.packed.seen, rows.packed.steps.series
    usual = 3 if rows.closed else 2

    def look(
        u: np.ndarray, order: int = usual, among: tuple[int, ...] | None = (0,)
    ) -> RowDerivatives:
        """Value and two derivatives, in eta alone where nothing else is asked."""
        eta = fixed[0] + torch.from_numpy(u)
        return row_derivatives(rows.model.family, rows.data, [eta, *fixed[1:]], [0], order, among)

    def height(found: RowDerivatives, u: np.ndarray, a: np.ndarray) -> np.ndarray:
        value = found.value.numpy()
        with np.errstate(all="ignore"):
            total = rows.per_series(np.where(seen > 0, value, 0.0) - 0.5 * u * a)
        return np.where(np.isfinite(total), total, -np.inf)

    def step(
        u: np.ndarray, found: RowDerivatives, signed: bool = False
    ) -> tuple[np.ndarray, np.ndarray, Pseudo]:
        """W, e and the smoother of e."""
        g, W = np.where(seen > 0, found.first[0].numpy(), 0.0), -found.second[0, 0].numpy()
        if signed:
            W = np.where(np.abs(W) > LEAST, W, LEAST)
        elif bool((W <= 0).any()):
            eta = fixed[0] + torch.from_numpy(u)
            extra = torch.stack(fixed[1:]) if len(fixed) > 1 else eta.new_zeros(0)
            known = rows.model.family.information(rows.data, eta, extra).expand_as(eta)
            W = np.where(W > 0, W, known.numpy())
        W = np.where(seen > 0, W if signed else np.maximum(W, LEAST), 1.0)
        e = np.where(seen > 0, u + g / W, 0.0)
        return W, e, smooth(rows, system(1 / W), Lambda, e[None])

    zero = np.zeros(len(seen))
    u, a, found = zero, zero, look(zero, usual if start is None else 1)
    top = height(found, u, a)
    if start is not None:  # a step from there is a place whose height is known
        near = step(start, look(start))[2]
        beyond = look(near.u[0])
        reached = height(beyond, near.u[0], near.a[0])
        better = (reached > top)[series]
        u, a = np.where(better, near.u[0], u), np.where(better, near.a[0], a)
        found = beyond if better.all() else look(u)
        top = np.maximum(top, reached)
    for _ in range(ITERATIONS):
        W, _, near = step(u, found)
        du, da = near.u[0] - u, near.a[0] - a
        length = np.ones(len(top))
        left = rows.per_series(du**2 * W * seen)
        for _ in range(HALVINGS):
            s = length[series]
            found = look(u + s * du)
            there = height(found, u + s * du, a + s * da)
            falls = there < top - 1e-10 * np.abs(top)
            if not falls.any():
                break
            length = np.where(falls, 0.5 * length, length)
        length = np.where(falls, 0.0, length)
        s = length[series]
        u, a, top = u + s * du, a + s * da, np.where(length > 0, there, top)
        if falls.any():
            found = look(u)
        if float((left * (length > 0)).max(initial=0.0)) < DONE:
            break
    if signed and bool((found.second[0, 0] > 0).any()):  # scoring steps are slow at the end
        for _ in range(LAST):
            near = step(u, found, signed)[2]
            u, found = near.u[0], look(near.u[0])
        top = height(found, u, near.a[0])
    if order > 2:
        found = look(u, order, None)
    W, e, smoothed = step(u, found, signed)
    g = np.where(seen > 0, found.first[0].numpy(), 0.0)
    return Mode(u, found, W, g, e, top, smoothed)


def joined_sides(one: Backward, *others: Backward) -> Backward:
    """The right-hand sides of several passes through the same filter, side by side."""
    every = (one, *others)
    return Backward(
        one.forward,
        np.concatenate([b.m for b in every], axis=1),
        np.concatenate([b.v for b in every]),
        np.concatenate([b.r for b in every], axis=1),
        one.N,
        np.concatenate([b.w for b in every]),
        one.S,
    )


def total_log_det(mode: Mode, rows: Rows) -> np.ndarray:
    """log det(I + S W) of every series, (n,)."""
    near = mode.smoothed
    by_row = near.log_F + rows.packed.seen * np.log(np.abs(mode.W))
    found: np.ndarray = rows.per_series(by_row) + log_det(near.L)
    return found
