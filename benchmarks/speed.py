"""Speed of classical models beside the peers, one thread each: `python benchmarks/speed.py`.

The user's call: from the data frame to the printed summary, standard errors included; the median
of the CPU seconds of a few runs, and the log-likelihood reached. Peers that are not installed are
left out (pip install "dgmm[bench]"; R with lme4 if Rscript is there). Arguments name the numbers
of subjects, 800 and 8000 by default; 80000 takes a quarter of an hour. The rows are kept in
`benchmarks/results/speed.csv`.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # before the libraries start their threads

import contextlib
import importlib.util
import io
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from simulate import classical
from stored import RESULTS, keep

import dgmm

TABLE = RESULTS / "speed.csv"
FORMULA = {
    "gaussian": "y ~ t * g + x + (t | id)",
    "bernoulli": "y ~ t * g + x + (1 | id)",
    "poisson": "y ~ t * g + x + (t | id)",
}
RUNS = {800: 5, 8000: 5, 80000: 3}
LONGEST = {"mixedlm": 8000, "statsmodels": 8000}  # beyond, minutes to hours
MIXEDLM_LARGE = {"gaussian"}  # quick enough for 80,000 subjects


class Timing(NamedTuple):
    """Median CPU seconds of a call and the log-likelihood it reached."""

    seconds: float
    log_likelihood: float


def timed(call: Callable[[], float], runs: int) -> Timing:
    """Median CPU seconds of some runs."""
    seconds, value = [], np.nan
    for _ in range(runs):
        start = time.process_time()
        value = call()
        seconds.append(time.process_time() - start)
    return Timing(float(np.median(seconds)), value)


# -- the contestants -----------------------------------------------------------------------------


def ours(data: pd.DataFrame, family: str, likelihood: str) -> float:
    """dgmm.mixed_model and its printed summary."""
    fit = dgmm.mixed_model(FORMULA[family], data, family=family, likelihood=likelihood, verbose=0)
    str(fit.summary())
    return float(fit.loglik())


def with_mixedlm(data: pd.DataFrame, family: str) -> float:
    """mixedlm.lmer or glmer (Laplace)."""
    import mixedlm

    if family == "gaussian":
        fit = mixedlm.lmer(FORMULA[family], data, REML=False)
    else:
        chosen = {"bernoulli": mixedlm.families.Binomial, "poisson": mixedlm.families.Poisson}
        fit = mixedlm.glmer(FORMULA[family], data, family=chosen[family]())
    str(fit.summary())
    value = fit.logLik()
    return float(getattr(value, "value", value))


def with_gpboost(data: pd.DataFrame, family: str) -> float:
    """GPBoost: Laplace; its intercept and slope have no correlation."""
    import gpboost

    X = np.column_stack([np.ones(len(data)), data["t"], data["g"], data["x"], data.t * data.g])
    likelihood = {"gaussian": "gaussian", "bernoulli": "bernoulli_logit", "poisson": "poisson"}
    slopes: dict[str, Any] = {}
    if "(t | id)" in FORMULA[family]:
        slopes = {
            "group_rand_coef_data": data["t"].to_numpy(),
            "ind_effect_group_rand_coef": [1],
        }
    model = gpboost.GPModel(
        group_data=data["id"].to_numpy(), likelihood=likelihood[family], num_parallel_threads=1,
        **slopes,
    )  # fmt: skip
    model.fit(y=data["y"].to_numpy(), X=X)
    with contextlib.redirect_stdout(io.StringIO()):
        model.summary()
    return -float(model.get_current_neg_log_likelihood())


def with_statsmodels(data: pd.DataFrame, family: str) -> float:
    """The Gaussian model by statsmodels MixedLM."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MixedLM.from_formula("y ~ t * g + x", data, groups="id", re_formula="~ t")
        result = model.fit(reml=False)
    str(result.summary())
    return float(result.llf)


def with_lme4(data: pd.DataFrame, family: str, runs: int) -> Timing:
    """lme4 in R, timed inside R."""
    call = (
        f"lmer({FORMULA[family]}, d, REML = FALSE)"
        if family == "gaussian"
        else f"glmer({FORMULA[family]}, d, family = "
        f"{'binomial' if family == 'bernoulli' else 'poisson'})"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d.csv"
        data.to_csv(path, index=False)
        script = (
            f"suppressMessages(library(lme4)); d <- read.csv('{path}'); s <- c();"
            f"for (i in 1:{runs}) {{ u <- system.time({{ f <- {call};"
            "capture.output(print(summary(f))) })); s <- c(s, u[[1]] + u[[2]]) };"
            "cat(median(s), as.numeric(logLik(f)))"
        )
        out = subprocess.run(["Rscript", "-e", script], capture_output=True, text=True, check=True)
    seconds, value = out.stdout.split()[-2:]
    return Timing(float(seconds), float(value))


# -- the table -----------------------------------------------------------------------------------


def contestants(family: str, n: int) -> dict[str, Callable[[pd.DataFrame], float]]:
    """Who takes part, by name."""
    if family == "gaussian":
        found = {"dgmm": lambda d: ours(d, family, "auto")}
    else:
        found = {
            "dgmm, Laplace": lambda d: ours(d, family, "laplace"),
            "dgmm, quadrature": lambda d: ours(d, family, "quadrature"),
        }
    if n >= 80000:
        found.pop("dgmm, quadrature", None)
    peers = {"gpboost": with_gpboost, "mixedlm": with_mixedlm}
    if family == "gaussian":
        peers["statsmodels"] = with_statsmodels
    for name, run in peers.items():
        allowed = n <= LONGEST.get(name, n) or (name == "mixedlm" and family in MIXEDLM_LARGE)
        if importlib.util.find_spec(name) is not None and allowed:
            found[name] = lambda d, run=run: run(d, family)  # type: ignore[misc]
    return found


def table(family: str, n: int) -> None:
    """Print one cell of the comparison and keep its rows."""
    data = classical(n, 20, family, seed=1)
    print(f"{family}, {n:,} subjects x 20 visits: {FORMULA[family]}")
    runs, rows = RUNS.get(n, 3), {}
    for name, call in contestants(family, n).items():
        quick = name.startswith("dgmm") or n <= 800
        quick |= (name, family) in {("gpboost", "bernoulli"), ("mixedlm", "gaussian")}
        repeats = runs if quick and name != "statsmodels" else 1
        rows[name] = timed(lambda call=call: call(data), repeats)  # type: ignore[misc]
    if shutil.which("Rscript") is not None:
        rows["lme4"] = with_lme4(data, family, min(runs, 3))
    first = next(iter(rows.values())).seconds
    print(f"   {'':20}{'CPU s':>9}{'ratio':>9}{'log-likelihood':>18}")
    for name, row in rows.items():
        ratio = row.seconds / first
        key = {"family": family, "subjects": n, "program": name}
        found = {"seconds": row.seconds, "loglik": row.log_likelihood}
        keep(TABLE, {**key, **found}, list(key))
        print(f"   {name:20}{row.seconds:9.3f}{ratio:9.1f}{row.log_likelihood:18.3f}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sizes = [int(word) for word in sys.argv[1:]] or [800, 8000]
    for size in sizes:
        for chosen in FORMULA:
            ours(classical(50, 20, chosen, seed=2), chosen, "auto")  # imports and caches
            table(chosen, size)
