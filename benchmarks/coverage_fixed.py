"""Coverage of intervals beside a network: `python benchmarks/coverage_fixed.py gaussian 1000 2`.

gaussian    y_ij = 0.5 x_ij + sin(2 z_ij) + b_i + e_ij                  y ~ x + dnn(z) + (1 | id)
bernoulli   logit P(y_ij = 1) = 0.5 x_ij + sin(2 u_ij) v_ij + b_i       y ~ x + dnn(u, v) + (1 | id)

x follows the curve. Per data set: the 95 % interval of the coefficient of x, and the points of a
grid at which the pointwise band of ``effects()`` holds the true curve. Arguments: the design, the
number of replicates, processes. Rows are added to a table in `benchmarks/results`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from stored import RESULTS, fill, kept, shares

import dgmm

TRUTH = 0.5
POINTS = 21
COLUMNS = ("seed", "estimate", "std_error", "inside", "edf", "ridge", "converged")


class Design(NamedTuple):
    """A formula, its data, and the true curve at points of the covariates."""

    formula: str
    family: str
    simulate: Callable[..., pd.DataFrame]
    curve: Callable[[pd.DataFrame], np.ndarray]
    grid: dict[str, np.ndarray]


def wave(frame: pd.DataFrame) -> np.ndarray:
    """The curve of the Gaussian design."""
    return np.sin(2 * frame["z"].to_numpy())


def saddle(frame: pd.DataFrame) -> np.ndarray:
    """The surface of the Bernoulli design."""
    return np.sin(2 * frame["u"].to_numpy()) * frame["v"].to_numpy()


def simulate(seed: int, n: int = 300, visits: int = 5) -> pd.DataFrame:
    """One Gaussian data set; x varies within subjects and follows the curve."""
    rng = np.random.default_rng([seed, 17])
    subject = np.repeat(np.arange(n), visits)
    z = rng.uniform(-2, 2, n * visits)
    curve = np.sin(2 * z)
    x = 0.7 * curve + rng.normal(size=len(z))
    y = TRUTH * x + curve + rng.normal(size=n)[subject] + rng.normal(0, 0.8, len(z))
    return pd.DataFrame({"id": subject, "x": x, "z": z, "y": y})


def simulate_binary(seed: int, n: int = 500, visits: int = 8) -> pd.DataFrame:
    """One binary data set; x follows a surface in u and v."""
    rng = np.random.default_rng([seed, 19])
    subject = np.repeat(np.arange(n), visits)
    frame = pd.DataFrame({"id": subject, "u": rng.uniform(-1.5, 1.5, n * visits)})
    frame["v"] = rng.uniform(-1.5, 1.5, len(frame))
    frame["x"] = 0.7 * saddle(frame) + rng.normal(size=len(frame))
    eta = TRUTH * frame["x"] + saddle(frame) + rng.normal(size=n)[subject]
    frame["y"] = (rng.uniform(size=len(frame)) < 1 / (1 + np.exp(-eta))).astype(float)
    return frame


DESIGNS = {
    "gaussian": Design(
        "y ~ x + dnn(z) + (1 | id)",
        "gaussian",
        simulate,
        wave,
        {"z": np.linspace(-1.9, 1.9, POINTS)},
    ),
    "bernoulli": Design(
        "y ~ x + dnn(u, v) + (1 | id)",
        "bernoulli",
        simulate_binary,
        saddle,
        {"u": np.linspace(-1.4, 1.4, POINTS), "v": np.linspace(-1.2, 1.2, 5)},
    ),
}


def one(design: Design, seed: int) -> dict[str, Any]:
    """Fit one data set."""
    frame = design.simulate(seed)
    fit = dgmm.mixed_model(
        design.formula,
        frame,
        family=design.family,
        seed=seed,
        verbose=0,
        control={"holdout": 0.0},
    )
    network = fit.estimate.model.networks[0]
    band = fit.effects(list(design.grid), term=network.label, at=design.grid)
    truth = design.curve(band) - design.curve(frame).mean()
    inside = (band["lower"] <= truth) & (truth <= band["upper"])
    assert fit.information is not None
    return {
        "estimate": fit.fixef()["x"],
        "std_error": fit.std_errors()["x"],
        "inside": "".join("1" if hit else "0" for hit in inside),
        "edf": fit.information.effective["dnn1"],
        "ridge": network.ridge,
        "converged": fit.estimate.converged,
    }


def report(table: pd.DataFrame) -> pd.Series:
    """Bias, standard errors and coverage of a table of replicates."""
    beta, se = table["estimate"], table["std_error"]
    inside = shares(table["inside"])
    points, each = inside.mean(0), inside.mean(1)
    return pd.Series(
        {
            "replicates": len(table),
            "bias": beta.mean() - TRUTH,
            "empirical SD": beta.std(),
            "mean SE": se.mean(),
            "coverage of x": (np.abs(beta - TRUTH) < 1.959964 * se).mean(),
            "coverage of the band": points.mean(),
            "its standard error": each.std() / np.sqrt(len(table)),
            "at its worst point": points.min(),
            "edf": table["edf"].mean(),
            "ridge": table["ridge"].median(),
            "converged": table["converged"].mean(),
        }
    )


def main(name: str = "gaussian", replicates: str = "100", workers: str = "1") -> None:
    """Run what a study lacks and print its report."""
    path = RESULTS / f"coverage_fixed_{name}.csv"
    tasks = [{"seed": seed} for seed in range(int(replicates))]
    fill(path, COLUMNS, tasks, partial(one, DESIGNS[name]), int(workers))
    print(report(kept(path, COLUMNS)).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
