"""The same model fitted again: to other outcomes, or with fewer linear columns.

Everything that refits (bootstrap, refit(), drop1()) comes through here, so there is one place that
knows how a classical model is fitted.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dgmm.estimate.classical import fit_linear
from dgmm.estimate.records import Estimate, Request
from dgmm.estimate.sampled import fit_sampled
from dgmm.likelihood import alike, choose
from dgmm.model import orthonormal_basis
from dgmm.networks import Reference
from dgmm.panel import Panel

__all__ = ["refit_estimate", "refit_subjects", "refit_without", "refit_without_effect"]


def refit_estimate(done: Estimate, request: Request, y: Tensor) -> Estimate:
    """Fit the model of ``done`` to outcomes y (N,) of its planned rows, NaN where missing."""
    if not done.model.linear:
        raise ValueError(
            "a model with dnn() is not refitted to other outcomes: its ridge and its start depend "
            "on the data. Call mixed_model() on a frame with the new outcome."
        )
    restricted = {"restricted": True} if request.method == "reml" else {}
    options = {**done.likelihood.choice(), "restricted": False, **restricted}
    likelihood = choose(done.model, done.panel.with_outcome(y), **options)
    quiet = replace(request, verbose=0)
    if done.sampled:
        return fit_sampled(likelihood, quiet)
    return fit_linear(likelihood, _start(done, likelihood.panel), quiet, theta=done.theta)


def refit_subjects(done: Estimate, request: Request, subjects: Tensor) -> Estimate:
    """Fit a classical model to some subjects (positions)."""
    panel = done.panel.select(subjects)
    quiet = replace(request, verbose=0, method="ml", missing="observed")
    return fit_linear(done.likelihood.on(panel), _start(done, panel), quiet, theta=done.theta)


def refit_without(done: Estimate, request: Request, dropped: list[int]) -> Estimate:
    """Fit again without some columns of X (positions)."""
    kept = [j for j in range(len(done.model.names)) if j not in dropped]
    model, X = done.model, done.panel.rows.X
    rows = replace(done.panel.rows, X=X[:, kept])
    panel = replace(done.panel, rows=rows)
    smaller = model.with_outcome(
        names=tuple(model.names[j] for j in kept),
        basis=orthonormal_basis(rows.X, model.unit),
        reference=Reference(model.reference.X[:, kept], model.reference.inputs),
    )
    eta = _start(done, done.panel)
    X_seen = panel.observed_rows().rows.X
    beta = torch.linalg.lstsq(X_seen, eta[:, None]).solution
    likelihood = alike(done.likelihood, smaller, panel)
    return fit_linear(likelihood, (X_seen @ beta)[:, 0], replace(request, verbose=0))


def refit_without_effect(done: Estimate, request: Request, term: int, effect: int) -> Estimate:
    """Fit again without one random effect (position) of one random part; others must remain."""
    model, rows = done.model, done.panel.rows
    smaller_latent = model.latents[term].without(effect)
    latents, ridges, entries = list(model.latents), list(model.latent_ridge), list(model.entries)
    T, basis = list(rows.T), list(rows.basis)
    terms = list(range(len(latents)))
    if smaller_latent is not None:
        latents[term], kept = smaller_latent
        T[term] = basis[term] = T[term][:, list(kept)]
    else:
        del latents[term], ridges[term], entries[term], T[term], basis[term], terms[term]
    smaller = replace(
        model, latents=tuple(latents), latent_ridge=tuple(ridges), entries=tuple(entries)
    )
    panel = replace(done.panel, rows=replace(rows, T=tuple(T), basis=tuple(basis)))
    panel = panel.regrouped(terms)
    likelihood = alike(done.likelihood, smaller, panel)
    return fit_linear(likelihood, _start(done, panel), replace(request, verbose=0))


def _start(done: Estimate, panel: Panel) -> Tensor:
    """X beta-hat at the observed rows, (N_obs,)."""
    return panel.observed_rows().rows.X @ done.model.beta(done.theta).detach()
