"""The penalised likelihood of a model with networks on the fixed side alone, and its metric.

    l(theta) - sum_g kappa_g |w_g|^2 / 2     over beta~, Lambda, extra and all layers w

With J = d layers / d w, X~ the linear columns and V^-1 = R'R the working information about eta,

    A = (I - P) R J K^-1/2,   P the projection on R X~,   K = diag(kappa),

I + A'A is the information about u = K^1/2 w with the linear coefficients integrated out. It has few
eigenvalues that differ from one, which ``leading`` finds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dgmm.likelihood.vector import ClassicalObjective
from dgmm.likelihood.working import Working, working_information
from dgmm.model import Model
from dgmm.numerics.ascent import whitening
from dgmm.numerics.lowrank import LowRank, leading
from dgmm.penalised.split import Split

__all__ = ["Metric", "Penalised", "State", "metric_root"]

LEAST_KAPPA = 1e-5
"""Of the metric: without a penalty nothing would bound the steps along flat directions."""

CELLS = 4_000_000
"""Largest Jacobian (rows times weights) of a metric; beyond, it comes from some of the subjects."""


@dataclass(frozen=True)
class State:
    """Where the search stands: x of the classical part, w of the layers, and the penalties."""

    x: np.ndarray
    w: Tensor
    model: Model


def metric_root(split: Split, model: Model) -> Tensor:
    """K^1/2, (P,)."""
    return split.kappa(model).clamp(min=LEAST_KAPPA).sqrt()


@dataclass(frozen=True)
class Metric:
    """The information at a point, in coordinates u = K^1/2 w and x."""

    beta_back: Tensor  # (p, p) B with B B' = F_rr^-1
    cross: Tensor  # (p, P): F_rr^-1 F_rw
    low: LowRank  # of I + A'A, coordinates u
    root: Tensor  # (P,) K^1/2
    rest_back: np.ndarray  # of Lambda and extra parameters

    def back(self, z: Tensor) -> tuple[np.ndarray, Tensor]:
        """The step (x, w) of z."""
        p, P = len(self.beta_back), len(self.root)
        step = self.low.back(z[p : p + P]) / self.root
        beta = self.beta_back @ z[:p] - self.cross @ step
        return np.concatenate([beta.numpy(), self.rest_back @ z[p + P :].numpy()]), step

    def gradient(self, x: np.ndarray, w: Tensor) -> Tensor:
        """The gradient in z of a gradient in (x, w): the transpose of :meth:`back`."""
        p = len(self.beta_back)
        beta = torch.from_numpy(x[:p])
        layers = self.low.back(self.profiled(x, w) / self.root)
        rest = torch.from_numpy(self.rest_back.T @ x[p:])
        return torch.cat([self.beta_back.T @ beta, layers, rest])

    def profiled(self, x: np.ndarray, w: Tensor) -> Tensor:
        """The gradient in w with beta~ at its maximum, from a gradient in (x, w)."""
        return w - self.cross.T @ torch.from_numpy(x[: len(self.beta_back)])

    def with_root(self, root: Tensor) -> Metric:
        """Under other penalties."""
        low = self.low.rescaled(self.root / root)
        return Metric(self.beta_back, self.cross, low, root, self.rest_back)


@dataclass(frozen=True)
class _Some:
    """Every so many-th subject, for the metric: all of them where that is not too much."""

    split: Split
    subjects: Tensor
    rows: Tensor
    scale: float  # rows of all subjects over rows of these

    @classmethod
    def of(cls, split: Split) -> _Some:
        panel = split.panel
        step = math.ceil(panel.n_rows * split.packing.size / CELLS)
        if step == 1:
            return cls(split, torch.arange(panel.n), torch.arange(panel.n_rows), 1.0)
        subjects = torch.arange(0, panel.n, step)
        inside = torch.zeros(panel.n, dtype=torch.bool)
        inside[subjects] = True
        rows = torch.nonzero(inside[panel.subject])[:, 0]
        return cls(split.select(subjects), subjects, rows, panel.n_rows / max(len(rows), 1))


@dataclass
class Penalised:
    """The objective: a classical likelihood under the offset of the networks."""

    split: Split
    engine: ClassicalObjective
    used: int = 0

    def __post_init__(self) -> None:
        self.some = _Some.of(self.split)

    def __call__(
        self, x: np.ndarray, w: Tensor, kappa: Tensor, scores: bool = False
    ) -> tuple[float, np.ndarray, Tensor, np.ndarray | None]:
        """Penalised value, its gradients in x and w, and the scores of x."""
        self.used += 1
        networks = self.split.sweep(w)
        self.engine.offset = self.split.panel.rows.offset + networks.effect()
        found = self.engine.value_and_gradient(x, scores)
        slope = networks.pull(self.engine.omega[0])
        value = found.value - 0.5 * float(kappa @ w.square())
        return value, found.gradient, slope - kappa * w, found.scores

    def metric(self, state: State, scores: np.ndarray, seed: int, before: Metric | None) -> Metric:
        """The information at the point of the last call."""
        engine, some = self.engine, self.some
        engine.keep()
        effects = engine.effects(state.x, engine.modes)[some.subjects]
        split = some.split
        eta, theta = engine.eta[some.rows], engine.theta(state.x)
        working = working_information(split.classical, theta, split.panel, eta, effects)
        working = replace(working, root=some.scale**0.5 * working.root)
        X = split.panel.rows.X @ split.classical.basis
        root = metric_root(split, state.model)
        J = split.sweep(state.w).jacobian()
        generator = torch.Generator().manual_seed(seed)
        beta_back, cross, low = reduced(X, J, working, root, generator, before)
        p = engine.sizes[0]
        information = engine.information(state.x, scores)
        least = engine.least_information(state.x, np.diag(information))[p:]
        return Metric(beta_back, cross, low, root, whitening(information[p:, p:], least))


def reduced(
    X: Tensor,
    J: Tensor,
    working: Working,
    root: Tensor,
    generator: torch.Generator,
    before: Metric | None,
) -> tuple[Tensor, Tensor, LowRank]:
    """F_rr^-1 rooted, F_rr^-1 F_rw, and I + A'A by its leading directions."""
    RX = working.forward(X)
    Q, upper = torch.linalg.qr(RX)
    beta_back = torch.linalg.solve_triangular(
        upper, torch.eye(len(upper), dtype=X.dtype), upper=True
    )
    cross = beta_back @ (working.backward(Q).T @ J)

    def off(Y: Tensor) -> Tensor:
        return Y - Q @ (Q.T @ Y)

    def forward(Y: Tensor) -> Tensor:
        return off(working.forward(J @ (Y / root[:, None])))

    def backward(Y: Tensor) -> Tensor:
        return (J.T @ working.backward(off(Y))) / root[:, None]

    start = None if before is None else before.low.Q
    return beta_back, cross, leading(forward, backward, len(root), generator, start)
