"""Proper scores against closed forms, numerical integrals and the package scoringrules."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats
from toys import frame

from dgmm import Fit, mixed_model
from dgmm.diagnostics.scoring import crps_of_draws, crps_of_normal

Y = torch.tensor([0.3, -1.2, 4.0], dtype=torch.float64)
DRAWS = torch.tensor(
    [[0.1, -1.0, 2.0], [0.5, 0.0, 3.5], [-0.7, -2.5, 4.4], [1.9, 0.3, 0.0], [0.1, -0.2, 1.0]],
    dtype=torch.float64,
)
ENSEMBLE = [0.192, 0.512, 1.076]
NORMAL = [0.2693329006866634, 1.9179063355042183, 1.2141491323031532]
"""scoringrules 0.10.0: crps_ensemble(y, draws, estimator="nrg"), crps_normal."""


def test_draws_beside_scoringrules_and_both_sums() -> None:
    found = crps_of_draws(Y, DRAWS)
    within = (DRAWS[:, None] - DRAWS[None]).abs().mean((0, 1))
    assert torch.allclose(found, (DRAWS - Y).abs().mean(0) - 0.5 * within, atol=1e-14)
    assert np.allclose(found, ENSEMBLE, atol=1e-12)


def test_a_normal_distribution_beside_scoringrules_and_the_integral() -> None:
    mean, sd = torch.tensor([0.0, 1.0, 2.0]).double(), torch.tensor([1.0, 0.5, 3.0]).double()
    found = crps_of_normal(Y, mean, sd)
    assert np.allclose(found, NORMAL, atol=1e-12)
    for y, m, s, value in zip(Y, mean, sd, found, strict=True):
        low = integrate.quad(lambda x, m=m, s=s: stats.norm.cdf(x, m, s) ** 2, -30, y)[0]
        high = integrate.quad(lambda x, m=m, s=s: stats.norm.sf(x, m, s) ** 2, y, 40)[0]
        assert float(value) == pytest.approx(low + high, abs=1e-7)


def test_of_a_gaussian_model_given_a_history(sleepstudy: Fit) -> None:
    """The exact conditional normal distribution, by dense algebra."""
    data = sleepstudy.memory.frame
    past, rows = data[data["Days"] < 4], data[(data["Days"] >= 4) & (data["Subject"] == "308")]
    found = sleepstudy.scoring_rules(rows, history=past)
    mean, V = exact(sleepstudy, past[past["Subject"] == "308"], rows)
    sd = np.sqrt(np.diag(V))
    assert np.allclose(found["log"], stats.norm.logpdf(rows["Reaction"], mean, sd), atol=1e-9)
    assert np.allclose(found["pit"], stats.norm.cdf(rows["Reaction"], mean, sd), atol=1e-9)
    assert found.index.tolist() == rows.index.tolist()


def exact(fit: Fit, past: pd.DataFrame, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of outcomes given past ones of the subject: one normal vector."""
    v = fit.var_corr()["vcov"].to_numpy()
    D, sigma2 = np.array([[v[0], v[2]], [v[2], v[1]]]), v[3]
    both = pd.concat([past, rows])
    Z = np.column_stack([np.ones(len(both)), both["Days"]])
    V, centre, k = Z @ D @ Z.T + sigma2 * np.eye(len(both)), Z @ fit.fixef().to_numpy(), len(past)
    gain = V[k:, :k] @ np.linalg.inv(V[:k, :k])
    mean = centre[k:] + gain @ (past["Reaction"].to_numpy() - centre[:k])
    return mean, V[k:, k:] - gain @ V[:k, k:]


def test_of_yes_and_no_and_of_counts() -> None:
    """log and Brier from the predicted probability, of new subjects that of the population."""
    data = frame(60, 4, seed=8, missing=0.1)
    fit = mixed_model("z ~ x + (1 | id)", data, family="bernoulli", se=None, verbose=0)
    new = data.dropna(subset=["z"]).assign(id=lambda d: d["id"] + 1000)
    found = fit.scoring_rules(new, draws=4000, seed=3)
    p, y = fit.predict(new, type="marginal")["fit"].to_numpy(), new["z"].to_numpy()
    assert np.allclose(found["brier"], (p - y) ** 2, atol=0.02)
    assert np.allclose(found["log"], np.log(np.where(y == 1, p, 1 - p)), atol=0.05)
    assert np.allclose(found["crps"], found["brier"], atol=0.05)  # one score, of other draws


def test_of_ordered_categories() -> None:
    """Brier = sum_k (p_k - 1(y = k))^2 with the probabilities of predict(type="prob")."""
    rng = np.random.default_rng(0)
    data = frame(60, 4, seed=9)
    labels = np.array(["poor", "fair", "good"])
    codes = np.digitize(data["y"] + rng.logistic(size=len(data)), [0, 2])
    data["grade"] = pd.Categorical(labels[codes], labels, ordered=True)
    fit = mixed_model("grade ~ x + (1 | id)", data, family="cumulative", se=None, verbose=0)
    found = fit.scoring_rules(draws=4000, seed=1)
    P = fit.predict(type="prob")
    assert list(P.columns) == labels.tolist()
    assert list(fit.family_parameters().index) == ["poor|fair", "fair|good"]
    exact_brier = np.square(P.to_numpy() - np.eye(3)[codes]).sum(1)
    assert np.allclose(found["brier"], exact_brier, atol=0.03)
    assert np.allclose(P.sum(axis=1), 1, atol=1e-10)


def test_rows_without_outcomes(sleepstudy: Fit) -> None:
    data = sleepstudy.memory.frame
    gaps = data.assign(Reaction=data["Reaction"].where(data["Days"] > 2))
    assert len(sleepstudy.scoring_rules(gaps)) == int((data["Days"] > 2).sum())
    with pytest.raises(ValueError, match="draws is a number of draws, at least 1, not 0"):
        sleepstudy.scoring_rules(draws=0)
    with pytest.raises(ValueError, match="no row of newdata has one"):
        sleepstudy.scoring_rules(data.assign(Reaction=np.nan))
