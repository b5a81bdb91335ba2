"""The linear predictor as the samplers see it: columns and grouping factors of a panel.

    eta_i = offset_i + z_i'beta + sum_f t_fi'gamma_f[level_f(i)]

The columns z of the fixed part are divided by their root mean squares; those of the random part are
as the formula has them, for priors are about their standard deviations. All arrays are numpy's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dgmm.latent import Latent
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta, part

__all__ = ["Factor", "Layout", "Rows", "Term", "layout_of"]


@dataclass(frozen=True)
class Term:
    """One random part of a grouping factor."""

    number: int  # of the latent structure, from 0
    latent: Latent
    columns: tuple[int, ...]  # of it among those of the factor
    blocks: tuple[tuple[int, ...], ...]  # of them, those with a covariance of their own


@dataclass(frozen=True)
class Factor:
    """A grouping factor."""

    name: str
    labels: np.ndarray  # (m,)
    terms: tuple[Term, ...]
    names: tuple[str, ...]  # (K,) effects

    @property
    def m(self) -> int:
        """Number of levels."""
        return len(self.labels)

    @property
    def K(self) -> int:
        """Number of effects of a level."""
        return len(self.names)


@dataclass(frozen=True)
class Rows:
    """Some rows of a panel."""

    z: np.ndarray  # (N, p)
    t: tuple[np.ndarray, ...]  # (N, K_f) per factor
    level: tuple[np.ndarray, ...]  # (N,) per factor
    offset: np.ndarray  # (N,)


@dataclass(frozen=True)
class Layout:
    """The predictor of a model."""

    model: Model
    factors: tuple[Factor, ...]
    size: np.ndarray  # (p,) root mean squares of the columns of X
    names: tuple[str, ...]  # (p,)

    @property
    def p(self) -> int:
        """Number of linear coefficients."""
        return len(self.names)

    def rows(self, panel: Panel) -> Rows:
        """The rows of a panel with the levels of the fit."""
        levels = panel.rows.level if panel.several else (panel.subject,)
        t = [
            np.concatenate([panel.rows.T[term.number].numpy() for term in factor.terms], axis=1)
            for factor in self.factors
        ]
        return Rows(
            panel.rows.X.numpy() / self.size,
            tuple(t),
            tuple(level.numpy() for level in levels),
            panel.rows.offset.numpy(),
        )

    # -- to theta ------------------------------------------------------------------------------

    def table(self, beta: Tensor, D: tuple[Tensor, ...], extra: Tensor) -> Tensor:
        """They as rows of theta, (B, P); arguments as those of :meth:`theta`."""
        theta = self.theta(beta, D, extra)
        shapes = self.model.packing.shapes
        return torch.cat([theta[name].reshape(len(extra), -1) for name in shapes], dim=1)

    def theta(self, beta: Tensor, D: tuple[Tensor, ...], extra: Tensor) -> Theta:
        """Draws of theta from coefficients (B, p) on the scaled columns, D_f (B, K, K), (B, R)."""
        theta: Theta = {}
        if self.p:
            natural = beta / torch.from_numpy(self.size)
            theta["beta"] = torch.linalg.solve(self.model.basis, natural.T).T
        else:
            theta["beta"] = beta
        for factor, own in zip(self.factors, D, strict=True):
            for term in factor.terms:
                at = list(term.columns)
                weights = torch.func.vmap(term.latent.nearest)(own[:, at][:, :, at])
                theta |= {f"latent{term.number + 1}.{n}": v for n, v in weights.items()}
        theta["extra"] = extra
        return theta

    def covariances(self, theta: Theta) -> tuple[np.ndarray, ...]:
        """D_f (K, K) of every factor at one theta."""
        found = []
        for factor in self.factors:
            D = torch.zeros(factor.K, factor.K, dtype=torch.float64)
            for term in factor.terms:
                root = term.latent.loadings(part(theta, f"latent{term.number + 1}."))
                at = torch.tensor(term.columns)
                D[at[:, None], at] = root @ root.mT
            found.append(D.numpy())
        return tuple(found)


def layout_of(model: Model, panel: Panel) -> Layout:
    """The layout of a model on its planned rows."""
    X = panel.observed_rows().rows.X.numpy()
    size = np.sqrt(np.square(X).mean(0)) if X.shape[1] else np.ones(0)
    factors = []
    for factor in panel.factors(len(model.latents)):
        terms, names, first = [], [], 0
        for number in factor.terms:
            latent = model.latents[number]
            columns = tuple(range(first, first + latent.dim))
            blocks = tuple(tuple(first + j for j in block) for block in latent.blocks())
            terms.append(Term(number, latent, columns, blocks))
            names += list(latent.names)
            first += latent.dim
        factors.append(Factor(factor.name, factor.labels, tuple(terms), tuple(names)))
    return Layout(model, tuple(factors), np.where(size > 0, size, 1.0), model.names)
