"""Dynamic prediction against the exact conditional normal and against one landmark at a time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import data
from scipy import stats
from toys import frame

from dgmm import Fit, load, mixed_model, mv
from dgmm.plots import plot_dynamic


def test_gaussian_predictions_at_held_parameters_are_the_conditional_normal(
    sleepstudy: Fit,
) -> None:
    """Mean and interval of every future row from V = Z D Z' + sigma^2 I, by dense algebra."""
    sleep = data("sleepstudy")
    found = sleepstudy.predict(
        history=sleep, at=[2, 6], interval="prediction", theta="held", level=0.9
    )
    v = sleepstudy.var_corr()["vcov"].to_numpy()
    D = np.array([[v[0], v[2]], [v[2], v[1]]])
    for (moment, who), own in found.groupby([found.index.get_level_values("at"), "Subject"]):
        rows = sleep[sleep["Subject"] == who].sort_values("Days")
        Z = np.column_stack([np.ones(10), rows["Days"]])
        V, centre = Z @ D @ Z.T + v[3] * np.eye(10), Z @ sleepstudy.fixef().to_numpy()
        k = int((rows["Days"] <= moment).sum())
        gain = V[k:, :k] @ np.linalg.inv(V[:k, :k])
        mean = centre[k:] + gain @ (rows["Reaction"].to_numpy()[:k] - centre[:k])
        sd = np.sqrt(np.diag(V[k:, k:] - gain @ V[:k, k:]))
        assert np.allclose(own["fit"], mean, atol=1e-7)
        half = stats.norm.ppf(0.95) * sd
        assert np.allclose(own["lower"], mean - half, atol=1e-6)
        assert np.allclose(own["upper"], mean + half, atol=1e-6)


def test_landmarks_are_predictions_from_shorter_histories(sleepstudy: Fit) -> None:
    sleep = data("sleepstudy")
    both = sleepstudy.predict(at=[3, 5])
    for moment in (3, 5):
        rows, past = sleep[sleep["Days"] > moment], sleep[sleep["Days"] <= moment]
        one = sleepstudy.predict(rows, history=past)
        own = both.loc[moment]
        assert own.index.tolist() == rows.index.tolist()
        assert np.allclose(own["fit"], one["fit"], rtol=1e-12)
        assert own["Days"].tolist() == rows["Days"].tolist()
    assert "ms for a subject" in both.notes[0]
    single = sleepstudy.predict(sleep.iloc[:10], history=sleep, at=5)
    assert np.allclose(single["fit"], both.loc[5].iloc[:4]["fit"])


def test_without_time_in_a_bar_landmarks_are_of_the_number_within_subjects(epil: Fit) -> None:
    """Given theta the mean of a subject shrinks by k tau^2 / (k tau^2 + sigma^2)."""
    sleep = data("sleepstudy")
    fit = mixed_model("Reaction ~ Days + (1 | Subject)", sleep, verbose=0)
    found = fit.predict(at=[4])
    tau2, sigma2 = fit.var_corr()["vcov"]
    centre = fit.fixef()["(Intercept)"] + fit.fixef()["Days"] * sleep["Days"]
    past = (sleep["Reaction"] - centre)[sleep["Days"] <= 4].groupby(sleep["Subject"]).mean()
    shrunk = 5 * tau2 / (5 * tau2 + sigma2) * sleep["Subject"].map(past).astype(float)
    assert np.allclose(found.loc[4]["fit"], (centre + shrunk)[sleep["Days"] > 4], atol=1e-8)
    assert (plot_dynamic(fit, "308", at=[4])[0].lines[0].get_xdata() > 4).all()
    epilepsy = data("epil")
    named = epil.predict(at=[2], time="period").loc[2]
    late = epilepsy["period"] > 2
    own = epil.predict(epilepsy[late], history=epilepsy[~late])
    assert np.allclose(named["fit"], own["fit"], rtol=1e-12)
    assert named["period"].tolist() == epilepsy["period"][late].tolist()
    with pytest.raises(ValueError, match="history has no column `visit`, which at= needs"):
        epil.predict(at=[2], time="visit")
    both = sleep.assign(x=np.sin(np.arange(180.0)))
    fit = mixed_model("Reaction ~ Days + x + (1 | Subject)", both, verbose=0)
    with pytest.raises(ValueError, match=r"has `Days`, `x`\. Name its column, as in time='vis"):
        fit.predict(at=4)


def test_held_parameters_of_other_families() -> None:
    """Quantiles of draws: of counts within the Monte Carlo error of the exact mixture."""
    wide = frame(60, 5, seed=1)
    fit = mixed_model("count ~ x + (1 | id)", wide, family="poisson", se=None, verbose=0)
    with pytest.raises(ValueError, match="theta='held' takes the parameters as known"):
        fit.predict(interval="prediction")
    found = fit.predict(interval="prediction", theta="held", draws=4000)
    mean = fit.predict(interval="confidence", theta="held", draws=4000)
    again = fit.predict(scale="response")["fit"]
    assert np.allclose(found["fit"], again)
    inside = wide["count"].between(found["lower"], found["upper"]).mean()
    assert inside > 0.93
    assert (mean["upper"] - mean["lower"] <= found["upper"] - found["lower"]).all()
    variance = found["se"] ** 2 - mean["se"] ** 2  # var y = E mu + var mu
    assert np.allclose(variance, again, rtol=0.25, atol=0.1)


def test_what_cannot_be_a_landmark(sleepstudy: Fit, epil: Fit, tmp_path: object) -> None:
    with pytest.raises(ValueError, match=r"at=9: no row is later; `Days` of newdata ends at 9"):
        sleepstudy.predict(at=[3, 9])
    with pytest.raises(ValueError, match=r"at=-1: nothing has been seen by then"):
        sleepstudy.predict(at=-1)
    with pytest.raises(ValueError, match="a time or a list of times"):
        sleepstudy.predict(at=["early"])
    with pytest.raises(
        ValueError, match=r"varies within `subject` and is no indicator, .* has none"
    ):
        epil.predict(at=2)  # V4 is an indicator
    with pytest.raises(ValueError, match="newdata has no column `Days`"):
        sleepstudy.predict(data("sleepstudy").drop(columns="Days"), at=2)
    with pytest.raises(ValueError, match=r"theta='hold' is not one of estimated, held"):
        sleepstudy.predict(theta="hold")
    sleepstudy.save(tmp_path / "fit")  # type: ignore[operator]
    other = load(tmp_path / "fit")  # type: ignore[operator]
    with pytest.raises(ValueError, match="at= needs history="):
        other.predict(at=2)


def test_rows_without_a_time_are_said_to_have_no_place(sleepstudy: Fit) -> None:
    frame = data("sleepstudy")
    gaps = frame.assign(Days=frame["Days"].where(frame["Subject"] != "308"))
    with pytest.warns(UserWarning, match="`Days` is missing in 10 of 180 rows of history"):
        found = sleepstudy.predict(history=gaps, at=[5])
    some = frame[frame["Subject"] != "308"]
    pd.testing.assert_frame_equal(
        pd.DataFrame(found).astype({"Days": float}),
        pd.DataFrame(sleepstudy.predict(history=some, at=[5])).astype({"Days": float}),
    )
    with pytest.raises(ValueError, match="`Days` of history is missing in all of its 180 rows"):
        sleepstudy.predict(history=frame.assign(Days=np.nan), at=[5])
    with pytest.raises(ValueError, match="`Days` of newdata is empty: it has no rows"):
        sleepstudy.predict(frame[:0], at=[5])
    dates = frame.assign(Days=pd.date_range("2020-01-01", periods=len(frame)))
    with pytest.raises(ValueError, match="`Days` of history is one number per row, not"):
        sleepstudy.predict(history=dates, at=[5])


def test_several_outcomes_at_landmarks() -> None:
    wide = frame(30, 5, seed=3)
    fit = mixed_model(mv("y ~ x + t + (t | id)", "w ~ x + t + (t | id)"), wide, verbose=0)
    found = fit.predict(outcome="y", history=wide, at=[0.3])
    past, rows = wide[wide["t"] <= 0.3], wide[wide["t"] > 0.3]
    one = fit.predict(rows, outcome="y", history=past)
    assert np.allclose(found["fit"], one["fit"])
    assert isinstance(found.index, pd.MultiIndex)
