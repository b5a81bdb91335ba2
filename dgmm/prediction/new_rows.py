"""Predictions for new rows, or for all rows of the fit, in the order of the user's frame."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.design import Departures, Design, Specification, Table, label_key, rebuild
from dgmm.estimate import Estimate
from dgmm.information import Information
from dgmm.model import within
from dgmm.panel import Factor, Panel
from dgmm.prediction.moments import outcomes_seen
from dgmm.prediction.new_values import tell_beyond
from dgmm.prediction.options import Wanted
from dgmm.prediction.source import Rows
from dgmm.prediction.sources import source_of
from dgmm.runtime.listing import listed
from dgmm.runtime.warned import warn_user

__all__ = ["Asked", "history_of", "predict", "rows_asked"]


def predict(
    done: Estimate,
    info: Information | None,
    spec: Specification,
    wanted: Wanted,
    newdata: Any,
    history: Any,
    order: tuple[pd.Index, np.ndarray],
    departures: Departures,
    seed: int,
) -> pd.DataFrame:
    """See :meth:`dgmm.fit.Fit.predict`; ``order`` and ``departures`` are of the rows of the fit."""
    if history is not None and wanted.type not in ("subject", "one_step"):
        raise ValueError(
            "history= is for type='subject' and 'one_step': a prediction of "
            f"type={wanted.type!r} does not depend on the outcomes of a subject"
        )
    asked = rows_asked(done, spec, newdata, history, order, departures, wanted.type)
    target = asked.target
    past = history_of(done, spec, target, history)
    if wanted.new_groups == "error" and done.panel.several:
        _refuse_unknown_levels(done.panel.factors(len(done.model.latents)), target)
    elif wanted.new_groups == "error":
        _refuse_unknown(spec, target, past, history is None)
    rows = Rows(target, past, history is not None, seed)
    return asked.frame(source_of(done).columns(rows, info, wanted), wanted.type)


@dataclass(frozen=True)
class Asked:
    """Rows to predict, and the way of their predictions back into the frame of the user."""

    target: Panel
    rows: np.ndarray  # of each its place in the frame
    departures: Departures
    index: pd.Index  # of the frame
    of_fit: bool  # the rows are those of the fit: places are not 0, 1, ...

    def frame(self, columns: Mapping[str, Tensor], type: str) -> pd.DataFrame:
        """Columns (N,) of the target as a frame like that of the user.

        Raises:
            FloatingPointError: a prediction is not a number.
        """
        if any(bool(value.isnan().any()) for value in columns.values()):
            raise FloatingPointError("predictions are not numbers")
        found = pd.DataFrame({n: value.numpy() for n, value in columns.items()}, index=self.rows)
        mean = type == "mean_subject"
        found = _estimable(found, self.departures.without_random() if mean else self.departures)
        if self.of_fit:
            labels = pd.Series(self.index, index=self.rows)
            found = found.sort_index(kind="stable")
            return found.set_axis(labels.loc[found.index].to_numpy(), axis=0)
        found = found.reindex(range(len(self.index)))  # rows without covariates are missing
        return found.set_axis(self.index, axis=0)


def rows_asked(
    done: Estimate,
    spec: Specification,
    newdata: Any,
    history: Any,
    order: tuple[pd.Index, np.ndarray],
    departures: Departures,
    type: str,
) -> Asked:
    """The rows of a frame, or without one those of the fit in their ``order``.

    Raises:
        ValueError: the frame has no rows, or is none of this model.
    """
    if newdata is None:
        return Asked(done.panel, order[1], departures, order[0], True)
    table = Table(newdata)
    if not table.size:
        raise ValueError("newdata has no rows: there is nothing to predict")
    design = rebuild(_knowing(spec, history), table, outcome=False)
    target = within(done.model, Panel.from_design(design))
    tell_beyond(spec.time_name, target.rows.time, done.observed.rows.time, "newdata")
    if type == "subject":
        _name_rows_of_nobody(design, table, history)
    return Asked(target, design.rows, design.departures, table.index, False)


def _knowing(spec: Specification, history: Any) -> Specification:
    """The specification with what history= says of its subjects for cre(), not their new rows."""
    if history is None or not spec.between:
        return spec
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # given where the history is read for its outcomes
        try:
            return rebuild(spec, history, outcome=True).spec
        except ValueError:  # said there
            return spec


def _name_rows_of_nobody(design: Design, table: Table, history: Any) -> None:
    """Say which rows belong to no subject, for whom the average over all subjects is predicted."""
    rows_without = {b.grouping.name: b.grouping.without_label for b in design.latents}
    for grouping in {memory.name: memory for memory in design.spec.groupings}.values():
        rows = rows_without[grouping.name]
        absent = [name for name in grouping.columns if name not in table.names]
        if history is not None and absent:
            raise ValueError(
                f"newdata has no column `{absent[0]}`, by which history= would be matched with it"
            )
        if absent:
            warn_user(
                f"newdata has no column `{absent[0]}`: predictions are the average over the "
                f"population of `{grouping.name}`"
            )
        elif rows:
            warn_user(
                f"`{grouping.name}` is missing in {rows} of {table.size} rows of newdata: their "
                "predictions are the average over the population"
            )


def _estimable(frame: pd.DataFrame, departures: Departures) -> pd.DataFrame:
    """Rows that the outcomes of the fit say nothing about come back as missing, with a word."""
    if not departures.message:
        return frame
    warn_user(f"predict(): {departures.message}")
    return frame[departures.estimable].reindex(frame.index)


def _refuse_unknown(spec: Specification, target: Panel, past: Panel, of_fit: bool) -> None:
    """new_groups="error": subjects without any outcome behind their prediction."""
    empty = target.ids[(_outcomes(past) == 0).numpy()]
    if len(empty):
        group = spec.parsed().latents[0].group
        where = "the fit" if of_fit else "history"
        if any(one is None for one in empty):
            raise ValueError(
                f"newdata has rows without `{group}`, which new_groups='error' refuses"
            )
        raise ValueError(
            f"no outcome of {len(empty)} of the `{group}` in {where}, for example of "
            f"{empty[0]!r}. Give their past outcomes as history=, or allow "
            "new_groups='population'."
        )


def _refuse_unknown_levels(factors: list[Factor], target: Panel) -> None:
    """new_groups="error" with several grouping factors: levels that the fit does not know."""
    for (name, *_), level in zip(factors, target.rows.level, strict=True):
        unknown = int((level < 0).sum())
        if unknown:
            raise ValueError(
                f"`{name}` has levels that are not in the fit in {unknown} rows; allow "
                "new_groups='population', which gives them the average"
            )


def history_of(done: Estimate, spec: Specification, target: Panel, history: Any) -> Panel:
    """Observed outcomes of the subjects of ``target``, in its order.

    Raises:
        ValueError: several grouping factors, or no subject of ``target`` is in the history.
    """
    if done.panel.several:
        if history is not None:
            raise ValueError(
                "history= is for models with one grouping factor; with several, levels of the fit "
                "are predicted from the data of the fit and new ones get the average"
            )
        return done.observed
    known = done.kept.align(target.ids)
    if history is None:
        return known
    try:
        given = (
            history
            if isinstance(history, Panel)
            else outcomes_seen(done, spec, history, "history=")
        )
    except ValueError as error:
        raise ValueError(f"history=: {error}") from error
    past = given.align(target.ids)
    _name_subjects_without_past(spec.groupings[0].name, target, given, past, known)
    return past


def _name_subjects_without_past(
    group: str, target: Panel, given: Panel, past: Panel, known: Panel
) -> None:
    """Say whose outcomes history= does not hold, though it takes the place of those of the fit."""
    named = np.array([label is not None for label in target.ids])
    empty = named & (_outcomes(past) == 0).numpy()
    ours, theirs = (set(map(label_key, ids)) for ids in (target.ids[named], given.ids))
    if ours and ours.isdisjoint(theirs):
        raise ValueError(
            f"history= has no subject of newdata: its `{group}` are {_some(given.ids)}, those of "
            f"newdata {_some(target.ids[named])}"
        )
    lost = empty & (_outcomes(known) > 0).numpy()
    if lost.any():
        warn_user(
            f"history= takes the place of the data of the fit, and has no outcome of `{group}` "
            f"{_some(target.ids[lost])}, which the fit has: predictions are the average over the "
            "population"
        )
    if (empty & ~lost).any():
        warn_user(
            f"history= has no outcome of `{group}` {_some(target.ids[empty & ~lost])}: predictions "
            "are the average over the population"
        )


def _outcomes(panel: Panel) -> Tensor:
    """Outcomes of every subject, of whatever kind, (n,)."""
    return torch.stack([one.outcomes for one in panel.panels]).sum(0)


def _some(labels: np.ndarray) -> str:
    return listed(map(repr, labels.tolist()), 5)
