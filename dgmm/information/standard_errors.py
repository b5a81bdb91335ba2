"""Standard errors: the information about theta-hat, and what it gives for reported parameters.

Reported parameters are everything but networks and the Lambda of a neural latent, which is free up
to rotation.
"""

from __future__ import annotations

import numpy as np
import torch

from dgmm.estimate import Estimate
from dgmm.hessian import invert
from dgmm.information.boundary import family_edges, find_boundary
from dgmm.information.networks import network_information
from dgmm.information.observed import observed_information
from dgmm.information.records import Information, reported_packing
from dgmm.information.sandwich import sandwich

__all__ = ["information"]


def information(done: Estimate, kind: str, seed: int, draws: int) -> Information:
    """The information of an estimate: ``kind`` is "hessian" or "sandwich"."""
    boundary, at_zero = find_boundary(done)
    if done.model.linear:
        curvature, form = observed_information(done, at_zero, seed, draws)
        info = -curvature.matrix
        effective: dict[str, float] = {}
        messages: tuple[str, ...] = ()
    else:
        curvature, info, effective, messages, form = network_information(done, seed, draws)
    edge, notes = family_edges(done, info)
    at_zero = at_zero | edge
    messages += notes
    vcov, smallest, trouble = _invert(info, at_zero)
    packing = reported_packing(done.model)
    inverse = vcov
    if kind == "sandwich":
        if not done.model.linear:
            raise ValueError("se='sandwich' is for models without dnn(); use se='hessian'")
        vcov, form = sandwich(done, vcov, at_zero, seed), "cluster sandwich H^-1 (sum s s') H^-1"
    return Information(
        packing,
        torch.from_numpy(vcov),
        torch.from_numpy(inverse),
        form,
        smallest,
        curvature.asymmetry,
        boundary,
        effective,
        messages + trouble,
    )


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
        message = (
            f"the Hessian is not positive definite (smallest scaled eigenvalue {smallest:.2g}): "
            "standard errors are not available; the model may be too rich for these data, or the "
            "estimates are not at a maximum"
        )
        return vcov, smallest, (message,)
    vcov[np.ix_(free, free)] = invert(part)
    return vcov, smallest, ()
