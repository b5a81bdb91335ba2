"""The contract of every encoder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import (
    build,
    encoder_for,
    frame,
    generator,
    linear_gaussian,
    random_theta,
    whole,
)

from dgmm.encoders import Context, Encoder, Posterior, context, find
from dgmm.estimate.amortised import skip_matrix
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.runtime.registry import members

WORDS = sorted(members("dgmm.encoders", Encoder))
TEXT = "y ~ x + t + (t | id)"


def uneven() -> tuple[Model, Panel, Theta]:
    """A linear Gaussian model, subjects with 1 to 6 rows, one without any outcome."""
    data = frame(10, 6, seed=3, missing=0.2)
    data.loc[data.id == 4, "y"] = np.nan
    model, panel = build(TEXT, data[data.groupby("id").cumcount() < 1 + data.id % 6], unit=1.5)
    return model, panel.observed_rows(), random_theta(model, 1)


def seen_of(model: Model, theta: Theta, panel: Panel) -> Context:
    return context(model, model.prepare(theta), whole(panel))


def noisy(encoder: Encoder, seed: int = 0, spread: float = 0.3) -> Weights:
    g = generator(seed)
    return {
        name: spread * torch.randn(shape, generator=g, dtype=torch.float64)
        for name, shape in encoder.shapes().items()
    }


def assert_same(left: Posterior, right: Posterior, tolerance: float = 1e-10) -> None:
    for a, b in zip(left, right, strict=True):
        assert torch.allclose(a, b, atol=tolerance, rtol=0)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(
    "text", [TEXT, "y ~ x + (1 | id)", "y ~ (t | id) + (0 + x | id)", "y ~ (t || id)"]
)
def test_skeleton_alone_is_the_exact_posterior_of_a_linear_gaussian_model(
    word: str, text: str
) -> None:
    model, panel = build(text, frame(10, 6, seed=3), unit=1.5)
    theta = random_theta(model, 1)
    encoder = encoder_for(model, panel, word)
    phi = encoder.tied(skip_matrix(model, theta), generator())
    silent = {n: w if n == "W" else torch.zeros_like(w) for n, w in phi.items()}
    q = encoder(silent, seen_of(model, theta, panel))
    mean, covariance, _ = linear_gaussian(model, theta, panel)
    np.testing.assert_allclose(q.mean.numpy(), mean, atol=1e-8)
    np.testing.assert_allclose((q.root @ q.root.mT).numpy(), covariance, atol=1e-8)


@pytest.mark.parametrize("word", WORDS)
def test_tied_starts_near_the_exact_posterior(word: str) -> None:
    model, panel, theta = uneven()
    encoder = encoder_for(model, panel, word)
    skip = skip_matrix(model, theta)
    tied = encoder.tied(skip, generator())
    assert torch.equal(tied["W"], skip)
    q = encoder(tied, seen_of(model, theta, panel))
    mean, covariance, _ = linear_gaussian(model, theta, panel)
    p = torch.distributions.MultivariateNormal(torch.from_numpy(mean), torch.from_numpy(covariance))
    mine = torch.distributions.MultivariateNormal(
        q.mean, scale_tril=torch.linalg.cholesky(q.root @ q.root.mT)
    )
    assert float(torch.distributions.kl_divergence(mine, p).max()) < 0.02  # nats per subject


@pytest.mark.parametrize("word", WORDS)
def test_initial_follows_shapes_and_generator(word: str) -> None:
    model, panel, _ = uneven()
    encoder = encoder_for(model, panel, word)
    phi, again = encoder.initial(generator(1)), encoder.initial(generator(1))
    other = encoder.initial(generator(2))
    assert {name: tuple(w.shape) for name, w in phi.items()} == encoder.shapes()
    assert all(torch.equal(phi[name], again[name]) for name in phi)
    assert not torch.equal(phi["W"], other["W"])


@pytest.mark.parametrize("word", WORDS)
def test_a_subject_without_outcomes_keeps_the_prior_under_the_skeleton(word: str) -> None:
    model, panel, theta = uneven()
    encoder = encoder_for(model, panel, word)
    phi = encoder.tied(skip_matrix(model, theta), generator())
    silent = {n: w if n == "W" else torch.zeros_like(w) for n, w in phi.items()}
    q = encoder(silent, seen_of(model, theta, panel))
    assert float(q.mean[4].abs().max()) == 0.0
    assert torch.equal(q.root[4], torch.eye(2, dtype=torch.float64))


@pytest.mark.parametrize("word", WORDS)
def test_masked_rows_contribute_nothing(word: str) -> None:
    model, panel, theta = uneven()
    encoder = encoder_for(model, panel, word)
    phi, seen = noisy(encoder), seen_of(model, theta, panel)
    hidden = ~seen.mask
    assert bool(hidden.any())
    noise = torch.randn(seen.T.shape, generator=generator(3), dtype=torch.float64)
    wild = seen._replace(
        T=torch.where(seen.mask[..., None], seen.T, noise),
        residual=torch.where(seen.mask, seen.residual, 5.0),
        occasion=torch.where(seen.mask, seen.occasion, 1),
        # weights and covariates of masked rows are zero by the contract of Context
    )
    assert_same(encoder(phi, wild), encoder(phi, seen))


@pytest.mark.parametrize("word", WORDS)
def test_padding_changes_nothing(word: str) -> None:
    model, panel, theta = uneven()
    encoder = encoder_for(model, panel, word)
    phi, ready = noisy(encoder), model.prepare(theta)
    together = encoder(phi, context(model, ready, whole(panel)))
    for i in range(panel.n):
        alone = encoder(phi, context(model, ready, panel.block(torch.tensor([i]))))
        assert_same(alone, Posterior(*(part[i : i + 1] for part in together)))


def test_context_is_zero_where_masked() -> None:
    model, panel, theta = uneven()
    seen = seen_of(model, theta, panel)
    for part in (seen.T, seen.weight, seen.residual, seen.covariates):
        assert float(part[~seen.mask].abs().max()) == 0.0


@pytest.mark.parametrize("word", WORDS)
def test_permuting_subjects_permutes_the_result(word: str) -> None:
    model, panel, theta = uneven()
    encoder = encoder_for(model, panel, word)
    phi, order = noisy(encoder), torch.randperm(panel.n, generator=generator(5))
    q = encoder(phi, seen_of(model, theta, panel))
    permuted = encoder(phi, context(model, model.prepare(theta), panel.block(order)))
    assert_same(permuted, Posterior(*(part[order] for part in q)))


def test_permuting_rows_within_a_subject_leaves_sites_alone() -> None:
    model, panel, theta = uneven()
    encoder = encoder_for(model, panel, "sites")
    phi, seen = noisy(encoder), seen_of(model, theta, panel)
    order = torch.randperm(seen.mask.shape[1], generator=generator(6))
    shuffled = Context(*(part[:, order] for part in seen))
    assert_same(encoder(phi, shuffled), encoder(phi, seen))


def test_storage_order_of_rows_leaves_dense_alone() -> None:
    model, panel, theta = uneven()
    encoder = encoder_for(model, panel, "dense")
    phi, seen = noisy(encoder), seen_of(model, theta, panel)
    order = torch.randperm(seen.mask.shape[1], generator=generator(6))
    shuffled = Context(*(part[:, order] for part in seen))  # rows carry their occasion along
    assert_same(encoder(phi, shuffled), encoder(phi, seen))


def test_order_of_visits_matters_to_recurrent() -> None:
    model, panel, theta = uneven()
    encoder = encoder_for(model, panel, "recurrent")
    phi, seen = noisy(encoder), seen_of(model, theta, panel)
    backwards = Context(*(part.flip(1) for part in seen))
    gap = (encoder(phi, backwards).mean - encoder(phi, seen).mean).abs().max()
    assert float(gap) > 1e-3


@pytest.mark.parametrize("word", WORDS)
def test_kl_is_that_of_two_normals_and_not_negative(word: str) -> None:
    model, panel, theta = uneven()
    encoder = encoder_for(model, panel, word)
    q = encoder(noisy(encoder), seen_of(model, theta, panel))
    prior = torch.distributions.MultivariateNormal(
        torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    )
    tril = torch.linalg.cholesky(q.root @ q.root.mT)
    mine = torch.distributions.MultivariateNormal(q.mean, scale_tril=tril)
    known = torch.distributions.kl_divergence(mine, prior)
    assert torch.allclose(q.kl(), known, atol=1e-10)
    assert (q.kl() >= 0).all()
    one = torch.distributions.Normal(q.mean, q.root.square().sum(-1).sqrt())
    each = torch.distributions.kl_divergence(one, torch.distributions.Normal(0.0, 1.0))
    assert torch.allclose(q.kl_by_direction(), each, atol=1e-10)
    determinant = torch.linalg.slogdet(q.root)[1]
    assert torch.allclose(q.log_det_root, determinant, atol=1e-10)


@pytest.mark.parametrize("word", WORDS)
def test_draws_have_the_stated_moments(word: str) -> None:
    model, panel, theta = uneven()
    encoder = encoder_for(model, panel, word)
    q = encoder(noisy(encoder), seen_of(model, theta, panel))
    e = torch.randn(4000, panel.n, 2, generator=generator(7), dtype=torch.float64)
    b = q.draw(e)
    sd = q.root.square().sum(-1).sqrt()
    assert ((b.mean(0) - q.mean).abs() < 4.5 * sd / 4000**0.5).all()
    assert ((b.std(0) / sd - 1).abs() < 4.5 / 8000**0.5).all()


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("family", ["gaussian", "bernoulli"])
def test_every_parameter_gets_a_gradient(word: str, family: str) -> None:
    outcome = {"gaussian": "y", "bernoulli": "z"}[family]
    text = f"{outcome} ~ x + dnn(w, hidden=(3,)) + (t | id)"
    model, panel = build(text, frame(12, 5), family)
    theta = random_theta(model, 1)
    encoder = encoder_for(model, panel, word)
    phi = {n: w.requires_grad_() for n, w in noisy(encoder).items()}
    q = encoder(phi, seen_of(model, theta, panel))
    weight = torch.randn(q.root.shape, generator=generator(8), dtype=torch.float64)
    (q.mean.square().sum() + (weight * (q.root @ q.root.mT)).sum() + q.kl().sum()).backward()
    for name, w in phi.items():
        assert w.grad is not None, name
        assert bool(torch.isfinite(w.grad).all()), name
        assert float(w.grad.abs().max()) > 0, name


@pytest.mark.parametrize("word", WORDS)
def test_independent_q_has_the_exact_mean_and_the_best_variances(word: str) -> None:
    """KL(q || p) = 1/2 {sum log P_kk - log |P|}, the least of all independent normals."""
    model, panel, theta = uneven()
    encoder = replace(encoder_for(model, panel, word), covariance="diagonal")
    phi = encoder.tied(skip_matrix(model, theta), generator())
    silent = {n: w if n == "W" else torch.zeros_like(w) for n, w in phi.items()}
    q = encoder(silent, seen_of(model, theta, panel))
    mean, covariance, _ = linear_gaussian(model, theta, panel)
    P = torch.linalg.inv(torch.from_numpy(covariance))
    np.testing.assert_allclose(q.mean.numpy(), mean, atol=1e-8)
    variance = (q.root @ q.root.mT).diagonal(dim1=1, dim2=2)
    assert torch.allclose(variance, 1 / P.diagonal(dim1=1, dim2=2), atol=1e-8)
    exact = torch.distributions.MultivariateNormal(torch.from_numpy(mean), precision_matrix=P)
    mine = torch.distributions.MultivariateNormal(q.mean, torch.diag_embed(variance))
    known = 0.5 * (P.diagonal(dim1=1, dim2=2).log().sum(-1) - torch.linalg.slogdet(P)[1])
    gap = torch.distributions.kl_divergence(mine, exact)
    assert torch.allclose(gap, known, atol=1e-8)
    assert float(known.max()) > 0.01  # there is something to lose


@pytest.mark.parametrize("word", WORDS)
def test_independent_q_stays_independent_when_its_networks_speak(word: str) -> None:
    model, panel, theta = uneven()
    full = encoder_for(model, panel, word)
    encoder = replace(full, covariance="diagonal")
    q = encoder(noisy(encoder), seen_of(model, theta, panel))
    assert float((q.root - torch.diag_embed(q.root.diagonal(dim1=1, dim2=2))).abs().max()) == 0.0
    assert torch.allclose(q.log_det_root, torch.linalg.slogdet(q.root)[1], atol=1e-10)
    smaller = word != "sites"  # a network without the entries below the diagonal
    sizes = [sum(w.numel() for w in noisy(one).values()) for one in (encoder, full)]
    assert (sizes[0] < sizes[1]) is smaller


def test_unknown_encoder_is_refused_with_the_list() -> None:
    with pytest.raises(ValueError, match="unknown encoder 'site'; did you mean 'sites'"):
        find("site")
