"""Formulas and frames made at random, from plausible to nonsense, the same for the same seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

Generator = np.random.Generator

PLAIN = ["x", "z", "t", "k", "n", "y", "g", "h", "b", "o", "w"]
ODD = [
    "odd name", "1", "0", "if", "class", "lambda", "alk.phos", "log", "pi", "I", "C", "gu", "µ",
    "(Intercept)", "x:z", "log(x)", "True", "None", "none", "dnn", "a~b", "a|b", "%", "héhé", "_",
]  # fmt: skip
CALLS = [
    "log({})", "sqrt({})", "exp({})", "abs({})", "I({} ** 2)", "I({} > 0)", "I({} == 'u')",
    "ns({}, 3)", "ns({}, 4)", "ns({}, knots=(0, 1))", "bs({}, 4)", "bs({}, df=5, degree=2)",
    "poly({}, 2)", "poly({}, 3, raw=True)", "scale({})", "center({})", "C({})", "factor({})",
    "C({}, contr.sum)", "C({}, contr.poly)", "C({}, base='u')", "C({}, levels=('u', 'v'))",
    "pmin({}, 1)", "pmax({}, x, 3)", "log({}, 2)", "log1p({})", "floor({})", "scale(log({}))",
    "ns(scale({}), 3)", "C({} > 0)", "offset({})", "dnn({})", "dnn({}, x)", "dnn({}, hidden=(4,))",
]  # fmt: skip
NUMBERS = [
    "{}", "{}", "{}", "ns({}, 2)", "bs({}, 3)", "poly({}, 2)", "scale({})", "I({} ** 2)",
    "C({} > 1)", "center({})", "pmax({}, 1)", "abs({})", "factor({})",
]  # fmt: skip
CATEGORIES = ["{}", "{}", "{}", "C({}, contr.sum)", "C({}, contr.poly)", "factor({})"]
NASTY = [
    "C(pi)", "scale(`if`)", "ns(x, 1e9)", "bs(x, 10**9)", "poly(x, 10**9)", "I(x ** 10 ** 10)",
    "dnn(x, hidden=(1000000000,))", "dnn(x, latent=1000000000)", "I(10 ** 400 * x)", "I(1 / 0 * x)",
    "I('a' * 1000000000)", "exp(exp(exp(x)))", "ns(x, -1)", "ns(x, df='a')", "ns()", "ns(x, x)",
    "C(x, x)", "C(g, base=7)", "C(g, levels=())", "C(g, levels=3)", "C(g, contrasts=3)",
    "factor(3)",
    "poly(g, 2)", "scale(g)", "scale(3)", "scale(x, scale=0)", "center(b)", "pmin(x, z, t)",
    "exp(x, t)", "sqrt(x, out=t)", "log(g)", "I(g)", "I(None)", "I('u')", "I((x, z))", "C((x, z))",
    "I(x[0])", "x.__class__", "__import__('os')", "I(lambda: 1)", "eval('1')", "open('a')",
    "as.factor(g)", "c(3, 6)", "poly(x, 2, raw=TRUE)", "I(x %/% 2)", "x %in% z", "x ** 2", "x ^ 3",
    "(t ~ x | id)", "(. | id)", "(. - x || id)", "(1 | id) + (1 | id)", "(1 + x | id) + (1 | id)",
    "(0 | id)", "(1 | y)", "(1 | id:h:k)", "(1 | id/h/k)", "(1 | nobody)", "(g | id)", "(x || id)",
    "(g || id)", "(dnn(t) | id)", "(ou(t) | id)", "(ar1(k) | id)", "(ou(g) | id)", "(dnn(.) | id)",
    "(x + z + t + k | id)", "dnn(.)", "offset(y)", "offset(g)", "offset()", "offset(3)", ".", ".^2",
    "(x + z + t + k + g + h + b) ^ 9", "x*z*t*k*n*g*h*b*o*w", "(x + z) ^ 1000000000", "g:h:b:k:o",
    "(x*z*t*k*n*g*h*b*o*w) ^ 2", "x^", "^x", "x::z", "x **", "'x'", "3", "-", "1", "0", "-1", "`",
    "``", "(", ")", "[x]", "{x}", "x;z", "x\nz", "x\x00z", "\ud800", "😀", "x = z", "x == z",
    "x & z",
    "I(x & z)", "I(not x)", "I(x if z else t)", "I(f'{x}')", "I(x := 3)", "I(*x)", "log(**x)",
    "log(x, base=g)", "log(x=x)", "ns(x, knots=x)", "ns(x, knots=(nan,))", "ns(x, knots=g)",
    "bs(x, degree=1000)", "bs(x, degree=0)", "ns(x, boundary_knots=(0,))", "ns(x, ties='merge')",
    "contr.sum", "C(g, contr.treatment(base='u'))", "contr.sum(3)", "C(o, contr.helmert)",
    "I(x + `odd name`)", "I(`1` + `0`)", "`1`:`0`", "`gu` + g", "date", "day", "mixed", "inf",
    "none",
]  # fmt: skip
OPERATORS = [" + ", " + ", " + ", "*", ":", "/", " - ", " %in% ", "^"]
LEFT = ["y", "y", "y", "y", "log(y)", "cbind(k, n)", "k / n", "b", "g", "o", "x", "", ".", "y + x"]
GROUPS = ["id", "id", "id", "h", "id:h", "h/id", "g", "k", "b", "x", "day", "id + h", "1", "`1`"]
CHARACTERS = list("+-*/:^~|()[]{}`'\",.%=<>&!@#$\\ 01239xyzg\t\n_é")


def frame(rng: Generator) -> Any:
    """A frame of 0 to 120 rows with columns of many kinds, of one of four libraries."""
    size = int(
        rng.choice([0, 1, 2, 5, 24, 60, 60, 120], p=[0.02, 0.02, 0.02, 0.04, 0.2, 0.2, 0.3, 0.2])
    )
    subjects = max(1, size // int(rng.integers(1, 7)))
    ids = np.arange(size) % subjects
    codes = rng.integers(0, 3, size)
    columns: dict[str, Any] = {
        "id": ids if rng.random() < 0.7 else [f"s{one}" for one in ids],
        "x": rng.normal(size=size) * 10.0 ** rng.integers(-8, 9),
        "z": rng.normal(size=size).astype(np.float32),
        "t": np.arange(size) // subjects * 1.0,
        "k": rng.integers(0, 4, size),
        "n": rng.integers(4, 9, size),
        "y": rng.normal(size=size) + rng.normal(size=subjects)[ids],
        "g": np.array(["u", "v", "w"], dtype=object)[codes],
        "h": np.array(["p", "q"], dtype=object)[rng.integers(0, 2, size)],
        "b": rng.random(size) < 0.5,
        "o": pd.Categorical.from_codes(codes, ["lo", "mid", "hi", "none"][: rng.integers(3, 5)]),
        "w": rng.uniform(0.5, 2.0, size),
    }
    for name in rng.choice(ODD, 6, replace=False):
        columns[str(name)] = rng.normal(size=size)
    extra = {
        "date": pd.date_range("2020-01-01", periods=size).astype(str).to_numpy(dtype=object),
        "day": pd.date_range("2020-01-01", periods=size),
        "inf": np.where(np.arange(size) == 1, np.inf, 1.0),
        "none": np.full(size, np.nan),
        "mixed": np.array([1 if one else "a" for one in codes], dtype=object),
    }
    columns |= {name: one for name, one in extra.items() if rng.random() < 0.5}
    data = pd.DataFrame(columns)
    for name in ("x", "z", "t", "g", "y"):
        if rng.random() < 0.2 and size:
            data.loc[rng.random(size) < 0.2, name] = None
    return _library(data, rng)


def _library(data: pd.DataFrame, rng: Generator) -> Any:
    kind = rng.choice(
        ["pandas", "nullable", "arrow", "polars", "table", "dict"], p=[0.4, *[0.12] * 5]
    )
    if kind == "pandas":
        return data
    if kind == "nullable":
        return data.convert_dtypes()
    if kind == "dict":
        return {name: data[name].to_numpy() for name in data}
    data = data.drop(columns="mixed", errors="ignore")
    if kind == "polars":
        return pl.from_pandas(data)
    table = pa.Table.from_pandas(data, preserve_index=False)
    return table if kind == "table" else table.to_pandas(types_mapper=pd.ArrowDtype)


def formula(rng: Generator) -> str:
    """A formula: plausible in half of all cases, else odd, with something nasty in it, damaged."""
    return _plausible(rng) if rng.random() < 0.5 else _odd(rng)


def _plausible(rng: Generator) -> str:
    """Terms that fit to their columns: most of these can be built."""
    terms = []
    for _ in range(rng.integers(1, 4)):
        factors = [_fitting(rng) for _ in range(rng.choice([1, 1, 1, 2, 2, 3]))]
        terms.append(str(rng.choice(["*", ":", "/", " + "])).join(factors))
    if rng.random() < 0.2:
        terms = [f"({' + '.join(terms)})^{rng.integers(2, 4)}" if len(terms) > 1 else terms[0]]
    if rng.random() < 0.2:
        terms.append(f"{rng.choice(['0', '1', '-1', 'offset(log(w))', 'dnn(x, t)', '.'])}")
    left = str(rng.choice(["1", "1", "t", "0 + t", "1 + w", "t + w", "h", "dnn(t)", "ns(t, 2)"]))
    bar, group = rng.choice(["|", "|", "|", "||"]), rng.choice(["id", "id", "id", "id:h", "h/id"])
    return f"y ~ {' + '.join(terms)} + ({left} {bar} {group})".replace("+ -", "- ")


def _fitting(rng: Generator) -> str:
    if rng.random() < 0.4:
        return str(rng.choice(CATEGORIES)).format(rng.choice(["g", "h", "o", "b"]))
    return str(rng.choice(NUMBERS)).format(rng.choice(["x", "z", "t", "k", "n", "w"]))


def _odd(rng: Generator) -> str:
    terms = [_term(rng) for _ in range(rng.integers(1, 5))]
    if rng.random() < 0.8:
        terms.append(_bar(rng))
    if rng.random() < 0.35:
        terms.insert(int(rng.integers(0, len(terms) + 1)), str(rng.choice(NASTY)))
    if rng.random() < 0.02:
        terms.append(_long(rng))
    text = terms[0]
    for term in terms[1:]:
        text += (" + " if rng.random() < 0.8 else str(rng.choice(OPERATORS))) + term
    text = f"{rng.choice(LEFT)} ~ {text}"
    return _damaged(text, rng) if rng.random() < 0.2 else text


def _name(rng: Generator) -> str:
    if rng.random() < 0.85:
        return str(rng.choice(PLAIN))
    name = str(rng.choice(ODD))
    return f"`{name}`" if rng.random() < 0.8 else name


def _term(rng: Generator, depth: int = 0) -> str:
    choice = rng.random()
    if choice < 0.4 or depth > 2:
        return _name(rng)
    if choice < 0.7:
        return str(rng.choice(CALLS)).format(_name(rng))
    both = f"{_term(rng, depth + 1)}{rng.choice(OPERATORS)}{_term(rng, depth + 1)}"
    if choice < 0.85:
        return both
    return f"({both})" + (f"^{rng.integers(0, 4)}" if rng.random() < 0.3 else "")


def _bar(rng: Generator) -> str:
    left = str(rng.choice(["1", "1", "t", "x", "0 + t", "1 + x", _term(rng), f"dnn({_name(rng)})"]))
    bar = "|" if rng.random() < 0.85 else "||"
    group = rng.choice(GROUPS) if rng.random() < 0.9 else _name(rng)
    return f"({left} {bar} {group})"


def _long(rng: Generator) -> str:
    count = int(rng.choice([300, 3_000, 20_000]))
    name = str(rng.choice(["x", "z"]))
    return str(
        rng.choice(
            [
                " + ".join(f"I({name} + {j})" for j in range(min(count, 3_000))),
                ":".join(f"v{j}" for j in range(count)),
                "*".join(f"v{j}" for j in range(count)),
                "(" * count + name + ")" * count,
                f"I({'+'.join([name] * count)})",
                f"I({'-' * count}{name})",
                f"log({'(' * count}{name}{')' * count})",
                f"({' + '.join(f'v{j}' for j in range(min(count, 3_000)))})^20",
                f"C(g, levels=({', '.join(map(str, range(count)))}))",
                "`" + name * count + "`",
            ]
        )
    )


def _damaged(text: str, rng: Generator) -> str:
    letters = list(text)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(0, len(letters) + 1))
        action = rng.integers(0, 3)
        if action == 0 and place < len(letters):
            del letters[place]
        elif action == 1:
            letters.insert(place, str(rng.choice(CHARACTERS)))
        else:
            other = int(rng.integers(place, len(letters) + 1))
            letters[place:place] = letters[place:other]
    return "".join(letters)
