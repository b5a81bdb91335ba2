"""Rows of two fits, paired by what stands in them, to see whether both have the same data.

A frame that was sorted is the same data: rows are paired by their position in the frame where that
fits, else by outcome, weight, offset, groups and the covariates that both models have. Rows that
agree in all of these are interchangeable in the smaller model.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dgmm.inference.nesting import Candidate

__all__ = ["paired"]


def paired(one: Candidate, two: Candidate) -> tuple[Candidate, Candidate]:
    """Two candidates in a common order of their rows.

    Raises:
        ValueError: the data are not the same, naming what differs and in how many rows.
    """
    names = f"`{one.label}` and `{two.label}`"
    if one.nobs != two.nobs:
        gaps = [f"`{c.label}`: {c.left_out}" for c in (one, two) if c.left_out.rows]
        raise ValueError(
            f"the fits use {one.nobs} and {two.nobs} observed outcomes ({names}): a likelihood "
            "ratio needs the same rows. "
            + (f"{'; '.join(gaps)}. " if gaps else "")
            + "Fit both to the rows that are complete in all variables."
        )
    if one.summed or two.summed:
        _check_sums(one, two)
        return one, two
    columns = _essential(one), _essential(two)
    orders = [np.argsort(c.rows[c.order], kind="stable") for c in (one, two)]
    positions = [c.rows[c.order][order] for c, order in zip((one, two), orders, strict=True)]
    different = _different(columns, orders)
    if different or not np.array_equal(*positions):
        whole = _with_shared(one, columns[0], two), _with_shared(two, columns[1], one)
        content = [np.lexsort([*own.values()][::-1]) for own in whole]
        if _different(whole, content):
            missed = len(np.setdiff1d(*positions))
            different = different or {"rows": missed}
            listed = ", ".join(f"the {what} in {count}" for what, count in different.items())
            raise ValueError(
                f"the data of the fits differ ({names}), of {one.nobs} places {listed}: "
                "log-likelihoods of different data cannot be compared"
            )
        orders = content
    return replace(one, order=one.order[orders[0]]), replace(two, order=two.order[orders[1]])


def _check_sums(one: Candidate, two: Candidate) -> None:
    """Refuse fits of rows that are not in memory whose outcomes differ in what is known of them."""
    names = f"`{one.label}` and `{two.label}`"
    ours, theirs = one.estimate.panel.sums, two.estimate.panel.sums
    if ours is None or theirs is None:
        raise ValueError(
            f"one of the fits ({names}) has its rows in memory and the other has not: whether "
            "their data are the same cannot be seen. Fit both to the same data="
        )
    alike = np.allclose(ours.outcome, theirs.outcome, rtol=1e-9, atol=0.0)
    if not alike or len(ours.count) != len(theirs.count):
        raise ValueError(
            f"the data of the fits differ ({names}), by the mean and the spread of their outcomes "
            "or by the number of groups: log-likelihoods of different data cannot be compared"
        )


def _essential(one: Candidate) -> dict[str, np.ndarray]:
    """The numbers that the density depends on, (n,) each, by name."""
    rows, at = one.estimate.panel.rows, one.order
    return {
        "outcomes": rows.data.y.numpy()[at],
        "numbers of trials": rows.data.trials.numpy()[at],
        "prior weights": rows.data.weights.numpy()[at],
        "offsets": rows.offset.numpy()[at],
    }


def _with_shared(
    one: Candidate, columns: dict[str, np.ndarray], two: Candidate
) -> dict[str, np.ndarray]:
    """These columns with the covariates and groups that another candidate has, too."""
    panel, found = one.estimate.panel, dict(columns)
    for name in sorted(one.covariates.keys() & two.covariates.keys()):
        found[f"values of {name}"] = one.covariates[name].sort_key()[one.order]
    levels = panel.rows.level if panel.several else (panel.subject,)
    own = dict(zip(one.groups, levels, strict=True))
    for name in sorted(own.keys() & set(two.groups)):
        found[f"levels of {name}"] = own[name].numpy()[one.order]
    return found


def _different(
    columns: tuple[dict[str, np.ndarray], dict[str, np.ndarray]], orders: list[np.ndarray]
) -> dict[str, int]:
    """In how many rows the columns differ, those that do."""
    left, right = (
        {k: v[order] for k, v in own.items()} for own, order in zip(columns, orders, strict=True)
    )
    counts = {
        name: int((~np.isclose(left[name], right[name], rtol=1e-12, atol=0.0)).sum())
        for name in left
    }
    return {name: count for name, count in counts.items() if count}
