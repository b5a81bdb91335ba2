"""The oracle: the true model of a study, asked what every method is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import special
from torch import Tensor

from dgmm.likelihood import gaussian
from dgmm.panel import Panel
from dgmm.posterior.modes import find_modes
from dgmm.studies.base import Process
from dgmm.studies.predictions import Predictions, in_question
from dgmm.studies.sampling import CENTRES, mixture_quantile, sample_posterior
from dgmm.studies.simulate import find_process
from dgmm.studies.truth import Truth, true_model

__all__ = ["Oracle", "oracle_predictions"]

CELLS = 3_000_000
TAIL = 0.025


@dataclass(frozen=True)
class Oracle:
    """Predictions of the true model, and how well the integrals behind them are known."""

    predictions: Predictions
    log_likelihood: pd.Series  # log p(y_i seen), one per subject of the study
    mc_error: pd.Series  # its Monte Carlo standard error, (1 / effective - 1 / draws)^(1/2)
    effective: pd.Series  # effective number of draws; infinite where nothing was drawn


class Rows(NamedTuple):
    """Mean and interval per row of a panel (N,), log-likelihood and draws per subject (n,)."""

    mean: Tensor
    lower: Tensor
    upper: Tensor
    log_likelihood: Tensor
    effective: Tensor


def oracle_predictions(
    process: str | Process, data: pd.DataFrame, *, draws: int = 2048, seed: int = 0
) -> Oracle:
    """What the true model says about every row of a study.

        E(mu_ij | y_i seen),   2.5% and 97.5% points of p(y | y_i seen),   log p(y_i)

    For a linear process (b | y is normal) in closed form, for others by importance sampling around
    several modes and along the posterior.

    Args:
        process: the one that ``data`` were simulated from.
        data: the frame of :func:`dgmm.simulate_study`.
        draws: per subject, a multiple of 16.
        seed: of the draws.

    Returns:
        An :class:`Oracle`; its ``predictions`` go to :func:`dgmm.studies.score`.

    Raises:
        ValueError: an unknown process, or a number of draws that is not a multiple of 16.

    Example:
        >>> import dgmm
        >>> from dgmm.studies import oracle_predictions, score
        >>> data = dgmm.simulate_study("lmm", seed=1)
        >>> scores = score(oracle_predictions("lmm", data).predictions, data, "lmm")
        >>> float(scores["loglik"].round(2))
        -27.94
    """
    chosen = find_process(process)
    if draws < CENTRES or draws % CENTRES:
        raise ValueError(f"draws={draws!r} is not a multiple of {CENTRES}")
    truth = true_model(chosen, data)
    new = (data["set"] == "new").to_numpy()
    known = torch.tensor((data["observed"].to_numpy() | new)[truth.order])
    history = truth.panel.keep(known)
    if chosen.linear:
        found = _exact(truth, history, chosen)
    else:
        asked = torch.from_numpy(in_question(data)[truth.order])
        found = _sampled(truth, history, chosen, asked, draws, np.random.default_rng([seed, 53]))
    index = pd.Index(truth.panel.ids.tolist(), name="id")
    error = (1 / found.effective - 1 / draws).clamp(min=0).sqrt()
    each = [
        pd.Series(one.numpy(), index=index)
        for one in (found.log_likelihood, error, found.effective)
    ]
    place = np.argsort(truth.order)
    mean, lower, upper = (column.numpy()[place] for column in found[:3])
    scores = each[0][data.loc[new, "id"].unique()]
    return Oracle(Predictions(mean, lower, upper, scores), *each)


def _exact(truth: Truth, history: Panel, process: Process) -> Rows:
    """b | y is normal: eta has mean J m and variance |J R|^2, y adds sigma^2."""
    model, theta, panel = truth.model, truth.theta, truth.panel
    mean, spread = torch.zeros(2, panel.n_rows, dtype=torch.float64)
    for block in history.blocks():
        anchor, rows = find_modes(model, theta, block), panel.block(block.subjects)
        J = model.jacobian(theta, anchor.mode, rows.rows)
        at = rows.index[rows.mask]
        mean[at] = model.mu2(theta, anchor.mode, rows.rows)[rows.mask]
        spread[at] = (J @ anchor.root).square().sum(-1)[rows.mask]
    width = -special.ndtri(TAIL) * (spread + process.sigma**2).sqrt()
    value = gaussian.per_subject(model, theta, history)
    return Rows(mean, mean - width, mean + width, value, torch.full_like(value, torch.inf))


def _sampled(
    truth: Truth,
    history: Panel,
    process: Process,
    asked: Tensor,
    draws: int,
    rng: np.random.Generator,
) -> Rows:
    """The same from weighted draws of b | y; intervals of the rows ``asked`` for only."""
    panel = truth.panel
    mean, lower, upper = torch.full((3, panel.n_rows), torch.nan, dtype=torch.float64)
    value, effective = torch.zeros(2, panel.n, dtype=torch.float64)
    for block in history.blocks(CELLS // draws):
        found = sample_posterior(truth.model, truth.theta, history, block.subjects, draws, rng)
        value[block.subjects], effective[block.subjects] = found.log_likelihood, found.effective
        rows, weight = panel.block(block.subjects), found.log_weight.exp()
        eta = truth.model.mu2(truth.theta, found.b, rows.rows)
        mean[rows.index[rows.mask]] = torch.einsum("mn,mnj->nj", weight, eta)[rows.mask]
        wanted = rows.mask & asked[rows.index]
        place, wide = rows.index[wanted], weight[..., None].expand_as(eta)[:, wanted]
        lower[place] = mixture_quantile(TAIL, eta[:, wanted], wide, process.sigma)
        upper[place] = mixture_quantile(1 - TAIL, eta[:, wanted], wide, process.sigma)
    return Rows(mean, lower, upper, value, effective)
