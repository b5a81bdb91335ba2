"""Outcomes that were measured together, evaluated at once and not one after the other.

    eta_k = offset_k + X beta_k + mu2_k,   log p(y | b) = sum_k sum_j log F_k(y_jk; eta_jk)

Columns of one array are the outcomes; those of one family are one call of its density.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dgmm.families import Family, Observations
from dgmm.outcomes import Longitudinal, standing
from dgmm.panel import Stack
from dgmm.parameters import Theta

__all__ = ["Alike", "OfFamily", "by_family"]


class OfFamily(NamedTuple):
    """Outcomes of one family."""

    family: Family
    places: tuple[int, ...]


def by_family(outcomes: Sequence[Longitudinal]) -> tuple[OfFamily, ...] | None:
    """The outcomes by their families; None where a mean has more than columns of its own.

    Families are one where they are of one class and made alike; of a class that holds other
    objects, such as the base of a wrapper, every outcome has its own.
    """
    found: dict[Any, list[int]] = {}
    for k, one in enumerate(outcomes):
        if one.networks or one.parts or one.shared:
            return None
        family = one.family
        made = {n: repr(v) for n, v in vars(family).items() if n != "link"}
        alike = type(family), family.name, family.link.name, family.extra, tuple(made.items())
        found.setdefault(alike, []).append(k)
    return tuple(OfFamily(outcomes[some[0]].family, tuple(some)) for some in found.values())


@dataclass(frozen=True)
class Alike:
    """The outcomes of a model at the rows of a block, (n, J, K)."""

    outcomes: tuple[Longitudinal, ...]
    families: tuple[OfFamily, ...]
    stack: Stack

    def mu1(self, ready: Theta) -> Tensor:
        """offset + X beta, (n, J, K)."""
        beta = torch.stack([one.beta(ready) for one in self.outcomes], dim=-1)
        return self.stack.offset + self.stack.X @ beta

    def at_columns(self, at: Tensor, here: Tensor) -> Alike:
        """Of the rows (n, J) of every subject some, of which those ``here`` count."""
        data, offset, counts, X = self.stack
        data = Observations(*(column[:, at] for column in data))
        stack = Stack(data, offset[:, at], counts[:, at] & here[..., None], X[:, at])
        return replace(self, stack=stack)

    def log_density(self, ready: Theta, eta: Tensor) -> Tensor:
        """log p(y_i | b_i), (..., n), at linear predictors eta (..., n, J, K)."""
        return self.by_row(ready, eta).sum(-1)

    def by_row(self, ready: Theta, eta: Tensor) -> Tensor:
        """log p of the outcomes of every row, (..., n, J)."""
        found = []
        for one in self.families:
            own, there, extra = self._of(ready, one, eta)
            density = one.family.log_density(own.data, there, extra)
            found.append(torch.where(own.counts, density, 0.0).sum(-1))
        return torch.stack(found).sum(0)

    def standing(self, ready: Theta) -> tuple[Tensor, Tensor]:
        """Working residuals from the fixed part and their standard deviation, (n, J, K) each."""
        eta, units = self.mu1(ready), [each.unit for each in self.outcomes]
        residual, spread = [], []
        for one in self.families:
            own, there, extra = self._of(ready, one, eta)
            unit = there.new_tensor([units[k] for k in one.places])
            found = standing(one.family, own.data, there, extra, unit)
            residual.append(found[0])
            spread.append(found[1].expand_as(there))
        return self._in_order(residual), self._in_order(spread)

    def _of(self, ready: Theta, one: OfFamily, eta: Tensor) -> tuple[Stack, Tensor, Tensor]:
        """Rows, linear predictors and extra parameters (R, K') of the outcomes of a family."""
        each = [ready[f"{self.outcomes[k].key}extra"] for k in one.places]
        extra = torch.stack(each, dim=-1)
        if len(self.families) == 1:
            return self.stack, eta, extra
        at = torch.tensor(one.places)
        return self.stack.some(at), eta[..., at], extra

    def _in_order(self, found: Sequence[Tensor]) -> Tensor:
        """Columns of the families in the order of the outcomes."""
        if len(found) == 1:
            return found[0]
        places = torch.tensor([k for one in self.families for k in one.places])
        return torch.cat(list(found), dim=-1)[..., torch.argsort(places)]
