"""The differentiable Gaussian likelihood against the estimation's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dgmm import Fit
from dgmm.information.gaussian import GaussianLikelihood, variance_vector


@pytest.mark.parametrize("name", ["sleepstudy", "sleepstudy_reml", "pbcseq", "singular"])
def test_value_and_stationarity_at_the_estimate(name: str, request: pytest.FixtureRequest) -> None:
    fit: Fit = request.getfixturevalue(name)
    likelihood = GaussianLikelihood.of(fit.estimate, reml=fit.estimate.method == "reml")
    psi = variance_vector(fit.estimate, likelihood).requires_grad_()
    value = likelihood.value(likelihood.fill(psi[:-1]), psi[-1])
    assert float(value.detach()) == pytest.approx(float(fit.loglik()), abs=1e-8)
    (slope,) = torch.autograd.grad(value, psi)
    assert slope.abs().max() < 0.01
    beta = likelihood.solve(likelihood.fill(psi[:-1])).beta.detach()
    np.testing.assert_allclose(fit.estimate.model.basis @ beta, fit.fixef(), rtol=1e-6)


def test_a_constraint_on_beta_is_a_refit_with_an_offset(sleepstudy: Fit) -> None:
    likelihood = GaussianLikelihood.of(sleepstudy.estimate, reml=False)
    psi = variance_vector(sleepstudy.estimate, likelihood)
    found = likelihood.solve(likelihood.fill(psi[:-1]))
    a = sleepstudy.estimate.model.basis[1]
    S = found.factor @ found.factor.T
    free = found.beta
    for value in (8.0, float(a @ free)):
        moved = free + torch.linalg.solve(S, a) * (value - a @ free) / (
            a @ torch.linalg.solve(S, a)
        )
        step = moved - free
        expected = float(step @ S @ step)
        assert float(a @ moved) == pytest.approx(value, rel=1e-12)
        assert float(likelihood.constraint(found, a, value)) == pytest.approx(expected, abs=1e-9)
