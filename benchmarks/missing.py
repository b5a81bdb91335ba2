"""Time coefficients under 30% dropout, against exact ML of the same data: `python missing.py 20`.

Linear mixed model, 300 subjects, 8 visits, dropout at random: the hazard after each visit from the
third on is logistic in the last outcome (slope 1.2 per SD), its intercept solved for 30%.

    sites       encoder on the residuals of observed rows, then polished
    saem        averaged iterates of missing="saem", NOT polished; and its last iterate
    zero-filled slides: a dense encoder sees raw y, zeros where missing; last iterate
    imputed     slides: the same with one fresh imputation in every epoch, made from the encoder's
                own b; last iterate

The slides' forms start at exact ML, which is more than fair, and fit observed outcomes only.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from stored import RESULTS, keep
from torch import Tensor

import dgmm
from dgmm.encoders import Posterior
from dgmm.encoders.base import adjust
from dgmm.model.simulation import simulate_panel
from dgmm.networks import Dense
from dgmm.networks import Weights as Phi

FORMULA = "y ~ sex * t + (t | id)"
TIME = ["t", "sex:t"]


def simulate(seed: int, n: int = 300, visits: int = 8) -> pd.DataFrame:
    """One data set; rows of missed visits are kept with y missing."""
    rng = np.random.default_rng([seed, 23])
    t, sex = np.linspace(0, 1, visits), rng.integers(0, 2, n)[:, None]
    b = rng.multivariate_normal([0, 0], [[1.0, 0.3], [0.3, 1.0]], n)
    y = 1 + sex + (2 - 0.8 * sex) * t + b[:, :1] + b[:, 1:] * t + rng.normal(0, 0.7, (n, visits))
    z, u = (y - y.mean()) / y.std(), rng.uniform(size=(n, visits))

    def gone(intercept: float) -> np.ndarray:
        hazard = 1 / (1 + np.exp(-intercept - 1.2 * z[:, 2:-1]))
        leaves = np.zeros((n, visits), dtype=bool)
        leaves[:, 3:] = u[:, 3:] < hazard
        return np.logical_or.accumulate(leaves, axis=1)

    low, high = -10.0, 5.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if gone(middle)[:, -1].mean() < 0.3 else (low, middle)
    frame = pd.DataFrame({"id": np.repeat(np.arange(n), visits), "t": np.tile(t, n)})
    frame["sex"], frame["y"] = np.repeat(sex, visits), y.ravel()
    frame.loc[gone(high).ravel(), "y"] = np.nan
    return frame


class RawDense:
    """The slides' encoder: N(m, R R') from a dense network of y_1, ..., y_J as they are."""

    def __init__(self, k: int, visits: int, hidden: int = 64) -> None:
        self.k = k
        self.network = Dense((visits, hidden, hidden, k + k * (k + 1) // 2))

    def initial(self, generator: torch.Generator) -> Phi:
        """Random weights."""
        return self.network.initial(generator, last=0.1)

    def __call__(self, phi: Phi, y: Tensor) -> Posterior:
        """q(b | y) for y (n, J)."""
        eye = torch.eye(self.k, dtype=y.dtype).expand(len(y), self.k, self.k)
        prior = Posterior(torch.zeros(len(y), self.k).double(), eye, torch.zeros(len(y)).double())
        return adjust(prior, self.network(phi, y))


def slides(exact: dgmm.Fit, impute: bool, seed: int, epochs: int = 300) -> np.ndarray:
    """Linear coefficients after the last epoch of Adam on the ELBO, (p,)."""
    model, panel = exact.estimate.model, exact.estimate.panel
    observed, g = panel.observed, torch.Generator().manual_seed(seed)
    y0 = torch.where(observed, panel.rows.data.y, torch.zeros(()).double())
    filled, n = panel.with_outcome(y0), panel.n
    everybody, J = torch.arange(n), int(panel.count[0])
    encoder = RawDense(model.k, J)
    phi = {name: w.requires_grad_() for name, w in encoder.initial(g).items()}
    theta = {name: w.detach().clone().requires_grad_() for name, w in exact.estimate.theta.items()}
    optimiser = torch.optim.Adam([*phi.values(), *theta.values()], lr=4e-3)
    batches, y = max(1, n // 50), y0.reshape(n, J)
    for step in range(epochs * batches):
        if impute and step % batches == 0:
            with torch.no_grad():
                q = encoder(phi, y)
                b = q.draw(torch.randn(1, n, model.k, generator=g, dtype=torch.float64))[0]
                drawn = simulate_panel(model, theta, filled, g, b)
            y = torch.where(observed, y0, drawn).reshape(n, J)
        for group in optimiser.param_groups:
            group["lr"] = 4e-3 * 0.5 * (1 + math.cos(math.pi * step / (epochs * batches)))
        at = everybody[torch.randperm(n, generator=g)[:50]]
        block = filled.block(at)
        seen = replace(block, mask=observed[block.index])
        e = torch.randn(2, len(at), model.k, generator=g, dtype=torch.float64)
        q = encoder(phi, y[at])
        fit = model.log_likelihood(model.prepare(theta), q.draw(torch.cat([e, -e])), seen).mean(0)
        optimiser.zero_grad()
        (q.kl() - fit).mean().backward()
        optimiser.step()
    return model.beta(theta).detach().numpy()


def measure(seed: int, epochs: int = 300) -> pd.DataFrame:
    """Mean |distance from exact ML| of the time coefficients in standard errors, and seconds."""
    data = simulate(seed)
    exact = dgmm.mixed_model(FORMULA, data, verbose=0)
    se, names = exact.std_errors(), list(exact.fixef().index)
    rows = {}

    def note(method: str, beta: np.ndarray, start: float) -> None:
        z = ((pd.Series(beta, index=names) - exact.fixef()) / se)[TIME].abs()
        rows[method] = {"mean": z.mean(), "worst": z.max(), "seconds": time.perf_counter() - start}

    options = {"verbose": 0, "se": None, "seed": seed}
    control = {"epochs": epochs}
    start = time.perf_counter()
    fit = dgmm.mixed_model(FORMULA, data, method="vae", control=control, **options)
    note("sites", fit.fixef().to_numpy(), start)
    start = time.perf_counter()
    control = {"epochs": epochs, "polish": False}
    choice = {"encoder": "dense", "missing": "saem", "control": control}
    fit = dgmm.mixed_model(FORMULA, data, **choice, **options)
    note("saem, averaged", fit.fixef().to_numpy(), start)
    note("saem, last iterate", fit.estimate.saem.trace[-1].numpy(), start)
    for method, impute in (("slides, zero-filled", False), ("slides, imputed", True)):
        start = time.perf_counter()
        note(method, slides(exact, impute, seed, epochs), start)
    table = pd.DataFrame(rows).T
    table["acceptance"] = np.nan
    table.loc["saem, averaged", "acceptance"] = fit.estimate.saem.acceptance[0]
    return table


def main(replicates: int) -> None:
    """Print the mean over data sets and keep it in `benchmarks/results/missing.csv`."""
    tables = []
    for seed in range(replicates):
        tables.append(measure(seed))
        if (seed + 1) % 5 == 0 or seed + 1 == replicates:
            every = pd.concat(tables)
            table = every.groupby(level=0, sort=False).mean().drop(columns="worst")
            table["worst"] = every.groupby(level=0, sort=False)["worst"].max()
            print(f"{seed + 1} data sets\n{table.round(4).to_string()}", flush=True)
    for method, row in table.iterrows():
        kept = {"method": method, "data_sets": replicates, **row}
        keep(RESULTS / "missing.csv", kept, ["method"])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
