"""Information about theta-hat: boundaries, sandwich, networks, failure said in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import FAMILIES, FORMULAS, data, no_slopes
from torch import Tensor

from dgmm import Fit, mixed_model
from dgmm.information import find_boundary, information, inverse_off, reported_packing
from dgmm.information.networks import direct_packing, network_information
from dgmm.information.observed import freeze_at
from dgmm.information.records import positions
from dgmm.numerics.hessian import central_jacobian
from dgmm.parameters import part

# -- boundaries ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("log_sd", "expected"), [(-12.0, ("Days",)), (-6.0, ()), (-1.0, ())])
def test_a_variance_is_zero_below_a_share_of_the_largest(
    log_sd: float, expected: tuple[str, ...], sleepstudy: Fit
) -> None:
    done = sleepstudy.estimate
    theta = {**done.theta, "latent1.log_diagonal": torch.tensor([0.0, log_sd]).double()}
    names, held = find_boundary(replace(done, theta=theta))
    assert names == expected
    assert held.sum() == len(expected)


def test_an_empty_column_says_nothing_about_its_correlation(sleepstudy: Fit) -> None:
    done = sleepstudy.estimate
    theta = {
        **done.theta,
        "latent1.log_diagonal": torch.tensor([-20.0, 0.0]).double(),
        "latent1.below": torch.zeros(1).double(),
    }
    names, held = find_boundary(replace(done, theta=theta))
    # all lines meet at the mean of Days: two standard deviations, and a correlation of -1
    assert names == ("Days",)
    assert held.sum() == 2  # the diagonal entry and the one below it


def test_the_model_without_the_zero_variance_has_the_same_errors(singular: Fit) -> None:
    smaller = mixed_model("y ~ t + (1 | id)", no_slopes(), verbose=0)
    assert float(smaller.loglik()) == pytest.approx(float(singular.loglik()), abs=1e-8)
    np.testing.assert_allclose(singular.std_errors(), smaller.std_errors(), rtol=1e-4)
    assert singular.information is not None
    assert smaller.information is not None
    assert int(torch.isnan(singular.information.vcov.diagonal()).sum()) == 1
    assert singular.information.boundary == ("t",)
    assert smaller.information.boundary == ()


# -- sandwich --------------------------------------------------------------------------------------


def dense_terms(fit: Fit, vector: Tensor) -> Tensor:
    """log N(y_i; X_i beta, V_i) of every subject, (n,)."""
    done = fit.estimate
    theta = {**done.theta, **reported_packing(done.model).unpack(vector)}
    rows, skip = done.observed.rows, done.model.latents[0].loadings(part(theta, "latent1."))
    mean = rows.X @ done.model.beta(theta)
    terms = []
    for i in range(done.observed.n):
        own = done.observed.subject == i
        root = rows.T[0][own] @ skip
        V = root @ root.T + torch.exp(2 * theta["extra"][0]) * torch.eye(len(root)).double()
        terms.append(
            torch.distributions.MultivariateNormal(mean[own], V).log_prob(rows.data.y[own])
        )
    return torch.stack(terms)


def test_sandwich_against_its_formula() -> None:
    fit = mixed_model(FORMULAS["orthodont"], data("orthodont"), se="sandwich", verbose=0)
    assert fit.information is not None
    x = reported_packing(fit.estimate.model).pack(fit.estimate.theta)
    scores = torch.autograd.functional.jacobian(lambda v: dense_terms(fit, v), x)
    hessian = torch.autograd.functional.hessian(lambda v: dense_terms(fit, v).sum(), x)
    H = torch.linalg.inv(-hessian)
    robust = H @ (scores.T @ scores) @ H
    found, root = fit.information.vcov, robust.diagonal().sqrt()
    assert float(((found - robust) / root / root[:, None]).abs().max()) < 2e-3
    p = len(fit.fixef())
    basis = fit.estimate.model.basis
    se = (basis @ robust[:p, :p] @ basis.T).diagonal().sqrt()
    np.testing.assert_allclose(fit.std_errors(), se, rtol=1e-4)
    assert "sandwich" in str(fit.summary())


def test_sandwich_of_a_glmm_is_near_the_hessian_when_the_model_is_true() -> None:
    rng = np.random.default_rng(7)
    frame = data("cbpp").iloc[np.repeat(np.arange(16), 20)].reset_index(drop=True)
    frame["herd"] = np.repeat(np.arange(80), 4)
    frame["period"] = np.tile([str(j) for j in range(4)], 80)
    eta = -1 + 0.7 * rng.normal(size=80)[frame["herd"]]
    frame["size"] = 20
    frame["incidence"] = rng.binomial(20, 1 / (1 + np.exp(-eta)))
    options = {"family": FAMILIES["cbpp"], "verbose": 0}
    plain = mixed_model(FORMULAS["cbpp"], frame, **options)
    robust = mixed_model(FORMULAS["cbpp"], frame, se="sandwich", **options)
    ratio = robust.std_errors() / plain.std_errors()
    # the standard error of a standard error from n subjects is about 1 / sqrt(2 n)
    assert (ratio - 1).abs().max() < 4 / np.sqrt(2 * 80)
    assert (ratio - 1).abs().max() > 1e-4


# -- networks --------------------------------------------------------------------------------------


def test_information_of_a_deep_model_is_positive_definite(deep: Fit) -> None:
    assert deep.information is not None
    V = deep.information.vcov
    assert bool(torch.isfinite(V).all())
    assert float(torch.linalg.eigvalsh(V)[0]) > 0
    assert deep.information.smallest_eigenvalue > 0
    assert deep.information.asymmetry < 1e-2
    assert set(deep.information.packing.shapes) == {"beta", "extra"}


def test_weights_integrated_out_widen_the_errors(deep: Fit, sleepstudy: Fit) -> None:
    ratio = deep.std_errors() / sleepstudy.std_errors()
    assert (ratio > 0.75).all()
    assert (ratio < 2).all()


def test_the_inverse_off_flat_directions() -> None:
    rng = np.random.default_rng(0)
    flat = np.zeros((7, 2))
    flat[3:] = rng.normal(size=(4, 2))
    Z = np.linalg.qr(flat, mode="complete")[0][:, 2:]
    half = rng.normal(size=(5, 9))
    info = Z @ (half @ half.T) @ Z.T
    found = inverse_off(info, flat)
    assert found is not None
    # nothing reported depends on the flat directions, so any generalised inverse will do
    np.testing.assert_allclose(found[:3, :3], np.linalg.pinv(info)[:3, :3], rtol=1e-8)
    values, vectors = np.linalg.eigh(half @ half.T)
    values[0] = -1.0
    bad = Z @ (vectors * values) @ vectors.T @ Z.T
    assert inverse_off(bad, flat) is None


def test_effective_degrees_of_freedom(deep: Fit, sleepstudy: Fit) -> None:
    assert deep.information is not None
    assert sleepstudy.information is not None
    assert sleepstudy.information.effective == {}
    weights = sum(int(np.prod(s)) for s in deep.estimate.model.latents[0].shapes().values())
    assert 0 < deep.information.effective["latent1"] < weights
    linear = len(deep.fixef()) + 1
    total = deep.information.effective["total"]
    assert total == pytest.approx(deep.information.effective["latent1"] + linear, abs=0.05)


@pytest.fixture(scope="module")
def tiny() -> Fit:
    """A network of 12 weights, at a maximum."""
    text = "Reaction ~ Days + (dnn(ns(Days, 2), hidden=(3,), latent=2, ridge=2) | Subject)"
    control = {"epochs": 5, "holdout": 0.0}
    return mixed_model(text, data("sleepstudy"), starts=1, control=control, verbose=0)


def test_the_observed_information_is_that_block_of_the_whole_hessian(tiny: Fit) -> None:
    done, packing = tiny.estimate, tiny.estimate.model.packing
    found = network_information(done, 0, 1024)
    frozen = freeze_at(done, done.theta, done.observed, 0, 128)

    def slope(v: np.ndarray) -> np.ndarray:
        theta = packing.unpack(torch.from_numpy(v))
        gradient: np.ndarray = packing.pack(frozen.value_and_gradient(theta)[1]).numpy()
        return gradient

    x = packing.pack(done.theta).numpy()
    whole = -central_jacobian(slope, x, np.full(len(x), 1e-4)).matrix
    r = positions(done.model, direct_packing(done.model)).numpy()
    assert len(r) == 2
    own, root = np.ix_(r, r), np.sqrt(np.diag(whole)[r])
    np.testing.assert_allclose((found.matrix - whole)[own] / np.outer(root, root), 0, atol=1e-3)
    rest = np.ones(found.matrix.shape, dtype=bool)
    rest[own] = False
    np.testing.assert_array_equal(found.matrix[rest], found.definite[rest])
    assert np.linalg.eigvalsh(found.definite)[0] > 0


def test_a_silent_network_leaves_the_errors_of_the_nested_model() -> None:
    """Under a huge penalty the model is the classical one, and so are its standard errors."""
    text = "Reaction ~ Days + ({} | Subject)"
    plain = mixed_model(text.format("ns(Days, 2)"), data("sleepstudy"), verbose=0)
    fit = mixed_model(
        text.format("dnn(ns(Days, 2), hidden=(3,), ridge=1e6)"),
        data("sleepstudy"),
        starts=1,
        control={"epochs": 5, "holdout": 0.0},
        verbose=0,
    )
    assert float(fit.loglik()) == pytest.approx(float(plain.loglik()), abs=0.01)
    ratio = fit.std_errors() / np.sqrt(np.diag(plain.vcov("gls")))
    assert ratio.between(0.999, 1.01).all()


def test_weights_known_would_leave_no_larger_errors(tiny: Fit, deep: Fit) -> None:
    for fit in (tiny, deep):
        assert fit.information is not None
        assert fit.information.joint is not None
        done = fit.estimate
        r = positions(done.model, direct_packing(done.model)).numpy()
        control = fit.request.control
        found = network_information(done, fit.request.seed, control.hessian_draws)
        known = np.linalg.inv(found.matrix[np.ix_(r, r)])
        joint = fit.information.joint.vcov.numpy()[np.ix_(r, r)]
        assert np.linalg.eigvalsh(joint - known)[0] > -1e-10 * np.trace(known)
        assert (np.diag(joint) > 1.0001 * np.diag(known)).all()


# -- failure ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sleepstudy", "cbpp"])
def test_an_indefinite_hessian_is_said_in_words(name: str, fit_of: Callable[..., Fit]) -> None:
    fit = fit_of(name)
    done = fit.estimate
    diagonal = done.theta["latent1.log_diagonal"]
    elsewhere = replace(done, theta={**done.theta, "latent1.log_diagonal": diagonal - 3})
    found = information(elsewhere, "hessian", 0, 64)
    assert bool(torch.isnan(found.vcov).all())
    assert found.smallest_eigenvalue < 0
    assert len(found.messages) == 1
    for words in ("not positive definite", "standard errors are not available", "maximum"):
        assert words in found.messages[0]
    text = str(replace(fit, information=found, messages=found.messages).summary())
    assert text.count(" NA") >= 3 * len(fit.fixef())
    assert "not positive definite" in text


def test_the_form_is_named(fit_of: Callable[..., Fit], deep: Fit) -> None:
    for fit, words in (
        (fit_of("sleepstudy"), "in closed form"),
        (fit_of("cbpp"), "Louis's identity"),
        (deep, "F + kappa S"),
    ):
        assert fit.information is not None
        assert words in fit.information.form


def test_central_differences_of_the_score_are_symmetric(fit_of: Callable[..., Fit]) -> None:
    for name in ("cbpp", "epil", "toenail"):
        info = fit_of(name).information
        assert info is not None
        assert info.asymmetry < 1e-3
        assert info.smallest_eigenvalue > 0.01
