"""Paths: mu2_ij = c'z_i(t_ij), states that move from row to row and remember nothing else.

    z_1 = f_1 + B_1 e_1,   z_j = A(g_j) z_{j-1} + f_j + B(g_j) e_j,   g_j = t_j - t_{j-1},

with e = b white noise, d elements a row, and f_j what inputs add, where there are any. The states
are a Markov chain, which is what the filter of :mod:`dgmm.likelihood.filter` needs to know
(:meth:`~dgmm.latent.base.Latent.chain`). A path begins

    stationary   with the distribution it has at any time
    known        at zero, at one time for all subjects: the first of the data
    diffuse      anywhere: the first state has a flat prior, and is the first elements of b
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from dgmm.design import LatentBlock
from dgmm.formula import Syntax
from dgmm.latent.base import Latent
from dgmm.latent.records import Chain
from dgmm.networks import Weights
from dgmm.panel import LatentRows

__all__ = ["LEAST_SIZE", "Moves", "Path", "Visits", "number", "read_visits", "rows_of_visits"]

LEAST_SIZE = 1e-150
"""Smallest positive parameter, in units of its size, that has a logarithm here."""


USUAL, LONG = 0.75, 3.0
"""Quantile of the gaps that is taken for a usual one; times so many of them, one for every row, is
the most that the times of a subject spread without gaps of another order."""


class Visits(NamedTuple):
    """The times of a path at the fit."""

    time: np.ndarray  # (N,) by subject, not falling within one
    code: np.ndarray  # (N,) subject
    longest: int  # rows of the largest subject
    spread: float  # standard deviation of the times within subjects
    usual: float  # that without a few long gaps


def read_visits(block: LatentBlock) -> Visits:
    """The times of a term and their checks, which hold for every path."""
    text, code = block.term.text, block.grouping.codes
    if block.time is None or block.columns.matrix.shape[1] != 1:
        raise ValueError(
            f"{text}: a path takes one numeric variable that varies within the subjects, the same "
            "for all paths of a formula"
        )
    time = block.columns.matrix[:, 0]
    same = code[1:] == code[:-1]
    if bool((np.diff(time)[same] < 0).any()):
        raise ValueError(
            f"{text}: the time of a path must rise with its variable; write the variable itself"
        )
    count = block.rows_of_groups()
    mean = np.bincount(code, time) / np.maximum(count, 1)
    spread = float(np.sqrt(np.square(time - mean[code]).mean()))
    if spread == 0:
        raise ValueError(f"{text}: no subject has rows at two different times")
    gaps = np.diff(time)[same]
    usual = float(np.quantile(gaps[gaps > 0], USUAL)) * float(count.mean()) / np.sqrt(12)
    return Visits(time, code, int(count.max()), spread, min(spread, LONG * usual))


def rows_of_visits(block: LatentBlock, visits: Visits) -> None:
    """Refuse times that are no numbers of visits, a row for each."""
    text, (time, code) = block.term.text, visits[:2]
    broken = np.flatnonzero(time != np.round(time))
    if len(broken):
        raise ValueError(
            f"{text}: visits are whole numbers, and {time[broken[0]]:g} is not; for times of "
            f"any kind use ou({block.columns.names[0]})"
        )
    again = np.flatnonzero((np.diff(time) == 0) & (np.diff(code) == 0))
    if len(again):
        group = block.grouping.levels[code[again[0]]]
        raise ValueError(
            f"{text}: every visit of a subject has one row, and `{block.grouping.name}` "
            f"{str(group)!r} has several at visit {time[again[0]]:g}"
        )


class Moves(NamedTuple):
    """A and B of gaps of any shape, (..., d, d)."""

    A: Tensor
    B: Tensor


@dataclass(frozen=True)
class Path(Latent):
    """States z of dimension d at every row, of which mu2 takes c'z."""

    label: str
    names: tuple[str, ...]  # the time
    frame: Tensor  # (1, 1) unit of mu2
    dim: int  # elements of b: those of a diffuse start, and d for every row of the largest subject
    time_unit: float
    origin: float  # the time at which a known start is zero
    start: str  # "stationary", "known", "diffuse"
    states: int

    syntax = Syntax(serial=True)
    linear = True
    by_states = True

    @classmethod
    def build(cls, block: LatentBlock, unit: float) -> Path:
        visits = read_visits(block)
        cls.check(block, visits)
        path = cls.of(block, visits, torch.tensor([[unit]], dtype=torch.float64))
        return path.with_room(visits.longest)

    @classmethod
    def check(cls, block: LatentBlock, visits: Visits) -> None:
        """Refuse times at which the path has no meaning."""

    @classmethod
    @abstractmethod
    def of(cls, block: LatentBlock, visits: Visits, frame: Tensor) -> Path:
        """The path of a term, without room for any row yet."""

    @classmethod
    def _begun(
        cls,
        block: LatentBlock,
        visits: Visits,
        frame: Tensor,
        unit: float,
        start: str,
        states: int,
    ) -> Self:
        """The path with what all of them take from a term."""
        origin = float(visits.time.min())
        names = block.columns.names
        return cls(block.term.text, names, frame, 0, unit, origin, start, states)

    @property
    def flat(self) -> int:
        return self.states if self.start == "diffuse" else 0

    @property
    def nondegenerate(self) -> bool:
        return self.start == "stationary"

    @abstractmethod
    def moves(self, weights: Weights, gap: Tensor) -> Moves:
        """A and B of positive gaps, in the units of time."""

    def first_root(self, weights: Weights) -> Tensor:
        """B of the first state of a stationary start, (d, d)."""
        raise NotImplementedError(f"{type(self).__name__} has no stationary distribution")

    def loading(self, weights: Weights) -> Tensor:
        """c (d,): mu2 is the first state."""
        return torch.nn.functional.pad(torch.ones(1, dtype=torch.float64), (0, self.states - 1))

    def with_room(self, longest: int) -> Path:
        """The path where subjects have up to ``longest`` rows."""
        return replace(self, dim=max(self.flat + self.states * longest, self.dim))

    def sized(self, rows: LatentRows, longest: int) -> Path:
        early = rows.T[torch.lt(rows.T, self.origin)]
        if self.start == "known" and len(early):
            raise ValueError(
                f"{self.label} begins at {self.names[0]} {self.origin:g}, the first time of the "
                f"fit, and {float(early[0]):g} lies before it"
            )
        return self.with_room(longest)

    def layers(self) -> str:
        return ""

    def remark(self, weights: Weights) -> str:
        if self.start == "known":
            return f"{self.effect_name} is zero at {self.names[0]} {self.origin:g}."
        if self.start == "diffuse":
            return (
                f"{self.effect_name} has a diffuse start, exactly: its first state is integrated "
                "out of the likelihood with a flat prior."
            )
        return ""

    def prepare(self, weights: Weights) -> Weights:
        return {}

    # -- mu2 ---------------------------------------------------------------------------------

    def chain(self, weights: Weights, time: Tensor, before: Tensor, first: Tensor) -> Chain:
        origin = self.origin if self.start == "known" else time
        gap = (time - torch.where(first, origin, before)).clamp(min=0)
        moves = (gap > 0)[..., None, None]
        # the root of zero has no derivative: where nothing moves another value takes its place
        A, B = self.moves(weights, torch.where(gap > 0, gap, 1.0))
        still = torch.eye(self.states, dtype=torch.float64)
        A, B = torch.where(moves, A, still), torch.where(moves, B, 0.0)
        if self.start == "stationary":
            B = torch.where(first[..., None, None], self.first_root(weights), B)
        return Chain(A, B, self.loading(weights))

    def _chain(self, weights: Weights, rows: LatentRows) -> Chain:
        """That of the rows of a block, (n, J, .). A padded row, whose gap is negative, is still."""
        time = torch.cummax(rows.T[..., 0], dim=-1).values
        first = (torch.arange(time.shape[-1]) == 0).expand_as(time)
        return self.chain(weights, time, _before(time), first)

    def forces(self, weights: Weights, gap: Tensor, u: Tensor, before: Tensor) -> Tensor:
        """f (..., d) over positive gaps, of inputs u (..., r) and those of the row before.

        Of a first row the gap is one and ``before`` zero.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no inputs")

    def forced(
        self, weights: Weights, gap: Tensor, first: Tensor, u: Tensor, before: Tensor
    ) -> Tensor:
        gap = torch.where(first, 1.0, gap)
        f = self.forces(
            weights,
            torch.where(gap > 0, gap, 1.0),
            u,
            torch.where(first[..., None], 0.0, before),
        )
        return torch.where((gap > 0)[..., None], f, 0.0)

    def _forced(self, weights: Weights, rows: LatentRows) -> Tensor:
        """f of the rows of a block, (n, J, d)."""
        time, u = torch.cummax(rows.T[..., 0], dim=-1).values, rows.basis
        first = (torch.arange(time.shape[-1]) == 0).expand_as(time)
        earlier = torch.cat([u[..., :1, :], u[..., :-1, :]], dim=-2)
        return self.forced(weights, time - _before(time), first, u, earlier)

    def course(self, weights: Weights, rows: LatentRows) -> Tensor:
        if not self.inputs:
            return super().course(weights, rows)
        A, _, c = self._chain(weights, rows)
        f, z, found = self._forced(weights, rows), torch.zeros(self.states, dtype=c.dtype), []
        for j in range(f.shape[-2]):
            z = (A[..., j, :, :] * z[..., None, :]).sum(-1) + f[..., j, :]
            found.append(z @ c)
        return torch.stack(found, dim=-1)

    def effect(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        A, B, c = self._chain(weights, rows)
        J = self._steps(rows)
        e = b[..., self.flat : self.flat + J * self.states].unflatten(-1, (J, self.states))
        added, found = (B * e[..., None, :]).sum(-1), []
        if self.inputs:
            added = added + self._forced(weights, rows)
        z = b[..., : self.flat] @ self.flat_states().mT
        for j in range(J):
            z = (A[..., j, :, :] * z[..., None, :]).sum(-1) + added[..., j, :]
            found.append(z @ c)
        return torch.stack(found, dim=-1)

    def jacobian(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        J = self._steps(rows)
        A, B, c = self._chain(weights, rows)
        columns, found = self.flat_states().expand(*A.shape[:-3], self.states, self.flat), []
        for j in range(J):
            columns = torch.cat([A[..., j, :, :] @ columns, B[..., j, :, :]], dim=-1)
            known = torch.einsum("d,...dk->...k", c, columns)
            found.append(torch.nn.functional.pad(known, (0, self.dim - known.shape[-1])))
        return torch.stack(found, dim=-2)

    def _steps(self, rows: LatentRows) -> int:
        """J, which elements of b there must be."""
        J = rows.T.shape[-2]
        if self.dim < self.flat + self.states * J:
            raise ValueError(f"{self.label}: {J} rows of a subject, and b has {self.dim} elements")
        return J

    def state_names(self) -> tuple[tuple[str, float], ...]:
        if self.states == 1:
            return ((self.effect_name, 1.0),)
        return tuple((f"{self.effect_name}:{k + 1}", 1.0) for k in range(self.states))

    def loadings(self, weights: Weights) -> Tensor:
        """Zero: a path has no columns."""
        return torch.zeros(1, self.dim, dtype=torch.float64)

    @property
    def effect_name(self) -> str:
        """ou(time)."""
        return f"{self.name}({self.names[0]})"


def _before(time: Tensor) -> Tensor:
    """The time of the row before, of a first row its own, (n, J)."""
    return torch.cat([time[..., :1], time[..., :-1]], dim=-1)


def number(value: float) -> Tensor:
    """A weight of one element."""
    return torch.tensor([value], dtype=torch.float64)
