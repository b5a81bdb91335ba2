"""Zero-inflated and dispersion models against a likelihood written out by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from dgmm import Fit, load, mixed_model

NODES = np.arange(-8.0, 8.001, 0.1)  # the trapezoid rule is spectral for normal tails
LOG_WEIGHTS = np.log(0.1) + stats.norm.logpdf(NODES)

ByHand = Callable[[np.ndarray], float]


def integrated(rows: Callable[[np.ndarray], np.ndarray], subject: np.ndarray, sd: float) -> float:
    """sum_i log E_b prod_j p(y_ij | b), a fine grid of the prior; ``rows`` maps b to (N,)."""
    table = np.array([rows(np.full(len(subject), sd * node)) for node in NODES])
    n = subject.max() + 1
    sums = np.array([np.bincount(subject, row, minlength=n) for row in table])
    return float(special.logsumexp(sums + LOG_WEIGHTS[:, None], axis=0).sum())


def newton_decrement(value: ByHand, x: np.ndarray, se: np.ndarray) -> float:
    """Largest step to the maximum of a function known by hand, in standard errors, by axis."""
    steps = []
    for j, h in enumerate(0.02 * se):
        unit = np.zeros_like(x)
        unit[j] = h
        up, down, here = value(x + unit), value(x - unit), value(x)
        steps.append(-(up - down) / 2 * h / (up - 2 * here + down) / se[j])
    return float(np.abs(steps).max())


def counts(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"id": np.repeat(np.arange(120), 6), "x": rng.normal(size=720)})
    data["z"] = rng.normal(size=720)
    data["exposure"] = rng.uniform(0.5, 2.0, 720)
    b = 0.6 * rng.normal(size=120)[data["id"]]
    mu = data["exposure"] * np.exp(0.8 + 0.4 * data["x"] + b)
    zero = rng.uniform(size=720) < special.expit(-0.7 + 0.9 * data["z"])
    data["y"] = np.where(zero, 0, rng.poisson(mu)).astype(float)
    return data


@pytest.fixture(scope="module")
def inflated() -> Fit:
    formula = "y ~ x + offset(log(exposure)) + (1 | id)"
    return mixed_model(formula, counts(), family="poisson", zi="~ z", verbose=0)


def zip_by_hand(data: pd.DataFrame) -> ByHand:
    y, subject = data["y"].to_numpy(), data["id"].to_numpy()

    def value(theta: np.ndarray) -> float:
        beta, log_sd, gamma = theta[:2], theta[2], theta[3:]
        fixed = beta[0] + beta[1] * data["x"].to_numpy() + np.log(data["exposure"].to_numpy())
        zero = special.expit(gamma[0] + gamma[1] * data["z"].to_numpy())

        def rows(b: np.ndarray) -> np.ndarray:
            plain = np.log1p(-zero) + stats.poisson.logpmf(y, np.exp(fixed + b))
            return np.where(y == 0, np.logaddexp(plain, np.log(zero)), plain)

        return integrated(rows, subject, np.exp(log_sd))

    return value


def test_a_zero_inflated_fit_is_the_maximum(inflated: Fit) -> None:
    value = zip_by_hand(counts())
    sd = inflated.var_corr().iloc[0]
    zero = inflated.part_coefficients()["zi"]
    x = np.concatenate([inflated.fixef(), [np.log(sd["sdcor"])], zero["Estimate"]])
    se = np.concatenate([inflated.std_errors(), [sd["se_working"]], zero["Std. Error"]])
    assert float(inflated.loglik()) == pytest.approx(value(x), abs=1e-4)
    assert newton_decrement(value, x, se) < 0.005
    assert np.abs((zero["Estimate"] - [-0.7, 0.9]) / zero["Std. Error"]).max() < 3


def test_standard_errors_of_the_zero_part(inflated: Fit) -> None:
    value = zip_by_hand(counts())
    sd = inflated.var_corr().iloc[0]
    zero = inflated.part_coefficients()["zi"]
    x = np.concatenate([inflated.fixef(), [np.log(sd["sdcor"])], zero["Estimate"]])
    se = np.concatenate([inflated.std_errors(), [sd["se_working"]], zero["Std. Error"]])
    H = np.empty((5, 5))
    unit = np.diag(0.02 * se)
    for j in range(5):
        for k in range(5):
            ends = [value(x + s * unit[j] + t * unit[k]) for s in (1, -1) for t in (1, -1)]
            H[j, k] = (ends[0] - ends[1] - ends[2] + ends[3]) / (4 * unit[j, j] * unit[k, k])
    np.testing.assert_allclose(se, np.sqrt(np.diag(np.linalg.inv(-H))), rtol=5e-3)


def test_a_random_effect_in_the_zero_part() -> None:
    rng = np.random.default_rng(2)
    data = counts(1)
    b = 1.5 * rng.normal(size=120)[data["id"]]
    data["y"] = np.where(rng.uniform(size=720) < special.expit(b), 0, data["y"])
    fit = mixed_model("y ~ x + (1 | id)", data, family="poisson", zi="~ 1 + (1 | id)", verbose=0)
    table = fit.var_corr()
    assert list(table["group"]) == ["id", "id (zi)"]
    sd, sd_zero = table["sdcor"]
    gamma = fit.part_coefficients()["zi"]["Estimate"].iloc[0]
    y, subject, x = data["y"].to_numpy(), data["id"].to_numpy(), data["x"].to_numpy()
    fixed = fit.fixef().to_numpy() @ np.stack([np.ones(720), x])
    points = np.arange(-6.6, 6.7, 0.2)
    log_w = np.log(0.2) + stats.norm.logpdf(points)
    terms = []
    for u, log_u in zip(points, log_w, strict=True):
        counted = stats.poisson.logpmf(y, np.exp(fixed + sd * u))
        for v, log_v in zip(points, log_w, strict=True):
            zero = special.expit(gamma + sd_zero * v)
            plain = np.log1p(-zero) + counted
            rows = np.where(y == 0, np.logaddexp(plain, np.log(zero)), plain)
            terms.append(np.bincount(subject, rows) + log_u + log_v)
    by_hand = special.logsumexp(terms, axis=0).sum()
    assert float(fit.loglik()) == pytest.approx(by_hand, abs=1e-4)
    assert list(fit.ranef().columns) == ["(Intercept)", "zi:(Intercept)"]


def test_the_mean_of_a_new_row_has_the_zeros_in_it(inflated: Fit) -> None:
    new = pd.DataFrame({"id": [9999], "x": [0.5], "z": [1.0], "exposure": [2.0]})
    mean = inflated.predict(new, type="mean_subject")["fit"].iloc[0]
    beta = inflated.fixef()
    zero = inflated.part_coefficients()["zi"]["Estimate"]
    plain = 2 * np.exp(beta["(Intercept)"] + 0.5 * beta["x"])
    assert mean == pytest.approx(plain * special.expit(-zero.sum()), rel=1e-10)
    average = inflated.predict(new, type="marginal")["fit"].iloc[0]
    sd = inflated.var_corr()["sdcor"].iloc[0]
    assert average == pytest.approx(mean * np.exp(sd**2 / 2), rel=1e-8)  # the offset is inside


def test_parts_are_saved_and_updated(inflated: Fit, tmp_path: object) -> None:
    path = f"{tmp_path}/fit"
    inflated.save(path)
    again = load(path)
    new = counts(5).head(7)
    pd.testing.assert_frame_equal(again.predict(new), inflated.predict(new))
    smaller = inflated.update(data=counts(), zi="~ 1")
    assert float(smaller.loglik()) < float(inflated.loglik())
    assert len(smaller.part_coefficients()["zi"]) == 1


def test_dispersion_of_a_gaussian_outcome() -> None:
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"id": np.repeat(np.arange(80), 6), "x": rng.normal(size=480)})
    log_sigma = -0.3 + 0.5 * data["x"]
    data["y"] = 1 + rng.normal(size=80)[data["id"]] + np.exp(log_sigma) * rng.normal(size=480)
    fit = mixed_model("y ~ x + (1 | id)", data, dispersion="~ x", verbose=0)
    table = fit.part_coefficients()["dispersion"]
    sd = fit.var_corr().iloc[0]
    x = np.concatenate([fit.fixef(), [np.log(sd["sdcor"])], table["Estimate"]])
    se = np.concatenate([fit.std_errors(), [sd["se_working"]], table["Std. Error"]])
    y, z, subject = (data[c].to_numpy() for c in ("y", "x", "id"))

    def value(theta: np.ndarray) -> float:
        total = 0.0
        for i in range(80):
            own = subject == i
            V = np.diag(np.exp(2 * (theta[3] + theta[4] * z[own]))) + np.exp(2 * theta[2])
            mean = theta[0] + theta[1] * z[own]
            total += stats.multivariate_normal.logpdf(y[own], mean, V)
        return total

    assert float(fit.loglik()) == pytest.approx(value(x), abs=1e-6)
    assert newton_decrement(value, x, se) < 0.005
    assert list(fit.var_corr()["group"]) == ["id"]  # no single residual standard deviation
    assert np.isnan(fit.sigma())


def test_a_dispersion_without_effect_is_the_plain_model() -> None:
    data = counts(6)
    plain = mixed_model("y ~ x + (1 | id)", data, family="negative_binomial", verbose=0)
    one = mixed_model(
        "y ~ x + (1 | id)", data, family="negative_binomial", dispersion="~ 1", verbose=0
    )
    assert float(one.loglik()) == pytest.approx(float(plain.loglik()), abs=1e-6)
    size = plain.family_parameters().loc["size", "estimate"]
    coefficient = one.part_coefficients()["dispersion"].loc["(Intercept)", "Estimate"]
    assert np.exp(coefficient) == pytest.approx(size, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"family": "gaussian", "zi": "~ x"}, "counts"),
        ({"family": "poisson", "dispersion": "~ x"}, "'poisson' has none"),
        ({"family": "poisson", "zi": "y ~ x"}, "without outcome"),
        ({"family": "poisson", "zi": "~ dnn(x)"}, "linear terms only"),
        ({"family": "negative_binomial", "dispersion": "~ (1 | id)"}, "no random effects"),
        ({"family": "poisson", "zi": "~ nothing"}, "nothing"),
    ],
)
def test_parts_that_cannot_be(options: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        mixed_model("y ~ x + (1 | id)", counts(), verbose=0, **options)
