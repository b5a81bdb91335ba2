"""When the ELBO stage does what: step length, weight of the KL, which iterates count."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

__all__ = ["Schedule", "ScheduleOptions", "schedule_for"]


@dataclass(frozen=True)
class Schedule:
    """How the ELBO is maximised."""

    epochs: int = 300
    batch: int = 100  # subjects
    alike: bool = False  # mini-batches are of subjects of similar length
    learning_rate: float = 4e-3
    memory: float = 0.999  # of Adam for squared gradients
    skeleton: float = 25.0  # times the learning rate for the skeleton of the encoder
    skeleton_alone: float = 0.1  # share of the steps before the encoder's networks learn
    pairs: int = 2  # antithetic pairs of draws per subject
    warm_up: float = 0.05  # share of the steps
    weighted: bool = False  # the importance-weighted bound once the KL has weight 1, of recursions
    kl_anneal: int = 0  # epochs over which the KL weight grows from 0 to 1
    kl_cycles: int = 1  # how often it does so within these epochs
    free_bits: float = 0.0  # nats per subject below which the KL is not pushed
    average: float = 0.0  # share of the steps, the last ones, whose mean is the result
    patience: int = 0  # epochs without a better held-out score before the end; 0: never
    watch: str = "bound"  # the held-out score: "bound" or marginal log-"likelihood"
    watch_draws: int = 32  # of b per subject behind it
    precision: str = "double"  # of the calculations: "double" or "single"
    watched: float = 0.1  # share of the subjects held out when there is patience

    def kl_weight(self, epoch: int) -> float:
        """The weight of the KL in an epoch (0, 1, ...).

        With several cycles it rises in the first half of each and is 1 in the second: Fu, Li, Liu,
        Gao, Celikyilmaz and Carin (2019), NAACL.
        """
        if epoch >= self.kl_anneal:
            return 1.0
        cycle = self.kl_anneal / self.kl_cycles
        place = epoch + 1 - cycle * math.floor(epoch / cycle)
        rise = cycle if self.kl_cycles == 1 else cycle / 2
        return min(1.0, place / rise)

    def settled(self, epoch: int) -> bool:
        """From this epoch on the KL has weight 1: bounds can be compared."""
        return epoch + 1 >= self.kl_anneal

    def rate(self, done: float, steps: int) -> float:
        """Share of the learning rate: linear warm-up, then cosine decay to zero.

        With an average of iterates the rate stays, and falls to a third where the average begins:
        iterates that no longer move have nothing to average.

        done: share of the ``steps`` that are behind.
        """
        rise = max(1.0 / steps, self.warm_up)
        if done < rise:
            return min(1.0, (done + 1.0 / steps) / rise)
        if self.average:
            return 1.0 if done < 1 - self.average else 1 / 3
        return 0.5 * (1 + math.cos(math.pi * (done - rise) / max(1.0 / steps, 1 - rise)))

    def averages(self, step: int, steps: int) -> bool:
        """Whether the iterate after a step (0, 1, ...) enters the mean."""
        return step >= steps - self.average * steps

    def batches(self, n: int) -> int:
        """Mini-batches per epoch for n subjects."""
        return max(1, round(n / self.batch))


class ScheduleOptions(Protocol):
    """The options that a schedule is made of, as they hold for a small data set.

    steps: most steps in ``epochs`` epochs. precision: "auto" as well.
    """

    @property
    def epochs(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def batches(self) -> str: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def pairs(self) -> int: ...
    @property
    def bound(self) -> str: ...
    @property
    def kl_anneal(self) -> int: ...
    @property
    def kl_cycles(self) -> int: ...
    @property
    def free_bits(self) -> float: ...
    @property
    def average(self) -> float: ...
    @property
    def patience(self) -> int: ...
    @property
    def watch(self) -> str: ...
    @property
    def precision(self) -> str: ...


def schedule_for(options: ScheduleOptions, n: int, epochs: int | None = None) -> Schedule:
    """The schedule for n subjects: at least eight steps in an epoch.

    epochs: of this part of the ELBO stage, which ``steps`` shortens like the whole.
    """
    batch = int(np.clip(n // 8, 8, options.batch))
    share = min(1.0, options.steps / (options.epochs * max(1, round(n / batch))))
    wanted = options.epochs if epochs is None else epochs
    return Schedule(
        epochs=max(1, round(share * wanted)),
        batch=batch,
        alike=options.batches == "length",
        learning_rate=options.learning_rate,
        pairs=options.pairs,
        weighted=options.bound == "weighted",
        kl_anneal=round(share * options.kl_anneal),
        kl_cycles=options.kl_cycles,
        free_bits=options.free_bits,
        average=options.average,
        patience=options.patience,
        watch=options.watch,
        precision="double" if options.precision == "auto" else options.precision,
    )
