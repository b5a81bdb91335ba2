"""Laplace's approximation for several outcomes of any family, with closed derivatives.

Random effects e_i = L u_i, u_i ~ N(0, I_Q), eta_ijk = fixed part + t_ijk'e_ik. With s_i the sums of
t times the score, A_i those of t t' times w = -d2 log f, both in blocks by outcome,

    l_i = log f_i - |u_i|^2 / 2 - log det H_i / 2,   H_i = I + L'A_i L,   u_i = L's_i (the mode).

The mode moves with the parameters. With the leverages a = t'L H^-1 L't, c = a f''' / 2 of a row and
z_i = H_i^-1 L' sum t c,

    dl / d eta = f' + c - w t'L z,
    dl / dL = sum_i {sum t (dl / d eta)} u_i' + s_i z_i' - A_i L H_i^-1

and nothing but sums over the rows of a subject and Q x Q matrices is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.families import Family, Observations
from dgmm.families.derivatives import RowDerivatives, row_derivatives
from dgmm.latent import Pattern
from dgmm.model import Model
from dgmm.numerics.ascent import Evaluation
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = ["JointEngine"]

NEWTON, HALVINGS = 60, 12
SETTLED = 1e-13
"""Newton decrement of every subject, squared, at its mode."""

LONGEST = 3.0
"""Longest step of u."""


class _Rows(NamedTuple):
    """The observed rows of one outcome, in units of the parameters."""

    key: str
    family: Family
    data: Observations
    constant: Tensor  # (N,) of the log-density
    offset: Tensor  # (N,)
    X: Tensor  # (N, p)
    t: Tensor  # (N, q)
    at: Tensor  # (q,) its columns among all Q
    subject: Tensor  # (N,)

    def derivatives(self, eta: Tensor, extra: Tensor, order: int) -> RowDerivatives:
        """Of log f in eta and the extra parameters."""
        rows = [one.expand_as(eta) for one in extra]
        return row_derivatives(self.family, self.data, [eta, *rows], [0], order)


class _Modes(NamedTuple):
    """The modes at some parameters, and what Newton's method needs there."""

    u: Tensor  # (n, Q)
    height: Tensor  # (n,) log f - |u|^2 / 2
    s: Tensor  # (n, Q)
    A: Tensor  # (n, Q, Q)
    factor: Tensor  # (n, Q, Q) chol(H)
    eta: tuple[Tensor, ...]


@dataclass
class _Taken:
    """A vector taken apart."""

    beta: list[Tensor]
    L: Tensor
    extra: list[Tensor]


class JointEngine:
    """The vector is (beta_1, ..., beta_K, shared ones, entries of L, extra_1, ..., extra_K)."""

    def __init__(self, model: Model, observed: Panel, places: list[Tensor]) -> None:
        """places: of every outcome its columns among those of all random effects."""
        self.model, self.n = model, observed.n
        self.pattern = Pattern.of(model.latents)
        frames = torch.block_diag(*(latent.frame for latent in model.latents))
        self.rows: list[_Rows] = []
        for o, (outcome, panel, at) in enumerate(
            zip(model.outcomes, observed.panels, places, strict=True)
        ):
            own = panel.rows
            entering = [i for i, e in enumerate(model.entries) if any(x.outcome == o for x in e)]
            T = torch.cat([own.T[i] for i in entering], dim=1) if entering else own.X[:, :0]
            self.rows.append(
                _Rows(
                    outcome.key,
                    outcome.family,
                    own.data,
                    _constant(outcome.family, own.data),
                    own.offset,
                    own.X @ outcome.basis,
                    T @ frames[at[:, None], at],
                    at,
                    panel.subject,
                )
            )
        # of every outcome the places of its coefficients in the vector; entries of L come after
        self.beta_at = [one.places(model.packing) for one in model.outcomes]
        self.first = 1 + max((int(at.max()) for at in self.beta_at if len(at)), default=-1)
        self.modes = torch.zeros(self.n, self.pattern.q, dtype=torch.float64)
        self._last = self.modes

    # -- the vector --------------------------------------------------------------------------------

    def vector(self, theta: Theta) -> np.ndarray:
        """The vector of a theta."""
        parts = [theta[f"{one.key}beta"] for one in self.model.outcomes]
        parts += [theta["shared"]] if self.model.in_common else []
        parts.append(self.pattern.of_theta(theta))
        parts += [theta[f"{one.key}extra"] for one in self.model.outcomes]
        found: np.ndarray = torch.cat(parts).detach().numpy()
        return found

    def theta(self, x: np.ndarray) -> Theta:
        """The theta of a vector."""
        theta = self.model.packing.unpack(torch.from_numpy(x.copy()))
        return {**theta, **self.pattern.to_theta(x[self.entries])}

    def working_slope(self, x: np.ndarray) -> np.ndarray:
        """d x / d theta entry by entry: the diagonal of L is logged in theta."""
        slope = np.ones(len(x))
        slope[self.logged] = x[self.logged]
        return slope

    @property
    def entries(self) -> slice:
        """Positions of the free entries of L."""
        return slice(self.first, self.first + len(self.pattern.row))

    @property
    def logged(self) -> np.ndarray:
        """Positions of the diagonal of L."""
        found: np.ndarray = self.first + np.flatnonzero(self.pattern.on_diagonal)
        return found

    def _taken(self, x: np.ndarray) -> _Taken:
        extras = [len(one.family.extra) for one in self.rows]
        vector, entries = torch.from_numpy(x), self.entries
        L = torch.from_numpy(self.pattern.fill(x[entries]))
        beta = [vector[at] for at in self.beta_at]
        return _Taken(beta, L, list(vector[entries.stop :].split(extras)))

    # -- the modes ---------------------------------------------------------------------------------

    def _summed(self, one: _Rows, values: Tensor) -> Tensor:
        """Sums over the rows of every subject, (n, ...)."""
        out = torch.zeros(self.n, *values.shape[1:], dtype=values.dtype)
        return out.index_add_(0, one.subject, values)

    def _etas(self, taken: _Taken, u: Tensor) -> list[Tensor]:
        effects = u @ taken.L.T
        return [
            one.offset + one.X @ beta + (one.t * effects[:, one.at][one.subject]).sum(1)
            for one, beta in zip(self.rows, taken.beta, strict=True)
        ]

    def _height(self, taken: _Taken, u: Tensor) -> Tensor:
        total = -0.5 * u.square().sum(1)
        pairs = zip(self.rows, self._etas(taken, u), taken.extra, strict=True)
        for one, eta, extra in pairs:
            found = one.derivatives(eta, extra, 1).value
            total = total + self._summed(one, found)
        return total

    def _at(self, taken: _Taken, u: Tensor) -> _Modes:
        Q = len(taken.L)
        s = torch.zeros(self.n, Q, dtype=torch.float64)
        A = torch.zeros(self.n, Q, Q, dtype=torch.float64)
        height, etas = -0.5 * u.square().sum(1), self._etas(taken, u)
        for one, eta, extra in zip(self.rows, etas, taken.extra, strict=True):
            # value, first and second derivatives; order 3 promises the value
            found = one.derivatives(eta, extra, 3)
            height = height + self._summed(one, found.value)
            weight = -found.second[0, 0]
            s[:, one.at] += self._summed(one, one.t * found.first[0][:, None])
            outer = (one.t[:, :, None] * one.t[:, None]) * weight[:, None, None]
            A[:, one.at[:, None], one.at] += self._summed(one, outer)
        one_each = torch.eye(Q, dtype=torch.float64)
        H = taken.L.T @ A @ taken.L + one_each
        finite = H.isfinite().all(-1).all(-1)  # where not, the height is none either
        H = torch.where(finite[:, None, None], H, one_each)
        factor, failed = torch.linalg.cholesky_ex(H)
        if bool((failed > 0).any()):
            # not log-concave here: a step as if the rows that bend upwards said nothing
            size, turn = torch.linalg.eigh(H)
            H = (turn * size.clamp(min=1.0)[:, None]) @ turn.mT
            factor = torch.linalg.cholesky(H)
        return _Modes(u, height, s, A, factor, tuple(etas))

    def _find(self, taken: _Taken) -> _Modes:
        """Newton's method for all subjects at once, each with its own length of step."""
        here = self._at(taken, self.modes)
        if not bool(torch.isfinite(here.height).all()):
            here = self._at(taken, torch.zeros_like(self.modes))
        for _ in range(NEWTON):
            gradient = here.s @ taken.L - here.u
            step = torch.cholesky_solve(gradient[..., None], here.factor)[..., 0]
            left = (gradient * step).sum(1)
            if not bool(torch.isfinite(left).all()):
                raise FloatingPointError("the modes are not finite")
            if bool((left < SETTLED).all()):
                break
            step = step * (LONGEST / step.norm(dim=1).clamp(min=1e-300)).clamp(max=1.0)[:, None]
            there = self._at(taken, here.u + step)
            length = torch.ones(self.n, dtype=torch.float64)
            slack = 1e-12 * here.height.abs()
            for _ in range(HALVINGS):
                lower = ~(there.height >= here.height - slack)
                if not bool(lower.any()):
                    break
                length = torch.where(lower, 0.5 * length, length)
                there = self._at(taken, here.u + length[:, None] * step)
            here = there
        return here

    # -- value and derivatives ---------------------------------------------------------------------

    def keep(self) -> None:
        """Searches for modes begin where the last one ended."""
        self.modes = self._last

    def per_subject(self, x: np.ndarray) -> Tensor:
        """l_i, (n,)."""
        taken = self._taken(x)
        here = self._find(taken)
        self._last = here.u
        return self._values(here)

    def _values(self, here: _Modes) -> Tensor:
        total = here.height - here.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        for one in self.rows:
            total = total + self._summed(one, one.constant)
        return total

    def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
        """l, its gradient (P,) and the scores of the subjects (n, P)."""
        taken = self._taken(x)
        here = self._find(taken)
        self._last = here.u
        back, found, z = self._bent(taken, here)
        turned = z @ taken.L.T
        pushed = torch.zeros_like(here.s)
        by_beta, by_extra = torch.zeros(self.n, self.first, dtype=torch.float64), []
        for one, at, (rows, leverage, c) in zip(self.rows, self.beta_at, found, strict=True):
            moved = (one.t * turned[:, one.at][one.subject]).sum(1)
            residual = rows.first[0] + c + rows.second[0, 0] * moved
            pushed[:, one.at] += self._summed(one, one.t * residual[:, None])
            by_beta[:, at] += self._summed(one, one.X * residual[:, None])
            own_extra = [
                rows.first[r] + 0.5 * leverage * rows.third[0, 0, r] + rows.second[0, r] * moved
                for r in range(1, len(one.family.extra) + 1)
            ]
            if own_extra:
                by_extra.append(self._summed(one, torch.stack(own_extra, 1)))
        G = pushed[:, :, None] * here.u[:, None] + here.s[:, :, None] * z[:, None] - here.A @ back
        entries = G[:, self.pattern.row, self.pattern.column]
        table = torch.cat([by_beta, entries, *by_extra], dim=1)
        value = float(self._values(here).sum())
        return Evaluation(value, table.sum(0).numpy(), table.numpy() if scores else None)

    def modes_and_shifts(self, x: np.ndarray) -> tuple[Tensor, Tensor]:
        """The modes u and z, which is E(u | y) - u to first order, (n, Q) each."""
        taken = self._taken(x)
        here = self._find(taken)
        self._last = here.u
        return here.u, self._bent(taken, here)[2]

    def _bent(
        self, taken: _Taken, here: _Modes
    ) -> tuple[Tensor, list[tuple[RowDerivatives, Tensor, Tensor]], Tensor]:
        """L H^-1 (n, Q, Q); of every outcome derivatives, leverages a and c; z (n, Q)."""
        back = taken.L @ torch.cholesky_inverse(here.factor)
        spread = back @ taken.L.T  # L H^-1 L', (n, Q, Q)
        found, third = [], torch.zeros_like(here.s)
        for one, eta, extra in zip(self.rows, here.eta, taken.extra, strict=True):
            rows = one.derivatives(eta, extra, 3)
            own = spread[:, one.at[:, None], one.at][one.subject]
            leverage = ((own @ one.t[..., None])[..., 0] * one.t).sum(1)
            c = 0.5 * leverage * rows.third[0, 0, 0]
            third[:, one.at] += self._summed(one, one.t * c[:, None])
            found.append((rows, leverage, c))
        return back, found, (back.mT @ third[..., None])[..., 0]  # z = H^-1 L' sum t c

    def information(self, x: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """That in the scores, (P, P)."""
        found: np.ndarray = scores.T @ scores
        return found

    def least_information(self, x: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
        """A unit is at most about one on the scale of the parameters, (P,)."""
        return np.full(len(x), 1.0)

    def __call__(self, x: np.ndarray) -> float:
        return float(self.per_subject(x).sum())


def _constant(family: Family, data: Observations) -> Tensor:
    """What closed derivatives leave out of the log-density, (N,)."""
    zero = torch.zeros_like(data.y)
    if family.extra or family.derivatives(data, zero, zero[:0], 1) is None:
        return zero
    return family.constant(data)
