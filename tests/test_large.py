"""Rows that are not in memory: every number is that of the fit to the same rows in memory."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import dgmm
from dgmm import Fit, load, mixed_model
from dgmm.datasets import load as data_set
from dgmm.files import stored
from dgmm.likelihood import summed

duckdb = pytest.importorskip("duckdb")
arrow = pytest.importorskip("pyarrow")
dataset = pytest.importorskip("pyarrow.dataset")

EXACT = 1e-8


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches and blocks that a small data set has several of."""
    monkeypatch.setattr(stored, "ROWS", 200)
    monkeypatch.setattr(summed, "SUBJECTS", 50)


def clinic() -> pd.DataFrame:
    """Visits of patients, rows in no order: gaps, categories in an order, text, truths, weights."""
    frame = data_set("pbcseq").rename(columns={"day": "days"})
    rng = np.random.default_rng(7)
    stages = pd.Categorical(frame["stage"].map({1: "none", 2: "some", 3: "much", 4: "most"}))
    frame = frame.assign(
        lbili=np.log(frame["bili"]).where(rng.random(len(frame)) > 0.05),
        years=frame["days"] / 365.25,
        stage=stages.set_categories(["none", "some", "much", "most", "unused"]),
        drug=frame["trt"].map({0: "placebo", 1: "active"}),
        swollen=frame["edema"] > 0,
        weight=rng.uniform(0.5, 2.0, len(frame)),
        shift=rng.normal(size=len(frame)),
    )
    frame.loc[frame["id"] == 5, "lbili"] = np.nan  # a patient without any outcome
    return frame.sample(frac=1, random_state=1).reset_index(drop=True)


@pytest.fixture(scope="module")
def visits() -> pd.DataFrame:
    return clinic()


@pytest.fixture(scope="module")
def file(visits: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "visits.parquet"
    visits.to_parquet(path, row_group_size=700)
    return path


def quiet(formula: str, data: Any, **options: Any) -> Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # rows left out, columns dropped
        found = mixed_model(formula, data, **options)
    assert isinstance(found, Fit)
    return found


def assert_same(one: Fit, two: Fit) -> None:
    """Estimates, standard errors, variances, effects and criteria of both."""
    assert float(two.loglik()) == pytest.approx(float(one.loglik()), rel=EXACT)
    assert list(one.fixef().index) == list(two.fixef().index)
    size = one.std_errors().to_numpy()
    assert (np.abs(one.fixef() - two.fixef()) / size).max() < EXACT
    np.testing.assert_allclose(two.std_errors(), one.std_errors(), rtol=EXACT)
    components = ["sdcor", "vcov", "se_working"]
    assert one.var_corr().index.equals(two.var_corr().index)
    np.testing.assert_allclose(
        two.var_corr()[components].astype(float),
        one.var_corr()[components].astype(float),
        rtol=1e-6,  # a search by its own differences ends within this of the maximum
        atol=EXACT,
    )
    assert one.nobs() == two.nobs()
    assert one.n_groups() == two.n_groups()
    effects, others = one.ranef(), two.ranef()
    assert isinstance(effects, pd.DataFrame)
    assert effects.index.equals(others.index)
    np.testing.assert_allclose(others, effects, rtol=1e-9, atol=EXACT * float(one.sigma()) * 10)


FORMULAS = {
    "slopes": ("lbili ~ years * drug + age + (years | id)", {}),
    "reml": ("lbili ~ years * drug + age + (years | id)", {"method": "reml"}),
    "spline": ("lbili ~ ns(years, 3) * sex + (1 | id)", {}),
    "splines": ("lbili ~ bs(years, 4) + (ns(years, 2) | id)", {}),
    "moments": ("lbili ~ poly(age, 2) + scale(years) + center(albumin) + (1 | id)", {}),
    "nested bases": ("lbili ~ ns(scale(log(albumin)), df=3) + (1 | id)", {}),
    "gaps": ("lbili ~ chol + log(platelet) + years + (1 | id)", {}),
    "categories": ("lbili ~ stage * years + (1 | id)", {}),
    "contrasts": ("lbili ~ C(stage, contr.sum) + factor(trt) + (1 | id)", {}),
    "truths": ("lbili ~ swollen + I(age > 50) + (1 | id)", {}),
    "no intercept": ("lbili ~ 0 + drug + years + (0 + years | id)", {}),
    "independent": ("lbili ~ years + (years || id)", {}),
    "two parts": ("lbili ~ years + (1 | id) + (0 + years | id)", {}),
    "levels left": ("lbili ~ years + (0 + swollen | id)", {}),
    "transformed": ("log(bili) ~ years + (1 | id)", {}),
    "odd name": ("lbili ~ alk.phos + years + (1 | id)", {}),
    "weights": ("lbili ~ years + (years | id)", {"weights": "weight"}),
    "offset": ("lbili ~ years + (1 | id)", {"offset": "shift"}),
    "offset term": ("lbili ~ years + offset(log(albumin)) + (1 | id)", {}),
    "far origin": ("lbili ~ I(days + 2e6) + (I(days + 2e6) | id)", {}),
    "dropped": ("lbili ~ years + I(2 * years) + age + (1 | id)", {}),
    "text group": ("lbili ~ years + (1 | drug)", {"method": "reml"}),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_file_is_fitted_as_the_frame(name: str, visits: pd.DataFrame, file: Path) -> None:
    formula, options = FORMULAS[name]
    one, two = quiet(formula, visits, **options), quiet(formula, file, **options)
    assert_same(one, two)
    assert set(two.messages) == set(one.messages)
    assert two.memory.left_out == one.memory.left_out


def test_a_restricted_covariance(visits: pd.DataFrame, tmp_path: Path) -> None:
    """Rows without an outcome turn the coordinates of its search, which ends near the maximum."""
    frame, path = visits.dropna(subset=["lbili"]), tmp_path / "seen.parquet"
    frame.to_parquet(path)
    formula = "lbili ~ years + cs(1 + years | id)"
    assert_same(quiet(formula, frame), quiet(formula, path))


SOURCES: dict[str, Callable[[pd.DataFrame, Path], Any]] = {}


def source(make: Callable[[pd.DataFrame, Path], Any]) -> Callable[[pd.DataFrame, Path], Any]:
    SOURCES[make.__name__] = make
    return make


@source
def text_path(frame: pd.DataFrame, folder: Path) -> Any:
    frame.to_parquet(folder / "one.parquet")
    return str(folder / "one.parquet")


@source
def folder_of_files(frame: pd.DataFrame, folder: Path) -> Any:
    (folder / "more").mkdir()
    frame.iloc[:800].to_parquet(folder / "b.parquet")
    frame.iloc[800:1200].to_parquet(folder / "more" / "a.parquet")
    frame.iloc[1200:].to_parquet(folder / "c.parquet")
    return folder


@source
def pattern(frame: pd.DataFrame, folder: Path) -> Any:
    frame.iloc[:800].to_parquet(folder / "visits-1.parquet")
    frame.iloc[800:].to_parquet(folder / "visits-2.parquet")
    frame.to_parquet(folder / "other.parquet")
    return folder / "visits-*.parquet"


@source
def arrow_dataset(frame: pd.DataFrame, folder: Path) -> Any:
    frame.iloc[:800].to_parquet(folder / "b.parquet")
    frame.iloc[800:].to_parquet(folder / "c.parquet")
    return dataset.dataset(folder)


@source
def table_in_memory(frame: pd.DataFrame, folder: Path) -> Any:
    return dataset.dataset(arrow.Table.from_pandas(frame))


@source
def relation(frame: pd.DataFrame, folder: Path) -> Any:
    frame.to_parquet(folder / "one.parquet")
    connection = duckdb.connect()
    return connection.sql("SELECT * FROM read_parquet(?)", params=[str(folder / "one.parquet")])


@source
def partitions(frame: pd.DataFrame, folder: Path) -> Any:
    for drug, rows in frame.dropna(subset="drug").groupby("drug"):
        (folder / f"drug={drug}").mkdir()
        rows.drop(columns="drug").to_parquet(folder / f"drug={drug}" / "a.parquet")
    return folder


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_is_fitted_as_the_frame(
    name: str, visits: pd.DataFrame, tmp_path: Path
) -> None:
    formula = "lbili ~ ns(years, 2) + drug + sex + (years | id)"
    frame = visits if name != "relation" else visits.assign(sex=visits["sex"].astype(str))
    assert_same(quiet(formula, frame), quiet(formula, SOURCES[name](frame, tmp_path)))


def test_a_category_of_duckdb_keeps_its_order(visits: pd.DataFrame, file: Path) -> None:
    connection = duckdb.connect()
    table = connection.sql(
        "SELECT id, years, lbili, stage::ENUM('unused', 'none', 'some', 'much', 'most') AS stage "
        "FROM read_parquet(?)",
        params=[str(file)],
    )
    one, two = (quiet("lbili ~ stage + (1 | id)", data) for data in (visits, table))
    assert_same(one, two)


def test_names_with_quotes_are_columns(visits: pd.DataFrame, tmp_path: Path) -> None:
    odd = {"years": 'ye"ars; DROP', "id": 'the "id"', "lbili": "y'y", "drug": "key", "age": "c0"}
    frame, path = visits.rename(columns=odd), tmp_path / "odd's.parquet"
    frame.to_parquet(path)
    formula = '`y\'y` ~ `ye"ars; DROP` * key + c0 + (`ye"ars; DROP` | `the "id"`)'
    assert_same(quiet(formula, frame), quiet(formula, path))


@pytest.mark.parametrize("kind", ["text", "category", "float", "small"])
def test_subjects_of_any_type(kind: str, visits: pd.DataFrame, tmp_path: Path) -> None:
    labels = {
        "text": lambda x: "p" + x.astype(str),
        "category": lambda x: pd.Categorical("p" + x.astype(str)),
        "float": lambda x: x.astype(float) + 0.5,
        "small": lambda x: x.astype("int16"),
    }
    frame = visits.assign(id=labels[kind](visits["id"]))
    frame.to_parquet(tmp_path / "x.parquet")
    one, two = (quiet("lbili ~ years + (1 | id)", d) for d in (frame, tmp_path / "x.parquet"))
    assert_same(one, two)


# -- what is done with a fit ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(visits: pd.DataFrame, file: Path) -> tuple[Fit, Fit]:
    formula = "lbili ~ years * drug + sex + (years | id)"
    return quiet(formula, visits), quiet(formula, file)


def same_table(one: Any, two: Any) -> None:
    pd.testing.assert_frame_equal(pd.DataFrame(two), pd.DataFrame(one), rtol=1e-6, atol=1e-9)


NEW: dict[str, dict[str, Any]] = {
    "subject": {},
    "confidence": {"interval": "confidence"},
    "prediction": {"interval": "prediction"},
    "marginal": {"type": "marginal", "interval": "confidence"},
    "mean subject": {"type": "mean_subject", "interval": "prediction"},
}


@pytest.mark.parametrize("name", NEW)
def test_new_rows_are_predicted_from_sums(
    name: str, pair: tuple[Fit, Fit], visits: pd.DataFrame
) -> None:
    new = visits[["id", "years", "drug", "sex"]].iloc[:40].copy()
    new.loc[new.index[0], "id"] = 99_999  # a patient that nobody knows
    new.loc[new.index[1], "id"] = 5  # one without an outcome
    one, two = (fit.predict(new, **NEW[name]) for fit in pair)
    same_table(one, two)


def test_history_takes_the_place_of_the_rows(pair: tuple[Fit, Fit], visits: pd.DataFrame) -> None:
    past = visits[visits["id"].isin([2, 3])]
    same_table(*(fit.predict(past.iloc[:6], history=past.iloc[4:]) for fit in pair))
    same_table(*(fit.log_score(past) for fit in pair))
    same_table(*(fit.scoring_rules(past) for fit in pair))


def test_tables_of_a_fit(pair: tuple[Fit, Fit]) -> None:
    one, two = pair
    same_table(one.coef(), two.coef())
    same_table(one.ranef(cond_var=True), two.ranef(cond_var=True))
    same_table(one.anova().table, two.anova().table)
    same_table(one.confint(), two.confint())
    same_table(one.glance(), two.glance())
    same_table(one.tidy(), two.tidy())
    same_table(one.vcov("gls"), two.vcov("gls"))
    assert str(one.summary()) == str(two.summary())


def test_profile_intervals(visits: pd.DataFrame, file: Path) -> None:
    pairs = (quiet("lbili ~ years + (1 | id)", data) for data in (visits, file))
    same_table(*(fit.confint(method="profile") for fit in pairs))


def test_a_file_holds_the_sums(pair: tuple[Fit, Fit], visits: pd.DataFrame, tmp_path: Path) -> None:
    _, fit = pair
    fit.save(tmp_path / "fit")
    again = load(tmp_path / "fit")
    assert isinstance(again, Fit)
    assert str(again.summary()) == str(fit.summary())
    assert again.ranef().equals(fit.ranef())
    new = visits.iloc[:5]
    for kind in ("confidence", "prediction"):
        same_table(fit.predict(new, interval=kind), again.predict(new, interval=kind))
    with pytest.raises(ValueError, match="not in memory"):
        again.residuals()


def test_nested_models_are_compared(visits: pd.DataFrame, file: Path) -> None:
    texts = [
        "lbili ~ years + (1 | id)",
        "lbili ~ years * drug + (1 | id)",
        "lbili ~ years * drug + (years || id)",
        "lbili ~ years * drug + (years | id)",
    ]
    ours, theirs = ([quiet(text, data) for text in texts] for data in (file, visits))
    same_table(theirs[0].anova(*theirs[1:]).table, ours[0].anova(*ours[1:]).table)


def test_other_models_are_not_compared(visits: pd.DataFrame, file: Path, tmp_path: Path) -> None:
    fit, other = quiet("lbili ~ years + (1 | id)", file), tmp_path / "other.parquet"
    visits.assign(centre=visits["id"] % 312).to_parquet(other)
    with pytest.raises(ValueError, match="does not contain `years`"):
        fit.anova(quiet("lbili ~ age + drug + (1 | id)", file))
    with pytest.raises(ValueError, match="group the rows differently"):
        fit.anova(quiet("lbili ~ years + age + (1 | centre)", other))
    with pytest.raises(ValueError, match="the other has not"):
        fit.anova(quiet("lbili ~ years + age + (1 | id)", visits))
    with pytest.raises(ValueError, match="data of the fits differ"):
        fit.anova(quiet("I(lbili + 1) ~ years + age + (1 | id)", file))
    with pytest.raises(ValueError, match="use 1850 and 1064"):
        fit.anova(quiet("lbili ~ years + chol + (1 | id)", file))


def test_update_reads_the_same_rows(visits: pd.DataFrame, file: Path) -> None:
    one, two = (quiet("lbili ~ years + (1 | id)", data) for data in (visits, file))
    assert_same(one.update(". ~ . + age"), two.update(". ~ . + age"))


def test_twice_the_same(file: Path) -> None:
    one, two = (quiet("lbili ~ ns(years, 3) + (years | id)", file) for _ in range(2))
    assert one.fixef().equals(two.fixef())
    assert one.ranef().equals(two.ranef())


NEEDS_ROWS: dict[str, dict[str, Any]] = {
    "augment": {},
    "bootstrap": {},
    "calibration": {},
    "check": {},
    "drop1": {},
    "emmeans": {"names": "drug"},
    "effects": {"covariates": "years"},
    "fitted": {},
    "held_covariates": {},
    "icc": {},
    "impute": {"seed": 1},
    "influence": {},
    "marginal_coefs": {},
    "pp_check": {},
    "predict": {},
    "r2": {},
    "random_profile": {},
    "ranova": {},
    "refit": {"y": [1.0]},
    "residuals": {},
    "scoring_rules": {},
    "simulate": {"seed": 1},
    "slopes": {"covariates": "years"},
}
OTHERS = {
    "contrast": "rows are given",
    "save": "tested",
    "update": "tested",
    "log_score": "tested",
}
NOT_ASKED = ("as_arviz", "loo", "more", "panel_test", "pattern_profile", "states")
"""Of other kinds of models: refused as of a fit in memory."""


@pytest.mark.parametrize("name", NEEDS_ROWS)
def test_what_needs_the_rows_says_so(name: str, pair: tuple[Fit, Fit]) -> None:
    with pytest.raises(ValueError, match="needs every row of the fit, and they are not in memory"):
        getattr(pair[1], name)(**NEEDS_ROWS[name])


def test_every_method_is_the_same_or_says_why(pair: tuple[Fit, Fit]) -> None:
    one, two = pair
    methods = [n for n, _ in inspect.getmembers(Fit, inspect.isfunction) if not n.startswith("_")]
    for name in sorted({*methods} - {*NEEDS_ROWS, *OTHERS}):
        needed = [
            p
            for p in inspect.signature(getattr(Fit, name)).parameters.values()
            if p.default is p.empty and p.name not in ("self", "fit")
        ]
        if needed or "posterior" in name or "prior" in name or name in NOT_ASKED:
            continue
        ours, theirs = getattr(two, name)(), getattr(one, name)()
        if isinstance(theirs, pd.DataFrame):
            same_table(theirs, ours)
        elif isinstance(theirs, float):
            assert ours == pytest.approx(theirs, rel=1e-9), name
        else:
            assert str(ours) == str(theirs), name


def test_plots_of_rows_say_so(pair: tuple[Fit, Fit]) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    for plot in (dgmm.plots.plot_residuals, dgmm.plots.plot_spaghetti, dgmm.plots.plot_pp_check):
        with pytest.raises(ValueError, match="not in memory"):
            plot(pair[1])


# -- what is refused -----------------------------------------------------------------------------

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "crossed": ("lbili ~ 1 + (1 | id) + (1 | stage)", {}, "grouping factors id, stage"),
    "nested": ("lbili ~ 1 + (1 | drug/id)", {}, "`drug:id` is made of several columns"),
    "network": ("lbili ~ dnn(years) + (1 | id)", {}, "is a network"),
    "deep": ("lbili ~ years + (dnn(years) | id)", {}, "has a network"),
    "path": ("lbili ~ years + (ou(years) | id)", {}, "is a path"),
    "means": ("lbili ~ albumin + (1 | cre(id, ~ albumin))", {}, "means over the rows"),
    "family": ("ascites ~ years + (1 | id)", {"family": "bernoulli"}, "family='bernoulli'"),
    "dispersion": ("lbili ~ years + (1 | id)", {"dispersion": "~ years"}, "dispersion= needs"),
    "sampling": ("lbili ~ years + (1 | id)", {"method": "gibbs"}, "method='gibbs' needs"),
    "sandwich": ("lbili ~ years + (1 | id)", {"se": "sandwich"}, "se='sandwich' needs"),
    "laplace": ("lbili ~ years + (1 | id)", {"likelihood": "laplace"}, "likelihood='laplace'"),
    "values": ("lbili ~ years + (1 | id)", {"weights": [1.0]}, "is the name of a column"),
    "strict": ("lbili ~ chol + (1 | id)", {"missing_covariates": "error"}, "in `chol`"),
    "no column": ("lbili ~ yeers + (1 | id)", {}, "no column `yeers`.* Did you mean `years`"),
    "no group": ("lbili ~ years + (1 | idd)", {}, "no column `idd`"),
    "itself": ("lbili ~ lbili + (1 | id)", {}, "also stands right of `~`"),
    "text outcome": ("drug ~ years + (1 | id)", {}, "a number is needed here"),
    "logarithm": ("lbili ~ log(edema) + (1 | id)", {}, "`log\\(edema\\)` is infinite"),
    "no logarithm": ("log(edema) ~ years + (1 | id)", {}, "is not a finite number"),
    "effects": (
        "lbili ~ years + (ns(years, 9, ties='merge') | id)",
        {},
        "cannot tell 9 random effects",
    ),
    "negative": ("lbili ~ years + (1 | id)", {"weights": "shift"}, "weights must be positive"),
    "no weight": ("lbili ~ years + (1 | id)", {"weights": "sex"}, "`sex`, a weight or an offset"),
    "many levels": ("lbili ~ factor(days) + (1 | id)", {}, "columns"),
    "twice": ("lbili ~ years + (1 | id) + (years | id)", {}, "both hold the effect"),
    "exact": ("I(2 * age + years) ~ age + years + (1 | id)", {}, "exact linear function"),
    "exact by subject": ("I(2 * id + years) ~ years + (1 | id)", {}, "exact linear function"),
    "no size": ("I(1e150 * lbili) ~ years + (1 | id)", {}, "change its unit"),
    "one value": ("I(0 * lbili) ~ years + (1 | id)", {}, "nothing to explain"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_words(name: str, file: Path) -> None:
    formula, options, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        quiet(formula, file, **options)


def test_infinite_values_are_named(visits: pd.DataFrame, tmp_path: Path) -> None:
    frame = visits.assign(albumin=visits["albumin"].where(visits["id"] != 7, np.inf))
    frame.to_parquet(tmp_path / "x.parquet")
    count = int((visits["id"] == 7).sum())
    with pytest.raises(ValueError, match=f"`albumin` has {count} infinite values"):
        quiet("lbili ~ albumin + (1 | id)", tmp_path)


def test_several_outcomes_are_fitted_in_memory(file: Path) -> None:
    with pytest.raises(ValueError, match=r"several outcomes, mv\(...\)"):
        mixed_model("mv(lbili, albumin) ~ years + (1 | id)", file)


def test_other_functions_ask_for_a_frame(file: Path) -> None:
    with pytest.raises(TypeError, match="is a path: read the file by dgmm.read"):
        dgmm.lm_list("lbili ~ years | id", str(file))
