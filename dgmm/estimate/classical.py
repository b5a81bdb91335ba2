"""Stage 0: models without networks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgmm.estimate.amortised import fit_amortised, maximise
from dgmm.estimate.finish import choose_rule, fresh_likelihood
from dgmm.estimate.paths import fit_paths
from dgmm.estimate.pilot import start_theta
from dgmm.estimate.records import Estimate, Request
from dgmm.latent import Pattern
from dgmm.likelihood import Importance, freeze, gaussian
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = ["exact_theta", "fit_exact", "fit_linear", "subject_log_likelihood"]


def fit_linear(
    model: Model, panel: Panel, eta: Tensor, request: Request, theta: Theta | None = None
) -> Estimate:
    """Stage 0 (or the VAE route) for a classical model, from ``theta`` if one is near."""
    if request.likelihood == "exact" and request.method != "vae":
        return fit_exact(model, panel, request)
    generator = torch.Generator().manual_seed(request.seed)
    starts = model.starts(start_theta(model, panel, eta, generator)) if theta is None else [theta]
    theta, rule = starts[0], choose_rule(model, request)
    if request.method == "vae":
        return fit_amortised(model, panel, theta, rule, request, generator)
    if model.serial:
        return fit_paths(model, panel, starts, rule, request)
    return maximise(model, panel, theta, rule, request)


def fit_exact(model: Model, panel: Panel, request: Request) -> Estimate:
    """Profile (restricted) maximum likelihood from sufficient statistics."""
    stats = gaussian.statistics(model, panel.observed_rows())
    profile = gaussian.maximise(stats, reml=request.method == "reml")
    theta = exact_theta(model, profile)
    return Estimate(
        model,
        theta,
        panel,
        request.method,
        "exact",
        None,
        profile.log_likelihood,
        0.0,
        0.0,
        profile.evaluations,
        profile.converged,
        vcov_gls=torch.from_numpy(profile.vcov_gls),
        statistics=stats,
        messages=() if profile.converged else (f"optimiser: {profile.message}",),
    )


def exact_theta(model: Model, profile: gaussian.Profile) -> Theta:
    """theta of a profile."""
    pattern = Pattern.of(model.latents)
    return {
        "beta": torch.from_numpy(profile.beta),
        **pattern.to_theta(profile.Lambda[pattern.row, pattern.column]),
        "extra": torch.tensor([profile.log_sigma], dtype=torch.float64),
    }


def subject_log_likelihood(done: Estimate, panel: Panel, request: Request) -> Tensor:
    """l_i of an estimate on any panel of the same model, (n,)."""
    if done.likelihood == "exact":
        return gaussian.per_subject(done.model, done.theta, panel)
    rule = done.rule if done.rule is not None else Importance(request.control.draws)
    if isinstance(rule, Importance):
        return fresh_likelihood(done.model, done.theta, panel, rule, request)[0]
    return freeze(
        done.model, done.theta, panel, rule, np.random.default_rng(request.seed)
    ).per_subject(done.theta)
