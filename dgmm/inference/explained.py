"""How much the fixed and the random part explain: R2 and the intraclass correlation.

With variances on the scale of eta,

    R2 marginal = v_f / (v_f + v_b + v_e),   R2 conditional = (v_f + v_b) / (v_f + v_b + v_e),
    ICC adjusted = v_b / (v_b + v_e),        ICC unadjusted = v_b / (v_f + v_b + v_e),

v_f the variance of mu1 over the rows, v_b the mean over the rows of var{mu2(b, t)} (with random
slopes, the mean of diag(T D T')), v_e the observation-level variance of the family on this scale,
at the eta where E(y) is its mean over subjects and rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.families.base import FORMS
from dgmm.inference.reported import covariance
from dgmm.model import course
from dgmm.panel import Rows
from dgmm.parameters import Theta, part
from dgmm.prediction.moments import marginal
from dgmm.record import Fitted, check_not_recursive

__all__ = [
    "SOURCE",
    "Explained",
    "Shares",
    "check_form",
    "explained",
    "icc",
    "r2",
    "residual_variance",
    "variances",
]

SOURCE = "Nakagawa, Johnson and Schielzeth 2017"


@dataclass(frozen=True)
class Explained:
    """Variances on the scale of the linear predictor, and the formula of the last one."""

    fixed: float
    random: float
    residual: float
    formula: str

    def shares(self, name: str, values: dict[str, float]) -> Shares:
        """Shares of the variances, which print these."""
        found = Shares(values, name=name)
        found.attrs["variances"] = self
        return found

    def __str__(self) -> str:
        return (
            f"v_f = {self.fixed:.4g}, v_b = {self.random:.4g}, v_e = {self.residual:.4g}\n"
            f"v_e = {self.formula} ({SOURCE})"
        )


class Shares(pd.Series):
    """Shares of variances by name; ``str`` prints the variances and the formula below them."""

    @property
    def _constructor(self) -> Any:
        return pd.Series

    def __repr__(self) -> str:
        return f"{super().__repr__()}\n{self.attrs['variances']}"

    __str__ = __repr__


def check_form(form: str) -> None:
    """Refuse a form of v_e that is not known."""
    if form not in FORMS:
        raise ValueError(f"form={form!r} is not one of {', '.join(FORMS)}")


def explained(done: Estimate, form: str) -> Explained:
    """The three variances of a fit; ``form`` matters where eta acts on log E(y) only.

    Raises:
        ValueError: ``form`` is not known.
    """
    check_form(form)
    formula = done.model.family.observation_formula(form)
    fixed, random, residual = variances(done, done.theta, form).tolist()
    return Explained(fixed, random, residual, formula)


def residual_variance(done: Estimate, theta: Theta, rows: Rows, form: str) -> Tensor:
    """v_e with the extra parameters of some rows, (N,), at the mean of E(y) over the sample."""
    model = done.model
    with torch.no_grad():
        level = marginal(done, theta, done.observed, "response").mean.mean()
        extra = model.extra(model.prepare(theta), rows)
        eta = model.family.predictor(level.expand(rows.offset.shape), extra)
        return model.family.observation_variance(eta, extra, form)


def variances(done: Estimate, theta: Theta, form: str) -> Tensor:
    """v_f, v_b and v_e at any theta, (3,), so that functions of them have a standard error."""
    model, panel = done.model, done.observed
    with torch.no_grad():
        ready = model.prepare(theta)
        fixed = model.mu1(ready, panel.rows) - panel.rows.offset
        fixed = fixed + course(model, ready, done.kept)[done.kept.observed]
        if model.by_columns:
            spread = torch.zeros_like(fixed)
            for i, (latent, T) in enumerate(zip(model.latents, panel.rows.T, strict=True), 1):
                if model.targets[i - 1] != 0:
                    continue  # a random effect of zi= is not on the scale of eta
                D = covariance(latent, part(theta, f"latent{i}."))
                spread = spread + torch.einsum("np,pq,nq->n", T, D, T)
        else:
            spread = marginal(done, theta, panel, "link").variance
        residual = residual_variance(done, theta, panel.rows, form)
        return torch.stack([fixed.var(), spread.mean(), residual.mean()])


def icc(fit: Fitted, form: str = "lognormal") -> Shares:
    """Intraclass correlation, v_b / (v_b + v_e) adjusted and v_b / (v_f + v_b + v_e) not.

    v_f, v_b, v_e: variances of the fixed part, of the random part (mean over the rows when there
    are random slopes) and of one observation (of weight 1, one trial), on the scale of the linear
    predictor; printing the result shows them with the formula of v_e:

        pi^2 / 3, 1, pi^2 / 6    of a latent variable: bernoulli, binomial, beta_binomial and
                                 cumulative with logit, probit, cloglog link
        sigma^2                  gaussian, lognormal, censored_gaussian
        log{1 + var(y) / E(y)^2} log link, the form "lognormal"; "trigamma" psi_1{E(y)^2 / var(y)},
                                 "delta" var(y) / E(y)^2
        var(y) / {d E(y) / d eta}^2   all others

    E(y) is the mean over subjects and rows, zeros and ends of a hurdle or ordered family included.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        form: of v_e under a log link.

    Returns:
        A series with ``adjusted`` and ``unadjusted``.

    Raises:
        ValueError: ``form`` is not known.

    Example:
        >>> import dgmm
        >>> sleep = dgmm.datasets.load("sleepstudy")
        >>> fit = dgmm.mixed_model("Reaction ~ Days + (1 | Subject)", sleep)
        >>> dgmm.icc(fit).round(3).to_dict()
        {'adjusted': 0.576, 'unadjusted': 0.41}

    References:
        Nakagawa, Johnson and Schielzeth (2017), J. Royal Society Interface 14: 20170213.
    """
    check_not_recursive(fit, "icc()")
    v = explained(fit.estimate, form)
    total = v.random + v.residual
    values = {"adjusted": v.random / total, "unadjusted": v.random / (v.fixed + total)}
    return v.shares("ICC", values)


def r2(fit: Fitted, form: str = "lognormal") -> Shares:
    """R2 of the fixed part (marginal) and of both parts (conditional).

        marginal = v_f / (v_f + v_b + v_e),   conditional = (v_f + v_b) / (v_f + v_b + v_e)

    The variances are those of :meth:`icc`, and printed with the result.

    References:
        Nakagawa and Schielzeth (2013), Methods in Ecology and Evolution 4, 133-142; random
        slopes: Johnson (2014), same journal 5, 944-946.
    """
    check_not_recursive(fit, "r2()")
    v = explained(fit.estimate, form)
    total = v.fixed + v.random + v.residual
    values = {"marginal": v.fixed / total, "conditional": (v.fixed + v.random) / total}
    return v.shares("R2", values)
