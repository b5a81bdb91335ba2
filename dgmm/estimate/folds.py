"""Log scores of all subjects, each by a fit that has not seen it.

    score_i = log p(y_i; theta-hat without the fold of i)

The subjects with an outcome are dealt into folds. How a model is fitted without one is its route's
own affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dgmm.panel import Panel

__all__ = ["SHARE", "Folds", "enough"]

SHARE = 0.2
"""Of the subjects in a fold, where something is chosen by their scores."""

FEWEST = 20
"""Subjects with an outcome below which their scores tell nothing."""


@dataclass(frozen=True)
class Folds:
    """Subjects with an outcome, dealt out once and for all."""

    n: int  # subjects, those without an outcome included
    left: tuple[np.ndarray, ...]  # positions of the subjects of every fold, ascending

    @classmethod
    def deal(cls, panel: Panel, seed: int, share: float = SHARE) -> Folds | None:
        """About 1 / ``share`` folds, at least two; None where the subjects are too few."""
        if not enough(panel):
            return None
        seen = panel.seen.numpy()
        order = seen[np.random.default_rng([seed, 13]).permutation(len(seen))]
        parts = np.array_split(order, max(2, round(1 / share)))
        return cls(panel.n, tuple(np.sort(part) for part in parts))

    @property
    def kept(self) -> tuple[np.ndarray, ...]:
        """Positions of the subjects outside every fold, those without an outcome included."""
        return tuple(np.setdiff1d(np.arange(self.n), part) for part in self.left)

    def joined(self, scores: Sequence[Tensor]) -> Tensor:
        """The score of every subject with an outcome, in the order of the panel, from those of
        every fold.
        """
        order = np.argsort(np.concatenate(self.left))
        return torch.cat([each.detach() for each in scores])[torch.from_numpy(order)]


def enough(panel: Panel) -> bool:
    """Whether a panel has subjects with an outcome for folds."""
    return len(panel.seen) >= FEWEST
