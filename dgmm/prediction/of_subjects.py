"""p(b | y) of the subjects of any data, with what says how well it is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.encoders import Encoder, Mixed
from dgmm.estimate import Estimate
from dgmm.likelihood.numerical import no_density
from dgmm.panel import Panel
from dgmm.prediction.at_estimate import effect_matrix
from dgmm.prediction.methods import through
from dgmm.prediction.moments import outcomes_seen
from dgmm.prediction.new_values import calculable
from dgmm.record import Fitted
from dgmm.runtime.result_table import ResultTable
from dgmm.variational.by_encoder import EncoderPosterior

__all__ = ["SubjectPosterior", "posterior"]


@dataclass(frozen=True, eq=False)
class SubjectPosterior:
    """What is known of the random effects of some subjects."""

    table: pd.DataFrame  # a row per subject
    names: tuple[str, ...]  # (K,) of the effects
    draws: np.ndarray = field(repr=False)  # (S, n, K), of equal weight

    def __repr__(self) -> str:
        return repr(self.table)


def posterior(
    fit: Fitted,
    newdata: Any,
    *,
    method: str = "refined",
    draws: int = 0,
    seed: int | None = None,
) -> SubjectPosterior:
    """p(b | y) of every subject of ``newdata`` at theta-hat, from the outcomes in it alone.

        E(b | y) ~ sum_m w_m b_m,   w_m ~ p(y, b_m) / g(b_m),   b_m ~ g

    Args:
        fit: a fit of :func:`dgmm.mixed_model` with one grouping factor.
        newdata: rows with outcomes; missing ones say nothing. A subject without any keeps its
            prior. Outcomes that the fit has seen of the same ids are not used.
        method: where the draws come from. "refined": t densities around the moments that Newton
            steps and a round of draws find for every subject. "encoder": the encoder of the fit,
            with no search; only where the tail of the weights has k > 0.7 are draws refined.
        draws: how many draws of equal weight are given back, taken anew from the weighted ones.
        seed: of the draws, by default that of the fit. Those of a subject depend on its id, not on
            who else is there.

    Returns:
        A :class:`SubjectPosterior`. Its ``table`` has the means of the effects and their standard
        deviations ``sd(...)``, in the units of :meth:`ranef`; ``log_score``, log p(y), and
        its Monte Carlo error ``mc_error``; ``ess``, the effective number of draws; ``pareto_k`` of
        the weights of the method, above 0.7 unreliable; ``refined``; ``nobs``. ``draws`` is an
        array (draws, subjects, effects).

    Raises:
        ValueError: several grouping factors, a fit without an encoder, or sampled by
            method="gibbs", or random effects without a density.

    Example:
        >>> import dgmm
        >>> sleep = dgmm.datasets.load("sleepstudy")
        >>> new = sleep["Subject"].isin(["308", "309"])
        >>> fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep[~new])
        >>> table = fit.posterior(sleep[new]).table
        >>> table["log_score"].round(1).to_dict()
        {'308': -60.6, '309': -47.3}
        >>> list(table.columns[:4])
        ['(Intercept)', 'Days', 'sd((Intercept))', 'sd(Days)']

    References:
        Vehtari, Simpson, Gelman, Yao and Gabry (2024), J. Machine Learning Research 25(72).
    """
    done = fit.estimate
    done.likelihood.check_separate("posterior()")
    if fit.sampled or done.likelihood.bound or (reason := no_density(done.model)):
        why = (
            "this fit holds draws of theta (method='gibbs'): read ranef()"
            if fit.sampled
            else "of this model a lower bound is known: read states() and predict()"
            if done.likelihood.bound
            else reason
        )
        raise ValueError(f"posterior() is about weighted draws of b given y, and {why}")
    if draws < 0:
        raise ValueError(f"draws is a number of draws, 0 or more, not {draws!r}")
    own, start = through(done, method), fit.call.seed if seed is None else seed
    with calculable(fit.memory, newdata=newdata):
        panel = outcomes_seen(done, fit.memory.spec, newdata)
        found = of_panel(own, panel, method, draws, start)
    matrix, names = effect_matrix(done, range(len(done.model.latents)))
    table = _table(found, panel, matrix, names, fit.memory.groups[0])
    effects = torch.einsum("ak,mnk->mna", matrix, found.draws).numpy()
    return SubjectPosterior(table, tuple(names), effects)


@dataclass(frozen=True)
class _Found:
    """Subject by subject, (n, ...)."""

    mean: Tensor  # (n, k)
    covariance: Tensor  # (n, k, k)
    log_score: Tensor  # (n,)
    error: Tensor
    effective: Tensor
    shape: Tensor
    refined: Tensor
    draws: Tensor  # (S, n, k)


@torch.no_grad()
def of_panel(done: Estimate, panel: Panel, method: str, draws: int, seed: int) -> _Found:
    """The posterior of the subjects of a panel."""
    encoder = done.encoder if method == "encoder" else None
    assert encoder is None or isinstance(encoder, Mixed | Encoder)
    model = done.model.sized(panel)
    theta = {name: value.detach() for name, value in done.theta.items()}
    source = EncoderPosterior(model, theta, panel, encoder, done.phi, seed)
    n, k = panel.n, model.k
    mean, covariance = torch.zeros(n, k), torch.zeros(n, k, k)
    mean, covariance = mean.double(), covariance.double()
    value, error, effective, shape = torch.zeros(4, n, dtype=torch.float64)
    refined = torch.zeros(n, dtype=torch.bool)
    drawn = torch.zeros(draws, n, k, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed + 79)
    for one in source.drawn():
        at, weight = one.block.subjects, torch.softmax(one.log_weight, 0)
        mean[at] = torch.einsum("mn,mnk->nk", weight, one.b)
        away = one.b - mean[at]
        covariance[at] = torch.einsum("mn,mna,mnb->nab", weight, away, away)
        value[at] = torch.logsumexp(one.log_weight, 0)
        effective[at] = one.effective
        error[at] = (1 / one.effective - 1 / len(one.b)).clamp(min=0).sqrt()
        shape[at], refined[at] = one.shape, one.refined
        if draws:
            chosen = torch.multinomial(weight.T, draws, replacement=True, generator=generator)
            drawn[:, at] = one.b[chosen.T, torch.arange(len(at))]
    return _Found(mean, covariance, value, error, effective, shape, refined, drawn)


def _table(
    found: _Found, panel: Panel, matrix: Tensor, names: list[str], group: str
) -> pd.DataFrame:
    frame = pd.DataFrame(
        (found.mean @ matrix.T).numpy(), index=pd.Index(panel.ids.tolist()), columns=names
    )
    spread = torch.einsum("ak,nkl,al->na", matrix, found.covariance, matrix).clamp(min=0).sqrt()
    for j, name in enumerate(names):
        frame[f"sd({name})"] = spread[:, j].numpy()
    more = {
        "log_score": found.log_score,
        "mc_error": found.error,
        "ess": found.effective,
        "pareto_k": found.shape,
        "refined": found.refined,
        "nobs": panel.outcomes,
    }
    for name, column in more.items():
        frame[name] = column.numpy()
    return ResultTable(frame).rename_axis(index=group)
