"""Thousands of small models, one thread: `python benchmarks/many.py [models]`, 10,000 by default.

Models of sleepstudy's size, `~ Days + (Days | Subject)`, 18 subjects with ten days each. Outcomes
are those of sleepstudy plus noise, or noise alone, whose variances are mostly estimated as zero.
`fit_many()` on a wide frame (`outcomes=`) and on a long one (`by=`), and the same models one by one
by `mixed_model()` and, where they are installed, by glmm and mixedlm-rs: CPU seconds for all of
them (one by one: of some, times their number), shares that converged and that are singular, and
the largest difference from fits alone, of log-likelihoods and, relative to them, of standard
errors. `call` is one fit of sleepstudy from the frame to the printed summary, and what of it is
formula, frame and report. The rows are kept in `benchmarks/results/many.csv`.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # before the libraries start their threads

import importlib.util
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from stored import RESULTS, keep

import dgmm
from dgmm.fit import Fit

TABLE = RESULTS / "many.csv"
RIGHT = "Days + (Days | Subject)"
MODELS = 10_000
SOME = 100
"""Models that are fitted one by one."""

CALLS = 200


def outcomes(models: int, effects: bool, seed: int = 1) -> pd.DataFrame:
    """A wide frame: sleepstudy with a column for every model."""
    sleep, rng = dgmm.datasets.load("sleepstudy"), np.random.default_rng(seed)
    mean = sleep["Reaction"].to_numpy()[:, None] if effects else 300.0
    y = mean + 30.0 * rng.normal(size=(len(sleep), models))
    names = [f"y{k}" for k in range(models)]
    return pd.concat([sleep[["Days", "Subject"]], pd.DataFrame(y, columns=names)], axis=1)


def long(wide: pd.DataFrame) -> pd.DataFrame:
    """The same a row per value."""
    return wide.melt(["Days", "Subject"], var_name="model", value_name="y")


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of a call, and its result."""
    start = time.process_time()
    found = call()
    return time.process_time() - start, found


# -- one by one ------------------------------------------------------------------------------------


def alone(frame: pd.DataFrame, method: str) -> Fit:
    """One model by dgmm."""
    fit = dgmm.mixed_model(f"y ~ {RIGHT}", frame, method=method, verbose=0)
    fit.std_errors()
    return fit


def with_glmm(frame: pd.DataFrame, method: str) -> Any:
    """One model by glmm."""
    import glmm

    return glmm.fit(frame, f"y ~ {RIGHT}", reml=method == "reml", satterthwaite=False)


def with_mixedlm_rs(frame: pd.DataFrame, method: str) -> Any:
    """One model by mixedlm-rs."""
    from mixedlm_rs import mixedlm

    model = mixedlm("y ~ Days", frame, groups="Subject", re_formula="~ Days")
    return model.fit(reml=method == "reml")


PEERS = {"glmm": with_glmm, "mixedlm_rs": with_mixedlm_rs}


def differences(fits: dgmm.ManyFits, singles: list[Fit]) -> dict[str, float]:
    """The largest differences of the batch from fits alone."""
    labels = fits.glance.index[: len(singles)]
    errors = fits.std_errors.loc[labels].to_numpy(float)
    wanted = np.array([one.std_errors() for one in singles])
    logliks = fits.glance.loc[labels, "logLik"].to_numpy(float)
    return {
        "loglik_off": float(np.abs(logliks - [float(one.loglik()) for one in singles]).max()),
        "error_off": float(np.abs(errors / wanted - 1).max()),
    }


def table(models: int, kind: str, method: str) -> None:
    """Measure one kind of outcomes and keep its rows."""
    wide = outcomes(models, kind == "sleepstudy")
    names = list(wide.columns[2:])
    frames = [wide[["Days", "Subject", name]].rename(columns={name: "y"}) for name in names[:SOME]]
    key = {"outcomes": kind, "method": method, "models": models}
    one_by_one, singles = seconds(lambda: [alone(frame, method) for frame in frames])
    ways: dict[str, Callable[[], dgmm.ManyFits]] = {
        "fit_many, outcomes=": lambda: dgmm.fit_many(
            f"~ {RIGHT}", wide, outcomes=names, method=method
        )
    }
    if kind == "sleepstudy":
        tall = long(wide)
        ways["fit_many, by="] = lambda: dgmm.fit_many(
            f"y ~ {RIGHT}", tall, by="model", method=method
        )
    for name, way in ways.items():
        found, fits = seconds(way)
        ordered = fits if fits.models.part is None else None
        row = {
            **key,
            "program": name,
            "seconds": found,
            "converged": float(fits.glance["converged"].mean()),
            "singular": float(fits.glance["singular"].mean()),
            **(differences(ordered, singles) if ordered is not None else {}),
        }
        keep(TABLE, row, ["outcomes", "method", "models", "program"])
        print(row, flush=True)
    times = {"mixed_model": one_by_one}
    for name, peer in PEERS.items():
        if importlib.util.find_spec(name) is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                peer(frames[0], method)
                times[name] = seconds(lambda p=peer: [p(one, method) for one in frames])[0]  # type: ignore[misc]
    for name, found in times.items():
        row = {**key, "program": name, "seconds": found * models / len(frames)}
        keep(TABLE, row, ["outcomes", "method", "models", "program"])
        print(row, flush=True)


# -- one call --------------------------------------------------------------------------------------


def call() -> None:
    """Milliseconds of one call on sleepstudy, and of the parts of it that do not estimate."""
    from dgmm import fit as work

    sleep = dgmm.datasets.load("sleepstudy")
    spent = {"estimate": 0.0}

    def timed(name: str) -> Callable[..., Any]:
        inner = getattr(work, name)

        def outer(*given: Any, **options: Any) -> Any:
            start = time.process_time()
            found = inner(*given, **options)
            spent["estimate"] += time.process_time() - start
            return found

        return outer

    for name in ("_estimate", "information_of"):
        setattr(work, name, timed(name))
    rows = []
    for _ in range(CALLS):
        spent["estimate"], start = 0.0, time.process_time()
        str(dgmm.mixed_model(f"Reaction ~ {RIGHT}", sleep, verbose=0).summary())
        whole = time.process_time() - start
        rows.append((whole, whole - spent["estimate"]))
    whole, fixed = np.median(rows[CALLS // 10 :], axis=0)
    for name, value in (("call", whole), ("call, without estimation", fixed)):
        row = {"outcomes": "sleepstudy", "method": "ml", "models": 1, "program": name}
        keep(TABLE, {**row, "seconds": value}, list(row))
        print(name, f"{1e3 * value:.2f} ms", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    size = int(sys.argv[1]) if len(sys.argv) > 1 else MODELS
    call()
    dgmm.fit_many(f"~ {RIGHT}", outcomes(10, True), outcomes=["y0", "y1"])  # imports and caches
    for chosen in ("sleepstudy", "noise"):
        for word in ("ml", "reml"):
            table(size, chosen, word)
