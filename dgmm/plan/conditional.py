"""What of cre() the data cannot say, or says wrongly: words for the user, nothing is refused."""

from __future__ import annotations

import numpy as np

from dgmm.design import Design, GivenBlock
from dgmm.runtime.listing import listed

__all__ = ["of_conditional", "order_of_rows"]

SAME = 0.95
"""Share of the rows with one before them in which a column is the outcome of that one."""


def order_of_rows(design: Design) -> list[str]:
    """What stands for the time of `cre(device="chamberlain")` where none is named."""
    return [
        f"{one.term.text}: rows of a `{one.subjects.group}` stand for its times in the order of "
        "the data; name the time by time="
        for one in design.given
        if one.term.given is not None
        and one.term.given.device == "chamberlain"
        and one.term.given.time is None
        and design.time_name is None
    ]


def of_conditional(design: Design) -> list[str]:
    """The sentences about every `cre(id, ~ x)` of a formula."""
    found = []
    for block in design.given:
        within = _deviations(block)
        found += _constant(block, within)
        found += _still(block, within)
        found += _singletons(block)
        found += _lagged(design, block)
    return list(dict.fromkeys(found))


def _deviations(block: GivenBlock) -> np.ndarray:
    """How far the columns move within subjects, (p,), in units of their size."""
    X, code = block.columns.matrix, block.subjects.codes
    inner = X - block.subjects.means(X)[code]
    moved: np.ndarray = np.abs(inner).max(0) / np.maximum(np.abs(X).max(0), np.finfo(float).tiny)
    return moved


def _constant(block: GivenBlock, within: np.ndarray) -> list[str]:
    terms = np.array(block.columns.terms)
    still = [t for t in dict.fromkeys(terms.tolist()) if (within[terms == t] < 1e-12).all()]
    if not still:
        return []
    group, names = block.subjects.group, ", ".join(f"`{term}`" for term in still)
    own, verb = ("its mean is itself", "is") if len(still) == 1 else ("their means are they", "are")
    return [
        f"{names} {verb} constant within every `{group}`: {own}, so cre() adds nothing, and "
        "nothing is known of an effect within. Leave it out of cre(); among the fixed terms it "
        "stays an effect between subjects"
    ]


def _still(block: GivenBlock, within: np.ndarray) -> list[str]:
    """Columns that move within subjects, of which all subjects have one mean."""
    if block.term.given is None or block.term.given.device != "mundlak":
        return []
    means = block.subjects.means(block.columns.matrix)
    size = np.maximum(np.abs(block.columns.matrix).max(0), np.finfo(float).tiny)
    alike = (np.ptp(means, axis=0) < 1e-12 * size) & (within >= 1e-12)
    if not alike.any():
        return []
    names = listed([f"`{n}`" for n, one in zip(block.columns.names, alike, strict=True) if one], 5)
    return [
        f"the means of {names} do not vary between `{block.subjects.group}`, as those of time "
        "dummies do not in a balanced panel: cre() has nothing to correct there, and leaves them "
        "out"
    ]


def _singletons(block: GivenBlock) -> list[str]:
    own = block.subjects
    count = np.bincount(own.codes[own.seen], minlength=len(own.keys))
    single, every = int((count == 1).sum()), int((count > 0).sum())
    if not single:
        return []
    return [
        f"{single} of {every} `{own.group}` have one row: they say nothing of effects within, and "
        "their means are their rows"
    ]


def _lagged(design: Design, block: GivenBlock) -> list[str]:
    """Covariates that are the outcome of the row before, unless the first outcome is there too."""
    code, time = block.subjects.codes, block.subjects.time
    if design.time_name is not None and np.isfinite(design.time).all():
        time = design.time
    order = np.lexsort([time, code])
    y, code = (design.y / design.trials)[order], code[order]
    later = np.flatnonzero(code[1:] == code[:-1]) + 1
    known = later[np.isfinite(y[later - 1])]
    # two columns that are hardly ever anything but zero are alike in nearly all rows
    values, count = np.unique(y[known - 1], return_counts=True)
    telling = known[y[known - 1] != values[count.argmax()]] if len(known) else known
    if len(telling) < 3:
        return []
    first = np.flatnonzero(np.append(True, code[1:] != code[:-1]))
    lags: list[str] = []
    others: list[np.ndarray] = []
    for columns in (design.fixed, block.columns):
        for name, column in zip(columns.names, columns.matrix[order].T, strict=True):
            if all(_alike(column[at], y[at - 1]) for at in (known, telling)):
                lags.append(name)
                start = column[first]
            elif _alike(column, column[first][np.cumsum(np.isin(np.arange(len(code)), first)) - 1]):
                others.append(column[first])
    if not lags or any(_alike(one, start) for one in others):
        return []
    name, group = lags[0], block.subjects.group
    return [
        f"`{name}` is the outcome of the row before: it is not strictly exogenous, and with few "
        f"rows a `{group}` its coefficient within is biased downwards, and those of others with it "
        "(Nickell 1981, Econometrica 49, 1417-1426). Leave out the first row of every subject, "
        f"take `{name}` out of cre(), and add the outcome of that row, y_i0, as a fixed term "
        "(Wooldridge 2005, J. Applied Econometrics 20, 39-54)"
    ]


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two columns are equal in nearly all rows."""
    return bool(np.isclose(one, other, rtol=1e-9, atol=0).mean() >= SAME)
