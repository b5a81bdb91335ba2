"""Coefficients and sigmas of several Gaussian outcomes at their minimum, given Lambda.

With v = (-u_k beta_k, u_k)_k and u_k = 1 / sigma_k the part of -2 l that they move is

    v'S v - 2 sum_k df_k log u_k.

Where every outcome has coefficients of its own that is convex in v. Coefficients in common,
beta = C phi, leave v = D(u) (o - C phi, 1), which is solved for phi given u, and u by Newton's
method on what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from dgmm.likelihood.joint_statistics import JointPieces, JointStatistics

__all__ = ["Free", "profiled", "value_of"]

STEPS, HALVINGS = 100, 40

SETTLED = 1e-22
"""Newton decrement of the sigmas, squared, over the number of rows, at which they are found."""


@dataclass(frozen=True)
class Free:
    """Coordinates of v: the coefficients that are free, (F,), and u, (K,)."""

    stats: JointStatistics
    place: Tensor  # (Rx,) long: of every column of X its coefficient among the free ones

    @cached_property
    def in_common(self) -> bool:
        """Whether a coefficient has columns in several outcomes."""
        return len(self.place.unique()) < len(self.place)

    @cached_property
    def C(self) -> Tensor:
        """(Rx, F)."""
        size = int(self.place.max()) + 1 if len(self.place) else 0
        return (self.place[:, None] == torch.arange(size)).double()

    @cached_property
    def origin(self) -> Tensor:
        """What y has lost before the sums were made, (Rx,)."""
        return torch.cat([torch.from_numpy(one.origin) for one in self.stats.each])

    def v(self, phi: Tensor, u: Tensor) -> Tensor:
        """v at some coefficients and u."""
        stats = self.stats
        w = torch.ones(len(stats.of_y), dtype=torch.float64)
        w[~stats.of_y] = self.origin - self.C @ phi
        return u[stats.outcome_of_column] * w

    def best(self, S: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """The coefficients that are best at u, (F,), and v there."""
        none = self.v(torch.zeros(self.C.shape[1], dtype=torch.float64), u)
        x = ~self.stats.of_y
        G = torch.zeros(len(none), self.C.shape[1], dtype=torch.float64)
        G[x] = u[self.stats.outcome_of_column[x], None] * self.C
        phi = torch.linalg.solve(G.T @ S @ G, G.T @ S @ none)
        return phi, none - G @ phi

    def curvature(self, S: Tensor, v: Tensor, df: Tensor) -> tuple[Tensor, Tensor]:
        """d v / d (phi, u), (R, F + K), and the second derivatives of the function there."""
        stats, F, K = self.stats, self.C.shape[1], len(df)
        u, k = v[stats.of_y], stats.outcome_of_column
        J = torch.zeros(len(v), F + K, dtype=torch.float64)
        J[~stats.of_y, :F] = -u[k[~stats.of_y], None] * self.C
        J[torch.arange(len(v)), F + k] = v / u[k]
        H, pull = 2 * J.T @ S @ J, 2 * (S @ v)[~stats.of_y]
        across = torch.zeros(F, K, dtype=torch.float64)
        across.index_add_(1, k[~stats.of_y], -(self.C * pull[:, None]).T)
        H[:F, F:] += across
        H[F:, :F] += across.T
        H[range(F, F + K), range(F, F + K)] += 2 * df / u.square()
        return J, H


def profiled(
    found: JointPieces, restricted: bool, free: Free | None = None
) -> tuple[float, Tensor]:
    """-2 l at its minimum over v, and v (R,).

    Without coefficients in common v_x = -S_xx^-1 S_xy u, and u minimises
    -2 sum df_k log u_k + u'S* u, by Newton's method.
    """
    stats = found.stats
    y, df = stats.of_y, stats.df(restricted)
    Sxx, Sxy, Syy = found.S[~y][:, ~y], found.S[~y][:, y], found.S[y][:, y]
    solved = torch.linalg.solve(Sxx, Sxy)
    reduced = Syy - Sxy.T @ solved
    u = (df / reduced.diagonal().clamp(min=1e-300)).sqrt()
    for _ in range(STEPS):
        gradient = reduced @ u - df / u
        step = torch.linalg.solve(reduced + torch.diag(df / u**2), gradient)
        if float(gradient @ step) < SETTLED * float(df.sum()):
            break
        longest = float((step / u).max())
        u = u - step * min(1.0, 0.9 / longest if longest > 0 else 1.0)
    if free is not None and free.in_common:
        v = _together(found.S, df, free, u)
        return value_of(found, v, restricted), v
    v = torch.zeros(len(y), dtype=torch.float64)
    v[y], v[~y] = u, -solved @ u
    return value_of(found, v, restricted), v


def _together(S: Tensor, df: Tensor, free: Free, u: Tensor) -> Tensor:
    """v with coefficients in common, from a start of u."""

    def at(u: Tensor) -> tuple[float, Tensor]:
        """The function at the best coefficients, and v."""
        v = free.best(S, u)[1]
        return float(v @ S @ v) - 2 * float((df * u.log()).sum()), v

    F = free.C.shape[1]
    value, v = at(u)
    for _ in range(STEPS):
        J, H = free.curvature(S, v, df)
        gradient = (2 * J.T @ S @ v)[F:] - 2 * df / u
        inner = H[F:, F:] - H[F:, :F] @ torch.linalg.solve(H[:F, :F], H[:F, F:])
        if float(torch.linalg.eigvalsh(inner)[0]) <= 0:
            inner = H[F:, F:]
        step = torch.linalg.solve(inner, gradient)
        left = float(gradient @ step)
        if left < SETTLED * float(df.sum()):
            break
        longest = float((step / u).max())
        length = min(1.0, 0.9 / longest if longest > 0 else 1.0)
        for _ in range(HALVINGS):
            trial = at(u - length * step)
            if trial[0] < value:
                break
            length *= 0.5
        else:
            break  # no digits are left
        u = u - length * step
        value, v = trial
    return v


def value_of(found: JointPieces, v: Tensor, restricted: bool) -> float:
    """-2 l at v (R,)."""
    stats = found.stats
    total = stats.constant(restricted) + found.log_det + float(v @ found.S @ v)
    total -= 2 * float((stats.df(restricted) * v[stats.of_y].log()).sum())
    if restricted:
        x = ~stats.of_y
        total += float(torch.linalg.slogdet(found.S[x][:, x])[1])
    return total
