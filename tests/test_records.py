"""Control: what is refused, and the schedule it makes."""

from __future__ import annotations

from typing import Any

import pytest

from dgmm import Control


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kl_cycles": 0}, "control kl_cycles=0 is not a whole number >= 1"),
        ({"patience": -1}, "control patience=-1 is not a whole number >= 0"),
        ({"refine": 1.5}, "control refine=1.5 is not a whole number >= 0"),
        ({"workers": 0}, "control workers=0 is not a whole number >= 1"),
        ({"steps": 0}, "control steps=0 is not a whole number >= 1"),
        ({"average": 1.0}, "control average=1.0 must lie between"),
        ({"watch": "elbo"}, "control watch is 'bound' or 'likelihood', not 'elbo'"),
        ({"precision": "half"}, "control precision is 'auto' or 'double' or 'single', not 'half'"),
        ({"covariance": "full rank"}, "control covariance is 'full' or 'diagonal'"),
        ({"checkpoint": 3}, "control checkpoint is the path of a file, not 3"),
        ({"epochs": 100, "kl_anneal": 51}, "leaves less than half of the 100 epochs"),
        ({"kl_cycles": 3, "kl_anneal": 5}, "needs kl_anneal of at least 6 epochs"),
        ({"average": 0.5, "patience": 5}, "both say which iterate is the result; give one"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Control(**options)


def test_the_number_of_steps_is_bounded_and_epochs_are_not_below_that() -> None:
    control = Control(epochs=300, steps=10_000)
    for n in (100, 800, 3200):
        schedule = control.schedule(n)
        assert schedule.epochs == 300
        assert schedule.batches(n) >= 8
    for n in (12_800, 100_000, 3_000_000):
        steps = [
            schedule.epochs * schedule.batches(n)
            for schedule in (control.schedule(n), control.schedule(n, epochs=150))
        ]
        assert steps[0] == pytest.approx(10_000, rel=0.05) or control.schedule(n).epochs == 1
        assert steps[1] <= 0.55 * steps[0] or control.schedule(n).epochs == 1


def test_annealing_shrinks_with_the_epochs() -> None:
    control = Control(epochs=300, kl_anneal=60, kl_cycles=2, steps=10_000)
    short = control.schedule(12_800)
    assert short.kl_anneal / short.epochs == pytest.approx(0.2, abs=0.02)
    assert short.kl_cycles == 2
