"""Neural random effects: the form that is taken, and what must not change the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from toys import build

import dgmm
from dgmm.estimate import deep as deep_route
from dgmm.estimate import learners
from dgmm.latent import Warp
from dgmm.model import candidates
from dgmm.penalised.marginal import Climb

QUICK = {"epochs": 3, "draws": 32, "replicates": 2, "polish_draws": 16, "workers": 1}
TERM = "(dnn(t, latent=1, hidden=(3,), ridge=30, form='auto') | id)"


def curves(kind: str, n: int = 24, J: int = 5, seed: int = 1) -> pd.DataFrame:
    """Sigmoids that come early or late, or lines with random intercepts and slopes."""
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), J), "t": np.tile(np.linspace(0, 10, J), n)})
    a, b = rng.normal(0, 1.2, (2, n))
    late = 8 / (1 + np.exp(-1.2 * (data["t"] - 5 - a[data["id"]])))
    line = a[data["id"]] + (1 + 0.3 * b[data["id"]]) * data["t"]
    data["y"] = {"late": late, "line": line}[kind] + rng.normal(0, 0.4, n * J)
    return data


def fitted(data: pd.DataFrame, holdout: float = 0.0) -> dgmm.Fit:
    """A fit that goes less far than usual: near enough for so few weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learners, "KINDLED", Climb(16, 16, rounds=3, evaluations=10))
        patch.setattr(learners, "FOLLOWED", Climb(16, 16, rounds=2, evaluations=10))
        patch.setattr(deep_route, "FINAL_ROUNDS", 1)
        return dgmm.mixed_model(
            f"y ~ t + {TERM}",
            data,
            control={**QUICK, "holdout": holdout},
            starts=1,
            se=None,
            verbose=0,
        )


@pytest.fixture(scope="module")
def warped() -> dgmm.Fit:
    return fitted(curves("late"), holdout=0.5)


def test_curves_that_come_early_or_late_are_warped(warped: dgmm.Fit) -> None:
    choice = warped.estimate.form_choice
    assert (choice.taken, choice.left) == ("form='warped'", "form='coefficients'")
    assert choice.subjects == 24
    assert choice.difference > 2 * choice.standard_error
    assert warped.estimate.model.latents[0].warp is not None
    assert warped.formula == "y ~ t + (dnn(t, latent=1, hidden=(3,), ridge=30, form='warped') | id)"
    text = " ".join(str(warped.summary()).split())
    said = f"form='warped' was taken, form='coefficients' tried; held out in {choice.folds} folds"
    assert said in text
    assert f"log score per subject {choice.difference:+.3f}" in text


def test_straight_lines_keep_the_general_form() -> None:
    fit = fitted(curves("line"))
    choice = fit.estimate.form_choice
    assert choice.taken == "form='coefficients'"
    assert choice.difference > -2 * choice.standard_error
    assert fit.estimate.model.latents[0].warp is None
    assert "form='coefficients'" in fit.formula


def test_what_is_made_of_a_fit_keeps_its_form(warped: dgmm.Fit, tmp_path: Path) -> None:
    warped.save(tmp_path / "fit")
    back = dgmm.load(tmp_path / "fit")
    assert back.estimate.form_choice == warped.estimate.form_choice
    assert candidates(back.estimate.model) == (back.estimate.model,)
    assert back.estimate.model.latents[0].warp is not None
    assert back.formula == warped.formula
    model, _ = build(back.formula, curves("line"))
    assert [type(one.latents[0].warp) for one in candidates(model)] == [Warp]


def test_the_comparison_and_threads_do_not_change_the_network(warped: dgmm.Fit) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    try:
        other = fitted(curves("late")).estimate
    finally:
        torch.set_num_threads(threads)
    assert other.held_out is None
    theta = warped.estimate.theta
    assert all(torch.equal(other.theta[name], value) for name, value in theta.items())


def test_the_gain_is_over_all_subjects(warped: dgmm.Fit) -> None:
    held = warped.estimate.held_out
    assert (held.subjects, held.folds) == (24, 2)
    assert held.visible == 2 * held.standard_error
    assert warped.glance()["held_out"][0] == held.difference


def test_without_a_word_the_form_is_the_general_one(deep: dgmm.Fit) -> None:
    assert deep.estimate.panel.n == 18
    assert deep.estimate.form_choice is None
    assert deep.estimate.model.latents[0].warp is None
    assert len(candidates(deep.estimate.model)) == 1
    assert "form=" not in deep.formula
