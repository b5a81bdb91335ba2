"""What a fit keeps of its chains: draws of theta, effects of levels, where to go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgmm.bayes.run import Plan, Run, pack, unpack
from dgmm.bayes.sampler import Sampler

__all__ = ["Chains", "collect", "resumed"]


@dataclass(frozen=True, eq=False)
class Chains:
    """Draws from the posterior, C chains of S each.

    kept: the draws, among all C S with those of a chain together, of which effects and missing
    outcomes are there.
    """

    table: Tensor  # (C, S, P) of theta
    effects: tuple[Tensor, ...]  # per factor (B, m, K), in the units of the columns
    effect_mean: tuple[Tensor, ...]  # per factor (m, K), over all draws
    effect_sd: tuple[Tensor, ...]
    missing: Tensor  # (B, N_mis) outcomes, by planned row; (B, 0) where all were seen
    kept: Tensor  # (B,) long
    acceptance: dict[str, Tensor]  # (C,) of every kind of Metropolis step
    warmup: int
    seed: int
    inside: tuple[int, ...]  # (p,) factor in whose means a column stands, -1 for none
    priors: tuple[str, ...]  # in words
    tensors: dict[str, Tensor]  # where the chains stand
    numbers: dict[str, Any]

    @property
    def chains(self) -> int:
        """C."""
        return self.table.shape[0]

    @property
    def draws(self) -> int:
        """S."""
        return self.table.shape[1]

    @property
    def flat(self) -> Tensor:
        """All draws of theta, (C S, P), those of a chain together."""
        return self.table.reshape(-1, self.table.shape[-1])

    @property
    def thetas(self) -> Tensor:
        """The draws of theta whose effects are kept, (B, P)."""
        return self.flat[self.kept]

    def followed_by(self, more: Chains) -> Chains:
        """These chains and what they drew when they went on."""
        S, s = self.draws, more.draws
        both = torch.cat([self.table, more.table], dim=1)
        shift = [(one // n) * (S + s) + one % n for one, n in ((self.kept, S), (more.kept, s))]
        order = torch.argsort(torch.cat([shift[0], shift[1] + S]))

        def joined(one: Tensor, other: Tensor) -> Tensor:
            return torch.cat([one, other])[order]

        share = S / (S + s)
        mean = tuple(
            share * a + (1 - share) * b
            for a, b in zip(self.effect_mean, more.effect_mean, strict=True)
        )
        square = (
            share * (v.square() + a.square()) + (1 - share) * (w.square() + b.square())
            for v, a, w, b in zip(
                self.effect_sd, self.effect_mean, more.effect_sd, more.effect_mean, strict=True
            )
        )
        sd = tuple(
            (total - one.square()).clamp(min=0).sqrt()
            for total, one in zip(square, mean, strict=True)
        )
        return Chains(
            both,
            tuple(joined(a, b) for a, b in zip(self.effects, more.effects, strict=True)),
            mean,
            sd,
            joined(self.missing, more.missing),
            torch.cat([shift[0], shift[1] + S])[order],
            more.acceptance,
            self.warmup,
            self.seed,
            self.inside,
            self.priors,
            more.tensors,
            more.numbers,
        )


def collect(sampler: Sampler, runs: Sequence[Run], plan: Plan, seed: int) -> Chains:
    """The record of some runs, chains in their order."""
    layout = sampler.layout

    def stacked(per_run: Sequence[Sequence[np.ndarray]]) -> Tensor:
        """(C, S, ...) from lists of arrays with the chains on their last axis."""
        parts = [np.moveaxis(np.stack(one), -1, 0) for one in per_run]
        return torch.from_numpy(np.ascontiguousarray(np.concatenate(parts)))

    beta = stacked([run.beta for run in runs])
    C, S = beta.shape[:2]
    D = [stacked([[one[f] for one in run.D] for run in runs]) for f in range(len(layout.factors))]
    extra = stacked([run.extra for run in runs])
    table = layout.table(
        beta.reshape(C * S, -1),
        tuple(one.reshape(C * S, *one.shape[2:]) for one in D),
        extra.reshape(C * S, -1),
    )
    effects = [
        np.concatenate([np.stack([one[f] for one in run.effects]) for run in runs], axis=2)
        if runs[0].effects
        else np.zeros((0, factor.K, C, factor.m))
        for f, factor in enumerate(layout.factors)
    ]  # (b, K, C, m)
    size = len(effects[0])
    kept = torch.arange(1, size + 1) * plan.thin - 1
    gap = int((~sampler.panel.observed).sum())
    missing = torch.zeros(C * size, 0, dtype=torch.float64)
    if gap and size:
        missing = stacked([run.missing for run in runs]).reshape(C * size, gap)
    moments = []
    for f in range(len(layout.factors)):
        first = np.concatenate([run.first[f] for run in runs], axis=1).mean(1) / S
        second = np.concatenate([run.second[f] for run in runs], axis=1).mean(1) / S
        sd = np.sqrt(np.maximum(second - first**2, 0.0))
        moments.append((torch.from_numpy(first.T.copy()), torch.from_numpy(sd.T.copy())))
    tensors, numbers = _standing(runs)
    return Chains(
        table.reshape(C, S, -1),
        tuple(
            torch.from_numpy(one.transpose(2, 0, 3, 1).reshape(C * size, one.shape[3], -1).copy())
            for one in effects
        ),
        tuple(mean for mean, _ in moments),
        tuple(sd for _, sd in moments),
        missing,
        (torch.arange(C)[:, None] * S + kept).reshape(-1),
        _acceptance(runs),
        plan.warmup,
        seed,
        tuple(sampler.centring.inside.tolist()),
        sampler.prior.lines,
        tensors,
        numbers,
    )


def _acceptance(runs: Sequence[Run]) -> dict[str, Tensor]:
    names = runs[0].state.accepted
    return {
        name: torch.from_numpy(
            np.concatenate([run.state.accepted[name] / max(run.state.sweeps, 1) for run in runs])
        )
        for name in names
    }


def _standing(runs: Sequence[Run]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Where the chains stand; every run by its number."""
    tensors, numbers = dict[str, Tensor](), dict[str, Any]()
    for i, run in enumerate(runs):
        own, plain = pack(run)
        tensors |= {f"{i}/{name}": one for name, one in own.items()}
        numbers[str(i)] = plain
    return tensors, numbers


def resumed(chains: Chains, factors: int) -> list[Run]:
    """The runs where they stand."""
    found = []
    for i, plain in chains.numbers.items():
        start = f"{i}/"
        own = {n.removeprefix(start): t for n, t in chains.tensors.items() if n.startswith(start)}
        found.append(unpack(own, plain, factors))
    return found
