"""Coverage of population-averaged intervals: `python benchmarks/coverage_population.py 200`.

    logit P(y_ij = 1) = -1 + 0.5 t_j + 0.8 a_i - 0.3 a_i t_j + b_i,   b_i ~ N(0, 2^2)

200 subjects, every second of them with a_i = 1, at t = 0, ..., 5. Per data set the 95 % intervals
of the means of the population in both arms at all times, of the average difference and odds ratio
of the arms, of the average slope of t, and of the population-averaged coefficients; the truth is by
quadrature at the true parameters. Arguments: replicates, processes.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from stored import RESULTS, fill, kept, limits, shares

import dgmm

BETA, SD = np.array([-1.0, 0.5, 0.8, -0.3]), 2.0
N, TIMES = 200, np.arange(6.0)
COLUMNS = ("seed", "means_inside", "others_inside", "coefs_inside", "sd", "converged")
OTHERS = ("difference", "odds ratio", "slope")
COEFS = ("(Intercept)", "t", "a", "t:a")
PATH = RESULTS / "coverage_population.csv"
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)


def simulate(seed: int) -> pd.DataFrame:
    """One data set."""
    rng = np.random.default_rng([seed, 23])
    frame = pd.DataFrame({"id": np.repeat(np.arange(N), len(TIMES)), "t": np.tile(TIMES, N)})
    frame["a"] = (frame["id"] % 2).astype(float)
    eta = columns(frame) @ BETA + SD * rng.normal(size=N)[frame["id"]]
    frame["y"] = (rng.uniform(size=len(frame)) < expit(eta)).astype(float)
    return frame


def columns(frame: pd.DataFrame) -> np.ndarray:
    """X, (rows, 4)."""
    t, a = frame["t"].to_numpy(float), frame["a"].to_numpy(float)
    return np.column_stack([np.ones(len(t)), t, a, t * a])


def population(frame: pd.DataFrame) -> np.ndarray:
    """The true mean of the population at some rows."""
    eta = (columns(frame) @ BETA)[:, None] + SD * NODES
    return np.asarray(expit(eta) @ WEIGHTS / WEIGHTS.sum())


def truths(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Difference, odds ratio and slope; population-averaged coefficients."""
    p, q = (population(frame.assign(a=arm)).mean() for arm in (1.0, 0.0))
    eta = (columns(frame) @ BETA)[:, None] + SD * NODES
    steep = expit(eta) * expit(-eta) @ WEIGHTS / WEIGHTS.sum()
    slope = (steep * (BETA[1] + BETA[3] * frame["a"])).mean()
    coefs = np.linalg.lstsq(columns(frame), logit(population(frame)), rcond=None)[0]
    return np.array([p - q, p / (1 - p) / (q / (1 - q)), slope]), coefs


def one(seed: int) -> dict[str, Any]:
    """Fit one data set."""
    frame = simulate(seed)
    fit = dgmm.mixed_model("y ~ t * a + (1 | id)", frame, family="bernoulli", verbose=0)
    grid = {"t": list(TIMES), "a": [0.0, 1.0]}
    means = fit.effects(("t", "a"), at=grid, scale="response")
    arms = {"a": 1.0}, {"a": 0.0}
    others = pd.concat(
        [
            fit.contrast(*arms, scale="response"),
            fit.contrast(*arms, scale="response", compare="odds_ratio"),
            fit.slopes("t", scale="response"),
        ]
    )
    true, coefs = truths(frame)
    return {
        "means_inside": hits(means, population(means)),
        "others_inside": hits(others, true),
        "coefs_inside": hits(fit.marginal_coefs(), coefs),
        "sd": fit.var_corr()["sdcor"].iloc[0],
        "converged": fit.estimate.converged,
    }


def hits(table: pd.DataFrame, truth: np.ndarray) -> str:
    """1 where an interval holds the truth, else 0."""
    inside = (table["lower"].to_numpy() <= truth) & (truth <= table["upper"].to_numpy())
    return "".join("1" if hit else "0" for hit in inside)


def report(table: pd.DataFrame) -> pd.DataFrame:
    """Coverage of every interval, and whether it is within 99.9 % binomial limits of 95 %."""
    means = shares(table["means_inside"]).mean(0)
    others, coefs = (shares(table[name]).mean(0) for name in ("others_inside", "coefs_inside"))
    labels = [f"mean, a = {arm}, t = {t:.0f}" for arm in (0, 1) for t in TIMES]
    labels += [*OTHERS, *(f"coefficient {name}" for name in COEFS)]
    found = pd.DataFrame({"interval": labels, "coverage": [*means, *others, *coefs]})
    low, high = limits(len(table), 0.95, 0.999)
    found["within"] = (low <= found["coverage"]) & (found["coverage"] <= high)
    return found


def main(replicates: str = "200", workers: str = "1") -> None:
    """Run what the study lacks and print its report."""
    fill(PATH, COLUMNS, [{"seed": seed} for seed in range(int(replicates))], one, int(workers))
    table = kept(PATH, COLUMNS)
    print(f"{len(table)} replicates, mean of the estimated SD {table['sd'].mean():.3f}")
    print(f"99.9 % limits {limits(len(table), 0.95, 0.999)}")
    print(report(table).to_string(index=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
