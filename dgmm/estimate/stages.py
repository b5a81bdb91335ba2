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

from dgmm.design import Design
from dgmm.estimate.classical import fit_linear
from dgmm.estimate.curved import fit_curved
from dgmm.estimate.deep import fit_deep
from dgmm.estimate.patterns import with_patterns
from dgmm.estimate.pilot import pilot
from dgmm.estimate.records import Estimate, Request
from dgmm.likelihood import choose
from dgmm.model import build_model
from dgmm.panel import Panel
from dgmm.penalised.split import fixed_only

__all__ = ["estimate"]


def estimate(design: Design, nested: Design | None, request: Request) -> Estimate:
    """Fit the model of a design; ``nested`` is the classical design beneath a deep one."""
    unit, start = pilot(design, request.family)
    model = build_model(design, request.family, unit, request.control.ridge)
    likelihood = choose(
        model,
        Panel.from_design(design),
        request.likelihood,
        request.integration,
        restricted=request.method == "reml",
        sampled=request.method == "vae",
    )
    if nested is None:
        done = fit_linear(likelihood, start, request)
    elif fixed_only(model) and request.method != "vae":
        done = fit_curved(likelihood, nested, request)
    else:
        done = fit_deep(likelihood, nested, request)
    return with_patterns(done, request) if request.missing == "pattern" else done
