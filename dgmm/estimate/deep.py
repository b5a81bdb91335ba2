"""Stages 1 to 4: models with neural random effects, from the nested classical fit upwards.

1  decoder and encoder tied to the nested classical model
2  the bound, on four fifths of the subjects; penalties of neural random effects by the marginal
   log-likelihood of the others, those of networks on the fixed side by evidence; then all subjects
3  polish of the linear parts on the marginal likelihood
4  log-likelihood with fresh nodes and its error; the encoder brought to theta-hat

Stages 1 to 3 are those of every start, with held-out subjects of its own and penalties that all
starts have in common; of stage 3 all but one take the first part only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgmm.design import Design
from dgmm.encoders import Encoder
from dgmm.estimate.amortised import stochastic, tied_encoder, with_encoder
from dgmm.estimate.control import Control
from dgmm.estimate.nested import Nested, draw_held_out
from dgmm.estimate.records import Estimate, HeldOut, Member, Request, Saem
from dgmm.estimate.starts import distances, own_request, workers_of
from dgmm.estimate.tied import tied_decoder
from dgmm.likelihood import Likelihood
from dgmm.likelihood.base import ROUNDS
from dgmm.likelihood.numerical import Sampled
from dgmm.likelihood.polish import Polished
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.penalised.evidence import choose_ridge
from dgmm.runtime.parallel import each
from dgmm.runtime.progress import Progress
from dgmm.variational.schedule import Schedule, schedule_for
from dgmm.variational.training import Trace, train

__all__ = [
    "cannot",
    "fit_deep",
    "polish_deep",
    "polish_heads",
]

GRID = 4.0
"""Ratio of neighbouring penalties that are compared on held-out subjects."""

LARGEST = 2000.0
"""Penalty beyond which the comparison does not go."""

SCORE_DRAWS = 128

FEW, NEAR = 32, 2
"""Draws and rounds of the polish that every start has; the one reported is then polished on."""

STEPS = 20
"""Evaluations in a round of it: the anchors of the nodes are worth moving before a maximum is."""

REFERENCE = 500
"""Rows over which networks are centred while they learn; afterwards over all, for the same mu1."""

FAR = 0.2
"""Nats per subject by which a start may be worse than the best and still enter predictions."""

AVERAGED = 0.5
"""Share of the steps under q="newton" whose mean iterate is the result."""


@dataclass(frozen=True)
class _Trained:
    model: Model  # centred over the subjects it was trained on
    theta: Theta
    encoder: Encoder
    phi: Weights
    trace: Trace
    account: Saem | None = None


@dataclass(frozen=True)
class _Tried:
    """A penalty that was tried: the training under it, l_i of held-out subjects."""

    trained: _Trained
    left: Tensor  # their positions
    score: Tensor
    plain: Tensor  # of the nested classical model


@dataclass(frozen=True)
class _Start:
    """What one start reached."""

    trained: _Trained
    polished: Polished

    @property
    def value(self) -> float:
        """The penalised log-likelihood."""
        return self.polished.path[-1]


def cannot(model: Model, request: Request) -> str | None:
    """Why networks do not learn on the variational bound; None when they do."""
    return "the variational bound is for networks" if model.linear else None


def fit_deep(likelihood: Likelihood, nested: Design | None, request: Request) -> Estimate:
    """Stages 1 to 4 of a model with neural random effects, start by start.

    The start of the largest penalised likelihood is reported; predictions average over all of them.
    """
    assert nested is not None
    model, panel = likelihood.model, likelihood.panel
    below = Nested.of(nested, request, "auto")
    classical = below.fit()

    numbers, workers = range(request.starts), workers_of(request)

    def search(number: int) -> tuple[_Tried, ...]:
        return _search(model, panel, below, own_request(request, number, "-search"))

    def finish(number: int) -> _Start:
        before = first[number].trained if first else None
        return _one_start(likelihood, classical, own_request(request, number), before)

    first: list[_Tried] = []
    if draw_held_out(panel, request) is not None:
        walks = list(each(search, numbers, workers))
        at = _chosen(walks)
        first = [walk[at] for walk in walks]
    reached = list(each(finish, numbers, workers))
    best = max(range(len(reached)), key=lambda j: reached[j].value)
    trained = replace(reached[best].trained, theta=reached[best].polished.theta)
    polished = polish_deep(likelihood, trained, request, near=False)
    done = Estimate.of(likelihood.under(trained.model).concluded(polished), request.method)
    done = with_encoder(done, trained.encoder, trained.phi, trained.trace, request)
    if not first and request.control.holdout > 0:
        seen = len(panel.subject[panel.observed].unique())
        note = (
            f"no comparison on held-out subjects: {seen} with an outcome are too few; the ridge of "
            "neural random effects is the one it starts with"
        )
        done = replace(done, messages=(*done.messages, note))
    near = [one for one in reached if one.value > reached[best].value - FAR * panel.n]
    return replace(
        done,
        nested=classical,
        held_out=_gain(first, panel.n) if first else None,
        start_spread=tuple(one.value for one in reached),
        saem=trained.account,
        start_distance=distances(
            [(one.trained.model, one.polished.theta) for one in reached], best, panel
        ),
        others=tuple(
            Member(one.trained.model, one.polished.theta)
            for one in near
            if one is not reached[best]
        ),
    )


def _one_start(
    likelihood: Likelihood, classical: Estimate, request: Request, before: _Trained | None
) -> _Start:
    """Stage 2 on all subjects, and the first part of stage 3."""
    panel = likelihood.panel
    trained = _train(likelihood.model, panel, classical, request, before)
    if request.missing == "saem":
        trained = _completed(trained, panel, request)
    return _Start(trained, polish_deep(likelihood, trained, request, near=True))


# -- held-out subjects ---------------------------------------------------------------------------


def _search(model: Model, panel: Panel, below: Nested, request: Request) -> tuple[_Tried, ...]:
    """Train on the subjects kept, under one penalty after the other, as long as the score rises.

    From the starting penalty up, GRID times larger each time; the last one tried is no better than
    the one before. The weights go on from one penalty to the next, and the starting penalty gets
    the epochs of its first rival too: more training alone is not to decide. The walk does not go
    down: what a small penalty spoils takes many more epochs to show.
    """
    parts = draw_held_out(panel, request)
    assert parts is not None
    kept, left = parts
    some, other = panel.select(kept), panel.select(left).observed_rows()
    plain = below.fit(kept)
    out = plain.likelihood.on(below.panel.select(left)).by(seed=request.seed)
    small = out.each(plain.theta).value

    def tried(trained: _Trained) -> _Tried:
        learning = _centred(trained, some, REFERENCE)
        further = _centred(_segment(learning, some, request, share=1 / 8, evidence=False), some)
        return _Tried(further, torch.from_numpy(left), _score(further, other, request), small)

    first = _train(model, some, plain, request, None)
    walk, trial = [tried(first)], _under(first)
    while trial is not None:
        walk.append(tried(trial))
        if walk[-1].score.mean() <= walk[-2].score.mean():
            break
        trial = _under(walk[-1].trained)
    return tuple(walk)


def _chosen(walks: Sequence[Sequence[_Tried]]) -> int:
    """The position of the penalty with the best score on the held-out subjects of all starts."""
    common = min(len(walk) for walk in walks)
    total = [sum(float(walk[j].score.mean()) for walk in walks) for j in range(common)]
    return max(range(common), key=total.__getitem__)


def _gain(first: Sequence[_Tried], n: int) -> HeldOut:
    """The gain of every subject that was held out, its mean where several starts held it out."""
    total, times = torch.zeros(2, n, dtype=torch.float64)
    for one in first:
        total[one.left] += one.score - one.plain
        times[one.left] += 1
    return HeldOut.of((total / times)[times > 0])


def _score(trained: _Trained, panel: Panel, request: Request) -> Tensor:
    """l_i of held-out subjects, with the same nodes under every penalty."""
    integration = replace(request.integration, draws=SCORE_DRAWS)
    return Sampled(trained.model, panel, integration).each(trained.theta).value


def _under(trained: _Trained) -> _Trained | None:
    """The same with the next penalty of its neural random effects; None where there is none."""
    model = trained.model
    open_ = [name for name in model.open_ridge if name.startswith("latent")]
    kappa = {name: GRID * model.ridge_of(name) for name in open_ if name in model.penalised()}
    if not kappa or max(kappa.values()) > LARGEST:
        return None
    return replace(trained, model=model.with_ridge(kappa))


# -- training ------------------------------------------------------------------------------------


def _train(
    model: Model,
    panel: Panel,
    below: Estimate,
    request: Request,
    start: _Trained | None,
) -> _Trained:
    """Stages 1 and 2, the continuation of ``start``, which was trained on some of the subjects."""
    small = model.with_reference(panel, rows=REFERENCE)
    if start is not None:
        ridges = {name: start.model.ridge_of(name) for name in model.penalised()}
        small = small.with_ridge(ridges)
        theta = small.absorb(start.theta, start.model)
        state = replace(start, model=small, theta=theta)
        state = _segment(state, panel, request, share=1 / 2)
    else:
        generator = torch.Generator().manual_seed(request.seed)
        theta = tied_decoder(small, panel, below, generator)
        encoder, phi = tied_encoder(
            small, theta, panel, request.encoder, generator, request.control.covariance
        )
        state = _Trained(small, theta, encoder, phi, Trace((), 0.0, 0))
        state = _segment(state, panel, request, share=1 / 8, anneal=True)
        state = _segment(state, panel, request, share=1 / 2)
    return _centred(state, panel)


def _centred(trained: _Trained, panel: Panel, rows: int | None = None) -> _Trained:
    """The same functions, networks centred over (at most ``rows`` rows of) a panel."""
    given = {} if rows is None else {"rows": rows}
    model = trained.model.with_reference(panel, **given)
    return replace(trained, model=model, theta=model.absorb(trained.theta, trained.model))


def _segment(
    state: _Trained,
    panel: Panel,
    request: Request,
    *,
    share: float,
    anneal: bool = False,
    evidence: bool = True,
) -> _Trained:
    """A share of the epochs, then the penalties of networks on the fixed side by evidence."""
    control, newton = request.control, _by_newton(request)
    share = share if newton else min(1.0, 2 * share)
    share *= max(latent.effort for latent in state.model.latents)
    schedule = schedule_for(control, panel.n, epochs=max(1, round(share * control.epochs)))
    rise = min(schedule.kl_anneal, schedule.epochs // 2) if anneal else 0
    cycles = max(1, min(schedule.kl_cycles, rise // 2))
    schedule = replace(schedule, kl_anneal=rise, kl_cycles=cycles)
    schedule = _newton_schedule(schedule, control) if newton else schedule
    observed = panel.observed_rows()
    generator = torch.Generator().manual_seed(request.seed + state.trace.epochs)
    with Progress(request.verbose, schedule.epochs, "ELBO") as bar:
        theta, phi, trace = train(
            state.model,
            state.encoder,
            state.theta,
            state.phi,
            observed,
            schedule,
            generator,
            newton=newton,
            progress=bar,
            checkpoint=request.checkpoint,
            device=request.device,
        )
    model = state.model
    if evidence:
        model = choose_ridge(model, theta, observed, request.seed)
    return replace(state, model=model, theta=theta, phi=phi, trace=state.trace.followed_by(trace))


def _newton_schedule(schedule: Schedule, control: Control) -> Schedule:
    schedule = replace(schedule, learning_rate=control.decoder_rate, memory=0.99)
    if not control.patience:
        schedule = replace(schedule, average=control.average or AVERAGED)
    return replace(schedule, precision="single") if control.precision == "auto" else schedule


def _by_newton(request: Request) -> bool:
    """Whether q of every subject follows theta; SAEM needs the encoder."""
    return request.control.q == "newton" and request.missing != "saem"


def _completed(trained: _Trained, panel: Panel, request: Request) -> _Trained:
    """The stage of missing="saem" after the ELBO."""
    generator = torch.Generator().manual_seed(request.seed + 7)
    model, theta, encoder, phi = trained.model, trained.theta, trained.encoder, trained.phi
    theta, phi, account = stochastic(model, panel, theta, encoder, phi, request, generator)
    return replace(trained, theta=theta, phi=phi, account=account)


# -- polish --------------------------------------------------------------------------------------


def polish_heads(done: Estimate, panel: Panel, request: Request) -> Polished:
    """Linear parts and last layers fitted to other subjects, the hidden layers held."""
    control, likelihood = request.control, done.likelihood.on(panel)
    return likelihood.by(draws=control.polish_draws).polished(
        done.theta, free=done.model.head(), tolerance=control.tolerance
    )


def polish_deep(
    likelihood: Likelihood, trained: _Trained, request: Request, *, near: bool
) -> Polished:
    """Stage 3: all but what has a penalty; layers of networks too while they are few.

    near: by FEW draws and to a tenth of a standard error only, which is most of the way.
    """
    full, control = trained.model, request.control
    free = [name for name in full.packing.shapes if name not in full.ridge()]
    if full.packing.size - full.packing.only(free).size <= control.polish_weights:
        free = list(full.packing.shapes)
    # nodes follow theta, so that half of the draws are enough
    draws = FEW if near else max(8, control.polish_draws // 2)
    return (
        likelihood.under(full)
        .by(seed=request.seed, draws=draws)
        .polished(
            trained.theta,
            free=free,
            rounds=(NEAR if near else ROUNDS) if control.polish else 0,
            tolerance=(10 if near else 1) * control.tolerance,
            evaluations=STEPS,
            verbose=request.verbose,
        )
    )
