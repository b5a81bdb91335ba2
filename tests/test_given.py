"""Values beside a frame go with its labels, never with the position of a Series."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

import dgmm
from dgmm.design import beside


def frame() -> pd.DataFrame:
    rng, n = np.random.default_rng(2), 15
    data = pd.DataFrame({"id": np.repeat(np.arange(n), 4), "x": rng.normal(size=4 * n)})
    data["w"], data["o"] = rng.uniform(0.5, 2.0, size=4 * n), rng.normal(size=4 * n)
    data["y"] = data.x + data.o + rng.normal(size=n)[data.id] + rng.normal(size=4 * n)
    return data.set_axis([f"r{k}" for k in range(4 * n)])


@pytest.mark.parametrize("what", ["weights", "offset"])
def test_a_series_is_aligned_by_its_index(what: str) -> None:
    data = frame()
    column, text = {"weights": "w", "offset": "o"}[what], "y ~ x + (1 | id)"
    right = dgmm.mixed_model(text, data, se=None, **{what: column})
    values = data[column].sort_values()
    found = dgmm.mixed_model(text, data, se=None, **{what: values})
    assert found.loglik() == right.loglik()
    again = dgmm.mixed_model(text, data, se=None).update(**{what: values})
    assert again.loglik() == right.loglik()
    some = dgmm.mixed_model(text, data[:40], se=None, **{what: values})
    assert some.loglik() == dgmm.mixed_model(text, data[:40], se=None, **{what: column}).loglik()
    lists = [dgmm.lm_list("y ~ x | id", data, **{what: one}) for one in (column, values)]
    assert lists[0].coefficients.equals(lists[1].coefficients)


def test_a_series_of_other_labels_is_refused() -> None:
    data, text = frame(), "y ~ x + (1 | id)"
    with pytest.raises(ValueError, match="index is not that of the data: 60 of 60 rows .* 'r0'"):
        dgmm.mixed_model(text, data, weights=data.w.reset_index(drop=True))
    twice = data.set_axis(["a", "b"] * 30)
    assert np.array_equal(beside(twice, twice.w, "weights"), twice.w)
    with pytest.raises(ValueError, match="stand for several rows: sort it as the data"):
        beside(twice, twice.w[::-1], "weights")
    plain = pl.from_pandas(data)
    shuffled = data.w.reset_index(drop=True).sample(frac=1, random_state=1)
    assert np.array_equal(beside(plain, shuffled, "weights"), data.w)
    with pytest.raises(ValueError, match="index is not that of the data"):
        beside(plain, data.w, "weights")
    heavy, dates = ["heavy"] * 60, pd.date_range("2020-01-31", periods=60)
    series = [pd.Series(values, data.index) for values in (heavy, dates)]
    for values in (heavy, dates, *series, [[1.0], [1.0, 2.0]]):
        with pytest.raises(ValueError, match=r"weights= is a column name or one number per row"):
            dgmm.mixed_model(text, data, weights=values)
    nullable = data.w.astype("Float64").mask(data.index == "r3")
    assert np.isnan(beside(data, nullable, "weights")[3])


def test_values_of_one_frame_are_not_used_for_another() -> None:
    data, text = frame(), "y ~ x + (1 | id)"
    fit = dgmm.mixed_model(text, data, weights=data.w.to_numpy(), se=None)
    assert fit.update("y ~ 1 + (1 | id)").nobs() == 60
    with pytest.raises(ValueError, match="weights= was one value per row of the frame of the fit"):
        fit.update(data=data[::-1])
    again = fit.update(data=data[::-1], weights="w")
    assert float(again.loglik()) == pytest.approx(float(fit.loglik()), abs=1e-12)


def test_outcomes_of_refit_are_aligned_by_index() -> None:
    data = frame()
    fit = dgmm.mixed_model("y ~ x + (1 | id)", data, se=None)
    other = data.y + 0.3 * data.x
    right = fit.refit(other.to_numpy()).fixef()
    assert fit.refit(other.sort_values()).fixef().equals(right)
    assert right["x"] == pytest.approx(fit.fixef()["x"] + 0.3, abs=1e-6)
    with pytest.raises(ValueError, match=r"the outcome of refit\(\) is a Series whose index"):
        fit.refit(other.reset_index(drop=True))
    with pytest.raises(ValueError, match=r"refit\(\) is one number per row, not \['a'"):
        fit.refit(pd.Series(["a"] * 60, data.index))
