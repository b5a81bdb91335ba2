"""kvae() of sixteen sensors that watch a ball: a gap is filled from both its sides.

    python benchmarks/bouncing_ball.py [SEED ...]

A ball moves in [0.1, 0.9] at a speed of 0.06 to 0.12 a step and bounces off the ends. Sixteen
sensors at 0, 1/15, ..., 1 each read exp{-(x - c)^2 / (2 0.08^2)} + N(0, 0.05^2); 500 sequences of
20 steps, 200 others in which the readings of steps 7 to 14 are taken away. Given are root mean
square errors of the readings without noise in the gap, from both sides (smoothed) and from the
steps before it alone (filtered), of three dynamics that mix and of one, and of the same task with
three tenths of the frames missing in training. A row for each goes to
benchmarks/results/bouncing_ball.csv.
"""

from __future__ import annotations

import sys
import time
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from stored import RESULTS, keep

import dgmm

STEPS, SENSORS = 20, 16
GAP = range(7, 15)  # steps count from one
NAMES = [f"s{k + 1}" for k in range(SENSORS)]
CONTROL: dict[str, Any] = {
    "epochs": 60,
    "batch": 100,
    "pairs": 1,
    "draws": 50,
    "learning_rate": 0.01,
    "precision": "single",
}


def ball(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Sequences as a frame with a column per sensor, and readings without noise (rows, 16)."""
    rng = np.random.default_rng(seed)
    x, v = rng.uniform(0.1, 0.9, n), rng.uniform(0.06, 0.12, n) * rng.choice([-1.0, 1.0], n)
    places = []
    for _ in range(STEPS):
        places.append(x)
        x = x + v
        out = (x < 0.1) | (x > 0.9)
        x = np.where(x < 0.1, 0.2 - x, np.where(x > 0.9, 1.8 - x, x))
        v = np.where(out, -v, v)
    place = np.stack(places, 1).reshape(-1, 1)
    clean = np.exp(-np.square(place - np.linspace(0, 1, SENSORS)) / (2 * 0.08**2))
    data = pd.DataFrame(clean + 0.05 * rng.normal(size=clean.shape), columns=NAMES)
    data.insert(0, "step", np.tile(np.arange(1, STEPS + 1), n))
    data.insert(0, "id", np.repeat(np.arange(n), STEPS))
    return data, clean


def without(data: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """The frame with a share of its steps, all sensors of them, not seen."""
    gone = np.random.default_rng(seed).uniform(size=len(data)) < share
    return data.assign(**{name: data[name].mask(gone) for name in NAMES})


def errors(fit: dgmm.MultivariateFit, seed: int) -> dict[str, float]:
    """Root mean square errors in the gaps of new sequences."""
    new, clean = ball(200, 1000 + seed)
    gap = new["step"].isin(GAP).to_numpy()
    rows = new.loc[gap, ["id", "step"]]
    both, before = new[~gap], new[new["step"] < GAP[0]]

    def rmse(values: Any) -> float:
        return float(np.sqrt(np.square(np.asarray(values) - clean[gap]).mean()))

    wide = clean.reshape(-1, STEPS, SENSORS)
    first, last = GAP[0] - 2, GAP[-1]
    share = (np.arange(1, len(GAP) + 1) / (len(GAP) + 1))[:, None]
    line = wide[:, first, None] + share * (wide[:, last] - wide[:, first])[:, None]
    return {
        "smoothed": rmse(fit.predict(rows, history=both)),
        "filtered": rmse(fit.predict(rows, history=before)),
        "mean_frame": rmse(clean.mean(0)[None]),
        "line": rmse(line.reshape(-1, SENSORS)),
    }


def score(K: int, seed: int, missing: float = 0.0, **changes: Any) -> dict[str, float]:
    """A row of the table."""
    start = time.time()
    data = without(ball(500, seed)[0], missing, seed)
    term = f"kvae(step, code=2, state=4, K={K}, hidden=32)"
    fit = dgmm.mixed_model(
        f"mv({', '.join(NAMES)}) ~ 1 + ({term} | id)",
        data,
        seed=seed,
        verbose=0,
        control=CONTROL | changes,
    )
    assert isinstance(fit, dgmm.MultivariateFit)
    course = fit.estimate.course
    assert course is not None
    mixing = course.mixing
    entropy = 0.0 if mixing is None else float(-(mixing * mixing.clamp(min=1e-12).log()).sum())
    return {
        "K": K,
        "seed": seed,
        "missing": missing,
        "epochs": len(fit.estimate.trace.elbo) if fit.estimate.trace else 0,
        "elbo": (fit.estimate.elbo or 0.0) / course.steps,
        "bound": fit.estimate.log_likelihood / course.steps,
        **errors(fit, seed),
        "entropy": entropy / np.log(K) if K > 1 else 0.0,
        "seconds": time.time() - start,
    }


def main(words: list[str]) -> None:
    """Three dynamics and one, then with frames missing in training; every seed."""
    seeds = [int(word) for word in words or ["0", "1", "2"]]
    for kinds in (((3, 0.0), (1, 0.0)), ((3, 0.3),)):
        for seed, (K, missing) in product(seeds, kinds):
            row = score(K, seed, missing)
            keep(RESULTS / "bouncing_ball.csv", row, ("K", "seed", "missing"))
            print(row, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
