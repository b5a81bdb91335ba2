"""Profile log-likelihoods at values where they are those of another model."""

from __future__ import annotations

import pytest
from conftest import data

from dgmm import Fit, mixed_model
from dgmm.inference.surfaces import Surface, Target, targets

EPIL = "y ~ lbase * trt + lage + V4 + "


@pytest.fixture(scope="module")
def counts() -> Fit:
    return mixed_model(EPIL + "(V4 | subject)", data("epil"), family="poisson", verbose=0)


def test_a_correlation_of_zero_is_independence(sleepstudy: Fit, counts: Fit) -> None:
    slopes = mixed_model("Reaction ~ Days + (Days || Subject)", data("sleepstudy"), verbose=0)
    found = Surface(sleepstudy.estimate, Target("cor", 0, (0, 1))).maximum(0.0)
    assert found == pytest.approx(float(slopes.loglik()), abs=1e-6)
    apart = mixed_model(EPIL + "(V4 || subject)", data("epil"), family="poisson", verbose=0)
    found = Surface(counts.estimate, Target("cor", 0, (0, 1))).maximum(0.0)
    assert found == pytest.approx(float(apart.loglik()), abs=1e-4)


def test_a_standard_deviation_of_zero_is_no_effect(sleepstudy: Fit, counts: Fit, epil: Fit) -> None:
    levels = mixed_model("Reaction ~ Days + (1 | Subject)", data("sleepstudy"), verbose=0)
    found = Surface(sleepstudy.estimate, Target("sd", 0, (1,))).maximum(0.0)
    assert found == pytest.approx(float(levels.loglik()), abs=1e-6)
    found = Surface(counts.estimate, Target("sd", 0, (1,))).maximum(0.0)
    assert found == pytest.approx(float(epil.loglik()), abs=1e-4)


def test_a_coefficient_of_zero_is_a_column_less(sleepstudy: Fit) -> None:
    without = sleepstudy.drop1().table.loc["Days"]
    surface = Surface(sleepstudy.estimate, Target("fixed", 0, (1,)))
    assert surface.estimate == pytest.approx(sleepstudy.fixef()["Days"])
    expected = -0.5 * (without["AIC"] - 2 * (sleepstudy.df() - 1))
    assert surface.maximum(0.0) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["sleepstudy", "cbpp", "singular"])
def test_every_surface_has_the_fit_as_its_top(name: str, request: pytest.FixtureRequest) -> None:
    fit: Fit = request.getfixturevalue(name)
    known = targets(fit.estimate)
    assert len(known) == len(fit.confint())
    for target in known:
        surface = Surface(fit.estimate, target)
        top = surface.maximum(surface.estimate)
        assert top == pytest.approx(float(fit.loglik()), abs=1e-4)
        assert surface.maximum(1.1 * surface.estimate + 0.05) < top
