"""What a fit remembers of its covariates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dgmm.design import build_design, covariate_frame, covariate_values, rebuild, typical_value
from dgmm.formula import parse_formula


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [2, 2, 1, 1, 3, 3],
            "y": [1.0, 2.0, 3.0, np.nan, 5.0, 6.0],
            "x": [0.0, 1.0, 2.0, 3.0, 4.0, 8.0],
            "g": pd.Categorical(["b", "a", "a", "b", "c", "c"], ["b", "a", "c", "d"]),
            "t": [True, False, True, True, False, False],
        }
    )


def test_the_frame_gives_the_same_columns_again() -> None:
    design = build_design(parse_formula("y ~ x * g + t + (1 | id)"), frame())
    again = covariate_frame(design.covariates)
    assert list(again) == ["x", "g", "t"]
    order = design.rows
    assert again["g"].to_list() == frame()["g"].iloc[order].to_list()
    rebuilt = rebuild(design.spec, again, outcome=False)
    back = np.argsort(rebuilt.rows)
    np.testing.assert_array_equal(rebuilt.fixed.matrix[back], design.fixed.matrix)


def test_a_number_that_is_made_a_category_has_its_levels() -> None:
    data = pd.concat([frame()] * 3).assign(k=[3, 1, 2] * 6)
    made = build_design(parse_formula("y ~ x + C(k, contr.sum) + (1 | id)"), data)
    levels = made.spec.levels_of("k")
    assert levels == (1, 2, 3)
    assert covariate_values(made.covariates["k"], 5, levels) == [1, 2, 3]
    assert typical_value(made.covariates["k"], levels) == 1
    assert made.spec.levels_of("x") == ()
    named = build_design(parse_formula("y ~ factor(`a k`, levels=(3, 1, 2))"),
                         data.rename(columns={"k": "a k"}))  # fmt: skip
    assert named.spec.levels_of("a k") == (3, 1, 2)
    assert build_design(parse_formula("y ~ C(k > 1) + k"), data).spec.levels_of("k") == ()
    assert build_design(parse_formula("y ~ C(g)"), data).spec.levels_of("g") == ()


def test_typical_values_and_grids() -> None:
    columns = build_design(parse_formula("y ~ x * g + t + (1 | id)"), frame()).covariates
    assert {name: typical_value(column) for name, column in columns.items()} == {
        "x": 3.0,
        "g": "b",
        "t": False,
    }
    np.testing.assert_allclose(covariate_values(columns["x"], 3), [0, 4, 8])
    assert covariate_values(columns["g"], 3) == ["b", "a", "c"]
    assert covariate_values(columns["t"], 3) == [False, True]
