"""Markov kernels that know no model: a state, a log density, random numbers go in."""

from dgmm.mcmc.kernels import Independent, Proposal, State, independence, random_walk, tune
from dgmm.mcmc.steps import draw_inverse_gamma, draw_inverse_wishart, draw_normal
from dgmm.mcmc.streams import Streams

__all__ = [
    "Independent",
    "Proposal",
    "State",
    "Streams",
    "draw_inverse_gamma",
    "draw_inverse_wishart",
    "draw_normal",
    "independence",
    "random_walk",
    "tune",
]
