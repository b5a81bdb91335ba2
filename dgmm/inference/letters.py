"""Compact letters: means that share one have not been told apart.

Begin with one set of all means. For every pair told apart, a set that holds both becomes two, each
without one of them; a set inside another is left out. Piepho (2004), J. Computational and Graphical
Statistics 13, 456-466.
"""

from __future__ import annotations

from collections.abc import Iterable
from string import ascii_lowercase

__all__ = ["compact_letters"]


def compact_letters(size: int, apart: Iterable[tuple[int, int]]) -> list[str]:
    """The letters of ``size`` means, of which some pairs of positions have been told apart."""
    sets: list[frozenset[int]] = [frozenset(range(size))]
    for i, j in apart:
        split: list[frozenset[int]] = []
        for one in sets:
            split += [one - {i}, one - {j}] if {i, j} <= one else [one]
        unique = list(dict.fromkeys(split))
        sets = [one for one in unique if not any(one < other for other in unique)]
    order = sorted(sets, key=sorted)
    return ["".join(_letter(k) for k, one in enumerate(order) if at in one) for at in range(size)]


def _letter(k: int) -> str:
    """a, ..., z, then a1, b1, ..."""
    round_, place = divmod(k, len(ascii_lowercase))
    return ascii_lowercase[place] + (str(round_) if round_ else "")
