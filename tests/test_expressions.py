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
        ("pmin(x, alk.phos, 3)", np.minimum(X, 3)),
        ("pmax(x, 3, alk.phos - 1)", np.maximum(np.maximum(X, 3), 2 * X - 1)),
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


@pytest.mark.parametrize(
    "call", ["pmin(x, 0, log)", "exp(x, log)", "sqrt(x, out=log)", "abs(x, log)"]
)
def test_no_call_writes_to_a_column(call: str) -> None:
    """A third operand of numpy's minimum is the place of its result."""
    columns = {"x": X.copy(), "log": 5 * X}
    with contextlib.suppress(ExpressionError):
        Evaluator(columns).value(call)
    assert np.array_equal(columns["log"], 5 * X)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ns(x, 3, wrong=1)", r"ns\(\) has no option wrong=\. It has df, knots, intercept, bound"),
        (
            "bs(x, Boundary.knots=(0, 9))",
            r"Boundary\.knots=; did you mean boundary_knots=\? It has",
        ),
        ("poly(x, degre=2)", r"did you mean degree=\? It has degree, raw\."),
        ("sqrt(x, 2)", r"sqrt\(x\): too many positional arguments"),
        ("ns()", r"ns\(\) needs a column first, as in ns\(x\)"),
        ("ns(x, 1e9)", "df of ns.* is a whole number from 1 to 1,000, not 1000000000.0"),
        ("poly(x, 10 ** 9, raw=True)", "degree of poly.* from 1 to 1,000, not 1000000000"),
        ("C(pi)", "a category is made of one column"),
        ("C(x * 2 ** 53)", r"whole numbers from 2\*\*53 on are not told apart"),
        ("C(log(x - 4))", "3 rows are no finite number, so of no category"),
        ("C(g, levels='ab')", r"levels= lists the levels in their order"),
        ("as.factor(x)", r"no function as\.factor\(\)\. Write factor\(x\)\."),
        ("ns(x, knots=c(3, 6))", r"no function c\(\)\. Write the values in brackets: \(3, 6\)\."),
        ("poly(x, 2, raw=TRUE)", "no column `TRUE`.* Write True"),
        ("C(g, contr.SAS)", r"no column `contr\.SAS`.* Write C\(g, base='b'\)"),
        ("I(" + "+".join(["x"] * 200) + ")", "nested more than 100 deep"),
        ("I(" + "+".join(["x"] * 60_000) + ")", "more than 100,000 characters"),
    ],
)
def test_a_call_that_cannot_work_says_what_would(text: str, message: str) -> None:
    evaluator = Evaluator({"x": X, "g": COLUMNS["g"]})
    with pytest.raises(ExpressionError, match=message):
        names_of(text, evaluator.columns)
        evaluator.value(text)


def test_a_float_of_32_bits_is_the_number_that_was_written() -> None:
    small = np.array([0.1, 0.3, 0.1], dtype=np.float32).astype(float)
    found = Evaluator({"x": small}).value("C(x)")
    assert found.levels == (0.1, 0.3)
    assert found.contrasts()[1] == ("0.3",)
    learnt = Evaluator({"x": small})
    learnt.value("C(x)")
    later = Evaluator({"x": np.array([0.3, 0.1])}, learnt.states, learning=False).value("C(x)")
    assert later.codes.tolist() == [1, 0]
    assert Evaluator({"x": np.array([0.1 + 1e-12, 0.5, 3.0])}).value("C(x)").levels == (
        0.1 + 1e-12, 0.5, 3,
    )  # fmt: skip


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
