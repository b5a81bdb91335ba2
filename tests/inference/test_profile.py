"""Profile intervals: numbers of lme4, boundaries, the two engines against each other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import FORMULAS, data
from scipy import optimize, stats
from toys import ar1_frame, visits_frame

import dgmm
from dgmm import Fit, mixed_model

# Bates, Maechler, Bolker and Walker (2015), section 5.1: confint() of the ML fit by lme4
LME4 = {
    "sd_(Intercept)|Subject": (14.3814, 37.7160),
    "cor_Days.(Intercept)|Subject": (-0.4815, 0.6850),
    "sd_Days|Subject": (3.8012, 8.7534),
    "sigma": (22.8983, 28.8580),
    "(Intercept)": (237.6807, 265.1295),
    "Days": (7.3587, 13.5759),
}


def test_sleepstudy_as_lme4(sleepstudy: Fit) -> None:
    found = sleepstudy.confint(method="profile")
    for name, ends in LME4.items():
        np.testing.assert_allclose(found.loc[name], ends, rtol=2e-4)
    assert list(found.index) == list(sleepstudy.confint().index)


def test_reml_fits_are_profiled_by_ml(sleepstudy_reml: Fit) -> None:
    found = sleepstudy_reml.confint(method="profile", parm=["Days", "sigma"])
    np.testing.assert_allclose(found.loc["Days"], LME4["Days"], rtol=2e-4)
    np.testing.assert_allclose(found.loc["sigma"], LME4["sigma"], rtol=2e-4)


def test_boundaries(singular: Fit) -> None:
    found = singular.confint(method="profile")
    assert found.loc["sd_t|id", "2.5 %"] == 0.0
    assert 0 < found.loc["sd_t|id", "97.5 %"] < 0.2
    assert found.notna().all(axis=None)


def test_a_small_variance_reaches_zero() -> None:
    # estimate inside, zero not excluded
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"id": np.repeat(np.arange(15), 4)})
    frame["y"] = 0.35 * rng.normal(size=15)[frame["id"]] + rng.normal(size=60)
    fit = mixed_model("y ~ 1 + (1 | id)", frame, verbose=0)
    assert not fit.is_singular()
    low, high = fit.confint(method="profile", parm="sd_(Intercept)|id").iloc[0]
    assert low == 0.0
    assert high > fit.var_corr()["sdcor"].iloc[0]


def test_an_interval_is_the_set_of_values_not_rejected() -> None:
    # y ~ 1: profile of the mean with tau, sigma free, against refits with the mean as an offset
    frame = data("sleepstudy")
    fit = mixed_model("Reaction ~ Days + (1 | Subject)", frame, verbose=0)
    ends = fit.confint(0.9, method="profile", parm="Days").iloc[0]
    for value in ends:
        moved = frame.assign(o=value * frame["Days"])
        held = mixed_model("Reaction ~ 1 + (1 | Subject)", moved, offset="o", verbose=0)
        ratio = 2 * (float(fit.loglik()) - float(held.loglik()))
        assert ratio == pytest.approx(stats.chi2.ppf(0.9, 1), abs=1e-3)


def test_nodes_give_what_the_exact_likelihood_gives(sleepstudy: Fit) -> None:
    numerical = mixed_model(
        FORMULAS["sleepstudy"], data("sleepstudy"), likelihood="quadrature", verbose=0
    )
    names = ["sd_Days|Subject", "sigma"]
    ours = numerical.confint(method="profile", parm=names)
    theirs = sleepstudy.confint(method="profile", parm=names)
    np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-3)


def test_a_generalized_model(cbpp: Fit) -> None:
    # lme4 (Laplace), confint(gm1): period2 -1.609 -0.407; sd 0.346 1.100
    found = cbpp.confint(method="profile", parm=["period2", "sd_(Intercept)|herd"])
    np.testing.assert_allclose(found.loc["period2"], [-1.609, -0.407], atol=0.02)
    np.testing.assert_allclose(found.loc["sd_(Intercept)|herd"], [0.346, 1.100], atol=0.02)


def test_refusals(cbpp_vae: Fit, deep: Fit, sleepstudy: Fit) -> None:
    with pytest.raises(ValueError, match="Monte Carlo error.*bootstrap"):
        cbpp_vae.confint(method="profile")
    with pytest.raises(ValueError, match=r"dnn\(\).*wald"):
        deep.confint(method="profile")
    with pytest.raises(ValueError, match="no parameter 'days'"):
        sleepstudy.confint(method="profile", parm="days")
    with pytest.raises(ValueError, match="'boot' is not one of 'wald', 'profile', 'bootstrap'"):
        sleepstudy.confint(method="boot")


def test_parameters_of_the_family_have_no_profile() -> None:
    fit = mixed_model("y ~ 1 + (1 | subject)", data("epil"), family="nb2", verbose=0)
    found = fit.confint(method="profile")
    assert list(found.index) == ["(Intercept)", "sd_(Intercept)|subject"]
    wald = fit.confint().loc[found.index]
    np.testing.assert_allclose(found, wald, rtol=0.03)  # 59 subjects: nearly quadratic
    with pytest.raises(ValueError, match="no profile for 'size'"):
        fit.confint(method="profile", parm="size")


# -- paths -----------------------------------------------------------------------------------------


class Dense:
    """l of intercept, path and noise by normal densities, beta profiled out; all but one free."""

    def __init__(self, frame: pd.DataFrame, columns: list[str], rho: bool, noise: bool) -> None:
        self.rho, self.noise, self.parts = rho, noise, []
        time = "visit" if rho else "time"
        for _, own in frame.dropna().groupby("id"):
            X = np.column_stack([np.ones(len(own)), own[columns]])
            lag = np.abs(np.subtract.outer(own[time].to_numpy(), own[time].to_numpy()))
            self.parts.append((X, own["y"].to_numpy(), lag))

    def value(self, x: np.ndarray) -> float:
        """x: SD of intercepts and of the path, range or rho, sigma."""
        total, A, b = 0.0, 0.0, 0.0
        for X, y, lag in self.parts:
            r = x[2] ** lag if self.rho else np.exp(-lag / x[2])
            V = x[0] ** 2 + x[1] ** 2 * r + (x[3] ** 2 if self.noise else 0.0) * np.eye(len(y))
            L = np.linalg.cholesky(V)
            both = np.linalg.solve(L, np.column_stack([X, y]))
            total += 2 * np.log(np.diag(L)).sum() + len(y) * np.log(2 * np.pi)
            total += both[:, -1] @ both[:, -1]
            A, b = A + both[:, :-1].T @ both[:, :-1], b + both[:, :-1].T @ both[:, -1]
        return -0.5 * float(total - b @ np.linalg.solve(A, b))

    def profile(self, x: np.ndarray, held: int) -> float:
        """The maximum with one entry of x held, found from x."""
        free = [k for k in range(4 if self.noise else 3) if k != held and x[k] != 0]

        def negative(u: np.ndarray) -> float:
            moved = x.copy()
            moved[free] = np.exp(u)
            return -self.value(moved)

        start = np.log(x[free])
        found = optimize.minimize(negative, start, method="BFGS", options={"gtol": 1e-6})
        again = optimize.minimize(negative, found.x, method="Nelder-Mead", options={"xatol": 1e-7})
        return -min(found.fun, again.fun)


@pytest.mark.parametrize(
    ("formula", "rho", "noise", "names"),
    [
        (
            "y ~ time + x + (1 | id) + (ou(time) | id)",
            False,
            True,
            ["range_ou(time)|id", "sd_ou(time)|id"],
        ),
        ("y ~ time + x + (1 | id) + (ou(time) | id)", False, False, ["range_ou(time)|id"]),
        ("y ~ x + (ar1(visit) | id)", True, True, ["rho_ar1(visit)|id"]),
    ],
)
def test_ends_of_parameters_of_paths_are_those_of_the_dense_profile(
    formula: str, rho: bool, noise: bool, names: list[str]
) -> None:
    frame = ar1_frame() if rho else visits_frame()
    fit = dgmm.mixed_model(formula, frame, dispersion=None if noise else "~ 0", verbose=0, se=None)
    dense = Dense(frame, ["x"] if rho else ["time", "x"], rho, noise)
    values = fit.var_corr()["sdcor"].to_numpy()
    x = np.concatenate([np.zeros(int(rho)), values, np.zeros(int(not noise))])
    top = dense.value(x)
    assert top == pytest.approx(float(fit.loglik().value), abs=1e-8)
    found = fit.confint(method="profile", parm=names)
    for name in names:
        held = 1 if name.startswith("sd") else 2
        for end in found.loc[name]:
            there = x.copy()
            there[held] = end
            fall = 2 * (top - dense.profile(there, held))
            assert fall == pytest.approx(stats.chi2.ppf(0.95, 1), abs=2e-6)


def test_a_path_at_zero_ends_there_and_several_coefficients_have_no_profile() -> None:
    fit = dgmm.mixed_model("y ~ x + (llt(time) | id)", visits_frame(), verbose=0)
    ends = fit.confint(method="profile", parm="sd_llt(time):slope|id").to_numpy()[0]
    assert ends[0] == 0.0
    assert 0.05 < ends[1] < 0.2
    several = dgmm.mixed_model("y ~ x + (ssm(visit, state=2) | id)", ar1_frame(), verbose=0)
    with pytest.raises(ValueError, match="range over no box"):
        several.confint(method="profile")
