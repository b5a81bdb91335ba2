"""Fit: identities between its methods, row order, update, singular fits."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import FAMILIES, FORMULAS, data, no_slopes
from scipy import stats

from dgmm import Fit, mixed_model
from dgmm.families import OwnFamily

SLEEP = FORMULAS["sleepstudy"]


# -- likelihood ------------------------------------------------------------------------------------


def test_information_criteria_are_those_of_lme4(sleepstudy: Fit) -> None:
    # AIC() and BIC() of lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = FALSE)
    assert sleepstudy.deviance() == pytest.approx(1751.9393, abs=1e-4)
    assert sleepstudy.aic() == pytest.approx(1763.9393, abs=1e-4)
    assert sleepstudy.bic() == pytest.approx(1783.0971, abs=1e-4)
    assert sleepstudy.bic(n="subjects") == pytest.approx(1751.9393 + 6 * np.log(18), abs=1e-4)
    assert sleepstudy.df_residual() == 180 - 6
    with pytest.raises(ValueError, match="'observations' or 'subjects', not 'rows'"):
        sleepstudy.bic(n="rows")


def test_a_log_likelihood_carries_its_numerical_error(
    sleepstudy: Fit, cbpp: Fit, cbpp_vae: Fit
) -> None:
    exact, nodes, drawn = (fit.loglik() for fit in (sleepstudy, cbpp, cbpp_vae))
    assert exact.mc_error == 0.0
    assert 0 < nodes.mc_error < 1e-3
    assert abs(drawn.value - nodes.value) < 4 * drawn.mc_error + 0.01  # 0.01: its own theta
    assert ["Monte Carlo" in str(one) for one in (exact, nodes, drawn)] == [False, False, True]


def test_parameters_are_counted(sleepstudy: Fit, cbpp: Fit, singular: Fit) -> None:
    assert sleepstudy.df() == 2 + 3 + 1
    assert cbpp.df() == 4 + 1
    assert singular.df() == 2 + 2 + 1


def test_effective_degrees_of_freedom_lie_between_reported_and_all(deep: Fit) -> None:
    assert 3 < deep.df() < deep.estimate.model.packing.size
    assert deep.information is not None
    assert (
        sum(value for name, value in deep.information.effective.items() if name != "total")
        < deep.df()
    )


# -- fixed part ------------------------------------------------------------------------------------


def test_standard_errors_and_the_wald_table(any_fit: Fit) -> None:
    V, table = any_fit.vcov(), any_fit.coefficients()
    np.testing.assert_allclose(V, V.T, rtol=1e-12)
    assert np.linalg.eigvalsh(V.to_numpy())[0] > 0
    np.testing.assert_allclose(any_fit.std_errors() ** 2, np.diag(V), rtol=1e-12)
    pd.testing.assert_series_equal(table["Estimate"], any_fit.fixef())
    np.testing.assert_allclose(table["z value"] * table["Std. Error"], table["Estimate"])
    np.testing.assert_allclose(
        table["Pr(>|z|)"], 2 * stats.norm.sf(table["z value"].abs()), rtol=1e-12
    )
    assert list(V.index) == list(V.columns) == list(any_fit.fixef().index)


def test_vcov_kinds(sleepstudy: Fit, sleepstudy_reml: Fit, cbpp: Fit) -> None:
    pd.testing.assert_frame_equal(sleepstudy.vcov(), sleepstudy.vcov(kind="hessian"))
    pd.testing.assert_frame_equal(sleepstudy_reml.vcov(), sleepstudy_reml.vcov(kind="gls"))
    with pytest.raises(ValueError, match="'default', 'hessian', 'gls' or 'sandwich', not 'robust'"):
        sleepstudy.vcov(kind="robust")
    with pytest.raises(ValueError, match="REML, or se=None.*kind='gls'"):
        sleepstudy_reml.vcov(kind="hessian")
    with pytest.raises(ValueError, match="kind='hessian'"):
        cbpp.vcov(kind="gls")


def test_a_sandwich_is_not_called_a_hessian() -> None:
    fit = mixed_model(FORMULAS["orthodont"], data("orthodont"), se="sandwich", verbose=0)
    plain = mixed_model(FORMULAS["orthodont"], data("orthodont"), verbose=0)
    assert not np.allclose(fit.std_errors(), plain.std_errors(), rtol=1e-3)
    np.testing.assert_allclose(fit.std_errors(kind="hessian"), plain.std_errors(), rtol=1e-8)
    pd.testing.assert_frame_equal(plain.vcov(kind="sandwich"), fit.vcov(), rtol=1e-8)


def test_no_standard_errors_on_request() -> None:
    frame, formula = data("cbpp"), FORMULAS["cbpp"]
    fit = mixed_model(formula, frame, family="binomial", se=None, verbose=0)
    assert fit.std_errors().isna().all()
    assert fit.confint().isna().all(axis=None)
    assert "NA" in str(fit.summary())


# -- random part -----------------------------------------------------------------------------------


def test_sigma_is_the_residual_row(sleepstudy: Fit, deep: Fit, cbpp: Fit) -> None:
    for fit in (sleepstudy, deep):
        residual = fit.var_corr().set_index("group").loc["Residual", "sdcor"]
        assert fit.sigma() == pytest.approx(residual, rel=1e-12)
    assert cbpp.sigma() == 1.0
    assert "Residual" not in set(cbpp.var_corr()["group"])


@pytest.mark.parametrize("name", ["sleepstudy", "cbpp"])
def test_coef_is_fixed_plus_random(name: str, fit_of: Callable[..., Fit]) -> None:
    fit = fit_of(name)
    random, total = fit.ranef(), fit.coef()
    assert len(random) == len(total) == fit.n_groups()
    for column in total:
        expected = fit.fixef()[column] + random.get(column, 0.0)
        np.testing.assert_allclose(total[column], expected, rtol=1e-12)


def test_a_random_slope_without_a_fixed_one_has_its_own_column() -> None:
    frame = data("sleepstudy")
    fit = mixed_model("Reaction ~ 1 + (Days | Subject)", frame, verbose=0)
    assert list(fit.coef().columns) == ["(Intercept)", "Days"]
    np.testing.assert_allclose(fit.coef()["Days"], fit.ranef()["Days"])


def test_conditional_standard_deviations(sleepstudy: Fit) -> None:
    with_sd = sleepstudy.ranef(cond_var=True)
    pd.testing.assert_frame_equal(with_sd[["(Intercept)", "Days"]], sleepstudy.ranef())
    done = sleepstudy.var_corr()["vcov"].to_numpy()
    D = np.array([[done[0], done[2]], [done[2], done[1]]])
    T = np.column_stack([np.ones(10), np.arange(10)])
    posterior = np.linalg.inv(np.linalg.inv(D) + T.T @ T / sleepstudy.sigma() ** 2)
    expected = np.tile(np.sqrt(np.diag(posterior)), (18, 1))
    np.testing.assert_allclose(with_sd[["sd((Intercept))", "sd(Days)"]], expected, rtol=1e-8)


def test_best_linear_predictors(sleepstudy: Fit) -> None:
    frame, done = data("sleepstudy"), sleepstudy.var_corr()["vcov"].to_numpy()
    D = np.array([[done[0], done[2]], [done[2], done[1]]])
    for subject, own in frame.groupby("Subject", observed=True):
        T = np.column_stack([np.ones(len(own)), own["Days"]])
        V = T @ D @ T.T + sleepstudy.sigma() ** 2 * np.eye(len(own))
        b = D @ T.T @ np.linalg.solve(V, own["Reaction"] - T @ sleepstudy.fixef())
        np.testing.assert_allclose(sleepstudy.ranef().loc[subject], b, rtol=1e-8, atol=1e-8)


def test_a_neural_random_part_has_coordinates_and_no_coef(deep: Fit) -> None:
    assert list(deep.ranef().columns) == ["b1", "b2", "b3"]
    with pytest.raises(ValueError, match="neural.*predict"):
        deep.coef()
    profile = deep.random_profile([0, 4, 9])
    np.testing.assert_allclose(profile.table["Days"], [0, 4, 9])
    np.testing.assert_allclose(np.diag(profile.correlation), 1.0)
    assert profile.table["sd"].between(5, 120).all()


# -- intervals -------------------------------------------------------------------------------------


def test_intervals_contain_the_estimates(any_fit: Fit) -> None:
    bounds = any_fit.confint()
    components = any_fit.var_corr()["sdcor"].to_numpy()
    estimates = np.concatenate([any_fit.fixef(), components])
    assert (bounds["2.5 %"].to_numpy() < estimates).all()
    assert (bounds["97.5 %"].to_numpy() > estimates).all()
    wider = any_fit.confint(0.99)
    assert list(wider.columns) == ["0.5 %", "99.5 %"]
    assert (wider["0.5 %"].to_numpy() < bounds["2.5 %"].to_numpy()).all()


def test_intervals_of_coefficients_are_symmetric_and_of_components_positive(
    sleepstudy: Fit,
) -> None:
    bounds = sleepstudy.confint()
    z = stats.norm.ppf(0.975)
    half = (bounds["97.5 %"] - bounds["2.5 %"]) / 2
    np.testing.assert_allclose(half[["(Intercept)", "Days"]], z * sleepstudy.std_errors())
    names = ["sd_(Intercept)|Subject", "sd_Days|Subject", "sigma"]
    assert (bounds.loc[names] > 0).all(axis=None)
    assert bounds.loc["cor_Days.(Intercept)|Subject"].abs().lt(1).all()
    table = sleepstudy.var_corr()
    middle = np.sqrt(bounds.loc[names].prod(axis=1))
    np.testing.assert_allclose(middle, table[table["name2"].isna()]["sdcor"], rtol=1e-10)


def test_a_level_is_a_probability(sleepstudy: Fit) -> None:
    with pytest.raises(ValueError, match="between 0 and 1, not 95"):
        sleepstudy.confint(95)


# -- rows ------------------------------------------------------------------------------------------


def test_residuals_of_successes_are_those_of_proportions(cbpp: Fit) -> None:
    frame = data("cbpp")
    total = cbpp.fitted() + cbpp.residuals()
    np.testing.assert_allclose(total, frame["incidence"] / frame["size"], rtol=1e-10, atol=1e-12)


def test_pearson_residuals(sleepstudy: Fit, cbpp: Fit) -> None:
    scaled = sleepstudy.residuals() / sleepstudy.sigma()
    np.testing.assert_allclose(sleepstudy.residuals("pearson"), scaled, rtol=1e-12)
    size = data("cbpp")["size"]
    mu = 1 / (1 + np.exp(-cbpp.fitted("link")))  # the conditional variance at E(eta | y)
    np.testing.assert_allclose(
        cbpp.residuals("pearson"), cbpp.residuals() / np.sqrt(mu * (1 - mu) / size), rtol=1e-10
    )
    with pytest.raises(ValueError, match="'student' is not one of response, pearson"):
        sleepstudy.residuals("student")


def test_fitted_on_the_link_scale(cbpp: Fit, sleepstudy: Fit) -> None:
    np.testing.assert_allclose(sleepstudy.fitted("link"), sleepstudy.fitted(), rtol=1e-12)
    link = cbpp.fitted("link")
    # E g^-1(eta) is not g^-1(E eta), yet close for one effect with a small posterior variance
    assert np.abs(1 / (1 + np.exp(-link)) - cbpp.fitted()).max() < 0.02
    assert not np.allclose(1 / (1 + np.exp(-link)), cbpp.fitted(), rtol=1e-6)


@pytest.mark.parametrize("name", ["sleepstudy", "cbpp"])
def test_results_follow_the_rows_of_the_users_frame(name: str, fit_of: Callable[..., Fit]) -> None:
    frame = data(name)
    mixed = frame.sample(frac=1, random_state=4)
    mixed.index = [f"row {label}" for label in mixed.index]
    fit = mixed_model(FORMULAS[name], mixed, family=FAMILIES.get(name, "gaussian"), verbose=0)
    expected = fit_of(name)
    assert list(fit.fitted().index) == list(mixed.index)
    order = [int(label.removeprefix("row ")) for label in mixed.index]
    np.testing.assert_allclose(fit.fitted(), expected.fitted().loc[order], rtol=1e-9)
    np.testing.assert_allclose(fit.residuals(), expected.residuals().loc[order], atol=1e-8)
    np.testing.assert_allclose(fit.predict()["fit"], fit.fitted(), rtol=1e-12)
    assert list(fit.predict().index) == list(mixed.index)
    assert list(fit.simulate(1, seed=2).index) == list(mixed.index)


def test_repeated_row_labels_stay_in_place(sleepstudy: Fit) -> None:
    frame = data("sleepstudy").set_axis([0] * 180)
    fit = mixed_model(SLEEP, frame, verbose=0)
    np.testing.assert_allclose(fit.fitted(), sleepstudy.fitted(), rtol=1e-10)
    np.testing.assert_allclose(fit.predict()["fit"], sleepstudy.fitted(), rtol=1e-10)


# -- simulation ------------------------------------------------------------------------------------


def test_simulated_outcomes_have_the_moments_of_the_model(sleepstudy: Fit) -> None:
    draws = sleepstudy.simulate(400, seed=5)
    assert draws.shape == (180, 400)
    assert list(draws.columns[:2]) == ["sim_1", "sim_2"]
    frame, vc = data("sleepstudy"), sleepstudy.var_corr()["vcov"].to_numpy()
    mean = sleepstudy.fixef()["(Intercept)"] + sleepstudy.fixef()["Days"] * frame["Days"]
    variance = vc[0] + vc[1] * frame["Days"] ** 2 + 2 * vc[2] * frame["Days"] + vc[3]
    score = (draws.mean(axis=1) - mean) / np.sqrt(variance / 400)
    assert score.abs().max() < 4.5  # 180 correlated normal scores
    spread = draws.to_numpy().std(axis=1, ddof=1) ** 2 / variance
    assert np.abs(spread - 1).max() < 4.5 * np.sqrt(2 / 399)


def test_simulation_is_seeded_and_can_keep_the_subjects(sleepstudy: Fit) -> None:
    pd.testing.assert_frame_equal(sleepstudy.simulate(3, seed=1), sleepstudy.simulate(3, seed=1))
    assert not sleepstudy.simulate(1, seed=1).equals(sleepstudy.simulate(1, seed=2))
    kept = sleepstudy.simulate(300, seed=1, condition_on_data=True)
    error = (kept.mean(axis=1) - sleepstudy.fitted()) / (sleepstudy.sigma() / np.sqrt(300))
    assert error.abs().max() < 4.5
    with pytest.raises(ValueError, match="at least 1, not 0"):
        sleepstudy.simulate(0, seed=1)


def test_simulated_counts_stay_within_their_trials(cbpp: Fit) -> None:
    draws = cbpp.simulate(50, seed=3)
    assert (draws >= 0).all(axis=None)
    assert draws.le(data("cbpp")["size"], axis=0).all(axis=None)
    assert (draws == draws.round()).all(axis=None)


# -- update ----------------------------------------------------------------------------------------


def test_update_of_the_formula(sleepstudy: Fit) -> None:
    frame = data("sleepstudy")
    fit = sleepstudy.update(". ~ . + I(Days**2)", frame)
    direct = mixed_model("Reaction ~ Days + I(Days**2) + (Days | Subject)", frame, verbose=0)
    assert float(fit.loglik()) == pytest.approx(float(direct.loglik()), abs=1e-9)
    assert fit.fixef().index[-1] == "I(Days ** 2)"
    back = fit.update(". ~ . - I(Days**2)", frame)
    assert back.loglik().value == pytest.approx(sleepstudy.loglik().value, abs=1e-10)


def test_update_keeps_the_other_arguments(cbpp: Fit, sleepstudy: Fit) -> None:
    frame = data("cbpp")
    fit = cbpp.update(". ~ . - period", frame)
    assert replace(fit.call, formula=cbpp.formula) == cbpp.call
    assert list(fit.fixef().index) == ["(Intercept)"]
    probit = cbpp.update(data=frame, link="probit")
    assert probit.call.link == "probit"
    reml = sleepstudy.update(data=data("sleepstudy"), method="reml")
    assert float(reml.loglik()) == pytest.approx(-871.814136, abs=1e-5)
    weighted = data("sleepstudy").assign(w=np.tile([1.0, 3.0], 90))
    first = mixed_model(SLEEP, weighted, weights="w", verbose=0)
    assert float(first.update(data=weighted).loglik()) == pytest.approx(
        float(first.loglik()), abs=1e-9
    )


def test_update_takes_the_frame_of_the_fit(sleepstudy: Fit) -> None:
    reml = sleepstudy.update(method="reml")
    assert float(reml.loglik()) == pytest.approx(-871.814136, abs=1e-5)
    assert reml.memory.frame is sleepstudy.memory.frame
    again = reml.update(". ~ . - Days", method="auto").update(sleepstudy.formula)
    assert again.call == sleepstudy.call
    assert float(again.loglik()) == pytest.approx(float(sleepstudy.loglik()), abs=1e-10)


def test_an_own_family_is_kept_by_update() -> None:
    class Twice(OwnFamily):
        name = "twice"
        links = ("log",)

        def log_density(self, data: Any, eta: Any, extra: Any) -> Any:
            return data.weights * (data.y * eta - torch.exp(eta) - torch.lgamma(data.y + 1))

    fit = mixed_model("y ~ lbase + (1 | subject)", data("epil"), family=Twice(), verbose=0)
    known = mixed_model("y ~ (1 | subject)", data("epil"), family="poisson", verbose=0)
    changed = fit.update(". ~ . - lbase")
    assert isinstance(changed.estimate.model.family, Twice)
    assert float(changed.loglik()) == pytest.approx(float(known.loglik()), abs=1e-4)


def test_another_family_has_its_own_link(epil: Fit) -> None:
    linear = epil.update("log(y + 1) ~ .", family="gaussian")
    assert linear.estimate.model.family.link.name == "identity"


def dense_log_density(fit: Fit, weights: np.ndarray, offset: np.ndarray) -> float:
    """log N(y; offset + X beta, T D T' + sigma^2 W^-1) of sleepstudy, subject by subject."""
    frame, sd = data("sleepstudy"), fit.var_corr()["sdcor"].to_numpy()
    D = np.diag(sd[:2]) @ np.array([[1, sd[2]], [sd[2], 1]]) @ np.diag(sd[:2])
    total = 0.0
    for _, rows in frame.groupby("Subject", observed=True):
        at = rows.index.to_numpy()
        X = np.column_stack([np.ones(len(at)), rows["Days"]])
        mean = offset[at] + X @ fit.fixef().to_numpy()
        V = X @ D @ X.T + np.diag(fit.sigma() ** 2 / weights[at])
        total += stats.multivariate_normal(mean, V).logpdf(rows["Reaction"])
    return total


def test_update_keeps_arrays_of_weights_and_offsets() -> None:
    frame, rng = data("sleepstudy"), np.random.default_rng(2)
    weights, offset = rng.uniform(0.5, 3, 180), rng.normal(0, 20, 180)
    first = mixed_model(SLEEP, frame, weights=weights, offset=list(offset), verbose=0)
    reml = first.update(method="reml")
    again = reml.update(method="auto")
    assert again.call == first.call
    for fit in (first, again):
        expected = dense_log_density(fit, weights, offset)
        assert float(fit.loglik()) == pytest.approx(expected, abs=1e-8)
    named = mixed_model(
        SLEEP, frame.assign(w=weights, o=offset), weights="w", offset="o", verbose=0
    )
    assert float(again.loglik()) == pytest.approx(float(named.loglik()), abs=1e-9)
    assert float(reml.loglik()) == pytest.approx(
        float(named.update(method="reml").loglik()), abs=1e-9
    )
    plain = first.update(weights=None, offset=None)
    assert float(plain.loglik()) == pytest.approx(-875.969672, abs=1e-5)
    with pytest.raises(ValueError, match="weights= was one value per row of the frame of the fit"):
        first.update(data=frame.head(90))
    with pytest.raises(ValueError, match=r"weights has shape \(180,\); the data have 90 rows"):
        first.update(data=frame.head(90), weights=weights, offset="Days")


def test_a_call_does_not_change_with_the_arrays_of_the_user() -> None:
    weights = np.tile([1.0, 3.0], 90)
    fit = mixed_model(SLEEP, data("sleepstudy"), weights=weights, verbose=0)
    weights[:] = 1.0
    assert float(fit.update().loglik()) == pytest.approx(float(fit.loglik()), abs=1e-9)


def test_update_refuses_an_unknown_argument(sleepstudy: Fit) -> None:
    with pytest.raises(TypeError, match="no argument methd=; did you mean method="):
        sleepstudy.update(methd="reml")
    with pytest.raises(ValueError, match="control has no option 'drws'; did you mean 'draws'"):
        sleepstudy.update(control={"drws": 3})


# -- copies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda fit: pickle.loads(pickle.dumps(fit))])
def test_a_copied_fit_is_the_same_fit(
    copied: Callable[[Fit], Fit], any_fit: Fit, singular: Fit
) -> None:
    for fit in (any_fit, singular):
        again = copied(fit)
        assert again is not fit
        assert again.call == fit.call
        assert str(again.summary()) == str(fit.summary())
        pd.testing.assert_series_equal(again.fitted(), fit.fitted(), check_exact=True)
        pd.testing.assert_frame_equal(
            again.predict(interval="confidence"), fit.predict(interval="confidence"), rtol=1e-12
        )


def test_a_copied_fit_can_be_fitted_again(sleepstudy: Fit) -> None:
    again = pickle.loads(pickle.dumps(sleepstudy))
    y = data("sleepstudy")["Reaction"]
    assert float(again.refit(y).loglik()) == float(sleepstudy.refit(y).loglik())
    assert float(again.update(method="reml").loglik()) == pytest.approx(-871.814136, abs=1e-5)


def test_a_fit_has_six_fields() -> None:
    names = ["call", "memory", "estimate", "information", "messages", "versions"]
    assert [one.name for one in fields(Fit)] == names


# -- singular fits ---------------------------------------------------------------------------------


def test_a_singular_fit_says_so(singular: Fit, sleepstudy: Fit) -> None:
    assert singular.is_singular()
    assert singular.boundary() == ("t",)
    assert not sleepstudy.is_singular()
    assert sleepstudy.boundary() == ()
    text = str(singular.summary())
    assert "boundary (singular) fit" in text
    assert "`t`" in text
    assert "boundary" not in str(sleepstudy.summary())


def test_a_singular_fit_stays_usable(singular: Fit) -> None:
    assert singular.std_errors().notna().all()
    bounds = singular.confint()
    assert bounds.loc["sd_t|id"].isna().all()
    assert bounds.drop("sd_t|id").notna().all(axis=None)
    assert singular.fixef()["t"] == pytest.approx(0.5, abs=1e-8)
    assert singular.var_corr().set_index("name1").loc["t", "sdcor"] < 1e-4
    assert singular.ranef()["t"].abs().max() < 1e-6


def test_the_advice_does_not_propose_what_the_formula_has(singular: Fit) -> None:
    assert "||" not in " ".join(singular.messages)
    correlated = mixed_model("y ~ t + (t | id)", no_slopes(), verbose=0)
    assert "|| for no correlations" in " ".join(correlated.messages)


def test_a_correlation_with_nothing_is_missing() -> None:
    table = mixed_model("y ~ t + (t | id)", no_slopes(), verbose=0).var_corr()
    pair = table[table["name2"].notna()].iloc[0]
    assert np.isnan(pair["sdcor"])  # lme4 prints NaN


@pytest.mark.parametrize(("family", "seed"), [("bernoulli", 0), ("bernoulli", 1), ("poisson", 3)])
@pytest.mark.parametrize("term", ["(t | id)", "(t || id)"])
def test_a_glmm_without_any_random_effect(family: str, seed: int, term: str) -> None:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"id": np.repeat(np.arange(40), 6), "t": np.tile(np.arange(6) / 6, 40)})
    eta = -0.2 + 0.5 * frame["t"]
    if family == "bernoulli":
        frame["y"] = (rng.uniform(size=240) < 1 / (1 + np.exp(-eta))).astype(float)
    else:
        frame["y"] = rng.poisson(np.exp(eta)).astype(float)
    fit = mixed_model(f"y ~ t + {term}", frame, family=family, verbose=0)
    inner = mixed_model("y ~ t + (1 | id)", frame, family=family, verbose=0)
    assert float(fit.loglik()) > float(inner.loglik()) - 1e-3  # the larger model
    assert fit.estimate.converged
    assert fit.std_errors().notna().all()


def test_standard_errors_that_cannot_be_calculated_are_a_sentence(monkeypatch) -> None:
    def lost(*_: object) -> None:
        raise FloatingPointError("the modes of the random effects are not found")

    monkeypatch.setattr("dgmm.fit.information", lost)
    frame = data("sleepstudy")
    with pytest.raises(ValueError, match=r"standard errors cannot .* \(the modes .*\).* se=None"):
        mixed_model("Reaction ~ Days + (1 | Subject)", frame, verbose=0)
    assert mixed_model("Reaction ~ Days + (1 | Subject)", frame, se=None, verbose=0).nobs() == 180


def test_what_linear_algebra_says_of_its_matrices_is_said_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def singular(*_: Any) -> Any:
        return torch.linalg.cholesky(-torch.eye(2).expand(3, 2, 2))

    monkeypatch.setattr("dgmm.fit.estimate", singular)
    with pytest.raises(ValueError, match="a covariance matrix is singular in double") as caught:
        mixed_model(SLEEP, data("sleepstudy"), verbose=0)
    assert "linalg" not in str(caught.value)
    assert "Batch" not in str(caught.value)
