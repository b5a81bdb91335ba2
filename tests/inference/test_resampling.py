"""The cluster bootstrap, against the sandwich and a dense refit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import toys
from conftest import FORMULAS, data

import dgmm
from dgmm import Fit, mixed_model
from dgmm.estimate.classical import fit_linear
from dgmm.inference.resampling import _deep_refit, drawn_subjects, resampled_information
from dgmm.information import information
from dgmm.likelihood import Quadrature
from dgmm.likelihood.polish import polish

RESAMPLES = 100


@pytest.fixture(scope="module")
def linear() -> Fit:
    return mixed_model(
        "y ~ t + x + (1 | id)",
        toys.frame(n=100, seed=4),
        se="bootstrap",
        control={"resamples": RESAMPLES},
        verbose=0,
    )


def test_its_errors_are_those_of_the_sandwich(linear: Fit) -> None:
    ratio = linear.std_errors() / linear.std_errors(kind="sandwich")
    # a standard deviation of B draws has a relative error of 1 / sqrt(2 B)
    assert (ratio - 1).abs().max() < 4 / np.sqrt(2 * RESAMPLES)
    assert (ratio - 1).abs().max() > 1e-3
    assert "cluster bootstrap, 100 resamples" in str(linear.summary())


def test_a_resample_is_a_fit_to_those_subjects(linear: Fit) -> None:
    assert linear.information is not None
    assert linear.information.resampled is not None
    done = linear.estimate
    for number in (0, 7):
        panel = done.panel.select(drawn_subjects(done, linear.request, number))
        assert panel.n == done.panel.n
        assert len(set(panel.ids.tolist())) < panel.n
        again = fit_linear(done.likelihood.on(panel), panel.rows.offset, linear.request)
        row = done.model.packing.pack(again.theta)
        torch.testing.assert_close(linear.information.resampled[number], row, rtol=1e-4, atol=1e-4)


def test_intervals_and_bands_are_those_of_the_replicates(linear: Fit, tmp_path: Path) -> None:
    assert linear.information is not None
    assert linear.information.resampled is not None
    found = linear.confint(0.9, method="percentile")
    p = len(linear.fixef())
    betas = linear.information.resampled[:, :p].numpy() @ linear.estimate.model.basis.numpy().T
    np.testing.assert_allclose(found.iloc[:p].T, np.quantile(betas, [0.05, 0.95], axis=0))
    estimates = np.concatenate([linear.fixef(), linear.var_corr()["sdcor"]])
    assert (found.iloc[:, 0] < estimates).all()
    assert (found.iloc[:, 1] > estimates).all()
    table = linear.effects("t", grid=3)
    curves = betas @ np.array(
        [np.ones(3), table["t"], np.full(3, linear.memory.covariates["x"].values.mean())]
    )
    np.testing.assert_allclose(table["se"], curves.std(axis=0, ddof=1), rtol=1e-8)
    linear.save(tmp_path / "fit")
    again = dgmm.load(tmp_path / "fit")
    pd.testing.assert_frame_equal(again.effects("t", grid=3), table, rtol=1e-9)


@pytest.mark.slow
def test_workers_change_nothing(linear: Fit) -> None:
    small = replace(linear.request.control, resamples=3, workers=2)
    two = resampled_information(linear.estimate, replace(linear.request, control=small))
    assert two.resampled is not None
    assert linear.information is not None
    assert linear.information.resampled is not None
    torch.testing.assert_close(two.resampled, linear.information.resampled[:3], rtol=0, atol=1e-9)


@pytest.fixture(scope="module")
def settled(curved: Fit) -> Fit:
    """The curved fit with all its weights at the penalised maximum."""
    done = curved.estimate
    at = polish(done.model, done.theta, done.observed, Quadrature(3), 0, rounds=30, tolerance=0.02)
    assert at.converged
    done = replace(done, theta=at.theta)
    return replace(curved, estimate=done, information=information(done, "hessian", 0, 256))


@pytest.fixture(scope="module")
def unsettled(settled: Fit) -> Fit:
    """The same with a layer that is far from it."""
    done = settled.estimate
    done = replace(done, theta={**done.theta, "dnn1.A1": 1.5 * done.theta["dnn1.A1"]})
    return replace(settled, estimate=done, information=information(done, "hessian", 0, 256))


def test_refitted_to_the_sample_itself_an_estimate_stays(settled: Fit) -> None:
    assert settled.information is not None
    done = settled.estimate
    theta = _deep_refit(done, settled.information)(done.panel)
    packing = done.model.packing
    gap = packing.pack(theta) - packing.pack(done.theta).detach()
    assert float(gap.abs().max()) < 1e-6


@pytest.mark.parametrize(("name", "resamples"), [("settled", 12), ("unsettled", 200)])
def test_networks_by_refits_and_by_one_step(
    name: str, resamples: int, request: pytest.FixtureRequest
) -> None:
    fit = request.getfixturevalue(name)
    control = replace(fit.request.control, resamples=resamples)
    info = resampled_information(fit.estimate, replace(fit.request, control=control))
    assert ("one Gauss-Newton step" in info.form) == (name == "unsettled")
    other = replace(fit, information=info)
    robust = replace(fit, information=information(fit.estimate, "sandwich", 0, 256))
    within = 4 / np.sqrt(2 * resamples)
    assert (np.log(other.std_errors() / robust.std_errors()).abs() < within).all()
    ours, theirs = (one.effects("z", grid=5)["se"] for one in (other, robust))
    assert float(np.log(ours / theirs).abs().mean()) < within
    assert info.messages == fit.information.messages


def test_what_it_is_not_for() -> None:
    with pytest.raises(ValueError, match="several grouping factors"):
        mixed_model(
            "y ~ x + (1 | a) + (1 | b)",
            pd.DataFrame(
                {
                    "y": np.random.default_rng(0).normal(size=24),
                    "x": np.arange(24.0),
                    "a": np.repeat(np.arange(6), 4),
                    "b": np.tile(np.arange(4), 6),
                }
            ),
            se="bootstrap",
            verbose=0,
        )
    with pytest.raises(ValueError, match="maximum likelihood"):
        mixed_model(
            FORMULAS["sleepstudy"], data("sleepstudy"), method="reml", se="bootstrap", verbose=0
        )
    plain = mixed_model("Reaction ~ Days + (1 | Subject)", data("sleepstudy"), verbose=0)
    with pytest.raises(ValueError, match="se='bootstrap'"):
        plain.confint(method="percentile")
