"""Free state space `ssm(visit, state=2)`: a linear system of d states on a grid of visits.

    z_t = A z_{t-1} + B u_t + g e_t,   mu2_t = z_t1,

A and the covariance of the innovations are free, and what is seen is one coordinate: of A, C and Q
the outcomes know what the process mu2 is, and no more. Every stationary process of this kind is an
ARMA(d, d - 1) process, so the states are taken in its observer form,

    A = [phi_1 1 0; phi_2 0 1; phi_3 0 0],   g = s (1, theta_1, ..., theta_{d-1})',

with 2 d parameters, identified beside noise of the outcome: the standard deviation of mu2, phi with
all roots of A inside the unit circle, theta with those of the moving average outside. Partial
autocorrelations in (-1, 1) range over exactly these: Monahan (1984), Biometrika 71, 403-404.

Inputs u, `control=~ u`, move the states by a free B (d, r), which the outcomes know as they see the
first d responses B_1 + phi_1 ... to an impulse. Before the first row of a subject they are zero, at
a visit without a row they are what they were: E mu2_t = sum_k c'A^k B u_{t-k}.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from dgmm.design import LatentBlock
from dgmm.families.links import ATANH, LINKS
from dgmm.formula import Syntax
from dgmm.latent.path import LEAST_SIZE, Moves, Path, Visits, number, rows_of_visits
from dgmm.latent.records import Boundary, Component
from dgmm.networks import Weights
from dgmm.panel import LatentRows

__all__ = ["StateSpace"]

LONGEST = 65_536
"""Visits that a grid may have."""

SINGULAR = 1e-13
"""Added to a covariance of innovations, relative to its trace, so that it has a root."""

INSIDE = 1 - 1e-9
"""Largest partial autocorrelation: beyond, no stationary covariance can be calculated."""

OTHERS: tuple[tuple[tuple[float, float], float, float], ...] = (
    ((1.2, 0.1), 0.0, -0.7),
    ((0.1, 0.1), 0.0, -0.7),
    ((0.8, -1.0), 0.0, -0.7),
    ((-0.5, 0.0), 0.0, -0.7),
    ((-1.5, -1.0), -1.0, 0.0),
    ((0.2, -0.8), 1.0, 0.5),
    ((0.8, 0.3), -1.0, 0.5),
)
"""Starting values of the first two partial autocorrelations, of those of the moving average, and of
the standard deviation: the last three are for maxima that the others miss in 1 of 20 small sets."""

FAR = 4.0
"""A partial autocorrelation of 0.9993, as of :class:`~dgmm.latent.ar1.Autoregressive`."""


def stationary_coefficients(partial: Tensor) -> Tensor:
    """phi (d,) of an autoregression with the given partial autocorrelations."""
    phi = partial[:1]
    for k in range(1, len(partial)):
        last = partial[k : k + 1]
        phi = torch.cat([phi - last * phi.flip(0), last])
    return phi


@dataclass(frozen=True)
class StateSpace(Path):
    """d states, of which mu2 is the first in observer form."""

    visits: int = 1  # range of the grid
    inputs: tuple[str, ...] = ()
    input_scale: tuple[float, ...] = ()  # their standard deviations

    name = "ssm"
    syntax = Syntax(
        options={"state": "count", "start": ("stationary", "known"), "control": "terms"},
        serial=True,
    )

    @classmethod
    def check(cls, block: LatentBlock, visits: Visits) -> None:
        rows_of_visits(block, visits)
        d, text = block.term.options.get("state", 2), block.term.text
        most = visits.longest
        if 2 * d >= most:
            raise ValueError(
                f"{text}: {d} states have {2 * d} parameters, and no subject has more than {most} "
                f"visits, which know {most - 1} autocorrelations: take state={max(1, most // 3)} "
                "or fewer"
            )

    @classmethod
    def of(cls, block: LatentBlock, visits: Visits, frame: Tensor) -> Self:
        options, time = block.term.options, visits.time
        start, states = options.get("start", "stationary"), options.get("state", 2)
        grid = _range(block.term.text, float(time.min()), float(time.max()))
        path = cls._begun(block, visits, frame, visits.spread, start, states)
        if block.basis is None:
            return replace(path, visits=grid)
        u = block.basis
        scale = u.matrix.std(0)
        still = [name for name, sd in zip(u.names, scale, strict=True) if not sd > 0]
        if still or not u.names:
            name = next(iter(still), block.term.basis)
            raise ValueError(f"{block.term.text}: the control `{name}` does not vary")
        return replace(path, visits=grid, inputs=tuple(u.names), input_scale=tuple(scale.tolist()))

    @property
    def gains(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("gain",) if self.inputs else ()

    def sized(self, rows: LatentRows, longest: int) -> Path:
        broken = rows.T[rows.T.frac() != 0]
        if len(broken):
            raise ValueError(f"{self.label}: visits are whole numbers, and {broken[0]:g} is not")
        last = max(float(rows.T.max()), self.origin + self.visits)
        first = min(float(rows.T.min()), self.origin)
        wide = replace(self, visits=_range(self.label, first, last))
        return super(StateSpace, wide).sized(rows, longest)

    # -- parameters --------------------------------------------------------------------------

    def shapes(self) -> dict[str, tuple[int, ...]]:
        moving = {"atanh_ma": (self.states - 1,)} if self.states > 1 else {}
        driven = {"gain": (self.states, len(self.inputs))} if self.inputs else {}
        return {"log_sd": (1,), "atanh_partial": (self.states,), **moving, **driven}

    def initial(self, generator: torch.Generator) -> Weights:
        return self._at((0.7, -0.2))

    def starts(self, weights: Weights) -> tuple[Weights, ...]:
        """Slow and fast decay, oscillations, moving averages of both signs."""
        kept = {name: weights[name] for name in self.gains}
        return (weights, *({**self._at(*one), **kept} for one in OTHERS))

    def _at(self, partial: tuple[float, float], ma: float = 0.0, log_sd: float = -0.7) -> Weights:
        values = {name: torch.zeros(s, dtype=torch.float64) for name, s in self.shapes().items()}
        first = torch.tensor(partial, dtype=torch.float64)[: self.states]
        rest = torch.zeros(self.states - len(first), dtype=torch.float64)
        found = {"log_sd": number(log_sd), "atanh_partial": torch.cat([first, rest])}
        if self.states > 1:
            found["atanh_ma"] = torch.full((self.states - 1,), ma, dtype=torch.float64)
        return {**values, **found}

    def times(self, weights: Weights, factor: Tensor) -> Weights:
        return {**weights, "log_sd": weights["log_sd"] + factor.log()}

    def coefficients(self, weights: Weights) -> tuple[Tensor, Tensor]:
        """phi (d,) and theta (d - 1,)."""
        phi = stationary_coefficients(INSIDE * torch.tanh(weights["atanh_partial"]))
        if self.states == 1:
            return phi, phi[:0]
        return phi, -stationary_coefficients(INSIDE * torch.tanh(weights["atanh_ma"]))

    def effects_of_inputs(self, weights: Weights) -> Tensor:
        """B (d, r), in units of the linear predictor per unit of u."""
        return self.scale * weights["gain"] / torch.tensor(self.input_scale, dtype=torch.float64)

    # -- mu2 ---------------------------------------------------------------------------------

    def forces(self, weights: Weights, gap: Tensor, u: Tensor, before: Tensor) -> Tensor:
        """B u_t + (A + ... + A^{g-1}) B u_{t-g}: between two rows u is what it was."""
        A, B = self._matrices(weights)[0], self.effects_of_inputs(weights)
        held = torch.cat([torch.zeros_like(A)[None], self._powers(A).cumsum(0)[:-1]])
        at = gap.long() - 1
        return u @ B.mT + (held[at] @ (before @ B.mT)[..., None])[..., 0]

    def _powers(self, A: Tensor) -> Tensor:
        """A^g of all gaps g = 1, 2, ... of the grid, (g, d, d)."""
        powers = A[None]
        while len(powers) < self.visits:
            powers = torch.cat([powers, powers[-1] @ powers])
        return powers

    def _matrices(self, weights: Weights) -> tuple[Tensor, Tensor, Tensor]:
        """A, g and the stationary covariance of the states."""
        phi, theta = self.coefficients(weights)
        d = self.states
        shift = torch.diag(torch.ones(d - 1, dtype=torch.float64), 1)[:, 1:]
        A = torch.cat([phi[:, None], shift], dim=1)
        g = torch.cat([torch.ones(1, dtype=torch.float64), theta])
        Q = torch.outer(g, g)
        moved = torch.eye(d * d, dtype=torch.float64) - torch.kron(A, A)
        P = torch.linalg.solve(moved, Q.reshape(-1)).reshape(d, d)
        s2 = (self.scale * weights["log_sd"].exp()).square() / P[0, 0]
        return A, g * s2.sqrt(), 0.5 * s2 * (P + P.mT)

    def moves(self, weights: Weights, gap: Tensor) -> Moves:
        """By the table of all gaps of the grid, doubled until it is long enough."""
        A, g, _ = self._matrices(weights)
        powers, sums = self._powers(A), torch.outer(g, g)[None]
        while len(sums) < self.visits:
            by = powers[len(sums) - 1]
            sums = torch.cat([sums, by @ sums @ by.mT + sums[-1]])
        at = gap.long() - 1
        return Moves(powers[at], _root(sums)[at])

    def first_root(self, weights: Weights) -> Tensor:
        return _root(self._matrices(weights)[2])

    # -- what is reported --------------------------------------------------------------------

    def components(self) -> tuple[Component, ...]:
        own, identity = (self.effect_name,), LINKS["identity"]
        one = ATANH if self.states == 1 else identity
        phi = [Component(f"phi{k + 1}", own, one) for k in range(self.states)]
        theta = [Component(f"theta{k + 1}", own, identity) for k in range(self.states - 1)]
        gains = [
            Component(f"B{k + 1}[{name}]", own, identity)
            for name in self.inputs
            for k in range(self.states)
        ]
        return (Component("sd", own, LINKS["log"]), *phi, *theta, *gains)

    def reported(self, weights: Weights) -> Tensor:
        sd = self.scale * weights["log_sd"].exp()
        gains = self.effects_of_inputs(weights).mT.reshape(-1) if self.inputs else sd[:0]
        return torch.cat([sd, *self.coefficients(weights), gains])

    def sizes(self) -> Tensor:
        own = torch.ones(len(self.components()), dtype=torch.float64)
        own[:1] = self.scale
        if self.inputs:
            scale = self.scale / torch.tensor(self.input_scale, dtype=torch.float64)
            own[2 * self.states :] = scale.repeat_interleave(self.states)
        return own

    @property
    def by_reported(self) -> bool:
        """Of one state; the coefficients of several range over no box."""
        return self.states == 1

    def from_reported(self, values: Tensor) -> Weights:
        if not self.by_reported:
            return super().from_reported(values)
        log_sd = (values[:1] / self.scale).clamp(min=LEAST_SIZE).log()
        found = {"log_sd": log_sd, "atanh_partial": ATANH.forward(values[1:2] / INSIDE)}
        if self.inputs:
            found["gain"] = (values[2:] / self.sizes()[2:])[None]
        return found

    def remark(self, weights: Weights) -> str:
        d = self.states
        with torch.no_grad():
            root = torch.linalg.eigvals(self._matrices(weights)[0])
        top = root[root.abs().argmax()]
        turn = float(top.imag.abs())
        period = (
            f", a period of {2 * torch.pi / float(top.angle().abs()):.3g} visits" if turn else ""
        )
        found = (
            f"{self.effect_name}: {d} state{'s' * (d > 1)} in observer form, mu2 the first, known "
            f"by its ARMA({d}, {d - 1}) alone; largest root of A {float(top.abs()):.3g}{period}."
        )
        return " ".join(filter(None, [found, self._long_run(weights), super().remark(weights)]))

    def _long_run(self, weights: Weights) -> str:
        """A sentence about c'(I - A)^-1 B, what inputs that stay change in the end."""
        if not self.inputs:
            return ""
        with torch.no_grad():
            A, B = self._matrices(weights)[0], self.effects_of_inputs(weights)
            change = torch.linalg.solve(torch.eye(self.states, dtype=A.dtype) - A, B)[0]
        each = (f"{name} {float(x):.4g}" for name, x in zip(self.inputs, change, strict=True))
        return f"One unit more of an input, kept up, moves mu2 in the end by: {', '.join(each)}."

    def at_boundary(self, weights: Weights, floor: float) -> Boundary:
        zero, name = weights["log_sd"].exp() < floor, self.effect_name
        # of a path without variance inputs still show how it moves
        shown = ("gain", "atanh_partial") if self.inputs else ()
        held = {n: (zero & (n not in shown)).expand(s) for n, s in self.shapes().items()}
        if bool(zero):
            return Boundary((name,), held, (f"the variance of `{name}` is estimated as zero",))
        ends = {n: weights[n].abs() > FAR for n in held if n.startswith("atanh")}
        if not any(bool(end.any()) for end in ends.values()):
            return Boundary((), held)
        reason = (
            f"the coefficients of `{name}` have run to an end of their range, with a root on the "
            "unit circle: fewer states, or rw(), may do as well"
        )
        return Boundary((), held | ends, (reason,))


def _range(text: str, first: float, last: float) -> int:
    """Visits from the first to the last."""
    if last - first > LONGEST:
        raise ValueError(
            f"{text}: visits from {first:g} to {last:g} are a grid of more than {LONGEST:,}; "
            "number the visits of a subject 1, 2, ..."
        )
    return max(1, int(last - first))


def _root(Q: Tensor) -> Tensor:
    """A root of covariances that may be singular, (..., d, d)."""
    d = Q.shape[-1]
    trace = Q.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    return torch.linalg.cholesky(Q + SINGULAR * trace * torch.eye(d, dtype=Q.dtype))
