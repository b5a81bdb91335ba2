"""What fit_many() returns: tables, any of the fits, a short report."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import data
from scipy import stats

import dgmm


def fits() -> dgmm.ManyFits:
    return dgmm.fit_many("weight ~ Time + (Time | Rat)", data("bodyweight"), by="Diet")


def test_a_model_by_its_number_and_by_its_label() -> None:
    found = fits()
    labels = found.models.labels.tolist()
    assert len(found) == 3
    first = found.fit(labels[0])
    assert float(found[0].loglik()) == float(first.loglik())
    assert float(found[-1].loglik()) == float(found.fit(labels[2]).loglik())
    assert [one.nobs() for one in found] == found.glance["nobs"].to_list()
    frame = data("bodyweight")
    own = frame[frame["Diet"].astype(str) == str(labels[0])]
    alone = dgmm.mixed_model("weight ~ Time + (Time | Rat)", own, verbose=0)
    assert float(first.loglik()) == float(alone.loglik())
    with pytest.raises(KeyError, match="no model is called 9"):
        found.fit(9)
    with pytest.raises(IndexError, match="3 models"):
        found[3]


def test_tidy_is_the_wald_table_of_every_model() -> None:
    found = fits()
    table = found.tidy()
    assert table.columns.to_list() == [
        "Diet", "term", "estimate", "std.error", "statistic", "p.value"
    ]  # fmt: skip
    assert len(table) == 6
    np.testing.assert_array_equal(table["estimate"], found.coefficients.to_numpy().ravel())
    z = table["estimate"] / table["std.error"]
    np.testing.assert_allclose(table["p.value"], 2 * stats.norm.sf(z.abs()), rtol=1e-12)
    first = found[0].tidy("fixed")
    np.testing.assert_allclose(table["statistic"][:2], first["statistic"], rtol=1e-7)


def test_the_report_counts() -> None:
    lines = str(fits()).splitlines()
    assert lines[0] == "3 fits of `weight ~ Time + (Time | Rat)`, by `Diet`"
    assert lines[1].startswith("3 converged, 0 singular, 0 without a fit; 0 fitted alone")
    assert "50 %" in str(fits())
