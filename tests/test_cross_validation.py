"""tune(): scores are those of fits made by hand, the rule is the rule, and the formula is text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import data

import dgmm
from dgmm import Fit, mixed_model, tune
from dgmm.formula import FormulaError, with_options
from dgmm.plots import plot_tuning
from dgmm.tuning.candidates import Candidate
from dgmm.tuning.cross_validation import Tuning, _ranked, _Scored

TEXT = "Reaction ~ Days + (dnn(Days, latent=2, hidden=(4,)) | Subject)"
QUICK = {"epochs": 4, "holdout": 0.0}


@pytest.fixture(scope="module")
def small() -> Fit:
    return mixed_model(TEXT, data("sleepstudy"), control=QUICK, verbose=0)


@pytest.fixture(scope="module")
def tuned(small: Fit) -> Tuning:
    return tune(small, data("sleepstudy"), latent=[1, 2], folds=2, seed=3)


# -- formulas ------------------------------------------------------------------------------------

FORMULA = "y ~ x + dnn(age, sex, hidden=(8,)) + (x + dnn(0 + ns(time, df=4), latent=2) || id)"


@pytest.mark.parametrize(
    ("options", "parts", "expected"),
    [
        (
            {"latent": 3},
            ("random",),
            "y ~ x + dnn(age, sex, hidden=(8,)) + (x + dnn(0 + ns(time, df=4), latent=3) || id)",
        ),
        (
            {"hidden": (5, 5), "ridge": 2.5},
            ("fixed",),
            "y ~ x + dnn(age, sex, hidden=(5, 5), ridge=2.5)"
            " + (x + dnn(0 + ns(time, df=4), latent=2) || id)",
        ),
        (
            {"ridge": None, "df": 6, "basis": "ns(time, 7)"},
            ("random", "fixed"),
            "y ~ x + dnn(age, sex, hidden=(8,), ridge=None)"
            " + (x + dnn(0 + ns(time, df=6), latent=2, ridge=None, basis=ns(time, 7)) || id)",
        ),
    ],
)
def test_options_are_changed_where_they_stand(
    options: dict[str, Any], parts: tuple[str, ...], expected: str
) -> None:
    assert with_options(FORMULA, options, parts) == expected


def test_degrees_of_freedom_need_a_spline() -> None:
    assert with_options("y ~ (dnn(bs(t, 3) + x) | id)", {"df": 5}, ("random",)) == (
        "y ~ (dnn(bs(t, 5) + x) | id)"
    )
    with pytest.raises(FormulaError, match="there is none, as in dnn"):
        with_options("y ~ (dnn(t) | id)", {"df": 5}, ("random",))


# -- scores --------------------------------------------------------------------------------------


def test_scores_are_those_of_fits_without_the_fold(small: Fit, tuned: Tuning) -> None:
    frame = data("sleepstudy")
    fold = np.random.default_rng([3, 83]).permutation(18) % 2
    away = np.isin(frame["Subject"], small.estimate.panel.ids[fold == 0])
    changed = TEXT.replace("latent=2", "latent=1")
    for name, text in (("latent=1", changed), ("latent=2", TEXT)):
        by_hand = mixed_model(text, frame[~away], control=QUICK, se=None, verbose=0, starts=1)
        known = by_hand.log_score(frame[away])["log_score"]
        pd.testing.assert_series_equal(
            tuned.scores[name].loc[known.index], known, check_names=False, check_exact=True
        )
    plain = mixed_model("Reaction ~ Days + (Days | Subject)", frame[~away], verbose=0)
    known = plain.log_score(frame[away])["log_score"]
    np.testing.assert_allclose(tuned.scores["classical"].loc[known.index], known, atol=1e-6)


def test_the_table_summarises_the_scores(tuned: Tuning) -> None:
    table, scores = tuned.table, tuned.scores
    assert table.columns[0] == "latent"
    assert len(scores) == 18
    np.testing.assert_allclose(table["score"], scores.mean()[table.index])
    gap = scores.sub(scores[tuned.best], axis=0)
    np.testing.assert_allclose(table["difference"], gap.mean()[table.index])
    np.testing.assert_allclose(table["se_difference"], gap.std()[table.index] / np.sqrt(18))
    assert table["score"].is_monotonic_decreasing
    assert table.index[0] == tuned.best
    assert table.loc["latent=1", "weights"] == 21
    assert (table["seconds"] > 0).all()


@pytest.mark.slow
def test_workers_change_nothing(small: Fit, tuned: Tuning) -> None:
    again = tune(small, data("sleepstudy"), latent=[1, 2], folds=2, seed=3, workers=2)
    pd.testing.assert_frame_equal(again.scores, tuned.scores, check_exact=True)


def test_the_chosen_model_is_fitted_to_everybody(small: Fit, tuned: Tuning) -> None:
    table = tuned.table
    near = table[table["difference"] >= -table["se_difference"]]
    assert tuned.chosen == near["weights"].idxmin()
    assert tuned.fit().formula == tuned.formula
    assert float(tuned.fit("latent=2").loglik()) == float(small.loglik())
    assert float(tuned.fit("classical").loglik()) == pytest.approx(-875.9697, abs=1e-3)
    with pytest.raises(ValueError, match="there is no candidate 'latent=7'"):
        tuned.fit("latent=7")


def test_the_print_out_says_how_it_was_chosen(tuned: Tuning) -> None:
    smaller = replace(tuned, best="latent=2", chosen="latent=1")
    text = str(smaller)
    assert "18 subjects" in text
    assert "Chosen: latent=1, the smallest within one standard error (of the difference)" in text
    assert smaller.formula in text
    best = replace(tuned, best="latent=2", chosen="latent=2")
    assert "Chosen: latent=2, the best; none smaller is within one s.e. of it" in str(best)


def test_candidates_that_fail_are_named(small: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    update = Fit.update

    def failing(fit: Fit, formula: str, *rest: Any, **changes: Any) -> Fit:
        if "latent=1" in formula:
            raise ValueError("no maximum")
        return update(fit, formula, *rest, **changes)

    monkeypatch.setattr(Fit, "update", failing)
    tuned = tune(small, data("sleepstudy"), latent=[1, 2], folds=2, classical=False)
    assert list(tuned.table.index) == ["latent=2"]
    assert "no maximum" in tuned.failed["latent=1"]
    assert "* latent=1" in str(tuned)


def test_a_picture_of_the_candidates(tuned: Tuning) -> None:
    axis = plot_tuning(tuned)
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == list(tuned.table.index[::-1])
    shown = [float(line.get_xdata()[0]) for line in axis.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(shown, tuned.table["difference"][::-1])


# -- the one-standard-error rule -----------------------------------------------------------------


def ranked(columns: dict[str, list[float]], sizes: list[int], ridges: list[Any]) -> tuple[str, str]:
    scores = pd.DataFrame(columns)
    candidates, results = [], {}
    for name, size, ridge in zip(columns, sizes, ridges, strict=True):
        candidates.append(Candidate(name, name, {"ridge": ridge}, {}))
        results[name] = [_Scored(scores[name], size, 1.0)]
    return _ranked(scores, candidates, results, ("ridge",))[1:]


def test_the_smallest_within_one_standard_error_is_chosen() -> None:
    best = np.array([0.0, 2.0, -1.0, 3.0])
    shift = np.array([0.1, -0.3, 0.1, -0.3])  # mean -0.1, s.e. of the mean 0.115
    columns = {"big": best, "near": best + shift, "far": best - 0.5, "nearest": best + shift / 2}
    lists = {name: list(values) for name, values in columns.items()}
    assert ranked(lists, [40, 20, 10, 30], [1.0] * 4) == ("big", "near")
    # of equal size the larger ridge is the simpler model
    assert ranked(lists, [40, 40, 10, 40], [1.0, 5.0, 1.0, 10.0]) == ("big", "nearest")
    assert ranked(lists, [40, 40, 10, 40], [1.0, None, 1.0, None]) == ("big", "big")


# -- what is refused -----------------------------------------------------------------------------


def test_impossible_requests_are_refused(small: Fit, sleepstudy: Fit) -> None:
    frame = data("sleepstudy")
    for options, message in (
        ({}, "nothing to tune"),
        ({"latent": []}, "latent= lists no values"),
        ({"hidden": [(4,)], "part": "fixed"}, "has no dnn\\(\\) there"),
        ({"hidden": [(4,)], "part": "all"}, "part is 'random', 'fixed' or 'both'"),
        ({"latent": [1], "folds": 1}, "folds is a whole number from 2 to half of the 18"),
        ({"latent": [0]}, "latent= is a positive whole number"),
    ):
        with pytest.raises(ValueError, match=message):
            tune(small, frame, **options)
    with pytest.raises(ValueError, match="has no dnn"):
        tune(sleepstudy, frame, latent=[1])
    with pytest.raises(ValueError, match="not the frame of this fit"):
        tune(small, frame.assign(Reaction=frame["Reaction"] + 1), latent=[1])
    with pytest.raises(ValueError, match="not the frame of this fit"):
        tune(small, frame[frame["Subject"] != "308"], latent=[1])


def test_weights_must_be_a_column() -> None:
    frame = data("sleepstudy")
    weights = np.linspace(1.0, 2.0, len(frame))
    fit = dgmm.mixed_model(TEXT, frame, weights=weights, control=QUICK, se=None, verbose=0)
    with pytest.raises(ValueError, match="give weights= as the name of a column"):
        tune(fit, frame, latent=[1])


def test_a_misspelled_basis_is_refused_before_any_fit(small: Fit) -> None:
    with pytest.raises(ValueError, match="nss"):
        tune(small, data("sleepstudy"), basis=["ns(Days, 2)", "nss(Days, 2)"])
