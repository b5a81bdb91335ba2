"""A family at a few predictors and parameters, with every outcome that it may have.

    int f(y) p(y | eta) dy  =  sum_s f(y_s) p(y_s | eta) m_s

over a grid y_s with measures m_s: the trapezoidal rule after a substitution that makes it exact to
rounding for smooth densities, and measure 1 for outcomes of positive probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dgmm.design import as_numbers
from dgmm.families import Extra, Family, Observations
from dgmm.runtime.listing import shortened

__all__ = ["Case", "FamilyError", "case_of", "possible"]

TRIALS = 7.0
MOST = 600  # of a count
STEP = 0.01


class FamilyError(ValueError):
    """A check that a family does not pass: its name, and what was found."""

    def __init__(self, family: Family, check: str, found: str) -> None:
        super().__init__(f"family {family.name!r} does not pass {check!r}: {found}")
        self.check = check


@dataclass(frozen=True)
class Case:
    """A family, three predictors, its parameters, and outcomes that it may have."""

    family: Family
    eta: Tensor  # (3,)
    extra: Extra  # (R,)
    sample: np.ndarray  # (n,) possible outcomes

    def data(self, y: Tensor, weight: float = 1.0) -> Observations:
        """Outcomes with their trials and a weight."""
        trials = TRIALS if self.family.support == "trials" else 1.0
        return Observations(y, torch.full_like(y, trials), torch.full_like(y, weight))

    def some(self, weight: float = 1.0) -> Observations:
        """Three possible outcomes."""
        return self.data(torch.from_numpy(self.sample[[0, len(self.sample) // 2, -1]]), weight)

    def every(self) -> tuple[Observations, Tensor]:
        """All outcomes (S, 3) and their probabilities at the predictors."""
        y, measure = _grid(self.family, self.sample)
        data = self.data(y[:, None].expand(-1, len(self.eta)).clone())
        with torch.no_grad():
            density = self.family.log_density(data, self.eta, self.extra).exp()
        return data, density * measure[:, None]

    def fail(self, check: str, found: str) -> FamilyError:
        """The error of a check."""
        return FamilyError(self.family, check, found)


def case_of(
    family: Family,
    y: Sequence[float] | None,
    eta: Sequence[float] | None,
    extra: Sequence[float] | None,
) -> Case:
    """The values given, and for the rest those that the support and the link suggest."""
    sample = _numbers(possible(family) if y is None else y, "y")
    family = family.fitted_to(sample)
    points = torch.from_numpy(_numbers(_predictors(family) if eta is None else eta, "eta", 3))
    case = Case(family, points, torch.zeros(0), sample)
    if extra is not None:
        given = _numbers(extra, "extra", len(family.extra))
        return replace(case, extra=torch.from_numpy(given))
    data = case.data(torch.from_numpy(sample))
    start = family.start_extra(data, family.start_mean(data).mean().expand(data.y.shape))
    return replace(case, extra=start.detach())


def _numbers(given: Sequence[float], what: str, size: int | None = None) -> np.ndarray:
    numbers = as_numbers(given, f"{what}= is a list of numbers")
    if numbers.ndim != 1 or size not in (None, len(numbers)):
        wanted = "" if size is None else f"{size} "
        raise ValueError(f"{what}= is a list of {wanted}numbers, not {shortened(given)}")
    return numbers


def possible(family: Family) -> list[float]:
    """Some outcomes of the support of a family, its points of positive probability among them."""
    low, high = _ends(family)
    known = {
        "real": [-1.3, -0.4, 0.1, 0.5, 0.9, 1.6],
        "positive": [0.3, 0.7, 1.1, 1.6, 2.4, 4.0],
        "counts": [0.0, 1.0, 1.0, 2.0, 4.0, 8.0],
        "binary": [0.0, 1.0, 1.0, 0.0, 1.0, 0.0],
        "trials": [0.0, 2.0, 3.0, 3.0, 5.0, 7.0],
        "ordered": [1.0, 2.0, 2.0, 3.0, 3.0, 4.0],
        "interval": [low + (high - low) * share for share in (0.2, 0.35, 0.5, 0.55, 0.8)],
    }[family.support]
    if family.support == "real" and family.link.name != "identity":  # means of one sign
        known = [value + 1.5 for value in known]
    inside = [value for value in known if low < value < high] if family.atoms else known
    return sorted([*inside, *family.atoms])


def _predictors(family: Family) -> list[float]:
    """Three values of eta with possible means, not far out."""
    if family.support == "interval":
        return [-0.6, 0.1, 0.5]
    above = family.support in ("counts", "positive") and family.link.name == "identity"
    if above or family.link.name in ("inverse", "sqrt"):
        return [0.4, 1.1, 1.9]
    return [-1.6, 0.3, 1.2]


def _ends(family: Family) -> tuple[float, float]:
    """The ends of the range of an outcome."""
    if family.support in ("interval", "real") and family.bounded:
        lower, upper = family.options()["bounds"]
        return -np.inf if lower is None else lower, np.inf if upper is None else upper
    return (0.0, 1.0) if family.support == "interval" else (-np.inf, np.inf)


def _grid(family: Family, sample: np.ndarray) -> tuple[Tensor, Tensor]:
    """Every outcome (S,), and its measure."""
    discrete = {
        "binary": (0, 1),
        "trials": (0, TRIALS),
        "counts": (0, MOST),
        "ordered": (sample.min(), sample.max()),
    }
    if family.support in discrete:
        first, last = discrete[family.support]
        y = torch.arange(int(first), int(last) + 1, dtype=torch.float64)
        return y, torch.ones_like(y)
    y, measure = _continuous(family)
    atoms = torch.tensor(family.atoms, dtype=torch.float64)
    return torch.cat([y, atoms]), torch.cat([measure, torch.ones_like(atoms)])


def _continuous(family: Family) -> tuple[Tensor, Tensor]:
    low, high = _ends(family)
    u = torch.arange(-45.0, 45.0, STEP, dtype=torch.float64)
    if family.support == "positive":
        u = u[u < 15]
        return torch.exp(u), STEP * torch.exp(u)
    if np.isfinite(low) and np.isfinite(high):
        if family.support == "real":  # a density cut at its ends: no substitution helps
            nodes, weights = (torch.from_numpy(one) for one in np.polynomial.legendre.leggauss(200))
            return low + (high - low) * (nodes + 1) / 2, weights * (high - low) / 2
        u = u[u.abs() < 30]  # y itself keeps no more digits at its ends
        share = torch.sigmoid(u)
        return low + (high - low) * share, STEP * (high - low) * share * torch.sigmoid(-u)
    if np.isfinite(low):
        u = u[u < 15]
        return low + torch.exp(u), STEP * torch.exp(u)
    if np.isfinite(high):
        u = u[u < 15]
        return high - torch.exp(u), STEP * torch.exp(u)
    return torch.sinh(u), STEP * torch.cosh(u)
