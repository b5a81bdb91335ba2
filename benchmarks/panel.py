"""Correlated random effects on simulated panels: slopes of a logit model, the size and the power of
Mundlak's test, and what a network of the means is worth for new subjects.

    logit      500 x 5, alpha quadratic in the mean of x, slope 0.8: slopes by four models
    unrelated  200 x 6 Gaussian, alpha independent of x: p values of Mundlak's test
    related    the same, correlation 0.3 between alpha and the mean of x
    network    400 x 6 Gaussian, alpha = 1.5 sin(2 mean) + noise: log score of 1,000 new subjects,
               per subject, above that of the means alone

Run with `python benchmarks/panel.py [workers]`; the rows are kept in
`benchmarks/results/panel.csv`.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pandas as pd
from stored import RESULTS, fill, kept

import dgmm

COLUMNS = ("study", "seed", "random", "means", "network", "conditional", "model", "robust", "gain")
SETS = {"logit": 100, "unrelated": 500, "related": 500, "network": 10}
SLOPE = 0.8


def levels(rng: np.random.Generator, n: int, T: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Subjects, x with a level of its own in each, and its means over rows (n,)."""
    id = np.repeat(np.arange(n), T)
    x = rng.normal(size=n)[id] + rng.normal(size=n * T)
    return id, x, pd.Series(x).groupby(id).mean().to_numpy()


def logit(seed: int) -> pd.DataFrame:
    """logit P(y = 1) = 0.8 x + alpha, alpha = -0.5 + 0.5 mean^2 + 0.5 v."""
    rng = np.random.default_rng([seed, 17])
    id, x, mean = levels(rng, 500, 5)
    eta = SLOPE * x + (-0.5 + 0.5 * mean**2 + 0.5 * rng.normal(size=500))[id]
    y = (rng.uniform(size=len(x)) < 1 / (1 + np.exp(-eta))).astype(float)
    return pd.DataFrame({"id": id, "x": x, "y": y})


def gaussian(seed: int, correlation: float) -> pd.DataFrame:
    """y = 0.5 x + alpha + e, alpha of variance one and of some correlation with the mean of x."""
    rng = np.random.default_rng([seed, 18])
    id, x, mean = levels(rng, 200, 6)
    standard = mean / np.sqrt(1 + 1 / 6)
    alpha = correlation * standard + np.sqrt(1 - correlation**2) * rng.normal(size=200)
    return pd.DataFrame({"id": id, "x": x, "y": 0.5 * x + alpha[id] + rng.normal(size=len(x))})


def curved(seed: int, n: int) -> pd.DataFrame:
    """y = 0.5 x + alpha + e, alpha = 1.5 sin(2 mean) + 0.4 v."""
    rng = np.random.default_rng([seed, n])
    id = np.repeat(np.arange(n), 6)
    x = 1.2 * rng.normal(size=n)[id] + 0.7 * rng.normal(size=6 * n)
    mean = pd.Series(x).groupby(id).mean().to_numpy()
    alpha = 1.5 * np.sin(2 * mean) + 0.4 * rng.normal(size=n)
    return pd.DataFrame({"id": id, "x": x, "y": 0.5 * x + alpha[id] + rng.normal(size=6 * n)})


def run(study: str, seed: int) -> dict[str, float]:
    """What one data set says."""
    warnings.simplefilter("ignore")
    if study == "logit":
        return slopes(logit(seed))
    if study == "network":
        return {"gain": gain(curved(seed, 400), curved(seed, 1000))}
    data = gaussian(seed, 0.3 if study == "related" else 0.0)
    fit = dgmm.mixed_model("y ~ x + (1 | cre(id, ~ x))", data, verbose=0, se=None)
    p = fit.panel_test().tests["Pr(>Chisq)"]
    return {
        "model": p["Mundlak: no effect of the means"],
        "robust": p["Mundlak, cluster-robust"],
    }


def slopes(data: pd.DataFrame) -> dict[str, float]:
    """The coefficient of x: random effects, with its mean, a network of it, given the sums."""
    options = {"family": "bernoulli", "verbose": 0}
    given = dgmm.mixed_model("y ~ x + (1 | cre(id, ~ x))", data, **options)
    text = "y ~ x + (1 | cre(id, ~ dnn(x, hidden=(8,))))"
    network = dgmm.mixed_model(text, data, se=None, control={"holdout": 0.0}, **options)
    table = given.panel_test().table.xs("Estimate", axis=1, level=1).loc["x"]
    return {
        "random": table["random effects"],
        "means": table["CRE"],
        "network": network.fixef()["x"],
        "conditional": table["within"],
    }


def gain(data: pd.DataFrame, new: pd.DataFrame) -> float:
    """Log score of new subjects with a network of the means less that without, per subject."""
    new = new.assign(id=new["id"] + 10_000)
    fits = [
        dgmm.mixed_model(f"y ~ x + (1 | cre(id, ~ {terms}))", data, verbose=0, se=None)
        for terms in ("x", "dnn(x)")
    ]
    without, with_network = (fit.log_score(new)["log_score"].mean() for fit in fits)
    return float(with_network - without)


def summarised(table: pd.DataFrame) -> pd.DataFrame:
    """A row per number of a study: mean, its Monte Carlo error, share of p values below 0.05."""
    rows = []
    for (study, name), values in (
        ((study, name), rows[name].dropna())
        for study, rows in table.groupby("study", sort=False)
        for name in COLUMNS[2:]
    ):
        if len(values):
            p = study in ("unrelated", "related")
            found = (values < 0.05).astype(float) if p else values
            rows.append((study, name, len(values), found.mean(), found.std() / len(values) ** 0.5))
    return pd.DataFrame(rows, columns=["study", "number", "sets", "mean", "error"])


def main(workers: int = 1) -> None:
    """Fill the table and print what it says."""
    tasks = [
        {"study": study, "seed": seed} for study, n in SETS.items() for seed in range(1, n + 1)
    ]
    fill(RESULTS / "panel.csv", COLUMNS, tasks, run, workers)
    print(summarised(kept(RESULTS / "panel.csv", COLUMNS)).round(4).to_string(index=False))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
