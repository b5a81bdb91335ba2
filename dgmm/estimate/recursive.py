"""Models with a recursion left of a bar: theta and q learnt together on the ELBO.

1  theta of the independence model, networks near silent; q near the prior
2  Adam on the ELBO over mini-batches of subjects, until subjects held out are bounded no better
3  the importance-weighted bound and the particle bound of all subjects at theta-hat
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from dgmm.encoders import Learnt, Stepwise
from dgmm.encoders.stepwise import term_of
from dgmm.estimate.pilot import start_theta
from dgmm.estimate.records import Course, Estimate, Request
from dgmm.likelihood import Likelihood
from dgmm.likelihood.bound import ImportanceBound
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.runtime.progress import Progress
from dgmm.variational.bounds import particles
from dgmm.variational.elbo import Bound, evaluate
from dgmm.variational.schedule import schedule_for
from dgmm.variational.training import train

__all__ = ["cannot", "course_of", "fit_recursive"]

PATIENCE = 40
"""Epochs without a better bound of subjects held out, where the control names none."""

FEWEST = 20
"""Subjects from which some are held out."""

PARTICLES = 128


def cannot(model: Model, request: Request) -> str | None:
    """Why this is not the way; None when it is."""
    return None if model.recursive else "there is no recursion"


def fit_recursive(likelihood: Likelihood, eta: Tensor, request: Request) -> Estimate:
    """Learn a model with a recursion.

    eta: of the independence model at the observed rows, (N_obs,).

    Raises:
        ValueError: a method or a likelihood that the model does not have.
    """
    if request.method not in ("ml", "vae") or not isinstance(likelihood, ImportanceBound):
        given = "method" if request.method not in ("ml", "vae") else "likelihood"
        raise ValueError(
            f"{given}={getattr(request, given)!r} is not for vrnn() and dmm(), of which a bound is "
            "known and no likelihood: leave it out"
        )
    model, panel, seen = likelihood.model, likelihood.panel, likelihood.kept
    generator = torch.Generator().manual_seed(request.seed)
    encoder = Stepwise.of(model)
    theta, phi = start_theta(model, panel, eta, generator), encoder.initial(generator)
    schedule = schedule_for(request.control, seen.n)
    if not schedule.patience and seen.n >= FEWEST:
        schedule = replace(schedule, patience=PATIENCE)
    with Progress(request.verbose, schedule.epochs, "ELBO") as bar:
        theta, phi, trace = train(
            model,
            encoder,
            theta,
            phi,
            seen,
            schedule,
            generator,
            progress=bar,
            checkpoint=request.checkpoint,
            device=request.device,
        )
    found = likelihood.reached(theta, Learnt(encoder, phi))
    bound = evaluate(model, encoder, theta, phi, seen, request.seed)
    return replace(
        Estimate.of(found, "vae"),
        encoder=encoder,
        phi=phi,
        trace=trace,
        elbo=float(bound.elbo.sum()),
        elbo_error=bound.mc_error,
        course=course_of(model, encoder, found.theta, phi, seen, bound, request.seed),
    )


def course_of(
    model: Model,
    encoder: Stepwise,
    theta: dict[str, Tensor],
    phi: dict[str, Tensor],
    panel: Panel,
    bound: Bound,
    seed: int,
) -> Course:
    """KL and activity by step of a ``bound``, and the particle bound of all subjects."""
    term = term_of(model)
    latent = model.latents[term]
    first = sum(one.dim for one in model.latents[:term])
    own = slice(first, first + latent.dim)
    there, d = torch.zeros(panel.n, dtype=torch.long), encoder.size
    for block in panel.blocks():
        with torch.no_grad():
            rows = model.latent_rows(model.prepare(theta), block.rows, term, 0, block.mask)
            there[block.subjects] = latent.as_steps(rows).real.sum(1)  # type: ignore[attr-defined]
    count = int(there.max())
    per = latent.dim // latent.steps  # type: ignore[attr-defined]
    kl, mean = (
        table[:, own].unflatten(1, (-1, per))[:, :count, :d]
        for table in (bound.kl_by_direction, bound.mean)
    )
    has = torch.arange(count) < there[:, None]
    subjects = has.sum(0)
    every = mean[has]
    cloud = [
        particles(
            model,
            encoder,
            theta,
            phi,
            panel,
            PARTICLES,
            torch.Generator().manual_seed(seed + 89 + number),
        )
        for number in range(2)
    ]
    totals = torch.stack([one.sum() for one in cloud])
    return Course(
        kl.sum(0) / subjects[:, None],
        subjects,
        every.square().mean(0) - every.mean(0).square(),
        float(totals.mean()),
        float(totals.std()) / math.sqrt(2),
        int(there.sum()),
    )
