"""The true model of the study of daily mood: three outcomes, given what is particular of a person.

    b_i ~ N(0, S), five person-level effects: level, daily rhythm, weekly rhythm, trend, sociability
    u_i(t), a momentary state: stationary, Gaussian, corr{u(s), u(t)} = exp(-|s - t| / 6 hours)

    na      on [1, 7], ordered beta,    eta = f(age, female) + 0.75 b1
                - (0.18 + 0.15 b2) cos{2 pi (hour - 15) / 24} - (0.10 + 0.08 b3) cos(2 pi week)
                + (0.20 b4 - 0.05) day / 21 + 0.2 (1 - |2 day / 21 - 1|) b1 - 0.15 weekend + 0.5 u
    lonely  logit P = -1.55 + 0.9 b5 + 0.6 b1 + 0.75 u + 0.35 [last beep of a day] - 0.2 weekend
    bored   logit P = -0.95 + 0.7 b5 + 0.25 b1 + 0.3 u + 0.35 [in class] - 0.25 weekend

with f(age, female) = -1.15 + 0.3 female - 0.04 (age - 23) + 0.083 (20 - age)_+, ``week`` the share
of the week that has passed, ``day`` the time since the start in days, and in class the second to
fourth beep from Monday to Friday. Daily and weekly rhythm and the hump in the middle have sizes of
a person's own, so that courses are not linear in time and not of one shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.families import Family, Observations, find

__all__ = ["BEEPS", "DAYS", "EFFECTS", "EXTRA", "FAMILIES", "OUTCOMES", "RANGE", "Moments"]
__all__ += ["covariance_root", "inputs_of", "predictors"]

DAYS, BEEPS = 21, 5
EFFECTS = 5
RANGE = 0.25  # of the momentary state, in days
BOUNDS = (1.0, 7.0)
OUTCOMES = ("na", "lonely", "bored")
FAMILIES: Mapping[str, Family] = {
    "na": find("ordered_beta", bounds=BOUNDS),
    "lonely": find("bernoulli"),
    "bored": find("bernoulli"),
}
EXTRA: Mapping[str, Tensor] = {  # cutpoints -2.9 and 3.5, precision 14
    "na": torch.tensor([-2.9, math.log(6.4), math.log(14.0)], dtype=torch.float64),
    "lonely": torch.zeros(0, dtype=torch.float64),
    "bored": torch.zeros(0, dtype=torch.float64),
}
CORRELATIONS = {
    (0, 1): 0.25,
    (0, 2): 0.10,
    (0, 3): -0.20,
    (0, 4): 0.50,
    (1, 4): 0.20,
    (2, 3): 0.10,
    (2, 4): 0.10,
    (3, 4): -0.10,
}


class Moments(NamedTuple):
    """What the predictors need of every beep, equal shapes (n, J)."""

    time: Tensor  # days since the start
    hour: Tensor
    week: Tensor  # share of the week that has passed, from Monday on
    beep: Tensor  # 0 to 4
    weekend: Tensor
    age: Tensor
    female: Tensor

    def data(self, y: Tensor) -> Observations:
        """Outcomes of weight one and one trial."""
        return Observations(y, torch.ones_like(y), torch.ones_like(y))


def covariance_root() -> Tensor:
    """The lower Cholesky factor of S, (5, 5)."""
    S = np.eye(EFFECTS)
    for (j, k), value in CORRELATIONS.items():
        S[j, k] = S[k, j] = value
    return torch.linalg.cholesky(torch.from_numpy(S))


def inputs_of(data: pd.DataFrame) -> Moments:
    """The columns of a frame with equally many rows per person, one after the other, (n, J)."""
    n = data["id"].nunique()
    week = (data["weekday"] + data["hour"] / 24) / 7
    columns = [data["time"], data["hour"], week, *(data[one] for one in Moments._fields[3:])]
    return Moments(
        *(torch.from_numpy(one.to_numpy(dtype=float, copy=True).reshape(n, -1)) for one in columns)
    )


def predictors(b: Tensor, u: Tensor, at: Moments) -> dict[str, Tensor]:
    """eta of every outcome: b (..., n, 5) in units of S, u that broadcasts to (..., n, J)."""
    level, rhythm, weekly, trend, social = b.unsqueeze(-2).unbind(-1)
    turn = 2 * math.pi
    share = at.time / DAYS
    hump = 1 - (2 * share - 1).abs()
    fixed = -1.15 + 0.3 * at.female - 0.04 * (at.age - 23) + 0.083 * (20 - at.age).clamp(min=0)
    na = (
        fixed
        + 0.75 * level
        - (0.18 + 0.15 * rhythm) * torch.cos(turn * (at.hour - 15) / 24)
        - (0.10 + 0.08 * weekly) * torch.cos(turn * at.week)
        + (0.20 * trend - 0.05) * share
        + 0.20 * hump * level
        - 0.15 * at.weekend
        + 0.5 * u
    )
    last = (at.beep == BEEPS - 1).to(share.dtype)
    in_class = ((at.beep > 0) & (at.beep < BEEPS - 1) & (at.weekend == 0)).to(share.dtype)
    lonely = -1.55 + 0.9 * social + 0.6 * level + 0.75 * u + 0.35 * last - 0.2 * at.weekend
    bored = -0.95 + 0.7 * social + 0.25 * level + 0.3 * u + 0.35 * in_class - 0.25 * at.weekend
    return {"na": na, "lonely": lonely, "bored": bored}
