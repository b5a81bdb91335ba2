"""Average partial effects: how the mean outcome moves with a covariate, subjects as they are.

    mean over the observed rows of  d E{g^-1(mu1 + mu2)} / d x,   b ~ N(0, I)

A covariate moves in the row alone: what the subject is given by cre(), means and scale, stays. Of a
category, the average difference of every level from the reference. Wooldridge (2010), Econometric
Analysis of Cross Section and Panel Data, section 15.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.design import covariate_values
from dgmm.inference.average_slopes import STEP
from dgmm.inference.mean_part import MeanPart
from dgmm.inference.wald import wald_table
from dgmm.information import uncertainty
from dgmm.numerics.quadrature import normal_rule
from dgmm.panel import Rows
from dgmm.parameters import Theta

__all__ = ["partial_effects"]

NODES = 31

LEAST = 1e-30
"""Smallest variance of mu2: its root has a derivative."""


def partial_effects(mean: MeanPart, names: Sequence[str], subject: Sequence[int]) -> pd.DataFrame:
    """Estimate, Std. Error, z value, Pr(>|z|), a row per covariate (or level).

    subject: positions of the columns of X that belong to the subjects.
    """
    observed = mean.done.observed
    own = observed.rows.take(torch.arange(observed.n_rows))
    found: dict[str, tuple[Rows, Rows, float]] = {}
    for name in names:
        for label, (up, down, step) in _moves(mean, name).items():
            found[label] = _moved(mean, own, up, subject), _moved(mean, own, down, subject), step

    def value(theta: Theta) -> Tensor:
        ready = mean.done.model.prepare(theta)
        parts = [
            (_average(mean, ready, up) - _average(mean, ready, down)) / step
            for up, down, step in found.values()
        ]
        return torch.stack(parts)

    with torch.no_grad():
        estimate = pd.Series(value(mean.done.theta).numpy(), index=list(found))
    error = pd.Series(np.nan, index=list(found))
    if mean.info is not None:
        known = uncertainty(mean.done, mean.info).taking_held_as_known()
        error[:] = known.of(value).se.numpy()
    return wald_table(estimate, error)


def _moves(mean: MeanPart, name: str) -> dict[str, tuple[pd.DataFrame, pd.DataFrame, float]]:
    """The sample with a covariate moved to either side, and how far these are apart."""
    column, sample = mean.covariates[name], mean.sample
    levels = mean.spec.levels_of(name)
    if column.variable.kind == "number" and not levels:
        x = sample[name]
        h = STEP * (float(x.max() - x.min()) or 1.0)
        return {name: (sample.assign(**{name: x + h}), sample.assign(**{name: x - h}), 2 * h)}
    every = levels or covariate_values(column, 0)
    at = {
        level: sample.assign(**{name: mean.frame({name: level}, len(sample))[name].array})
        for level in every
    }
    first = every[0]
    return {f"{name}: {level} - {first}": (at[level], at[first], 1.0) for level in every[1:]}


def _moved(mean: MeanPart, own: Rows, frame: pd.DataFrame, subject: Sequence[int]) -> Rows:
    """The rows of the fit with the columns of a frame where these are not of the subject."""
    X = mean.rows(frame)[0].X.clone()
    X[:, list(subject)] = own.X[:, list(subject)]
    return replace(own, X=X)


def _average(mean: MeanPart, ready: Theta, rows: Rows) -> Tensor:
    """The mean over rows of E g^-1(eta), eta normal."""
    model = mean.done.model
    node, weight = (one[..., None] for one in normal_rule(NODES))
    each = rows.take(torch.arange(len(rows.X))[:, None])  # a row has one draw of b
    zero = torch.zeros(len(rows.X), model.k, dtype=torch.float64)
    variance = model.jacobian(ready, zero, each).square().sum(-1)
    eta = model.mu1(ready, each) + node * variance.clamp(min=LEAST).sqrt()
    return (weight * model.family.mean(eta, model.extra(ready, each))).sum(0).mean()
