"""simulate_study(): the design, stored values, dropout."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from dgmm import simulate_study
from dgmm.runtime.registry import members
from dgmm.studies import Process, find_process, training_frame
from dgmm.studies.lmm import SPREAD, covariance_root, spline
from dgmm.transforms import ns

PROCESSES = sorted(members("dgmm.studies", Process))

# first training subject, first and last visit; last new subject, last visit; seed 1
STORED = {
    "lmm": [
        [0.2791952138, 1.340753279, 1.72291848],
        [9.713782494, 7.672547283, 7.47289579],
        [9.60858462, 6.835180098, 7.235289403],
    ],
    "sigmoid": [
        [0.397168667, 2.517903046, 1.94307826],
        [9.857707262, 6.140033208, 6.3809995],
        [9.84905659, 2.704469273, 2.803104229],
    ],
    "sinusoid": [
        [0.2321579171, -2.763808362, -2.804054909],
        [9.669404032, -2.377031746, -2.67028165],
        [9.720514539, -4.271263851, -3.345927365],
    ],
}


def test_three_processes() -> None:
    assert PROCESSES == ["lmm", "sigmoid", "sinusoid"]


@pytest.mark.parametrize("name", PROCESSES)
def test_seed_one_is_what_it_was(name: str) -> None:
    data = simulate_study(name)
    assert list(data) == ["id", "set", "t", "age", "sex", "x", "y", "mu", "observed"]
    assert len(data) == 1200 * 20
    np.testing.assert_allclose(data.iloc[[0, 19, -1]][["t", "y", "mu"]], STORED[name], rtol=1e-9)


@pytest.mark.parametrize("name", PROCESSES)
def test_the_design(name: str) -> None:
    data = simulate_study(name, seed=2)
    slot = data.groupby("id")["t"].transform(lambda t: np.arange(20) / 2)
    assert (data["t"] - slot).between(0.025, 0.475).all()
    subject = data.groupby("id").first()
    assert (data.groupby("id")[["age", "sex", "x"]].nunique() == 1).all(axis=None)
    assert stats.kstest(subject["age"], stats.uniform(20, 50).cdf).pvalue > 1e-3
    assert stats.kstest(subject["x"], "norm").pvalue > 1e-3
    assert set(subject["sex"]) == {0.0, 1.0}
    noise = (data["y"] - data["mu"]) / find_process(name).sigma
    assert stats.kstest(noise, "norm").pvalue > 1e-3
    hidden = data[~data["observed"]]
    assert (hidden["set"] == "landmark").all()
    assert (hidden["t"] > 5).all()


def test_study_two_is_study_one_with_dropout() -> None:
    one, two = simulate_study("sigmoid", 1, 4), simulate_study("sigmoid", 2, 4)
    pd.testing.assert_frame_equal(one.drop(columns="observed"), two.drop(columns="observed"))
    train = two[two["set"] == "train"]
    seen = train.groupby("id")["observed"].sum()
    assert (seen < 20).mean() == 0.3
    assert seen.min() >= 4
    wide = train["observed"].to_numpy().reshape(-1, 20)
    assert (wide[:, 1:] <= wide[:, :-1]).all()  # once gone, always gone


def test_dropout_follows_the_outcome_seen_last() -> None:
    data = simulate_study("lmm", 2, 5, n=(4000, 0, 0))
    z = (data["y"] - data["y"].mean()) / data["y"].std()
    last = data["observed"] & ~data.groupby("id")["observed"].shift(-1, fill_value=True)
    visit = data.groupby("id").cumcount()
    risk = data["observed"] & visit.between(3, 18)
    design = np.column_stack([np.ones(risk.sum()), z[risk]])
    import statsmodels.api as sm

    fit = sm.Logit(last[risk].astype(float).to_numpy(), design).fit(disp=0)
    assert abs(fit.params[1] - 1.2) < 4 * fit.bse[1]


def test_the_training_frame_hides_what_was_not_seen() -> None:
    data = simulate_study("sinusoid", 2, 1, n=(40, 20, 10))
    train = training_frame(data)
    assert set(train["set"]) == {"train", "landmark"}
    assert not {"mu", "observed"} & set(train)
    hidden = data.loc[train.index, "observed"].to_numpy()
    assert (train["y"].notna().to_numpy() == hidden).all()


def test_the_random_effects_of_the_linear_process() -> None:
    D = covariance_root() @ covariance_root().T
    sd = D.diagonal().sqrt()
    np.testing.assert_allclose(sd, SPREAD, rtol=1e-12)
    correlation = (D / sd[:, None] / sd).numpy()
    np.testing.assert_allclose(np.diag(correlation, 1), -0.5, rtol=1e-12)
    np.testing.assert_allclose(np.diag(correlation, 2), 0.25, rtol=1e-12)


def test_its_spline_spans_that_of_ns() -> None:
    grid = np.linspace(0, 10, 201)
    N = spline(torch.from_numpy(grid)).numpy()
    np.testing.assert_allclose(N.T @ N * 4 / 201, np.eye(4), atol=1e-10)
    assert (N[0] == 0).all()
    basis = np.column_stack([np.ones(201), ns(grid, 4)])
    fitted = basis @ np.linalg.lstsq(basis, N, rcond=None)[0]
    np.testing.assert_allclose(fitted, N, atol=1e-9)


def test_a_process_of_ones_own() -> None:
    class Flat(Process):
        name, stream, sigma, dim, linear = "flat", 9, 1.0, 1, True

        def profile(self, u, t, age, sex, x):  # type: ignore[no-untyped-def]
            return u.expand_as(t)

    data = simulate_study(Flat(), n=(5, 0, 0), visits=6)
    assert (data.groupby("id")["mu"].nunique() == 1).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"process": "sigmoidal"}, "did you mean 'sigmoid'.*lmm, sigmoid, sinusoid"),
        ({"study": 3}, "study is 1"),
        ({"seed": -1}, "seed=-1"),
        ({"n": (10, 10)}, "three numbers"),
        ({"n": (0, 10, 10)}, "train \\(at least 1\\)"),
        ({"visits": 4}, "visits=4"),
    ],
)
def test_what_cannot_be_simulated(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        simulate_study(**{"process": "lmm", **options})  # type: ignore[arg-type]
