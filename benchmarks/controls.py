"""kvae() of series that are steered: outcomes to come are predicted from controls to come.

    python benchmarks/controls.py [SEED ...]

z_t = A z_{t-1} + B u_t + N(0, 0.05 I), y_t = C z_t + N(0, 0.2^2 I): two states that turn and fade,
two controls, each a level that jumps now and then, five outcomes; 300 sequences of 20 steps, 200
others. Of these steps 11 to 20 are predicted from the outcomes of steps 1 to 10 and all controls,
by the model and by a Kalman filter at the parameters that made the data. Given is the share of the
variance of the outcomes that both explain; what is left to explain by the steps before alone is
the row without controls. A row for each goes to benchmarks/results/controls.csv.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import pandas as pd
from stored import RESULTS, keep

import dgmm

STEPS, SEEN, OUTCOMES = 20, 10, 5
NAMES = [f"y{k + 1}" for k in range(OUTCOMES)]
TURN, FADE = 0.5, 0.9
A = FADE * np.array([[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]])
B = np.array([[0.5, 0.0], [0.2, 0.6]])
C = np.array([[1.0, 0.0], [0.7, 0.7], [0.0, 1.0], [-0.8, 0.5], [0.4, -0.9]])
Q, R = 0.05 * np.eye(2), 0.2**2 * np.eye(OUTCOMES)
CONTROL: dict[str, Any] = {
    "epochs": 60,
    "batch": 50,
    "pairs": 1,
    "draws": 50,
    "learning_rate": 0.01,
    "precision": "single",
}


def steered(n: int, seed: int) -> pd.DataFrame:
    """Sequences as a frame with a column per control and outcome."""
    rng = np.random.default_rng(seed)
    jump = rng.uniform(size=(n, STEPS, 2)) < 0.25
    jump[:, 0] = True
    level = rng.normal(size=(n, STEPS, 2))
    u = np.where(jump, level, 0.0)
    for t in range(1, STEPS):
        u[:, t] = np.where(jump[:, t], u[:, t], u[:, t - 1])
    z, rows = np.zeros((n, 2)), []
    for t in range(STEPS):
        z = z @ A.T + u[:, t] @ B.T + rng.normal(size=(n, 2)) @ np.linalg.cholesky(Q).T
        rows.append(z @ C.T + 0.2 * rng.normal(size=(n, OUTCOMES)))
    data = pd.DataFrame(np.stack(rows, 1).reshape(-1, OUTCOMES), columns=NAMES)
    data[["u1", "u2"]] = u.reshape(-1, 2)
    data.insert(0, "step", np.tile(np.arange(1, STEPS + 1), n))
    data.insert(0, "id", np.repeat(np.arange(n), STEPS))
    return data


def oracle(data: pd.DataFrame) -> np.ndarray:
    """Predictions (n, STEPS - SEEN, OUTCOMES) by the filter at the true parameters."""
    y = data[NAMES].to_numpy().reshape(-1, STEPS, OUTCOMES)
    u = data[["u1", "u2"]].to_numpy().reshape(-1, STEPS, 2)
    m, P, found = np.zeros((len(y), 2)), np.zeros((2, 2)), []
    for t in range(STEPS):
        m, P = m @ A.T + u[:, t] @ B.T, A @ P @ A.T + Q
        found.append(m @ C.T)
        if t < SEEN:
            gain = P @ C.T @ np.linalg.inv(C @ P @ C.T + R)
            m, P = m + (y[:, t] - m @ C.T) @ gain.T, P - gain @ C @ P
    return np.stack(found[SEEN:], 1)


def score(K: int, seed: int, control: bool = True) -> dict[str, float]:
    """A row of the table."""
    start = time.time()
    steering = ", control=~ u1 + u2" if control else ""
    fit = dgmm.mixed_model(
        f"mv({', '.join(NAMES)}) ~ 1 + (kvae(step, code=2, state=2, K={K}{steering}) | id)",
        steered(300, seed),
        seed=seed,
        verbose=0,
        control=CONTROL,
    )
    new = steered(200, 1000 + seed)
    later = new["step"] > SEEN
    shown = new.drop(columns=NAMES)[later]
    found = fit.predict(shown, history=new[~later])
    y = new.loc[later, NAMES].to_numpy()
    total = np.square(y - y.mean(0)).sum()

    def explained(values: Any) -> float:
        return 1 - float(np.square(np.asarray(values) - y).sum()) / total

    best = explained(oracle(new).reshape(-1, OUTCOMES))
    return {
        "K": K,
        "seed": seed,
        "control": int(control),
        "explained": explained(found[NAMES]),
        "oracle": best,
        "seconds": time.time() - start,
    }


def main(words: list[str]) -> None:
    """One dynamic of every seed; of seed 0 also three, and one without controls."""
    for seed in map(int, words or ["0", "1", "2"]):
        others = [(3, True), (1, False)] if seed == 0 else []
        for K, control in [(1, True), *others]:
            row = score(K, seed, control)
            keep(RESULTS / "controls.csv", row, ("K", "seed", "control"))
            print(row, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
