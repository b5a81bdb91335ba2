"""p(b) and mu2(b, T): one latent structure per file; the word left of the bar is its ``name``."""

from dgmm.design import LatentBlock
from dgmm.formula import LatentTerm, Syntax
from dgmm.latent.base import Latent
from dgmm.latent.covariance import Pattern, theta_of_covariances
from dgmm.latent.kvae import KalmanCode
from dgmm.latent.law import Law, Walk
from dgmm.latent.normal import Normal
from dgmm.latent.path import Path
from dgmm.latent.records import BOUNDARY, Boundary, Chain, Component, Places, columns_of
from dgmm.latent.recursion import CALM, Recursion
from dgmm.latent.steps import Steps
from dgmm.latent.structures import Structure
from dgmm.latent.structures import words as structures
from dgmm.latent.warp import Warp
from dgmm.runtime.registry import lookup, members

__all__ = [
    "BOUNDARY",
    "CALM",
    "Boundary",
    "Chain",
    "Component",
    "KalmanCode",
    "Latent",
    "Law",
    "Normal",
    "Path",
    "Pattern",
    "Places",
    "Recursion",
    "Steps",
    "Structure",
    "Walk",
    "Warp",
    "build",
    "columns_of",
    "kind_of",
    "structures",
    "theta_of_covariances",
    "words",
]


def words() -> dict[str, Syntax]:
    """The words that may stand left of a bar as `word(terms)`."""
    found = members("dgmm.latent", Latent).items()
    return {name: one.syntax for name, one in found if one.left_of_bar}


def kind_of(term: LatentTerm) -> type[Latent]:
    """The class of a formula term."""
    return lookup("dgmm.latent", Latent, term.kind, "latent")


def build(block: LatentBlock, unit: float) -> Latent:
    """The latent structure of one formula term."""
    return kind_of(block.term).build(block, unit)
