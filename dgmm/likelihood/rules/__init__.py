"""Node rules: one per file; the word in ``likelihood=`` is its ``name``."""

from dgmm.likelihood.rules.base import NodeRule
from dgmm.likelihood.rules.importance import Importance
from dgmm.likelihood.rules.laplace import Laplace
from dgmm.likelihood.rules.quadrature import Quadrature
from dgmm.likelihood.rules.spherical import Spherical

__all__ = ["Importance", "Laplace", "NodeRule", "Quadrature", "Spherical"]
