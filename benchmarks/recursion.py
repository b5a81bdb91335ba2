"""vrnn() beside a recurrent network of the same output density, dmm() and vrnn() beside published
models.

    python benchmarks/recursion.py bimodal [SEED ...]     six minutes a seed
    python benchmarks/recursion.py identification 5000 dmm [SEED ...]
    python benchmarks/recursion.py linear [SEED ...]

bimodal: x_t = 0.8 x_{t-1} + s_t + N(0, 0.15^2), s_t = +-1 a fair coin; 1000 sequences of 20, 500
others to be scored. A Gaussian is the wrong density of the next value whatever is known of the
past: -1.43 nats per step is its best, the log-density itself is -0.214.

identification: the system of Narendra and Li (1996), simulated with noise, predicted without any
outcome from the input alone; root mean square error beside those of Gedon, Wahlstroem, Schoen and
Ljung (2021), IFAC.

linear: the linear Gaussian system of these authors, of which the Kalman filter knows the density:
100 sequences of 25 steps, nats per step of 200 others under ssm() by maximum likelihood, vrnn() by
its importance-weighted bound, and the system itself. Rows go to
benchmarks/results/recursion_NAME.csv.
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
from dgmm.prediction.moments import outcomes_seen
from dgmm.variational.elbo import evaluate

STEPS = 20
TRUE = -0.214


def bimodal(n: int, seed: int) -> pd.DataFrame:
    """Sequences of the bimodal autoregression from x_0 = 0."""
    rng, x = np.random.default_rng(seed), np.zeros(n)
    rows = []
    for _ in range(STEPS):
        x = 0.8 * x + rng.choice([-1.0, 1.0], n) + 0.15 * rng.normal(size=n)
        rows.append(x)
    data = pd.DataFrame(
        {"id": np.repeat(np.arange(n), STEPS), "t": np.tile(np.arange(1, STEPS + 1), n)}
    )
    return data.assign(x=np.stack(rows, 1).reshape(-1))


def score_bimodal(latent: int, seed: int, epochs: int) -> dict[str, float]:
    """Nats per step of sequences that the fit has not seen."""
    start, test = time.time(), bimodal(500, 1000 + seed)
    fit = dgmm.mixed_model(
        f"x ~ 1 + (vrnn(t, latent={latent}, hidden=32, posterior='filter') | id)",
        bimodal(1000, seed),
        seed=seed,
        verbose=0,
        control={
            "epochs": epochs,
            "pairs": 1,
            "learning_rate": 0.008,
            "draws": 200,
            "precision": "single",
            "patience": epochs,
        },
    )
    assert isinstance(fit, dgmm.Fit)
    done = fit.estimate
    assert done.encoder is not None
    assert done.course is not None
    panel = outcomes_seen(done, fit.memory.spec, test)
    bound = evaluate(done.model.sized(panel), done.encoder, done.theta, done.phi, panel, seed)
    weighted = fit.log_score(test)
    drawn = fit.simulate(1, seed=seed)["sim_1"].to_numpy().reshape(-1, STEPS)
    moved = drawn[:, 1:] - 0.8 * drawn[:, :-1]
    cells = 500 * STEPS
    return {
        "latent": latent,
        "seed": seed,
        "epochs": epochs,
        "elbo": float(bound.elbo.sum()) / cells,
        "iwae200": float(weighted["log_score"].sum()) / cells,
        "kl": float(bound.kl.sum()) / cells,
        "middle": float((np.abs(moved) < 0.5).mean()),
        "seconds": time.time() - start,
    }


def narendra_li(n: int, seed: int | None, length: int) -> pd.DataFrame:
    """Sequences of ``length`` of the system; without a seed the input and outcome of its test."""
    t = np.arange(n)
    if seed is None:
        u, noise = np.sin(2 * np.pi * t / 10) + np.sin(2 * np.pi * t / 25), np.zeros(n)
    else:
        rng = np.random.default_rng(seed)
        u, noise = rng.uniform(-2.5, 2.5, n), np.sqrt(0.1) * rng.normal(size=n)
    x1 = x2 = 0.0
    y = np.zeros(n)
    for j in range(n):
        y[j] = x1 / (1 + 0.5 * np.sin(x2)) + x2 / (1 + 0.5 * np.sin(x1)) + noise[j]
        x1, x2 = (
            (x1 / (1 + x1**2) + 1) * np.sin(x2),
            x2 * np.cos(x2)
            + x1 * np.exp(-(x1**2 + x2**2) / 8)
            + u[j] ** 3 / (1 + u[j] ** 2 + 0.5 * np.cos(x1 + x2)),
        )
    # the outcome of a step answers to the inputs before it
    before = np.r_[0.0, u[:-1]]
    return pd.DataFrame({"id": t // length, "t": t % length + 1, "u": before, "y": y})


SYSTEMS: dict[str, dict[str, Any]] = {
    "dmm": {"term": "dmm(t, state=4, hidden=60, control=~ u)", "length": 25, "rate": 0.01},
    "vrnn": {"term": "vrnn(t, latent=4, hidden=60, control=~ u)", "length": 25, "rate": 0.005},
}


def score_identification(model: str, n: int, seed: int, epochs: int) -> dict[str, Any]:
    """Error of the test sequence, free-running from its start."""
    start, own = time.process_time(), SYSTEMS[model]
    fit = dgmm.mixed_model(
        f"y ~ 1 + ({own['term']} | id)",
        narendra_li(n, seed, own["length"]),
        seed=seed,
        verbose=0,
        control={
            "epochs": epochs,
            "pairs": 1,
            "batch": 16,
            "draws": 16,
            "learning_rate": own["rate"],
            "precision": "single",
        },
    )
    test = narendra_li(5000, None, 5000)
    assert isinstance(fit, dgmm.Fit)
    found = fit.predict(test, type="marginal")["fit"]
    error = float(np.sqrt(np.square(found - test["y"]).mean()))
    row = {"model": model, "n": n, "seed": seed, "epochs": epochs, "rmse": error}
    return {**row, "cpu_seconds": time.process_time() - start}


A, B, C = np.array([[0.7, 0.8], [0.0, 0.1]]), np.array([-1.0, 0.1]), np.array([1.0, 0.0])
LENGTH = 25
LINEAR = {
    "ssm": ("ssm(t, state=2, control=~u)", {}),
    "vrnn": (
        "vrnn(t, latent=2, hidden=32, control=~u)",
        {"epochs": 120, "pairs": 1, "learning_rate": 0.008, "draws": 200, "precision": "single"},
    ),
}


def linear(n: int, seed: int) -> pd.DataFrame:
    """z_t = A z_{t-1} + B u_t + N(0, I / 4) from zero, y_t = C z_t + N(0, 1), u uniform."""
    rng = np.random.default_rng(seed)
    u, z, rows = rng.uniform(-2.5, 2.5, (n, LENGTH)), np.zeros((n, 2)), []
    for t in range(LENGTH):
        z = z @ A.T + u[:, [t]] * B + 0.5 * rng.normal(size=(n, 2))
        rows.append(z @ C + rng.normal(size=n))
    data = pd.DataFrame(
        {"id": np.repeat(np.arange(n), LENGTH), "t": np.tile(np.arange(1, LENGTH + 1), n)}
    )
    return data.assign(u=u.ravel(), y=np.stack(rows, 1).ravel())


def density_of_linear(data: pd.DataFrame) -> float:
    """Nats per step under the system, by its Kalman filter."""
    y, u = (data[name].to_numpy().reshape(-1, LENGTH) for name in ("y", "u"))
    m, P, total = np.zeros((len(y), 2)), np.zeros((2, 2)), 0.0
    for t in range(LENGTH):
        m, P = m @ A.T + u[:, [t]] * B, A @ P @ A.T + np.eye(2) / 4
        S, e = C @ P @ C + 1, y[:, t] - m @ C
        total += float((-0.5 * np.log(2 * np.pi * S) - 0.5 * e**2 / S).sum())
        m, P = m + e[:, None] * (P @ C / S), P - np.outer(P @ C, P @ C) / S
    return total / y.size


def score_linear(model: str, seed: int) -> dict[str, Any]:
    """Nats per step of sequences that the fit has not seen."""
    start, test = time.process_time(), linear(200, 1000 + seed)
    if model == "system":
        value = density_of_linear(test)
    else:
        term, control = LINEAR[model]
        fit = dgmm.mixed_model(
            f"y ~ 1 + ({term} | id)", linear(100, seed), seed=seed, verbose=0, control=control
        )
        value = float(fit.log_score(test)["log_score"].sum()) / len(test)
    return {
        "model": model,
        "seed": seed,
        "log_score": value,
        "cpu_seconds": time.process_time() - start,
    }


def main(words: list[str]) -> None:
    """Run the study that the words name."""
    match words:
        case ["bimodal", *seeds]:
            for seed in map(int, seeds or ["0", "1", "2"]):
                for latent, epochs in ((2, 250), (0, 40)):
                    row = score_bimodal(latent, seed, epochs)
                    keep(RESULTS / "recursion_bimodal.csv", row, ("latent", "seed"))
                    print(row, flush=True)
        case ["identification", size, model, *seeds] if model in SYSTEMS:
            n = int(size)
            for seed in map(int, seeds or ["0", "1", "2"]):
                row = score_identification(model, n, seed, 240 if n < 10_000 else 150)
                keep(RESULTS / "recursion_identification.csv", row, ("model", "n", "seed"))
                print(row, flush=True)
        case ["linear", *seeds]:
            for seed, model in product(map(int, seeds or ["0", "1", "2"]), ("system", *LINEAR)):
                row = score_linear(model, seed)
                keep(RESULTS / "recursion_linear.csv", row, ("model", "seed"))
                print(row, flush=True)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
