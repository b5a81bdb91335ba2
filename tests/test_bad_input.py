"""Data that cannot be fitted end in a sentence, awkward data in a usable fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import dgmm
from dgmm import mixed_model


def frame(n: int = 60, J: int = 6, **columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), J), "t": np.tile(np.arange(J) / J, n)})
    data["x"] = rng.normal(size=n * J)
    eta = 0.2 + 0.5 * data["t"] + 0.3 * data["x"] + rng.normal(size=n)[data["id"]]
    data["y"] = eta + rng.normal(size=n * J)
    data["z"] = (rng.uniform(size=n * J) < 1 / (1 + np.exp(-eta))).astype(float)
    data["c"] = rng.poisson(np.exp(eta)).astype(float)
    return data.assign(**columns)


def at(data: pd.DataFrame, row: int, column: str, value: Any) -> pd.DataFrame:
    changed = data.astype({column: object}) if isinstance(value, int) else data.copy()
    changed.loc[row, column] = value
    return changed


ERRORS = {
    "all zero counts": ("c ~ t + (1 | id)", frame(c=0.0), "poisson", "`c` is 0 in every"),
    "all zero binary": ("z ~ t + (1 | id)", frame(z=0.0), "bernoulli", "nothing to explain"),
    "constant": ("y ~ t + (1 | id)", frame(y=3.0), "gaussian", "`y` is 3 in every"),
    "one subject": ("y ~ t + (1 | id)", frame(1, 30), "gaussian", "`id` has 1 level"),
    "one visit each": ("y ~ x + (1 | id)", frame(80, 1), "gaussian", "cannot tell 1 random"),
    "one binary visit": ("z ~ x + (1 | id)", frame(80, 1), "bernoulli", "cannot tell 1 random"),
    "infinite": ("y ~ x + (1 | id)", at(frame(), 3, "x", np.inf), "gaussian", "`x` has 1 inf"),
    "half": ("z ~ x + (1 | id)", at(frame(), 7, "z", 0.5), "bernoulli", "found 0.5.*row 7 of"),
    "negative": ("c ~ x + (1 | id)", at(frame(), 9, "c", -2.0), "poisson", "found -2.*row 9 of"),
    "overflow": ("c ~ x + (1 | id)", at(frame(), 2, "c", 10**25), "poisson", "2.53.*row 2 of"),
    "few trials": ("k / m ~ x + (1 | id)", frame(k=2.0, m=1.0), "binomial", "found 2 out of 1"),
    "at the end": ("p ~ x + (1 | id)", frame(p=0.5).pipe(at, 4, "p", 1.0), "beta", "ordered_beta"),
    "zero time": ("y ~ x + (1 | id)", frame(y=0.5).pipe(at, 4, "y", 0.0), "gamma", "row 4 of"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_impossible_data_are_refused(case: str) -> None:
    formula, data, family, words = ERRORS[case]
    with pytest.raises(ValueError, match=f"(?s){words}"):
        mixed_model(formula, data, family=family, verbose=0)


@pytest.mark.parametrize(("weight", "words"), [(0.0, "must be positive"), (-1.0, "not negative")])
def test_weights_are_positive(weight: float, words: str) -> None:
    data = frame(w=1.0).pipe(at, 0, "w", weight)
    with pytest.raises(ValueError, match=words):
        mixed_model("y ~ x + (1 | id)", data, weights="w", verbose=0)


@pytest.mark.parametrize(("outcome", "family"), [("y", "gaussian"), ("z", "bernoulli")])
def test_a_subject_without_outcomes_changes_nothing(outcome: str, family: str) -> None:
    data = frame()
    formula = f"{outcome} ~ x + (1 | id)"
    gone = data["id"] == 3
    fit = mixed_model(formula, data.assign(**{outcome: data[outcome].mask(gone)}), family=family,
                      verbose=0)  # fmt: skip
    without = mixed_model(formula, data[~gone], family=family, verbose=0)
    assert float(fit.loglik()) == pytest.approx(float(without.loglik()), abs=1e-6)
    np.testing.assert_allclose(fit.fixef(), without.fixef(), rtol=1e-4)
    assert abs(fit.ranef().loc[3].iloc[0]) < 1e-6  # nothing is known of it: the prior mean


@pytest.mark.parametrize(("outcome", "family"), [("y", "gaussian"), ("z", "bernoulli")])
def test_huge_covariates_are_only_a_scale(outcome: str, family: str) -> None:
    data = frame()
    formula = f"{outcome} ~ x + (1 | id)"
    fit = mixed_model(formula, data.assign(x=1e150 * data["x"]), family=family, verbose=0)
    plain = mixed_model(formula, data, family=family, verbose=0)
    assert float(fit.loglik()) == pytest.approx(float(plain.loglik()), abs=1e-6)
    assert fit.fixef()["x"] * 1e150 == pytest.approx(plain.fixef()["x"], rel=1e-4)


def test_a_collinear_column_is_left_out_and_named() -> None:
    data = frame().assign(double=lambda d: 2 * d["x"])
    with pytest.warns(UserWarning, match="`double`"):
        fit = mixed_model("y ~ x + double + (1 | id)", data, verbose=0)
    assert list(fit.fixef().index) == ["(Intercept)", "x"]


def test_very_unequal_subjects() -> None:
    rng = np.random.default_rng(3)
    sizes = np.r_[np.ones(40, dtype=int), 3000]
    data = pd.DataFrame({"id": np.repeat(np.arange(41), sizes)})
    data["x"] = rng.normal(size=len(data))
    eta = 0.5 * data["x"] + rng.normal(size=41)[data["id"]]
    data["c"] = rng.poisson(np.exp(eta)).astype(float)
    fit = mixed_model("c ~ x + (1 | id)", data, family="poisson", verbose=0)
    assert fit.estimate.converged
    assert abs(fit.fixef()["x"] - 0.5) < 4 * fit.std_errors()["x"]


def test_an_outcome_out_of_all_scale_is_not_called_converged() -> None:
    """Beyond what double precision holds; a count of 1e9 is fitted, see test_large_counts."""
    data = at(frame(), 2, "c", 4e15)
    try:
        fit = mixed_model("c ~ x + (1 | id)", data, family="poisson", verbose=0)
    except ValueError as error:
        said = [str(error)]
    else:
        assert not fit.estimate.converged
        said = list(fit.messages)
    assert any("Newton decrement" in note or "from 0 to 4e+15" in note for note in said)


def test_as_many_effects_as_outcomes_are_refused() -> None:
    y = [1.2769591, 0.6214174, -2.2524143, -0.2240101]
    data = pd.DataFrame({"id": [1, 1, 0, 0], "h": list("rrrq"), "g": list("acab"), "y": y})
    with pytest.raises(ValueError, match=r"cannot be calculated \(the terms .* fit every outcome"):
        mixed_model("y ~ g + (1 | id) + (1 | h)", data, verbose=0)


# -- questions about a fit that cannot be answered ------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda fit: fit.contrast({"Days": [1, 2]}, {"Days": 3}), "one value in a contrast"),
        (lambda fit: fit.effects("Days", at={"Days": [1, np.nan]}), "finite numbers, not nan"),
        (lambda fit: fit.effects("Days", at={"Days": "x"}), "finite numbers, not 'x'"),
        (lambda fit: fit.random_profile("a"), "finite values of `Days`, not 'a'"),
        (lambda fit: fit.refit(np.ones(180)), "the outcome `Reaction` is 1 in every observed row"),
        (lambda fit: fit.update(verbose="a"), "verbose is a whole number, at least 0, not 'a'"),
        (lambda fit: dgmm.pool(fit), "list of fits, or estimates and std_errors"),
        (lambda fit: dgmm.simulate_study("lmm", n=50), "three numbers of subjects"),
        (lambda fit: dgmm.tune(fit, None, latent=2), r"write latent=\[2\]"),
    ],
)
def test_a_question_with_a_wrong_value_names_it(ask, message, sleepstudy) -> None:
    with pytest.raises(ValueError, match=message):
        ask(sleepstudy)


def test_fits_are_pooled_as_their_coefficients(sleepstudy) -> None:
    table = dgmm.pool([sleepstudy, sleepstudy])
    np.testing.assert_allclose(table["estimate"], sleepstudy.fixef())
    np.testing.assert_allclose(table["std_error"], sleepstudy.std_errors())
