"""Outcomes without noise about their path, dispersion="~ 0"."""

from __future__ import annotations

from dgmm.design import Design
from dgmm.families import Family

__all__ = ["check_noiseless", "leaves_none"]


def leaves_none(dispersion: str | None) -> bool:
    """Whether dispersion= says, as in glmmTMB, that there is no noise."""
    return dispersion is not None and dispersion.strip().removeprefix("~").strip() == "0"


def check_noiseless(design: Design, family: Family) -> None:
    """Refuse formulas without a path, and weights of noise that is not there.

    Raises:
        ValueError: there is no path, or weights are given.
    """
    if family.noise:
        return
    if not any(term.syntax.serial for term in design.formula.latents):
        raise ValueError(
            "dispersion='~ 0' leaves no noise, and the formula has no path to vary in its place: "
            "add one, as in (ou(time) | id)"
        )
    if not bool((design.weights[design.observed] == 1).all()):
        raise ValueError(
            "weights= divide the variance of the noise, and dispersion='~ 0' leaves none: leave "
            "one of them out"
        )
