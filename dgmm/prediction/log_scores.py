"""Log scores: the marginal log-likelihood of every subject of any data under a fit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.design import Specification
from dgmm.estimate import Estimate, Member, Request
from dgmm.estimate.finish import independent_likelihoods
from dgmm.likelihood import Importance, NodeRule, Quadrature, freeze, gaussian
from dgmm.panel import Panel
from dgmm.prediction.moments import outcomes_seen, subject_keys

__all__ = ["log_scores", "subject_scores"]


def log_scores(
    done: Estimate, spec: Specification, newdata: Any, request: Request, seed: int
) -> pd.DataFrame:
    """See :meth:`dgmm.fit.Fit.log_score`."""
    if done.panel.crossing is not None:
        raise ValueError(
            "log_score() is for models with one grouping factor: with several, the subjects are "
            "not independent and have no log-likelihoods of their own"
        )
    panel = outcomes_seen(done, spec, newdata)
    value, error = subject_scores(done, panel, request, seed)
    columns = {"log_score": value, "mc_error": error, "nobs": panel.count}
    index = pd.Index(panel.ids.tolist())
    return pd.DataFrame({name: column.numpy() for name, column in columns.items()}, index=index)


def subject_scores(
    done: Estimate, panel: Panel, request: Request, seed: int
) -> tuple[Tensor, Tensor]:
    """l_i of the outcomes seen in a panel and its numerical error, (n,) each.

    With several starts the log of the mean of their likelihoods.

    The error is a Monte Carlo standard error after importance sampling, the change to the next
    longer rule after quadrature, and not known after Laplace's approximation.
    """
    rule = done.rule
    if isinstance(rule, Importance):
        keys, replicates = subject_keys(panel), request.control.replicates
        tables = [
            independent_likelihoods(one.model, one.theta, panel, rule, replicates, seed, keys=keys)
            for one in done.members
        ]
        table = torch.logsumexp(torch.stack(tables), 0) - math.log(len(tables))
        value = torch.logsumexp(table, 0) - math.log(len(table))
        spread = torch.exp(table - value).std(0)  # of the likelihood, relative to its mean
        return value, spread / math.sqrt(len(table))
    found = [_by_rule(one, rule, panel, seed) for one in done.members]
    values, errors = (torch.stack(column) for column in zip(*found, strict=True))
    mixed = torch.logsumexp(values, 0) - math.log(len(values))
    return mixed, (torch.softmax(values, 0) * errors).sum(0)


def _by_rule(one: Member, rule: NodeRule | None, panel: Panel, seed: int) -> tuple[Tensor, Tensor]:
    """The same of one start, exactly or by a rule that does not sample."""
    model, theta = one.model, one.theta
    if rule is None:
        return gaussian.per_subject(model, theta, panel), torch.zeros(panel.n, dtype=torch.float64)
    rng = np.random.default_rng(seed)
    value = freeze(model, theta, panel, rule, rng).per_subject(theta)
    longer = rule.longer(model.k) if isinstance(rule, Quadrature) else None
    if longer is None:
        return value, torch.full_like(value, math.nan)
    better = freeze(model, theta, panel, longer, rng).per_subject(theta)
    return better, (better - value).abs()
