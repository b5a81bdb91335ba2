"""The penalised marginal likelihood of a model with networks on the fixed side alone.

    l(theta) - sum_g kappa_g |w_g|^2 / 2     over beta, skips, Lambda, extra and all layers w

is maximised by L-BFGS in coordinates z in which the expected information is the identity. With
J = d layers / d w, X~ the linear columns and V^-1 = R'R the working information about eta,

    A = (I - P) R J K^-1/2,   P the projection on R X~,   K = diag(kappa),

I + A'A is the information about K^1/2 w with the linear coefficients integrated out. It has few
eigenvalues that differ from one, which ``leading`` finds. They also give the effective degrees of
freedom, the evidence, and through

    kappa_g = edf_g / |w_g|^2                                           (MacKay, 1992)

the next penalty, the weights following kappa by the quadratic approximation at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from dgmm.ascent import whitening
from dgmm.lowrank import LowRank, leading
from dgmm.marginal.vector import ClassicalObjective
from dgmm.marginal.working import Working, working_information
from dgmm.model import START_RIDGE, Model
from dgmm.split import Split

__all__ = ["Metric", "Penalised", "Reached", "climb_networks"]

SMALLEST, LARGEST = 0.1, 1000.0
LEAST_KAPPA = 1e-3
"""Of the metric: without a penalty nothing would bound the steps along flat directions."""

SHORT = 0.4
"""Change of a log penalty that is made at once; the approximation behind it is a local one."""

NEAR = 0.5
"""Decrement at which the quadratic approximation is good enough to choose a penalty by."""

SETTLED = 0.05
"""Relative change of a penalty that is not worth another maximisation."""

CELLS = 30_000_000
"""Largest Jacobian (rows times weights) of a metric; beyond, it comes from some of the subjects."""


@dataclass(frozen=True)
class State:
    """Where the search stands: x of the classical part, w of the layers, and the penalties."""

    x: np.ndarray
    w: Tensor
    model: Model


@dataclass(frozen=True)
class Metric:
    """The information at a point, in coordinates u = K^1/2 w and x."""

    beta_back: Tensor  # (p, p) B with B B' = F_rr^-1
    cross: Tensor  # (p, P): F_rr^-1 F_rw
    low: LowRank  # of I + A'A, coordinates u
    root: Tensor  # (P,) K^1/2
    rest_back: np.ndarray  # of Lambda and extra parameters

    @property
    def edf(self) -> Tensor:
        """Share of every layer weight that the data determine, (P,)."""
        return self.low.share

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
        layers = self.low.back((w - self.cross.T @ beta) / self.root)
        rest = torch.from_numpy(self.rest_back.T @ x[p:])
        return torch.cat([self.beta_back.T @ beta, layers, rest])

    def with_root(self, root: Tensor) -> Metric:
        """Under other penalties."""
        low = self.low.rescaled(self.root / root)
        return Metric(self.beta_back, self.cross, low, root, self.rest_back)


@dataclass(frozen=True)
class Reached:
    """The maximum found."""

    x: np.ndarray
    w: Tensor
    model: Model  # with the penalties chosen
    value: float  # log-likelihood
    penalised: float
    evidence: float  # penalised - log det(I + A'A) / 2
    decrement: float
    settled: bool  # the penalties no longer move
    evaluations: int
    metric: Metric
    path: tuple[float, ...]


@dataclass
class Penalised:
    """The objective: a classical likelihood under the offset of the networks."""

    split: Split
    engine: ClassicalObjective
    used: int = 0

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
        engine, split = self.engine, self.split
        theta, modes = engine.theta(state.x), torch.from_numpy(engine.modes.T)
        working = working_information(split.classical, theta, split.panel, engine.eta, modes)
        X = split.panel.rows.X @ split.classical.basis
        root = split.kappa(state.model).clamp(min=LEAST_KAPPA).sqrt()
        J = split.sweep(state.w).jacobian()
        generator = torch.Generator().manual_seed(seed)
        beta_back, cross, low = reduced(X, J, working, root, generator, before)
        p = engine.sizes[0]
        information = scores.T @ scores
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


def open_networks(model: Model) -> list[str]:
    """The networks whose penalty the evidence chooses."""
    return [name for name in model.penalised() if name in model.open_ridge]


def next_penalty(split: Split, state: State, metric: Metric, slope: Tensor) -> Model:
    """kappa = edf / |w|^2 of every open network, w following by the quadratic approximation.

    slope: the gradient of the penalised log-likelihood in w, beta at its maximum.
    """
    model, open_ridge = state.model, open_networks(state.model)
    base = split.kappa(model)
    at = {g: split.packing.positions(names) for g, names in model.penalised().items()}
    moved, before = model, metric.root
    for _ in range(20):
        kappa = split.kappa(moved)
        root = kappa.clamp(min=LEAST_KAPPA).sqrt()
        here = metric.with_root(root)
        push = slope + (base - kappa) * state.w
        w = state.w + here.low.solve(push / root) / root
        ridge = {}
        for name in open_ridge:
            edf = float(here.edf[at[name]].sum())
            wanted = edf / max(float(w[at[name]].square().sum()), 1e-12)
            if edf < 1.0:  # not needed: nothing should draw it out of silence
                wanted = max(wanted, START_RIDGE)
            ridge[name] = float(np.clip(wanted, SMALLEST, LARGEST))
        change = max(
            (abs(np.log(ridge[name] / moved.ridge_of(name))) for name in open_ridge), default=0.0
        )
        moved = moved.with_ridge(ridge)
        if change < 0.1 * SETTLED:
            break
    return state.model.with_ridge({name: _damped(model.ridge_of(name), moved.ridge_of(name)) for name in open_ridge})


def _damped(old: float, wanted: float) -> float:
    """Half of the way on the log scale, all of it when that is short."""
    if abs(np.log(wanted / old)) < SHORT:
        return wanted
    return float(np.sqrt(old * wanted))


def climb_networks(
    objective: Penalised,
    state: State,
    *,
    tolerance: float,
    rounds: int,
    evaluations: int,
    seed: int,
    report: Callable[[int, float], None] | None = None,
) -> Reached:
    """Alternate between the penalties and the maximum under them until both stand still."""
    split, path = objective.split, []
    metric: Metric | None = None
    best: tuple[float, State] | None = None
    chosen = open_networks(state.model)
    settled = not chosen
    for number in range(rounds + 1):
        kappa = split.kappa(state.model)
        value, to_x, to_w, scores = objective(state.x, state.w, kappa, scores=True)
        assert scores is not None
        metric = objective.metric(state, scores, seed, metric)
        decrement = float(metric.gradient(to_x, to_w).norm())
        evidence = value - 0.5 * float(metric.low.log_det)
        path.append(value)
        if report is not None:
            report(number, decrement)
        if (settled and decrement < tolerance) or number == rounds:
            break
        if settled and best is not None and evidence < best[0] - 1.0:  # another, rougher maximum
            state, best = best[1], (best[0] - 1.0, best[1])
            ridge = {g: 1.5 * state.model.ridge_of(g) for g in chosen}
            state = State(state.x, state.w, state.model.with_ridge(ridge))
            best = (best[0], state)
            continue
        if not settled and decrement < NEAR:
            if best is not None and evidence < best[0]:  # a step too far
                state, settled = best[1], True
                continue
            best = evidence, state
            profiled = to_w - metric.cross.T @ torch.from_numpy(to_x[: len(metric.beta_back)])
            model = next_penalty(split, state, metric, profiled)
            moves = [abs(np.log(model.ridge_of(g) / state.model.ridge_of(g))) for g in chosen]
            settled = max(moves) < SETTLED
            if settled and decrement < tolerance:
                break
            if not settled:
                state = State(state.x, state.w, model)
                metric = metric.with_root(split.kappa(model).clamp(min=LEAST_KAPPA).sqrt())
        target = 0.5 * tolerance if settled else 0.1 * NEAR
        state = _maximised(objective, state, metric, target, evaluations)
    plain = value + 0.5 * float(kappa @ state.w.square())
    return Reached(
        state.x,
        state.w,
        state.model,
        plain,
        value,
        evidence,
        decrement,
        settled,
        objective.used,
        metric,
        tuple(path),
    )


def _maximised(
    objective: Penalised, state: State, metric: Metric, target: float, evaluations: int
) -> State:
    """L-BFGS in the coordinates of a metric, until the gradient there is below ``target``."""
    kappa = objective.split.kappa(state.model)
    last = np.inf

    def surface(z: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal last
        step, move = metric.back(torch.from_numpy(z))
        try:
            value, to_x, to_w, _ = objective(state.x + step, state.w + move, kappa)
        except (FloatingPointError, np.linalg.LinAlgError):
            return 1e300, np.zeros_like(z)
        slope = metric.gradient(to_x, to_w).numpy()
        if not (np.isfinite(value) and np.isfinite(slope).all()):
            return 1e300, np.zeros_like(z)
        last = float(np.linalg.norm(slope))
        return -value, -slope

    def near(_: np.ndarray) -> None:
        if last < target:
            raise StopIteration

    found = optimize.minimize(
        surface,
        np.zeros(len(state.x) + len(state.w)),
        jac=True,
        method="L-BFGS-B",
        callback=near,
        options={"maxfun": evaluations, "gtol": 0.0, "ftol": 1e-15, "maxcor": 30},
    )
    step, move = metric.back(torch.from_numpy(found.x))
    return State(state.x + step, state.w + move, state.model)
