"""Joint information about everything estimated by a model with networks, I = F + kappa S.

Networks on the fixed side only: F is the Gauss-Newton form of the observed information (see
:mod:`dgmm.information.linearised`). S is 1 on layers w, 0 elsewhere.

With neural random effects the linear coefficients (r: beta and skips) and the rest (w: networks,
Lambda of all terms, extra parameters) are treated apart. The observed information about r, by
central differences of the score at frozen nodes, meets the expected information of the rest,
F = sum_i s_i s_i' of outcomes simulated from the fit, which is definite wherever the fit stands:

    var(r) = [ I_rr - F_rw (F_ww + kappa)^-1 F_wr ]^-1,
    var(w) = (F_ww + kappa)^-1 + G var(r) G',     G = (F_ww + kappa)^-1 F_wr.

What is taken off I_rr is not negative, so that no standard error is smaller than with all networks
known. The observed cross terms I_rw would be mostly noise, of the order of edf / n: their mean
under the model is F_rw. Where var(r) is not positive definite, F_rr takes the place of I_rr.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import solve_triangular
from torch import Tensor

from dgmm.information.linearised import linearise
from dgmm.information.observed import freeze_at
from dgmm.information.records import positions, reported_packing
from dgmm.information.sandwich import reported_scores
from dgmm.likelihood import Frozen, Point
from dgmm.likelihood.polish import damping, kappa_vector
from dgmm.model import Model
from dgmm.numerics.hessian import Curvature, central_jacobian
from dgmm.parameters import Packing, Theta
from dgmm.penalised.marginal import Metric, simulated_scores

__all__ = [
    "NetworkInformation",
    "inverse_off",
    "joint_inverse",
    "network_information",
]


FEWEST_SIMULATED = 3000
"""Subjects whose simulated outcomes the expected information is made of, at least."""

SIMULATED_DRAWS = 64
"""Nodes per subject: the error of a score adds to its square, with 16 a tenth to a half of it."""

DIFFERENCE = 0.1
"""Step of the central differences, in standard errors."""


@dataclass(frozen=True)
class NetworkInformation:
    """The information in Q coordinates c, theta = lift c, and where things stand among them."""

    matrix: np.ndarray  # (Q, Q), ridge included
    definite: np.ndarray  # (Q, Q): the form that takes its place where it is not definite
    reported: np.ndarray  # positions of the reported parameters, in the order of their packing
    layers: np.ndarray  # (Q,) bool: coordinates of the layers of networks
    mean: np.ndarray  # (Q,) bool: coordinates whose block of ``definite`` is definite by itself
    flat: np.ndarray  # (Q, f): directions along which nothing changes, zero for layers
    lift: Tensor | None  # (P, Q); None where the coordinates are theta itself
    alone: Tensor | None  # (P, P): covariance along directions that have no coordinate
    scores: Callable[[], np.ndarray]  # (n, Q): gradients of every l_i
    effective: dict[str, float]
    asymmetry: float
    form: str
    second_form: str


def network_information(done: Point, seed: int, draws: int) -> NetworkInformation:
    """The joint information; what it is made of depends on where the networks stand."""
    if done.model.by_columns and len(done.model.outcomes) == 1:
        return _fixed_networks(done, seed, draws)
    return _neural_effects(done, seed, draws)


# -- networks on the fixed side --------------------------------------------------------------------


def _fixed_networks(done: Point, seed: int, draws: int) -> NetworkInformation:
    near = linearise(done)
    at = near.done
    curvature, _ = at.likelihood.information(at.theta, at.model.packing)
    F, R, p = -curvature.matrix, len(near.penalty), len(done.model.names)
    rest = len(F) - R
    penalty = np.diag(np.append(near.penalty.numpy(), np.zeros(rest)))
    nothing = torch.zeros(rest, rest, dtype=torch.float64)
    return NetworkInformation(
        F + penalty,
        _without_cross_terms(F, R) + penalty,
        np.append(np.arange(p), np.arange(R, len(F))),
        np.append(near.layers.numpy(), np.zeros(rest, dtype=bool)),
        np.arange(len(F)) < R,
        np.zeros((len(F), 0)),
        torch.block_diag(near.lift, torch.eye(rest, dtype=torch.float64)),
        torch.block_diag(near.alone, nothing),
        lambda: reported_scores(near.done, seed),
        _effective_coordinates(F[:R, :R], near.penalty.numpy(), near.blocks, rest),
        curvature.asymmetry,
        "observed information, network weights in Gauss-Newton form, F + kappa S",
        "Gauss-Newton form F + kappa S with mean and variances apart",
    )


def _without_cross_terms(F: np.ndarray, R: int) -> np.ndarray:
    """The mean and the variances apart, the first without negative eigenvalues."""
    value, vector = np.linalg.eigh(F[:R, :R])
    apart = F.copy()
    apart[:R, R:], apart[R:, :R] = 0.0, 0.0
    apart[:R, :R] = (vector * value.clip(min=0)) @ vector.T
    return apart


def _effective_coordinates(
    F: np.ndarray, penalty: np.ndarray, blocks: dict[str, slice], rest: int
) -> dict[str, float]:
    share = np.diag(np.linalg.solve(F + np.diag(penalty), F))
    edf = {name: float(share[at].sum()) for name, at in blocks.items() if name != "beta"}
    return {"total": float(share.sum()) + rest, **edf}


# -- neural random effects -------------------------------------------------------------------------


def _neural_effects(done: Point, seed: int, draws: int) -> NetworkInformation:
    model, observed = done.model, done.observed
    direct = direct_packing(model)
    r, P = positions(model, direct).numpy(), model.packing.size
    frozen = freeze_at(done, done.theta, observed, seed, max(32, draws // 8))
    simulated = simulated_scores(
        model,
        done.theta,
        observed,
        seed,
        subjects=FEWEST_SIMULATED,
        draws=SIMULATED_DRAWS,
        refined=True,
    )
    packing = model.packing
    expected = Metric.of(simulated, kappa_vector(model, packing), damping(packing))
    definite = (simulated.T @ simulated + torch.diag(expected.root.square())).numpy()
    own = _curvature(frozen, done.theta, direct, definite[np.ix_(r, r)])
    matrix = definite.copy()
    matrix[np.ix_(r, r)] = -own.matrix
    rest = np.ones(P, dtype=bool)
    rest[r] = False
    return NetworkInformation(
        matrix,
        definite,
        positions(model, reported_packing(model)).numpy(),
        rest,
        np.zeros(P, dtype=bool),
        np.zeros((P, 0)),
        None,
        None,
        lambda: frozen.scores(done.theta).numpy(),
        _effective(model, expected),
        own.asymmetry,
        "observed information (central differences of the score at frozen nodes), "
        "random networks integrated out by F + kappa S",
        "expected information F + kappa S",
    )


def direct_packing(model: Model) -> Packing:
    """The linear coefficients: beta, and the skips of networks on the fixed side."""
    return model.packing.only(model.direct())


def _curvature(frozen: Frozen, theta: Theta, direct: Packing, expected: np.ndarray) -> Curvature:
    """The Hessian of l in some parameters by central differences of its gradient.

    The steps are a share of the standard errors that the ``expected`` information gives.
    """

    def gradient(vector: np.ndarray) -> np.ndarray:
        moved = {**theta, **direct.unpack(torch.from_numpy(vector))}
        return direct.pack(frozen.value_and_gradient(moved, direct.shapes)[1]).numpy()

    x = direct.pack(theta).detach().numpy()
    step = DIFFERENCE * np.sqrt(np.diag(np.linalg.inv(expected)))
    return central_jacobian(gradient, x, step)


def _effective(model: Model, expected: Metric) -> dict[str, float]:
    """Effective degrees of freedom, diag{(F + kappa S)^-1 F} summed per network and in total."""
    share = expected.low.share
    blocks = [f"{name}." for one in model.outcomes for name in one.penalised()]
    blocks += [f"latent{i}." for i, latent in enumerate(model.latents, 1) if latent.neural]
    edf = {"total": float(share.sum())}
    for prefix in blocks:
        names = [name for name in model.packing.shapes if name.startswith(prefix)]
        edf[prefix[:-1]] = float(share[model.packing.positions(names)].sum())
    return edf


# -- inverses --------------------------------------------------------------------------------------


def joint_inverse(info: np.ndarray, layers: np.ndarray, flat: np.ndarray) -> np.ndarray | None:
    """The inverse of an information, off the ``flat`` directions; None when it is not definite.

    ``layers`` (Q,) marks the block with a ridge, which is integrated out first.
    """
    w, r = np.flatnonzero(layers), np.flatnonzero(~layers)
    inner, cross = info[np.ix_(w, w)], info[np.ix_(w, r)]
    try:
        factor = np.linalg.cholesky(inner)
    except np.linalg.LinAlgError:
        return None
    half = solve_triangular(factor, cross, lower=True)
    outer = inverse_off(info[np.ix_(r, r)] - half.T @ half, flat[r])
    if outer is None:
        return None
    V = np.zeros_like(info)
    G = solve_triangular(factor, half, lower=True, trans="T")
    V[np.ix_(r, r)] = outer
    V[np.ix_(w, r)] = -G @ outer
    V[np.ix_(r, w)] = V[np.ix_(w, r)].T
    V[np.ix_(w, w)] = inverse_of_factor(factor) + G @ outer @ G.T
    return V


def inverse_of_factor(factor: np.ndarray) -> np.ndarray:
    """(L L')^-1 of a lower triangular factor L."""
    inverse: np.ndarray = torch.cholesky_inverse(torch.from_numpy(factor)).numpy()
    return inverse


def inverse_off(info: np.ndarray, flat: np.ndarray) -> np.ndarray | None:
    """The inverse taken off the ``flat`` directions, on which nothing reported depends, or None.

    None when what is left is not positive definite.
    """
    root = np.sqrt(np.maximum(np.abs(np.diag(info)), 1e-300))
    scaled = info / root / root[:, None]
    if not np.isfinite(scaled).all():
        return None
    Z = np.linalg.qr(root[:, None] * flat, mode="complete")[0][:, flat.shape[1] :]
    inner = Z.T @ scaled @ Z
    if np.linalg.eigvalsh(inner)[0] <= 1e-10:
        return None
    half = Z / root[:, None]
    return half @ np.linalg.solve(inner, half.T)
