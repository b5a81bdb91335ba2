"""Completed frames: the exact conditional normal, parameter uncertainty, the user's columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import data as shipped
from scipy import stats
from toys import frame

import dgmm
from dgmm import Fit, mixed_model, pool

TEXT = "y ~ x + t + (t | id)"


@pytest.fixture(scope="module")
def holes() -> pd.DataFrame:
    """Rows in another order than the fit's, labels of their own, 20% of the outcomes missing."""
    data = frame(60, 6, seed=4, missing=0.2)
    shuffled = data.sample(frac=1, random_state=1)
    return shuffled.set_axis([f"row {j}" for j in range(len(data))])


@pytest.fixture(scope="module")
def fit(holes: pd.DataFrame) -> Fit:
    return mixed_model(TEXT, holes, verbose=0)


def test_frames_are_copies_with_a_complete_outcome_in_the_users_order(
    fit: Fit, holes: pd.DataFrame
) -> None:
    before = holes.copy()
    completed = fit.impute(m=3, seed=1, data=holes)
    pd.testing.assert_frame_equal(holes, before)
    seen = holes["y"].notna()
    for one in completed:
        assert list(one.index) == list(holes.index)
        pd.testing.assert_frame_equal(one.drop(columns="y"), holes.drop(columns="y"))
        assert one["y"].notna().all()
        assert (one.loc[seen, "y"] == holes.loc[seen, "y"]).all()
    assert not np.allclose(completed[0]["y"], completed[1]["y"])
    again = dgmm.impute(fit, m=3, seed=1, data=holes)
    pd.testing.assert_frame_equal(again[2], completed[2])
    # the draws of a number do not depend on how many are asked for
    pd.testing.assert_frame_equal(fit.impute(m=1, seed=1, data=holes)[0], completed[0])


def test_a_frame_of_any_library_is_completed(fit: Fit, holes: pd.DataFrame) -> None:
    name = fit.formula.split("~")[0].strip()
    expected = fit.impute(m=1, seed=1, data=holes)[0][name].to_numpy()
    columns = {column: holes[column].tolist() for column in holes}
    for given in (columns, pl.DataFrame(columns), pl.DataFrame(columns).lazy()):
        found = fit.impute(m=1, seed=1, data=given)[0]
        np.testing.assert_allclose(found[name], expected, rtol=1e-12)


def test_without_data_frames_hold_what_the_fit_keeps(fit: Fit, holes: pd.DataFrame) -> None:
    with_data = fit.impute(m=2, seed=1, data=holes)
    plain = fit.impute(m=2, seed=1)
    for one, two in zip(plain, with_data, strict=True):
        assert list(one.columns) == ["id", "t", "y", "imputed"]
        assert np.array_equal(one["id"], two["id"])
        assert np.allclose(one["y"], two["y"], atol=1e-12)
        assert (one["imputed"] == holes["y"].isna()).all()


def test_imputations_have_the_predictive_distribution() -> None:
    """theta held: means are the exact conditional means; theta drawn: the spread is larger."""
    data, m = frame(25, 5, seed=4, missing=0.3), 60
    held, free = (mixed_model(TEXT, data, verbose=0, se=se) for se in (None, "hessian"))
    gap = data["y"].isna().to_numpy()

    def draws(fit: Fit) -> np.ndarray:
        return np.array([one["y"].to_numpy()[gap] for one in fit.impute(m=m, seed=2, data=data)])

    narrow, wide = draws(held), draws(free)
    mean = held.fitted().reindex(data.index).to_numpy()[gap]
    z = (narrow.mean(0) - mean) / (narrow.std(0, ddof=1) / np.sqrt(m))
    assert np.abs(z).max() < 4
    assert stats.kstest(z, "norm").pvalue > 0.01
    assert wide.var(0).mean() > narrow.var(0).mean()


def test_rubins_rules_return_the_fit_of_the_observed_outcomes() -> None:
    """Missing at random, the imputation model is the analysis: estimates and SEs agree."""
    data = frame(150, 5, seed=9, missing=0.25)
    fit = mixed_model(TEXT, data, verbose=0)
    fits = [mixed_model(TEXT, one, verbose=0) for one in fit.impute(m=30, seed=3, data=data)]
    table = pool([one.fixef() for one in fits], [one.std_errors() for one in fits])
    noise = np.sqrt(table["between"] / 30)
    assert (np.abs(table["estimate"] - fit.fixef()) < 4 * noise).all()
    assert np.allclose(table["std_error"] / fit.std_errors(), 1, atol=0.15)
    assert ((table["fmi"] > 0.02) & (table["fmi"] < 0.5)).all()


def test_categories_come_back_as_labels() -> None:
    data = shipped("toenail")
    keep = data["patientID"].isin(data["patientID"].unique()[:60])
    data = data[keep].reset_index(drop=True)
    outcome = data["outcome"].astype(object).mask(data.index % 7 == 3)
    data["outcome"] = pd.Categorical(outcome, categories=["none or mild", "moderate or severe"])
    fit = mixed_model("outcome ~ time + (1 | patientID)", data, family="bernoulli", verbose=0)
    done = fit.impute(m=2, seed=1, data=data)[1]
    assert done["outcome"].notna().all()
    assert done["outcome"].dtype == data["outcome"].dtype
    seen = data["outcome"].notna()
    assert (done.loc[seen, "outcome"] == data.loc[seen, "outcome"]).all()


def test_counts_out_of_trials_know_their_trials() -> None:
    data = frame(40, 5, seed=2, missing=0.3)
    fit = mixed_model("hits / size ~ x + (1 | id)", data, family="binomial", verbose=0)
    with pytest.raises(ValueError, match="size"):
        fit.impute(m=1, seed=1)
    done = fit.impute(m=20, seed=1, data=data)
    assert all((one["hits"] <= one["size"]).all() and (one["hits"] % 1 == 0).all() for one in done)
    gap = data["hits"].isna()
    share = np.mean([(one["hits"] / one["size"])[gap].mean() for one in done])
    assert abs(share - (data["hits"] / data["size"]).mean()) < 0.1


@pytest.mark.parametrize(
    ("formula", "family", "message"),
    [
        ("log(count + 1) ~ t + (1 | id)", "gaussian", "computed"),
        ("cbind(hits, size - hits) ~ t + (1 | id)", "binomial", "success / trials"),
    ],
)
def test_outcomes_that_cannot_be_written_back(formula: str, family: str, message: str) -> None:
    data = frame(40, 5, seed=2, missing=0.3)
    fit = mixed_model(formula, data, family=family, verbose=0)
    with pytest.raises(ValueError, match=message):
        fit.impute(m=1, seed=1, data=data)


@pytest.mark.parametrize("change", ["shorter", "other rows missing", "other values"])
def test_another_frame_is_refused(fit: Fit, holes: pd.DataFrame, change: str) -> None:
    other: dict[str, Any] = {
        "shorter": holes.iloc[:-5],
        "other rows missing": holes.assign(y=holes["y"].to_numpy()[::-1]),
        "other values": holes.assign(y=holes["y"] + 1),
    }
    with pytest.raises(ValueError, match="not the frame of the fit"):
        fit.impute(m=1, seed=1, data=other[change])


def test_several_grouping_factors_are_refused() -> None:
    data = frame(40, 5, seed=2, missing=0.1).assign(site=lambda d: d["id"] % 5)
    fit = mixed_model("y ~ t + (1 | id) + (1 | site)", data, verbose=0)
    with pytest.raises(ValueError, match="one grouping factor"):
        fit.impute(m=1, seed=1, data=data)


def test_m_is_a_number(fit: Fit) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        fit.impute(m=0, seed=1)
