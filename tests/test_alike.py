"""Outcomes evaluated at once are outcomes evaluated one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from test_multivariate_recursion import frame, joint, learnt
from toys import generator

from dgmm.encoders.particles import Cloud
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.variational.elbo import elbo

NAMES = ("y", "n", "z", "yes", "w")
FAMILIES = ("gaussian", "poisson", "gaussian", "bernoulli", "student_t")
TERMS = ("kvae(t, code=1, K=2, hidden=3, control=~ u)", "dmm(t, state=2, hidden=3)",
         "vrnn(t, latent=1, hidden=3)")  # fmt: skip


def mixed(term: str) -> tuple[Model, Panel]:
    """A model of five outcomes of four families, cells of two of them missing."""
    data, rng = frame(), np.random.default_rng(2)
    data["n"], data["yes"] = (
        rng.poisson(2.0, len(data)),
        rng.integers(0, 2, len(data)).astype(float),
    )
    data.loc[data.index[3], "yes"] = np.nan
    model, panel = joint(term, data, NAMES, FAMILIES)
    return model, panel.masked_rows()


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A context whose models do not see that their outcomes are alike."""
    with monkeypatch.context() as context:
        yield context


@pytest.mark.parametrize("term", TERMS)
def test_columns_are_the_outcomes(term: str) -> None:
    model, panel = mixed(term)
    theta, _, _ = learnt(model)
    ready, block = model.prepare(theta), panel.block(torch.arange(panel.n))
    alike = model.alike(block)
    assert alike is not None
    mu1 = torch.stack(model.fixed(ready, block), -1)
    assert torch.allclose(alike.mu1(ready), mu1, atol=1e-14)
    eta = mu1 + torch.randn(4, *mu1.shape, generator=generator(0), dtype=torch.float64)
    parts = [
        outcome.log_density(e, model.extra(ready, own.rows, outcome=o), own)
        for o, (outcome, own, e) in enumerate(
            zip(model.outcomes, block.blocks, eta.unbind(-1), strict=True)
        )
    ]
    assert torch.allclose(alike.log_density(ready, eta), torch.stack(parts).sum(0), atol=1e-12)
    each = [one.standing(ready, own.rows)
            for one, own in zip(model.outcomes, block.blocks, strict=True)]  # fmt: skip
    for found, expected in zip(alike.standing(ready), zip(*each, strict=True), strict=True):
        assert torch.allclose(found, torch.stack(expected, -1), atol=1e-14)


@pytest.mark.parametrize("term", TERMS)
def test_bounds_are_those_of_outcomes_one_by_one(term: str, one_by_one: pytest.MonkeyPatch) -> None:
    model, panel = mixed(term)
    theta, encoder, phi = learnt(model)
    block = panel.block(torch.arange(panel.n))
    e = torch.randn(3, panel.n, model.k, generator=generator(1), dtype=torch.float64)

    def bounds() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        cloud = Cloud(
            encoder.posterior(phi, model, model.prepare(theta), block), 8, generator(2),
            scale="response",
        )  # fmt: skip
        total = cloud.bound()
        return elbo(model, encoder, theta, phi, block, e).elbo, total, cloud.mean

    at_once = bounds()
    one_by_one.setattr(Model, "alike", lambda self, block: None)
    for found, expected in zip(at_once, bounds(), strict=True):
        assert torch.allclose(found, expected, atol=1e-11)


def test_outcomes_with_rows_of_their_own_are_not_alike() -> None:
    data = frame()
    model, panel = joint(TERMS[0], data, seen_rows_alone=True)
    assert panel.stack is None
    assert model.alike(panel.block(torch.arange(panel.n))) is None
    model, panel = joint(TERMS[0], data)
    assert panel.stack is not None
    other = replace(panel.beside[0], rows=replace(panel.beside[0].rows, X=panel.rows.X + 1))
    assert replace(panel, beside=(other, panel.beside[1])).stack is None


def test_rows_that_are_not_masked_all_count() -> None:
    data = pd.DataFrame({"id": [1, 1, 2], "t": [1, 2, 1], "u": 0.0,
                         "y": [1.0, 2.0, 0.5], "z": [0.0, 1.0, 3.0]})  # fmt: skip
    _, panel = joint("dmm(t)", data, ("y", "z"), ("gaussian",) * 2)
    stack = panel.stack
    assert stack is not None
    assert stack.counts.all()
    assert stack.data.y.tolist() == [[1.0, 0.0], [2.0, 1.0], [0.5, 3.0]]
    block = panel.block(torch.tensor([1, 0]))
    assert block.stack is not None
    assert block.stack.counts.tolist() == [[[True] * 2, [False] * 2], [[True] * 2] * 2]
    assert len(block.beside) == 1
    assert torch.equal(
        block.beside[0].rows.data.y, panel.beside[0].block(block.subjects).rows.data.y
    )


def test_wrappers_of_other_families_stand_apart() -> None:
    data = frame()
    rng = np.random.default_rng(4)
    words = ("hurdle_gamma", "hurdle_inverse_gaussian")
    for name in ("p", "q"):
        data[name] = rng.gamma(2.0, size=len(data)) * (rng.uniform(size=len(data)) < 0.7)
    model, panel = joint("dmm(t, hidden=3)", data, ("p", "q"), words)
    block, theta = panel.block(torch.arange(panel.n)), learnt(model)[0]
    ready, alike = model.prepare(theta), model.alike(block)
    assert alike is not None
    eta = alike.mu1(ready)
    one_by_one = [
        outcome.log_density(e, model.extra(ready, own.rows, outcome=o), own)
        for o, (outcome, own, e) in enumerate(
            zip(model.outcomes, block.blocks, eta.unbind(-1), strict=True)
        )
    ]
    assert torch.allclose(alike.log_density(ready, eta), torch.stack(one_by_one).sum(0), atol=1e-12)
    assert not torch.allclose(one_by_one[0], one_by_one[1], atol=1e-3)
