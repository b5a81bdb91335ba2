"""Longitudinal data whose truth is known: subject profiles and their measurements."""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["classical", "linear_profiles", "random_slopes", "sigmoid_profiles"]


def random_slopes(n: int, visits: int, seed: int) -> pd.DataFrame:
    """y = 1 + 0.5 x + 0.3 t + b0 + b1 t + noise: random intercept and slope."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(n), visits)
    t = rng.uniform(0, 5, n * visits)
    x = rng.normal(size=n * visits)
    b = rng.multivariate_normal([0, 0], [[1.0, 0.15], [0.15, 0.25]], size=n)
    mean = 1 + 0.5 * x + 0.3 * t + b[subject, 0] + b[subject, 1] * t
    return pd.DataFrame({"id": subject, "t": t, "x": x, "y": mean + rng.normal(0, 0.8, len(t))})


def _frame(n: int, visits: int, rng: np.random.Generator) -> pd.DataFrame:
    slot = np.tile(np.arange(visits), n) + rng.uniform(0.05, 0.95, n * visits)
    frame = pd.DataFrame({"id": np.repeat(np.arange(n), visits), "t": slot * 10 / visits})
    frame["x"] = np.repeat(rng.normal(size=n), visits)
    return frame


def linear_profiles(basis: np.ndarray, frame: pd.DataFrame, rng: np.random.Generator) -> None:
    """Add mu and y: the linear mixed model on ``basis`` (N, q, with intercept) is the truth."""
    n, q = frame["id"].nunique(), basis.shape[1]
    decay = 0.5 ** np.abs(np.subtract.outer(np.arange(q), np.arange(q)))
    sd = np.r_[1.0, np.linspace(1.2, 2.0, q - 1)]
    b = rng.multivariate_normal(np.zeros(q), decay * np.outer(sd, sd), size=n)
    fixed = basis[:, 1:] @ np.linspace(1.5, -1.0, q - 1)
    random = (basis * b[frame["id"]]).sum(1)
    frame["mu"] = 1 + 0.25 * frame["x"] + fixed + random
    frame["y"] = frame["mu"] + rng.normal(0, 0.7, len(frame))


def sigmoid_profiles(n: int, visits: int, seed: int) -> pd.DataFrame:
    """y = b0 + A / (1 + exp(-(t - c) / s)): subject-specific amplitude, inflection, steepness."""
    rng = np.random.default_rng(seed)
    frame = _frame(n, visits, rng)
    u = rng.normal(size=(n, 4))[frame["id"]]
    rise = np.exp(1.2 + 0.3 * u[:, 1])
    middle, width = 5 + 1.5 * u[:, 2], np.exp(-0.5 + 0.4 * u[:, 3])
    step = rise / (1 + np.exp(-(frame["t"] - middle) / width))
    frame["mu"] = 0.6 * u[:, 0] + 0.25 * frame["x"] + step
    frame["y"] = frame["mu"] + rng.normal(0, 0.5, len(frame))
    return frame


def classical(n: int, visits: int, family: str, seed: int) -> pd.DataFrame:
    """Outcomes of y ~ t * g + x with a random intercept, and a slope unless they are binary."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(n), visits)
    t = np.tile(np.linspace(0, 1, visits), n)
    g = np.repeat(rng.integers(0, 2, n), visits).astype(float)
    x = rng.normal(size=n * visits)
    b = rng.normal(size=(n, 2)) @ np.array([[0.6, 0.15], [0.0, 0.4]])
    slope = 0.0 if family == "bernoulli" else b[subject, 1] * t
    eta = 0.2 + 0.5 * t - 0.3 * g + 0.2 * t * g + 0.2 * x + b[subject, 0] + slope
    if family == "gaussian":
        y = eta + rng.normal(size=len(eta))
    elif family == "bernoulli":
        y = (rng.uniform(size=len(eta)) < 1 / (1 + np.exp(-eta))).astype(float)
    else:
        y = rng.poisson(np.exp(eta)).astype(float)
    return pd.DataFrame({"id": subject, "t": t, "g": g, "x": x, "y": y})
