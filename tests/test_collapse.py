"""Active directions: closed forms, invariance to rotation, and collapse told apart from others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import no_slopes
from test_elbo import linear_case
from toys import generator, linear_gaussian

from dgmm import Fit, mixed_model
from dgmm.parameters import part
from dgmm.report.collapse_notes import collapse_messages
from dgmm.variational.collapse import Activity, latent_activity, posterior_means
from dgmm.variational.elbo import evaluate

QUICK = {"epochs": 40, "holdout": 0.0}
SMALL = "y ~ t + (dnn(t, latent=2, hidden=(6,)) | id)"


@pytest.fixture(scope="module")
def one_dimension() -> Fit:
    """Subjects have levels of their own and one slope in common; the model offers two."""
    return mixed_model(SMALL, no_slopes(), control=QUICK, verbose=0)


@pytest.fixture(scope="module")
def two_dimensions() -> Fit:
    rng = np.random.default_rng(4)
    n, time = 40, np.arange(6.0) / 5
    y = rng.normal(size=(n, 1)) + 1.5 * rng.normal(size=(n, 1)) * time
    y = y + 0.4 * rng.normal(size=(n, 6))
    frame = pd.DataFrame({"id": np.repeat(np.arange(n), 6), "t": np.tile(time, n), "y": y.ravel()})
    return mixed_model(SMALL, frame, control=QUICK, verbose=0)


# -- measures ------------------------------------------------------------------------------------


def test_posterior_means_are_those_of_the_linear_gaussian_model() -> None:
    model, panel, theta = linear_case()
    known, _, _ = linear_gaussian(model, theta, panel)
    means = posterior_means(model, theta, panel, seed=1)
    assert np.abs(means.numpy() - known).max() < 0.2  # 64 draws
    activity = Activity.of(model, torch.from_numpy(known), means)
    values = np.sort(np.linalg.eigvalsh(np.cov(known.T, bias=True)))[::-1]
    np.testing.assert_allclose(activity.encoder.numpy(), values, atol=1e-12)
    np.testing.assert_allclose(activity.posterior.numpy(), values, atol=0.02)


def test_rotations_of_b_change_nothing() -> None:
    model, _, _ = linear_case()
    means = torch.randn(30, 2, generator=generator(1), dtype=torch.float64)
    means[:, 1] = 2 * means[:, 0]  # one direction in two coordinates
    turn = torch.linalg.qr(torch.randn(2, 2, generator=generator(2), dtype=torch.float64))[0]
    plain, turned = Activity.of(model, means, means), Activity.of(model, means @ turn, means)
    assert torch.allclose(plain.encoder, turned.encoder, atol=1e-12)
    assert turned.counts(0) == (1, 1)


# -- what is told apart --------------------------------------------------------------------------


def test_a_dimension_that_the_data_do_not_have(one_dimension: Fit) -> None:
    activity = one_dimension.estimate.activity
    assert activity.posterior[0] > 0.8
    assert activity.posterior[1] < 0.005
    (message,) = collapse_messages(one_dimension.estimate)
    assert "uses 1 of its 2 latent directions" in message
    assert "Nothing is wrong with the fit; latent=1 gives the same model" in message
    assert message in one_dimension.messages
    assert "Variance of posterior means by direction" in str(one_dimension.summary(verbose=True))


def test_a_fit_that_uses_all_directions_has_no_message(two_dimensions: Fit) -> None:
    done = two_dimensions.estimate
    assert done.activity.counts(0) == (2, 2)
    assert collapse_messages(done) == ()


def test_an_encoder_that_tells_nothing_beside_a_posterior_that_does(two_dimensions: Fit) -> None:
    """The encoder gives back the prior; the decoder is as good as before."""
    done = two_dimensions.estimate
    silent = {name: torch.zeros_like(w) for name, w in part(done.phi, "base.").items()}
    bound = evaluate(done.model, done.encoder.base, done.theta, silent, done.observed, 0)
    assert float(bound.mean.abs().max()) == 0.0
    activity = latent_activity(done.model, done.theta, done.observed, bound.mean, 0)
    assert activity.counts(0) == (0, 2)
    (message,) = collapse_messages(replace(done, activity=activity))
    assert "has collapsed: its posterior means vary between subjects in 0 latent dir" in message
    assert "For a better one refit with encoder='sites'" in message


def test_a_decoder_that_lost_a_direction_of_the_nested_model(two_dimensions: Fit) -> None:
    done = two_dimensions.estimate
    theta = {n: torch.zeros_like(w) if n[:9] == "latent1.A" else w for n, w in done.theta.items()}
    skip = done.theta["latent1.Lambda"]
    theta["latent1.Lambda"] = torch.stack([skip[:, 0], 0 * skip[:, 0]], dim=1)
    exact = posterior_means(done.model, theta, done.observed, 0)
    activity = Activity.of(done.model, exact, exact)
    assert activity.counts(0) == (1, 1)
    (message,) = collapse_messages(replace(done, theta=theta, activity=activity))
    assert "the nested classical model tells subjects apart in 2" in message
    assert "the decoder has collapsed" in message


def test_a_variance_at_its_boundary_is_not_called_collapse() -> None:
    fit = mixed_model(
        "y ~ t + (t || id)", no_slopes(), method="vae", control={"epochs": 60}, verbose=0
    )
    assert fit.estimate.activity.counts(0)[1] == 1
    text = " ".join(fit.messages)
    assert "collapse" not in text
    assert "boundary" in text
