"""The study of daily mood: people, beeps, answers, the oracle, scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from scipy import special, stats

from dgmm import mixed_model, mv
from dgmm.studies.mood import (
    asked_rows,
    fit_next_day,
    history_rows,
    joint_next_day,
    mean_course,
    mood_frame,
    mood_oracle,
    mood_scores,
    simulate_mood,
)
from dgmm.studies.mood.truth import RANGE, covariance_root, inputs_of, predictors

OUTCOMES = ["na", "lonely", "bored"]
STORED = [  # the first and the last beep of seed 1
    [8.91449122528369, 4.5288810263960695, 4.458123402151812],
    [20.714949944136787, 3.8113506799803982, 3.585132711275145],
]


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return simulate_mood((1174, 0))


@pytest.fixture(scope="module")
def small() -> pd.DataFrame:
    return simulate_mood((60, 4), seed=3)


# -- the data --------------------------------------------------------------------------------------


def test_seed_one_is_what_it_was(data: pd.DataFrame) -> None:
    names = ["id", "set", "age", "female", "day", "beep", "weekday", "weekend", "hour", "time"]
    truth = [f"mu_{name}" for name in OUTCOMES]
    assert set(data) == {*names, *OUTCOMES, *truth, "eta_na", "observed"}
    assert list(data)[: len(names)] == names
    first, last = data.iloc[0], data.iloc[-1]
    np.testing.assert_allclose(first[["hour", "na", "mu_na"]].astype(float), STORED[0], rtol=1e-9)
    np.testing.assert_allclose(last[["hour", "na", "mu_na"]].astype(float), STORED[1], rtol=1e-9)


def test_the_sizes_are_those_of_the_study(data: pd.DataFrame) -> None:
    """123,270 planned, three fifths missing, half of the people gone before the last week."""
    assert len(data) == 123_270
    assert (~data["observed"]).sum() == pytest.approx(0.61 * len(data), abs=2)
    answers = data[data["observed"]].groupby("id")
    assert data.groupby("id")["observed"].first().all()
    assert 0.4 < (answers["day"].max() < 14).mean() < 0.6
    assert 35 < answers.size().median() < 50
    assert 0.12 < (data["na"] == 1).mean() < 0.25  # the floor
    assert data["na"].between(1, 7).all()
    assert data["age"].between(16, 30).all()
    slot = 9 + 3 * data["beep"]
    assert (data["hour"] - slot).abs().max() <= 0.75
    weekday = data.groupby(["id", "day"])["weekday"].first().unstack()
    assert ((weekday.diff(axis=1).iloc[:, 1:] % 7) == 1).all(axis=None)


def test_the_outcomes_are_those_of_the_model(data: pd.DataFrame) -> None:
    eta = data["eta_na"].to_numpy()
    low, high = special.expit(-2.9 - eta), special.expit(eta - 3.5)
    mean = low + 7 * high + (1 - low - high) * (1 + 6 * special.expit(eta))
    np.testing.assert_allclose(data["mu_na"], mean, rtol=1e-10)
    for name in OUTCOMES:
        gap = data[name] - data[f"mu_{name}"]
        # outcomes are independent given the predictors
        assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(len(gap))
    inner = data[data["na"].between(1, 7, inclusive="neither")]
    mu, phi = special.expit(inner["eta_na"]), 14.0
    pit = stats.beta.cdf((inner["na"] - 1) / 6, mu * phi, (1 - mu) * phi)
    assert stats.kstest(pit, "uniform").pvalue > 1e-3
    assert (data["na"] == 1).mean() == pytest.approx(low.mean(), abs=4 / np.sqrt(len(data)) / 2)


def test_person_effects_and_the_momentary_state() -> None:
    """b has unit variances and the stated correlations; logits are linear in b and u."""
    S = covariance_root() @ covariance_root().T
    np.testing.assert_allclose(S.diagonal(), 1.0, rtol=1e-12)
    assert float(S[0, 4]) == pytest.approx(0.5)
    at = inputs_of(simulate_mood((2, 0)))
    zero, one = torch.zeros(2, 5).double(), torch.eye(5).double()[[0, 0]]
    u = torch.zeros_like(at.time)
    base, moved = predictors(zero, u, at), predictors(one, u + 1, at)
    hump = 1 - (2 * at.time / 21 - 1).abs()
    torch.testing.assert_close(moved["na"] - base["na"], 0.75 + 0.2 * hump + 0.5)
    torch.testing.assert_close(moved["lonely"] - base["lonely"], torch.full_like(u, 0.6 + 0.75))
    torch.testing.assert_close(moved["bored"] - base["bored"], torch.full_like(u, 0.25 + 0.3))


def test_answers_depend_on_what_was_answered_before(data: pd.DataFrame) -> None:
    """Logistic regression of the answers of the first day finds the stated coefficients."""
    wide = {name: data[name].to_numpy().reshape(1174, -1) for name in ("observed", "na")}
    seen = wide["observed"].astype(bool)
    last = np.where(seen, wide["na"] - 2.5, np.nan)
    last = pd.DataFrame(last).ffill(axis=1).shift(axis=1).to_numpy()
    before = np.pad(seen, ((0, 0), (1, 0)))[:, :-1].astype(float)
    # nobody leaves on the first day, so that silence there is a choice
    early = (np.arange(105) >= 1) & (np.arange(105) < 5)
    rows = np.flatnonzero(np.broadcast_to(early, seen.shape).ravel())
    frame = data.iloc[rows]
    X = np.column_stack(
        [np.ones(len(rows)), before.ravel()[rows] - 0.5, last.ravel()[rows], frame["female"],
         frame["weekend"], frame["beep"] == 4]
    )  # fmt: skip
    fit = sm.Logit(frame["observed"].astype(float).to_numpy(), X.astype(float)).fit(disp=0)
    gap = (fit.params[1:] - [1.0, -0.22, 0.25, -0.30, -0.15]) / fit.bse[1:]
    assert np.abs(gap).max() < 4


def test_answers_alone_are_too_low_and_mcar_answers_are_not(data: pd.DataFrame) -> None:
    other = simulate_mood((1174, 0), missing="mcar")
    pd.testing.assert_frame_equal(data.drop(columns="observed"), other.drop(columns="observed"))
    patterns = [
        np.sort(
            np.packbits(one["observed"].to_numpy().reshape(1174, -1), axis=1).view("V14").ravel()
        )
        for one in (data, other)
    ]
    assert (patterns[0] == patterns[1]).all()  # the same patterns, of other people
    truth = mean_course(data["mu_na"], data)

    def error(one: pd.DataFrame) -> pd.Series:
        seen = one[one["observed"]]
        return seen["na"].groupby(seen["day"] // 7 + 1).mean() - truth

    assert error(data).iloc[2] < -0.25
    assert error(other).abs().max() < 0.1


def test_what_a_method_may_see(small: pd.DataFrame) -> None:
    seen = mood_frame(small)
    assert set(seen["set"]) == {"train"}
    assert not [one for one in seen if one.startswith(("mu", "eta", "observed"))]
    assert (seen[OUTCOMES].notna().all(axis=1) == small.loc[seen.index, "observed"]).all()
    assert len(mood_frame(small, None)) == len(small)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"n": (0, 3)}, "two numbers of people"),
        ({"n": 5}, "two numbers of people"),
        ({"n": (5, 3), "missing": "mnar"}, "missing='mnar' is not one of mar, mcar"),
        ({"n": (5, 3), "seed": -1}, "not a whole number"),
    ],
)
def test_sizes_and_words(words: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_mood(**words)


# -- the next day ----------------------------------------------------------------------------------


def test_only_earlier_days_are_known(small: pd.DataFrame) -> None:
    asked, past = asked_rows(small, (3, 12)), history_rows(small, (3, 12))
    assert len(asked) == 4 * 2 * 5
    landmark = past["person"].str.extract(r"day (\d+)")[0].astype(int)
    assert (past["day"] < landmark).all()
    assert past[OUTCOMES].notna().all(axis=None)
    for person, rows in asked.groupby("person"):
        known = small[(small["id"] == rows["id"].iloc[0]) & small["observed"]]
        assert (past["person"] == person).sum() == (known["day"] < rows["day"].iloc[0]).sum()
    with pytest.raises(ValueError, match="1 to 20"):
        asked_rows(small, (21,))


def test_the_oracle_against_plain_sampling(small: pd.DataFrame) -> None:
    """Both integrals by brute force: prior draws of b, and of the path of u, weighted."""
    landmarks, M = (1,), 60_000
    found = mood_oracle(small, landmarks, draws=512).said.set_index(["outcome", "row"])
    asked, past = asked_rows(small, landmarks), history_rows(small, landmarks)
    rng = np.random.default_rng(8)
    for person, rows in list(asked.groupby("person"))[:2]:
        both = pd.concat([past[past["person"] == person], rows])
        at, k = inputs_of(both.assign(id=0)), len(both) - len(rows)
        b = torch.from_numpy(rng.normal(size=(M, 1, 5))) @ covariance_root().T
        time, u = both["time"].to_numpy(), np.empty((M, len(both)))
        u[:, 0] = rng.normal(size=M)
        for j in range(1, len(both)):
            rho = np.exp(-(time[j] - time[j - 1]) / RANGE)
            u[:, j] = rho * u[:, j - 1] + np.sqrt(1 - rho**2) * rng.normal(size=M)
        eta = {
            n: e[:, 0].numpy() for n, e in predictors(b, torch.from_numpy(u[:, None]), at).items()
        }
        log_w = np.zeros(M)
        for name in ("lonely", "bored"):
            sign = 2 * both[name].to_numpy()[:k] - 1
            log_w += np.log(special.expit(sign * eta[name][:, :k])).sum(1)
        y = both["na"].to_numpy()
        density = ordered_density(y, eta["na"])
        log_w += density[:, :k].sum(1)
        w = np.exp(log_w - log_w.max())
        w /= w.sum()
        effective = 1 / (w**2).sum()
        assert effective > 300
        for j, row in enumerate(rows.index, k):
            p = np.exp(density[:, j])
            score = w @ p
            error = 5 * np.sqrt(w @ (p - score) ** 2 / effective) / score
            assert abs(found.loc[("na", row), "log_score"] - np.log(score)) < error + 0.01
            yes = special.expit(eta["lonely"][:, j])
            error = 5 * np.sqrt(w @ (yes - w @ yes) ** 2 / effective)
            assert abs(found.loc[("lonely", row), "mean"] - w @ yes) < error + 0.005


def ordered_density(y: np.ndarray, eta: np.ndarray) -> np.ndarray:
    low, high, mu = special.expit(-2.9 - eta), special.expit(eta - 3.5), special.expit(eta)
    with np.errstate(divide="ignore"):
        inside = stats.beta.logpdf((y - 1) / 6, 14 * mu, 14 * (1 - mu)) - np.log(6)
    middle = np.log(1 - low - high) + inside
    return np.where(y == 1, np.log(low), np.where(y == 7, np.log(high), middle))


def test_scores_of_known_predictions(small: pd.DataFrame) -> None:
    asked = asked_rows(small, (5, 9))
    said = pd.DataFrame({"row": asked.index, "outcome": "na", "mean": asked["mu_na"] + 0.25})
    eta = asked["eta_na"].to_numpy()
    said["log_score"], said["lower"] = -1.5, 1.0
    mu = special.expit(eta)
    said["upper"] = 1 + 6 * stats.beta.ppf(0.9, 14 * mu, 14 * (1 - mu))
    found = mood_scores(said, small).loc["na"]
    inside = special.expit(eta + 2.9) * special.expit(3.5 - eta) * (1 - np.exp(-6.4))
    expected = special.expit(-2.9 - eta) + 0.9 * inside
    assert found["coverage"] == pytest.approx(expected.mean(), abs=1e-10)
    assert found[["rmse", "calibration"]].tolist() == pytest.approx([0.25, 0.25])
    assert found["log_score"] == -1.5
    yes = pd.DataFrame({"row": asked.index, "outcome": "bored", "mean": 0.5, "log_score": -0.7})
    other = mood_scores(yes, small)
    assert "coverage" not in other
    gap = np.sqrt(((asked["mu_bored"] - 0.5) ** 2).mean())
    assert other.loc["bored", "rmse"] == pytest.approx(gap)


def test_predictions_of_fits(small: pd.DataFrame) -> None:
    """Means and densities of a fit are those of a normal conditional on the answers so far."""
    rows = mood_frame(small)
    words = {"likelihood": "laplace", "verbose": 0}
    fits = {
        "na": mixed_model("na ~ 1 + (1 | id)", rows, family="gaussian", verbose=0),
        "bored": mixed_model("bored ~ 1 + (1 | id)", rows, family="bernoulli", **words),
    }
    said = fit_next_day(fits, small, (4,), draws=50)
    asked, past = asked_rows(small, (4,)), history_rows(small, (4,))
    na = said[said["outcome"] == "na"].set_index("row")
    fit = fits["na"]
    tau, sigma = fit.var_corr()["sdcor"]
    for person, own in asked.groupby("person"):
        y = past.loc[past["person"] == person, "na"]
        precision = 1 / tau**2 + len(y) / sigma**2
        mean = fit.fixef().iloc[0] + (y - fit.fixef().iloc[0]).sum() / sigma**2 / precision
        spread = np.sqrt(sigma**2 + 1 / precision)
        np.testing.assert_allclose(na.loc[own.index, "mean"], mean, rtol=1e-8)
        score = stats.norm.logpdf(own["na"], mean, spread)
        np.testing.assert_allclose(na.loc[own.index, "log_score"], score, rtol=1e-6)
    bored = said[said["outcome"] == "bored"]
    chance = np.where(asked["bored"] == 1, bored["mean"], 1 - bored["mean"])
    np.testing.assert_allclose(bored["log_score"], np.log(chance))


def test_answers_of_all_outcomes_move_a_prediction_of_a_joint_fit(small: pd.DataFrame) -> None:
    """Two Gaussian outcomes with correlated levels, beside the conditional normal density."""
    rows = mood_frame(small)
    formulas = ("na ~ 1 + (1 |p| id)", "bored ~ 1 + (1 |p| id)")
    fit = mixed_model(mv(*formulas), rows, verbose=0)
    said = joint_next_day(fit, small, (4,), intervals=False)
    na = said[said["outcome"] == "na"].set_index("row")
    assert "lower" not in said
    asked, past = asked_rows(small, (4,)), history_rows(small, (4,))
    mu, sigma = fit.fixef().to_numpy(), fit.sigma().to_numpy()
    sd = fit.var_corr()["sdcor"].to_numpy()[:2]
    D = sd * fit.correlation().to_numpy() * sd[:, None]
    for person, own in asked.groupby("person"):
        y = past.loc[past["person"] == person, ["na", "bored"]].to_numpy() - mu
        V = np.linalg.inv(np.linalg.inv(D) + np.diag(len(y) / sigma**2))
        mean = mu[0] + (V @ (y.sum(0) / sigma**2))[0]
        np.testing.assert_allclose(na.loc[own.index, "mean"], mean, rtol=1e-6)
        score = stats.norm.logpdf(own["na"], mean, np.sqrt(sigma[0] ** 2 + V[0, 0]))
        np.testing.assert_allclose(na.loc[own.index, "log_score"], score, rtol=1e-5)
