"""Two large crossed factors: `python benchmarks/crossed.py 2700000 26698 18366 --check`.

    python benchmarks/crossed.py 200000 12000 4000 --glmm
    python benchmarks/crossed.py 2700000 26698 18366 --check

Simulates ratings by students of lecturers, both of very unequal numbers of ratings, and fits
`y ~ service + (1 | s) + (1 | d)` by ML, from the frame to the printed summary, on one thread:
processor seconds and the largest resident size beyond that of the frame and the imports. ``off``
is the largest distance of an estimate from the truth in standard errors. ``--check`` calculates the
log-likelihood at the maximum again with the other factor eliminated first, ``--glmm`` fits the
model by glmm, too. The rows are kept in `benchmarks/results/crossed.csv`.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # before the libraries start their threads

import argparse
import time

import numpy as np
import pandas as pd
import torch
from ratios import resident
from stored import RESULTS, keep

from dgmm import Fit, mixed_model
from dgmm.likelihood.cells import plan, turned
from dgmm.likelihood.sufficient import relative

FORMULA = "y ~ service + (1 | s) + (1 | d)"
FIXED, SPREAD = np.array([3.2, -0.1]), np.array([0.3, 0.5, 1.2])


def ratings(rows: int, students: int, lecturers: int) -> pd.DataFrame:
    """Every level has a rating, the others fall on levels by log-normal weights."""
    rng = np.random.default_rng(4)

    def drawn(levels: int, spread: float) -> np.ndarray:
        weight = rng.lognormal(0.0, spread, levels)
        found = rng.choice(levels, size=rows, p=weight / weight.sum())
        found[rng.choice(rows, levels, replace=False)] = np.arange(levels)
        return found

    s, d = drawn(students, 0.8), drawn(lecturers, 1.5)
    service = rng.integers(0, 2, rows)
    y = FIXED[0] + FIXED[1] * service + SPREAD[0] * rng.normal(size=students)[s]
    y += SPREAD[1] * rng.normal(size=lecturers)[d] + SPREAD[2] * rng.normal(size=rows)
    return pd.DataFrame({"y": y, "service": service, "s": s, "d": d})


def off(fit: Fit) -> float:
    """The largest distance from the truth, of standard deviations on the log scale."""
    fixed = (fit.fixef() - FIXED) / fit.std_errors()
    table = fit.var_corr()
    spread = (np.log(table["sdcor"]) - np.log(SPREAD)) / table["se_working"]
    return float(max(fixed.abs().max(), spread.abs().max()))


def apart(fit: Fit) -> float:
    """Between the log-likelihoods with one and with the other factor eliminated first."""
    stats = fit.estimate.likelihood.statistics
    theta = fit.estimate.model.packing.pack(fit.estimate.theta).numpy()
    Lambda = stats.layout.rearrange(relative(stats, theta)[0])
    first = stats.factor(Lambda).log_det
    stats.forget()
    known = stats.layout.plan
    level = known.level[:, ::-1]
    order = np.lexsort(level.T[::-1])
    M = turned(Lambda, stats.G)[::-1, ::-1][..., order]
    other = plan(level[order], known.sizes[::-1], known.widths[::-1]).factorise(M)
    return 0.5 * abs(other.log_det - first)


def by_glmm(frame: pd.DataFrame) -> tuple[float, float]:
    """Processor seconds and log-likelihood of glmm."""
    import glmm

    start = time.process_time()
    fit = glmm.fit(frame, FORMULA, "gaussian", reml=False)
    str(fit.summary())
    return time.process_time() - start, float(fit.loglik)


def main() -> None:
    """Read the command line; one row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for word in ("rows", "students", "lecturers"):
        parser.add_argument(word, type=int)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--glmm", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    frame = ratings(options.rows, options.students, options.lecturers)
    mixed_model(FORMULA, ratings(500, 20, 10), verbose=0)  # fills caches
    before, start = resident("VmRSS"), time.process_time()
    fit = mixed_model(FORMULA, frame, verbose=0)
    assert isinstance(fit, Fit)
    str(fit.summary())
    row = {
        "rows": options.rows,
        "students": options.students,
        "lecturers": options.lecturers,
        "seconds": time.process_time() - start,
        "gigabytes": (resident("VmHWM") - before) / 1024,
        "loglik": float(fit.loglik()),
        "off": off(fit),
    }
    start = time.process_time()
    fit.ranef()
    row["ranef_seconds"] = time.process_time() - start
    start = time.process_time()
    fit.predict(frame)
    row["predict_seconds"] = time.process_time() - start
    row["gigabytes_after"] = (resident("VmHWM") - before) / 1024
    row["apart"] = apart(fit) if options.check else np.nan
    row["glmm_seconds"], row["glmm_loglik"] = by_glmm(frame) if options.glmm else (np.nan, np.nan)
    print(row, flush=True)
    keep(RESULTS / "crossed.csv", row, ["rows", "students", "lecturers"])


if __name__ == "__main__":
    main()
