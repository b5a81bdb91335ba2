"""The closed-gradient likelihood of classical models against differences, autograd and itself."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from toys import build, frame, random_theta

from dgmm.families import Observations, find
from dgmm.families.derivatives import row_derivatives
from dgmm.likelihood import Laplace, NodeRule, Quadrature, freeze
from dgmm.likelihood.adaptive_engine import AdaptiveEngine
from dgmm.likelihood.louis import louis_information
from dgmm.likelihood.posterior import NodePosterior
from dgmm.likelihood.slabs import slabs
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta

CASES = [
    ("count ~ x + (t | id)", "poisson"),
    ("z ~ x + t + (t | id)", "bernoulli"),
    ("y ~ x + (t || id)", "gaussian"),
    ("cbind(hits, size - hits) ~ x + (1 | id)", "binomial"),
]


def likelihood(model: Model, panel: Panel, rule: NodeRule) -> AdaptiveEngine:
    nodes = rule.nodes(model.k, panel.n, np.random.default_rng(0))
    return AdaptiveEngine(model, panel, nodes)


def ready(case: tuple[str, str], seed: int = 1) -> tuple[Model, Panel, Theta]:
    model, panel = build(*case[:1], frame(12, 6, seed=seed, missing=0.25), case[1])
    return model, panel.observed_rows(), random_theta(model)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rule", [Laplace(), Quadrature(21)])
def test_the_gradient_is_that_of_differences(case: tuple[str, str], rule: NodeRule) -> None:
    model, panel, theta = ready(case)
    engine = likelihood(model, panel, rule)
    x = engine.vector(theta)
    found = engine.value_and_gradient(x, scores=True)
    step = 1e-4
    numeric = [
        (engine.value(x + h) - engine.value(x - h)) / (2 * step) for h in step * np.eye(len(x))
    ]
    np.testing.assert_allclose(found.gradient, numeric, atol=2e-4)
    assert found.scores is not None
    np.testing.assert_allclose(found.scores.sum(0), found.gradient, atol=1e-10)
    assert found.value == pytest.approx(engine.per_subject(x).sum(), abs=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_quadrature_is_that_of_the_general_path(case: tuple[str, str]) -> None:
    model, panel, theta = ready(case)
    rule = Quadrature(21)
    engine = likelihood(model, panel, rule)
    x = engine.vector(theta)
    frozen = freeze(model, theta, panel, rule, np.random.default_rng(0))
    assert engine.value(x) == pytest.approx(frozen.value(theta), abs=1e-9)
    np.testing.assert_allclose(engine.per_subject(x), frozen.per_subject(theta), atol=1e-9)
    general = model.packing.pack(frozen.value_and_gradient(theta)[1]).numpy()
    ours = engine.value_and_gradient(x).gradient * engine.working_slope(x)
    np.testing.assert_allclose(ours, general, atol=2e-4)  # equal but for the error of the rule


@pytest.mark.parametrize("case", CASES)
def test_louis_information_is_the_hessian(case: tuple[str, str]) -> None:
    model, panel, theta = ready(case)
    engine = likelihood(model, panel, Quadrature(21))
    x = engine.vector(theta)
    step = 1e-4
    columns = [
        (engine.value_and_gradient(x + h).gradient - engine.value_and_gradient(x - h).gradient)
        / (2 * step)
        for h in step * np.eye(len(x))
    ]
    hessian = -np.array(columns)
    found = louis_information(engine, x)
    np.testing.assert_allclose(found, hessian, atol=1e-4 * np.abs(hessian).max())


def test_laplace_is_exact_for_a_gaussian_outcome() -> None:
    model, panel, theta = ready(("y ~ x + (t | id)", "gaussian"))
    values = [
        likelihood(model, panel, rule).value(likelihood(model, panel, rule).vector(theta))
        for rule in (Laplace(), Quadrature(3), Quadrature(11))
    ]
    assert values[0] == pytest.approx(values[1], abs=1e-9)
    assert values[0] == pytest.approx(values[2], abs=1e-9)


def test_the_vector_holds_theta() -> None:
    model, panel, theta = ready(CASES[0])
    engine = likelihood(model, panel, Laplace())
    back = engine.theta(engine.vector(theta))
    for name, value in theta.items():
        torch.testing.assert_close(back[name], value)


def test_the_sign_of_a_column_of_lambda_changes_nothing() -> None:
    model, panel, theta = ready(CASES[0])
    engine = likelihood(model, panel, Laplace())
    x = engine.vector(theta)
    flipped = x.copy()
    first = len(model.names)
    flipped[[first, first + 2]] *= -1  # the first column: its diagonal and the entry below
    assert engine.value(flipped) == pytest.approx(engine.value(x), abs=1e-9)
    for name, value in engine.theta(flipped).items():
        torch.testing.assert_close(value, theta[name])


def test_a_second_predictor_has_the_right_gradient() -> None:
    data = frame(12, 6, seed=3)
    model, panel = build("y ~ x + (1 | id)", data, "gaussian", parts={"dispersion": "~ t"})
    theta = random_theta(model)
    engine = likelihood(model, panel, Laplace())
    x = engine.vector(theta)
    assert engine.size == 2 + 1 + 2
    step = 1e-5
    numeric = [(engine.value(x + h) - engine.value(x - h)) / (2 * step) for h in step * np.eye(5)]
    np.testing.assert_allclose(engine.value_and_gradient(x).gradient, numeric, atol=1e-5)


def test_closed_derivatives_are_those_of_autograd() -> None:
    eta = torch.linspace(-4, 4, 9, dtype=torch.float64)
    for name, y, m in (("bernoulli", 1.0, 1.0), ("binomial", 3.0, 7.0), ("poisson", 2.0, 1.0)):
        family = find(name)
        data = Observations(*(torch.full_like(eta, v) for v in (y, m, 1.5)))
        closed = family.derivatives(data, eta, eta[:0], 4)
        assert closed is not None
        assert closed.fourth is not None
        point = eta.clone().requires_grad_()
        value = family.log_density(data, point, eta[:0])
        torch.testing.assert_close(closed.value + family.constant(data), value.detach())
        for wanted in closed[1:]:
            (value,) = torch.autograd.grad(value.sum(), point, create_graph=True)
            torch.testing.assert_close(wanted, value.detach())


def test_autograd_derivatives_of_two_predictors() -> None:
    family = find("gaussian")
    y = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    one = torch.ones_like(y)
    eta, log_sigma = 0.5 * y, torch.tensor([-0.2, 0.1, 0.4], dtype=torch.float64)
    found = row_derivatives(family, Observations(y, one, one), [eta, log_sigma], [0, 1], 3)
    precision = torch.exp(-2 * log_sigma)
    residual = y - eta
    torch.testing.assert_close(found.first[0], residual * precision)
    torch.testing.assert_close(found.first[1], residual**2 * precision - 1)
    torch.testing.assert_close(found.second[0, 1], -2 * residual * precision)
    torch.testing.assert_close(found.third[0, 0, 1], 2 * precision)
    torch.testing.assert_close(found.third[1, 1, 1], 4 * residual**2 * precision)


def test_slabs_hold_every_row_once() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 40, 30)
    data = pd.DataFrame({"id": np.repeat(np.arange(30), sizes)})
    data["t"] = np.concatenate([np.arange(s) / s for s in sizes])
    data["y"] = rng.normal(size=len(data))
    _, panel = build("y ~ 1 + (t | id)", data)
    columns = [panel.rows.T[0][:, j] for j in range(2)]
    total, seen = 0.0, []
    for slab in slabs(panel, columns, 100):
        total += float(slab.masked(slab.data.y.expand(slab.shape)).sum())
        seen += np.arange(panel.n)[slab.subjects].tolist()
        assert slab.T[0] is None  # a column of ones is not stored
        counted = slab.shape[1] * slab.shape[0]
        assert counted <= 1.5 * float(panel.count[slab.subjects].sum()) + 4 * slab.shape[1]
        out = torch.zeros(panel.n_rows, dtype=torch.float64)
        slab.scatter(slab.masked(slab.gather(panel.rows.data.y)), out)
        inside = torch.isin(panel.subject, torch.arange(panel.n)[slab.subjects])
        torch.testing.assert_close(out[inside], panel.rows.data.y[inside])
        assert (out[~inside] == 0).all()
    assert sorted(seen) == list(range(30))
    assert total == pytest.approx(float(panel.rows.data.y.sum()))


def test_longer_rules_come_closer() -> None:
    model, panel, theta = ready(CASES[1])
    theta = {**theta, "latent1.log_diagonal": torch.tensor([1.2, 0.5], dtype=torch.float64)}
    exact = likelihood(model, panel, Quadrature(61))
    best = exact.value(exact.vector(theta))
    gaps = [abs(likelihood(model, panel, rule).value(exact.vector(theta)) - best)
            for rule in (Laplace(), Quadrature(7), Quadrature(17), Quadrature(41))]  # fmt: skip
    assert all(later < earlier for earlier, later in pairwise(gaps))
    assert gaps[-1] < 1e-4


@pytest.mark.parametrize("case", CASES)
def test_the_mean_of_b_is_the_mode_and_its_shift(case: tuple[str, str]) -> None:
    model, panel, theta = ready(case)
    engine = likelihood(model, panel, Laplace())
    mode, shift = engine.modes_and_shifts(engine.vector(theta))
    rng = np.random.default_rng(0)
    nodes = NodePosterior(freeze(model, theta, panel, Quadrature(25), rng), theta)
    mean = nodes.effects().mean[0]
    if model.family.conjugate:
        np.testing.assert_allclose(shift, 0.0, atol=1e-12)
        np.testing.assert_allclose(mode, mean, atol=1e-9)
        return
    assert float((mean - mode).abs().max()) > 0.02
    assert float((mean - mode - shift).norm()) < 0.25 * float((mean - mode).norm())
