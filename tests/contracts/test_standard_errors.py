"""Every route to a standard error against every other, for every kind of uncertainty and model."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import data
from scipy import special
from torch import Tensor

import dgmm
from dgmm import Fit, mixed_model
from dgmm.design import rebuild
from dgmm.estimate import Member
from dgmm.inference.explained import variances
from dgmm.inference.resampling import resampled_information
from dgmm.information import Draws, information, uncertainty
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.prediction.intervals import Target
from dgmm.prediction.moments import given_history

KINDS = ("hessian", "sandwich", "bootstrap")
MODELS = ("classical", "counts", "network", "neural")
RESAMPLES = 12
PREDICTIONS = [
    ("mean_subject", "link"),
    ("mean_subject", "response"),
    ("marginal", "link"),
    ("marginal", "response"),
    ("subject", "link"),
    ("subject", "response"),
]


@pytest.fixture(scope="module")
def models(curved: Fit, curved_frame: pd.DataFrame, deep: Fit) -> dict[str, Fit]:
    line = mixed_model("y ~ x + g + (x | id)", curved_frame, verbose=0)
    rng = np.random.default_rng(8)
    level = 0.3 * curved_frame["x"] + 0.7 * rng.normal(size=60)[curved_frame["id"]]
    grouped = curved_frame.assign(count=rng.poisson(np.exp(level)))
    counts = mixed_model("count ~ x + (1 | id)", grouped, family="poisson", verbose=0)
    return {"classical": line, "counts": counts, "network": curved, "neural": deep}


@pytest.fixture(scope="module")
def fits(models: dict[str, Fit]) -> Callable[[str, str], Fit]:
    """``fits("network", "bootstrap")``: a model with a kind of uncertainty, made once."""
    made: dict[tuple[str, str], Fit] = {}

    def get(model: str, kind: str) -> Fit:
        if (model, kind) not in made:
            fit = models[model]
            done, control = fit.estimate, replace(fit.request.control, resamples=RESAMPLES)
            if kind == "bootstrap":
                info = resampled_information(done, replace(fit.request, control=control))
            else:
                info = information(done, kind, fit.request.seed, control.hessian_draws)
            made[model, kind] = replace(fit, information=info, call=replace(fit.call, se=kind))
        return made[model, kind]

    return get


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    word: str = request.param
    return word


@pytest.fixture(params=MODELS)
def any_kind(request: pytest.FixtureRequest, kind: str, fits: Callable[[str, str], Fit]) -> Fit:
    """Every model with every kind of uncertainty in turn."""
    return fits(request.param, kind)


def covariate(fit: Fit) -> str:
    """A covariate with one linear coefficient, which no other term uses."""
    return "Days" if "Days" in fit.memory.covariates else "x"


def new_rows(fit: Fit) -> pd.DataFrame:
    """Three rows of one subject of the fit."""
    if "Days" in fit.memory.covariates:
        return pd.DataFrame({"Days": [0.0, 4.0, 9.0], "Subject": "308"})
    return pd.DataFrame({"x": [-1.0, 0.2, 1.5], "z": [-1.5, 0.0, 1.0], "g": "b", "id": 3})


def _history(fit: Fit, rows: pd.DataFrame) -> tuple[Panel, Panel]:
    """The outcomes seen of the subjects of some rows, and the rows, as panels."""
    target = Panel.from_design(rebuild(fit.memory.spec, rows, outcome=False))
    return fit.estimate.observed.align(target.ids), target


def at_theta(fit: Fit, theta: Theta) -> Fit:
    """The fit with other parameters, and no other start."""
    return replace(fit, estimate=replace(fit.estimate, theta=theta, others=()))


def brute_force(fit: Fit, function: Callable[[Fit], np.ndarray]) -> np.ndarray:
    """Standard errors by the definition: SD over the draws, or differences in every parameter."""
    assert fit.information is not None
    known = uncertainty(fit.estimate, fit.information, weights=True).taking_held_as_known()
    if isinstance(known, Draws):
        rows = [known.packing.unpack(row) for row in known.table]
        return np.std([function(at_theta(fit, theta)) for theta in rows], axis=0, ddof=1)
    x, columns = known.packing.pack(known.theta).detach(), []
    for j in range(len(x)):
        unit = torch.zeros_like(x)
        unit[j] = 1e-4
        ends = [{**known.theta, **known.packing.unpack(x + side * unit)} for side in (1, -1)]
        up, down = (function(at_theta(fit, theta)) for theta in ends)
        columns.append((up - down) / 2e-4)
    J = np.stack(columns, axis=1)
    return np.sqrt(np.diag(J @ known.vcov.numpy() @ J.T))


# -- the linear coefficients ---------------------------------------------------------------------


def test_a_coefficient_has_one_standard_error(any_kind: Fit) -> None:
    fit, name = any_kind, covariate(any_kind)
    se = fit.std_errors()[name]
    z = special.ndtri(0.975)
    ends = fit.confint(parm=name).to_numpy()[0]
    at = {name: 1.0}, {name: 0.0}
    routes = {
        "vcov": np.sqrt(fit.vcov().loc[name, name]),
        "coefficients": fit.coefficients().loc[name, "Std. Error"],
        "anova": fit.anova(L={name: 1.0}).table["Std. Error"].iloc[0],
        "confint": (ends[1] - ends[0]) / (2 * z),
        "contrast": fit.contrast(*at)["Std. Error"].iloc[0],
        "slopes": fit.slopes(name)["Std. Error"].iloc[0],
        "term": fit.effects(name, term=name, grid=3)["se"].iloc[-1]
        / abs(fit.effects(name, term=name, grid=3)["fit"].iloc[-1] / fit.fixef()[name]),
    }
    for route, value in routes.items():
        assert value == pytest.approx(se, rel=1e-6), route
    beta = brute_force(fit, lambda one: one.fixef().to_numpy())
    np.testing.assert_allclose(fit.std_errors(), beta, rtol=1e-6)


def test_a_wald_test_of_terms_is_a_quadratic_form_of_vcov(any_kind: Fit) -> None:
    fit, name = any_kind, covariate(any_kind)
    found = fit.anova().table.loc[name]
    assert found["Chisq"] == pytest.approx((fit.fixef()[name] / fit.std_errors()[name]) ** 2)


# -- the fixed part ------------------------------------------------------------------------------


def test_effects_agree_with_predict(any_kind: Fit) -> None:
    """Those of the reported start: predictions add what other starts differ by."""
    fit, rows = any_kind, new_rows(any_kind)
    fit = replace(fit, estimate=replace(fit.estimate, others=()))
    focal = "z" if "z" in fit.memory.covariates else covariate(fit)
    at = {name: rows[name].iloc[0] for name in fit.held_covariates() if name != focal}
    table = fit.effects(focal, at={**at, focal: rows[focal].to_list()})
    new = rows.assign(**at)
    peer = fit.predict(new, type="mean_subject", scale="link", interval="confidence")
    for name in ("fit", "se", "lower", "upper"):
        np.testing.assert_allclose(table[name], peer[name], rtol=1e-8, err_msg=name)


def test_a_gaussian_population_is_known_as_its_mean_subject(
    kind: str, fits: Callable[[str, str], Fit]
) -> None:
    for model in ("classical", "network"):
        fit = fits(model, kind)
        both = [
            fit.predict(new_rows(fit), type=type, scale=scale, interval="confidence")
            for type in ("mean_subject", "marginal")
            for scale in ("link", "response")
        ]
        for one in both[1:]:
            np.testing.assert_allclose(one, both[0], rtol=1e-6)


# -- predictions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("type", "scale"), PREDICTIONS)
@pytest.mark.parametrize("model", ["classical", "counts", "network"])
def test_predictions_move_with_all_that_is_estimated(
    type: str, scale: str, kind: str, model: str, fits: Callable[[str, str], Fit]
) -> None:
    fit = fits(model, kind)
    rows = new_rows(fit)
    found = fit.predict(rows, type=type, scale=scale, interval="confidence")["se"].to_numpy()

    def expected(one: Fit) -> np.ndarray:
        values: np.ndarray = one.predict(rows, type=type, scale=scale)["fit"].to_numpy()
        return values

    error = brute_force(fit, expected)
    if type == "subject":  # the variance over a subject's own b comes on top
        assert (found > error).all()
        done = at_theta(fit, fit.estimate.theta).estimate
        own = given_history(done, done.theta, *_history(fit, rows), scale, 0)
        error = np.sqrt(error**2 + own.variance.numpy())
    np.testing.assert_allclose(found, error, rtol=5e-3)


@pytest.mark.parametrize(("type", "scale"), PREDICTIONS[:4])
def test_neural_effects_move_predictions_as_their_derivatives_say(
    type: str, scale: str, fits: Callable[[str, str], Fit]
) -> None:
    """Along some directions of theta: there are too many parameters for all of them."""
    fit = at_theta(fits("neural", "hessian"), fits("neural", "hessian").estimate.theta)
    done = fit.estimate
    rows = Panel.from_design(rebuild(fit.memory.spec, new_rows(fit), outcome=False))
    target = Target(done, rows, rows, 0)
    slopes = target.derivative(type, scale)
    assert slopes is not None
    packing, x = slopes.packing, done.model.packing.pack(done.theta).detach()
    at = done.model.packing.positions(packing.shapes)
    J = torch.cat([block for _, block in slopes.blocks()])
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        step = 1e-4 * torch.randn(len(x), generator=generator, dtype=torch.float64)
        ends = [done.model.packing.unpack(x + side * step) for side in (1, -1)]
        up, down = (target.expected(theta, type, scale) for theta in ends)
        torch.testing.assert_close(J @ step[at], (up - down) / 2, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(("type", "scale"), PREDICTIONS[:4])
def test_resamples_of_neural_effects_move_predictions(
    type: str, scale: str, fits: Callable[[str, str], Fit]
) -> None:
    fit = at_theta(fits("neural", "bootstrap"), fits("neural", "bootstrap").estimate.theta)
    rows = new_rows(fit)
    found = fit.predict(rows, type=type, scale=scale, interval="confidence")["se"]

    def expected(one: Fit) -> np.ndarray:
        values: np.ndarray = one.predict(rows, type=type, scale=scale)["fit"].to_numpy()
        return values

    np.testing.assert_allclose(found, brute_force(fit, expected), rtol=1e-6)


def test_thresholds_move_the_mean_of_an_ordinal_outcome(fit_of: Callable[..., Fit]) -> None:
    fit, new = fit_of("wine"), data("wine").iloc[[0, 3, 20]]
    for type in ("mean_subject", "marginal"):
        found = fit.predict(new, type=type, interval="confidence")["se"]

        def mean(one: Fit, type: str = type) -> np.ndarray:
            values: np.ndarray = one.predict(new, type=type)["fit"].to_numpy()
            return values

        np.testing.assert_allclose(found, brute_force(fit, mean), rtol=2e-3)


def test_several_equal_starts_are_known_as_one(fits: Callable[[str, str], Fit]) -> None:
    fit = fits("neural", "hessian")
    one = at_theta(fit, fit.estimate.theta)
    same = (Member(fit.estimate.model, fit.estimate.theta),)
    two = replace(fit, estimate=replace(fit.estimate, others=same))
    for type, scale in PREDICTIONS:
        options = {"type": type, "scale": scale, "interval": "confidence"}
        tables = [each.predict(new_rows(fit), **options) for each in (one, two)]
        np.testing.assert_allclose(*tables, rtol=1e-8)


# -- the random part -----------------------------------------------------------------------------


def test_standard_deviations_over_time_are_those_of_the_components(
    kind: str, fits: Callable[[str, str], Fit]
) -> None:
    fit = fits("classical", kind)
    intercept = fit.var_corr()["se_working"].iloc[0]
    profile = fit.random_profile([0.0]).table
    assert profile["se_log_sd"][0] == pytest.approx(intercept, rel=1e-6)
    log_sd = brute_force(fit, lambda one: np.log(one.var_corr()["sdcor"].to_numpy()[[0, 1, 3]]))
    np.testing.assert_allclose(
        fit.var_corr()["se_working"].to_numpy()[[0, 1, 3]], log_sd, rtol=1e-5
    )


def test_an_intraclass_correlation_can_have_one_too(
    kind: str, fits: Callable[[str, str], Fit]
) -> None:
    fit = fits("counts", kind)
    assert fit.information is not None

    def icc(theta: Theta) -> Tensor:
        v = variances(fit.estimate, theta, "lognormal")
        return (v[1] / (v[1] + v[2]))[None]

    spread = uncertainty(fit.estimate, fit.information).of(icc)
    assert float(spread.value) == pytest.approx(fit.icc()["adjusted"])
    error = brute_force(fit, lambda one: np.array([one.icc()["adjusted"]]))
    np.testing.assert_allclose(spread.se, error, rtol=1e-2)


def test_what_is_held_at_a_boundary_has_no_error_and_spoils_no_other(singular: Fit) -> None:
    missing = singular.var_corr()["se_working"].isna()
    assert missing.to_list() == [False, True, False]
    assert singular.std_errors().notna().all()
    new = pd.DataFrame({"t": [0.0, 3.0], "id": 2})
    for type, scale in PREDICTIONS:
        table = singular.predict(new, type=type, scale=scale, interval="confidence")
        assert (table["se"] > 0).all()


# -- values of theta, files, refusals ------------------------------------------------------------


def test_imputations_draw_theta_from_what_is_known_of_it(
    kind: str, fits: Callable[[str, str], Fit]
) -> None:
    fit, m = fits("classical", kind), 4000
    assert fit.information is not None
    known = uncertainty(fit.estimate, fit.information)
    drawn = known.draw(m, torch.Generator().manual_seed(2))
    betas = torch.stack([theta["beta"] for theta in drawn]).numpy()
    exact = known.of(lambda theta: theta["beta"]).se.numpy()
    if isinstance(known, Draws):  # the resamples as a population
        exact = exact * np.sqrt((RESAMPLES - 1) / RESAMPLES)
    np.testing.assert_allclose(betas.std(0), exact, rtol=4 / np.sqrt(2 * m))


@pytest.mark.parametrize("model", ["classical", "network"])
def test_a_file_keeps_what_is_known(
    model: str, kind: str, fits: Callable[[str, str], Fit], tmp_path: Path
) -> None:
    fit = fits(model, kind)
    fit.save(tmp_path / "fit")
    again = dgmm.load(tmp_path / "fit")
    for type, scale in PREDICTIONS:
        options = {"type": type, "scale": scale, "interval": "confidence"}
        tables = [each.predict(new_rows(fit), **options) for each in (fit, again)]
        np.testing.assert_allclose(*tables, rtol=1e-8)


def test_percentiles_are_those_of_the_draws(fits: Callable[[str, str], Fit]) -> None:
    fit = fits("network", "bootstrap")
    assert fit.information is not None
    known = uncertainty(fit.estimate, fit.information)
    assert isinstance(known, Draws)
    found = known.interval(lambda theta: theta["beta"], 0.8, percentiles=True)
    p = len(fit.fixef())
    np.testing.assert_allclose(found.T, np.quantile(known.table[:, :p], [0.1, 0.9], axis=0))
    plain = uncertainty(fit.estimate, replace(fit.information, resampled=None))
    with pytest.raises(ValueError, match="percentiles need draws"):
        plain.interval(lambda theta: theta["beta"], 0.8, percentiles=True)


def test_without_an_invertible_information_there_are_no_intervals(
    fits: Callable[[str, str], Fit],
) -> None:
    fit = fits("counts", "hessian")
    assert fit.information is not None
    none = torch.full_like(fit.information.vcov, torch.nan)
    broken = replace(
        fit, information=replace(fit.information, vcov=none, messages=("not definite",))
    )
    for call in (
        lambda: broken.effects("x"),
        lambda: broken.predict(interval="confidence"),
        lambda: broken.slopes("x"),
    ):
        with pytest.raises(ValueError, match="no standard errors: not definite"):
            call()


def test_no_other_room_reads_a_covariance_of_theta() -> None:
    """Where the matrix is not read, no second delta method can be written.

    The estimators of a panel have covariances of their own, which are none of theta.
    """
    package = Path(dgmm.__file__).parent
    makers = {"inference/satterthwaite.py", "inference/resampling.py", "inference/reported.py"}
    makers |= {"multivariate/views.py"}  # hands it on, in another order
    makers |= {"inference/panel_tests.py", "inference/within.py"}
    found = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        if re.search(
            r"(?<!Fit)(?<!tables)\.(vcov|inverse_hessian)\b(?!\()", file.read_text(encoding="utf-8")
        )
        and file.parent.name != "information"
    }
    assert found <= makers
