"""Fits of paths against numbers stored from R: nlme, glmmTMB and a dense normal density."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from conftest import reference
from toys import ar1_frame, counts_frame, stuck_frame, visits_frame

import dgmm

GAUSSIAN = ("ou", "ou_intercept", "stuck", "ar1_intercept")
FRAMES = {"ar1_intercept": ar1_frame, "stuck": stuck_frame}


@cache
def fitted(name: str) -> dgmm.Fit:
    """The fit of an entry from the default start, made once."""
    formula = reference("serial", name)["formula"]
    if name.startswith("poisson"):
        frame = counts_frame()
        return dgmm.mixed_model(formula, frame, family="poisson", likelihood="laplace", verbose=0)
    return dgmm.mixed_model(formula, FRAMES.get(name, visits_frame)(), verbose=0)


def peers(entry: dict[str, Any]) -> Iterator[float]:
    """The log-likelihoods that other programs reach, from every start of theirs."""
    for other in entry["others"].values():
        for one in other if isinstance(other, list) else [other]:
            yield one["log_likelihood"]


def named(name: str) -> dict[str, float]:
    """The reported parameters of a fit by the names of the stored ones."""
    table = fitted(name).var_corr()
    found: dict[str, float] = {}
    for kind, effect, value in zip(table["kind"], table["name1"], table["sdcor"], strict=True):
        if kind != "sd":
            found[kind] = value
        elif effect == "(Intercept)":
            found["sd_intercept"] = value
        else:
            found["sd_path" if effect else "sigma"] = value
    return found


@pytest.mark.parametrize("name", GAUSSIAN)
def test_the_default_start_leads_to_the_maximum_of_the_dense_density(name: str) -> None:
    entry, fit = reference("serial", name), fitted(name)
    assert fit.estimate.converged
    assert float(fit.loglik().value) == pytest.approx(entry["log_likelihood"], abs=1e-6)
    assert fit.loglik().value > max(peers(entry)) - 1e-6


@pytest.mark.parametrize("name", GAUSSIAN)
def test_estimates_and_standard_errors_are_those_of_r(name: str) -> None:
    entry, fit = reference("serial", name), fitted(name)
    assert fit.fixef().tolist() == pytest.approx(entry["fixef"], abs=1e-5)
    full = entry["others"]["glmmTMB"]["se_full"]
    assert fit.summary().coefficients["Std. Error"].tolist() == pytest.approx(full, rel=1e-4)
    assert named(name) == pytest.approx(entry["parameters"], rel=1e-4)
    table = fit.var_corr()
    own = sorted(table["se_working"])
    assert own == pytest.approx(sorted(entry["se_working"].values()), rel=1e-3)


def test_counts_with_intercepts_and_a_path_have_the_laplace_maximum_of_glmmtmb() -> None:
    name = "poisson_ou_intercept"
    entry, fit = reference("serial", name), fitted(name)
    assert float(fit.loglik().value) == pytest.approx(entry["log_likelihood"], abs=1e-6)
    assert fit.fixef().tolist() == pytest.approx(entry["fixef"], abs=1e-3)
    assert named(name) == pytest.approx(entry["parameters"], rel=1e-3)
    own = fit.summary().coefficients["Std. Error"].tolist()
    assert own == pytest.approx(entry["se_full"], rel=5e-3)


def test_a_start_that_leads_lme_astray_does_not_matter() -> None:
    entry = reference("serial", "stuck")
    default, *others = entry["others"]["lme_corExp_nugget"]
    assert default["start"] == "default"
    assert default["log_likelihood"] < entry["log_likelihood"] - 10
    assert min(one["log_likelihood"] for one in others) > entry["log_likelihood"] - 1e-6
    assert float(fitted("stuck").loglik().value) > default["log_likelihood"] + 10


def test_stored_peers_never_reach_more_than_the_dense_density() -> None:
    restricted = ("ou_intercept_reml", "ou_reml", "stuck_reml", "ar1_intercept_reml")
    for name in (*GAUSSIAN, "car1_intercept", *restricted):
        entry = reference("serial", name)
        assert max(peers(entry)) < entry["log_likelihood"] + 1e-8
        assert abs(entry["max_abs_gradient"]) < 1e-5
    assert len(list(peers(reference("serial", "ou_intercept")))) == 7
