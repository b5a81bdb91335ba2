"""The coding of factors and products is that of R's model.matrix; dependent columns are found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dgmm.design import build_design
from dgmm.formula import parse_formula


@pytest.mark.parametrize(
    ("right", "names"),
    [
        # R: colnames(model.matrix(~ ..., data)) with a in {p, q, r}, b in {u, v}, x numeric
        ("a + b", "(Intercept) aq ar bv"),
        ("0 + a + b", "ap aq ar bv"),
        ("0 + a * b", "ap aq ar bv aq:bv ar:bv"),
        ("a:x", "(Intercept) ap:x aq:x ar:x"),
        ("x + x:b", "(Intercept) x x:bv"),
        ("a / b", "(Intercept) aq ar ap:bv aq:bv ar:bv"),
        ("0 + a:b", "ap:bu aq:bu ar:bu ap:bv aq:bv ar:bv"),
        ("poly(x, 2)", "(Intercept) poly(x, 2)1 poly(x, 2)2"),
        ("poly(x, 1)", "(Intercept) poly(x, 1)"),
        ("C(a, contr.sum)", "(Intercept) C(a, contr.sum)1 C(a, contr.sum)2"),
        ("C(a, contr.poly)", "(Intercept) C(a, contr.poly).L C(a, contr.poly).Q"),
        ("C(a, base='q')", "(Intercept) C(a, base='q')p C(a, base='q')r"),
        ("factor(k)", "(Intercept) factor(k)2 factor(k)3"),
        ("I(x > 0)", "(Intercept) I(x > 0)True"),
        ("I(a == 'q')", "(Intercept) I(a == 'q')True"),
        # after a removed main effect: terms.formula names a product in the order in which the
        # formula first names its variables, and codes a factor by contrasts where the term without
        # it stands earlier, else by all its levels
        ("x:b - x", "(Intercept) x:bu x:bv"),
        ("b:x - x", "(Intercept) bu:x bv:x"),
        ("x * b - x", "(Intercept) bv x:bu x:bv"),
        ("x * b - b", "(Intercept) x x:bv"),
        ("a * b - a", "(Intercept) bv aq:bu ar:bu aq:bv ar:bv"),
        ("a * b - b", "(Intercept) aq ar ap:bv aq:bv ar:bv"),
        ("a:b + b", "(Intercept) bv aq:bu ar:bu aq:bv ar:bv"),
        ("b + a:b", "(Intercept) bv bu:aq bv:aq bu:ar bv:ar"),
        ("0 + b", "bu bv"),
        ("0 + x + a", "x ap aq ar"),
        ("0 + a:x", "ap:x aq:x ar:x"),
        ("x + a:b - 1", "x ap:bu aq:bu ar:bu ap:bv aq:bv ar:bv"),
    ],
)
def test_coding_is_that_of_model_matrix(right: str, names: str) -> None:
    rng = np.random.default_rng(2)
    data = pd.DataFrame(
        {
            "a": np.tile(["p", "q", "r"], 20),
            "b": np.repeat(["u", "v"], 30),
            "k": np.tile([1, 2, 3], 20),
            "x": rng.normal(size=60),
            "y": rng.normal(size=60),
        }
    )
    found = build_design(parse_formula(f"y ~ {right}"), data).fixed.names
    assert " ".join(n.replace(", ", ",") for n in found) == names.replace(", ", ",")


def columns(right: str, **more: object) -> tuple[str, ...]:
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"g": list("abc") * 8, "x": rng.normal(size=24), "y": rng.normal(size=24)})
    return build_design(parse_formula(f"y ~ {right}"), data.assign(**more)).fixed.names


def test_columns_of_one_name_are_refused_by_name() -> None:
    gb = np.arange(24.0)
    with pytest.raises(ValueError, match=r"two columns would be named 'gb', of `g` and `gb`"):
        columns("g + gb", gb=gb)
    with pytest.raises(ValueError, match=r"'x:gb', of `x:gb` and `x:g`"):
        columns("x:g + `x:gb`", **{"x:gb": gb})
    with pytest.raises(ValueError, match=r"'\(Intercept\)'"):
        columns("`(Intercept)`", **{"(Intercept)": gb})
    assert columns("0 + g + h", h=gb) == ("ga", "gb", "gc", "h")


def test_a_column_named_by_a_number_is_no_intercept() -> None:
    numbers = {"1": np.arange(24.0), "0": np.arange(24.0) ** 2}
    assert columns("`1` + `0`", **numbers) == ("(Intercept)", "1", "0")
    assert columns("0 + `1`", **numbers) == ("1",)
    assert columns("x:`1` - 1", **numbers) == ("x:1",)


def test_what_no_memory_holds_is_refused_before_it_is_built() -> None:
    size = 3_000
    wide = {name: np.char.add(name, np.arange(size).astype(str)) for name in "uvw"}
    data = pd.DataFrame(wide | {"y": np.arange(size) * 1.0})
    words = r"9,000,000 of them `u:v`, where `u` has 3,000: 'u0', .* a date, or an id\?"
    with pytest.raises(ValueError, match=words):
        build_design(parse_formula("y ~ u * v"), data)
    with pytest.raises(ValueError, match=r"27,000,000,000 of them `u:v:w`"):
        build_design(parse_formula("y ~ u:v:w"), data)
