"""Joint information about everything estimated by a model with networks, I = F + kappa S.

Networks on the fixed side only: F is the Gauss-Newton form of the observed information (see
:mod:`dgmm.information.linearised`). With neural random effects, F is the expected information,
sum_i s_i s_i' of outcomes simulated from the fit, and central differences of the score take its
place for the linear parts r (beta, Lambda, skips, extra). S is 1 on layers w, 0 elsewhere.

    var(r) = [ I_rr - I_rw I_ww^-1 I_wr ]^-1,     var(w) = I_ww^-1 + G var(r) G',  G = I_ww^-1 I_wr

where var(r) is positive definite; else the form of F that always is takes the place of I.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import solve_triangular
from torch import Tensor

from dgmm.information.linearised import linearise
from dgmm.information.observed import freeze_at
from dgmm.information.records import linear_packing, positions, reported_packing
from dgmm.information.sandwich import reported_scores
from dgmm.likelihood import Point
from dgmm.likelihood.numerical import gradient_hessian
from dgmm.likelihood.polish import kappa_vector
from dgmm.model import Model
from dgmm.model.simulation import simulate_panel
from dgmm.parameters import Packing, Theta, part
from dgmm.penalised.evidence import effective_df

__all__ = [
    "NetworkInformation",
    "expected_information",
    "inverse_off",
    "joint_inverse",
    "network_information",
    "rotations",
]


FEWEST_SIMULATED = 3000
"""Subjects whose simulated outcomes the expected information is made of, at least."""


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
    if done.model.by_columns:
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
    model = done.model
    linear = linear_packing(model)
    frozen = freeze_at(done, done.theta, done.observed, seed, max(16, draws // 32))
    curvature = gradient_hessian(frozen, done.theta, linear)
    expected, subjects = expected_information(done, seed)
    kappa = kappa_vector(model, model.packing)
    P, r = model.packing.size, positions(model, linear).numpy()
    layers = np.ones(P, dtype=bool)
    layers[r] = False
    definite = (expected + torch.diag(kappa)).numpy()
    matrix, own = definite.copy(), np.ix_(r, r)
    lost = _lost(definite, kappa.numpy(), layers, subjects)
    matrix[own] = lost[own] - curvature.matrix
    definite += lost
    turned = rotations(model, done.theta, linear)
    flat = np.zeros((P, turned.shape[1]))
    flat[r] = turned
    return NetworkInformation(
        matrix,
        definite,
        r[: reported_packing(model).size],
        layers,
        np.zeros(P, dtype=bool),
        flat,
        None,
        None,
        lambda: frozen.scores(done.theta).numpy(),
        _effective(model, done.theta, expected, kappa),
        curvature.asymmetry,
        "observed information (central differences of the score at frozen nodes), "
        "network weights integrated out by F + kappa S",
        "expected information F + kappa S",
    )


def _lost(info: np.ndarray, kappa: np.ndarray, layers: np.ndarray, subjects: int) -> np.ndarray:
    """What sampling the scores of many weights takes from the information about the rest, (P, P).

    Of the scores of m subjects those of the layers explain edf / m by chance, so that what they
    leave, R = F_rr - F_rw (F_ww + kappa)^-1 F_wr, is (1 - edf / m) of what it should be.
    """
    w, r = np.flatnonzero(layers), np.flatnonzero(~layers)
    factor = np.linalg.cholesky(info[np.ix_(w, w)])
    half = solve_triangular(factor, info[np.ix_(w, r)], lower=True)
    edf = float((1.0 - kappa[w] * np.diag(inverse_of_factor(factor))).sum())
    lost = np.zeros_like(info)
    left = info[np.ix_(r, r)] - half.T @ half
    lost[np.ix_(r, r)] = left * edf / max(subjects - edf, 0.1 * subjects)
    return lost


def rotations(model: Model, theta: Theta, packing: Packing) -> np.ndarray:
    """Directions of Lambda along which nothing changes, as columns (P, sum k (k - 1) / 2).

    b ~ N(0, I) is invariant under rotation, so Lambda -> Lambda (I + e S) with S antisymmetric, and
    the first layer of the network alike, leaves the likelihood and the ridge as they are: Lambda S
    is a null vector of the information about Lambda once the layers are integrated out.
    """
    columns = []
    zero = {name: torch.zeros(shape) for name, shape in packing.shapes.items()}
    for i, latent in enumerate(model.latents, 1):
        for one in latent.invariances(part(theta, f"latent{i}.")):
            moved = {f"latent{i}.{name}": value for name, value in one.items()}
            columns.append(packing.pack({**zero, **moved}))
    return torch.stack(columns, dim=1).numpy() if columns else np.zeros((packing.size, 0))


def _effective(model: Model, theta: Theta, expected: Tensor, kappa: Tensor) -> dict[str, float]:
    """Effective degrees of freedom, diag{(F + kappa S)^-1 F} summed per network and in total."""
    share = effective_df(expected, kappa)
    edf = {"total": float(share.sum())}
    blocks = [f"dnn{i + 1}." for i in range(len(model.networks))]
    blocks += [f"latent{i + 1}." for i, lat in enumerate(model.latents) if lat.neural]
    for prefix in blocks:
        names = [n for n in model.packing.shapes if n.startswith(prefix)]
        edf[prefix[:-1]] = float(share[model.packing.positions(names)].sum())
    for i, latent in enumerate(model.latents, 1):
        # what changes nothing has no information, whatever the sampled scores say
        flat = len(latent.invariances(part(theta, f"latent{i}.")))
        edf["total"] -= flat
        if latent.neural:
            edf[f"latent{i}"] -= flat
    return edf


def expected_information(done: Point, seed: int, draws: int = 32) -> tuple[Tensor, int]:
    """F = E sum_i s_i s_i' over all of theta, (P, P), and from how many simulated subjects.

    The ridge bears what few subjects cannot tell, so the simulated subjects need not outnumber the
    parameters: there are 3,000 at least, and half as many as parameters.
    """
    model, panel = done.model, done.observed
    P = model.packing.size
    replicates = int(np.clip(math.ceil(max(FEWEST_SIMULATED, P / 2) / panel.n), 2, 12))
    total = torch.zeros(P, P, dtype=torch.float64)
    for number in range(replicates):
        generator = torch.Generator().manual_seed(seed + 7919 * (number + 1))
        b = torch.randn(panel.n, model.k, generator=generator, dtype=torch.float64)
        simulated = panel.with_outcome(simulate_panel(model, done.theta, panel, generator, b))
        frozen = freeze_at(done, done.theta, simulated, seed + number, draws, start=b)
        scores = frozen.scores(done.theta)
        total += scores.T @ scores / replicates
    return total, replicates * panel.n


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
