"""Times of new rows beyond those of the fit, and values that double precision cannot hold."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import data

import dgmm
from dgmm import Fit
from dgmm.prediction.new_values import tell_beyond


def flags(ask: Callable[[], Any]) -> list[str]:
    """The warnings about times that a question gives."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ask()
    return [str(one.message) for one in told if "lies outside" in str(one.message)]


def test_times_before_and_beyond_the_fit_are_named(sleepstudy: Fit) -> None:
    frame = data("sleepstudy")
    some = frame[frame["Subject"].isin(["308", "309"])]
    late = some.assign(Days=some["Days"] + 3.5)
    told = (
        "`Days` of newdata lies outside of the 0 to 9 of the fit in 8 of 20 rows (9.5 to 12.5): "
        "the model is extrapolated"
    )
    assert flags(lambda: sleepstudy.predict(late)) == [told]
    assert flags(lambda: sleepstudy.log_score(late)) == [told]
    assert flags(lambda: sleepstudy.scoring_rules(late)) == [told]
    early = some.assign(Days=some["Days"] - 1)
    assert flags(lambda: sleepstudy.predict(some, history=early)) == [
        "`Days` of history= lies outside of the 0 to 9 of the fit in 2 of 20 rows (-1): the model "
        "is extrapolated"
    ]
    for inside in (frame, some):
        assert flags(lambda rows=inside: sleepstudy.predict(rows, history=rows)) == []
    assert flags(sleepstudy.predict) == []


def test_settings_beyond_the_fit_are_named(sleepstudy: Fit) -> None:
    rest = "lies outside of the 0 to 9 of the fit in 1 of"
    told = [f"`Days` of at= {rest} 2 values (20): the model is extrapolated"]
    assert flags(lambda: sleepstudy.emmeans("Days", at={"Days": [5, 20]})) == told
    assert flags(lambda: sleepstudy.effects("Days", at={"Days": [5, 20]})) == told
    told = [f"`Days` of the contrast {rest} 1 values (20): the model is extrapolated"]
    assert flags(lambda: sleepstudy.contrast({"Days": 20}, {"Days": 5})) == told
    inside = {"Days": [0, 9.05]}
    assert flags(lambda: sleepstudy.emmeans("Days", at=inside)) == []
    assert flags(lambda: sleepstudy.effects("Days", at=inside)) == []
    assert flags(lambda: sleepstudy.contrast({"Days": 9}, {"Days": 0})) == []
    assert flags(sleepstudy.slopes) == []


def test_a_model_without_time_has_none_beyond() -> None:
    times = torch.tensor([5.0])
    assert flags(lambda: tell_beyond(None, times, torch.tensor([1.0]), "newdata")) == []
    assert flags(lambda: tell_beyond("t", times, torch.tensor([5.0]), "newdata")) == []
    assert len(flags(lambda: tell_beyond("t", times, torch.tensor([6.0]), "x"))) == 1


def test_times_out_of_scale_are_named_and_no_number_is_made_up(sleepstudy: Fit) -> None:
    frame = data("sleepstudy")
    far = frame.assign(Days=frame["Days"] + 1e9)
    with (
        pytest.warns(UserWarning, match="lies outside"),
        pytest.raises(
            ValueError,
            match=r"cannot be calculated in double precision.*`Days` of history runs from 1e\+09 "
            r"to 1e\+09, at the fit from 0 to 9$",
        ),
    ):
        sleepstudy.predict(frame, history=far, interval="prediction")


def test_outcomes_out_of_scale_are_named() -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"id": np.repeat(np.arange(20), 4), "x": rng.normal(size=80)})
    frame["y"] = rng.gamma(2, np.exp(0.3 * frame["x"]) / 2)
    fit = dgmm.mixed_model("y ~ x + (1 | id)", frame, family="gamma", link="log", verbose=0)
    huge = frame.assign(y=1e300)
    for ask in (
        lambda: fit.log_score(huge),
        lambda: fit.predict(frame, history=huge),
        lambda: fit.predict(frame, history=huge, interval="prediction", draws=10),
        lambda: fit.scoring_rules(huge, history=huge, draws=10),
    ):
        with pytest.raises(
            ValueError, match=r"the outcome `y` of \w+ runs from 1e\+300 to 1e\+300"
        ):
            ask()


def test_frames_without_rows(sleepstudy: Fit) -> None:
    frame = data("sleepstudy")
    with pytest.raises(ValueError, match="newdata has no rows: there is nothing to predict"):
        sleepstudy.predict(frame[:0])
    with pytest.raises(ValueError, match="history=: the data have no rows"):
        sleepstudy.predict(frame, history=frame[:0])
    for ask in (sleepstudy.log_score, sleepstudy.scoring_rules):
        with pytest.raises(ValueError, match="the data have no rows"):
            ask(frame[:0])


def test_rows_of_nobody_are_refused_where_known_subjects_are_asked_for(sleepstudy: Fit) -> None:
    frame = data("sleepstudy")[:20].drop(columns="Subject")
    with (
        pytest.warns(UserWarning, match="no column `Subject`"),
        pytest.raises(ValueError, match="newdata has rows without `Subject`"),
    ):
        sleepstudy.predict(frame, new_groups="error")
