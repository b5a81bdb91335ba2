"""Predictions of what new subjects do next, given their past: `python benchmarks/dynamic.py`.

A fit to 400 subjects predicts the later visits of others from their earlier ones, case by case:

    gaussian      y = 1 + 0.5 x + 0.3 t + b_0 + b_1 t + e, six visits, given three
    sigmoid       the sigmoid study I, a network, visits after half of the time
    poisson       log mean 0.3 + 0.5 x + 0.1 t + b, six visits, given three
    ordered_beta  logit 0.5 x + 0.1 t + b, cutpoints -2 and 2, precision 6
    bernoulli     logit 0.5 x + 0.3 t + 1.5 b, eight visits, given three

Of 2,000 new subjects: the share of outcomes inside of the 95 % prediction interval (gaussian,
sigmoid), or of those whose randomised place in the predictive distribution is among the central
95 % (poisson, ordered_beta). Of bernoulli: the largest difference between mean outcome and mean
prediction among tenths of 100,000 predictions.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import special
from stored import RESULTS, keep, kept, markdown

import dgmm
from dgmm.studies import training_frame

TABLE = RESULTS / "dynamic.csv"
COLUMNS = ("case", "seed", "subjects", "outcomes", "value", "error", "ms", "seconds_fit", "version")
FITTED, NEW = 400, 2000


class Case(NamedTuple):
    """A family, its random part, and outcomes given eta."""

    family: str
    formula: str
    draw: Callable[[np.random.Generator, np.ndarray], np.ndarray]
    slope: float
    sd: float
    visits: int = 6
    new: int = NEW


def ordered(rng: np.random.Generator, eta: np.ndarray) -> np.ndarray:
    """Proportions with ends."""
    mu, u = special.expit(eta), rng.uniform(size=eta.shape)
    inside = rng.beta(6 * mu, 6 * (1 - mu)).clip(1e-9, 1 - 1e-9)
    low, high = special.expit(-2 - eta), special.expit(eta - 2)
    return np.where(u < low, 0.0, np.where(u > 1 - high, 1.0, inside))


CASES = {
    "gaussian": Case(
        "gaussian", "y ~ x + t + (t | id)", lambda rng, eta: rng.normal(eta, 1.0), 0.3, 1.0
    ),
    "poisson": Case(
        "poisson",
        "y ~ x + t + (1 | id)",
        lambda rng, eta: rng.poisson(np.exp(eta)).astype(float),
        0.1,
        0.6,
    ),
    "ordered_beta": Case("ordered_beta", "y ~ x + t + (1 | id)", ordered, 0.1, 0.7),
    "bernoulli": Case(
        "bernoulli",
        "y ~ x + t + (1 | id)",
        lambda rng, eta: (rng.uniform(size=eta.shape) < special.expit(eta)).astype(float),
        0.3,
        1.5,
        visits=8,
        new=20_000,
    ),
}
PAST = 3


def simulate(case: Case, n: int, seed: int) -> pd.DataFrame:
    """n subjects."""
    rng = np.random.default_rng([seed, n, 43])
    t = np.broadcast_to(np.arange(case.visits, dtype=float), (n, case.visits))
    x, b = rng.normal(size=(n, 1)), case.sd * rng.normal(size=(n, 1))
    slope = 0.3 * rng.normal(size=(n, 1)) if "(t |" in case.formula else 0.0
    y = case.draw(rng, 0.3 * (case.family == "poisson") + 0.5 * x + (case.slope + slope) * t + b)
    wide = {"t": t, "x": np.broadcast_to(x, t.shape), "y": y}
    frame = pd.DataFrame({name: values.ravel() for name, values in wide.items()})
    return frame.assign(id=np.repeat(np.arange(n), case.visits))


def classical(name: str, seed: int) -> dict[str, Any]:
    """One case of a classical model."""
    case, start = CASES[name], time.perf_counter()
    fit = dgmm.mixed_model(
        case.formula, simulate(case, FITTED, seed), family=case.family, seed=seed, verbose=0
    )
    middle = time.perf_counter()
    new = simulate(case, case.new, seed + 1000)
    past, rows = new[new.t < PAST], new[new.t >= PAST]
    if name == "gaussian":
        found = fit.predict(rows, history=past, interval="prediction")
        inside = (rows.y > found.lower) & (rows.y < found.upper)
    elif name == "bernoulli":
        table = fit.calibration(rows, history=past, outcome=rows.y)
        gap = (table["observed"] - table["predicted"]).abs()
        error = float(np.sqrt(0.25 / table["n"].min()))
        return row(name, seed, case.new, len(rows), float(gap.max()), error, start, middle)
    else:
        pit = fit.scoring_rules(rows, history=past, seed=seed)["pit"]
        inside = (pit > 0.025) & (pit < 0.975)
    return covered(name, seed, case.new, inside, rows.id, start, middle)


def sigmoid(seed: int) -> dict[str, Any]:
    """The deep case: every new subject given the first half of the time."""
    data = dgmm.simulate_study("sigmoid", n=(FITTED, 2, NEW), seed=seed)
    start = time.perf_counter()
    formula = "y ~ sex * age + x + ns(t, 4) + (dnn(ns(t, 4)) | id)"
    fit = dgmm.mixed_model(formula, training_frame(data), seed=seed, verbose=0)
    middle = time.perf_counter()
    new = data[data["set"] == "new"]
    cut = float(data["t"].median())
    known = set(new.loc[new.t <= cut, "id"])
    past, rows = new[new.t <= cut], new[(new.t > cut) & new["id"].isin(known)]
    found = fit.predict(rows, history=past, interval="prediction", seed=seed)
    inside = (rows.y > found.lower) & (rows.y < found.upper)
    return covered("sigmoid", seed, rows["id"].nunique(), inside, rows["id"], start, middle)


def covered(
    name: str,
    seed: int,
    subjects: int,
    inside: pd.Series,
    ids: pd.Series,
    start: float,
    middle: float,
) -> dict[str, Any]:
    """The share inside, with its standard error over subjects."""
    error = pd.Series(inside.to_numpy(dtype=float)).groupby(ids.to_numpy()).mean().sem()
    return row(name, seed, subjects, len(inside), float(inside.mean()), float(error), start, middle)


def row(
    name: str,
    seed: int,
    subjects: int,
    outcomes: int,
    value: float,
    error: float,
    start: float,
    middle: float,
) -> dict[str, Any]:
    """A row of the table."""
    ms = 1000 * (time.perf_counter() - middle) / subjects
    return {
        "case": name, "seed": seed, "subjects": subjects, "outcomes": outcomes, "value": value,
        "error": error, "ms": ms, "seconds_fit": middle - start,
    }  # fmt: skip


def table() -> str:
    """What was measured, in markdown."""
    rows = kept(TABLE, COLUMNS)
    rows = rows.assign(
        what=[
            "largest difference in a tenth" if case == "bernoulli" else "share inside of 95 %"
            for case in rows["case"]
        ],
        bar=["0.02" if case == "bernoulli" else "0.94 to 0.96" for case in rows["case"]],
    )
    return markdown(
        rows,
        {
            "case": ("case", "{}"),
            "subjects": ("new subjects", "{:,d}"),
            "outcomes": ("outcomes", "{:,d}"),
            "what": ("", "{}"),
            "value": ("measured", "{:.4f}"),
            "error": ("standard error", "{:.4f}"),
            "bar": ("bar", "{}"),
            "ms": ("ms per subject", "{:.2g}"),
        },
    )


def main() -> None:
    """Run the cases named, by default all."""
    names = sys.argv[1:] or [*CASES, "sigmoid"]
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = sigmoid(1) if name == "sigmoid" else classical(name, 1)
        keep(TABLE, found, ("case", "seed"))
        print(found, flush=True)


if __name__ == "__main__":
    main()
