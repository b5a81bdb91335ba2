"""Outcomes that leave no residual: exact linear functions of the fixed and random columns."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import lsmr

from dgmm.design import Design
from dgmm.families import Family, Observations

__all__ = ["check_residual", "check_size", "no_residual"]

EXACT = 1e-9
"""Root mean square of a residual that is rounding, in standard deviations of the outcome."""

SIZES = (64, 256, 1024)
"""Rows looked at first: where they leave a residual, so do all."""

ITERATIONS = 500
"""Of conjugate gradients on all rows, where the first ones leave none."""

SPARE = 5
"""Rows beyond the rank of the columns that are needed to see a residual."""


LEAST, MOST = 1e-140, 1e140
"""Outcomes whose sums of squares are numbers."""


def check_residual(design: Design, family: Family) -> None:
    """Refuse a continuous outcome that its columns explain without error.

        g(y) = X beta + Z b   exactly: the likelihood has no maximum, sigma goes to 0

    Raises:
        ValueError: there is no residual variance, or none that could be calculated.
    """
    columns: tuple[np.ndarray, ...] = (design.y, design.trials, design.weights)
    at = np.flatnonzero(design.observed)
    if len(at) < design.n_rows:
        columns = tuple(column[at] for column in columns)
    data = Observations(*(torch.from_numpy(np.asarray(c, dtype=float)) for c in columns))
    eta = family.without_residual(data)
    if eta is None:
        return
    target = eta.numpy() - (design.offset if len(at) == design.n_rows else design.offset[at])
    known = np.isfinite(target)
    if not known.all():
        target, at = target[known], at[known]
    outcome = design.formula.response.text
    check_size(outcome, float(np.abs(target).max(initial=0.0)))
    if not _leaves_a_residual(design, at, target):
        link = family.mean_link.name
        raise no_residual(outcome, "" if link == "identity" else f"on the {link} scale ")


def check_size(outcome: str, largest: float) -> None:
    """Refuse an outcome whose ``largest`` absolute value has no square.

    Raises:
        ValueError: it is too large, or too small.
    """
    if largest > 0 and not LEAST < largest < MOST:
        raise ValueError(
            f"the outcome `{outcome}` is as large as {largest:.3g}, whose square double precision "
            "does not hold; change its unit"
        )


def no_residual(outcome: str, scale: str = "") -> ValueError:
    """The error about an outcome that its columns explain without error."""
    return ValueError(
        f"the outcome `{outcome}` {scale}is an exact linear function of the fixed and random "
        "terms: no residual variance is left, and the likelihood has no maximum. Leave out the "
        "term it was computed from, or calculate its coefficients by least squares"
    )


def _leaves_a_residual(design: Design, at: np.ndarray, target: np.ndarray) -> bool:
    """Whether some rows do: a few of them nearly always, all of them else."""
    if not len(at):
        return True
    spread = float(target.std())
    rounding = 8 * np.finfo(float).eps * float(np.abs(target).max())
    for size in SIZES:
        matrix, part = _dense(design, at[:size]), target[:size]
        solution, _, rank, _ = np.linalg.lstsq(matrix, part, rcond=1e-12)
        if _root_mean_square(part - matrix @ solution) > max(EXACT * spread, rounding):
            return True
        if size >= len(at):
            return bool(len(at) <= rank + SPARE)
    whole = _columns(design, at)
    solution = lsmr(whole, target, atol=1e-14, btol=1e-14, conlim=0, maxiter=ITERATIONS)[0]
    exact = _root_mean_square(target - whole @ solution) <= max(1e3 * EXACT * spread, rounding)
    return not exact or len(at) <= whole.shape[1] + SPARE


def _root_mean_square(residual: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(residual))))


def _dense(design: Design, rows: np.ndarray) -> np.ndarray:
    """The columns of :func:`_columns`, of a few rows."""
    plain = [design.fixed, *(network.columns for network in design.networks)]
    parts, place = [block.matrix[rows] for block in plain], np.arange(len(rows))
    for latent in design.latents:
        codes, level = np.unique(latent.grouping.codes[rows], return_inverse=True)
        for effect in latent.columns.matrix[rows].T:
            own = np.zeros((len(rows), len(codes)))
            own[place, level] = effect
            parts.append(own)
    whole = np.concatenate(parts, axis=1)
    length = np.sqrt((whole * whole).sum(0))
    kept = length > 0
    return whole[:, kept] / length[kept]


def _columns(design: Design, rows: np.ndarray) -> sparse.csr_matrix:
    """[X, inputs of networks, Z] of some rows, of unit length, without columns of zeros."""
    plain = [design.fixed, *(network.columns for network in design.networks)]
    parts = [sparse.csr_matrix(block.matrix[rows]) for block in plain]
    place = np.arange(len(rows))
    for latent in design.latents:
        codes, level = np.unique(latent.grouping.codes[rows], return_inverse=True)
        shape = (len(rows), len(codes))
        effects = latent.columns.matrix[rows].T
        parts += [sparse.csr_matrix((effect, (place, level)), shape) for effect in effects]
    whole = sparse.hstack(parts).tocsr()
    length = np.sqrt(np.asarray(whole.multiply(whole).sum(0)).ravel())
    kept = np.flatnonzero(length > 0)
    return whole[:, kept] @ sparse.diags(1 / length[kept])
