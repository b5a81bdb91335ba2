"""Stages 1 to 4: models with networks, from the nested classical fit upwards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgmm.design import Design
from dgmm.elbo import Schedule, Trace, train
from dgmm.encoders import Encoder
from dgmm.estimate.amortised import stochastic, tied_encoder, with_encoder
from dgmm.estimate.classical import fit_linear, subject_log_likelihood
from dgmm.estimate.finish import choose_rule, conclude, fresh_likelihood
from dgmm.estimate.pilot import pilot
from dgmm.estimate.records import Estimate, HeldOut, Request, Saem
from dgmm.evidence import choose_ridge
from dgmm.marginal import Importance
from dgmm.model import Model, build_model
from dgmm.networks import Weights
from dgmm.panel import Panel
from dgmm.parameters import Theta, part
from dgmm.polish import Polished, polish
from dgmm.progress import Progress

__all__ = [
    "fit_deep",
    "hold_out",
    "is_linear_part",
    "nested_likelihood",
    "polish_deep",
    "polish_heads",
    "tied_decoder",
    "train_deep",
]


@dataclass(frozen=True)
class _Trained:
    model: Model  # centred over the subjects it was trained on
    theta: Theta
    encoder: Encoder
    phi: Weights
    trace: Trace
    account: Saem | None = None


def fit_deep(model: Model, panel: Panel, nested: Design, request: Request) -> Estimate:
    """Stages 1 to 4 of a model with networks."""
    control = request.control
    classical = replace(request, method="ml", likelihood=nested_likelihood(nested, request))
    small_unit, small_eta = pilot(nested, request.family)
    small = build_model(nested, request.family, small_unit, control.ridge)
    small_panel = Panel.from_design(nested)
    below = fit_linear(small, small_panel, small_eta, classical)
    held_out, start = None, None
    if control.holdout > 0 and panel.n >= 20:
        held_out, start = hold_out(model, panel, small, small_panel, small_eta, classical, request)
    reached = []
    for number in range(request.starts):
        seed = request.seed + 1000 * number
        first = start if number == 0 else None
        again = replace(request, seed=seed)
        trained = train_deep(model, panel, below, again, first)
        if request.missing == "saem":
            trained = _completed(trained, panel, again)
        reached.append((trained, polish_deep(trained, panel, again)))
    best = max(range(len(reached)), key=lambda j: reached[j][1].path[-1])
    trained, polished = reached[best]
    done = conclude(trained.model, panel, polished, choose_rule(model, request), request)
    done = with_encoder(done, trained.encoder, trained.phi, trained.trace, request)
    spread = tuple(run.path[-1] for _, run in reached)
    return replace(done, nested=below, held_out=held_out, start_spread=spread, saem=trained.account)


def nested_likelihood(nested: Design, request: Request) -> str:
    """The likelihood of the nested classical model."""
    if (
        not nested.parts
        and request.family.name == "gaussian"
        and request.family.link.name == "identity"
    ):
        return "exact"
    k = sum(len(block.columns.names) for block in nested.latents)
    return "quadrature" if k <= 2 else "importance"


def hold_out(
    model: Model,
    panel: Panel,
    small: Model,
    small_panel: Panel,
    small_eta: Tensor,
    classical: Request,
    request: Request,
) -> tuple[HeldOut, _Trained]:
    """Fit both models to some subjects, score both on the others."""
    rng = np.random.default_rng([request.seed, 13])
    away = np.zeros(panel.n, dtype=bool)
    away[rng.permutation(panel.n)[: max(2, round(request.control.holdout * panel.n))]] = True
    kept, left = np.flatnonzero(~away), np.flatnonzero(away)
    rows = torch.from_numpy(~away)[small_panel.observed_rows().subject]
    below = fit_linear(small, small_panel.select(kept), small_eta[rows], classical)
    trained = train_deep(model, panel.select(kept), below, request, None)
    other, small_other = panel.select(left).observed_rows(), small_panel.select(left)
    rule = Importance(request.control.draws)
    deep, _ = fresh_likelihood(trained.model, trained.theta, other, rule, request)
    plain = subject_log_likelihood(below, small_other.observed_rows(), request)
    gain = (deep - plain).numpy()
    score = HeldOut(len(left), float(gain.mean()), float(gain.std(ddof=1) / np.sqrt(len(left))))
    return score, trained


def train_deep(
    model: Model, panel: Panel, below: Estimate, request: Request, start: _Trained | None
) -> _Trained:
    """Stages 1 and 2: tie decoder and encoder to the nested model, then the ELBO.

    Half of the epochs under the starting ridge, half under the one of the evidence; a fit to a
    part of the subjects is continued for a third.
    """
    generator = torch.Generator().manual_seed(request.seed)
    control, small = request.control, model.with_reference(panel, rows=2000)
    half = control.schedule(panel.n, epochs=max(1, control.epochs // 2))
    if start is None:
        theta = tied_decoder(small, panel, below, generator)
        encoder, phi = tied_encoder(small, theta, panel, request.encoder, generator)
        state = _Trained(small, theta, encoder, phi, Trace((), 0.0, 0))
        state = _segment(state, panel, half, request, generator)
        schedule = replace(half, kl_anneal=0)
    else:
        small = small.with_ridge({name: start.model.ridge_of(name) for name in model.penalised()})
        state = replace(start, model=small, theta=small.absorb(start.theta, start.model))
        schedule = replace(half, epochs=max(1, control.epochs // 3), kl_anneal=0)
    state = _segment(state, panel, schedule, request, generator)
    full = state.model.with_reference(panel)
    return replace(state, model=full, theta=full.absorb(state.theta, state.model))


def _segment(
    state: _Trained,
    panel: Panel,
    schedule: Schedule,
    request: Request,
    generator: torch.Generator,
) -> _Trained:
    """Some epochs, then the ridge by evidence."""
    observed = panel.observed_rows()
    with Progress(request.verbose, schedule.epochs, "ELBO") as bar:
        theta, phi, trace = train(
            state.model,
            state.encoder,
            state.theta,
            state.phi,
            observed,
            schedule,
            generator,
            progress=bar,
        )
    trace = Trace(state.trace.elbo + trace.elbo, trace.gradient, state.trace.epochs + trace.epochs)
    model = choose_ridge(state.model, theta, observed, request.seed)
    return _Trained(model, theta, state.encoder, phi, trace)


def _completed(trained: _Trained, panel: Panel, request: Request) -> _Trained:
    """The stage of missing="saem" after the ELBO."""
    generator = torch.Generator().manual_seed(request.seed + 7)
    model, theta, encoder, phi = trained.model, trained.theta, trained.encoder, trained.phi
    theta, phi, account = stochastic(model, panel, theta, encoder, phi, request, generator)
    return replace(trained, theta=theta, phi=phi, account=account)


def tied_decoder(model: Model, panel: Panel, below: Estimate, generator: torch.Generator) -> Theta:
    """theta of the deep model that gives the profiles of the nested fit."""
    ready = below.model.prepare(below.theta)
    target = below.model.mu1(ready, below.panel.rows) - below.panel.rows.offset
    seen = panel.rows
    theta: Theta = {"beta": torch.zeros(len(model.names), dtype=torch.float64)}
    columns = [seen.X]
    for network, inputs in zip(model.networks, seen.inputs, strict=True):
        columns.append(network.standardise(inputs)[:, list(network.linear)] * network.unit)
    coefficient = torch.linalg.lstsq(
        torch.cat(columns, dim=1), target[:, None], driver="gelsd"
    ).solution[:, 0]
    first = len(model.names)
    for i, network in enumerate(model.networks, 1):
        weights = network.network.initial(generator, last=0.02)
        weights["skip"] = coefficient[first : first + len(network.linear)]
        first += len(network.linear)
        theta |= {f"dnn{i}.{name}": value for name, value in weights.items()}
    for i, (latent, old) in enumerate(zip(model.latents, below.model.latents, strict=True), 1):
        prefix = f"latent{i}."
        skip, T = old.skip(part(below.theta, prefix)), seen.T[i - 1]
        tied = latent.tied(skip @ skip.T, T.T @ T / len(T), generator)
        theta |= {f"{prefix}{name}": value for name, value in tied.items()}
    theta["extra"] = below.theta["extra"]
    # what the silent networks leave goes to the linear columns
    rest = target - (model.mu1(model.prepare(theta), seen) - seen.offset)
    theta["beta"] = torch.linalg.lstsq(seen.X @ model.basis, rest[:, None]).solution[:, 0]
    # least squares may differ in the last bit from call to call; rounded, runs repeat exactly
    return {name: value.float().double() for name, value in theta.items()}


def is_linear_part(name: str) -> bool:
    """beta, extra parameters, linear latent parameters and skips: all but the networks' layers."""
    return name.rpartition(".")[2][:1] not in ("A", "a")


def polish_heads(done: Estimate, panel: Panel, request: Request) -> Polished:
    """Linear parts and last layers fitted to other subjects, the hidden layers held."""
    rule = Importance(request.control.polish_draws)
    return polish(
        done.model,
        done.theta,
        panel.observed_rows(),
        rule,
        request.seed,
        free=done.model.head(),
        tolerance=request.control.tolerance,
    )


def polish_deep(trained: _Trained, panel: Panel, request: Request) -> Polished:
    """Stage 3: beta, Lambda, extra parameters; network weights too while they are few."""
    full = trained.model
    free = [name for name in full.packing.shapes if is_linear_part(name)]
    if full.packing.size - full.packing.only(free).size <= request.control.polish_weights:
        free = list(full.packing.shapes)
    rule: Any = choose_rule(full, request)
    if isinstance(rule, Importance):
        rule = Importance(request.control.polish_draws)
    with Progress(request.verbose, 12, "marginal likelihood") as bar:
        return polish(
            full,
            trained.theta,
            panel.observed_rows(),
            rule,
            request.seed,
            free=free,
            rounds=12 if request.control.polish else 0,
            tolerance=request.control.tolerance,
            progress=bar,
        )
