"""One curve for all subjects, shifted and stretched in time and scaled by b: what differs in phase.

    w(b, s) = exp(size'b) h(tau) - E exp(size'b) h(tau),   tau = (s - shift'b) exp(stretch'b)

with s time on [-1, 1] and h a natural cubic spline, linear beyond its outer knots. This is a
shape-invariant model: Lawton, Sylvestre and Maggio (1972), Technometrics 14, 513-532; with three
random effects, for growth, Cole, Donaldson and Ben-Shlomo (2010), International Journal of
Epidemiology 39, 1558-1566. As a sum of columns of time, curves that differ in phase (a sigmoid that
comes early or late) need many random coefficients, far from normal; here the same takes one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgmm.design import LatentBlock
from dgmm.networks import Weights
from dgmm.numerics.bases import smooth_first
from dgmm.numerics.splines import Spline, height, height_and_rise

__all__ = ["Warp"]

MOVED, CURVE = 16.0, 1.0
"""Penalties of the weights of shift, stretch and size, and of the curve: normal priors with
standard deviations of 1/4 and 1. Shifts are a fraction of half the range of time, stretches and
sizes of a factor e. Gaussian outcomes lose nothing by it (0.1 to 0.9 gained in log-likelihood, four
sets of 200 subjects by 6); with six binary ones the curve, and with it all coefficients, would grow
beyond all size."""

KNOTS, FIRST, LAST = 16, -1.5, 1.5
"""Of the curve: half the range of time and a half beyond it, where shifts lead."""

REACH = 3.0
"""Times to which the mean over b is kept, the range of time beyond it on both sides; it is linear
from there, where nearly every curve has left its knots and is linear too."""

TIMES = 61
"""Knots on [-REACH, REACH] of the mean over b, two for every one of the curve: within 0.01 standard
deviations of w it is that of the draws."""

START = 0.02
"""Standard deviation of what is random in shift, stretch and size at the start."""

SHARE = 0.7
"""Of the linear random effects, as far as they may be shifts, stretches and sizes of the mean
profile, what is taken for such at the start."""

FARTHEST = 10.0
"""Largest exponent of a stretch or size; under the prior it is a fraction of one."""

PLACE = 1.5
"""Standard deviations of b by which the search for modes begins away from zero."""


@dataclass(frozen=True)
class Warp:
    """h and where it is taken; time is a linear combination of the columns of T."""

    dim: int  # k
    unit: float  # of the linear predictor
    half: float  # half the range of time, the unit of s
    along: Tensor  # (q,): s = T along
    curve: Spline  # h per unit of its weights
    mean: Spline  # the mean of w over b per unit of its heights at knots
    project: Tensor  # (q, m): T project h is near the function that has heights h at these knots

    @staticmethod
    def cannot(block: LatentBlock) -> str | None:
        """Why the curves of a term have no time along which they move; None when they have."""
        if block.time is None:
            return (
                f"{block.term.text}: form='warped' moves curves along time; its terms must be "
                "functions of one numeric variable, the first of the random parts, as in "
                "dnn(ns(time, 4), form='warped')"
            )
        s, _, T = _time(block)
        if float((T @ _along(T, s) - s).abs().max()) > 1e-6:
            return (
                f"{block.term.text}: form='warped' moves curves along time, which must be a "
                "combination of its columns: keep the intercept, and write ns(time, 4) or poly()"
            )
        return None

    @classmethod
    def build(cls, block: LatentBlock, dim: int, unit: float) -> Warp:
        """Read time off the design of a term."""
        reason = cls.cannot(block)
        if reason is not None:
            raise ValueError(reason)
        s, half, T = _time(block)
        along = _along(T, s)
        curve = Spline.natural(FIRST, LAST, KNOTS)
        grid = torch.linspace(FIRST, LAST, 20 * KNOTS, dtype=torch.float64)
        shape = unit * smooth_first(curve.columns(grid), grid)
        mean = Spline.natural(-REACH, REACH, TIMES)
        project = torch.linalg.lstsq(T, mean.columns(s), driver="gelsd").solution
        return cls(dim, unit, half, along, curve.turned(shape), mean, project)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of its weights."""
        k = self.dim
        return {
            "shift": (k,),
            "stretch": (k,),
            "size": (k,),
            "curve": (self.curve.pieces.shape[-1],),
        }

    def weak(self) -> dict[str, float]:
        """Penalties by the names of weights, which are no ridge to be chosen."""
        return {name: CURVE if name == "curve" else MOVED for name in self.shapes()}

    def remark(self, weights: Weights) -> str:
        """How much subjects differ in phase, pace and size: the SDs of shift'b and the others."""
        sd = {name: float(weights[name].norm()) for name in ("shift", "stretch", "size")}
        return (
            f"Warped curve: SD of its shift {sd['shift'] * self.half:.3g} (units of time), of log "
            f"stretch {sd['stretch']:.3g}, of log size {sd['size']:.3g}."
        )

    def initial(self, generator: torch.Generator) -> Weights:
        """A curve near zero, moved a little by directions of b drawn at random."""
        return {
            name: START * torch.randn(shape, generator=generator, dtype=torch.float64)
            for name, shape in self.shapes().items()
        }

    def from_profile(
        self, weights: Weights, Lambda: Tensor, T: Tensor, profile: Tensor
    ) -> tuple[Weights, Tensor]:
        """The weights of a start near a linear model, and what is left of its ``Lambda`` (q, k).

        h follows the mean profile (N,) at the rows T (N, q). To first order in b,

            w = h(s) size'b - h'(s) shift'b + s h'(s) stretch'b,

        so three functions of time explain a part of T Lambda b; a SHARE of it is taken over.
        """
        s = T @ self.along
        columns = self.curve.columns(s)
        A = torch.cat([self.unit * torch.ones_like(columns[:, :1]), columns], dim=1)
        curve = _damped(A, (profile - profile.mean())[:, None], 1e-3 * self.unit**2)[1:, 0]
        level, up = height_and_rise(self.curve.table(curve), self.curve.place(s))
        slope = up / self.curve.step
        first = torch.stack([level, -slope, s * slope], dim=1)
        part = SHARE * _damped(first, T @ Lambda, (0.1 * self.unit) ** 2)
        size, shift, stretch = (
            weights[name] + row
            for name, row in zip(("size", "shift", "stretch"), part, strict=True)
        )
        start = {"curve": curve, "size": size, "shift": shift, "stretch": stretch}
        return start, Lambda - torch.linalg.lstsq(T, first @ part, driver="gelsd").solution

    def prepare(self, weights: Weights, centre: Tensor) -> Weights:
        """The mean of w over the draws ``centre`` (draws, k), at its knots."""
        place = self._place(weights, centre, self.mean.knots())
        curve = height(self.curve.table(weights["curve"]), place)
        return {"mean": (_by(weights["size"], centre) * curve).mean(0)}

    def effect(self, weights: Weights, b: Tensor, T: Tensor) -> Tensor:
        """w: b (..., n, k), T (n, J, q) -> (..., n, J)."""
        s = T @ self.along
        curve = height(self.curve.table(weights["curve"]), self._place(weights, b, s))
        mean = height(self.mean.table(weights["mean"]), self.mean.place(s))
        return torch.addcmul(-mean, _by(weights["size"], b), curve)

    def jacobian(self, weights: Weights, b: Tensor, T: Tensor) -> Tensor:
        """d w / d b, (..., n, J, k)."""
        return self._jacobian(weights, b, T @ self.along)

    def _jacobian(self, weights: Weights, b: Tensor, s: Tensor) -> Tensor:
        table = self.curve.table(weights["curve"])
        place, gain = self._place(weights, b, s), _by(weights["size"], b)
        level, up = height_and_rise(table, place)
        steep = gain * up / self.curve.step
        tau, pace = self.curve.first + self.curve.step * place, _by(weights["stretch"], b)
        columns = torch.stack([gain * level, steep * tau, -steep * pace], dim=-1)
        return columns @ torch.stack([weights[name] for name in ("size", "stretch", "shift")])

    def tangent(self, weights: Weights, centre: Tensor) -> Tensor:
        """The mean of d w / d b over the draws ``centre`` in terms of T, (q, k)."""
        return self.project @ self._jacobian(weights, centre, self.mean.knots()).mean(0)

    def _place(self, weights: Weights, b: Tensor, s: Tensor) -> Tensor:
        """Where the curve is taken, (tau - first knot) / step, (..., n, J)."""
        pace = _by(weights["stretch"], b) / self.curve.step
        away = pace * (b @ weights["shift"]).unsqueeze(-1) + self.curve.first / self.curve.step
        return torch.addcmul(-away, pace, s)

    def candidate_modes(self, weights: Weights) -> Tensor:
        """b = 0 and eight points around it in the plane of shift and stretch, (9, k) or (3, 1).

        Between curves that come early or late, fast or slow, there may be no way uphill.
        """
        plane = torch.linalg.qr(torch.stack([weights["shift"], weights["stretch"]], dim=1))[0]
        one = torch.tensor([0.0, -PLACE, PLACE], dtype=plane.dtype, device=plane.device)
        return torch.cartesian_prod(*[one] * plane.shape[1]).reshape(-1, plane.shape[1]) @ plane.T


def _time(block: LatentBlock) -> tuple[Tensor, float, Tensor]:
    """Time on [-1, 1] (N,), half of its range, and the columns T (N, q)."""
    assert block.time is not None
    time = torch.from_numpy(block.time)
    half = 0.5 * float(time.max() - time.min())
    return (time - time.min()) / half - 1, half, torch.from_numpy(block.columns.matrix)


def _along(T: Tensor, s: Tensor) -> Tensor:
    """Time in terms of the columns of T, as well as they can, (q,)."""
    along: Tensor = torch.linalg.lstsq(T, s[:, None], driver="gelsd").solution[:, 0]
    return along


def _by(direction: Tensor, b: Tensor) -> Tensor:
    """exp(direction'b), (..., n, 1); finite for the b of an encoder that has not learnt yet."""
    return (b @ direction).clamp(-FARTHEST, FARTHEST).exp().unsqueeze(-1)


def _damped(A: Tensor, target: Tensor, ridge: float) -> Tensor:
    """Least squares with a ridge that is added to mean squares, (columns of A, of target)."""
    damped = A.T @ A / len(A) + ridge * torch.eye(A.shape[1], dtype=A.dtype)
    return torch.linalg.solve(damped, A.T @ target / len(A))
