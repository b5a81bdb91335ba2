"""log p(y; theta): exact, by quadrature, by importance sampling. One rule per file.

With several grouping factors: sparse (exact) and joint (Laplace), both on cells.
"""

from dgmm.marginal.base import Frozen, NodeRule, freeze, modes
from dgmm.marginal.importance import Importance
from dgmm.marginal.quadrature import Quadrature

__all__ = ["Frozen", "Importance", "NodeRule", "Quadrature", "freeze", "modes"]
