"""Recursions: a latent state at every step whose law, and what it does, are networks of the past.

    z_t = m(s_{t-1}, x_t) + sd(s_{t-1}, x_t) e_t,   mu2_t = d(z_t, s_{t-1}, x_t),
    s_t = f(s_{t-1}, z_t, x_t, r_t),

with e = b white noise, x_t inputs and r_t the outcome of the step, as its residual from the fixed
part; of K outcomes that share a recursion mu2_t and r_t are vectors. Given white noise and the
outcomes before a row its predictor is known, so that

    p(y, b) = p(b) prod_t p(y_t | b_1..b_t, y_1..y_{t-1})

as of every latent structure, b of one step after the other. Words that read outcomes have K more
elements of b a step, by which outcomes that were not seen are drawn, r_t = mu2_t + spread e: the
distribution of the outcomes seen is then, exactly for Gaussian ones, that of all with the others
integrated out, and rows after the last outcome run freely.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from dgmm.design import LatentBlock
from dgmm.latent.base import Latent
from dgmm.latent.law import Law, Walk
from dgmm.latent.path import Visits, read_visits, rows_of_visits
from dgmm.latent.records import Places, placed
from dgmm.latent.steps import Steps, steps_of
from dgmm.networks import Weights
from dgmm.panel import LatentRows

__all__ = ["CALM", "FLOOR", "Recursion"]

FLOOR = -6.0
"""Smallest log standard deviation of a step: an unbounded one would let a density grow."""

CALM = 3**-0.5
"""Factor of the weights at a calm start: from larger ones networks learn more by heart."""

SPARSE = 0.5
"""Largest share of steps of a grid that may have no row."""


Noise = Callable[[int, Tensor, Law], Tensor]
"""e of a step, (..., n, d), from its number, the state before it and the law of its z."""

After = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""The state that goes on, from the number of a step, its z, its predictors (..., n, K) and its
state."""


@dataclass(frozen=True)
class Recursion(Latent):
    """d latent variables a step; the duties of a word are prior, emitted, advanced and their
    weights.
    """

    label: str
    names: tuple[str, ...]  # the time
    frame: Tensor  # (K, K), diagonal: the unit of mu2 in every outcome
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
    places: Places = ()  # of several outcomes

    linear = False
    recursive = True
    late: ClassVar[tuple[str, ...]] = ()
    """Beginnings of the names of weights that learn once the others have found their place."""

    potentials: ClassVar[bool] = False
    """Its q is made of potentials that its own filter carries."""

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
        return self.size + self.outcomes * int(self.reads)

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
    def prior(self, weights: Weights, state: Tensor, x: Tensor, first: bool) -> Law:
        """The law of z given the past."""

    @abstractmethod
    def emitted(self, weights: Weights, z: Tensor, state: Tensor, x: Tensor) -> Tensor:
        """mu2 of a step in units of the linear predictors, (..., K)."""

    def loaded(self, weights: Weights, z: Tensor) -> Tensor:
        """c'z of every outcome, (..., K)."""
        return z @ weights["c"].reshape(self.outcomes, self.size).T

    def drawn_loadings(self, generator: torch.Generator) -> Tensor:
        """c by which c'z of white noise has variance one on average, (K d,)."""
        number = self.outcomes * self.size
        draws = torch.randn(number, generator=generator, dtype=torch.float64)
        return draws / max(self.size, 1) ** 0.5

    @abstractmethod
    def advanced(
        self, weights: Weights, state: Tensor, z: Tensor, x: Tensor, r: Tensor, law: Law
    ) -> Tensor:
        """The state after a step, (..., S), in which z had the ``law``."""

    def foresees(self, steps: Steps) -> bool:
        """Whether the outcomes seen alone make the states before all steps."""
        return False

    def foreseen(self, weights: Weights, steps: Steps) -> Tensor | None:
        """The states before all steps, (n, G, S), where the outcomes seen alone make them."""
        return None

    # -- several outcomes --------------------------------------------------------------------------

    @classmethod
    def across(cls, name: str, parts: Mapping[str, Latent]) -> Latent:
        """One recursion of several outcomes, with a predictor for each of them.

        Raises:
            ValueError: the terms of the outcomes are not the same.
        """
        found = [one for one in parts.values() if isinstance(one, cls)]
        first = found[0]
        if len(parts) == 1:
            return first
        other = [(key, one) for key, one in parts.items() if one.label != first.label]
        if other:
            (own, *_), (key, one) = parts, other[0]
            raise ValueError(
                f"outcomes share one recursion, written alike in every formula: {first.label} of "
                f"`{own}` and {one.label} of `{key}`"
            )
        joined = replace(
            first,
            names=tuple(f"{key}:{one.names[0]}" for key, one in parts.items()),
            frame=torch.block_diag(*(one.frame for one in found)),
            usual=min(one.usual for one in found),
            added=min(one.added for one in found),
            places=placed(parts, [1] * len(parts)),
        )
        return joined._with_room(max(one.steps for one in found))

    @property
    def outcomes(self) -> int:
        """K."""
        return max(1, len(self.places))

    def position(self, outcome: str) -> int:
        """The place of an outcome among the K."""
        return self._positions.get(outcome, 0)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {one[0]: k for k, one in enumerate(self.places)}

    def as_steps(self, rows: Sequence[LatentRows]) -> Steps:
        """The steps of the rows of all outcomes that it enters, in any order.

        Rows that all outcomes have in common are given once, with columns of their past in its
        order.
        """
        if len(rows) != self.outcomes and (len(rows) > 1 or not _of_several(rows[0])):
            raise ValueError(f"{self.label} is made of the rows of all its outcomes at once")
        ordered = sorted(rows, key=lambda one: self.position(one.outcome))
        dtype = rows[0].T.dtype
        inputs = torch.tensor([self.centre, self.spread], dtype=dtype)
        steps = steps_of(ordered, self.on_grid, self.usual, (inputs[0], inputs[1]))
        return steps.shrunk() if self.calm else steps

    @property
    def calm(self) -> bool:
        """It reads residuals times their gain, and begins, as its q does, with small weights."""
        return False

    def thinned(self, steps: Steps, unseen: Tensor) -> Steps:
        """The steps as a state is told of them while it learns; unseen: as of :meth:`run`."""
        return steps

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
    ) -> Walk:
        """The latent variables and predictors of every step.

        unseen: white noise (..., n, G, 0 or K) of outcomes that were not seen.
        """
        state = self.start(weights).expand(*unseen.shape[:-2], self.state_size)
        found, latent = [], []
        for t in range(steps.number):
            x = steps.x[:, t].expand(*unseen.shape[:-2], self.width)
            shown = state if steps.shown is None else state * steps.shown[:, t]
            law = self.prior(weights, shown, x, t == 0)
            z = law.at(noise(t, shown, law))
            mu = self.emitted(weights, z, shown, x)
            r = mu.detach() if not self.reads else self._read(steps, t, mu, unseen)
            moved = self.advanced(weights, state, z, x, r, law)
            state = torch.where(steps.real[:, t, None], moved, state)
            if after is not None:
                state = after(t, z, mu, state)
            found.append(mu)
            latent.append(z)
        return Walk(torch.stack(latent, dim=-2), torch.stack(found, dim=-2))

    def _read(self, steps: Steps, t: int, mu: Tensor, unseen: Tensor) -> Tensor:
        drawn = mu + steps.spread[:, t] * unseen[..., t, :]
        if self.calm:
            drawn = steps.gain[:, t] * drawn
        return torch.where(steps.seen[:, t], steps.residual[:, t], drawn)

    def at_common_rows(self, mu: Tensor, place: Tensor) -> Tensor:
        """mu2 of rows that all outcomes have in common, (..., n, J, K)."""
        own = mu * self.frame.diagonal()
        index = place[..., None].expand(*own.shape[:-3], *place.shape, own.shape[-1])
        return own.gather(-2, index)

    def at_rows(self, mu: Tensor, place: Tensor, k: int) -> Tensor:
        """mu2 of rows of the k-th outcome, (..., n, J), whose steps are ``place`` (n, J)."""
        return self.of_rows(mu[..., k], place, k)

    def of_rows(self, own: Tensor, place: Tensor, k: int) -> Tensor:
        """:meth:`at_rows` of the numbers of the k-th outcome alone, (..., n, G)."""
        return self.frame[k, k] * own.gather(-1, place.expand(*own.shape[:-1], -1))

    def at(self, weights: Weights, b: Tensor, rows: Sequence[LatentRows]) -> Weights:
        """mu2 of all steps, and which of them the rows of every outcome are."""
        steps = self.as_steps(rows)
        mu = self.walked(weights, b, steps).mu
        names = sorted((one.outcome for one in rows), key=self.position)
        places = zip(names, steps.places, strict=True)
        return {"mu": mu, **{f"place.{name}": place for name, place in places}}

    def walked(self, weights: Weights, b: Tensor, steps: Steps) -> Walk:
        """Where b (..., n, k) leads."""
        e, unseen = self.split(b, steps.number)
        return self.run(weights, steps, lambda t, *_: e[..., t, :], unseen)

    def effect(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        if "mu" not in weights:
            weights = self.at(weights, b, (rows,))
        place = weights[f"place.{rows.outcome}"]
        return self.at_rows(weights["mu"], place, self.position(rows.outcome))

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

    def state_names(self) -> tuple[tuple[str, float], ...]:
        return tuple((f"{self.effect_name}:z{j + 1}", 1.0) for j in range(self.size))

    @property
    def effect_name(self) -> str:
        """vrnn(time)."""
        return f"{self.name}({self.names[0].rpartition(':')[2]})"


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


def _of_several(rows: LatentRows) -> bool:
    return rows.past is not None and rows.past.residual.ndim == 3
