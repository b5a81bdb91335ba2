"""Reported parameters on their natural scale, with standard errors by the delta method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.inference.wald import intervals, wald_table
from dgmm.information import Covariance, Derivative, Information, Uncertainty, uncertainty
from dgmm.latent import Latent
from dgmm.numerics.quadrature import sobol_normal
from dgmm.parameters import Theta, part

FLAT = 5.0
"""Working-scale standard errors above this, and |atanh correlation| above it, say nothing."""

__all__ = [
    "Components",
    "Profile",
    "beta_vcov",
    "component_name",
    "components",
    "covariance",
    "family_parameters",
    "part_coefficients",
    "time_profile",
]


def covariance(latent: Latent, weights: Theta) -> Tensor:
    """D = Lambda Lambda' of the linear part, (q, q)."""
    skip = latent.skip(weights)
    return skip @ skip.mT


def beta_vcov(done: Estimate, info: Information | None, kind: str) -> np.ndarray:
    """Covariance of the linear coefficients as written by the user, (p, p)."""
    p = len(done.model.names)
    if kind == "none":
        return np.full((p, p), np.nan)
    known = _of_coefficients(done, info, kind)
    basis = Derivative.dense(done.model.packing.only(["beta"]), lambda: done.model.basis)
    return known.of(done.model.beta, basis).covariance.numpy()


def _of_coefficients(done: Estimate, info: Information | None, kind: str) -> Uncertainty:
    if kind == "gls":
        if done.vcov_gls is None:
            raise ValueError(
                "kind='gls' exists for Gaussian models with linear random effects fitted by "
                "likelihood='exact'; use kind='hessian'"
            )
        return Covariance(done.theta, done.model.packing.only(["beta"]), done.vcov_gls)
    assert info is not None
    if kind == "hessian":
        return Covariance(done.theta, info.packing, info.inverse_hessian)
    return uncertainty(done, info)


@dataclass(frozen=True)
class Components:
    """Standard deviations and correlations, the working scale and its standard errors.

    table: one row per parameter with columns group, name1, name2 (None for a standard deviation),
    estimate, working (log SD, atanh correlation), std_error (of working).
    """

    table: pd.DataFrame


def components(done: Estimate, info: Information | None, groups: tuple[str, ...]) -> Components:
    """Variance components of the linear latent terms and of the residual."""
    labels = _labels(done, groups)
    value = _working(done, done.theta)
    error = torch.full_like(value, torch.nan)
    if info is not None and len(value):
        error = uncertainty(done, info).of(lambda theta: _working(done, theta)).se
        # a correlation of +-1, or an interval over ten orders of magnitude, is not identified
        edge = torch.tensor([second is not None for _, _, second in labels], dtype=torch.bool)
        edge &= value.detach().abs() > FLAT
        error = torch.where(edge | (error > FLAT), torch.nan, error)
    scale = value.detach().numpy()
    pairs = np.array([second is not None for _, _, second in labels], dtype=bool)
    estimate = np.where(pairs, np.tanh(scale), np.exp(np.minimum(scale, 700.0)))
    zero = 1e-8 * unit_scale(done) if pairs.any() else 0.0
    none = {
        (group, name)
        for (group, name, second), sd in zip(labels, estimate, strict=True)
        if second is None and sd < zero
    }
    for at, (group, one, two) in enumerate(labels):  # with an effect that is zero there is none
        if two is not None and {(group, one), (group, two)} & none:
            estimate[at] = np.nan
    names = zip(*labels, strict=True) if labels else ((), (), ())
    columns = dict(zip(("group", "name1", "name2"), map(list, names), strict=True))
    errors = error.detach().numpy()
    return Components(
        pd.DataFrame({**columns, "working": scale, "std_error": errors, "estimate": estimate})
    )


def component_name(row: Any) -> str:
    """sd_(Intercept)|Subject, cor_Days.(Intercept)|Subject, sigma: as lme4 names them."""
    if row.group == "Residual":
        return "sigma"
    if pd.isna(row.name2):
        return f"sd_{row.name1}|{row.group}"
    return f"cor_{row.name2}.{row.name1}|{row.group}"


def family_parameters(done: Estimate, info: Information | None, level: float) -> pd.DataFrame:
    """Extra parameters of the family but the residual SD, which is a variance component.

    Columns estimate, std_error (delta method), lower, upper; an interval is made on the
    unconstrained scale of its parameter (the logarithm of a shape, the logit of a probability).
    """
    model, family = done.model, done.model.family
    columns = ["estimate", "std_error", "lower", "upper"]
    starts = np.cumsum((0, *model.extra_sizes))[:-1]
    # of a parameter that a part models only a place holder is taken, and not reported
    modelled = {family.extra[one.position] for one in model.parts} | {"log_sigma"}
    if modelled.issuperset(family.extra):
        return pd.DataFrame(columns=columns, dtype=float)
    value, links = family.natural(done.theta["extra"][starts]), family.natural_links()
    error = torch.full_like(value, torch.nan)
    if info is not None and len(value):
        known = uncertainty(done, info)
        error = known.of(lambda theta: family.natural(theta["extra"][starts])).se
    working = [link.forward(v) for link, v in zip(links, value, strict=True)]
    slopes = [link.derivative(w) for link, w in zip(links, working, strict=True)]
    rows = {}
    parts = zip(
        family.natural_names(), family.extra, value, error, working, slopes, links, strict=True
    )
    for name, internal, estimate, std_error, centre, slope, link in parts:
        spread = float(std_error / slope)
        if internal in modelled:
            continue
        if link.name != "identity" and spread > FLAT:
            spread, std_error = np.nan, torch.tensor(torch.nan)
        ends = torch.from_numpy(intervals(np.array([float(centre)]), np.array([spread]), level)[0])
        lower, upper = link.inverse(ends).tolist()
        rows[name] = (float(estimate), float(std_error), lower, upper)
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=float)


def part_coefficients(done: Estimate, info: Information | None) -> dict[str, pd.DataFrame]:
    """Wald tables of the coefficients of zi= and dispersion=, by the name of the part."""
    model, tables = done.model, {}
    starts = np.cumsum((0, *model.extra_sizes))
    for one in model.parts:
        where = slice(int(starts[one.position]), int(starts[one.position + 1]))
        names = list(one.names)
        estimate = pd.Series(done.theta["extra"][where].detach().numpy(), index=names)
        error = np.full(len(names), np.nan)
        if info is not None:
            error = uncertainty(done, info).of(lambda theta: theta["extra"]).se[where].numpy()
        tables[one.name] = wald_table(estimate, pd.Series(error, index=names))
    return tables


def unit_scale(done: Estimate) -> float:
    """The smallest scale of a random effect: what a standard deviation is compared with."""
    return min(float(latent.scale.min()) for latent in done.model.latents if latent.linear)


def _labels(done: Estimate, groups: tuple[str, ...]) -> list[tuple[str, str, str | None]]:
    rows: list[tuple[str, str, str | None]] = []
    for latent, group in zip(done.model.latents, groups, strict=True):
        if not latent.linear:
            continue
        rows += [(group, name, None) for name in latent.names]
        rows += [(group, latent.names[c], latent.names[r]) for r, c in _pairs(latent)]
    if done.model.one_number("log_sigma") is not None:
        rows.append(("Residual", "", None))
    return rows


def _pairs(latent: Latent) -> list[tuple[int, int]]:
    if "below" not in latent.shapes():
        return []
    return [(r, c) for r in range(latent.dim) for c in range(r)]


def _working(done: Estimate, theta: Theta) -> Tensor:
    """log SDs and atanh correlations, term by term, then log sigma."""
    parts = []
    for i, latent in enumerate(done.model.latents):
        if not latent.linear:
            continue
        D = covariance(latent, part(theta, f"latent{i + 1}."))
        sd = D.diagonal().sqrt()
        parts.append(sd.log())
        correlation = D / sd[:, None] / sd
        entries = [correlation[r, c].clamp(-1 + 1e-12, 1 - 1e-12) for r, c in _pairs(latent)]
        if entries:
            parts.append(torch.atanh(torch.stack(entries)))
    at = done.model.one_number("log_sigma")
    if at is not None:
        parts.append(theta["extra"][at : at + 1])
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


@dataclass(frozen=True)
class Profile:
    """What a neural latent implies at some times: SD of mu2(b, t) and its correlations."""

    times: np.ndarray  # (3,) first, middle and last observed time
    sd: np.ndarray  # (3,)
    correlation: np.ndarray  # (3, 3)


def time_profile(done: Estimate, i: int, draws: int = 4096) -> Profile:
    """SD and correlation of the i-th random part at the first, middle and last time."""
    latent, panel = done.model.latents[i], done.panel
    time = panel.rows.time
    order = torch.argsort(torch.nan_to_num(time, nan=0.0), stable=True)
    middle = (time - 0.5 * (time.min() + time.max())).abs().argmin() if len(time) else order[0]
    at = torch.stack([order[0], middle, order[-1]])
    weights = part(done.theta, f"latent{i + 1}.")
    weights = {**weights, **latent.prepare(weights)}
    b = sobol_normal(latent.dim, draws, seed=11)[:, None, :]
    with torch.no_grad():
        rows = (panel.rows.T[i][at][None], panel.rows.basis[i][at][None])
        value = latent.effect(weights, b, *rows)[:, 0]
    S = np.cov(value.numpy().T)
    sd = np.sqrt(np.diag(S))
    with np.errstate(invalid="ignore"):  # no variance at a time, no correlation with it
        correlation = S / np.outer(sd, sd)
    return Profile(time[at].numpy(), sd, correlation)
