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

import numpy as np
import torch
from torch import Tensor

from dgmm.likelihood.adaptive_engine import AdaptiveEngine, AtMode, Curved
from dgmm.likelihood.slabs import Slab
from dgmm.numerics.ascent import Evaluation, Objective, whitening
from dgmm.numerics.cholesky import log_det, solve

__all__ = ["NewtonSearch", "curvature", "curved", "is_curved", "searched"]

LEAST = 0.5
"""The least curvature, in units of the expected one, by which steps are taken from afar."""

DEFINITE = 1e-3
"""The same near a maximum, where the curvature is that of the maximum."""

SAME = 1e-13
"""Relative change of a vector by which the logarithms of theta may move it."""

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


def searched(engine: AdaptiveEngine) -> Objective:
    """The likelihood of an engine as a search takes it: by its curvature where that is known."""
    return NewtonSearch(engine) if is_curved(engine) else engine


def curvature(engine: AdaptiveEngine, x: np.ndarray) -> Curved:
    """That of the last call where it was at x: standard errors and notes ask for one after another.

    Without modes and slopes, which are of the size of the data.
    """
    last = engine.last
    if last is None or last[0] is not engine.offset or not np.allclose(last[1], x, SAME, 0.0):
        last = _kept(engine, x, curved(engine, x))
    return last[2]


def _kept(engine: AdaptiveEngine, x: np.ndarray, found: Curved) -> tuple[Tensor, np.ndarray, Curved]:
    """Note the curvature at x."""
    small = found._replace(modes=np.zeros((0, 0)), slopes=np.zeros((0, 0, 0)))
    engine.last = (engine.offset, x.copy(), small)
    return engine.last


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
    return Curved(value, gradient, hessian, expected, engine.latest.copy(), slopes)


def _columns(engine: AdaptiveEngine, slab: Slab) -> Tensor:
    """The internal columns of the fixed part, (p, J, n)."""
    rows, basis = engine.panel.rows.X[slab.rows], engine.model.basis
    J, n = slab.shape
    Q = basis.T @ rows.reshape(-1, rows.shape[-1]).T
    if isinstance(slab.rows, slice):
        return Q.reshape(-1, n, J).transpose(1, 2).contiguous()
    return Q.reshape(-1, J, n)


def _of_slab(
    engine: AdaptiveEngine, slab: Slab, at: AtMode, Q: Tensor, Lambda: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The Hessian (P, P) of a slab, the expected information (P, P), and db / dx (P, k, n)."""
    unit, row, column = engine.model.unit, engine.pattern.row, engine.pattern.column
    q, n, p, E = len(slab.T), slab.shape[1], len(Q), len(row)
    P, entry = p + E, p + np.arange(E)
    first, second = at.found.first[0], at.found.second[0, 0]
    third, fourth = at.found.third[0, 0, 0], at.found.fourth
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
    v = torch.zeros(P, *slab.shape, dtype=torch.float64)
    v[:p] = Q
    for T, own in zip(slab.T, torch.from_numpy(shift), strict=True):
        v += own[:, None] if T is None else own[:, None] * T

    # C_i, and the rows of the second derivative
    bent, B = v * -third, np.empty((q, q, P, n))
    for a, Ta in enumerate(slab.T):
        half = bent if Ta is None else bent * Ta
        for c, Tc in enumerate(slab.T[: a + 1]):
            whole = half if Tc is None else half * Tc
            B[a, c] = B[c, a] = whole.sum(1).numpy()
    weight = second + 0.5 * at.leverage[0, 0] * fourth
    for T, own in zip(slab.T, torch.from_numpy(at.rho), strict=True):
        weight = weight + third * (own if T is None else own * T)
    out: np.ndarray = ((v * weight).flatten(1) @ v.flatten(1).T).numpy()
    flat = moved.transpose(1, 0, 2).reshape(P, -1)
    out -= flat @ flat.T
    expected = np.zeros((P, P))
    expected[:p, :p] = ((v[:p] * -second).flatten(1) @ v[:p].flatten(1).T).numpy()
    expected[:p, :p] += flat[:p] @ flat[:p].T

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
    pairs = C[row[:, None], row] * V[column[:, None], column]
    out[p:, p:] -= unit**2 * pairs.sum(-1)
    # T'V^-1 T = C - C Lambda V Lambda'C, and its products with d Lambda Lambda' / d entry
    inner = C - np.einsum("anc,cdn,bnd->abn", CL, V, CL)
    G = np.einsum("abn,ebc->eacn", inner, _slopes_of_squares(engine, Lambda))
    expected[p:, p:] = 0.5 * G.reshape(E, -1) @ G.transpose(0, 2, 1, 3).reshape(E, -1).T
    return out, expected, moved.transpose(1, 0, 2)


def _slopes_of_squares(engine: AdaptiveEngine, Lambda: np.ndarray) -> np.ndarray:
    """d Lambda Lambda' / d entry, (E, q, q)."""
    row, column = engine.pattern.row, engine.pattern.column
    half = np.zeros((len(row), *Lambda.shape))
    half[np.arange(len(row)), row] = engine.model.unit * Lambda[:, column].T
    return half + half.transpose(0, 2, 1)


class NewtonSearch:
    """Laplace's approximation as an objective whose information is its own curvature.

    Quadrature, whose maximum is near, takes its steps by the same curvature. Modes are sought where
    the slopes of the last ones point to. Where the curvature is little, far from a maximum, the
    information of the outcome linearised at the modes stands in.
    """

    def __init__(self, engine: AdaptiveEngine) -> None:
        self.engine = engine
        self.here: tuple[np.ndarray, Curved] | None = None

    def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
        """Value and gradient; of a place (``scores``) the curvature is kept."""
        engine, here = self.engine, self.here
        if here is not None:
            start, at = here
            engine.modes[:] = at.modes + np.tensordot(x - start, at.slopes, axes=1)
        if not scores:
            return engine.value_and_gradient(x)
        engine.evaluations += 1
        with np.errstate(invalid="ignore", divide="ignore"):
            self.latest = x.copy(), curved(engine, x)
        found = self.latest[1]
        if engine.draws > 1:
            engine.modes[:] = found.modes
            found = engine.value_and_gradient(x)
        return Evaluation(found.value, found.gradient, np.zeros((0, len(x))))

    def information(self, x: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Minus the Hessian where that says enough, else the expected information."""
        found = self.latest[1]
        back = whitening(found.expected, self.least_information(x, np.diag(found.expected)))
        near = np.linalg.norm(back.T @ found.gradient) < NEAR
        least = np.linalg.eigvalsh(-back.T @ found.hessian @ back)[0]
        return -found.hessian if least > (DEFINITE if near else LEAST) else found.expected

    def keep(self) -> None:
        """Let the next modes be predicted from the last place."""
        self.here = self.latest
        _kept(self.engine, *self.latest)
        self.engine.keep()

    def least_information(self, x: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
        """That of the engine."""
        return self.engine.least_information(x, diagonal)
