"""The algebra of linear terms is R's, and never larger than can be built."""

from __future__ import annotations

import time

import pytest
from formulaic.parser import DefaultFormulaParser
from hypothesis import given, settings
from hypothesis import strategies as st

from dgmm.formula import FormulaError, linear_terms
from dgmm.formula.algebra import MOST_TERMS, AlgebraError


def labels(text: str) -> str:
    """The terms as attr(terms(~ text), "term.labels") of R gives them."""
    return " ".join(":".join(term).replace(" ", "") for term in linear_terms(text).terms)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # R: attr(terms(~ ...), "term.labels"), that is: products are named in the order in which
        # the formula first names their variables, taken away or not, and stand by their degree
        ("a * b", "a b a:b"),
        ("a:b + b", "b a:b"),
        ("b + a:b", "b b:a"),
        ("a * b - a", "b a:b"),
        ("x:f - x", "x:f"),
        ("f - f + x:f", "f:x"),
        ("(a + b + c)^2", "a b c a:b a:c b:c"),
        ("(a + b + c)**2 - b:c", "a b c a:b a:c"),
        ("(a + b)^3", "a b a:b"),
        ("(a + b) * (c + d)", "a b c d a:c a:d b:c b:d"),
        ("a / b", "a a:b"),
        ("a / b / c", "a a:b a:b:c"),
        ("(a + b) / c", "a b a:b:c"),
        ("a / (b + c)", "a a:b a:c"),
        ("a:b:a", "a:b"),
        ("b:a + a:b", "b:a"),
        ("a + a", "a"),
        ("a * b:c", "a b:c a:b:c"),
        ("a - b", "a"),
        ("a + b - (a + c)", "b"),
        ("a + -b + b", "a b"),
        ("a^1", "a"),
        ("c.d:`a b`", "c.d:`ab`"),
        ("ns( t,3 )*b", "ns(t,3) b ns(t,3):b"),
        ("`if` + class + log(lambda)", "if class log(lambda)"),
        ("`1` + `0`", "`1` `0`"),
        ("µ:log(µ)", "µ:log(µ)"),
    ],
)
def test_terms_are_those_of_r(text: str, expected: str) -> None:
    assert labels(text) == expected


@pytest.mark.parametrize(
    ("text", "intercept"),
    [
        ("x", False), ("1 + x", True), ("1 + x - 1", False), ("0 + x", False), ("x - 0", True),
        ("x + 0 + 1", True), ("(1 + x)", True), ("x + (z - 1) + 1", True), ("1 + `0`", True),
        ("x - (1 + z)", False), ("1", True),
    ],
)  # fmt: skip
def test_the_intercept_is_what_was_said_last(text: str, intercept: bool) -> None:
    assert linear_terms(text).intercept is intercept


NAMES = st.sampled_from(["a", "b", "c", "d", "`o d`", "log(e)"])


def _joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operator = st.sampled_from([" + ", "*", ":", "/"])
    pair = st.tuples(parts, operator, parts).map("".join)
    power = st.tuples(parts, parts, st.integers(1, 3)).map("({0[0]} + {0[1]} + z)^{0[2]}".format)
    return pair | pair.map("({})".format) | power


@settings(max_examples=150, deadline=None)
@given(st.recursive(NAMES, _joined, max_leaves=6))
def test_another_program_expands_to_the_same_terms(text: str) -> None:
    theirs = DefaultFormulaParser(include_intercept=False).get_terms(text)
    found = {frozenset(factor.strip("`") for factor in term) for term in linear_terms(text).terms}
    assert found == {frozenset(factor.expr for factor in term.factors) for term in theirs}


SUM = " + ".join(f"v{k}" for k in range(60))
WIDE = "(" + " + ".join(f"w{k}" for k in range(3000)) + ")"


@pytest.mark.parametrize(
    "text",
    [
        f"({SUM})^30",
        f"({SUM})^1000000000",
        "*".join(f"v{k}" for k in range(40)),
        f"{WIDE}:{WIDE}",
        f"({SUM}):({SUM}):({SUM})",
        " + ".join(f"v{k}" for k in range(MOST_TERMS + 1)),
    ],
    ids=["power", "huge power", "product", "pairs", "triples", "sum"],
)
def test_what_is_too_large_is_refused_at_once_by_name(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(AlgebraError, match=r"`.*[vw]0.*` has more than 10,000 terms"):
        linear_terms(text)
    assert time.perf_counter() - start < 5


def test_a_power_ends_when_nothing_is_new() -> None:
    assert len(linear_terms(f"(a + b + c)^{'9' * 5000}").terms) == 7
    assert len(linear_terms(" + ".join(f"v{k}" for k in range(5000))).terms) == 5000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Days**2", r"`Days\*\*2` is `Days` in a formula, .* write I\(Days\*\*2\)"),
        ("x + (log(t))^3", r"`\(log\(t\)\)\^3` is `\(log\(t\)\)`"),
        ("x^b", "`b` stands where a whole number belongs"),
        ("x^-1", "`-` stands where a whole number belongs"),
        ("x^", "it ends where a whole number belongs"),
        ("x z", "`z` stands where an operator belongs"),
        ("x > 2", "`>` stands where an operator belongs"),
        ("x + ", "it ends where a column or a call belongs"),
        ("2 + x", "a constant is no term"),
        ("'x'", "a constant is no term"),
        ("1.5", "a constant is no term"),
        ("1:x", "a number cannot multiply a term"),
        ("(1 + x)^2", "a number cannot multiply a term"),
        ("x/(0 + z)", "a number cannot multiply a term"),
        (".:x", "can only be a term of its own"),
        ("(. + x)^2", "can only be a term of its own"),
        ("{x}", "only round brackets"),
        ("(" * 300 + "x" + ")" * 300, "nested more than 100 deep"),
    ],
)
def test_what_is_no_sum_of_terms_says_why(text: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        linear_terms(text)
