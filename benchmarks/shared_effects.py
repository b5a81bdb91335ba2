"""Many outcomes from a few shared nonlinear effects: `python benchmarks/shared_effects.py`.

K Gaussian outcomes of the same visits come from three effects of every subject, each by curves of
its own, lines in time that bend in the effects:

    y_ijk = a_k + {c_k tanh(2 u_k'b_i)} + {0.5 + d_k (exp(0.7 v_k'b_i) - E)} t_ij + e_ijk

As many new subjects are scored by log p(y_i), the log density of all their outcomes; per outcome,
with its standard error over subjects. CPU seconds of the fits, one thread, without standard errors.
The rows are kept in `benchmarks/results/shared_effects.csv`.

lmm       a linear mixed model per outcome, `(t | id)`
joint     all of them at once, the 2K effects with a free covariance
factors   the same effects from three linear factors: the model within the deep one
deep      `(dnn(t, latent=3) |p| id)` in every outcome
gru       a recurrent network of all outcomes, one visit ahead
truth     the true model, by importance sampling

    python benchmarks/shared_effects.py lmm joint gru truth deep --outcomes 20
    python benchmarks/shared_effects.py deep --outcomes 2
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # before the libraries start their threads

import argparse
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from recurrent import states_before, train
from scipy.special import logsumexp
from stored import RESULTS, keep
from torch import Tensor, nn

import dgmm
from dgmm.multivariate.views import history_of, view

TABLE = RESULTS / "shared_effects.csv"
EFFECTS, VISITS, NOISE = 3, 8, 0.5
DRAWS = 20_000
HIDDEN = 48


class Truth(NamedTuple):
    """What is the same for all subjects."""

    level: np.ndarray  # (K, 3) c_k u_k apart: directions of length one
    slope: np.ndarray  # (K, 3)
    size: np.ndarray  # (K, 3) a_k, c_k, d_k

    @classmethod
    def of(cls, outcomes: int, seed: int) -> Truth:
        """Directions and sizes of K outcomes; the first of them are those of fewer."""
        rng = np.random.default_rng([seed, 1])
        drawn = [rng.normal(size=(3, EFFECTS)) for _ in range(outcomes)]
        unit = np.stack([one[:2] / np.linalg.norm(one[:2], axis=1)[:, None] for one in drawn])
        sizes = np.stack([[one[2, 0], 1.0, 0.6 * np.sign(one[2, 1])] for one in drawn])
        return cls(unit[:, 0], unit[:, 1], sizes)

    def mean(self, b: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Of effects (n, 3) at times (J,), (n, J, K)."""
        a, c, d = self.size.T
        level = a + c * np.tanh(2 * b @ self.level.T)
        slope = 0.5 + d * (np.exp(0.7 * b @ self.slope.T) - math.exp(0.245))
        return level[:, None] + t[:, None] * slope[:, None]


def simulated(outcomes: int, subjects: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Subjects to learn from, and as many new ones."""
    rng, t = np.random.default_rng([seed, 2]), np.linspace(0, 1, VISITS)
    truth = Truth.of(outcomes, seed)
    mean = truth.mean(rng.normal(size=(2 * subjects, EFFECTS)), t)
    noise = rng.normal(size=(2 * subjects, VISITS, 20))[..., :outcomes]
    y = (mean + NOISE * noise).reshape(-1, outcomes)
    data = pd.DataFrame(y, columns=names(outcomes))
    data.insert(0, "t", np.tile(t, 2 * subjects))
    data.insert(0, "id", np.repeat(np.arange(2 * subjects), VISITS))
    old = data["id"] < subjects
    return data[old].reset_index(drop=True), data[~old].reset_index(drop=True)


def names(outcomes: int) -> list[str]:
    """y1, y2, ..."""
    return [f"y{k + 1}" for k in range(outcomes)]


# -- the methods ---------------------------------------------------------------------------------

Scores = dict[str, tuple[np.ndarray, float, str]]
"""By method the log score of every new subject, CPU seconds, and what the fit says of itself."""


def lmm(old: pd.DataFrame, new: pd.DataFrame, seed: int) -> Scores:
    """A fit per outcome."""
    start, total = time.process_time(), np.zeros(new["id"].nunique())
    for name in list(old)[2:]:
        fit = dgmm.mixed_model(f"{name} ~ t + (t | id)", old, se=None, verbose=0)
        total += fit.log_score(new)["log_score"].to_numpy()
    return {"lmm": (total, time.process_time() - start, "")}


def joint(old: pd.DataFrame, new: pd.DataFrame, seed: int) -> Scores:
    """One fit with a free covariance."""
    start = time.process_time()
    formulas = [f"{name} ~ t + (t |p| id)" for name in list(old)[2:]]
    fit = dgmm.mixed_model(dgmm.mv(*formulas), old, se=None, verbose=0)
    seconds = time.process_time() - start
    return {"joint": (fit.log_score(new)["joint"].to_numpy(), seconds, "")}


def deep(old: pd.DataFrame, new: pd.DataFrame, seed: int) -> Scores:
    """One fit of three effects, and the linear one within it."""
    start = time.process_time()
    formulas = [f"{name} ~ t + (dnn(t, latent={EFFECTS}) |p| id)" for name in list(old)[2:]]
    options = {"starts": 1, "se": None, "seed": seed, "verbose": 0}
    fit = dgmm.mixed_model(dgmm.mv(*formulas), old, **options)
    seconds = time.process_time() - start
    done = fit.estimate
    assert done.nested is not None
    panel = history_of(fit, view(fit, 0), 0, new)
    linear = done.nested.likelihood.on(panel).each(done.nested.theta).value.numpy()
    said = f"{done.held_out}; ridge {done.model.latent_ridge[0]:.3g}; converged {done.converged}"
    return {
        "deep": (fit.log_score(new)["joint"].to_numpy(), seconds, said),
        "factors": (linear, math.nan, ""),
    }


def truth(old: pd.DataFrame, new: pd.DataFrame, seed: int) -> Scores:
    """log p(y_i), draws of b around the best of many from the prior."""
    y = new[list(new)[2:]].to_numpy().reshape(-1, VISITS, len(list(new)) - 2)
    law, t = Truth.of(y.shape[-1], seed), np.linspace(0, 1, VISITS)
    rng = np.random.default_rng([seed, 3])
    first = rng.normal(size=(DRAWS, EFFECTS))
    means, found = law.mean(first, t), []

    def height(mean: np.ndarray, own: np.ndarray) -> np.ndarray:
        gap = ((own - mean) / NOISE) ** 2
        value = -0.5 * (gap + math.log(2 * math.pi * NOISE**2)).sum((1, 2))
        return np.asarray(value)

    for own in y:
        rough = height(means, own)
        weight = np.exp(0.1 * (rough - rough.max()))  # a flat version of the posterior
        centre = weight @ first / weight.sum()
        root = np.linalg.cholesky(np.cov(first.T, aweights=weight) + 0.01 * np.eye(EFFECTS))
        e = rng.standard_t(5, size=(4000, EFFECTS))
        b = centre + e @ root.T
        log_q = _log_t(e).sum(1) - np.log(np.diag(root)).sum()
        log_p = -0.5 * (b**2 + math.log(2 * math.pi)).sum(1)
        found.append(logsumexp(height(law.mean(b, t), own) + log_p - log_q) - math.log(len(b)))
    return {"truth": (np.array(found), math.nan, "")}


def _log_t(e: np.ndarray, freedom: float = 5.0) -> np.ndarray:
    constant = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    constant -= 0.5 * math.log(freedom * math.pi)
    found: np.ndarray = constant - (freedom + 1) / 2 * np.log1p(e**2 / freedom)
    return found


class Ahead(nn.Module):
    """Means and variances of the outcomes of a visit given all before."""

    def __init__(self, outcomes: int) -> None:
        super().__init__()
        self.cell = nn.GRU(outcomes + 1, HIDDEN, batch_first=True)
        self.head = nn.Sequential(nn.Linear(HIDDEN + 1, 64), nn.Tanh(), nn.Linear(64, 2 * outcomes))

    def log_density(self, y: Tensor, t: Tensor) -> Tensor:
        """Of every subject, (n,): y (n, J, K), t (n, J, 1)."""
        past = states_before(self.cell, torch.cat([y, t], -1))
        mean, raw = self.head(torch.cat([past, t], -1)).chunk(2, -1)
        variance = nn.functional.softplus(raw) + 1e-3
        each = (y - mean) ** 2 / variance + variance.log() + math.log(2 * math.pi)
        return -0.5 * each.sum((1, 2))


def gru(old: pd.DataFrame, new: pd.DataFrame, seed: int) -> Scores:
    """Outcomes standardised; the epoch that a tenth of the subjects likes best."""
    start = time.process_time()
    torch.manual_seed(seed)
    columns = list(old)[2:]
    centre, scale = old[columns].mean(), old[columns].std()

    def read(data: pd.DataFrame) -> tuple[Tensor, Tensor]:
        y = ((data[columns] - centre) / scale).to_numpy().reshape(-1, VISITS, len(columns))
        return torch.tensor(y).float(), torch.tensor(data["t"].to_numpy()).float().reshape(
            -1, VISITS, 1
        )

    y, t = read(old)
    net = Ahead(len(columns))

    def objective(i: Tensor) -> Tensor:
        return net.log_density(y[i], t[i]).mean()

    train(net, len(y), objective, lambda i: float(objective(i)), np.random.default_rng([seed, 4]))
    seconds = time.process_time() - start
    with torch.no_grad():
        score = net.log_density(*read(new)).numpy().astype(float)
    return {"gru": (score - VISITS * float(np.log(scale).sum()), seconds, "")}


METHODS: dict[str, Callable[[pd.DataFrame, pd.DataFrame, int], Scores]] = {
    "lmm": lmm,
    "joint": joint,
    "gru": gru,
    "truth": truth,
    "deep": deep,
}


def main() -> None:
    """Measure, print and keep."""
    reader = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    reader.add_argument("methods", nargs="*", default=list(METHODS))
    reader.add_argument("--outcomes", type=int, nargs="*", default=[20])
    reader.add_argument("--subjects", type=int, default=200)
    reader.add_argument("--seed", type=int, default=1)
    asked = reader.parse_args()
    torch.set_num_threads(1)
    for outcomes in asked.outcomes:
        old, new = simulated(outcomes, asked.subjects, asked.seed)
        values = outcomes * VISITS
        for word in asked.methods:
            for method, (score, seconds, said) in METHODS[word](old, new, asked.seed).items():
                row = {
                    "outcomes": outcomes, "subjects": asked.subjects, "seed": asked.seed,
                    "method": method, "log_score": score.mean() / values,
                    "se": score.std(ddof=1) / math.sqrt(len(score)) / values, "seconds": seconds,
                }  # fmt: skip
                keep(TABLE, row, ["outcomes", "subjects", "seed", "method"])
                print(
                    f"K={outcomes} {method:8} {row['log_score']:8.4f} (s.e. {row['se']:.4f}) "
                    f"{seconds:7.1f} s  {said}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
