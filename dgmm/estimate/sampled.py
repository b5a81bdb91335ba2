"""Draws from the posterior in place of a maximum: method="gibbs"."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dgmm.bayes import Chains, Plan, Run, advance, begin, collect, prepare, resumed, sampler_of
from dgmm.bayes.convergence import convergence
from dgmm.bayes.reported import posterior_mean
from dgmm.bayes.sampler import Sampler
from dgmm.estimate.records import Estimate, Request
from dgmm.likelihood import Likelihood
from dgmm.model import Model
from dgmm.runtime.progress import Progress

__all__ = ["cannot", "fit_sampled", "more_draws"]


def cannot(model: Model, request: Request) -> str | None:
    """Why the posterior is not sampled; None when it is."""
    return None if request.method == "gibbs" else "method='gibbs' was not asked for"


def fit_sampled(likelihood: Likelihood, request: Request) -> Estimate:
    """Sample the posterior of a model; theta-hat is its mean."""
    how = request.sampling
    sampler = prepare(likelihood.model, likelihood.panel, how.prior, request.seed)
    plan = Plan.of(sampler, how.chains, how.warmup, how.draws)
    workers = min(request.control.workers or 1, how.chains)
    groups = np.array_split(np.arange(how.chains), workers)
    runs = [begin(sampler, request.seed, own.tolist()) for own in groups]
    chains = _advanced(sampler, runs, plan, request)
    return _estimate(likelihood, chains)


def more_draws(done: Estimate, request: Request, draws: int) -> Estimate:
    """The estimate from further draws of the same chains, the checkpoint that of the request."""
    old = done.chains
    assert old is not None
    prior = request.sampling.prior
    sampler = sampler_of(done.model, done.panel, prior, old.inside)
    plan = replace(Plan.of(sampler, old.chains, 0, draws), draws=draws)
    runs = resumed(old, len(sampler.layout.factors))
    new = _advanced(sampler, runs, plan, request)
    return _estimate(done.likelihood, old.followed_by(new))


def _advanced(sampler: Sampler, runs: list[Run], plan: Plan, request: Request) -> Chains:
    total = plan.warmup + plan.draws
    with Progress(request.verbose, total, "sampling") as bar:
        runs = advance(sampler, runs, plan, request.checkpoint, bar.update)
    return collect(sampler, runs, plan, request.seed)


def _estimate(likelihood: Likelihood, chains: Chains) -> Estimate:
    model, panel = likelihood.model, likelihood.panel
    theta = posterior_mean(model, chains.flat)
    factors = panel.factors(len(model.latents))
    names = {term: factor.name for factor in factors for term in factor.terms}
    verdict = convergence(model, chains, [names[i] for i in range(len(model.latents))])
    return Estimate(
        likelihood=likelihood,
        theta=theta,
        log_likelihood=likelihood.value(theta),
        mc_error=0.0,
        decrement=0.0,
        evaluations=chains.chains * (chains.warmup + chains.draws),
        converged=verdict.usable,
        messages=verdict.messages,
        method="gibbs",
        chains=chains,
    )
