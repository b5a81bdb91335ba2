"""Which directions of b tell subjects apart: for the encoder, and for p(b | y) itself.

A direction is active when the posterior means vary in it,

    eigenvalue of Cov_i E(b_i | y_i) > 0.01,

the threshold of Burda, Grosse and Salakhutdinov (2016), ICLR. Eigenvalues, because the coordinates
of b in a network are only defined up to rotation. They lie between 0, where every subject keeps
its prior, and 1, where the data determine b.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dgmm.likelihood import Importance, freeze
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.posterior.modes import moments

__all__ = ["ACTIVE", "Activity", "latent_activity", "posterior_means"]

ACTIVE = 0.01
DRAWS = 64


@dataclass(frozen=True)
class Activity:
    """Eigenvalues of the covariance of posterior means, largest first within every latent term."""

    dims: tuple[int, ...]  # directions of each latent term
    encoder: Tensor  # (k,) means of q
    posterior: Tensor  # (k,) means of p(b | y)

    @classmethod
    def of(cls, model: Model, encoder: Tensor, posterior: Tensor) -> Activity:
        """Of posterior means (n, k) of the encoder and of p(b | y)."""
        dims = tuple(latent.dim for latent in model.latents)
        return cls(dims, _eigenvalues(encoder, dims), _eigenvalues(posterior, dims))

    def counts(self, term: int) -> tuple[int, int]:
        """Active directions of a latent term (0, 1, ...): of the encoder, of the posterior."""
        first = sum(self.dims[:term])
        own = slice(first, first + self.dims[term])
        return int((self.encoder[own] > ACTIVE).sum()), int((self.posterior[own] > ACTIVE).sum())


def latent_activity(model: Model, theta: Theta, panel: Panel, means: Tensor, seed: int) -> Activity:
    """Activity of an encoder with posterior means (n, k), beside that of p(b | y) at theta."""
    return Activity.of(model, means, posterior_means(model, theta, panel, seed))


def posterior_means(model: Model, theta: Theta, panel: Panel, seed: int) -> Tensor:
    """E(b_i | y_i) by importance sampling, (n, k)."""
    rng = np.random.default_rng([seed, 67])
    frozen = freeze(model, theta, panel, Importance(DRAWS), rng)
    means = torch.zeros(panel.n, model.k, dtype=torch.float64)
    with torch.no_grad():
        ready = model.prepare(theta)
    for block, b, weight in frozen.weighted_nodes(ready):
        means[block.subjects] = moments(b, weight).mean
    return means


def _eigenvalues(means: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Of the covariance within every latent term, (k,)."""
    found = [
        torch.linalg.eigvalsh(torch.atleast_2d(torch.cov(part.T, correction=0))).flip(0)
        for part in torch.split(means, list(dims), dim=1)
    ]
    return torch.cat(found)
