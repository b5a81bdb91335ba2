"""The rows of all models of one formula, read once, for the likelihood that fits them together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dgmm.design import Design, Table, build_design, names_in, read_column
from dgmm.formula import Formula
from dgmm.latent import Component, Latent, Pattern, build
from dgmm.likelihood.many import ManyRows, allows
from dgmm.many.models import Models
from dgmm.plan import is_deep, parse_call, read_family

__all__ = ["Batch", "read_batch"]

ROWS = 100_000
"""Rows of the models that are fitted at once, as many as the caches of a processor hold."""

COVARIANCES = ("us", "diag")


@dataclass(frozen=True, eq=False)
class Batch:
    """Columns of all rows; those of a model lie together, subject by subject."""

    X: np.ndarray  # (N, p)
    T: np.ndarray  # (N, q)
    y: np.ndarray  # (N,), or (N, M) with a column for every model, less the offset
    weights: np.ndarray  # (N,)
    subject: np.ndarray  # (N,)
    first: np.ndarray  # (M,) the first row of every model
    count: np.ndarray  # (M,)
    names: tuple[str, ...]  # (p,)
    components: tuple[Component, ...]
    pattern: Pattern
    group: str
    messages: tuple[str, ...]  # about all rows

    def chunks(self) -> Iterator[np.ndarray]:
        """Numbers of models of about one length, a cache's worth of rows at a time."""
        order = np.argsort(self.count, kind="stable")
        order = order[self.count[order] > 0]
        begin = 0
        while begin < len(order):
            end = begin + 1
            while end < len(order) and (end + 1 - begin) * self.count[order[end]] <= ROWS:
                end += 1
            yield order[begin:end]
            begin = end

    def rows(self, models: np.ndarray) -> ManyRows:
        """The rows of some models."""
        step = np.arange(int(self.count[models].max()))
        planned = step < self.count[models, None]
        at = self.first[models, None] + np.minimum(step, self.count[models, None] - 1)
        y = self.y[at] if self.y.ndim == 1 else self.y[at, models[:, None]]
        own = self.subject[at]
        number = np.cumsum(np.diff(own, axis=1, prepend=own[:, :1]) != 0, axis=1)
        return ManyRows(y, self.X[at], self.T[at], self.weights[at], number, planned)


def read_batch(models: Models) -> Batch | str:
    """The rows of all models, or a clause that says why each has to be fitted alone."""
    call = models.call
    parsed = parse_call(replace(call, formula=models.formula(0)))
    family = read_family(call)
    if reason := _cannot(models, parsed):
        return reason
    if not family.conjugate or not family.noise or parsed.parts:
        return f"the outcome is not Gaussian with one residual variance ({family.name})"
    if models.part is None:
        parsed, data, y = _of_outcomes(models, parsed)
    else:
        data, y = models.data, None
    design = build_design(
        parsed,
        data,
        weights=call.weights,
        offset=call.offset,
        missing_covariates=call.missing_covariates,
    )
    if design.spec.states:
        return "a term depends on all rows it is fitted to (a basis, a mean)"
    if not (design.weights > 0).all() or design.spec.response_levels or design.ratio:
        return "the outcome or a weight is not a plain number"
    latent = build(design.latents[0], 1.0)
    if not latent.by_columns or latent.by_reported:
        return "the covariance of the random effects is restricted"
    return _batch(models, design, latent, y)


def _cannot(models: Models, parsed: Formula) -> str | None:
    """Why the likelihood of many models does not apply to a formula, or to the options."""
    call = models.call
    if is_deep(parsed) or len(parsed.latents) != 1:
        return "the formula has not one random part with linear terms"
    (term,) = parsed.latents
    if term.kind != "normal" or term.covariance not in COVARIANCES or term.given:
        return "the formula has not one random part with linear terms"
    if not allows(call.likelihood, call.method):
        return f"method={call.method!r} with likelihood={call.likelihood!r}"
    if call.se not in ("hessian", None):
        return f"se={call.se!r}"
    return None


def _of_outcomes(models: Models, parsed: Formula) -> tuple[Formula, dict[str, Any], np.ndarray]:
    """The formula of a stand-in outcome, the columns it needs, and the outcomes (N, M)."""
    table = Table.of(models.data)
    stand_in = "outcome"
    while stand_in in table.names:
        stand_in += "_"
    response = replace(parsed.response, text=stand_in, parts=(stand_in,))
    parsed = replace(parsed, response=response)
    given = (models.call.weights, models.call.offset)
    wanted = {
        *names_in(parsed, {*table.names, stand_in}),
        *(one for one in given if isinstance(one, str)),
    }
    data = {name: table.series(name) for name in table.names if name in wanted}
    data[stand_in] = np.zeros(table.size)
    return parsed, data, np.column_stack([_numbers(table, str(name)) for name in models.labels])


def _numbers(table: Table, name: str) -> np.ndarray:
    """An outcome (N,); without any value where a fit of its own has to say what is wrong."""
    column = read_column(table.series(name), name)
    usable = column.variable.kind != "category" and not np.isinf(column.values).any()
    return column.values if usable else np.full(table.size, np.nan)


def _batch(models: Models, design: Design, latent: Latent, y: np.ndarray | None) -> Batch:
    """The columns of a design in the order of the models."""
    block, M = design.latents[0], len(models)
    subject = block.grouping.codes
    if models.part is not None:
        part = models.part[design.rows]
        order = np.lexsort((subject, part))
        order = order[np.searchsorted(part[order], 0) :]  # rows of no model come first
        count = np.bincount(part[order], minlength=M)
        first, outcome = np.cumsum(count) - count, design.y[order]
    else:
        assert y is not None
        order = np.argsort(subject, kind="stable")
        first, count = np.zeros(M, dtype=int), np.full(M, len(order))
        outcome = y[design.rows[order]]
    offset = design.offset[order]
    return Batch(
        design.fixed.matrix[order],
        block.columns.matrix[order],
        outcome - (offset if y is None else offset[:, None]),
        design.weights[order],
        subject[order],
        first,
        count,
        design.fixed.names,
        latent.components(),
        Pattern.of([latent]),
        block.grouping.name,
        design.messages,
    )
