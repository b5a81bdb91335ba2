"""Rows that the panels of several outcomes have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dgmm.panel.panel import Panel

__all__ = ["common_rows"]


def common_rows(panels: Sequence[Panel]) -> tuple[Tensor, Tensor]:
    """The subject of every row of the frame, (M,), and its place in each panel, (M, K).

    Panels are :meth:`Panel.numbered`; the place is -1 where a panel does not have the row.
    """
    span = 1 + max(int(one.rows.occasion.max()) for one in panels)
    keys = [one.subject * span + one.rows.occasion[: one.n_rows] for one in panels]
    every, row = torch.cat(keys).unique(return_inverse=True)
    table, first = torch.full((len(every), len(panels)), -1), 0
    for k, key in enumerate(keys):
        table[row[first : first + len(key)], k] = torch.arange(len(key))
        first += len(key)
    return every // span, table
