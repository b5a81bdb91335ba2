"""Proper scores of outcomes under the distribution that a fit predicts for them.

    log    log p(y | data)                      CRPS   E|Y - y| - 1/2 E|Y - Y'|
    Brier  sum_k {P(Y = k) - 1(y = k)}^2,   of a binary outcome {P(Y = 1) - y}^2

Y and Y' are independent draws from the predictive distribution. The log score is better when it is
larger, the others when they are smaller.

References:
    Gneiting and Raftery (2007), J. American Statistical Association 102, 359-378.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.design import rebuild
from dgmm.diagnostics.quantile import randomised, ranked
from dgmm.estimate import Estimate
from dgmm.families import Extra, Family, Observations
from dgmm.panel import Panel
from dgmm.prediction.moments import outcomes_seen
from dgmm.prediction.new_rows import history_of
from dgmm.prediction.new_values import calculable
from dgmm.prediction.source import Rows
from dgmm.prediction.sources import source_of
from dgmm.record import Fitted, check_rows
from dgmm.runtime.result_table import ResultTable

__all__ = ["crps_of_draws", "crps_of_normal", "scoring_rules"]


def scoring_rules(
    fit: Fitted,
    newdata: Any = None,
    *,
    history: Any = None,
    draws: int = 1000,
    seed: int | None = None,
) -> pd.DataFrame:
    """Score every observed outcome by the distribution that the fit predicts for it.

        log p(y | past),   CRPS = E|Y - y| - 1/2 E|Y - Y'|,   Brier = sum_k {P(Y = k) - 1(y = k)}^2

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        newdata: rows with outcomes. By default the rows of the fit, which know their own outcomes:
            such scores are too good; cv() leaves subjects out.
        history: past rows of the subjects, given which they are predicted; without it, the data
            of the fit for subjects that it knows, and the population for others.
        draws: from the predictive distribution, where it is not normal.
        seed: of the draws.

    Returns:
        A row per outcome in the order of ``newdata``: ``log`` (larger is better), ``crps`` in
        units of the outcome and, of binary and ordered outcomes, ``brier`` (smaller is better);
        ``pit``, the place of the outcome in its predictive distribution, randomised where it has
        steps, is uniform under a right model.
        Parameters are held at their estimates; of a sampled fit they are drawn.

    Raises:
        ValueError: no outcome in ``newdata``; a history of other subjects.

    References:
        Gneiting and Raftery (2007), J. American Statistical Association 102, 359-378.
    """
    if draws < 1:
        raise ValueError(f"draws is a number of draws, at least 1, not {draws!r}")
    done, start = fit.estimate, fit.call.seed if seed is None else seed
    if newdata is None:
        check_rows(fit, "scoring_rules() without newdata=")
        target, labels, rows = done.panel, fit.memory.labels, fit.memory.rows
    else:
        design = rebuild(fit.memory.spec, newdata, outcome=True)
        target = outcomes_seen(done, fit.memory.spec, newdata)
        own = design.observed if target.n_rows < len(design.y) else slice(None)
        labels, rows = pd.Index(design.index)[own], design.rows[own]
    seen = target.observed.numpy()
    if not seen.any():
        raise ValueError("scoring_rules() scores outcomes, and no row of newdata has one")
    with calculable(fit.memory, newdata=newdata, history=history):
        past = history_of(done, fit.memory.spec, target, history)
        found = _scored(done, target, past, history is not None, draws, start)
    order = np.argsort(rows[seen], kind="stable")
    columns = {name: value.numpy()[seen][order] for name, value in found.items()}
    return ResultTable(
        columns,
        index=labels[seen][order],
        title=f"Scores of {int(seen.sum())} outcomes: "
        + ", ".join(f"{n} {v.mean():.4g}" for n, v in columns.items() if n != "pit"),
    )


def _scored(
    done: Estimate, target: Panel, past: Panel, given: bool, size: int, seed: int
) -> dict[str, Tensor]:
    """The scores of all rows of a panel, (N,) each; missing ones are not numbers."""
    family, data = done.model.family, target.rows.data
    source, rows = source_of(done), Rows(target, past, given, seed)
    known = source.normal(rows)
    if known is not None:
        own = family.variance(known.mean, data, done.model.extra(done.theta, target.rows))
        sd, y = (known.variance + own).sqrt(), family.response(data)
        log = -0.5 * ((y - known.mean) / sd).square() - sd.log() - 0.5 * math.log(2 * math.pi)
        pit = torch.special.ndtr((y - known.mean) / sd)
        return {"log": log, "crps": crps_of_normal(y, known.mean, sd), "pit": pit}
    eta, extra = source.eta(rows, size)
    return _of_draws(family, data, eta, extra, torch.Generator().manual_seed(seed + 53))


@torch.no_grad()
def _of_draws(
    family: Family, data: Observations, eta: Tensor, extra: Extra, generator: torch.Generator
) -> dict[str, Tensor]:
    """Scores by draws of eta (S, N)."""
    size = len(eta)
    log = torch.logsumexp(family.log_density(data, eta, extra), 0) - math.log(size)
    simulated = family.simulate(eta, data, extra, generator) / data.trials
    found = {"log": log, "crps": crps_of_draws(family.response(data), simulated)}
    known = family.distribution(data, eta, extra)
    shares = (
        ranked(simulated, family.response(data))
        if known is None
        else (known[0].mean(0), known[1].mean(0))
    )
    found["pit"] = randomised(shares, generator)
    categories = _categories(family, eta, extra)
    if len(categories) == 2 and family.support == "binary":
        found["brier"] = (categories[1] - data.y).square()
    elif categories:
        first = float(family.options()["first"])
        one = [(p - (data.y == first + k).double()).square() for k, p in enumerate(categories)]
        found["brier"] = torch.stack(one).sum(0)
    return found


def _categories(family: Family, eta: Tensor, extra: Extra) -> list[Tensor]:
    """P(Y = k) of binary and ordered outcomes, (N,) each; none of others."""
    names = family.category_names
    if names:
        own = [family.scored([float(j == k) for j in range(len(names))]) for k in range(len(names))]
        return [one.mean(eta, extra).mean(0) for one in own]
    if family.support == "binary":
        p = family.mean(eta, extra).mean(0)
        return [1 - p, p]
    return []


def crps_of_normal(y: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
    """sd {z (2 Phi(z) - 1) + 2 phi(z) - pi^-1/2},   z = (y - mean) / sd, elementwise."""
    z = (y - mean) / sd
    phi = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    return sd * (z * (2 * torch.special.ndtr(z) - 1) + 2 * phi - 1 / math.sqrt(math.pi))


def crps_of_draws(y: Tensor, draws: Tensor) -> Tensor:
    """E|Y - y| - 1/2 E|Y - Y'| over the empirical distribution of draws (S, N), (N,)."""
    size = len(draws)
    weight = 2 * torch.arange(1, size + 1, dtype=torch.float64) - size - 1
    within = (weight[:, None] * draws.sort(0).values).sum(0) / size**2
    return (draws - y).abs().mean(0) - within
