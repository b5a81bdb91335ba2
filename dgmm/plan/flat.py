"""Paths that may begin anywhere: what they take up of a subject is left to nothing else."""

from __future__ import annotations

import numpy as np

from dgmm.design import Design, dependent_columns
from dgmm.latent import kind_of

__all__ = ["check_flat"]


def check_flat(design: Design) -> None:
    """Refuse what a path takes up that may begin anywhere in every subject."""
    for block in design.latents:
        flat = kind_of(block.term).takes_up(block)
        if not flat.shape[1]:
            continue
        seen, text = design.observed, block.term.text
        code = block.grouping.codes[seen]
        lost = _within(design.fixed.matrix[seen], flat[seen], code)
        names = dependent_columns(lost, design.fixed.names)
        if names:
            listed = " and ".join(f"`{name}`" for name in names)
            raise ValueError(
                f"{text} has a diffuse start: it takes up the level of every "
                f"`{block.grouping.name}` and with it {listed} of the fixed part, of which nothing "
                "is left to estimate. Leave that out (0 + ... leaves out the intercept), or take "
                "start='known'"
            )
        for other in design.latents:
            if (
                other is block
                or not kind_of(other.term).by_columns
                or other.grouping.name != block.grouping.name
            ):
                continue
            left = _within(other.columns.matrix[seen], flat[seen], code)
            both = next(iter(dependent_columns(left, other.columns.names)), "")
            if both:
                raise ValueError(
                    f"{text} with a diffuse start and {other.term.text} both hold the effect "
                    f"`{both}` of `{block.grouping.name}`: a flat prior takes it up, and no "
                    "variance of it is left. Leave it out of the latter, or take start='known'"
                )


def _within(columns: np.ndarray, flat: np.ndarray, code: np.ndarray) -> np.ndarray:
    """The residuals of columns about ``flat`` within every subject; of size one, or rounding."""
    left, size = columns.astype(float), np.linalg.norm(columns, axis=0)
    left = left / np.where(size > 0, size, 1.0)
    whole = np.zeros_like(left)
    for at in np.split(np.arange(len(code)), np.flatnonzero(np.diff(code)) + 1):
        basis = flat[at] - np.append(0.0, flat[at, 1:].mean(0))
        fitted = np.linalg.lstsq(basis, left[at], rcond=1e-10)[0]
        whole[at] = left[at] - basis @ fitted
    return np.where(np.linalg.norm(whole, axis=0) > 1e-9, whole, 0.0)
