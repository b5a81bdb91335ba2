"""What is said of chains: R-hat by three bounds, effective sample sizes by two."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dgmm.bayes.convergence import judged
from dgmm.mcmc.diagnostics import Diagnosed, diagnosed


def scalar(r_hat: float, bulk: float, tail: float) -> Diagnosed:
    return Diagnosed(r_hat, bulk, tail, 0.01)


@pytest.mark.parametrize(
    ("r_hat", "bulk", "tail", "usable", "words"),
    [
        (1.004, 900, 700, True, ""),
        (1.01, 400, 400, True, ""),
        (1.011, 900, 700, True, "nearly mixed.*1.011 for sd.*Longer chains are advised"),
        (1.05, 900, 400, True, "nearly mixed.*sizes of at least 400"),
        (1.03, 900, 399, True, "nearly mixed.*399 for sd. Means are usable"),
        (1.051, 9000, 9000, False, "not mixed.*1.051 for sd.*Do not use these draws"),
        (1.004, 399, 900, True, "draws are few: .* below 400 for 1 of 2 parameters, 399 for sd"),
        (1.004, 900, 40, True, "draws are few.*quantiles less so"),
        (1.004, 39, 900, False, "far too few.*39 for sd.*Do not use these draws"),
        (1.04, 39, 900, False, "far too few"),
    ],
)
def test_the_words_are_as_strong_as_the_trouble(
    r_hat: float, bulk: float, tail: float, usable: bool, words: str
) -> None:
    well = scalar(1.0, 5000, 5000)
    verdict = judged([well, scalar(r_hat, bulk, tail)], ["x", "sd"], 4)
    assert verdict.usable == usable
    if not words:
        assert verdict.messages == ()
        return
    (said,) = verdict.messages
    assert re.search(words, said), said
    assert ("Do not use" in said) != usable


def test_what_does_not_move_is_not_judged() -> None:
    fixed = diagnosed(np.ones((4, 100)))
    assert judged([fixed], ["sigma"], 4) == (True, ())
    apart = np.random.default_rng(1).normal(size=(4, 400)) + np.arange(4)[:, None]
    verdict = judged([fixed, diagnosed(apart)], ["sigma", "x"], 4)
    assert not verdict.usable
    assert "for 1 of 2 parameters" in verdict.messages[0]
