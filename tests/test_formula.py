"""Formula text to terms: what is read, what is refused, and where the caret stands."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgmm.formula import (
    FormulaError,
    LatentTerm,
    NetworkTerm,
    Response,
    Syntax,
    nested_formula,
    parse_formula,
    split_group,
    update_formula,
)
from dgmm.formula.terms import formula_text

EVERYTHING = (
    "y ~ x + C(g) * z + I(x**2) + log(w) + ns(t, 4) + offset(log(n)) "
    "+ dnn(age, sex, hidden=(32, 16)) + (1 + t | id)"
)


def latents(right: str) -> list[tuple[str, str, str]]:
    return [(t.kind, t.terms, t.group) for t in parse_formula(f"y ~ {right}").latents]


def test_everything_at_once_lands_in_its_place():
    formula = parse_formula(EVERYTHING)
    assert formula.response == Response("y", "plain", ("y",))
    assert formula.fixed == "1 + x + C(g) * z + I(x**2) + log(w) + ns(t, 4)"
    assert formula.offsets == ("log(n)",)
    assert formula.networks == (
        NetworkTerm("dnn(age, sex, hidden=(32, 16))", "age + sex", (32, 16)),
    )
    assert formula.latents == (LatentTerm("(1 + t | id)", "normal", "1 + t", "id"),)


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ("(1 | id)", [("normal", "1", "id")]),
        ("(t | id)", [("normal", "1 + t", "id")]),
        ("(0 + t | id)", [("normal", "0 + t", "id")]),
        ("(t - 1 | id)", [("normal", "0 + t", "id")]),
        ("(1 | a/b)", [("normal", "1", "a"), ("normal", "1", "a:b")]),
        ("(1 | a/b/c)", [("normal", "1", g) for g in ("a", "a:b", "a:b:c")]),
        ("(1 | a:b)", [("normal", "1", "a:b")]),
        ("(1 | a) + (t | b)", [("normal", "1", "a"), ("normal", "1 + t", "b")]),
        ("(1 | `pat id`)", [("normal", "1", "`pat id`")]),
        ("(log(t|1) | id)", [("normal", "1 + log(t|1)", "id")]),
        ("(dnn(ns(t, 4)) | id)", [("dnn", "1 + ns(t, 4)", "id")]),
        ("(0 + dnn(t) | id)", [("dnn", "0 + t", "id")]),
        ("(dnn(0 + t) | id)", [("dnn", "0 + t", "id")]),
        ("(1 + dnn(t) | id)", [("dnn", "1 + t", "id")]),
        (
            "(t + dnn(ns(t, 3)) | id)",
            [("normal", "1 + t", "id"), ("dnn", "0 + ns(t, 3)", "id")],
        ),
    ],
)
def test_left_and_right_of_a_bar(right: str, expected: list[tuple[str, str, str]]):
    assert latents(right) == expected


def test_two_bars_in_a_row_make_the_covariance_diagonal():
    assert parse_formula("y ~ (t || id)").latents[0].covariance == "diag"
    assert parse_formula("y ~ (t | id)").latents[0].covariance == "us"


def test_options_of_a_latent():
    text = (
        'y ~ (dnn(t, latent=3, hidden=(8, 4), form="coefficients", basis=ns(t, 6), ridge=1) | id)'
    )
    term = parse_formula(text).latents[0]
    assert term.options == {"latent": 3, "hidden": (8, 4), "form": "coefficients", "ridge": 1.0}
    assert term.basis == "1 + ns(t, 6)"
    bare = parse_formula("y ~ (0 + dnn(t, basis=ns(t, 6)) | id)").latents[0]
    assert bare.basis == "0 + ns(t, 6)"
    assert parse_formula("y ~ (dnn(t, basis='ns(t, 6)') | id)").latents[0].basis == "1 + ns(t, 6)"


def test_other_words_can_stand_left_of_a_bar():
    assert (
        parse_formula("y ~ (kvae(t) | id)", latent_words={"kvae": Syntax()}).latents[0].kind
        == "kvae"
    )
    assert latents("(ns(t, 3) | id)")[0][0] == "normal"


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("y ~ x", "1 + x"),
        ("y ~ 0 + x", "0 + x"),
        ("y~-1+x", "0 + x"),
        ("y ~ x - 1", "0 + x"),
        ("y ~ 1", "1"),
        ("y ~ x + -z", "1 + x - z"),
        ("y ~ a*b - a:b", "1 + a*b - a:b"),
        ("y ~\n x\n + z", "1 + x + z"),
        ("y ~ . + (1 | id)", "1 + ."),
        ("y ~ `odd name`:x", "1 + `odd name`:x"),
        ("y ~ `5%`:x + I(x % 2)", "1 + `5%`:x + I(x % 2)"),
        ("y ~ log(z, base=2) + f", "1 + log(z, base=2) + f"),
    ],
)
def test_the_intercept_is_made_explicit(text: str, fixed: str):
    assert parse_formula(text).fixed == fixed


@pytest.mark.parametrize(
    ("left", "kind", "parts"),
    [
        ("y", "plain", ("y",)),
        ("`my y`", "plain", ("`my y`",)),
        ("log(y)", "plain", ("log(y)",)),
        ("log(a/b)", "plain", ("log(a/b)",)),
        ("cbind(s, n - s)", "cbind", ("s", "n - s")),
        ("s / n", "ratio", ("s", "n")),
    ],
)
def test_responses(left: str, kind: str, parts: tuple[str, ...]):
    response = parse_formula(f"{left} ~ x").response
    assert (response.kind, response.parts) == (kind, parts)


@pytest.mark.parametrize(
    ("text", "message", "under"),
    [
        ("y ~ x | id", "outside parentheses", "|"),
        ("y ~ (1 | )", "group is missing", "(1 | )"),
        ("y ~ ( | id)", "nothing stands left", "( | id)"),
        ("y ~ (1 | a | b)", "one bar per random part", "(1 | a | b)"),
        ("y ~ x*(1 | id)", "nested in brackets or multiplied", "x*(1 | id)"),
        ("y ~ ((1 | id))", "nested in brackets or multiplied", "((1 | id))"),
        ("y ~ x - (1 | id)", "cannot be subtracted", "(1 | id)"),
        ("y ~ (1 | factor(id))", "a group is a column", "factor(id)"),
        ("y ~ (0 | id)", "nothing random", "0"),
        ("y ~ dnn()", "at least one input", "dnn()"),
        ("y ~ (dnn() | id)", "needs the terms", "dnn()"),
        ("y ~ x:dnn(a)", "term of its own", "x:dnn(a)"),
        ("y ~ log(dnn(a))", "term of its own", "log(dnn(a))"),
        ("y ~ (dnn(t)*x | id)", "term of its own", "dnn(t)*x"),
        ("y ~ x:offset(n)", "term of its own", "x:offset(n)"),
        ("y ~ dnn(a, hiden=(3,))", "did you mean hidden=", "dnn(a, hiden=(3,))"),
        ("y ~ dnn(a, latent=3)", "no option latent=", "dnn(a, latent=3)"),
        ("y ~ dnn(a, hidden=3)", "write hidden=(3,)", "3"),
        ("y ~ dnn(a, hidden=(3, -1))", "positive whole", "(3, -1)"),
        ("y ~ dnn(a, hidden=os.system('ls'))", "plain value", "os.system('ls')"),
        ("y ~ dnn(a, hidden=(1000000000,))", "at most 4,096 units", "(1000000000,)"),
        ("y ~ (dnn(t, hidden=(8, 5000)) | id)", "at most 20 layers", "(8, 5000)"),
        ("y ~ Days**2 + x", "write I(Days**2)", "Days**2"),
        ("y ~ I(x %/% 2)", "write I(a // b)", "I(x %/% 2)"),
        ("y ~ I(x %% 2)", "write I(a % b)", "I(x %% 2)"),
        ("y ~ (. | id)", "stands among the fixed terms alone", "."),
        ("y ~ dnn(.)", "stands among the fixed terms alone", "."),
        ("y ~ dnn(a, ridge=-1)", "zero or larger", "-1"),
        ("y ~ dnn(a, hidden=(3,), hidden=(4,))", "given twice", "hidden=(4,)"),
        ("y ~ (dnn(t, form='dens') | id)", "'coefficients', 'warped', 'dense' or 'auto'", "'dens'"),
        ("y ~ (dnn(t, latent=0) | id)", "positive whole", "0"),
        ("y ~ (dnn(t, form='dense', basis=ns(t,3)) | id)", "basis= belongs", "ns(t,3)"),
        ("y ~ x + (1 | id", "not closed", "("),
        ("y ~ x)", "closes nothing", ")"),
        ("y ~ log('x)", "quote", "'"),
        ("~ x", "outcome is missing", "~ x"),
        ("y ~", "nothing stands right", "y ~"),
        ("y", "no `~`", "y"),
        ("y ~ x ~ z", "more than one `~`", "y ~ x ~ z"),
        ("y ~ x +", "nothing follows", "x +"),
        ("y ~ x**", "cannot be read", "x**"),
        ("y ~ 2 + x", "a constant is no term", "2"),
        ("y ~ a %in% b", "write `a:b`", "a %in% b"),
        ("y ~ .:x", "term of its own", ".:x"),
        ("y ~ [a] + b", "only round brackets", "[a]"),
        ("cbind(a) ~ x", "two columns", "cbind(a)"),
        ("y | z ~ x", "cannot stand in the outcome", "y | z"),
    ],
)
def test_errors_name_the_place(text: str, message: str, under: str):
    with pytest.raises(FormulaError) as caught:
        parse_formula(text)
    lines = str(caught.value).split("\n")
    assert message in lines[0]
    assert lines[1] == "  " + text
    caret = lines[2]
    assert text[caret.index("^") - 2 :][: caret.count("^")] == under
    assert "\x1b" not in str(caught.value)


def test_a_long_formula_is_shown_around_the_place():
    many = " + ".join(f"v{k}" for k in range(500))
    with pytest.raises(FormulaError, match="write I") as caught:
        parse_formula(f"y ~ {many} + bad**2 + {many}")
    _, shown, carets = str(caught.value).split("\n")
    assert len(shown) < 420
    assert shown[carets.index("^") :][: carets.count("^")] == "bad**2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y ~ " + " + ".join(["x"] * 20_000), "20,000 terms are more than 10,000"),
        ("y ~ " + "*".join(f"v{k}" for k in range(60)), r"has more than 10,000 terms"),
        ("y ~ x + (" + "*".join(f"v{k}" for k in range(60)) + " | id)", "more than 10,000 terms"),
        ("y ~ " + "x" * 10**6, "at most 500,000 characters, not 1,000,004"),
        ("y ~ " + "(" * 50_000 + "x" + ")" * 50_000, "nested more than 100 deep"),
    ],
    ids=["sum", "product", "random part", "length", "brackets"],
)
def test_what_is_too_large_is_refused_soon_and_shortly(text: str, message: str):
    start = time.process_time()
    with pytest.raises(FormulaError, match=message) as caught:
        parse_formula(text)
    assert time.process_time() - start < 5
    assert len(str(caught.value)) < 1500


def test_a_formula_is_text():
    with pytest.raises(FormulaError, match="is a string"):
        parse_formula(3)  # type: ignore[arg-type]


def test_nested_formula_is_the_classical_model():
    nested = nested_formula(
        parse_formula("log(b) ~ dnn(age, x*g) + x + offset(o) + (dnn(ns(t, 3), latent=2) | id)")
    )
    assert nested.text == "log(b) ~ 1 + x + age + g + x:g + offset(o) + (1 + ns(t, 3) | id)"
    assert not nested.networks
    assert nested.latents == (LatentTerm("(1 + ns(t, 3) | id)", "normal", "1 + ns(t, 3)", "id"),)
    assert nested_formula(parse_formula("y ~ (dnn(t) || id)")).latents[0].covariance == "diag"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("y ~ x + (1 | id)", ". ~ . + z", "y ~ x + (1 | id) + z"),
        ("y ~ x + z + (1 | id)", ". ~ . - z", "y ~ x + (1 | id)"),
        ("y ~ x + (1|id)", ". ~ . - (1 | id) + (t | id)", "y ~ x + (t | id)"),
        ("y ~ x*z", ". ~ . - x:z", "y ~ x*z - x:z"),
        ("y ~ x", "log(.) ~ .", "log(y) ~ x"),
        ("y ~ x", "~ . + z", "y ~ x + z"),
        ("y ~ x", ". ~ . - x", "y ~ 1"),
        ("y ~ x", "u ~ v", "u ~ v"),
        ("y ~ 1 + x", ". ~ . - 1", "y ~ x - 1"),
    ],
)
def test_update_formula(old: str, new: str, expected: str):
    assert update_formula(old, new) == expected


def test_update_formula_names_what_is_not_there():
    with pytest.raises(FormulaError, match="no such term"):
        update_formula("y ~ x", ". ~ . - (1 | id)")


def test_split_group():
    assert split_group("school:`the class`") == ("school", "the class")


NAMES = st.sampled_from(["x", "z", "trt", "log(w)", "ns(t, 3)", "I(x ** 2)", "`odd name`"])
LINEAR = st.lists(st.tuples(NAMES, st.sampled_from(["*", ":", "+"]), NAMES), min_size=1, max_size=3)
GROUPS = st.sampled_from(["id", "a:b", "`odd id`", "a/b"])
LEFT = st.sampled_from(
    ["1", "t", "0 + t", "dnn(ns(t, 3))", "t + dnn(t, hidden=(4,))", "0 + dnn(t, latent=2)"]
)


@st.composite
def formulas(draw: st.DrawFn) -> str:
    terms = ["".join(parts) for parts in draw(LINEAR)]
    bars = draw(st.lists(st.tuples(LEFT, st.sampled_from(["|", "||"]), GROUPS), max_size=3))
    terms += [f"({left} {bar} {group})" for left, bar, group in bars]
    terms += draw(st.lists(st.sampled_from(["dnn(x, z)", "offset(log(n))", "0", "dnn(a*b)"])))
    return "y ~ " + " + ".join(draw(st.permutations(terms)))


@settings(max_examples=150, deadline=None)
@given(formulas())
def test_a_formula_written_out_reads_back_the_same(text: str):
    formula = parse_formula(text)
    again = parse_formula(formula_text(formula))
    assert (again.fixed, again.networks, again.offsets, again.latents) == (
        formula.fixed,
        formula.networks,
        formula.offsets,
        formula.latents,
    )
