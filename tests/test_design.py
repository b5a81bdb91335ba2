"""Design matrices: R's coding, the canonical row order, missing rows, new data, errors."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dgmm.design import Design, build_design, rebuild
from dgmm.formula import FormulaError, parse_formula

FORMULA = (
    "y ~ x * trt + ns(t, 3) + I(x ** 2) + dnn(x, flag) + offset(log(n))"
    " + (dnn(ns(t, 3), basis=ns(t, 5)) | id)"
)


def frame(size: int = 240, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(
        {
            "id": np.repeat(np.arange(1, size // 6 + 1), 6),
            "t": np.tile(np.arange(6.0), size // 6) + rng.uniform(0, 0.5, size),
            "x": rng.normal(size=size),
            "trt": rng.choice(["placebo", "high", "low"], size),
            "flag": rng.uniform(size=size) > 0.5,
            "n": rng.integers(1, 9, size),
        }
    )
    data["y"] = data.x + rng.normal(size=size)
    return data


def design(text: str, data: Any, **options: Any) -> Design:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return build_design(parse_formula(text), data, **options)


def arrays(found: Design) -> list[np.ndarray]:
    blocks = [block.columns.matrix for block in (*found.networks, *found.latents)]
    blocks += [block.basis.matrix for block in found.latents if block.basis is not None]
    codes = [block.grouping.codes for block in found.latents]
    vectors = [found.y, found.trials, found.weights, found.offset, found.time]
    return [found.fixed.matrix, *blocks, *codes, *vectors]


def assert_identical(left: Design, right: Design) -> None:
    for a, b in zip(arrays(left), arrays(right), strict=True):
        assert np.array_equal(a, b, equal_nan=True)
    assert left.fixed.names == right.fixed.names


# --- columns -------------------------------------------------------------------------------


def test_names_variables_and_values_of_the_columns() -> None:
    data = frame()
    found = design("y ~ x * trt + flag + I(x ** 2) + (t | id)", data)
    assert found.fixed.names == (
        "(Intercept)",
        "x",
        "trtlow",
        "trtplacebo",
        "flagTrue",
        "I(x ** 2)",
        "x:trtlow",
        "x:trtplacebo",
    )
    assert found.fixed.variables[0] == frozenset()
    assert found.fixed.variables[-1] == {"x", "trt"}
    kept = data.iloc[found.rows]
    assert np.array_equal(found.fixed.matrix[:, 2], kept.trt == "low")
    assert np.array_equal(found.fixed.matrix[:, 6], kept.x * (kept.trt == "low"))
    assert found.latents[0].columns.names == ("(Intercept)", "t")
    assert found.time_name == "t"
    assert np.array_equal(found.time, kept.t)


def test_network_inputs_are_coded_beside_an_intercept() -> None:
    found = design("y ~ dnn(x, trt, flag) + (1 | id)", frame())
    assert found.networks[0].columns.names == ("x", "trtlow", "trtplacebo", "flagTrue")


def test_odd_and_ambiguous_names() -> None:
    data = frame().rename(columns={"x": "alk.phos", "t": "pat time", "n": "log"})
    found = design("y ~ alk.phos + log(alk.phos ** 2) + log + log(log) + (`pat time` | id)", data)
    assert found.fixed.names[1:] == ("alk.phos", "log(alk.phos ** 2)", "log", "log(log)")
    kept = data.iloc[found.rows]
    assert np.allclose(found.fixed.matrix[:, 4], np.log(kept["log"]))
    assert found.time_name == "pat time"


def test_dot_is_every_column_not_used_elsewhere() -> None:
    found = design("y ~ . + (t | id)", frame()[["id", "t", "x", "y", "flag"]])
    assert found.fixed.names == ("(Intercept)", "x", "flagTrue")
    again = rebuild(found.spec, frame(), outcome=True)
    assert again.fixed.names == found.fixed.names


def test_a_random_intercept_has_no_time() -> None:
    found = design("y ~ x + (1 | id)", frame())
    assert found.time_name is None
    assert np.isnan(found.time).all()


@pytest.mark.parametrize(
    ("random", "name"),
    [
        ("(1 | id) + (0 + t | id)", "t"),
        ("(1 | id) + (dnn(poly(t, 3)) | id)", "t"),
        ("(1 | id) + (t | trt)", None),  # what varies within another factor is not the time
    ],
)
def test_the_time_may_stand_in_a_later_part_of_the_subjects(random: str, name: str | None) -> None:
    found = design(f"y ~ x + {random}", frame())
    assert found.time_name == name
    if name:
        assert np.array_equal(found.latents[1].time, found.time)
        assert (np.diff(found.time)[np.diff(found.latents[0].grouping.codes) == 0] >= 0).all()


# --- row order -----------------------------------------------------------------------------


def variants(data: pd.DataFrame) -> dict[str, Any]:
    shuffled = data.sample(frac=1, random_state=3)
    text = data.assign(id=data.id.astype(str)).sample(frac=1, random_state=4)
    category = data.assign(id=data.id.astype(str).astype("category"))
    return {
        "shuffled": shuffled,
        "text ids": text,
        "categorical ids": category[::-1],
        "float ids": data.assign(id=data.id.astype(float)),
        "categorical covariate": shuffled.assign(trt=shuffled.trt.astype("category")),
        "nullable": data.convert_dtypes(),
        "polars": pl.from_pandas(shuffled),
        "polars categories": pl.from_pandas(shuffled).with_columns(
            pl.col("trt").cast(pl.Enum(["high", "low", "placebo"]))
        ),
        "polars lazy": pl.from_pandas(data).lazy(),
        "pyarrow": nw.from_native(pl.from_pandas(data)).to_arrow(),
        "dict": {name: data[name].to_numpy() for name in data},
        "float32 index": shuffled.set_index(shuffled.x),
    }


@pytest.mark.parametrize("kind", list(variants(frame())))
def test_order_and_type_of_the_rows_change_no_bit(kind: str) -> None:
    data = frame()
    data.loc[::7, "y"] = np.nan
    assert_identical(design(FORMULA, data), design(FORMULA, variants(data)[kind]))


def test_rows_tied_in_time_are_ordered_by_what_else_is_known() -> None:
    data = frame().assign(t=lambda d: d.t.round(), visit=1.0)
    data.loc[::5, "y"] = np.nan
    weights = np.linspace(1, 2, len(data))
    order = np.random.default_rng(1).permutation(len(data))
    one = design("y ~ x + trt + (visit | id)", data.assign(visit=data.t // 2), weights=weights)
    shuffled = data.assign(visit=data.t // 2).iloc[order]
    two = design("y ~ x + trt + (visit | id)", shuffled, weights=weights[order])
    assert_identical(one, two)
    assert np.array_equal(order[two.rows], one.rows)


def test_ids_sort_as_numbers_when_they_read_as_numbers() -> None:
    data = frame().assign(id=lambda d: d.id.astype(str))
    levels = design("y ~ (1 | id)", data).latents[0].grouping.levels
    assert list(levels[:3]) == ["1", "2", "3"]
    assert levels[9] == "10"
    named = frame().assign(id=lambda d: "p" + d.id.astype(str))
    assert list(design("y ~ (1 | id)", named).latents[0].grouping.levels[:3]) == [
        "p1",
        "p10",
        "p11",
    ]


def test_nested_and_crossed_groups() -> None:
    data = frame().assign(school=lambda d: np.where(d.id > 20, "b", "a"), k=lambda d: d.id % 3)
    found = design("y ~ x + (1 | school/k) + (1 | id)", data)
    schools, classes, ids = (block.grouping for block in found.latents)
    assert [schools.name, classes.name, ids.name] == ["school", "school:k", "id"]
    assert list(classes.levels) == ["a:0", "a:1", "a:2", "b:0", "b:1", "b:2"]
    kept = data.iloc[found.rows]
    assert np.array_equal(classes.labels, kept.school + ":" + kept.k.astype(str))
    assert np.array_equal(ids.levels[ids.codes], kept.id)
    assert ids.levels.dtype.kind == "i"


# --- frame libraries -----------------------------------------------------------------------


def dictionaries() -> pa.Table:
    """A table of Arrow: an ordered text dictionary, one of whole numbers, floats of 32 bits."""
    data = frame().drop(columns="trt")
    rng = np.random.default_rng(5)
    codes = [pa.array(rng.integers(0, 3, 240), mask=rng.random(240) < 0.05) for _ in range(2)]
    return pa.table(
        {name: data[name].to_numpy() for name in data}
        | {
            "dose": pa.DictionaryArray.from_arrays(
                codes[0], pa.array(["none", "low", "high"]), ordered=True
            ),
            "wave": pa.DictionaryArray.from_arrays(codes[1], pa.array([3, 1, 2])),
            "small": pa.array(rng.choice([0.1, 0.2, 0.3], 240), pa.float32()),
        }
    )


def test_dictionaries_of_arrow_are_the_categories_that_pandas_reads(tmp_path: Path) -> None:
    table = dictionaries()
    pq.write_table(table, tmp_path / "data.parquet")
    read = pd.read_parquet(tmp_path / "data.parquet").astype({"wave": "category"})
    read["wave"] = read["wave"].cat.set_categories([3, 1, 2])  # a file keeps whole numbers alone
    parsed = parse_formula("y ~ dose + wave + C(small) + (t | id)")
    many = [read, table, table.to_pandas(types_mapper=pd.ArrowDtype), table.to_pandas()]
    assert isinstance(many[2]["dose"].dtype, pd.ArrowDtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        built = [build_design(parsed, data) for data in many]
    assert built[0].fixed.names == (
        "(Intercept)", "doselow", "dosehigh", "wave1", "wave2", "C(small)0.2", "C(small)0.3",
    )  # fmt: skip
    for one in built[1:]:
        assert_identical(built[0], one)
    new = rebuild(built[1].spec, pd.DataFrame({"dose": ["high"], "wave": [2], "small": [0.3],
                  "t": [1.0]}), outcome=False)  # fmt: skip
    assert new.fixed.matrix.tolist() == [[1, 0, 1, 0, 1, 0, 1]]


def test_an_ordered_dictionary_is_an_ordered_outcome() -> None:
    table = dictionaries().filter(pc.is_valid(dictionaries()["dose"]))
    for data in (table, table.to_pandas(), table.to_pandas(types_mapper=pd.ArrowDtype)):
        found = build_design(parse_formula("dose ~ x + (1 | id)"), data, ordered=True)
        assert found.spec.response_levels == ("none", "low", "high")


def test_dictionaries_in_pieces_and_with_a_missing_level() -> None:
    one = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["b", "a"]))
    two = pa.DictionaryArray.from_arrays(pa.array([0, 1, 1]), pa.array(["a", "c"]))
    three = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["a", None]))
    pieces = pa.table(
        {"g": pa.chunked_array([one, two]), "y": [1.0, 3, 2, 4, 6, 5], "id": [1, 2] * 3}
    )
    found = design("y ~ 0 + g + (1 | id)", pieces)
    assert found.fixed.names == ("gb", "ga", "gc")
    assert found.fixed.matrix[np.argsort(found.rows)].argmax(1).tolist() == [0, 1, 0, 1, 2, 2]
    holed = pa.table({"g": three, "y": [1.0, 3, 2], "id": [1, 1, 2]})
    with pytest.warns(UserWarning, match="1 of 3 rows .* 1 for `g`") as told:
        found = build_design(parse_formula("y ~ 0 + g + (1 | id)"), holed)
    assert found.fixed.names == ("ga",)
    assert found.n_rows == 2
    assert len(told) == 1  # the one level is not left out without an intercept


def test_a_partly_labelled_column_is_told() -> None:
    labelled = pd.Categorical(frame().n % 3).rename_categories({0: "never", 1: 1, 2: "often"})
    words = "`h` is partly labelled: 'never', 'often' beside 1; each counts as a category"
    with pytest.warns(UserWarning, match=words):
        found = build_design(parse_formula("y ~ h + (1 | id)"), frame().assign(h=labelled))
    assert found.fixed.names == ("(Intercept)", "h1", "hoften")


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d/%m/%Y", "%Y-%m-%d %H:%M"])
def test_text_that_spells_dates_is_asked_about(form: str) -> None:
    dates = pd.date_range("2020-01-01", periods=240).strftime(form)
    with pytest.raises(ValueError, match="column `day` holds text like '.*': a date\\?") as caught:
        design("y ~ day + (1 | id)", frame().assign(day=dates.astype(object)))
    assert len(str(caught.value)) < 300
    months = pd.Categorical(dates.str[:7])
    assert len(design("y ~ day", frame().assign(day=months)).fixed.names) > 1


def test_long_lists_are_cut_short() -> None:
    data = frame().assign(g=lambda d: "a" + (np.arange(240) % 120).astype(str))
    found = design("y ~ g", data)
    with pytest.raises(ValueError, match=r"known levels: a0, .* \(120 in all\)") as caught:
        rebuild(found.spec, frame().assign(g=lambda d: "b" + d.n.astype(str)), outcome=False)
    assert len(str(caught.value)) < 400


# --- missing values ------------------------------------------------------------------------


def test_missing_outcomes_stay_and_missing_covariates_go() -> None:
    data = frame()
    data.loc[[0, 5], "y"] = np.nan
    data.loc[[1, 2], "x"] = np.nan
    data.loc[[2, 3], "trt"] = None
    with pytest.warns(UserWarning, match="3 of 240 rows .*: 2 for `x`, 2 for `trt`") as caught:
        found = build_design(parse_formula("y ~ x + trt + (t | id)"), data)
    assert len(caught) == len(found.messages) == 1
    assert found.n_rows == 237
    assert (~found.observed).sum() == 2
    assert set(found.index) == set(range(240)) - {1, 2, 3}
    with pytest.raises(ValueError, match="3 of 240 rows"):
        design("y ~ x + trt + (t | id)", data, missing_covariates="error")


def test_knots_are_learnt_from_rows_with_a_missing_outcome_too() -> None:
    data = frame()
    whole = design("y ~ ns(t, 4) + (1 | id)", data)
    holed = design("y ~ ns(t, 4) + (1 | id)", data.assign(y=data.y.where(data.t < data.t.max())))
    assert np.array_equal(whole.fixed.matrix, holed.fixed.matrix)


@pytest.mark.parametrize("what", ["weights", "offset", "id"])
def test_missing_weights_offsets_and_groups_drop_their_row(what: str) -> None:
    data = frame().assign(weights=2.0, offset=1.0).astype({"id": float})
    data.loc[7, what] = np.nan
    with pytest.warns(UserWarning, match=rf"1 of 240 rows .* left out: 1 for `{what}`"):
        found = build_design(
            parse_formula("y ~ x + (1 | id)"), data, weights="weights", offset="offset"
        )
    assert found.n_rows == 239
    assert set(found.weights) == {2.0}
    assert set(found.offset) == {1.0}


# --- outcomes ------------------------------------------------------------------------------


def counts() -> pd.DataFrame:
    data = frame()
    return data.assign(s=np.minimum(data.n, 2), f=data.n - np.minimum(data.n, 2))


def test_two_column_outcomes_and_Rs_weights_idiom() -> None:
    data = counts()
    bound = design("cbind(s, f) ~ x + (1 | id)", data)
    ratio = design("s / n ~ x + (1 | id)", data)
    weighted = design("s / n ~ x + (1 | id)", data, weights="n")
    for one in (bound, ratio, weighted):
        kept = data.iloc[one.rows]
        assert np.array_equal(one.y, kept.s)
        assert np.array_equal(one.trials, kept.n)
        assert (one.weights == 1).all()
    assert ratio.ratio
    assert not bound.ratio


def test_an_outcome_in_back_quotes_is_read_as_any_other() -> None:
    flags = np.where(frame().y > 0, True, False).astype(object)
    flags[3] = None
    data = frame().assign(**{"a flag": flags, "flag2": flags})
    odd, plain = (design(f"{name} ~ x + (1 | id)", data) for name in ("`a flag`", "flag2"))
    assert np.array_equal(odd.y, plain.y, equal_nan=True)
    assert odd.spec.response_levels == plain.spec.response_levels == (False, True)
    order = pd.Categorical(frame().trt, ["low", "none", "placebo", "high"], ordered=True)
    graded = frame().assign(**{"a grade": order})
    found = design("`a grade` ~ x + (1 | id)", graded, ordered=True)
    assert found.spec.response_levels == ("low", "placebo", "high")
    assert any("no row has 'none', left out" in note for note in found.messages)


def test_two_levels_become_zero_and_one() -> None:
    data = frame().assign(use=lambda d: np.where(d.y > 0, "Y", "N"))
    data.loc[3, "use"] = None
    found = design("use ~ x + (1 | id)", data)
    kept = data.iloc[found.rows]
    assert np.array_equal(found.y[found.observed], (kept.use == "Y")[found.observed])
    assert (~found.observed).sum() == 1
    assert "1 is 'Y', 0 is 'N'" in found.messages[0]
    again = rebuild(found.spec, data[data.use == "Y"], outcome=True)
    assert set(again.y) == {1.0}
    boolean = design("I(use == 'Y') ~ x + (1 | id)", data)
    assert np.array_equal(boolean.y, found.y, equal_nan=True)
    assert set(design("flag ~ x + (1 | id)", data).y) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("left", "change", "message"),
    [
        ("trt", {}, "non-numeric response: `trt` is a category with 3 levels"),
        ("cbind(s, trt)", {}, "non-numeric response: `trt`"),
        ("log(x)", {}, r"the outcome `log\(x\)` is not a finite number in \d+ rows"),
        ("y", {"y": np.nan}, "missing in all 240 rows"),
        ("cbind(x, f)", {}, "counts cannot be negative"),
        ("s / zero", {"zero": 0.0}, r"the denominator is 0 and the numerator is not in \d+ rows"),
    ],
)
def test_outcomes_refused(left: str, change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        design(f"{left} ~ 1 + (1 | id)", counts().assign(**change))


# --- offsets, weights, dropped columns --------------------------------------------------------


def test_offsets_add_up() -> None:
    data = frame()
    found = design("y ~ x + offset(log(n)) + offset(x) + (1 | id)", data, offset=np.ones(240))
    kept = data.iloc[found.rows]
    assert np.allclose(found.offset, np.log(kept.n) + kept.x + 1)


@pytest.mark.parametrize(
    ("right", "change", "message", "kept"),
    [
        ("x + k", {"k": 3.0}, r"`k` \(constant\)", ("(Intercept)", "x")),
        ("x + k", {"k": 0.0}, r"`k` \(always zero\)", ("(Intercept)", "x")),
        ("x + t + I(x + 2*t)", {}, r"a combination of x, t", ("(Intercept)", "x", "t")),
        ("x + one", {"one": "a"}, "`one` has one level only", ("(Intercept)", "x")),
    ],
)
def test_columns_that_say_nothing_new_are_dropped(
    right: str, change: dict[str, Any], message: str, kept: tuple[str, ...]
) -> None:
    data = frame().assign(**change)
    with pytest.warns(UserWarning, match=message):
        found = build_design(parse_formula(f"y ~ {right} + (1 | id)"), data)
    assert found.fixed.names == kept
    assert rebuild(found.spec, data.head(3), outcome=False).fixed.names == kept


def test_the_default_basis_of_a_network_with_few_times() -> None:
    """Six times bear five columns of a spline beside the constant: there is none between them."""
    data = pd.DataFrame({"id": np.repeat(np.arange(9), 6), "t": np.tile(np.arange(6.0), 9)})
    data["y"] = np.sin(np.arange(54.0))
    told = r"curves of \(dnn\(ns\(t, 3\)\) .* at the values of `t` seen.*: basis=ns\(t, 5\) in dnn"
    with pytest.warns(UserWarning, match=told) as caught:
        found = build_design(parse_formula("y ~ ns(t, 3) + (dnn(ns(t, 3)) | id)"), data)
    assert not any("merge" in str(one.message) for one in caught)
    (block,) = found.latents
    assert block.columns.matrix.shape == (54, 4)
    assert np.linalg.matrix_rank(block.basis.matrix) == block.basis.matrix.shape[1] == 6
    between = rebuild(found.spec, pd.DataFrame({"id": 0, "t": [1.0, 1.5]}), outcome=False)
    assert between.departures.estimable.tolist() == [True, False]
    assert "known at the values seen in the fit, not between them" in between.departures.message
    own = design("y ~ t + (dnn(ns(t, 3), basis=ns(t, 5)) | id)", data)
    assert rebuild(
        own.spec, pd.DataFrame({"id": 0, "t": [1.5]}), outcome=False
    ).departures.estimable
    with pytest.warns(UserWarning, match=r"dropped from the \(dnn\(.*: `ns\(t, 6\)6`"):
        build_design(parse_formula("y ~ t + (dnn(t, basis=ns(t, 6)) | id)"), data)


# --- new data --------------------------------------------------------------------------------


def test_new_data_meet_the_columns_of_the_fit() -> None:
    data = frame()
    found = design(FORMULA, data)
    again = rebuild(found.spec, data, outcome=True)
    assert_identical(found, again)
    part = rebuild(found.spec, data.iloc[[100, 7]].drop(columns="y"), outcome=False)
    places = [int(np.flatnonzero(found.rows == row)[0]) for row in (7, 100)]
    assert np.allclose(part.fixed.matrix, found.fixed.matrix[places], 1e-13, 1e-13)
    assert np.isnan(part.y).all()
    assert part.rows.tolist() == [1, 0]


def test_unknown_groups_get_minus_one() -> None:
    found = design("y ~ x + (t | id)", frame())
    new = frame().head(12).assign(id=lambda d: d.id.astype(str).replace("2", "new"))
    again = rebuild(found.spec, new, outcome=False)
    assert again.latents[0].grouping.codes.tolist() == [0] * 6 + [-1] * 6
    assert again.latents[0].grouping.labels[-1] == "new"
    without = rebuild(found.spec, new.drop(columns="id"), outcome=False)
    assert (without.latents[0].grouping.codes == -1).all()


def test_unknown_levels_are_refused_by_name() -> None:
    found = design("y ~ trt + (1 | id)", frame())
    with pytest.raises(ValueError, match="`trt` .*'other'; known levels: high, low, placebo"):
        rebuild(found.spec, frame().head(3).assign(trt="other"), outcome=False)
    one = rebuild(found.spec, frame().head(3).assign(trt="low"), outcome=False)
    assert one.fixed.matrix.tolist() == [[1, 1, 0]] * 3


def test_missing_covariates_of_new_data_are_left_out_with_a_warning() -> None:
    found = design("y ~ x + (t | id)", frame())
    new = frame().head(6).assign(x=[1, np.nan, 2, 3, 4, 5])
    with pytest.warns(UserWarning, match="1 of 6 rows"):
        assert rebuild(found.spec, new, outcome=False).n_rows == 5


# --- saving ----------------------------------------------------------------------------------


def test_a_new_process_rebuilds_the_same_bits(tmp_path: Path) -> None:
    data = frame()
    found = design(FORMULA + " + (poly(x, 2) + C(trt, contr.sum) | flag:trt)", data)
    (tmp_path / "spec.json").write_text(json.dumps(found.spec.to_json(), allow_nan=False))
    data.to_pickle(tmp_path / "data.pkl")
    program = (
        "import json, sys, numpy as np, pandas as pd\n"
        "from dgmm.design import Specification, rebuild\n"
        "spec = Specification.from_json(json.load(open('spec.json')))\n"
        "d = rebuild(spec, pd.read_pickle('data.pkl'), outcome=True)\n"
        "np.savez('out.npz', d.fixed.matrix, *(b.columns.matrix for b in d.latents))\n"
    )
    root = str(Path(__file__).parents[1])
    environment = {"PYTHONPATH": root}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    saved = np.load(tmp_path / "out.npz")
    blocks = [found.fixed.matrix, *(block.columns.matrix for block in found.latents)]
    for name, block in zip(saved.files, blocks, strict=True):
        assert np.array_equal(saved[name], block)


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y ~ trtt + (1 | id)", "no column `trtt`.*Did you mean `trt`"),
        ("z ~ x + (1 | id)", "no column `z`"),
        ("y ~ x + (1 | nope)", "group `nope` is not a column"),
        ("y ~ lg(x)", r"no function lg\(\).*Did you mean log"),
        ("y ~ log", r"`log` is a function: write log"),
    ],
)
def test_unknown_names_are_pointed_at(text: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message) as caught:
        design(text, frame())
    assert "^" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y ~ I(x^2)", r"x\*\*2, not x\^2"),
        ("y ~ x.real", "no column `x.real`"),
        ("y ~ I(x[0])", "nothing else of Python"),
        ("y ~ I((lambda: 1)())", "not an expression that can be read"),
        ("y ~ I((x + 1)())", "only names of columns and functions"),
        ("y ~ I([v for v in x])", "not an expression that can be read"),
        ("y ~ I(f'{x}')", "nothing else of Python"),
        ("y ~ I((q := x))", "nothing else of Python"),
        ("y ~ eval('1')", r"no function eval"),
        ("y ~ log(trt)", "arithmetic needs numbers"),
        ("y ~ ns(trt, 3)", r"ns\(\) needs a numeric column"),
        ("y ~ ns(x, 3, wrong=1)", "wrong"),
        ("y ~ log(x)", r"`log\(x\)` is not a number in \d+ of 240 rows"),
        ("y ~ I(1)", "does not vary with the rows"),
        ("y ~ x + (dnn(t, latent=7) | id)", "latent=7 .*largest `id` has 6 rows"),
        ("y ~ x + (1 | constant)", "`constant` has 1 level"),
        ("y ~ bad + (1 | id)", "column `bad` has 2 infinite values"),
        ("y ~ date + (1 | id)", "column `date` holds datetime64 values"),
        ("y ~ x * y + (1 | id)", "the outcome `y` also stands right of `~`"),
        ("log(x + 9) ~ t + (1 + x | id)", "the outcome `x` also stands right of `~`"),
        ("y ~ dnn(y) + (1 | id)", "the outcome `y` also stands right of `~`"),
        ("y ~ x + offset(y) + (1 | id)", "the outcome `y` also stands right of `~`"),
        ("y ~ x + (1 | y)", "the outcome `y` also stands right of `~`"),
        ("y ~ x + (. | id)", "`.` \\(all other columns\\) stands among the fixed terms alone"),
        ("y ~ (x ~ t | id)", "`~` stands where an operator belongs"),
        ("y ~ scale(`if`)", "no column `if`"),
    ],
)
def test_errors_say_what_would_be_right(text: str, message: str) -> None:
    bad = np.r_[np.inf, -np.inf, np.zeros(238)]
    dates = pd.date_range("2020-01-01", periods=240)
    with pytest.raises(ValueError, match=message):
        design(text, frame().assign(constant=1, bad=bad, date=dates))


def test_no_complete_row_and_bad_options() -> None:
    with pytest.raises(ValueError, match="no complete row is left"):
        design("y ~ x + (1 | id)", frame().assign(x=np.nan))
    with pytest.raises(ValueError, match="no rows"):
        design("y ~ x + (1 | id)", frame().head(0))
    with pytest.raises(ValueError, match="'drop' or 'error'"):
        design("y ~ x", frame(), missing_covariates="impute")
    with pytest.raises(ValueError, match="weights has shape"):
        design("y ~ x", frame(), weights=np.ones(3))
    with pytest.raises(ValueError, match="not negative"):
        design("y ~ x", frame(), weights=-np.ones(240))
    with pytest.raises(TypeError, match="must be a data frame"):
        design("y ~ x", 3)


def test_an_offset_array_cannot_serve_new_data() -> None:
    found = design("y ~ x + (1 | id)", frame(), offset=np.ones(240))
    with pytest.warns(UserWarning, match="offset array"):
        assert (rebuild(found.spec, frame(), outcome=False).offset == 0).all()
    named = design("y ~ x + (1 | id)", frame(), offset="n")
    again = rebuild(named.spec, frame(), outcome=False)
    assert np.array_equal(again.offset, named.offset)


@pytest.mark.parametrize(
    ("random", "named"),
    [
        ("(g || id)", "g"),
        ("(0 + flag || id)", "flag"),
        ("(x + C(k) || id)", "C(k)"),
        ("(x + t || id)", None),
        ("(g | id)", None),
    ],
)
def test_the_reading_of_a_double_bar_beside_a_category_is_told(
    random: str, named: str | None
) -> None:
    rng, size = np.random.default_rng(1), 240
    data = frame().assign(
        g=rng.choice(["a", "b", "c"], size=size),
        k=np.arange(size) % 3,
        flag=np.arange(size) % 2 > 0,
    )
    found = build_design(parse_formula(f"y ~ x + {random}"), data)
    told = [message for message in found.messages if "lme4 1.1" in message]
    assert len(told) == (named is not None)
    if named is not None:
        assert told[0].startswith(f"{random}: all effects are independent")
        assert told[0].endswith(
            f"as in lme4 2.0; lme4 1.1 keeps these correlated: (0 + {named} | id)"
        )
