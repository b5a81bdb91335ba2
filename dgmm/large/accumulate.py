"""Sums over the rows of every subject in the coordinates of a model, batch by batch.

What stays in memory are the sums, however many rows there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from dgmm.design import Batch, Reading, factorize
from dgmm.files.stored import as_series
from dgmm.model import Model
from dgmm.panel import Sums

__all__ = ["BySubject", "accumulated"]


SHARE = 8192
"""Rows whose products are taken at once: a cache's worth."""


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
    pairs = [(j, m) for j in range(q) for m in range(j, q)]
    beside = [(j, q + m) for j in range(q) for m in range(p + 1)]
    one = q + p + 1
    found = BySubject(reading.subjects(), [(one, one), *pairs, *beside])
    for batch in reading.batches(kept):
        found.add(as_series([batch.key]), totals.columns(batch))
    n = len(found.labels)
    A, B = np.empty((q, q, n)), np.empty((q, p + 1, n))
    for k, (j, m) in enumerate(pairs, 1):
        A[j, m] = A[m, j] = found.sums[:, k]
    for k, (j, m) in enumerate(beside, 1 + len(pairs)):
        B[j, m - q] = found.sums[:, k]
    sums = Sums(
        A,
        B,
        totals.C,
        origin,
        totals.log_weights,
        torch.from_numpy(found.sums[:, 0].astype(np.int64)),
        totals.planned,
        model.unit,
        totals.fixed,
        totals.random,
    )
    return found.labels, sums


class BySubject:
    """Sums of products of columns over the rows of every subject.

    Rows of a batch are put in the order of the subjects, so that the table is gone through once.

    keys: every label, in any order and as often as one is written differently. products: pairs of
    columns.
    """

    def __init__(self, keys: pd.Series, products: Sequence[tuple[int, int]]) -> None:
        self._place, self.labels = factorize(keys)
        self._index = pd.Index(keys)
        self._first, self._second = (np.array(one) for one in zip(*products, strict=True))
        self.sums = np.zeros((len(self.labels), len(products)))

    def add(self, keys: pd.Series, columns: np.ndarray) -> None:
        """Add the rows with some labels (m,) and columns (c, m)."""
        at = self._place[self._index.get_indexer(pd.Index(keys))]
        order = np.argsort(at)
        at, rows = at[order], np.ascontiguousarray(columns.T)[order]
        for first in range(0, len(at), SHARE):
            own, some = at[first : first + SHARE], rows[first : first + SHARE]
            start = np.flatnonzero(np.append(True, own[1:] != own[:-1]))
            products = some[:, self._first] * some[:, self._second]
            self.sums[own[start]] += np.add.reduceat(products, start, axis=0)


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
