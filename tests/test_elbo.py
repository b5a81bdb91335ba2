"""The ELBO: a bound, tight at the exact posterior, and reached by training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
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

from dgmm import mixed_model
from dgmm.encoders import Encoder, context
from dgmm.estimate.amortised import skip_matrix
from dgmm.likelihood import Quadrature, freeze
from dgmm.likelihood.gaussian import per_subject, profile_theta
from dgmm.likelihood.profiling import maximise
from dgmm.likelihood.statistics import statistics
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.numerics.quadrature import sobol_gaussian
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.runtime.registry import members
from dgmm.variational.elbo import elbo, evaluate, refine
from dgmm.variational.training import Schedule, train

WORDS = sorted(members("dgmm.encoders", Encoder))
SHORT = Schedule(epochs=25, batch=10, learning_rate=2e-2)


def linear_case(n: int = 40) -> tuple[Model, Panel, Theta]:
    """A linear Gaussian model at its maximum likelihood, with outcomes missing."""
    model, panel = build("y ~ x + t + (t | id)", frame(n, 6, seed=3, missing=0.3), unit=1.5)
    panel = panel.observed_rows()
    return model, panel, profile_theta(model, maximise(statistics(model, panel)))


def silent(encoder: Encoder, model: Model, theta: Theta) -> Weights:
    """phi of the skeleton alone, tied to theta."""
    phi = encoder.tied(skip_matrix(model, theta), generator())
    return {n: w if n == "W" else torch.zeros_like(w) for n, w in phi.items()}


@pytest.mark.parametrize("word", WORDS)
def test_elbo_at_the_exact_posterior_is_the_log_likelihood(word: str) -> None:
    model, panel, theta = linear_case()
    encoder = encoder_for(model, panel, word)
    bound = evaluate(model, encoder, theta, silent(encoder, model, theta), panel, seed=1, draws=256)
    known = per_subject(model, theta, panel)
    assert bound.mc_error < 0.1
    assert abs(float((bound.elbo - known).sum())) < 4 * bound.mc_error


@pytest.mark.parametrize("word", WORDS)
def test_elbo_is_below_the_log_likelihood_for_every_subject(word: str) -> None:
    model, panel, theta = linear_case()
    encoder = encoder_for(model, panel, word)
    known = per_subject(model, theta, panel)
    for seed in (1, 2):
        phi = encoder.initial(generator(seed))
        bound = evaluate(model, encoder, theta, phi, panel, seed=1, draws=512)
        gap = known - bound.elbo
        assert (gap > -0.05).all()  # Monte Carlo error of one subject
        assert float(gap.sum()) > 10 * bound.mc_error
        assert torch.equal(bound.elbo, bound.reconstruction - bound.kl)


def test_gap_is_the_kl_to_the_exact_posterior() -> None:
    model, panel, theta = linear_case()
    encoder = encoder_for(model, panel, "sites")
    q, phi = [], silent(encoder, model, theta)
    # means times 0.7
    phi["c"] = torch.tensor([0.0, np.log(0.7)], dtype=torch.float64)
    bound = evaluate(model, encoder, theta, phi, panel, seed=1, draws=256)
    gap = per_subject(model, theta, panel) - bound.elbo
    mean, covariance, _ = linear_gaussian(model, theta, panel)
    for m, V in zip(mean, covariance, strict=True):
        q.append(0.5 * (0.3 * m) @ np.linalg.solve(V, 0.3 * m))
    assert float(gap.sum()) == pytest.approx(sum(q), abs=4 * bound.mc_error)


def test_masked_rows_contribute_nothing() -> None:
    model, panel, theta = linear_case()
    encoder = encoder_for(model, panel, "sites")
    phi, e = encoder.initial(generator(1)), torch.randn(4, panel.n, 2, generator=generator(2))
    together = elbo(model, encoder, theta, phi, whole(panel), e.double())
    for i in (0, 17):
        block = panel.block(torch.tensor([i]))
        alone = elbo(model, encoder, theta, phi, block, e[:, [i]].double())
        assert torch.allclose(alone.elbo[0], together.elbo[i], atol=1e-10)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("fixed", [True, False])
def test_training_improves_the_bound(word: str, fixed: bool) -> None:
    model, panel, theta = linear_case(30)
    if not fixed:
        theta = random_theta(model, 2)
    encoder = encoder_for(model, panel, word)
    phi = encoder.initial(generator(1))
    before = evaluate(model, encoder, theta, phi, panel, seed=1)
    moved, learnt, trace = train(
        model, encoder, theta, phi, panel, SHORT, generator(1), fixed_theta=fixed
    )
    after = evaluate(model, encoder, moved, learnt, panel, seed=1)
    assert float((after.elbo - before.elbo).sum()) > 4 * (after.mc_error + before.mc_error)
    assert (len(trace.elbo), trace.epochs) == (25, 25)
    assert trace.elbo[-1] > trace.elbo[0]
    assert np.isfinite(trace.gradient)
    same = [torch.equal(moved[name], theta[name]) for name in theta]
    assert all(same) if fixed else not any(same)
    assert not any(value.requires_grad for value in (*moved.values(), *learnt.values()))


def test_same_generator_same_training() -> None:
    model, panel, theta = linear_case(20)
    encoder = encoder_for(model, panel, "sites")
    phi, schedule = encoder.initial(generator(1)), Schedule(epochs=3, batch=10)
    runs = [
        train(model, encoder, theta, phi, panel, schedule, generator(s))[2].elbo for s in (1, 1, 2)
    ]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_training_leaves_its_arguments_alone() -> None:
    model, panel, theta = linear_case(20)
    encoder = encoder_for(model, panel, "sites")
    phi = encoder.initial(generator(1))
    kept = {name: value.clone() for name, value in (theta | phi).items()}
    train(model, encoder, theta, phi, panel, Schedule(epochs=2), generator(1))
    assert all(torch.equal(value, kept[name]) for name, value in (theta | phi).items())


def test_kl_annealing_and_free_bits_change_the_path_not_the_measure() -> None:
    model, panel, theta = linear_case(20)
    encoder = encoder_for(model, panel, "sites")
    phi = encoder.initial(generator(1))

    def path(**options: float) -> tuple[float, ...]:
        schedule = Schedule(epochs=3, batch=10, **options)  # type: ignore[arg-type]
        return train(model, encoder, theta, phi, panel, schedule, generator(1))[2].elbo

    plain = path()
    assert path(kl_anneal=3) != plain
    assert path(free_bits=50.0) != plain
    assert path(free_bits=1e-9) == plain  # no subject is below that
    assert path(kl_anneal=1) == plain


# -- q refined subject by subject ----------------------------------------------------------------


@pytest.mark.parametrize("word", WORDS)
def test_one_newton_step_gives_the_exact_posterior_of_a_linear_gaussian_model(word: str) -> None:
    model, panel, theta = linear_case()
    encoder, block, ready = encoder_for(model, panel, word), whole(panel), model.prepare(theta)
    seen = context(model, ready, block)
    mean, covariance, _ = linear_gaussian(model, theta, panel)
    e = sobol_gaussian(panel.n, 2, 16, np.random.default_rng(0))
    e = torch.cat([e, -e])  # the mean of the draws is zero, as in the expectation
    q = refine(model, ready, encoder(encoder.initial(generator(1)), seen), block, e, 1)
    np.testing.assert_allclose(q.mean.numpy(), mean, atol=1e-10)
    np.testing.assert_allclose((q.root @ q.root.mT).numpy(), covariance, atol=1e-10)
    assert torch.allclose(q.log_det_root, torch.linalg.slogdet(q.root)[1], atol=1e-10)
    diagonal = replace(encoder, covariance="diagonal")
    start = diagonal(diagonal.initial(generator(1)), seen)
    q = refine(model, ready, start, block, e, 1, diagonal=True)
    np.testing.assert_allclose(q.mean.numpy(), mean, atol=1e-10)
    best = 1 / np.linalg.inv(covariance).diagonal(axis1=1, axis2=2)
    np.testing.assert_allclose(q.root.square().sum(-1).numpy(), best, atol=1e-10)


@pytest.mark.parametrize("family", ["bernoulli", "poisson"])
def test_refined_bounds_lie_between_the_first_bound_and_the_log_likelihood(family: str) -> None:
    outcome = {"bernoulli": "z", "poisson": "count"}[family]
    text, options = f"{outcome} ~ x + t + (t | id)", {"family": family, "se": None, "verbose": 0}
    done = mixed_model(text, frame(20, 6, seed=3), **options).estimate
    model, panel = done.model, done.observed
    theta = {**done.theta, "latent1.log_diagonal": torch.zeros(2, dtype=torch.float64)}
    encoder = encoder_for(model, panel, "sites")
    phi = silent(encoder, model, theta)  # the linearised posterior
    pieces = freeze(model, theta, panel, Quadrature(25), np.random.default_rng(0))
    known = pieces.per_subject(theta)
    bounds = [
        evaluate(model, encoder, theta, phi, panel, 1, draws=512, newton=steps).elbo
        for steps in (0, 1, 5)
    ]
    gaps = [float((known - bound).mean()) for bound in bounds]
    assert gaps[0] > 2 * gaps[1] > 2 * gaps[2] > 0
    assert gaps[2] < 0.05  # what a normal q loses to a posterior that is not
    assert ((bounds[2] - bounds[0]) > -0.02).all()  # Monte Carlo error of one subject


# -- how near the bound comes --------------------------------------------------------------------


def linear_mixed(q: int, n: int) -> tuple[Model, Panel, Theta, torch.Tensor]:
    """An LMM with q random effects and 30% missing at random, at its ML theta."""
    rng = np.random.default_rng(5)
    J = 8 if q == 2 else 20
    data = pd.DataFrame({"id": np.repeat(np.arange(n), J), "t": np.tile(np.linspace(0, 1, J), n)})
    data["x"] = np.repeat(rng.normal(size=n), J)
    term = "t" if q == 2 else "ns(t, 4)"
    _, planned = build(f"x ~ ({term} | id)", data)
    A = 0.5 * rng.normal(size=(q, q))
    b = rng.normal(size=(n, q)) @ np.linalg.cholesky(A @ A.T + 0.2 * np.eye(q)).T
    random = (planned.rows.T[0].numpy() * b[data.id]).sum(1)
    data["y"] = 1 + 0.5 * data.x - 0.4 * data.t + random + 0.7 * rng.normal(size=n * J)
    data.loc[rng.uniform(size=n * J) < 0.3, "y"] = np.nan
    model, panel = build(f"y ~ x + {term} + ({term} | id)", data)
    panel = panel.observed_rows()
    theta = profile_theta(model, maximise(statistics(model, panel)))
    return model, panel, theta, per_subject(model, theta, panel)


def gap_of(q: int, n: int, schedule: Schedule, seed: int) -> tuple[float, float]:
    """Nats per subject between log-likelihood and the ELBO of `sites` from an untied start."""
    model, panel, theta, known = linear_mixed(q, n)
    encoder, g = encoder_for(model, panel, "sites"), generator(seed)
    phi = encoder.initial(g)
    _, phi, _ = train(model, encoder, theta, phi, panel, schedule, g, fixed_theta=True)
    bound = evaluate(model, encoder, theta, phi, panel, seed=99, draws=256)
    return float((known - bound.elbo).mean()), bound.mc_error / panel.n


def test_sites_reaches_the_log_likelihood_to_a_hundredth_of_a_nat() -> None:
    gap, error = gap_of(2, 60, Schedule(batch=25), seed=1)
    assert -4 * error < gap < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 11, 12])
@pytest.mark.parametrize("q", [2, 5])
def test_sites_reaches_it_with_the_default_schedule(q: int, seed: int) -> None:
    gap, error = gap_of(q, 800, Schedule(), seed)
    assert -4 * error < gap < 0.01
