"""The rows of a Gaussian model with paths, packed for the filter.

    y = X beta + F delta_i + T Lambda b_i + c'z + e,   var(e) = sigma^2 / w, or zero without noise

What moves is a state z; all else is a right-hand side: beta, the random effects b_i, and first
states delta_i with a flat prior. Subjects stand by falling numbers of rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dgmm.latent import Chain
from dgmm.likelihood.statistics import scaled_rows
from dgmm.model import Model
from dgmm.numerics.cholesky import backward
from dgmm.numerics.kalman import System, carried, states
from dgmm.numerics.steps import Steps
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta, part

__all__ = ["Packed", "eliminated", "moving_packing", "not_packed", "sigma_of"]

KNOWN = 1e-9
"""Share of a flat column outside the span of those before it, below which there is none."""


def not_packed(model: Model) -> str | None:
    """Why the filter does not apply to a model, in a sentence; None when it does."""
    if not model.serial:
        return "it is for models with a path, such as (ou(time) | id)"
    if model.networks or not all(one.by_columns or one.by_states for one in model.latents):
        return "it is for paths and random effects T Lambda b, and models without dnn()"
    return None


def moving_packing(model: Model) -> Packing:
    """The weights of the paths."""
    keys = tuple(f"latent{i}." for i, one in enumerate(model.latents, 1) if one.by_states)
    return model.packing.only(name for name in model.packing.shapes if name.startswith(keys))


def sigma_of(model: Model, theta: Theta) -> Tensor:
    """The unit (1,) of all variances: that of the errors, and without noise that of the model."""
    if model.family.noise:
        return theta["extra"][-1:].exp()
    return torch.tensor([model.unit], dtype=torch.float64)


def eliminated(G: np.ndarray, f: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first f of r columns taken out of all, from products G (f, r, n) of theirs with all.

    Returns:
        L (f, f, n) with L L' = G_ff, K = L^-1 G (f, r, n), and which pivots there were (f, n): a
        column that those before it determine has L_jj = 1 and nothing else.
    """
    K, L = G.copy(), np.zeros((f, f, G.shape[-1]))
    known = np.zeros((f, G.shape[-1]), dtype=bool)
    for j in range(f):
        known[j] = K[j, j] > KNOWN * G[j, j]
        L[j, j] = np.sqrt(np.where(known[j], K[j, j], 1.0))
        K[j] = np.where(known[j], K[j] / L[j, j], 0.0)
        for i in range(j + 1, f):
            L[i, j] = K[j, i]
            K[i] = K[i] - L[i, j] * K[j]
    return L, K, known


def _refuse_ties(panel: Panel) -> None:
    """Outcomes without noise cannot be two at one time."""
    seen = panel.keep(panel.observed)
    who, time = seen.subject, seen.rows.time
    tied = torch.nonzero((who[1:] == who[:-1]) & (time[1:] == time[:-1]))
    if len(tied):
        at = int(tied[0])
        raise ValueError(
            f"dispersion='~ 0' leaves no noise, and subject {str(panel.ids[int(who[at])])!r} has "
            f"two outcomes at time {float(time[at]):g}, which one path cannot both pass through"
        )


@dataclass(frozen=True)
class Packed:
    """Columns in units of the model, and what the matrices of the filter are made of."""

    model: Model
    panel: Panel  # subjects by falling numbers of rows
    order: np.ndarray  # (n,) their places in the panel that was given
    steps: Steps

    @classmethod
    def of(cls, model: Model, panel: Panel) -> Packed:
        """The rows of a panel; those of a masked one that were not seen have states."""
        order = Steps.of(panel.count.numpy()).order
        sorted_ = panel.select(order)
        if not model.family.noise:
            _refuse_ties(sorted_)
        return cls(model, sorted_, order, Steps.of(sorted_.count.numpy()))

    @property
    def series(self) -> int:
        """Subjects with rows, the first of all."""
        return self.steps.first.stop

    @cached_property
    def step(self) -> np.ndarray:
        """Which row of its subject every one is, 0, 1, ..., (N,)."""
        found: np.ndarray = np.repeat(np.arange(len(self.steps.sizes)), self.steps.sizes)
        return found

    @cached_property
    def places(self) -> np.ndarray:
        """The row of the given panel that every packed one is, (N,)."""
        count = np.empty(self.panel.n, dtype=int)
        count[self.order] = self.panel.count.numpy()
        start = np.cumsum(count) - count
        found: np.ndarray = start[self.order[self.steps.series]] + self.step
        return found

    @cached_property
    def count(self) -> np.ndarray:
        """Outcomes that count, of every series, (n,)."""
        return np.bincount(self.steps.series, self.seen, self.series)

    @cached_property
    def weights(self) -> np.ndarray:
        """Prior weights, (N,)."""
        weights: np.ndarray = self.panel.rows.data.weights.numpy()[self.steps.rows]
        return weights

    def course(self, moving: Theta) -> np.ndarray:
        """What inputs make of the predictor, (N,)."""
        with torch.no_grad():
            chains, added = self.chains(moving), self.forces(moving)
        system = self.joined(chains)
        return np.einsum("an,an->n", system.c, carried(system, self.additions(added))[:, 0])

    @cached_property
    def _inputs(self) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """Gaps, which rows are first, and per term its inputs and those of the row before."""
        at = next(i for i, one in enumerate(self.model.latents) if one.by_states)
        rows, before = torch.from_numpy(self.steps.rows), torch.from_numpy(self.steps.before)
        time = self.panel.rows.T[at][rows, 0]
        first = torch.zeros(len(rows), dtype=torch.bool)
        first[self.steps.first] = True
        pairs = [(u[rows], u[rows][before]) for u in self.panel.rows.basis]
        return time - time[before], first, pairs

    def forces(self, moving: Theta) -> list[Tensor | None]:
        """What inputs add to the states of every path at every row, (N, d), None without any."""
        found: list[Tensor | None] = []
        for i, one in enumerate(self.model.latents):
            if one.by_states and one.inputs:
                gap, first, pairs = self._inputs
                own = part(moving, f"latent{i + 1}.")
                found.append(one.forced(own, gap, first, *pairs[i]))
            elif one.by_states:
                found.append(None)
        return found

    def additions(self, forces: list[Tensor | None]) -> np.ndarray:
        """These side by side, (d, 1, N)."""
        N = len(self.steps.rows)
        paths = [one for one in self.model.latents if one.by_states]
        parts = [
            np.zeros((path.states, N)) if f is None else f.detach().numpy().T
            for path, f in zip(paths, forces, strict=True)
        ]
        return np.concatenate(parts)[:, None]

    def with_gains(self, moving: Theta) -> Theta:
        """Weights of paths, what their inputs do by least squares beside the fixed part."""
        names = [f"latent{i}.{n}" for i, one in enumerate(self.model.latents, 1) for n in one.gains]
        gains = Packing({name: tuple(moving[name].shape) for name in names})
        if not names:
            return moving
        with torch.no_grad():
            units = torch.eye(gains.size, dtype=torch.float64)
            responses = [self.course({**moving, **gains.unpack(u)}) for u in units]
        seen = self.seen > 0
        columns = np.stack([*self.z[:-1], *(one / self.model.unit for one in responses)])[:, seen]
        found = np.linalg.lstsq(columns.T, self.z[-1, seen], rcond=1e-10)[0]
        return {**moving, **gains.unpack(torch.from_numpy(found[len(self.z) - 1 :]))}

    @property
    def noise(self) -> np.ndarray:
        """Variances of the errors in units of sigma, (N,)."""
        return 1 / self.weights if self.model.family.noise else np.zeros(len(self.weights))

    @cached_property
    def seen(self) -> np.ndarray:
        """1 where the outcome counts, (N,)."""
        found: np.ndarray = self.panel.observed.numpy()[self.steps.rows].astype(float)
        return found

    # -- right-hand sides ------------------------------------------------------------------------

    @cached_property
    def _scaled(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = scaled_rows(self.model, self.panel)
        rows, root = self.steps.rows, np.sqrt(self.weights)
        return found.t[:, rows] / root, found.z[:, rows] / root, found.origin

    @property
    def t(self) -> np.ndarray:
        """Columns of T frame, (q, N)."""
        return self._scaled[0]

    @property
    def z(self) -> np.ndarray:
        """Columns of X basis, then y - X origin, (p + 1, N)."""
        return self._scaled[1]

    @property
    def origin(self) -> np.ndarray:
        """Coefficients that y has lost, (p,)."""
        return self._scaled[2]

    @cached_property
    def flat_states(self) -> np.ndarray:
        """The states that first ones without a prior lead to, (d, f, N)."""
        paths = [one for one in self.model.latents if one.by_states]
        first = torch.block_diag(*(one.flat_states() for one in paths)).numpy()
        (d, f), N = first.shape, len(self.steps.rows)
        if not f:
            return np.zeros((d, 0, N))
        generator = torch.Generator().manual_seed(0)
        start = {
            f"latent{i}.{name}": value
            for i, one in enumerate(self.model.latents, 1)
            for name, value in one.initial(generator).items()
        }
        system, e = self.system(start), np.zeros((d, f, N))
        e[..., self.steps.first] = first[..., None]
        unit = np.broadcast_to(np.eye(d)[..., None], system.B.shape)
        return states(replace(system, B=unit), e)

    @cached_property
    def flat(self) -> np.ndarray:
        """What they add to y, (f, N): their moves know no parameter."""
        c = np.concatenate([np.eye(one.states)[0] for one in self.model.latents if one.by_states])
        found: np.ndarray = np.einsum("a,afn->fn", c, self.flat_states) / self.model.unit
        return found

    @cached_property
    def columns(self) -> np.ndarray:
        """[F, T, X, y] (r, N), the last three without what F explains of them in a subject."""
        rest = np.concatenate([self.t, self.z])
        f = len(self.flat)
        for _ in range(2 if f else 0):  # the second takes off the rounding of the first
            both = np.concatenate([self.flat, rest])
            L, K, _ = eliminated(self.sums(self.flat * self.seen, both), f)
            delta = backward(L, K[:, f:])  # (f, r - f, n)
            for column, own in zip(self.flat, delta, strict=True):
                rest = rest - column * own[:, self.steps.series]
        return np.concatenate([self.flat, rest])

    def sums(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Sums of products over the rows of every series, (a, b, n)."""
        J, n = len(self.steps.sizes), self.series
        if len(self.steps.rows) == J * n:  # as many rows of every series
            own, other = (x.reshape(len(x), J, n) for x in (left, right))
            return np.array([(one * other).sum(1) for one in own]).reshape(len(own), len(other), n)
        back, start = self.steps.back, self.panel.start.numpy()[:n]
        own, other = left[:, back], right[:, back]
        found = np.empty((len(own), len(other), n))
        for i, one in enumerate(own):
            found[i] = np.add.reduceat(one * other, start, axis=-1)
        return found

    # -- the matrices ----------------------------------------------------------------------------

    @cached_property
    def _times(self) -> tuple[Tensor, Tensor, Tensor, np.ndarray | None]:
        """Time, time of the row before, and which are first, of rows that differ in what moves.

        The last is where every row stands among them, None where nearly all differ.
        """
        at = next(i for i, one in enumerate(self.model.latents) if one.by_states)
        time = self.panel.rows.T[at][:, 0].numpy()[self.steps.rows]
        first = np.zeros(len(time), dtype=bool)
        first[self.steps.first] = True
        before = time[self.steps.before]
        kinds = np.stack([np.where(first, time, time - before), first], axis=1)
        few, index = np.unique(kinds, axis=0, return_inverse=True)
        where = None
        if 2 * len(few) < len(time):
            first, where = few[:, 1] > 0, index.reshape(-1)
            time, before = few[:, 0], np.where(first, few[:, 0], 0.0)
        tensor = torch.from_numpy
        return tensor(time), tensor(before), tensor(first), where

    @property
    def kinds(self) -> np.ndarray | None:
        """The chain of which row, of those of :meth:`chains`, every one has, None for its own."""
        return self._times[3]

    def chains(self, moving: Theta) -> list[Chain]:
        """Those of the paths, differentiable in their weights, of rows that differ in what moves.

        Only the time since the row before counts, and of a first row the time itself.
        """
        return [
            one.chain(part(moving, f"latent{i}."), *self._times[:3])
            for i, one in enumerate(self.model.latents, 1)
            if one.by_states
        ]

    def some(self, subjects: np.ndarray) -> Packed:
        """Some of the subjects (m,), by their places among the series."""
        return Packed.of(self.model, self.panel.select(subjects))

    def system(self, moving: Theta) -> System:
        """The matrices of the filter at some weights of the paths."""
        with torch.no_grad():
            return self.joined(self.chains(moving))

    def joined(self, chains: list[Chain], noise: np.ndarray | None = None) -> System:
        """One state of several chains, outcomes with the variances ``noise`` (N,), or their own."""
        c = np.concatenate([chain.c.detach().numpy() for chain in chains])
        A, B = np.zeros((2, len(c), len(c), len(self.steps.rows)))
        first = 0
        kinds = slice(None) if self.kinds is None else self.kinds
        for chain in chains:
            at = slice(first, first + len(chain.c))
            A[at, at] = chain.A.detach().permute(1, 2, 0).numpy()[..., kinds]
            B[at, at] = chain.B.detach().permute(1, 2, 0).numpy()[..., kinds]
            first = at.stop
        wide = np.broadcast_to(c[:, None], (len(c), len(self.steps.rows)))
        R = self.noise if noise is None else noise
        return System(self.steps, A, B, wide, R, self.seen)
