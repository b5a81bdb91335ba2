"""Whatever is written as a formula ends in a model or in a sentence of the package, soon."""

from __future__ import annotations

import re
import resource
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from fuzz import formula, frame

import dgmm
from dgmm.design import build_design, rebuild
from dgmm.formula import parse_formula
from dgmm.latent import words
from dgmm.runtime.gate import gate

MOST_SECONDS, MOST_BYTES = 10, 2**31
OUTCOMES = {
    "gaussian": "y",
    "poisson": "k",
    "bernoulli": "b",
    "binomial": "k / n",
    "cumulative": "o",
    "gamma": "w",
}

read, build, again = gate(parse_formula), gate(build_design), gate(rebuild)


class TooSlowError(BaseException):
    """No answer within MOST_SECONDS of the processor."""


@contextmanager
def limited() -> Iterator[None]:
    """No warnings, and no more than MOST_SECONDS."""

    def stop(*_: Any) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def design(text: str, data: Any) -> None:
    """The columns of a formula, and those of the same rows as new data."""
    found = build(read(text, latent_words=words()), data)
    assert np.isfinite(found.fixed.matrix).all()
    assert len(set(found.fixed.names)) == found.fixed.matrix.shape[1]
    new = again(found.spec, data, outcome=False)
    assert new.fixed.names == found.fixed.names


def fit(text: str, data: Any, family: str) -> None:
    """A fit of the linear terms and a random intercept, its summary and predictions."""
    linear = re.sub(r" \+ dnn\([^()]*\)", "", text.rpartition(" + (")[0])
    text, likelihood = f"{linear} + (1 | id)", "exact" if family == "gaussian" else "laplace"
    fitted = dgmm.mixed_model(text, data, family=family, likelihood=likelihood, verbose=0)
    str(fitted.summary())
    fitted.predict()


def faults(count: int, seed: int, per_frame: int, every: int) -> list[str]:
    """What went wrong for ``count`` formulas; every so many a model is fitted, too."""
    rng, found = np.random.default_rng(seed), []
    data = frame(rng)
    for j in range(count):
        if j % per_frame == 0:
            data = frame(rng)
        text, family = formula(rng), str(rng.choice(list(OUTCOMES)))
        start = time.process_time()
        try:
            with limited():
                if j % every == every - 1:
                    fit(text.replace("y ~", f"{OUTCOMES[family]} ~"), data, family)
                else:
                    design(text, data)
        except (ValueError, TypeError):
            pass
        except (Exception, TooSlowError) as error:
            seconds = time.process_time() - start
            found.append(f"{j}: {text[:200]!r}, {family}: {type(error).__name__}: {error}"
                         f" after {seconds:.1f} s")  # fmt: skip
    return found


def peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def check(count: int, seed: int, per_frame: int, every: int) -> None:
    before = peak()
    found = faults(count, seed, per_frame, every)
    assert not found, "\n".join(found)
    assert peak() - before < MOST_BYTES


def test_five_hundred_formulas() -> None:
    check(500, seed=1, per_frame=20, every=50)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_twenty_thousand_formulas_over_two_hundred_frames(part: int) -> None:
    check(2_000, seed=100 + part, per_frame=100, every=100)
