"""The oracle: closed form for the linear process, plain importance sampling for the others."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special, stats

from dgmm import simulate_study
from dgmm.studies import find_process, oracle_predictions, score
from dgmm.studies.lmm import LinearMixed, covariance_root, spline


class Sampled(LinearMixed):
    """The linear process, not said to be linear."""

    name, linear = "sampled", False


def history(rows: pd.DataFrame) -> np.ndarray:
    """What the oracle has seen of one subject."""
    return (rows["observed"] | (rows["set"] == "new")).to_numpy()


def test_the_linear_process_in_closed_form() -> None:
    data = simulate_study("lmm", 2, 3, n=(30, 6, 6))
    found = oracle_predictions("lmm", data)
    Lambda = covariance_root().numpy()
    for one, rows in data.groupby("id"):
        Z = np.column_stack([np.ones(20), spline(torch.tensor(rows["t"].to_numpy())).numpy()])
        columns = [torch.tensor(rows[name].to_numpy())[None] for name in ("t", "age", "sex", "x")]
        fixed = LinearMixed().profile(torch.zeros(1, 5).double(), *columns)[0].numpy()
        seen = history(rows)
        G = Z @ Lambda @ Lambda.T @ Z.T
        V = G[np.ix_(seen, seen)] + 0.49 * np.eye(seen.sum())
        gap = rows["y"].to_numpy()[seen] - fixed[seen]
        mean = fixed + G[:, seen] @ np.linalg.solve(V, gap)
        left = np.diag(G - G[:, seen] @ np.linalg.solve(V, G[seen])) + 0.49
        at, said = rows.index, found.predictions
        np.testing.assert_allclose(said.mean[at], mean, atol=1e-8)
        half = stats.norm.ppf(0.975) * np.sqrt(left)
        np.testing.assert_allclose(said.upper[at] - said.mean[at], half, atol=1e-8)
        np.testing.assert_allclose(said.mean[at] - said.lower[at], half, atol=1e-8)
        value = stats.multivariate_normal.logpdf(gap, np.zeros(seen.sum()), V)
        assert found.log_likelihood[one] == pytest.approx(value, abs=1e-8)
    assert (found.mc_error == 0).all()
    new = data.loc[data["set"] == "new", "id"].unique()
    pd.testing.assert_series_equal(found.predictions.log_score, found.log_likelihood[new])


def test_draws_agree_with_the_closed_form() -> None:
    data = simulate_study("lmm", 2, 3, n=(24, 8, 8))
    exact, drawn = oracle_predictions("lmm", data), oracle_predictions(Sampled(), data, draws=1024)
    gap = (drawn.log_likelihood - exact.log_likelihood) / drawn.mc_error
    assert gap.abs().max() < 4
    assert drawn.effective.min() > 200
    half = (exact.predictions.upper - exact.predictions.mean) / stats.norm.ppf(0.975)
    spread = np.sqrt(half**2 - 0.49)  # of eta given what was seen
    error = spread / np.sqrt(drawn.effective[data["id"]].to_numpy())
    assert (np.abs(drawn.predictions.mean - exact.predictions.mean) < 4 * error).all()
    given = ~np.isnan(drawn.predictions.lower)
    assert (given == (~data["observed"] | (data["set"] == "new"))).all()
    for name in ("lower", "upper"):
        one, other = (getattr(found.predictions, name)[given] for found in (drawn, exact))
        assert np.sqrt(np.mean((one - other) ** 2)) < 0.1


@pytest.mark.parametrize("process", ["sigmoid", "sinusoid"])
def test_large_plain_importance_sampling(process: str) -> None:
    data = simulate_study(process, 2, 1, n=(4, 3, 1))
    found, true = oracle_predictions(process, data, draws=1024), find_process(process)
    u = torch.from_numpy(np.random.default_rng(5).normal(size=(60_000, true.dim)))
    for one, rows in data.groupby("id"):
        columns = [torch.tensor(rows[name].to_numpy())[None] for name in ("t", "age", "sex", "x")]
        mu = true.profile(u[:, None], *columns)[:, 0].numpy()
        seen, y = history(rows), rows["y"].to_numpy()
        log_weight = stats.norm.logpdf(y[seen], mu[:, seen], true.sigma).sum(1)
        value = special.logsumexp(log_weight) - np.log(len(u))
        weight = np.exp(log_weight - special.logsumexp(log_weight))
        effective = 1 / (weight**2).sum()
        if effective < 50:  # plain draws know too little here
            continue
        error = np.hypot(effective**-0.5, found.mc_error[one])
        assert abs(found.log_likelihood[one] - value) < 4 * error
        mean = weight @ mu
        spread = np.sqrt(weight @ (mu - mean) ** 2)
        limit = 4 * spread * np.hypot(effective**-0.5, found.effective[one] ** -0.5)
        assert (np.abs(found.predictions.mean[rows.index] - mean) < limit + 1e-6).all()
        upper = found.predictions.upper[rows.index]
        if not np.isnan(upper).all():
            hidden = ~np.isnan(upper)
            z = (upper[hidden] - mu[:, hidden]) / true.sigma
            covered = weight @ special.ndtr(z)
            slack = 0.02 + 4 * 0.16 * np.hypot(effective**-0.5, found.effective[one] ** -0.5)
            assert (np.abs(covered - 0.975) < slack).all()


def test_the_oracle_is_calibrated() -> None:
    data = simulate_study("sigmoid", 1, 7, n=(1, 150, 2))
    found = score(oracle_predictions("sigmoid", data, draws=512).predictions, data, "sigmoid")
    assert abs(found["coverage_future"] - 0.95) < 0.03


def test_the_number_of_draws() -> None:
    data = simulate_study("sigmoid", n=(2, 1, 1))
    with pytest.raises(ValueError, match="multiple of 16"):
        oracle_predictions("sigmoid", data, draws=100)


def test_the_same_seed_gives_the_same_numbers() -> None:
    data = simulate_study("sinusoid", n=(2, 1, 2))
    one, other = (oracle_predictions("sinusoid", data, draws=256, seed=3) for _ in range(2))
    pd.testing.assert_series_equal(one.log_likelihood, other.log_likelihood, check_exact=True)
