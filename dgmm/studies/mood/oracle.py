"""The oracle of the study of daily mood: the true model, asked about the next day.

    p(y_new | answers) = sum_m w_m p(y_new | b_m, answers),   w_m ~ p(answers | b_m) N(b_m) / q(b_m)

b_m are draws of q, a mixture of the prior and a multivariate t around the weighted draws of the
round before, whose weights are tempered as long as few draws carry them. Given b the answers are a
hidden Markov chain in the momentary state u, integrated by its forward pass over Gauss-Hermite
nodes: with K of them, nodes z and weights v, the step from one answer to the next is

    P_kl  proportional to  v_l N(z_l; rho z_k, 1 - rho^2) / N(z_l; 0, 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.numerics.quadrature import log_t, normal_rule, sobol_normal
from dgmm.studies.mood.next_day import LANDMARKS, asked_rows, history_rows
from dgmm.studies.mood.truth import (
    BEEPS,
    EFFECTS,
    EXTRA,
    FAMILIES,
    OUTCOMES,
    RANGE,
    Moments,
    covariance_root,
    predictors,
)

__all__ = ["MoodOracle", "mood_oracle"]

NODES = 11
FREEDOM = 5.0
PRIOR = 0.1  # share of the draws from the prior
ROUNDS = 3
LEAST = 0.1  # share of effective draws below which the weights are tempered
CELLS = 4_000_000
TAIL = 0.025


@dataclass(frozen=True)
class MoodOracle:
    """Predictions of the true model, and how well the integrals behind them are known."""

    said: pd.DataFrame  # for mood_scores
    effective: pd.Series  # effective number of draws, per person at a landmark


class Answers(NamedTuple):
    """The answers of some people, padded to the longest: (n, J)."""

    at: Moments
    y: dict[str, Tensor]
    there: Tensor  # bool


def mood_oracle(
    data: pd.DataFrame,
    landmarks: Sequence[int] = LANDMARKS,
    *,
    draws: int = 256,
    seed: int = 0,
) -> MoodOracle:
    """What the true model says about the next day of every new person.

    Args:
        data: of :func:`dgmm.studies.simulate_mood`.
        landmarks: as in :func:`dgmm.studies.mood.next_day.asked_rows`.
        draws: of what is particular of a person, per person at a landmark; an even number.
        seed: of the draws.

    Raises:
        ValueError: a number of draws that is not even and positive.
    """
    if draws < 2 or draws % 2:
        raise ValueError(f"draws={draws!r} is not an even number above 0")
    asked, past = asked_rows(data, landmarks), history_rows(data, landmarks)
    history = dict(tuple(past.groupby("person", sort=False)))
    groups = list(asked.groupby("person", sort=False))
    groups.sort(key=lambda one: len(history[one[0]]))
    rng, parts = np.random.default_rng([seed, 71]), []
    effective: dict[str, float] = {}
    first = 0
    while first < len(groups):
        some = _as_many_as_fit(groups, history, first, draws)
        names = [name for name, _ in some]
        known = _answers([history[name] for name in names])
        rows = _answers([frame for _, frame in some])
        b, log_weight, state, share = _posterior(known, draws, rng)
        effective |= dict(zip(names, share.tolist(), strict=True))
        parts.append(_said(b, log_weight, state, known, rows, [f for _, f in some], rng))
        first += len(some)
    said = pd.concat(parts, ignore_index=True).sort_values(["outcome", "row"])
    return MoodOracle(said.reset_index(drop=True), pd.Series(effective, name="effective"))


def _as_many_as_fit(
    groups: list[tuple[str, pd.DataFrame]], history: dict[str, pd.DataFrame], first: int, draws: int
) -> list[tuple[str, pd.DataFrame]]:
    last = first + 1
    while last < len(groups):
        cells = (last - first + 1) * len(history[groups[last][0]]) * draws * NODES
        if cells > CELLS:
            break
        last += 1
    return groups[first:last]


def _answers(frames: list[pd.DataFrame]) -> Answers:
    """Rows of several people, padded with copies of their first row."""
    J = max(len(one) for one in frames)
    index = np.stack([np.minimum(np.arange(J), len(one) - 1) for one in frames])
    there = torch.from_numpy(np.stack([np.arange(J) < len(one) for one in frames]))
    week = [(one["weekday"] + one["hour"] / 24) / 7 for one in frames]
    columns = [
        np.stack([one.to_numpy(dtype=float)[i] for one, i in zip(values, index, strict=True)])
        for values in (
            [one["time"] for one in frames],
            [one["hour"] for one in frames],
            week,
            *([one[name] for one in frames] for name in (*Moments._fields[3:], *OUTCOMES)),
        )
    ]
    tensors = [torch.from_numpy(one) for one in columns]
    split = len(Moments._fields)
    return Answers(
        Moments(*tensors[:split]), dict(zip(OUTCOMES, tensors[split:], strict=True)), there
    )


def _log_likelihood(b: Tensor, known: Answers, nodes: int = NODES) -> tuple[Tensor, Tensor]:
    """log p(answers | b), (M, n), and p(u at the last answer | b, answers), (M, n, K)."""
    z, v = (one[:, 0] for one in normal_rule(nodes))
    place = z.reshape(-1, 1, 1, 1)
    eta = predictors(b, place, known.at)  # (K, M, n, J)
    emitted = sum(
        FAMILIES[name].log_density(known.at.data(known.y[name]), eta[name], EXTRA[name])
        for name in OUTCOMES
    )
    assert isinstance(emitted, Tensor)
    emitted = torch.where(known.there, emitted, 0.0)
    gap = torch.where(known.there[:, 1:], known.at.time.diff(dim=1), 0.0)
    steps = _steps(gap, z, v)  # (n, J - 1, K, K)
    density = torch.exp(emitted - (top := emitted.amax(0))).permute(3, 2, 1, 0)  # (J, n, M, K)
    total = torch.where(known.there, top, 0.0).sum(-1)  # (M, n)
    alpha = v.expand(density.shape[1:]) * density[0]
    for j in range(len(density)):
        if j:
            moved = alpha @ steps[:, j - 1] * density[j]
            alpha = torch.where(known.there[:, j, None, None], moved, alpha)
        size = alpha.sum(-1, keepdim=True)
        total = total + size[..., 0].log().T
        alpha = alpha / size
    return total, alpha.transpose(0, 1)


def _steps(gap: Tensor, z: Tensor, v: Tensor) -> Tensor:
    """P of every gap in days, (..., K, K), rows that add up to one."""
    rho = torch.exp(-gap / RANGE)[..., None, None].clamp(max=0.98)
    left = 1 - rho.square()
    log_ratio = -0.5 * (z - rho * z[:, None]).square() / left + 0.5 * z.square()
    P = v * torch.exp(log_ratio)
    return P / P.sum(-1, keepdim=True)


def _posterior(
    known: Answers, draws: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draws of b (M, n, 5), their log weights and states, and the effective numbers (n,)."""
    n, L = len(known.there), covariance_root()
    half = torch.eye(EFFECTS, dtype=torch.float64).expand(n, -1, -1)
    mean, root = torch.zeros(n, EFFECTS, dtype=torch.float64), half
    for round in range(ROUNDS):
        e = sobol_normal(EFFECTS, draws, int(rng.integers(2**31)))[:, None].expand(-1, n, -1)
        if round:
            chi2 = torch.from_numpy(rng.chisquare(FREEDOM, (draws, n, 1))) / FREEDOM
            local = mean + torch.einsum("nab,mnb->mna", root, e / chi2.sqrt())
            of_prior = torch.from_numpy(rng.uniform(size=(draws, n, 1)) < PRIOR)
            e = torch.where(of_prior, e, local)
        standard: Tensor = -0.5 * (e.square().sum(-1) + EFFECTS * math.log(2 * math.pi))
        log_q = standard
        if round:
            back = torch.linalg.solve_triangular(root, (e - mean).permute(1, 2, 0), upper=False)
            of_t = log_t(back.permute(2, 0, 1), FREEDOM)
            of_t = of_t - root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            log_q = torch.logaddexp(standard + math.log(PRIOR), of_t + math.log(1 - PRIOR))
        b = e @ L.T
        value, state = _log_likelihood(b, known)
        log_weight = standard + value - log_q
        tempered = _tempered(log_weight)
        w = torch.softmax(tempered, 0)
        mean = torch.einsum("mn,mna->na", w, e)
        gap = e - mean
        spread = torch.einsum("mn,mna,mnb->nab", w, gap, gap)
        root = torch.linalg.cholesky(spread + 1e-4 * torch.eye(EFFECTS, dtype=torch.float64))
    log_weight = log_weight - torch.logsumexp(log_weight, 0)
    return b, log_weight, state, torch.exp(-torch.logsumexp(2 * log_weight, 0))


def _tempered(log_weight: Tensor) -> Tensor:
    """The log weights times the largest power up to one that leaves enough effective draws."""
    least = LEAST * len(log_weight)
    low, high = torch.zeros(log_weight.shape[1]).double(), torch.ones(log_weight.shape[1]).double()

    def effective(power: Tensor) -> Tensor:
        w = torch.log_softmax(power * log_weight, 0)
        return torch.exp(-torch.logsumexp(2 * w, 0))

    enough = effective(high) >= least
    for _ in range(20):
        middle = 0.5 * (low + high)
        good = effective(middle) >= least
        low, high = torch.where(good, middle, low), torch.where(good, high, middle)
    return torch.where(enough, 1.0, low) * log_weight


def _said(
    b: Tensor,
    log_weight: Tensor,
    state: Tensor,
    known: Answers,
    rows: Answers,
    frames: list[pd.DataFrame],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Means, log scores and intervals of the asked beeps."""
    z, v = (one[:, 0] for one in normal_rule(NODES))
    last = known.at.time[torch.arange(len(known.there)), known.there.sum(1) - 1]
    steps = _steps(rows.at.time - last[:, None], z, v)  # (n, J, K, K)
    share = torch.einsum("mnk,njkl->mnjl", state, steps)  # (M, n, J, K)
    weight = log_weight.exp()[..., None, None] * share
    eta = predictors(b, z.reshape(-1, 1, 1, 1), rows.at)  # (K, M, n, J)
    index = np.concatenate([one.index.to_numpy() for one in frames])
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    w, found = weight.permute(3, 0, 1, 2), []  # (K, M, n, J)
    for name in OUTCOMES:
        family, extra, data = FAMILIES[name], EXTRA[name], rows.at.data(rows.y[name])
        table = pd.DataFrame({"row": index, "outcome": name})
        density = family.log_density(data, eta[name], extra).exp()
        table["mean"] = _flat((w * family.mean(eta[name], extra)).sum((0, 1)))
        table["log_score"] = _flat((w * density).sum((0, 1)).log())
        if not family.yes_or_no:
            y = family.simulate(eta[name], data, extra, generator).flatten(0, 1)
            order = y.argsort(0)
            ordered, mass = y.gather(0, order), w.flatten(0, 1).gather(0, order).cumsum(0)
            for end, level in (("lower", TAIL), ("upper", 1 - TAIL)):
                place = (mass < level).sum(0, keepdim=True).clamp(max=len(y) - 1)
                table[end] = _flat(ordered.gather(0, place)[0])
        found.append(table)
    return pd.concat(found)


def _flat(values: Tensor) -> np.ndarray:
    """(n, beeps of a day) as one column."""
    assert values.shape[1] == BEEPS
    return values.reshape(-1).numpy()
