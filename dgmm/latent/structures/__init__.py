"""Covariances of random effects, one structure per file; the word before a bar is its ``name``."""

from __future__ import annotations

from dgmm.formula import LatentTerm, Syntax
from dgmm.latent.structures.base import Structure, orthogonal
from dgmm.runtime.registry import lookup, members

__all__ = ["Structure", "build", "orthogonal", "words"]


def words() -> dict[str, Syntax]:
    """The words that may stand in front of a bar as `word(terms | group)`."""
    return {name: one.syntax for name, one in members("dgmm.latent.structures", Structure).items()}


def build(term: LatentTerm, dim: int) -> Structure:
    """The structure of one formula term with ``dim`` columns."""
    return lookup("dgmm.latent.structures", Structure, term.covariance, "covariance").build(
        term, dim
    )
