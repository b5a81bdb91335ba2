"""log p(y; theta), one engine per file: exact, Laplace, by quadrature, by importance sampling.

base (what every member answers), choose (the words), structured (restricted covariances, by the
member for free ones), then the members: gaussian, crossed_gaussian, crossed_laplace, filter,
filter_laplace, filter_sampled, adaptive, numerical; rules (nodes), and the numerics beneath. Of
paths: packed (rows), innovations, filtered (l of theta), filter_search, states (the posterior), and
for other families state_modes, state_laplace, state_importance.
"""

from dgmm.likelihood.answers import Each, Observed
from dgmm.likelihood.base import Integration, Likelihood, Maximum, Point, Smooth
from dgmm.likelihood.choose import MEMBERS, WORDS
from dgmm.likelihood.nodes import Frozen, freeze, mean_scores, places
from dgmm.likelihood.posterior import Effects, Posterior, Predictive
from dgmm.likelihood.rules import Importance, Laplace, NodeRule, Quadrature, Spherical
from dgmm.likelihood.structured import Within, alike, choose

__all__ = [
    "MEMBERS",
    "WORDS",
    "Each",
    "Effects",
    "Frozen",
    "Importance",
    "Integration",
    "Laplace",
    "Likelihood",
    "Maximum",
    "NodeRule",
    "Observed",
    "Point",
    "Posterior",
    "Predictive",
    "Quadrature",
    "Smooth",
    "Spherical",
    "Within",
    "alike",
    "choose",
    "freeze",
    "mean_scores",
    "places",
]
