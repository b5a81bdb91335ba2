"""kvae() of films: a ball in a box, seen as pixels, of which more than half of the frames are lost.

    python benchmarks/ball_video.py [SEED ...]

A disc of radius 3 pixels flies through a box of 32 x 32 black or white pixels at 1.5 to 2.5 pixels
a frame and bounces off its walls: 500 films of 20 frames, 100 others. Every pixel that is ever
white is a Bernoulli outcome,

    mv(p1, p2, ...) ~ 1 + (kvae(frame, code=2, state=4, K=3, decoder=(64, 128), encoder="joint")
                           | film)

Of the other films frames 5 to 16 are taken away and filled in from both sides. Given is how far the
centre of what is white lies from that of the disc, the share of the pixels of these frames that are
wrong (the probability is rounded), and the mean log-likelihood of a frame under the predicted
probabilities, pixels apart, of three dynamics, of one, of a variational recurrent network with two
latent variables and one layer of 64 units, of the last frame that was seen, and of the mean film.
Rows go to benchmarks/results/ball_video.csv, the frames of one film to docs/ball_video.png.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from stored import RESULTS, keep

import dgmm

DOCS = Path(__file__).parents[1] / "docs"
SIDE, STEPS, RADIUS = 32, 20, 3.0
GAP = range(5, 17)  # frames count from one
CONTROL: dict[str, Any] = {
    "epochs": 90,
    "batch": 25,
    "pairs": 1,
    "draws": 256,
    "learning_rate": 0.015,
    "precision": "single",
}
TERMS = {
    "kvae K=3": "kvae(frame, code=2, state=4, K=3, hidden=32, decoder=(64, 128), encoder='joint')",
    "kvae K=1": "kvae(frame, code=2, state=4, K=1, hidden=32, decoder=(64, 128), encoder='joint')",
    "vrnn": "vrnn(frame, latent=2, hidden=64)",
}


def films(n: int, seed: int) -> np.ndarray:
    """Pixels 0 or 1, (n, STEPS, SIDE, SIDE)."""
    rng = np.random.default_rng(seed)
    low, high = RADIUS, SIDE - 1 - RADIUS
    place = rng.uniform(low, high, (n, 2))
    angle, speed = rng.uniform(0, 2 * np.pi, n), rng.uniform(1.5, 2.5, n)
    step = speed[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), -1)
    found = []
    for _ in range(STEPS):
        away = np.square(grid - place[:, None, None]).sum(-1)
        found.append(away <= RADIUS**2)
        place = place + step
        out = (place < low) | (place > high)
        place = np.where(place < low, 2 * low - place, place)
        place = np.where(place > high, 2 * high - place, place)
        step = np.where(out, -step, step)
    return np.stack(found, 1).astype(float)


def as_frame(pixels: np.ndarray, lit: np.ndarray) -> pd.DataFrame:
    """Films as rows, with a column for each pixel that is ever white."""
    flat = pixels.reshape(-1, SIDE * SIDE)[:, lit]
    data = pd.DataFrame(flat, columns=[f"p{k}" for k in np.flatnonzero(lit)])
    data.insert(0, "frame", np.tile(np.arange(1, STEPS + 1), len(pixels)))
    data.insert(0, "film", np.repeat(np.arange(len(pixels)), STEPS))
    return data


def judged(p: np.ndarray, y: np.ndarray, lit: np.ndarray) -> dict[str, float]:
    """Of probabilities (rows, pixels): distance of the centres in pixels, its median over frames,
    wrong pixels in percent, and log-likelihood of a frame.
    """
    place = np.stack(np.divmod(np.flatnonzero(lit), SIDE), -1)
    apart = p @ place / p.sum(1, keepdims=True) - y @ place / y.sum(1, keepdims=True)
    p = p.clip(1e-4, 1 - 1e-4)
    density = y * np.log(p) + (1 - y) * np.log(1 - p)
    return {
        "distance": float(np.median(np.hypot(*apart.T))),
        "wrong": 100 * float(((p > 0.5) != (y > 0.5)).mean()),
        "log_likelihood": float(density.sum(1).mean()),
    }


def score(model: str, seed: int, subjects: int = 500) -> tuple[dict[str, Any], np.ndarray]:
    """A row of the table, and the probabilities of the frames that were lost."""
    start, known, new = time.process_time(), films(subjects, seed), films(100, 1000 + seed)
    lit = known.reshape(-1, SIDE * SIDE).any(0)
    gap = np.zeros(STEPS, dtype=bool)
    gap[[frame - 1 for frame in GAP]] = True
    y = new[:, gap].reshape(-1, SIDE * SIDE)[:, lit]
    seen = as_frame(new, lit)
    lost = np.tile(gap, len(new))
    if model in TERMS:
        data = as_frame(known, lit)
        names = ", ".join(data.columns[2:])
        fit = dgmm.mixed_model(
            f"mv({names}) ~ 1 + ({TERMS[model]} | film)",
            data,
            family="bernoulli",
            seed=seed,
            verbose=0,
            control=CONTROL,
        )
        p = fit.predict(seen.loc[lost, ["film", "frame"]], history=seen[~lost]).to_numpy()
    elif model == "last frame":
        last = new[:, GAP[0] - 2].reshape(len(new), -1)[:, lit]
        p = np.repeat(last, len(GAP), axis=0)
    else:
        p = np.tile(known.mean((0, 1)).reshape(-1)[lit], (len(y), 1))
    row = {"model": model, "seed": seed, "subjects": subjects, "pixels": int(lit.sum())}
    return {**row, **judged(p, y, lit), "cpu_seconds": time.process_time() - start}, p


def strip(found: dict[str, np.ndarray], seed: int) -> None:
    """The lost frames of the film that moves most: the truth, and what the models make of them."""
    known, new = films(500, seed), films(100, 1000 + seed)
    lit = known.reshape(-1, SIDE * SIDE).any(0)
    gap = [frame - 1 for frame in GAP]
    film = int(np.abs(np.diff(new, axis=1)).sum((1, 2, 3)).argmax())
    pictures = {"truth": new[film, gap]}
    for model, p in found.items():
        every = np.zeros((len(gap), SIDE * SIDE))
        every[:, lit] = p.reshape(len(new), len(gap), -1)[film]
        pictures[model] = every.reshape(len(gap), SIDE, SIDE)
    figure = Figure(figsize=(0.72 * len(gap), 0.78 * len(pictures)), layout="constrained")
    axes = figure.subplots(len(pictures), len(gap))
    for line, (model, frames) in zip(axes, pictures.items(), strict=True):
        for axis, frame, one in zip(line, GAP, frames, strict=True):
            axis.imshow(one, cmap="gray_r", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            if model == "truth":
                axis.set_title(str(frame), fontsize=8)
        line[0].set_ylabel(model, fontsize=8)
    figure.savefig(DOCS / "ball_video.png", dpi=110)


def main(words: list[str]) -> None:
    """Every model and seed; a picture of a film of the first seed."""
    seeds = [int(word) for word in words or ["0"]]
    for seed in seeds:
        found = {}
        for model in ("mean film", "last frame", *TERMS):
            row, p = score(model, seed)
            if model in TERMS:
                found[model] = p
            keep(RESULTS / "ball_video.csv", row, ("model", "seed"))
            print(row, flush=True)
        if seed == seeds[0]:
            strip(found, seed)


if __name__ == "__main__":
    main(sys.argv[1:])
