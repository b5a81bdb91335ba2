"""Predictions for new rows, or for all rows of the fit, in the order of the user's frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dgmm.design import Departures, Specification, rebuild
from dgmm.estimate import Estimate
from dgmm.information import Information
from dgmm.panel import Factor, Panel
from dgmm.prediction.intervals import Target, with_interval
from dgmm.prediction.moments import outcomes_seen
from dgmm.prediction.options import Wanted
from dgmm.runtime.warned import warn_user

__all__ = ["predict"]


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
    if newdata is None:
        target, (index, rows), size = done.panel, order, int(order[1].max()) + 1
        labels = pd.Series(index, index=rows)
    else:
        design = rebuild(spec, newdata, outcome=False)
        target, rows, size = Panel.from_design(design), design.rows, len(newdata)
        labels, departures = pd.Series(design.index, index=rows), design.departures
    past = _history(done, spec, target, history)
    if wanted.new_groups == "error" and done.panel.several:
        _refuse_unknown_levels(done.panel.factors(len(done.model.latents)), target)
    elif wanted.new_groups == "error":
        _refuse_unknown(spec, target, past, history is None)
    columns = with_interval(Target(done, past, target, seed), info, wanted)
    frame = pd.DataFrame({name: value.numpy() for name, value in columns.items()}, index=rows)
    mean = wanted.type == "mean_subject"
    frame = _estimable(frame, departures.without_random() if mean else departures)
    if newdata is None:
        frame = frame.sort_index(kind="stable")
        return frame.set_axis(labels.loc[frame.index].to_numpy(), axis=0)
    frame = frame.reindex(range(size))  # rows without covariates come back as missing
    original = getattr(newdata, "index", None)
    return frame if original is None or callable(original) else frame.set_axis(original, axis=0)


def _estimable(frame: pd.DataFrame, departures: Departures) -> pd.DataFrame:
    """Rows that the outcomes of the fit say nothing about come back as missing, with a word."""
    if not departures.message:
        return frame
    warn_user(f"predict(): {departures.message}")
    return frame[departures.estimable].reindex(frame.index)


def _refuse_unknown(spec: Specification, target: Panel, past: Panel, of_fit: bool) -> None:
    """new_groups="error": subjects without any outcome behind their prediction."""
    empty = target.ids[(past.count == 0).numpy()]
    if len(empty):
        group = spec.parsed().latents[0].group
        where = "the fit" if of_fit else "history"
        raise ValueError(
            f"`{group}` has {len(empty)} levels without outcomes in {where}, for example "
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


def _history(done: Estimate, spec: Specification, target: Panel, history: Any) -> Panel:
    """Observed outcomes of the subjects of ``target``, in its order."""
    if done.panel.several:
        if history is not None:
            raise ValueError(
                "history= is for models with one grouping factor; with several, levels of the fit "
                "are predicted from the data of the fit and new ones get the average"
            )
        return done.observed
    if history is None:
        return done.observed.align(target.ids)
    return outcomes_seen(done, spec, history).align(target.ids)
