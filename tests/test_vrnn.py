"""vrnn(memory="outcomes"): a special case, a product of mixtures, all steps at once; dropout."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from test_multivariate_recursion import NAMES, frame, joint, learnt
from torch import Tensor
from toys import generator, whole

import dgmm
from dgmm.encoders import Sequential
from dgmm.encoders.steps import Path
from dgmm.estimate.control import Control
from dgmm.estimate.recursive import _stages
from dgmm.latent.vrnn import VariationalRecurrent
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.panel import Panel
from dgmm.parameters import Theta, part
from dgmm.variational.bounds import importance, particles, weighted
from dgmm.variational.elbo import evaluate

MIXED = ("gaussian", "bernoulli", "gaussian")
SMOOTH = "vrnn(t, latent=2, hidden=3, control=~ u, memory='outcomes')"
FILTER = "vrnn(t, latent=2, hidden=3, prior='iid', posterior='filter', memory='outcomes')"


def chorus(complete: bool) -> pd.DataFrame:
    """Outcomes of mixed kinds; complete: of all subjects but the last."""
    data = frame().assign(z=lambda one: (one.z > 1).astype(float).where(one.z.notna()))
    return data[data[list(NAMES)].notna().all(axis=1) | (data.id == 4)] if complete else data


def term(text: str, complete: bool = True) -> tuple[Model, Panel, Theta, Sequential, Weights]:
    model, panel = joint(text, chorus(complete), NAMES, MIXED)
    return model, model.history(panel), *learnt(model)


def path(case: tuple[Model, Panel, Theta, Sequential, Weights], subjects: list[int]) -> Path:
    model, panel, theta, encoder, phi = case
    block = panel.block(torch.tensor(subjects))
    return encoder.posterior(phi, model, model.prepare(theta), block)


def own(model: Model) -> VariationalRecurrent:
    one = model.latents[0]
    assert isinstance(one, VariationalRecurrent)
    return one


def widened(table: Tensor, before: int, reads: slice, gain: Tensor) -> Tensor:
    """Columns of z, zero, after the first ones, and those of residuals in units of eta."""
    table = table.clone()
    table[:, reads] = table[:, reads] * gain
    zero = table.new_zeros(len(table), 2)
    return torch.cat([table[:, :before], zero, table[:, before:]], dim=1)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("text", [SMOOTH, FILTER])
def test_it_is_the_usual_form_whose_memory_has_no_weights_of_z(text: str, complete: bool) -> None:
    model, panel, theta, encoder, phi = term(text, complete)
    e = torch.randn(3, panel.n, model.k, generator=generator(1), dtype=torch.float64)
    q = encoder.posterior(phi, model, model.prepare(theta), whole(panel))
    K, width = 3, own(model).width
    gain = 1 / (1 + q.steps.spread[0, 0].square())
    usual, wide = joint(text.replace(", memory='outcomes'", ""), chorus(complete), NAMES, MIXED)
    weights = {n: torch.zeros(s).double() for n, s in usual.packing.shapes.items()} | theta
    weights["latent1.memory.input"] = torch.cat(
        [theta["latent1.memory.input"][:, :K] * gain, torch.zeros(9, 2).double()]
        + ([theta["latent1.memory.input"][:, K:]] if width else []),
        dim=1,
    )
    seen = slice(3 + 4 + width, 3 + 4 + width + K)  # state, moments of z, x, residuals
    known = dict(phi)
    for name in ("linear", "first", "head.A1"):
        known[name] = widened(phi[name], 3, seen, gain)
    for name in ("reader.input", "into"):
        if name in phi:
            known[name] = torch.cat([phi[name][:, :K] * gain, phi[name][:, K:]], dim=1)
    rows = usual.history(wide)
    other = type(encoder).of(usual)  # type: ignore[attr-defined]
    p = other.posterior(known, usual, usual.prepare(weights), whole(rows))
    mine, theirs = q.sample(e), p.sample(e)
    assert torch.allclose(mine.b, theirs.b, atol=1e-10)
    assert torch.allclose(mine.log_ratio, theirs.log_ratio, atol=1e-10)
    assert torch.allclose(mine.kl_by_direction, theirs.kl_by_direction, atol=1e-10)
    one, two = (
        at.log_likelihood(m, m.prepare(w), whole(own_rows))
        for at, m, w, own_rows in ((mine, model, theta, panel), (theirs, usual, weights, rows))
    )
    assert torch.allclose(one, two, atol=1e-10)


@pytest.mark.parametrize("text", [SMOOTH, FILTER])
def test_steps_at_once_are_steps_one_after_the_other(text: str) -> None:
    """Beside a subject with a gap the others go step by step."""
    case = term(text)
    model, panel, theta = case[:3]
    e = torch.randn(3, panel.n, model.k, generator=generator(2), dtype=torch.float64)
    alone, beside = path(case, [0, 1, 2]), path(case, [0, 1, 2, 4])
    assert alone.by_step
    assert not beside.by_step
    values = []
    for q in (alone, beside):
        drawn = q.sample(e[:, q.block.subjects])
        total = drawn.log_likelihood(model, model.prepare(theta), q.block)
        parts = (drawn.b.sum(-1), drawn.log_ratio, drawn.kl.expand_as(total), total)
        values.append(torch.stack(parts)[..., :3])
    assert torch.allclose(values[0], values[1], atol=1e-10)


def test_the_likelihood_is_a_product_over_steps() -> None:
    """Each integral by Gauss-Hermite nodes, under the prior by hand and by the weights of q."""
    text = "vrnn(t, latent=1, hidden=3, posterior='filter', memory='outcomes')"
    case = term(text)
    model, panel, theta, encoder, phi = case
    near = {name: 0.1 * value for name, value in phi.items()}
    q = path((model, panel, theta, encoder, near), [0, 1, 2])
    one, w = own(model), part(theta, "latent1.")
    nodes, weight = (torch.tensor(x) for x in hermegauss(120))
    weight = weight / math.sqrt(2 * math.pi)
    noise = nodes.reshape(-1, 1, 1, 1).expand(-1, *q.steps.real.shape, 1)
    found = (weight[:, None, None] * q.log_weights(noise).exp()).sum(0).log()
    beta = [outcome.beta(theta)[0] for outcome in model.outcomes]
    names = [outcome.name for outcome in model.outcomes]
    assert names == list(NAMES)
    data = chorus(True)
    for i in range(3):
        rows, h = data[data.id == panel.ids[i]].sort_values("t"), w["h0"]
        p = torch.sigmoid(beta[1])
        for t, (y, z, w3) in enumerate(rows[list(NAMES)].to_numpy()):
            law = one.prior(w, h, h[:0], t == 0)
            s = law.mean + law.log_sd.exp() * nodes[:, None]
            mu = one.emitted(w, s, h.expand(120, 3), h.new_zeros(120, 0))
            eta = [beta[k] + model.outcomes[k].unit * mu[:, k] for k in range(3)]
            scale = [theta[f"{model.outcomes[k].key}extra"][0].exp() for k in (0, 2)]
            total = torch.distributions.Normal(eta[0], scale[0]).log_prob(torch.tensor(y))
            total = total + torch.distributions.Normal(eta[2], scale[1]).log_prob(torch.tensor(w3))
            total = total + torch.distributions.Bernoulli(logits=eta[1]).log_prob(torch.tensor(z))
            exact = (weight * total.exp()).sum().log()
            assert abs(float(exact - found[i, t])) < 1e-8
            units = [model.outcomes[k].unit for k in range(3)]
            r = [
                (y - beta[0]) / units[0],
                (z - p) / (p * (1 - p) * units[1]),
                (w3 - beta[2]) / units[2],
            ]
            v = [
                (scale[0] / units[0]) ** 2,
                1 / (p * (1 - p) * units[1] ** 2),
                (scale[1] / units[2]) ** 2,
            ]
            r = [a / (1 + c) for a, c in zip(r, v, strict=True)]
            memory = part(w, "memory.")
            h = one.memory.step(memory, one.memory.drive(memory, torch.stack(r)), h)


def test_weights_of_steps_are_those_of_a_path() -> None:
    case = term(FILTER)
    model, panel, theta, encoder, phi = case
    some = panel.select([0, 1, 2])
    one = particles(model, encoder, theta, phi, some, 1, generator(5))
    q = path(case, [0, 1, 2])
    noise = torch.randn(6, *q.steps.real.shape, 2, generator=generator(6), dtype=torch.float64)
    e = torch.zeros(6, 3, model.k, dtype=torch.float64)
    e[..., : q.steps.number * 5].unflatten(-1, (-1, 5))[..., :2] = noise
    drawn = q.sample(e)
    whole_path = drawn.log_likelihood(model, model.prepare(theta), q.block) - drawn.log_ratio
    assert torch.allclose(q.log_weights(noise).sum(-1), whole_path, atol=1e-10)
    assert torch.isfinite(one).all()
    assert importance(model, encoder, theta, phi, some, 2, generator(5)).shape == (2, 3)


@pytest.mark.parametrize("text", [FILTER, "vrnn(t, latent=2, hidden=3)"])
def test_weighted_bounds_are_means_of_weights(text: str) -> None:
    """Of a path, or of every step."""
    model, panel, theta, encoder, phi = term(text)
    some = panel.block(torch.arange(3))
    e = torch.randn(4, 3, model.k, generator=generator(6), dtype=torch.float64)
    q = encoder.posterior(phi, model, model.prepare(theta), some)
    drawn = q.sample(e)
    value = drawn.log_likelihood(model, model.prepare(theta), some) - drawn.log_ratio
    single = torch.stack([weighted(model, encoder, theta, phi, some, one[None]) for one in e])
    assert torch.allclose(single, value, atol=1e-10)
    found = weighted(model, encoder, theta, phi, some, e)
    if not q.by_step:
        assert torch.allclose(found, value.exp().mean(0).log(), atol=1e-10)
        return
    noise = e.unflatten(-1, (-1, 5))[..., : q.steps.number, :2]
    each = torch.stack([q.log_weights(one[None])[0] for one in noise])
    assert torch.allclose(found, each.exp().mean(0).log().sum(-1), atol=1e-10)
    assert bool((found > value.mean(0)).all())


@pytest.mark.parametrize("text", [FILTER, "vrnn(t, latent=2, hidden=3)"])
def test_dropout_is_for_learning_alone(text: str) -> None:
    case = term(text)
    model, panel, theta, encoder, phi = case
    dropped = term(text[:-1] + ", dropout=0.4)")[0]
    assert dropped.packing.shapes == model.packing.shapes
    before, after = (
        evaluate(one, encoder, theta, phi, panel, 0, 4, 2).elbo for one in (model, dropped)
    )
    assert torch.equal(before, after)
    learning = dropped.learning()
    assert learning.learning() == learning
    assert model.learning().latents == model.latents
    q = encoder.posterior(phi, learning, learning.prepare(theta), panel.block(torch.arange(3)))
    noise = torch.randn(5, *q.steps.real.shape, 5, generator=generator(3), dtype=torch.float64)
    told = q.latent.thinned(q.steps, noise[..., 2:])
    assert told.shown is not None
    assert set(told.shown[..., :3].unique().tolist()) == {0.0, 1 / 0.6}
    share = (0.6 * told.residual / q.steps.residual)[q.steps.seen]
    assert set(share.round(decimals=9).unique().tolist()) == {0.0, 1.0}
    assert bool((told.shown[..., 3:] == 1).all())
    again = q.latent.thinned(q.steps, noise[..., 2:])
    assert torch.equal(again.residual, told.residual)
    # the mean over what is left out is what was seen
    draws = torch.randn(2000, 1, generator=generator(7), dtype=torch.float64)
    many = [q.latent.thinned(q.steps, one).residual for one in draws]
    mean, error = torch.stack(many).mean(0), math.sqrt(0.4 / 0.6 / 2000)
    assert bool(((mean - q.steps.residual).abs() <= 4.5 * error * q.steps.residual.abs()).all())


def test_dropout_at_once_is_dropout_step_by_step() -> None:
    model, panel, theta, encoder, phi = term(FILTER[:-1] + ", dropout=0.4)")
    learning = model.learning()
    q = encoder.posterior(phi, learning, learning.prepare(theta), panel.block(torch.arange(3)))
    noise = torch.randn(5, *q.steps.real.shape, 5, generator=generator(3), dtype=torch.float64)
    e, unseen = noise[..., :2], noise[..., 2:]
    told = q.latent.thinned(q.steps, unseen)
    once, stepwise = q._at_once(told, e), q._one_by_one(told, e, unseen)
    assert once is not None
    there = q.steps.real
    assert torch.allclose(once.mu[:, there], stepwise.mu[:, there], atol=1e-12)
    assert torch.allclose(once.drawn[:, there], stepwise.drawn[:, there], atol=1e-12)
    assert torch.allclose(once.kl[there], stepwise.kl[there], atol=1e-12)


@pytest.mark.parametrize("how", [{"average": 0.5}, {"holdout": 0.0, "bound": "weighted"}])
def test_nobody_is_held_out_where_that_is_said(how: dict[str, Any]) -> None:
    control = {"epochs": 4, "draws": 8, "batches": "length", **how}
    text = f"y ~ 1 + ({FILTER} | id)"
    fit = dgmm.mixed_model(text, frame(30).dropna(), control=control, verbose=0)
    assert isinstance(fit, dgmm.Fit)
    trace = fit.estimate.trace
    assert trace is not None
    assert (trace.epochs, trace.watched, trace.kept) == (4, (), 0)


def test_all_of_q_learns_from_the_first_step_on_weighted_bounds() -> None:
    model = term(FILTER)[0]
    said: Any = [
        SimpleNamespace(control=Control(**one))
        for one in ({"patience": 7}, {"bound": "weighted"}, {"holdout": 0.0}, {"average": 0.2})
    ]
    stages = [_stages(model, one, 30)[0][0] for one in said]
    assert [one.weighted for one in stages] == [False, True, False, False]
    assert [one.skeleton_alone for one in stages] == [0.1, 0.0, 0.1, 0.1]
    assert [one.patience for one in stages] == [7, 40, 0, 0]


def test_a_share_is_less_than_one() -> None:
    with pytest.raises(ValueError, match="dropout= is a share, zero or larger and less than one"):
        dgmm.mixed_model("y ~ 1 + (vrnn(t, dropout=1) | id)", frame(), verbose=0)
