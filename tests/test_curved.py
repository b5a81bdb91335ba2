"""Networks on the fixed side: the direct route."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from toys import build

import dgmm
from dgmm.estimate.curved import _by_points, _reached
from dgmm.estimate.folds import Folds
from dgmm.likelihood.gaussian import per_subject
from dgmm.likelihood.growth import moved
from dgmm.likelihood.rules import Quadrature

CURVE = "dnn(z, hidden=(6,))"
PLAIN = {"holdout": 0.0}


def frame(amplitude: float = 1.0, seed: int = 1, n: int = 80) -> pd.DataFrame:
    """y, a binary p and a count c; some y are missing; t varies within subjects."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(n), 6)
    size = len(subject)
    data = pd.DataFrame({"id": subject, "t": np.tile(np.arange(6) / 5, n)})
    data["x"], data["z"] = rng.normal(size=size), rng.uniform(-2, 2, size)
    b = rng.normal(size=(n, 2)) * [0.8, 0.5]
    eta = 0.5 * data["x"] + amplitude * np.sin(1.5 * data["z"])
    eta += b[subject, 0] + b[subject, 1] * data["t"]
    data["y"] = eta + rng.normal(0, 0.6, size)
    data["p"] = (rng.uniform(size=size) < 1 / (1 + np.exp(-eta))).astype(float)
    data["c"] = rng.poisson(np.exp(0.3 * eta)).astype(float)
    data.loc[::17, "y"] = np.nan
    return data


def fitted(formula: str, data: pd.DataFrame | None = None, **options):
    control = options.pop("control", PLAIN)
    data = frame() if data is None else data
    return dgmm.mixed_model(formula, data, verbose=0, control=control, **options)


@pytest.fixture(scope="module")
def deep():
    return fitted(f"y ~ x + {CURVE} + (t | id)", control={"holdout": 0.25}, starts=2)


@pytest.mark.parametrize(
    ("outcome", "family", "likelihood"),
    [
        ("y", "gaussian", "auto"),
        ("p", "bernoulli", "auto"),
        ("p", "bernoulli", "laplace"),
        ("c", "poisson", "auto"),
    ],
)
def test_a_huge_ridge_gives_the_classical_model(outcome, family, likelihood) -> None:
    """Estimates, log-likelihood and standard errors of the model with z as a linear term."""
    options = {"family": family, "likelihood": likelihood}
    flat = fitted(f"{outcome} ~ x + dnn(z, hidden=(6,), ridge=1e9) + (1 | id)", **options)
    linear = dgmm.mixed_model(f"{outcome} ~ x + z + (1 | id)", frame(), verbose=0, **options)
    assert flat.estimate.likelihood.word == linear.estimate.likelihood.word
    assert flat.estimate.log_likelihood == pytest.approx(linear.estimate.log_likelihood, abs=1e-3)
    z = (flat.fixef()["x"] - linear.fixef()["x"]) / linear.std_errors()["x"]
    assert abs(z) < 0.01
    tolerance = 0.02 if likelihood == "laplace" else 2e-3  # its errors are those of a quadrature
    assert flat.std_errors()["x"] == pytest.approx(linear.std_errors()["x"], rel=tolerance)
    one, two = flat.var_corr()["sdcor"], linear.var_corr()["sdcor"]
    np.testing.assert_allclose(one, two, rtol=2e-3)
    assert flat.df() == pytest.approx(linear.df(), abs=1e-3)


def test_gaussian_likelihood_is_exact_and_said_to_be(deep) -> None:
    done = deep.estimate
    assert (done.method, done.likelihood.word, done.mc_error) == ("ml", "exact", 0.0)
    each = per_subject(done.model, done.theta, done.observed)
    assert done.log_likelihood == pytest.approx(float(each.sum()), abs=1e-8)
    text = str(deep.summary(verbose=True))
    for told in (text, str(deep.summary())):
        assert "Each fixed dnn() has mean zero over the sample" in told
    assert "fitted by penalised maximum likelihood" in text
    assert "Marginal likelihood: exact" in text
    assert "Monte Carlo" not in text


def test_it_ends_at_a_maximum(deep) -> None:
    done = deep.estimate
    assert done.converged
    assert done.decrement < 0.01
    assert done.encoder is None
    assert done.log_likelihood > done.nested.log_likelihood + 20


def test_all_linear_parts_are_where_the_classical_fit_with_the_curve_as_offset_is(deep) -> None:
    """beta, Lambda and sigma maximise the likelihood of the mixed model given the curve."""
    done = deep.estimate
    with torch.no_grad():
        ready = done.model.prepare(done.theta)
        curve = done.model.network_effect(ready, 0, done.panel.rows)
    data = frame().assign(curve=curve.numpy())
    linear = dgmm.mixed_model("y ~ x + (t | id)", data, offset="curve", verbose=0)
    z = (deep.fixef() - linear.fixef()) / linear.std_errors()
    assert np.abs(z).max() < 0.01
    assert deep.estimate.log_likelihood == pytest.approx(linear.estimate.log_likelihood, abs=1e-3)
    ours, theirs = deep.var_corr()["sdcor"], linear.var_corr()["sdcor"]
    np.testing.assert_allclose(ours, theirs, rtol=5e-3, atol=1e-3)


def test_starts_agree_and_are_reported(deep) -> None:
    spread = deep.estimate.start_spread
    assert len(spread) == 2
    assert abs(spread[0] - spread[1]) < 3.0
    assert "Log evidence reached from each start" in str(deep.summary(verbose=True))


def test_held_out_subjects_prefer_the_curve(deep) -> None:
    held = deep.estimate.held_out
    assert (held.subjects, held.folds) == (80, 4)
    assert held.difference > 2 * held.standard_error


def test_the_gain_is_that_of_fits_to_the_frame_without_the_fold() -> None:
    """Another search, from the nested model of the frame without the fold, penalty held."""
    text, data = "y ~ x + dnn(z, hidden=(6,), ridge=0.3) + (1 | id)", frame(n=40)
    held = fitted(text, data, control={"holdout": 0.5}, se=None).estimate.held_out
    folds = Folds.deal(build("y ~ x + (1 | id)", data)[1], 0, 0.5)
    gain = []
    for left in folds.left:
        away = data["id"].isin(left)
        fits = [fitted(one, data[~away], se=None) for one in (text, "y ~ x + z + (1 | id)")]
        one, two = (fit.log_score(data[away])["log_score"].to_numpy() for fit in fits)
        gain.append(one - two)
    gain = np.concatenate(gain)
    assert held.difference == pytest.approx(gain.mean(), abs=0.01)
    assert held.standard_error == pytest.approx(gain.std(ddof=1) / np.sqrt(40), abs=0.01)


def test_a_linear_network_gains_nothing() -> None:
    text = "c ~ x + dnn(z, hidden=(6,), ridge=1e9) + (1 | id)"
    held = fitted(text, family="poisson", se=None, control={"holdout": 0.4}).estimate.held_out
    assert abs(held.difference) < 1e-3
    assert held.standard_error < 1e-3


def test_the_comparison_and_threads_do_not_change_the_network(deep) -> None:
    text = f"y ~ x + {CURVE} + (t | id)"
    theta = deep.estimate.theta
    plain = fitted(text, starts=2, se=None).estimate.theta
    assert all(torch.equal(plain[name], value) for name, value in theta.items())
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    try:
        other = fitted(text, starts=2, se=None).estimate.theta
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(other[name], value) for name, value in theta.items())


def test_starts_are_compared_by_the_same_rule() -> None:
    fit = fitted(f"p ~ x + {CURVE} + (1 | id)", family="bernoulli", se=None, starts=2, seed=2)
    below = fit.estimate.nested
    request = fit.request
    likelihood = fit.estimate.likelihood.under(fit.estimate.model)
    likelihood = likelihood.under(replace(fit.estimate.model, open_ridge=("dnn1",)))
    split, reached = _reached(likelihood, below, request)
    assert len({one.points for one in reached}) == 1
    short = replace(reached[0], engine=moved(reached[0].engine, Quadrature(3)), points=3)
    again = _by_points(split, short, reached[0].points, request)
    assert again.points == reached[0].points
    assert again.found.evidence == pytest.approx(reached[0].found.evidence, abs=1e-3)
    assert again.found.model == reached[0].found.model


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_needed_network_does_not_stay_silent(seed: int) -> None:
    """Zero is a local maximum under the first penalty for some starts of such small samples."""
    fit = fitted(f"p ~ x + {CURVE} + (1 | id)", family="bernoulli", se=None, seed=seed)
    assert fit.estimate.log_likelihood > fit.estimate.nested.log_likelihood + 5


def test_an_unneeded_network_stays_silent() -> None:
    fit = fitted(f"y ~ x + {CURVE} + (1 | id)", frame(0.0), se=None)
    gain = fit.estimate.log_likelihood - fit.estimate.nested.log_likelihood
    assert 0 <= gain + 1e-3 < 2
    assert fit.estimate.model.ridge_of("dnn1") >= 1.0


def test_routes_agree_on_a_binary_outcome() -> None:
    """Quadrature and importance sampling, each with its own optimiser, under the same penalty."""
    text = "p ~ x + dnn(z, hidden=(6,), ridge=0.5) + (1 | id)"
    one = fitted(text, family="bernoulli")
    two = fitted(text, family="bernoulli", likelihood="importance")
    assert one.estimate.likelihood.word == "quadrature"
    assert one.estimate.mc_error < 0.01
    gap = one.estimate.log_likelihood - two.estimate.log_likelihood
    assert abs(gap) < 0.05 + 4 * two.estimate.mc_error
    assert abs(one.fixef()["x"] - two.fixef()["x"]) < 0.05 * one.std_errors()["x"]


def test_networks_without_an_intercept_weights_and_parts() -> None:
    fit = fitted(
        f"c ~ 0 + x + {CURVE} + (1 | id)",
        frame().assign(weight=np.linspace(0.5, 2, 480)),
        family="poisson",
        weights="weight",
        zi="~ 1",
        se=None,
    )
    assert fit.estimate.converged
    assert fit.estimate.log_likelihood > fit.estimate.nested.log_likelihood - 0.01


def test_the_vae_route_stays() -> None:
    fit = fitted(
        f"y ~ x + {CURVE} + (1 | id)",
        method="vae",
        se=None,
        control={"holdout": 0.0, "epochs": 10},
    )
    assert fit.estimate.encoder is not None
    assert fit.estimate.likelihood.word == "importance"
    assert "fitted by variational auto-encoder" in str(fit.summary())


def test_predictions_save_and_load(deep, tmp_path) -> None:
    deep.save(tmp_path / "fit")
    back = dgmm.load(tmp_path / "fit")
    new = frame().head(12)
    pd.testing.assert_frame_equal(deep.predict(new), back.predict(new))
    assert str(back.summary()) == str(deep.summary())
    error = deep.fitted() - frame()["y"]
    assert float(error.std()) < 0.6


def test_satterthwaite_is_refused(deep) -> None:
    with pytest.raises(ValueError, match=r"without dnn\(\)"):
        deep.coefficients(df="satterthwaite")


def test_many_rows_begin_with_some(monkeypatch: pytest.MonkeyPatch) -> None:
    from dgmm.estimate import curved

    reference = fitted(f"y ~ x + {CURVE} + (1 | id)", se=None)
    monkeypatch.setattr(curved, "FIRST_ROWS", 150)
    fit = fitted(f"y ~ x + {CURVE} + (1 | id)", se=None)
    assert fit.estimate.converged
    assert fit.estimate.log_likelihood == pytest.approx(reference.estimate.log_likelihood, abs=1.0)
    assert len(fit.estimate.model.reference.X) == 480


def test_three_inputs_that_differ_between_subjects_only_do_not_interpolate_them() -> None:
    """150 subjects, one value of each input per subject: a rough network could explain them all."""
    rng, n = np.random.default_rng(4), 150
    person = pd.DataFrame({"age": rng.uniform(20, 70, n), "sex": rng.integers(0, 2, n)})
    person["w"] = rng.normal(size=n)
    curve = np.sin(2 * np.pi * person["age"] / 50) * np.where(person["sex"] == 1, 1.5, -0.7)
    long = person.assign(id=range(n), mu=curve + 0.5 * person["w"] ** 2, b=rng.normal(0, 0.5, n))
    long = long.loc[np.repeat(np.arange(n), 4)].reset_index(drop=True)
    long["y"] = long["mu"] + long["b"] + rng.normal(0, 0.5, len(long))
    fit = fitted("y ~ dnn(age, sex, w) + (1 | id)", long)
    assert 8 < fit.information.effective["dnn1"] < 50
    assert fit.estimate.converged
    predicted = fit.predict(long, type="mean_subject")["fit"]
    error = (predicted - predicted.mean()) - (long["mu"] - long["mu"].mean())
    assert error.std() < 0.35 < long["mu"].std() / 2
