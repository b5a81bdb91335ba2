"""The study of daily mood: mixed models per outcome, deep ones, networks, the oracle.

    python benchmarks/daily_mood.py --people 300 100 --seed 1 --missing mar mcar
    python benchmarks/daily_mood.py --people 1174 200 --method glmm gru

Every method is fitted to the answers of the set "train" and says, of people it has not seen, what
the next day brings given the answers so far; scored by ``dgmm.studies.mood``. And the mean course:
the error of the average, week by week, of what a method expects of all planned beeps, answered or
not, less that of the complete outcomes, with its standard error over people; ``mood_course.py`` has
it over replicates of the study. The rows go to ``benchmarks/results/daily_mood.csv``; those that
are there are not measured again.

glmm      a generalized mixed model per outcome: courses of one's own ns(time, 2), splines of hour
glmm_ou   the same with a momentary state of every person, an Ornstein-Uhlenbeck path
deep      networks of age and sex, and of the course in time, per outcome
joint     the models of `glmm` at once, random effects correlated across outcomes: one call
deep_joint those of `deep` at once, one network of all random effects
gru       a recurrent network of answers and covariates
network   that without the answers: covariates alone
answers   nothing but the mean of the answers
oracle    the true model
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib.externals.loky import get_reusable_executor
from mood_gru import mood_gru
from stored import RESULTS, keep, kept

import dgmm
from dgmm.studies.mood import (
    fit_next_day,
    joint_next_day,
    mood_frame,
    mood_oracle,
    mood_scores,
    simulate_mood,
)

__all__ = ["COLUMNS", "KEY", "METHODS", "TABLE", "measure"]

TABLE = RESULTS / "daily_mood.csv"
KEY = ["people", "new", "missing", "seed", "method", "outcome"]
SCORES = ["log_score", "se", "rmse", "calibration", "coverage", "width"]
WEEKS = (1, 2, 3)
BIAS = [f"{what}{week}" for what in ("bias", "bias_se") for week in WEEKS]
COLUMNS = [*KEY, "fit_seconds", "seconds", "memory", *SCORES, *BIAS, "formula", "wall", "version"]

COMMON = "female + ns(age, 3) + weekend + ns(hour, 3)"
YES_NO = COMMON + " + time"
FORMULAS = {
    "glmm": {
        "na": f"na ~ {COMMON} + ns(time, 4) + (ns(time, 2) | id)",
        "lonely": f"lonely ~ {YES_NO} + (1 | id)",
        "bored": f"bored ~ {YES_NO} + (1 | id)",
    },
    "glmm_ou": {
        "na": f"na ~ {COMMON} + ns(time, 4) + (1 | id) + (ou(time) | id)",
        "lonely": f"lonely ~ {YES_NO} + (1 | id) + (ou(time) | id)",
        "bored": f"bored ~ {YES_NO} + (1 | id) + (ou(time) | id)",
    },
    "deep": {
        "na": "na ~ dnn(age, female) + weekend + ns(hour, 3) + ns(time, 4)"
        " + (dnn(ns(time, 2)) | id)",
        "lonely": "lonely ~ dnn(age, female) + weekend + ns(hour, 3) + time + (1 | id)",
        "bored": "bored ~ dnn(age, female) + weekend + ns(hour, 3) + time + (1 | id)",
    },
}
FAMILIES = {
    "na": {"family": "ordered_beta", "bounds": (1.0, 7.0)},
    "lonely": {"family": "bernoulli"},
    "bored": {"family": "bernoulli"},
}
LAPLACE = {"glmm": {"likelihood": "laplace"}, "glmm_ou": {"likelihood": "laplace"}}


class Answer(NamedTuple):
    """What a method gives back: for ``mood_scores``, and the means of all beeps of "train"."""

    said: pd.DataFrame | None
    course: pd.DataFrame | None  # a column per outcome
    fit_seconds: dict[str, float]
    formulas: dict[str, str]
    wall: float = np.nan  # seconds of the call


# -- the methods ---------------------------------------------------------------------------------


def per_outcome(word: str, data: pd.DataFrame, seed: int) -> Answer:
    """A fit of dgmm for every outcome."""
    rows, fits, seconds = mood_frame(data), {}, {}
    for name, formula in FORMULAS[word].items():
        start, options = time.process_time(), {**FAMILIES[name], **LAPLACE.get(word, {})}
        fits[name] = dgmm.mixed_model(formula, rows, seed=seed, verbose=0, **options)
        seconds[name] = time.process_time() - start
        print(f"      {name}: {seconds[name]:.0f} s, {fits[name].loglik()}", flush=True)
    course = pd.DataFrame({name: fit.predict(rows)["fit"] for name, fit in fits.items()})
    return Answer(fit_next_day(fits, data), course, seconds, FORMULAS[word])


def joint(word: str, data: pd.DataFrame, seed: int) -> Answer:
    """One fit of all outcomes; its seconds are those of the call."""
    formulas = [one.replace(" | id", " |p| id") for one in FORMULAS[word].values()]
    rows, start, begun = mood_frame(data), _seconds(), time.perf_counter()
    fit = dgmm.mixed_model(
        dgmm.mv(*formulas),
        rows,
        family=[one["family"] for one in FAMILIES.values()],
        bounds=[one.get("bounds") for one in FAMILIES.values()],
        seed=seed,
        verbose=0,
        **LAPLACE.get(word, {}),
    )
    wall, seconds = time.perf_counter() - begun, _seconds() - start
    print(f"      {seconds:.0f} s ({wall:.0f} s), {fit.loglik()}", flush=True)
    course = pd.DataFrame({name: fit.fitted(name) for name in FAMILIES})
    text = dict(zip(FAMILIES, formulas, strict=True))
    said = joint_next_day(fit, data)
    return Answer(said, course, dict.fromkeys(FAMILIES, seconds), text, wall)


def _seconds() -> float:
    """CPU seconds of this process and of those it started, which are ended to be counted."""
    get_reusable_executor().shutdown()
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def recurrent(data: pd.DataFrame, seed: int, history: bool) -> Answer:
    """The network, one for all outcomes."""
    start = time.process_time()
    said, course = mood_gru(data, seed, history=history)
    seconds = time.process_time() - start
    return Answer(said, course, dict.fromkeys(course, seconds), {})


def answers(data: pd.DataFrame, seed: int) -> Answer:
    """Every week of everyone has the mean of its answers."""
    train = data[data["set"] == "train"]
    week, seen = train["day"] // 7, train[train["observed"]]
    course = pd.DataFrame({name: week.map(seen.groupby(week)[name].mean()) for name in FAMILIES})
    return Answer(None, course, {}, {})


def oracle(data: pd.DataFrame, seed: int) -> Answer:
    """The true model; no course, for it is what courses are compared with."""
    return Answer(mood_oracle(data, seed=seed).said, None, {}, {})


METHODS: dict[str, Callable[[pd.DataFrame, int], Answer]] = {
    "answers": answers,
    "network": lambda data, seed: recurrent(data, seed, history=False),
    "gru": lambda data, seed: recurrent(data, seed, history=True),
    "glmm": lambda data, seed: per_outcome("glmm", data, seed),
    "joint": lambda data, seed: joint("glmm", data, seed),
    "oracle": oracle,
    "glmm_ou": lambda data, seed: per_outcome("glmm_ou", data, seed),
    "deep": lambda data, seed: per_outcome("deep", data, seed),
    "deep_joint": lambda data, seed: joint("deep", data, seed),
}


# -- tables --------------------------------------------------------------------------------------


def measure(method: str, data: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A row per outcome: CPU seconds, GiB at most so far, scores, errors of the mean course."""
    start = time.process_time()
    answer = METHODS[method](data, seed)
    seconds = time.process_time() - start
    table = pd.DataFrame(index=list(FAMILIES), columns=COLUMNS[len(KEY) : -1], dtype=object)
    table["seconds"] = seconds
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    table["memory"] = max(resource.getrusage(one).ru_maxrss for one in who) / 2**20
    table["wall"] = answer.wall
    table["fit_seconds"], table["formula"] = (
        pd.Series(answer.fit_seconds),
        pd.Series(answer.formulas),
    )
    if answer.said is not None:
        found = mood_scores(answer.said, data)
        table[list(found)] = found
    if answer.course is not None:
        for name in answer.course:
            table.loc[name, BIAS] = course_errors(answer.course[name], data, name)
    return table


def course_errors(expected: pd.Series, data: pd.DataFrame, outcome: str) -> np.ndarray:
    """Mean over people of (expected - true), by week, and its standard error."""
    train = data[data["set"] == "train"]
    gap = expected.to_numpy() - train[f"mu_{outcome}"]
    each = gap.groupby([train["id"], train["day"] // 7]).mean().unstack()
    return np.concatenate([each.mean(), each.sem()])


def cell(people: tuple[int, int], missing: str, seed: int, methods: list[str]) -> None:
    """Measure the methods on one data set, those that are not in the table."""
    data = None
    for method in methods:
        own = dict(zip(KEY[:-1], (*people, missing, seed, method), strict=True))
        table = kept(TABLE, COLUMNS)
        if len(table) and (table[list(own)] == pd.Series(own)).all(axis=1).any():
            continue
        data = simulate_mood(people, seed=seed, missing=missing) if data is None else data
        print(f"   {missing} {seed} {method}", flush=True)
        found = measure(method, data, seed)
        for outcome, row in found.iterrows():
            keep(TABLE, {**own, "outcome": outcome, **row.to_dict()}, KEY)
        print(found.drop(columns="formula").astype(float).round(4).to_string(), flush=True)


def main() -> None:
    """Read the command line and run the cells."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--people", nargs=2, type=int, default=[300, 100], metavar=("N", "NEW"))
    parser.add_argument("--missing", nargs="+", default=["mar", "mcar"], choices=["mar", "mcar"])
    parser.add_argument("--seed", nargs="+", type=int, default=[1])
    parser.add_argument("--method", nargs="+", default=list(METHODS), choices=list(METHODS))
    options = parser.parse_args()
    for seed in options.seed:
        for missing in options.missing:
            cell(tuple(options.people), missing, seed, options.method)


if __name__ == "__main__":
    main()
