"""Recursions: a latent state at every step whose law, and what it does, are networks of the past.

    z_t = m(s_{t-1}, x_t) + sd(s_{t-1}, x_t) e_t,   mu2_t = d(z_t, s_{t-1}, x_t),
    s_t = f(s_{t-1}, z_t, x_t, r_t),

with e = b white noise, x_t inputs and r_t the outcome of the step, as its residual from the fixed
part. Given white noise and the outcomes before a row its predictor is known, so that

    p(y, b) = p(b) prod_t p(y_t | b_1..b_t, y_1..y_{t-1})

as of every latent structure, b of one step after the other. Words that read outcomes have one more
element of b a step, by which an outcome that was not seen is drawn, r_t = mu2_t + spread e: the
distribution of the outcomes seen is then, exactly for Gaussian ones, that of all with the others
integrated out, and rows after the last outcome run freely.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from dgmm.design import LatentBlock
from dgmm.latent.base import Latent
from dgmm.latent.path import Visits, read_visits, rows_of_visits
from dgmm.networks import Weights
from dgmm.panel import LatentRows

__all__ = ["FLOOR", "Recursion", "Steps"]

FLOOR = -6.0
"""Smallest log standard deviation of a step: an unbounded one would let a density grow."""

SPARSE = 0.5
"""Largest share of steps of a grid that may have no row."""


class Steps(NamedTuple):
    """The rows of a block as steps of a recursion."""

    x: Tensor  # (n, G, c) inputs
    residual: Tensor  # (n, G), zero where not seen
    spread: Tensor  # (n, G)
    seen: Tensor  # (n, G) bool
    real: Tensor  # (n, G) bool: the subject has this step
    place: Tensor  # (n, J) the step of every row

    @property
    def number(self) -> int:
        """G."""
        return self.real.shape[1]


Noise = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""e of a step, (..., n, d), from its number, the state before it, mean and log sd of its z."""

After = Callable[[int, Tensor, Tensor], Tensor]
"""The state that goes on, from the number of a step, its predictor (..., n) and its state."""


@dataclass(frozen=True)
class Recursion(Latent):
    """d latent variables a step; the duties of a word are prior, emitted, advanced and their
    weights.
    """

    label: str
    names: tuple[str, ...]  # the time
    frame: Tensor  # (1, 1) unit of mu2
    dim: int  # elements of b
    size: int  # d
    hidden: int  # units of every hidden layer
    usual: float  # gap between two rows
    steps: int  # most steps of a subject
    added: int  # steps of the fit without a row
    inputs: tuple[str, ...] = ()
    centre: tuple[float, ...] = ()  # of the inputs
    spread: tuple[float, ...] = ()
    posterior: str = "smooth"  # how an encoder goes through the steps, or "filter"

    linear = False
    recursive = True
    on_grid: ClassVar[bool] = False
    """Steps are visits 1, 2, ..., with a row or without; else the rows."""

    @classmethod
    def build(cls, block: LatentBlock, unit: float) -> Recursion:
        visits = read_visits(block)
        text, options = block.term.text, block.term.options
        if cls.on_grid:
            rows_of_visits(block, visits)
        u = block.basis
        matrix = np.zeros((len(visits.time), 0)) if u is None else u.matrix
        still = (
            []
            if u is None
            else [n for n, sd in zip(u.names, matrix.std(0), strict=True) if not sd > 0]
        )
        if still:
            raise ValueError(f"{text}: the control `{still[0]}` does not vary")
        gaps = np.diff(visits.time)[np.diff(visits.code) == 0]
        steps, added = visits.longest, 0
        if cls.on_grid:
            steps, added = _grid(text, visits)
        found = cls.of(
            options,
            label=text,
            names=block.columns.names,
            frame=torch.tensor([[unit]], dtype=torch.float64),
            dim=0,
            usual=1.0 if cls.on_grid else float(np.median(gaps[gaps > 0])),
            steps=steps,
            added=added,
            inputs=() if u is None else tuple(u.names),
            centre=tuple(matrix.mean(0).tolist()),
            spread=tuple(matrix.std(0).tolist()),
            posterior=options.get("posterior", "smooth"),
        )
        return found._with_room(steps)

    @classmethod
    @abstractmethod
    def of(cls, options: Any, **given: Any) -> Self:
        """The recursion of a term with what all have in common ``given``."""

    @property
    def per_step(self) -> int:
        """Elements of b a step."""
        return self.size + int(self.reads)

    @property
    def width(self) -> int:
        """c, the number of inputs of a step."""
        return len(self.inputs) + int(not self.on_grid)

    def _with_room(self, steps: int) -> Self:
        room = max(self.steps, steps)
        return replace(self, steps=room, dim=self.per_step * room)

    def sized(self, rows: LatentRows, longest: int) -> Latent:
        if not self.on_grid:
            return self._with_room(longest)
        broken = rows.T[rows.T.frac() != 0]
        if len(broken):
            raise ValueError(f"{self.label}: visits are whole numbers, and {broken[0]:g} is not")
        return self._with_room(int(rows.T.max() - rows.T.min()) + 1)

    # -- the duties of a word --------------------------------------------------------------------

    @property
    @abstractmethod
    def state_size(self) -> int:
        """Numbers that a step hands on."""

    @abstractmethod
    def start(self, weights: Weights) -> Tensor:
        """The state before the first step, (S,)."""

    @abstractmethod
    def prior(
        self, weights: Weights, state: Tensor, x: Tensor, first: bool
    ) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of z given the past, (..., d) each."""

    @abstractmethod
    def emitted(self, weights: Weights, z: Tensor, state: Tensor, x: Tensor) -> Tensor:
        """mu2 of a step in units of the linear predictor, (...)."""

    @abstractmethod
    def advanced(self, weights: Weights, state: Tensor, z: Tensor, x: Tensor, r: Tensor) -> Tensor:
        """The state after a step, (..., S)."""

    # -- rows as steps ---------------------------------------------------------------------------

    def as_steps(self, rows: LatentRows) -> Steps:
        """The steps of the rows of a block. A row at the time of the one before is of its step."""
        time = torch.cummax(rows.T[..., 0], dim=-1).values
        before = torch.cat([time[:, :1], time[:, :-1]], dim=1)
        first = torch.arange(time.shape[1]) == 0
        real = first | (rows.T[..., 0] > before)
        if self.on_grid:
            place = (rows.T[..., 0] - time[:, :1]).round().long()
        else:
            place = real.long().cumsum(1) - 1
            place = torch.where(rows.T[..., 0] < time, 0, place)  # padding
        size = int(place.max()) + 1
        slot = torch.where(real, place, size)
        row = torch.arange(time.shape[1]).expand_as(slot)
        source = torch.zeros(len(slot), size + 1, dtype=torch.long).scatter(1, slot, row)
        source = torch.cummax(source[:, :size], dim=1).values  # between rows inputs stay
        held = torch.zeros(len(slot), size + 1, dtype=torch.bool).scatter(1, slot, real)[:, :size]
        last = place.max(1, keepdim=True).values
        there = torch.arange(size) <= last
        x = self._inputs(rows, source, time, before)
        if rows.past is None:
            nothing = torch.zeros(source.shape, dtype=x.dtype)
            return Steps(x, nothing, nothing, torch.zeros_like(held), there, place)
        seen = self._seen(rows.past.seen, real, slot, size)
        residual = torch.where(seen, rows.past.residual.gather(1, source), 0.0)
        return Steps(x, residual, rows.past.spread.gather(1, source), seen, there, place)

    def _seen(self, seen: Tensor, real: Tensor, slot: Tensor, size: int) -> Tensor:
        empty = torch.zeros(len(slot), size + 1, dtype=torch.bool)
        return empty.scatter(1, slot, seen & real)[:, :size]

    def _inputs(self, rows: LatentRows, source: Tensor, time: Tensor, before: Tensor) -> Tensor:
        columns = []
        if not self.on_grid:  # zero at a usual gap, and where there is none
            gap = (time - before).gather(1, source) / self.usual
            gap[:, 0] = 1.0
            columns.append(gap[..., None] - 1)
        if self.inputs:
            centre, spread = (torch.tensor(v, dtype=time.dtype) for v in (self.centre, self.spread))
            u = (rows.basis - centre) / spread
            columns.append(u.gather(1, source[..., None].expand(-1, -1, u.shape[-1])))
        empty = time.new_zeros(*source.shape, 0)
        return torch.cat(columns, dim=-1) if columns else empty

    # -- mu2 -------------------------------------------------------------------------------------

    def split(self, b: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """White noise of the latent variables (..., n, G, d), and of outcomes not seen."""
        if self.dim < steps * self.per_step:
            raise ValueError(
                f"{self.label}: {steps} steps of a subject, and b has {self.dim} elements"
            )
        e = b[..., : steps * self.per_step].unflatten(-1, (steps, self.per_step))
        return e[..., : self.size], e[..., self.size :]

    def run(
        self,
        weights: Weights,
        steps: Steps,
        noise: Noise,
        unseen: Tensor,
        after: After | None = None,
    ) -> Tensor:
        """mu2 of every step in units of the linear predictor, (..., n, G).

        unseen: white noise (..., n, G, 0 or 1) of outcomes that were not seen.
        """
        state = self.start(weights).expand(*unseen.shape[:-2], self.state_size)
        found = []
        for t in range(steps.number):
            x = steps.x[:, t].expand(*unseen.shape[:-2], self.width)
            mean, log_sd = self.prior(weights, state, x, t == 0)
            z = mean + log_sd.exp() * noise(t, state, mean, log_sd)
            mu = self.emitted(weights, z, state, x)
            r = mu.detach() if not self.reads else self._read(steps, t, mu, unseen)
            moved = self.advanced(weights, state, z, x, r)
            state = torch.where(steps.real[:, t, None], moved, state)
            if after is not None:
                state = after(t, mu, state)
            found.append(mu)
        return torch.stack(found, dim=-1)

    def _read(self, steps: Steps, t: int, mu: Tensor, unseen: Tensor) -> Tensor:
        drawn = mu + steps.spread[:, t] * unseen[..., t, 0]
        return torch.where(steps.seen[:, t], steps.residual[:, t], drawn)

    def at_rows(self, mu: Tensor, steps: Steps) -> Tensor:
        """mu2 of the rows, (..., n, J), from that of the steps."""
        place = steps.place.expand(*mu.shape[:-1], -1)
        return self.frame[0, 0] * mu.gather(-1, place)

    def effect(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        steps = self.as_steps(rows)
        e, unseen = self.split(b, steps.number)
        mu = self.run(weights, steps, lambda t, *_: e[..., t, :], unseen)
        return self.at_rows(mu, steps)

    def jacobian(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        with torch.enable_grad():
            at = b.detach().requires_grad_()
            mu = self.effect(weights, at, rows)
            columns = [
                torch.autograd.grad(mu[..., j].sum(), at, retain_graph=True)[0]
                for j in range(mu.shape[-1])
            ]
        return torch.stack(columns, dim=-2)

    def prepare(self, weights: Weights) -> Weights:
        return {}

    def loadings(self, weights: Weights) -> Tensor:
        """Zero: a recursion has no columns."""
        return torch.zeros(1, self.dim, dtype=torch.float64)

    def remark(self, weights: Weights) -> str:
        said = [
            f"{self.effect_name}: {self.size} latent variable{'s' * (self.size != 1)} a step; its "
            "likelihood is known by bounds alone."
        ]
        if self.on_grid and self.added:
            said.append(
                f"{self.added} visits without a row were inserted: their outcomes count as missing."
            )
        return " ".join(said)

    @property
    def effect_name(self) -> str:
        """vrnn(time)."""
        return f"{self.name}({self.names[0]})"


def _grid(text: str, visits: Visits) -> tuple[int, int]:
    """The most steps of a subject, and the steps of all that have no row."""
    code, time = visits.code, visits.time
    first, last = (np.full(code.max() + 1, x) for x in (np.inf, -np.inf))
    np.minimum.at(first, code, time)
    np.maximum.at(last, code, time)
    known = np.isfinite(first)
    steps = (last - first + 1)[known]
    added = int(steps.sum()) - len(time)
    if added > SPARSE * steps.sum():
        raise ValueError(
            f"{text} has a step for every visit 1, 2, ..., and {added} of {int(steps.sum())} have "
            "no row: number the visits more coarsely, or use dmm(), which takes any times"
        )
    return int(steps.max()), added
