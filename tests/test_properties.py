"""Whatever is fitted and whatever is asked: an answer with a row for every row, or a sentence."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import dgmm
from dgmm import Fit
from dgmm.runtime.gate import UnforeseenError

mpl.use("Agg")

QUICK = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=[Phase.generate],  # a failure is told as it was found
)
WIDE = settings(QUICK, max_examples=200, derandomize=False)
OUTCOMES = {
    "y": "gaussian",
    "count": "poisson",
    "yes": "bernoulli",
    "grade": "cumulative",
    "positive": "gamma",
    "cbind(k, n - k)": "binomial",
}
FIXED = ["1", "x", "g", "t", "x*g", "ns(t, 2)", "poly(x, 2)", "I(x**2)", "offset(o)", "factor(k)"]
RANDOM = ["(1 | id)", "(t | id)", "(t || id)", "(0 + t | id)", "(ou(t) | id)", "(1 | id) + (1 | h)"]


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """Two to nine subjects with one to five visits, with gaps, constant columns, odd labels."""
    size, visits, seed = draw(st.integers(2, 9)), draw(st.integers(1, 5)), draw(st.integers(0, 99))
    rng = np.random.default_rng(seed)
    n = size * visits
    ids = np.repeat(np.arange(size), visits)
    eta = rng.normal(size=size)[ids] + rng.normal(size=n)
    frame = pd.DataFrame(
        {
            "id": ids if seed % 2 else [f"s {one}" for one in ids],
            "t": np.tile(np.arange(visits) * 1.0, size),
            "x": rng.normal(size=n) * 10.0 ** rng.integers(-3, 4),
            "g": np.array(["a", "b", "c"])[rng.integers(0, 1 + seed % 3, n)],
            "h": np.array(["p", "q", "r"])[rng.integers(0, 3, n)],
            "o": rng.normal(size=n),
            "y": eta,
            "count": rng.poisson(np.exp(0.5 * eta)),
            "yes": eta > 0,
            "grade": pd.Categorical.from_codes(
                np.digitize(eta, [-0.5, 0.8]), ["poor", "fair", "good"], ordered=True
            ),
            "positive": np.exp(eta),
            "n": rng.integers(3, 6, n),
        }
    )
    frame["k"] = rng.binomial(frame["n"], 0.5)
    for name in draw(st.lists(st.sampled_from(["t", "x", "g", "id", "y", "count"]), max_size=2)):
        frame[name] = frame[name].astype(object if name in ("id", "g") else float)
        frame.loc[rng.random(n) < 0.2, name] = None
    return frame.sample(frac=1, random_state=seed)


LIBRARIES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "pandas": lambda frame: frame,
    "nullable": lambda frame: frame.convert_dtypes(),
    "polars": lambda frame: pl.from_pandas(frame),
    "arrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "dict": lambda frame: {name: frame[name].to_list() for name in frame},
}


@st.composite
def formulas(draw: st.DrawFn) -> tuple[str, str]:
    """A formula and its family."""
    outcome = draw(st.sampled_from(sorted(OUTCOMES)))
    fixed = draw(st.lists(st.sampled_from(FIXED), min_size=1, max_size=3, unique=True))
    return f"{outcome} ~ {' + '.join(fixed)} + {draw(st.sampled_from(RANDOM))}", OUTCOMES[outcome]


ASKED: dict[str, Callable[[Fit], Any]] = {
    "anova": lambda fit: fit.anova(fit),
    "bootstrap": lambda fit: fit.bootstrap(2, seed=1),
    "cv": lambda fit: dgmm.cv(fit, 2, draws=10),
    "contrast": lambda fit: fit.contrast({"x": 1}, {"x": 0}),
    "effects": lambda fit: fit.effects("x", grid=5),
    "emmeans": lambda fit: fit.emmeans("g").pairs(),
    "impute": lambda fit: fit.impute(2, seed=1),
    "log_score": lambda fit: fit.log_score(fit.memory.frame),
    "modelsummary": dgmm.modelsummary,
    "more": lambda fit: fit.more(5),
    "pattern_profile": lambda fit: fit.pattern_profile(2, seed=1),
    "pp_check": lambda fit: fit.pp_check(nsim=3),
    "prior_draws": lambda fit: fit.prior_draws(5, seed=1),
    "prior_predictive": lambda fit: fit.prior_predictive(5, seed=1),
    "refit": lambda fit: fit.refit(fit.simulate(1, seed=1)["sim_1"]),
    "scoring_rules": lambda fit: fit.scoring_rules(draws=10),
    "simulate": lambda fit: fit.simulate(2, seed=1),
}
SELDOM = ("bootstrap", "check", "cv", "drop1", "influence", "refit", "update")
"""Methods that fit again or simulate much: a fit is asked for one of them at most."""

PUBLIC = tuple(
    name
    for name, method in inspect.getmembers(Fit, inspect.isfunction)
    if not name.startswith("_") and name != "save"  # see test_storage
)
BY_ROW = ("fitted", "residuals", "predict", "simulate", "augment")


def answered(ask: Callable[[], Any]) -> Any:
    """The answer, None after an error of the package; what is no sentence of its own goes on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = ask()
            str(found)
        except UnforeseenError:
            raise
        except (ValueError, TypeError, ImportError):
            return None
    return found


MODELS = st.tuples(
    frames(),
    formulas(),
    st.sampled_from(sorted(LIBRARIES)),
    st.sampled_from(["", "", *SELDOM]),
)


@QUICK
@given(MODELS)
def test_every_question_has_an_answer_or_a_sentence(model: tuple[Any, ...]) -> None:
    check_questions(*model)


@pytest.mark.slow
@WIDE
@given(MODELS)
def test_every_question_at_length(model: tuple[Any, ...]) -> None:
    check_questions(*model)


def check_questions(frame: pd.DataFrame, model: tuple[str, str], library: str, seldom: str) -> None:
    text, family = model
    data = LIBRARIES[library](frame)
    fit = answered(lambda: dgmm.mixed_model(text, data, family=family, verbose=0))
    if fit is None:
        return
    assert fit.nobs() + fit.memory.left_out.rows <= len(frame)
    for name in sorted({*PUBLIC, *ASKED}):
        if name in SELDOM and name != seldom:
            continue
        ask = ASKED.get(name, lambda fit, name=name: getattr(fit, name)())
        found = answered(lambda ask=ask: ask(fit))
        if name in BY_ROW and found is not None:
            assert len(found) == len(frame) - fit.memory.left_out.rows, name


# -- rows of new data ------------------------------------------------------------------------------


def long(seed: int = 1) -> pd.DataFrame:
    """Twelve subjects at five visits; outcomes of several kinds."""
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(12), 5)
    frame = pd.DataFrame({"id": [f"s{one:02d}" for one in ids], "t": np.tile(np.arange(5.0), 12)})
    frame["x"], frame["g"] = rng.normal(size=60), np.array(["a", "b"])[ids % 2]
    eta = 0.3 * frame["x"] + 0.2 * frame["t"] + rng.normal(size=12)[ids]
    frame["y"], frame["z"] = eta + rng.normal(size=60), 0.5 * eta + rng.normal(size=60)
    frame["count"] = rng.poisson(np.exp(0.5 * eta))
    return frame


@cache
def fits() -> dict[str, Any]:
    """Models of every kind of posterior: exact, quadrature, a path, crossed, drawn, joint, deep."""
    frame, quick = long(), {"epochs": 2, "holdout": 0.0, "draws": 32, "polish_draws": 16}
    models: dict[str, tuple[Any, dict[str, Any]]] = {
        "linear": ("y ~ x + g + ns(t, 2) + (t | id)", {}),
        "counts": ("count ~ x + g + t + (1 | id)", {"family": "poisson"}),
        "path": ("y ~ x + g + t + (ou(t) | id)", {}),
        "crossed": ("y ~ x + t + (1 | id) + (1 | g)", {}),
        "sampled": ("y ~ x + g + t + (t | id)", {"method": "gibbs", "draws": 20, "chains": 2}),
        "joint": (dgmm.mv("y ~ x + g + t + (1 |p| id)", "z ~ x + t + (1 |p| id)"), {}),
        "deep": ("y ~ x + g + t + (dnn(t) | id)", {"control": quick, "starts": 1}),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            name: dgmm.mixed_model(text, frame, verbose=0, **options)
            for name, (text, options) in models.items()
        }


@st.composite
def new_rows(draw: st.DrawFn) -> pd.DataFrame:
    """Rows in any order, some twice, of known and new subjects, with gaps, a column less."""
    frame = long(draw(st.integers(1, 3)))
    places = draw(st.lists(st.integers(0, 59), max_size=8))
    found = frame.iloc[places].assign(w=1.0)
    for name in draw(st.lists(st.sampled_from(["x", "g", "t", "id", "y", "z"]), max_size=2)):
        found[name] = found[name].astype(object if name in ("id", "g") else float)
        gaps = draw(st.lists(st.integers(0, 7), max_size=2))
        found.loc[[j in gaps for j in range(len(found))], name] = None
    change = draw(st.sampled_from(["", "", "", "new", "level", "late", "text", "drop", "rename"]))
    name = draw(st.sampled_from(["x", "g", "t", "id"]))
    if change == "new":
        found["id"] = [f"n{j // 2}" for j in range(len(found))]
    elif change == "level":
        found["g"] = "other"
    elif change == "late":
        found["t"] = found["t"] + 40
    elif change == "text":
        found[name] = "text"
    elif change == "drop":
        found = found.drop(columns=name)
    elif change == "rename":
        found = found.rename(columns={name: name.upper()})
    return found.set_axis([f"row {one}" for one in range(len(found))])


ROWS = st.tuples(
    st.sampled_from(["linear", "counts", "path", "crossed", "sampled", "joint", "deep"]),
    new_rows(),
    st.sampled_from(sorted(LIBRARIES)),
    st.sampled_from([None, "confidence", "prediction"]),
    st.sampled_from(["fit", "same", "other"]),
)


@settings(QUICK, max_examples=25)
@given(ROWS)
def test_new_rows_come_back_each_in_its_place(rows: tuple[Any, ...]) -> None:
    check_rows(*rows)


@pytest.mark.slow
@settings(WIDE, max_examples=1000)
@given(ROWS)
def test_new_rows_at_length(rows: tuple[Any, ...]) -> None:
    check_rows(*rows)


def check_rows(
    name: str, frame: pd.DataFrame, library: str, interval: str | None, past: str
) -> None:
    """One prediction per row; missing only with a covariate; its value does not ask who else."""
    fit = fits()[name]
    data = LIBRARIES[library](frame)
    options: dict[str, Any] = {"interval": interval, "draws": 8}
    if past != "fit":
        options["history"] = data if past == "same" else long(2)[:30]
    if name == "joint":
        options["outcome"] = "z"
    found = answered(lambda: fit.predict(data, **options))
    for ask in (
        lambda: fit.log_score(data),
        lambda: dgmm.scoring_rules(fit, data, draws=8),
        lambda: dgmm.compare(fit, data),
        lambda: fit.predict(data, at=[1, 3], **options),
    ):
        answered(ask)
    if found is None:
        return
    assert len(found) == len(frame)
    if library in ("pandas", "nullable"):
        assert found.index.equals(frame.index)
    covariates = ["x", "t"] if name in ("joint", "crossed") else ["x", "t", "g"]
    gap = frame[covariates].isna().any(axis=1).to_numpy()
    missing = found["fit"].isna().to_numpy()
    assert (missing == gap).all()
    if interval is None and past != "same":
        back = frame[::-1]
        again = answered(lambda: fit.predict(LIBRARIES[library](back), **options))
        np.testing.assert_allclose(again["fit"][::-1], found["fit"], rtol=1e-9)
