"""Tidy frames and tables of several fits: broom.mixed's columns, any library of frames."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import FORMULAS, data

import dgmm
from dgmm import Fit, mixed_model


@pytest.fixture(scope="module")
def inflated() -> Fit:
    return mixed_model(
        "y ~ trt * lbase + (1 | subject)",
        data("epil"),
        family="negative_binomial",
        zi="~ 1",
        verbose=0,
    )


def test_columns_and_numbers_are_those_of_the_tables(sleepstudy_reml: Fit) -> None:
    found = sleepstudy_reml.tidy(conf_int=True)
    assert list(found.columns) == [
        "effect", "group", "term", "estimate", "std.error", "statistic", "df", "p.value",
        "conf.low", "conf.high",
    ]  # fmt: skip
    assert found["effect"].to_list() == ["fixed"] * 2 + ["ran_pars"] * 4
    assert found["term"].to_list()[2:] == list(sleepstudy_reml.confint().index[2:])
    own, wald = found.iloc[:2], sleepstudy_reml.coefficients()
    for name, theirs in (("estimate", "Estimate"), ("statistic", "t value"), ("df", "df")):
        np.testing.assert_allclose(own[name].astype(float), wald[theirs], rtol=1e-12)
    # lmerTest and broom.mixed: conf.low of Days 7.206 (t, 17 df)
    assert own["conf.low"].iloc[1] == pytest.approx(7.206, abs=5e-4)
    spread = found.iloc[2:]
    ends = sleepstudy_reml.confint().iloc[2:]
    np.testing.assert_allclose(spread[["conf.low", "conf.high"]].astype(float), ends, rtol=1e-10)
    assert spread["p.value"].isna().all()
    table = sleepstudy_reml.var_corr()
    r = table["sdcor"].iloc[2]
    slope = [*table["sdcor"].iloc[:2], 1 - r**2, table["sdcor"].iloc[3]]
    np.testing.assert_allclose(spread["std.error"].astype(float), slope * table["se_working"])


def test_parts_and_family_parameters_have_rows(inflated: Fit) -> None:
    found = inflated.tidy(conf_int=True)
    zi = found[found["component"] == "zi"].iloc[0]
    assert zi["estimate"] == pytest.approx(inflated.part_coefficients()["zi"]["Estimate"].iloc[0])
    size = found.set_index("term").loc["size"]
    own = inflated.family_parameters().loc["size"]
    names = ["estimate", "std.error", "conf.low", "conf.high"]
    np.testing.assert_allclose(size[names].astype(float), own.astype(float))
    ratios = inflated.tidy("fixed", conf_int=True, exponentiate=True).set_index("term")
    plain = inflated.tidy("fixed", conf_int=True).set_index("term")
    for name in ("estimate", "conf.low", "conf.high"):
        np.testing.assert_allclose(ratios.loc["lbase", name], np.exp(plain.loc["lbase", name]))


def test_frames_are_of_the_library_that_came_in() -> None:
    frame = data("sleepstudy").astype({"Subject": str})
    one = mixed_model(FORMULAS["sleepstudy"], frame, verbose=0)
    two = mixed_model(FORMULAS["sleepstudy"], pl.from_pandas(frame), verbose=0)
    for name in ("tidy", "augment", "glance"):
        ours, theirs = getattr(one, name)(), getattr(two, name)()
        assert isinstance(ours, pd.DataFrame)
        assert isinstance(theirs, pl.DataFrame)
        assert list(ours.columns) == theirs.columns
        numbers = ours.select_dtypes("number").columns
        expected = ours[numbers].to_numpy(float)
        np.testing.assert_allclose(theirs[list(numbers)].to_pandas().to_numpy(float), expected)


def test_augment_adds_to_the_rows_that_were_used(tmp_path) -> None:
    frame = data("sleepstudy").sample(frac=1.0, random_state=1)
    frame.loc[frame.index[3], "Days"] = np.nan
    with pytest.warns(UserWarning, match="left out"):
        fit = mixed_model(FORMULAS["sleepstudy"], frame, verbose=0)
    found = fit.augment()
    assert len(found) == 179
    kept = frame.drop(frame.index[3])
    pd.testing.assert_frame_equal(found[list(frame.columns)], kept)
    np.testing.assert_allclose(found[".fitted"] + found[".resid"], found["Reaction"])
    np.testing.assert_allclose(
        found[".fixed"], fit.fixef().to_numpy() @ [np.ones(179), found["Days"]]
    )
    fit.save(tmp_path / "fit")
    again = dgmm.load(tmp_path / "fit")
    with pytest.raises(
        ValueError, match="augment\\(\\) needs data=: this fit was read from a file"
    ):
        again.augment()
    np.testing.assert_allclose(again.augment(frame)[".fitted"], found[".fitted"], rtol=1e-9)
    for copy in (frame.copy(), pl.from_pandas(frame), frame.convert_dtypes()):
        columns = again.augment(copy)[[".fitted", ".fixed", ".resid"]]
        np.testing.assert_allclose(
            np.asarray(columns, dtype=float), found[[".fitted", ".fixed", ".resid"]], rtol=1e-9
        )
    for other in (
        frame.iloc[::-1],
        frame.iloc[1:],
        frame.assign(Reaction=frame["Reaction"] + 1),
        frame.assign(Days=frame["Days"] + 1),
        frame.assign(Subject=frame["Subject"].to_numpy()[::-1]),
        frame.drop(columns="Days"),
    ):
        for one in (fit, again):
            with pytest.raises(ValueError, match="data= has other rows, covariates or outcomes"):
                one.augment(other)


def test_glance_has_broom_mixeds_criteria(sleepstudy: Fit) -> None:
    row = sleepstudy.glance().iloc[0]
    assert row["deviance"] == sleepstudy.deviance()
    assert row["df.residual"] == sleepstudy.df_residual()
    assert {"nobs", "sigma", "logLik", "AIC", "BIC"} <= set(row.index)


# -- several fits ----------------------------------------------------------------------------------


def test_fits_stand_side_by_side(sleepstudy: Fit, inflated: Fit) -> None:
    table = dgmm.modelsummary(sleepstudy, inflated, names=["sleep", "seizures"])
    frame = table.frame
    assert frame.loc["Days"].to_list() == ["10.467***", ""]
    assert frame.loc["sd_(Intercept)|Subject", "sleep"] == "23.781"
    assert frame.loc["Observations"].to_list() == ["180", "236"]
    below = frame["sleep"].iloc[list(frame.index).index("Days") + 1]
    assert below == f"({sleepstudy.std_errors()['Days']:.3f})"
    assert "zi: (Intercept)" in frame.index
    text = str(table)
    assert max(map(len, text.splitlines())) <= 80
    for cell in (cell for cell in frame.to_numpy().ravel() if cell):
        assert cell in text
    latex = table.latex()
    assert r"sd\_Days\textbar{}Subject & 5.717 &  \\" in latex
    assert latex.count(r"\midrule") == 3
    assert table.html().count("<tr") == len(frame) + 2
    assert re.search("<th>Days</th><td>10.467", table.html())


def test_other_statistics(sleepstudy: Fit) -> None:
    low, high = sleepstudy.confint(parm="Days").iloc[0]
    frame = dgmm.modelsummary(sleepstudy, statistic="conf.int", digits=2, stars=False).frame
    place = list(frame.index).index("Days")
    assert frame.iloc[place, 0] == "10.47"
    assert frame.iloc[place + 1, 0] == f"[{low:.2f}, {high:.2f}]"
    bare = dgmm.modelsummary(sleepstudy, statistic=None)
    assert "" not in bare.frame.index
    assert list(bare.frame.columns) == ["(1)"]


def test_many_fits_take_several_blocks_of_lines(sleepstudy: Fit) -> None:
    text = str(dgmm.modelsummary(*[sleepstudy] * 7))
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("Observations") == 2


def test_great_tables_get_the_same_cells(sleepstudy: Fit) -> None:
    pytest.importorskip("great_tables")
    text = dgmm.modelsummary(sleepstudy).gt().as_raw_html()
    assert "10.467***" in text


def test_what_is_no_fit_is_named(sleepstudy: Fit) -> None:
    with pytest.raises(ValueError, match="needs at least one fit"):
        dgmm.modelsummary()
    with pytest.raises(TypeError, match="needs fits from mixed_model\\(\\), not 3"):
        dgmm.modelsummary(sleepstudy, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="names has 1 titles for 2 fits"):
        dgmm.modelsummary(sleepstudy, sleepstudy, names=["a"])
    with pytest.raises(ValueError, match="statistic is 'std.error', 'conf.int'"):
        dgmm.modelsummary(sleepstudy, statistic="se")
    with pytest.raises(ValueError, match="effects are 'fixed', 'ran_pars', not 'ran_vals'"):
        sleepstudy.tidy("ran_vals")
