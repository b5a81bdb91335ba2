"""Effects with bands, against the Wald table, predict() and closed forms."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import data
from scipy import special

import dgmm
from dgmm import Fit, mixed_model
from dgmm.inference.curves import simultaneous_factor
from dgmm.information import Spread
from dgmm.report.notes import of_silent_networks

# -- twins -----------------------------------------------------------------------------------------


def test_a_straight_line_by_hand(orthodont: Fit) -> None:
    table = orthodont.effects("age", grid=4, at={"Sex": "Female"})
    L = np.column_stack([np.ones(4), table["age"], np.ones(4), table["age"]])
    V = orthodont.vcov().to_numpy()
    np.testing.assert_allclose(table["fit"], L @ orthodont.fixef(), rtol=1e-10)
    np.testing.assert_allclose(table["se"], np.sqrt(np.diag(L @ V @ L.T)), rtol=1e-10)
    np.testing.assert_allclose(table["age"], np.linspace(8, 14, 4))
    z = special.ndtri(0.975)
    np.testing.assert_allclose(table["upper"] - table["fit"], z * table["se"], rtol=1e-10)


@pytest.mark.parametrize(
    "formula",
    [
        "distance ~ Sex * ns(age, 2) + (age | Subject)",
        "distance ~ Sex + poly(age, 2) + (1 | Subject)",
    ],
)
def test_splines_and_interactions_agree_with_predict(formula: str) -> None:
    frame = data("orthodont")
    fit = mixed_model(formula, frame, verbose=0)
    table = fit.effects(("age", "Sex"), grid=5)
    assert list(table.columns[:2]) == ["age", "Sex"]
    new = pd.DataFrame({"age": table["age"], "Sex": table["Sex"], "Subject": "nobody"})
    peer = fit.predict(new, type="mean_subject", scale="link", interval="confidence")
    np.testing.assert_allclose(table["fit"], peer["fit"], rtol=1e-9)
    np.testing.assert_allclose(table["se"], peer["se"], rtol=1e-5)


def test_a_network_follows_predict(curved: Fit) -> None:
    table = curved.effects("z", grid=7, at={"x": 0.3, "g": "b"})
    new = pd.DataFrame({"z": table["z"], "x": 0.3, "g": "b", "id": -1})
    peer = curved.predict(new, type="mean_subject", scale="link", interval="confidence")
    for name in ("fit", "se", "lower", "upper"):
        np.testing.assert_allclose(table[name], peer[name], rtol=1e-9)
    inside = (table["sim_lower"] < table["lower"]) & (table["upper"] < table["sim_upper"])
    assert inside.all()


def test_a_term_has_mean_zero_over_the_sample(curved: Fit, curved_frame: pd.DataFrame) -> None:
    term = "dnn(z, hidden=(6,), ridge=1)"
    values = np.sort(curved_frame["z"])
    table = curved.effects("z", term=term, at={"z": values})
    assert abs(table["fit"].mean()) < 1e-9
    whole = curved.effects("z", at={"z": values})
    gap = whole["fit"] - table["fit"]
    np.testing.assert_allclose(gap, gap[0], rtol=1e-9)
    line = curved.effects("x", term="x", grid=3)
    centred = line["x"] - curved_frame["x"].mean()
    np.testing.assert_allclose(line["fit"], curved.fixef()["x"] * centred, rtol=1e-8)
    np.testing.assert_allclose(line["se"], curved.std_errors()["x"] * centred.abs(), rtol=1e-8)


def test_a_category_has_a_row_per_level(cbpp: Fit) -> None:
    table = cbpp.effects("period")
    assert table["period"].astype(str).to_list() == ["1", "2", "3", "4"]
    beta = cbpp.fixef()
    expected = beta["(Intercept)"] + np.append(0, beta[1:])
    np.testing.assert_allclose(table["fit"], expected, rtol=1e-10)
    assert table["se"][0] == pytest.approx(cbpp.std_errors()["(Intercept)"], rel=1e-8)


def test_an_offset_counts_at_its_mean() -> None:
    frame = data("epil").assign(log_weeks=np.linspace(0.0, 1.0, len(data("epil"))))
    by_column = mixed_model(
        "y ~ lage + (1 | subject)", frame, family="poisson", offset="log_weeks", verbose=0
    )
    by_term = mixed_model(
        "y ~ lage + offset(log_weeks) + (1 | subject)", frame, family="poisson", verbose=0
    )
    one, two = (fit.effects("lage", grid=3) for fit in (by_column, by_term))
    np.testing.assert_allclose(one["fit"], two["fit"], rtol=1e-7)
    fixed = by_column.fixef()
    expected = fixed["(Intercept)"] + fixed["lage"] * one["lage"] + 0.5
    np.testing.assert_allclose(one["fit"], expected, rtol=1e-7)
    for table in (one, two):
        np.testing.assert_allclose(table["offset"], 0.5, rtol=1e-12)
    assert by_column.held_covariates().keys() == by_term.held_covariates().keys()
    assert by_column.held_covariates()["log_weeks"] == pytest.approx(0.5, rel=1e-12)
    assert "offset" not in by_term.effects("lage", term="lage", grid=3)


def test_an_offset_is_held_where_it_is_asked_for() -> None:
    frame = data("epil").assign(weeks=np.linspace(1.0, 4.0, len(data("epil"))))
    fit = mixed_model(
        "y ~ lage + offset(log(weeks)) + (1 | subject)", frame, family="poisson", verbose=0
    )
    mean, rate = fit.effects("lage", grid=3), fit.effects("lage", grid=3, offset=0)
    np.testing.assert_allclose(mean["offset"], np.log(2.5), rtol=1e-12)
    np.testing.assert_allclose(rate["offset"], 0.0, atol=1e-15)
    np.testing.assert_allclose(mean["fit"] - rate["fit"], np.log(2.5), rtol=1e-10)
    np.testing.assert_allclose(mean["se"], rate["se"], rtol=1e-12)
    two = fit.effects("lage", grid=3, at={"weeks": 2.0})
    np.testing.assert_allclose(two["fit"] - rate["fit"], np.log(2.0), rtol=1e-10)
    with pytest.raises(ValueError, match="offset is a number that the whole fixed part is held at"):
        fit.effects("lage", term="lage", offset=0.0)
    with pytest.raises(ValueError, match="'weeks' is no covariate of the fixed part"):
        fit.effects("weeks")


# -- simultaneous ----------------------------------------------------------------------------------


def test_the_factor_of_independent_points_is_known() -> None:
    for points in (1, 5, 20):
        eye = torch.eye(points, dtype=torch.float64)
        spread = Spread.normal(torch.zeros(points, dtype=torch.float64), 9 * eye)
        found = simultaneous_factor(spread, 0.95, seed=1, draws=40_000)
        c = special.ndtri(0.5 + 0.5 * 0.95 ** (1 / points))
        density = points * (2 * special.ndtr(c) - 1) ** (points - 1) * 2
        density *= np.exp(-c * c / 2) / np.sqrt(2 * np.pi)
        error = np.sqrt(0.95 * 0.05 / 40_000) / density
        assert abs(found - c) < 4 * error


def test_points_without_error_do_not_count() -> None:
    V = torch.tensor([[0.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    spread = Spread.normal(torch.zeros(2, dtype=torch.float64), V)
    found = simultaneous_factor(spread, 0.95, seed=1, draws=40_000)
    assert found == pytest.approx(1.96, abs=0.04)
    assert simultaneous_factor(Spread.normal(spread.value, 0 * V), 0.95, seed=1) == 0.0


def test_the_seed_is_all_that_is_random(curved: Fit) -> None:
    one, two = (curved.effects("z", grid=5, seed=4) for _ in range(2))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert (curved.effects("z", grid=5, seed=5)["sim_upper"] != one["sim_upper"]).all()


# -- files and errors ------------------------------------------------------------------------------


def test_a_fit_from_a_file_has_the_same_bands(curved: Fit, tmp_path: Path) -> None:
    curved.save(tmp_path / "fit")
    again = dgmm.load(tmp_path / "fit")
    pd.testing.assert_frame_equal(
        again.effects("z", grid=5), curved.effects("z", grid=5), rtol=1e-9
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"covariates": "zz"}, "'zz' is no covariate of the fixed part; did you mean 'z'?"),
        ({"covariates": "id"}, "It has 'x', 'g', 'z'"),
        ({"covariates": "z", "at": {"w": 1}}, "'w' is no covariate"),
        ({"covariates": "z", "at": {"g": "c"}}, "did not occur in the data of the fit: 'c'"),
        ({"covariates": "z", "term": "ns(z)"}, "there is no term 'ns(z)'"),
        ({"covariates": "z", "level": 1.0}, "level is a probability"),
        ({"covariates": "z", "grid": 1}, "grid is a number of points"),
        ({"covariates": ("x", "g", "z")}, "one or two covariates"),
    ],
)
def test_what_cannot_be_drawn_is_named(arguments: dict[str, Any], words: str, curved: Fit) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        curved.effects(**arguments)


def test_without_standard_errors_there_are_no_bands() -> None:
    fit = mixed_model("Reaction ~ Days + (1 | Subject)", data("sleepstudy"), se=None, verbose=0)
    with pytest.raises(ValueError, match="se=None"):
        fit.effects("Days")


# -- numbers that the formula makes categories -----------------------------------------------------


def test_a_number_made_a_category_is_that_category() -> None:
    """effects(), slopes() and the values held are those of the model with a category column."""
    frame = data("sleepstudy").assign(k=lambda d: d["Days"] % 3 + 1)
    made = mixed_model("Reaction ~ Days + C(k) + (1 | Subject)", frame, verbose=0)
    plain = mixed_model(
        "Reaction ~ Days + k + (1 | Subject)", frame.astype({"k": "category"}), verbose=0
    )
    numbers = ["fit", "se", "lower", "upper"]
    for options in ({"covariates": "k"}, {"covariates": "Days", "grid": 3}):
        ours, theirs = made.effects(**options), plain.effects(**options)
        np.testing.assert_allclose(ours[numbers], theirs[numbers], rtol=1e-8)
    assert made.effects("k")["k"].to_list() == [1, 2, 3]
    pd.testing.assert_frame_equal(made.slopes(), plain.slopes(), rtol=1e-8)
    assert list(made.slopes("k").index) == ["k: 2 - 1", "k: 3 - 1"]
    assert made.held_covariates()["k"] == 1
    split = mixed_model("Reaction ~ Days + (C(k) | Subject)", frame, se=None, verbose=0)
    assert split.random_profile().table["k"].to_list() == [1, 2, 3]


def test_a_silent_network_is_said_to_be_one(curved: Fit) -> None:
    """Where its inputs vary, and in the notes; a line has no band for the curve that it lacks."""
    info = curved.information
    assert info is not None
    silent = replace(curved, information=replace(info, effective={"dnn1": 0.2, "total": 3.2}))
    assert info.silent(curved.estimate.model) == ()
    with pytest.warns(UserWarning, match=r"dnn\(z\S* .*has fallen silent"):
        silent.effects("z", grid=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        silent.effects("x", grid=5)
        curved.effects("z", grid=5)
    (note,) = of_silent_networks(silent.estimate, silent.information)
    assert "bands take it as known that there is no curve" in note
    assert of_silent_networks(curved.estimate, info) == ()
