"""Formula + data frame -> Design: numpy blocks, one row per measurement, named columns.

Rows come in one canonical order (by subject, then by time and the other variables), found before
any transform is evaluated, so that the order of the user's rows cannot change a single bit. Knots,
means and levels are learnt from all rows with complete covariates, missing outcomes included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from dgmm.design.collinearity import collinear
from dgmm.design.conditional import GivenBlock, given_columns
from dgmm.design.dot import in_columns
from dgmm.design.encoding import Columns, encode, single_levels
from dgmm.design.estimable import MEAN, Alias, Departures, aliases, constants
from dgmm.design.expressions import Evaluator, ExpressionError
from dgmm.design.frame import Frame, Request, read_frame
from dgmm.design.grouping import Grouping
from dgmm.design.incomplete import LeftOut
from dgmm.design.response import Outcome, first_category, read_outcome
from dgmm.design.specification import Specification, block_texts, left_out_words
from dgmm.design.variables import Column, Table, read_column
from dgmm.formula import (
    Formula,
    FormulaError,
    LatentTerm,
    NetworkTerm,
    plain_name,
)
from dgmm.runtime.listing import listed
from dgmm.runtime.warned import warn_user

__all__ = ["Design", "LatentBlock", "NetworkBlock", "build_design", "rebuild"]

_MOST_LATENT = 20


@dataclass(frozen=True)
class NetworkBlock:
    """The inputs of one `dnn()` among the fixed terms."""

    term: NetworkTerm
    columns: Columns


@dataclass(frozen=True)
class LatentBlock:
    """T (N, q) of one random part, a richer basis phi or the inputs of a path, and its groups."""

    term: LatentTerm
    columns: Columns
    basis: Columns | None
    grouping: Grouping
    time: np.ndarray | None = None  # (N,) when all columns are functions of this one variable

    def rows_of_groups(self) -> np.ndarray:
        """Number of rows of every group, those with a missing outcome included."""
        return np.bincount(self.grouping.codes)


@dataclass(frozen=True)
class Design:
    """What a model sees of a data frame; all arrays have the same N rows in canonical order."""

    formula: Formula
    y: np.ndarray  # (N,) NaN where the outcome is missing
    trials: np.ndarray  # (N,) 1 unless the outcome has two columns
    weights: np.ndarray  # (N,)
    offset: np.ndarray  # (N,)
    fixed: Columns  # X (N, p)
    networks: tuple[NetworkBlock, ...]
    latents: tuple[LatentBlock, ...]
    given: tuple[GivenBlock, ...]
    parts: dict[str, Columns]  # columns of "zi" and "dispersion"
    time: np.ndarray  # (N,) the first numeric variable of the T of a subject, NaN without any
    time_name: str | None
    ratio: bool  # the outcome was written `a / b`: y = a, trials = b
    rows: np.ndarray  # (N,) position in the user's frame
    index: pd.Index  # labels of these rows in the user's frame
    left_out: LeftOut  # rows of the user's frame that are not here
    messages: tuple[str, ...]
    spec: Specification
    covariates: dict[str, Column]  # the columns of the right-hand side as the user gave them
    of_mean: frozenset[str]  # the covariates of mu1, also of columns left out
    departures: Departures  # from the equations of columns left out, (N, D)

    @cached_property
    def observed(self) -> np.ndarray:
        """Which outcomes were seen, (N,) bool."""
        return ~np.isnan(self.y)

    @property
    def n_rows(self) -> int:
        """Number of rows, planned ones with a missing outcome included."""
        return len(self.y)


def build_design(
    formula: Formula,
    data: Any,
    *,
    weights: Any = None,
    offset: Any = None,
    missing_covariates: str = "drop",
    intercept: bool = True,
    ordered: bool = False,
) -> Design:
    """Build the matrices of a formula and learn what new data will need.

    Args:
        formula: what parse_formula() returned.
        data: a data frame (pandas, polars, pyarrow, ...) or a dict of columns.
        weights: prior weights, a column name or an array with one value per row of the data.
        offset: added to the linear predictor, likewise; offset() terms are added to it.
        missing_covariates: "drop" such rows with one counted warning, or raise an "error".
        intercept: False leaves the fixed intercept out, factors coded as if it were there.
        ordered: a category of any number of levels is an outcome, numbered in their order.
    """
    if missing_covariates not in ("drop", "error"):
        raise ValueError(f"missing_covariates is 'drop' or 'error', not {missing_covariates!r}")
    table = Table.of(data)
    try:
        formula = in_columns(formula, table, weights, offset)
        strict = missing_covariates == "error"
        request = Request(formula, weights, offset, strict, None, True, intercept, ordered)
        design = _assemble(formula, read_frame(table, request), None)
    except ExpressionError as error:
        raise _located(error, formula.text) from error
    _check_blocks(design)
    for message in design.messages:
        warn_user(message)
    return replace(design, messages=(*design.messages, *notes(design, table, intercept)))


def rebuild(spec: Specification, newdata: Any, *, outcome: bool) -> Design:
    """Build the same columns for new data, with the knots, means and levels of the fit.

    Unknown levels of a grouping factor get code -1, also when its column is absent; unknown levels
    of a covariate are an error. With outcome=False the outcome need not exist and y is all NaN.
    """
    table, formula = Table.of(newdata), spec.parsed()
    weights = spec.weights if outcome and spec.weights in table.names else None
    request = Request(formula, weights, spec.offset, False, spec, outcome)
    design = _assemble(formula, read_frame(table, request), spec)
    if spec.offset_array:
        message = "the fit had an offset array; for new data it is 0 (name a column to avoid this)"
        design = replace(design, messages=(*design.messages, message))
    lost = design.observed & ~design.departures.estimable
    if lost.any():
        message = f"{lost.sum()} outcomes are left out, {design.departures.message}"
        y = np.where(lost, np.nan, design.y)
        design = replace(design, y=y, messages=(*design.messages, message))
    for message in design.messages:
        warn_user(message)
    return design


def _located(error: ExpressionError, text: str) -> ValueError:
    """Add the formula with a caret when the error is about a name that stands in it."""
    name = error.name
    match = re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", text) if name else None
    return FormulaError(str(error), text, match.start(), len(name)) if match and name else error


def _assemble(formula: Formula, frame: Frame, spec: Specification | None) -> Design:
    size = len(frame.rows)
    values = {name: column.value() for name, column in frame.columns.items()}
    evaluator = Evaluator(values, dict(spec.states) if spec else {}, learning=spec is None)
    blocks = {
        key: encode(text, evaluator, size, network=network)
        for key, text, network in block_texts(formula)
    }
    outcome = _outcome(formula, frame, evaluator, spec)
    y, trials = outcome.y, outcome.trials
    known = None if spec is None else spec.between
    given, between = given_columns(formula, frame, evaluator, blocks, ~np.isnan(y), known)
    if spec is None:
        left_out, messages = independent(formula, blocks, evaluator, ~np.isnan(y))
        names = kept_names(blocks, left_out, frame.intercept)
        memory = remember(formula, frame, evaluator, names, left_out, outcome.levels)
    else:
        memory, messages = spec, ()
    memory = replace(memory, between=between) if between else memory
    departed = Departures.of(blocks, memory.aliases, size)
    of_mean = [blocks[key].variables for key in blocks if key.split()[0] in MEAN]
    blocks = {key: block.select(memory.kept[key]) for key, block in blocks.items()}
    return Design(
        formula=formula,
        y=y,
        trials=trials,
        weights=_weights(formula, frame.weights, trials, y),
        offset=_offset(formula, frame, evaluator),
        fixed=blocks["fixed"],
        networks=tuple(
            NetworkBlock(term, blocks[f"network {k}"]) for k, term in enumerate(formula.networks)
        ),
        latents=tuple(
            _latent(term, blocks[f"latent {k}"], blocks.get(f"basis {k}"), grouping, frame)
            for k, (term, grouping) in enumerate(zip(formula.latents, frame.groupings, strict=True))
        ),
        given=given,
        parts={part.name: blocks[part.name] for part in formula.parts},
        time=frame.time,
        time_name=frame.time_name,
        ratio=formula.response.kind == "ratio",
        rows=frame.rows,
        index=frame.index,
        left_out=frame.left_out,
        messages=(*frame.messages, *messages, *outcome.messages),
        spec=memory,
        covariates={name: frame.columns[name] for name in frame.covariates},
        of_mean=frozenset().union(*(used for one in of_mean for used in one)),
        departures=departed,
    )


def _latent(
    term: LatentTerm, columns: Columns, basis: Columns | None, grouping: Grouping, frame: Frame
) -> LatentBlock:
    richest = columns if basis is None or term.syntax.serial else basis
    used = frozenset().union(*columns.variables, *richest.variables)
    time = frame.time if used == {frame.time_name} else None
    return LatentBlock(term, columns, basis, grouping, time)


def remember(
    formula: Formula,
    frame: Frame,
    evaluator: Evaluator,
    kept: dict[str, tuple[str, ...]],
    left_out: dict[str, tuple[Alias, ...]],
    levels: tuple[Any, ...],
) -> Specification:
    return Specification(
        formula=formula.text,
        latent_words={term.kind: term.syntax for term in formula.latents},
        structures={
            term.covariance: term.own
            for term in sorted(formula.latents, key=lambda one: len(one.own.options))
        },
        variables=tuple(column.variable for column in frame.columns.values()),
        groupings=frame.memories,
        states=evaluator.states,
        kept=kept,
        response_levels=levels,
        ordered_response=frame.ordered and bool(levels),
        time_name=frame.time_name,
        weights=frame.weights_name,
        offset=frame.offset_name,
        parts={part.name: part.text for part in formula.parts},
        offset_array=frame.offset_array,
        aliases=left_out,
    )


def independent(
    formula: Formula, blocks: dict[str, Columns], evaluator: Evaluator, observed: np.ndarray
) -> tuple[dict[str, tuple[Alias, ...]], tuple[str, ...]]:
    """Find the columns of X and of every T that earlier ones explain where an outcome was seen."""
    left_out = {}
    messages = [
        f"`{name}` has one level only and is left out"
        for name in single_levels(formula.fixed, evaluator)
        if (plain_name(name) or name) not in blocks["fixed"].terms
    ]
    for key, block in blocks.items():
        network = key.startswith("network")
        equations = (constants if network else aliases)(block, observed)
        if equations:
            left_out[key] = equations
            varies = Departures.of(blocks, {key: equations}, len(observed)).needed
            where = f" where `{formula.response.text}` was observed"
            reasons = [
                f"`{one.name}` ({one.reason}{where * bool(more)})"
                for one, more in zip(equations, varies, strict=True)
            ]
            what = listed(reasons, separator="; ")
            rank = sum(name != "(Intercept)" for name in block.names) - len(equations)
            messages.append(left_out_words(formula, key, what, rank))
    return left_out, tuple(messages)


def kept_names(
    blocks: dict[str, Columns], left_out: dict[str, tuple[Alias, ...]], intercept: bool
) -> dict[str, tuple[str, ...]]:
    kept = {}
    for key, block in blocks.items():
        gone = {one.name for one in left_out.get(key, ())}
        gone |= {"(Intercept)"} if key == "fixed" and not intercept else set()
        kept[key] = tuple(name for name in block.names if name not in gone)
    return kept


def _outcome(
    formula: Formula, frame: Frame, evaluator: Evaluator, spec: Specification | None
) -> Outcome:
    size = len(frame.rows)
    if not frame.has_outcome:
        return Outcome(np.full(size, np.nan), np.ones(size))
    known = spec.response_levels if spec else ()
    ordered = spec.ordered_response if spec else frame.ordered
    outcome = read_outcome(formula.response, frame.columns, evaluator, known, ordered)
    if spec is None and np.isnan(outcome.y).all():
        raise ValueError(f"the outcome `{formula.response.text}` is missing in all {size} rows")
    return outcome


def _weights(
    formula: Formula, weights: np.ndarray, trials: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """R's idiom `a / b` with weights = b names the denominator twice; it counts once."""
    if formula.response.kind != "ratio":
        return weights
    seen = ~np.isnan(y)
    return np.ones_like(weights) if np.array_equal(weights[seen], trials[seen]) else weights


def _offset(formula: Formula, frame: Frame, evaluator: Evaluator) -> np.ndarray:
    total = frame.offset.copy()
    for text in formula.offsets:
        value = np.asarray(evaluator.value(text))
        if value.dtype.kind not in "fiub" or value.ndim > 1:
            raise ValueError(f"offset({text}) is not one numeric column")
        if not np.isfinite(value).all():
            bad = np.count_nonzero(~np.isfinite(value))
            raise ValueError(f"offset({text}) is not a finite number in {bad} rows")
        total = total + value
    return total


def _check_blocks(design: Design) -> None:
    for network in design.networks:
        if not network.columns.names:
            y = design.formula.response.text
            raise ValueError(f"{network.term.text}: no input varies where `{y}` was observed")
    for block in design.latents:
        latent = block.term.options.get("latent")
        if not block.columns.names:
            raise ValueError(f"{block.term.text}: no column is left in its random part")
        largest = int(block.rows_of_groups().max())
        most = _MOST_LATENT if block.term.syntax.serial else min(largest, _MOST_LATENT)
        if latent is not None and latent > most:
            raise ValueError(
                f"{block.term.text}: latent={latent} is larger than sensible; the largest "
                f"`{block.grouping.name}` has {largest} rows, and {_MOST_LATENT} is the most"
            )


def notes(design: Design, table: Table | None, intercept: bool) -> list[str]:
    """Say what was understood silently, and which coefficients are hardly told apart."""
    said = [
        f"{name}= {found.message}" if name else found.message
        for name, block in {"": design.fixed, **design.parts}.items()
        for found in collinear(block, design.observed, constant=not intercept)
    ]
    levels, text = design.spec.response_levels, design.formula.response.text
    if design.spec.ordered_response and table is not None:
        first, shown = first_category(levels), " < ".join(map(str, levels))
        last = first + len(levels) - 1
        said.append(f"outcome `{text}`: categories {shown}, numbered {first} to {last}")
        (name,) = design.formula.response.names
        every = read_column(table.series(name), name).variable.levels if name in table.names else ()
        empty = [repr(level) for level in every if level not in levels]
        if empty:
            said.append(f"outcome `{text}`: no row has {', '.join(empty)}, left out")
    elif len(levels) == 2:
        zero, one = levels
        said.append(f"outcome `{text}`: 1 is {one!r}, 0 is {zero!r}")
    return said + [
        f"{block.term.text}: all effects are independent, those of the levels of `{name}` too, as "
        f"in lme4 2.0; lme4 1.1 keeps these correlated: (0 + {name} | {block.term.group})"
        for block in design.latents
        for name in block.columns.categories[:1]
        if "||" in block.term.text and len(block.columns.names) > 1
    ]
