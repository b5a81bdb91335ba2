"""cv(): the scores are those of fits without the fold."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import data
from toys import frame

import dgmm
from dgmm import Fit, mixed_model


def test_scores_are_those_of_fits_without_the_fold(sleepstudy: Fit) -> None:
    sleep = data("sleepstudy")
    found = dgmm.cv(sleepstudy, 6, seed=3)
    assert found.subjects["fold"].value_counts().tolist() == [3] * 6
    away = found.subjects.index[found.subjects["fold"] == 2]
    test = sleep["Subject"].isin(away)
    one = mixed_model(sleepstudy.formula, sleep[~test], verbose=0)
    exact = one.log_score(sleep[test])["log_score"]
    assert np.allclose(found.subjects.loc[away, "log_score"], exact, rtol=1e-6)
    rows = one.scoring_rules(sleep[test])
    assert np.allclose(found.rows.loc[rows.index, "crps"], rows["crps"], rtol=1e-5)
    assert (found.rows["subject"] == sleep.loc[found.rows.index, "Subject"]).all()
    table = found.table
    assert table.loc["log score of a subject", "mean"] == pytest.approx(
        found.subjects["log_score"].mean()
    )
    assert "6 folds by subject" in str(found)


def test_differences_are_paired(sleepstudy: Fit) -> None:
    other = sleepstudy.update("Reaction ~ Days + (1 | Subject)")
    one, two = (dgmm.cv(fit, 3, seed=1) for fit in (sleepstudy, other))
    gap = one.subjects["log_score"] - two.subjects["log_score"]
    assert (one - two)["difference"] == pytest.approx(gap.mean())
    assert (one - two)["se"] == pytest.approx(gap.std() / 18**0.5)
    assert (one - two)["difference"] > 0  # subjects have slopes of their own


def test_groups_of_subjects_leave_together() -> None:
    wide = frame(24, 4, seed=2).assign(centre=lambda d: d["id"] // 4)
    fit = mixed_model("y ~ x + (1 | id)", wide, verbose=0)
    found = dgmm.cv(fit, 3, by="centre")
    centre = found.subjects.index.to_numpy().astype(int) // 4
    pairs = set(zip(centre.tolist(), found.subjects["fold"].tolist(), strict=True))
    assert len(pairs) == 6
    with pytest.raises(ValueError, match="by='t' is not one value in all rows of a subject"):
        dgmm.cv(fit, 3, by="t")
    with pytest.raises(ValueError, match="neither 'subject' nor a column"):
        dgmm.cv(fit, 3, by="center")
    with pytest.raises(ValueError, match="from 2 to the 6 units of 'centre', not 7"):
        dgmm.cv(fit, 7, by="centre")
