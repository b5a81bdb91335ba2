"""A recurrent network without random effects: the deep baseline of the simulation studies.

    forward:    y_j | y_1 .. y_{j-1}, x ~ N(m_j, s^2 + v_j)   one-step-ahead, a joint density of y
    smoothing:  y_j | all other y, x ~ N(m_j, s^2 + v_j),   E(mu_j | y) = m_j + gain (y_j - m_j)

Outcomes that were not seen are fed as zeros with a mask. In training the outcomes after a random
visit are hidden in half of the batches, so the forward network also learns to predict ahead. The
epoch with the best forward likelihood of a tenth of the subjects is kept.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from recurrent import hidden_after, states_before, train
from torch import Tensor, nn

from dgmm.studies import Predictions

HIDDEN = 48
Z = 1.959964


class Visits(NamedTuple):
    """Standardised outcomes, what was seen of them, times and covariates: (n, J), (n, J, 4)."""

    y: Tensor
    seen: Tensor
    inputs: Tensor  # t, time since the visit before, age, sex, x

    def take(self, index: Tensor) -> Visits:
        """Some subjects."""
        return Visits(*(one[index] for one in self))


class Recurrent(nn.Module):
    """Two GRUs, one per direction, and a head for each task: mean and variance v_j."""

    def __init__(self) -> None:
        super().__init__()
        self.forward_cell = nn.GRU(7, HIDDEN, batch_first=True)
        self.backward_cell = nn.GRU(7, HIDDEN, batch_first=True)
        self.ahead = self._head(HIDDEN + 5)
        self.smooth = self._head(2 * HIDDEN + 5)
        self.log_sigma2 = nn.Parameter(torch.tensor(-2.0))

    @staticmethod
    def _head(size: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(size, 64), nn.Tanh(), nn.Linear(64, 2))

    def states(self, visits: Visits) -> tuple[Tensor, Tensor]:
        """What is known before and after every visit, without that visit, (n, J, HIDDEN) each."""
        y = torch.where(visits.seen, visits.y, 0.0)[..., None]
        rows = torch.cat([y, visits.seen[..., None].float(), visits.inputs], dim=-1)
        later = states_before(self.backward_cell, rows.flip(1)).flip(1)
        return states_before(self.forward_cell, rows), later

    def forward(self, visits: Visits) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean and v of the one-step-ahead and of the smoothing density, (n, J) each."""
        past, later = self.states(visits)
        ahead = self.ahead(torch.cat([past, visits.inputs], -1))
        smooth = self.smooth(torch.cat([past, later, visits.inputs], -1))
        outputs = []
        for out in (ahead, smooth):
            outputs += [out[..., 0], nn.functional.softplus(out[..., 1])]
        return outputs[0], outputs[1], outputs[2], outputs[3]


def log_density(y: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """log N(y; mean, variance)."""
    return -0.5 * ((y - mean) ** 2 / variance + variance.log() + math.log(2 * math.pi))


def gru(data: pd.DataFrame, seed: int) -> Predictions:
    """Train on the rows that a method may see and predict all others."""
    torch.manual_seed(seed)  # this script's own process
    seen = data["observed"] & (data["set"] != "new")
    centre, scale = data.loc[seen, "y"].mean(), data.loc[seen, "y"].std()
    history = data["observed"] | (data["set"] == "new")
    visits = as_visits(data, (data["y"] - centre) / scale, history)
    first = data.groupby("id")["set"].first().to_numpy()
    training = visits.take(torch.from_numpy(np.flatnonzero(first != "new")))
    net = fitted(training, np.random.default_rng([seed, 7]))
    with torch.no_grad():
        m, v, smooth, w = net(visits)
        s2 = net.log_sigma2.exp()
        gain = torch.where(visits.seen, w / (w + s2), 0.0)
        known = smooth + gain * (visits.y - smooth)
        mean = torch.where(visits.seen, known, m)
        variance = torch.where(visits.seen, gain * s2, v) + s2
        each = (log_density(visits.y, m, v + s2) - math.log(scale)).sum(1)
    mean, half = (one.numpy().ravel().astype(float) for one in (mean, Z * variance.sqrt()))
    scores = pd.Series(each.numpy().astype(float), index=data["id"].unique())[first == "new"]
    mean, half = centre + scale * mean, scale * half
    return Predictions(mean, mean - half, mean + half, scores)


def as_visits(data: pd.DataFrame, y: pd.Series, seen: pd.Series) -> Visits:
    """Every subject has the same number of planned visits."""
    n = data["id"].nunique()
    gap = data.groupby("id")["t"].diff().fillna(0.5) - 0.5
    columns = [data["t"] / 5 - 1, gap, (data["age"] - 45) / 15, data["sex"] - 0.5, data["x"]]
    wide = np.stack([c.to_numpy().reshape(n, -1) for c in columns], axis=-1)
    tensors = [torch.tensor(one.to_numpy().reshape(n, -1)) for one in (y, seen)]
    return Visits(tensors[0].float(), tensors[1], torch.tensor(wide).float())


def fitted(visits: Visits, rng: np.random.Generator) -> Recurrent:
    """The network of the epoch that held-out subjects like best."""
    net = Recurrent()

    def held_out(index: Tensor) -> float:
        held = visits.take(index)
        m, v, _, _ = net(held)
        return float(log_density(held.y, m, v + net.log_sigma2.exp())[held.seen].mean())

    train(net, len(visits.y), lambda i: objective(net, visits.take(i), rng), held_out, rng)
    return net


def objective(net: Recurrent, visits: Visits, rng: np.random.Generator) -> Tensor:
    """Both log densities of the outcomes seen, some of them hidden from the network."""
    shown = hidden_after(visits.seen, rng)
    m, v, smooth, w = net(visits._replace(seen=shown))
    s2 = net.log_sigma2.exp()
    ahead = log_density(visits.y, m, v + s2)[visits.seen].mean()
    return ahead + log_density(visits.y, smooth, w + s2)[shown].mean()
