"""Predictions by draws from the posterior: those of fits by method="gibbs"."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from dgmm.bayes import Chains
from dgmm.families import Extra
from dgmm.information import Information
from dgmm.likelihood import Predictive
from dgmm.model.simulation import simulate_outcomes
from dgmm.panel import Panel
from dgmm.prediction.by_draws import Drawn, columns_of_draws
from dgmm.prediction.options import Wanted
from dgmm.prediction.source import Rows, Source

__all__ = ["OverDraws"]

DRAWS = 400
"""Draws of theta over which a posterior predictive density is averaged."""


@dataclass(frozen=True)
class OverDraws(Source):
    """Averages over draws of theta."""

    chains: Chains

    def columns(self, rows: Rows, info: Information | None, wanted: Wanted) -> dict[str, Tensor]:
        return columns_of_draws(self._drawn(rows), wanted)

    def fitted(self, scale: str, seed: int) -> Tensor:
        wanted = Wanted("subject", scale, None, 0.95, "population", 1)
        return columns_of_draws(Drawn(self.done, self.done.panel, None, seed), wanted)["fit"]

    def simulations(
        self, nsim: int, generator: torch.Generator, seed: int, condition: bool
    ) -> Tensor:
        """A draw of theta for each; effects are new, or those of the draw."""
        done, chains = self.done, self.chains
        rows = torch.randint(len(chains.kept), (nsim,), generator=generator)
        if not condition:
            thetas = (done.model.packing.unpack(chains.thetas[row]) for row in rows)
            draws = [simulate_outcomes(done.model, one, done.panel, generator) for one in thetas]
            return torch.stack(draws, dim=1)
        drawn, family = Drawn(done, done.panel, None, seed), done.model.family
        parts = []
        for _, panel in drawn.parts():
            eta, extra = drawn.subject(panel)[rows], drawn.extra()[:, rows]
            parts.append(family.simulate(eta, panel.rows.data, extra, generator).T)
        return torch.cat(parts)

    def effects(self, seed: int, cond_var: bool) -> dict[str, pd.DataFrame]:
        """Posterior means and standard deviations of the effects themselves."""
        tables, latents = {}, self.done.model.latents
        factors = self.done.panel.factors(len(latents))
        moments = zip(self.chains.effect_mean, self.chains.effect_sd, strict=True)
        for factor, (mean, sd) in zip(factors, moments, strict=True):
            names = [name for term in factor.terms for name in latents[term].names]
            frame = pd.DataFrame(mean.numpy(), index=pd.Index(factor.labels), columns=names)
            if cond_var:
                for j, name in enumerate(names):
                    frame[f"sd({name})"] = sd[:, j].numpy()
            tables[factor.name] = frame
        return tables

    def scores(self, panel: Panel, seed: int) -> tuple[Tensor, Tensor]:
        """log of the mean of p(y_i | theta) over draws of theta, and its Monte Carlo error."""
        done, table = self.done, self.chains.thetas
        table = table[:: max(1, -(-len(table) // DRAWS))]
        likelihood = done.likelihood.on(panel).by(seed=seed).by_id()
        thetas = [done.model.packing.unpack(row) for row in table]
        found = torch.stack([likelihood.each(one).value for one in thetas])
        mean = torch.logsumexp(found, 0) - math.log(len(found))
        return mean, (found - mean).exp().std(0) / len(found) ** 0.5

    def normal(self, rows: Rows) -> Predictive | None:
        return None  # a mixture over draws of theta

    def eta(self, rows: Rows, size: int) -> tuple[Tensor, Extra]:
        drawn = self._drawn(rows)
        if not rows.given:
            return drawn.subject(rows.target), drawn.extra()
        each = max(1, -(-size // len(drawn.table)))
        return drawn.given_past(each), drawn.extra(each)

    def _drawn(self, rows: Rows) -> Drawn:
        return Drawn(self.done, rows.target, rows.past if rows.given else None, rows.seed)
