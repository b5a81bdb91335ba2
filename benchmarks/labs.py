"""Gaps in two laboratory series of a clinic: kvae() of both beside ssm() of each, and carrying on.

    python benchmarks/labs.py [SEED ...]

HDL cholesterol and systolic blood pressure of 500 people by year (`nafld_labs`, the mean of the
readings of a year), 400 of them to learn from. Of each of the others two gaps of three years are
made in the middle of the record, and the readings in them are predicted from all that was seen of
both. Errors are root mean squares in standard deviations of a reading; the standard error is over
people. A row for each method goes to benchmarks/results/labs.csv.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

import dgmm

RESULTS = Path(__file__).parent / "results"
LABS = ["hdl", "sbp"]
TERM = "kvae(year, code=2, state=4, K={K}, hidden=16)"
CONTROL = {
    "epochs": 150,
    "batch": 100,
    "pairs": 1,
    "draws": 50,
    "learning_rate": 0.01,
    "precision": "single",
}


def readings() -> pd.DataFrame:
    """A row for every person and year with a reading; both labs standardised."""
    data = dgmm.datasets.load("nafld_labs")
    data["year"] = np.floor(data["days"] / 365.25).astype(int)
    wide = data.groupby(["id", "year", "test"])["value"].mean().unstack("test").reset_index()
    wide.columns.name = None
    wide[LABS] = (wide[LABS] - wide[LABS].mean()) / wide[LABS].std()
    return wide


def with_gaps(data: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The frame with two gaps of three years inside the record of every person."""
    found = []
    for _, rows in data.groupby("id"):
        inner = rows["year"].iloc[2:-2]
        starts = rng.choice(inner, size=min(2, len(inner)), replace=False)
        gone = np.zeros(len(rows), dtype=bool)
        for start in starts:
            gone |= rows["year"].between(start, start + 2) & (rows["year"] < rows["year"].iloc[-1])
        found.append(rows.assign(**{name: rows[name].mask(gone) for name in LABS}))
    return pd.concat(found)


def carried(seen: pd.DataFrame, name: str) -> pd.Series:
    """The last value, before the first one the next."""
    by = seen.groupby("id")[name]
    return by.ffill().fillna(by.bfill()).fillna(0.0)


def fills(train: pd.DataFrame, seen: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """Both labs at every row of the others, by method."""
    found = {
        "mean": pd.DataFrame(dict(train[LABS].mean()), index=seen.index),
        "last value": pd.DataFrame({name: carried(seen, name) for name in LABS}),
    }
    linear = {}
    for name in LABS:
        fit = dgmm.mixed_model(f"{name} ~ 1 + (ssm(year, state=2) | id)", train, verbose=0)
        linear[name] = fit.predict(seen, history=seen)["fit"]
    found["ssm"] = pd.DataFrame(linear)
    for K in (1, 3):
        joint = dgmm.mixed_model(
            f"mv(hdl, sbp) ~ 1 + ({TERM.format(K=K)} | id)",
            train,
            seed=seed,
            verbose=0,
            control=CONTROL,
        )
        found[f"kvae K={K}"] = joint.predict(seen, history=seen).xs("fit", axis=1, level=1)
    return found


def score(seed: int) -> pd.DataFrame:
    """A row per method."""
    start, rng, data = time.time(), np.random.default_rng(seed), readings()
    people = rng.permutation(data["id"].unique())
    train, new = (data[data["id"].isin(some)] for some in (people[:400], people[400:]))
    seen = with_gaps(new, rng)
    rows = []
    for method, values in fills(train, seen, seed).items():
        row: dict[str, float | str] = {"method": method, "seed": seed}
        for name in LABS:
            gap = seen[name].isna() & new[name].notna()
            square = np.square(values.loc[gap, name] - new.loc[gap, name])
            row[name] = float(np.sqrt(square.mean()))
            by = square.groupby(new.loc[gap, "id"]).agg(["sum", "size"])
            away = by["sum"] - by["size"] * square.mean()  # of a ratio of sums over people
            error = np.sqrt(np.square(away).sum()) / by["size"].sum()
            row[f"{name}_se"] = float(error / (2 * np.sqrt(square.mean())))
            row[f"{name}_cells"] = int(gap.sum())
        rows.append(row)
    return pd.DataFrame(rows).assign(seconds=time.time() - start)


def main(words: list[str]) -> None:
    """Every seed is another choice of people and gaps."""
    file = RESULTS / "labs.csv"
    for seed in map(int, words or ["0", "1", "2"]):
        table = score(seed)
        old = [pd.read_csv(file)] if file.exists() else []
        pd.concat([*old, table]).to_csv(file, index=False, float_format="%.5g")
        print(table.to_string(index=False), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
