"""The stages of a fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import benchmark

import dgmm
from dgmm.design import build_design
from dgmm.estimate import amortised
from dgmm.estimate.pilot import pilot, start_theta
from dgmm.estimate.starts import distances
from dgmm.estimate.tied import tied_decoder
from dgmm.families import find
from dgmm.formula import parse_formula
from dgmm.model import build_model
from dgmm.panel import Panel

DEEP = "Reaction ~ dnn(Days, hidden=(6,)) + (dnn(ns(Days, 2), hidden=(8,)) | Subject)"


@pytest.fixture(scope="module")
def sleep():
    return dgmm.datasets.load("sleepstudy")


@pytest.fixture(scope="module")
def deep(sleep):
    control = {"epochs": 10, "holdout": 0.25}
    # 18 subjects are too few for a held-out score, so each is entered twice
    twice = sleep.assign(Subject=sleep["Subject"].astype(str) + "b", Reaction=sleep["Reaction"] + 3)
    data = pd.concat([sleep.astype({"Subject": str}), twice], ignore_index=True)
    return dgmm.mixed_model(DEEP, data, verbose=0, starts=2, control=control)


def test_pilot_is_the_generalised_linear_model(sleep):
    """Least squares for the Gaussian family: X beta and the residual standard deviation."""
    design = build_design(parse_formula("Reaction ~ Days + (1 | Subject)"), sleep)
    unit, eta = pilot(design, find("gaussian"))
    X = design.fixed.matrix
    beta = np.linalg.lstsq(X, design.y, rcond=None)[0]
    np.testing.assert_allclose(eta.numpy(), X @ beta, rtol=1e-10)
    assert unit == pytest.approx(np.sqrt(np.mean((design.y - X @ beta) ** 2)), rel=1e-10)


def test_tied_decoder_gives_the_nested_profiles(sleep):
    """Stage 1: the deep model starts at mu1 and the covariance of the classical fit."""
    classical = dgmm.mixed_model("Reaction ~ Days + (1 + ns(Days, 2) | Subject)", sleep, verbose=0)
    design = build_design(parse_formula(DEEP), sleep)
    unit, _ = pilot(design, find("gaussian"))
    model, panel = build_model(design, find("gaussian"), unit), Panel.from_design(design)
    generator = torch.Generator().manual_seed(0)
    theta = tied_decoder(model, panel, classical.estimate, generator)
    ready = model.prepare(theta)
    below = classical.estimate
    nested = below.model.mu1(below.model.prepare(below.theta), below.panel.rows)
    gap = (model.mu1(ready, panel.rows) - nested).abs().max()
    assert float(gap) < 0.02 * classical.sigma()  # the networks are nearly silent
    skips = [one.model.latents[0].loadings(_own(one.theta)) for one in (below,)]
    skips.append(model.latents[0].loadings(_own(theta)))
    D = [skip @ skip.T for skip in skips]
    np.testing.assert_allclose(D[1].numpy(), D[0].numpy(), rtol=1e-3, atol=1e-6 * D[0].max())


def _own(theta):
    return {name.removeprefix("latent1."): v for name, v in theta.items() if "latent1." in name}


def test_deep_fit_reaches_the_nested_likelihood_and_stops(deep):
    done = deep.estimate
    assert done.nested is not None
    assert done.log_likelihood > done.nested.log_likelihood - 1.0
    assert done.decrement < 0.01
    assert done.converged


def test_elbo_is_a_bound(deep):
    done = deep.estimate
    assert done.elbo < done.log_likelihood + 4 * (done.mc_error + done.elbo_error)


def test_held_out_score_and_starts_are_reported(deep):
    held = deep.estimate.held_out
    assert (held.subjects, held.folds) == (36, 4)
    assert held.standard_error > 0
    assert len(deep.estimate.start_spread) == 2
    text = str(deep.summary(verbose=True))
    assert "Held out in 4 folds (36 subjects)" in " ".join(text.split())
    assert "reached from each start" in text


def test_kl_annealing_and_free_bits_are_used(sleep):
    """Annealed and free-bits runs end at the same maximum: the polish is on the likelihood."""
    reference = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep, verbose=0)
    for control in ({"kl_anneal": 20, "epochs": 40}, {"free_bits": 0.5, "epochs": 40}):
        fit = dgmm.mixed_model(
            "Reaction ~ Days + (Days | Subject)", sleep, method="vae", verbose=0, control=control
        )
        z = (fit.fixef() - reference.fixef()) / reference.std_errors()
        assert np.abs(z).max() < 0.01
        assert fit.estimate.trace.epochs == 40


def test_quadrature_grows_until_the_likelihood_stands_still():
    toenail = dgmm.datasets.load("toenail")
    toenail["y"] = (toenail["outcome"] != "none or mild").astype(int)
    fit = dgmm.mixed_model("y ~ time + (1 | patientID)", toenail, family="bernoulli", verbose=0)
    assert fit.estimate.likelihood.rule.points > 25
    assert fit.estimate.mc_error < 0.01


# -- the bound against the likelihood ------------------------------------------------------------


def test_the_polish_takes_away_the_bias_of_the_bound():
    """Bernoulli, SD 2, 6 visits: the ELBO's optimum is biased, the polished fit is ML."""
    row = benchmark("elbo_bias").compare(1, 100, epochs=60)
    assert row["ELBO alone"] < row["quadrature"] - 0.1
    assert abs(row["vae, polished"] - row["quadrature"]) < 0.03
    assert abs(row["log-likelihood lost by vae"]) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_polish_takes_away_the_bias_of_the_bound_at_full_length(seed):
    row = benchmark("elbo_bias").compare(seed, 500)
    assert row["ELBO alone"] < row["quadrature"] - 0.1
    assert abs(row["vae, polished"] - row["quadrature"]) < 0.03


# -- starts --------------------------------------------------------------------------------------


def test_starts_are_compared_by_their_curves(deep):
    done = deep.estimate
    best = int(np.argmax(done.start_spread))
    assert done.start_distance[best] == 0.0
    assert 0.0 < max(done.start_distance) < 0.5  # residual standard deviations
    assert "RMS distance of mu1 from that of the start kept" in str(deep.summary(verbose=True))


def test_distances_are_root_mean_squares_in_units_of_sigma(sleep):
    design = build_design(parse_formula("Reaction ~ Days + (1 | Subject)"), sleep)
    model, panel = build_model(design, find("gaussian"), 1.0), Panel.from_design(design)
    theta = start_theta(model, panel, panel.rows.data.y.clone(), torch.Generator())
    theta = {**theta, "extra": torch.tensor([4.0], dtype=torch.float64).log()}
    moved = {**theta, "beta": theta["beta"] + torch.tensor([0.0, 3.0])}  # orthonormal columns
    assert distances([(model, theta), (model, moved)], 0, panel) == (0.0, pytest.approx(0.75))


@pytest.mark.slow
def test_starts_in_several_processes_are_the_same(deep, sleep):
    control = {"epochs": 8, "holdout": 0.0}
    fits = [
        dgmm.mixed_model(
            DEEP, sleep, verbose=0, starts=2, se=None, control={**control, "workers": workers}
        )
        for workers in (1, 2)
    ]
    assert fits[0].estimate.start_spread == fits[1].estimate.start_spread
    assert float(fits[0].loglik()) == float(fits[1].loglik())


def test_options_of_q_reach_the_fit(sleep):
    control = {"epochs": 8, "holdout": 0.0, "covariance": "diagonal", "refine": 3}
    text = "Reaction ~ Days + (dnn(ns(Days, 2), hidden=(3,), ridge=5) | Subject)"
    options = {"verbose": 0, "se": None, "starts": 1}
    fit = dgmm.mixed_model(text, sleep, control=control, **options)
    assert fit.estimate.encoder.covariance == "diagonal"
    summary = str(fit.summary(verbose=True))
    assert "sites, diagonal covariance" in summary
    assert "refined by 3 Newton steps" in summary
    plain = dgmm.mixed_model(text, sleep, control={**control, "refine": 0}, **options)
    assert float(plain.loglik()) == float(fit.loglik())  # the likelihood does not use q
    assert plain.estimate.elbo < fit.estimate.elbo < float(fit.loglik())


def test_patience_reaches_the_fit(sleep):
    control = {"epochs": 40, "holdout": 0.0, "patience": 2, "learning_rate": 0.05}
    options = {"method": "vae", "starts": 1, "control": control}
    fit = dgmm.mixed_model(DEEP, sleep, verbose=0, se=None, **options)
    trace = fit.estimate.trace
    assert trace.epochs < 40
    assert trace.kept > 0
    assert f"the iterate after {trace.kept} kept" in str(fit.summary(verbose=True))


@pytest.mark.parametrize("failing", [("single",), ("single", "double")])
def test_an_encoder_that_cannot_be_trained_costs_no_fit(sleep, monkeypatch, failing) -> None:
    """In single precision e^eta has no number beyond eta = 88.

    What simulated subjects do not teach, a diagonal covariance, is trained on those of the fit.
    """
    asked = []

    def learn(*given, **how):
        asked.append(given[5].precision)
        if asked[-1] in failing:
            raise FloatingPointError("the gradient of the ELBO is not finite")
        return real(*given, **how)

    real = amortised.learn
    monkeypatch.setattr(amortised, "learn", learn)
    control = {"ridge": 1.0, "holdout": 0, "epochs": 5, "covariance": "diagonal"}
    fit = dgmm.mixed_model(
        "Reaction ~ Days + (dnn(Days, latent=1, hidden=(4,)) | Subject)",
        sleep,
        control=control,
        starts=1,
        seed=1,
        se=None,
        verbose=0,
    )
    assert asked == ["single", "double"]
    assert np.isfinite(fit.estimate.elbo)
    assert any("could not be trained" in one for one in fit.messages) == (len(failing) == 2)


def test_an_encoder_that_cannot_be_taught_costs_no_fit(sleep, monkeypatch) -> None:
    def fails(*given):
        raise FloatingPointError("the gradient of the encoder is not finite")

    options = {"control": {"ridge": 1.0, "holdout": 0, "epochs": 5}, "starts": 1, "se": None}
    text = "Reaction ~ Days + (dnn(Days, latent=1, hidden=(4,)) | Subject)"
    taught = dgmm.mixed_model(text, sleep, seed=1, verbose=0, **options)
    monkeypatch.setattr(amortised, "teach_normal", fails)
    fit = dgmm.mixed_model(text, sleep, seed=1, verbose=0, **options)
    assert float(fit.loglik()) == float(taught.loglik())
    assert taught.estimate.lesson is not None
    assert fit.estimate.lesson is None
    assert any("could not be trained" in one for one in fit.messages)
    assert not any("could not be trained" in one for one in taught.messages)
    assert "was taught on subjects simulated" in str(taught.summary(verbose=True))
