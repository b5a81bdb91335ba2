"""Outcomes on an interval, whole fits: beside R, dense quadrature, models that they factor into.

`reference/bounded.csv`, 60 groups of 8: `inside` never at an end of [1, 7], `ends` often at both,
`tobit` censored there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from conftest import REFERENCE, reference
from scipy import special, stats

from dgmm import Fit, mixed_model
from dgmm.families import Observations, find

BOUNDS = (1.0, 7.0)
RIGHT = "x + t + (1 | id)"
Density = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def bounded() -> pd.DataFrame:
    return pd.read_csv(REFERENCE / "bounded.csv")


def fitted(data: pd.DataFrame, outcome: str, family: str, **options: object) -> Fit:
    words = {"verbose": 0, "bounds": BOUNDS, **options}
    return mixed_model(f"{outcome} ~ {RIGHT}", data, family=family, **words)


# -- R -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outcome", "family"), [("inside", "beta"), ("ends", "ordered_beta")])
def test_laplace_is_that_of_glmmtmb(bounded: pd.DataFrame, outcome: str, family: str) -> None:
    fit, known = (
        fitted(bounded, outcome, family, likelihood="laplace"),
        reference("bounded", family),
    )
    assert float(fit.loglik()) == pytest.approx(known["log_likelihood"], abs=2e-5)
    own = fit.family_parameters()["estimate"]
    np.testing.assert_allclose(fit.fixef(), known["fixef"], atol=2e-4)
    assert own["precision"] == pytest.approx(known["precision"], rel=1e-3)
    assert float(fit.var_corr()["sdcor"].iloc[0]) == pytest.approx(known["sd"], rel=1e-3)
    if known["psi"]:
        np.testing.assert_allclose(own[["cutpoint1", "cutpoint2"]], known["psi"], atol=2e-4)


def test_a_tobit_model_without_random_effects_is_that_of_survreg(bounded: pd.DataFrame) -> None:
    """The density at survreg's estimates; and that nothing near them is better."""
    known, family = reference("bounded", "tobit"), find("tobit", bounds=BOUNDS)
    X = np.column_stack([np.ones(len(bounded)), bounded["x"], bounded["t"]])
    y = torch.from_numpy(bounded["tobit"].to_numpy())
    data = Observations(y, torch.ones_like(y), torch.ones_like(y))
    point = torch.tensor([*known["fixef"], np.log(known["sigma"])], dtype=torch.float64)

    def loglik(at: torch.Tensor) -> torch.Tensor:
        return family.log_density(data, torch.from_numpy(X) @ at[:3], at[3:]).sum()

    assert float(loglik(point)) == pytest.approx(known["log_likelihood"], abs=1e-8)
    slope = torch.autograd.functional.jacobian(loglik, point)
    information = -torch.autograd.functional.hessian(loglik, point)
    assert (slope.abs() < 1e-5).all()
    se = torch.linalg.inv(information).diagonal().sqrt()
    np.testing.assert_allclose(se, known["se"], rtol=1e-6)


# -- dense quadrature ------------------------------------------------------------------------------


def beta_log_density(y: np.ndarray, mu: np.ndarray, phi: float) -> np.ndarray:
    return stats.beta.logpdf((y - 1) / 6, mu * phi, (1 - mu) * phi) - np.log(6)


def ordered(y: np.ndarray, eta: np.ndarray, own: np.ndarray) -> np.ndarray:
    low, high = special.expit(own[0] - eta), special.expit(eta - own[1])
    middle = np.log(1 - low - high) + beta_log_density(y, special.expit(eta), own[2])
    return np.where(y == 1, np.log(low), np.where(y == 7, np.log(high), middle))


def inflated(y: np.ndarray, eta: np.ndarray, own: np.ndarray) -> np.ndarray:
    middle = np.log(1 - own[1]) + beta_log_density(y, special.expit(eta), own[0])
    ends = np.log(own[1]) + np.where(y == 7, np.log(own[2]), np.log(1 - own[2]))
    return np.where((y == 1) | (y == 7), ends, middle)


def censored(y: np.ndarray, eta: np.ndarray, own: np.ndarray) -> np.ndarray:
    low, high = stats.norm.logcdf((1 - eta) / own[0]), stats.norm.logcdf((eta - 7) / own[0])
    middle = stats.norm.logpdf(y, eta, own[0])
    return np.where(y == 1, low, np.where(y == 7, high, middle))


def logit_normal(y: np.ndarray, eta: np.ndarray, own: np.ndarray) -> np.ndarray:
    u = (y - 1) / 6
    return stats.norm.logpdf(special.logit(u), eta, own[0]) - np.log(u * (1 - u) * 6)


DENSITIES: dict[str, tuple[str, Density]] = {
    "beta": ("inside", lambda y, eta, own: beta_log_density(y, special.expit(eta), own[0])),
    "ordered_beta": ("ends", ordered),
    "zero_one_inflated_beta": ("ends", inflated),
    "censored_gaussian": ("tobit", censored),
    "logit_normal": ("inside", logit_normal),
}


@pytest.mark.parametrize("family", DENSITIES)
def test_the_likelihood_is_that_of_dense_quadrature(bounded: pd.DataFrame, family: str) -> None:
    """And the estimates its maximum: no step of a fifth of a standard error is better."""
    outcome, density = DENSITIES[family]
    fit = fitted(bounded, outcome, family)
    y = bounded[outcome].to_numpy()
    X = np.column_stack([np.ones(len(y)), bounded["x"], bounded["t"]])
    z = np.linspace(-7, 7, 281)
    log_weight = stats.norm.logpdf(z) + np.log(z[1] - z[0])

    def loglik(beta: np.ndarray, sd: float, own: np.ndarray) -> float:
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = density(y[:, None], (X @ beta)[:, None] + sd * z, own)
        by_group = np.add.reduceat(terms, np.arange(0, len(y), 8), axis=0)
        return float(special.logsumexp(by_group + log_weight, axis=1).sum())

    beta, sd = fit.fixef().to_numpy(), float(fit.var_corr()["sdcor"].iloc[0])
    own = fit.family_parameters()["estimate"].to_numpy()
    if "log_sigma" in find(family).extra:
        own = fit.var_corr()["sdcor"].to_numpy()[1:]
    best = loglik(beta, sd, own)
    assert float(fit.loglik()) == pytest.approx(best, abs=1e-6)
    for step in np.vstack([np.eye(3), -np.eye(3)]) * fit.std_errors().to_numpy() / 5:
        assert loglik(beta + step, sd, own) < best
    for factor in (0.97, 1.03):
        assert loglik(beta, sd * factor, own) < best
        for j in range(len(own)):
            assert loglik(beta, sd, np.where(np.arange(len(own)) == j, own * factor, own)) < best


# -- what a model factors into ---------------------------------------------------------------------


def test_ends_of_their_own_are_two_logistic_regressions_beside_a_beta_model(
    bounded: pd.DataFrame,
) -> None:
    words = {"zi": "~ x + t", "oi": "~ x"}
    fit = fitted(bounded, "ends", "zero_one_inflated_beta", **words)
    at_end = bounded["ends"].isin(BOUNDS)
    inner = fitted(bounded[~at_end], "ends", "beta")
    C = sm.add_constant(bounded[["x", "t"]])
    ends = sm.Logit(at_end.astype(float), C).fit(disp=0)
    up = sm.Logit((bounded["ends"] == 7)[at_end].astype(float), C.loc[at_end, ["const", "x"]])
    upper = up.fit(disp=0)
    total = float(inner.loglik()) + ends.llf + upper.llf
    assert float(fit.loglik()) == pytest.approx(total, abs=1e-5)
    np.testing.assert_allclose(fit.fixef(), inner.fixef(), atol=1e-4)
    parts = fit.part_coefficients()
    for name, twin in (("zi", ends), ("oi", upper)):
        np.testing.assert_allclose(parts[name]["Estimate"], twin.params, atol=1e-4)
        np.testing.assert_allclose(parts[name]["Std. Error"], twin.bse, rtol=1e-3)
    text = str(fit.summary())
    assert "Zero part (logit ends):" in text
    assert "Upper end (logit upper):" in text
    smaller = fitted(bounded, "ends", "zero_one_inflated_beta", zi="~ x + t")
    one = sm.Logit((bounded["ends"] == 7)[at_end].astype(float), C.loc[at_end, ["const"]])
    ratio = 2 * (upper.llf - one.fit(disp=0).llf)
    table = fit.anova(smaller).table
    assert float(table["Chisq"].iloc[-1]) == pytest.approx(ratio, abs=1e-4)


def test_a_logit_normal_model_is_a_linear_mixed_model_of_the_logit(bounded: pd.DataFrame) -> None:
    u = (bounded["inside"] - 1) / 6
    fit = fitted(bounded, "inside", "logit_normal")
    linear = mixed_model(f"z ~ {RIGHT}", bounded.assign(z=special.logit(u)), verbose=0)
    jacobian = float(np.log(6 * u * (1 - u)).sum())
    assert float(fit.loglik()) == pytest.approx(float(linear.loglik()) - jacobian, abs=1e-6)
    np.testing.assert_allclose(fit.fixef(), linear.fixef(), atol=1e-5)
    np.testing.assert_allclose(fit.std_errors(), linear.std_errors(), rtol=1e-4)


# -- the scale of the answers ----------------------------------------------------------------------


def test_densities_have_total_one_with_both_ends() -> None:
    nodes, weights = np.polynomial.legendre.leggauss(400)
    s = (nodes + 1) / 2
    y = torch.from_numpy(1 + 6 * (3 * s**2 - 2 * s**3))  # flat at both ends, where a power begins
    measure = torch.from_numpy(3 * weights * 6 * s * (1 - s))
    extra = {"ordered_beta": [-1.0, 0.7, 2.5], "zero_one_inflated_beta": [2.5, -0.8, -0.4]}
    for name in DENSITIES:
        family = find(name, bounds=BOUNDS)
        own = torch.tensor(extra.get(name, [2.0 if name == "beta" else -0.4]), dtype=torch.float64)
        for eta in (-0.6, 0.1, 0.5):

            def mass(at: torch.Tensor) -> torch.Tensor:
                data = Observations(at, torch.ones_like(at), torch.ones_like(at))
                return family.log_density(data, torch.full_like(at, eta), own).exp()  # noqa: B023

            ends = mass(torch.tensor(family.atoms, dtype=torch.float64)).sum()
            assert float(mass(y) @ measure + ends) == pytest.approx(1, abs=1e-10)


def test_means_and_intervals_stay_on_the_scale_and_families_agree(bounded: pd.DataFrame) -> None:
    """The mean curve over the population hardly knows the family where no outcome is at an end."""
    grid = pd.DataFrame(
        {"id": -1, "x": np.repeat([0.0, 1.0], 8), "t": np.tile(np.arange(8) / 4, 2)}
    )
    curves = {}
    for family in DENSITIES:
        fit = fitted(bounded, "inside", family)
        curves[family] = fit.predict(grid, type="marginal")["fit"].to_numpy()
        band = fit.predict(interval="prediction", draws=400)
        assert band[["lower", "upper"]].stack().between(*BOUNDS).all()
        assert (band["lower"] < band["upper"]).all()
        sure = fit.predict(grid, type="marginal", interval="confidence")
        assert (sure["upper"] - sure["lower"]).between(0.1, 1).all()
    for curve in curves.values():
        assert np.abs(curve - curves["beta"]).max() < 0.1


def test_a_share_of_nothing_is_held(bounded: pd.DataFrame) -> None:
    """Without outcomes at an end the inflated model is the beta model, errors too."""
    fit, inner = (fitted(bounded, "inside", one) for one in ("zero_one_inflated_beta", "beta"))
    assert float(fit.loglik()) == pytest.approx(float(inner.loglik()), abs=1e-4)
    np.testing.assert_allclose(fit.std_errors(), inner.std_errors(), rtol=1e-3)
    assert fit.family_parameters().loc[["ends", "upper"], "std_error"].isna().all()
    assert any("`ends` of family" in note and "the lower end" in note for note in fit.messages)
    assert any("no outcome tells of `upper`" in note for note in fit.messages)


def test_outcomes_at_an_end_are_refused_with_advice(bounded: pd.DataFrame) -> None:
    for family in ("beta", "logit_normal"):
        with pytest.raises(ValueError, match="strictly between 1 and 7, found 1.*ordered_beta"):
            fitted(bounded, "ends", family)
    with pytest.raises(ValueError, match="oi= models the share of the upper end.*ordered_beta"):
        fitted(bounded, "ends", "ordered_beta", oi="~ x")
