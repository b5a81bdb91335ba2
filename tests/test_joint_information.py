"""The joint information of coefficients and network weights, against dense and classical twins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import QUICK

from dgmm import Fit, mixed_model
from dgmm.information import (
    Joint,
    MeanSlopes,
    information,
    linearise,
    mean_packing,
    network_information,
    reported_packing,
)
from dgmm.information.linearised import row_space
from dgmm.information.networks import _fixed_networks, _neural_effects, joint_inverse
from dgmm.information.standard_errors import _classical, _with_networks
from dgmm.likelihood import Quadrature, freeze
from dgmm.likelihood.polish import kappa_vector
from dgmm.parameters import part

# -- d mu1 / d m -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["curved", "curved_counts", "sleepstudy"])
def test_slopes_of_the_mean_are_those_of_autograd(
    name: str, request: pytest.FixtureRequest
) -> None:
    done = request.getfixturevalue(name).estimate
    model, packing = done.model, mean_packing(done.model)
    rows = done.panel.rows.take(torch.arange(17))

    def mu1(m: torch.Tensor) -> torch.Tensor:
        return model.mu1(model.prepare({**done.theta, **packing.unpack(m)}), rows)

    dense = torch.autograd.functional.jacobian(mu1, packing.pack(done.theta).detach())
    found = MeanSlopes.at(model, done.theta).jacobian(rows)
    torch.testing.assert_close(found, dense, rtol=1e-9, atol=1e-10)


def test_the_row_space_is_that_of_all_rows() -> None:
    rng = np.random.default_rng(0)
    J = torch.from_numpy(rng.normal(size=(80, 6)) @ rng.normal(size=(6, 30)))
    U = row_space(J)
    assert U.shape == (30, 6)
    torch.testing.assert_close(U.T @ U, torch.eye(6).double(), atol=1e-10, rtol=0)
    torch.testing.assert_close(J @ U @ U.T, J, atol=1e-8, rtol=0)


# -- the joint covariance --------------------------------------------------------------------------


def test_the_mean_block_against_dense_matrices(curved: Fit) -> None:
    done = curved.estimate
    model, rows = done.model, done.observed.rows
    J = MeanSlopes.at(model, done.theta).jacobian(rows)
    skip = model.latents[0].loadings(part(done.theta, "latent1."))
    same = done.observed.subject[:, None] == done.observed.subject
    V = same * float((skip @ skip.T)[0, 0]) + torch.eye(len(J)).double() * curved.sigma() ** 2
    kappa = kappa_vector(model, mean_packing(model))
    dense = torch.linalg.inv(J.T @ torch.linalg.solve(V, J) + torch.diag(kappa))
    found = network_information(done, 0, 256)
    inner = joint_inverse(found.definite, found.layers, found.flat)
    assert inner is not None
    whole = found.lift @ torch.from_numpy(inner) @ found.lift.T + found.alone
    P = len(kappa)
    scale = dense.diagonal().sqrt()
    gap = (whole[:P, :P] - dense) / scale / scale[:, None]
    assert float(gap.abs().max()) < 1e-4
    # what is reported is a block of the joint covariance, and it is never indefinite
    assert curved.information is not None
    assert curved.information.joint is not None
    p = len(model.names)
    torch.testing.assert_close(
        curved.information.vcov[:p, :p], curved.information.joint.vcov[:p, :p]
    )
    assert float(torch.linalg.eigvalsh(curved.information.joint.vcov)[0]) > 0


@pytest.mark.parametrize("name", ["sleepstudy", "orthodont", "cbpp", "epil"])
def test_without_networks_it_is_the_observed_information(
    name: str, fit_of: Callable[..., Fit]
) -> None:
    done = fit_of(name).estimate
    if name == "epil":  # the rule of the linearised model, so that both stand on the same nodes
        done = replace(done, likelihood=replace(done.likelihood, rule=Quadrature(25)))
    found = network_information(done, 0, 256)
    H = -done.likelihood.information(done.theta, reported_packing(done.model)).curvature.matrix
    root = np.sqrt(np.abs(np.diag(H)))
    tolerance = 1e-4 if name in ("cbpp", "epil") else 2e-6
    np.testing.assert_allclose(
        found.matrix / root / root[:, None], H / root / root[:, None], atol=tolerance
    )
    assert found.effective["total"] == pytest.approx(len(H))


@pytest.mark.parametrize("name", ["curved", "curved_counts"])
def test_columns_of_linear_parameters_are_derivatives_of_the_score(
    name: str, request: pytest.FixtureRequest
) -> None:
    """mu1 is linear in beta and skips given the weights: there Gauss-Newton is no approximation."""
    done = request.getfixturevalue(name).estimate
    model = done.model
    found = network_information(done, 0, 256)
    frozen = freeze(model, done.theta, done.observed, Quadrature(25), np.random.default_rng(0))
    lift, packing = found.lift.numpy(), model.packing
    x = packing.pack(done.theta).detach().numpy()

    def score(vector: np.ndarray) -> np.ndarray:
        theta = packing.unpack(torch.from_numpy(vector))
        return packing.pack(frozen.value_and_gradient(theta)[1]).numpy()

    linear = np.flatnonzero(~found.layers)
    h = 1e-4
    for j in linear:
        slope = -(score(x + h * lift[:, j]) - score(x - h * lift[:, j])) / (2 * h)
        exact, ours = lift.T @ slope, found.matrix[:, j]
        scale = np.sqrt(np.abs(np.diag(found.matrix)) * abs(found.matrix[j, j]))
        assert np.abs((exact - ours) / scale).max() < 1e-3, j


def test_a_larger_ridge_leaves_fewer_degrees_of_freedom(curved: Fit) -> None:
    done = curved.estimate
    model = done.model.with_outcome(networks=(replace(done.model.networks[0], ridge=1000.0),))
    stiff = replace(done, likelihood=done.likelihood.under(model))
    small = information(stiff, "hessian", 0, 256).effective["dnn1"]
    assert curved.information is not None
    assert 1.0 <= small < curved.information.effective["dnn1"] < 18


def test_the_sandwich_by_both_routes(fit_of: Callable[..., Fit]) -> None:
    done = fit_of("orthodont").estimate
    one, two = (route(done, "sandwich", 0, 512) for route in (_classical, _with_networks))
    known = ~torch.isnan(one.vcov)
    scale = torch.nan_to_num(one.vcov.diagonal()).sqrt()
    gap = (one.vcov - two.vcov)[known] / torch.outer(scale, scale)[known]
    assert float(gap.abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("key", "shift", "words", "known"),
    [
        ("beta", 1.0, "mean and variances apart", 5),
        ("latent1.log_diagonal", -3.0, "variance parameters is not positive definite", 3),
    ],
)
def test_when_the_observed_form_fails_it_is_said(
    key: str, shift: float, words: str, known: int, curved: Fit
) -> None:
    done = curved.estimate
    away = replace(done, theta={**done.theta, key: done.theta[key] + shift})
    found = information(away, "hessian", 0, 256)
    assert words in found.messages[0]
    assert torch.isfinite(found.vcov.diagonal()).tolist() == [j < known for j in range(5)]
    assert float(torch.linalg.eigvalsh(found.vcov[:known, :known])[0]) > 0
    fit = replace(curved, estimate=away, information=found)
    assert (fit.effects("z", grid=5)["se"] > 0.01).all()  # never without bands


def test_what_has_no_error_has_no_band(curved: Fit) -> None:
    assert curved.information is not None
    broken = replace(
        curved.information,
        joint=Joint(
            curved.estimate.model.packing, torch.full_like(curved.information.joint.vcov, torch.nan)
        ),
    )
    with pytest.raises(ValueError, match="no standard errors"):
        replace(curved, information=broken).effects("z")


def test_simulated_scores_agree_with_the_linearised_model(curved: Fit) -> None:
    """The route of neural random effects, on a model for which both exist."""
    done = curved.estimate
    errors = []
    for route in (_fixed_networks, _neural_effects):
        found = route(done, 5, 256)
        inverse = joint_inverse(found.definite, found.layers, found.flat)
        assert inverse is not None
        V = torch.from_numpy(inverse)
        if found.lift is not None and found.alone is not None:
            V = found.lift @ V @ found.lift.T + found.alone
        J = MeanSlopes.at(done.model, done.theta).jacobian(done.observed.rows)
        variance = torch.einsum("np,pq,nq->n", J, V[: J.shape[1], : J.shape[1]], J)
        errors.append(torch.cat([variance.sqrt(), V.diagonal()[-2:].sqrt()]))
    # two replicates of 60 subjects: a variance of 120 scores has a relative error of sqrt(2 / 120)
    assert float((errors[0] / errors[1]).log().abs().mean()) < 0.13
    assert float((errors[0] / errors[1]).log().abs().max()) < 4 * 0.13


def test_networks_on_both_sides(curved_frame: pd.DataFrame) -> None:
    frame = curved_frame.assign(t=np.tile(np.arange(5.0), 60))
    formula = "y ~ x + dnn(z, hidden=(4,), ridge=1) + (dnn(t, hidden=(4,), ridge=5) | id)"
    fit = mixed_model(formula, frame, control={**QUICK, "hessian_draws": 128}, verbose=0)
    assert fit.information is not None
    assert fit.information.joint is not None
    V = fit.information.joint.vcov
    # the rotation of b, which changes nothing, has a weak prior: everything is known
    assert float(torch.linalg.eigvalsh(V)[0]) > 0
    table = fit.effects("z", grid=5)
    assert table["se"].between(0.02, 2).all()
    profile = fit.random_profile([0, 4])
    assert (profile.table["sd"] > 0).all()
    robust = information(fit.estimate, "sandwich", 0, 128)
    assert float(torch.linalg.eigvalsh(robust.vcov)[0]) > 0


def test_linearised_coefficients_give_the_same_mean(curved: Fit) -> None:
    near = linearise(curved.estimate)
    done = near.done
    ours = done.model.mu1(done.model.prepare(done.theta), done.panel.rows)
    model, theta = curved.estimate.model, curved.estimate.theta
    expected = model.mu1(model.prepare(theta), curved.estimate.observed.rows)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
