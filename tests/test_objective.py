"""The penalised likelihood of models with fixed networks, and its metric."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import build, frame, generator, random_theta

from dgmm.likelihood import Laplace, Quadrature, freeze
from dgmm.likelihood.gaussian import per_subject
from dgmm.likelihood.gaussian_offset import ResidualLikelihood
from dgmm.likelihood.growth import likelihood_at
from dgmm.model import START_RIDGE
from dgmm.penalised import objective
from dgmm.penalised.objective import Penalised, State
from dgmm.penalised.split import take_apart

TEXT = "y ~ x + dnn(x, w, hidden=(4,)) + (t | id)"


def made(text: str = TEXT, family: str = "gaussian", n: int = 20):
    model, panel = build(text, frame(n, 5, missing=0.2), family, unit=2.0)
    panel = panel.observed_rows()
    theta = random_theta(model, 1, 0.5)
    split = take_apart(model, panel)
    if family == "gaussian":
        engine = ResidualLikelihood(split.classical, split.panel)
    else:
        engine = likelihood_at(split.classical, split.panel, Laplace())
    return model, panel, theta, Penalised(split, engine)


def place(theta, objective: Penalised) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    split = objective.split
    x = objective.engine.vector(split.inner(theta))
    return x, split.packing.pack(theta), split.kappa(split.model)


def test_value_is_the_exact_likelihood_less_the_penalty() -> None:
    """Against the per-subject engine, and against tracked nodes, which are exact here."""
    model, panel, theta, objective = made()
    value = objective(*place(theta, objective))[0] + float(model.penalty(theta))
    assert value == pytest.approx(float(per_subject(model, theta, panel).sum()), abs=1e-8)
    nodes = freeze(model, random_theta(model, 5), panel, Quadrature(3), np.random.default_rng(0))
    assert value == pytest.approx(nodes.value(theta), abs=1e-8)


def test_gradient_is_that_of_tracked_nodes() -> None:
    """One is closed form, the other autograd over the whole model."""
    model, panel, theta, objective = made()
    x, w, kappa = place(theta, objective)
    _, to_x, to_w, _ = objective(x, w, kappa)
    nodes = freeze(model, theta, panel, Quadrature(3), np.random.default_rng(0))
    gradient = nodes.value_and_gradient(theta)[1]
    inner = objective.split.inner(gradient)
    p = objective.engine.sizes[0]
    np.testing.assert_allclose(to_x[:p], inner["beta"].numpy(), rtol=1e-7, atol=1e-7)
    expected = objective.split.packing.pack(gradient) - kappa * w
    np.testing.assert_allclose(to_w.numpy(), expected.numpy(), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("family", ["gaussian", "bernoulli"])
def test_gradient_is_that_of_finite_differences(family: str) -> None:
    text = TEXT.replace("y ~", "z ~") if family == "bernoulli" else TEXT
    *_, theta, objective = made(text, family)
    x, w, kappa = place(theta, objective)
    _, to_x, to_w, _ = objective(x, w, kappa)
    gradient, h, size = np.concatenate([to_x, to_w.numpy()]), 1e-5, len(x)
    rng = np.random.default_rng(1)
    for _ in range(5):
        d = rng.normal(size=len(gradient))
        ends = [
            objective(x + s * h * d[:size], w + s * h * torch.from_numpy(d[size:]), kappa)[0]
            for s in (1, -1)
        ]
        assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(
            float(gradient @ d), rel=1e-5, abs=1e-4
        )


def look(objective: Penalised, theta):
    x, w, kappa = place(theta, objective)
    *_, scores = objective(x, w, kappa, scores=True)
    return objective.metric(State(x, w, objective.split.model), scores, 0, None)


def test_the_metric_is_the_inverse_information_of_the_mean() -> None:
    """B B' over (beta~, w) is (J'V^-1 J + K)^-1, J over all of them."""
    *_, theta, objective = made()
    metric, split = look(objective, theta), objective.split
    x, w, kappa = place(theta, objective)
    p, P = len(metric.beta_back), len(w)
    columns = []
    for z in torch.eye(p + P + objective.engine.size - p, dtype=torch.float64):
        step, move = metric.back(z)
        columns.append(np.concatenate([step[:p], move.numpy()]))
    B = np.array(columns).T
    J = torch.cat([split.panel.rows.X @ split.classical.basis, split.sweep(w).jacobian()], dim=1)
    h = 1e-4
    F = []
    for j in range(p + P):  # omega is linear in eta: V^-1 J by differences
        ends = []
        for sign in (1, -1):
            objective.engine.offset = split.panel.rows.offset + sign * h * J[:, j]
            objective.engine.value_and_gradient(x)
            ends.append(objective.engine.omega[0].clone())
        F.append((J.T @ (ends[1] - ends[0]) / (2 * h)).numpy())
    information = np.array(F) + np.diag(np.append(np.zeros(p), kappa.numpy()))
    np.testing.assert_allclose(B @ B.T @ information, np.eye(p + P), atol=1e-5)


def test_gradient_in_z_is_the_transpose_of_the_step() -> None:
    *_, theta, objective = made()
    metric = look(objective, theta)
    x, w, _ = place(theta, objective)
    z = torch.randn(len(x) + len(w), generator=generator(3), dtype=torch.float64)
    gx = np.random.default_rng(2).normal(size=len(x))
    gw = torch.randn(len(w), generator=generator(4), dtype=torch.float64)
    step, move = metric.back(z)
    assert float(z @ metric.gradient(gx, gw)) == pytest.approx(float(gx @ step + gw @ move))


def test_with_another_penalty_the_metric_is_the_one_made_there() -> None:
    *_, theta, objective = made()
    metric = look(objective, theta)
    root = 0.3 * metric.root
    objective.split = take_apart(
        objective.split.model.with_ridge({"dnn1": 0.09 * START_RIDGE}), objective.split.whole
    )
    again = look(Penalised(objective.split, objective.engine), theta)
    assert torch.allclose(again.root, root)
    assert torch.allclose(metric.with_root(root).low.share, again.low.share, atol=1e-8)


def test_of_many_rows_the_metric_comes_from_some_subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, theta, whole = made(n=400)
    monkeypatch.setattr(objective, "CELLS", 10_000)
    some = Penalised(whole.split, whole.engine)
    assert len(some.some.subjects) < 200
    one, two = (float(look(objective, theta).low.share.sum()) for objective in (whole, some))
    assert one == pytest.approx(two, rel=0.1)
