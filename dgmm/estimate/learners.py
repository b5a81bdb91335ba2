"""How neural random effects learn: on the marginal likelihood, or on a bound of it.

method   | maximised over theta       | q(b | y) meanwhile
"ml"     | l(theta) - ridge           | none: quasi-random nodes; an encoder is trained afterwards
"vae"    | ELBO(theta, phi) - ridge   | the encoder phi, together with theta
"vb"     | ELBO(theta, q) - ridge     | normal, by Newton steps; an encoder is trained afterwards

The last two learn in mini-batches of subjects by Adam.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from dgmm.encoders import Encoder
from dgmm.estimate.amortised import stochastic, tied_encoder
from dgmm.estimate.control import Control
from dgmm.estimate.learning import learn
from dgmm.estimate.records import Request, Saem
from dgmm.estimate.tied import tied_decoder
from dgmm.likelihood import NodeRule, Point
from dgmm.likelihood.nodes import places
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.penalised.evidence import choose_ridge
from dgmm.penalised.marginal import Climb, climb
from dgmm.posterior.proposal import Places
from dgmm.runtime.progress import Progress
from dgmm.variational.schedule import Schedule, schedule_for
from dgmm.variational.training import Trace

__all__ = ["Learned", "follow", "kindle", "tied_start", "with_completed"]

KINDLED = Climb(most_draws=32, rounds=3, evaluations=15)
"""From the nested model, under a small penalty, to where a maximum differs from it."""

FOLLOWED = Climb(draws=64, most_draws=64, rounds=3, evaluations=30, tolerance=0.2, expected=True)
"""To near the maximum under a penalty."""

FIRST_SHARE, FURTHER_SHARE = 5 / 8, 1 / 8
"""Of the epochs, on a bound."""

AVERAGED = 0.5
"""Share of the steps under method="vb" whose mean iterate is the result."""


@dataclass(frozen=True)
class Learned:
    """Where the learning of one start stands."""

    model: Model  # with its penalties, centred over the subjects it has learnt from
    theta: Theta
    encoder: Encoder
    phi: Weights
    trace: Trace
    account: Saem | None = None
    near: Places | None = None  # where b | y lies at theta

    def under(self, kappa: dict[str, float]) -> Learned:
        """The next penalties."""
        return replace(self, model=self.model.with_ridge(kappa))


def tied_start(model: Model, panel: Panel, below: Point, request: Request) -> Learned:
    """Decoder and encoder that give the profiles of the nested fit."""
    centred = model.with_reference(panel)
    generator = torch.Generator().manual_seed(request.seed)
    theta = tied_decoder(centred, panel, below, generator)
    encoder, phi = tied_encoder(
        centred, theta, panel, request.encoder, generator, request.control.covariance
    )
    return Learned(centred, theta, encoder, phi, Trace((), 0.0, 0))


def kindle(state: Learned, panel: Panel, request: Request, rule: NodeRule | None) -> Learned:
    """Leave the nested model, under the small penalty of a beginning or under a given one.

    rule: of the nodes where they are not sampled.
    """
    if request.method == "ml":
        top = climb(
            state.model, state.theta, panel.observed_rows(), request.seed, KINDLED, rule=rule
        )
        return replace(state, theta=top.theta, near=places(top.frozen))
    return _on_bound(state, panel, request, share=FIRST_SHARE, anneal=True)


def follow(state: Learned, panel: Panel, request: Request, rule: NodeRule | None) -> Learned:
    """Go near the maximum under the penalties of a state; those of fixed networks by evidence."""
    observed = panel.observed_rows()
    if request.method != "ml":
        state = _on_bound(state, panel, request, share=FURTHER_SHARE, anneal=False)
    with Progress(request.verbose, FOLLOWED.rounds, "marginal likelihood") as bar:
        top = climb(
            state.model,
            state.theta,
            observed,
            request.seed,
            FOLLOWED,
            rule=rule,
            start=state.near,
            progress=bar,
        )
    model = choose_ridge(state.model, top.theta, observed, request.seed)
    return replace(state, model=model, theta=top.theta, near=places(top.frozen))


def with_completed(state: Learned, panel: Panel, request: Request) -> Learned:
    """The stage of missing="saem" after the ELBO."""
    generator = torch.Generator().manual_seed(request.seed + 7)
    theta, phi, account = stochastic(
        state.model, panel, state.theta, state.encoder, state.phi, request, generator
    )
    return replace(state, theta=theta, phi=phi, account=account, near=None)


# -- on a bound ----------------------------------------------------------------------------------


def _on_bound(
    state: Learned, panel: Panel, request: Request, *, share: float, anneal: bool
) -> Learned:
    """A share of the epochs."""
    control, newton = request.control, request.method == "vb"
    share = share if newton else min(1.0, 2 * share)
    schedule = schedule_for(control, panel.n, epochs=max(1, round(share * control.epochs)))
    rise = min(schedule.kl_anneal, schedule.epochs // 2) if anneal else 0
    cycles = max(1, min(schedule.kl_cycles, rise // 2))
    schedule = replace(schedule, kl_anneal=rise, kl_cycles=cycles)
    schedule = _newton_schedule(schedule, control) if newton else schedule
    generator = torch.Generator().manual_seed(request.seed + state.trace.epochs)
    theta, phi, trace = learn(
        state.model,
        state.encoder,
        state.theta,
        state.phi,
        panel.observed_rows(),
        schedule,
        generator,
        request,
        newton=newton,
    )
    return replace(state, theta=theta, phi=phi, trace=state.trace.followed_by(trace), near=None)


def _newton_schedule(schedule: Schedule, control: Control) -> Schedule:
    schedule = replace(schedule, learning_rate=control.decoder_rate, memory=0.99)
    if not control.patience:
        schedule = replace(schedule, average=control.average or AVERAGED)
    return replace(schedule, precision="single") if control.precision == "auto" else schedule
