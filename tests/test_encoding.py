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
