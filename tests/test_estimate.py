"""The stages of a fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import dgmm
from dgmm.design import build_design
from dgmm.estimate.deep import tied_decoder
from dgmm.estimate.pilot import pilot
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
    control = {"epochs": 60, "holdout": 0.25}
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
    skips = [one.model.latents[0].skip(_own(one.theta)) for one in (below,)]
    skips.append(model.latents[0].skip(_own(theta)))
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
    assert held.subjects == 9
    assert held.standard_error > 0
    assert len(deep.estimate.start_spread) == 2
    text = str(deep.summary())
    assert "Held out (9 subjects)" in text
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
    assert fit.estimate.rule.points > 25
    assert fit.estimate.mc_error < 0.01
