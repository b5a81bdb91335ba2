"""How far the ELBO's optimum is from maximum likelihood, and what the polish makes of it.

Bernoulli outcomes with a random intercept of SD 2, 6 visits: the SD by quadrature (the reference),
by the ELBO alone, and by the variational route polished on the marginal likelihood. Run with
`python benchmarks/elbo_bias.py [seeds] [subjects]`; the rows are kept in
`benchmarks/results/elbo_bias.csv`.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import torch
from stored import RESULTS, keep

import dgmm
from dgmm.estimate.amortised import tied_encoder
from dgmm.variational.training import Schedule, train

FORMULA = "y ~ x + t + (1 | id)"


def frame(seed: int, n: int = 500, sd: float = 2.0, visits: int = 6) -> pd.DataFrame:
    """logit P(y = 1) = -0.5 + x - 0.5 t + sd b."""
    rng = np.random.default_rng([seed, 41])
    id, t = np.repeat(np.arange(n), visits), np.tile(np.linspace(0, 1, visits), n)
    x, b = np.repeat(rng.normal(size=n), visits), np.repeat(rng.normal(size=n), visits)
    eta = -0.5 + x - 0.5 * t + sd * b
    y = (rng.uniform(size=n * visits) < 1 / (1 + np.exp(-eta))).astype(float)
    return pd.DataFrame({"id": id, "t": t, "x": x, "y": y})


def deviation(fit: dgmm.Fit) -> float:
    """SD of the random intercept."""
    return float(fit.var_corr()["sdcor"].iloc[0])


def by_elbo(reference: dgmm.Fit, seed: int, epochs: int) -> float:
    """SD at the optimum of the ELBO alone, started at maximum likelihood."""
    done = reference.estimate
    generator = torch.Generator().manual_seed(seed)
    encoder, phi = tied_encoder(done.model, done.theta, done.panel, "sites", generator)
    schedule = Schedule(epochs=epochs, batch=max(8, done.panel.n // 8), pairs=8)
    panel = done.observed
    theta, _, _ = train(done.model, encoder, done.theta, phi, panel, schedule, generator)
    latent = done.model.latents[0]
    return float(latent.loadings({"log_diagonal": theta["latent1.log_diagonal"]})[0, 0])


def compare(seed: int, n: int, epochs: int = 200) -> dict[str, float]:
    """SDs of one data set; half of the epochs before the polish."""
    data, options = frame(seed, n), {"family": "bernoulli", "se": None, "verbose": 0}
    quadrature = dgmm.mixed_model(FORMULA, data, **options)
    control = {"epochs": epochs // 2}
    polished = dgmm.mixed_model(FORMULA, data, method="vae", control=control, **options)
    return {
        "seed": seed,
        "quadrature": deviation(quadrature),
        "ELBO alone": by_elbo(quadrature, seed, epochs),
        "vae, polished": deviation(polished),
        "log-likelihood lost by vae": float(quadrature.loglik()) - float(polished.loglik()),
    }


def main(seeds: int = 5, n: int = 500) -> None:
    """Print one row per data set and the largest distances."""
    rows = [compare(seed, n) for seed in range(1, seeds + 1)]
    for row in rows:
        keep(RESULTS / "elbo_bias.csv", {"subjects": n, **row}, ["subjects", "seed"])
    table = pd.DataFrame(rows).set_index("seed")
    print(table.round(4).to_string())
    for name in ("ELBO alone", "vae, polished"):
        gap = table[name] - table["quadrature"]
        print(f"{name}: mean distance {gap.mean():+.4f}, largest {gap.abs().max():.4f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
