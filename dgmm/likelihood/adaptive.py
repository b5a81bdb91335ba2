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

Subjects lie along the last axis, so sums over measurements and the small matrices are vectorised
over subjects. Modes and Laplace gradient after Bates et al. (2015) and Kristensen et al. (2016),
J. Statistical Software 67(1) and 70(5); Louis (1982), J. R. Statist. Soc. B 44, 226-233.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from dgmm.families.derivatives import RowDerivatives, row_derivatives
from dgmm.likelihood.slabs import Slab, slabs
from dgmm.likelihood.vector import ClassicalObjective
from dgmm.model import Model
from dgmm.numerics.ascent import Evaluation
from dgmm.numerics.cholesky import backward, cholesky, log_det, solve
from dgmm.numerics.quadrature import Nodes
from dgmm.panel import Panel

__all__ = ["ClassicalLikelihood"]

CELLS = 40_000
NEWTON_STEPS = 60
CAREFUL_AFTER = 6
LARGEST_STEP = 3.0
SETTLED = 1e-8  # Newton decrement before the last step: quadratic convergence does the rest


@dataclass(frozen=True)
class _Point:
    """The parameters taken apart."""

    fixed: list[Tensor]  # per predictor, long (N,) or a number
    Lambda: np.ndarray  # (q, k), q = k


class ClassicalLikelihood(ClassicalObjective):
    """The marginal log-likelihood of a classical model by nodes around the modes.

    ``nodes`` of one point at zero give the Laplace approximation. Modes are kept between calls.
    """

    def __init__(self, model: Model, panel: Panel, nodes: Nodes) -> None:
        super().__init__(model, panel)
        self.nodes, self.draws = nodes, len(nodes.e)
        columns = [T[:, j] for T in panel.rows.T for j in range(T.shape[1])]
        self.predictor = np.array(model.predictor_of_columns())
        self.moving = sorted(set(self.predictor.tolist()))
        self.slabs = list(slabs(panel, columns, CELLS))
        self.modes = np.zeros((self.pattern.q, panel.n))
        self.designs = model.extra_designs(panel.rows)
        # written anew by every call: fresh memory for all rows would cost more than the sums
        self.omega = [torch.empty_like(self.eta) for _ in range(1 + len(model.extra_sizes))]
        self.constants = self._constants()

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

    def _point(self, x: np.ndarray) -> _Point:
        _, _, *extra = self._split(x)
        fixed = [self._fixed_part(x)]
        for part, design in zip(extra, self.designs, strict=True):
            coefficient = torch.from_numpy(part)
            fixed.append(coefficient if design is None else design @ coefficient)
        return _Point(fixed, self.Lambda(x))

    # -- one slab ------------------------------------------------------------------------------

    def _fixed(self, slab: Slab, point: _Point) -> list[Tensor]:
        """The fixed part of every predictor, (J, n)."""
        return [
            slab.gather(f) if len(f) == self.panel.n_rows else f.reshape(1, 1).expand(slab.shape)
            for f in point.fixed
        ]

    def _shifted(self, slab: Slab, fixed: list[Tensor], c: np.ndarray) -> list[Tensor]:
        """Predictors with the random part T c added: c (q, ..., n) -> (..., J, n)."""
        out = list(fixed)
        for T, values, s in zip(slab.T, c, self.predictor, strict=True):
            shift = torch.from_numpy(np.ascontiguousarray(values))[..., None, :]
            out[s] = out[s] + (shift if T is None else T * shift)
        if c.ndim > 2:
            shape = (*c.shape[1:-1], *slab.shape)
            out = [o.expand(shape) for o in out]
        return out

    def _sums(self, slab: Slab, values: list[Tensor]) -> np.ndarray:
        """sum_j T_q values of its predictor, (q, ..., n)."""
        columns = [
            (values[s] if T is None else values[s] * T).sum(-2)
            for T, s in zip(slab.T, self.predictor, strict=True)
        ]
        return torch.stack(columns).numpy()

    def _crossed(self, slab: Slab, W: dict[tuple[int, int], Tensor]) -> np.ndarray:
        """sum_j T_a T_c W_ac over pairs of columns, (q, q, n)."""
        q = len(slab.T)
        out = np.empty((q, q, slab.shape[1]))
        for a in range(q):
            Ta, s = slab.T[a], int(self.predictor[a])
            for c in range(a + 1):
                weighted = W[s, int(self.predictor[c])]
                for T in (Ta, slab.T[c]):
                    weighted = weighted if T is None else weighted * T
                out[a, c] = out[c, a] = weighted.sum(0).numpy()
        return out

    def _derivatives(self, slab: Slab, predictors: list[Tensor], order: int) -> RowDerivatives:
        found = row_derivatives(self.model.family, slab.data, predictors, self.moving, order)
        if slab.mask is None:
            return found
        return RowDerivatives(
            slab.masked(found.value),
            tuple(slab.masked(v) for v in found.first),
            {key: slab.masked(v) for key, v in found.second.items()},
            {key: slab.masked(v) for key, v in found.third.items()},
        )

    def _precision(
        self, slab: Slab, found: RowDerivatives, Lambda: np.ndarray, safe: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """T'WT (q, q, n) and H = I + Lambda'T'W T Lambda; ``safe`` keeps W >= 0."""
        W = {key: -value for key, value in found.second.items()}
        if safe:
            W = {
                key: value.clamp(min=0.0) if key[0] == key[1] else torch.zeros_like(value)
                for key, value in W.items()
            }
        C = self._crossed(slab, W)
        H = _between(Lambda, C)
        H[np.arange(len(H)), np.arange(len(H))] += 1.0
        return C, H

    def _find_modes(
        self, slab: Slab, fixed: list[Tensor], Lambda: np.ndarray, b: np.ndarray
    ) -> np.ndarray:
        """Newton for all subjects of a slab, from b (k, n)."""
        height: np.ndarray | None = None
        for step_number in range(NEWTON_STEPS):
            found = self._derivatives(slab, self._shifted(slab, fixed, Lambda @ b), 2)
            gradient = Lambda.T @ self._sums(slab, list(found.first)) - b
            _, H = self._precision(slab, found, Lambda, safe=False)
            L = cholesky(H)
            if np.isnan(L).any():
                L = cholesky(self._precision(slab, found, Lambda, safe=True)[1])
            step = solve(L, gradient[:, None])[:, 0]
            decrement = (gradient * step).sum(0)
            largest = float(decrement.max())
            if not np.isfinite(largest):
                raise FloatingPointError("the modes of the random effects overflow")
            length = np.sqrt((step**2).sum(0))
            step = step * np.minimum(1.0, LARGEST_STEP / np.maximum(length, 1e-300))
            if step_number < CAREFUL_AFTER:
                b = b + step
            else:
                if height is None:
                    height = self._height(slab, fixed, Lambda, b)
                b, height = self._line_search(slab, fixed, Lambda, b, step, height)
            if largest < SETTLED:
                break
        return b

    def _height(
        self, slab: Slab, fixed: list[Tensor], Lambda: np.ndarray, b: np.ndarray
    ) -> np.ndarray:
        found = self._derivatives(slab, self._shifted(slab, fixed, Lambda @ b), 1)
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
            value = self._height(slab, fixed, Lambda, trial)
            accept = ~done & (value >= height - 1e-12 * np.abs(height))
            best, top = np.where(accept, trial, best), np.where(accept, value, top)
            done |= accept
            if done.all():
                break
            length = np.where(done, length, 0.5 * length)
        return best, top

    # -- the likelihood ------------------------------------------------------------------------

    def value(self, x: np.ndarray) -> float:
        """l(x)."""
        return float(self.per_subject(x).sum())

    def per_subject(self, x: np.ndarray) -> np.ndarray:
        """l_i(x), (n,); subjects without measurements have 0."""
        point, out = self._point(x), np.zeros(self.panel.n)
        for slab in self.slabs:
            fixed = self._fixed(slab, point)
            b = self._find_modes(slab, fixed, point.Lambda, self.modes[:, slab.subjects])
            self.modes[:, slab.subjects] = b
            if self.draws == 1:
                found = self._derivatives(slab, self._shifted(slab, fixed, point.Lambda @ b), 2)
                height = self._height(slab, fixed, point.Lambda, b)
                L = self._root(slab, found, point.Lambda)
                out[slab.subjects] = height - 0.5 * log_det(L)
            else:
                terms = self._log_terms(slab, fixed, point.Lambda, b)
                out[slab.subjects] = logsumexp(terms, axis=0)
        return out + self.constants

    def _root(self, slab: Slab, found: RowDerivatives, Lambda: np.ndarray) -> np.ndarray:
        """chol(H) at a mode; where H is not positive definite, with the positive part of W."""
        L = cholesky(self._precision(slab, found, Lambda, safe=False)[1])
        bad = np.isnan(L).any((0, 1))
        if bad.any():
            L[:, :, bad] = cholesky(self._precision(slab, found, Lambda, safe=True)[1])[:, :, bad]
        return L

    def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
        """l(x), its gradient, and with ``scores`` the gradient of every l_i."""
        self.evaluations += 1
        # what is not finite is refused by the caller, in words
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._evaluate(x, scores)

    def _evaluate(self, x: np.ndarray, scores: bool) -> Evaluation:
        point = self._point(x)
        omega = [long.zero_() for long in self.omega]
        k = self.pattern.q
        to_Lambda = np.zeros((k, k))
        each = np.zeros((self.panel.n, k, k)) if scores else None
        total = float(self.constants.sum())
        one = self._laplace if self.draws == 1 else self._quadrature
        for slab in self.slabs:
            fixed = self._fixed(slab, point)
            b = self._find_modes(slab, fixed, point.Lambda, self.modes[:, slab.subjects])
            self.modes[:, slab.subjects] = b
            value, slopes, per_Lambda = one(slab, fixed, point.Lambda, b)
            total += value
            for slope, long in zip(slopes, omega, strict=True):
                slab.scatter(slope, long)
            to_Lambda += per_Lambda.sum(-1)
            if each is not None:
                each[slab.subjects] = np.moveaxis(per_Lambda, -1, 0)
        gradient = self._gradient(omega, to_Lambda)
        table = None if each is None else self._scores(omega, each)
        return Evaluation(total, gradient, table)

    def _gradient(self, omega: list[Tensor], to_Lambda: np.ndarray) -> np.ndarray:
        rows, basis = self.panel.rows, self.model.basis
        parts = [(basis.T @ (rows.X.T @ omega[0])).numpy()]
        scaled = self.scale[:, None] * to_Lambda
        parts.append(scaled[self.pattern.row, self.pattern.column])
        for w, design in zip(omega[1:], self.designs, strict=True):
            parts.append((w.sum().reshape(1) if design is None else design.T @ w).numpy())
        return np.concatenate(parts)

    def _scores(self, omega: list[Tensor], to_Lambda: np.ndarray) -> np.ndarray:
        """Gradients of every l_i, (n, P)."""
        rows = self.panel.rows
        parts = [self._per_subject_sums(rows.X, omega[0]) @ self.model.basis.numpy()]
        scaled = self.scale[:, None] * to_Lambda
        parts.append(scaled[:, self.pattern.row, self.pattern.column])
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
        found = self._derivatives(slab, self._shifted(slab, fixed, Lambda @ b), 3)
        C, H = self._precision(slab, found, Lambda, safe=False)
        L = cholesky(H)
        value = float(found.value.sum()) - 0.5 * float((b**2).sum() + log_det(L).sum())
        k = len(b)
        inverse = solve(L, np.broadcast_to(np.eye(k)[:, :, None], L.shape))
        V = _between(Lambda.T, inverse)
        leverage = self._leverage(slab, V)
        t = []
        for s in range(len(fixed)):
            total: Tensor | None = None
            for (a, c), A in leverage.items():
                term = A * found.third[a, c, s]
                total = term if total is None else total + term
            assert total is not None
            t.append(0.5 * total)
        St = self._sums(slab, t)
        r = solve(L, (Lambda.T @ St)[:, None])[:, 0]
        rho = Lambda @ r
        omega = [g + u for g, u in zip(found.first, t, strict=True)]
        for T, value_q, a in zip(slab.T, rho, self.predictor, strict=True):
            shift = torch.from_numpy(np.ascontiguousarray(value_q))
            for s in range(len(fixed)):
                moved = found.second[int(a), s] * shift
                omega[s] = omega[s] + (moved if T is None else moved * T)
        Sg = self._sums(slab, list(found.first))
        S_omega = Sg + St - (C * rho).sum(1)
        CL = np.tensordot(C, Lambda, axes=([1], [0]))  # (q, n, k)
        to_Lambda = S_omega[:, None] * b + Sg[:, None] * r
        for a in range(k):
            to_Lambda[:, a] -= (CL * inverse[:, a].T).sum(-1)
        return value, omega, to_Lambda

    def _leverage(self, slab: Slab, V: np.ndarray) -> dict[tuple[int, int], Tensor]:
        """A_ac = T_a V T_c' of every pair of moving predictors a <= c, off-diagonal pairs twice."""
        out: dict[tuple[int, int], Tensor] = {}
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

    def _at_nodes(
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
        centre = self._derivatives(slab, self._shifted(slab, fixed, Lambda @ b), 2)
        L = self._root(slab, centre, Lambda)
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
            predictors = self._shifted(slab, fixed, np.tensordot(Lambda, nodes, axes=1))
            found = row_derivatives(family, slab.data, predictors, moving, order)
            height = slab.masked(found.value).sum(-2).numpy() - 0.5 * (nodes**2).sum(0)
            yield height + log_weight.numpy() + constant, nodes, found

    def _log_terms(
        self, slab: Slab, fixed: list[Tensor], Lambda: np.ndarray, b: np.ndarray
    ) -> np.ndarray:
        """Log weight plus log density at every node, (M, n): their log-sum-exp is l_i."""
        return np.concatenate([t for t, *_ in self._at_nodes(slab, fixed, Lambda, b, 1)])

    def _quadrature(
        self, slab: Slab, fixed: list[Tensor], Lambda: np.ndarray, b: np.ndarray
    ) -> tuple[float, list[Tensor], np.ndarray]:
        """The same by quadrature; weights are relative to the height of the mode, never too big."""
        k, n = b.shape
        height = self._height(slab, fixed, Lambda, b)
        mass = np.zeros(n)
        omega = [torch.zeros(slab.shape, dtype=torch.float64) for _ in fixed]
        to_Lambda = np.zeros((k, k, n))
        for terms, nodes, found in self._at_nodes(slab, fixed, Lambda, b, 1):
            with np.errstate(over="ignore"):  # a mode not found: the step is refused
                weight = np.exp(terms - height)
            mass += weight.sum(0)
            wide = torch.from_numpy(weight)[:, None]
            weighted = [wide * g for g in found.first]
            for total, g in zip(omega, weighted, strict=True):
                total += g.sum(0)
            S = self._sums(slab, [slab.masked(g) for g in weighted])  # (q, m, n)
            for q in range(k):
                to_Lambda[q] += (S[q] * nodes).sum(1)
        share = torch.from_numpy(1 / mass)
        value = float((np.log(mass) + height).sum())
        return value, [slab.masked(w * share) for w in omega], to_Lambda / mass

    # -- information ---------------------------------------------------------------------------

    def information(self, x: np.ndarray) -> np.ndarray:
        """Observed information -d2 l / dx dx' by Louis's identity, (P, P); needs many nodes."""
        point = self._point(x)
        total = np.zeros((self.size, self.size))
        for slab in self.slabs:
            fixed = self._fixed(slab, point)
            b = self._find_modes(slab, fixed, point.Lambda, self.modes[:, slab.subjects])
            total += self._louis(slab, fixed, point.Lambda, b)
        return total

    def _columns(self, slab: Slab) -> list[tuple[int, Tensor, int]]:
        """d eta_s / d parameter at a node b: predictor s, row part (J, n), direction of b or -1."""
        one = torch.ones(1, 1, dtype=torch.float64)
        X = slab.gather(self.panel.rows.X) @ self.model.basis
        columns = [(0, part, -1) for part in X.unbind(-1)]
        for row, column in zip(self.pattern.row, self.pattern.column, strict=True):
            T = slab.T[row]
            part = (one if T is None else T) * float(self.scale[row])
            columns.append((int(self.predictor[row]), part, int(column)))
        for s, design in enumerate(self.designs, 1):
            parts = [one] if design is None else list(slab.gather(design).unbind(-1))
            columns += [(s, part, -1) for part in parts]
        return columns

    def _louis(
        self, slab: Slab, fixed: list[Tensor], Lambda: np.ndarray, b: np.ndarray
    ) -> np.ndarray:
        columns, n = self._columns(slab), slab.shape[1]
        P, everywhere = len(columns), list(range(len(fixed)))
        terms = self._log_terms(slab, fixed, Lambda, b)
        share = np.exp(terms - logsumexp(terms, axis=0))
        first_node = 0
        mean = torch.zeros(P, n, dtype=torch.float64)
        square = torch.zeros(P, P, dtype=torch.float64)
        pairs = {
            (*sorted((s, u)), *sorted((direction, mate)))
            for i, (s, _, direction) in enumerate(columns)
            for u, _, mate in columns[: i + 1]
        }
        moments = {key: torch.zeros(slab.shape, dtype=torch.float64) for key in pairs}
        for _, nodes, found in self._at_nodes(slab, fixed, Lambda, b, 2, everywhere):
            last_node = first_node + nodes.shape[1]
            weight = torch.from_numpy(share[first_node:last_node])
            first_node = last_node
            draws = torch.from_numpy(nodes)
            score = torch.empty(P, *weight.shape, dtype=torch.float64)
            first = [slab.masked(g) for g in found.first]
            for j, (s, part, direction) in enumerate(columns):
                summed = (first[s] * part).sum(-2)
                score[j] = summed if direction < 0 else summed * draws[direction]
            mean += (weight * score).sum(1)
            flat = (score * weight.sqrt()).reshape(P, -1)
            square += flat @ flat.T
            for key, total in moments.items():
                factor = -weight
                for direction in key[2:]:
                    factor = factor if direction < 0 else factor * draws[direction]
                total += (found.second[key[0], key[1]] * factor[:, None]).sum(0)
        information = mean @ mean.T - square
        for i, (s, part, direction) in enumerate(columns):
            for j in range(i + 1):
                u, other, mate = columns[j]
                W = moments[*sorted((s, u)), *sorted((direction, mate))]
                entry = (slab.masked(W) * part * other).sum()
                information[i, j] += entry
                if i != j:
                    information[j, i] += entry
        return information.numpy()


def _between(Lambda: np.ndarray, C: np.ndarray) -> np.ndarray:
    """Lambda'C Lambda for symmetric C (q, q, n), (k, k, n)."""
    half = np.tensordot(Lambda.T, C, axes=1)
    return np.tensordot(Lambda.T, half.transpose(1, 0, 2), axes=1)
