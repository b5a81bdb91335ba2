"""How much the fixed and the random part explain: R2 and the intraclass correlation.

With variances on the scale of eta,

    R2 marginal = v_f / (v_f + v_b + v_e),   R2 conditional = (v_f + v_b) / (v_f + v_b + v_e),
    ICC adjusted = v_b / (v_b + v_e),        ICC unadjusted = v_b / (v_f + v_b + v_e),

v_f the variance of mu1 over the rows, v_b the mean over the rows of var{mu2(b, t)} (with random
slopes, the mean of diag(T D T')), v_e the residual variance carried to this scale by the family.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.inference.reported import covariance
from dgmm.parameters import Theta, part
from dgmm.prediction.moments import marginal
from dgmm.record import Fitted

__all__ = ["Explained", "explained", "icc", "r2", "variances"]

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
        if model.by_columns:
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


def icc(fit: Fitted, form: str = "lognormal") -> pd.Series:
    """Intraclass correlation, v_b / (v_b + v_e) adjusted and v_b / (v_f + v_b + v_e) not.

    v_f, v_b, v_e: variances of the fixed part, of the random part (mean over the rows when
    there are random slopes) and of the residual, on the scale of the linear predictor. form:
    of v_e under a log link, "lognormal", "trigamma" or "delta".

    References:
        Nakagawa, Johnson and Schielzeth (2017), J. Royal Society Interface 14: 20170213.
    """
    v = explained(fit.estimate, form)
    total = v.random + v.residual
    values = {"adjusted": v.random / total, "unadjusted": v.random / (v.fixed + total)}
    return pd.Series(values, name="ICC")


def r2(fit: Fitted, form: str = "lognormal") -> pd.Series:
    """R2 of the fixed part (marginal) and of both parts (conditional).

        marginal = v_f / (v_f + v_b + v_e),   conditional = (v_f + v_b) / (v_f + v_b + v_e)

    The variances are those of :meth:`icc`.

    References:
        Nakagawa and Schielzeth (2013), Methods in Ecology and Evolution 4, 133-142; random
        slopes: Johnson (2014), same journal 5, 944-946.
    """
    v = explained(fit.estimate, form)
    total = v.fixed + v.random + v.residual
    values = {"marginal": v.fixed / total, "conditional": (v.fixed + v.random) / total}
    return pd.Series(values, name="R2")
