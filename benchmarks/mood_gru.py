"""A recurrent network without random effects on the study of daily mood.

    y_j | answers before beep j, covariates:   na ~ ordered beta,   lonely, bored ~ bernoulli

All parameters of the three distributions are outputs of a network of the state of a GRU and of the
covariates of the beep. Its inputs are those of the mixed models: answers (zero where there is none,
with a mask), time, hour, weekend, age, sex. In training the answers after a random beep are hidden
in half of the people, so it learns to predict ahead. Without ``history`` no answer is an input: a
network of the covariates alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from recurrent import Schedule, hidden_after, states_before, train
from torch import Tensor, nn

from dgmm.families import Observations
from dgmm.studies.mood import asked_rows
from dgmm.studies.mood.next_day import LANDMARKS
from dgmm.studies.mood.truth import FAMILIES, OUTCOMES

__all__ = ["mood_gru"]

HIDDEN, DRAWS = 48, 1000
COUNTS = {name: 1 + len(FAMILIES[name].extra) for name in OUTCOMES}  # eta and further parameters
START = [-1.0, -2.0, 2.0, 2.0, -1.0, -1.0]
EMPTY = torch.tensor([2.5, 0.0, 0.0], dtype=torch.float64)
SCALE = torch.tensor([1.4, 1.0, 1.0], dtype=torch.float64)


class Beeps(NamedTuple):
    """Answers of every outcome, whether there is one, and covariates."""

    y: Tensor  # (n, J, 3)
    seen: Tensor  # (n, J)
    inputs: Tensor  # (n, J, c)

    def take(self, index: Tensor) -> Beeps:
        """Some people."""
        return Beeps(*(one[index] for one in self))


class MoodGRU(nn.Module):
    """A GRU over the answers, and a head for the parameters of all outcomes at a beep."""

    def __init__(self, inputs: int, history: bool) -> None:
        super().__init__()
        self.history = history
        self.cell = nn.GRU(len(OUTCOMES) + 1 + inputs, HIDDEN, batch_first=True)
        self.head = nn.Sequential(
            nn.Linear(HIDDEN + inputs, 64), nn.Tanh(), nn.Linear(64, sum(COUNTS.values()))
        )
        self.start = nn.Parameter(torch.tensor(START))

    def forward(self, beeps: Beeps, shown: Tensor) -> dict[str, Tensor]:
        """eta and extra of every outcome, (n, J, 1 + R) each, from the answers that are shown."""
        shown = shown & torch.tensor(self.history)
        y = torch.where(shown[..., None], (beeps.y - EMPTY) / SCALE, 0.0).float()
        rows = torch.cat([y, shown[..., None].float(), beeps.inputs], -1)
        found = self.head(torch.cat([states_before(self.cell, rows), beeps.inputs], -1))
        parts = (found + self.start).double().split(list(COUNTS.values()), -1)
        return dict(zip(OUTCOMES, parts, strict=True))


def log_densities(said: dict[str, Tensor], beeps: Beeps) -> Tensor:
    """The sum over the outcomes of log p(y_j), (n, J)."""
    total = torch.zeros(beeps.seen.shape, dtype=torch.float64)
    for k, name in enumerate(OUTCOMES):
        y, eta, extra = beeps.y[..., k], said[name][..., 0], said[name][..., 1:].movedim(-1, 0)
        one = torch.ones_like(y)
        total = total + FAMILIES[name].log_density(Observations(y, one, one), eta, extra)
    return total


def fitted(beeps: Beeps, rng: np.random.Generator, history: bool, schedule: Schedule) -> MoodGRU:
    """The network of the epoch that held-out people like best, one beep ahead."""
    net = MoodGRU(beeps.inputs.shape[-1], history)

    def gain(some: Beeps, shown: Tensor) -> Tensor:
        return log_densities(net(some, shown), some)[some.seen].mean()

    def objective(index: Tensor) -> Tensor:
        some = beeps.take(index)
        return gain(some, hidden_after(some.seen, rng))

    def held_out(index: Tensor) -> float:
        held = beeps.take(index)
        return float(gain(held, held.seen))

    train(net, len(beeps.y), objective, held_out, rng, schedule)
    return net


def mood_gru(
    data: pd.DataFrame, seed: int, *, history: bool = True, epochs: int = 60
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions of the next day for ``mood_scores``, and means of all planned beeps of "train".

    The mean of a planned beep, answered or not, is that given the answers before it.
    """
    torch.manual_seed(seed)  # this script's own process
    train_rows, new_rows = (data[data["set"] == one] for one in ("train", "new"))
    training, new = as_beeps(train_rows), as_beeps(new_rows)
    net = fitted(training, np.random.default_rng([seed, 9]), history, Schedule(epochs=epochs))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        everywhere = means(net(training, training.seen))
        course = pd.DataFrame(
            {name: value.reshape(-1).numpy() for name, value in everywhere.items()},
            index=train_rows.index,
        )
        asked, parts = asked_rows(data), []
        day = torch.from_numpy(new_rows["day"].to_numpy(copy=True).reshape(new.seen.shape))
        for landmark in LANDMARKS:
            said = net(new, new.seen & (day < landmark))
            at = (day == landmark).reshape(-1).numpy()
            parts += answers(said, new_rows[at], at, generator)
    table = pd.concat(parts, ignore_index=True)
    assert set(table["row"]) == set(asked.index)
    return table, course


def means(said: dict[str, Tensor]) -> dict[str, Tensor]:
    """E(y) of every outcome."""
    return {
        name: FAMILIES[name].mean(one[..., 0], one[..., 1:].movedim(-1, 0))
        for name, one in said.items()
    }


def answers(
    said: dict[str, Tensor], rows: pd.DataFrame, at: np.ndarray, generator: torch.Generator
) -> list[pd.DataFrame]:
    """The columns of ``mood_scores`` for some beeps."""
    found = []
    for name in OUTCOMES:
        own = said[name].reshape(-1, COUNTS[name])[torch.from_numpy(at)]
        eta, extra, family = own[:, 0], own[:, 1:].T, FAMILIES[name]
        y = torch.from_numpy(rows[name].to_numpy(copy=True))
        data = Observations(y, torch.ones_like(y), torch.ones_like(y))
        table = pd.DataFrame({"row": rows.index, "outcome": name})
        table["mean"] = family.mean(eta, extra).numpy()
        table["log_score"] = family.log_density(data, eta, extra).numpy()
        if not family.yes_or_no:
            many = eta.expand(DRAWS, -1)
            draws = family.simulate(many, data, extra, generator)
            ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
            table["lower"], table["upper"] = draws.quantile(ends, dim=0).numpy()
        found.append(table)
    return found


def as_beeps(rows: pd.DataFrame) -> Beeps:
    """Everyone has the same number of planned beeps."""
    n = rows["id"].nunique()
    week = 2 * np.pi * (rows["weekday"] + rows["hour"] / 24) / 7
    columns = [
        rows["time"] / 10.5 - 1, (rows["hour"] - 15) / 6, ((rows["hour"] - 15) / 6) ** 2 - 0.5,
        rows["beep"] == 0, rows["beep"] == 4, rows["weekend"], np.sin(week), np.cos(week),
        (rows["age"] - 22) / 3, rows["female"] - 0.5,
    ]  # fmt: skip
    inputs = np.stack([c.to_numpy(dtype=float).reshape(n, -1) for c in columns], -1)
    y = torch.from_numpy(rows[list(OUTCOMES)].to_numpy(copy=True)).reshape(n, -1, len(OUTCOMES))
    seen = torch.from_numpy(rows["observed"].to_numpy(copy=True).reshape(n, -1))
    return Beeps(y, seen, torch.from_numpy(inputs).float())
