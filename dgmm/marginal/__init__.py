"""log p(y; theta): exact, Laplace, by quadrature, by importance sampling. One rule per file.

With several grouping factors: sparse (exact) and joint (Laplace), both on cells.
"""

from dgmm.marginal.base import Frozen, NodeRule, freeze, mean_scores, modes
from dgmm.marginal.classical import ClassicalLikelihood
from dgmm.marginal.importance import Importance
from dgmm.marginal.laplace import Laplace
from dgmm.marginal.quadrature import Quadrature

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
