"""q of every subject by Newton steps, against exact posteriors and likelihoods."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import build, encoder_for, frame, generator, linear_gaussian, random_theta, whole

from dgmm.likelihood.profiling import maximise
from dgmm.likelihood.statistics import statistics
from dgmm.model import Model
from dgmm.parameters import Theta
from dgmm.posterior.modes import find_modes
from dgmm.variational.newton import LARGEST_STEP, NewtonPosterior
from dgmm.variational.schedule import Schedule
from dgmm.variational.training import train

LINEAR = "y ~ x + t + (t | id)"


def balanced(n: int, k: int) -> Tensor:
    """2k draws per subject with mean zero and covariance I: exact for quadratic functions."""
    half = np.sqrt(k) * torch.eye(k, dtype=torch.float64)
    return torch.cat([half, -half])[:, None, :].expand(2 * k, n, k)


def start(model: Model, spread: float = 0.3) -> Theta:
    """A theta that is being learnt."""
    return {name: w.requires_grad_() for name, w in random_theta(model, spread=spread).items()}


def moved(theta: Theta) -> Theta:
    """Another fixed part, the same random part and residual."""
    return {**theta, "beta": theta["beta"] + 0.7}


def test_a_linear_gaussian_bound_is_the_likelihood_at_every_beta_at_once() -> None:
    model, panel = build(LINEAR, frame())
    theta, e = start(model), balanced(panel.n, model.k)
    q = NewtonPosterior.at_modes(model, theta, panel)
    for here in (theta, moved(theta)):  # the first visit after the move is exact already
        bound = q.bound(model, here, whole(panel), e)
        known = {name: w.detach() for name, w in here.items()}
        mean, covariance, value = linear_gaussian(model, known, panel)
        assert bound.elbo.detach().numpy() == pytest.approx(value, abs=1e-10)
        assert q.mean.numpy() == pytest.approx(mean, abs=1e-10)
        inverse = torch.linalg.inv(q.precision).numpy()
        assert inverse == pytest.approx(covariance, abs=1e-10)


def test_its_gradient_in_the_fixed_part_is_that_of_the_marginal_likelihood() -> None:
    """Far from the fit, where q held still would give the gradient of the complete data."""
    model, panel = build(LINEAR, frame())
    theta = start(model)
    q = NewtonPosterior.at_modes(model, theta, panel)
    there = moved(theta)
    beta = there["beta"].detach().requires_grad_()
    bound = q.bound(model, {**there, "beta": beta}, whole(panel), balanced(panel.n, model.k))
    (ours,) = torch.autograd.grad(bound.elbo.sum(), beta)
    there = {name: w.detach() for name, w in there.items()}
    h, slopes = 1e-5, []
    for j in range(len(beta)):
        unit = torch.zeros_like(beta)
        unit[j] = h
        ends = [
            linear_gaussian(model, {**there, "beta": there["beta"] + side * unit}, panel)[2].sum()
            for side in (1, -1)
        ]
        slopes.append((ends[0] - ends[1]) / (2 * h))
    assert ours.numpy() == pytest.approx(np.array(slopes), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("y ~ x + (dnn(t, hidden=(6,)) | id)", "gaussian"),
        ("z ~ x + (dnn(t, hidden=(6,)) | id)", "bernoulli"),
        ("count ~ x + (dnn(t, form='dense', hidden=(6,)) | id)", "poisson"),
        ("z ~ x + (t | id)", "bernoulli"),
    ],
)
def test_visits_at_a_fixed_theta_raise_the_bound_and_come_to_rest(text: str, family: str) -> None:
    model, panel = build(text, frame(missing=0.2), family)
    panel = panel.observed_rows()
    theta = start(model, spread=0.4)
    q, e = NewtonPosterior.at_modes(model, theta, panel), balanced(panel.n, model.k)
    path = [float(q.bound(model, theta, whole(panel), e).elbo.detach().sum()) for _ in range(60)]
    # from the mode to the best normal q, up to the curvature of eta in b that P leaves out
    assert path[-1] > path[0] - 0.01
    before = q.mean.clone()
    q.bound(model, theta, whole(panel), e)
    assert float((q.mean - before).abs().max()) < 1e-6


def test_a_subject_without_outcomes_keeps_the_prior() -> None:
    data = frame()
    data.loc[data.id == 3, "y"] = np.nan
    model, panel = build("y ~ x + (dnn(t, hidden=(6,)) | id)", data)
    panel, theta = panel.observed_rows(), start(model)
    q = NewtonPosterior.at_modes(model, theta, panel)
    bound = q.bound(model, theta, whole(panel), balanced(panel.n, model.k))
    assert float(bound.elbo[3].detach()) == pytest.approx(0.0, abs=1e-12)
    assert q.precision[3].numpy() == pytest.approx(np.eye(model.k), abs=1e-12)


def test_only_the_subjects_of_the_block_move_and_no_step_is_wild() -> None:
    model, panel = build(LINEAR, frame())
    theta = start(model)
    q = NewtonPosterior.at_modes(model, theta, panel)
    before = q.mean.clone()
    some = torch.tensor([1, 4, 7])
    far = {**theta, "beta": theta["beta"] + 1e3}
    q.bound(model, far, panel.block(some), balanced(3, model.k))
    still = torch.ones(panel.n, dtype=torch.bool)
    still[some] = False
    assert torch.equal(q.mean[still], before[still])
    step = (q.mean - before)[some].norm(dim=1)
    assert float(step.max()) <= 1.5 * LARGEST_STEP + 1e-9


def test_training_with_it_reaches_maximum_likelihood() -> None:
    """Full batches of a linear Gaussian model: the bound is tight, so the ELBO ends at the MLE."""
    model, panel = build(LINEAR, frame(60, 6), unit=1.0)
    schedule = Schedule(epochs=500, batch=60, learning_rate=0.02, pairs=4, memory=0.99)
    theta = random_theta(model, spread=0.1)
    encoder = encoder_for(model, panel, "sites")
    theta, phi, trace = train(model, encoder, theta, {}, panel, schedule, generator(1), newton=True)
    best = maximise(statistics(model, panel)).log_likelihood
    reached = float(linear_gaussian(model, theta, panel)[2].sum())
    assert best - reached < 0.02  # in units of the log-likelihood: a tenth of a standard error
    assert phi == {}
    assert trace.epochs == 500


def test_modes_are_where_it_starts() -> None:
    model, panel = build("z ~ x + (t | id)", frame(), "bernoulli")
    theta = start(model)
    q = NewtonPosterior.at_modes(model, theta, panel)
    anchor = find_modes(model, theta, whole(panel))
    assert q.mean.numpy() == pytest.approx(anchor.mode.numpy(), abs=1e-8)
    assert torch.linalg.inv(q.precision).numpy() == pytest.approx(
        anchor.covariance.numpy(), abs=1e-8
    )
