"""Laplace's approximation of log p(y; theta) with several grouping factors.

u holds the effects of all levels of all factors, eta = offset + X beta + Z Lambda u, and

    l(theta) = sum_i f_i(eta_i) - |u|^2 / 2 - 1/2 log det P,   P = Lambda'Z'WZ Lambda + I,

at the mode of u given y, f_i = log p(y_i | eta_i), W = -f''. The gradient follows the mode: with
v_i = (Z Lambda P^-1 Lambda'Z')_ii and s = -P^-1 Lambda'Z'(f''' v),

    Phi(eta, extra) = sum_i f_i + 1/2 f_i'' v_i - 1/2 f_i' (Z Lambda s)_i     (v, s held)

has the derivative of l with respect to eta and extra at fixed u, so d l / d beta = X' Phi_eta.
For a Gaussian outcome with identity link everything here is exact. After Breslow and Clayton
(1993), J. American Statistical Association 88, 9-25; Bates et al. (2015) for the linear algebra.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.families.derivatives import row_derivatives
from dgmm.latent import Pattern
from dgmm.likelihood.cells import Factorised, Layout, lay_out, products_by, sum_by, turned
from dgmm.likelihood.crossed_rows import Slopes, constant, slopes, with_graph
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta, part

__all__ = ["CrossedEngine", "Mode", "loadings", "variances"]

LONGEST = 100
"""Newton steps for the modes."""

LARGEST_STEP = 4.0
"""Largest change of a linear predictor in one of them: a factor of 55 under a log link."""

NEAR = 1e-8
"""Newton decrement below which steps are taken whole."""

LOST = 1e-2
"""Newton decrement above which what was found is no mode."""

LEAST = 1e-8
"""Diagonal of Lambda below which a variance is zero."""

ROUNDING = 1e-13
"""Fall of sum f - |u|^2 / 2, relative to it, that may be rounding."""


class Place(NamedTuple):
    """Effects of all levels, and what the outcomes say of them."""

    u: np.ndarray  # (q,)
    eta: Tensor  # (N,)
    rows: Slopes
    height: float  # sum f - |u|^2 / 2


class Mode(NamedTuple):
    """The highest place, and the factors there."""

    u: np.ndarray  # (q,)
    eta: Tensor  # (N,)
    rows: Slopes
    value: float  # sum f - |u|^2 / 2
    factor: Factorised  # of P with the observed weights
    weighted: np.ndarray  # sum t w t' by cells (K, K, c)


class _Weighed(NamedTuple):
    weight: Tensor  # (N,)
    Lambda: np.ndarray
    products: np.ndarray  # sum t w t' by cells (K, K, c)
    factor: Factorised


class CrossedEngine:
    """The approximation as a function of the vector (beta, Lambda, extra) in the order of theta.

    ``natural`` vectors hold the diagonal of Lambda itself, others its logarithm as theta does.
    The mode of a point that a search goes on from is kept as the start of the next ones.
    """

    def __init__(self, model: Model, panel: Panel, target: Panel | None = None) -> None:
        if not panel.n_rows:
            raise ValueError("no outcome was observed")
        rows = panel.rows
        self.model, self.data, self.offset = model, rows.data, rows.offset
        self.X = rows.X @ model.basis
        self.layout: Layout = lay_out(panel, target)
        self.t = scaled_columns(model, panel, self.layout)
        self.pattern = Pattern.of(model.latents)
        self.p = self.X.shape[1]
        some = torch.zeros(len(model.family.extra), dtype=torch.float64)
        self.constant = constant(model.family, self.data, some)
        self._u = np.zeros(self.layout.plan.order)
        self._latest: Mode | None = None
        self._last: _Weighed | None = None

    # -- the function --------------------------------------------------------------------------

    def value(self, x: np.ndarray, natural: bool = False) -> float:
        """l at a vector of parameters."""
        mode = self.mode(*self._split(x, natural)[:3])
        return mode.value - 0.5 * mode.factor.log_det

    def value_and_gradient(self, x: np.ndarray, natural: bool = False) -> tuple[float, np.ndarray]:
        """l and its exact gradient, the mode following the parameters."""
        beta, Lambda, extra, scale = self._split(x, natural)
        mode, place = self.mode(beta, Lambda, extra), self.layout.plan.positions
        inner, a = mode.factor.cells, Lambda.T @ self.t
        _, first, second, third = mode.rows
        at, free = mode.eta.detach().requires_grad_(), extra.clone().requires_grad_()
        graph = None
        if third is None or len(extra):
            graph = with_graph(self.model.family, self.data, at, free)
            third = graph.third.detach()
        v, s = self._bent(mode, a, third)
        along = torch.from_numpy(self.of_rows(a, s))
        by_eta, K = first + 0.5 * third * v - 0.5 * second * along, len(a)
        L_slope = self._by_cells(by_eta.numpy()) @ mode.u[place].T
        L_slope -= 0.5 * self._by_cells(first.numpy()) @ s[place].T
        L_slope -= (Lambda.T @ mode.weighted).reshape(K, -1) @ inner.reshape(K, -1).T
        entries = self.layout.restore(L_slope)[self.pattern.row, self.pattern.column]
        by_extra = extra
        if graph is not None and len(extra):
            phi = (graph.f + 0.5 * graph.second * v - 0.5 * graph.first * along).sum()
            (slope,) = torch.autograd.grad(phi, free, allow_unused=True)
            by_extra = torch.zeros_like(extra) if slope is None else slope
        gradient = [(self.X.T @ by_eta).numpy(), entries * scale, by_extra.numpy()]
        return mode.value - 0.5 * mode.factor.log_det, np.concatenate(gradient)

    def mean(self, theta: Theta, mode: Mode) -> np.ndarray:
        """E(u | y) to first order, mode - s / 2, at most a standard deviation from the mode, (q,).

        Tierney, Kass and Kadane (1989), JASA 84, 710-716.
        """
        third = mode.rows.third
        if third is None:
            at, extra = mode.eta.detach().requires_grad_(), theta["extra"].detach()
            third = with_graph(self.model.family, self.data, at, extra).third.detach()
        _, s = self._bent(mode, self.loadings(theta).T @ self.t, third)
        most, own = np.ones_like(mode.u), np.arange(len(self.t))
        most[self.layout.plan.positions] = np.sqrt(mode.factor.cells[own, own])
        found: np.ndarray = mode.u - (0.5 * s).clip(-most, most)
        return found

    def _bent(self, mode: Mode, a: np.ndarray, third: Tensor) -> tuple[Tensor, np.ndarray]:
        """v (N,) and s (q,)."""
        v = torch.from_numpy(variances(a, mode.factor.cells, self.layout.cell))
        c = -(third * v)
        return v, mode.factor.solve(self._gather_rows(a, c.numpy()[:, None]))[:, 0]

    def keep(self) -> None:
        """Let the next search for a mode begin where the last one ended."""
        if self._latest is not None:
            self._u = self._latest.u

    def information(self, x: np.ndarray) -> np.ndarray:
        """The information about a natural x at the mode of the last call, (P, P).

        About beta and the parameters of the family that of the outcome linearised there, u profiled
        out; about Lambda, with S_l the covariance of the effects of a level and E_a the slope,

            1/2 sum_l tr(N_la N_lb),    N_la = (I - S_l)(F_a + F_a'),   F_a = Lambda^-1 E_a,

        levels taken one by one.
        """
        mode, p = self._latest, self.p
        assert mode is not None
        _, Lambda, extra, _ = self._split(x, natural=True)
        fixed = np.concatenate([np.arange(p), np.arange(len(x) - len(extra), len(x))])
        place = np.arange(p, len(x) - len(extra))
        out = np.zeros((len(x), len(x)))
        out[np.ix_(fixed, fixed)] = self._of_fixed(mode, Lambda, extra)
        out[np.ix_(place, place)] = self._of_loadings(mode, Lambda)
        return out

    def _of_fixed(self, mode: Mode, Lambda: np.ndarray, extra: Tensor) -> np.ndarray:
        """About (beta, extra): X'WX less what u takes up, from what is left of X: no cancelling."""
        R, family = len(extra), self.model.family
        rows = [mode.eta, *extra[:, None].expand(R, len(mode.eta))]
        second = row_derivatives(family, self.data, rows, range(1 + R), 2).second
        W = -second[0, 0]
        if bool((W < 0).any()):
            with torch.no_grad():
                W = torch.where(W > 0, W, family.information(self.data, mode.eta, extra))
        w, X, a = W.numpy()[:, None], self.X.numpy(), Lambda.T @ self.t
        pull = np.column_stack([w * X, *(-second[0, r].numpy() for r in range(1, 1 + R))])
        c = mode.factor.solve(self._gather_rows(a, pull))
        left = np.column_stack([X, np.zeros((len(X), R))]) - self.of_rows(a, c)
        out: np.ndarray = left.T @ (w * left) + c.T @ c
        for r in range(R):
            across = (left * pull[:, self.p + r, None]).sum(0)
            out[self.p + r] += across
            out[:, self.p + r] += across
            for u in range(R):
                out[self.p + r, self.p + u] -= float(second[1 + r, 1 + u].sum())
        return out

    def _of_loadings(self, mode: Mode, Lambda: np.ndarray) -> np.ndarray:
        """About the free entries of Lambda, (E, E)."""
        K = len(Lambda)
        safe = Lambda + np.diag(np.where(np.abs(np.diag(Lambda)) < LEAST, LEAST, 0.0))
        inverse, slopes = np.linalg.inv(safe), []
        for r, c in zip(self.pattern.row, self.pattern.column, strict=True):
            E = np.zeros((K, K))
            E[r, c] = 1.0
            F = inverse @ self.layout.rearrange(E)
            slopes.append(F + F.T)
        G, inner = np.array(slopes), mode.factor.cells
        out, column, plan = np.zeros((len(G), len(G))), 0, self.layout.plan
        for j, width in enumerate(plan.widths):
            _, some = np.unique(plan.level[:, j], return_index=True)
            own = slice(column, column + width)
            known = np.eye(width) - inner[own, own][..., some].transpose(2, 0, 1)
            N = known[:, None] @ G[:, own, own]
            out += 0.5 * np.einsum("leab,lfba->ef", N, N)
            column += width
        return out

    def at(self, theta: Theta) -> Mode:
        """The mode of the effects of all levels at some theta."""
        return self.mode(theta["beta"].detach(), self.loadings(theta), theta["extra"].detach())

    def loadings(self, theta: Theta) -> np.ndarray:
        """Lambda (K, K) in the order of elimination."""
        entries = self.pattern.of_theta(theta).detach().numpy()
        return self.layout.rearrange(self.pattern.fill(entries))

    def _split(self, x: np.ndarray, natural: bool) -> tuple[Tensor, np.ndarray, Tensor, np.ndarray]:
        """beta, Lambda in the order of elimination, extra, and d Lambda / d x entry by entry."""
        entries = x[self.p : self.p + len(self.pattern.row)].copy()
        scale = np.ones_like(entries)
        if not natural:
            diagonal = self.pattern.on_diagonal
            entries[diagonal] = np.exp(entries[diagonal])
            scale[diagonal] = entries[diagonal]
        Lambda = self.layout.rearrange(self.pattern.fill(entries))
        extra = torch.from_numpy(x[self.p + len(entries) :].copy())
        return torch.from_numpy(x[: self.p].copy()), Lambda, extra, scale

    def _gather_rows(self, a: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Lambda'Z' values (N, d), (q, d)."""
        plan = self.layout.plan
        found = [
            plan.scatter(sum_by(self.layout.cell, a * column, len(plan.level)))
            for column in values.T
        ]
        return np.stack(found, axis=1)

    def of_rows(self, a: np.ndarray, effects: np.ndarray) -> np.ndarray:
        """Z Lambda times effects (q, ...) of all levels, (N, ...)."""
        place, cell = self.layout.plan.positions, self.layout.cell
        own = a if effects.ndim == 1 else a[:, :, None]
        found: np.ndarray = sum(
            part * np.take(effects[at], cell, axis=0) for part, at in zip(own, place, strict=True)
        )
        return found

    def _by_cells(self, weight: np.ndarray) -> np.ndarray:
        """sum_i weight_i t_i of every cell, (K, c)."""
        return sum_by(self.layout.cell, self.t * weight, len(self.layout.plan.level))

    # -- the mode ------------------------------------------------------------------------------

    def mode(self, beta: Tensor, Lambda: np.ndarray, extra: Tensor) -> Mode:
        """Newton's method for u with the observed weights where they are positive."""
        a, fixed = Lambda.T @ self.t, self.offset + self.X @ beta

        def place(u: np.ndarray) -> Place:
            eta = fixed + torch.from_numpy(self.of_rows(a, u))
            rows = slopes(self.model.family, self.data, eta, extra)
            height = self.constant + float(rows.f.sum()) - 0.5 * float(u @ u)
            return Place(u, eta, rows, height)

        here, decrement, self._latest = self._begin(place), np.inf, None
        for _ in range(LONGEST):
            weight = -here.rows.second
            if bool((weight < 0).any()):
                with torch.no_grad():
                    expected = self.model.family.information(self.data, here.eta, extra)
                weight = torch.where(weight > 0, weight, expected)
            if not bool(weight.isfinite().all()):
                raise FloatingPointError("the information in the outcomes is not finite")
            self._weigh(weight, Lambda)
            step, decrement = self._step(here, a)
            if decrement < NEAR:
                here = self._settled(here, step, decrement, place, a)
                break
            reach = np.abs(self.of_rows(a, step)).max()
            length = min(1.0, LARGEST_STEP / max(float(reach), 1e-300))
            for _ in range(30):
                there = place(here.u + length * step)
                if there.height >= here.height - ROUNDING * abs(here.height):
                    here = there
                    break
                length *= 0.5
            else:
                break
        if not decrement < LOST:
            raise FloatingPointError("the mode of the random effects is not found")
        known = self._weigh(-here.rows.second, Lambda)
        self._latest = Mode(*here, known.factor, known.products)
        return self._latest

    def _settled(
        self,
        here: Place,
        step: np.ndarray,
        decrement: float,
        place: Callable[[np.ndarray], Place],
        a: np.ndarray,
    ) -> Place:
        """Whole steps with the same weights, until no digits are left.

        The height cannot tell them any more; with weights from so near they gain half of all digits
        each time.
        """
        last = np.inf
        for _ in range(LONGEST):
            here = place(here.u + step)
            if decrement < NEAR**2 or decrement >= last:
                break
            last = decrement
            step, decrement = self._step(here, a)
        return here

    def _step(self, here: Place, a: np.ndarray) -> tuple[np.ndarray, float]:
        """Newton's step with the last weights, and its decrement."""
        assert self._last is not None
        g = self._gather_rows(a, here.rows.first.numpy()[:, None])[:, 0] - here.u
        step = self._last.factor.solve(g[:, None])[:, 0]
        return step, float(g @ step)

    def _weigh(self, weight: Tensor, Lambda: np.ndarray) -> _Weighed:
        """The factors of P with weights; the last ones where nothing has changed."""
        last = self._last
        if last is None or not (
            torch.equal(last.weight, weight) and np.array_equal(last.Lambda, Lambda)
        ):
            last = self._last = None  # there may be no memory for two
            cell, plan = self.layout.cell, self.layout.plan
            products = products_by(cell, self.t * weight.numpy(), self.t, plan)
            factor = plan.factorise(turned(Lambda, products))
            last = self._last = _Weighed(weight, Lambda, products, factor)
        return last

    def _begin(self, place: Callable[[np.ndarray], Place]) -> Place:
        """The last mode or zero, whichever is higher."""
        starts = [place(self._u)] if self._u.any() else []
        starts.append(place(np.zeros_like(self._u)))
        best = max(starts, key=lambda one: one.height if np.isfinite(one.height) else -np.inf)
        if not np.isfinite(best.height):
            raise FloatingPointError("the density of the outcomes is not finite")
        return best


def loadings(model: Model, theta: Theta) -> Tensor:
    """Lambda of all terms, (q, q)."""
    blocks = [lat.loadings(part(theta, f"latent{i}.")) for i, lat in enumerate(model.latents, 1)]
    return torch.block_diag(*blocks)


def scaled_columns(model: Model, panel: Panel, layout: Layout) -> np.ndarray:
    """The columns of all T frame, in the order of elimination, (K, N)."""
    return np.ascontiguousarray(model.columns(panel.rows).numpy().T[layout.columns])


def variances(a: np.ndarray, blocks: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """a_i'B_c(i) a_i of every row, (N,), a (K, N), symmetric B (K, K, c)."""
    found = np.zeros(a.shape[1])
    for k, own in enumerate(a):
        for j in range(k + 1):
            found += (1 + (j < k)) * own * a[j] * np.take(blocks[k, j], cell)
    return found
