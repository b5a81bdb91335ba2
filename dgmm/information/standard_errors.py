"""Standard errors: the information about theta-hat, and what it gives for reported parameters.

Reported parameters are everything but networks and the Lambda of a neural latent, which is free up
to rotation.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor

from dgmm.information.boundary import family_edges, find_boundary
from dgmm.information.networks import NetworkInformation, joint_inverse, network_information
from dgmm.information.records import Information, Joint, reported_packing
from dgmm.information.sandwich import reported_scores, sandwich
from dgmm.likelihood import Point
from dgmm.numerics.hessian import curvature_of, invert

__all__ = ["information"]

_APART = (
    "the observed information is not positive definite together with the network weights; "
    "standard errors are from the {}, which can be too small with few subjects and "
    "under dropout: compare with se='sandwich' or with the nested classical model"
)
_MEAN_ALONE = (
    "the Hessian in the variance parameters is not positive definite: they have no standard "
    "errors, and those of the mean take them as known; the estimates may not be at a maximum"
)
FEW = 200
"""Rows below which all eigenvalues are taken at once."""

ROBUST = "cluster sandwich H^-1 (sum s s') H^-1"


def information(done: Point, kind: str, seed: int, draws: int) -> Information:
    """The information of an estimate: ``kind`` is "hessian" or "sandwich"."""
    if done.model.linear:
        return _classical(done, kind, seed, draws)
    return _with_networks(done, kind, seed, draws)


def _classical(done: Point, kind: str, seed: int, draws: int) -> Information:
    boundary, at_zero = find_boundary(done)
    likelihood = done.likelihood.by(seed=seed, hessian_draws=draws)
    curvature, form = likelihood.information(done.theta, reported_packing(done.model))
    edge, notes = family_edges(done, -curvature.matrix)
    held = at_zero | edge
    inverse, smallest, trouble = _invert(-curvature.matrix, held)
    vcov = inverse
    if kind == "sandwich":
        vcov, form = sandwich(inverse, reported_scores(done, seed), held), ROBUST
    return Information(
        reported_packing(done.model),
        torch.from_numpy(vcov),
        torch.from_numpy(inverse),
        form,
        smallest,
        curvature.asymmetry,
        boundary,
        {},
        notes + trouble,
    )


def _with_networks(done: Point, kind: str, seed: int, draws: int) -> Information:
    boundary, at_zero = find_boundary(done)
    found = network_information(done, seed, draws)
    own = np.ix_(found.reported, found.reported)
    edge, notes = family_edges(done, found.matrix[own])
    held = np.zeros(len(found.matrix), dtype=bool)
    held[found.reported] = at_zero | edge
    inverse, smallest, trouble, form = _joint(found, held)
    vcov = inverse
    if kind == "sandwich":
        vcov, form = sandwich(inverse, found.scores(), held), f"penalised {ROBUST}"
    joint = _lifted(found, torch.from_numpy(vcov), kind == "hessian")
    return Information(
        reported_packing(done.model),
        torch.from_numpy(vcov[own]),
        torch.from_numpy(inverse[own]),
        form,
        smallest,
        found.asymmetry,
        boundary,
        found.effective,
        notes + trouble,
        Joint(done.model.packing, joint),
    )


def _lifted(found: NetworkInformation, vcov: Tensor, with_alone: bool) -> Tensor:
    """The covariance of all of theta, NaN where it is not known.

    A sandwich knows nothing of directions without scores: ``with_alone`` False.
    """
    if found.lift is None:
        return vcov
    joint = found.lift @ torch.nan_to_num(vcov) @ found.lift.T
    if found.alone is not None and with_alone:
        joint = joint + found.alone
    unknown = found.lift[:, vcov.diagonal().isnan()].abs().sum(1) > 0
    joint[unknown], joint[:, unknown] = torch.nan, torch.nan
    return joint


def _joint(
    found: NetworkInformation, held: np.ndarray
) -> tuple[np.ndarray, float, tuple[str, ...], str]:
    """The inverse over the free coordinates, by the first form that is definite, with its name."""
    attempts = (
        (found.matrix, ~held, found.form, ()),
        (found.definite, ~held, found.second_form, (_APART.format(found.second_form),)),
        (found.definite, ~held & found.mean, found.second_form, (_MEAN_ALONE,)),
    )
    vcov = np.full(found.matrix.shape, np.nan)
    for matrix, among, form, messages in attempts:
        free = np.flatnonzero(among)
        at = np.ix_(free, free)
        inverse = joint_inverse(matrix[at], found.layers[free], found.flat[free])
        if inverse is not None and len(free):
            vcov[at] = inverse
            root = np.sqrt(np.diag(inverse))
            return vcov, 1 / _largest(inverse / root / root[:, None]), messages, form
    free = np.flatnonzero(~held)
    smallest = curvature_of(found.definite[np.ix_(free, free)]).smallest_eigenvalue
    return vcov, smallest, (_indefinite(smallest),), found.second_form


def _largest(matrix: np.ndarray) -> float:
    """The largest eigenvalue of a positive definite matrix."""
    if len(matrix) < FEW:
        return float(np.linalg.eigvalsh(matrix)[-1])
    start = np.ones(len(matrix))
    return float(eigsh(matrix, k=1, which="LA", v0=start, tol=1e-4)[0][0])


def _invert(info: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, float, tuple[str, ...]]:
    """Invert the free part; an indefinite information gives NaN and is said in words."""
    vcov = np.full(info.shape, np.nan)
    free = np.flatnonzero(~held)
    part = info[np.ix_(free, free)]
    root = np.sqrt(np.maximum(np.abs(np.diag(part)), 1e-300))
    scaled = part / root / root[:, None]
    known = bool(np.all(np.isfinite(scaled)))
    smallest = float(np.linalg.eigvalsh(scaled)[0]) if known else np.nan
    if not np.isfinite(smallest) or smallest <= 1e-10:
        return vcov, smallest, (_indefinite(smallest),)
    vcov[np.ix_(free, free)] = invert(part)
    return vcov, smallest, ()


def _indefinite(smallest: float) -> str:
    return (
        f"the Hessian is not positive definite (smallest scaled eigenvalue {smallest:.2g}): "
        "standard errors are not available; the model may be too rich for these data, or the "
        "estimates are not at a maximum"
    )
