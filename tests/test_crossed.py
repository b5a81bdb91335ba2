"""Several grouping factors from the formula to predictions, against dense references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import data
from scipy import optimize
from toys import crossed_frame, dense_crossed, dense_laplace, dense_Z

from dgmm import Fit, load, mixed_model
from dgmm.numerics.hessian import central_hessian

CROSSED = "y ~ x + (1 | a) + (t | b)"


def fit_of(formula: str, frame: pd.DataFrame | None = None, **options: Any) -> Fit:
    frame = crossed_frame() if frame is None else frame
    return mixed_model(formula, frame, verbose=0, **options)


@pytest.fixture(scope="module")
def crossed() -> Fit:
    return fit_of(CROSSED)


@pytest.fixture(scope="module")
def counts() -> Fit:
    return fit_of("hits / size ~ x + (1 | a) + (1 | b)", family="binomial")


@pytest.fixture(params=["crossed", "counts"])
def either(request: pytest.FixtureRequest) -> Fit:
    found: Fit = request.getfixturevalue(request.param)
    return found


def penicillin() -> pd.DataFrame:
    """24 plates x 6 samples, one measurement each."""
    rng = np.random.default_rng(24)
    frame = pd.DataFrame({"plate": np.repeat(np.arange(24), 6), "sample": list("ABCDEF") * 24})
    effect = (
        0.85 * rng.normal(size=24)[frame.plate]
        + 1.9
        * np.repeat(rng.normal(size=6), 1)[
            frame["sample"].map(dict(zip("ABCDEF", range(6), strict=True)))
        ]
    )
    return frame.assign(diameter=23 + effect + 0.55 * rng.normal(size=144))


def pastes() -> pd.DataFrame:
    """10 batches x 3 casks x 2 assays."""
    rng = np.random.default_rng(10)
    frame = pd.DataFrame({"batch": np.repeat(np.arange(10), 6), "cask": list("aabbcc") * 10})
    inner = np.repeat(rng.normal(size=30), 2)
    effect = 1.3 * rng.normal(size=10)[frame.batch] + 2.9 * inner
    return frame.assign(strength=60 + effect + 0.8 * rng.normal(size=60))


# -- Gaussian --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize(
    ("text", "make"),
    [
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", penicillin),
        ("strength ~ 1 + (1 | batch / cask)", pastes),
    ],
)
def test_the_maximum_is_that_of_the_dense_normal(text: str, make: Any, reml: bool) -> None:
    fit = fit_of(text, make(), method="reml" if reml else "ml")
    done = fit.estimate

    def dense(x: np.ndarray) -> float:
        theta = done.model.packing.unpack(torch.from_numpy(np.asarray(x)))
        return -dense_crossed(done.model, theta, done.panel, reml)

    x = done.model.packing.pack(done.theta).numpy()
    options = {"xatol": 1e-8, "fatol": 1e-11, "maxiter": 4000, "maxfev": 4000}
    found = optimize.minimize(dense, x + 0.1, method="Nelder-Mead", options=options)
    assert float(fit.loglik()) == pytest.approx(-found.fun, abs=1e-6)
    assert float(fit.loglik()) == pytest.approx(-dense(x), abs=1e-8)
    sd = [found.x[1] + np.log(done.model.unit), found.x[2] + np.log(done.model.unit), found.x[3]]
    np.testing.assert_allclose(np.log(fit.var_corr()["sdcor"]), sd, atol=1e-4)


def test_standard_errors_are_those_of_the_dense_likelihood(crossed: Fit) -> None:
    done = crossed.estimate
    rows, Z = done.panel.rows, dense_Z(done.model, done.theta, done.panel)
    V = Z @ Z.T + crossed.sigma() ** 2 * np.eye(len(Z))
    gls = np.linalg.inv(rows.X.numpy().T @ np.linalg.solve(V, rows.X.numpy()))
    np.testing.assert_allclose(crossed.std_errors("gls"), np.sqrt(np.diag(gls)), rtol=1e-6)

    def dense(x: np.ndarray) -> float:
        theta = done.model.packing.unpack(torch.from_numpy(x))
        return dense_crossed(done.model, theta, done.panel)

    x = done.model.packing.pack(done.theta).numpy()
    H = central_hessian(dense, x, np.full(len(x), 1e-3)).matrix
    assert crossed.information is not None
    ours = crossed.information.vcov.diagonal().sqrt()
    np.testing.assert_allclose(ours, np.sqrt(np.diag(np.linalg.inv(-H))), rtol=1e-3)


def test_nested_factors_agree_with_statsmodels() -> None:
    from statsmodels.regression.mixed_linear_model import MixedLM

    frame = pastes()
    model = MixedLM.from_formula(
        "strength ~ 1", frame, groups="batch", re_formula="1", vc_formula={"cask": "0 + C(cask)"}
    )
    theirs, ours = model.fit(reml=False), fit_of("strength ~ 1 + (1 | batch / cask)", frame)
    assert float(ours.loglik()) == pytest.approx(theirs.llf, abs=1e-4)
    assert ours.fixef().iloc[0] == pytest.approx(theirs.fe_params.iloc[0], abs=1e-6)
    variance = ours.var_corr()["vcov"]
    np.testing.assert_allclose(
        variance, [theirs.cov_re.iloc[0, 0], theirs.vcomp[0], theirs.scale], rtol=5e-3
    )


def test_nesting_is_the_same_however_it_is_written() -> None:
    frame = pastes()
    frame["own"] = frame.batch.astype(str) + frame.cask
    values = [
        float(fit_of(f"strength ~ 1 + {terms}", frame).loglik())
        for terms in ("(1 | batch / cask)", "(1 | batch) + (1 | own)", "(1 | own) + (1 | batch)")
    ]
    np.testing.assert_allclose(values, values[0], atol=1e-9)


def test_the_order_of_the_rows_changes_nothing(either: Fit) -> None:
    frame = crossed_frame().sample(frac=1, random_state=3)
    again = fit_of(either.formula, frame, family=either.request.family)
    assert float(again.loglik()) == pytest.approx(float(either.loglik()), abs=1e-9)
    pd.testing.assert_series_equal(again.fixef(), either.fixef(), rtol=1e-6)
    pd.testing.assert_series_equal(
        again.fitted().sort_index(), either.fitted().sort_index(), rtol=1e-6
    )


def test_rows_with_a_missing_outcome_are_predicted() -> None:
    frame = crossed_frame()
    frame.loc[[3, 70, 90], "y"] = np.nan
    fit, without = fit_of(CROSSED, frame), fit_of(CROSSED, frame.dropna())
    assert float(fit.loglik()) == pytest.approx(float(without.loglik()), abs=1e-6)
    gone = frame.loc[[3, 70, 90]]
    np.testing.assert_allclose(fit.fitted()[gone.index], without.predict(gone)["fit"], atol=1e-4)


def test_thousands_of_crossed_levels_are_within_their_standard_errors() -> None:
    rng = np.random.default_rng(30)
    N, truth = 15_000, np.log([0.8, 0.5, 1.0])
    frame = pd.DataFrame({"a": rng.integers(0, 2000, N), "b": rng.integers(0, 1000, N)})
    frame["x"] = rng.normal(size=N)
    effect = 0.8 * rng.normal(size=2000)[frame.a] + 0.5 * rng.normal(size=1000)[frame.b]
    frame["y"] = 0.5 + 0.3 * frame.x + effect + rng.normal(size=N)
    fit = fit_of("y ~ x + (1 | a) + (1 | b)", frame)
    fresh = fit.predict(frame.assign(b=-1))["fit"]
    moved = frame.assign(b=np.arange(N) - 2 * N)
    np.testing.assert_allclose(fit.predict(moved)["fit"], fresh, atol=1e-12)
    table = fit.var_corr()
    assert (np.abs(np.log(table["sdcor"]) - truth) < 4 * table["se_working"]).all()
    assert (np.abs(fit.fixef() - [0.5, 0.3]) < 4 * fit.std_errors()).all()
    random = fit.ranef()
    assert isinstance(random, dict)
    assert {name: len(one) for name, one in random.items()} == {"a": 2000, "b": 1000}


def test_a_factor_without_variance_is_named() -> None:
    frame = penicillin()
    rng = np.random.default_rng(2)
    frame["diameter"] = 1.0 * frame.plate + rng.normal(size=144)
    frame["diameter"] -= frame.groupby("sample")["diameter"].transform("mean")
    fit = fit_of("diameter ~ 1 + (1 | plate) + (1 | sample)", frame)
    assert fit.boundary() == ("(Intercept) | sample",)
    assert "in (1 | sample) the variance of `(Intercept)`" in " ".join(str(fit.summary()).split())
    assert np.isfinite(fit.std_errors()).all()


# -- other families --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("hits / size ~ x + (1 | a) + (1 | b)", "binomial"),
        ("count ~ x + (1 | a / c)", "poisson"),
    ],
)
def test_laplace_is_at_the_maximum_of_brute_force(text: str, family: str) -> None:
    fit = fit_of(text, family=family)
    done = fit.estimate
    assert done.likelihood.word == "laplace"
    assert done.converged

    def dense(x: np.ndarray) -> float:
        theta = done.model.packing.unpack(torch.from_numpy(x))
        return dense_laplace(done.model, theta, done.panel)

    x = done.model.packing.pack(done.theta).numpy()
    assert float(fit.loglik()) == pytest.approx(dense(x), abs=1e-8)
    step = np.full(len(x), 3e-3)
    gradient = np.array([(dense(x + h) - dense(x - h)) / 6e-3 for h in np.diag(step)])
    H = central_hessian(dense, x, step).matrix
    assert abs(gradient @ np.linalg.solve(H, gradient)) < 1e-6
    assert fit.information is not None
    error = np.sqrt(np.diag(np.linalg.inv(-H)))
    np.testing.assert_allclose(fit.information.vcov.diagonal().sqrt(), error, rtol=2e-3)


def test_ticks_are_what_an_independent_program_finds() -> None:
    """Numbers of the PyPI package mixedlm 1.3.0, a port of lme4's algorithms."""
    text = "TICKS ~ C(YEAR) + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)"
    fit = fit_of(text, data("grouseticks"), family="poisson")
    assert float(fit.loglik()) == pytest.approx(-890.2713, abs=1e-4)
    np.testing.assert_allclose(fit.var_corr()["sdcor"], [0.7500, 0.5415, 0.5287], atol=1e-4)
    np.testing.assert_allclose(fit.fixef(), [0.3728, 1.1804, -0.9787, -0.0238], atol=1e-4)


def test_wine_is_what_an_independent_program_finds() -> None:
    """The same, by REML; the bottles have no variance of their own."""
    text = "response ~ temp + contact + (1 | judge) + (1 | bottle)"
    fit = fit_of(text, data("wine"), method="reml")
    assert float(fit.loglik()) == pytest.approx(-282.9930, abs=1e-4)
    np.testing.assert_allclose(fit.var_corr()["sdcor"], [8.5490, 0, 12.4118], atol=1e-4)
    np.testing.assert_allclose(fit.std_errors(), [3.8131, 2.9255, 2.9255], atol=1e-4)
    assert fit.boundary() == ("(Intercept) | bottle",)


def test_an_effect_of_every_row_takes_up_overdispersion() -> None:
    ticks = data("grouseticks")
    text = "TICKS ~ C(YEAR) + cHEIGHT + (1 | BROOD) + (1 | LOCATION)"
    plain = fit_of(text, ticks, family="poisson")
    fit = fit_of(f"{text} + (1 | INDEX)", ticks, family="poisson")
    assert fit.n_groups() == {"BROOD": 118, "LOCATION": 63, "INDEX": 403}
    assert float(fit.loglik()) > float(plain.loglik()) + 20
    assert fit.is_singular() is False


# -- what is read off a fit ------------------------------------------------------------------------


def test_random_effects_come_per_factor(crossed: Fit) -> None:
    table = crossed.ranef(cond_var=True)
    assert isinstance(table, dict)
    assert list(table) == ["a", "b"]
    assert list(table["a"].index) == list(range(12))
    assert table["b"].index.name == "b"
    assert list(table["b"].columns) == ["(Intercept)", "t", "sd((Intercept))", "sd(t)"]
    done = crossed.estimate
    Z, y = dense_Z(done.model, done.theta, done.panel), done.panel.rows.data.y.numpy()
    fixed = done.model.mu1(done.theta, done.panel.rows).numpy()
    A = Z.T @ Z / crossed.sigma() ** 2 + np.eye(Z.shape[1])
    u = np.linalg.solve(A, Z.T @ (y - fixed)) / crossed.sigma() ** 2
    sd = crossed.var_corr()["sdcor"].iloc[0]
    np.testing.assert_allclose(table["a"]["(Intercept)"], sd * u[:12], atol=1e-8)
    spread = sd * np.sqrt(np.diag(np.linalg.inv(A)))[:12]
    np.testing.assert_allclose(table["a"]["sd((Intercept))"], spread, atol=1e-8)
    np.testing.assert_allclose(crossed.fitted(), (fixed + Z @ u)[np.argsort(crossed.memory.rows)])


def test_coefficients_add_the_effects_of_one_factor(crossed: Fit) -> None:
    total, random = crossed.coef(), crossed.ranef()
    assert isinstance(total, dict)
    assert isinstance(random, dict)
    wanted = crossed.fixef()["(Intercept)"] + random["b"]["(Intercept)"]
    np.testing.assert_allclose(total["b"]["(Intercept)"], wanted)


def test_the_report_names_every_factor(either: Fit) -> None:
    text = str(either.summary())
    assert "groups: a, 12; b, 11" in text
    word = "exact" if either.estimate.likelihood.exact else "Laplace approximation"
    assert f"Marginal likelihood: {word}" in text
    assert set(either.var_corr()["group"]) >= {"a", "b"}
    assert either.n_groups() == {"a": 12, "b": 11}
    with pytest.raises(ValueError, match="no one number of subjects"):
        either.bic("subjects")


def test_known_rows_are_predicted_as_fitted(either: Fit) -> None:
    found = either.predict(crossed_frame())["fit"]
    np.testing.assert_allclose(found, either.fitted(), atol=1e-10)
    np.testing.assert_allclose(either.predict()["fit"], either.fitted(), atol=1e-12)


def test_new_levels_get_the_average_and_the_variance_of_the_prior(crossed: Fit) -> None:
    new = pd.DataFrame({"a": [0, 99, 99, 0], "b": ["p", "p", "?", "?"], "x": 0.0, "t": 0.0})
    table = crossed.predict(new, interval="confidence")
    random = crossed.ranef(cond_var=True)
    assert isinstance(random, dict)
    one, two = random["a"].loc[0], random["b"].loc["p"]
    base = crossed.fixef()["(Intercept)"]
    means = [one.iloc[0] + two.iloc[0], two.iloc[0], 0.0, one.iloc[0]]
    np.testing.assert_allclose(table["fit"], base + np.array(means), atol=1e-10)
    prior = crossed.var_corr()["vcov"].iloc[:2].sum()  # of the intercepts of a and b
    fixed = crossed.predict(new, interval="confidence", type="mean_subject")["se"]
    np.testing.assert_allclose(table["se"][2] ** 2, prior + fixed[2] ** 2, rtol=1e-3)
    assert table["se"][0] < table["se"][1] < table["se"][2]
    with pytest.raises(ValueError, match="`a` has levels that are not in the fit in 2 rows"):
        crossed.predict(new, new_groups="error")
    with pytest.raises(ValueError, match="history= is for models with one grouping factor"):
        crossed.predict(new, history=crossed_frame())


def test_a_new_class_of_a_known_school_borrows_from_the_school() -> None:
    fit = fit_of("strength ~ 1 + (1 | batch / cask)", pastes())
    new = pd.DataFrame({"batch": [3, 3], "cask": ["a", "new"]})
    random = fit.ranef()
    assert isinstance(random, dict)
    base = fit.fixef().iloc[0] + random["batch"].loc[3].iloc[0]
    inner = [random["batch:cask"].loc["3:a"].iloc[0], 0.0]
    np.testing.assert_allclose(fit.predict(new)["fit"], base + np.array(inner), atol=1e-9)


def test_binary_predictions_average_over_the_random_effects(counts: Fit) -> None:
    new = crossed_frame().head(20)
    link = counts.predict(new, scale="link", interval="confidence")
    mean = counts.predict(new)["fit"]
    plug_in = 1 / (1 + np.exp(-link["fit"]))
    assert ((mean - 0.5).abs() <= (plug_in - 0.5).abs() + 1e-12).all()
    marginal = counts.predict(new, type="marginal")["fit"]
    assert marginal.between(0, 1).all()


def test_simulated_outcomes_have_the_covariance_of_the_model(crossed: Fit) -> None:
    draws = crossed.simulate(2000, seed=1).to_numpy()[np.asarray(crossed.memory.rows)]
    done = crossed.estimate
    Z = dense_Z(done.model, done.theta, done.panel)
    V = Z @ Z.T + crossed.sigma() ** 2 * np.eye(len(Z))
    S = np.cov(draws)
    error = np.sqrt((V**2 + np.outer(np.diag(V), np.diag(V))) / 2000)
    assert np.mean(np.abs(S - V) < 4 * error) > 0.999
    kept = crossed.simulate(500, seed=2, condition_on_data=True).mean(axis=1)
    assert (np.abs(kept - crossed.fitted()) < 5 * crossed.sigma() / 500**0.5).all()


def test_a_saved_fit_comes_back(either: Fit, tmp_path: Path) -> None:
    either.save(tmp_path / "fit")
    again = load(tmp_path / "fit")
    assert str(again.summary()) == str(either.summary())
    new = crossed_frame(5).head(10).assign(a=77)
    pd.testing.assert_frame_equal(
        again.predict(new, interval="confidence"), either.predict(new, interval="confidence")
    )
    one, two = again.ranef(), either.ranef()
    assert isinstance(one, dict)
    assert isinstance(two, dict)
    for name in two:
        pd.testing.assert_frame_equal(one[name], two[name], check_index_type=False)


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("y ~ x + (dnn(t) | a) + (1 | b)", {}, "dnn(t)|2 grouping factors|`a`, `b`|keep one"),
        ("y ~ dnn(x) + (1 | a / c)", {}, "dnn(x)|`a`, `a:c`|Make the term linear"),
        ("y ~ x + (1 | a) + (1 + x | twin)", {}, "`a` and `twin` divide the rows alike|keep one"),
        ("y ~ x + (1 | a) + (1 | a)", {}, "(1 | a) and (1 | a) both hold|`(Intercept)` of `a`"),
        ("y ~ x + (1 + x | a) + (1 | a)", {}, "(1 + x | a) and (1 | a) both hold|`(Intercept)`"),
        ("y ~ x + (x || a) + (0 + x | a)", {}, "both hold the effect `x` of `a`|keep it in one"),
        ("y ~ x + (1 | a) + (0 + h | a)", {}, "both hold the effect `hq` of `a`|only the sum"),
        ("y ~ x + (1 | a) + (1 | b) + (0 + h | twin)", {}, "`a` and `twin` divide the rows alike"),
        (CROSSED, {"method": "vae"}, "method='vae'|one grouping factor"),
        (CROSSED, {"likelihood": "importance"}, "likelihood='importance'|likelihood='exact'"),
        (CROSSED, {"se": "sandwich"}, "se='sandwich'|independent subjects"),
        ("z ~ x + (1 | a) + (1 | b)", {"likelihood": "quadrature"}, "likelihood='laplace'"),
        ("z ~ x + (1 | a) + (1 | b)", {"method": "reml"}, "method='reml'"),
    ],
)
def test_what_is_not_possible_is_refused_in_words(
    text: str, options: dict[str, Any], words: str
) -> None:
    family = "bernoulli" if text.startswith("z") else "gaussian"
    with pytest.raises(ValueError, match=".") as caught:
        frame = crossed_frame().assign(twin=lambda d: 10 * d["a"])
        frame["h"] = np.array(["p", "q"])[np.arange(len(frame)) % 2]
        fit_of(text, frame, family=family, **options)
    for word in words.split("|"):
        assert word in str(caught.value)
