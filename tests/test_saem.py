"""Stochastic approximation EM: its limit is exact ML of the observed outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import benchmark
from toys import build, encoder_for, frame, generator, linear_gaussian, random_theta

import dgmm
from dgmm import Fit, mixed_model
from dgmm.estimate.amortised import skip_matrix
from dgmm.estimate.control import Control
from dgmm.estimate.saem import gradient, saem, start_chains, sweep

TEXT = "y ~ x + t + (t | id)"
QUICK = {"epochs": 15, "saem_iterations": 400, "chains": 16}


def dropout(n: int = 60, seed: int = 3) -> pd.DataFrame:
    """Subjects with a high outcome leave."""
    data = frame(n, 6, seed=seed)
    high = (data["y"] > data["y"].mean()) & (data.groupby("id").cumcount() > 1)
    data.loc[high.groupby(data["id"]).cumsum().gt(1), "y"] = np.nan
    return data


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return dropout()


@pytest.fixture(scope="module")
def exact(data: pd.DataFrame) -> Fit:
    return mixed_model(TEXT, data, verbose=0)


@pytest.fixture(scope="module")
def raw(data: pd.DataFrame) -> Fit:
    control = {**QUICK, "polish": False}
    return mixed_model(TEXT, data, encoder="dense", missing="saem", control=control, verbose=0)


def copies(n: int = 250) -> tuple[Any, ...]:
    """One subject who was seen three times of eight, n times, with its exact posterior."""
    one = frame(1, 8, seed=6)
    one.loc[[1, 4, 5, 6, 7], "y"] = np.nan
    data = pd.concat([one.assign(id=j) for j in range(n)])
    model, panel = build("y ~ t + (t | id)", data, unit=1.5)
    theta = random_theta(model, 1)
    mean, covariance, _ = linear_gaussian(model, theta, panel.select([0]).observed_rows())
    return model, panel, theta, torch.from_numpy(mean[0]), torch.from_numpy(covariance[0])


def moments_of_chains(
    confirming: bool, believing: bool, steps: int = 60, burn: int = 150
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """z of the mean (k,) and of the second moments (k, k) of the chains, and the acceptance.

    The encoder has a random network; ``believing``, it takes imputed outcomes for observed ones.
    ``confirming``, a chain sees what was imputed from itself.
    """
    model, panel, theta, mean, covariance = copies()
    g, plain = generator(2), encoder_for(model, panel, "dense")

    class Believing(type(plain)):  # type: ignore[misc]
        def __call__(self, phi: Any, seen: Any) -> Any:
            return super().__call__(phi, seen._replace(imputed=torch.zeros_like(seen.mask)))

    encoder = Believing(plain.k, plain.q, plain.c, plain.J) if believing else plain
    phi = {
        name: w if name in ("W", "c") else 0.06 * torch.randn(w.shape, generator=g).double()
        for name, w in encoder.tied(skip_matrix(model, theta), g).items()
    }
    chains, draws = start_chains(model, panel, 2, g), []
    for step in range(steps + burn):
        sweep(model, theta, encoder, phi, chains, 0.0, g)
        if confirming:
            chains.x[0] = chains.x[1]
        if step >= burn:
            draws.append(chains.x[1][0])
    b = torch.stack(draws) - mean  # (steps, n, k), subjects independent
    first, second = b.mean(0), torch.einsum("sna,snb->nab", b, b) / len(b)

    def z(values: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return (values.mean(0) - truth) / (values.std(0) / np.sqrt(len(values)))

    rate = float(np.mean([rates[0] for rates in chains.rates]))
    return z(first, torch.zeros_like(mean)), z(second, covariance), rate


def test_chains_have_the_exact_posterior_of_the_observed_outcomes() -> None:
    """Mean and covariance of p(b | y_observed) at a fixed theta, whatever the encoder proposes."""
    for believing, burn in ((False, 20), (True, 150)):
        first, second, rate = moments_of_chains(False, believing, burn=burn)
        assert float(first.abs().max()) < 4
        assert float(second.abs().max()) < 4
        assert 0.2 < rate < 0.9


def test_chains_that_see_their_own_imputations_would_confirm_themselves() -> None:
    """Why there are two halves."""
    _, second, _ = moments_of_chains(True, True)
    assert float(second.abs().max()) > 6


def test_gradient_is_the_mean_over_chains_of_observed_outcomes_only(data: pd.DataFrame) -> None:
    """Whatever stands in for a missing outcome, even an impossible one, changes nothing."""
    model, panel = build(TEXT, data, unit=1.5)
    theta, g = random_theta(model, 1), generator(2)
    chains = start_chains(model, panel, 4, g)
    y = chains.panel.rows.data.y
    other = torch.where(panel.observed, y, torch.nan)
    one, two = gradient(model, theta, chains, y), gradient(model, theta, chains, other)
    for name, slope in one.items():
        assert torch.equal(slope, two[name])
    block = panel.observed_rows().block(torch.arange(panel.n))
    leaf = {n: v.clone().requires_grad_() for n, v in theta.items()}
    b = torch.cat(chains.x)
    value = model.log_likelihood(model.prepare(leaf), b, block).mean(0).sum()
    for name, slope in zip(leaf, torch.autograd.grad(value, list(leaf.values())), strict=True):
        assert torch.allclose(one[name], slope, rtol=1e-10, atol=1e-10)


def test_averaged_iterates_are_near_exact_ml(raw: Fit, exact: Fit) -> None:
    z = (raw.fixef() - exact.fixef()) / exact.std_errors()
    assert float(z.abs().max()) < 0.4
    sd = raw.var_corr()["sdcor"] / exact.var_corr()["sdcor"]
    assert np.allclose(sd.iloc[[0, 1, 3]], 1, atol=0.1)
    path = raw.estimate.saem
    assert path is not None
    assert path.trace.shape == (400, 3)
    beta = torch.from_numpy(raw.fixef().to_numpy().copy())
    assert torch.allclose(path.trace[133:].mean(0), beta, atol=1e-10)
    assert 0.2 < path.acceptance[0] < 0.95
    assert abs(path.acceptance[1] - 0.3) < 0.05
    # of the order of the errors that it states; iterates are correlated, so these are too small
    stated = path.mc_error.numpy() / exact.std_errors().to_numpy()
    assert float((z / stated).pow(2).mean()) < 4**2


def test_likelihood_and_standard_errors_are_those_of_the_observed_outcomes(
    raw: Fit, exact: Fit
) -> None:
    assert abs(raw.loglik().value - exact.loglik().value) < 0.15
    assert np.allclose(raw.std_errors() / exact.std_errors(), 1, atol=0.05)
    assert raw.nobs() == exact.nobs()


def test_the_summary_tells_how_it_went(raw: Fit) -> None:
    text = str(raw.summary())
    for words in (
        "stochastic approximation EM (SAEM),\n not polished",
        "SAEM: 400 iterations, the last 267 averaged; 16 chains per subject",
        "Acceptance: proposals of the encoder 0.",
        "Monte Carlo error of the averages: at most",
        "Newton decrement",
    ):
        assert words in text
    assert "bound: -" not in text


def test_saving_keeps_the_path(raw: Fit, tmp_path: Path) -> None:
    raw.save(tmp_path / "fit.dgmm")
    again = dgmm.load(tmp_path / "fit.dgmm")
    assert str(again.summary()) == str(raw.summary())


def test_polished_it_is_exact_ml(data: pd.DataFrame, exact: Fit) -> None:
    control = {"epochs": 6, "saem_iterations": 60}
    fit = mixed_model(TEXT, data, encoder="dense", missing="saem", control=control, verbose=0)
    z = (fit.fixef() - exact.fixef()) / exact.std_errors()
    assert float(z.abs().max()) < 0.01
    assert "polished on the marginal likelihood" in str(fit.summary())


def test_it_repeats_exactly(data: pd.DataFrame) -> None:
    model, panel = build(TEXT, data, unit=1.5)
    encoder = encoder_for(model, panel, "dense")
    phi = encoder.initial(generator(1))
    control = Control(saem_iterations=60)
    first, second = (
        saem(model, encoder, random_theta(model, 1), phi, panel, control, generator(2))
        for _ in range(2)
    )
    assert all(torch.equal(first[0][name], second[0][name]) for name in first[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": "sites"}, "encoder='dense'"),
        ({"method": "ml"}, "method='vae'"),
        ({"method": "reml"}, "method='vae'"),
        ({"delta": 1.0}, "missing='pattern'"),
        ({"control": {"chains": 1}}, "chains"),
        ({"control": {"chains": 3}}, "even"),
    ],
)
def test_options_that_do_not_go_together(
    change: dict[str, Any], message: str, data: pd.DataFrame
) -> None:
    options = {"encoder": "dense", "missing": "saem", "verbose": 0, **change}
    with pytest.raises(ValueError, match=message):
        mixed_model(TEXT, data, **options)


def test_several_grouping_factors_are_refused_by_name(data: pd.DataFrame) -> None:
    crossed = data.assign(site=data["id"] % 7)
    with pytest.raises(ValueError, match="site"):
        mixed_model(
            "y ~ t + (1 | id) + (1 | site)", crossed, encoder="dense", missing="saem", verbose=0
        )


@pytest.mark.slow
def test_dropout_benchmark() -> None:
    """Five data sets of `benchmarks/missing.py`: the bars for 30% dropout."""
    measure = benchmark("missing").measure
    table = pd.concat([measure(seed) for seed in range(5)]).groupby(level=0).mean()
    assert table.loc["sites", "mean"] < 0.02
    assert table.loc["saem, averaged", "mean"] < 0.1
    assert table.loc["slides, zero-filled", "mean"] > 0.3
    assert table.loc["slides, imputed", "mean"] > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bernoulli", "poisson"])
def test_other_families(family: str) -> None:
    data = frame(300, 6, seed=7, missing=0.3)
    text = {"bernoulli": "z ~ x + t + (1 | id)", "poisson": "count ~ x + t + (1 | id)"}[family]
    exact = mixed_model(text, data, family=family, verbose=0)
    fit = mixed_model(
        text,
        data,
        family=family,
        encoder="dense",
        missing="saem",
        control={"polish": False, "epochs": 100},
        verbose=0,
    )
    z = (fit.fixef() - exact.fixef()) / exact.std_errors()
    assert float(z.abs().max()) < 0.15


@pytest.mark.slow
def test_a_deep_model() -> None:
    """From the ELBO estimate SAEM goes to the maximum that the polish finds, too."""
    data = frame(200, 8, seed=8, missing=0.2)
    text = "y ~ x + t + (dnn(t, latent=2, hidden=(6,)) | id)"
    control = {"epochs": 150, "holdout": 0.0}
    options = {"encoder": "dense", "control": control, "verbose": 0}
    plain = mixed_model(text, data, **options)
    raw = {**options, "control": {**control, "polish": False}}
    fit = mixed_model(text, data, missing="saem", **raw)
    z = (fit.fixef() - plain.fixef()) / plain.std_errors()
    assert float(z.abs().max()) < 0.3
    assert abs(fit.loglik().value - plain.loglik().value) < 1.0
    assert fit.estimate.saem is not None
