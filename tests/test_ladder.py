"""Which penalty is taken, by scores of subjects left out."""

from __future__ import annotations

import pytest
import torch
from toys import build, frame, random_theta

import dgmm
from dgmm.estimate.ladder import Ladder, _settled, _silent, _taken
from dgmm.estimate.learners import Learned
from dgmm.model import Model
from dgmm.parameters import Theta
from dgmm.penalised.silence import classical

NOISE = torch.randn(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
NOISE = (NOISE - NOISE.mean()) / NOISE.std()  # s.e. of a mean of NOISE: 0.05


def found(*means: float) -> list[Ladder]:
    """Scores whose differences from those of mean zero have the standard error 0.05 |difference|
    times ten, so that a difference of any size is two standard errors.
    """
    return [
        Ladder(({"latent1": 8.0 * 3**j},), mean + 10 * abs(mean) * NOISE, False)
        for j, mean in enumerate(means)
    ]


def learned(model: Model, theta: Theta) -> Learned:
    return Learned(model, theta, encoder=None, phi={}, trace=None)  # type: ignore[arg-type]


def near(scores: torch.Tensor) -> torch.Tensor:
    """Scores less than one standard error below some."""
    return scores - 0.02 + NOISE


def worse(scores: torch.Tensor) -> torch.Tensor:
    """Scores clearly below some."""
    return scores - 0.5 + NOISE


def test_the_best_penalty_is_taken_where_all_others_are_clearly_worse() -> None:
    steps = found(-0.3, 0.0, -0.2)
    assert _settled(steps, worse(steps[1].scores))
    assert _taken(steps, worse(steps[1].scores)) is steps[1]


def test_of_penalties_that_are_equally_good_the_largest_is_taken() -> None:
    first, best, _ = found(-0.3, 0.0, -0.2)
    last = Ladder(({"latent1": 72.0},), near(best.scores), False)
    assert not _settled([first, best, last], worse(best.scores))
    assert _taken([first, best, last], worse(best.scores)) is last


@pytest.mark.parametrize("rough", [0.0, -0.3])
def test_a_network_that_is_not_clearly_better_than_the_nested_model_is_silenced(
    rough: float,
) -> None:
    steps = found(rough, -0.2)
    best = max((one.scores for one in steps), key=lambda scores: float(scores.mean()))
    assert not _settled(steps, near(best))  # the largest penalty is still to come
    assert _taken(steps, near(best)) is steps[-1]


def test_a_network_is_silent_where_its_weights_cost_nothing() -> None:
    model, _ = build("y ~ x + (dnn(t, hidden=(4,)) | id)", frame(15, 6))
    theta = random_theta(model, 1)
    assert not _silent([learned(model, theta)])
    names = model.penalised()["latent1"]
    quiet = {**theta, **{name: 1e-3 * theta[name] for name in names}}
    assert _silent([learned(model, quiet)])
    assert not _silent([learned(model, quiet), learned(model, theta)])


def test_silent_networks_leave_the_nested_model_unless_a_curve_is_left() -> None:
    for form, plain in (("coefficients", True), ("warped", False)):
        model, _ = build(f"y ~ x + (dnn(ns(t, 3), hidden=(4,), form='{form}') | id)", frame(15, 6))
        theta = random_theta(model, 1)
        assert not classical(model, theta)
        quiet = {name: 1e-3 * w if ".A" in name or ".a" in name else w for name, w in theta.items()}
        assert _silent([learned(model, quiet)])
        assert classical(model, quiet) is plain


def test_folds_in_several_processes_give_the_numbers_of_one() -> None:
    def fitted(workers: int) -> dgmm.Fit:
        return dgmm.mixed_model(
            "y ~ x + (dnn(t, latent=1, hidden=(3,), ridge=30) | id)",
            frame(24, 5),
            control={"workers": workers, "epochs": 3, "draws": 32, "polish_draws": 16},
            starts=1,
            se=None,
            verbose=0,
        )

    one, two = fitted(1), fitted(2)
    assert one.estimate.held_out == two.estimate.held_out
    assert float(one.loglik()) == float(two.loglik())
