"""The polish ends at a maximum, from anywhere near, in units of standard errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import build, frame, random_theta

from dgmm.likelihood import Importance, NodeRule, Quadrature
from dgmm.likelihood.gaussian import profile_theta
from dgmm.likelihood.polish import Polished, kappa_vector, polish
from dgmm.likelihood.profiling import maximise
from dgmm.likelihood.statistics import statistics
from dgmm.numerics.hessian import central_jacobian, invert


def standard_errors(done: Polished) -> np.ndarray:
    packing = done.frozen.model.packing
    x = packing.pack(done.theta).numpy()

    def slope(v: np.ndarray) -> np.ndarray:
        theta = packing.unpack(torch.from_numpy(v))
        return packing.pack(done.frozen.value_and_gradient(theta)[1]).numpy()

    curvature = central_jacobian(slope, x, np.full(len(x), 1e-4))
    return np.sqrt(np.diag(invert(-curvature.matrix)))


@pytest.mark.parametrize(("rule", "share"), [(Quadrature(5), 0.01), (Importance(512), 0.1)])
def test_a_gaussian_model_is_polished_to_the_profile_maximum(rule: NodeRule, share: float) -> None:
    model, panel = build("y ~ x + t + (t | id)", frame(80, 6, seed=1, missing=0.2), unit=1.5)
    panel = panel.observed_rows()
    profile = maximise(statistics(model, panel))
    known = model.packing.pack(profile_theta(model, profile)).numpy()
    done = polish(model, random_theta(model, 3), panel, rule, seed=1)
    assert done.converged
    assert done.decrement < 3e-3
    gap = (model.packing.pack(done.theta).numpy() - known) / standard_errors(done)
    assert np.abs(gap).max() < share
    if isinstance(rule, Quadrature):
        assert done.path[-1] == pytest.approx(profile.log_likelihood, abs=1e-4)


def test_two_starts_reach_one_maximum() -> None:
    model, panel = build("z ~ x + (1 | id)", frame(80, 6, seed=1), "bernoulli")
    one, other = (
        polish(model, random_theta(model, s), panel, Quadrature(15), seed=1) for s in (1, 2)
    )
    gap = model.packing.pack(one.theta) - model.packing.pack(other.theta)
    assert np.abs(gap.numpy() / standard_errors(one)).max() < 0.01
    assert one.path[-1] == pytest.approx(other.path[-1], abs=1e-4)


def test_held_parameters_stay() -> None:
    model, panel = build("y ~ x + t + (t | id)", frame(40, 6, seed=1))
    theta = random_theta(model, 3)
    done = polish(model, theta, panel, Quadrature(3), seed=1, free=["beta"])
    for name in theta:
        assert torch.equal(done.theta[name], theta[name]) == (name != "beta")
    # with the variances held the maximum is generalised least squares
    _, gradient = done.frozen.value_and_gradient(done.theta)
    assert float(gradient["beta"].abs().max()) < 0.05


def test_a_maximum_is_recognised_at_once() -> None:
    model, panel = build("y ~ x + t + (t | id)", frame(80, 6, seed=1))
    theta = profile_theta(model, maximise(statistics(model, panel)))
    done = polish(model, theta, panel, Quadrature(3), seed=1)
    assert done.rounds == 0
    assert done.evaluations == 0
    assert done.converged
    assert all(torch.equal(done.theta[name], theta[name]) for name in theta)


def test_too_few_rounds_are_admitted() -> None:
    model, panel = build("z ~ x + (1 | id)", frame(80, 6, seed=1), "bernoulli")
    done = polish(model, random_theta(model, 1, 1.0), panel, Quadrature(7), seed=1, rounds=0)
    assert not done.converged
    assert done.decrement > 3e-3


def test_networks_are_polished_under_their_ridge() -> None:
    text = "y ~ x + dnn(w, hidden=(3,), ridge=3) + (dnn(t, hidden=(3,), ridge=3) | id)"
    model, panel = build(text, frame(40, 6, seed=1), unit=1.5)
    done = polish(model, random_theta(model, 1), panel, Importance(64), seed=1, rounds=4)
    values = done.frozen.value(done.theta) - float(model.penalty(done.theta))
    assert done.path[-1] == pytest.approx(values, abs=1e-8)
    assert done.path[-1] > done.path[0] + 10
    assert done.decrement < 1.0


def test_kappa_lies_on_penalised_entries_only() -> None:
    text = "y ~ x + dnn(w, hidden=(3,), ridge=3) + (dnn(t, hidden=(3,), ridge=5) | id)"
    model, _ = build(text, frame())
    kappa = model.packing.unpack(kappa_vector(model, model.packing))
    ridge = model.ridge()
    for name, entry in kappa.items():
        assert torch.equal(entry, torch.full_like(entry, ridge.get(name, 0.0))), name
    assert {float(entry.max()) for entry in kappa.values() if entry.numel()} == {0.0, 3.0, 5.0}
