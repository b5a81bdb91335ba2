"""Grouping factors: at least one, and data that can tell its effects from the residual."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from dgmm.design import Design, Grouping
from dgmm.families import Family

__all__ = ["check_groups", "factors"]


def factors(design: Design) -> list[str]:
    """The grouping factors, each once."""
    return list(dict.fromkeys(block.grouping.name for block in design.latents))


def check_groups(design: Design, family: Family) -> None:
    names = factors(design)
    if not names:
        raise ValueError(
            f"{design.formula.text!r} has no random part; add one, for example (1 | id). For "
            "independent rows use a regression package such as statsmodels."
        )
    if len(names) > 1:
        _check_several(design, names)
    observed = design.observed
    y = (design.y / design.trials)[observed]
    if np.all(y == y[0]):
        raise ValueError(
            f"the outcome `{design.formula.response.text}` is {y[0]:g} in every observed row: "
            "there is nothing to explain"
        )
    seen = int(observed.sum())
    for name in names:
        blocks = [block for block in design.latents if block.grouping.name == name]
        effects = sum(len(block.columns.names) for block in blocks)
        levels = np.count_nonzero(np.bincount(blocks[0].grouping.codes[observed]))
        if not family.repeats and not design.ratio and seen <= levels * effects:
            raise ValueError(
                f"{seen} observed outcomes cannot tell {effects} random effects for each of "
                f"{levels} levels of `{name}` from the residual; use fewer random effects"
            )


def _check_several(design: Design, names: list[str]) -> None:
    """Networks have one grouping factor; factors that divide the rows alike are one factor."""
    formula, listed = design.formula, ", ".join(f"`{name}`" for name in names)
    for one, two in combinations(design.latents, 2):
        shared = set(one.columns.names) & set(two.columns.names)
        if one.grouping.name != two.grouping.name and shared and _alike(one.grouping, two.grouping):
            raise ValueError(
                f"`{one.grouping.name}` and `{two.grouping.name}` divide the rows alike, so that "
                f"{one.term.text} and {two.term.text} cannot be told apart; keep one of them"
            )
    paths = [term for term in formula.latents if term.syntax.serial]
    if paths:
        raise ValueError(
            f"{paths[0].text} is a path, and the formula has {len(names)} grouping factors "
            f"({listed}): paths are fitted with one. Keep `{paths[0].group}` alone, or leave the "
            "path out"
        )
    random = [term for term in formula.latents if term.syntax.neural]
    deep = [*(term.text for term in formula.networks), *(term.text for term in random)]
    if deep:
        kept = random[0].group if random else names[0]
        raise ValueError(
            f"{deep[0]} is a network, and the formula has {len(names)} grouping factors "
            f"({listed}): networks are fitted with one. Make the term linear, or keep one factor, "
            f"for example `{kept}`."
        )


def _alike(one: Grouping, two: Grouping) -> bool:
    """Whether two factors are the same partition of the rows."""
    pairs = np.unique(np.stack([one.codes, two.codes]), axis=1).shape[1]
    return pairs == len(np.unique(one.codes)) == len(np.unique(two.codes))
