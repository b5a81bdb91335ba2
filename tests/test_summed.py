"""Statistics from sums by subject against those from rows, and rows that stand for sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from toys import build, frame, random_theta

from dgmm.likelihood import Likelihood, choose, summed
from dgmm.likelihood.statistics import Statistics, statistics
from dgmm.likelihood.summed import Blocked, summed_statistics
from dgmm.model import Model
from dgmm.panel import Panel, Sums
from dgmm.runtime.absent import ABSENT, Absent

FORMULA = "y ~ t + x + (t | id)"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summed, "SUBJECTS", 5)


def sums_of(model: Model, panel: Panel, stats: Statistics) -> Sums:
    """The sums over the rows of a panel; subjects without an outcome have zeros."""
    seen = panel.observed_rows()
    there = (seen.count > 0).numpy()
    A = np.zeros((*stats.A.shape[:2], panel.n))
    B = np.zeros((*stats.B.shape[:2], panel.n))
    A[..., there], B[..., there] = stats.A, stats.B
    return Sums(
        A,
        B,
        stats.C,
        stats.origin,
        2 * stats.N * float(np.log(model.unit)) - stats.constant,
        seen.count,
        panel.n_rows,
        model.unit,
        model.basis / model.unit,
        tuple(latent.frame / model.unit for latent in model.latents),
    )


@pytest.fixture
def both() -> tuple[Model, Panel, Panel]:
    """A model, the panel of its rows and that of their sums."""
    data = frame(n=23, J=4, seed=3, missing=0.3)
    data.loc[data["id"] == data["id"].iloc[0], "y"] = np.nan
    model, panel = build(FORMULA, data)
    stats = statistics(model, panel.observed_rows())
    return model, panel, Panel.of_sums(panel.ids, sums_of(model, panel, stats), (0.0, 3.0))


def engines(both: tuple[Model, Panel, Panel], **options: Any) -> tuple[Likelihood, Likelihood]:
    model, *panels = both
    one, two = (choose(model, panel, **options) for panel in panels)
    return one, two


@pytest.mark.parametrize("restricted", [False, True])
def test_values_and_slopes_are_those_of_rows(
    both: tuple[Model, Panel, Panel], restricted: bool
) -> None:
    rows, sums = engines(both, restricted=restricted)
    for seed in range(3):
        theta = random_theta(both[0], seed)
        value, slope = rows.value_and_gradient(theta)
        ours, own = sums.value_and_gradient(theta)
        assert ours == pytest.approx(value, rel=1e-12)
        for name, derivative in slope.items():
            torch.testing.assert_close(own[name], derivative, rtol=1e-9, atol=1e-9)
    start = random_theta(both[0])
    one, two = (engine.maximise(lambda: start) for engine in (rows, sums))
    assert two.log_likelihood == pytest.approx(one.log_likelihood, rel=1e-12)


def test_blocks_of_subjects_add_up(both: tuple[Model, Panel, Panel]) -> None:
    model, _, stored = both
    assert stored.sums is not None
    blocked = summed_statistics(model, stored.sums)
    assert isinstance(blocked, Blocked)
    assert len(list(blocked.blocks())) == 5
    Lambda = np.array([[0.8, 0.0], [-0.3, 0.4]])
    whole, ours = blocked.whole.reduce(Lambda), blocked.reduce(Lambda)
    np.testing.assert_allclose(ours.S, whole.S, rtol=1e-12, atol=1e-12)
    assert ours.log_det == pytest.approx(whole.log_det, rel=1e-13)
    v = np.array([0.3, -0.2, 0.1, 1.0])
    for restricted in (False, True):
        np.testing.assert_allclose(
            ours.slope(v, 1.7, restricted), whole.slope(v, 1.7, restricted), rtol=1e-11
        )


def test_effects_are_those_of_rows(both: tuple[Model, Panel, Panel]) -> None:
    theta = random_theta(both[0], 5)
    one, two = (engine.posterior(theta).effects() for engine in engines(both))
    torch.testing.assert_close(two.mean[0], one.mean[0], rtol=0, atol=1e-9)
    torch.testing.assert_close(two.covariance[0], one.covariance[0], rtol=0, atol=1e-9)


def test_rows_that_stand_for_sums_have_them(both: tuple[Model, Panel, Panel]) -> None:
    model, _, stored = both
    ids = np.array([stored.ids[4], "nobody", stored.ids[0], stored.ids[7]], dtype=object)
    found = stored.align(ids)
    assert found.count.tolist() == [2, 0, 0, 2]  # the first subject has no outcome
    assert stored.sums is not None
    again = statistics(model, found)
    shift = (again.origin - stored.sums.origin)[:, None]  # y stands for y - X origin
    at = [4, 7]
    A, B = stored.sums.A[..., at], stored.sums.B[..., at]
    np.testing.assert_allclose(again.A, A, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(again.B[:, :-1], B[:, :-1], rtol=1e-8, atol=1e-10)
    residual = again.B[:, -1] + np.einsum("qpn,p->qn", again.B[:, :-1], shift[:, 0])
    np.testing.assert_allclose(residual, B[:, -1], rtol=1e-8, atol=1e-9)


def test_b_given_stand_ins_is_b_given_rows(both: tuple[Model, Panel, Panel]) -> None:
    model, panel, stored = both
    theta, (rows, sums) = random_theta(model, 2), engines(both)
    ids = panel.ids[[9, 3, 0, 12]]
    one = rows.on(panel.observed_rows().align(ids)).posterior(theta).effects()
    two = sums.on(stored.align(ids)).posterior(theta).effects()
    torch.testing.assert_close(two.mean[0], one.mean[0], rtol=0, atol=1e-8)
    torch.testing.assert_close(two.covariance[0], one.covariance[0], rtol=0, atol=1e-9)


def test_another_model_does_not_take_the_sums(both: tuple[Model, Panel, Panel]) -> None:
    other, _ = build("y ~ t + I(2 * x) + (t | id)", frame(n=23, J=4, seed=3, missing=0.3))
    likelihood = choose(other, both[2])
    with pytest.raises(ValueError, match="not in memory"):
        likelihood.value(random_theta(other))


def test_counts_without_rows(both: tuple[Model, Panel, Panel]) -> None:
    _, panel, stored = both
    assert stored.n_seen == panel.n_seen == int(panel.observed.sum())
    assert stored.n_rows == panel.n_rows
    torch.testing.assert_close(stored.outcomes, panel.outcomes)


def test_what_is_absent_says_so() -> None:
    absent = Absent({"time": 3})
    assert absent.time == 3
    for ask in (
        lambda: absent.data,
        lambda: absent["x"],
        lambda: len(absent),
        lambda: list(absent),
        lambda: "x" in absent,
    ):
        with pytest.raises(ValueError, match="this needs every row of the fit") as caught:
            ask()
        assert str(caught.value) == ABSENT
    with pytest.raises(AttributeError):
        absent.__wrapped__  # noqa: B018
