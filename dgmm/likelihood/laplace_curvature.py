"""The curvature of Laplace's approximation in closed form, for families of one predictor.

With l2, l3, l4 the further derivatives of log p(y | eta), W = -l2, V = H^-1, Z = T Lambda and the
mode b(x) of every subject, a parameter moves its rows by the total derivative v_i = d eta / d x_i,
the mode by b_i and C = T'WT by C_i = -T'(l3 v_i) T. With A, t, r, rho as in
:mod:`dgmm.likelihood.adaptive_engine`, dLambda / dx_i = Lambda_i (one entry, the rest zero) and
H_i = Lambda_i'C Lambda + Lambda'C Lambda_i + Lambda'C_i Lambda,

    d2 l / dx_i dx_j = sum (l2 + l3 T rho + A l4 / 2) v_i v_j - b_i'b_j + tr(V H_i V H_j) / 2
                       - tr(V Lambda_i'C Lambda_j) + X_ij + X_ji,
    X_ij = (T'omega)'Lambda_i b_j - r'Lambda_i'T'W v_j - tr(V Lambda'C_j Lambda_i),

the last two of entries of Lambda alone. No two large numbers are subtracted: v_i is small where
the mode follows x_i. It costs less than two evaluations of the gradient, whatever the number of
parameters, so that a search may take Newton's steps.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from dgmm.likelihood.adaptive_engine import SAME, AdaptiveEngine, AtMode, Curved
from dgmm.likelihood.slabs import Slab
from dgmm.numerics.ascent import Evaluation, whitening
from dgmm.numerics.cholesky import log_det, solve

__all__ = ["NewtonSearch", "curvature", "curved", "is_curved"]

LEAST = 0.5
"""The least curvature, in units of the expected one, by which steps are taken from afar."""

RENEWED = 2.0
"""Standard errors from a place at which the curvature of a search by quadrature is made again."""

ROWS = 20_000
"""Rows of which all parameters are worked through at once."""

DEFINITE = 1e-3
"""The least curvature near a maximum, in units of the expected one."""

NEAR = 1.0
"""Standard errors from a maximum, by the expected information, that are near."""


def is_curved(engine: AdaptiveEngine) -> bool:
    """Whether the family has one predictor and closed derivatives up to the fourth."""
    family = engine.model.family
    if family.extra or not engine.slabs:
        return False
    probe = torch.zeros(1, 1, dtype=torch.float64)
    closed = family.derivatives(engine.slabs[0].data, probe, probe[:0], 4)
    return closed is not None and closed.fourth is not None


def curvature(engine: AdaptiveEngine, x: np.ndarray) -> Curved:
    """That of the last place where it was at x: standard errors and notes ask after a search."""
    last = engine.last
    if last is None or last.offset is not engine.offset or not np.allclose(last.x, x, SAME, 0.0):
        last = engine.last = curved(engine, x)
    return last


def curved(engine: AdaptiveEngine, x: np.ndarray) -> Curved:
    """Value, gradient, Hessian and slopes of the modes at x."""
    point, (p, E) = engine.point(x), engine.sizes[:2]
    value, gradient = float(engine.constants.sum()), np.zeros(p + E)
    hessian, expected = np.zeros((2, p + E, p + E))
    slopes = np.zeros((p + E, engine.pattern.q, engine.panel.n))
    for slab in engine.slabs:
        fixed = engine.fixed(slab, point)
        b = engine.find_modes(slab, fixed, point.Lambda)
        at = engine.at_mode(slab, fixed, point.Lambda, b, 4)
        omega, to_Lambda = engine.slopes(slab, at, point.Lambda, b)
        value += float(at.found.value.sum()) - 0.5 * float((b**2).sum() + log_det(at.L).sum())
        Q = _columns(engine, slab)
        gradient[:p] += (Q.flatten(1) @ omega[0].flatten()).numpy()
        gradient[p:] += engine._entries(to_Lambda.sum(-1))
        H, F, moved = _of_slab(engine, slab, at, Q, point.Lambda, b)
        hessian, expected = hessian + H, expected + F
        slopes[:, :, slab.subjects] = moved
    modes = engine.latest.copy()
    return Curved(engine.offset, x.copy(), value, gradient, hessian, expected, modes, slopes)


def _columns(engine: AdaptiveEngine, slab: Slab) -> Tensor:
    """The internal columns of the fixed part, (p, J, n)."""
    Q, (J, n) = engine.panel.rows.X[slab.rows] @ engine.model.basis, slab.shape
    if isinstance(slab.rows, slice):
        return Q.reshape(n, J, -1).permute(2, 1, 0).contiguous()
    return Q.permute(2, 0, 1).contiguous()


def _of_slab(
    engine: AdaptiveEngine, slab: Slab, at: AtMode, Q: Tensor, Lambda: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The Hessian (P, P) of a slab, the expected information (P, P), and db / dx (P, k, n)."""
    unit, row, column = engine.model.unit, engine.pattern.row, engine.pattern.column
    q, n, p, E = len(slab.T), slab.shape[1], len(Q), len(row)
    P, entry = p + E, p + np.arange(E)
    second, third, fourth = at.found.second[0, 0], at.found.third[0, 0, 0], at.found.fourth
    assert fourth is not None
    Sg, C, V, L = at.Sg, at.C, at.inverse, at.L

    # T'W d eta/dx at a fixed mode (q, P, n), then how the mode and the rows move
    M = np.empty((q, P, n))
    weighted = -second * Q
    for a, T in enumerate(slab.T):
        M[a, :p] = (weighted if T is None else weighted * T).sum(1).numpy()
    M[:, p:] = unit * C[:, row] * b[column]
    D = -np.tensordot(Lambda.T, M, axes=1)  # (k, P, n)
    for e, i in enumerate(entry):
        D[column[e], i] += unit * Sg[row[e]]
    moved = solve(L, D)
    shift = np.tensordot(Lambda, moved, axes=1)  # (q, P, n)
    N = M + (C[:, :, None] * shift).sum(1)
    for e, i in enumerate(entry):
        shift[row[e], i] += unit * b[column[e]]
    weight = second + 0.5 * at.leverage[0, 0] * fourth
    for T, own in zip(slab.T, torch.from_numpy(at.rho), strict=True):
        weight = weight + third * (own if T is None else own * T)

    # v_i of the fixed part row by row; entries of Lambda move rows along the columns T alone
    pairs, own = _pairs_of_columns(slab, -third), torch.from_numpy(shift)
    B, U = np.empty((q, q, P, n)), np.empty((q, p, n))
    out, expected = np.zeros((P, P)), np.zeros((P, P))
    for some, v, buffer in _rows_moved(slab, Q, own[:, :p]):
        for (a, c), bent in pairs.items():
            sums = torch.mul(v, bent[:, some], out=buffer).sum(1).numpy()
            B[a, c, :p, some] = B[c, a, :p, some] = sums
        flat = v.flatten(1)
        torch.mul(v, second[:, some], out=buffer)
        expected[:p, :p] -= (buffer.flatten(1) @ flat.T).numpy()
        torch.mul(v, weight[:, some], out=buffer)
        out[:p, :p] += (buffer.flatten(1) @ flat.T).numpy()
        for a, T in enumerate(slab.T):
            U[a, :, some] = (buffer if T is None else buffer * T[:, some]).sum(1).numpy()
    for (a, c), bent in pairs.items():
        cubes = torch.stack([(bent if T is None else bent * T).sum(0) for T in slab.T])
        B[a, c, p:] = B[c, a, p:] = (cubes[:, None] * own[:, p:]).sum(0).numpy()
    out[p:, :p] = sum(shift[a, p:] @ U[a].T for a in range(q))
    out[:p, p:] = out[p:, :p].T
    turned = (engine.crossed(slab, {(0, 0): weight})[:, :, None] * shift[:, None, p:]).sum(0)
    out[p:, p:] = sum(turned[a] @ shift[a, p:].T for a in range(q))
    along = moved.transpose(1, 0, 2).reshape(P, -1)
    out -= along @ along.T
    expected[:p, :p] += along[:p] @ along[:p].T

    # tr(V H_i V H_j) / 2 (k, k, P, n)
    turned = np.tensordot(Lambda.T, B, axes=1)  # (k, q, P, n)
    H = np.einsum("aqpn,qc->acpn", turned, Lambda)
    CL = np.tensordot(C, Lambda, axes=([1], [0]))  # (q, n, k)
    for e, i in enumerate(entry):
        H[column[e], :, i] += unit * CL[row[e]].T
        H[:, column[e], i] += unit * CL[row[e]].T
    K = np.einsum("abn,bcpn->pacn", V, H)
    out += 0.5 * K.reshape(P, -1) @ K.transpose(0, 2, 1, 3).reshape(P, -1).T

    # entries of Lambda
    Y = np.tensordot(Lambda, V, axes=1)  # (q, k, n)
    S_omega = at.S_omega
    X = np.empty((E, P))
    for e in range(E):
        r, c = row[e], column[e]
        own = S_omega[r] * moved[c] - at.r[c] * N[r] - (Y[:, c, None] * B[:, r]).sum(0)
        X[e] = unit * own.sum(-1)
    out[p:] += X
    out[:, p:] += X.T
    both = C[row[:, None], row] * V[column[:, None], column]
    out[p:, p:] -= unit**2 * both.sum(-1)
    # T'V^-1 T = C - C Lambda V Lambda'C, and its products with d Lambda Lambda' / d entry
    inner = C - np.einsum("anc,cdn,bnd->abn", CL, V, CL)
    G = np.einsum("abn,ebc->eacn", inner, _slopes_of_squares(engine, Lambda))
    expected[p:, p:] = 0.5 * G.reshape(E, -1) @ G.transpose(0, 2, 1, 3).reshape(E, -1).T
    return out, expected, moved.transpose(1, 0, 2)


def _rows_moved(slab: Slab, Q: Tensor, shift: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Some subjects, v (P, J, n) of their rows, and memory of that size: a cache's worth."""
    (P, J, n), p = (shift.shape[1], *slab.shape), len(Q)
    at_once = max(1, ROWS // J)
    memory = torch.empty(2, P, J, min(at_once, n), dtype=torch.float64)
    for first in range(0, n, at_once):
        some = slice(first, min(first + at_once, n))
        v, buffer = memory[..., : some.stop - first]
        v.zero_()
        v[:p] = Q[:, :, some]
        for T, own in zip(slab.T, shift[:, :, None, some], strict=True):
            v.add_(own) if T is None else v.addcmul_(T[:, some], own)
        yield some, v, buffer


def _pairs_of_columns(slab: Slab, values: Tensor) -> dict[tuple[int, int], Tensor]:
    """T_a T_c values (J, n) of every pair of columns a >= c."""
    found: dict[tuple[int, int], Tensor] = {}
    for a, Ta in enumerate(slab.T):
        half = values if Ta is None else values * Ta
        for c, Tc in enumerate(slab.T[: a + 1]):
            found[a, c] = half if Tc is None else half * Tc
    return found


def _slopes_of_squares(engine: AdaptiveEngine, Lambda: np.ndarray) -> np.ndarray:
    """d Lambda Lambda' / d entry, (E, q, q)."""
    row, column = engine.pattern.row, engine.pattern.column
    half = np.zeros((len(row), *Lambda.shape))
    half[np.arange(len(row)), row] = engine.model.unit * Lambda[:, column].T
    return half + half.transpose(0, 2, 1)


class NewtonSearch:
    """Laplace's approximation as an objective whose information is its own curvature.

    Quadrature, whose maximum is near, takes its steps by the same curvature, which is not made
    again within two standard errors. Modes are sought where the slopes of the last ones point to.
    Where the curvature is little, far from a maximum, the information of the outcome linearised at
    the modes stands in.
    """

    def __init__(self, engine: AdaptiveEngine) -> None:
        self.engine, self.latest = engine, engine.last
        self.at: tuple[np.ndarray, Evaluation] | None = None  # the last place
        self.newton = False  # whether the last information was the curvature

    def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
        """Value and gradient; of a place (``scores``) the curvature is known."""
        engine, last = self.engine, self.engine.last
        if self.at is not None and np.array_equal(self.at[0], x):
            return self.at[1]
        if last is not None and last.slopes.size:
            engine.modes[:] = last.modes + np.tensordot(x - last.x, last.slopes, axes=1)
        if not scores:
            return engine.value_and_gradient(x)
        if engine.draws > 1 and last is not None and _within(last, x):
            self.latest, found = last, engine.value_and_gradient(x)
        else:
            found = self._curved(x)
        self.at = x.copy(), found._replace(scores=np.zeros((0, len(x))))
        return self.at[1]

    def _curved(self, x: np.ndarray) -> Evaluation:
        engine = self.engine
        with np.errstate(invalid="ignore", divide="ignore"):
            self.latest = curved(engine, x)
        if engine.draws > 1:
            engine.modes[:] = self.latest.modes
            return engine.value_and_gradient(x)
        engine.evaluations += 1
        return Evaluation(self.latest.value, self.latest.gradient, None)

    def information(self, x: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Minus the Hessian where that says enough, else the expected information."""
        found = self.latest
        assert found is not None
        if not (np.isfinite(found.expected).all() and np.isfinite(found.hessian).all()):
            raise FloatingPointError("the information about the parameters is not finite")
        back = whitening(found.expected, self.least_information(x, np.diag(found.expected)))
        near = np.linalg.norm(back.T @ found.gradient) < NEAR
        least = np.linalg.eigvalsh(-back.T @ found.hessian @ back)[0]
        self.newton = bool(least > (DEFINITE if near else LEAST))
        return -found.hessian if self.newton else found.expected

    def along(self, x: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Where a step leads: one of Newton's straight on, one of scoring straight in L L'."""
        return x + step if self.newton else self.engine.stepped(x, step)

    def keep(self) -> None:
        """Let the next modes be predicted from the last place."""
        self.engine.last = self.latest
        self.engine.keep()

    def least_information(self, x: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
        """That of the engine."""
        return self.engine.least_information(x, diagonal)


def _within(found: Curved, x: np.ndarray) -> bool:
    """Whether x is near enough to a place to take steps by its curvature."""
    away = x - found.x
    return bool(away @ found.expected @ away < RENEWED**2)
