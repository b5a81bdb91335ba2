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
    "epil_nb": "epil_nb",
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
    return abs(float(np.log(row["sdcor"] / known["re"]["sd"]["(Intercept)"]) / row["se_working"]))


@pytest.mark.parametrize("name", ENTRIES)
def test_quadrature(name: str, fit_of: Callable[..., Fit]) -> None:
    fit, known = fit_of(name), reference("glmm_exact", ENTRIES[name])
    assert fit.loglik().likelihood == "quadrature"
    assert float(fit.loglik()) == pytest.approx(known["logLik"], abs=1e-4)
    assert furthest_coefficient(fit, known) < 0.005
    assert component_distance(fit, known) < 0.005
    np.testing.assert_allclose(fit.std_errors(), [*known["se"].values()], rtol=0.005)
    for parameter, value in zip(fit.family_parameters().index, known["aux"], strict=True):
        assert parameter == "size"
        assert fit.family_parameters().loc[parameter, "estimate"] == pytest.approx(
            np.exp(value), rel=1e-4
        )
    assert (fit.nobs(), fit.n_groups()) == (known["n"], known["groups"])


@pytest.mark.parametrize(
    "name",
    [
        "cbpp",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ENTRIES
            if name not in ("cbpp", "epil_nb")
        ),
    ],
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


def test_ordinal_as_clmm(fit_of: Callable[..., Fit]) -> None:
    """R's ordinal 2022.11-16, clmm(rating ~ temp + contact + (1 | judge), wine, nAGQ = 25)."""
    fit = fit_of("wine")
    assert float(fit.loglik()) == pytest.approx(-81.532460710955, abs=1e-4)
    own = fit.family_parameters()
    estimates = np.array([*own["estimate"], *fit.fixef()])
    errors = np.array([*own["std_error"], *fit.std_errors()])
    known = [
        (-1.623487454851, 0.6833853976718),
        (1.512796037607, 0.6044364883104),
        (4.227053453524, 0.8089769394851),
        (6.086152276643, 0.971938246845),
        (3.061890992686, 0.5950756088766),
        (1.833433362454, 0.5121709339055),
    ]
    assert np.abs((estimates - np.array(known)[:, 0]) / errors).max() < 0.005
    np.testing.assert_allclose(errors, np.array(known)[:, 1], rtol=0.005)
    assert fit.var_corr()["sdcor"].iloc[0] == pytest.approx(1.134783297456, rel=1e-3)
