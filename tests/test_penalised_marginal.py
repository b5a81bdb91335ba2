"""The ascent of the penalised marginal likelihood, its metric, scores of simulated outcomes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import build, frame, generator, random_theta

from dgmm.likelihood import Importance, NodeRule, Quadrature, Spherical, freeze
from dgmm.likelihood.gaussian import profile_theta
from dgmm.likelihood.polish import Surface, kappa_vector
from dgmm.likelihood.profiling import maximise
from dgmm.likelihood.statistics import statistics
from dgmm.numerics.hessian import central_jacobian
from dgmm.penalised.marginal import (
    LEAST,
    Climb,
    Metric,
    Top,
    climb,
    search_rule,
    simulated_scores,
)

LINE = "y ~ x + t + (t | id)"
NEURAL = "y ~ x + (dnn(t, hidden=(3,), ridge=4, latent=2) | id)"


def randoms(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def dense(scores: Tensor, kappa: Tensor, weak: Tensor) -> Tensor:
    """M written out."""
    information = scores.T @ scores
    least = torch.where(kappa > 0, 0.0, LEAST * information.diagonal() + weak)
    return information + torch.diag(kappa + least)


def weak(P: int) -> Tensor:
    """A weak prior on the first parameter."""
    return 0.01 * (torch.arange(P) == 0).double()


# -- the metric ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "P"), [(40, 12), (9, 30)])
def test_the_metric_is_what_dense_algebra_gives(m: int, P: int) -> None:
    scores, kappa = 3 * randoms(m, P), torch.tensor([0.0, 2.0, 5.0]).double().repeat(P // 3)
    metric, M = Metric.of(scores, kappa, weak(P)), dense(scores, kappa, weak(P))
    x, columns = randoms(P, seed=2), randoms(P, 4, seed=3)
    torch.testing.assert_close(metric.solve(x), torch.linalg.solve(M, x), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        metric.solve(columns), torch.linalg.solve(M, columns), rtol=1e-6, atol=1e-9
    )
    root = torch.stack([metric.back(one) for one in torch.eye(P).double()], dim=1)
    torch.testing.assert_close(root.T @ M @ root, torch.eye(P).double(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(metric.slope(x), root.T @ x, rtol=1e-8, atol=1e-10)
    # the length of the slope is the Newton decrement
    decrement = float(x @ torch.linalg.solve(M, x)) ** 0.5
    assert float(metric.slope(x).norm()) == pytest.approx(decrement, rel=1e-6)


def test_a_metric_knows_no_unit_of_a_parameter() -> None:
    """Coordinates c_j x_j have scores s_j / c_j and penalties kappa_j / c_j^2."""
    scores, kappa = randoms(30, 9), torch.tensor([0.0, 2.0, 5.0]).double().repeat(3)
    none = torch.zeros(9).double()
    unit = 10.0 ** torch.linspace(-6, 6, 9, dtype=torch.float64)
    one, other = Metric.of(scores, kappa, none), Metric.of(scores / unit, kappa / unit**2, none)
    x = randoms(9, seed=2)
    torch.testing.assert_close(other.solve(x / unit) / unit, one.solve(x), rtol=1e-8, atol=0.0)


def test_a_parameter_without_information_gets_no_step() -> None:
    scores, kappa = randoms(30, 6), torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]).double()
    scores[:, [1, 4]] = 0.0
    metric = Metric.of(scores, kappa, torch.zeros(6).double())
    step = metric.solve(scores.sum(0))
    assert bool(torch.isfinite(step).all())
    assert float(step[[1, 4]].abs().max()) < 1e-12


@pytest.mark.parametrize("simulated", [0, 60])
def test_without_some_subjects(simulated: int) -> None:
    """Own scores of those left out go, simulated ones lose their share."""
    n, P, out = 20, 7, torch.tensor([1, 4, 5, 19])
    kappa = torch.tensor([0.0, 0, 0, 2, 2, 2, 2]).double()
    scores = randoms(n + simulated, P)
    kept = torch.ones(n + simulated).double()
    kept[out] = 0.0
    kept[n:] *= 1 - len(out) / n
    metric, total = Metric.of(scores, kappa, weak(P)).without(out, n)
    wanted = dense(scores * kept.sqrt()[:, None], kappa, weak(P))
    x = randoms(P, seed=2)
    torch.testing.assert_close(metric.solve(x), torch.linalg.solve(wanted, x), rtol=1e-6, atol=1e-9)
    # with simulated ones beside them both have been divided by sqrt(2)
    torch.testing.assert_close(total, scores[out].sum(0) * (math.sqrt(2) if simulated else 1.0))


# -- scores of simulated outcomes ------------------------------------------------------------------


def test_simulated_scores_sum_to_the_expected_information_in_closed_form() -> None:
    """l_i is Gaussian with V = T L L' T' + sigma^2 I: F_jk = mu_j' V^-1 mu_k + tr(W_j W_k) / 2."""
    model, panel = build(LINE, frame(40, 4, seed=2), unit=1.5)
    panel, theta = panel.observed_rows(), random_theta(model, 1)
    found = simulated_scores(model, theta, panel, 3, subjects=4000, draws=128)
    assert found.shape == (4000, model.packing.size)
    F, exact = found.T @ found, torch.zeros(model.packing.size, model.packing.size).double()
    x = model.packing.pack(theta)
    for i in range(panel.n):
        rows = panel.rows.take(torch.nonzero(panel.subject == i)[:, 0])

        def moments(vector: Tensor, rows=rows) -> tuple[Tensor, Tensor]:
            ready = model.prepare(model.packing.unpack(vector))
            each = rows.take(torch.arange(len(rows.X))[None])
            b = torch.eye(model.k).double()
            loads = torch.stack([model.mu2(ready, one[None], each)[0] for one in b], dim=1)
            sigma = model.packing.unpack(vector)["extra"][0].exp()
            return model.mu1(ready, rows), loads @ loads.T + sigma**2 * torch.eye(len(rows.X))

        V = moments(x)[1]
        dm, dV = torch.autograd.functional.jacobian(moments, x)
        W = torch.linalg.solve(V, dV.permute(2, 0, 1))
        exact += dm.T @ torch.linalg.solve(V, dm) + 0.5 * torch.einsum("jab,kba->jk", W, W)
    root = exact.diagonal().sqrt()
    gap = (F - exact) / root / root[:, None]
    # a mean of m products; the scores of variances have kurtosis: var(s^2) <= 15 in units of F
    assert float(gap.abs().max()) < 4 * math.sqrt(15 / 4000)
    again = simulated_scores(model, theta, panel, 3, subjects=4000, draws=128)
    assert torch.equal(again, found)


# -- the ascent ------------------------------------------------------------------------------------


def curvature(top: Top) -> np.ndarray:
    """Minus the Hessian of the penalised surface at its nodes, by central differences."""
    packing = top.frozen.model.packing
    kappa = kappa_vector(top.frozen.model, packing).numpy()
    x = packing.pack(top.theta).numpy()

    def slope(v: np.ndarray) -> np.ndarray:
        theta = packing.unpack(torch.from_numpy(v))
        return packing.pack(top.frozen.value_and_gradient(theta)[1]).numpy() - kappa * v

    return -central_jacobian(slope, x, np.full(len(x), 1e-4)).matrix


@pytest.mark.parametrize("expected", [False, True])
def test_a_gaussian_model_climbs_to_the_profile_maximum(expected: bool) -> None:
    model, panel = build(LINE, frame(80, 6, seed=1, missing=0.2), unit=1.5)
    panel = panel.observed_rows()
    profile = maximise(statistics(model, panel))
    known = model.packing.pack(profile_theta(model, profile)).numpy()
    how = Climb(rounds=6, evaluations=60, tolerance=0.003, expected=expected)
    top = climb(model, random_theta(model, 3), panel, 1, how, rule=Quadrature(5))
    assert top.converged
    assert top.decrement < 0.003
    value = top.frozen.value(top.theta)
    assert value == pytest.approx(profile.log_likelihood, abs=1e-4)
    gap = model.packing.pack(top.theta).numpy() - known
    assert math.sqrt(gap @ curvature(top) @ gap) < 0.01


def test_a_neural_model_climbs_to_where_no_step_leads_up() -> None:
    """The decrement by the metric beside that of the Hessian, the values beside the objective."""
    model, panel = build(NEURAL, frame(60, 6, seed=1), unit=1.5)
    panel = panel.observed_rows()
    how = Climb(draws=64, most_draws=64, rounds=5, evaluations=80, tolerance=0.02, expected=True)
    top = climb(model, random_theta(model, 1), panel, 1, how)
    assert top.converged
    values = top.frozen.value(top.theta) - float(model.penalty(top.theta))
    assert top.path[-1] == pytest.approx(values, abs=1e-8)
    assert top.path[-1] > top.path[0] + 10
    packing = model.packing
    slope = packing.pack(top.frozen.value_and_gradient(top.theta)[1]).numpy()
    slope = slope - (kappa_vector(model, packing) * packing.pack(top.theta)).numpy()
    value, vector = np.linalg.eigh(curvature(top))
    kept = value > 1e-3 * np.median(value)  # rotations of b are flat
    assert value[0] > -1e-3 * value[-1]
    newton = math.sqrt(float(((vector.T @ slope)[kept] ** 2 / value[kept]).sum()))
    assert newton < 0.1


def test_a_surface_in_single_precision_is_near_that_in_double() -> None:
    model, panel = build(NEURAL, frame(30, 5, seed=1), unit=1.5)
    theta, packing = random_theta(model, 1), model.packing
    nodes = search_rule(model.k, 64)
    frozen = freeze(model, theta, panel.observed_rows(), nodes, np.random.default_rng(0))
    surface = Surface(frozen, theta, packing, kappa_vector(model, packing).numpy())
    x = packing.pack(theta).numpy()
    (value, slope), (rounded, turned) = surface(x), surface.single()(x)
    assert slope.dtype == turned.dtype == np.float64
    assert 0 < abs(rounded - value) < 1e-3
    assert np.linalg.norm(turned - slope) < 1e-4 * np.linalg.norm(slope)


@pytest.mark.parametrize("unit", [1.0, 1e25])
def test_single_precision_is_left_where_it_is_not_enough(unit: float) -> None:
    """An outcome whose square overflows in it has the maximum of the one in its own unit."""
    data = frame(80, 6, seed=1, missing=0.2)
    model, panel = build(LINE, data.assign(y=unit * data["y"]), unit=1.5 * unit)
    theta = random_theta(model, 3)
    theta = {**theta, "extra": theta["extra"] + math.log(unit)}
    how = Climb(rounds=6, evaluations=60, tolerance=0.003)
    top = climb(model, theta, panel.observed_rows(), 1, how, rule=Quadrature(5))
    assert top.converged
    profile = maximise(statistics(model, panel.observed_rows()))
    assert top.frozen.value(top.theta) == pytest.approx(profile.log_likelihood, abs=1e-4)


def test_no_round_leaves_theta_where_it_is() -> None:
    model, panel = build(NEURAL, frame(30, 5, seed=1), unit=1.5)
    theta = random_theta(model, 1)
    top = climb(model, theta, panel.observed_rows(), 1, Climb(rounds=0))
    assert all(torch.equal(top.theta[name], theta[name]) for name in theta)
    assert not top.converged
    assert top.evaluations == 0


@pytest.mark.parametrize(
    ("k", "draws", "rule"),
    [
        (1, 128, Quadrature(25)),
        (2, 128, Quadrature(16)),
        (3, 32, Quadrature(4)),
        (3, 128, Quadrature(6)),
        (4, 32, Spherical(5, 2)),
        (5, 64, Spherical(5, 2)),
        (5, 128, Spherical(7, 2)),
        (5, 512, Spherical(7, 3)),
        (7, 128, Spherical(5, 2)),
        (5, 32, Importance(32)),
        (7, 64, Importance(64)),
        (9, 512, Importance(512)),
    ],
)
def test_searches_take_few_nodes_with_little_error(k: int, draws: int, rule: NodeRule) -> None:
    assert search_rule(k, draws) == rule
    assert rule.count(k) <= 2.5 * draws


def test_spheres_are_as_near_as_several_times_as_many_product_nodes() -> None:
    word = "y ~ x + (dnn(ns(t, 3), hidden=(4,), latent=4) | id)"
    model, panel = build(word, frame(n=24, J=6, seed=3))
    theta = random_theta(model, 2)

    def values(rule: NodeRule) -> Tensor:
        return freeze(model, theta, panel, rule, np.random.default_rng(0)).per_subject(theta)

    known = values(Quadrature(9))
    error = {
        rule: float((values(rule) - known).square().mean().sqrt())
        for rule in (Quadrature(3), Spherical(5, 2), Quadrature(4), Spherical(7, 3))
    }
    assert Spherical(5, 2).count(4) < Quadrature(3).count(4)
    assert error[Spherical(5, 2)] < error[Quadrature(3)]
    assert Spherical(7, 3).count(4) < Quadrature(4).count(4)
    assert error[Spherical(7, 3)] < error[Quadrature(4)]
