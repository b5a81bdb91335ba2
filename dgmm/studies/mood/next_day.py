"""Predictions of the next day from the answers so far, and how good they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch

from dgmm.families import Observations
from dgmm.fit import Fit
from dgmm.multivariate.fit import MultivariateFit
from dgmm.studies.mood.simulate import mood_frame
from dgmm.studies.mood.truth import DAYS, EXTRA, FAMILIES, OUTCOMES

__all__ = [
    "LANDMARKS",
    "asked_rows",
    "fit_next_day",
    "history_rows",
    "joint_next_day",
    "mean_course",
    "mood_scores",
]

LANDMARKS = (3, 7, 11, 15, 19)
GROUPS = 10  # of predicted probabilities


def asked_rows(data: pd.DataFrame, landmarks: Sequence[int] = LANDMARKS) -> pd.DataFrame:
    """The beeps that are predicted: of every new person the day after each landmark.

    Args:
        data: of :func:`dgmm.studies.simulate_mood`.
        landmarks: numbers of days that have passed, between 1 and 20.

    Returns:
        The rows of ``data`` with the column ``person``, a person at a landmark, in the place of a
        subject: each is predicted from its answers of earlier days alone.

    Raises:
        ValueError: a landmark without a day before or after it.
    """
    wrong = [one for one in landmarks if not 1 <= one < DAYS]
    if wrong or not len(landmarks):
        raise ValueError(f"landmarks are days that have passed, 1 to {DAYS - 1}, not {landmarks!r}")
    new = data[(data["set"] == "new") & data["day"].isin(landmarks)]
    return new.assign(person=_person(new["id"], new["day"]))


def history_rows(data: pd.DataFrame, landmarks: Sequence[int] = LANDMARKS) -> pd.DataFrame:
    """The answers of earlier days of every ``person`` of :func:`asked_rows`."""
    new = mood_frame(data[(data["set"] == "new") & data["observed"]].assign(observed=True), None)
    parts = [
        rows.assign(person=_person(rows["id"], pd.Series(one, rows.index)))
        for one in landmarks
        for rows in [new[new["day"] < one]]
    ]
    return pd.concat(parts, ignore_index=True)


def _person(id: pd.Series, day: pd.Series) -> pd.Series:
    return id.astype(str) + " day " + day.astype(str)


def fit_next_day(
    fits: Mapping[str, Fit],
    data: pd.DataFrame,
    landmarks: Sequence[int] = LANDMARKS,
    *,
    draws: int = 400,
) -> pd.DataFrame:
    """What fits say about the next day of every new person: a frame for :func:`mood_scores`.

    Args:
        fits: per outcome a fit of :func:`dgmm.mixed_model` to :func:`dgmm.studies.mood_frame`, with
            ``id`` as its subjects.
        data: of :func:`dgmm.studies.simulate_mood`.
        landmarks: as in :func:`asked_rows`.
        draws: behind the prediction intervals of negative affect.

    Returns:
        One row per outcome and asked beep: outcome, mean, log_score (log p(y | answers so far), the
        parameters at their estimates) and, for negative affect, lower and upper, the ends of the
        95% prediction interval.
    """

    def log_scores(fit: Fit, rows: pd.DataFrame) -> pd.Series:
        return fit.log_score(rows)["log_score"]

    parts = [
        _next_day(name, fit.predict, partial(log_scores, fit), data, landmarks, draws)
        for name, fit in fits.items()
    ]
    return pd.concat(parts, ignore_index=True)


def joint_next_day(
    fit: MultivariateFit,
    data: pd.DataFrame,
    landmarks: Sequence[int] = LANDMARKS,
    *,
    intervals: bool = True,
    draws: int = 400,
) -> pd.DataFrame:
    """That of one fit of several outcomes: each is predicted given the answers about all of them.

    Args:
        fit: a fit of ``mixed_model(mv(...))`` to :func:`dgmm.studies.mood_frame`.
        data: of :func:`dgmm.studies.simulate_mood`.
        landmarks: as in :func:`asked_rows`.
        intervals: prediction intervals of negative affect too, which take longer.
        draws: behind them.

    Returns:
        As :func:`fit_next_day`.
    """

    def log_scores(rows: pd.DataFrame) -> pd.Series:
        return fit.log_score(rows)["joint"]

    parts = [
        _next_day(
            name,
            partial(fit.predict, outcome=name),
            log_scores,
            data,
            landmarks,
            draws if intervals else 0,
        )
        for name in fit.names
    ]
    return pd.concat(parts, ignore_index=True)


def _next_day(
    outcome: str,
    predict: Callable[..., pd.DataFrame],
    log_scores: Callable[[pd.DataFrame], pd.Series],
    data: pd.DataFrame,
    landmarks: Sequence[int],
    draws: int,
) -> pd.DataFrame:
    """The rows of one outcome."""
    asked, past = asked_rows(data, landmarks), history_rows(data, landmarks)
    asked, past = (rows.assign(id=rows["person"]) for rows in (asked, past))
    blank = asked.drop(columns=list(OUTCOMES))
    found = pd.DataFrame({"row": asked.index, "outcome": outcome})
    found["mean"] = predict(blank, history=past)["fit"].to_numpy()
    if FAMILIES[outcome].yes_or_no:
        yes = asked[outcome].to_numpy() == 1
        found["log_score"] = np.log(np.where(yes, found["mean"], 1 - found["mean"]))
        return found
    alone = asked.assign(**{name: np.nan for name in OUTCOMES if name != outcome})
    found["log_score"] = _conditional(log_scores, alone, past)
    if not draws:
        return found
    band = predict(blank, history=past, interval="prediction", draws=draws)
    found["lower"], found["upper"] = band["lower"].to_numpy(), band["upper"].to_numpy()
    return found


def _conditional(
    log_scores: Callable[[pd.DataFrame], pd.Series], asked: pd.DataFrame, past: pd.DataFrame
) -> np.ndarray:
    """log p(y, answers so far) - log p(answers so far) of every asked beep, one at a time."""
    parts = [past]
    for _, rows in asked.groupby("beep"):
        names = rows["id"] + " beep " + rows["beep"].astype(str)
        kept = past[past["id"].isin(rows["id"])]
        ids = dict(zip(rows["id"], names, strict=True))
        parts += [kept.assign(id=kept["id"].map(ids)), rows.assign(id=names)]
    table = log_scores(pd.concat(parts, ignore_index=True)[list(past)])
    names = asked["id"] + " beep " + asked["beep"].astype(str)
    return np.asarray(table[names].to_numpy() - table[asked["id"]].to_numpy())


def mood_scores(said: pd.DataFrame, data: pd.DataFrame) -> pd.DataFrame:
    """Score predictions of the next day against the complete outcomes and the true model.

        log_score    mean of log p(y | answers so far) over the asked beeps, with its error
        rmse         root mean of {mean - E(y | person, moment)}^2
        coverage     mean of P(lower <= Y <= upper | person, moment), Y a further outcome
        calibration  of probabilities: with the beeps in ten groups by what was predicted, the root
                     mean over the groups of (mean predicted - mean true probability)^2; of negative
                     affect: the same of the predicted means, on [1, 7]

    Beeps that were not answered are scored too: their outcomes are known to the study.

    Args:
        said: of :func:`fit_next_day`, or of another method with the same columns.
        data: of :func:`dgmm.studies.simulate_mood`.

    Returns:
        A frame with a row per outcome: log_score, se (over people), rmse, calibration, coverage and
        width, the last two of the 95% intervals of negative affect alone. An interval that ends at
        the floor holds all of its mass, so that a coverage is to be read beside the oracle's.
    """
    table = {}
    for name, rows in said.groupby("outcome", sort=False):
        truth = data.loc[rows["row"]]
        each = rows.groupby(truth["id"].to_numpy())["log_score"].mean()
        mu = truth[f"mu_{name}"].to_numpy()
        row = {
            "log_score": rows["log_score"].mean(),
            "se": each.sem(),
            "rmse": float(np.sqrt(np.mean((rows["mean"] - mu) ** 2))),
            "calibration": _calibration(rows["mean"].to_numpy(), mu),
        }
        if "lower" in rows and rows["lower"].notna().all():
            inside = _inside(rows["lower"], rows["upper"], truth["eta_na"])
            row |= {"coverage": inside.mean(), "width": (rows["upper"] - rows["lower"]).mean()}
        table[name] = row
    return pd.DataFrame(table).T


def _calibration(said: np.ndarray, mu: np.ndarray) -> float:
    groups = np.array_split(np.argsort(said, kind="stable"), GROUPS)
    return float(np.sqrt(np.mean([(said[g].mean() - mu[g].mean()) ** 2 for g in groups])))


def _inside(lower: pd.Series, upper: pd.Series, eta: pd.Series) -> np.ndarray:
    """P(lower <= Y <= upper) of negative affect at its true predictor."""
    family, extra = FAMILIES["na"], EXTRA["na"]
    at = torch.from_numpy(eta.to_numpy(copy=True))

    def distribution(y: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        value = torch.from_numpy(y.to_numpy(dtype=float, copy=True)).clamp(1.0, 7.0)
        ones = torch.ones_like(value)
        found = family.distribution(Observations(value, ones, ones), at, extra)
        assert found is not None
        return found[0].numpy(), found[1].numpy()

    return np.asarray(distribution(upper)[1] - distribution(lower)[0])


def mean_course(values: np.ndarray | pd.Series, data: pd.DataFrame) -> pd.Series:
    """The mean course: the average of some values of all planned beeps of a set, week by week.

    The estimand is that of the complete outcomes, sum_ij E(y_ij | person, moment) / N, over all
    people of the set "train" and all beeps that they had planned, answered or not.

    Args:
        values: one for every row of the set "train".
        data: of :func:`dgmm.studies.simulate_mood`.
    """
    train = data[data["set"] == "train"]
    week = (train["day"] // 7 + 1).rename("week")
    return pd.Series(np.asarray(values), train.index).groupby(week).mean()
