"""fit_many(): every model as mixed_model() fits it alone, and what cannot be fitted told."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import data

import dgmm
from dgmm import ManyFits

GLANCE = ("nobs", "groups", "df", "logLik", "AIC", "BIC", "sigma", "singular")
GENES = [f"g{k}" for k in range(24)]


@cache
def wide() -> pd.DataFrame:
    """sleepstudy with outcomes of its own: its effects, some, none; complete or with gaps."""
    sleep = data("sleepstudy")
    columns = {}
    for k, name in enumerate(GENES):
        rng = np.random.default_rng(k)
        effects = sleep["Reaction"].to_numpy() if k % 3 else np.full(180, 250.0)
        y = effects + 30 * rng.normal(size=180)
        columns[name] = np.where((rng.random(180) < 0.2) & (k % 4 == 1), np.nan, y)
    return pd.concat([sleep[["Days", "Subject"]], pd.DataFrame(columns)], axis=1)


def uneven() -> pd.DataFrame:
    """Models of different numbers of rows and subjects, with weights and an offset."""
    long = wide().melt(["Days", "Subject"], var_name="gene", value_name="y")
    rng = np.random.default_rng(1)
    long["w"], long["o"] = rng.uniform(0.5, 2.0, len(long)), rng.normal(size=len(long))
    long["x"] = rng.normal(size=len(long))
    kept = rng.random(len(long)) < 0.7
    short = (long["gene"].str[1:].astype(int) % 2 == 0) & (long["Subject"].astype(int) > 350)
    return long[kept & ~short].sample(frac=1.0, random_state=3)


def compare(fits: ManyFits, engine: str = "batched") -> None:
    """Every model beside its fit alone."""
    for at, label in enumerate(fits.models.labels):
        alone, told = fits[at], fits.glance.loc[label]
        assert told["engine"] == engine
        assert told["converged"]
        wanted = [alone.nobs(), alone.n_groups(), alone.df(), float(alone.loglik()), alone.aic(),
                  alone.bic(), alone.sigma(), alone.is_singular()]  # fmt: skip
        for name, value in zip(GLANCE, wanted, strict=True):
            assert told[name] == pytest.approx(value, rel=1e-7, abs=1e-8), (label, name)
        components = alone.var_corr()
        pairs = (
            (fits.coefficients, alone.fixef()),
            (fits.std_errors, alone.std_errors()),
            (fits.var_corr, components["sdcor"]),
            (fits.var_corr_errors, components["se_working"]),
        )
        for table, series in pairs:
            found = table.loc[label, list(series.index)].astype(float)
            np.testing.assert_allclose(found, series, rtol=1e-5, atol=1e-7, err_msg=str(label))


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("random", ["(Days | Subject)", "(Days || Subject)", "(1 | Subject)"])
def test_outcomes_of_a_wide_frame(random: str, method: str) -> None:
    fits = dgmm.fit_many(f"~ Days + {random}", wide(), outcomes=GENES, method=method)
    compare(fits)
    if "||" not in random and method == "ml":
        assert 0 < fits.glance["singular"].sum() < len(fits)


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_parts_of_a_long_frame(method: str) -> None:
    fits = dgmm.fit_many(
        "y ~ Days * x + (Days | Subject)",
        uneven(),
        by="gene",
        method=method,
        weights="w",
        offset="o",
    )
    assert fits.glance["nobs"].nunique() > 10
    assert fits.glance["groups"].nunique() > 1
    compare(fits)


def test_rows_in_any_order_of_any_library() -> None:
    long = uneven()
    here = dgmm.fit_many("y ~ Days + (Days | Subject)", long, by="gene")
    there = dgmm.fit_many("y ~ Days + (Days | Subject)", pl.from_pandas(long), by="gene")
    pd.testing.assert_frame_equal(here.coefficients, there.coefficients, rtol=1e-12)
    assert isinstance(there.tidy(), pl.DataFrame)
    compare(there)


def test_an_array_of_weights_goes_with_its_rows() -> None:
    long = uneven()
    by_name = dgmm.fit_many("y ~ Days + (1 | Subject)", long, by="gene", weights="w")
    array = dgmm.fit_many(
        "y ~ Days + (1 | Subject)", long, by="gene", weights=long["w"].to_numpy(), method="ml"
    )
    pd.testing.assert_frame_equal(by_name.std_errors, array.std_errors)
    assert float(array[5].loglik()) == pytest.approx(by_name.glance["logLik"].iloc[5], abs=1e-8)


def test_without_standard_errors() -> None:
    both = [
        dgmm.fit_many("~ Days + (1 | Subject)", wide(), outcomes=GENES[:3], se=None, method=method)
        for method in ("ml", "reml")
    ]
    for fits in both:
        compare(fits)
    assert both[0].std_errors.isna().all(axis=None)


# -- models out of the usual -----------------------------------------------------------------------


def test_models_that_cannot_be_fitted_stop_no_other() -> None:
    frame = wide().assign(
        flat=250.0,
        none=np.nan,
        word="a",
        exact=lambda d: 3.0 * d["Days"],
        few=lambda d: d["g1"].where(d.index < 3),
        huge=lambda d: d["g1"].where(d.index > 0, np.inf),
    )
    odd = ["flat", "none", "word", "exact", "few", "huge"]
    fits = dgmm.fit_many("~ Days + (Days | Subject)", frame, outcomes=[*GENES[:4], *odd])
    assert list(fits.glance.index) == [*GENES[:4], *odd]
    told = fits.glance.loc[odd]
    assert told["logLik"].isna().all()
    assert not told["converged"].any()
    words = ["there is nothing to explain", "missing in all 180 rows", "family=", "exact linear",
             "observed outcomes", "infinite"]  # fmt: skip
    for name, word in zip(odd, words, strict=True):
        assert word in told.loc[name, "status"], told.loc[name, "status"]
        with pytest.raises(ValueError, match=word):
            fits.fit(name)
    assert fits.coefficients.loc[odd].isna().all(axis=None)
    assert "6 without a fit" in str(fits)
    usual = dgmm.fit_many("~ Days + (Days | Subject)", frame, outcomes=GENES[:4])
    pd.testing.assert_frame_equal(fits.coefficients.iloc[:4], usual.coefficients)


def test_a_column_that_one_model_cannot_tell_is_left_out_there() -> None:
    long = uneven().assign(arm=lambda d: np.where(d["Subject"].astype(int) > 350, "b", "a"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits = dgmm.fit_many("y ~ Days + arm + (1 | Subject)", long, by="gene")
        alone = fits.fit("g2")
    assert fits.glance.loc["g1", "engine"] == "batched"
    assert fits.glance.loc["g2", "engine"] == "alone"  # g2 has no subject of arm b
    assert np.isnan(fits.coefficients.loc["g2", "armb"])
    assert "`arm` has one level only" in fits.glance.loc["g2", "status"]
    assert fits.coefficients.loc["g2", "Days"] == alone.fixef()["Days"]
    assert "armb" not in fits.tidy().query("gene == 'g2'")["term"].to_list()


OTHERS: list[tuple[str, dict[str, Any], str]] = [
    ("~ ns(Days, 2) + (1 | Subject)", {}, "depends on all rows"),
    ("~ Days + (1 | Subject) + (0 + Days | Subject)", {}, "one random part"),
    ("~ Days + (1 | Subject)", {"family": "gamma"}, "not Gaussian"),
    ("~ Days + (1 | Subject)", {"dispersion": "~ Days"}, "not Gaussian"),
    ("~ Days + (1 | Subject)", {"se": "sandwich"}, "sandwich"),
    ("~ Days + cs(Days | Subject)", {}, "one random part"),
]


@pytest.mark.parametrize(("formula", "options", "why"), OTHERS)
def test_other_models_are_fitted_one_by_one(
    formula: str, options: dict[str, Any], why: str
) -> None:
    frame = wide().assign(g1=lambda d: d["g1"].abs())
    fits = dgmm.fit_many(formula, frame, outcomes=["g1", "g2"], **options)
    assert (fits.glance["engine"] == "alone").all()
    assert why in fits.notes[0]
    alone = fits.fit("g2")
    assert fits.glance.loc["g2", "logLik"] == float(alone.loglik())
    pd.testing.assert_series_equal(
        fits.std_errors.loc["g2", list(alone.fixef().index)], alone.std_errors(), check_names=False
    )


# -- at the door -----------------------------------------------------------------------------------

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("~ Days + (1 | Subject)", {}, "by=.*outcomes="),
    ("y ~ Days + (1 | Subject)", {"outcomes": ["g1"]}, "left open"),
    ("~ . + (1 | Subject)", {"outcomes": ["g1"]}, "write the terms out"),
    ("~ Days + (1 | Subject)", {"outcomes": ["g1", "g1"]}, "each once"),
    ("~ Days + (1 | Subject)", {"outcomes": ["g1", "gg"]}, "`gg`"),
    ("g1 ~ Days + (1 | Subject)", {"by": "gene"}, "`gene`"),
    ("~ Dayz + (1 | Subject)", {"outcomes": ["g1"]}, "Dayz"),
    ("~ Days + (1 | Subject)", {"outcomes": ["g1"], "method": "mle"}, "'mle'"),
    ("~ Days + (1 | Subject)", {"outcomes": ["g1"], "workers": 0}, "workers"),
    ("~ Days", {"outcomes": ["g1"]}, "no random part"),
]


@pytest.mark.parametrize(("formula", "options", "words"), REFUSED)
def test_what_concerns_all_models_is_refused(
    formula: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        dgmm.fit_many(formula, wide(), **options)
