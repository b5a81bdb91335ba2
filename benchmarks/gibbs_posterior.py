"""The posterior of a standard deviation by quadrature, beside the maximum and beside draws.

Counts of `epil`, a random intercept of 59 patients and six coefficients. For a grid of log sd the
likelihood is quadrature in b, the coefficients are integrated out by Laplace's method around their
maximum with the default prior, and the rest is a sum over the grid:

    p(log sd | y) ~ p(sd) sd int L(beta, sd) p(beta) d beta

Run with `python benchmarks/gibbs_posterior.py`; the rows are kept in
`benchmarks/results/gibbs_posterior.csv`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy import optimize
from scipy.interpolate import CubicSpline
from stored import RESULTS

import dgmm
from dgmm.bayes import Prior, sampler_of

FORMULA = "y ~ lbase * trt + lage + V4 + (1 | subject)"
SCALAR = "sd_(Intercept)|subject"
STEP = 1e-2
"""Of second differences, in standard errors of the coefficients."""


def moments(grid: np.ndarray, height: np.ndarray) -> tuple[float, float, float]:
    """Mode, mean and standard deviation of a log density known on a grid."""
    x = np.linspace(grid[0], grid[-1], 4001)
    log = CubicSpline(grid, height)(x)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    mean = float(weight @ x)
    return float(x[log.argmax()]), mean, float(np.sqrt(weight @ np.square(x - mean)))


def curvature(function, size: int) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Second differences at zero, (size, size)."""
    e, H = STEP * np.eye(size), np.zeros((size, size))
    for i in range(size):
        for j in range(i, size):
            corners = function(e[i] + e[j]) - function(e[i] - e[j])
            corners = corners - function(e[j] - e[i]) + function(-e[i] - e[j])
            H[i, j] = H[j, i] = corners / 4 / STEP**2
    return H


def main() -> None:
    epil = dgmm.datasets.load("epil")
    fit = dgmm.mixed_model(FORMULA, epil, family="poisson", verbose=0)
    done, beta = fit.estimate, fit.fixef().to_numpy()
    root = np.linalg.cholesky(fit.vcov().to_numpy())
    prior = sampler_of(done.model, done.panel, Prior()).prior
    scale = prior.blocks[0][0][1].scale[0]
    top = float(np.log(fit.var_corr()["sdcor"].iloc[0]))

    def negative(z: np.ndarray, log_sd: float) -> float:
        at = beta + root @ z
        own = torch.linalg.solve(done.model.basis, torch.from_numpy(at))
        theta = {**done.theta, "beta": own, "latent1.log_diagonal": torch.tensor([log_sd])}
        gap = at - prior.mean
        return float(-done.likelihood.value(theta) + 0.5 * gap @ prior.precision @ gap)

    grid, profile, integrated = np.linspace(top - 0.45, top + 0.75, 25), [], []
    z = np.zeros(len(beta))
    for log_sd in grid:
        found = optimize.minimize(negative, z, (log_sd,), method="BFGS", options={"gtol": 1e-5})
        z = found.x
        H = curvature(lambda e, z=z, u=log_sd: negative(z + e, u), len(z))
        profile.append(-found.fun)
        integrated.append(-found.fun - 0.5 * np.linalg.slogdet(H)[1])
    flat = np.array(integrated) + grid  # d sd / d log sd
    half_t = flat - 1.5 * np.log1p(np.exp(2 * grid) / scale**2 / 2)
    rows = {
        "likelihood, coefficients at their maximum": moments(grid, np.array(profile)),
        "coefficients integrated out": moments(grid, np.array(integrated)),
        "and a flat prior of the standard deviation": moments(grid, flat),
        "posterior under the default prior": moments(grid, half_t),
    }
    sampled = dgmm.mixed_model(
        FORMULA, epil, family="poisson", method="gibbs", draws=5000, verbose=0
    )
    draws = np.log(sampled.posterior_draws()[SCALAR])
    rows["draws"] = (np.nan, draws.mean(), draws.std())
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["mode", "mean", "sd"])
    table.insert(0, "what", table.index)
    table["error"] = 0.0
    size = sampled.posterior_table()["ESS bulk"][SCALAR]
    table.loc["draws", "error"] = draws.std() / np.sqrt(size)
    table.to_csv(RESULTS / "gibbs_posterior.csv", index=False, float_format="%.5g")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
