"""mixed_model(): options checked at the door, rows, ids and containers that must not matter."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import FORMULAS, data

from dgmm import Control, Fit, FormulaError, mixed_model
from dgmm.families import find

SLEEP = FORMULAS["sleepstudy"]
DEEP = "Reaction ~ Days + (dnn(ns(Days, 2), hidden=(3,), ridge=4) | Subject)"
DEEP_SMALL = {"epochs": 4, "holdout": 0.0, "draws": 64, "polish_draws": 32}


def refused(match: str, formula: str = SLEEP, name: str = "sleepstudy", **options: Any) -> str:
    """The message of the error, which must hold every word of ``match``."""
    frame = options.pop("data", None)
    frame = data(name) if frame is None else frame
    with pytest.raises((ValueError, TypeError)) as caught:
        mixed_model(formula, frame, verbose=0, **options)
    message = str(caught.value)
    for word in match.split("|"):
        assert word in message, message
    return message


# -- options ---------------------------------------------------------------------------------------

OPTIONS = [
    ({"method": "mle"}, "method='mle'|did you mean 'ml'|auto, ml, reml, vae"),
    ({"method": "REML"}, "method='REML'|auto, ml, reml, vae"),
    (
        {"likelihood": "laplas"},
        "did you mean 'laplace'|auto, exact, filter, laplace, quadrature, importance",
    ),
    ({"encoder": "site"}, "'site'|did you mean 'sites'|dense, recurrent, sites"),
    ({"se": "robust"}, "se='robust'|hessian, sandwich, bootstrap, None"),
    ({"missing": "saem"}, "missing='saem'|observed"),
    ({"device": "tpu"}, "device='tpu'|auto, cpu"),
    ({"starts": 0}, "starts|at least 1|0"),
    ({"family": "binomail"}, "'binomail'|did you mean 'binomial'|gaussian, generalized_poisson"),
    ({"link": "logit"}, "'gaussian'|'logit'|identity, log, inverse"),
    ({"missing_covariates": "keep"}, "missing_covariates|'drop'|'error'|'keep'"),
    ({"control": {"epoch": 3}}, "'epoch'|did you mean 'epochs'|learning_rate|holdout"),
    ({"weights": "w"}, "`w`|Reaction, Days, Subject"),
    ({"offset": "zz"}, "`zz`|Reaction, Days, Subject"),
    ({"weights": np.ones(3)}, "weights|(3,)|180 rows"),
    ({"weights": -np.ones(180)}, "weights|negative"),
    ({"weights": np.zeros(180)}, "weights|positive"),
    ({"method": "vae", "likelihood": "exact"}, "likelihood='exact'|'quadrature' or 'importance'"),
    ({"method": "reml", "likelihood": "quadrature"}, "method='reml'|likelihood='exact'"),
    ({"family": "poisson"}, "'poisson'|counts 0, 1, 2|offset(log(exposure))"),
    ({"family": "bernoulli"}, "'bernoulli'|0 and 1|cbind(success, failure)"),
]


@pytest.mark.parametrize(("options", "words"), OPTIONS, ids=[str(o)[:40] for o, _ in OPTIONS])
def test_an_option_is_refused_with_what_works(options: dict[str, Any], words: str) -> None:
    refused(words, **options)


BAD_VALUES: list[dict[str, Any]] = [
    {"starts": 1.5},
    {"seed": "one"},
    {"control": 3},
    {"control": {"epochs": -1}},
    {"control": {"draws": 0}},
    {"control": {"points": 0}},
    {"control": {"holdout": 1.5}},
    {"control": {"learning_rate": -1.0}},
]


@pytest.mark.parametrize("options", BAD_VALUES, ids=str)
def test_a_value_out_of_range_names_its_option(options: dict[str, Any]) -> None:
    name, value = next(iter(options.items()))
    refused(next(iter(value)) if isinstance(value, dict) else name, **options)


def test_sentences_of_a_refusal_are_separated() -> None:
    assert "not available. Use" in refused("nuts", method="nuts")
    assert "did you mean 'reml'? Use" in refused("REML", method="REML")


def test_a_control_record_and_a_dict_are_the_same() -> None:
    frame = data("cbpp")
    fits = [
        mixed_model(FORMULAS["cbpp"], frame, family="binomial", control=control, verbose=0)
        for control in (Control(points=5), {"points": 5})
    ]
    assert fits[0].loglik().value == pytest.approx(fits[1].loglik().value, abs=1e-10)
    assert "5 points" in str(fits[0].summary())


def test_a_family_object_is_taken() -> None:
    fit = mixed_model(FORMULAS["cbpp"], data("cbpp"), family=find("binomial", "probit"), verbose=0)
    assert "binomial (probit)" in str(fit.summary())


def test_options_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        mixed_model(SLEEP, data("sleepstudy"), "gaussian")  # type: ignore[misc]


# -- models that the engines cannot fit ------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("Reaction ~ Days + (dnn(Days) | Subject) + (1 | half)", "2 grouping|`Subject`|`half`|one"),
        ("Reaction ~ Days + (1 | Days / Subject)", "180|1 random effects|`Days:Subject`|fewer"),
        ("Reaction ~ Days", "no random part|(1 | id)"),
        ("Reaction ~ poly(Days, 9) + (poly(Days, 9) | Subject)", "180|10 random|18|`Subject`"),
        ("cbind(Days, Days) ~ 1 + (1 | Subject)", "cbind|'binomial'|'gaussian'"),
        ("Reaction ~ Dais + (1 | Subject)", "`Dais`|`Days`|Reaction, Days, Subject"),
    ],
)
def test_a_model_is_refused_by_name(formula: str, words: str) -> None:
    frame = data("sleepstudy").assign(half=lambda d: (d["Days"] > 4).map({True: "b", False: "a"}))
    refused(words, formula, data=frame)


def test_networks_have_their_own_method() -> None:
    refused("method='vb'|dnn()|method='auto'", method="vb")
    refused("method='reml'|dnn()|'auto'", "Reaction ~ dnn(Days) + (1 | Subject)", method="reml")
    refused("likelihood='exact'|'importance'", DEEP, likelihood="exact")


def test_the_bootstrap_is_for_maximum_likelihood() -> None:
    refused("se='bootstrap'|maximum likelihood|method='ml'", method="reml", se="bootstrap")
    refused("resamples=1|>= 2", se="bootstrap", control={"resamples": 1})


def test_quadrature_has_at_most_three_dimensions() -> None:
    words = "likelihood='quadrature'|at most 3|4|'importance'"
    formula = "y ~ 1 + (lage + V4 + trt | subject)"
    refused(words, formula, "epil", family="poisson", likelihood="quadrature")


def test_an_unknown_structure_left_of_the_bar_lists_the_folder() -> None:
    message = refused("kalmann", "Reaction ~ Days + (kalmann(Days) | Subject)")
    assert "dnn" in message


def test_the_formula_is_shown_with_a_caret() -> None:
    with pytest.raises(FormulaError) as caught:
        mixed_model("Reaction ~ Dais + (1 | Subject)", data("sleepstudy"))
    lines = str(caught.value).splitlines()
    at = next(j for j, line in enumerate(lines) if set(line.strip()) == {"^"})
    assert lines[at].index("^") == lines[at - 1].index("Dais")


def outcome_without_variation(family: str, value: float) -> str:
    frame = pd.DataFrame({"id": np.repeat(np.arange(10), 4), "y": value})
    with pytest.raises(ValueError, match="y") as caught:
        mixed_model("y ~ 1 + (1 | id)", frame, family=family, verbose=0)
    return str(caught.value)


@pytest.mark.parametrize(("family", "value"), [("gaussian", 2.0), ("poisson", 0), ("bernoulli", 1)])
def test_an_outcome_without_variation_is_refused_in_words(family: str, value: float) -> None:
    message = outcome_without_variation(family, value)
    assert "math domain" not in message
    assert "`y`" in message


# -- rows ------------------------------------------------------------------------------------------


def test_rows_with_a_missing_outcome_are_kept() -> None:
    frame = data("sleepstudy")
    frame.loc[[3, 17, 90], "Reaction"] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = mixed_model(SLEEP, frame, verbose=0)
    assert fit.nobs() == 177
    assert len(fit.fitted()) == 180
    assert np.isfinite(fit.fitted()).all()
    assert list(np.flatnonzero(fit.residuals().isna())) == [3, 17, 90]
    assert "3 planned with a missing outcome" in str(fit.summary())
    without = mixed_model(SLEEP, frame.dropna(), verbose=0)
    assert float(fit.loglik()) == pytest.approx(float(without.loglik()), abs=1e-8)
    np.testing.assert_allclose(fit.fixef(), without.fixef(), rtol=1e-8)


def test_rows_with_a_missing_covariate_are_dropped_with_one_counted_warning() -> None:
    frame = data("sleepstudy").astype({"Days": float})
    frame.loc[[3, 17, 90], "Days"] = np.nan
    with pytest.warns(UserWarning, match="3 of 180 rows .*`Days`") as caught:
        fit = mixed_model(SLEEP, frame, verbose=0)
    assert [w.category for w in caught].count(UserWarning) == 1
    assert fit.nobs() == 177
    assert len(fit.fitted()) == 177
    assert any("3 of 180 rows" in note for note in fit.messages)
    refused("3|`Days`", data=frame, missing_covariates="error")


def test_the_nested_model_of_a_deep_fit_warns_once() -> None:
    frame = data("sleepstudy").astype({"Days": float})
    frame.loc[4, "Days"] = np.nan
    with pytest.warns(UserWarning, match="1 of 180 rows") as caught:
        mixed_model(DEEP, frame, se=None, starts=1, control=DEEP_SMALL, verbose=0)
    assert [w.category for w in caught].count(UserWarning) == 1


def variants(frame: pd.DataFrame, group: str) -> dict[str, pd.DataFrame]:
    """The same data: shuffled, interleaved, and with ids of other types."""
    rng = np.random.default_rng(8)
    codes = pd.factorize(frame[group].astype(str))[0]
    within = frame.groupby(codes).cumcount().to_numpy()
    shuffled = frame.iloc[rng.permutation(len(frame))]
    text = frame[group].astype(str)
    return {
        "as it comes": frame,
        "shuffled": shuffled,
        "interleaved": frame.iloc[np.lexsort((codes, within))],
        "string": shuffled.assign(**{group: text.astype(object)}),
        "integer": shuffled.assign(**{group: text.astype(int)}),
        "category": shuffled.assign(
            **{group: text.astype(pd.CategoricalDtype(sorted(set(text))[::-1]))}
        ),
    }


@pytest.mark.parametrize(
    ("name", "group", "options"),
    [
        ("sleepstudy", "Subject", {}),
        ("cbpp", "herd", {"family": "binomial"}),
        ("deep", "Subject", {"control": DEEP_SMALL, "starts": 1, "se": None}),
    ],
)
def test_order_and_type_of_the_ids_do_not_matter(
    name: str, group: str, options: dict[str, Any]
) -> None:
    formula = DEEP if name == "deep" else FORMULAS[name]
    frame = data("sleepstudy" if name == "deep" else name)
    several = variants(frame, group)
    if name == "deep":  # what reorders is shared: one order and one type more will do
        several = {label: several[label] for label in ("as it comes", "interleaved", "category")}
    fits = {
        label: mixed_model(formula, changed, verbose=0, **options)
        for label, changed in several.items()
    }
    first = fits.pop("as it comes")
    near = 1e-10
    for label, fit in fits.items():
        assert float(fit.loglik()) == pytest.approx(float(first.loglik()), abs=1e-10), label
        np.testing.assert_allclose(fit.fixef(), first.fixef(), rtol=near, err_msg=label)
        if fit.information is not None:
            np.testing.assert_allclose(fit.std_errors(), first.std_errors(), rtol=1e-7)
        by_row = fit.fitted().loc[first.fitted().index]
        np.testing.assert_allclose(by_row, first.fitted(), rtol=near, err_msg=label)
        ours = fit.ranef().set_axis([str(label) for label in fit.ranef().index])
        theirs = first.ranef().set_axis([str(label) for label in first.ranef().index])
        np.testing.assert_allclose(ours.loc[theirs.index], theirs, rtol=1e-8, atol=near)


def test_polars_gives_the_same_fit(sleepstudy: Fit) -> None:
    frame = data("sleepstudy")
    lazy = pl.DataFrame(
        {name: frame[name].astype(str).to_list() for name in ["Subject"]}
        | {name: frame[name].to_list() for name in ["Reaction", "Days"]}
    )
    fit = mixed_model(SLEEP, lazy, verbose=0)
    assert float(fit.loglik()) == pytest.approx(float(sleepstudy.loglik()), abs=1e-9)
    pd.testing.assert_series_equal(fit.fixef(), sleepstudy.fixef(), rtol=1e-12)
    np.testing.assert_allclose(fit.predict(lazy)["fit"], sleepstudy.fitted(), rtol=1e-10)


def test_a_dict_of_columns_is_taken(sleepstudy: Fit) -> None:
    columns = {name: column.to_numpy() for name, column in data("sleepstudy").items()}
    assert float(mixed_model(SLEEP, columns, verbose=0).loglik()) == pytest.approx(
        float(sleepstudy.loglik()), abs=1e-9
    )
    refused("data frame|list", data=[1, 2])


def test_same_seed_same_numbers_other_seed_other_numbers() -> None:
    first, again, other = (
        mixed_model(DEEP, data("sleepstudy"), seed=seed, control=DEEP_SMALL, verbose=0)
        for seed in (0, 0, 1)
    )
    assert again.loglik() == first.loglik()
    pd.testing.assert_series_equal(again.fixef(), first.fixef(), check_exact=True)
    assert str(again.summary()) == str(first.summary())
    assert other.loglik() != first.loglik()


def test_the_users_frame_and_the_random_state_are_left_alone() -> None:
    frame = data("cbpp")
    before, state = frame.copy(deep=True), np.random.get_state()[1].copy()  # noqa: NPY002
    mixed_model(FORMULAS["cbpp"], frame, family="binomial", verbose=0)
    pd.testing.assert_frame_equal(frame, before)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


# -- weights and offsets ---------------------------------------------------------------------------


def test_weights_as_column_and_as_array_are_the_same() -> None:
    frame = data("sleepstudy").assign(w=np.tile([1.0, 2.0], 90))
    by_name = mixed_model(SLEEP, frame, weights="w", verbose=0)
    shuffled = frame.sample(frac=1, random_state=1)
    by_value = mixed_model(SLEEP, shuffled, weights=shuffled["w"].to_numpy(), verbose=0)
    assert float(by_name.loglik()) == pytest.approx(float(by_value.loglik()), abs=1e-9)
    assert abs(float(by_name.loglik()) - float(mixed_model(SLEEP, frame, verbose=0).loglik())) > 1


def test_an_offset_moves_the_intercept_by_itself(epil: Fit) -> None:
    frame = data("epil").assign(half=0.5)
    moved = mixed_model(FORMULAS["epil"], frame, family="poisson", offset="half", verbose=0)
    inside = FORMULAS["epil"].replace("V4", "V4 + offset(half)")
    formula = mixed_model(inside, frame, family="poisson", verbose=0)
    for fit in (moved, formula):
        assert fit.fixef()["(Intercept)"] == pytest.approx(
            epil.fixef()["(Intercept)"] - 0.5, abs=0.01 * epil.std_errors()["(Intercept)"]
        )
        assert float(fit.loglik()) == pytest.approx(float(epil.loglik()), abs=1e-4)


def test_successes_over_trials_is_cbind(cbpp: Fit) -> None:
    fit = mixed_model(
        "incidence / size ~ period + (1 | herd)", data("cbpp"), family="binomial", verbose=0
    )
    assert fit.loglik().value == pytest.approx(cbpp.loglik().value, abs=1e-10)
    rate = data("cbpp").assign(rate=lambda d: d["incidence"] / d["size"])
    idiom = mixed_model(
        "rate ~ period + (1 | herd)", rate, family="binomial", weights="size", verbose=0
    )
    assert idiom.loglik().value == pytest.approx(cbpp.loglik().value, abs=1e-10)
