"""Markov kernels that know no model: a state, a log density, a generator go in."""

from dgmm.mcmc.kernels import Independent, Proposal, State, independence, random_walk, tune

__all__ = ["Independent", "Proposal", "State", "independence", "random_walk", "tune"]
