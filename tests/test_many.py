"""Many Gaussian models at once: which are usual, and that rows beside them do not matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toys import build, frame

from dgmm.latent import Pattern
from dgmm.likelihood.many import ManyRows, allows, estimate_each, usual
from dgmm.likelihood.profiling import maximise
from dgmm.likelihood.statistics import statistics

TEXT = "y ~ x + t + (t | id)"


def rows(models: int = 3) -> ManyRows:
    """Models of 15 subjects with five visits each, some outcomes missing."""
    X, T, y, w, subject = [], [], [], [], []
    for seed in range(models):
        data = frame(15, 5, seed=seed, missing=0.2)
        X.append(np.column_stack([np.ones(75), data["x"], data["t"]]))
        T.append(np.column_stack([np.ones(75), data["t"]]))
        y.append(data["y"])
        w.append(data["w"])
        subject.append(data["id"])
    return ManyRows(
        np.array(y), np.array(X), np.array(T), np.array(w), np.array(subject),
        np.ones((models, 75), dtype=bool),
    )  # fmt: skip


def pattern() -> Pattern:
    return Pattern.of(build(TEXT, frame(15, 5))[0].latents)


@pytest.mark.parametrize("reml", [False, True])
def test_the_maximum_is_that_of_the_statistics_of_one_model(reml: bool) -> None:
    found = estimate_each(rows(), pattern(), reml)
    for seed in range(3):
        model, panel = build(TEXT, frame(15, 5, seed=seed, missing=0.2), weights="w")
        wanted = maximise(statistics(model, panel.observed_rows()), reml)
        assert found.log_likelihood[seed] == pytest.approx(wanted.log_likelihood, abs=1e-9)
        beta = model.basis.numpy() @ wanted.beta
        np.testing.assert_allclose(found.beta[seed], beta, rtol=1e-7, atol=1e-8)
        half = model.latents[0].frame.numpy() @ wanted.Lambda
        own = found.loadings[seed]
        np.testing.assert_allclose(own @ own.T, half @ half.T, rtol=1e-6, atol=1e-8)
        assert found.sigma[seed] == pytest.approx(np.exp(wanted.log_sigma), rel=1e-8)


def test_rows_that_are_not_planned_do_not_matter() -> None:
    short = rows()
    pad = lambda a, value: np.concatenate([a, np.full_like(a[:, :9], value)], axis=1)  # noqa: E731
    longer = ManyRows(
        pad(short.y, 1e3), pad(short.X, 7.0), pad(short.T, 7.0), pad(short.weights, 3.0),
        pad(short.subject, 14), pad(short.planned, False),
    )  # fmt: skip
    assert usual(longer).all()
    for one, two in zip(
        estimate_each(short, pattern(), True), estimate_each(longer, pattern(), True), strict=True
    ):
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-8)


def test_what_is_not_usual() -> None:
    plain = rows(6)
    y, X, T = plain.y.copy(), plain.X.copy(), plain.T.copy()
    y[0, 20:] = np.nan  # four subjects with five rows each: enough
    y[1, 5:] = np.nan  # one subject
    y[2] = X[2] @ [1.0, 2.0, 3.0]  # no residual
    X[3, :, 2] = 2 * X[3, :, 1] + 1  # a column that others explain
    T[4, :, 1] = 0.5
    y[5, np.arange(75) % 5 > 0] = np.nan  # one row for each of two effects
    assert usual(replace(plain, y=y, X=X, T=T)).tolist() == [True] + 5 * [False]


def test_words_that_leave_the_models_to_it() -> None:
    assert allows("auto", "auto")
    assert allows("exact", "reml")
    assert not allows("laplace", "ml")
    assert not allows("auto", "gibbs")
