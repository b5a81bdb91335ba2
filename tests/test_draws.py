"""Missing outcomes given those seen: the exact conditional normal, and an exact posterior."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy import stats
from toys import (
    build,
    frame,
    generator,
    on_grid,
    random_theta,
    subject_rows,
    waves_seen_in_part,
    whole,
)

from dgmm.parameters import part
from dgmm.posterior.draws import complete, draw_effects
from dgmm.posterior.several import find_all_modes

COPIES, SWEEPS = 100, 5
DRAWS = COPIES * SWEEPS


def test_gaussian_outcomes_have_the_exact_conditional_normal_distribution() -> None:
    """y_missing | y_observed ~ N(mu_m + V_mo V_oo^-1 (y_o - mu_o), V_mm - V_mo V_oo^-1 V_om)."""
    data = frame(3, 6, seed=2)
    data.loc[[3, 4, 5, 8], "y"] = np.nan
    data.loc[12:, "y"] = np.nan  # a subject without any outcome
    every = pd.concat([data.assign(id=data["id"] + 3 * copy) for copy in range(COPIES)])
    model, panel = build("y ~ x + t + (t | id)", every, unit=1.5)
    theta = random_theta(model, 1)
    g, start = generator(4), None
    draws = []
    for _ in range(SWEEPS):
        y, start = complete(model, theta, panel, g, start)
        draws.append(y.reshape(COPIES, len(data)))
    y = torch.cat(draws).numpy()
    sigma2 = float(torch.exp(2 * theta["extra"][0]))
    Lambda = model.latents[0].loadings(part(theta, "latent1."))
    for i in range(3):
        at = subject_rows(panel, i)
        Z = (panel.rows.T[0][at] @ Lambda).numpy()
        mu = (panel.rows.X[at] @ model.beta(theta)).numpy()
        V = Z @ Z.T + sigma2 * np.eye(len(mu))
        seen = panel.observed[at].numpy()
        values, gap = panel.rows.data.y[at].numpy(), ~seen
        gain = V[np.ix_(gap, seen)] @ np.linalg.inv(V[np.ix_(seen, seen)])
        mean = mu[gap] + gain @ (values[seen] - mu[seen])
        covariance = V[np.ix_(gap, gap)] - gain @ V[np.ix_(seen, gap)]
        ours = y[:, at]
        assert np.array_equal(ours[:, seen], np.tile(values[seen], (DRAWS, 1)))
        z = np.linalg.solve(np.linalg.cholesky(covariance), (ours[:, gap] - mean).T)
        for row in z:
            assert stats.kstest(row, "norm").pvalue > 0.01
        off = np.cov(z) - np.eye(len(z))  # each entry has a standard error of at most sqrt(2 / m)
        assert np.abs(off).max() < 4 * np.sqrt(2 / DRAWS)


def test_random_effects_of_a_skew_posterior() -> None:
    """Three successes in three trials: moments of b | y against a fine grid."""
    data = frame(400, 3, seed=5).assign(z=1.0)
    data["x"], data["t"] = 0.0, np.tile([0.0, 0.5, 1.0], 400)
    model, panel = build("z ~ t + (1 | id)", data, "bernoulli")
    theta = random_theta(model, 2)
    theta["latent1.log_diagonal"] = torch.tensor([1.2], dtype=torch.float64)
    g = generator(6)
    b = torch.cat([draw_effects(model, theta, panel, g)[0][:, 0] for _ in range(10)]).numpy()
    grid = torch.linspace(-7, 7, 4001, dtype=torch.float64)
    block = panel.block(torch.zeros(1, dtype=torch.long))
    log_joint = model.log_joint(model.prepare(theta), grid[:, None, None], block)[:, 0]
    weight = torch.softmax(log_joint, 0)
    moments = [float(weight @ grid**p) for p in (1, 2, 3)]
    spread = [
        float(weight @ grid ** (2 * p)) - m**2 for p, m in zip((1, 2, 3), moments, strict=True)
    ]
    for p, mean, variance in zip((1, 2, 3), moments, spread, strict=True):
        assert abs((b**p).mean() - mean) < 4 * np.sqrt(variance / len(b))


def test_draws_of_a_posterior_with_two_modes() -> None:
    """Shares of the draws near each, and their mean, against a grid."""
    model, theta, panel = waves_seen_in_part()
    copies = panel.select(np.full(1000, 2))
    b, _ = draw_effects(model, theta, copies, generator(3))
    one, two = find_all_modes(model, theta, whole(panel)).anchor.mode[:, 2]
    grid = on_grid(model, theta, panel.select(np.array([2])))
    places = torch.cartesian_prod(grid.axis, grid.axis)
    weight = torch.softmax(grid.height.flatten(), 0)

    def nearer(b: torch.Tensor) -> torch.Tensor:
        return (b - one).norm(dim=1) < (b - two).norm(dim=1)

    share = float(weight[nearer(places)].sum())
    ours = float(nearer(b).double().mean())
    assert abs(ours - share) < 4 * np.sqrt(share * (1 - share) / 1000)
    error = b.std(0) / np.sqrt(1000)
    assert bool(((b.mean(0) - grid.mean[0]).abs() < 4 * error).all())
