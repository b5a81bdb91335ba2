"""Ordered outcomes: the order is known or asked for, categories keep their names and numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import special
from toys import frame

from dgmm import Fit, load, mixed_model
from dgmm.design.response import first_category

NAMES = ["none", "mild", "moderate", "severe"]


def pain() -> pd.DataFrame:
    data = frame(25, 5, seed=6)
    code = np.digitize(data["y"], [-0.5, 1.5, 3.5])
    text = np.array(NAMES)[code]
    return data.assign(
        number=code + 1,
        text=text,
        ordered=pd.Categorical(text, NAMES, ordered=True),
        unordered=pd.Categorical(text),
        numerals=(code + 8).astype(str),
        wide=pd.Categorical(text, ["none", "mild", "medium", *NAMES[2:]], ordered=True),
    )


def fit(outcome: str, data: object = None) -> Fit:
    frame = pain() if data is None else data
    return mixed_model(f"{outcome} ~ x + (1 | id)", frame, family="cumulative", verbose=0)


@pytest.fixture(scope="module")
def numbered() -> Fit:
    return fit("number")


def polars_frame(dtype: object) -> pl.DataFrame:
    columns = {name: pain()[name].to_list() for name in ("id", "x", "text")}
    return pl.DataFrame(columns).with_columns(pl.col("text").cast(dtype))


@pytest.mark.parametrize(
    ("outcome", "data"),
    [
        ("ordered", pain()),
        ("wide", pain()),
        ("C(text, levels=['none', 'mild', 'moderate', 'severe'])", pain()),
        ("text", polars_frame(pl.Enum(NAMES))),
    ],
    ids=["pandas", "an empty category", "C()", "polars"],
)
def test_named_categories_are_the_numbers_from_one(
    outcome: str, data: object, numbered: Fit
) -> None:
    found = fit(outcome, data)
    np.testing.assert_allclose(found.fixef(), numbered.fixef(), rtol=1e-6)
    np.testing.assert_allclose(found.predict()["fit"], numbered.predict()["fit"], rtol=1e-6)
    thresholds = found.family_parameters()
    assert list(thresholds.index) == ["none|mild", "mild|moderate", "moderate|severe"]
    np.testing.assert_allclose(thresholds, numbered.family_parameters(), rtol=1e-4)
    order = "categories none < mild < moderate < severe, numbered 1 to 4"
    assert any(order in note for note in found.messages)
    assert ("left out" in " ".join(found.messages)) == (outcome == "wide")


def test_numbers_keep_theirs(numbered: Fit) -> None:
    assert list(numbered.family_parameters().index) == ["1|2", "2|3", "3|4"]
    from_zero = pain().assign(number=lambda data: data["number"] - 1)
    moved = mixed_model("number ~ x + (1 | id)", from_zero, family="cumulative", verbose=0)
    assert list(moved.family_parameters().index) == ["0|1", "1|2", "2|3"]
    np.testing.assert_allclose(moved.predict()["fit"], numbered.predict()["fit"] - 1, rtol=1e-6)
    assert first_category(("8", "9", "10", "11")) == 8
    assert first_category(("8", "10", "11")) == first_category(("low", "high")) == 1


@pytest.mark.parametrize("outcome", ["text", "unordered", "numerals"])
def test_an_order_that_is_not_known_is_asked_for(outcome: str) -> None:
    with pytest.raises(ValueError, match=f"of the outcome `{outcome}` .* in no order") as caught:
        fit(outcome)
    assert f"C({outcome}, levels=[" in str(caught.value)
    assert "ordered=True" in str(caught.value)


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical])
def test_so_is_that_of_polars(dtype: object) -> None:
    with pytest.raises(ValueError, match="in no order"):
        fit("text", polars_frame(dtype))


def test_names_survive_the_file_and_are_read_in_a_history(tmp_path: Path) -> None:
    data, found = pain(), fit("ordered")
    found.save(tmp_path / "fit")
    again = load(tmp_path / "fit")
    assert again.family_parameters().equals(found.family_parameters())
    new = data[data["id"] == 3].assign(id=-1)
    predicted = again.predict(new, history=new)["fit"].to_numpy()
    np.testing.assert_allclose(predicted, found.predict()["fit"][data["id"] == 3], rtol=1e-8)
    drawn = again.simulate(1, seed=1)["sim_1"]
    assert set(drawn) <= {1.0, 2.0, 3.0, 4.0}
    assert np.isfinite(float(again.refit(drawn).loglik()))


def test_completed_outcomes_have_their_names() -> None:
    data = pain()
    data.loc[3, "ordered"] = None
    found = fit("ordered", data)
    (whole,) = found.impute(1, seed=2)
    assert whole["ordered"].notna().all()
    assert (whole["ordered"].astype(str) == data["text"]).drop(3).all()
    assert whole["ordered"][3] in NAMES


@pytest.mark.parametrize("type", ["subject", "mean_subject", "marginal"])
def test_probabilities_of_categories(type: str) -> None:
    found = fit("ordered")
    shares = found.predict(type=type, scale="categories")
    assert list(shares.columns) == NAMES
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-12)
    mean = found.predict(type=type)["fit"]
    np.testing.assert_allclose(shares.to_numpy() @ [1, 2, 3, 4], mean, rtol=1e-10)
    if type == "mean_subject":  # F(c_k - eta) at b = 0
        eta = found.predict(type=type, scale="link")["fit"].to_numpy()
        ends = found.family_parameters()["estimate"].to_numpy() - eta[:, None]
        below = np.column_stack([special.expit(ends), np.ones(len(eta))])
        expected = np.diff(below, axis=1, prepend=0)
        np.testing.assert_allclose(shares, expected, rtol=1e-10)


def test_probabilities_are_of_ordinal_outcomes_and_without_intervals(numbered: Fit) -> None:
    with pytest.raises(ValueError, match="come without intervals"):
        numbered.predict(scale="categories", interval="confidence")
    with pytest.raises(ValueError, match=r"predict\(scale='categories'\)"):
        numbered.fitted("categories")
    plain = mixed_model("y ~ x + (1 | id)", pain(), verbose=0)
    with pytest.raises(ValueError, match="this fit has family 'gaussian'"):
        plain.predict(scale="categories")


# -- two values ------------------------------------------------------------------------------------


def answers() -> pd.DataFrame:
    data = frame(25, 5, seed=7)
    return data.assign(
        text=np.where(data["z"] > 0, "yes", "no"),
        flag=data["z"] > 0,
        nullable=pd.array(data["z"] > 0, dtype="boolean"),
        category=pd.Categorical(np.where(data["z"] > 0, "yes", "no")),
    )


@pytest.mark.parametrize("outcome", ["text", "flag", "nullable", "category"])
@pytest.mark.parametrize("family", ["gaussian", "poisson", "hurdle_gamma"])
def test_a_yes_or_no_is_not_a_number(outcome: str, family: str) -> None:
    with pytest.raises(ValueError, match=f"`{outcome}` has the two values .*family='bernoulli'"):
        mixed_model(f"{outcome} ~ x + (1 | id)", answers(), family=family, verbose=0)


def test_it_is_a_bernoulli_variable_in_every_frame() -> None:
    data, formula = answers(), "flag ~ x + (1 | id)"
    known = mixed_model("z ~ x + (1 | id)", data, family="bernoulli", verbose=0)
    foreign = pl.DataFrame({name: data[name].to_list() for name in ("id", "x", "flag")})
    for one in (data, foreign):
        found = mixed_model(formula, one, family="bernoulli", verbose=0)
        np.testing.assert_allclose(found.fixef(), known.fixef(), rtol=1e-8)
    with pytest.raises(ValueError, match="family='bernoulli'"):
        mixed_model(formula, foreign, verbose=0)
    data.loc[2, "nullable"] = None
    gone = mixed_model("nullable ~ x + (1 | id)", data, family="bernoulli", verbose=0)
    assert gone.nobs() == len(data) - 1


# -- trials ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "way"),
    [("binomial", "ratio"), ("binomial", "weights"), ("beta_binomial", "cbind")],
)
def test_rows_without_trials_are_left_out_and_counted(family: str, way: str) -> None:
    data = frame(15, 5, seed=9)
    data.loc[[4, 17], ["hits", "size"]] = 0.0
    data = data.assign(miss=data["size"] - data["hits"])
    left = {"ratio": "hits / size", "cbind": "cbind(hits, miss)", "weights": "share"}[way]
    share = data["hits"] / data["size"].clip(lower=1)
    options = {"weights": "size"} if way == "weights" else {}

    def fit(rows: pd.DataFrame) -> Fit:
        return mixed_model(f"{left} ~ x + (1 | id)", rows, family=family, verbose=0, **options)

    whole = data.assign(share=share)
    with pytest.warns(UserWarning, match="has no trials in 2 of 75 rows"):
        found = fit(whole)
    known = fit(whole.drop(index=[4, 17]))
    assert float(found.loglik()) == pytest.approx(float(known.loglik()), abs=1e-6)
    assert found.nobs() == known.nobs() == 73
    assert len(found.predict()) == 75


def test_unknown_and_impossible_trials() -> None:
    data = frame(15, 5, seed=9)
    data.loc[3, "size"] = np.nan
    with pytest.warns(UserWarning, match="has no trials in 1 of 75 rows"):
        found = mixed_model("hits / size ~ x + (1 | id)", data, family="binomial", verbose=0)
    assert found.nobs() == 74
    data.loc[5, ["hits", "size"]] = [2.0, 0.0]
    with pytest.raises(ValueError, match="the denominator is 0 and the numerator is not in 1 row"):
        mixed_model("hits / size ~ x + (1 | id)", data, family="binomial", verbose=0)


def test_labels_of_a_fit_are_its_numbers_when_refitted() -> None:
    r = np.random.default_rng(2)
    g = np.repeat(np.arange(20), 5)
    latent = r.normal(size=100) + r.normal(size=20)[g]
    labels = np.array(["none", "mild", "severe"])
    pain = pd.Categorical(labels[(latent > -0.5).astype(int) + (latent > 1)], labels, ordered=True)
    data = pd.DataFrame({"pain": pain, "x": r.normal(size=100), "g": g})
    fit = mixed_model("pain ~ x + (1 | g)", data, family="cumulative", se=None, verbose=0)
    again = fit.refit(data["pain"].sample(frac=1.0, random_state=1))
    assert float(again.loglik()) == pytest.approx(float(fit.loglik()), abs=1e-6)
    with pytest.raises(ValueError, match="the outcome has worst, and the categories of the fit"):
        fit.refit(["worst"] * 100)


def test_a_change_may_stand_beside_its_baseline() -> None:
    r = np.random.default_rng(3)
    g = np.repeat(np.arange(20), 4)
    pre = r.normal(size=80)
    post = 0.6 * pre + r.normal(size=20)[g] + r.normal(size=80)
    data = pd.DataFrame({"pre": pre, "post": post, "g": g})
    change = mixed_model("I(post - pre) ~ pre + (1 | g)", data, verbose=0)
    level = mixed_model("post ~ pre + (1 | g)", data, verbose=0)
    assert change.fixef()["pre"] == pytest.approx(level.fixef()["pre"] - 1, abs=1e-8)
    assert change.std_errors()["pre"] == pytest.approx(level.std_errors()["pre"], rel=1e-6)
    with pytest.raises(ValueError, match="the outcome `post` also stands right of"):
        mixed_model("log(post) ~ post + (1 | g)", data, verbose=0)
