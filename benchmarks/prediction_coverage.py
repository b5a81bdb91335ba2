"""Coverage of 95 % intervals of predictions: `python prediction_coverage.py 400`.

gaussian    25 subjects x 4:  y_ij = 0.5 x_i + 0.3 t_j + b_0i + b_1i t_j + e_ij,  t = 0, ..., 3
bernoulli   60 subjects x 6:  logit P(y_ij = 1) = 0.5 x_i + 0.3 t_j + b_i,  t = 0, ..., 5
poisson     60 subjects x 6:  log E(y_ij) = 0.5 x_i + 0.1 t_j + b_i

Classical models with the formula of the truth. Per data set the shares inside of their intervals:
of the means of the subjects of the fit at two later visits, of their outcomes there, of the mean
of the population, and of the outcomes of subjects that the fit has not seen; the same again with
theta held at its estimate.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

import dgmm

STEPS = 61


class Design(NamedTuple):
    """A model and how its outcomes come about."""

    family: str
    random: str
    n: int
    visits: int
    slope: float
    root: tuple[tuple[float, float], tuple[float, float]]  # of the covariance of b
    mean: Callable[[np.ndarray], np.ndarray]
    draw: Callable[[np.random.Generator, np.ndarray], np.ndarray]


def logistic(eta: np.ndarray) -> np.ndarray:
    """The inverse of the logit."""
    return 1 / (1 + np.exp(-eta))


DESIGNS = {
    "gaussian": Design(
        "gaussian",
        "(t | id)",
        25,
        4,
        0.3,
        ((1.0, 0.0), (0.09, 0.286)),
        lambda eta: eta,
        lambda rng, mean: mean + rng.normal(size=mean.shape),
    ),
    "bernoulli": Design(
        "bernoulli",
        "(1 | id)",
        60,
        6,
        0.3,
        ((1.0, 0.0), (0.0, 0.0)),
        logistic,
        lambda rng, mean: (rng.uniform(size=mean.shape) < mean).astype(float),
    ),
    "poisson": Design(
        "poisson",
        "(1 | id)",
        60,
        6,
        0.1,
        ((0.5, 0.0), (0.0, 0.0)),
        np.exp,
        lambda rng, mean: rng.poisson(mean).astype(float),
    ),
}


def simulate(design: Design, rng: np.random.Generator, first: int) -> pd.DataFrame:
    """Subjects ``first``, ... with all visits, two later ones among them; ``population`` is E y."""
    visits = design.visits + 2
    frame = pd.DataFrame(
        {
            "id": np.repeat(np.arange(first, first + design.n), visits),
            "t": np.tile(np.arange(visits, dtype=float), design.n),
            "x": np.repeat(np.arange(design.n) % 2.0, visits),
        }
    )
    root = np.array(design.root)
    b = (rng.normal(size=(design.n, 2)) @ root.T)[frame["id"] - first]
    centre = (0.5 * frame["x"] + design.slope * frame["t"]).to_numpy()
    t = np.column_stack([np.ones(len(frame)), frame["t"]])
    spread = np.linalg.norm(t @ root, axis=1)
    e, weight = np.polynomial.hermite_e.hermegauss(STEPS)
    frame["population"] = design.mean(centre[:, None] + spread[:, None] * e) @ weight / weight.sum()
    frame["mean"] = design.mean(centre + (b * t).sum(1))
    frame["y"] = design.draw(rng, frame["mean"].to_numpy())
    return frame


ASKED = {
    "subject, later visits: mean": ("later", "mean", "subject", "confidence"),
    "subject, later visits: outcome": ("later", "y", "subject", "prediction"),
    "new subjects: population mean": ("new", "population", "marginal", "confidence"),
    "new subjects: outcome": ("new", "y", "marginal", "prediction"),
}


def inside(fit: dgmm.Fit, rows: dict[str, pd.DataFrame]) -> Iterator[tuple[str, float, float]]:
    """Every interval with the share of the truth inside of it and its mean width."""
    for name, (where, truth, type, interval) in ASKED.items():
        table = rows[where]
        found = fit.predict(table, type=type, interval=interval)
        held = (found["lower"] <= table[truth]) & (table[truth] <= found["upper"])
        yield name, float(held.mean()), float((found["upper"] - found["lower"]).mean())


def replicate(word: str, seed: int) -> Iterator[dict[str, object]]:
    """The rows of one data set."""
    design = DESIGNS[word]
    rng = np.random.default_rng([seed, 23])
    every, new = simulate(design, rng, 0), simulate(design, rng, 10_000)
    seen = every["t"] < design.visits
    fit = dgmm.mixed_model(
        f"y ~ x + t + {design.random}", every[seen], family=design.family, verbose=0
    )
    assert fit.information is not None
    known = replace(fit.information, vcov=0 * fit.information.vcov)
    rows = {"later": every[~seen], "new": new}
    for held, one in ((False, fit), (True, replace(fit, information=known))):
        for name, share, width in inside(one, rows):
            yield {"interval": name, "held": held, "coverage": share, "width": width}


def main(word: str, replicates: int) -> None:
    """Print the table of one design."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = pd.DataFrame(row for r in range(replicates) for row in replicate(word, r))
    seconds = time.process_time() - start
    design = DESIGNS[word]
    print(f"\n{word}, {design.n} x {design.visits}, {replicates} data sets, {seconds:.0f} s")
    print("| interval | coverage (s.e.) | median width | theta held: coverage | median width |")
    print("|---|---|---|---|---|")
    for name in ASKED:
        own = rows[rows["interval"] == name]
        if word == "bernoulli" and name.endswith("outcome"):
            continue  # both outcomes are inside of almost every interval
        cells = []
        for held in (False, True):
            part = own[own["held"] == held]
            if held and not part["width"].any():
                cells += ["", ""]  # nothing else is unknown of it
                continue
            error = part["coverage"].std() / np.sqrt(len(part))
            share = f"{part['coverage'].mean():.3f}" + ("" if held else f" ({error:.3f})")
            cells += [share, f"{part['width'].median():.2f}"]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    for chosen in sys.argv[2:] or DESIGNS:
        main(chosen, count)
