"""The variational route of a classical model, and encoders tied to a decoder."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dgmm.encoders import Amortised, Encoder, Mixed
from dgmm.encoders import find as find_encoder
from dgmm.estimate.completed import settle
from dgmm.estimate.control import Control
from dgmm.estimate.learning import learn
from dgmm.estimate.records import Estimate, Request, Saem
from dgmm.estimate.saem import saem
from dgmm.likelihood import Likelihood
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.panel import Panel
from dgmm.parameters import Theta, part
from dgmm.runtime.progress import Progress
from dgmm.variational.collapse import latent_activity
from dgmm.variational.elbo import Bound, evaluate
from dgmm.variational.schedule import schedule_for
from dgmm.variational.teaching import Lesson, can_mix, examined, teach_mixture, teach_normal
from dgmm.variational.training import Trace

__all__ = ["fit_amortised", "skip_matrix", "stochastic", "tied_encoder", "with_encoder"]

NORMAL, MIXTURE = 160, 600
"""Steps in which an encoder and its mixture are taught, at the default number of epochs."""

UNTRAINED = (
    "the encoder could not be trained, as the bound has no finite slope where it begins: its "
    "q(b | y) is that of the linear part. Log-likelihood, standard errors and predictions do not "
    "use it"
)


def fit_amortised(
    likelihood: Likelihood, theta: Theta, request: Request, generator: torch.Generator
) -> Estimate:
    """The VAE route of a classical model: encoder tied to the start, ELBO, polish."""
    model, panel, observed = likelihood.model, likelihood.panel, likelihood.observed
    control, completing = request.control, request.missing == "saem"
    encoder, phi = tied_encoder(model, theta, panel, request.encoder, generator, control.covariance)
    schedule = schedule_for(control, panel.n, max(1, control.epochs // 3) if completing else None)
    theta, phi, trace = learn(model, encoder, theta, phi, observed, schedule, generator, request)
    account = None
    if completing:
        theta, phi, account = stochastic(model, panel, theta, encoder, phi, request, generator)
    reached = theta
    if control.polish:
        found = likelihood.maximise(lambda: reached, request.verbose)
    else:
        found = likelihood.unmoved(theta)
    done = Estimate.of(found, request.method)
    return replace(with_encoder(done, encoder, phi, trace, request), saem=account)


def stochastic(
    model: Model,
    panel: Panel,
    theta: Theta,
    encoder: Encoder,
    phi: Weights,
    request: Request,
    generator: torch.Generator,
) -> tuple[Theta, Weights, Saem]:
    """The stage of missing="saem", with its line of progress."""
    with Progress(request.verbose, request.control.saem_iterations, "SAEM") as bar:
        return saem(model, encoder, theta, phi, panel, request.control, generator, bar)


def tied_encoder(
    model: Model,
    theta: Theta,
    panel: Panel,
    word: str,
    generator: torch.Generator,
    covariance: str = "full",
) -> tuple[Encoder, Weights]:
    """An encoder that starts at the posterior of the linear part of the decoder."""
    q = sum(len(latent.names) for latent in model.latents)
    covariates = sum(
        len(one.names) + sum(len(net.names) for net in one.networks) for one in model.outcomes
    )
    planned = len(panel.panels) * max(int(one.count.max()) for one in panel.panels)
    encoder = find_encoder(word)(model.k, q, covariates, planned, covariance)
    return encoder, encoder.tied(skip_matrix(model, theta), generator)


def skip_matrix(model: Model, theta: Theta) -> Tensor:
    """The linear part of all latent terms, (q, k), for the time bases that the encoder sees."""
    blocks = [
        latent.tangent(part(theta, f"latent{i}.")) for i, latent in enumerate(model.latents, 1)
    ]
    skip = torch.linalg.solve(model.whitener, torch.block_diag(*blocks))
    return skip / model.units()[:, None]


def with_encoder(
    done: Estimate, encoder: Encoder, phi: Weights, trace: Trace, request: Request
) -> Estimate:
    """Attach the encoder, brought to theta-hat, and its bound there.

    The polish moves theta (and may rotate b), so the skeleton is tied anew. The corrections are
    taught on simulated subjects and a mixture is put upon them; what such subjects cannot teach (a
    diagonal covariance, imputed outcomes, paths) is trained on those of the fit, at fixed theta for
    a fifth of the epochs.
    """
    skip = skip_matrix(done.model, done.theta)
    phi = {**phi, "W": skip, "c": torch.zeros(2, dtype=torch.float64)}
    model, observed = done.model.with_reference(done.panel, rows=2000), done.observed
    theta = model.absorb(done.theta, done.model)
    control = request.control
    if request.missing == "saem":
        phi, bound = settle(model, encoder, theta, phi, done.panel, control, request.seed)
        return _attached(done, model, theta, (encoder, phi, trace), bound, request)
    trained: Amortised = encoder
    try:
        if can_mix(model, encoder):
            trained, phi, lesson = _taught(done, model, theta, encoder, phi, request)
            done = replace(done, lesson=lesson)
        else:
            phi = _trained(model, theta, encoder, phi, observed, request)
    except (FloatingPointError, torch.linalg.LinAlgError):
        done = replace(done, messages=(*done.messages, UNTRAINED))
    bound = evaluate(model, trained, theta, phi, observed, request.seed, newton=control.refine)
    return _attached(done, model, theta, (trained, phi, trace), bound, request)


def _taught(
    done: Estimate,
    model: Model,
    theta: Theta,
    encoder: Encoder,
    phi: Weights,
    request: Request,
) -> tuple[Mixed, Weights, Lesson]:
    """The encoder and its mixture from simulated subjects, with the gap on others of these."""
    generator = torch.Generator().manual_seed(request.seed + 11)
    control = request.control
    share = min(1.0, control.epochs / Control().epochs)
    with Progress(request.verbose, 3, "encoder") as bar:
        phi = teach_normal(
            model, encoder, theta, phi, done.panel, generator, max(1, round(share * NORMAL))
        )
        bar.update(1)
        mixed = Mixed(encoder, steps=max(Mixed.steps, control.refine))
        phi, steps = teach_mixture(
            model,
            mixed,
            theta,
            mixed.above(phi, generator),
            done.panel,
            generator,
            max(1, round(share * MIXTURE)),
        )
        bar.update(2)
        lesson = examined(model, mixed, theta, phi, done.panel, generator, steps)
        bar.update(3)
    return mixed, phi, lesson


def _trained(
    model: Model, theta: Theta, encoder: Encoder, phi: Weights, observed: Panel, request: Request
) -> Weights:
    """The encoder from the subjects of the fit, on the bound."""
    control = request.control
    generator = torch.Generator().manual_seed(request.seed + 5)
    schedule = schedule_for(control, observed.n, max(1, control.epochs // 5))
    given = "single" if control.precision == "auto" else control.precision
    schedule = replace(schedule, kl_anneal=0, patience=0)
    *first, last = dict.fromkeys((given, "double"))  # e^eta of a wide q overflows in single
    for precision in (*first, last):
        state = generator.get_state()
        try:
            _, phi, _ = learn(
                model,
                encoder,
                theta,
                phi,
                observed,
                replace(schedule, precision=precision),
                generator,
                request,
                label="encoder",
                fixed_theta=True,
            )
            return phi
        except (FloatingPointError, torch.linalg.LinAlgError):
            if precision == last:
                raise
            generator.set_state(state)
    return phi


def _attached(
    done: Estimate,
    model: Model,
    theta: Theta,
    trained: tuple[Amortised, Weights, Trace],
    bound: Bound,
    request: Request,
) -> Estimate:
    """The estimate with its encoder, whose bound was made under ``model`` at ``theta``."""
    encoder, phi, trace = trained
    return replace(
        done,
        encoder=encoder,
        phi=phi,
        trace=trace,
        elbo=float(bound.elbo.sum()),
        elbo_error=bound.mc_error,
        kl_by_direction=bound.kl_by_direction.mean(0),
        activity=latent_activity(model, theta, done.observed, bound.mean, request.seed),
    )
