"""An encoder taught at a given theta by data without end: subjects simulated from the model.

b ~ N(0, I), y from the model at the covariates and times of subjects drawn from the panel; of y the
encoder sees what those subjects have seen, the rows up to some time, or some rows at random. The
normal encoder learns from the draws themselves, E -log q(b | y). The mixture learns from nodes b_m
about p(b | y), draws from a density g, by the divergence of their weights,

    sum_m w_m log(w_m / v_m),    w_m ~ p(y, b_m) / g(b_m),    v_m ~ q(b_m | y) / g(b_m),

each normalised over the nodes. Its gradient sum_m (v_m - w_m) d log q(b_m) vanishes where q is
p(b | y), whatever the nodes: nothing of it is noise then. Nodes are made once for every subject,
which is used a few times. Subjects are new from pool to pool, so that there is nothing to overfit:
the divergence on a pool not yet learnt from is that of new subjects.

References:
    Papamakarios and Murray (2016), NeurIPS; Le, Kosiorek, Siddharth, Teh and Wood (2019), UAI.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.encoders import Context, Encoder, Mixed, Posterior, context
from dgmm.encoders.mixed import heights, quadratic
from dgmm.model import Model
from dgmm.model.density import log_prior
from dgmm.model.simulation import simulate_every
from dgmm.networks import Weights
from dgmm.numerics.quadrature import log_t, sobol_gaussian, sobol_t
from dgmm.panel import Block, Panel
from dgmm.parameters import Theta
from dgmm.posterior.proposal import find_places
from dgmm.runtime.devices import to
from dgmm.runtime.parallel import one_thread

__all__ = ["Lesson", "can_mix", "examined", "pupils", "teach_mixture", "teach_normal"]

OWN, PREFIX = 0.3, 0.45
"""Shares of simulated subjects seen at the rows of one of the data, and up to some time; of the
others every row is seen with a probability that is uniform over subjects."""

CELLS = 60_000
"""Rows of the subjects simulated at once."""

MOST, FEWEST = 2048, 256
"""Subjects simulated at once."""

BATCH, REUSED = 128, 8
"""Subjects of a step, and how often each is used."""

NODES, FREEDOM, PRIOR_NODES = 64, 5.0, 16
"""Of the divergence, per subject: t draws about the end of the Newton steps, and of the prior, by
which modes are learnt that the steps have not led to."""

RATE, SKELETON = 1e-2, 5.0
"""Learning rate, and by how much that of the skeleton is larger."""

EXACT = 5e-4
"""Divergence, in nats per subject, below which there is nothing left to learn."""


MOST_EFFECTS = 12
"""Dimension of b up to which a mixture is learnt."""

EXAMINED, DRAWS = 256, 512
"""Simulated subjects behind the gap, and draws of the density that it is measured by."""


@dataclass(frozen=True)
class Lesson:
    """How far a taught q is from p(b | y), of simulated subjects that it has not learnt from."""

    gap: float  # KL(q || p(b | y)), nats per subject
    error: float  # its standard error over subjects
    subjects: int
    steps: int  # in which the mixture was learnt


def can_mix(model: Model, encoder: Encoder) -> bool:
    """Whether subjects are simulated for an encoder, and a mixture is put upon it."""
    plain = not (model.serial or model.reads or model.recursive)
    return plain and not encoder.diagonal and model.k <= MOST_EFFECTS


class _Pupil(NamedTuple):
    """What the mixture learns from, for every one of some simulated subjects."""

    inputs: Tensor  # (n, d)
    monomials: Tensor  # (n, M, .) of the nodes in the coordinates z
    log_base: Tensor  # (n, M) log g
    log_weight: Tensor  # (n, M) log w, normalised


def pupils(
    model: Model, theta: Theta, panel: Panel, generator: torch.Generator
) -> Iterator[tuple[Tensor, Block]]:
    """Simulated subjects without end: b (n, k) and a block of what is seen of y.

    panel: the subjects whose covariates and times are used, all planned rows.
    """
    there = torch.nonzero(torch.stack([one.count for one in panel.panels]).sum(0))[:, 0]
    parts = [replace(one, masked=False) for one in panel.masked_rows().panels]
    filled = replace(parts[0], beside=tuple(parts[1:]))
    size = max(FEWEST, min(MOST, CELLS // max(1, filled.longest)))
    while True:
        drawn = torch.randint(len(there), (size,), generator=generator)
        some = filled.select(there[drawn])
        seen = [one.observed for one in some.panels]
        b = torch.randn(size, model.k, generator=generator, dtype=torch.float64)
        y = simulate_every(model, theta, some, generator, b)
        pairs = zip(some.panels, y, strict=True)
        parts = [replace(one.with_outcome(own), beside=()) for one, own in pairs]
        block = replace(parts[0], beside=tuple(parts[1:])).block(torch.arange(size))
        yield b, thinned(block, seen, generator)


def thinned(block: Block, observed: list[Tensor], generator: torch.Generator) -> Block:
    """The block with the rows of an own pattern, of a prefix in time, or of some at random."""
    n = len(block.subjects)
    kind, share = torch.rand(2, n, generator=generator, dtype=torch.float64)
    first = block.rows.time.isfinite().all()
    when = [one.rows.time if first else one.rows.occasion.double() for one in block.blocks]
    order = torch.where(block.mask, when[0], torch.inf).sort(dim=1).values
    last = (torch.rand(n, generator=generator) * (block.mask.sum(1) + 1)).long()
    cut = torch.where(last > 0, order[torch.arange(n), (last - 1).clamp(min=0)], -torch.inf)
    found = []
    for one, seen, time in zip(block.blocks, observed, when, strict=True):
        chance = torch.rand(one.mask.shape, generator=generator, dtype=torch.float64)
        prefix, scattered = time <= cut[:, None], chance < share[:, None]
        other = torch.where((kind < OWN + PREFIX)[:, None], prefix, scattered)
        kept = torch.where((kind < OWN)[:, None], seen[one.index], other)
        found.append(replace(one, mask=one.mask & kept, beside=()))
    return replace(found[0], beside=tuple(found[1:]))


@one_thread()
def teach_normal(
    model: Model,
    encoder: Encoder,
    theta: Theta,
    phi: Weights,
    panel: Panel,
    generator: torch.Generator,
    steps: int,
) -> Weights:
    """A normal encoder on E -log q(b | y), in single precision."""
    phi = {name: w.detach().float().requires_grad_() for name, w in phi.items()}
    groups = [
        {"params": [w for n, w in phi.items() if n in ("W", "c")], "times": SKELETON},
        {"params": [w for n, w in phi.items() if n not in ("W", "c")], "times": 1.0},
    ]
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99))
    with torch.no_grad():
        ready = model.prepare(theta)
    subjects, step = pupils(model, theta, panel, generator), 0
    while step < steps:
        b, block = next(subjects)
        with torch.no_grad():
            seen, b = to((context(model, ready, block), b), "cpu", torch.float32)
        for batch in _batches(len(b), REUSED // 2, generator):
            q = encoder(phi, Context(*(column[batch] for column in seen)))
            loss = -normal_log_density(q, b[batch]).mean()
            _step(optimiser, phi, loss, step, steps)
            step += 1
            if step == steps:
                break
    return {name: w.detach().double() for name, w in phi.items()}


def normal_log_density(q: Posterior, b: Tensor) -> Tensor:
    """log q(b) of one b per subject, (n,)."""
    gap = (b - q.mean)[..., None]
    e = torch.linalg.solve_triangular(q.root, gap, upper=True)[..., 0]
    return -0.5 * e.square().sum(-1) - q.log_det_root - 0.5 * e.shape[-1] * math.log(2 * math.pi)


@one_thread()
def teach_mixture(
    model: Model,
    encoder: Mixed,
    theta: Theta,
    phi: Weights,
    panel: Panel,
    generator: torch.Generator,
    steps: int,
) -> tuple[Weights, int]:
    """The mixture of an encoder whose base has been taught, by nodes: phi and the steps taken.

    It ends early where the divergence on subjects not yet learnt from is nothing.
    """
    with torch.no_grad():
        ready = model.prepare(theta)
    subjects, step = pupils(model, theta, panel, generator), 0
    rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
    head: Weights = {}
    optimiser: torch.optim.Optimizer | None = None
    while step < steps:
        _, block = next(subjects)
        found, pupil = _pupil(model, encoder, ready, phi, block, generator, rng)
        if optimiser is None:
            spread = found.std(0)
            phi = {**phi, "scale.centre": found.mean(0)}
            phi["scale.spread"] = torch.where(spread > 1e-6, spread, 1.0)
            head = {
                name: w.detach().float().requires_grad_(name.startswith("head."))
                for name, w in phi.items()
                if not name.startswith("base.")
            }
            learning = [w for name, w in head.items() if name.startswith("head.")]
            optimiser = torch.optim.Adam(learning, betas=(0.9, 0.99))
        with torch.no_grad():
            new = float(_divergence(encoder, head, pupil).mean())
        if new < EXACT:
            break
        for batch in _batches(len(pupil.inputs), REUSED, generator):
            some = _Pupil(*(part[batch] for part in pupil))
            loss = _divergence(encoder, head, some).mean()
            _step(optimiser, head, loss, step, steps)
            step += 1
            if step == steps:
                break
    learnt = {name: w.detach().double() for name, w in head.items()}
    return {**phi, **learnt}, step


@torch.no_grad()
def examined(
    model: Model,
    encoder: Mixed,
    theta: Theta,
    phi: Weights,
    panel: Panel,
    generator: torch.Generator,
    steps: int,
) -> Lesson:
    """The gap on new subjects, log p(y) by draws from q and from around the moments of p(b | y)."""
    ready = model.prepare(theta)
    rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
    _, block = next(pupils(model, theta, panel, generator))
    few = torch.zeros(len(block.subjects), dtype=torch.bool)
    few[:EXAMINED] = True
    block = block.some(few)
    n, k = len(block.subjects), model.k
    q = encoder.posterior(phi, model, ready, block)
    drawn = q.sample(sobol_gaussian(n, k, DRAWS, rng))
    by_q = model.log_joint(ready, drawn.b, block) - log_prior(drawn.b) - drawn.log_ratio
    placed = find_places(model, theta, block).placed
    nodes = sobol_t(n, k, DRAWS, rng, FREEDOM)
    b = placed.mode + torch.einsum("nab,mnb->mna", placed.root, nodes.e)
    terms = model.log_joint(ready, b, block) + nodes.log_weight + placed.log_det_root
    both = torch.logsumexp(torch.cat([by_q - math.log(DRAWS), terms]), 0) - math.log(2)
    gap = both - by_q.mean(0)
    return Lesson(float(gap.mean()), float(gap.std()) / math.sqrt(n), n, steps)


@torch.no_grad()
def _pupil(
    model: Model,
    encoder: Mixed,
    ready: Theta,
    phi: Weights,
    block: Block,
    generator: torch.Generator,
    rng: np.random.Generator,
) -> tuple[Tensor, _Pupil]:
    """The inputs of some subjects, and what is learnt from them, in single precision."""
    found, k = encoder.stand(phi, model, ready, block), model.k
    e = sobol_t(1, k, NODES, rng, FREEDOM).e[:, 0]
    turned = torch.randn(len(found.centre), k, k, generator=generator, dtype=torch.float64)
    z = torch.einsum("mb,nab->mna", e, torch.linalg.qr(turned).Q)
    near = found.centre + torch.einsum("nab,mnb->mna", found.root, z)
    shape = (PRIOR_NODES, len(found.centre), k)
    b = torch.cat([near, torch.randn(shape, generator=generator, dtype=torch.float64)])
    gap = (b[NODES:] - found.centre).permute(1, 2, 0)
    far = torch.linalg.solve_triangular(found.root, gap, upper=True).permute(2, 0, 1)
    z, M = torch.cat([z, far]), NODES + PRIOR_NODES
    log_near = log_t(z, FREEDOM) + math.log(NODES / M)
    log_base = log_prior(b) + found.log_det_root + math.log(PRIOR_NODES / M)
    log_base = torch.logaddexp(log_near, log_base)  # of z
    height = model.log_joint(ready, b, block) - log_base
    weight = torch.log_softmax(torch.nan_to_num(height, nan=-torch.inf), 0).T
    pupil = _Pupil(found.inputs, quadratic(z.transpose(0, 1)), log_base.T, weight)
    return found.inputs, to(pupil, "cpu", torch.float32)


def _divergence(encoder: Mixed, head: Weights, pupil: _Pupil) -> Tensor:
    """sum_m w_m log(w_m / v_m) of every subject, (n,)."""
    ratio = heights(*encoder.parts(head, pupil.inputs), pupil.monomials) - pupil.log_base
    gap = (pupil.log_weight - torch.log_softmax(ratio, 1)).clamp(min=-1e4)
    return (pupil.log_weight.exp() * gap).sum(1)


def _batches(n: int, times: int, generator: torch.Generator) -> Iterator[Tensor]:
    """All of n subjects in random order, a few times over."""
    for _ in range(times):
        order = torch.randperm(n, generator=generator)
        yield from torch.tensor_split(order, max(1, n // BATCH))


def _step(
    optimiser: torch.optim.Optimizer, phi: Weights, loss: Tensor, step: int, steps: int
) -> None:
    """One step of Adam; the rate rises over the first ones and falls as a cosine to zero."""
    rate = RATE * min(1.0, (step + 1) / 40) * 0.5 * (1 + math.cos(math.pi * step / steps))
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("times", 1.0)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_([w for w in phi.values() if w.requires_grad], 10.0)
    if not math.isfinite(float(norm)):
        raise FloatingPointError("the gradient of the encoder is not finite")
    optimiser.step()
