"""residuals(): outcomes less what is expected of them, in their units, in SDs, or as ranks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.diagnostics.draws import completed, draws, filled, theta_of
from dgmm.diagnostics.quantile import conditional_shares, randomised, unconditional_shares
from dgmm.estimate import Estimate
from dgmm.families import Extra, Family, Observations
from dgmm.prediction import of_fit
from dgmm.record import Fitted
from dgmm.runtime.registry import suggestion

__all__ = ["TYPES", "deviance_residuals", "residuals"]

STEPS = 60
"""Golden sections of the search for the linear predictor that an outcome is most likely under."""

WIDEST = 40.0
"""Of that search, on the scale of a logit or log link."""


def residuals(
    fit: Fitted,
    type: str = "response",
    *,
    conditional: bool = True,
    complete: bool = True,
    seed: int | None = None,
) -> pd.Series:
    """Observed outcomes less what the fit expects of them, in one of five forms.

        response   y - E(y | data)
        pearson    that over the SD of y given the random effects
        working    (y - mu) / (d mu / d eta)
        deviance   sign(y - mu) [2 {max_eta log p(y | eta) - log p(y | eta-hat)}]^1/2
        quantile   u = P(Y < y) + V P(Y = y),   V uniform

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        type: of the residual. In the first four the random effects are at their means given the
            data (eta-hat of the second to fourth is E(eta | y)). Deviances are scaled: for a
            Gaussian outcome they are (y - mu) / sigma.
        conditional: of quantile residuals. True: Y given a draw of the random effects from their
            distribution given the data; of a right model they are independent and uniform.
            False: Y over the population, the random effects drawn anew; uniform, but alike within
            a subject.
        complete: of unconditional quantile residuals. Outcomes that are missing are drawn from the
            model given those seen, and have a residual too: under dropout at random those seen
            alone are not uniform. Conditional ones need no completion.
        seed: of V, of the draws of random effects and of missing outcomes; by default that of the
            fit.

    Returns:
        A series in the order of the user's rows, missing where there is no outcome; its name says
        what it holds. Exact distribution functions are used where the family has one, ranks among
        1,000 simulated outcomes elsewhere. Of a sampled fit theta is one of the draws.

    Raises:
        ValueError: no such type.

    References:
        Dunn and Smyth (1996), J. Computational and Graphical Statistics 5, 236-244.
    """
    if type not in TYPES:
        hint = suggestion(type, list(TYPES))
        raise ValueError(f"type={type!r} is not one of {', '.join(TYPES)}{hint}")
    start = fit.call.seed if seed is None else seed
    if type != "quantile":
        values = TYPES[type](fit.estimate, start)
        return fit.memory.series(values, f"{type} residuals".removeprefix("response "))
    kind = "given random effects" if conditional else "over the population"
    values = quantile_residuals(fit, conditional, complete, start)
    return fit.memory.series(values, f"quantile residuals {kind}")


def quantile_residuals(fit: Fitted, conditional: bool, complete: bool, seed: int) -> np.ndarray:
    """u of every planned row, (N,)."""
    done, generator = fit.estimate, torch.Generator().manual_seed(seed)
    theta = theta_of(fit, generator)
    model, panel = done.model, done.panel
    if conditional:
        one = next(draws(done, theta, 1, generator))
        shares = conditional_shares(model.family, filled(panel), one.eta, one.extra, generator)
        return torch.where(panel.observed, randomised(shares, generator), torch.nan).numpy()
    y, observed = filled(panel).y, panel.observed
    if complete and not bool(observed.all()):
        one = next(draws(done, theta, 1, generator))
        y, observed = completed(model, panel, one, generator), torch.ones_like(observed)
    shares = unconditional_shares(done, theta, y, generator)
    return torch.where(observed, randomised(shares, generator), torch.nan).numpy()


# -- forms that are calculated at E(eta | y) -------------------------------------------------------


def _response(done: Estimate, seed: int) -> np.ndarray:
    return of_fit.residuals(done, "response", seed)


def _pearson(done: Estimate, seed: int) -> np.ndarray:
    return of_fit.residuals(done, "pearson", seed)


def _at_eta(
    done: Estimate, seed: int, of: Callable[[Family, Observations, Tensor, Extra], Tensor]
) -> np.ndarray:
    """A form of residual at E(eta | y), missing where the outcome is."""
    rows, observed = done.panel.rows, done.panel.observed
    eta = torch.from_numpy(of_fit.fitted(done, "link", seed))
    at = torch.nonzero(observed)[:, 0]
    with torch.no_grad():
        extra = done.model.extra(done.theta, rows)
        one = torch.stack([e.expand(len(eta))[at] for e in extra]) if len(extra) else extra
        found = torch.full_like(eta, torch.nan)
        found[at] = of(done.model.family, rows.take(at).data, eta[at], one)
    return found.numpy()


def _working(done: Estimate, seed: int) -> np.ndarray:
    return _at_eta(done, seed, lambda family, *at: family.working_residual(*at))


def _deviance(done: Estimate, seed: int) -> np.ndarray:
    return _at_eta(done, seed, deviance_residuals)


def deviance_residuals(family: Family, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
    """sign(y - mu) [2 {max_eta log p - log p(eta)}]^1/2 elementwise, by golden sections."""

    def height(at: Tensor) -> Tensor:
        return torch.nan_to_num(family.log_density(data, at, extra), nan=-torch.inf)

    own = height(eta)
    step = torch.where(family.score(data, eta, extra) >= 0, 1.0, -1.0)
    width = torch.full_like(eta, 0.5)
    for _ in range(STEPS):  # until it falls, on the side on which the density rises
        rising = height(eta + step * 2 * width) > height(eta + step * width)
        rising &= width < WIDEST * (1 + eta.abs())
        if not bool(rising.any()):
            break
        width = torch.where(rising, 2 * width, width)
    low, high, share = eta, eta + step * 2 * width, (5**0.5 - 1) / 2
    for _ in range(STEPS):
        a, b = high - share * (high - low), low + share * (high - low)
        left = height(a) > height(b)
        low, high = torch.where(left, low, a), torch.where(left, b, high)
    best = torch.maximum(height(0.5 * (low + high)), own)
    side = torch.sign(family.response(data) - family.mean(eta, extra))
    return side * (2 * (best - own)).clamp(min=0.0).sqrt()


TYPES: dict[str, Callable[[Estimate, int], np.ndarray]] = {
    "response": _response,
    "pearson": _pearson,
    "working": _working,
    "deviance": _deviance,
    "quantile": _response,
}
"""The forms; quantile residuals have options of their own."""
