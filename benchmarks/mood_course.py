"""The mean course of the study of daily mood over many replicates of the study.

    python benchmarks/mood_course.py --replicates 15 --workers 2
    python benchmarks/mood_course.py --report

Per replicate of 300 people, kind of missingness, method and outcome: the average, week by week, of
what a method expects of all planned beeps, answered or not, less that of the complete outcomes. Its
bias is the mean over replicates, with the standard error over replicates: what all people of one
study share, such as the error of a slope of time, is in this error and not in one over people.

joint     generalized mixed models of all outcomes at once, courses of one's own ns(time, 2)
glmm      the same per outcome: of the binary ones not valid under MAR, where the answers that are
          missing depend on negative affect
state     that of negative affect with a momentary state besides, an Ornstein-Uhlenbeck path
gru       a recurrent network of answers and covariates
answers   nothing but the mean of the answers
"""

from __future__ import annotations

import argparse
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from daily_mood import FAMILIES, FORMULAS, WEEKS, course_errors
from mood_gru import mood_gru
from stored import RESULTS, fill, kept, markdown, verdict, version

import dgmm
from dgmm.studies.mood import mood_frame, simulate_mood

TABLE = RESULTS / "mood_course.csv"
PEOPLE = 300
METHODS = ("joint", "glmm", "state", "gru", "answers")
KEY = ("missing", "seed", "method")
BIAS = tuple(f"{name}{week}" for name in FAMILIES for week in WEEKS)
COLUMNS = (*KEY, "version", *BIAS, "seconds")
OPTIONS: dict[str, Any] = {"likelihood": "laplace", "se": None, "verbose": 0}
FORMULA = FORMULAS["glmm"]


def one(missing: str, seed: int, method: str) -> dict[str, Any]:
    """The errors of one method in one replicate."""
    data, start = simulate_mood((PEOPLE, 1), seed=seed, missing=missing), time.process_time()
    course = expected(method, data, seed)
    row = {
        f"{name}{week}": error
        for name in course
        for week, error in zip(WEEKS, course_errors(course[name], data, name), strict=False)
    }
    return {**row, "seconds": time.process_time() - start, "version": version()}


def expected(method: str, data: pd.DataFrame, seed: int) -> pd.DataFrame:
    """What a method expects of every planned beep, a column per outcome."""
    rows = mood_frame(data)
    if method == "gru":
        return mood_gru(data, seed)[1]
    if method == "answers":
        train = data[data["set"] == "train"]
        week, seen = train["day"] // 7, train[train["observed"]]
        means = {name: seen.groupby(week)[name].mean() for name in FAMILIES}
        return pd.DataFrame({name: week.map(mean) for name, mean in means.items()})
    if method == "joint":
        fit = dgmm.mixed_model(
            dgmm.mv(*(text.replace(" | id", " |p| id") for text in FORMULA.values())),
            rows,
            family=[own["family"] for own in FAMILIES.values()],
            bounds=[own.get("bounds") for own in FAMILIES.values()],
            **OPTIONS,
        )
        return pd.DataFrame({name: fit.fitted(name) for name in FAMILIES})
    formulas = {"na": f"{FORMULA['na']} + (ou(time) | id)"} if method == "state" else FORMULA
    fits = {
        name: dgmm.mixed_model(text, rows, **FAMILIES[name], **OPTIONS)
        for name, text in formulas.items()
    }
    return pd.DataFrame({name: fit.predict(rows)["fit"] for name, fit in fits.items()})


def report(path: Path = TABLE) -> str:
    """Bias by method, outcome and week with its error, and whether it is beyond that."""
    table, rows = kept(path, COLUMNS), []
    for (missing, method), found in table.groupby(["missing", "method"], sort=False):
        for name in FAMILIES:
            own = found[[f"{name}{week}" for week in WEEKS]].astype(float)
            if own.isna().all(axis=None):
                continue
            mean, error = own.mean().to_numpy(), own.sem().to_numpy()
            row = {"missing": missing.upper(), "method": method, "outcome": name, "n": len(own)}
            row |= {f"bias{w}": value for w, value in zip(WEEKS, mean, strict=True)}
            row |= {f"error{w}": value for w, value in zip(WEEKS, error, strict=True)}
            row["furthest"] = float(np.abs(mean / error).max())
            row["passed"] = verdict(row["furthest"], 0.0, 3.0)
            rows.append(row)
    columns = {
        "missing": ("answers missing", "{}"),
        "method": ("method", "`{}`"),
        "outcome": ("outcome", "{}"),
        **{
            key: title
            for w in WEEKS
            for key, title in (
                (f"bias{w}", (f"week {w}", "{:+.4f}")),
                (f"error{w}", ("s.e.", "{:.4f}")),
            )
        },
        "furthest": ("largest, in s.e.", "{:.1f}"),
        "passed": ("within 3 s.e.", "{}"),
    }
    order = {name: place for place, name in enumerate(METHODS)}
    rows.sort(key=lambda row: (row["missing"] != "MAR", order[row["method"]]))
    return markdown(pd.DataFrame(rows), columns)


def main() -> None:
    """Read the command line, fill the table, print the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--replicates", type=int, default=15)
    parser.add_argument("--method", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--missing", nargs="+", default=["mar", "mcar"], choices=["mar", "mcar"])
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--report", action="store_true", help="print what the table says")
    options = parser.parse_args()
    if not options.report:
        cells = product(range(1, options.replicates + 1), options.missing, options.method)
        tasks = [dict(zip(("seed", "missing", "method"), cell, strict=True)) for cell in cells]
        fill(TABLE, COLUMNS, tasks, one, options.workers)
    print(report())


if __name__ == "__main__":
    main()
