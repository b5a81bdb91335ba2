"""Two outcomes of different families that share a random intercept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import optimize, special, stats
from torch import Tensor
from toys import build, frame, random_theta

from dgmm.likelihood import choose
from dgmm.model import Entry, Model
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.posterior.modes import find_modes

POINTS = 41


def stacked() -> tuple[Model, Panel]:
    """y Gaussian, z Bernoulli with a random slope of its own; b_1 enters both.

    The outcomes were not measured at the same rows: some of either are missing.
    """
    data = frame(9, 4, seed=5)
    first, of_y = build("y ~ x + t + (1 | id)", data.assign(y=data.y.mask(data.index % 5 == 1)))
    second, of_z = build(
        "z ~ x + (1 | id) + (0 + t | id)",
        data.assign(z=data.z.mask(data.index % 7 == 3)),
        "bernoulli",
    )
    slope = torch.zeros_like(of_y.rows.X[:, :1])
    rows = replace(of_y.rows, T=(*of_y.rows.T, slope), basis=(*of_y.rows.basis, slope))
    model = replace(
        first,
        outcomes=(first.outcome, replace(second.outcome, key="z.")),
        latents=second.latents,
        entries=((Entry(0), Entry(1)), (Entry(1),)),
        latent_ridge=second.latent_ridge,
    )
    return model, replace(of_y, rows=rows, beside=(of_z,))


def dense(model: Model, theta: Theta, panel: Panel) -> Tensor:
    """l_i by a plain grid over both random effects, (n,)."""
    points, weight = special.roots_hermitenorm(121)
    one, two = np.meshgrid(points, points, indexing="ij")
    log_weight = np.log(np.outer(weight, weight) / (2 * np.pi))
    intercept, slope = (
        float(lat.scale[0]) * float(theta[f"latent{i}.log_diagonal"].exp())
        for i, lat in enumerate(model.latents, 1)
    )
    (y, z), found = (one.observed_rows() for one in panel.panels), []
    for i in range(panel.n):
        own = y.subject.numpy() == i
        mean = (y.rows.X @ model.beta(theta)).numpy()[own] + intercept * one[..., None]
        sigma = float(theta["extra"][0].exp())
        total = stats.norm.logpdf(y.rows.data.y.numpy()[own], mean, sigma).sum(-1)
        own = z.subject.numpy() == i
        eta = (z.rows.X @ model.outcomes[1].beta(theta)).numpy()[own] + intercept * one[..., None]
        eta = eta + slope * two[..., None] * z.rows.T[1][:, 0].numpy()[own]
        sign = 2 * z.rows.data.y.numpy()[own] - 1
        total = total + special.log_expit(sign * eta).sum(-1)
        found.append(special.logsumexp(total + log_weight))
    return torch.tensor(found)


@pytest.fixture(scope="module")
def made() -> tuple[Model, Panel, Theta]:
    model, panel = stacked()
    return model, panel, random_theta(model, seed=3, spread=0.3)


def test_the_likelihood_is_the_integral_over_both_random_effects(made) -> None:
    model, panel, theta = made
    likelihood = choose(model, panel, "quadrature").by(points=POINTS)
    known = dense(model, theta, panel)
    torch.testing.assert_close(likelihood.each(theta).value, known, atol=1e-6, rtol=0)
    assert likelihood.value(theta) == pytest.approx(float(known.sum()), abs=1e-6)


def test_its_gradient_and_scores_are_those_of_the_integral(made) -> None:
    model, panel, theta = made
    likelihood = choose(model, panel, "quadrature").by(points=POINTS)
    x, h = model.packing.pack(theta), 1e-4
    columns = []
    for unit in h * torch.eye(len(x), dtype=torch.float64):
        up, down = (dense(model, model.packing.unpack(x + s * unit), panel) for s in (1, -1))
        columns.append((up - down) / (2 * h))
    known = torch.stack(columns, dim=1)
    torch.testing.assert_close(likelihood.scores(theta), known, atol=1e-5, rtol=0)
    gradient = model.packing.pack(likelihood.value_and_gradient(theta)[1])
    torch.testing.assert_close(gradient, known.sum(0), atol=1e-5, rtol=0)


def test_what_is_seen_of_one_outcome_tells_of_the_other(made) -> None:
    model, panel, theta = made
    nothing = torch.zeros(panel.n_rows, dtype=torch.bool)
    without = replace(panel.keep(nothing), beside=panel.beside)
    (both,), _ = choose(model, panel, "quadrature").posterior(theta).effects()
    (less,), _ = choose(model, without, "quadrature").posterior(theta).effects()
    assert float((both - less)[:, 0].abs().max()) > 0.1


def test_parameters_of_the_outcomes_have_names_of_their_own(made) -> None:
    model, *_ = made
    assert list(model.packing.shapes) == [
        "beta", "z.beta", "latent1.log_diagonal", "latent2.log_diagonal", "extra", "z.extra"
    ]  # fmt: skip


def test_modes_are_where_the_joint_density_is_flat(made) -> None:
    model, panel, theta = made
    ready = model.prepare(theta)
    for block in panel.observed_rows().blocks():
        b = find_modes(model, theta, block).mode.requires_grad_()
        (slope,) = torch.autograd.grad(model.log_joint(ready, b, block).sum(), b)
        assert float(slope.abs().max()) < 1e-6


def test_a_panel_of_several_outcomes_keeps_them_together(made) -> None:
    """Unknown subjects, masks and selections reach every outcome."""
    model, panel, theta = made
    value = choose(model, panel, "laplace").each(theta).value
    ids = np.array([panel.ids[4], "nobody", panel.ids[1]], dtype=object)
    aligned = panel.align(ids)
    assert [one.n for one in aligned.panels] == [3, 3]
    found = choose(model, aligned, "laplace").each(theta).value
    torch.testing.assert_close(found, torch.stack([value[4], torch.zeros(()).double(), value[1]]))
    masked = choose(model, panel.masked_rows(), "laplace").each(theta).value
    torch.testing.assert_close(masked, value)


def test_without_random_effects_all_outcomes_are_at_their_maximum(made) -> None:
    model, panel, theta = made
    found = choose(model, panel, "laplace").independence(theta)
    y, z = (one.observed_rows().rows for one in panel.panels)
    X, seen = y.X.numpy(), y.data.y.numpy()
    rest = seen - X @ np.linalg.lstsq(X, seen)[0]
    expected = stats.norm.logpdf(rest, 0, rest.std()).sum()
    X, sign = z.X.numpy(), 2 * z.data.y.numpy() - 1
    below = optimize.minimize(lambda beta: -special.log_expit(sign * (X @ beta)).sum(), [0.0, 0.0])
    assert found == pytest.approx(expected - below.fun, abs=1e-5)
