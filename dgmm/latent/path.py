"""Stationary Gaussian paths: mu2_ij = z_i(t_ij), a state at every row, correlated over time.

    z_1 = s e_1,   z_j = r(g_j) z_{j-1} + s sqrt{1 - r(g_j)^2} e_j,   g_j = t_j - t_{j-1},

with e = b white noise, one element per row, and r the correlation over a gap, r(g) r(h) = r(g + h).
So mu2 = L b with a lower triangular factor of the covariance of the states,

    L_jm = s r(t_j - t_m) sqrt{1 - r(g_m)^2},  m <= j,   L_j1 = s r(t_j - t_1).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.design import LatentBlock
from dgmm.families.links import LINKS, Link
from dgmm.formula import Syntax
from dgmm.latent.base import Boundary, Component, Latent
from dgmm.networks import Weights
from dgmm.panel import LatentRows

__all__ = ["Path", "Visits", "read_visits"]

LEAST = 1e-30
"""Smallest innovation variance between two times, in units of s^2: its root has a derivative."""


class Visits(NamedTuple):
    """The times of a path at the fit."""

    time: np.ndarray  # (N,) by subject, not falling within one
    code: np.ndarray  # (N,) subject
    longest: int  # rows of the largest subject
    spread: float  # standard deviation of the times within subjects


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
    return Visits(time, code, int(count.max()), spread)


@dataclass(frozen=True)
class Path(Latent):
    """A stationary path with standard deviation s and one parameter of its correlation."""

    label: str
    names: tuple[str, ...]  # the time
    frame: Tensor  # (1, 1) unit of s
    dim: int  # rows of the largest subject
    time_unit: float

    syntax = Syntax(serial=True)
    linear = True

    raw: ClassVar[str]  # name of the working parameter of the correlation
    reported_as: ClassVar[str]
    link: ClassVar[Link]
    first: ClassVar[float]  # starting value of the working parameter
    others: ClassVar[tuple[float, ...]]  # further starting values
    far: ClassVar[float]  # the working parameter beyond +- this is at an end, as the data see it
    ends: ClassVar[tuple[str, str]]  # what the states are at the lower and upper end of its range

    @classmethod
    def build(cls, block: LatentBlock, unit: float) -> Path:
        visits = read_visits(block)
        cls.check(block, visits)
        frame = torch.tensor([[unit]], dtype=torch.float64)
        return cls(block.term.text, block.columns.names, frame, visits.longest, visits.spread)

    @classmethod
    def check(cls, block: LatentBlock, visits: Visits) -> None:
        """Refuse times at which the path has no meaning."""

    @abstractmethod
    def correlation(self, weights: Weights, gap: Tensor) -> Tensor:
        """r at gaps of any shape, in the units of time."""

    def innovation(self, weights: Weights, gap: Tensor) -> Tensor:
        """1 - r(gap)^2."""
        return 1 - self.correlation(weights, gap).square()

    def sized(self, rows: LatentRows, longest: int) -> Path:
        return replace(self, dim=max(longest, self.dim))

    def layers(self) -> str:
        return ""

    # -- parameters --------------------------------------------------------------------------

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"log_sd": (1,), self.raw: (1,)}

    def initial(self, generator: torch.Generator) -> Weights:
        return {"log_sd": _number(-0.7), self.raw: _number(self.first)}

    def starts(self, weights: Weights) -> tuple[Weights, ...]:
        return (weights, *({**weights, self.raw: _number(value)} for value in self.others))

    # -- mu2 ---------------------------------------------------------------------------------

    def prepare(self, weights: Weights) -> Weights:
        return {}

    def factor(self, weights: Weights, rows: LatentRows) -> Tensor:
        """L (n, J, J). A gap that is not positive, as to a padded row, adds nothing."""
        time = rows.T[..., 0]
        gap = (time[..., 1:] - time[..., :-1]).clamp(min=0)
        elapsed = torch.cat([torch.zeros_like(time[..., :1]), gap.cumsum(-1)], dim=-1)
        between = (elapsed[..., :, None] - elapsed[..., None, :]).clamp(min=0)
        moves = gap > 0
        # the root of zero has no derivative: where nothing moves another value takes its place
        inner = self.innovation(weights, torch.where(moves, gap, 1.0)).clamp(min=LEAST)
        fresh = torch.where(moves, inner.sqrt(), 0.0)
        fresh = torch.cat([torch.ones_like(time[..., :1]), fresh], dim=-1)
        states = torch.tril(self.correlation(weights, between)) * fresh[..., None, :]
        return self.scale * weights["log_sd"].exp() * states

    def effect(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        used = b[..., : self._steps(rows)]
        return torch.einsum("njm,...nm->...nj", self.factor(weights, rows), used)

    def jacobian(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        unused = self.dim - self._steps(rows)
        return torch.nn.functional.pad(self.factor(weights, rows), (0, unused))

    def _steps(self, rows: LatentRows) -> int:
        """J, which elements of b there must be."""
        J = rows.T.shape[-2]
        if self.dim < J:
            raise ValueError(f"{self.label}: {J} rows of a subject, and b has {self.dim} elements")
        return J

    def loadings(self, weights: Weights) -> Tensor:
        """Zero: a path has no columns."""
        return torch.zeros(1, self.dim, dtype=torch.float64)

    # -- what is reported --------------------------------------------------------------------

    @property
    def effect_name(self) -> str:
        """ou(time)."""
        return f"{self.name}({self.names[0]})"

    def components(self) -> tuple[Component, ...]:
        own = (self.effect_name,)
        return Component("sd", own, LINKS["log"]), Component(self.reported_as, own, self.link)

    @abstractmethod
    def natural(self, weights: Weights) -> Tensor:
        """The reported parameter of the correlation, (1,)."""

    def reported(self, weights: Weights) -> Tensor:
        return torch.cat([self.scale * weights["log_sd"].exp(), self.natural(weights)])

    def at_boundary(self, weights: Weights, floor: float) -> Boundary:
        zero, at_end = weights["log_sd"].exp() < floor, weights[self.raw].abs() > self.far
        held, name = {"log_sd": zero, self.raw: zero | at_end}, self.effect_name
        if bool(zero):
            return Boundary((name,), held, (f"the variance of `{name}` is estimated as zero",))
        if not bool(at_end):
            return Boundary((), held)
        value, states = float(self.natural(weights)), self.ends[int(weights[self.raw] > 0)]
        return Boundary(
            (),
            held,
            (f"the {self.reported_as} of `{name}` has run to an end ({value:.3g}): {states}",),
        )


def _number(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)
