"""log p(y; theta): exact, Laplace, by quadrature, by importance sampling. One rule per file.

With several grouping factors: sparse (exact) and joint (Laplace), both on cells.
"""

from dgmm.likelihood.adaptive import ClassicalLikelihood
from dgmm.likelihood.importance import Importance
from dgmm.likelihood.laplace import Laplace
from dgmm.likelihood.nodes import Frozen, NodeRule, freeze, mean_scores, modes
from dgmm.likelihood.quadrature import Quadrature

__all__ = [
    "ClassicalLikelihood",
    "Frozen",
    "Importance",
    "Laplace",
    "NodeRule",
    "Quadrature",
    "freeze",
    "mean_scores",
    "modes",
]
