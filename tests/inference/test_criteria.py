"""Criteria count outcomes, and subjects with an outcome."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import dgmm


def frame() -> pd.DataFrame:
    """Twenty subjects and five sites; subjects 3 and 4 and the last site have no outcome."""
    rng, subject = np.random.default_rng(5), np.repeat(np.arange(20), 5)
    data = pd.DataFrame({"id": subject, "site": np.tile(np.arange(5), 20)})
    data["x"] = rng.normal(size=100)
    data["y"] = rng.normal(size=20)[subject] + rng.normal(size=5)[data.site] + data.x
    data["y"] += rng.normal(size=100)
    return data.assign(y=data.y.mask(data.id.isin([3, 4]) | (data.site == 4)))


def test_subjects_without_an_outcome_do_not_count() -> None:
    data = frame()
    fit = dgmm.mixed_model("y ~ x + (1 | id)", data, se=None)
    seen = dgmm.mixed_model("y ~ x + (1 | id)", data.dropna(), se=None)
    assert (fit.nobs(), fit.n_groups(), fit.df_residual()) == (72, 18, 68)
    assert seen.n_groups() == 18
    assert fit.bic("subjects") == pytest.approx(fit.deviance() + 4 * np.log(18), rel=1e-12)
    assert fit.bic("subjects") == pytest.approx(seen.bic("subjects"), abs=1e-6)
    assert fit.bic() == pytest.approx(fit.deviance() + 4 * np.log(72), rel=1e-12)
    text = " ".join(str(fit.summary()).split())
    counts = "Number of obs: 72, 28 planned with a missing outcome; groups: id, 18 (2 more"
    assert counts in text


def test_levels_without_an_outcome_do_not_count_by_factor() -> None:
    fit = dgmm.mixed_model("y ~ x + (1 | id) + (1 | site)", frame(), se=None)
    assert fit.n_groups() == {"id": 18, "site": 4}
    text = " ".join(str(fit.summary()).split())
    assert "id, 18 (2 more without an outcome); site, 4 (1 more without an outcome)" in text
