"""The dense twin of a model on the observed rows of a panel, from the model's own density.

    eta = mu1(theta) + Z(theta) u,   u ~ N(0, I): all effects of all levels of all factors

Z is read off ``model.mu2`` at unit vectors, so it holds for every latent that is linear in b.
Columns of u: factor by factor, level by level, term by term; factors in the order of the crossing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from dense import LOG_2PI, Grid, Laplace, Normal, condition
from torch import Tensor

from dgmm.model import Model
from dgmm.panel import Block, Panel
from dgmm.parameters import Theta

__all__ = ["Known", "Twin", "kind_of", "twin_of"]


@dataclass(frozen=True)
class Twin:
    """A model on the observed rows of a panel; x (P,) is theta in the order of model.packing."""

    density: Normal | Laplace | Grid
    model: Model
    panel: Panel
    effects: Callable[[Tensor], list[tuple[Tensor, Tensor]]]
    """x -> per factor mean (m, k) and covariance (m, k, k) of b given y, level by level."""

    def by_subject(self) -> bool:
        """Whether l is a sum over the subjects of the panel."""
        return self.panel.crossing is None


def kind_of(model: Model, word: str) -> str:
    """The density that the likelihood ``word`` is to agree with.

    "normal" for Gaussian outcomes whatever the word; else "laplace" for "laplace" and the integral
    itself, "grid", for "quadrature" and "importance".
    """
    if model.family.name == "gaussian":
        return "normal"
    return "laplace" if word == "laplace" else "grid"


def twin_of(model: Model, panel: Panel, kind: str) -> Twin:
    """The twin of a kind on the observed rows of a panel."""
    return {"normal": _normal, "laplace": _laplace, "grid": _grid}[kind](
        model, panel.observed_rows()
    )


@dataclass(frozen=True)
class Known:
    """A twin at one x, every number calculated when it is first asked for."""

    twin: Twin
    x: Tensor

    @cached_property
    def total(self) -> float:
        return float(self.twin.density.total(self.x))

    @cached_property
    def each(self) -> np.ndarray:
        return self.twin.density.each(self.x).numpy()

    @cached_property
    def scores(self) -> np.ndarray:
        return self.twin.density.scores(self.x).numpy()

    @cached_property
    def gradient(self) -> np.ndarray:
        return self.twin.density.gradient(self.x).numpy()

    @cached_property
    def hessian(self) -> np.ndarray:
        return self.twin.density.hessian(self.x).numpy()

    @cached_property
    def effects(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [
            (mean.numpy(), covariance.numpy()) for mean, covariance in self.twin.effects(self.x)
        ]


# -- the design ------------------------------------------------------------------------------------


def whole(panel: Panel) -> Block:
    """All subjects in one block, in their order."""
    return panel.block(torch.arange(panel.n))


def mixing(model: Model, theta: Theta, panel: Panel) -> Tensor:
    """Z (N, q)."""
    if panel.crossing is None:
        block = whole(panel)
        unit = torch.eye(model.k, dtype=torch.float64)[:, None].expand(-1, panel.n, -1)
        padded = model.mu2(model.prepare(theta), unit, block.rows)  # (k, n, J)
        rows = padded.permute(1, 2, 0)[block.mask]  # (N, k), subjects contiguous
        return _spread(rows, panel.subject, panel.n)
    lone = panel.rows.take(torch.arange(panel.n_rows)[:, None])  # every row a subject of its own
    unit = torch.eye(model.k, dtype=torch.float64)[:, None].expand(-1, panel.n_rows, -1)
    rows = model.mu2(model.prepare(theta), unit, lone)[..., 0].T  # (N, k), term by term
    by_term = torch.split(rows, [latent.dim for latent in model.latents], dim=1)
    return torch.cat(
        [
            _spread(
                torch.cat([by_term[term] for term in panel.crossing.terms(f)], dim=1),
                panel.rows.level[f],
                len(labels),
            )
            for f, labels in enumerate(panel.crossing.labels)
        ],
        dim=1,
    )


def _spread(rows: Tensor, level: Tensor, m: int) -> Tensor:
    """(N, k) -> (N, m k): the columns of the row's own level."""
    one_hot = torch.nn.functional.one_hot(level, m).to(rows.dtype)
    return torch.einsum("nm,nk->nmk", one_hot, rows).reshape(len(rows), -1)


def _sizes(model: Model, panel: Panel) -> list[tuple[int, int]]:
    """Per factor the number of levels and of effects per level."""
    if panel.crossing is None:
        return [(panel.n, model.k)]
    dims = [latent.dim for latent in model.latents]
    return [
        (len(labels), sum(dims[term] for term in panel.crossing.terms(f)))
        for f, labels in enumerate(panel.crossing.labels)
    ]


def _by_level(
    mean: Tensor, covariance: Tensor, sizes: list[tuple[int, int]]
) -> list[tuple[Tensor, Tensor]]:
    """Means (m, k) and the blocks (m, k, k) on the diagonal of the covariance, per factor."""
    found, first = [], 0
    for m, k in sizes:
        at = torch.arange(first, first + m * k).reshape(m, k)
        found.append((mean[at], covariance[at[:, :, None], at[:, None, :]]))
        first += m * k
    return found


# -- the three densities ---------------------------------------------------------------------------


def _normal(model: Model, panel: Panel) -> Twin:
    """y ~ N(mu1, Z Z' + sigma^2 W^-1)."""
    rows, sizes = panel.rows, _sizes(model, panel)

    def pieces(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        theta = model.packing.unpack(x)
        Z = mixing(model, theta, panel)
        noise = torch.diag(torch.exp(2 * theta["extra"][0]) / rows.data.weights)
        return model.mu1(model.prepare(theta), rows), Z @ Z.T + noise, Z

    def effects(x: Tensor) -> list[tuple[Tensor, Tensor]]:
        mean, V, Z = pieces(x)
        prior = torch.eye(Z.shape[1], dtype=torch.float64)
        return _by_level(*condition(rows.data.y, mean, V, prior, Z.T), sizes)

    groups = ()
    if panel.crossing is None:
        groups = tuple(torch.nonzero(panel.subject == i)[:, 0] for i in range(panel.n))
    return Twin(Normal(rows.data.y, lambda x: pieces(x)[:2], groups), model, panel, effects)


def _laplace(model: Model, panel: Panel) -> Twin:
    """Subject by subject, or all effects at once when factors are crossed."""
    sizes = _sizes(model, panel)
    if panel.crossing is not None:
        joint = Laplace((_log_joint(model, panel),), sum(m * k for m, k in sizes))
        return Twin(
            joint,
            model,
            panel,
            lambda x: _by_level(joint.modes(x)[0], joint.covariances(x)[0], sizes),
        )
    subjects = [panel.select(np.array([i])) for i in range(panel.n)]
    parts = Laplace(tuple(_log_joint(model, one) for one in subjects), model.k)
    return Twin(parts, model, panel, lambda x: [(parts.modes(x), parts.covariances(x))])


def _log_joint(model: Model, panel: Panel) -> Callable[[Tensor, Tensor], Tensor]:
    """x, u -> log p(y, u)."""
    rows = panel.rows

    def log_joint(x: Tensor, u: Tensor) -> Tensor:
        prior = -0.5 * (u @ u + len(u) * LOG_2PI)
        if not panel.n_rows:
            return prior
        theta = model.packing.unpack(x)
        eta = model.mu1(model.prepare(theta), rows) + mixing(model, theta, panel) @ u
        return model.family.log_density(rows.data, eta, theta["extra"]).sum() + prior

    return log_joint


def _grid(model: Model, panel: Panel) -> Twin:
    block = whole(panel)

    def log_likelihood(x: Tensor, b: Tensor) -> Tensor:
        ready = model.prepare(model.packing.unpack(x))
        return model.log_likelihood(ready, b[:, None].expand(-1, panel.n, -1), block)

    grid = Grid(log_likelihood, model.k, 0.1 if model.k == 1 else 0.15)
    return Twin(grid, model, panel, lambda x: [grid.moments(x)])
