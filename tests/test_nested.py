"""The nested classical model and held-out subjects."""

from __future__ import annotations

import numpy as np
import pytest
from toys import frame

import dgmm
from dgmm.design import build_design
from dgmm.estimate import Control, Request
from dgmm.estimate.nested import Nested, compare_held_out, draw_held_out
from dgmm.families import find
from dgmm.formula import parse_formula


def made(holdout: float = 0.25, formula: str = "y ~ x + t + (1 | id)") -> tuple[Nested, Request]:
    request = Request(find("gaussian"), "ml", "exact", "sites", 1, 3, 0, Control(holdout=holdout))
    design = build_design(parse_formula(formula), frame(40, 5))
    return Nested.of(design, request, "exact"), request


def test_it_is_the_classical_fit() -> None:
    nested, _ = made()
    plain = dgmm.mixed_model("y ~ x + t + (1 | id)", frame(40, 5), verbose=0)
    assert nested.fit().log_likelihood == pytest.approx(float(plain.loglik()), abs=1e-8)


def test_some_subjects_are_those_of_a_smaller_frame() -> None:
    nested, _ = made()
    some = np.array([0, 3, *range(10, 40)])
    data = frame(40, 5)
    plain = dgmm.mixed_model("y ~ x + t + (1 | id)", data[data["id"].isin(some)], verbose=0)
    assert nested.fit(some).log_likelihood == pytest.approx(float(plain.loglik()), abs=1e-7)


def test_held_out_subjects_are_a_part_drawn_by_the_seed() -> None:
    nested, request = made()
    kept, left = draw_held_out(nested.panel, request)
    assert len(left) == 10
    assert sorted([*kept, *left]) == list(range(40))
    again = draw_held_out(nested.panel, request)
    np.testing.assert_array_equal(left, again[1])


def test_nothing_is_held_out_on_request() -> None:
    nested, request = made(0.0)
    assert draw_held_out(nested.panel, request) is None


def test_the_gain_is_the_difference_of_the_log_scores_of_subjects_left_out() -> None:
    nested, request = made()
    other, _ = made(formula="y ~ x + (1 | id)")
    kept, left = draw_held_out(nested.panel, request)
    panels = (nested.panel, other.panel)
    score = compare_held_out(nested.fit(kept), other.fit(kept), left, panels)
    data = frame(40, 5)
    inside = data["id"].isin(kept)
    fits = [
        dgmm.mixed_model(formula, data[inside], verbose=0)
        for formula in ("y ~ x + t + (1 | id)", "y ~ x + (1 | id)")
    ]
    one, two = (fit.log_score(data[~inside])["log_score"] for fit in fits)
    assert score.subjects == 10
    assert score.difference == pytest.approx((one - two).mean(), abs=1e-7)
    assert score.standard_error == pytest.approx((one - two).std() / np.sqrt(10), abs=1e-7)
