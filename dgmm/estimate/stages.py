"""The stages of a fit: independence model, nested (G)LMM, ELBO, polish, final likelihood.

0  linear predictor: Gaussian by profile ML, other families by adaptive quadrature; no ELBO needed
1  networks: decoder and encoder set to the nested (G)LMM
2  ELBO over the observed outcomes, mini-batches of subjects
3  polish on the marginal log-likelihood, nodes following theta, by the Newton decrement
4  log-likelihood with fresh nodes and its Monte Carlo error; held-out score beside the nested one

Networks on the fixed side alone need none of 1 to 3: their penalised marginal likelihood is
maximised directly (``curved``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dgmm.design import Design
from dgmm.estimate import classical, curved, deep, recursive, sampled
from dgmm.estimate.patterns import with_patterns
from dgmm.estimate.pilot import pilot
from dgmm.estimate.records import Estimate, Request
from dgmm.likelihood import Likelihood, choose
from dgmm.model import Model, build_model
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = ["ROUTES", "Route", "estimate", "stored_estimate"]


class Route(NamedTuple):
    """One way to find theta-hat.

    cannot: why it does not apply to a model and a request, in a sentence; None when it does.
    fit: from the likelihood, the classical design beneath a deep one, eta of the independence
        model at the observed rows (N_obs,), and the request.
    """

    cannot: Callable[[Model, Request], str | None]
    fit: Callable[[Likelihood, Design | None, Tensor, Request], Estimate]


ROUTES = (
    Route(sampled.cannot, lambda one, nested, eta, asked: sampled.fit_sampled(one, asked)),
    Route(
        recursive.cannot,
        lambda one, nested, eta, asked: recursive.fit_recursive(one, eta, asked),
    ),
    Route(classical.cannot, lambda one, nested, eta, asked: classical.fit_linear(one, eta, asked)),
    Route(curved.cannot, lambda one, nested, eta, asked: curved.fit_curved(one, nested, asked)),
    Route(deep.cannot, lambda one, nested, eta, asked: deep.fit_above(one, nested, asked)),
)
"""In the order in which they are tried."""


def stored_estimate(model: Model, panel: Panel, beta: Tensor, request: Request) -> Estimate:
    """Fit a classical model to the sums over the rows of every subject.

    beta: of the fit by least squares, (p,), in the coordinates of the model.
    """
    generator = torch.Generator().manual_seed(request.seed)
    theta: Theta = {"beta": beta}
    for i, latent in enumerate(model.latents, 1):
        theta |= {f"latent{i}.{n}": value for n, value in latent.initial(generator).items()}
    theta["extra"] = torch.tensor([math.log(model.unit)], dtype=torch.float64)
    restricted = request.method == "reml"
    word, options = request.likelihood, request.integration
    likelihood = choose(model, panel, word, options, restricted=restricted)
    return classical.fit_linear(likelihood, beta, request, theta)


def _searched(design: Design, request: Request) -> bool:
    """Whether the maximum of a likelihood without networks is searched, from anywhere near."""
    formula = design.formula
    networks = formula.networks or any(term.syntax.neural for term in formula.latents)
    return not networks and request.method in ("ml", "reml")


def estimate(design: Design, nested: Design | None, request: Request) -> Estimate:
    """Fit the model of a design; ``nested`` is the classical design beneath a deep one."""
    unit, start = pilot(design, request.family, roughly=_searched(design, request))
    model = build_model(design, request.family, unit, request.control.ridge)
    likelihood = choose(
        model,
        Panel.from_design(design),
        request.likelihood,
        request.integration,
        restricted=request.method == "reml",
        sampled=request.method == "vae",
    )
    reasons = [route.cannot(model, request) for route in ROUTES]
    if None not in reasons:
        raise ValueError(f"no way to fit this model: {'; '.join(map(str, reasons))}")
    done = ROUTES[reasons.index(None)].fit(likelihood, nested, start, request)
    return with_patterns(done, request) if request.missing == "pattern" else done
