"""What the random part implies over time: SD and correlation of mu2(b, t), and ICC(t).

ICC(t) = SD(t)^2 / {SD(t)^2 + v_e}, v_e the observation-level variance of :mod:`explained`.

SD(t)^2 = J J' of mu2 = J b   linear random effects, exactly (T D T'); several parts add up
= var_b mu2   neural ones, over quasi-random draws b ~ N(0, I)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import special
from torch import Tensor

from dgmm.design import covariate_values
from dgmm.inference.explained import SOURCE, check_form, residual_variance
from dgmm.inference.mean_part import MeanPart
from dgmm.information import uncertainty
from dgmm.numerics.quadrature import sobol_normal
from dgmm.panel import Rows
from dgmm.parameters import Theta, part
from dgmm.runtime.probability import check_level

__all__ = ["RandomProfile", "random_profile"]

TIMES = 5


@dataclass(frozen=True)
class RandomProfile:
    """The random part at some times; ``str`` prints it.

    table: the time, sd and icc with their intervals (missing for neural random effects), and the
        standard error of log sd.
    correlation: of mu2 between the times, missing where it has no variance.
    """

    table: pd.DataFrame
    correlation: pd.DataFrame
    method: str
    formula: str  # of v_e

    def __str__(self) -> str:
        form = "{:.4g}".format
        return "\n".join(
            [
                f"Random part mu2(b, t), {self.method}",
                self.table.to_string(float_format=form, index=False, na_rep="NA"),
                f"icc = sd^2 / (sd^2 + v_e), v_e = {self.formula} ({SOURCE})",
                "",
                "Correlation",
                self.correlation.to_string(float_format="{:.2f}".format, na_rep="NA"),
            ]
        )

    __repr__ = __str__


def random_profile(
    mean: MeanPart,
    times: Sequence[float] | None,
    *,
    term: int | None,
    at: Mapping[str, Any] | None,
    level: float,
    draws: int,
    form: str,
) -> RandomProfile:
    """See :meth:`dgmm.fit.Fit.random_profile`."""
    check_level(level)
    check_form(form)
    model, chosen = mean.done.model, _chosen(mean, term)
    name, values = _times(mean, times)
    columns = {**(at or {}), **({} if name is None else {name: values})}
    panel, order = mean.panel(mean.frame(columns, len(values)))
    rows = panel.rows.take(order)
    wide = panel.rows.take(torch.arange(len(values))[None])  # one subject, in the order of time
    linear = all(model.latents[i].linear for i in chosen)

    def covariance(theta: Theta) -> Tensor:
        S = _linear(mean, theta, chosen, wide) if linear else _drawn(mean, chosen, wide, draws)
        return S[order][:, order]

    def log_odds(theta: Theta) -> Tensor:
        with torch.no_grad():  # E(y) over the sample moves with theta too: by differences
            residual = residual_variance(mean.done, theta, rows, form)
            return 2 * _log_sd(covariance(theta)) - residual.log()

    S = covariance(mean.done.theta).detach()
    residual = residual_variance(mean.done, mean.done.theta, rows, form)
    sd = S.diagonal().clamp(min=0).sqrt()
    errors = torch.full((2, len(values)), torch.nan, dtype=torch.float64)
    if linear and mean.info is not None:
        known = uncertainty(mean.done, mean.info)
        of_sd = known.of(lambda theta: _log_sd(covariance(theta))).se
        errors = torch.stack([of_sd, torch.where(sd > 0, known.of(log_odds).se, 0.0)])
    icc = sd.square() / (sd.square() + residual)
    z = float(special.ndtri(0.5 + level / 2))
    half, logit = z * errors, torch.logit(icc)
    table = {
        name or "row": values,
        "sd": sd.numpy(),
        "se_log_sd": errors[0].numpy(),
        "lower": (sd * torch.exp(-half[0])).numpy(),
        "upper": (sd * torch.exp(half[0])).numpy(),
        "icc": icc.numpy(),
        "icc_lower": torch.sigmoid(logit - half[1]).numpy(),
        "icc_upper": torch.sigmoid(logit + half[1]).numpy(),
    }
    labels = [f"{value:.4g}" for value in values]
    some = torch.where(sd > 1e-8 * sd.max(), sd, torch.nan)
    correlation = (S / some[:, None] / some).numpy()
    method = "exact (T D T')" if linear else f"{draws} quasi-random draws of b"
    return RandomProfile(
        pd.DataFrame(table),
        pd.DataFrame(correlation, index=labels, columns=labels),
        method,
        model.family.observation_formula(form),
    )


def _chosen(mean: MeanPart, term: int | None) -> list[int]:
    targets = mean.done.model.targets
    inside = [i for i, target in enumerate(targets) if target == 0]
    if term is None:
        return inside
    if term not in inside:
        raise ValueError(f"term is the position of a random part of the mean, {inside}, not {term}")
    return [term]


def _times(mean: MeanPart, times: Sequence[float] | None) -> tuple[str | None, np.ndarray]:
    """The first numeric covariate of the random part, and its values."""
    inside = mean.random_covariates(_chosen(mean, None))
    numeric = [n for n in inside if mean.covariates[n].variable.kind == "number"]
    name = mean.spec.time_name if mean.spec.time_name in inside else next(iter(numeric), None)
    if name is None:
        if times is not None:
            raise ValueError("the random part has no time variable; leave times out")
        return None, np.zeros(1)
    if times is None and mean.done.model.serial:  # a path may know whole numbers only
        seen = np.unique(mean.covariates[name].values)
        return name, seen[np.unique(np.linspace(0, len(seen) - 1, TIMES).round().astype(int))]
    if times is None:
        made = mean.spec.levels_of(name)
        return name, np.asarray(covariate_values(mean.covariates[name], TIMES, made), dtype=float)
    try:
        values = np.atleast_1d(np.asarray(times, dtype=float))
    except (TypeError, ValueError):
        values = np.zeros(0)
    if not np.isfinite(values).all() or not len(values):
        raise ValueError(f"times are finite values of `{name}`, not {times!r}")
    return name, values


def _linear(mean: MeanPart, theta: Theta, chosen: list[int], wide: Rows) -> Tensor:
    """J J', summed over the parts, (G, G); T D T' where mu2 = T Lambda b."""
    blocks, G = [], wide.X.shape[1]
    for i in chosen:
        rows = wide.of_term(i, mean.done.model.outcome.name)
        latent = mean.done.model.latents[i].sized(rows, G)
        zero = torch.zeros(1, latent.dim, dtype=torch.float64)
        J = latent.jacobian(part(theta, f"latent{i + 1}."), zero, rows)[0]
        blocks.append(J @ J.T)
    return torch.stack(blocks).sum(0)


def _drawn(mean: MeanPart, chosen: list[int], wide: Rows, draws: int) -> Tensor:
    G = wide.X.shape[1]
    latents = mean.done.model.latents
    sized = tuple(one.sized(wide.of_term(i), G) for i, one in enumerate(latents))
    model = replace(mean.done.model, latents=sized)
    b = sobol_normal(model.k, draws, seed=11)[:, None, :]
    with torch.no_grad():
        ready = model.prepare(mean.done.theta)
        value = model.mu2(ready, b, wide, chosen)[:, 0]
    return torch.cov(value.T).reshape(G, -1)


def _log_sd(S: Tensor) -> Tensor:
    """log sd, (G,), zero where there is no variance."""
    variance = S.diagonal()
    return 0.5 * torch.where(variance > 0, variance, 1.0).log()
