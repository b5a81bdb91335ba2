"""Training of a recurrent network: what the baselines of the studies have in common."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Schedule", "hidden_after", "states_before", "train"]


class Schedule(NamedTuple):
    """How long and how fast."""

    epochs: int = 150
    batch: int = 100  # subjects
    rate: float = 5e-3
    decay: float = 1e-4
    clip: float = 5.0


DEFAULT = Schedule()


def states_before(cell: nn.GRU, rows: Tensor) -> Tensor:
    """What is known before every visit, without that visit, (n, J, hidden)."""
    none = torch.zeros(len(rows), 1, cell.hidden_size)
    return torch.cat([none, cell(rows)[0][:, :-1]], 1)


def hidden_after(seen: Tensor, rng: np.random.Generator) -> Tensor:
    """Half of the subjects as they are, of the others nothing after a random visit, (n, J)."""
    n, J = seen.shape
    last = torch.from_numpy(np.where(rng.uniform(size=n) < 0.5, J, rng.integers(0, J, n)))
    return seen & (torch.arange(J) < last[:, None])


def train(
    net: nn.Module,
    n: int,
    objective: Callable[[Tensor], Tensor],
    held_out: Callable[[Tensor], float],
    rng: np.random.Generator,
    schedule: Schedule = DEFAULT,
) -> None:
    """Adam with a cosine schedule; keeps the epoch that a tenth of the subjects likes best.

    Args:
        net: is changed.
        n: subjects.
        objective: what some subjects gain, to be made large.
        held_out: how well the network does on the subjects held out.
        rng: of the order of the subjects.
        schedule: of the steps.
    """
    order = torch.from_numpy(rng.permutation(n))
    cut = len(order) // 10
    held, rest = order[:cut], order[cut:]
    optimiser = torch.optim.AdamW(net.parameters(), lr=schedule.rate, weight_decay=schedule.decay)
    steps = schedule.epochs * math.ceil(len(rest) / schedule.batch)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    best, kept = -math.inf, copy.deepcopy(net.state_dict())
    for _ in range(schedule.epochs):
        shuffled = rest[torch.from_numpy(rng.permutation(len(rest)))]
        for index in shuffled.split(schedule.batch):
            optimiser.zero_grad()
            loss = -objective(index)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), schedule.clip)
            optimiser.step()
            cosine.step()
        with torch.no_grad():
            value = held_out(held)
        if value > best:
            best, kept = value, copy.deepcopy(net.state_dict())
    net.load_state_dict(kept)
