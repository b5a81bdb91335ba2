"""The rows of several outcomes on one line of time, subject by subject."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["ranks", "together"]


def together(time: Sequence[Tensor], there: Sequence[Tensor]) -> list[Tensor]:
    """The times of all rows, (n, J) each; those that stand in for no row at the first of all.

    there: per outcome (n,) bool, subjects with rows of it.
    """
    far = torch.tensor(torch.inf, dtype=time[0].dtype)
    pairs = list(zip(time, there, strict=True))
    first = torch.stack([torch.where(here, one.amin(1), far) for one, here in pairs]).amin(0)
    first = torch.where(first < far, first, 0.0)[:, None]
    return [torch.where(here[:, None], one, first) for one, here in pairs]


def ranks(time: Sequence[Tensor]) -> list[Tensor]:
    """The place of the time of every row among those of its subject, of all outcomes."""
    ordered, order = torch.sort(torch.cat(list(time), dim=1), dim=1, stable=True)
    later = torch.zeros_like(order)
    later[:, 1:] = ordered[:, 1:] > ordered[:, :-1]
    rank = torch.zeros_like(order).scatter(1, order, later.cumsum(1))
    return list(rank.split([one.shape[1] for one in time], dim=1))
