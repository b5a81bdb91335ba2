"""Every latent structure of the folder, and one made here, through every door of a fit."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dgmm
import dgmm.latent
from dgmm.latent import Latent
from dgmm.runtime import registry

TOY = '''"""A second linear structure under its own word."""

from dgmm.latent.normal import Normal


class Lin(Normal):
    name = "lin"
'''

TERMS = {
    "normal": "(t | id)",
    "dnn": "(dnn(t, hidden=(4,), latent=1) | id)",
    "ou": "(1 | id) + (ou(t) | id)",
    "ar1": "(ar1(visit) | id)",
    "rw": "(1 | id) + (rw(t) | id)",
    "llt": "(1 | id) + (llt(t) | id)",
    "ssm": "(1 | id) + (ssm(visit, state=2) | id)",
    "cre": "(1 | cre(id, ~ x, scale=~ x))",
    "lin": "(lin(t) | id)",
}
QUICK = {"epochs": 10, "draws": 64, "replicates": 2, "polish_draws": 32, "hessian_draws": 32}


def data(n: int = 40, J: int = 6) -> pd.DataFrame:
    """Two random coefficients, a path of correlation 0.6 and noise; some outcomes missing."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"id": np.repeat(np.arange(n), J), "visit": np.tile(np.arange(J), n)})
    frame["t"] = frame["visit"] / J + rng.uniform(0, 0.5 / J, n * J)
    frame["x"] = rng.normal(size=n * J)
    b = rng.normal(size=(n, 2)) * [0.8, 0.6]
    lag = 0.6 ** np.abs(np.arange(J)[:, None] - np.arange(J))
    path = (rng.normal(size=(n, J)) @ np.linalg.cholesky(lag).T).ravel()
    eta = 1 + 0.5 * frame["x"] + b[frame["id"], 0] + b[frame["id"], 1] * frame["t"]
    frame["y"] = eta + 0.7 * path + 0.5 * rng.normal(size=n * J)
    frame.loc[rng.uniform(size=n * J) < 0.1, "y"] = np.nan
    return frame


@pytest.fixture(scope="module", autouse=True)
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The folder of latent structures with one more file in it."""
    folder: Path = tmp_path_factory.mktemp("latent")
    (folder / "lin.py").write_text(TOY)
    dgmm.latent.__path__.append(str(folder))
    registry._classes.cache_clear()
    yield
    dgmm.latent.__path__.remove(str(folder))
    sys.modules.pop("dgmm.latent.lin", None)
    registry._classes.cache_clear()


def fitted(word: str, **options: object) -> dgmm.Fit:
    formula = f"y ~ x + t + {TERMS[word]}"
    return dgmm.mixed_model(formula, data(), verbose=0, starts=1, control=QUICK, **options)


@pytest.fixture(scope="module")
def fits(toy: None) -> dict[str, dgmm.Fit]:
    return {word: fitted(word) for word in TERMS}


def test_every_member_is_covered() -> None:
    """Recursions have a bound and no likelihood: test_recursion.py and test_kvae.py."""
    members = registry.members("dgmm.latent", Latent)
    assert set(TERMS) == {word for word, one in members.items() if not one.recursive}


def test_rooms_outside_ask_for_no_word_and_no_class_of_a_structure() -> None:
    package = Path(dgmm.__file__).parent
    asked = re.compile(
        r"""["'](log_diagonal|below|log_range|atanh_rho)["']|isinstance\([^)]*Normal"""
    )
    found = [
        f"{path.relative_to(package)}: {line.strip()}"
        for path in package.rglob("*.py")
        if path.relative_to(package).parts[0] != "latent"
        for line in path.read_text().splitlines()
        if asked.search(line)
    ]
    assert found == []


# -- the second linear structure is the first ------------------------------------------------------


def test_a_second_linear_structure_is_fitted_as_the_first(fits: dict[str, dgmm.Fit]) -> None:
    one, two = fits["normal"], fits["lin"]
    assert (two.estimate.method, two.estimate.likelihood.word) == ("ml", "exact")
    assert two.estimate.encoder is None
    assert two.loglik().value == one.loglik().value
    pd.testing.assert_series_equal(two.fixef(), one.fixef())
    pd.testing.assert_frame_equal(two.coefficients(), one.coefficients())
    pd.testing.assert_frame_equal(two.var_corr(), one.var_corr())
    pd.testing.assert_frame_equal(two.confint(), one.confint())
    pd.testing.assert_frame_equal(two.ranef(cond_var=True), one.ranef(cond_var=True))
    text = str(two.summary()).replace("(lin(t) | id)", "(t | id)")
    assert text == str(one.summary())


@pytest.mark.parametrize("family", ["poisson", "bernoulli"])
def test_a_second_linear_structure_has_the_same_quadrature(family: str) -> None:
    frame = data().assign(y=lambda d: (d["y"] > 1).where(d["y"].notna()).astype(float))
    one, two = (
        dgmm.mixed_model(f"y ~ x + {TERMS[word]}", frame, family=family, verbose=0)
        for word in ("normal", "lin")
    )
    assert two.estimate.likelihood.word == one.estimate.likelihood.word == "quadrature"
    assert two.loglik().value == one.loglik().value


def test_a_second_linear_structure_has_the_tests_of_the_first(fits: dict[str, dgmm.Fit]) -> None:
    one, two = fits["normal"], fits["lin"]
    pd.testing.assert_frame_equal(two.ranova().table, one.ranova().table)
    pd.testing.assert_frame_equal(two.drop1().table, one.drop1().table)
    pd.testing.assert_frame_equal(
        two.confint(parm="sd_t|id", method="profile"), one.confint(parm="sd_t|id", method="profile")
    )
    smaller = dgmm.mixed_model("y ~ x + t + (1 | id)", data(), verbose=0)
    pd.testing.assert_frame_equal(smaller.anova(two).table, smaller.anova(one).table, check_names=0)
    one, two = (fitted(word, method="reml") for word in ("normal", "lin"))
    pd.testing.assert_frame_equal(
        two.coefficients(df="satterthwaite"), one.coefficients(df="satterthwaite")
    )


# -- every structure through every door ------------------------------------------------------------


@pytest.mark.parametrize("word", TERMS)
def test_the_route_follows_the_object(word: str, fits: dict[str, dgmm.Fit]) -> None:
    fit = fits[word]
    assert fit.estimate.method == "ml"
    assert (fit.estimate.encoder is not None) == fit.estimate.model.latents[-1].neural
    assert (fit.estimate.nested is None) == fit.estimate.model.linear
    assert np.isfinite(fit.loglik().value)


@pytest.mark.parametrize("word", TERMS)
def test_summary_and_intervals(word: str, fits: dict[str, dgmm.Fit]) -> None:
    fit = fits[word]
    text, table = str(fit.summary()), fit.var_corr()
    for latent in fit.estimate.model.latents:
        for component in latent.components():
            assert component.effects[0] in text
    assert len(table) == 1 + sum(len(one.components()) for one in fit.estimate.model.latents)
    interval = fit.confint()
    estimate = pd.concat([fit.fixef(), table["sdcor"]]).to_numpy()
    assert interval.shape == (len(estimate), 2)
    known = interval.notna().all(axis=1).to_numpy()
    assert known[:3].all()
    assert (interval.iloc[:, 0].to_numpy()[known] <= estimate[known]).all()
    assert (interval.iloc[:, 1].to_numpy()[known] >= estimate[known]).all()


@pytest.mark.parametrize("word", TERMS)
def test_predictions(word: str, fits: dict[str, dgmm.Fit]) -> None:
    fit, frame = fits[word], data()
    shown = fit.fitted()
    assert np.isfinite(shown).all()
    again = fit.predict(frame)["fit"]
    np.testing.assert_allclose(again, shown, atol=1e-6)
    # a history that is that of the fit changes nothing
    np.testing.assert_allclose(fit.predict(frame, history=frame)["fit"], again, atol=1e-6)
    few = frame[frame["id"] < 5]
    for kind in ("subject", "mean_subject", "marginal"):
        table = fit.predict(few, type=kind, interval="confidence")
        assert (table["se"] > 0).all()
        assert (table["lower"] < table["fit"]).all()
    outcome = fit.predict(few, interval="prediction", seed=1)
    assert (outcome["se"] > fit.sigma() * 0.8).all()
    new = few.assign(id="new")
    population = fit.predict(new.iloc[:6], type="mean_subject")["fit"]
    unknown = fit.predict(new.iloc[:6])["fit"]
    error = 0.05 if fit.estimate.model.latents[-1].neural else 1e-6
    assert np.abs(unknown - population).max() < error


@pytest.mark.parametrize("word", TERMS)
def test_simulations_have_the_moments_of_the_model(word: str, fits: dict[str, dgmm.Fit]) -> None:
    fit = fits[word]
    y = fit.simulate(2000, seed=4).to_numpy()
    mean = fit.predict(data(), type="marginal", scale="link")["fit"].to_numpy()
    error = y.std(1) / np.sqrt(2000)
    assert np.abs((y.mean(1) - mean) / error).max() < 5
    share = fit.random_profile().table["sd"].to_numpy()
    spread = np.sqrt(y.var(1) - fit.sigma() ** 2)
    assert 0.8 * share.min() < spread.mean() < 1.2 * share.max()


@pytest.mark.parametrize("word", TERMS)
def test_a_file_gives_the_fit_back(word: str, fits: dict[str, dgmm.Fit], tmp_path: Path) -> None:
    fit, path = fits[word], tmp_path / "fit.dgmm"
    fit.save(path)
    again = dgmm.load(path)
    assert str(again.summary()) == str(fit.summary())
    few = data().query("id < 4")
    pd.testing.assert_frame_equal(
        again.predict(few, interval="confidence"), fit.predict(few, interval="confidence")
    )


@pytest.mark.parametrize("word", TERMS)
def test_an_update_is_the_fit_of_the_changed_formula(word: str, fits: dict[str, dgmm.Fit]) -> None:
    smaller = fits[word].update(". ~ . - x", data=data())
    direct = dgmm.mixed_model(f"y ~ t + {TERMS[word]}", data(), verbose=0, starts=1, control=QUICK)
    assert smaller.loglik().value == pytest.approx(direct.loglik().value, abs=1e-6)
    assert [one.name for one in smaller.estimate.model.latents][-1] == word


@pytest.mark.parametrize("word", TERMS)
def test_a_refit_to_its_own_outcome_is_the_fit(word: str, fits: dict[str, dgmm.Fit]) -> None:
    fit = fits[word]
    if fit.estimate.model.latents[-1].neural:
        with pytest.raises(ValueError, match="not refitted"):
            fit.refit(data()["y"])
        return
    again = fit.refit(data()["y"])
    assert again.loglik().value == pytest.approx(fit.loglik().value, abs=1e-5)
    np.testing.assert_allclose(again.fixef(), fit.fixef(), atol=1e-3)


@pytest.mark.parametrize("word", TERMS)
def test_log_scores_of_the_data_are_its_log_likelihood(
    word: str, fits: dict[str, dgmm.Fit]
) -> None:
    fit = fits[word]
    scores = fit.log_score(data())
    error = 1.0 if fit.estimate.model.latents[-1].neural else 1e-5
    assert scores["log_score"].sum() == pytest.approx(fit.loglik().value, abs=error)


@pytest.mark.parametrize(
    "terms",
    ["(dnn(t, hidden=(4,), latent=1) | id) + (ou(t) | id)", "dnn(x, hidden=(4,)) + (ou(t) | id)"],
)
def test_a_path_stands_beside_networks(terms: str) -> None:
    fit = dgmm.mixed_model(f"y ~ t + {terms}", data(20), verbose=0, starts=1, control=QUICK)
    below = fit.estimate.nested
    assert below is not None
    assert "ou" in [one.name for one in below.model.latents]
    assert fit.loglik().value > below.log_likelihood - 5
    assert np.isfinite(fit.fitted()).all()
    assert (fit.std_errors() > 0).all()
    assert "ou(t)" in str(fit.summary())
    few = data(20).query("id < 4")
    assert (fit.predict(few, interval="confidence")["se"] > 0).all()
