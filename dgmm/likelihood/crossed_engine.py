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

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.families import Family, Observations
from dgmm.families.derivatives import row_derivatives
from dgmm.latent import Pattern
from dgmm.likelihood.cells import Factorised, Layout, lay_out, sum_by
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta, part

__all__ = ["CrossedEngine", "Mode"]

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


class Slopes(NamedTuple):
    """log p(y | eta) of every row and its first three derivatives in eta, (N,) each."""

    f: Tensor
    first: Tensor
    second: Tensor
    third: Tensor


def slopes(family: Family, data: Observations, eta: Tensor, extra: Tensor, graph: bool) -> Slopes:
    """Derivatives row by row; ``graph`` keeps them differentiable in eta and extra."""
    with torch.enable_grad():
        eta = eta if graph else eta.detach().requires_grad_()
        ones = torch.ones_like(eta)
        f = family.log_density(data, eta, extra)
        first = torch.autograd.grad(f, eta, ones, create_graph=True)[0]
        second = _derivative(first, eta, create_graph=True)
        third = _derivative(second, eta, create_graph=False)
    found = Slopes(f, first, second, third)
    return found if graph else Slopes(*(one.detach() for one in found))


def _derivative(value: Tensor, at: Tensor, create_graph: bool) -> Tensor:
    if not value.requires_grad:  # linear in eta: its derivative is constant
        return torch.zeros_like(at)
    ones = torch.ones_like(value)
    (found,) = torch.autograd.grad(
        value, at, ones, create_graph=create_graph, retain_graph=True, allow_unused=True
    )
    return torch.zeros_like(at) if found is None else found


class Mode(NamedTuple):
    u: np.ndarray  # (q,)
    eta: Tensor  # (N,)
    value: float  # sum f - |u|^2 / 2
    factor: Factorised  # of P with the observed weights
    weighted: np.ndarray  # sum t w t' by cells (c, K, K)


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
        self._u = np.zeros(self.layout.plan.order)
        self._latest: Mode | None = None

    # -- the function --------------------------------------------------------------------------

    def value(self, x: np.ndarray, natural: bool = False) -> float:
        """l at a vector of parameters."""
        mode = self.mode(*self._split(x, natural)[:3])
        return mode.value - 0.5 * mode.factor.log_det

    def value_and_gradient(self, x: np.ndarray, natural: bool = False) -> tuple[float, np.ndarray]:
        """l and its exact gradient, the mode following the parameters."""
        beta, Lambda, extra, scale = self._split(x, natural)
        mode, model, place = self.mode(beta, Lambda, extra), self.model, self.layout.plan.positions
        cell, inner = self.layout.cell, mode.factor.cells()
        a = self.t @ Lambda
        v = torch.from_numpy(np.einsum("ik,ikl,il->i", a, inner[cell], a))
        eta, free = mode.eta.detach().requires_grad_(), extra.clone().requires_grad_()
        found = slopes(model.family, self.data, eta, free, graph=True)
        c = -(found.third.detach() * v)
        s = mode.factor.solve(self._gather_rows(a, c.numpy()[:, None]))[:, 0]
        s_cell = s[place]
        along = torch.from_numpy((a * s_cell[cell]).sum(1))
        phi = (found.f + 0.5 * found.second * v - 0.5 * found.first * along).sum()
        by_eta, by_extra = torch.autograd.grad(phi, (eta, free), allow_unused=True)
        first = found.first.detach().numpy()
        u_cell = mode.u[place]
        L_slope = _outer(self.t, cell, by_eta.numpy(), u_cell)
        L_slope -= 0.5 * _outer(self.t, cell, first, s_cell)
        L_slope -= np.einsum("cij,jk,ckl->il", mode.weighted, Lambda, inner)
        entries = self.layout.restore(L_slope)[self.pattern.row, self.pattern.column]
        by_extra = torch.zeros_like(extra) if by_extra is None else by_extra
        gradient = [(self.X.T @ by_eta).numpy(), entries * scale, by_extra.numpy()]
        return mode.value - 0.5 * mode.factor.log_det, np.concatenate(gradient)

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
        w, X, a = W.numpy()[:, None], self.X.numpy(), self.t @ Lambda
        pull = np.column_stack([w * X, *(-second[0, r].numpy() for r in range(1, 1 + R))])
        c = mode.factor.solve(self._gather_rows(a, pull))
        own = c[self.layout.plan.positions][self.layout.cell]  # (N, K, p + R)
        left = np.column_stack([X, np.zeros((len(X), R))]) - np.einsum("ik,ikj->ij", a, own)
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
        G, inner = np.array(slopes), mode.factor.cells()
        out, column, plan = np.zeros((len(G), len(G))), 0, self.layout.plan
        for j, width in enumerate(plan.widths):
            _, some = np.unique(plan.level[:, j], return_index=True)
            own = slice(column, column + width)
            known = np.eye(width) - inner[some][:, own, own]
            N = known[:, None] @ G[:, own, own]
            out += 0.5 * np.einsum("leab,lfba->ef", N, N)
            column += width
        return out

    def surplus(
        self, mode: Mode, theta: Theta, pairs: int, generator: torch.Generator, at_once: int
    ) -> np.ndarray:
        """Log weights (2, pairs) of antithetic draws of u from N(mode, P^-1), 0 were u normal."""
        Lambda = self._Lambda(theta)
        a, place = self.t @ Lambda, self.layout.plan.positions
        extra = theta["extra"].detach()[:, None, None]
        found = slopes(self.model.family, self.data, mode.eta, theta["extra"].detach(), graph=False)
        root = (-found.second).clamp(min=0.0).sqrt().numpy()[:, None]
        data = Observations(*(column[:, None] for column in self.data))
        base, out = float(found.f.sum()), []
        for first in range(0, pairs, at_once):
            count = min(at_once, pairs - first)
            noise = torch.randn(len(self._u), count, generator=generator, dtype=torch.float64)
            z = torch.randn(len(a), count, generator=generator, dtype=torch.float64).numpy()
            step = mode.factor.solve(noise.numpy() + self._gather_rows(a, root * z))
            shift = np.einsum("ik,ikd->id", a, step[place][self.layout.cell])
            # (u - mode)'P(u - mode), P with the same positive weights
            quadratic = (step**2).sum(0) + ((root * shift) ** 2).sum(0)
            for sign in (1.0, -1.0):
                eta = mode.eta[:, None] + sign * torch.from_numpy(shift)
                with torch.no_grad():
                    f = self.model.family.log_density(data, eta, extra).sum(0).numpy() - base
                prior = -sign * (mode.u @ step) - 0.5 * (step**2).sum(0)
                out.append(f + prior + 0.5 * quadratic)
        plus, minus = np.concatenate(out[::2]), np.concatenate(out[1::2])
        return np.stack([plus, minus])

    def at(self, theta: Theta) -> Mode:
        """The mode of the effects of all levels at some theta."""
        return self.mode(theta["beta"].detach(), self._Lambda(theta), theta["extra"].detach())

    def _Lambda(self, theta: Theta) -> np.ndarray:
        """Lambda in the order of elimination."""
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
        rows = a[:, :, None] * values[:, None, :]
        return plan.scatter(sum_by(self.layout.cell, rows, len(plan.level)))

    # -- the mode ------------------------------------------------------------------------------

    def mode(self, beta: Tensor, Lambda: np.ndarray, extra: Tensor) -> Mode:
        """Newton's method for u with the observed weights where they are positive."""
        family, data = self.model.family, self.data
        a = self.t @ Lambda
        fixed = self.offset + self.X @ beta
        u, at, height = self._begin(fixed, a, extra)
        decrement = last = np.inf
        for _ in range(LONGEST):
            found = slopes(family, data, at, extra, graph=False)
            weight = -found.second
            if bool((weight < 0).any()):
                with torch.no_grad():
                    expected = family.information(data, at, extra)
                weight = torch.where(weight > 0, weight, expected)
            if not bool(weight.isfinite().all()):
                raise FloatingPointError("the information in the outcomes is not finite")
            factor = self._factorise(self._weigh(weight), Lambda)
            g = self._gather_rows(a, found.first.numpy()[:, None])[:, 0] - u
            step = factor.solve(g[:, None])[:, 0]
            decrement = float(g @ step)
            if decrement < NEAR:  # below what the height can tell; Newton converges quadratically
                u = u + step
                at, height = self._height(u, fixed, a, extra)
                if decrement < NEAR**2 or decrement >= last:
                    break  # there, or no digits are left
                last = decrement
                continue
            reach = np.abs((a * step[self.layout.plan.positions][self.layout.cell]).sum(1)).max()
            length = min(1.0, LARGEST_STEP / max(float(reach), 1e-300))
            for _ in range(30):
                eta, value = self._height(u + length * step, fixed, a, extra)
                if value >= height - ROUNDING * abs(height):
                    u, at, height = u + length * step, eta, value
                    break
                length *= 0.5
            else:
                break
        if not decrement < LOST:
            raise FloatingPointError("the mode of the random effects is not found")
        weighted = self._weigh(-slopes(family, data, at, extra, graph=False).second)
        self._latest = Mode(u, at, height, self._factorise(weighted, Lambda), weighted)
        return self._latest

    def _begin(
        self, fixed: Tensor, a: np.ndarray, extra: Tensor
    ) -> tuple[np.ndarray, Tensor, float]:
        """The last mode or zero, whichever is higher."""
        zero = np.zeros_like(self._u)
        starts = [(u, *self._height(u, fixed, a, extra)) for u in (self._u, zero)]
        best = max(starts, key=lambda start: start[2] if np.isfinite(start[2]) else -np.inf)
        if not np.isfinite(best[2]):
            raise FloatingPointError("the density of the outcomes is not finite")
        return best

    def _height(
        self, u: np.ndarray, fixed: Tensor, a: np.ndarray, extra: Tensor
    ) -> tuple[Tensor, float]:
        """eta and sum f - |u|^2 / 2."""
        own = u[self.layout.plan.positions][self.layout.cell]
        eta = fixed + torch.from_numpy((a * own).sum(1))
        with torch.no_grad():
            density = self.model.family.log_density(self.data, eta, extra)
        return eta, float(density.sum()) - 0.5 * float(u @ u)

    def _weigh(self, weight: Tensor) -> np.ndarray:
        """sum t w t' by cells, (c, K, K)."""
        t = self.t
        rows = (t * weight.numpy()[:, None])[:, :, None] * t[:, None, :]
        return sum_by(self.layout.cell, rows, len(self.layout.plan.level))

    def _factorise(self, weighted: np.ndarray, Lambda: np.ndarray) -> Factorised:
        return self.layout.plan.factorise(Lambda.T @ weighted @ Lambda)


def loadings(model: Model, theta: Theta) -> Tensor:
    """Lambda of all terms, (q, q)."""
    blocks = [lat.loadings(part(theta, f"latent{i}.")) for i, lat in enumerate(model.latents, 1)]
    return torch.block_diag(*blocks)


def scaled_columns(model: Model, panel: Panel, layout: Layout) -> np.ndarray:
    """The columns of all T frame, in the order of elimination, (N, K)."""
    return model.columns(panel.rows).numpy()[:, layout.columns]


def _outer(t: np.ndarray, cell: np.ndarray, weight: np.ndarray, effect: np.ndarray) -> np.ndarray:
    """sum_i weight_i t_i effect_c(i)', (K, K)."""
    by_cell = sum_by(cell, t * weight[:, None], len(effect))
    return by_cell.T @ effect
