"""From the words of a call to a request: calls are read, compared, changed; requests come back."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
from conftest import data

from dgmm import Control, Fit, mixed_model
from dgmm.families import find
from dgmm.plan import Call, make_request, parse_call, read_designs, read_family


@pytest.mark.parametrize("name", ["sleepstudy", "sleepstudy_reml", "cbpp", "cbpp_vae", "deep"])
def test_the_request_behind_a_fit_is_the_one_that_it_answered(
    name: str, request: pytest.FixtureRequest
) -> None:
    fit: Fit = request.getfixturevalue(name)
    call = fit.call
    design, _, family = read_designs(call, parse_call(call), read_family(call), fit.memory.frame)
    asked, behind = make_request(call, design, family), fit.request
    for one in fields(asked):
        if one.name == "family":
            assert behind.family.options() == asked.family.options()
        elif one.name == "likelihood":
            assert behind.likelihood == fit.estimate.likelihood.word
            assert asked.likelihood in (call.likelihood, behind.likelihood)
        else:
            assert getattr(behind, one.name) == getattr(asked, one.name), one.name


def test_a_call_holds_the_arguments_as_they_were_given(sleepstudy: Fit, cbpp: Fit) -> None:
    assert sleepstudy.call.method == "auto"
    assert sleepstudy.estimate.method == "ml"
    assert cbpp.call.family == "binomial"
    assert cbpp.call.link is None
    assert sleepstudy.call.control == Control()


def test_a_call_cannot_be_changed_in_place() -> None:
    ones = np.ones(180)
    fit = mixed_model(
        "Reaction ~ Days + (1 | Subject)", data("sleepstudy"), weights=ones, verbose=0
    )
    with pytest.raises(FrozenInstanceError):
        fit.call.seed = 3  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        fit.call.weights[0] = 2.0  # type: ignore[index,call-overload]


def test_calls_are_equal_when_all_arguments_are(sleepstudy: Fit) -> None:
    call = sleepstudy.call
    assert call == replace(call)
    weighted = call.changed({"weights": [1.0, 2.0]})
    assert weighted == call.changed({"weights": np.array([1.0, 2.0])})
    for other in (
        call,
        call.changed({"weights": [1.0, 3.0]}),
        call.changed({"weights": "w"}),
        replace(weighted, seed=1),
    ):
        assert weighted != other
    family = call.changed({"family": find("beta", bounds=(0.0, 2.0))})
    assert family == call.changed({"family": find("beta", bounds=(0.0, 2.0))})
    assert family != call.changed({"family": find("beta", bounds=(0.0, 3.0))})
    assert call != "a call"


def test_words_of_a_call_are_the_arguments_that_change_an_estimate(sleepstudy: Fit) -> None:
    call = sleepstudy.call
    same = {"se": None, "verbose": 0, "control": {"workers": 2}, "weights": [1.0]}
    assert call.changed(same).words() == call.words()
    other = {"seed": 4, "method": "reml", "family": "poisson", "zi": "~ x", "delta": 1.0}
    for name, value in other.items():
        words = call.changed({name: value}).words()
        assert {key for key in words if words[key] != call.words()[key]} == {name}


def test_a_call_has_the_defaults_of_mixed_model() -> None:
    """fit_many() makes a call of the arguments that it has, and leaves the others."""
    given = inspect.signature(mixed_model).parameters
    call = Call(formula="y ~ x + (1 | id)")
    for name, one in given.items():
        if name not in ("formula", "data", "outcome", "control", "prior"):
            assert getattr(call, name) == one.default, name
    assert call.control == Control()
