"""Reported parameters on their natural scale, with standard errors by the delta method."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.families.links import LINKS, Link
from dgmm.inference.wald import intervals, wald_table
from dgmm.information import (
    Covariance,
    Derivative,
    Information,
    Uncertainty,
    reported_packing,
    uncertainty,
)
from dgmm.latent import Component, Latent
from dgmm.numerics.quadrature import sobol_normal
from dgmm.parameters import Theta, part

FLAT = 5.0
"""Working-scale standard errors above this, and |atanh correlation| above it, say nothing."""

LARGEST = 700.0
"""Largest working value whose exponential is a number."""

__all__ = [
    "Components",
    "Profile",
    "beta_vcov",
    "component_name",
    "components",
    "covariance",
    "family_parameters",
    "identified",
    "named",
    "part_coefficients",
    "time_profile",
]


def covariance(latent: Latent, weights: Theta) -> Tensor:
    """D = Lambda Lambda' of the linear part, (q, q)."""
    Lambda = latent.loadings(weights)
    return Lambda @ Lambda.mT


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
        inner = done.likelihood.gls_covariance(done.theta)
        return Covariance(done.theta, done.model.packing.only(["beta"]), inner)
    assert info is not None
    if kind == "hessian":
        return Covariance(done.theta, info.packing, info.inverse_hessian)
    return uncertainty(done, info)


@dataclass(frozen=True)
class Components:
    """Reported parameters of the random part and sigma, their working scale and standard errors.

    columns: one row per parameter: group, kind ("sd", "cor", or a word of the term, such
    as "range"), name1, name2 (the second effect of a correlation, else None), estimate, working
    (log SD, atanh correlation), std_error (of working).
    links: of every row, from the natural to the working scale.
    """

    columns: dict[str, Any]
    links: tuple[Link, ...]

    @cached_property
    def table(self) -> pd.DataFrame:
        """The columns as a data frame."""
        return pd.DataFrame(self.columns)

    @property
    def names(self) -> list[str]:
        """Every row as lme4 names it."""
        keys = ("group", "kind", "name1", "name2")
        return [named(*row) for row in zip(*(self.columns[key] for key in keys), strict=True)]

    def intervals(self, level: float) -> np.ndarray:
        """Wald intervals made on the working scale, (r, 2) on the natural one."""
        working, error = (self.table[name].to_numpy() for name in ("working", "std_error"))
        inner = torch.from_numpy(intervals(working, error, level))
        ends = [link.inverse(both) for link, both in zip(self.links, inner, strict=True)]
        return torch.stack(ends).numpy() if ends else inner.numpy()


class _Label(NamedTuple):
    """A row of the table; sigma has the group "Residual"."""

    group: str
    component: Component

    @property
    def pair(self) -> tuple[str, str | None]:
        """The effect, or the two that are correlated."""
        first, *second = self.component.effects
        return first, second[0] if second else None


def components(done: Estimate, info: Information | None, groups: tuple[str, ...]) -> Components:
    """Variance components of the latent terms that report any, and of the residual."""
    labels = _labels(done, groups)
    value = _working(done, done.theta).detach()
    error = torch.full_like(value, torch.nan)
    kinds = np.array([label.component.kind for label in labels], dtype=object)
    if info is not None and len(value):
        known = uncertainty(done, info)
        error = known.errors(lambda theta: _working(done, theta), _slopes(done))
        told = identified(value.numpy(), error.detach().numpy(), kinds == "cor")
        error = torch.where(torch.from_numpy(told), error, torch.nan)
    scale = value
    estimate = np.array(
        [
            float(label.component.link.inverse(one.clamp(max=LARGEST)))
            for label, one in zip(labels, scale, strict=True)
        ]
    )
    _without_effect(done, labels, estimate)
    names = zip(*(label.pair for label in labels), strict=True) if labels else ((), ())
    columns = dict(zip(("name1", "name2"), map(list, names), strict=True))
    links = tuple(label.component.link for label in labels)
    return Components(
        {
            "group": [label.group for label in labels],
            "kind": kinds,
            **columns,
            "working": scale.numpy(),
            "std_error": error.detach().numpy(),
            "estimate": estimate,
        },
        links,
    )


def identified(working: np.ndarray, error: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    """Which working values (..., R) have a standard error that says something.

    A correlation of +-1, or an interval over ten orders of magnitude, is not identified.
    """
    edge = correlation & (np.abs(working) > FLAT)
    found: np.ndarray = ~edge & ~(error > FLAT) & (error != 0)
    return found


def _without_effect(done: Estimate, labels: list[_Label], estimate: np.ndarray) -> None:
    """Take away correlations with an effect whose standard deviation is zero: there are none."""
    if not any(label.component.kind == "cor" for label in labels):
        return
    zero = 1e-8 * unit_scale(done)
    none = {
        (label.group, label.component.effects[0])
        for label, sd in zip(labels, estimate, strict=True)
        if label.component.kind == "sd" and sd < zero
    }
    for at, (group, component) in enumerate(labels):
        if component.kind == "cor" and {(group, name) for name in component.effects} & none:
            estimate[at] = np.nan


def component_name(row: Any) -> str:
    """sd_(Intercept)|Subject, cor_Days.(Intercept)|Subject, sigma: as lme4 names them."""
    return named(row.group, row.kind, row.name1, row.name2)


def named(group: str, kind: str, first: str, second: str | None) -> str:
    """The same of the cells of a row."""
    if group == "Residual":
        return "sigma"
    effects = first if second is None or pd.isna(second) else f"{second}.{first}"
    return f"{kind}_{effects}|{group}"


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
    return min(float(latent.scale.min()) for latent in done.model.latents if latent.components())


def _labels(done: Estimate, groups: tuple[str, ...]) -> list[_Label]:
    pairs = zip(done.model.latents, groups, strict=True)
    labels = [_Label(group, one) for latent, group in pairs for one in latent.components()]
    if done.model.outcome.one_number("log_sigma") is not None:
        labels.append(_Label("Residual", Component("sd", ("",), LINKS["log"])))
    return labels


def _working(done: Estimate, theta: Theta) -> Tensor:
    """log SDs, atanh correlations and what else is reported, term by term, then log sigma."""
    parts = []
    for i, latent in enumerate(done.model.latents, 1):
        values = latent.reported(part(theta, f"latent{i}."))
        pairs = zip(latent.components(), values, strict=True)
        parts += [one.link.forward(value) for one, value in pairs]
    at = done.model.outcome.one_number("log_sigma")
    if at is not None:
        parts.append(theta["extra"][at])
    return torch.stack(parts) if parts else torch.zeros(0, dtype=torch.float64)


def _slopes(done: Estimate) -> Derivative | None:
    """The derivative of :func:`_working` in closed form; None where a term has none."""
    packing, places, blocks = done.model.packing, list[Tensor](), list[Tensor]()
    for i, latent in enumerate(done.model.latents, 1):
        weights = part(done.theta, f"latent{i}.")
        found = latent.working_slopes(weights)
        if found is None:
            return None
        own = packing.only([f"latent{i}.{name}" for name in weights])
        places.append(packing.places(own))
        blocks.append(found)
    at = done.model.outcome.one_number("log_sigma")
    if at is not None:
        places.append(packing.positions(["extra"])[at : at + 1])
        blocks.append(torch.ones(1, 1, dtype=torch.float64))
    rows = torch.block_diag(*blocks)
    table = torch.zeros(len(rows), packing.size, dtype=torch.float64)
    table[:, torch.cat(places)] = rows
    chosen = packing.only(reported_packing(done.model).shapes)
    return Derivative.dense(chosen, lambda: table[:, packing.places(chosen)])


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
        rows = panel.rows.take(at[None]).of_term(i, done.model.outcome.name)
        value = latent.effect(weights, b, rows)[:, 0]
    S = np.cov(value.numpy().T)
    sd = np.sqrt(np.diag(S))
    with np.errstate(invalid="ignore"):  # no variance at a time, no correlation with it
        correlation = S / np.outer(sd, sd)
    return Profile(time[at].numpy(), sd, correlation)
