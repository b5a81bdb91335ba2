"""The columns of `cre(id, ~ x + dnn(x), scale=~ z)`: each becomes what the rows of a subject say.

Linear terms join the fixed columns, so that every likelihood knows them and their coefficients are
never penalised; inputs of networks and the terms of a scale are replaced where they stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dgmm.design.between import Between, Subjects, beside
from dgmm.design.encoding import Columns
from dgmm.design.expressions import Evaluator
from dgmm.design.frame import Frame
from dgmm.design.specification import scaled
from dgmm.formula import Formula, LatentTerm
from dgmm.transforms import Factor

__all__ = ["GivenBlock", "given_columns"]


@dataclass(frozen=True)
class GivenBlock:
    """The covariates that the random intercept of a subject is given, by `cre(id, ~ x)`."""

    term: LatentTerm
    columns: Columns  # of the rows, whose means are among the fixed columns
    subjects: Subjects


def given_columns(
    formula: Formula,
    frame: Frame,
    evaluator: Evaluator,
    blocks: dict[str, Columns],
    seen: np.ndarray,
    known: Mapping[str, Between] | None,
) -> tuple[tuple[GivenBlock, ...], dict[str, Between]]:
    """Put the columns of subjects into the blocks, and return what is to be remembered of them.

    seen: (N,) bool, rows with an outcome. known: columns of the subjects of a fit, which they keep.
    """
    found: list[GivenBlock] = []
    between: dict[str, Between] = {}
    for k, (term, grouping) in enumerate(zip(formula.latents, frame.groupings, strict=True)):
        if term.given is None:
            continue
        time, moments = frame.time if frame.time_name is not None else None, tuple[str, ...]()
        if term.given.time is not None:
            time, moments = _time(term.given.time, evaluator)
        subjects = Subjects.of(grouping, seen, frame.rows, time, moments)
        own = f"given {k}"
        found.append(GivenBlock(term, blocks[own], subjects))
        nets = enumerate(formula.networks)
        inputs = [f"network {i}" for i, net in nets if net.group == term.group]
        scale = [f"basis {k}"] * scaled(term)
        for key in (own, *scale, *inputs):
            if key in between:  # a network of another term of this group
                continue
            device = term.given.device if key == own else "mundlak"
            between[key] = (
                Between.learn(blocks[key], subjects, device)
                if known is None
                else known[key].with_subjects(blocks[key], subjects)
            )
            blocks[key] = between[key].rows(blocks[key], subjects)
        blocks["fixed"] = beside(blocks["fixed"], blocks.pop(own))
    return tuple(found), between


def _time(text: str, evaluator: Evaluator) -> tuple[np.ndarray, tuple[str, ...]]:
    """The time of every row as a number; categories count by their order, and have names."""
    value = evaluator.value(text)
    if isinstance(value, Factor):
        return np.asarray(value.codes, dtype=float), tuple(str(level) for level in value.levels)
    return np.asarray(value, dtype=float), ()
