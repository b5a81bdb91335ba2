"""Grouping factors: at least one, and data that can tell its effects from the residual."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np

from dgmm.design import Columns, Design, Grouping, LatentBlock, dependent_columns
from dgmm.families import Family
from dgmm.latent.structures import build as build_structure

__all__ = ["check_groups", "check_varies", "factors", "overlaps"]


def factors(design: Design) -> list[str]:
    """The grouping factors, each once."""
    return list(dict.fromkeys(block.grouping.name for block in design.latents))


def check_groups(design: Design, family: Family, residual_known: bool = False) -> None:
    """Refuse random parts that data or the structure of the model cannot tell apart."""
    names = factors(design)
    if not names:
        raise ValueError(
            f"{design.formula.text!r} has no random part; add one, for example (1 | id). For "
            "independent rows use a regression package such as statsmodels."
        )
    _check_structures(design)
    _check_apart(design)
    if len(names) > 1:
        _check_several(design, names)
    observed = design.observed
    check_varies((design.y / design.trials)[observed], design.formula.response.text)
    seen, columns = int(observed.sum()), len(design.fixed.names)
    if columns >= seen:
        raise ValueError(
            f"the fixed terms have {columns} columns for {seen} observed outcomes, which leaves "
            "nothing to estimate random effects from; use fewer terms"
        )
    for name in names:
        blocks = [block for block in design.latents if block.grouping.name == name]
        effects = sum(len(block.columns.names) for block in blocks)
        levels = np.count_nonzero(np.bincount(blocks[0].grouping.codes[observed]))
        free = not family.repeats and not design.ratio and not residual_known
        if free and seen <= levels * effects:
            raise ValueError(
                f"{seen} observed outcomes cannot tell {effects} random effects for each of "
                f"{levels} levels of `{name}` from the residual; use fewer random effects"
            )


def check_varies(y: np.ndarray, name: str) -> None:
    """Refuse an outcome that has one value.

    Raises:
        ValueError: all of the observed outcomes are alike.
    """
    if np.all(y == y[0]):
        raise ValueError(
            f"the outcome `{name}` is {y[0]:g} in every observed row: there is nothing to explain"
        )


def _check_structures(design: Design) -> None:
    """Covariances with a restriction go with linear terms: networks have a search of their own."""
    restricted = [block for block in design.latents if _linear(block) and _structured(block)]
    formula = design.formula
    deep = [term.text for term in formula.networks]
    deep += [term.text for term in formula.latents if term.syntax.neural]
    if restricted and deep:
        raise ValueError(
            f"{restricted[0].term.text} has a restricted covariance, which models with a network "
            f"({deep[0]}) do not have; write (terms | group) or (terms || group), or make the "
            "network linear"
        )


def _check_apart(design: Design) -> None:
    """Refuse an effect that stands twice on one factor, or on two that divide the rows alike.

    Of T_1 D_1 T_1' + T_2 D_2 T_2' only the sum is known where both spans hold a column.
    """
    for one, two in combinations(design.latents, 2):
        if one.term.target != two.term.target or not _linear(one) or not _linear(two):
            continue
        own = one.grouping.name == two.grouping.name
        if _structured(one) or _structured(two):
            shared = _same_span(one, two) if own else ""
        else:
            shared = _shared(one, two) if own or _alike(one.grouping, two.grouping) else ""
        if not shared:
            continue
        both = f"{one.term.text} and {two.term.text}"
        if not own:
            raise ValueError(
                f"`{one.grouping.name}` and `{two.grouping.name}` divide the rows alike, so that "
                f"{both} cannot be told apart; keep one of them"
            )
        raise ValueError(
            f"{both} both hold the effect `{shared}` of `{one.grouping.name}`: only the sum of its "
            "variances is known, not how it divides; keep it in one of them"
        )


def overlaps(design: Design) -> list[str]:
    """A sentence about every linear part whose columns a network of the same subjects has too."""
    found = []
    for one, two in product(design.latents, design.latents):
        if not _linear(one) or not two.term.syntax.neural or one.term.target != two.term.target:
            continue
        shared = _shared(two, one)
        if shared:
            found.append(
                f"{one.term.text} and {two.term.text} both hold the effect `{shared}` of "
                f"`{one.grouping.name}`: only the sum of what they say of it is known, so its "
                f"variance in {one.term.text} means nothing by itself; leave it out there"
            )
    return found


def _linear(block: LatentBlock) -> bool:
    return not block.term.syntax.neural and not block.term.syntax.serial


def _structured(block: LatentBlock) -> bool:
    """Its covariance is restricted, so that it may be told from another of the same columns."""
    return not build_structure(block.term, len(block.columns.names)).free


def _same_span(one: LatentBlock, two: LatentBlock) -> str:
    """The first effect of parts with the same columns, "" where either has more than the other."""
    first, second = one.columns, two.columns
    alike = first.matrix.shape == second.matrix.shape and np.array_equal(
        first.matrix, second.matrix
    )
    return first.names[0] if alike else ""


def _shared(one: LatentBlock, two: LatentBlock) -> str:
    """The first column of the second part that lies in the span of the first, "" for none.

    Effects without covariances are parts of one column each.
    """
    for first, second in product(_parts(one.columns, one), _parts(two.columns, two)):
        matrix = np.column_stack([first.matrix, second.matrix])
        names = [*(f"1 {name}" for name in first.names), *(f"2 {name}" for name in second.names)]
        for name in dependent_columns(matrix, tuple(names)):
            return name.partition(" ")[2]
    return ""


def _parts(columns: Columns, block: LatentBlock) -> list[Columns]:
    if block.term.covariance == "diag":
        return [columns.select([name]) for name in columns.names]
    return [columns]


def _check_several(design: Design, names: list[str]) -> None:
    """Networks have one grouping factor; factors that divide the rows alike are one factor."""
    formula, listed = design.formula, ", ".join(f"`{name}`" for name in names)
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
    if len(one.levels) != len(two.levels):
        return False
    pairs = np.unique(np.stack([one.codes, two.codes]), axis=1).shape[1]
    return pairs == len(np.unique(one.codes)) == len(np.unique(two.codes))
