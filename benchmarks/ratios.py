"""CPU seconds beside Rust, a process for every program: `python benchmarks/ratios.py [job ...]`.

glmm and mixedlm-rs (pip install "dgmm[bench]") on the same frame, from the frame to the printed
summary, one thread. Every program has a process of its own; imports are not counted. The first call
fills caches, the later ones are what a second model costs: the medians over some processes, and
over the later calls in each. `memory` is the largest resident size of the process in MiB, less what
it had before the first call. Programs take turns, so that other work on the machine meets all.
The rows are kept in `benchmarks/results/ratios.csv`.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # before the libraries start their threads

import importlib.util
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from simulate import classical
from stored import RESULTS, keep

TABLE = RESULTS / "ratios.csv"
STATUS = Path("/proc/self/status")


class Job(NamedTuple):
    """A model of simulated data, 20 rows a subject."""

    family: str
    subjects: int
    random: str
    likelihood: str  # "exact", "laplace", or a number of points
    processes: int = 3
    calls: int = 4

    @property
    def formula(self) -> str:
        """Fixed terms, a category among them, and the random part."""
        return f"y ~ t + x + sex + {self.random}"


SLOPE, LEVEL, CROSSED = "(1 + t | id)", "(1 | id)", "(1 | s) + (1 | d)"
JOBS = {
    "gaussian-800": Job("gaussian", 800, SLOPE, "exact", calls=11),
    "gaussian-8000": Job("gaussian", 8000, SLOPE, "exact", calls=6),
    "gaussian-80000": Job("gaussian", 80000, SLOPE, "exact", processes=2, calls=3),
    "bernoulli-8000": Job("bernoulli", 8000, LEVEL, "laplace"),
    "bernoulli-8000-11": Job("bernoulli", 8000, LEVEL, "11", calls=3),
    "poisson-8000": Job("poisson", 8000, SLOPE, "laplace", processes=2, calls=3),
    "crossed": Job("gaussian", 2972, CROSSED, "exact", processes=2, calls=3),
    "crossed-bernoulli": Job("bernoulli", 500, CROSSED, "laplace", processes=2),
}


def data(job: Job) -> pd.DataFrame:
    """The frame of a job."""
    if " s)" in job.random:
        return ratings() if job.family == "gaussian" else votes()
    frame = classical(job.subjects, 20, job.family, seed=1)
    frame["sex"] = frame["g"].map({0.0: "female", 1.0: "male"})
    return frame.drop(columns="g")


def ratings() -> pd.DataFrame:
    """Of the size of InstEval: 73,421 ratings of 1,128 lecturers by 2,972 students."""
    rng, rows = np.random.default_rng(1), 73_421
    s, d = rng.integers(0, 2972, rows), rng.integers(0, 1128, rows)
    sex = rng.integers(0, 2, 2972)[s]
    t, x = rng.uniform(size=rows), rng.normal(size=rows)
    y = 3.2 + 0.1 * t + 0.2 * x + 0.3 * rng.normal(size=2972)[s] + 0.5 * rng.normal(size=1128)[d]
    word = np.array(["female", "male"])[sex]
    return pd.DataFrame(
        {"y": y + 1.2 * rng.normal(size=rows), "t": t, "x": x, "sex": word, "s": s, "d": d}
    )


def votes() -> pd.DataFrame:
    """20,000 outcomes, yes or no, of 100 lecturers by 500 students."""
    rng, rows = np.random.default_rng(2), 20_000
    s, d = rng.integers(0, 500, rows), rng.integers(0, 100, rows)
    word = np.array(["female", "male"])[rng.integers(0, 2, 500)[s]]
    t, x = rng.uniform(size=rows), rng.normal(size=rows)
    eta = -0.3 + 0.1 * t + 0.4 * x + 0.8 * rng.normal(size=500)[s] + 0.5 * rng.normal(size=100)[d]
    y = (rng.uniform(size=rows) < 1 / (1 + np.exp(-eta))).astype(float)
    return pd.DataFrame({"y": y, "t": t, "x": x, "sex": word, "s": s, "d": d})


# -- programs --------------------------------------------------------------------------------------


def ours(job: Job, frame: pd.DataFrame) -> Callable[[], float]:
    """dgmm.mixed_model and its printed summary."""
    import torch

    from dgmm import Fit, mixed_model

    torch.set_num_threads(1)
    options: dict[str, Any] = {"likelihood": job.likelihood}
    if job.likelihood.isdigit():
        options = {"likelihood": "quadrature", "control": {"points": int(job.likelihood)}}

    def call() -> float:
        fit = mixed_model(job.formula, frame, family=job.family, verbose=0, **options)
        assert isinstance(fit, Fit)
        str(fit.summary())
        return float(fit.loglik())

    return call


def with_glmm(job: Job, frame: pd.DataFrame) -> Callable[[], float]:
    """glmm.fit and its printed summary; its Satterthwaite degrees of freedom are its default."""
    import glmm

    words = {"gaussian": "gaussian", "bernoulli": "binomial", "poisson": "poisson"}
    options: dict[str, Any] = {"reml": False} if job.family == "gaussian" else {}
    if job.likelihood.isdigit():
        options["nagq"] = int(job.likelihood)

    def call() -> float:
        fit = glmm.fit(frame, job.formula, words[job.family], **options)
        str(fit.summary())
        return float(fit.loglik)

    return call


def with_mixedlm_rs(job: Job, frame: pd.DataFrame) -> Callable[[], float]:
    """mixedlm_rs: linear models with one factor."""
    from mixedlm_rs import mixedlm

    def call() -> float:
        model = mixedlm("y ~ t + x + sex", frame, groups="id", re_formula="~ t")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = model.fit(reml=False)
        str(fit.summary())
        return float(fit.llf)

    return call


PROGRAMS = {"dgmm": ours, "glmm": with_glmm, "mixedlm_rs": with_mixedlm_rs}


def programs(job: Job) -> list[str]:
    """Those that are installed and have such a model."""
    installed = [name for name in PROGRAMS if importlib.util.find_spec(name) is not None]
    narrow = job.family != "gaussian" or " s)" in job.random
    return [name for name in installed if not (narrow and name == "mixedlm_rs")]


# -- processes -------------------------------------------------------------------------------------


def resident(word: str) -> float:
    """VmRSS or VmHWM of this process, MiB; NaN where there is no /proc."""
    if not STATUS.exists():
        return float("nan")
    line = next(one for one in STATUS.read_text().splitlines() if one.startswith(word))
    return int(line.split()[1]) / 1024


def measure(name: str, program: str) -> dict[str, Any]:
    """The calls of one process."""
    job = JOBS[name]
    call, before = PROGRAMS[program](job, data(job)), resident("VmRSS")
    seconds, value = [], float("nan")
    for _ in range(job.calls):
        start = time.process_time()
        value = call()
        seconds.append(time.process_time() - start)
    return {"seconds": seconds, "memory": resident("VmHWM") - before, "loglik": value}


def run(name: str) -> None:
    """All programs of a job, in turn; the medians are kept."""
    job, found = JOBS[name], dict[str, list[dict[str, Any]]]()
    for _ in range(job.processes):
        for program in programs(job):
            words = [sys.executable, __file__, "--process", name, program]
            out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            found.setdefault(program, []).append(json.loads(out.splitlines()[-1]))
    later = {
        program: float(np.median([one for run in runs for one in run["seconds"][1:]]))
        for program, runs in found.items()
    }
    for program, runs in found.items():
        row = {
            "job": name,
            "program": program,
            "first": float(np.median([run["seconds"][0] for run in runs])),
            "seconds": later[program],
            "memory": float(np.median([run["memory"] for run in runs])),
            "loglik": runs[0]["loglik"],
        }
        keep(TABLE, row, ["job", "program"])
        ratio = later["dgmm"] / later[program]
        print(
            f"{name:20}{program:12}{row['first']:9.4f}{row['seconds']:9.4f}{ratio:8.2f}", flush=True
        )


if __name__ == "__main__":
    if "--process" in sys.argv:
        print(json.dumps(measure(*sys.argv[2:])))
    else:
        for chosen in sys.argv[1:] or JOBS:
            run(chosen)
