"""Several starts of a neural random part predict together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dgmm import Fit, load, mixed_model
from dgmm.estimate import Member

TEXT = "distance ~ age + (dnn(age, hidden=(4,), latent=2) | Subject)"
QUICK = {"epochs": 8, "holdout": 0.0, "draws": 256, "polish_draws": 32, "workers": 1}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    import dgmm

    return dgmm.datasets.load("orthodont")


@pytest.fixture(scope="module")
def pair(frame: pd.DataFrame) -> tuple[Fit, Fit, Fit]:
    """Two starts together and each alone; the second is moved, to differ visibly."""
    both = mixed_model(TEXT, frame, verbose=0, control=QUICK)
    done = both.estimate
    assert len(done.start_spread) == 2
    assert len(done.others) == 1
    other = done.others[0]
    theta = {**other.theta, "beta": other.theta["beta"] + 0.4}
    moved = Member(other.model, theta)
    first = replace(both, estimate=replace(done, others=()))
    point = replace(first.estimate, likelihood=done.likelihood.under(moved.model), theta=theta)
    second = replace(first, estimate=point)
    return replace(both, estimate=replace(done, others=(moved,))), first, second


def test_log_scores_are_those_of_the_mixture(
    pair: tuple[Fit, Fit, Fit], frame: pd.DataFrame
) -> None:
    both, first, second = (fit.log_score(frame)["log_score"] for fit in pair)
    np.testing.assert_allclose(both, np.logaddexp(first, second) - np.log(2), rtol=1e-12)


def test_predictions_are_weighted_by_what_each_start_says_of_the_past(
    pair: tuple[Fit, Fit, Fit], frame: pd.DataFrame
) -> None:
    both, first, second = (fit.predict(frame)["fit"].to_numpy() for fit in pair)
    share = (both - second) / (first - second)
    by_subject = pd.Series(share).groupby(frame["Subject"].to_numpy())
    assert (by_subject.std() < 1e-6).all()  # one weight per subject
    log_odds = pair[1].log_score(frame)["log_score"] - pair[2].log_score(frame)["log_score"]
    expected = 1 / (1 + np.exp(-log_odds))
    np.testing.assert_allclose(by_subject.mean()[expected.index], expected, atol=0.02)


def test_a_subject_without_a_past_gets_the_mean_of_the_starts(
    pair: tuple[Fit, Fit, Fit], frame: pd.DataFrame
) -> None:
    new = frame.head(4).assign(Subject="somebody")
    both, first, second = (fit.predict(new)["fit"].to_numpy() for fit in pair)
    np.testing.assert_allclose(both, (first + second) / 2, rtol=1e-12)
    both, first, second = (fit.predict(new, type="marginal")["fit"].to_numpy() for fit in pair)
    np.testing.assert_allclose(both, (first + second) / 2, rtol=1e-12)


def test_draws_are_those_of_the_mixture(pair: tuple[Fit, Fit, Fit], frame: pd.DataFrame) -> None:
    new = frame.head(4).assign(Subject="somebody")
    both, first, second = (
        fit.predict(new, interval="prediction", draws=20_000)["se"] ** 2 for fit in pair
    )
    gap = pair[1].predict(new)["fit"] - pair[2].predict(new)["fit"]
    np.testing.assert_allclose(both, (first + second) / 2 + gap**2 / 4, rtol=0.05)


@pytest.mark.parametrize("type", ["marginal", "mean_subject"])
def test_errors_of_averages_hold_the_spread_of_the_starts(
    pair: tuple[Fit, Fit, Fit], frame: pd.DataFrame, type: str
) -> None:
    """Starts move with theta together: the error of one of them, and what they differ by."""
    options = {"type": type, "interval": "confidence"}
    both, first, second = (fit.predict(frame.head(4), **options) for fit in pair)
    gap = both["fit"] - first["fit"], both["fit"] - second["fit"]
    expected = np.sqrt(first["se"] ** 2 + (gap[0] ** 2 + gap[1] ** 2) / 2)
    np.testing.assert_allclose(both["se"], expected, rtol=1e-8)
    assert (both["se"] > 1.05 * first["se"]).any()


def test_the_other_starts_are_in_the_file(
    pair: tuple[Fit, Fit, Fit], frame: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "fit.dgmm"
    pair[0].save(path)
    again = load(path)
    np.testing.assert_array_equal(again.predict(frame)["fit"], pair[0].predict(frame)["fit"])


def test_processes_change_no_number(frame: pd.DataFrame) -> None:
    one = mixed_model(TEXT, frame, verbose=0, se=None, control=QUICK)
    two = mixed_model(TEXT, frame, verbose=0, se=None, control={**QUICK, "workers": 2})
    assert one.estimate.start_spread == pytest.approx(two.estimate.start_spread, abs=1e-6)


def test_a_start_that_failed_does_not_predict(
    frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dgmm.estimate import deep

    monkeypatch.setattr(deep, "FAR", -1.0)
    fit = mixed_model(TEXT, frame, verbose=0, se=None, control=QUICK)
    assert fit.estimate.others == ()
    assert "average over 1 of 2 starts" in " ".join(str(fit.summary(verbose=True)).split())
