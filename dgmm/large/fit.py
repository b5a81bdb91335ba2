"""A Gaussian mixed model of rows that are not in memory.

1  queries: complete rows, kinds and levels of the columns
2  passes over the rows for the transforms that learn from them, where there are any
3  a pass: the triangle of all columns, and from it the coordinates of the model
4  a pass: sums of products by subject in these coordinates
5  the likelihood from the sums, by the engine of rows in memory
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from dgmm.design import (
    Departures,
    Design,
    Reading,
    Surrogate,
    complete_stored,
    in_columns,
    open_reading,
    read_names,
    surrogate,
)
from dgmm.estimate import Estimate, Request, stored_estimate
from dgmm.estimate.pilot import pilot
from dgmm.families import Family
from dgmm.files.stored import open_stored
from dgmm.formula import Formula
from dgmm.large.accumulate import accumulated
from dgmm.model import Model, build_model
from dgmm.panel import Panel
from dgmm.plan import Call, check_columns, check_enough, check_left, check_stored, make_request
from dgmm.record import Memory
from dgmm.runtime.absent import Absent
from dgmm.runtime.warned import warn_user

__all__ = ["StoredFit", "fit_stored"]


class StoredFit(NamedTuple):
    """What a fit is made of."""

    memory: Memory
    estimate: Estimate
    request: Request
    messages: tuple[str, ...]


def fit_stored(call: Call, parsed: Formula, family: Family, data: Any) -> StoredFit:
    """Fit the model of a call to the rows of files, a dataset or a relation.

    Raises:
        ValueError: a model that sums by subject do not determine, or data that it cannot have.
    """
    check_stored(call, parsed, family)
    reading, found = _read(call, parsed, data)
    design = found.design
    for message in design.messages:
        warn_user(message)
    check_columns(found, family)
    request = make_request(call, design, family)
    unit, eta = pilot(design, family)
    check_left(design, unit)
    model = build_model(design, family, unit, request.control.ridge)
    origin = _least_squares(model, design, eta)
    labels, sums = accumulated(reading, found.kept, model, origin)
    check_enough(design, len(labels), sums.seen)
    y = design.y
    sums = replace(sums, outcome=(float(y.mean()), float(np.sqrt(np.square(y).mean()))))
    panel = Panel.of_sums(labels, sums, found.time)
    done = stored_estimate(model, panel, torch.from_numpy(origin), request)
    check_left(design, float(done.theta["extra"].exp()))
    return StoredFit(
        _memory(reading, design, labels, data), done, request, (*design.messages, *found.notes)
    )


def _read(call: Call, parsed: Formula, data: Any) -> tuple[Reading, Surrogate]:
    stored = open_stored(data)
    weights, offset = (None if one is None else str(one) for one in (call.weights, call.offset))
    beside = [name for name in (weights, offset) if name is not None]
    formula = in_columns(parsed, stored, *beside)
    covariates, (group,), outcomes = read_names(formula, stored.names)
    strict = call.missing_covariates == "error"
    rows, left_out = complete_stored(stored, covariates, group, outcomes, beside, strict)
    reading = open_reading(formula, rows, group, covariates, outcomes, weights, offset)
    return reading, surrogate(reading, left_out, covariates)


def _least_squares(model: Model, design: Design, eta: torch.Tensor) -> np.ndarray:
    """Coefficients (p,) of the least-squares fit in the coordinates of the model."""
    X = design.fixed.matrix @ model.basis.numpy() / model.unit
    found: np.ndarray = np.linalg.lstsq(X, eta.numpy() / model.unit, rcond=None)[0]
    return found


def _memory(reading: Reading, design: Design, labels: np.ndarray, data: Any) -> Memory:
    """The memory of columns and subjects, without rows."""
    known = reading.grouping(tuple(labels.tolist()))
    nothing = np.zeros(0, dtype=np.int64)
    columns: Any = Absent()
    return Memory(
        replace(design.spec, groupings=(known,) * len(design.latents)),
        nothing,
        nothing,
        (known.name,) * len(design.latents),
        design.fixed.terms,
        columns,
        None,
        design.left_out,
        Departures.none(0),
        data,
    )
