"""Maximum and penalties in turn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from toys import build, generator

from dgmm.likelihood.gaussian_offset import ResidualLikelihood
from dgmm.model import START_RIDGE
from dgmm.penalised.objective import Penalised, State
from dgmm.penalised.search import climb_networks
from dgmm.penalised.split import take_apart

TEXT = "y ~ x + dnn(z, hidden=(6,)) + (1 | id)"


def curved(amplitude: float, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(60), 5)
    z, x = rng.uniform(-2, 2, 300), rng.normal(size=300)
    y = 0.5 * x + amplitude * np.sin(2 * z) + rng.normal(size=60)[subject]
    return pd.DataFrame({"id": subject, "x": x, "z": z, "y": y + rng.normal(0, 0.5, 300)})


def climbed(amplitude: float, seed: int = 0, ridge: float | None = None):
    model, panel = build(TEXT, curved(amplitude))
    if ridge is not None:
        model = model.with_ridge({"dnn1": ridge})
        model = type(model)(**{**model.__dict__, "open_ridge": ()})
    split = take_apart(model, panel)
    engine = ResidualLikelihood(split.classical, panel=split.panel)
    weights = model.networks[0].network.initial(generator(seed), last=0.02)
    w = torch.cat([value.reshape(-1) for value in weights.values()])
    x = np.zeros(engine.size)
    x[engine.sizes[0]] = 1.0
    objective = Penalised(split, engine)
    found = climb_networks(
        objective, State(x, w, model), tolerance=0.01, rounds=20, evaluations=40, seed=0
    )
    return objective, found


def test_it_ends_at_a_stationary_point() -> None:
    objective, found = climbed(1.0)
    assert found.settled
    assert found.decrement < 0.01
    kappa = objective.split.kappa(found.model)
    value, to_x, to_w, _ = objective(found.x, found.w, kappa)
    assert float(found.metric.gradient(to_x, to_w).norm()) < 0.011
    assert found.value - 0.5 * float(kappa @ found.w.square()) == pytest.approx(value)


def test_the_penalty_is_near_the_fixed_point_of_the_evidence() -> None:
    """Half of kappa = edf / |w|^2, or more where the evidence fell on the way there."""
    _, found = climbed(1.0)
    kappa = found.model.ridge_of("dnn1")
    fixed = float(found.metric.low.share.sum()) / float(found.w.square().sum())
    assert 0.3 * fixed < kappa < 2 * fixed
    assert kappa < START_RIDGE


def test_a_penalty_of_the_user_is_kept() -> None:
    _, found = climbed(1.0, ridge=3.0)
    assert found.model.ridge_of("dnn1") == 3.0
    assert found.settled


def test_a_network_without_work_is_silenced() -> None:
    _, found = climbed(0.0)
    assert found.model.ridge_of("dnn1") >= START_RIDGE
    assert float(found.metric.low.share.sum()) < 1.0
