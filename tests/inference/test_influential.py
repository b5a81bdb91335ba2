"""One-step deletion against refits without each subject."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from conftest import FORMULAS, data

from dgmm import Fit, mixed_model


def left_out(fit: Fit, frame: pd.DataFrame, group: str, size: int) -> pd.DataFrame:
    """beta-hat - beta(-i) by refits."""
    rows = {}
    for label in fit.estimate.panel.ids[:size]:
        others = frame[frame[group].astype(str) != str(label)]
        rows[label] = fit.fixef() - fit.update(data=others).fixef()
    return pd.DataFrame(rows).T


@pytest.mark.parametrize("name", ["sleepstudy", "orthodont"])
def test_balanced_gaussian_deletion_is_exact(name: str, fit_of: Callable[..., Fit]) -> None:
    fit = fit_of(name)
    step = left_out(fit, data(name), "Subject", 8).to_numpy()
    found = fit.influence().iloc[:8]
    V = fit.vcov().to_numpy()
    cook = np.einsum("na,an->n", step, np.linalg.solve(V, step.T)) / len(V)
    np.testing.assert_allclose(found["cooks_distance"], cook, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(found.iloc[:, 1:], step / fit.std_errors().to_numpy(), atol=1e-6)


@pytest.mark.parametrize(("name", "group"), [("cbpp", "herd"), ("epil", "subject")])
def test_generalized_deletion_is_close(name: str, group: str, fit_of: Callable[..., Fit]) -> None:
    fit = fit_of(name)
    step = left_out(fit, data(name), group, 10).to_numpy() / fit.std_errors().to_numpy()
    found = fit.influence().iloc[:10]
    assert np.abs(found.iloc[:, 1:].to_numpy() - step).max() < 0.1 * np.abs(step).max()
    assert found.index.name == group


def test_unequal_visits(pbcseq: Fit) -> None:
    # the variances are held, so the step is only close
    step = left_out(pbcseq, data("pbcseq"), "id", 12).to_numpy() / pbcseq.std_errors().to_numpy()
    found = pbcseq.influence().iloc[:12, 1:].to_numpy()
    assert np.abs(found - step).max() < 0.04


def test_the_steps_of_all_subjects_cancel_to_first_order(sleepstudy: Fit) -> None:
    # balanced: sum of scores is zero and every subject has the same information
    found = sleepstudy.influence()
    np.testing.assert_allclose(found.iloc[:, 1:].sum(), 0.0, atol=1e-6)
    assert found["cooks_distance"].idxmax() == "309"


def test_refusals(deep: Fit) -> None:
    with pytest.raises(ValueError, match=r"without dnn\(\)"):
        deep.influence()
    bare = mixed_model(FORMULAS["sleepstudy"], data("sleepstudy"), se=None, verbose=0)
    with pytest.raises(ValueError, match="se=None"):
        bare.influence()
