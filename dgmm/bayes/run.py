"""Chains of a sampler from their start to their draws: warm-up, what is kept, checkpoints.

Chains advance together in one process, or some in each of several; every chain has its own random
numbers, so that it is the same chain wherever it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from dgmm.bayes.centring import Centring, centre, possible
from dgmm.bayes.gibbs import Gibbs
from dgmm.bayes.layout import layout_of
from dgmm.bayes.metropolis import Metropolis
from dgmm.bayes.priors import Prior
from dgmm.bayes.sampler import Sampler, State
from dgmm.bayes.specified import specify
from dgmm.mcmc import Streams
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.runtime.checkpoint import Checkpoint, Saved
from dgmm.runtime.parallel import each

__all__ = ["Plan", "Run", "advance", "begin", "prepare", "sampler_of"]

PILOT = 200
"""Sweeps of one chain before the others, after which columns are centred or not."""

PILOT_CHAIN = 1_000_003
"""Number of its stream, which no other chain has."""

EFFECTS = 1_000
"""Most draws over all chains of which the effects of all levels are kept."""

NUMBERS = 20_000_000
"""Most numbers kept of effects, and of missing outcomes."""

GAIN = 0.6
"""The adaptation at the t-th sweep of warm-up moves by t^-0.6."""

WRITINGS = 10
"""Times that a run writes its checkpoint."""


@dataclass(frozen=True)
class Plan:
    """How long a run is: sweeps dropped, draws kept, effects of every ``thin``-th of these."""

    warmup: int
    draws: int
    thin: int

    @classmethod
    def of(cls, sampler: Sampler, chains: int, warmup: int, draws: int) -> Plan:
        """The plan whose kept effects have room."""
        size = sum(factor.K * factor.m for factor in sampler.layout.factors)
        size = max(size, int((~sampler.panel.observed).sum()), 1)
        most = max(min(EFFECTS, NUMBERS // size), 1)
        return cls(warmup, draws, max(-(-chains * draws // most), 1))


@dataclass
class Run:
    """Some chains under way, and what was kept of them, chains on the last axis but for effects."""

    state: State
    streams: Streams
    sweeps: int = 0
    beta: list[np.ndarray] = field(default_factory=list)  # (p, C) each
    D: list[tuple[np.ndarray, ...]] = field(default_factory=list)  # (K, K, C) per factor
    extra: list[np.ndarray] = field(default_factory=list)  # (R, C)
    effects: list[tuple[np.ndarray, ...]] = field(default_factory=list)  # (K, C, m) per factor
    missing: list[np.ndarray] = field(default_factory=list)  # (N_mis, C)
    first: list[np.ndarray] = field(default_factory=list)  # (K, C, m) sums of effects
    second: list[np.ndarray] = field(default_factory=list)  # and of their squares


def sampler_of(
    model: Model, panel: Panel, prior: Prior, inside: Sequence[int] | None = None
) -> Sampler:
    """The sampler of a model: exact conditionals where the outcome is normal.

    inside: the factor (or -1) in whose means a column stands; by default none is centred.
    """
    layout = layout_of(model, panel)
    kind: type[Sampler] = Gibbs if model.family.conjugate else Metropolis
    found = possible(layout, panel)
    where = np.full(layout.p, -1) if inside is None else np.array(inside, dtype=int)
    E = tuple(
        np.where((where == f)[None, :, None], np.nan_to_num(one), 0.0)
        for f, one in enumerate(found)
    )
    return kind(layout, panel, specify(prior, layout, panel), Centring(E, where))


def prepare(model: Model, panel: Panel, prior: Prior, seed: int) -> Sampler:
    """The sampler with its centring chosen by a short pilot chain."""
    pilot = sampler_of(model, panel, prior)
    streams = Streams.of(seed, [PILOT_CHAIN])
    state = pilot.start(streams)
    for t in range(1, PILOT + 1):
        pilot.sweep(state, streams, t**-GAIN)
    D = [one.mean(-1) for one in state.D]
    found = centre(possible(pilot.layout, panel), D, pilot.own(state))
    return sampler_of(model, panel, prior, found.inside.tolist())


def begin(sampler: Sampler, seed: int, chains: Sequence[int]) -> Run:
    """Chains, by number, at their start."""
    streams = Streams.of(seed, chains)
    return Run(sampler.start(streams), streams)


def advance(
    sampler: Sampler,
    runs: Sequence[Run],
    plan: Plan,
    checkpoint: Checkpoint | None = None,
    told: Callable[[int], None] | None = None,
) -> list[Run]:
    """All sweeps of a plan; several runs in a process each."""
    if len(runs) == 1:
        return [_whole(sampler, plan, (0, runs[0]), checkpoint, told)]
    task = partial(_whole_apart, sampler, plan, checkpoint)
    return list(each(task, list(enumerate(runs)), workers=len(runs)))


def _whole_apart(
    sampler: Sampler, plan: Plan, checkpoint: Checkpoint | None, one: tuple[int, Run]
) -> Run:
    own = None if checkpoint is None else checkpoint.branch(f"chains{one[0] + 1}")
    return _whole(sampler, plan, one, own, None)


def _whole(
    sampler: Sampler,
    plan: Plan,
    one: tuple[int, Run],
    checkpoint: Checkpoint | None,
    told: Callable[[int], None] | None,
) -> Run:
    run, total = one[1], plan.warmup + plan.draws
    number, saved = (0, None) if checkpoint is None else checkpoint.next()
    if saved is not None:
        run = _restored(run, saved, len(sampler.layout.factors))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        while run.sweeps < total:
            _sweep(sampler, run, plan)
            if told is not None:
                told(run.sweeps)
            if checkpoint is not None and run.sweeps % max(total // WRITINGS, 1) == 0:
                checkpoint.write(number, _saved(run))
    return run


def _sweep(sampler: Sampler, run: Run, plan: Plan) -> None:
    run.sweeps += 1
    warm = run.sweeps <= plan.warmup
    sampler.sweep(run.state, run.streams, run.sweeps**-GAIN if warm else 0.0)
    if warm:
        run.state.sweeps = 0
        return
    state = run.state
    run.beta.append(sampler.coefficients(state))
    run.D.append(tuple(D.copy() for D in state.D))
    run.extra.append(state.extra.copy())
    gamma = [sampler.gamma(state, f) for f in range(len(state.u))]
    if not run.first:
        run.first = [np.zeros_like(one) for one in gamma]
        run.second = [np.zeros_like(one) for one in gamma]
    for first, second, one in zip(run.first, run.second, gamma, strict=True):
        first += one
        second += one * one
    gap = not bool(sampler.panel.observed.all())
    seeds = run.streams.uniform(1)[:, 0] if gap else None  # whether they are used or not
    if (run.sweeps - plan.warmup) % plan.thin == 0:
        run.effects.append(tuple(one.copy() for one in gamma))
        if seeds is not None:
            run.missing.append(sampler.missing(state, seeds))


# -- checkpoints ---------------------------------------------------------------------------------


def pack(run: Run) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Where the chains of a run stand, as tensors and plain numbers."""
    state, (ahead, generators) = run.state, run.streams.state()
    arrays = {"beta": state.beta, "extra": state.extra}
    arrays |= {f"u{f}": one for f, one in enumerate(state.u)}
    arrays |= {f"D{f}": one for f, one in enumerate(state.D)}
    arrays |= {f"scale {name}": one for name, one in state.scales.items()}
    arrays |= {f"accepted {name}": one for name, one in state.accepted.items()}
    arrays |= {f"ahead {kind}": one for kind, one in ahead.items()}
    tensors = {name: torch.from_numpy(np.array(one, order="C")) for name, one in arrays.items()}
    return tensors, {"sweeps": state.sweeps, "generators": generators}


def unpack(tensors: dict[str, torch.Tensor], numbers: dict[str, Any], factors: int) -> Run:
    """The run that :func:`pack` has written, nothing kept."""
    arrays = {name: one.numpy().copy() for name, one in tensors.items()}
    state = State(
        arrays["beta"],
        [arrays[f"u{f}"] for f in range(factors)],
        [arrays[f"D{f}"] for f in range(factors)],
        arrays["extra"],
        {n.removeprefix("scale "): one for n, one in arrays.items() if n.startswith("scale ")},
        {n.removeprefix("accepted "): o for n, o in arrays.items() if n.startswith("accepted ")},
        numbers["sweeps"],
    )
    ahead = {n.removeprefix("ahead "): one for n, one in arrays.items() if n.startswith("ahead ")}
    return Run(state, Streams.at(ahead, numbers["generators"]))


def _saved(run: Run) -> Saved:
    tensors, numbers = pack(run)
    lists = {"beta": run.beta, "extra": run.extra, "missing": run.missing}
    for name in ("D", "effects"):
        of_factors = list(zip(*getattr(run, name), strict=True))
        lists |= {f"{name}{f}": list(own) for f, own in enumerate(of_factors)}
    kept = {name: np.stack(own) for name, own in lists.items() if own}
    kept |= {f"first{f}": one.copy() for f, one in enumerate(run.first)}
    kept |= {f"second{f}": one.copy() for f, one in enumerate(run.second)}
    tensors |= {f"kept {name}": torch.from_numpy(one) for name, one in kept.items()}
    return Saved(tensors, {**numbers, "run": run.sweeps})


def _restored(begun: Run, saved: Saved, factors: int) -> Run:
    kept = {n.removeprefix("kept "): t for n, t in saved.tensors.items() if n.startswith("kept ")}
    own = {n: t for n, t in saved.tensors.items() if not n.startswith("kept ")}
    run = unpack(own, saved.numbers, factors)
    run.sweeps = saved.numbers["run"]

    def entries(name: str) -> list[np.ndarray]:
        return list(kept[name].numpy().copy()) if name in kept else []

    run.beta, run.extra, run.missing = entries("beta"), entries("extra"), entries("missing")
    run.D = list(zip(*(entries(f"D{f}") for f in range(factors)), strict=True))
    run.effects = list(zip(*(entries(f"effects{f}") for f in range(factors)), strict=True))
    if run.beta:
        run.first = [kept[f"first{f}"].numpy().copy() for f in range(factors)]
        run.second = [kept[f"second{f}"].numpy().copy() for f in range(factors)]
    return run
