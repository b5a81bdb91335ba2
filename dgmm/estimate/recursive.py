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

from dgmm.encoders import Learnt, of_recursion
from dgmm.encoders.steps import Sequential, recursion_of, term_of
from dgmm.estimate.learning import learn
from dgmm.estimate.pilot import start_theta
from dgmm.estimate.records import Course, Estimate, Request
from dgmm.likelihood import Likelihood
from dgmm.likelihood.bound import ImportanceBound
from dgmm.model import Model
from dgmm.numerics.quadrature import MOST_DIMENSIONS
from dgmm.panel import Panel
from dgmm.variational.bounds import particles
from dgmm.variational.elbo import Bound, evaluate
from dgmm.variational.schedule import Schedule, schedule_for
from dgmm.variational.training import Trace

__all__ = ["cannot", "course_of", "fit_recursive"]

ANNEALED = 3
"""Share of the epochs, one in so many, over which the weight of the KL grows to 1."""

NARROW = 0.3
"""Residual standard deviation at the start, in those of the independence model: from a wide one a
decoder learns to do without the latent variables, and never comes back."""

PATIENCE = 40
"""Epochs without a better bound of subjects held out, where the control names none."""

STAGED = 8
"""Share of the epochs, one in so many, of a stage in which weights of dynamics are held."""

FEWEST = 20
"""Subjects from which some are held out."""

WATCH_DRAWS = 4
"""Of every subject held out: the KL is known in closed form given the past."""

DRAWS = 64
"""Of q in every replicate of the ELBO that is reported."""

FEW_DRAWS = 8
"""Those where b of a subject has very many elements, over which the ELBO sums as over draws."""

PARTICLES = 64


def cannot(model: Model, request: Request) -> str | None:
    """Why this is not the way; None when it is."""
    return None if model.recursive else "there is no recursion"


def fit_recursive(likelihood: Likelihood, eta: Tensor, request: Request) -> Estimate:
    """Learn a model with a recursion.

    eta: of the independence model at the observed rows, (N_obs,), of several outcomes one after
        the other.

    Raises:
        ValueError: a method or a likelihood that the model does not have.
    """
    model, panel = likelihood.model, likelihood.panel
    if request.method not in ("ml", "vae") or not isinstance(likelihood, ImportanceBound):
        given = "method" if request.method not in ("ml", "vae") else "likelihood"
        raise ValueError(
            f"{given}={getattr(request, given)!r} is not for {recursion_of(model).effect_name}, of "
            "which a bound is known and no likelihood: leave it out"
        )
    seen = likelihood.kept
    generator = torch.Generator().manual_seed(request.seed)
    encoder = of_recursion(model)
    theta, phi = start_theta(model, panel, eta, generator), encoder.initial(generator)
    for outcome in model.outcomes:
        at = outcome.one_number("log_sigma")
        if at is not None:
            theta[f"{outcome.key}extra"][at] += math.log(NARROW)
    trace: Trace | None = None
    for stage, held in _stages(model, request, seen.n):
        theta, phi, own = learn(
            model, encoder, theta, phi, seen, stage, generator, request, held=held
        )
        trace = own if trace is None else trace.followed_by(own)
    found = likelihood.reached(theta, Learnt(encoder, phi))
    draws = DRAWS if model.k <= MOST_DIMENSIONS else FEW_DRAWS
    bound = evaluate(model, encoder, theta, phi, seen, request.seed, draws)
    return replace(
        Estimate.of(found, "vae"),
        encoder=encoder,
        phi=phi,
        trace=trace,
        elbo=float(bound.elbo.sum()),
        elbo_error=bound.mc_error,
        course=course_of(model, encoder, found.theta, phi, seen, bound, request.seed),
    )


def _stages(
    model: Model, request: Request, subjects: int
) -> list[tuple[Schedule, tuple[str, ...]]]:
    """Schedules, each with the parameters that it holds."""
    schedule = replace(schedule_for(request.control, subjects), watch_draws=WATCH_DRAWS)
    if schedule.weighted:  # all of q learns at once: no part of it is the skeleton
        schedule = replace(schedule, skeleton_alone=0.0)
    if not schedule.kl_anneal:  # q begins at the prior, and a decoder learns to do without b
        schedule = replace(schedule, kl_anneal=schedule.epochs // ANNEALED)
    kept = schedule.average or not request.control.holdout
    if not schedule.patience and not kept and subjects >= FEWEST:
        schedule = replace(schedule, patience=PATIENCE)
    late = _late(model)
    if not late:
        return [(schedule, ())]
    first = max(1, schedule.epochs // STAGED)
    return [
        (replace(schedule, epochs=first, kl_anneal=first, patience=0), late),
        (schedule, ()),
    ]


def _late(model: Model) -> tuple[str, ...]:
    """Parameters that are held in the first stage."""
    latent, term = recursion_of(model), term_of(model) + 1
    return tuple(f"latent{term}.{name}" for name in latent.shapes() if name.startswith(latent.late))


def course_of(
    model: Model,
    encoder: Sequential,
    theta: dict[str, Tensor],
    phi: dict[str, Tensor],
    panel: Panel,
    bound: Bound,
    seed: int,
) -> Course:
    """KL and activity by step of a ``bound``, and the particle bound of all subjects."""
    term = term_of(model)
    latent = recursion_of(model)
    first = sum(one.dim for one in model.latents[:term])
    own = slice(first, first + latent.dim)
    mixing: list[Tensor] = []
    there, d = torch.zeros(panel.n, dtype=torch.long), latent.size
    for block in panel.blocks():
        with torch.no_grad():
            q = encoder.posterior(phi, model, model.prepare(theta), block)
            weights = q.mixing()
        real = q.steps.real
        there[block.subjects] = real.sum(1)
        mixing += [] if weights is None else [weights[real]]
    count = int(there.max())
    per = latent.per_step
    kl, mean = (
        table[:, own].unflatten(1, (-1, per))[:, :count, :d]
        for table in (bound.kl_by_direction, bound.mean)
    )
    has = torch.arange(count) < there[:, None]
    subjects = has.sum(0)
    every = mean[has]
    seeds = (torch.Generator().manual_seed(seed + 89 + number) for number in range(2))
    totals = torch.stack(
        [particles(model, encoder, theta, phi, panel, PARTICLES, one).sum() for one in seeds]
    )
    return Course(
        kl.sum(0) / subjects[:, None],
        subjects,
        every.square().mean(0) - every.mean(0).square(),
        float(totals.mean()),
        float(totals.std()) / math.sqrt(2),
        int(there.sum()),
        torch.cat(mixing).mean(0) if mixing else None,
    )
