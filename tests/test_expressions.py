"""Expressions: what they compute, what they read, and that they can run nothing else."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgmm.design.expressions import Evaluator, ExpressionError, names_of, parse_expression
from dgmm.transforms import Factor

X = np.array([1.0, 2.0, 4.0])
COLUMNS = {
    "x": X,
    "alk.phos": 2 * X,
    "odd name": 3 * X,
    "log": 5 * X,
    "g": Factor(np.array([0, 1, 1]), ("a", "b")),
    "flag": np.array([True, False, True]),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", X),
        ("`odd name`", 3 * X),
        ("I(x ** 2 + 1)", X**2 + 1),
        ("-x / 2 % 3", -X / 2 % 3),
        ("log(x)", np.log(X)),
        ("log(x, 2)", np.log2(X)),
        ("log", 5 * X),
        ("log(log)", np.log(5 * X)),
        ("sqrt(alk.phos)", np.sqrt(2 * X)),
        ("`odd name` - `x`", 2 * X),
        ("sin(pi * x)", np.sin(np.pi * X)),
        ("pmin(x, 2)", np.minimum(X, 2)),
        ("x * flag", X * [1, 0, 1]),
        ("I(1 < x <= 4)", [False, True, True]),
        ("I((x > 1) & ~flag)", [False, True, False]),
        ("I(x > 3 | flag)".replace("x > 3 |", "(x > 3) |"), [True, False, True]),
        ("I(g == 'b')", [False, True, True]),
        ("I('b' != g)", [True, False, False]),
        ("x * 1e3", X * 1000),
    ],
)
def test_values(text: str, expected: object) -> None:
    assert np.allclose(Evaluator(COLUMNS).value(text), np.asarray(expected), 1e-15)


def test_states_are_learnt_once_and_then_only_used() -> None:
    evaluator = Evaluator({"odd name": X})
    learnt = evaluator.value("center(`odd name`)")
    assert evaluator.states == {"center(`odd name`)": {"center": X.mean()}}
    later = Evaluator({"odd name": X[:1]}, evaluator.states, learning=False)
    assert later.value("center( `odd name` )") == learnt[0]
    with pytest.raises(ExpressionError, match="not among the terms of the fit"):
        later.value("scale(`odd name`)")


def test_nested_transforms_keep_their_own_states() -> None:
    evaluator = Evaluator({"x": np.linspace(0, 9, 30)})
    whole = evaluator.value("ns(scale(x), 2 + 1)")
    assert list(evaluator.states) == ["scale(x)", "ns(scale(x), 2 + 1)"]
    part = Evaluator({"x": np.linspace(0, 9, 30)[5:7]}, evaluator.states, learning=False)
    assert np.allclose(part.value("ns(scale(x), 2 + 1)"), whole[5:7], 1e-14)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("log(alk.phos / x) + x", ("alk.phos", "x")),
        ("C(g, contr.sum)", ("g",)),
        ("x * pi", ("x",)),
        ("log", ("log",)),
        ("ns(`odd name`, knots=(1, 2))", ("odd name",)),
    ],
)
def test_names_are_those_of_columns(text: str, names: tuple[str, ...]) -> None:
    assert names_of(text, COLUMNS) == names


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "x.__class__(1)",
        "log.__call__(x)",
        "().__class__",
        "(lambda: 1)()",
        "[v for v in x]",
        "x if x else x",
        "f'{x}'",
        "x[0]",
        "log(*x)",
        "log(**x)",
        "(y := x)",
        "{1: x}",
        "x @ x",
        "x is x",
        "x ^ 2",
        "exec('1')",
        "open('f')",
        "pi(x)",
        "log(x)(x)",
        "x; x",
        "x = 1",
        "1j * x",
        "b'x'",
        "...",
        "(" * 300 + "x" + ")" * 300,
    ],
)
def test_nothing_else_of_python_is_read(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_expression(text)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="xg()[]{}.,:=+-*/^|&~<>!'\"`_ 12alogI", max_size=25))
def test_any_text_gives_a_value_or_our_own_error(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        Evaluator(COLUMNS).value(text)
