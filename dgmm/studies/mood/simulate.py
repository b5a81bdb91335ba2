"""The data of the study of daily mood: people, beeps, answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from dgmm.runtime.gate import gate
from dgmm.studies.mood.truth import (
    BEEPS,
    DAYS,
    EFFECTS,
    EXTRA,
    FAMILIES,
    OUTCOMES,
    RANGE,
    covariance_root,
    inputs_of,
    predictors,
)

__all__ = ["MISSING", "mood_frame", "simulate_mood"]

SETS = ("train", "new")
SHARE = 0.61  # of the planned answers that is missing
WORDS = ("mar", "mcar")
STEPS = 40  # of the bisection for the constant of the answers
MISSING = {
    "day": -0.035,
    "answered before": 1.0,
    "last": -0.22,
    "female": 0.25,
    "weekend": -0.30,
    "first beep": -0.45,
    "last beep": -0.15,
}
"""Of the logit of an answer; ``last`` is the negative affect answered last, less 2.5."""
LEAVING = (-4.62, 0.35, 0.9, 0.55)  # constant, last, silent before, the largest hazard per beep


@gate
def simulate_mood(
    n: Sequence[int] = (1174, 200), seed: int = 1, missing: str = "mar"
) -> pd.DataFrame:
    """Simulate a study of daily mood: five questionnaires a day for three weeks, 61% not answered.

    Three outcomes at every beep: negative affect (``na``, on [1, 7] with a floor at 1), loneliness
    and boredom (yes or no), correlated within persons and moments; their model stands in
    :mod:`dgmm.studies.mood.truth`. Beeps at 9, 12, 15, 18 and 21 o'clock, each moved by up to 45
    minutes; the study begins on a random day of the week; age 16 to 30.

    Whether a beep is answered depends on what was answered before (missing at random):

        logit P(answer) = c - 0.035 day + (answered the beep before) - 0.22 (last na - 2.5)
                            + 0.25 female - 0.30 weekend - 0.45 [first] - 0.15 [last beep of a day]

    with the negative affect answered last, and after the first day a person leaves at a beep with
    probability 0.55 / [1 + exp{4.62 - 0.35 (last na - 2.5) - 0.9 (silent before)}]. The constant c
    makes 61% missing. The first beep of everyone is answered.

    Args:
        n: numbers of people in the sets "train" (to fit to) and "new" (never shown to a method;
            their days are predicted one after the other). They too miss beeps.
        seed: of the random numbers.
        missing: "mar" as above; "mcar": the same outcomes, and the pattern of answers of every
            person is given to another person, so that it says nothing about outcomes.

    Returns:
        A frame with one row per planned beep: id, set, age, female, day (0 to 20), beep (0 to 4),
        weekday (0 is Monday), weekend, hour, time (days since the start), the complete outcomes na,
        lonely, bored, their expectations given the person and the moment (mu_na, mu_lonely,
        mu_bored), the predictor eta_na, and observed. A method may see :func:`mood_frame`.

    Raises:
        ValueError: sizes that cannot be, or another word for missing.

    Example:
        >>> from dgmm.studies import simulate_mood
        >>> data = simulate_mood((200, 0))
        >>> len(data), float((~data["observed"]).mean().round(2))
        (21000, 0.61)
    """
    sizes = _checked(n, seed, missing)
    rng = np.random.default_rng([seed, 61])
    data = _planned(sizes, rng)
    at, total = inputs_of(data), sum(sizes)
    b = torch.from_numpy(rng.normal(size=(total, EFFECTS))) @ covariance_root().T
    u = _states(at.time.numpy(), rng)
    eta = predictors(b, torch.from_numpy(u), at)
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    for name in OUTCOMES:
        empty = at.data(torch.zeros_like(at.time))
        y = FAMILIES[name].simulate(eta[name], empty, EXTRA[name], generator)
        mu = FAMILIES[name].mean(eta[name], EXTRA[name])
        data[name], data[f"mu_{name}"] = y.numpy().ravel(), mu.numpy().ravel()
    data["eta_na"] = eta["na"].numpy().ravel()
    answered = _answers(data, rng)
    if missing == "mcar":
        answered = answered[_others(sizes, rng)]
    return data.assign(observed=answered.ravel())


def mood_frame(data: pd.DataFrame, set: str | None = "train") -> pd.DataFrame:
    """The rows that a method may see: outcomes missing where not answered, no true values.

    Args:
        data: of :func:`simulate_mood`.
        set: "train", "new", or None for both.

    Example:
        >>> from dgmm.studies import mood_frame, simulate_mood
        >>> seen = mood_frame(simulate_mood((20, 5)))
        >>> seen["id"].nunique(), float(seen["na"].isna().mean().round(1))
        (20, 0.6)
    """
    rows = data if set is None else data[data["set"] == set]
    hidden = [one for one in rows if one.startswith(("mu_", "eta_"))]
    answers = {name: rows[name].where(rows["observed"]) for name in OUTCOMES}
    return rows.assign(**answers).drop(columns=[*hidden, "observed"])


def _checked(n: Sequence[int], seed: int, missing: str) -> tuple[int, int]:
    sizes = tuple(n) if isinstance(n, Sequence) else (n,)
    whole = all(isinstance(one, int | np.integer) and one >= 0 for one in sizes)
    if len(sizes) != 2 or not whole or sizes[0] < 1:
        raise ValueError(f"n={n!r} must be two numbers of people, train (at least 1) and new")
    if not (isinstance(seed, int | np.integer) and seed >= 0):
        raise ValueError(f"seed={seed!r} is not a whole number >= 0")
    if missing not in WORDS:
        raise ValueError(f"missing={missing!r} is not one of {', '.join(WORDS)}")
    return sizes


def _planned(sizes: tuple[int, int], rng: np.random.Generator) -> pd.DataFrame:
    """The planned beeps with their covariates."""
    total, each = sum(sizes), DAYS * BEEPS
    age = np.clip(rng.gamma(9, 0.9, total) + 16, 16, 30).round(1)
    female, first = (rng.uniform(size=total) < 0.62).astype(float), rng.integers(0, 7, total)
    day, beep = (np.tile(one, total) for one in np.divmod(np.arange(each), BEEPS))
    hour = 9 + 3 * beep + rng.uniform(-0.75, 0.75, total * each)
    weekday = (np.repeat(first, each) + day) % 7
    return pd.DataFrame(
        {
            "id": np.repeat(np.arange(total), each),
            "set": np.repeat(np.repeat(SETS, sizes), each),
            "age": np.repeat(age, each),
            "female": np.repeat(female, each),
            "day": day,
            "beep": beep,
            "weekday": weekday,
            "weekend": (weekday >= 5).astype(float),
            "hour": hour,
            "time": day + hour / 24,
        }
    )


def _states(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """u at the beeps, (n, J): stationary, of variance one."""
    noise = rng.normal(size=time.shape)
    u, rho = noise.copy(), np.exp(-np.diff(time, axis=1) / RANGE)
    for j in range(1, time.shape[1]):
        u[:, j] = rho[:, j - 1] * u[:, j - 1] + np.sqrt(1 - rho[:, j - 1] ** 2) * noise[:, j]
    return u


class _Beeps(NamedTuple):
    """What decides about answers: (n, J) each."""

    na: np.ndarray
    known: np.ndarray  # the part of the logit that is known before
    answer: np.ndarray  # logistic draws
    leave: np.ndarray  # uniform draws


def _answers(data: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Which beeps are answered, (n, J), 61% not."""
    shape = (data["id"].nunique(), DAYS * BEEPS)
    names = ["na", "day", "beep", "female", "weekend"]
    na, day, beep, female, weekend = (data[one].to_numpy().reshape(shape) for one in names)
    known = MISSING["day"] * day + MISSING["female"] * female + MISSING["weekend"] * weekend
    known = known + MISSING["first beep"] * (beep == 0) + MISSING["last beep"] * (beep == BEEPS - 1)
    beeps = _Beeps(na, known, rng.logistic(size=shape), rng.uniform(size=shape))
    low, high = -10.0, 10.0
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        missing = 1 - _path(beeps, middle).mean()
        low, high = (middle, high) if missing > SHARE else (low, middle)
    return _path(beeps, high)


def _path(beeps: _Beeps, constant: float) -> np.ndarray:
    """The answers under a constant of their logit."""
    n, J = beeps.na.shape
    answered = np.zeros((n, J), dtype=bool)
    answered[:, 0] = True
    last, there = beeps.na[:, 0] - 2.5, np.ones(n, dtype=bool)
    base, of_last, of_silence, most = LEAVING
    for j in range(1, J):
        before = answered[:, j - 1].astype(float)
        if j >= BEEPS:
            logit = base + of_last * last + of_silence * (1 - before)
            there &= beeps.leave[:, j] >= most / (1 + np.exp(-logit))
        logit = constant + beeps.known[:, j] + MISSING["last"] * last
        logit = logit + MISSING["answered before"] * (before - 0.5)
        answered[:, j] = there & (beeps.answer[:, j] < logit)
        last = np.where(answered[:, j], beeps.na[:, j] - 2.5, last)
    return answered


def _others(sizes: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Whose pattern a person gets: a permutation within each set."""
    first = rng.permutation(sizes[0])
    return np.concatenate([first, sizes[0] + rng.permutation(sizes[1])])
