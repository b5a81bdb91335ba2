"""The demo under several seeds: `python benchmarks/demo_seeds.py 1 2 3`.

One row per seed of the deep fit, patients held out as in the demo: log-likelihoods, the verdict of
the report (from patients left out of the training data), and what both models say of the patients
who were held out of everything: log score, RMSE of their later visits given the earlier ones.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import pandas as pd
from stored import RESULTS, fill, kept, version

import dgmm
from dgmm.demo import fit_both, split

TABLE = RESULTS / "demo.csv"
COLUMNS = (
    "seed", "version", "loglik", "classical_loglik", "converged", "decrement",
    "gain", "gain_se", "score", "score_se", "later", "classical_later", "seconds",
)  # fmt: skip
LATER = "RMSE, held-out, later visits given earlier"


def one(seed: int) -> dict[str, Any]:
    """Fit the demo under one seed."""
    start = time.perf_counter()
    train, held_out = split()
    deep, classical = fit_both(train, verbose=0, seed=seed)
    seconds = time.perf_counter() - start
    inside, done = deep.estimate.held_out, deep.estimate
    scores = [fit.log_score(held_out)["log_score"] for fit in (deep, classical)]
    score = scores[0] - scores[1]
    later = dgmm.compare(deep, held_out).statistics.loc[LATER]
    assert inside is not None
    return {
        "version": version(),
        "loglik": float(deep.loglik()),
        "classical_loglik": float(classical.loglik()),
        "converged": done.converged,
        "decrement": done.decrement,
        "gain": inside.difference,
        "gain_se": inside.standard_error,
        "score": score.mean(),
        "score_se": score.std() / np.sqrt(len(score)),
        "later": later["dgmm"],
        "classical_later": later["MixedLM"],
        "seconds": seconds,
    }


def table() -> pd.DataFrame:
    """The rows that are kept, by seed."""
    return kept(TABLE, COLUMNS).set_index("seed").sort_index()


def main(*seeds: str) -> None:
    """Run the seeds that are not in the table and print it."""
    tasks = [{"seed": int(seed)} for seed in seeds or ("1", "2", "3")]
    fill(TABLE, COLUMNS, tasks, one)
    print(table().T.to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
