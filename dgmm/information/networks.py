"""Information about the linear parts of a model with networks, their layers integrated out.

Writing r for all linear parts (Lambda and skips included) and w for the layers of networks,

    var(r) = [ H_rr - F_rw (F_ww + kappa S)^-1 F_wr ]^-1,

H_rr by central differences and F the expected information of the marginal likelihood over all of
theta, sum_i s_i s_i' of outcomes simulated from the fit; S = 1 on penalised weights, 0 elsewhere.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.evidence import effective_df
from dgmm.hessian import Curvature
from dgmm.information.observed import freeze_at, gradient_hessian
from dgmm.information.records import linear_packing, positions, reported_packing
from dgmm.model import Model
from dgmm.parameters import Packing, Theta
from dgmm.polish import kappa_vector
from dgmm.simulate import simulate_panel

__all__ = ["expected_information", "network_information", "reported_information", "rotations"]


def network_information(
    done: Estimate, seed: int, draws: int
) -> tuple[Curvature, np.ndarray, dict[str, float], tuple[str, ...], str]:
    """Information about all linear parts, the layers of the networks integrated out."""
    model = done.model
    packing = linear_packing(model)
    frozen = freeze_at(done, done.theta, done.observed, seed, draws // 2)
    curvature = gradient_hessian(frozen, done.theta, packing)
    expected = expected_information(done, seed)
    kappa = kappa_vector(model, model.packing)
    r = positions(model, packing)
    rest = torch.ones(model.packing.size, dtype=torch.bool)
    rest[r] = False
    w = torch.nonzero(rest)[:, 0]
    factor = torch.linalg.cholesky(expected[w][:, w] + torch.diag(kappa[w]))
    half = torch.linalg.solve_triangular(factor, expected[w][:, r], upper=False)
    loss = (half.T @ half).numpy()
    effective = _effective(model, expected, kappa)
    flat, size = rotations(model, done.theta, packing), reported_packing(model).size
    info = reported_information(-curvature.matrix - loss, flat, size)
    if info is not None:
        form = (
            "observed information (central differences of the score at frozen nodes), "
            "network weights integrated out by F + kappa S"
        )
        return curvature, info, effective, (), form
    info = reported_information(expected[r][:, r].numpy() - loss, flat, size)
    message = (
        "the observed information less the part of the network weights is not positive definite; "
        "the expected information was used instead"
    )
    info = np.full((size, size), np.nan) if info is None else info
    return curvature, info, effective, (message,), "expected information F + kappa S"


def rotations(model: Model, theta: Theta, packing: Packing) -> np.ndarray:
    """Directions of Lambda along which nothing changes, as columns (P, sum k (k - 1) / 2).

    b ~ N(0, I) is invariant under rotation, so Lambda -> Lambda (I + e S) with S antisymmetric, and
    the first layer of the network alike, leaves the likelihood and the ridge as they are: Lambda S
    is a null vector of the information about Lambda once the layers are integrated out.
    """
    columns = []
    for i, latent in enumerate(model.latents, 1):
        if latent.linear:
            continue
        name = f"latent{i}.Lambda"
        for one in range(latent.dim):
            for two in range(one):
                S = torch.zeros(latent.dim, latent.dim, dtype=torch.float64)
                S[one, two], S[two, one] = 1.0, -1.0
                zero = {n: torch.zeros(shape) for n, shape in packing.shapes.items()}
                columns.append(packing.pack({**zero, name: theta[name] @ S}))
    return torch.stack(columns, dim=1).numpy() if columns else np.zeros((packing.size, 0))


def reported_information(info: np.ndarray, flat: np.ndarray, size: int) -> np.ndarray | None:
    """Information about the first ``size`` parameters, the others integrated out, or None.

    The inverse is taken off the ``flat`` directions, on which nothing reported depends; None when
    what is left is not positive definite.
    """
    root = np.sqrt(np.maximum(np.abs(np.diag(info)), 1e-300))
    scaled = info / root / root[:, None]
    Z = np.linalg.qr(root[:, None] * flat, mode="complete")[0][:, flat.shape[1] :]
    inner = Z.T @ scaled @ Z
    if np.linalg.eigvalsh(inner)[0] <= 1e-10:
        return None
    half = Z[:size] / root[:size, None]
    return np.linalg.inv(half @ np.linalg.solve(inner, half.T))


def _effective(model: Model, expected: Tensor, kappa: Tensor) -> dict[str, float]:
    """Effective degrees of freedom, diag{(F + kappa S)^-1 F} summed per network and in total."""
    share = effective_df(expected, kappa)
    edf = {"total": float(share.sum())}
    blocks = [f"dnn{i + 1}." for i in range(len(model.networks))]
    blocks += [f"latent{i + 1}." for i, lat in enumerate(model.latents) if not lat.linear]
    for prefix in blocks:
        names = [n for n in model.packing.shapes if n.startswith(prefix)]
        edf[prefix[:-1]] = float(share[model.packing.positions(names)].sum())
    for i, latent in enumerate(model.latents, 1):
        if not latent.linear:  # rotations of b change nothing, whatever the sampled scores say
            edf[f"latent{i}"] -= latent.dim * (latent.dim - 1) / 2
            edf["total"] -= latent.dim * (latent.dim - 1) / 2
    return edf


def expected_information(done: Estimate, seed: int, draws: int = 64) -> Tensor:
    """F = E sum_i s_i s_i' over all of theta, from outcomes simulated at theta-hat, (P, P).

    Enough replicates are drawn that the simulated subjects outnumber the parameters twice.
    """
    model, panel = done.model, done.observed
    P = model.packing.size
    replicates = int(np.clip(math.ceil(2 * P / panel.n), 2, 12))
    total = torch.zeros(P, P, dtype=torch.float64)
    for number in range(replicates):
        generator = torch.Generator().manual_seed(seed + 7919 * (number + 1))
        y = simulate_panel(model, done.theta, panel, generator)
        frozen = freeze_at(done, done.theta, panel.with_outcome(y), seed + number, draws)
        scores = frozen.scores(done.theta)
        total += scores.T @ scores / replicates
    return total
