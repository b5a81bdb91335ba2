"""The nested classical model, fitted to all subjects and without a fold of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import frame

import dgmm
from dgmm.design import build_design
from dgmm.estimate import Control, Request
from dgmm.estimate.folds import Folds
from dgmm.estimate.nested import Nested, fit_from
from dgmm.families import find
from dgmm.formula import parse_formula


def made(holdout: float = 0.25, formula: str = "y ~ x + t + (1 | id)") -> tuple[Nested, Request]:
    request = Request(find("gaussian"), "ml", "exact", "sites", 1, 3, 0, Control(holdout=holdout))
    design = build_design(parse_formula(formula), frame(40, 5))
    return Nested.of(design, request, "exact"), request


def test_it_is_the_classical_fit() -> None:
    nested, _ = made()
    plain = dgmm.mixed_model("y ~ x + t + (1 | id)", frame(40, 5), verbose=0)
    assert nested.fit().log_likelihood == pytest.approx(float(plain.loglik()), abs=1e-8)


def test_some_subjects_are_those_of_a_smaller_frame() -> None:
    nested, _ = made()
    some = np.array([0, 3, *range(10, 40)])
    data = frame(40, 5)
    plain = dgmm.mixed_model("y ~ x + t + (1 | id)", data[data["id"].isin(some)], verbose=0)
    likelihood = nested.likelihood.on(nested.panel.select(some))
    found = fit_from(likelihood, nested.fit().theta)
    assert found.likelihood.value(found.theta) == pytest.approx(float(plain.loglik()), abs=1e-7)


def test_scores_are_those_of_fits_to_the_frame_without_the_fold() -> None:
    nested, request = made()
    folds, data = Folds.deal(nested.panel, request.seed, 0.34), frame(40, 5)
    assert folds is not None
    theta = nested.fit().theta
    score = nested.apart(folds, theta).scores
    assert len(folds.left) == 3
    assert torch.equal(nested.apart(folds, theta, workers=2).scores, score)
    for left in folds.left:
        away = data["id"].isin(left)
        plain = dgmm.mixed_model("y ~ x + t + (1 | id)", data[~away], verbose=0)
        expected = plain.log_score(data[away])["log_score"].to_numpy()
        np.testing.assert_allclose(score[torch.from_numpy(left)].numpy(), expected, atol=1e-5)
