"""A few rows that stand for all: their means and second moments are those of the whole table.

With [1 X T y] = QR over N rows and H orthogonal, the d rows S = (d / N)^(1/2) H R have

    S'S / d = [1 X T y]'[1 X T y] / N,

and H is the reflection that makes the first column of S one in every row. Whatever follows from
means and products of columns (columns that depend on others, bases, a residual variance, least
squares) follows from S as from the data. R is found block by block; nothing is squared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dgmm.design.build import Design, LatentBlock, independent, kept_names, notes, remember
from dgmm.design.encoding import Columns
from dgmm.design.estimable import Departures
from dgmm.design.frame import Frame
from dgmm.design.grouping import Grouping
from dgmm.design.incomplete import LeftOut
from dgmm.design.streamed import Reading
from dgmm.numerics.triangle import triangle

__all__ = ["Surrogate", "surrogate"]


@dataclass(frozen=True)
class Surrogate:
    """A design of a few rows, and how many rows it stands for.

    kept: names of the columns of every block. low, high: the ends of the outcome. time: the least
    and the largest time, if there is one.
    """

    design: Design
    kept: dict[str, tuple[str, ...]]
    rows: int  # whose outcome was seen
    low: float
    high: float
    time: tuple[float, float] | None
    notes: tuple[str, ...]


def surrogate(reading: Reading, left_out: LeftOut, covariates: tuple[str, ...]) -> Surrogate:
    """One pass over the rows; which columns are kept, and what stands for the rest.

    Raises:
        ValueError: no outcome was seen, or weights are not positive.
    """
    plain = reading.columns()
    moments = _Moments(plain)
    R = moments.read(reading)
    S = _rows(R, moments.count)
    at, blocks = 1, {}
    for key, one in plain.items():
        blocks[key] = replace(one, matrix=np.ascontiguousarray(S[:, at : at + len(one.names)]))
        at += len(one.names)
    size = len(S)
    every, formula = np.ones(size, dtype=bool), reading.formula
    aliases, messages = independent(formula, blocks, reading.empty(), every)
    names = kept_names(blocks, aliases, True)
    frame = _frame(reading, covariates, left_out, size)
    spec = remember(formula, frame, reading.empty(), names, aliases, ())
    blocks = {key: block.select(names[key]) for key, block in blocks.items()}
    numbers = [n for n in covariates if reading.variables[n].kind == "number"]
    time = reading.stored.extremes([frame.time_name])[frame.time_name] if frame.time_name else None
    grouping = Grouping(formula.latents[0].group, np.arange(1), np.zeros(size, dtype=np.int64))
    design = Design(
        formula=formula,
        y=S[:, -1].copy(),
        trials=np.ones(size),
        weights=np.ones(size),
        offset=np.zeros(size),
        fixed=blocks["fixed"],
        networks=(),
        latents=tuple(
            LatentBlock(term, blocks[f"latent {k}"], None, grouping)
            for k, term in enumerate(formula.latents)
        ),
        given=(),
        parts={},
        time=np.full(size, np.nan),
        time_name=frame.time_name,
        ratio=False,
        rows=np.arange(size),
        index=pd.RangeIndex(size),
        left_out=left_out,
        messages=(*([str(left_out)] if left_out.rows else []), *messages),
        spec=spec,
        covariates={},
        of_mean=frozenset(numbers),
        departures=Departures.none(size),
    )
    said = tuple(notes(design, None, True))
    return Surrogate(design, names, moments.count, moments.low, moments.high, time, said)


class _Moments:
    """The triangle of all columns with the outcome, and what else one pass tells."""

    def __init__(self, plain: dict[str, Columns]) -> None:
        self.names = {key: one.names for key, one in plain.items()}
        self.count, self.low, self.high = 0, np.inf, -np.inf

    def read(self, reading: Reading) -> np.ndarray:
        """R (d, d) of [1, blocks, y - offset] over the rows whose outcome was seen."""
        size = 2 + sum(map(len, self.names.values()))
        R = np.zeros((size, size))
        for matrix in self._matrices(reading):
            R = triangle(np.concatenate([R, triangle(matrix) if len(matrix) > size else matrix]))
        if not self.count:
            text = reading.formula.response.text
            raise ValueError(f"the outcome `{text}` is missing in all rows")
        return R

    def _matrices(self, reading: Reading) -> Iterator[np.ndarray]:
        for batch in reading.batches(self.names):
            seen = batch.seen
            if reading.weights and not (batch.weights[seen] > 0).all():
                raise ValueError(f"weights must be positive; `{reading.weights}` is not everywhere")
            if not seen.any():
                continue
            y = batch.y[seen]
            self.count += len(y)
            self.low, self.high = min(self.low, float(y.min())), max(self.high, float(y.max()))
            columns = [np.ones((len(y), 1)), *(one[seen] for one in batch.blocks.values())]
            yield np.column_stack([*columns, y - batch.offset[seen]])


def _rows(R: np.ndarray, count: int) -> np.ndarray:
    """S (d, d), its first column one; see the module."""
    size = len(R)
    ones = np.full(size, np.sign(R[0, 0]) / np.sqrt(size))
    mirror = ones - np.eye(size)[0]
    length = mirror @ mirror
    S = R if length == 0 else R - np.outer(mirror, mirror @ R) * (2 / length)
    S = S * np.sqrt(size / count)
    S[:, 0] = 1.0
    return S


def _frame(reading: Reading, covariates: tuple[str, ...], left_out: LeftOut, size: int) -> Frame:
    """The memory of the columns, without rows."""
    empty = reading.no_rows()
    memory = reading.grouping(())
    nothing = np.zeros(0)
    return Frame(
        columns=empty,
        covariates=covariates,
        groupings=(),
        memories=tuple(memory for _ in reading.formula.latents),
        weights=nothing,
        offset=nothing,
        time=nothing,
        time_name=reading.time(),
        weights_name=reading.weights,
        offset_name=reading.offset,
        offset_array=False,
        rows=np.zeros(0, dtype=np.int64),
        index=pd.RangeIndex(0),
        left_out=left_out,
        messages=(),
        has_outcome=True,
        intercept=True,
        ordered=False,
    )
