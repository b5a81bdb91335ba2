"""cre(id, ~ x) from its text to the columns of a design, and what is said of it in words."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import dgmm
from dgmm.design import Design, Specification, build_design, rebuild
from dgmm.formula import FormulaError, Given, NetworkTerm, nested_formula, parse_formula
from dgmm.latent import words

WRONG = {
    "(1 | cre(id))": "takes a group and a formula",
    "(1 | cre(id, x))": "takes a group and a formula",
    "(1 | cre(id, y ~ x))": "takes a group and a formula",
    "(1 | cre(id, ~ x, ~ z))": "takes a group and a formula",
    "(1 | cre(id, ~ 1))": "names no covariate",
    "(1 | cre(id, ~))": "names no covariate",
    "(1 | cre(a/b, ~ x))": "a group is a column",
    "(1 | a/cre(b, ~ x))": "holds the whole group",
    "(0 + x | cre(id, ~ x))": "about the mean of a random intercept",
    "(ou(t) | cre(id, ~ x))": "about the mean of a random intercept",
    "(1 | cre(id, ~ .))": "stands among the fixed terms alone",
    "(1 | cre(id, ~ x - dnn(x)))": "cannot be subtracted",
    "(1 | cre(id, ~ log(dnn(x))))": "term of its own",
    "(1 | cre(id, ~ x, scale=~))": "scale= needs terms",
    "(1 | cre(id, ~ x, scale=~ 1))": "names no covariate",
    "(x || cre(id, ~ x, scale=~ z))": "free covariance",
    "(1 | cre(id, ~ x, device='mean'))": "'mundlak' or 'chamberlain'",
    "(1 | cre(id, ~ x, time=t))": "is for device='chamberlain'",
    "(1 | cre(id, ~ x, lag=2))": "no option lag=",
}


def frame() -> pd.DataFrame:
    """Five subjects with two to four rows; one outcome of subject 3 and all of 5 are missing."""
    rng = np.random.default_rng(4)
    id = np.repeat([1, 2, 3, 4, 5], [3, 2, 4, 4, 2])
    size = len(id)
    data = pd.DataFrame({"id": id, "t": np.arange(size) % 4, "x": rng.normal(size=size)})
    data["z"], data["w"] = rng.normal(size=size), np.repeat(rng.normal(size=5), [3, 2, 4, 4, 2])
    data["g"], data["y"] = rng.choice(["a", "b", "c"], size), rng.normal(size=size)
    data.loc[[6, 13, 14], "y"] = np.nan
    return data


def design(right: str, data: pd.DataFrame | None = None) -> Design:
    formula = parse_formula(f"y ~ {right}", latent_words=words())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build_design(formula, frame() if data is None else data)


def column(made: Design, name: str) -> pd.Series:
    """A fixed column in the order of the user's rows."""
    values = made.fixed.matrix[:, made.fixed.names.index(name)]
    return pd.Series(values, index=made.rows).sort_index()


# -- text ------------------------------------------------------------------------------------------


def test_the_parts_of_the_group() -> None:
    text = "y ~ x + (1 | cre(id, ~ x + dnn(x, z, hidden=(4,)), scale=~ w))"
    formula = parse_formula(text)
    (term,) = formula.latents
    network = NetworkTerm("dnn(x, z, hidden=(4,))", "x + z", (4,), group="id")
    assert (term.group, term.kind, term.basis) == ("id", "cre", "w")
    assert term.given == Given("x + z", (network,), scale="w")
    assert formula.networks == (network,)
    nested = nested_formula(formula)
    assert nested.text == "y ~ 1 + x + (1 | cre(id, ~ x + z, scale=~ w))"
    assert nested == parse_formula(nested.text)


def test_the_intercept_left_of_the_bar_is_what_is_given() -> None:
    both = parse_formula("y ~ x + (1 + ou(t) | cre(id, ~ x))", latent_words=words()).latents
    assert [(one.kind, one.given is not None) for one in both] == [("normal", True), ("ou", False)]
    slope, other = parse_formula("y ~ x + (1 + t | cre(id, ~ x)) + (1 | firm)").latents
    assert slope.given == Given("x")
    assert other.given is None


@pytest.mark.parametrize("right", WRONG)
def test_what_cannot_be_is_refused_where_it_stands(right: str) -> None:
    with pytest.raises(FormulaError, match=r"\^") as error:
        parse_formula(f"y ~ x + {right}", latent_words=words())
    assert WRONG[right] in str(error.value)


def test_parts_and_fits_of_subjects_have_none() -> None:
    data = frame().assign(y=lambda d: d["y"].abs().round())
    with pytest.raises(ValueError, match=r"zi= has no cre\(\)"):
        dgmm.mixed_model(
            "y ~ x + (1 | id)", data, family="poisson", zi="~ (1 | cre(id, ~ x))", verbose=0
        )
    with pytest.raises(ValueError, match=r"leave out cre\(\)"):
        dgmm.lm_list("y ~ x + (1 | cre(id, ~ x))", data)
    with pytest.raises(ValueError, match=r"right of a bar: \(1 \| cre\(id, ~ x\)\)"):
        dgmm.mixed_model("y ~ cre(id, ~ x) + (1 | id)", data, verbose=0)


# -- columns ---------------------------------------------------------------------------------------


def test_means_are_over_the_rows_with_an_outcome() -> None:
    data = frame()
    made = design("x + (1 | cre(id, ~ x))")
    seen = data[data["y"].notna()].groupby("id")["x"].mean()
    expected = data["id"].map(seen).fillna(data.groupby("id")["x"].transform("mean"))
    np.testing.assert_allclose(column(made, "mean(x | id)"), expected, rtol=1e-14)


def test_means_of_columns_as_they_are_coded() -> None:
    data = frame().assign(y=1.0)
    made = design("x + (1 | cre(id, ~ g + x:z + I(x**2)))", data)
    coded = {
        "gb": data["g"] == "b",
        "gc": data["g"] == "c",
        "I(x ** 2)": data["x"] ** 2,
        "x:z": data["x"] * data["z"],  # no product of means
    }
    assert made.fixed.names[2:] == tuple(f"mean({name} | id)" for name in coded)
    for name, values in coded.items():
        expected = values.astype(float).groupby(data["id"]).transform("mean")
        np.testing.assert_allclose(column(made, f"mean({name} | id)"), expected, rtol=1e-13)


def test_rows_with_a_gap_are_in_no_mean() -> None:
    data = frame().assign(y=1.0)
    data.loc[0, "x"] = np.nan
    made = design("z + (1 | cre(id, ~ x))", data)
    assert column(made, "mean(x | id)").iloc[0] == pytest.approx(data["x"][1:3].mean())


def test_subjects_keep_their_means_and_new_ones_bring_their_own() -> None:
    spec = design("x + (1 | cre(id, ~ x))").spec
    plain = spec.to_json()
    again = Specification.from_json(plain)
    assert again == spec
    known = dict(zip(("x",), spec.between["given 0"].values["2"], strict=True))["x"]
    new = pd.DataFrame({"id": [2, 2, 77, 77, None], "x": [50.0, 60.0, 1.0, 4.0, 9.0]})
    made = rebuild(again, new, outcome=False)
    average = frame().loc[frame()["y"].notna()]
    average = average["id"].map(average.groupby("id")["x"].mean()).mean()
    expected = [known, known, 2.5, 2.5, average]
    np.testing.assert_allclose(column(made, "mean(x | id)"), expected, rtol=1e-13)
    without = rebuild(again, new[["x"]], outcome=False)
    np.testing.assert_allclose(column(without, "mean(x | id)"), average, rtol=1e-13)


def test_inputs_of_networks_and_scales_are_means_too() -> None:
    data = frame().assign(y=1.0)
    made = design("x + dnn(z) + (1 | cre(id, ~ dnn(x), scale=~ z))", data)
    mean = data.groupby("id")[["x", "z"]].transform("mean").to_numpy()[made.rows]
    plain, given = made.networks
    np.testing.assert_allclose(plain.columns.matrix[:, 0], data["z"][made.rows], rtol=1e-14)
    np.testing.assert_allclose(given.columns.matrix[:, 0], mean[:, 0], rtol=1e-13)
    assert made.latents[0].basis is not None
    np.testing.assert_allclose(made.latents[0].basis.matrix[:, 0], mean[:, 1], rtol=1e-13)


def panel(n: int = 6, T: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), T), "year": np.tile(np.arange(T), n) + 1990})
    return data.assign(x=rng.normal(size=n * T), y=rng.normal(size=n * T))


def test_chamberlains_device_has_the_values_of_all_times() -> None:
    data = panel()
    right = "x + (1 | cre(id, ~ x, device='chamberlain', time=year))"
    made = design(right, data.sample(frac=1, random_state=1))
    wide = data.pivot(index="id", columns="year", values="x")
    for year in (1990, 1991, 1992):
        found = column(design(right, data), f"x[{year} | id]")
        np.testing.assert_array_equal(found, wide[year][data["id"]])
    # shuffled rows are the same design
    np.testing.assert_array_equal(design(right, data).fixed.matrix, made.fixed.matrix)
    by_order = design(right.replace(", time=year", ""), data)
    np.testing.assert_array_equal(made.fixed.matrix, by_order.fixed.matrix)
    assert "x[2 | id]" in by_order.fixed.names


def test_times_that_are_words_are_named_by_them() -> None:
    data = panel(30).assign(when=lambda d: d["year"].map(lambda year: f"wave {year}"))
    text = "y ~ x + (1 | cre(id, ~ x, device='chamberlain', time={}))"
    words, numbers = (
        dgmm.mixed_model(text.format(name), data, verbose=0, se=None) for name in ("when", "year")
    )
    names = [name for name in words.fixef().index if "[" in name]
    years = sorted(data["year"].unique())
    assert names == [f"x[wave {year} | id]" for year in years]
    np.testing.assert_allclose(words.fixef().to_numpy(), numbers.fixef().to_numpy(), rtol=1e-10)


def test_chamberlains_device_needs_a_balanced_panel() -> None:
    data = panel()
    right = "x + (1 | cre(id, ~ x, device='chamberlain', time=year))"
    with pytest.raises(ValueError, match="'2' has 2 rows.*not balanced: use the means"):
        design(right, data.drop(index=7))
    spec = design(right, data).spec
    few = pd.DataFrame({"id": [0, 90], "year": [1991, 1991], "x": [0.0, 1.0]})
    assert rebuild(spec, few.iloc[:1], outcome=False).n_rows == 1
    with pytest.raises(ValueError, match="'90' has 1 rows"):
        rebuild(spec, few, outcome=False)


def test_one_mean_stands_once() -> None:
    with pytest.raises(ValueError, match="stands twice"):
        design("x + (1 | cre(id, ~ x)) + (1 + t | cre(id, ~ x))")


def test_the_dot_keeps_the_covariates_that_are_given() -> None:
    data = frame()[["id", "x", "z", "y"]]
    made = design(". + (1 | cre(id, ~ dnn(x, hidden=(2,))))", data)
    assert made.fixed.names == ("(Intercept)", "x", "z", "mean(x | id)")
    assert len(made.networks) == len(made.spec.parsed().networks) == 1


@pytest.mark.parametrize("group", ["id, ~ nosuch", "nosuch, ~ x", "id, ~ x, scale=~ nosuch"])
def test_unknown_columns_are_pointed_at(group: str) -> None:
    with pytest.raises(ValueError, match=r"no column `nosuch`[\s\S]*\^\^\^\^\^\^"):
        design(f"x + (1 | cre({group}))")


# -- words -----------------------------------------------------------------------------------------


def said(text: str, data: pd.DataFrame) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = dgmm.mixed_model(text, data, verbose=0, se=None)
    told = " ".join(str(one.message) for one in caught)
    assert all(one in " ".join(str(fit.summary()).split()) for one in told.split()[:3])
    return told


def dynamic(n: int = 40, T: int = 5) -> pd.DataFrame:
    """y_it = y_i,t-1 / 2 + a_i + e_it with the first outcome of every subject."""
    rng = np.random.default_rng(6)
    y = np.zeros((n, T + 1))
    a = rng.normal(size=n)
    for t in range(1, T + 1):
        y[:, t] = 0.5 * y[:, t - 1] + a + rng.normal(size=n)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), T), "y": y[:, 1:].ravel()})
    data["lag"], data["x"] = y[:, :-1].ravel(), rng.normal(size=n * T)
    data["first"] = np.repeat(y[:, 1], T)
    return data.assign(year=np.tile(np.arange(T), n), w=np.repeat(rng.normal(size=n), T))


def test_a_lagged_outcome_is_recognised_by_its_values() -> None:
    data = dynamic()
    told = said("y ~ x + lag + (1 | cre(id, ~ x + lag))", data)
    assert "`lag` is the outcome of the row before" in told
    assert "Nickell" in told
    assert "y_i0" in told
    # also where the rows come in another order, if their time is known
    mixed = data.sample(frac=1, random_state=3)
    assert "Nickell" in said("y ~ x + lag + (year | cre(id, ~ x + lag))", mixed)
    assert "Nickell" not in said("y ~ x + w + (1 | cre(id, ~ x))", data)


def test_rare_events_are_not_taken_for_one_another() -> None:
    data = dynamic()
    rng = np.random.default_rng(9)
    data["y"], data["x"] = (rng.uniform(size=(2, len(data))) < 0.02).astype(float)
    text = "y ~ x + z + (1 | cre(id, ~ x + z))"
    data["z"] = rng.normal(size=len(data))
    assert "Nickell" not in said(text, data)
    data.loc[data["year"] % 2 == 1, "y"] = 1.0
    data["x"] = data.groupby("id")["y"].shift(1)
    assert "`x` is the outcome of the row before" in said(text, data)


def test_the_first_outcome_among_the_terms_is_the_remedy() -> None:
    data = dynamic()
    later = data[data["year"] > 0].assign(y0=lambda d: d["first"])
    assert "Nickell" not in said("y ~ x + lag + y0 + (1 | cre(id, ~ x))", later)


def test_constant_covariates_singletons_and_time_dummies() -> None:
    data = dynamic()
    told = said("y ~ x + w + (1 | cre(id, ~ x + w))", data)
    assert "`w` is constant within every `id`" in told
    single = said("y ~ x + (1 | cre(id, ~ x))", data.drop(index=[1, 2, 3, 4]))
    assert "1 of 40 `id` have one row" in single
    dummies = said("y ~ x + factor(year) + (1 | cre(id, ~ x + factor(year)))", data)
    assert "the means of `factor(year)1`" in dummies
    assert "do not vary between `id`, as those of time dummies" in dummies
    assert said("y ~ x + (1 | cre(id, ~ x))", data) == ""
    # a covariate that moves within one subject is no constant, in an unbalanced panel dummies have
    # means that differ, and a subject with two rows is none with one
    moved = data.assign(w=data["w"].where(data.index != 7, 0.3))
    assert said("y ~ x + w + (1 | cre(id, ~ x + w))", moved) == ""
    short = data.drop(index=[1, 7, 13, 19, 24])
    unbalanced = said("y ~ x + factor(year) + (1 | cre(id, ~ x + factor(year)))", short)
    assert "do not vary" not in unbalanced
    assert "have one row" not in unbalanced


def test_a_subject_with_one_outcome_seen_counts_as_single() -> None:
    data = dynamic()
    data.loc[[1, 2, 3, 4], "y"] = np.nan
    assert "1 of 40 `id` have one row" in said("y ~ x + (1 | cre(id, ~ x))", data)


def test_the_warnings_are_those_of_every_method() -> None:
    data = dynamic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        options = {"method": "gibbs", "draws": 20, "warmup": 20, "verbose": 0}
        fit = dgmm.mixed_model("y ~ lag + w + (1 | cre(id, ~ lag + w))", data, **options)
    told = " ".join(str(one.message) for one in caught)
    assert "Nickell" in told
    assert "`w` is constant within every `id`" in told
    assert "Nickell" in str(fit.summary())


def test_the_order_that_stands_for_a_time_is_a_note() -> None:
    text = "y ~ x + (1 | cre(id, ~ x, device='chamberlain'))"
    fit = dgmm.mixed_model(text, panel(30), verbose=0)
    assert any("in the order of the data; name the time by time=" in one for one in fit.messages)
    named = fit.update(text.replace("')", "', time=year)"), data=panel(30))
    assert not any("in the order of" in one for one in named.messages)


def test_a_specification_without_subjects_is_read() -> None:
    spec = design("x + (1 | id)").spec
    assert replace(spec, between={}) == spec
    assert Specification.from_json(spec.to_json()) == spec
