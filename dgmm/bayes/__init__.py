"""Draws from the posterior of mixed models: Gibbs sampling and Metropolis-within-Gibbs.

priors, deviations (of one standard deviation) -> layout (columns and factors), products (their
sums) -> specified (priors of a model), centring -> conditionals, one a file -> sampler (a state, a
sweep), gibbs, metropolis -> run (from the start to the draws) -> chains (what a fit keeps) ->
reported (scalars) -> convergence (whether they can be used).
"""

from dgmm.bayes.chains import Chains, collect, resumed
from dgmm.bayes.deviations import half_normal, known, log_normal
from dgmm.bayes.from_prior import drawn_from_prior
from dgmm.bayes.priors import (
    CovariancePrior,
    HalfT,
    InverseGamma,
    InverseWishart,
    NormalPrior,
    Prior,
    half_t,
    inv_gamma,
    inv_wishart,
    normal,
    prior,
)
from dgmm.bayes.run import Plan, Run, advance, begin, prepare, sampler_of
from dgmm.bayes.sampler import Sampler
from dgmm.bayes.sampling import Sampling

__all__ = [
    "Chains",
    "CovariancePrior",
    "HalfT",
    "InverseGamma",
    "InverseWishart",
    "NormalPrior",
    "Plan",
    "Prior",
    "Run",
    "Sampler",
    "Sampling",
    "advance",
    "begin",
    "collect",
    "drawn_from_prior",
    "half_normal",
    "half_t",
    "inv_gamma",
    "inv_wishart",
    "known",
    "log_normal",
    "normal",
    "prepare",
    "prior",
    "resumed",
    "sampler_of",
]
