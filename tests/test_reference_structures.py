"""Fits with structured covariances against numbers of glmmTMB, lme4 and a dense density in R."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from conftest import reference
from toys import occasions_frame

import dgmm

GAUSSIAN = (
    "diag",
    "diag_hom",
    "cs",
    "cs_hom",
    "ar1",
    "ar1_het",
    "cs_reml",
    "ar1_reml",
    "cs_line",
    "diag_line",
    "cs_hom_line",
)
PEER = ("us", "crossed_cs", "crossed_ar1", "crossed_cs_reml")
COUNTS = ("poisson_cs", "poisson_cs_line", "poisson_ar1", "poisson_diag", "poisson_crossed_cs")


@cache
def fitted(name: str) -> dgmm.Fit:
    """The fit of an entry from the default start, made once."""
    entry = reference("structures", name)
    options: dict[str, Any] = {"method": "reml"} if entry["reml"] else {}
    if name in COUNTS:
        options = {"family": "poisson", "likelihood": "laplace"}
    return dgmm.mixed_model(entry["formula"], occasions_frame(), verbose=0, **options)


def reported(name: str, kind: str) -> list[float]:
    table = fitted(name).var_corr()
    own = table[(table["kind"] == kind) & (table["group"] != "Residual")]
    values: list[float] = own["sdcor"].tolist()
    return values


@pytest.mark.parametrize("name", [*GAUSSIAN, *PEER, *COUNTS])
def test_the_maximum_is_that_of_r(name: str) -> None:
    entry, fit = reference("structures", name), fitted(name)
    assert fit.estimate.converged
    assert float(fit.loglik().value) == pytest.approx(entry["log_likelihood"], abs=1e-6)
    assert fit.fixef().tolist() == pytest.approx(entry["fixef"], abs=1e-5)
    for other in entry.get("others", {}).values():
        assert fit.loglik().value > other["log_likelihood"] - 1e-6


@pytest.mark.parametrize("name", GAUSSIAN)
def test_standard_deviations_and_the_correlation_are_those_of_the_dense_density(name: str) -> None:
    entry, fit = reference("structures", name)["parameters"], fitted(name)
    sd = entry["sd"] if isinstance(entry["sd"], list) else [entry["sd"]]
    assert reported(name, "sd") == pytest.approx(sd, rel=1e-5)
    assert fit.sigma() == pytest.approx(entry["sigma"], rel=1e-5)
    if "rho" in entry:
        assert reported(name, "rho") == pytest.approx([entry["rho"]], abs=1e-5)


@pytest.mark.parametrize("name", [one for one in GAUSSIAN if not one.endswith("reml")])
def test_standard_errors_are_those_of_the_dense_density(name: str) -> None:
    entry, table = reference("structures", name)["se_working"], fitted(name).var_corr()
    mine = table["se_working"].to_numpy()
    rho = [value for key, value in entry.items() if key == "working_rho"]
    theirs = [value for key, value in entry.items() if key.startswith("log_sd")] + rho
    assert mine == pytest.approx(np.array([*theirs, entry["log_sigma"]]), rel=1e-4)


@pytest.mark.parametrize("name", [*(n for n in COUNTS if n != "poisson_diag"), "crossed_cs"])
def test_parameters_are_those_of_glmmtmb(name: str) -> None:
    """Its theta: log SDs, then atanh-like x with rho = x / sqrt(1 + x^2); cs on the logit scale."""
    theta = reference("structures", name)["theta"]
    cs = "cs" in name
    size = 1 if not cs else (2 if "line" in name else 4)
    sd = reported(name, "sd")
    assert sd[:size] == pytest.approx(np.exp(theta[:size]), rel=1e-3)
    x = theta[size]
    low = -1 / (size - 1) if cs else -1.0
    rho = low + (1 - low) / (1 + np.exp(-x)) if cs else x / np.sqrt(1 + x * x)
    assert reported(name, "rho") == pytest.approx([rho], abs=1e-3)
    if "crossed" in name:
        assert sd[size] == pytest.approx(np.exp(theta[-1]), rel=1e-3)


@pytest.mark.parametrize("name", COUNTS)
def test_standard_errors_of_counts_are_those_of_glmmtmb(name: str) -> None:
    entry = reference("structures", name)
    assert fitted(name).std_errors().tolist() == pytest.approx(entry["se_full"], rel=2e-3)
