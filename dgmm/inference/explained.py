"""How much the fixed and the random part explain: R2 and the intraclass correlation.

With variances on the scale of eta,

    R2 marginal = v_f / (v_f + v_b + v_e),   R2 conditional = (v_f + v_b) / (v_f + v_b + v_e),
    ICC adjusted = v_b / (v_b + v_e),        ICC unadjusted = v_b / (v_f + v_b + v_e),

v_f the variance of mu1 over the rows, v_b the mean over the rows of var{mu2(b, t)} (with random
slopes, the mean of diag(T D T')), v_e the residual variance carried to this scale by the family.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.inference.reported import covariance
from dgmm.parameters import Theta, part
from dgmm.prediction.moments import marginal

__all__ = ["Explained", "explained", "variances"]

FORMS = ("lognormal", "delta", "trigamma")


@dataclass(frozen=True)
class Explained:
    """Variances on the scale of the linear predictor."""

    fixed: float
    random: float
    residual: float


def explained(done: Estimate, form: str) -> Explained:
    """The three variances of a fit; ``form`` matters under a log link only."""
    if form not in FORMS:
        raise ValueError(f"form={form!r} is not one of {', '.join(FORMS)}")
    return Explained(*variances(done, done.theta, form).tolist())


def variances(done: Estimate, theta: Theta, form: str) -> Tensor:
    """v_f, v_b and v_e at any theta, (3,), so that functions of them have a standard error."""
    model, panel = done.model, done.observed
    with torch.no_grad():
        ready = model.prepare(theta)
        fixed = model.mu1(ready, panel.rows) - panel.rows.offset
        if all(latent.linear for latent in model.latents):
            spread = torch.zeros_like(fixed)
            for i, (latent, T) in enumerate(zip(model.latents, panel.rows.T, strict=True), 1):
                if model.targets[i - 1] != 0:
                    continue  # a random effect of zi= is not on the scale of eta
                D = covariance(latent, part(theta, f"latent{i}."))
                spread = spread + torch.einsum("np,pq,nq->n", T, D, T)
        else:
            spread = marginal(done, theta, panel, "link").variance
        mu = marginal(done, theta, panel, "response").mean
        level = torch.full_like(mu, float(mu.mean()))
        extra = model.extra(ready, panel.rows)
        residual = model.family.link_variance(level, panel.rows.data, extra, form)
        return torch.stack([fixed.var(), spread.mean(), residual.mean()])
