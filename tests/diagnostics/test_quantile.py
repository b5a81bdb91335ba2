"""Quantile residuals against closed forms, and their distribution at the true theta."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats
from toys import frame, generator

from dgmm import Fit, mixed_model
from dgmm.diagnostics.quantile import randomised, ranked, unconditional_shares
from dgmm.families.beta_binomial import BetaBinomial
from dgmm.model.simulation import simulate_outcomes


def test_ranks_of_a_tie() -> None:
    """y = 2 among 1, 2, 2, 5: one below, two alike and itself, of five."""
    simulated = torch.tensor([[1.0], [2.0], [2.0], [5.0]])
    below, up_to = ranked(simulated, torch.tensor([2.0]))
    assert (float(below), float(up_to)) == (0.2, 0.8)


def test_a_randomised_residual_stays_between_its_ends() -> None:
    below, up_to = torch.tensor([0.2, 0.7]).double(), torch.tensor([0.3, 0.7]).double()
    u = torch.stack([randomised((below, up_to), generator(s)) for s in range(500)])
    assert bool(((u >= below) & (u <= up_to)).all())
    assert float(u[:, 0].mean()) == pytest.approx(0.25, abs=4 * 0.1 / 12**0.5 / 500**0.5)


def test_gaussian_residuals_over_the_population_are_normal(sleepstudy: Fit) -> None:
    """u = Phi{(y - x'beta) / (z'Dz + sigma^2)^1/2}, which has no seed."""
    u = sleepstudy.residuals("quantile", conditional=False)
    data = sleepstudy.memory.frame
    D = sleepstudy.var_corr()["vcov"].to_numpy()
    t = data["Days"].to_numpy(float)
    V = D[0] + 2 * t * D[2] + t**2 * D[1] + D[3]
    centre = sleepstudy.fixef().to_numpy() @ np.stack([np.ones_like(t), t])
    exact = stats.norm.cdf((data["Reaction"] - centre) / np.sqrt(V))
    assert np.allclose(u, exact, atol=1e-10)
    assert u.name == "quantile residuals over the population"


def test_counts_over_the_population_by_quadrature(epil: Fit) -> None:
    """P(Y <= y) = integral P(Y <= y | b) phi(b) db, by scipy."""
    done = epil.estimate
    rows = done.panel.rows
    below, up_to = unconditional_shares(done, done.theta, rows.data.y, generator())
    sd = float(epil.var_corr()["sdcor"].iloc[0])
    eta = done.model.mu1(done.theta, rows).detach().numpy()
    for j in (0, 17, 101):
        y = float(rows.data.y[j])

        def integrand(b: float, y: float = y, j: int = j) -> float:
            return float(stats.poisson.cdf(y, np.exp(eta[j] + sd * b)) * stats.norm.pdf(b))

        assert float(up_to[j]) == pytest.approx(
            integrate.quad(integrand, -9, 9, epsabs=1e-11)[0], abs=1e-8
        )
    assert bool((below < up_to).all())


def at_truth(formula: str, family: str, column: str, seed: int) -> Fit:
    """A fit whose theta is the truth of its outcomes: they are drawn from it."""
    data = frame(250, 4, seed=seed, missing=0.1)
    fit = mixed_model(formula.replace("y", column, 1), data, family=family, se=None, verbose=0)
    done = fit.estimate
    y = simulate_outcomes(done.model, done.theta, done.panel, generator(seed))
    y = torch.where(done.panel.observed, y, torch.nan)
    likelihood = done.likelihood.on(done.panel.with_outcome(y))
    return replace(fit, estimate=replace(done, likelihood=likelihood))


@pytest.mark.parametrize(
    ("family", "column"), [("gaussian", "y"), ("bernoulli", "z"), ("poisson", "count")]
)
def test_residuals_are_uniform_at_the_true_theta(family: str, column: str) -> None:
    """One residual of a subject, given its effects, over the population, and completed."""
    fit = at_truth("y ~ x + t + (1 | id)", family, column, 3)
    first = slice(None, None, 4)
    given = fit.residuals("quantile", seed=1)
    over = fit.residuals("quantile", conditional=False, seed=2)
    seen = fit.residuals("quantile", conditional=False, complete=False, seed=2)
    for u in (given.iloc[first].dropna(), given.dropna(), over.iloc[first], over.iloc[3::4]):
        assert stats.kstest(u, "uniform").pvalue > 0.001
    assert given.isna().sum() == seen.isna().sum() == int((~fit.estimate.panel.observed).sum()) > 0
    assert not over.isna().any()
    pairs = given.to_numpy().reshape(-1, 4)[:, :2]
    z = stats.norm.ppf(pairs[~np.isnan(pairs).any(1)])
    assert abs((z[:, 0] * z[:, 1]).mean()) < 4 / len(z) ** 0.5  # independent within a subject


def test_a_family_without_a_distribution_function_is_simulated() -> None:
    """Ranks among draws are near the sum of the density, within their own error."""
    data = frame(40, 4, seed=5)
    fit = mixed_model(
        "hits / size ~ x + (1 | id)", data, family="beta_binomial", se=None, verbose=0
    )
    assert isinstance(fit.estimate.model.family, BetaBinomial)
    u = fit.residuals("quantile", seed=4)
    assert u.between(0, 1).all()
    assert stats.kstest(u, "uniform").pvalue > 0.001


def test_ids_out_of_order_and_labels_of_rows() -> None:
    """Residuals go back to the user's rows; over the population they have no seed for a density."""
    data = frame(20, 4, seed=6)
    mixed = data.sample(frac=1.0, random_state=0)
    one, other = (
        mixed_model("y ~ x + t + (1 | id)", d, se=None, verbose=0).residuals(
            "quantile", conditional=False
        )
        for d in (data, mixed)
    )
    pd.testing.assert_index_equal(other.index, mixed.index)
    assert np.allclose(other.sort_index(), one, atol=1e-6)
