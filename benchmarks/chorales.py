"""Bach's chorales: vrnn() of 88 keys beside published models.

    DGMM_DATA=FOLDER python benchmarks/chorales.py keys            two simple models, seconds
    DGMM_DATA=FOLDER python benchmarks/chorales.py NAME            one of FITS below

FOLDER holds jsb_chorales_quarter.json: 229, 76 and 77 chorales to learn from, to choose settings by
and to be scored, each a list of quarter notes, a quarter note the list of MIDI keys that sound
(Boulanger-Lewandowski, Bengio and Vincent, 2012, ICML).

A score is the negative log-likelihood of all 88 keys summed over all steps of a part, divided by
the number of steps. Of a recursion it is the particle bound of dgmm.variational.bounds, which the
negative log-likelihood does not exceed in expectation; "elbo" is that of one particle.

A key that never sounds in the N steps learnt from is no outcome of a model: it has the probability
0.5 / (N + 1) of sounding at any step. Rows go to benchmarks/results/chorales.csv, the course of a
training to chorales_course.csv.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from stored import RESULTS, keep

import dgmm
from dgmm.encoders import Sequential
from dgmm.multivariate.views import history_of, view
from dgmm.variational.bounds import particles

FILE = "jsb_chorales_quarter.json"
KEYS = range(21, 109)
PARTS = ("train", "valid", "test")
DRAWS, FEW = 1_000, 100
"""Particles of a step of the chorales that are scored, and of the others."""


Rolls = list[np.ndarray]
"""A table (steps, 88) of zeros and ones for every chorale."""


# -- the data ------------------------------------------------------------------------------------


def folder() -> Path:
    """The folder of the data.

    Raises:
        ValueError: DGMM_DATA is not set, or there is no such file in it.
    """
    named = os.environ.get("DGMM_DATA")
    if not named:
        raise ValueError(f"the environment variable DGMM_DATA names the folder of {FILE}: set it")
    if not (Path(named) / FILE).is_file():
        raise ValueError(f"DGMM_DATA={named} has no file {FILE}")
    return Path(named)


def read() -> dict[str, Rolls]:
    """The chorales of every part."""
    text = (folder() / FILE).read_text(encoding="utf-8")
    return {part: [roll(one) for one in json.loads(text)[part]] for part in PARTS}


def roll(steps: Sequence[Sequence[float]]) -> np.ndarray:
    """Which of the 88 keys sound at every step."""
    table = np.zeros((len(steps), len(KEYS)), dtype=int)
    for t, sounding in enumerate(steps):
        table[t, np.array(sounding, dtype=int) - KEYS[0]] = 1
    return table


def frame(rolls: Rolls) -> pd.DataFrame:
    """A row per step: the chorale, its step 1, 2, ... and a column per key."""
    names = [f"k{key}" for key in KEYS]
    tables = [
        pd.DataFrame(one, columns=names).assign(id=i, t=np.arange(1, len(one) + 1))
        for i, one in enumerate(rolls)
    ]
    return pd.concat(tables, ignore_index=True)


# -- models that are a table -----------------------------------------------------------------------


def of_keys(table: np.ndarray, p: np.ndarray) -> float:
    """log p of zeros and ones with probabilities p."""
    return float(np.where(table == 1, np.log(p), np.log1p(-p)).sum())


def share(sounding: np.ndarray, number: Any) -> np.ndarray:
    """Probabilities from counts: (count + 0.5) / (number + 1)."""
    return (sounding + 0.5) / (number + 1)


def static(learnt: Rolls, scored: Rolls) -> float:
    """Nats a step of keys that are independent of all else."""
    table = np.concatenate(learnt)
    p = share(table.sum(0), len(table))
    return per_step(sum(of_keys(one, p) for one in scored), scored)


def markov(learnt: Rolls, scored: Rolls) -> float:
    """Nats a step where a key depends on itself a step before; the first step is :func:`static`."""
    table = np.concatenate(learnt)
    before, after = (
        np.concatenate([one[part] for one in learnt]) for part in (slice(-1), slice(1, None))
    )
    moved = [share((after * (before == j)).sum(0), (before == j).sum(0)) for j in (0, 1)]
    p, total = share(table.sum(0), len(table)), 0.0
    for one in scored:
        law = np.where(one[:-1] == 1, moved[1], moved[0])
        total += of_keys(one, np.concatenate([p[None], law]))
    return per_step(total, scored)


def per_step(total: float, scored: Rolls) -> float:
    """A log-likelihood as nats lost a step."""
    return -total / sum(map(len, scored))


# -- recursions ----------------------------------------------------------------------------------

TRAINED = {
    "learning_rate": 0.003,
    "batch": 20,
    "batches": "length",
    "pairs": 1,
    "draws": 8,
    "precision": "single",
}
LEARNT = {"pairs": 3, "bound": "weighted", "holdout": 0}
FITS: dict[str, tuple[str, dict[str, Any]]] = {
    "vrnn": (
        "vrnn(t, latent=16, hidden=200, memory='outcomes', posterior='filter', dropout=0.3)",
        LEARNT | {"epochs": 60, "kl_anneal": 20},
    ),
    "vrnn_wide": (
        "vrnn(t, latent=16, hidden=300, memory='outcomes', posterior='filter', dropout=0.3)",
        LEARNT | {"epochs": 90, "kl_anneal": 25},
    ),
}
"""Term and options by name, chosen by the chorales of the middle part."""


def fitted(term: str, learnt: Rolls, control: dict[str, Any], seed: int) -> dgmm.MultivariateFit:
    """The model of all keys that sound in what it learns from."""
    data = frame(learnt)
    keys = [f"k{key}" for key in KEYS if data[f"k{key}"].any()]
    fit = dgmm.mixed_model(
        f"mv({', '.join(keys)}) ~ 1 + ({term} | id)",
        data[["id", "t", *keys]],
        family="bernoulli",
        seed=seed,
        verbose=1,
        control=TRAINED | control,
    )
    assert isinstance(fit, dgmm.MultivariateFit)
    return fit


def bounds(
    fit: dgmm.MultivariateFit, learnt: Rolls, scored: Rolls, draws: int, seed: int = 0
) -> float:
    """Nats a step of all keys by the particle bound."""
    done, data = fit.estimate, frame(scored)
    assert isinstance(done.encoder, Sequential)
    assert done.phi is not None
    panel = history_of(fit, view(fit, 0), 0, data[["id", "t", *fit.names]])
    model, generator = done.model.sized(panel), torch.Generator().manual_seed(seed)
    value = particles(model, done.encoder, done.theta, done.phi, panel, draws, generator)
    table = np.concatenate(learnt)
    silent = table.sum(0) == 0
    p = share(np.zeros(int(silent.sum())), len(table))
    others = sum(of_keys(one[:, silent], p) for one in scored)
    return per_step(float(value.sum()) + others, scored)


def course(fit: dgmm.MultivariateFit, name: str) -> pd.DataFrame:
    """Nats a step of the bound that is learnt on, with dropout, by epoch."""
    trace = fit.estimate.trace
    assert trace is not None
    panel = fit.estimate.panel
    steps = panel.n_rows / panel.n
    return pd.DataFrame(
        {
            "model": name,
            "epoch": np.arange(1, trace.epochs + 1),
            "bound": -np.array(trace.elbo) / steps,
        }
    )


# -- the tables ----------------------------------------------------------------------------------


def keep_course(rows: pd.DataFrame) -> None:
    """Epochs of one model, in the place of those of an earlier training of it."""
    path = RESULTS / "chorales_course.csv"
    if path.exists():
        old = pd.read_csv(path)
        rows = pd.concat([old[~old["model"].isin(rows["model"])], rows])
    rows.to_csv(path, index=False, float_format="%.5g")


def score(name: str, rolls: dict[str, Rolls], seed: int = 0) -> None:
    """Learn one of :data:`FITS`, and keep what it says of all three parts."""
    term, control = FITS[name]
    begun = time.process_time()
    fit = fitted(term, rolls["train"], control, seed)
    spent = time.process_time() - begun
    trace = fit.estimate.trace
    assert trace is not None
    row: dict[str, Any] = {"model": name, "setting": term}
    row["epochs"] = trace.kept or trace.epochs
    twice = [bounds(fit, rolls["train"], rolls["valid"], FEW, seed) for seed in (0, 1)]
    row["valid"], row["error"] = np.mean(twice), np.std(twice, ddof=1) / 2**0.5
    row["train"] = bounds(fit, rolls["train"], rolls["train"], FEW)
    row["test"] = bounds(fit, rolls["train"], rolls["test"], DRAWS)
    single = [bounds(fit, rolls["train"], rolls["test"], 1, seed) for seed in range(8)]
    row["elbo"] = np.mean(single)
    row |= {"bound": "particles", "particles": DRAWS, "cpu_seconds": spent}
    print(row, flush=True)
    keep(RESULTS / "chorales.csv", row, ("model",))
    keep_course(course(fit, name))


def main(words: list[str]) -> None:
    """Run what the words name."""
    names = words or ["-"]
    if names == ["keys"]:
        rolls = read()
        for name, law in (("static", static), ("markov", markov)):
            row = {part: law(rolls["train"], rolls[part]) for part in PARTS}
            keep(RESULTS / "chorales.csv", {"model": name, "setting": "", **row}, ("model",))
    elif len(names) == 1 and names[0] in FITS:
        score(names[0], read())
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
