"""Cost of several outcomes in one model beside R, one thread each: `python benchmarks/outcomes.py`.

800 subjects x 20 visits. `gaussian`: K outcomes with a random intercept and slope each and one
2K x 2K covariance, beside glmmTMB on the same rows stacked (`dispformula = ~ 0 + item`).
`bernoulli`: K binary outcomes with correlated intercepts by Laplace's approximation; at the
estimate the log-likelihood by 16,384 importance draws per subject, and for few outcomes the maximum
of that likelihood, beside it. CPU seconds from the data frame to the printed summary, standard
errors included. The rows are kept in `benchmarks/results/outcomes.csv`.

    python benchmarks/outcomes.py gaussian 2 4 8 16     glmmTMB up to K = 8
    python benchmarks/outcomes.py bernoulli 2 4 8 16
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

import numpy as np
import pandas as pd
import torch
from stored import RESULTS, keep

import dgmm
from dgmm.likelihood import choose

TABLE = RESULTS / "outcomes.csv"
SUBJECTS, VISITS = 800, 20
MOST_IN_R = 8
"""Outcomes up to which glmmTMB is run: its time grows about with the square of their number."""

MOST_SAMPLED = 4
"""Outcomes up to which the maximum of the importance-sampled likelihood is found."""

DRAWS = 16_384


def covariance(size: int, rng: np.random.Generator) -> np.ndarray:
    """Half of it independent, half of it any correlation."""
    W = rng.normal(size=(size, size)) / np.sqrt(size)
    found: np.ndarray = 0.5 * np.eye(size) + 0.5 * W @ W.T
    return found


def gaussian(outcomes: int, seed: int = 1) -> pd.DataFrame:
    """Lines with random intercepts (SD about 1) and slopes (SD about 0.3)."""
    rng, size = np.random.default_rng(seed), 2 * outcomes
    scale = np.tile([1, 0.3], outcomes)
    D = covariance(size, rng) * np.outer(scale, scale)
    b = rng.multivariate_normal(np.zeros(size), D, SUBJECTS)
    index = np.repeat(np.arange(SUBJECTS), VISITS)
    data = pd.DataFrame({"id": index, "time": np.tile(np.linspace(0, 3, VISITS), SUBJECTS)})
    for k in range(outcomes):
        line = 1 + 0.5 * data["time"] + b[index, 2 * k] + b[index, 2 * k + 1] * data["time"]
        data[f"y{k + 1}"] = line + (0.5 + 0.1 * k) * rng.normal(size=len(data))
    return data


def bernoulli(outcomes: int, seed: int = 3) -> pd.DataFrame:
    """Binary outcomes with one covariate and correlated intercepts of SD about 1."""
    rng = np.random.default_rng(seed)
    b = rng.multivariate_normal(np.zeros(outcomes), covariance(outcomes, rng), SUBJECTS)
    index = np.repeat(np.arange(SUBJECTS), VISITS)
    data = pd.DataFrame({"id": index, "x": rng.normal(size=len(index))})
    for k in range(outcomes):
        p = 1 / (1 + np.exp(0.5 - 0.5 * data["x"] - b[index, k]))
        data[f"y{k + 1}"] = (rng.random(len(data)) < p).astype(float)
    return data


def timed(
    formulas: list[str], data: pd.DataFrame, **options: object
) -> tuple[dgmm.MultivariateFit, float]:
    """The fit and the CPU seconds with its printed summary."""
    start = time.process_time()
    fit = dgmm.mixed_model(dgmm.mv(*formulas), data, verbose=0, **options)
    str(fit.summary())
    return fit, time.process_time() - start


def in_r(data: pd.DataFrame, outcomes: int) -> tuple[float, float]:
    """glmmTMB on stacked rows: CPU seconds and log-likelihood."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d.csv"
        names = [f"y{k + 1}" for k in range(outcomes)]
        data.melt(["id", "time"], names, "item", "y").to_csv(path, index=False)
        script = (
            "suppressMessages(library(glmmTMB));"
            f"d <- read.csv('{path}'); d$item <- factor(d$item); d$id <- factor(d$id);"
            "u <- system.time({ f <- glmmTMB(y ~ 0 + item + item:time + (0 + item + item:time | id)"
            ", dispformula = ~ 0 + item, data = d); capture.output(print(summary(f)$coefficients))"
            "}); cat(u[[1]] + u[[2]], as.numeric(logLik(f)))"
        )
        done = subprocess.run(["Rscript", "-e", script], capture_output=True, text=True, check=True)
    seconds, value = done.stdout.split()[-2:]
    return float(seconds), float(value)


def kept(kind: str, outcomes: int, program: str, **values: float) -> None:
    """Print a row of the table and keep it."""
    row = {"kind": kind, "outcomes": outcomes, "program": program}
    keep(TABLE, {**row, **values}, list(row))
    shown = "  ".join(f"{name} {value:.6g}" for name, value in values.items())
    print(f"{kind} K={outcomes:<3}{program:10}{shown}", flush=True)


def of_gaussian(outcomes: int) -> None:
    """One row of ours and, where there is R, one of glmmTMB."""
    data = gaussian(outcomes)
    formulas = [f"y{k + 1} ~ time + (1 + time |p| id)" for k in range(outcomes)]
    fit, seconds = timed(formulas, data)
    kept("gaussian", outcomes, "dgmm", seconds=seconds, loglik=float(fit.loglik()))
    if outcomes <= MOST_IN_R and shutil.which("Rscript") is not None:
        seconds, value = in_r(data, outcomes)
        kept("gaussian", outcomes, "glmmTMB", seconds=seconds, loglik=value)


def of_bernoulli(outcomes: int) -> None:
    """One row, with the importance-sampled likelihood beside Laplace's approximation."""
    data = bernoulli(outcomes)
    formulas = [f"y{k + 1} ~ x + (1 |p| id)" for k in range(outcomes)]
    fit, seconds = timed(formulas, data, family="bernoulli", likelihood="laplace")
    kept("bernoulli", outcomes, "dgmm", seconds=seconds, loglik=float(fit.loglik()))
    done = fit.estimate
    sampled = choose(done.model, done.panel, "importance").by(draws=DRAWS // 8, replicates=8)
    each = sampled.each(done.theta)
    found = {"importance": float(each.value.sum()), "error": each.total_error, "apart": math.nan}
    if outcomes <= MOST_SAMPLED and fit.information is not None:
        best = sampled.by(polish_draws=512).maximise(lambda: done.theta).theta
        pack = fit.information.packing.pack
        gap = (pack(best) - pack(done.theta)).abs() / fit.information.vcov.diagonal().sqrt()
        found["apart"] = float(gap.max())
    kept("bernoulli", outcomes, "dgmm", seconds=seconds, loglik=float(fit.loglik()), **found)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sizes = [int(word) for word in sys.argv[1:] if word.isdigit()] or [2, 4, 8, 16]
    small = gaussian(2).head(400)
    timed(["y1 ~ time + (1 |p| id)", "y2 ~ time + (1 |p| id)"], small)  # imports and caches
    for kind, run in (("gaussian", of_gaussian), ("bernoulli", of_bernoulli)):
        if kind in sys.argv[1:] or not any(one.isalpha() for one in sys.argv[1:]):
            for size in sizes:
                run(size)
