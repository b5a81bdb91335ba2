"""Log scores of all subjects, each by a fit that has not seen it.

    score_i = log p(y_i; theta-hat without the fold of i)

The subjects with an outcome are dealt into folds. How a model is fitted without one is its route's
own affair.
"""

from __future__ import annotations

from collections.abc import Callable
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

Without = Callable[[np.ndarray, np.ndarray], Tensor]
"""From the positions of subjects kept and left out to the log scores of those left out."""


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
        seen = panel.subject[panel.observed].unique().numpy()
        order = seen[np.random.default_rng([seed, 13]).permutation(len(seen))]
        parts = np.array_split(order, max(2, round(1 / share)))
        return cls(panel.n, tuple(np.sort(part) for part in parts))

    def scores(self, without: Without) -> Tensor:
        """The score of every subject with an outcome, in the order of the panel."""
        found = torch.full((self.n,), torch.nan, dtype=torch.float64)
        for part in self.left:
            kept = np.setdiff1d(np.arange(self.n), part)
            found[torch.from_numpy(part)] = without(kept, part).detach()
        return found[torch.from_numpy(np.sort(np.concatenate(self.left)))]


def enough(panel: Panel) -> bool:
    """Whether a panel has subjects with an outcome for folds."""
    return len(panel.subject[panel.observed].unique()) >= FEWEST
