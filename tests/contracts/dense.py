"""log p(y; x) by dense algebra or brute force, in plain torch: nothing of the package is used.

    Normal     y ~ N(m(x), V(x)), V dense
    Laplace    log p(y, u) at its maximum over u, less half the log determinant of its curvature
    Grid       the integral over one or two standard normal b of a subject, by the trapezoid rule

x (P,) is a vector in any parametrisation. Gradients and Hessians are autograd's and exact.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.func import grad, hessian

__all__ = ["LOG_2PI", "Grid", "Laplace", "Normal", "condition", "log_normal", "newton_mode"]

LOG_2PI = math.log(2 * math.pi)


def log_normal(y: Tensor, mean: Tensor, V: Tensor) -> Tensor:
    """log N(y; mean, V), a scalar; zero for no outcome."""
    if not len(y):
        return mean.sum()
    root = torch.linalg.cholesky(V)
    z = torch.linalg.solve_triangular(root, (y - mean)[:, None], upper=False)[:, 0]
    return -0.5 * (len(y) * LOG_2PI + z @ z) - root.diagonal().log().sum()


def condition(
    y: Tensor, mean: Tensor, V: Tensor, prior: Tensor, cross: Tensor
) -> tuple[Tensor, Tensor]:
    """E(b | y) and var(b | y) of jointly normal b ~ N(0, prior) and y, cross = cov(b, y) (q, N)."""
    gain = torch.linalg.solve(V, cross.T).T
    return gain @ (y - mean), prior - gain @ cross.T


class _Differentiable(ABC):
    """A function x (P,) -> each (n,), with what autograd makes of it."""

    @abstractmethod
    def each(self, x: Tensor) -> Tensor:
        """l_i, (n,)."""

    def total(self, x: Tensor) -> Tensor:
        """l."""
        return self.each(x).sum()

    def gradient(self, x: Tensor) -> Tensor:
        """dl / dx, (P,)."""
        return grad(self.total)(x)

    def hessian(self, x: Tensor) -> Tensor:
        """d2l / dx dx', (P, P): minus the observed information."""
        return hessian(self.total)(x)

    def scores(self, x: Tensor) -> Tensor:
        """dl_i / dx, (n, P)."""
        return torch.func.jacfwd(self.each)(x)


@dataclass(frozen=True)
class Normal(_Differentiable):
    """y (N,) with moments(x) = mean (N,) and covariance (N, N); rows i of a subject are groups[i].

    Outcomes of different subjects are taken to be independent. Without groups all are one subject.
    """

    y: Tensor
    moments: Callable[[Tensor], tuple[Tensor, Tensor]]
    groups: tuple[Tensor, ...] = ()

    def each(self, x: Tensor) -> Tensor:
        mean, V = self.moments(x)
        groups = self.groups or (torch.arange(len(self.y)),)
        return torch.stack([log_normal(self.y[i], mean[i], V[i][:, i]) for i in groups])

    def total(self, x: Tensor) -> Tensor:
        """log N(y; m, V) from the whole of V."""
        return log_normal(self.y, *self.moments(x))


@dataclass(frozen=True)
class Laplace:
    """l_i ~ f(u*) + q/2 log 2 pi - 1/2 log det(-f''(u*)), f(u) = log p(y_i, u), u* its maximum.

    One f per independent part of the data: a subject, or all outcomes when factors are crossed. Two
    Newton steps from u*, differentiated with the rest, give u* its first two derivatives in x,
    so that gradients and Hessians are those of the approximation.
    """

    log_joint: tuple[Callable[[Tensor, Tensor], Tensor], ...]  # x, u (q,) -> scalar
    q: int
    known: dict[bytes, Tensor] = field(default_factory=dict)  # modes by x: they take the time

    def modes(self, x: Tensor) -> Tensor:
        """u*, (n, q)."""
        key = x.numpy().tobytes()
        if key not in self.known:
            modes = [newton_mode(partial(f, x), self.q) for f in self.log_joint]
            self.known[key] = torch.stack(modes)
        return self.known[key]

    def covariances(self, x: Tensor) -> Tensor:
        """The inverse curvature at u*, (n, q, q)."""
        pairs = zip(self.log_joint, self.modes(x), strict=True)
        return torch.stack([torch.linalg.inv(-hessian(partial(f, x))(u)) for f, u in pairs])

    def each(self, x: Tensor) -> Tensor:
        """l_i, (n,)."""
        return self._near(x, self.modes(x))

    def total(self, x: Tensor) -> Tensor:
        """l."""
        return self.each(x).sum()

    def gradient(self, x: Tensor) -> Tensor:
        """dl / dx, (P,)."""
        return self.scores(x).sum(0)

    def scores(self, x: Tensor) -> Tensor:
        """dl_i / dx, (n, P)."""
        return torch.func.jacrev(self._near)(x, self.modes(x))

    def hessian(self, x: Tensor) -> Tensor:
        """d2l / dx dx', (P, P)."""
        return hessian(lambda x, u: self._near(x, u).sum())(x, self.modes(x))

    def _near(self, x: Tensor, modes: Tensor) -> Tensor:
        """l_i at x from modes that do not know x."""
        pairs = zip(self.log_joint, modes, strict=True)
        return torch.stack([_laplace(partial(f, x), u) for f, u in pairs])


def _laplace(f: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    for _ in range(2):
        u = u - torch.linalg.solve(hessian(f)(u), grad(f)(u))
    return f(u) + 0.5 * len(u) * LOG_2PI - 0.5 * torch.linalg.slogdet(-hessian(f)(u))[1]


def newton_mode(f: Callable[[Tensor], Tensor], q: int) -> Tensor:
    """The maximum of f over (q,) from zero, by Newton steps halved while they lead down."""
    u = torch.zeros(q, dtype=torch.float64)
    for _ in range(200):
        eigen, vector = torch.linalg.eigh(-hessian(f)(u))
        step = vector @ ((vector.T @ grad(f)(u)) / eigen.abs().clamp(min=1e-3))
        while not f(u + step) >= f(u) - 1e-9:
            step = 0.5 * step
        u = u + step
        if float(step.abs().max()) < 1e-12:
            return u
    raise RuntimeError("the mode was not found in 200 steps")


@dataclass(frozen=True)
class Grid(_Differentiable):
    """l_i = log sum_m h^k N(b_m; 0, I) p(y_i | b_m), b_m a grid of step h on [-reach, reach]^k.

    For a smooth integrand that vanishes at both ends the error falls like exp(-2 pi^2 s^2 / h^2), s
    the standard deviation of b | y: below 1e-30 for s above h / 0.5.
    """

    log_likelihood: Callable[[Tensor, Tensor], Tensor]  # x, b (M, k) -> (M, n)
    k: int
    step: float = 0.1
    reach: float = 8.0

    def nodes(self) -> Tensor:
        """b, (M, k)."""
        points = round(self.reach / self.step)
        axis = self.step * torch.arange(-points, points + 1, dtype=torch.float64)
        return torch.cartesian_prod(*[axis] * self.k).reshape(-1, self.k)

    def _terms(self, x: Tensor, b: Tensor) -> Tensor:
        prior = -0.5 * (b.square().sum(1) + self.k * LOG_2PI) + self.k * math.log(self.step)
        return self.log_likelihood(x, b) + prior[:, None]

    def each(self, x: Tensor) -> Tensor:
        return torch.logsumexp(self._terms(x, self.nodes()), 0)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(b_i | y_i) (n, k) and var(b_i | y_i) (n, k, k)."""
        b = self.nodes()
        weight = torch.softmax(self._terms(x, b), 0)
        mean = weight.T @ b
        second = torch.einsum("mn,ma,mb->nab", weight, b, b)
        return mean, second - mean[:, :, None] * mean[:, None, :]
