"""The variational route of a classical model, and encoders tied to a decoder."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dgmm.encoders import Encoder
from dgmm.encoders import find as find_encoder
from dgmm.estimate.completed import settle
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
from dgmm.variational.training import Trace

__all__ = ["fit_amortised", "skip_matrix", "stochastic", "tied_encoder", "with_encoder"]

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

    The polish moves theta (and may rotate b), so the skeleton is tied anew and the corrections are
    trained at fixed theta for a fifth of the epochs.
    """
    generator = torch.Generator().manual_seed(request.seed + 5)
    skip = skip_matrix(done.model, done.theta)
    phi = {**phi, "W": skip, "c": torch.zeros(2, dtype=torch.float64)}
    model, observed = done.model.with_reference(done.panel, rows=2000), done.observed
    theta = model.absorb(done.theta, done.model)
    control, told = request.control, list[str]()
    if request.missing == "saem":
        phi, bound = settle(model, encoder, theta, phi, done.panel, control, request.seed)
        return _attached(done, model, theta, (encoder, phi, trace), bound, request)
    schedule = schedule_for(control, done.panel.n, max(1, control.epochs // 5))
    given = "single" if control.precision == "auto" else control.precision
    schedule = replace(schedule, kl_anneal=0, patience=0)
    for precision in dict.fromkeys((given, "double")):  # e^eta of a wide q overflows in single
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
            break
        except (FloatingPointError, torch.linalg.LinAlgError):
            generator.set_state(state)
    else:
        told.append(UNTRAINED)
    bound = evaluate(model, encoder, theta, phi, observed, request.seed, newton=control.refine)
    done = replace(done, messages=(*done.messages, *told))
    return _attached(done, model, theta, (encoder, phi, trace), bound, request)


def _attached(
    done: Estimate,
    model: Model,
    theta: Theta,
    trained: tuple[Encoder, Weights, Trace],
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
