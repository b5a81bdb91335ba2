"""Speed of models with paths beside R, one thread each: `python benchmarks/paths.py`.

An Ornstein-Uhlenbeck path beside a random intercept, from the data frame to the printed summary,
standard errors included: the median of the CPU seconds of a few runs, and the log-likelihood
reached. Where Rscript is there, glmmTMB `ou()` is run on one grid of times for all subjects and
nlme `lme(corExp(nugget = TRUE))` on irregular times; an R call without an answer after half an hour
counts as having taken that long (`bound` in the table). The rows are kept in
`benchmarks/results/paths.csv`.

    python benchmarks/paths.py               2,000 subjects x 20 visits, on a grid and irregular
    python benchmarks/paths.py linear        ours alone: rows doubled, and 320 visits
    python benchmarks/paths.py 200           so many subjects
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # before the libraries start their threads

import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from stored import RESULTS, keep

import dgmm

TABLE = RESULTS / "paths.csv"
FORMULA = "y ~ x + (1 | id) + (ou(time) | id)"
PATIENCE = 1800.0
"""Seconds after which an R call is stopped."""

LINEAR = ((500, 20), (1000, 20), (2000, 20), (4000, 20), (125, 320), (250, 320))
"""Subjects and visits of the sizes whose cost is compared."""

IN_R = {
    "glmmTMB": (
        "library(glmmTMB); d$id <- factor(d$id); d$t <- numFactor(d$time)",
        "glmmTMB(y ~ x + (1 | id) + ou(t + 0 | id), data = d)",
    ),
    "nlme": (
        "library(nlme)",
        "lme(y ~ x, random = ~ 1 | id, data = d, method = 'ML', "
        "correlation = corExp(form = ~ time | id, nugget = TRUE))",
    ),
}


class Timing(NamedTuple):
    """CPU seconds of a call and the log-likelihood it reached; ``bound`` if it was stopped."""

    seconds: float
    log_likelihood: float
    bound: bool = False


def simulated(subjects: int, visits: int, grid: bool, seed: int = 1) -> pd.DataFrame:
    """An intercept (SD 0.8), a path (SD 1, range 3) and noise (SD 0.6); times 0 to ``visits``."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, visits, (subjects, visits)), axis=1)
    if grid:
        times = np.tile(np.arange(float(visits)), (subjects, 1))
    z = rng.normal(size=(subjects, visits))
    for j in range(1, visits):
        r = np.exp(-(times[:, j] - times[:, j - 1]) / 3.0)
        z[:, j] = r * z[:, j - 1] + np.sqrt(1 - r**2) * z[:, j]
    x, noise = rng.normal(size=z.shape), 0.6 * rng.normal(size=z.shape)
    y = 1 + 0.5 * x + 0.8 * rng.normal(size=(subjects, 1)) + z + noise
    index = np.repeat(np.arange(subjects), visits)
    return pd.DataFrame({"id": index, "time": times.ravel(), "x": x.ravel(), "y": y.ravel()})


def ours(data: pd.DataFrame, runs: int = 3) -> Timing:
    """dgmm.mixed_model and its printed summary."""
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        fit = dgmm.mixed_model(FORMULA, data, verbose=0)
        str(fit.summary())
        seconds.append(time.process_time() - start)
    return Timing(float(np.median(seconds)), float(fit.loglik()))


def in_r(program: str, data: pd.DataFrame) -> Timing:
    """One call in R, timed there."""
    setup, call = IN_R[program]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d.csv"
        data.to_csv(path, index=False)
        script = (
            f"d <- read.csv('{path}'); suppressMessages({{{setup}}});"
            f"u <- system.time({{ f <- {call}; capture.output(print(summary(f)$coefficients)) }});"
            "cat(u[[1]] + u[[2]], as.numeric(logLik(f)))"
        )
        start = time.monotonic()
        try:
            done = subprocess.run(
                ["Rscript", "-e", script],
                capture_output=True,
                text=True,
                check=True,
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired:
            return Timing(time.monotonic() - start, math.nan, bound=True)
    seconds, value = done.stdout.split()[-2:]
    return Timing(float(seconds), float(value))


def shown(subjects: int, visits: int, grid: bool, programs: list[str]) -> None:
    """Print one cell of the comparison and keep its rows."""
    data = simulated(subjects, visits, grid)
    kind = "one grid of times" if grid else "irregular times"
    print(f"{subjects:,} subjects x {visits} visits, {kind}: {FORMULA}")
    rows = {"dgmm": ours(data)} | {program: in_r(program, data) for program in programs}
    print(f"   {'':12}{'CPU s':>9}{'ratio':>10}{'log-likelihood':>18}")
    for name, row in rows.items():
        key = {"subjects": subjects, "visits": visits, "grid": grid, "program": name}
        found = {"seconds": row.seconds, "loglik": row.log_likelihood, "bound": row.bound}
        keep(TABLE, {**key, **found}, list(key))
        ratio = f"{'> ' if row.bound else ''}{row.seconds / rows['dgmm'].seconds:.1f}"
        print(f"   {name:12}{row.seconds:9.2f}{ratio:>10}{row.log_likelihood:18.4f}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    ours(simulated(50, 20, True, seed=2), 1)  # imports and caches
    if "linear" in sys.argv[1:]:
        for size in LINEAR:
            shown(*size, grid=False, programs=[])
        sys.exit()
    number = next((int(word) for word in sys.argv[1:]), 2000)
    r = shutil.which("Rscript") is not None
    shown(number, 20, grid=True, programs=["glmmTMB"] if r else [])
    shown(number, 20, grid=False, programs=["nlme"] if r else [])
