"""Posteriors that Stan has sampled, 20,000 draws each: the ground truths of inference-gym.

Only their numbers are read; the package itself, which needs tensorflow, is never imported.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from conftest import data

from dgmm import Fit, half_normal, known, log_normal, mixed_model, normal, prior
from dgmm.mcmc.diagnostics import diagnosed

ERRORS = 4.0
"""Combined Monte Carlo errors that two means may be apart."""


def ground_truth(name: str) -> ModuleType:
    found = importlib.util.find_spec("inference_gym")
    if found is None or found.origin is None:
        pytest.skip("inference-gym is not installed: pip install 'dgmm[posteriors]'")
    path = Path(found.origin).parent / "targets" / "ground_truth" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"ground_truth_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(truth: ModuleType, name: str, draws: np.ndarray, error: np.ndarray) -> None:
    """Means (R,) within four combined errors, standard deviations within 10 %."""
    mean, theirs, sd = (
        np.atleast_1d(getattr(truth, f"IDENTITY_{name}_{what}"))
        for what in ("MEAN", "MEAN_STANDARD_ERROR", "STANDARD_DEVIATION")
    )
    z = (draws.mean(0) - mean) / np.hypot(error, theirs)
    assert np.abs(z).max() < ERRORS, (name, z)
    assert draws.std(0) == pytest.approx(sd, rel=0.1), name


def with_effects(fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Kept draws of the intercept of every level, (B, m), and errors of their means."""
    chains = fit.estimate.chains
    assert chains is not None
    centre = fit.posterior_draws()["(Intercept)"].to_numpy()[chains.kept.numpy()]
    drawn = centre[:, None] + chains.effects[0][:, :, 0].numpy()
    by_chain = drawn.reshape(chains.chains, -1, drawn.shape[1])
    return drawn, np.array([diagnosed(by_chain[:, :, j]).mcse for j in range(drawn.shape[1])])


def test_eight_schools() -> None:
    """Known standard errors, and a prior of the logarithm of the one standard deviation."""
    truth = ground_truth("eight_schools")
    errors = np.array([15, 10, 16, 11, 9, 11, 10, 18])
    frame = pd.DataFrame(
        {"effect": [28, 8, -3, 7, -1, 1, 18, 12], "school": list("ABCDEFGH"), "w": errors**-2.0}
    )
    told = prior(beta=normal(0, 10), cov=log_normal(5, 1), sigma2=known(1))
    fit = mixed_model(
        "effect ~ 1 + (1 | school)",
        frame,
        weights="w",
        method="gibbs",
        prior=told,
        draws=6000,
        verbose=0,
    )
    table, drawn = fit.posterior_table(), fit.posterior_draws()
    check(truth, "AVG_EFFECT", drawn[["(Intercept)"]].to_numpy(), table["MCSE"][["(Intercept)"]])
    log = np.log(drawn[["sd_(Intercept)|school"]].to_numpy())
    size = table["ESS bulk"]["sd_(Intercept)|school"]
    check(truth, "LOG_STDDEV", log, log.std(0) / np.sqrt(size))
    check(truth, "SCHOOL_EFFECTS", *with_effects(fit))
    assert (drawn["sigma"] == 1).all()
    assert table["R-hat"].drop("sigma").max() < 1.01


def test_radon_in_minnesota() -> None:
    truth = ground_truth("radon_contextual_effects_minnesota_halfnormal")
    frame = data("radon")
    radon = np.maximum(np.round(np.exp(frame["log_radon"]) - 0.1, 1), 0.1)  # as they have it
    mean = frame.groupby("county", observed=True)["floor"].transform("mean")
    frame = frame.assign(y=np.log(radon), floor_mean=mean)
    fit = mixed_model(
        "y ~ log_uranium + floor + floor_mean + (1 | county)",
        frame,
        method="gibbs",
        prior=prior(beta=normal(0, 1), cov=half_normal(1), sigma2=half_normal(1)),
        draws=4000,
        verbose=0,
    )
    table, drawn = fit.posterior_table(), fit.posterior_draws()
    parts = {
        "COUNTY_EFFECT_MEAN": ["(Intercept)"],
        "WEIGHT": ["log_uranium", "floor", "floor_mean"],
        "COUNTY_EFFECT_SCALE": ["sd_(Intercept)|county"],
        "LOG_RADON_SCALE": ["sigma"],
    }
    for name, columns in parts.items():
        check(truth, name, drawn[columns].to_numpy(), table["MCSE"][columns].to_numpy())
    names = [name.replace("STLOUIS", "ST LOUIS") for name in fit.ranef().index]
    order = np.argsort(names)  # theirs is alphabetical
    check(truth, "COUNTY_EFFECT", *(one[..., order] for one in with_effects(fit)))
    assert table["R-hat"].max() < 1.01
