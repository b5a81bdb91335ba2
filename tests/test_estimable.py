"""Estimable rows and functions against the null space of the dense design."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import dgmm
from dgmm.design import Columns, Departures
from dgmm.design.estimable import aliases, dependent_columns

LEVELS = {"f": ["a", "b", "c"], "h": ["A", "B"]}
GRID = pd.DataFrame([*product(*LEVELS.values())], columns=[*LEVELS]).assign(x=0.7, z=1.4)


def frame(seed: int = 1) -> pd.DataFrame:
    """Sixty subjects, no row in the cell (c, B), z = 2 x."""
    rng, n = np.random.default_rng(seed), 60
    data = pd.DataFrame({"id": np.repeat(np.arange(n), 4), "x": rng.normal(size=4 * n)})
    data["f"] = rng.choice(LEVELS["f"], size=4 * n)
    data["h"] = np.where(data.f == "c", "A", rng.choice(LEVELS["h"], size=4 * n))
    data["z"] = 2 * data.x
    effects = rng.normal(size=n)[data.id] + 0.5 * (data.f == "b") - 0.8 * (data.h == "B")
    return data.assign(y=effects + rng.normal(size=4 * n))


def fitted(formula: str, data: pd.DataFrame, **options: Any) -> dgmm.Fit:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "dropped from")
        return dgmm.mixed_model(formula, data, **options)


def dense(data: pd.DataFrame) -> np.ndarray:
    """1, x, z, one indicator per level and per cell: all codings of y ~ f * h + x + z at once."""
    f = np.stack([data.f == level for level in LEVELS["f"]], axis=1)
    h = np.stack([data.h == level for level in LEVELS["h"]], axis=1)
    cells = (f[:, :, None] & h[:, None, :]).reshape(len(data), -1)
    numbers = data[["x", "z"]].to_numpy(dtype=float)
    return np.column_stack([np.ones(len(data)), numbers, f, h, cells]).astype(float)


def in_row_space(X: np.ndarray, L: np.ndarray) -> np.ndarray:
    """Whether the rows of L (G, p) are combinations of those of X, by the null space of X."""
    _, size, right = np.linalg.svd(X)
    rank = int((size > 1e-10 * size[0]).sum())
    return np.asarray(np.abs(L @ right[rank:].T).max(axis=1) < 1e-8)


@pytest.mark.parametrize("reference", [("a", "b", "c"), ("c", "a", "b"), ("b", "c", "a")])
def test_rows_without_an_estimate_are_those_outside_of_the_row_space(
    reference: tuple[str, ...],
) -> None:
    data = frame()
    new = pd.concat([GRID, GRID.assign(z=0.0)], ignore_index=True)
    known = in_row_space(dense(data), dense(new))
    assert known.tolist() == [True] * 5 + [False] * 7

    def coded(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(f=pd.Categorical(table.f, categories=list(reference)))

    fit = fitted("y ~ f * h + x + z + (1 | id)", coded(data), se=None)
    with pytest.warns(UserWarning, match=r"not estimable in 7 of 12 rows.*`z`"):
        found = fit.predict(coded(new), type="mean_subject")["fit"].to_numpy()
    assert np.array_equal(np.isfinite(found), known)
    cells = data.assign(cell=data.f + data.h)
    means = fitted("y ~ 0 + cell + x + (1 | id)", cells, se=None)
    right = means.predict(
        GRID.assign(cell=GRID.f + GRID.h)[:5].reset_index(drop=True), type="mean_subject"
    )
    assert np.allclose(found[:5], right["fit"], atol=1e-5)


def test_averages_are_estimable_where_the_null_space_does_not_move_them() -> None:
    data = frame()
    fit = fitted("y ~ f * h + x + z + (1 | id)", data)
    X = dense(data)

    def average(**setting: Any) -> np.ndarray:
        return np.asarray(dense(data.assign(**setting)).mean(axis=0, keepdims=True))

    rows = {
        "f: b - a": average(f="b") - average(f="a"),
        "f: c - a": average(f="c") - average(f="a"),
        "h: B - A": average(h="B") - average(h="A"),
        "x": average(x=data.x + 1) - average(),
        "z": average(z=data.z + 1) - average(),
    }
    known = {name: bool(in_row_space(X, L)[0]) for name, L in rows.items()}
    assert known == {name: name == "f: b - a" for name in rows}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = fit.slopes()
    words = [str(one.message) for one in caught]
    assert words[0].startswith("f: c - a is not estimable: this needs the effect of `fc:hB`")
    assert len(words) == 4
    assert table["Estimate"].notna().to_dict() == known
    assert table["Std. Error"].notna().to_dict() == known
    both = {"x": 1.0, "z": 2.0}
    found = fit.contrast(both, {"x": 0.0, "z": 0.0})  # along z = 2 x: the coefficient of x
    assert in_row_space(X, average(**both) - average(x=0.0, z=0.0))[0]
    assert found["Estimate"].iloc[0] == pytest.approx(fit.fixef()["x"], rel=1e-10)


def test_effects_and_tests_of_terms_name_the_empty_cell() -> None:
    fit = fitted("y ~ f * h + (1 | id)", frame())
    with pytest.warns(UserWarning, match="effects.* not estimable in 1 of 6 rows.*`fc:hB`"):
        table = fit.effects(["f", "h"])
    assert table[["fit", "se", "lower", "sim_upper"]].isna().all(axis=1).tolist() == [False] * 5 + [
        True
    ]
    assert fit.effects("f", at={"h": "A"})["fit"].notna().all()
    assert "`f:h`: tested without `fc:hB`, not estimable" in fit.anova().notes
    assert fit.anova().table.loc["f:h", "Df"] == 1
    with pytest.raises(ValueError, match="'fc:hB' is not estimable"):
        fit.anova(L=["fc:hB"])


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("gaussian", "number"),
        ("gaussian", "indicator"),
        ("gaussian", "constant"),
        ("gaussian", "interaction"),
        ("poisson", "text"),
    ],
)
def test_columns_that_vary_only_without_an_outcome_leave_the_fit_as_it_is(
    family: str, kind: str
) -> None:
    data = frame(3)
    rng, unseen = np.random.default_rng(4), np.arange(len(data)) % 9 == 2
    data["y"] = rng.poisson(np.exp(data.y.clip(upper=2))) if family == "poisson" else data.y
    data.loc[unseen, "y"] = np.nan
    data["w"] = {
        "number": np.where(unseen, rng.normal(size=len(data)), 0.0),
        "indicator": unseen.astype(float),
        "text": np.where(unseen, "new", "old"),
        "constant": np.where(unseen, 3.0, 7.0),
        "interaction": np.where(unseen, "new", "old"),
    }[kind]
    right = "x * w" if kind == "interaction" else "x + w"
    with pytest.warns(UserWarning, match=r"dropped from the fixed terms: `w.*`y` was observed\)"):
        fit = dgmm.mixed_model(f"y ~ {right} + (1 | id)", data, family=family)
    plain = dgmm.mixed_model("y ~ x + (1 | id)", data, family=family)
    assert list(fit.fixef().index) == ["(Intercept)", "x"]
    assert np.array_equal(fit.coefficients(), plain.coefficients())
    assert np.array_equal(fit.fitted().isna(), unseen)
    assert np.array_equal(fit.fitted()[~unseen], plain.fitted()[~unseen])
    with pytest.warns(UserWarning, match="not estimable in 27 of 240 rows"):
        found = fit.predict(interval="confidence")
    assert found.isna().all(axis=1).equals(pd.Series(unseen))
    with pytest.raises(ValueError, match="nothing to impute by: not estimable"):
        fit.impute(2, seed=1)


def test_random_slopes_and_networks_need_variation_where_an_outcome_was_seen() -> None:
    data = frame(3)
    unseen = np.arange(len(data)) % 9 == 2
    data["y"], data["w"] = data.y.where(~unseen), np.where(unseen, data.x, 0.5)
    with pytest.warns(UserWarning, match=r"\(1 \+ w \| id\): `w` \(constant where `y`"):
        fit = dgmm.mixed_model("y ~ x + (1 + w | id)", data)
    plain = dgmm.mixed_model("y ~ x + (1 | id)", data)
    assert np.allclose(fit.coefficients(), plain.coefficients(), rtol=1e-7)
    new = data[unseen]
    means = [one.predict(new, type="mean_subject") for one in (fit, plain)]
    assert np.allclose(*means, rtol=1e-7)
    with pytest.warns(UserWarning, match="not estimable in 27 of 27 rows"):
        assert fit.predict(new).isna().all(axis=None)
    with pytest.raises(ValueError, match=r"dnn\(w\): no input varies where `y` was observed"):
        fitted("y ~ x + dnn(w) + (1 | id)", data)
    with pytest.raises(ValueError, match="in every observed row: there is nothing to explain"):
        plain.refit(data.y.where(data.x == data.x[0]))
    two = data.assign(g=np.where(np.arange(len(data)) % 2, "a", "b"))
    grouped = dgmm.mixed_model("y ~ g + (1 | id)", two)
    with pytest.raises(ValueError, match="outcomes given say nothing about `gb`"):
        grouped.refit(two.y.where(two.g == "a"))


def test_outcomes_of_new_data_without_an_estimate_do_not_count(tmp_path: Path) -> None:
    fit = fitted("y ~ f * h + (1 | id)", frame())
    fit.save(tmp_path / "fit")
    again, new = dgmm.load(tmp_path / "fit"), GRID.assign(id=1, y=0.5)
    with pytest.warns(UserWarning, match="1 outcomes are left out, not estimable in 1 of 6 rows"):
        found = again.log_score(new)
    assert found["nobs"].item() == 5
    assert found.equals(fit.log_score(new[new.f + new.h != "cB"]))


def test_dependent_columns_are_judged_on_their_own_scale() -> None:
    rng = np.random.default_rng(3)
    X, names = rng.normal(size=(50, 3)) * [1e8, 1.0, 1e-8], ("a", "b", "c", "d")
    assert dependent_columns(np.column_stack([X, rng.normal(size=50)]), names) == {}
    tied = np.column_stack([X, 1e-8 * X[:, 0] + 1e8 * X[:, 2]])
    assert dependent_columns(tied, names)["d"] == pytest.approx({"a": 1e-8, "c": 1e8})
    nearly = np.column_stack([X, X[:, 1] + 1e-6 * rng.normal(size=50)])
    assert dependent_columns(nearly, names) == {}


@pytest.mark.parametrize("origin", [0.0, 2.4e6, 1e9])
def test_equations_do_not_depend_on_the_origin_of_a_variable(origin: float) -> None:
    """z = 2 (x - origin) + w / 100 holds in every row; moved by an hour in none."""
    rng = np.random.default_rng(3)
    x = origin + np.round(rng.normal(scale=3, size=200), 6)
    w = rng.normal(size=200)
    matrix = np.column_stack([np.ones(200), x, w, 2 * (x - origin) + 0.01 * w])
    names = ("(Intercept)", "x", "w", "z")
    block = Columns(matrix, names, (frozenset(),) * 4, names)
    (found,) = aliases(block, np.ones(200, dtype=bool))
    assert found.name == "z"
    assert found.weights["x"] == pytest.approx(2, rel=1e-6)
    assert found.weights["w"] == pytest.approx(0.01, rel=1e-4)
    assert Departures.of({"fixed": block}, {"fixed": (found,)}, 200).estimable.all()
    moved = replace(block, matrix=matrix + np.array([0, 0, 0, 1 / 24]))
    assert not Departures.of({"fixed": moved}, {"fixed": (found,)}, 200).estimable.any()
