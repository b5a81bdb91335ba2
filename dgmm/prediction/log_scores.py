"""Log scores: the marginal log-likelihood of every subject of any data under a fit."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dgmm.bayes import Chains
from dgmm.design import Specification
from dgmm.estimate import Estimate, Request
from dgmm.panel import Panel
from dgmm.prediction.moments import outcomes_seen

__all__ = ["log_scores", "subject_scores"]

DRAWS = 400
"""Draws of theta over which a posterior predictive density is averaged."""


def log_scores(
    done: Estimate, spec: Specification, newdata: Any, request: Request, seed: int
) -> pd.DataFrame:
    """See :meth:`dgmm.fit.Fit.log_score`."""
    done.likelihood.check_separate("log_score()")
    panel = outcomes_seen(done, spec, newdata)
    value, error = subject_scores(done, panel, seed)
    columns = {"log_score": value, "mc_error": error, "nobs": panel.count}
    index = pd.Index(panel.ids)
    return pd.DataFrame({name: column.numpy() for name, column in columns.items()}, index=index)


def subject_scores(done: Estimate, panel: Panel, seed: int) -> tuple[Tensor, Tensor]:
    """l_i of the outcomes seen in a panel and its numerical error, (n,) each.

    With several starts the log of the mean of their likelihoods, the errors weighted alike. The
    error is a Monte Carlo standard error after importance sampling, the change to the next longer
    rule after quadrature, and not known after Laplace's approximation.
    """
    if done.chains is not None:
        return _over_draws(done, done.chains, panel, seed)
    found = [one.likelihood.on(panel).by(seed=seed).by_id().each(one.theta) for one in done.points]
    values = torch.stack([each.value for each in found])
    errors = torch.stack([each.error for each in found])
    mixed = torch.logsumexp(values, 0) - math.log(len(values))
    return mixed, (torch.softmax(values, 0) * errors).sum(0)


def _over_draws(done: Estimate, chains: Chains, panel: Panel, seed: int) -> tuple[Tensor, Tensor]:
    """log of the mean of p(y_i | theta) over draws of theta, and its Monte Carlo error, (n,)."""
    table = chains.thetas[:: max(1, -(-len(chains.thetas) // DRAWS))]
    likelihood = done.likelihood.on(panel).by(seed=seed).by_id()
    found = torch.stack([likelihood.each(done.model.packing.unpack(row)).value for row in table])
    mean = torch.logsumexp(found, 0) - math.log(len(found))
    return mean, (found - mean).exp().std(0) / len(found) ** 0.5
