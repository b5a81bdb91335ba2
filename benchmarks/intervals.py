"""Prediction intervals of studies I and II beside the oracle's.

    python benchmarks/intervals.py --seed 1 2 --workers 2
    python benchmarks/intervals.py --report

A deep model is fitted to a study (800 subjects, and 200 seen up to its middle) and predicts 2,000
further subjects: what comes after the middle of the study (future) given what came before and, in
study II, 2,000 more, of whom 30% leave: what comes after they left (dropped). The oracle is the
true model, b drawn given the outcomes at the true parameters. Coverage is the expected share of
outcomes inside, so no noise of the outcomes is in it; its difference from the oracle's has a Monte
Carlo error over subjects. Rows are added to the table, by any number of processes at once.
"""

from __future__ import annotations

import argparse
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from stored import RESULTS, fill, kept, markdown, verdict, version, worst
from studies import DEEP, WARPED

import dgmm
from dgmm.studies import (
    expected_coverage,
    fit_predictions,
    oracle_predictions,
    row_kinds,
    training_frame,
)

TABLE = RESULTS / "intervals.csv"
SUBJECTS = 2000
FRESH = 1000  # added to the seed of a study, gives the seed of the subjects predicted
METHODS = {"deep": DEEP, "warped": WARPED}
KINDS = ("future", "dropped")
KEY = ("process", "study", "seed", "method")
COLUMNS = (
    *KEY, "version",
    *(
        f"{what}_{kind}"
        for kind in KINDS
        for what in ("coverage", "oracle_coverage", "error", "width", "oracle_width")
    ),
    "converged", "seconds",
)  # fmt: skip


def one(process: str, study: int, seed: int, method: str) -> dict[str, Any]:
    """Fit a study, predict new subjects."""
    start = time.perf_counter()
    data = dgmm.simulate_study(process, study, seed)
    fit = dgmm.mixed_model(METHODS[method][process], training_frame(data), seed=seed, verbose=0)
    found = compared(fit, process, study, seed + FRESH, SUBJECTS)
    seconds = time.perf_counter() - start
    return {**found, "converged": fit.estimate.converged, "seconds": seconds, "version": version()}


def compared(fit: dgmm.Fit, process: str, study: int, seed: int, subjects: int) -> dict[str, float]:
    """Coverage and width of the intervals of a fit and of the oracle, per kind of row."""
    data = dgmm.simulate_study(process, study, seed, n=(subjects if study == 2 else 1, subjects, 0))
    said = fit_predictions(fit, data), oracle_predictions(process, data).predictions
    inside = [expected_coverage(each, data, process) for each in said]
    width = [each.upper - each.lower for each in said]
    row: dict[str, float] = {}
    for kind, rows in row_kinds(data).items():
        if kind not in KINDS:
            continue
        excess = pd.Series(inside[0] - inside[1])[rows].groupby(data["id"].to_numpy()[rows])
        sums, total = excess.sum(), rows.sum()
        spread = (sums - excess.size() * sums.sum() / total).std()
        row[f"coverage_{kind}"], row[f"oracle_coverage_{kind}"] = (
            each[rows].mean() for each in inside
        )
        row[f"error_{kind}"] = float(np.sqrt(len(sums)) * spread / total)
        row[f"width_{kind}"], row[f"oracle_width_{kind}"] = (each[rows].mean() for each in width)
    return row


# -- the report ----------------------------------------------------------------------------------


def by_kind(table: pd.DataFrame) -> pd.DataFrame:
    """A row per fit and kind of row predicted."""
    parts = []
    for kind in KINDS:
        names = {name: name.removesuffix(f"_{kind}") for name in table if name.endswith(f"_{kind}")}
        part = table[[*KEY, *names]].rename(columns=names).dropna(subset=["coverage"])
        parts.append(part.assign(rows=kind))
    found = pd.concat(parts, ignore_index=True).sort_values([*KEY, "rows"], ignore_index=True)
    found["difference"] = found["coverage"] - found["oracle_coverage"]
    found["ratio"] = found["width"] / found["oracle_width"]
    found["passed"] = [
        worst(
            verdict(abs(row.difference), 0.0, max(0.01, 3 * row.error)),
            verdict(row.ratio, 0.95, 1.05),
        )
        for row in found.itertuples()
    ]
    return found


SHOWN: dict[str, tuple[str, str]] = {
    "process": ("process", "{}"),
    "study": ("study", "{}"),
    "seed": ("seed", "{}"),
    "method": ("method", "`{}`"),
    "rows": ("rows", "{}"),
    "coverage": ("coverage", "{:.4f}"),
    "oracle_coverage": ("oracle's", "{:.4f}"),
    "difference": ("difference", "{:+.4f}"),
    "error": ("its s.e.", "{:.4f}"),
    "width": ("width", "{:.3f}"),
    "ratio": ("width / oracle's", "{:.3f}"),
    "passed": ("within its bars", "{}"),
}


def report(path: Path = TABLE) -> dict[str, str]:
    """The table of the report in markdown."""
    return {"by_kind": markdown(by_kind(kept(path, COLUMNS)), SHOWN)}


def main() -> None:
    """Read the command line, fill the table, print the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--process", nargs="+", default=list(DEEP), choices=list(DEEP))
    parser.add_argument("--study", nargs="+", type=int, default=[1, 2], choices=[1, 2])
    parser.add_argument("--seed", nargs="+", type=int, default=[1])
    parser.add_argument("--method", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--csv", type=Path, default=TABLE, help="the table")
    parser.add_argument("--report", action="store_true", help="print what the table says")
    options = parser.parse_args()
    if not options.report:
        cells = product(options.seed, options.process, options.study, options.method)
        tasks = [
            {"process": process, "study": study, "seed": seed, "method": method}
            for seed, process, study, method in cells
        ]
        fill(options.csv, COLUMNS, tasks, one, options.workers)
    print(report(options.csv)["by_kind"])


if __name__ == "__main__":
    main()
