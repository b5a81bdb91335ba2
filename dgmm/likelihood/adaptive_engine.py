"""log p(y; theta) of classical models: Laplace or adaptive quadrature, with closed gradients.

Every predictor of a row (eta, and the extra parameters of the family) is linear in the parameters,

    eta_s = offset_s + X_s beta_s + T_s Lambda b,      b ~ N(0, I_k).

With g, W and l3 the first derivative, minus the second and the third of log p(y | eta), the modes
b_i solve Lambda'T'g = b for all subjects at once, H_i = I + Lambda'T'W T Lambda there, and

    Laplace      l_i = sum_j log p(y_ij | b_i) - |b_i|^2 / 2 - log det H_i / 2
    quadrature   l_i = log sum_m exp{ lw_m + log p(y_i, b_im) } - log det H_i / 2,
                 b_im = b_i + chol(H_i)^-T e_m.

The gradient of the first goes through the mode: with V = Lambda H^-1 Lambda', A = T V T',
t = A l3 / 2, s = Lambda'T't, r = H^-1 s, rho = Lambda r,

    dl / d eta     = g + t - W T rho  =: omega
    dl / d Lambda  = T'omega b' + T'g r' - T'W T Lambda H^-1.

That of the second is the posterior mean of the complete-data score (Fisher's identity), and its
observed information is Louis's, E(-d2) - var(score): both as exact as the rule.

Bates et al. (2015), Kristensen et al. (2016), J. Statistical Software 67(1), 70(5); Louis (1982).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import copy
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from dgmm.families.derivatives import RowDerivatives, row_derivatives
from dgmm.likelihood.canonical_nodes import AroundModes
from dgmm.likelihood.slab_modes import CELLS, SlabModes, between
from dgmm.likelihood.slabs import Slab
from dgmm.model import Model
from dgmm.numerics.ascent import Evaluation
from dgmm.numerics.cholesky import backward, cholesky, log_det, solve
from dgmm.numerics.quadrature import Nodes
from dgmm.panel import Panel

__all__ = ["SAME", "AdaptiveEngine", "AtMode", "Curved"]

SAME = 1e-13
"""Relative change of a vector by which the logarithms of theta may move it."""

NODES = 500_000
"""Entries (nodes times subjects times dimensions) at once."""

Leverage = dict[tuple[int, int], Tensor]
"""A of every pair of moving predictors, (J, n)."""


class AtMode(NamedTuple):
    """Laplace's approximation around the modes of a slab."""

    found: RowDerivatives
    C: np.ndarray  # T'WT (q, q, n)
    L: np.ndarray  # chol(H) (k, k, n)
    inverse: np.ndarray  # H^-1 (k, k, n)
    leverage: Leverage
    t: list[Tensor]  # per predictor (J, n)
    Sg: np.ndarray  # T'g (q, n)
    S_omega: np.ndarray  # T'omega (q, n)
    r: np.ndarray  # (k, n)
    rho: np.ndarray  # (q, n)


class Curved(NamedTuple):
    """Laplace's approximation at a point, to second order."""

    offset: Tensor
    x: np.ndarray  # (P,)
    value: float
    gradient: np.ndarray  # (P,)
    hessian: np.ndarray  # (P, P)
    expected: np.ndarray  # information of the outcome linearised at the modes (P, P)
    modes: np.ndarray  # b (k, n)
    slopes: np.ndarray  # db / dx (P, k, n)


class AdaptiveEngine(SlabModes):
    """The marginal log-likelihood of a classical model by nodes around the modes.

    ``nodes`` of one point at zero give the Laplace approximation.
    """

    def __init__(self, model: Model, panel: Panel, nodes: Nodes) -> None:
        super().__init__(model, panel)
        self.last: Curved | None = None  # of the place that a search stands at
        self._take(nodes)

    def _take(self, nodes: Nodes) -> None:
        self.nodes, self.draws = nodes, len(nodes.e)
        self._noted: tuple[Tensor, np.ndarray, np.ndarray] | None = None  # offset, x, gradient
        probe = torch.zeros(1, dtype=torch.float64)
        shared = nodes.e.shape[1] == 1  # one rule for all subjects
        self.canonical = shared and self.model.family.cumulant(probe) is not None

    def by(self, nodes: Nodes) -> AdaptiveEngine:
        """The likelihood by other nodes, its modes where the last ones were."""
        other = copy(self)
        other.begin()
        other._take(nodes)
        other.modes[:] = self.modes
        return other

    def at_rest(self) -> AdaptiveEngine:
        """After a search: without what is of the size of the data and only the search has used."""
        if self.last is not None:
            self.last = self.last._replace(slopes=np.zeros((0, 0, 0)))
        return self

    # -- the likelihood ------------------------------------------------------------------------

    def value(self, x: np.ndarray) -> float:
        """l(x)."""
        return float(self.per_subject(x).sum())

    def per_subject(self, x: np.ndarray) -> np.ndarray:
        """l_i(x), (n,); subjects without measurements have 0."""
        point, out = self.point(x), np.zeros(self.panel.n)
        for slab in self.slabs:
            fixed = self.fixed(slab, point)
            b = self.find_modes(slab, fixed, point.Lambda)
            if self.draws == 1:
                found = self.derivatives(slab, self.shifted(slab, fixed, point.Lambda @ b), 2)
                height = self.height_at(slab, fixed, point.Lambda, b)
                L = self.root(slab, found, point.Lambda)
                out[slab.subjects] = height - 0.5 * log_det(L)
            else:
                terms = self.log_terms(slab, fixed, point.Lambda, b)
                out[slab.subjects] = logsumexp(terms, axis=0)
        return out + self.constants

    def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
        """l(x), its gradient, and with ``scores`` the gradient of every l_i."""
        self.evaluations += 1
        # what is not finite is refused by the caller, in words
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._evaluate(x, scores)

    def gradient_at(self, x: np.ndarray) -> np.ndarray:
        """The gradient of l, of the last call if that was at x."""
        if self._noted is not None:
            offset, place, gradient = self._noted
            if offset is self.offset and np.allclose(place, x, SAME, 0.0):
                return gradient
        return self.value_and_gradient(x).gradient

    def _evaluate(self, x: np.ndarray, scores: bool) -> Evaluation:
        point = self.point(x)
        omega = [long.zero_() for long in self.omega]
        k = self.pattern.q
        to_Lambda = np.zeros((k, k))
        each = np.zeros((self.panel.n, k, k)) if scores else None
        total = float(self.constants.sum())
        one = self._laplace if self.draws == 1 else self._quadrature
        for slab in self.slabs:
            fixed = self.fixed(slab, point)
            b = self.find_modes(slab, fixed, point.Lambda)
            value, slopes, per_Lambda = one(slab, fixed, point.Lambda, b)
            total += value
            for slope, long in zip(slopes, omega, strict=True):
                slab.scatter(slope, long)
            to_Lambda += per_Lambda.sum(-1)
            if each is not None:
                each[slab.subjects] = np.moveaxis(per_Lambda, -1, 0)
        gradient = self._gradient(omega, to_Lambda)
        self._noted = self.offset, x.copy(), gradient
        table = None if each is None else self._scores(omega, each)
        return Evaluation(total, gradient, table)

    def _gradient(self, omega: list[Tensor], to_Lambda: np.ndarray) -> np.ndarray:
        rows, basis = self.panel.rows, self.model.basis
        parts = [(basis.T @ (rows.X.T @ omega[0])).numpy()]
        parts.append(self._entries(to_Lambda))
        for w, design in zip(omega[1:], self.designs, strict=True):
            parts.append((w.sum().reshape(1) if design is None else design.T @ w).numpy())
        return np.concatenate(parts)

    def _scores(self, omega: list[Tensor], to_Lambda: np.ndarray) -> np.ndarray:
        """Gradients of every l_i, (n, P)."""
        rows = self.panel.rows
        parts = [self._per_subject_sums(rows.X, omega[0]) @ self.model.basis.numpy()]
        parts.append(self._entries(to_Lambda))
        for w, design in zip(omega[1:], self.designs, strict=True):
            ones = torch.ones(len(w), 1, dtype=torch.float64)
            parts.append(self._per_subject_sums(ones if design is None else design, w))
        return np.concatenate(parts, axis=1)

    def _per_subject_sums(self, X: Tensor, w: Tensor) -> np.ndarray:
        """sum_j X_ij w_ij, (n, p), a column at a time."""
        out = np.zeros((self.panel.n, X.shape[1]))
        seen = self.panel.count.numpy() > 0
        start = self.panel.start.numpy()[seen]
        for j in range(X.shape[1]):
            out[seen, j] = np.add.reduceat((X[:, j] * w).numpy(), start)
        return out

    def _laplace(
        self, slab: Slab, fixed: list[Tensor], Lambda: np.ndarray, b: np.ndarray
    ) -> tuple[float, list[Tensor], np.ndarray]:
        """Value, omega of every predictor (J, n) and the gradient in Lambda (q, k, n)."""
        at = self.at_mode(slab, fixed, Lambda, b, 3)
        value = float(at.found.value.sum()) - 0.5 * float((b**2).sum() + log_det(at.L).sum())
        return value, *self.slopes(slab, at, Lambda, b)

    def at_mode(
        self, slab: Slab, fixed: list[Tensor], Lambda: np.ndarray, b: np.ndarray, order: int
    ) -> AtMode:
        """Laplace's approximation around the modes b (k, n), derivatives up to ``order``."""
        found = self.derivatives(slab, self.shifted(slab, fixed, Lambda @ b), order)
        C, H = self.precision(slab, found, Lambda, safe=False)
        L = cholesky(H)
        inverse, leverage, t, St, r = self._bent(slab, found, L, Lambda)
        Sg, rho = self.sums(slab, list(found.first)), Lambda @ r
        S_omega = Sg + St - (C * rho).sum(1)
        return AtMode(found, C, L, inverse, leverage, t, Sg, S_omega, r, rho)

    def slopes(
        self, slab: Slab, at: AtMode, Lambda: np.ndarray, b: np.ndarray
    ) -> tuple[list[Tensor], np.ndarray]:
        """omega of every predictor (J, n) and the gradient in Lambda (q, k, n)."""
        omega = [g + u for g, u in zip(at.found.first, at.t, strict=True)]
        for T, value_q, a in zip(slab.T, at.rho, self.predictor, strict=True):
            shift = torch.from_numpy(np.ascontiguousarray(value_q))
            for s in range(len(omega)):
                moved = at.found.second[int(a), s] * shift
                omega[s] = omega[s] + (moved if T is None else moved * T)
        CL = np.tensordot(at.C, Lambda, axes=([1], [0]))  # (q, n, k)
        to_Lambda = at.S_omega[:, None] * b + at.Sg[:, None] * at.r
        for a in range(len(b)):
            to_Lambda[:, a] -= (CL * at.inverse[:, a].T).sum(-1)
        return omega, to_Lambda

    def modes_and_shifts(self, x: np.ndarray) -> tuple[Tensor, Tensor]:
        """The modes b and r, which is E(b | y) - b to first order, (n, k) each."""
        point, shift = self.point(x), np.zeros((self.pattern.q, self.panel.n))
        for slab in self.slabs:
            fixed = self.fixed(slab, point)
            b = self.find_modes(slab, fixed, point.Lambda)
            found = self.derivatives(slab, self.shifted(slab, fixed, point.Lambda @ b), 3)
            L = self.root(slab, found, point.Lambda)
            shift[:, slab.subjects] = self._bent(slab, found, L, point.Lambda)[-1]
        return torch.from_numpy(self.latest.T.copy()), torch.from_numpy(shift.T)

    def _bent(
        self, slab: Slab, found: RowDerivatives, L: np.ndarray, Lambda: np.ndarray
    ) -> tuple[np.ndarray, Leverage, list[Tensor], np.ndarray, np.ndarray]:
        """H^-1 (k, k, n), A, t of every predictor (J, n), T't (q, n) and r (k, n)."""
        inverse = solve(L, np.broadcast_to(np.eye(len(L))[:, :, None], L.shape))
        leverage = self._leverage(slab, between(Lambda.T, inverse))
        t = []
        for s in range(len(found.first)):
            total: Tensor | None = None
            for (a, c), A in leverage.items():
                term = A * found.third[a, c, s]
                total = term if total is None else total + term
            assert total is not None
            t.append(0.5 * total)
        St = self.sums(slab, t)
        return inverse, leverage, t, St, solve(L, (Lambda.T @ St)[:, None])[:, 0]

    def _leverage(self, slab: Slab, V: np.ndarray) -> Leverage:
        """A_ac = T_a V T_c' of every pair of moving predictors a <= c, off-diagonal pairs twice."""
        out: Leverage = {}
        q = len(slab.T)
        for a in range(q):
            for c in range(a + 1):
                pair = sorted((int(self.predictor[a]), int(self.predictor[c])))
                key = (pair[0], pair[1])
                twice = 1.0 if a == c else 2.0
                term = torch.from_numpy(np.ascontiguousarray(V[a, c] * twice))[None]
                for T in (slab.T[a], slab.T[c]):
                    term = term if T is None else term * T
                out[key] = term if key not in out else out[key] + term
        return out

    # -- nodes ---------------------------------------------------------------------------------

    def at_nodes(
        self,
        slab: Slab,
        fixed: list[Tensor],
        Lambda: np.ndarray,
        b: np.ndarray,
        order: int,
        among: list[int] | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray, RowDerivatives]]:
        """Some nodes at a time: log terms (m, n), nodes (k, m, n) and the rows' derivatives there.

        With order 2 there are no log terms; derivatives are taken among the predictors ``among``.
        """
        centre = self.derivatives(slab, self.shifted(slab, fixed, Lambda @ b), 2)
        L = self.root(slab, centre, Lambda)
        constant = -0.5 * log_det(L) - 0.5 * self.pattern.q * math.log(2 * math.pi)
        at_once = max(1, CELLS // (slab.shape[0] * slab.shape[1]))
        family, moving = self.model.family, self.moving if among is None else among
        for first in range(0, self.draws, at_once):
            e = self.nodes.e[first : first + at_once]
            log_weight = self.nodes.log_weight[first : first + at_once]
            if e.shape[1] > 1:
                e, log_weight = e[:, slab.subjects], log_weight[:, slab.subjects]
            moved = np.moveaxis(e.expand(-1, b.shape[1], -1).numpy(), -1, 0)
            nodes = b[:, None] + backward(L, moved)
            predictors = self.shifted(slab, fixed, np.tensordot(Lambda, nodes, axes=1))
            found = row_derivatives(family, slab.data, predictors, moving, order)
            height = slab.masked(found.value).sum(-2).numpy() - 0.5 * (nodes**2).sum(0)
            yield height + log_weight.numpy() + constant, nodes, found

    def log_terms(
        self, slab: Slab, fixed: list[Tensor], Lambda: np.ndarray, b: np.ndarray
    ) -> np.ndarray:
        """Log weight plus log density at every node, (M, n): their log-sum-exp is l_i."""
        rows = self._around(slab, fixed, Lambda, b) if self.canonical else None
        if rows is None:
            return np.concatenate([t for t, *_ in self.at_nodes(slab, fixed, Lambda, b, 1)])
        around, height, L = rows
        parts = [around.heights(c) + base for _, c, base in self._spread(L, Lambda, b)]
        found: np.ndarray = torch.cat(parts).numpy()
        return found + height

    def _around(
        self, slab: Slab, fixed: list[Tensor], Lambda: np.ndarray, b: np.ndarray
    ) -> tuple[AroundModes, np.ndarray, np.ndarray] | None:
        """Rows with a canonical link at the modes, log p(y, b) there (n,), and chol(H).

        None where sums are too large.
        """
        predictors = self.shifted(slab, fixed, Lambda @ b)
        around = AroundModes.of(self.model.family, slab, predictors[0], CELLS)
        if around is None:
            return None
        found = self.derivatives(slab, predictors, 3)
        height: np.ndarray = found.value.sum(0).numpy() - 0.5 * (b**2).sum(0)
        return around, height, self.root(slab, found, Lambda)

    def _spread(
        self, L: np.ndarray, Lambda: np.ndarray, b: np.ndarray
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Some nodes (k, m, n), Lambda (b_m - b), and the log weights less the density's (m, n)."""
        constant = -0.5 * log_det(L) - 0.5 * self.pattern.q * math.log(2 * math.pi)
        constant += 0.5 * (b**2).sum(0)
        at_once = max(1, NODES // b.size)
        for first in range(0, self.draws, at_once):
            e = self.nodes.e[first : first + at_once].expand(-1, b.shape[1], -1).numpy()
            log_weight = self.nodes.log_weight[first : first + at_once].numpy()
            away = backward(L, np.moveaxis(e, -1, 0))
            nodes = b[:, None] + away
            base = log_weight + constant - 0.5 * (nodes**2).sum(0)
            c = np.tensordot(Lambda, away, axes=1)
            yield torch.from_numpy(nodes), torch.from_numpy(c), torch.from_numpy(base)

    def _quadrature(
        self, slab: Slab, fixed: list[Tensor], Lambda: np.ndarray, b: np.ndarray
    ) -> tuple[float, list[Tensor], np.ndarray]:
        """Value, omega and slope by quadrature, weights relative to the height of the mode."""
        rows = self._around(slab, fixed, Lambda, b) if self.canonical else None
        if rows is not None:
            return self._canonical(*rows, Lambda, b)
        k, n = b.shape
        height = self.height_at(slab, fixed, Lambda, b)
        mass = np.zeros(n)
        omega = [torch.zeros(slab.shape, dtype=torch.float64) for _ in fixed]
        to_Lambda = np.zeros((k, k, n))
        for terms, nodes, found in self.at_nodes(slab, fixed, Lambda, b, 1):
            with np.errstate(over="ignore"):  # a mode not found: the step is refused
                weight = np.exp(terms - height)
            mass += weight.sum(0)
            wide = torch.from_numpy(weight)[:, None]
            weighted = [wide * g for g in found.first]
            for total, g in zip(omega, weighted, strict=True):
                total += g.sum(0)
            S = self.sums(slab, [slab.masked(g) for g in weighted])  # (q, m, n)
            for q in range(k):
                to_Lambda[q] += (S[q] * nodes).sum(1)
        share = torch.from_numpy(1 / mass)
        value = float((np.log(mass) + height).sum())
        return value, [slab.masked(w * share) for w in omega], to_Lambda / mass

    def _canonical(
        self,
        around: AroundModes,
        height: np.ndarray,
        L: np.ndarray,
        Lambda: np.ndarray,
        b: np.ndarray,
    ) -> tuple[float, list[Tensor], np.ndarray]:
        """Those of quadrature by sums at the nodes alone."""
        parts = [around.averages(c, at, base) for at, c, base in self._spread(L, Lambda, b)]
        mass, first, to_Lambda = (sum(own) for own in zip(*parts, strict=True))
        value = float(mass.log().sum()) + float(height.sum())
        return value, [first / mass], (to_Lambda / mass).numpy()
