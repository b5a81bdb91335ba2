"""SD, correlation and ICC of the random part over time, against closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import data
from toys import frame

from dgmm import Fit, mixed_model, mv
from dgmm.inference.reported import covariance
from dgmm.parameters import part

TIMES = [0.0, 2.0, 5.0, 9.0]


def test_linear_random_effects_are_exact(sleepstudy: Fit) -> None:
    done = sleepstudy.estimate
    D = covariance(done.model.latents[0], part(done.theta, "latent1.")).numpy()
    T = np.column_stack([np.ones(4), TIMES])
    S = T @ D @ T.T
    found = sleepstudy.random_profile(TIMES)
    sd = np.sqrt(np.diag(S))
    np.testing.assert_allclose(found.table["sd"], sd, rtol=1e-10)
    np.testing.assert_allclose(found.correlation, S / np.outer(sd, sd), rtol=1e-10)
    share = sd**2 / (sd**2 + sleepstudy.sigma() ** 2)
    np.testing.assert_allclose(found.table["icc"], share, rtol=1e-10)
    assert list(found.correlation.columns) == ["0", "2", "5", "9"]
    # at time 0 the random part is the random intercept
    line, interval = sleepstudy.var_corr().iloc[0], sleepstudy.confint().iloc[2]
    assert found.table["se_log_sd"][0] == pytest.approx(line["se_working"], rel=1e-6)
    np.testing.assert_allclose(found.table.loc[0, ["lower", "upper"]], interval, rtol=1e-6)


def test_at_other_times_the_delta_method_is_that_of_another_origin(sleepstudy: Fit) -> None:
    moved = data("sleepstudy").assign(later=lambda frame: frame["Days"] - 5)
    other = mixed_model("Reaction ~ later + (later | Subject)", moved, verbose=0)
    here, there = sleepstudy.random_profile([5.0]).table, other.random_profile([0.0]).table
    np.testing.assert_allclose(here.to_numpy()[:, 1:], there.to_numpy()[:, 1:], rtol=2e-4)


def test_a_random_intercept_has_the_icc_of_the_fit(cbpp: Fit) -> None:
    found = cbpp.random_profile()
    assert len(found.table) == 1
    assert found.table["icc"][0] == pytest.approx(cbpp.icc()["adjusted"], rel=1e-10)
    np.testing.assert_allclose(found.table.loc[0, ["lower", "upper"]], cbpp.confint().iloc[-1])
    assert found.table["icc_lower"][0] < found.table["icc"][0] < found.table["icc_upper"][0]


def test_a_silent_network_is_a_linear_random_part(deep: Fit) -> None:
    done = deep.estimate
    last = max(name for name in done.theta if name.startswith("latent1.A"))
    silent = {**done.theta, last: torch.zeros_like(done.theta[last])}
    fit = replace(deep, estimate=replace(done, theta=silent))
    latent = done.model.latents[0]
    D = covariance(latent, part(silent, "latent1."))
    rows = [int(torch.argmin((done.panel.rows.time - t).abs())) for t in TIMES]
    T = done.panel.rows.T[0][rows]
    found = fit.random_profile(TIMES, draws=2**13)
    sd = (T @ D @ T.T).diagonal().sqrt()
    np.testing.assert_allclose(found.table["sd"], sd, rtol=0.01)  # quasi-random draws
    assert found.table["se_log_sd"].isna().all()
    assert "draws of b" in str(found)


def test_several_parts_add_up() -> None:
    frame = data("sleepstudy")
    fit = mixed_model("Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", frame, verbose=0)
    whole = fit.random_profile(TIMES).table["sd"]
    each = [fit.random_profile(TIMES, term=term).table["sd"] for term in (0, 1)]
    np.testing.assert_allclose(whole**2, each[0] ** 2 + each[1] ** 2, rtol=1e-10)
    assert np.isnan(fit.random_profile(TIMES, term=1).correlation.iloc[0, 1])  # none at time 0
    with pytest.raises(ValueError, match=r"position of a random part of the mean, \[0, 1\], not 2"):
        fit.random_profile(TIMES, term=2)


def test_what_cannot_be_asked(sleepstudy: Fit, cbpp: Fit) -> None:
    with pytest.raises(ValueError, match="'Hours' is no covariate of the model, which has 'Days'"):
        sleepstudy.random_profile([0, 1], at={"Hours": 8})
    with pytest.raises(ValueError, match="no time variable"):
        cbpp.random_profile([1.0])
    with pytest.raises(ValueError, match="finite values of `Days`"):
        sleepstudy.random_profile([np.nan])
    bare = mixed_model("Reaction ~ Days + (1 | Subject)", data("sleepstudy"), se=None, verbose=0)
    assert bare.random_profile().table["se_log_sd"].isna().all()


def test_one_of_two_outcomes_has_the_effects_that_enter_it() -> None:
    both = mv("y ~ t + (t |p| id)", "hits ~ t + (1 |p| id)")
    joint = mixed_model(both, frame(20, 5), se=None, verbose=0)
    level, slope, other, correlation = joint.var_corr()["sdcor"].iloc[:4]
    assert float(joint["hits"].random_profile().table["sd"].iloc[0]) == pytest.approx(other)
    found = joint["y"].random_profile([0.0, 1.0]).table["sd"]
    at_one = level**2 + slope**2 + 2 * correlation * level * slope
    np.testing.assert_allclose(found**2, [level**2, at_one], rtol=1e-8)
