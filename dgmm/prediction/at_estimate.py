"""Predictions at an estimate of theta: E and var over b, and over the starts of a fit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.families import Extra
from dgmm.information import Information
from dgmm.likelihood import Predictive
from dgmm.model.simulation import simulate_outcomes
from dgmm.panel import Panel
from dgmm.parameters import part
from dgmm.prediction.intervals import Target, with_interval
from dgmm.prediction.moments import given_history, random_effects
from dgmm.prediction.options import Wanted
from dgmm.prediction.source import Rows, Source

__all__ = ["AtEstimate", "effect_matrix"]


@dataclass(frozen=True)
class AtEstimate(Source):
    """Expectations given theta-hat."""

    def columns(self, rows: Rows, info: Information | None, wanted: Wanted) -> dict[str, Tensor]:
        return with_interval(self._target(rows), info, wanted)

    def fitted(self, scale: str, seed: int) -> Tensor:
        done = self.done
        return given_history(done, done.theta, done.kept, done.panel, scale, seed).mean

    def simulations(
        self, nsim: int, generator: torch.Generator, seed: int, condition: bool
    ) -> Tensor:
        done = self.done
        history = done.model.history(done.panel)
        effects = random_effects(done, history, seed).mean if condition else None
        draws = [
            simulate_outcomes(done.model, done.theta, done.panel, generator, effects)
            for _ in range(nsim)
        ]
        return torch.stack(draws, dim=1)

    def effects(self, seed: int, cond_var: bool) -> dict[str, pd.DataFrame]:
        """E(b | y) of the levels."""
        done, tables = self.done, {}
        found = random_effects(done, done.kept, seed)
        for f, factor in enumerate(done.panel.factors(len(done.model.latents))):
            matrix, names = effect_matrix(done, factor.terms)
            tables[factor.name] = _effect_table(
                found.mean[f], found.covariance[f], matrix, names, factor.labels, cond_var
            )
        return tables

    def scores(self, panel: Panel, seed: int) -> tuple[Tensor, Tensor]:
        """The marginal log-likelihood.

        With several starts the log of the mean of their likelihoods, the errors weighted alike. The
        error is a Monte Carlo standard error after importance sampling, the change to the next
        longer rule after quadrature, and not known after Laplace's approximation.
        """
        points = self.done.points
        found = [one.likelihood.on(panel).by(seed=seed).by_id().each(one.theta) for one in points]
        values = torch.stack([each.value for each in found])
        errors = torch.stack([each.error for each in found])
        mixed = torch.logsumexp(values, 0) - math.log(len(values))
        return mixed, (torch.softmax(values, 0) * errors).sum(0)

    def normal(self, rows: Rows) -> Predictive | None:
        target = self._target(rows)
        return target.predictor("subject") if target.normal("subject") else None

    def eta(self, rows: Rows, size: int) -> tuple[Tensor, Extra]:
        extra = self.done.model.extra(self.done.theta, rows.target.rows)
        return self._target(rows).draws("subject", size), extra

    def _target(self, rows: Rows) -> Target:
        return Target(self.done, rows.past, rows.target, rows.seed)


def _effect_table(
    mean: Tensor,
    covariance: Tensor,
    matrix: Tensor,
    names: list[str],
    labels: np.ndarray,
    cond_var: bool,
) -> pd.DataFrame:
    frame = pd.DataFrame((mean @ matrix.T).numpy(), index=pd.Index(labels), columns=names)
    if cond_var:
        spread = torch.einsum("ak,nkl,al->na", matrix, covariance, matrix).clamp(min=0).sqrt()
        for j, name in enumerate(names):
            frame[f"sd({name})"] = spread[:, j].numpy()
    return frame


def effect_matrix(done: Estimate, terms: Iterable[int]) -> tuple[Tensor, list[str]]:
    """b of some terms -> what is shown: Lambda b of columns, b itself of neural latents.

    The states of a path are at its rows and belong in no table of subjects.
    """
    blocks, names, neural = [], [], 0
    for term in terms:
        latent = done.model.latents[term]
        if latent.linear and not latent.serial:
            blocks.append(latent.loadings(part(done.theta, f"latent{term + 1}.")))
            inside = done.model.part_of(term)
            names += [f"{inside}:{name}" if inside else name for name in latent.names]
        elif latent.serial:
            blocks.append(torch.zeros(0, latent.dim, dtype=torch.float64))
        else:
            blocks.append(torch.eye(latent.dim, dtype=torch.float64))
            names += [f"b{neural + j + 1}" for j in range(latent.dim)]
            neural += latent.dim
    if not names:
        raise ValueError(
            "ranef() has a row per subject, and a path has a state at every visit: read them from "
            "states(), fitted() or predict(type='subject')"
        )
    return torch.block_diag(*blocks), names
