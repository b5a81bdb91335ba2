"""Predictions of a sampled posterior: averages and quantiles over draws of theta and effects.

    subject        eta = mu1 + t'gamma_j of the draws; levels that the fit has not seen ~ N(0, D)
    mean_subject   eta = mu1
    marginal       E g^-1(mu1 + t'gamma), gamma ~ N(0, D), under every draw of theta

The estimate is the mean over draws, its interval has their quantiles; a new outcome is drawn from
the family at every draw. With history= the effects are drawn given that history.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from dgmm.bayes import Chains
from dgmm.design import label_key
from dgmm.estimate import Estimate
from dgmm.families import Extra
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import part
from dgmm.prediction.moments import population_rule
from dgmm.prediction.options import Wanted

__all__ = ["Drawn", "columns_of_draws"]

CELLS = 4_000_000
"""Largest number of (draw, row) pairs held at once."""

OF_POPULATION = 200
"""Draws of theta under which the population is averaged, and under which a history is read."""


@dataclass(frozen=True)
class Drawn:
    """Draws of the linear predictor at the rows of a panel.

    past: outcomes that take the place of those of the fit, None for those of the fit.
    """

    done: Estimate
    target: Panel
    past: Panel | None
    seed: int

    @property
    def model(self) -> Model:
        """The model."""
        return self.done.model

    @cached_property
    def chains(self) -> Chains:
        """What was drawn."""
        assert self.done.chains is not None
        return self.done.chains

    @cached_property
    def table(self) -> Tensor:
        """The draws of theta that are used, (B, P)."""
        thetas = self.chains.thetas
        if self.past is None or len(thetas) <= OF_POPULATION:
            return thetas
        return thetas[:: -(-len(thetas) // OF_POPULATION)]

    @cached_property
    def beta(self) -> Tensor:
        """(B, p) as written by the user."""
        return self.model.packing.unpack(self.table)["beta"] @ self.model.basis.T

    def extra(self, size: int = 1) -> Extra:
        """Further parameters of the family, (R, B size, 1)."""
        values = self.model.packing.unpack(self.table)["extra"]
        return values.repeat_interleave(size, 0).T[:, :, None]

    def parts(self) -> Iterator[tuple[Tensor, Panel]]:
        """The rows, some at a time, and their positions."""
        step = max(1, CELLS // max(len(self.table), 1))
        for first in range(0, self.target.n_rows, step):
            at = torch.arange(first, min(first + step, self.target.n_rows))
            which = torch.zeros(self.target.n_rows, dtype=torch.bool)
            which[at] = True
            yield at, self.target.keep(which)

    def fixed(self, panel: Panel) -> Tensor:
        """mu1, (B, N)."""
        return panel.rows.offset + self.beta @ panel.rows.X.T

    def subject(self, panel: Panel) -> Tensor:
        """eta of the subjects given their outcomes in the fit, (B, N)."""
        eta = self.fixed(panel)
        factors = self.done.panel.factors(len(self.model.latents))
        for f, (factor, effects) in enumerate(zip(factors, self.chains.effects, strict=True)):
            T = torch.cat([panel.rows.T[term] for term in factor.terms], dim=1)
            level = self._levels(panel, f)
            new = level < 0
            values = effects[:, level.clamp(min=0)]  # (B, N, K)
            if bool(new.any()):
                values[:, new] = self._of_nobody(panel, f, new)
            eta = eta + torch.einsum("nk,bnk->bn", T, values)
        return eta

    def _levels(self, panel: Panel, f: int) -> Tensor:
        """The level of every row in the fit, -1 where it has none."""
        if panel.several:
            return panel.rows.level[f]
        place = {label_key(one): j for j, one in enumerate(self.done.panel.ids.tolist())}
        found = [-1 if one is None else place.get(label_key(one), -1) for one in panel.ids.tolist()]
        return torch.tensor(found, dtype=torch.long)[panel.subject]

    def _of_nobody(self, panel: Panel, f: int, new: Tensor) -> Tensor:
        """Effects of levels that are not in the fit, (B, rows, K): one for every level.

        Draws come in pairs of opposite sign, so that their mean is nearly zero.
        """
        code = panel.subject[new] if not panel.several else torch.arange(int(new.sum()))
        who, place = torch.unique(code, return_inverse=True)
        root = self.roots[f]
        generator = torch.Generator().manual_seed(self.seed + 61 + f)
        half = -(-len(self.table) // 2)
        noise = torch.randn(half, len(who), root.shape[2], generator=generator, dtype=torch.float64)
        both = torch.stack([noise, -noise], 1).flatten(0, 1)[: len(self.table)]
        return torch.einsum("bij,bnj->bni", root, both)[:, place]

    @cached_property
    def roots(self) -> tuple[Tensor, ...]:
        """Roots of D of every factor, (B, K, K)."""
        theta, found = self.model.packing.unpack(self.table), []
        for factor in self.done.panel.factors(len(self.model.latents)):
            blocks = [
                torch.func.vmap(self.model.latents[term].loadings)(
                    part(theta, f"latent{term + 1}.")
                )
                for term in factor.terms
            ]
            size = sum(one.shape[1] for one in blocks)
            whole = torch.zeros(len(self.table), size, size, dtype=torch.float64)
            first = 0
            for one in blocks:
                last = first + one.shape[1]
                whole[:, first:last, first:last] = one
                first = last
            found.append(whole)
        return tuple(found)

    def given_past(self, size: int) -> Tensor:
        """eta given the history of the subjects, ``size`` draws for each theta, (B size, N)."""
        assert self.past is not None
        likelihood = self.done.likelihood.on(self.past)
        generator = torch.Generator().manual_seed(self.seed + 67)
        drawn = []
        for row in self.table:
            theta = self.model.packing.unpack(row)
            posterior = likelihood.by(seed=self.seed).posterior(theta)
            drawn.append(posterior.draws(self.target, size, generator))
        return torch.cat(drawn)

    def population(self, panel: Panel, scale: str) -> Tensor:
        """E g^-1(eta) over the population under some draws, (B', N); on the link its g."""
        some = slice(None, None, max(1, -(-len(self.table) // OF_POPULATION)))
        mean, variance = self.fixed(panel)[some], torch.zeros(1)
        for factor, root in zip(
            self.done.panel.factors(len(self.model.latents)), self.roots, strict=True
        ):
            T = torch.cat([panel.rows.T[term] for term in factor.terms], dim=1)
            variance = variance + torch.einsum("nk,bkl->bnl", T, root[some]).square().sum(-1)
        family, extra = self.model.family, self.extra()[:, some]
        sd, total = variance.sqrt(), torch.zeros_like(mean)
        points, weights = population_rule(self.model, sd)
        for e, weight in zip(points[:, 0], weights[:, 0], strict=True):
            total += weight * family.mean(mean + e * sd, extra)
        return family.predictor(total, extra) if scale == "link" else total


def columns_of_draws(drawn: Drawn, wanted: Wanted) -> dict[str, Tensor]:
    """The columns of a prediction: fit, and with an interval se, lower, upper."""
    if wanted.theta == "held":
        raise ValueError("theta='held' is about an estimate; this fit holds draws of theta")
    if wanted.scale == "categories":
        return _shares(drawn, wanted)
    if wanted.interval == "prediction" and wanted.scale == "link":
        raise ValueError("interval='prediction' is about outcomes: use scale='response'")
    found: dict[str, list[Tensor]] = {}
    for panel, values, outcomes in _values(drawn, wanted):
        own = {"fit": values.mean(0)}
        if wanted.interval is not None:
            spread = values if outcomes is None else outcomes
            own |= {"se": spread.std(0), **wanted.ends(partial(_ends, spread))}
        del panel
        for name, column in own.items():
            found.setdefault(name, []).append(column)
    return {name: torch.cat(columns) for name, columns in found.items()}


def _ends(draws: Tensor, level: float) -> Tensor:
    """The ends of an interval over draws (S, N), (N, 2)."""
    tail = (1 - level) / 2
    return torch.from_numpy(np.quantile(draws.numpy(), [tail, 1 - tail], axis=0)).T


def _values(drawn: Drawn, wanted: Wanted) -> Iterator[tuple[Panel, Tensor, Tensor | None]]:
    """Per part of the rows: draws of what is predicted, and of new outcomes where asked for."""
    family = drawn.model.family
    generator = torch.Generator().manual_seed(drawn.seed + 71)
    for _, panel, eta, extra in _predictors(drawn, wanted):
        outcomes = None
        if wanted.interval == "prediction":
            data = panel.rows.data
            outcomes = family.simulate(eta, data, extra, generator) / data.trials
        if wanted.type == "marginal":
            yield panel, drawn.population(panel, wanted.scale), outcomes
        else:
            yield panel, family.mean(eta, extra) if wanted.scale == "response" else eta, outcomes


def _predictors(drawn: Drawn, wanted: Wanted) -> Iterator[tuple[Tensor, Panel, Tensor, Extra]]:
    """Per part of the rows: positions, the panel of them, eta (B, N) and extra parameters."""
    if wanted.type == "subject" and drawn.past is not None:
        size = max(1, -(-wanted.draws // len(drawn.table)))
        at = torch.arange(drawn.target.n_rows)
        yield at, drawn.target, drawn.given_past(size), drawn.extra(size)
        return
    for at, panel in drawn.parts():
        if wanted.type == "mean_subject":
            eta = drawn.fixed(panel)
        elif wanted.type == "subject":
            eta = drawn.subject(panel)
        else:
            eta = drawn.fixed(panel)
            for f, factor in enumerate(drawn.done.panel.factors(len(drawn.model.latents))):
                T = torch.cat([panel.rows.T[term] for term in factor.terms], dim=1)
                every = torch.ones(panel.n_rows, dtype=torch.bool)
                eta = eta + torch.einsum("nk,bnk->bn", T, drawn._of_nobody(panel, f, every))
        yield at, panel, eta, drawn.extra()


def _shares(drawn: Drawn, wanted: Wanted) -> dict[str, Tensor]:
    """P(y = k) of every category by its name, averaged over draws."""
    family = drawn.model.family
    names = family.category_names
    if not names:
        raise ValueError(
            "scale='categories' gives the probabilities of ordered categories, family="
            f"'cumulative'; this fit has family {family.name!r}"
        )
    if wanted.interval is not None:
        raise ValueError("probabilities of categories come without intervals; leave interval out")
    scored = [family.scored([float(j == k) for j in range(len(names))]) for k in range(len(names))]
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    for _, _, eta, extra in _predictors(drawn, wanted):
        for name, one in zip(names, scored, strict=True):
            found[name].append(one.mean(eta, extra).mean(0))
    return {name: torch.cat(columns) for name, columns in found.items()}
