"""Scores on arrays whose scores are known, and of fits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dgmm import Fit, mixed_model, simulate_study
from dgmm.studies import (
    Predictions,
    coefficient_errors,
    fit_predictions,
    row_kinds,
    score,
    training_frame,
)

CLASSICAL = "y ~ sex * age + x + ns(t, 4) + (ns(t, 4) | id)"


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return simulate_study("lmm", 2, 1, n=(100, 30, 30))


@pytest.fixture(scope="module")
def fit(data: pd.DataFrame) -> Fit:
    return mixed_model(CLASSICAL, training_frame(data), verbose=0)


def test_every_row_is_of_one_kind_or_seen_of_a_landmark_subject(data: pd.DataFrame) -> None:
    kinds = row_kinds(data)
    assert list(kinds) == ["observed", "dropped", "future", "new"]
    times = np.sum(list(kinds.values()), axis=0)
    early = (data["set"] == "landmark") & data["observed"]
    assert (times == np.where(early, 0, 1)).all()
    assert "dropped" not in row_kinds(simulate_study("lmm", 1, 1, n=(5, 5, 5)))


def test_scores_of_known_errors(data: pd.DataFrame) -> None:
    kinds, mu = row_kinds(data), data["mu"].to_numpy()
    shift = 0.1 * kinds["observed"] + 0.2 * kinds["dropped"] - 0.3 * kinds["future"]
    half = 0.7 * stats.norm.ppf(0.95)
    each = pd.Series([-20.0, -22.0, -24.0], index=[130, 131, 132])
    found = score(Predictions(mu + shift, mu - half, mu + half, each), data, "lmm")
    errors = found[[f"rmse_{kind}" for kind in kinds]]
    np.testing.assert_allclose(errors, [0.1, 0.2, 0.3, 0.0], atol=1e-12)
    for kind in ("dropped", "future", "new"):
        assert found[f"coverage_{kind}"] == pytest.approx(0.9, abs=1e-12)
        assert found[f"width_{kind}"] == pytest.approx(2 * half)
    assert found["loglik"] == -22
    assert found["loglik_se"] == pytest.approx(2 / np.sqrt(3))
    with pytest.raises(ValueError, match="predictions of 3 rows for a study of 3200 rows"):
        score(Predictions(mu[:3], mu[:3], mu[:3], each), data, "lmm")


def test_the_expected_coverage_is_that_of_fresh_outcomes(data: pd.DataFrame) -> None:
    mu, rng = data["mu"].to_numpy(), np.random.default_rng(2)
    lower, upper = mu - rng.uniform(0, 2, len(mu)), mu + rng.uniform(0, 2, len(mu))
    found = score(Predictions(mu, lower, upper, pd.Series(dtype=float)), data, "lmm")
    y = mu + rng.normal(0, 0.7, (400, len(mu)))
    rows = row_kinds(data)["new"]
    inside = ((lower < y) & (y < upper))[:, rows].mean()
    assert found["coverage_new"] == pytest.approx(inside, abs=4 * 0.5 / np.sqrt(400 * rows.sum()))
    assert "loglik" not in found


def test_predictions_of_a_fit(data: pd.DataFrame, fit: Fit) -> None:
    said, train = fit_predictions(fit, data), training_frame(data)
    np.testing.assert_allclose(said.mean[: len(train)], fit.fitted(), atol=1e-10)
    new = data[data["set"] == "new"]
    at = (data["set"] == "new").to_numpy()
    band = fit.predict(new, history=new, interval="prediction", draws=4000)
    np.testing.assert_allclose(said.mean[at], band["fit"], atol=1e-10)
    np.testing.assert_allclose(said.upper[at], band["upper"], atol=0.3)  # other draws
    assert said.log_score.equals(fit.log_score(new)["log_score"])
    asked = (~data["observed"] | (data["set"] == "new")).to_numpy()
    assert (np.isnan(said.lower) == ~asked).all()
    quick = fit_predictions(fit, data, intervals=False)
    assert np.isnan(quick.upper).all()
    found = score(said, data, "lmm")
    assert 0.3 < found["rmse_observed"] < 0.4
    assert 0.9 < found["coverage_future"] < 0.98


def test_linear_effects_on_the_scale_of_the_study(data: pd.DataFrame, fit: Fit) -> None:
    table = coefficient_errors(fit)
    scaled = training_frame(data).assign(age=lambda d: (d["age"] - 45) / 15)
    other = mixed_model(CLASSICAL, scaled, verbose=0)
    names = ["sex", "age", "sex:age", "x"]
    assert list(table.index) == names
    np.testing.assert_allclose(table["estimate"], other.fixef()[names], atol=1e-4)
    np.testing.assert_allclose(table["std_error"], other.std_errors()[names], rtol=1e-3)
    np.testing.assert_allclose(table["truth"], [0.5, -0.3, 0.4, 0.25])
    assert table["z"].abs().max() < 4
    bare = mixed_model("y ~ sex + x + (1 | id)", training_frame(data), verbose=0)
    with pytest.raises(ValueError, match="no linear term 'age'"):
        coefficient_errors(bare)
