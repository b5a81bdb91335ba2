"""log_score(): marginal log-likelihoods of subjects under a fit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from conftest import DEEP, FORMULAS, data
from scipy import stats

from dgmm import Fit, mixed_model

QUICK = {"epochs": 4, "holdout": 0.0, "draws": 256, "polish_draws": 32}


def dense(fit: Fit, rows: pd.DataFrame) -> float:
    """log p(y) of one subject of sleepstudy by the density of its multivariate normal."""
    table = fit.var_corr().set_index("name1")["vcov"]
    D = np.diag([table.iloc[0], table.iloc[1]]) + table.iloc[2] * (1 - np.eye(2))
    Z = np.column_stack([np.ones(len(rows)), rows["Days"]])
    V = Z @ D @ Z.T + fit.sigma() ** 2 * np.eye(len(rows))
    mean = Z @ fit.fixef().to_numpy()
    return float(stats.multivariate_normal.logpdf(rows["Reaction"], mean, V))


def test_new_subjects_have_the_density_of_a_normal_vector(sleepstudy: Fit) -> None:
    frame = data("sleepstudy")
    new = frame[frame["Subject"].isin(["310", "335"])].astype({"Subject": str})
    new = new.assign(Subject="new " + new["Subject"])
    new = new.iloc[:-3].reset_index(drop=True)
    new.loc[2, "Reaction"] = np.nan
    score = sleepstudy.log_score(new)
    assert score.index.name == "Subject"
    assert score["nobs"].to_dict() == {"new 310": 9, "new 335": 7}
    assert (score["mc_error"] == 0).all()
    for one, rows in new.dropna().groupby("Subject"):
        assert score.loc[one, "log_score"] == pytest.approx(dense(sleepstudy, rows), abs=1e-8)


@pytest.mark.parametrize("name", ["sleepstudy", "toenail", "epil_nb"])
def test_the_subjects_of_the_fit_add_up_to_its_log_likelihood(
    name: str, fit_of: Callable[..., Fit]
) -> None:
    fit = fit_of(name)
    score = fit.log_score(data(name))
    assert score["nobs"].sum() == fit.nobs()
    allowed = max(1e-6, 4 * fit.loglik().mc_error)
    assert score["log_score"].sum() == pytest.approx(float(fit.loglik()), abs=allowed)


def test_the_monte_carlo_error_is_that_of_the_score(sleepstudy: Fit) -> None:
    frame = data("sleepstudy")
    sampled = mixed_model(
        FORMULAS["sleepstudy"], frame, likelihood="importance", verbose=0, control=QUICK
    )
    exact = mixed_model(FORMULAS["sleepstudy"], frame, verbose=0)
    one, other = sampled.log_score(frame, seed=5), sampled.log_score(frame, seed=6)
    gap = (one["log_score"] - other["log_score"]) / np.hypot(one["mc_error"], other["mc_error"])
    assert 0.4 < gap.std() < 2
    # at the same maximum, up to the tolerance of the two optimisers
    assert one["log_score"].sum() == pytest.approx(float(exact.loglik()), abs=0.02)
    few = frame[frame["Subject"].isin(["308", "372"])]
    alone = sampled.log_score(few, seed=5)
    pd.testing.assert_frame_equal(alone, one.loc[alone.index])


def test_a_deep_fit_scores_new_subjects() -> None:
    frame = data("sleepstudy")
    new = frame["Subject"].isin(["308", "309", "310"])
    fit = mixed_model(DEEP, frame[~new], control=QUICK, verbose=0)
    own = fit.log_score(frame[~new])
    error = float(np.sqrt((own["mc_error"] ** 2).sum()))
    value, fresh = float(fit.loglik()), fit.loglik().mc_error
    assert own["log_score"].sum() == pytest.approx(value, abs=4 * np.hypot(error, fresh))
    assert np.isfinite(fit.log_score(frame[new])["log_score"]).all()


def test_laplace_does_not_know_its_error(fit_of: Callable[..., Fit]) -> None:
    fit = fit_of("cbpp", likelihood="laplace")
    score = fit.log_score(data("cbpp"))
    assert score["mc_error"].isna().all()
    assert score["log_score"].sum() == pytest.approx(float(fit.loglik()), abs=1e-6)


def test_crossed_subjects_have_no_scores() -> None:
    frame = data("sleepstudy")
    fit = mixed_model("Reaction ~ 1 + (1 | Subject) + (1 | Days)", frame, verbose=0)
    with pytest.raises(ValueError, match="one grouping factor"):
        fit.log_score(frame)


def test_subjects_without_outcomes_have_a_row(sleepstudy: Fit) -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"id": np.repeat(np.arange(12), 4), "t": np.tile(np.arange(4.0), 12)})
    frame["y"] = rng.poisson(2, len(frame))
    path = mixed_model("y ~ t + (ou(t) | id)", frame, family="poisson", verbose=0)
    reaction = data("sleepstudy")
    for fit, rows, outcome in ((path, frame, "y"), (sleepstudy, reaction, "Reaction")):
        none = fit.log_score(rows.assign(**{outcome: np.nan}))
        assert (none["nobs"] == 0).all()
        np.testing.assert_allclose(none["log_score"], 0.0, atol=1e-12)
        every = fit.log_score(rows)
        group = rows[every.index.name]
        gap = rows[outcome].where(group != group.iloc[0])
        some = fit.log_score(rows.assign(**{outcome: gap}))
        assert some.index.equals(every.index)
        np.testing.assert_allclose(some["log_score"].iloc[1:], every["log_score"].iloc[1:])
        assert some["log_score"].iloc[0] == pytest.approx(0.0, abs=1e-12)
