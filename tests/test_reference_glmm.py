"""Generalized linear mixed models against dense quadrature (reference/glmm_exact.json)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from conftest import reference

from dgmm import Fit

ENTRIES = {
    "cbpp": "cbpp",
    "toenail": "toenail",
    "contraception": "contraception_int",
    "epil": "epil_poisson",
}


def furthest_coefficient(fit: Fit, known: dict) -> float:
    """In standard errors of the reference."""
    ours = fit.fixef().rename(lambda name: name.replace(" ** ", "^"))
    assert list(ours.index) == list(known["coef"])
    errors = np.array([*known["se"].values()])
    return float(((ours - np.array([*known["coef"].values()])) / errors).abs().max())


def component_distance(fit: Fit, known: dict) -> float:
    """Distance of the standard deviation in its own standard errors; those are on the log scale."""
    row = fit.var_corr().iloc[0]
    return abs(float(np.log(row["sdcor"] / known["re"]["sd"]["(Intercept)"]) / row["std_error"]))


@pytest.mark.parametrize("name", ENTRIES)
def test_quadrature(name: str, fit_of: Callable[..., Fit]) -> None:
    fit, known = fit_of(name), reference("glmm_exact", ENTRIES[name])
    assert fit.loglik().likelihood == "quadrature"
    assert float(fit.loglik()) == pytest.approx(known["logLik"], abs=0.02)
    assert furthest_coefficient(fit, known) < 0.02
    assert component_distance(fit, known) < 0.02
    np.testing.assert_allclose(fit.std_errors(), [*known["se"].values()], rtol=0.02)
    assert (fit.nobs(), fit.n_groups()) == (known["n"], known["groups"])


@pytest.mark.parametrize(
    "name",
    ["cbpp", *(pytest.param(n, marks=pytest.mark.slow) for n in ENTRIES if n != "cbpp")],
)
def test_the_variational_route(name: str, fit_of: Callable[..., Fit]) -> None:
    fit = fit_of(name, method="vae", likelihood="importance")
    known = reference("glmm_exact", ENTRIES[name])
    found = fit.loglik()
    assert found.likelihood == "importance"
    assert found.value == pytest.approx(known["logLik"], abs=0.2)
    assert 0 < found.mc_error < 0.05
    assert abs(found.value - known["logLik"]) < 4 * found.mc_error
    assert furthest_coefficient(fit, known) < 0.05
    assert component_distance(fit, known) < 0.05
    np.testing.assert_allclose(fit.std_errors(), [*known["se"].values()], rtol=0.02)


def test_the_bound_is_below_the_log_likelihood(cbpp_vae: Fit) -> None:
    done = cbpp_vae.estimate
    assert done.elbo is not None
    assert done.elbo < float(cbpp_vae.loglik()) + 4 * done.elbo_error
    # one random effect and binomial counts: the Gaussian q is nearly right
    assert done.elbo == pytest.approx(float(cbpp_vae.loglik()), abs=0.1)
