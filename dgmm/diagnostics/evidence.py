"""Residuals of a fit with what they would be under a right model.

Of a maximum the units are subjects: statistics are averages over draws of b at the estimate, and
their moments with the scores come from subjects simulated from the model. Where a likelihood is no
product over subjects, or theta was sampled, the units are rows, at one draw of (theta, b).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from dgmm.diagnostics.draws import Drawn, completed, draws, filled, theta_draws
from dgmm.diagnostics.quantile import (
    Shares,
    conditional_shares,
    randomised,
    unconditional_shares,
)
from dgmm.diagnostics.statistics import STATISTICS, Seen
from dgmm.diagnostics.testing import Penalty, Tested, Units, moment_test
from dgmm.estimate import Estimate
from dgmm.information import find_boundary, reported_packing
from dgmm.likelihood.polish import kappa_vector
from dgmm.model.simulation import simulate_outcomes
from dgmm.parameters import Packing
from dgmm.record import Fitted, joint_information

__all__ = ["Evidence"]

DRAWS = 4
"""Draws of b that a statistic is averaged over."""

SIMULATED = 400
"""Subjects, at least, that moments are taken of."""


@dataclass(frozen=True)
class Evidence:
    """A fit, and the seed of all that is drawn about it."""

    fit: Fitted
    seed: int
    draws: int = DRAWS
    complete: bool = True  # missing outcomes are drawn for the residuals of the population

    @property
    def done(self) -> Estimate:
        """The estimate."""
        return self.fit.estimate

    @property
    def by_subject(self) -> bool:
        """Whether subjects of the one outcome have scores, of which the estimate is the root."""
        done = self.done
        return done.likelihood.separate and not done.sampled and not done.panel.beside

    @cached_property
    def tested(self) -> dict[str, Tested]:
        """Every statistic that the fit has, by name."""
        generator = torch.Generator().manual_seed(self.seed)
        return self._of_subjects(generator) if self.by_subject else self._of_rows(generator)

    @cached_property
    def seen(self) -> Seen:
        """Residuals of the data at the estimate, for pictures and names of rows."""
        return next(self._seen(self.done, 1, torch.Generator().manual_seed(self.seed)))

    # -- subjects ------------------------------------------------------------------------------

    def _of_subjects(self, generator: torch.Generator) -> dict[str, Tested]:
        done, penalty = self.done, None
        own = self._contributions(done, generator)
        size = max(2, -(-SIMULATED // done.panel.n))
        others: dict[str, list[np.ndarray]] = {name: [] for name in own}
        scores = []
        for _ in range(size):
            y = simulate_outcomes(done.model, done.theta, done.panel, generator)
            y = torch.where(done.panel.observed, y, torch.nan)
            other = done.likelihood.on(done.panel.with_outcome(y))
            point = replace(done, likelihood=other)
            for name, value in self._contributions(point, generator).items():
                others[name].append(value)
            scores.append(self._scores(point))
        if not done.model.linear:
            ridge = kappa_vector(done.model, done.model.packing).numpy()
            penalty = Penalty(ridge, self._scores(done).sum(0))
        S = np.concatenate(scores)
        return {
            name: moment_test(
                value.sum(0), len(value), Units(np.concatenate(others[name]), S), penalty
            )
            for name, value in own.items()
            if len(others[name]) == size
        }

    def _scores(self, point: Estimate) -> np.ndarray:
        """(n, P) of the parameters that were estimated, without those at a boundary."""
        if not point.model.linear:
            return point.likelihood.scores(point.theta).numpy()
        packing: Packing = reported_packing(point.model)
        found: np.ndarray = point.likelihood.scores(point.theta, packing).numpy()
        return found[:, ~find_boundary(self.done)[1]]

    def _contributions(self, point: Estimate, generator: torch.Generator) -> dict[str, np.ndarray]:
        """Statistics of every subject, (n, K), averaged over draws of b."""
        panel = point.panel
        found: dict[str, np.ndarray] = {}
        for seen in self._seen(point, self.draws, generator):
            for one in STATISTICS:
                value = one.of(seen)
                if value is None:
                    continue
                if len(value) == panel.n_rows:
                    sums = np.zeros((panel.n, value.shape[1]))
                    np.add.at(sums, seen.subject, value)
                    value = sums
                found[one.name] = found.get(one.name, 0.0) + value / self.draws
        return found

    # -- rows ----------------------------------------------------------------------------------

    def _of_rows(self, generator: torch.Generator) -> dict[str, Tested]:
        theta = theta_draws(self.done, joint_information(self.fit), 1, generator)
        seen = next(self._seen(replace(self.done, theta=theta[0]), 1, generator))
        seen = seen._replace(population=None)  # is not independent between rows
        found = {}
        for one in STATISTICS:
            value = one.of(seen)
            if value is not None:
                none = np.zeros((len(value), 0))
                found[one.name] = moment_test(value.sum(0), len(value), Units(value, none))
        return found

    # -- residuals -----------------------------------------------------------------------------

    def _seen(self, point: Estimate, size: int, generator: torch.Generator) -> Iterator[Seen]:
        panel, family = point.panel, point.model.family
        observed, data = panel.observed, filled(panel)
        counts = family.support in ("counts", "trials")
        always = self._shares(point, generator)
        for one in draws(point, point.theta, size, generator):
            shares = conditional_shares(family, data, one.eta, one.extra, generator)
            u = torch.where(observed, randomised(shares, generator), 0.5)
            zero = None
            if counts:
                none = data._replace(y=torch.zeros_like(data.y), weights=torch.ones_like(data.y))
                expected = torch.exp(family.log_density(none, one.eta, one.extra))
                zero = torch.where(observed, (data.y == 0).double() - expected, 0.0).numpy()
            level, spread = self._columns
            yield Seen(
                observed.numpy(),
                panel.subject.numpy(),
                u.numpy(),
                self._over_population(point, one, always, generator),
                zero,
                counts and family.dispersion is None,
                np.where(observed.numpy()[:, None], level, 0.0),
                np.where(observed.numpy()[:, None], spread, 0.0),
                self.fit.memory.spec.time_name is not None and not panel.several,
                None if one.b is None else one.b.numpy(),
            )

    def _shares(self, point: Estimate, generator: torch.Generator) -> Shares | None:
        """Places of all outcomes in the population, where none has to be drawn."""
        model, panel = point.model, point.panel
        none = panel.several or model.serial or any(one.flat for one in model.latents)
        if none or (self.complete and not bool(panel.observed.all())):
            return None
        return unconditional_shares(point, point.theta, filled(panel).y, generator)

    def _over_population(
        self, point: Estimate, one: Drawn, always: Shares | None, generator: torch.Generator
    ) -> np.ndarray | None:
        """Residuals of all planned rows, where outcomes that were not seen are drawn given b."""
        model, panel = point.model, point.panel
        if always is None:
            if one.b is None or any(latent.flat for latent in model.latents):
                return None
            y = completed(model, panel, one, generator)
            always = unconditional_shares(point, one.theta, y, generator)
        u = randomised(always, generator)
        return (u if self.complete else torch.where(panel.observed, u, torch.nan)).numpy()

    @cached_property
    def _columns(self) -> tuple[np.ndarray, np.ndarray]:
        """Squares of the mean and of time less what the model has of them; both, centred."""
        done = self.done
        rows, seen = done.panel.rows, done.panel.observed.numpy()
        with torch.no_grad():
            mean = done.model.mu1(done.model.prepare(done.theta), rows).numpy()
        columns = [mean]
        if self.fit.memory.spec.time_name is not None:
            columns.append(rows.time.numpy())
        held = np.column_stack([np.ones(len(mean)), rows.X.numpy(), *(T.numpy() for T in rows.T)])
        first = np.column_stack([_standard(one, seen) for one in columns])
        square, *_ = np.linalg.lstsq(held[seen], np.square(first)[seen], rcond=None)
        level = np.square(first) - held @ square
        size = np.sqrt(np.square(np.square(first)[seen]).mean(0))
        there = np.sqrt(np.square(level[seen]).mean(0)) > 1e-6 * size
        return level[:, there], first - first[seen].mean(0)


def _standard(column: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Zero where all that varies is rounding."""
    centred = column - column[seen].mean()
    sd, size = float(centred[seen].std()), float(np.abs(column).max(initial=0.0))
    return np.asarray(centred / sd if sd > 1e-12 * size else np.zeros_like(centred))
