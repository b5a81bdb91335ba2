"""Sums over the rows of every subject in the coordinates of a model, batch by batch.

Columns of a batch are brought into these coordinates in memory; DuckDB adds their products up by
subject and goes to the disk when they need more than its share of memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from dgmm.design import Batch, Reading, factorize
from dgmm.files.stored import summed
from dgmm.model import Model
from dgmm.panel import Sums

__all__ = ["accumulated"]


def accumulated(
    reading: Reading, kept: Mapping[str, Sequence[str]], model: Model, origin: np.ndarray
) -> tuple[np.ndarray, Sums]:
    """One pass over the rows: labels of the subjects (n,) in natural order, and their sums.

    Args:
        reading: the rows.
        kept: the columns of every block of the formula.
        model: in whose coordinates the sums are.
        origin: (p,) coefficients of a fit by least squares, which the outcome loses, so that sums
            of squares keep the digits of its residuals.
    """
    totals = _Totals(model, origin)
    q, p = totals.q, len(origin)
    columns = ((batch.key, totals.columns(batch)) for batch in reading.batches(kept))
    pairs = [(j, m) for j in range(q) for m in range(j, q)]
    beside = [(j, q + m) for j in range(q) for m in range(p + 1)]
    one = q + p + 1
    keys, found = summed(columns, [(one, one), *pairs, *beside])
    at, labels = factorize(keys)
    del keys
    n = len(labels)
    A, B = np.empty((q, q, n)), np.empty((q, p + 1, n))
    count = _by_subject(found[0], at, n)
    for k, (j, m) in enumerate(pairs, 1):
        A[j, m] = A[m, j] = _by_subject(found[k], at, n)
    for k, (j, m) in enumerate(beside, 1 + len(pairs)):
        B[j, m - q] = _by_subject(found[k], at, n)
        found[k] = np.empty(0)  # its memory is free again
    sums = Sums(
        A,
        B,
        totals.C,
        origin,
        totals.log_weights,
        torch.from_numpy(count.astype(np.int64)),
        totals.planned,
        model.unit,
        totals.fixed,
        totals.random,
    )
    return labels, sums


class _Totals:
    """Columns in the coordinates of a model, and what of them is summed over all rows."""

    def __init__(self, model: Model, origin: np.ndarray) -> None:
        self.unit, self.origin = model.unit, origin
        self.fixed = model.basis / model.unit
        self.random = tuple(latent.frame / model.unit for latent in model.latents)
        self.q = sum(map(len, self.random))
        self.C = np.zeros((len(origin) + 1, len(origin) + 1))
        self.log_weights = 0.0
        self.planned = 0

    def columns(self, batch: Batch) -> np.ndarray:
        """t, z and ones (q + p + 2, m), times the root of the weights but for ones.

        They are zero where the outcome was not seen.
        """
        q, p, seen = self.q, len(self.origin), batch.seen
        found = np.empty((q + p + 2, len(seen)))
        first = 0
        for k, of in enumerate(self.random):
            own = slice(first, first + len(of))
            np.matmul(of.numpy().T, batch.blocks[f"latent {k}"].T, out=found[own])
            first = own.stop
        np.matmul(self.fixed.numpy().T, batch.blocks["fixed"].T, out=found[q : q + p])
        y = np.where(seen, batch.y, 0.0)
        found[q + p] = (y - batch.offset) / self.unit - self.origin @ found[q : q + p]
        found[:-1] *= np.where(seen, np.sqrt(batch.weights), 0.0)
        found[-1] = seen
        z = found[q:-1]
        self.C += z @ z.T
        self.log_weights += float(np.log(batch.weights[seen]).sum())
        self.planned += len(seen)
        return found


def _by_subject(values: np.ndarray, at: np.ndarray, n: int) -> np.ndarray:
    """Sums by subject, (n,): labels that are one subject, written in two ways, are added."""
    if len(values) > n:
        return np.bincount(at, weights=values, minlength=n)
    found = np.empty(n)
    found[at] = values
    return found
