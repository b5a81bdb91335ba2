"""q as a mixture about the end of Newton steps: a density, and the posterior of linear models."""

from __future__ import annotations

import math

import numpy as np
import torch
from toys import build, encoder_for, frame, generator, linear_gaussian, random_theta, whole

from dgmm.encoders import Encoder, Mixed, MixedPosterior
from dgmm.encoders.mixed import heights, quadratic
from dgmm.estimate.amortised import skip_matrix
from dgmm.likelihood.gaussian import per_subject
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.numerics.quadrature import sobol_normal
from dgmm.panel import Panel
from dgmm.parameters import Theta


def linear_case(missing: float = 0.3) -> tuple[Model, Panel, Theta, Encoder]:
    model, panel = build("y ~ x + t + (t | id)", frame(20, 6, seed=3, missing=missing), unit=1.5)
    return model, panel.observed_rows(), random_theta(model, 2), encoder_for(model, panel, "sites")


def weights(model: Model, theta: Theta, mixed: Mixed, loud: float) -> Weights:
    """phi with a network times ``loud``, 0 for a silent one."""
    g = generator(3)
    phi = mixed.above(mixed.base.tied(skip_matrix(model, theta), g), g)
    last = f"head.A{len(mixed.network.sizes) - 1}"
    return {**phi, last: loud * phi[last]}


def some_mixture(n: int = 4, C: int = 3, k: int = 2) -> MixedPosterior:
    g = generator(5)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    factor = 0.3 * draw(n, C, k, k).tril(-1) + torch.diag_embed((0.3 * draw(n, C, k)).exp())
    root = 0.5 * draw(n, k, k).triu(1) + torch.diag_embed((0.3 * draw(n, k)).exp())
    return MixedPosterior(
        draw(n, k),
        root,
        root.diagonal(dim1=-2, dim2=-1).log().sum(-1),
        torch.log_softmax(draw(n, C), 1),
        draw(n, C, k),
        factor,
    )


def by_torch(q: MixedPosterior) -> torch.distributions.MixtureSameFamily:
    """The distribution of b by another library."""
    inverse = torch.linalg.inv(q.factor)
    spread = q.root[:, None] @ inverse
    mean = q.centre[:, None] + torch.einsum("nab,ncb->nca", q.root, q.shift)
    normal = torch.distributions.MultivariateNormal(mean, spread @ spread.mT)
    shares = torch.distributions.Categorical(logits=q.log_share)
    return torch.distributions.MixtureSameFamily(shares, normal)


def test_density_and_moments_are_those_of_a_mixture_of_normals() -> None:
    q = some_mixture()
    known = by_torch(q)
    b, log_q = q.drawn(torch.rand(50, 4, 3, generator=generator(1), dtype=torch.float64))
    assert torch.allclose(log_q, known.log_prob(b), atol=1e-10)
    mean, variance = q.moments()
    assert torch.allclose(mean, known.mean, atol=1e-12)
    assert torch.allclose(variance, known.variance, atol=1e-12)


def test_draws_have_the_moments_of_the_mixture() -> None:
    q, size = some_mixture(), 20_000
    u = torch.rand(size, 4, 3, generator=generator(2), dtype=torch.float64)
    b, _ = q.drawn(u)
    mean, variance = q.moments()
    assert bool(((b.mean(0) - mean).abs() < 4 * (variance / size).sqrt()).all())
    fourth = (b - mean).pow(4).mean(0)
    error = ((fourth - variance**2) / size).sqrt()
    assert bool(((b.var(0) - variance).abs() < 4 * error).all())


def test_samples_by_noise_have_the_divergence_from_the_prior() -> None:
    """E log q(b) / p(b) of draws with systematic components, beside independent draws."""
    q, size = some_mixture(), 4096
    drawn = q.sample(sobol_normal(2, size, seed=3)[:, None].expand(size, 4, 2))
    b = by_torch(q).sample((size,))
    prior = -0.5 * b.square().sum(-1) - math.log(2 * math.pi)
    ratio = by_torch(q).log_prob(b) - prior
    assert bool(((drawn.kl - ratio.mean(0)).abs() < 4 * ratio.std(0) / size**0.5).all())
    assert torch.allclose(drawn.mean, by_torch(q).mean, atol=1e-12)


def test_a_defended_mixture_has_the_shares_of_the_prior_and_of_a_wide_one() -> None:
    q = some_mixture()
    wide = torch.distributions.MultivariateNormal(q.centre, 4 * q.root @ q.root.mT)
    b, log_g = q.defended(0.125, 0.25, 2.0).drawn(
        torch.rand(30, 4, 3, generator=generator(4), dtype=torch.float64)
    )
    parts = [
        by_torch(q).log_prob(b) + math.log(0.625),
        -0.5 * b.square().sum(-1) - math.log(2 * math.pi) + math.log(0.125),
        wide.log_prob(b) + math.log(0.25),
    ]
    assert torch.allclose(log_g, torch.logsumexp(torch.stack(parts), 0), atol=1e-10)


def test_heights_by_monomials_are_the_density() -> None:
    q = some_mixture()
    z = torch.randn(4, 9, 2, generator=generator(6), dtype=torch.float64)
    by_monomials = heights(q.log_share, q.shift, q.factor, quadratic(z))
    assert torch.allclose(by_monomials, q.log_density(z.mT.contiguous()).T, atol=1e-10)


def test_a_silent_network_gives_the_posterior_of_a_linear_gaussian_model() -> None:
    model, panel, theta, encoder = linear_case()
    mixed = Mixed(encoder, components=3, hidden=8)
    phi = weights(model, theta, mixed, 0.0)
    block, ready = whole(panel), model.prepare(theta)
    q = mixed.posterior(phi, model, ready, block)
    mean, covariance, value = linear_gaussian(model, theta, panel)
    np.testing.assert_allclose(q.centre.numpy(), mean, atol=1e-10)
    np.testing.assert_allclose((q.root @ q.root.mT).numpy(), covariance, atol=1e-10)
    u = torch.rand(7, panel.n, 3, generator=generator(1), dtype=torch.float64)
    b, log_q = q.drawn(u)
    evidence = model.log_joint(ready, b, block) - log_q  # Bayes, at any b
    np.testing.assert_allclose(evidence.numpy(), np.tile(value, (7, 1)), atol=1e-9)


def test_a_subject_of_whom_nothing_was_seen_keeps_its_prior() -> None:
    data = frame(6, 4, seed=1)
    data.loc[data["id"].isin(data["id"].unique()[:2]), "y"] = np.nan
    model, panel = build("y ~ x + t + (t | id)", data, unit=1.0)
    panel, theta = panel.observed_rows(), random_theta(model, 1)
    mixed = Mixed(encoder_for(model, panel, "sites"), components=2, hidden=4)
    phi = weights(model, theta, mixed, 0.0)
    q = mixed.posterior(phi, model, model.prepare(theta), whole(panel))
    nothing = panel.count == 0
    assert int(nothing.sum()) == 2
    assert torch.allclose(q.centre[nothing], torch.zeros(2, 2, dtype=torch.float64), atol=1e-12)
    identity = torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
    assert torch.allclose(q.root[nothing], identity, atol=1e-12)
    assert float(per_subject(model, theta, panel)[nothing].abs().max()) == 0.0


def test_weights_have_the_shapes_that_they_are_said_to_have() -> None:
    model, _, theta, encoder = linear_case()
    mixed = Mixed(encoder, components=2, hidden=5)
    phi = weights(model, theta, mixed, 1.0)
    named = {name: tuple(w.shape) for name, w in phi.items() if not name.startswith("scale.")}
    assert named == mixed.shapes()
