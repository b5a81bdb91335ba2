"""Predictive checks and calibration: every summary by hand."""

from __future__ import annotations

import numpy as np
import pytest
from toys import frame

from dgmm import Fit, mixed_model


def test_the_distribution_function_and_the_density(sleepstudy: Fit) -> None:
    y = np.sort(sleepstudy.memory.frame["Reaction"].to_numpy())
    table = sleepstudy.pp_check("ecdf", nsim=20)
    assert np.allclose(table["observed"], [(y <= x).mean() for x in table["x"]])
    density = sleepstudy.pp_check("density", nsim=20)
    step = density["x"].diff().iloc[1]
    for name in ("observed", "middle"):
        assert density[name].sum() * step == pytest.approx(1.0, abs=0.03)
    spread = np.quantile(y, 0.75) - np.quantile(y, 0.25)
    width = 0.9 * min(y.std(), spread / 1.34) * len(y) ** -0.2
    z = (density["x"].to_numpy()[:, None] - y) / width
    exact = np.exp(-0.5 * z**2).mean(1) / width / np.sqrt(2 * np.pi)
    assert np.allclose(density["observed"], exact, atol=0.005 * exact.max())


def test_frequencies_of_counts(epil: Fit) -> None:
    table = epil.pp_check("rootogram", nsim=20)
    y = epil.memory.frame["y"].to_numpy()
    assert np.allclose(table["observed"], [np.sqrt((y == k).sum()) for k in table["x"]])
    assert table["x"].max() >= y.max() or len(table) == 61
    with pytest.raises(ValueError, match="the model has no time"):
        epil.pp_check("variogram")


def test_variogram_and_spread_over_time(sleepstudy: Fit) -> None:
    data = sleepstudy.memory.frame
    mean = sleepstudy.predict(type="marginal")["fit"]
    rest = (data["Reaction"] - mean).to_numpy().reshape(18, 10)
    table = sleepstudy.pp_check("variogram", nsim=50)
    exact = [
        0.5 * np.square(rest[:, lag:] - rest[:, : 10 - lag]).mean() if lag else 0.0
        for lag in range(1, 10)
    ]
    assert np.allclose(table["observed"], exact, rtol=1e-10)
    assert table["x"].tolist() == list(range(1, 10))
    spread = sleepstudy.pp_check("spread", nsim=50)
    assert np.allclose(spread["observed"], rest.std(0, ddof=1), rtol=1e-10)


def test_data_from_the_model_lie_within_the_band(sleepstudy: Fit) -> None:
    """What is drawn from the fit is inside of the pointwise 95 % at nearly all points."""
    data = sleepstudy.memory.frame
    again = sleepstudy.refit(sleepstudy.simulate(1, seed=4)["sim_1"])
    for kind in ("ecdf", "variogram", "spread"):
        table = again.pp_check(kind, nsim=100)
        inside = table["observed"].between(table["lower"], table["upper"])
        assert inside.mean() > 0.8
    assert len(data) == 180


def test_calibration_by_hand() -> None:
    data = frame(80, 4, seed=3)
    fit = mixed_model("z ~ x + t + (1 | id)", data, family="bernoulli", se=None, verbose=0)
    table = fit.calibration(bins=5)
    p = fit.predict(type="marginal")["fit"].to_numpy()
    order = np.argsort(p, kind="stable")
    groups = np.array_split(order, 5)
    assert np.allclose(table["predicted"], [p[g].mean() for g in groups])
    z = data["z"].to_numpy()
    assert np.allclose(table["observed"], [z[g].mean() for g in groups])
    new = data.assign(id=data["id"] + 500)
    other = fit.calibration(new, history=new[new["t"] < 0.4], outcome=new["z"], bins=4)
    assert other["n"].sum() == len(new)
    with pytest.raises(ValueError, match="needs outcome="):
        fit.calibration(new)
    with pytest.raises(ValueError, match="has 3 values, newdata 320 rows"):
        fit.calibration(new, outcome=[1, 0, 1])
    with pytest.raises(ValueError, match="at least 2, not 1"):
        fit.calibration(bins=1)


def test_words_that_are_not_kinds(sleepstudy: Fit) -> None:
    with pytest.raises(ValueError, match=r"kind='densty' is not one of .* mean 'density'"):
        sleepstudy.pp_check("densty")
    with pytest.raises(ValueError, match="family 'gaussian' has neither"):
        sleepstudy.pp_check("rootogram")
