"""Simulation studies I and II: the deep model between its baselines and the oracle.

    python benchmarks/studies.py --process sigmoid sinusoid --study 1 2 --seed 1 2 3
    python benchmarks/studies.py --process lmm --method lmm4 deep oracle --csv docs/studies.csv

Every method is fitted to the same rows (dgmm.studies.training_frame) and scored against the true
profiles. Prints one table per data set and, with the oracle and an LMM among the methods, where
each method stands between the two. Rows go to the file named by --csv, in the place of those of the
same method and data.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from boosting import boosting
from gru import gru
from stored import keep

import dgmm
from dgmm.studies import (
    Predictions,
    coefficient_errors,
    fit_predictions,
    oracle_predictions,
    score,
    standing,
    training_frame,
)

PLAIN = "y ~ sex * age + x + ns(t, {0}) + (ns(t, {0}) | id)"
RICH = "y ~ sex * ns(age, 4) + ns(x, 3) + ns(t, {0}) * sex + (ns(t, {0}) | id)"
DEEP = {
    "lmm": "y ~ sex * age + x + ns(t, 4) + (dnn(ns(t, 4)) | id)",
    "sigmoid": "y ~ dnn(age, sex, x) + ns(t, 7) * sex + (dnn(ns(t, 7)) | id)",
    "sinusoid": "y ~ dnn(age, sex, x) + ns(t, 7) * sex + (dnn(ns(t, 7)) | id)",
}
WARPED = {name: text.replace(")) | id", "), form='warped') | id") for name, text in DEEP.items()}
BASIS = {"lmm": 4, "sigmoid": 7, "sinusoid": 7}  # columns of time of the richer LMM and of GPBoost
WIDE = {
    name: text.replace("(dnn(ns(t, 7))", "(dnn(ns(t, 7), hidden=(64, 64))")
    for name, text in DEEP.items()
}
LINEAR = ["lmm4", "lmm7", "lmm_rich"]  # the best of these is the rival of the shares
COEFFICIENTS = ["sex", "age", "sex:age", "x"]
CELL = ["process", "study", "seed"]
MEASURES = [
    "rmse_observed", "rmse_dropped", "rmse_future", "rmse_new", "loglik", "loglik_se",
    "coverage_dropped", "coverage_future", "coverage_new",
    "width_dropped", "width_future", "width_new",
]  # fmt: skip
COLUMNS = [
    *CELL, "method", "seconds", "fit_seconds", *MEASURES,
    *(f"{what}_{name}" for name in COEFFICIENTS for what in ("estimate", "se")),
    "version", "formula",
]  # fmt: skip


class Run(NamedTuple):
    """What a method is given."""

    data: pd.DataFrame
    process: str
    seed: int


class Answer(NamedTuple):
    """What a method gives back."""

    predictions: Predictions
    fit: dgmm.Fit | None = None
    fit_seconds: float = float("nan")  # without the predictions


# -- the methods ---------------------------------------------------------------------------------


def mixed(formula: str, run: Run, **options: object) -> Answer:
    """A fit of dgmm."""
    start = time.perf_counter()
    fit = dgmm.mixed_model(formula, training_frame(run.data), seed=run.seed, verbose=0, **options)
    seconds = time.perf_counter() - start
    return Answer(fit_predictions(fit, run.data), fit, seconds)


METHODS: dict[str, Callable[[Run], Answer]] = {
    "lmm4": lambda run: mixed(PLAIN.format(4), run),
    "lmm7": lambda run: mixed(PLAIN.format(7), run),
    "lmm_rich": lambda run: mixed(RICH.format(BASIS[run.process]), run),
    "gpboost": lambda run: Answer(boosting(run.data, run.seed, BASIS[run.process])),
    "gru": lambda run: Answer(gru(run.data, run.seed)),
    "deep": lambda run: mixed(DEEP[run.process], run),
    "warped": lambda run: mixed(WARPED[run.process], run),
    "deep_wide": lambda run: mixed(WIDE[run.process], run),
    "oracle": lambda run: Answer(oracle_predictions(run.process, run.data).predictions),
}


# -- tables --------------------------------------------------------------------------------------


def measure(method: str, run: Run) -> pd.Series:
    """One row of the table: seconds, scores, linear effects where the truth is linear."""
    start = time.perf_counter()
    answer = METHODS[method](run)
    seconds = {"seconds": time.perf_counter() - start, "fit_seconds": answer.fit_seconds}
    row = pd.Series(seconds, dtype=object)
    row = pd.concat([row, score(answer.predictions, run.data, run.process)])
    if answer.fit is not None:
        row["formula"] = answer.fit.formula
        if run.process == "lmm" and method != "lmm_rich":
            table = coefficient_errors(answer.fit)
            for name in COEFFICIENTS:
                row[f"estimate_{name}"] = table.loc[name, "estimate"]
                row[f"se_{name}"] = table.loc[name, "std_error"]
    return row


def rounded(row: pd.Series) -> dict[str, object]:
    """The row as it is kept, in the order of the table."""
    text = {*CELL, "method", "formula"}
    return {
        name: row.get(name) if name in text else round(float(row.get(name, "nan")), 5)
        for name in COLUMNS
        if name != "version"
    }


def cell(process: str, study: int, seed: int, methods: list[str], path: Path | None) -> None:
    """Run the methods on one data set and print what they reach."""
    data = dgmm.simulate_study(process, study, seed)
    rows = {}
    for method in methods:
        row = measure(method, Run(data, process, seed))
        rows[method] = row
        if path is not None:
            key = pd.Series(
                dict(zip([*CELL, "method"], (process, study, seed, method), strict=True))
            )
            keep(path, rounded(pd.concat([key.astype(object), row])), list(key.index))
        print(f"   {method:10}{row['seconds']:8.1f} s", flush=True)
    table = pd.DataFrame(rows).T
    shown = [name for name in ["seconds", "fit_seconds", *MEASURES] if name in table]
    table = table[shown].astype(float)
    print(f"\n{process}, study {study}, seed {seed}\n{table.round(4).to_string()}")
    if "oracle" in rows and set(LINEAR) & set(rows):
        print(f"\n{standing(table, LINEAR).round(3).to_string()}")
    effects = pd.DataFrame(rows).T.filter(regex="^(estimate|se)_")
    if len(effects.columns):
        print(f"\n{effects.dropna().astype(float).round(4).to_string()}")
    print(flush=True)


def main() -> None:
    """Read the command line and run the cells."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--process", nargs="+", default=list(DEEP), choices=list(DEEP))
    parser.add_argument("--study", nargs="+", type=int, default=[1, 2], choices=[1, 2])
    parser.add_argument("--seed", nargs="+", type=int, default=[1])
    parser.add_argument("--method", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--csv", type=Path, help="file that keeps the rows")
    options = parser.parse_args()
    for process in options.process:
        for study in options.study:
            for seed in options.seed:
                cell(process, study, seed, options.method, options.csv)


if __name__ == "__main__":
    main()
