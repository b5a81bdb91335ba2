"""Average slopes and contrasts, against coefficients and autograd."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import data

from dgmm import Fit, mixed_model


def test_a_linear_slope_is_its_coefficient(sleepstudy: Fit, curved: Fit) -> None:
    for fit, name in ((sleepstudy, "Days"), (curved, "x")):
        line = fit.slopes(name).loc[name]
        np.testing.assert_allclose(line[:4], fit.coefficients().loc[name], rtol=1e-6)
        np.testing.assert_allclose(line[4:], fit.confint().loc[name], rtol=1e-6)


def test_a_level_against_its_reference_is_its_coefficient(cbpp: Fit) -> None:
    table, wald = cbpp.slopes("period"), cbpp.coefficients()
    assert list(table.index) == ["period: 2 - 1", "period: 3 - 1", "period: 4 - 1"]
    np.testing.assert_allclose(table.to_numpy()[:, :4], wald.to_numpy()[1:], rtol=1e-8)


def test_an_interaction_is_averaged_over_the_sample(orthodont: Fit) -> None:
    women = (data("orthodont")["Sex"] == "Female").mean()
    L = np.array([0.0, 1.0, 0.0, women])
    line = orthodont.slopes("age").iloc[0]
    assert line["Estimate"] == pytest.approx(L @ orthodont.fixef(), rel=1e-7)
    assert line["Std. Error"] == pytest.approx(np.sqrt(L @ orthodont.vcov() @ L), rel=1e-7)
    found = orthodont.contrast({"age": 14, "Sex": "Female"}, {"age": 8, "Sex": "Male"}).iloc[0]
    L = np.array([0.0, 6.0, 1.0, 14.0])
    assert found["Estimate"] == pytest.approx(L @ orthodont.fixef(), rel=1e-9)
    assert found["Std. Error"] == pytest.approx(np.sqrt(L @ orthodont.vcov() @ L), rel=1e-9)


def test_the_slope_inside_a_network(curved: Fit, curved_frame: pd.DataFrame) -> None:
    h = 1e-3
    new = curved_frame.assign(id=-1)
    up, down = (
        curved.predict(new.assign(z=new["z"] + s), type="mean_subject", scale="link")["fit"]
        for s in (h, -h)
    )
    line = curved.slopes("z").iloc[0]
    assert line["Estimate"] == pytest.approx(((up - down) / (2 * h)).mean(), rel=1e-5)
    # a contrast is the integral of slopes: the mean is additive in z here
    ends = curved.effects("z", at={"z": [-1.0, 1.0]})["fit"]
    found = curved.contrast({"z": 1.0}, {"z": -1.0})
    assert found["Estimate"].iloc[0] == pytest.approx(ends[1] - ends[0], rel=1e-9)
    assert list(found.index) == ["z: 1.0 - (-1.0)"]


def test_only_observed_rows_count() -> None:
    frame = data("sleepstudy")
    frame.loc[frame["Days"] > 6, "Reaction"] = np.nan
    fit = mixed_model("Reaction ~ Days + I(Days**2) + (1 | Subject)", frame, verbose=0)
    beta, seen = fit.fixef(), frame.loc[frame["Days"] <= 6, "Days"]
    expected = beta.iloc[1] + 2 * beta.iloc[2] * seen.mean()
    assert fit.slopes("Days").iloc[0, 0] == pytest.approx(expected, rel=1e-8)


def test_all_covariates_by_default_and_errors(curved: Fit) -> None:
    assert list(curved.slopes().index) == ["x", "g: b - a", "z"]
    none = mixed_model("Reaction ~ 1 + (1 | Subject)", data("sleepstudy"), verbose=0)
    with pytest.raises(ValueError, match="there are no slopes of an intercept"):
        none.slopes()
    with pytest.raises(ValueError, match="'id' is no covariate"):
        curved.slopes("id")
    with pytest.raises(TypeError, match="is a dict, not"):
        curved.contrast(1, 2)  # type: ignore[arg-type]
