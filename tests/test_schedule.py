"""The schedule: closed forms of the KL weight and of the step length."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from dgmm import Control
from dgmm.variational.schedule import Schedule, schedule_for


def test_the_kl_weight_grows_linearly_and_then_stays() -> None:
    schedule = Schedule(epochs=10, kl_anneal=4)
    weights = [schedule.kl_weight(epoch) for epoch in range(10)]
    assert weights == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert [schedule.settled(epoch) for epoch in range(5)] == [False, False, False, True, True]
    assert all(Schedule().kl_weight(epoch) == 1.0 for epoch in (0, 1, 299))


def test_cycles_rise_in_their_first_half() -> None:
    schedule = Schedule(epochs=20, kl_anneal=12, kl_cycles=3)
    weights = [schedule.kl_weight(epoch) for epoch in range(13)]
    assert weights == [0.5, 1.0, 1.0, 1.0] * 3 + [1.0]
    assert not any(schedule.settled(epoch) for epoch in range(11))  # 1 in between is not the end
    assert all(schedule.kl_weight(e) == 1.0 for e in range(20) if schedule.settled(e))
    uneven = Schedule(epochs=20, kl_anneal=7, kl_cycles=2)  # cycles of 3.5 epochs
    known = [1 / 1.75, 1.0, 1.0, 1.0, 1.5 / 1.75, 1.0, 1.0]
    assert [uneven.kl_weight(epoch) for epoch in range(7)] == pytest.approx(known)


def test_the_rate_warms_up_and_falls_along_a_cosine() -> None:
    schedule, steps = Schedule(warm_up=0.1), 100
    rates = [schedule.rate(step / steps, steps) for step in range(steps)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[55] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert rates[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.89 / 0.9)))
    assert all(one > other - 1e-12 for one, other in pairwise(rates[9:]))
    assert max(rates) == pytest.approx(1.0)
    assert Schedule(warm_up=0.0).rate(0.0, 1) == 1.0


def test_the_last_iterates_are_averaged() -> None:
    """Steps of one length, shorter ones where the mean begins."""
    schedule = Schedule(average=0.25, warm_up=0.125)
    rates = [schedule.rate(step / 8, 8) for step in range(8)]
    assert rates == pytest.approx([1.0] * 6 + [1 / 3] * 2)
    assert [schedule.averages(step, 8) for step in range(8)] == [False] * 6 + [True] * 2


def test_batches_cover_the_subjects() -> None:
    assert [Schedule(batch=100).batches(n) for n in (10, 149, 151, 800)] == [1, 1, 2, 8]


def test_the_number_of_steps_is_bounded_and_epochs_are_not_below_that() -> None:
    control = Control(epochs=300, steps=10_000)
    for n in (100, 800, 3200):
        schedule = schedule_for(control, n)
        assert schedule.epochs == 300
        assert schedule.batches(n) >= 8
    for n in (12_800, 100_000, 3_000_000):
        steps = [
            schedule.epochs * schedule.batches(n)
            for schedule in (schedule_for(control, n), schedule_for(control, n, epochs=150))
        ]
        assert steps[0] == pytest.approx(10_000, rel=0.05) or schedule_for(control, n).epochs == 1
        assert steps[1] <= 0.55 * steps[0] or schedule_for(control, n).epochs == 1


def test_annealing_shrinks_with_the_epochs() -> None:
    control = Control(epochs=300, kl_anneal=60, kl_cycles=2, steps=10_000)
    short = schedule_for(control, 12_800)
    assert short.kl_anneal / short.epochs == pytest.approx(0.2, abs=0.02)
    assert short.kl_cycles == 2
