"""Likelihoods of restricted covariances by those of free ones: dense densities and identities."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from toys import build, linear_gaussian, occasions_frame, random_theta, subject_rows

import dgmm
from dgmm.likelihood import Likelihood
from dgmm.likelihood.structured import Within, choose, wider
from dgmm.model import Model
from dgmm.numerics.hessian import central_jacobian
from dgmm.parameters import Theta, part

TERMS = {
    "diag hom": "diag(0 + occasion | id, hom=TRUE)",
    "cs": "cs(0 + occasion | id)",
    "cs hom": "cs(0 + occasion | id, hom=TRUE)",
    "ar1": "ar1(0 + occasion | id)",
    "ar1 het": "ar1(0 + occasion | id, hom=FALSE)",
    "cs line": "cs(1 + t | id)",
    "with an intercept": "(1 | id) + ar1(0 + occasion | id)",
}
DATA = occasions_frame()


def few(n: int = 15) -> pd.DataFrame:
    data = DATA[DATA["id"] < n].reset_index(drop=True)
    data.loc[::7, "y"] = np.nan
    return data


def made(case: str, word: str, **options: bool) -> tuple[Likelihood, Theta]:
    family = "gaussian" if word == "exact" else "poisson"
    outcome = "y" if word == "exact" else "count"
    model, panel = build(f"{outcome} ~ x + {TERMS[case]}", few(), family=family, unit=0.8)
    return choose(model, panel, word, **options), random_theta(model, 2)


@cache
def fitted(terms: str, outcome: str = "y", **options: str) -> dgmm.Fit:
    return dgmm.mixed_model(f"{outcome} ~ x + {terms}", DATA, verbose=0, **options)


# -- the function ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", TERMS)
def test_the_exact_likelihood_is_the_dense_normal_density(case: str) -> None:
    likelihood, theta = made(case, "exact")
    assert isinstance(likelihood, Within)
    mean, covariance, value = linear_gaussian(likelihood.model, theta, likelihood.observed)
    assert likelihood.value(theta) == pytest.approx(value.sum(), abs=1e-9)
    assert np.allclose(likelihood.each(theta).value.numpy(), value, atol=1e-9)
    effects = likelihood.posterior(theta).effects()
    assert np.allclose(effects.mean[0].numpy(), mean, atol=1e-8)
    assert np.allclose(effects.covariance[0].numpy(), covariance, atol=1e-8)


@pytest.mark.parametrize(
    ("case", "word"),
    [*((case, "exact") for case in TERMS), ("cs line", "laplace"), ("ar1", "laplace")],
)
def test_gradients_scores_and_information_are_differences_of_the_value(
    case: str, word: str
) -> None:
    likelihood, theta = made(case, word)
    packing = likelihood.model.packing
    x = packing.pack(theta).numpy()

    def at(vector: np.ndarray) -> Theta:
        return packing.unpack(torch.from_numpy(vector))

    def gradient(vector: np.ndarray) -> np.ndarray:
        return packing.pack(likelihood.value_and_gradient(at(vector))[1]).numpy()

    steps = 1e-4 * np.eye(len(x))
    slope = [(likelihood.value(at(x + h)) - likelihood.value(at(x - h))) / 2e-4 for h in steps]
    assert np.allclose(gradient(x), slope, atol=1e-4)
    scores = likelihood.scores(theta)
    assert np.allclose(scores.sum(0).numpy(), gradient(x), atol=1e-6)
    H = central_jacobian(gradient, x, np.full(len(x), 1e-4)).matrix
    found = likelihood.information(theta, packing).matrix
    assert np.allclose(found, H, atol=2e-3 * np.abs(H).max() if word == "laplace" else 1e-4)


@pytest.mark.parametrize("case", ["cs", "ar1", "diag hom"])
def test_the_restricted_likelihood_integrates_beta_out(case: str) -> None:
    plain, theta = made(case, "exact")
    reml, _ = made(case, "exact", restricted=True)
    assert isinstance(plain, Within)
    at = Within(plain.model, plain.panel, plain.integration, "exact", True)
    beta = at._with_beta(theta)["beta"]
    there = {**theta, "beta": beta}
    assert float(plain.value_and_gradient(there)[1]["beta"].abs().max()) < 1e-8
    p = len(beta)
    # log of the integral of the likelihood over beta of the columns as written
    inner = 0.5 * float(torch.linalg.slogdet(plain.gls_covariance(theta))[1])
    whole = plain.value(there) + inner + 0.5 * p * np.log(2 * np.pi)
    jacobian = float(torch.linalg.slogdet(plain.model.basis)[1])
    assert reml.value(theta) == pytest.approx(whole + jacobian, abs=1e-8)


def test_beside_a_path_the_likelihood_is_the_dense_normal_density() -> None:
    data = few().assign(time=lambda d: d["t"] + 0.3 * d.groupby(["id", "t"]).cumcount())
    text = "y ~ x + cs(0 + occasion | id) + (ou(time) | id)"
    model, panel = build(text, data, unit=0.8)
    likelihood, theta = choose(model, panel, "exact"), random_theta(model, 2)
    rows, total = likelihood.observed.rows, 0.0
    weights = [part(theta, f"latent{i}.") for i in (1, 2)]
    Lambda, (sd, reach) = (
        model.latents[0].loadings(weights[0]),
        model.latents[1].reported(weights[1]),
    )
    for i in range(likelihood.observed.n):
        own = subject_rows(likelihood.observed, i)
        Z, time = rows.T[0][own] @ Lambda, rows.T[1][own]
        V = Z @ Z.T + sd**2 * torch.exp(-(time - time.T).abs() / reach)
        V = V + torch.exp(2 * theta["extra"]) * torch.eye(len(V), dtype=torch.float64)
        mean = rows.X[own] @ model.beta(theta)
        total += float(torch.distributions.MultivariateNormal(mean, V).log_prob(rows.data.y[own]))
    assert likelihood.value(theta) == pytest.approx(total, abs=1e-8)
    packing, x = model.packing, model.packing.pack(theta)
    slope = packing.pack(likelihood.value_and_gradient(theta)[1])
    for j in range(len(x)):
        h = 1e-4 * torch.eye(len(x), dtype=torch.float64)[j]
        ends = [likelihood.value(packing.unpack(x + step)) for step in (h, -h)]
        assert float(slope[j]) == pytest.approx((ends[0] - ends[1]) / 2e-4, abs=1e-4)


def test_a_model_with_free_covariances_keeps_its_own_likelihood() -> None:
    model, panel = build("y ~ x + diag(t | id) + (1 | item)", few())
    assert wider(model) is model
    assert not isinstance(choose(model, panel), Within)


# -- identities ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_two_columns_with_one_correlation_are_a_free_covariance(method: str) -> None:
    one, two = fitted("cs(1 + t | id)", method=method), fitted("(1 + t | id)", method=method)
    assert one.loglik().value == pytest.approx(two.loglik().value, abs=1e-8)
    assert one.loglik().df == two.loglik().df
    np.testing.assert_allclose(one.fixef(), two.fixef(), atol=1e-6)
    np.testing.assert_allclose(one.std_errors(), two.std_errors(), rtol=1e-5)
    np.testing.assert_allclose(one.ranef(), two.ranef(), atol=1e-4)
    np.testing.assert_allclose(one.var_corr()["sdcor"], two.var_corr()["sdcor"], rtol=1e-4)
    np.testing.assert_allclose(
        one.confint().drop("rho_cs(1 + t)|id"),
        two.confint().drop("cor_t.(Intercept)|id"),
        rtol=1e-4,
    )


def test_profiles_of_two_columns_are_those_of_a_free_covariance() -> None:
    one, two = fitted("cs(1 + t | id)"), fitted("(1 + t | id)")
    names = ["x", "sd_(Intercept)|id", "sd_t|id", "sigma"]
    mine = one.confint(method="profile", parm=[*names, "rho_cs(1 + t)|id"]).to_numpy()
    theirs = two.confint(method="profile", parm=[*names, "cor_t.(Intercept)|id"]).to_numpy()
    np.testing.assert_allclose(mine, theirs, rtol=1e-3)


def test_satterthwaite_degrees_of_freedom_are_those_of_a_free_covariance() -> None:
    one, two = (fitted(t, method="reml") for t in ("cs(1 + t | id)", "(1 + t | id)"))
    mine, theirs = (fit.coefficients(df="satterthwaite") for fit in (one, two))
    np.testing.assert_allclose(mine["df"], theirs["df"], rtol=1e-3)


@pytest.mark.parametrize("family", ["gaussian", "poisson"])
def test_one_variance_for_all_levels_is_that_of_levels_within_groups(family: str) -> None:
    outcome = "y" if family == "gaussian" else "count"
    word = {} if family == "gaussian" else {"likelihood": "laplace"}
    one = fitted("diag(0 + occasion | id, hom=TRUE)", outcome, family=family, **word)
    two = fitted("(1 | id:occasion)", outcome, family=family, **word)
    assert one.loglik().value == pytest.approx(two.loglik().value, abs=1e-6)
    np.testing.assert_allclose(one.fixef(), two.fixef(), atol=1e-5)
    np.testing.assert_allclose(one.sigma(), two.sigma(), rtol=1e-5)
    sd = [fit.var_corr()["sdcor"].iloc[0] for fit in (one, two)]
    assert sd[0] == pytest.approx(sd[1], rel=1e-4)


def test_compound_symmetry_is_an_intercept_and_levels_within_it() -> None:
    one = fitted("cs(0 + occasion | id, hom=TRUE)")
    two = fitted("(1 | id) + (1 | id:occasion)")
    assert one.loglik().value == pytest.approx(two.loglik().value, abs=1e-7)
    between, within, sigma = two.var_corr().set_index("group")["vcov"][
        ["id", "id:occasion", "Residual"]
    ]
    sd, rho = one.var_corr()["sdcor"].iloc[:2]
    assert sd**2 == pytest.approx(between + within, rel=1e-4)
    assert rho == pytest.approx(between / (between + within), rel=1e-4)
    assert one.sigma() ** 2 == pytest.approx(sigma, rel=1e-4)
    three = fitted("(1 | id) + diag(0 + occasion | id, hom=TRUE)")
    assert three.loglik().value == pytest.approx(one.loglik().value, abs=1e-7)


def test_quadrature_of_two_columns_grows_as_with_a_free_covariance() -> None:
    one, two = (fitted(t, "count", family="poisson") for t in ("cs(1 + t | id)", "(1 + t | id)"))
    assert one.estimate.likelihood.word == two.estimate.likelihood.word == "quadrature"
    assert one.loglik().value == pytest.approx(two.loglik().value, abs=1e-3)
    np.testing.assert_allclose(one.std_errors(), two.std_errors(), rtol=1e-3)


# -- comparisons -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("small", "big", "df"),
    [
        ("diag(0 + occasion | id)", "cs(0 + occasion | id)", 1),
        ("cs(0 + occasion | id)", "(0 + occasion | id)", 5),
        ("cs(0 + occasion | id, hom=TRUE)", "cs(0 + occasion | id)", 3),
        ("diag(0 + occasion | id, hom=TRUE)", "diag(0 + occasion | id)", 3),
        ("diag(0 + occasion | id, hom=TRUE)", "ar1(0 + occasion | id)", 1),
        ("ar1(0 + occasion | id)", "(0 + occasion | id)", 8),
    ],
)
def test_restrictions_are_tested_by_the_parameters_they_save(small: str, big: str, df: int) -> None:
    one, two = fitted(small), fitted(big)
    table = dgmm.anova(one, two).table.iloc[1]
    ratio = 2 * (two.loglik().value - one.loglik().value)
    assert table["null"] == f"chi2({df})"
    assert table["Pr(>Chisq)"] == pytest.approx(stats.chi2.sf(ratio, df), abs=1e-9)


def test_structures_that_do_not_hold_each_other_are_not_compared() -> None:
    with pytest.raises(ValueError, match="neither is nested"):
        dgmm.anova(fitted("cs(0 + occasion | id, hom=TRUE)"), fitted("ar1(0 + occasion | id)"))
    with pytest.raises(ValueError, match="is not nested"):
        dgmm.anova(
            fitted("cs(0 + occasion | id, hom=TRUE)"), fitted("ar1(0 + occasion | id, hom=FALSE)")
        )


def test_a_restricted_part_is_dropped_as_a_whole() -> None:
    fit = fitted("diag(0 + occasion | id, hom=TRUE) + (1 | item)")
    table, without = fit.ranova().table, fitted("(1 | item)")
    row = table.loc["diag(0 + occasion | id, hom=TRUE) | id"]
    ratio = 2 * (fit.loglik().value - without.loglik().value)
    assert row["LRT"] == pytest.approx(ratio, abs=1e-6)
    assert row["Pr(>Chisq)"] == pytest.approx(0.5 * stats.chi2.sf(ratio, 1), abs=1e-12)
    alone = fitted("cs(0 + occasion | id)").ranova().table
    assert alone.loc["cs(0 + occasion | id) | id", "npar"] == 3
    assert np.isnan(alone.loc["cs(0 + occasion | id) | id", "Pr(>Chisq)"])


# -- boundaries ------------------------------------------------------------------------------------


def edges() -> pd.DataFrame:
    """`same`: one effect per subject. `opposed`: effects that sum to zero. `first`: none at a."""
    r = np.random.default_rng(3)
    n = 60
    id, place = np.repeat(np.arange(n), 8), np.tile(np.repeat(np.arange(4), 2), n)
    opposite = np.repeat(0.6 * r.normal(size=4 * n), 2) * np.tile([1, -1], 4 * n)
    one, own = r.normal(size=n)[id], r.normal(size=(n, 4))[id, place]
    noisy = own + 0.6 * r.normal(size=8 * n)
    return pd.DataFrame(
        {
            "id": id,
            "occasion": np.array(list("abcd"))[place],
            "same": one + opposite,
            "opposed": noisy - pd.Series(noisy).groupby(id).transform("mean").to_numpy(),
            "first": np.where(place == 0, 0.0, one + 0.8 * own) + opposite,
            "none": opposite,
        }
    )


def on_edge(outcome: str, terms: str) -> dgmm.Fit:
    return dgmm.mixed_model(f"{outcome} ~ 1 + {terms}", edges(), verbose=0)


@pytest.mark.parametrize("word", ["cs", "ar1"])
def test_a_correlation_of_one_is_the_random_intercept(word: str) -> None:
    fit = on_edge("same", f"{word}(0 + occasion | id, hom=TRUE)")
    plain = on_edge("same", "(1 | id)")
    assert fit.loglik().value == pytest.approx(plain.loglik().value, abs=1e-6)
    table = fit.var_corr()
    assert table["sdcor"].iloc[1] == pytest.approx(1.0, abs=1e-5)
    assert np.isnan(table["se_working"].iloc[1])
    np.testing.assert_allclose(fit.std_errors(), plain.std_errors(), rtol=1e-4)
    assert "has run to an end (1): the effects of a level are multiples of one" in fit.messages[0]


def test_effects_that_sum_to_zero_are_the_lower_end_of_compound_symmetry() -> None:
    fit = on_edge("opposed", "cs(0 + occasion | id, hom=TRUE)")
    assert fit.var_corr()["sdcor"].iloc[1] == pytest.approx(-1 / 3, abs=1e-5)
    assert "has run to an end (-0.333): the standardised effects of a level sum" in fit.messages[0]


def test_a_standard_deviation_of_zero_leaves_the_others() -> None:
    fit = on_edge("first", "cs(0 + occasion | id)")
    table = fit.var_corr()
    assert table["sdcor"].iloc[0] < 1e-6
    assert fit.is_singular()
    assert table["se_working"].iloc[1:4].notna().all()
    assert "the variance of `occasiona` is estimated as zero" in fit.messages[0]
    # those of the other occasions are fitted as if the first had none
    frame = edges()
    others = {name: (frame["occasion"] == name).astype(float) for name in "bcd"}
    plain = dgmm.mixed_model(
        "first ~ 1 + cs(0 + b + c + d | id)", frame.assign(**others), verbose=0
    )
    assert fit.loglik().value == pytest.approx(plain.loglik().value, abs=1e-6)


def test_no_variance_at_all_is_the_model_of_independent_rows() -> None:
    fit = on_edge("none", "cs(0 + occasion | id)")
    y = edges()["none"].to_numpy()
    independent = stats.norm.logpdf(y, y.mean(), y.std()).sum()
    assert fit.loglik().value == pytest.approx(independent, abs=1e-6)


# -- a fit as all others ---------------------------------------------------------------------------


def test_a_file_gives_the_fit_back(tmp_path: Path) -> None:
    fit = fitted("cs(0 + occasion | id)")
    fit.save(tmp_path / "fit.dgmm")
    again = dgmm.load(tmp_path / "fit.dgmm")
    assert str(again.summary()) == str(fit.summary())
    rows = DATA.query("id < 4")
    pd.testing.assert_frame_equal(
        again.predict(rows, interval="confidence"), fit.predict(rows, interval="confidence")
    )
    assert again.estimate.likelihood.value(again.estimate.theta) == pytest.approx(
        fit.loglik().value, abs=1e-9
    )


def test_predictions_are_those_of_the_free_covariance_at_the_same_matrix() -> None:
    fit = fitted("cs(0 + occasion | id)")
    model, theta = fit.estimate.model, fit.estimate.theta
    assert isinstance(model, Model)
    mean, _, _ = linear_gaussian(model, theta, fit.estimate.observed)
    weights = {n.removeprefix("latent1."): v for n, v in theta.items() if n.startswith("latent1.")}
    Lambda = model.latents[0].loadings(weights).numpy()
    np.testing.assert_allclose(fit.ranef().to_numpy(), mean @ Lambda.T, atol=1e-8)


def test_the_summary_has_the_correlation_once() -> None:
    text = str(fitted("cs(0 + occasion | id)").summary())
    assert text.count("rho 0.44") == 1
    one = str(fitted("cs(0 + occasion | id, hom=TRUE)").summary())
    (line,) = [line for line in one.splitlines() if line.startswith(" id ")]
    assert "cs(0 + occasion)" in line
    assert "rho 0.3" in line


def test_a_refit_and_a_bootstrap_keep_the_structure() -> None:
    fit = fitted("cs(0 + occasion | id, hom=TRUE)")
    again = fit.refit(DATA["y"])
    assert again.loglik().value == pytest.approx(fit.loglik().value, abs=1e-7)
    drawn = fit.bootstrap(3, seed=1)
    assert drawn.values.shape == (3, 5)
    assert drawn.values.notna().all().all()


def test_importance_sampling_agrees_with_the_exact_likelihood() -> None:
    fit = fitted("cs(1 + t | id)")
    sampled = dgmm.mixed_model("y ~ x + cs(1 + t | id)", DATA, likelihood="importance", verbose=0)
    error = max(sampled.loglik().mc_error, 1e-3)
    assert abs(sampled.loglik().value - fit.loglik().value) < 4 * error
    np.testing.assert_allclose(sampled.fixef(), fit.fixef(), atol=0.1 * fit.std_errors().max())
