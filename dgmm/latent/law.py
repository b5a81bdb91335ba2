"""The law of a latent variable at a step of a recursion, and the places that noise leads to."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

__all__ = ["Law", "Walk"]


class Law(NamedTuple):
    """z of a step given the past: N(mean, sd^2), or N(mean, root root') where there is a root."""

    mean: Tensor  # (..., d)
    log_sd: Tensor  # (..., d)
    root: Tensor | None = None  # (..., d, d), lower triangular, with exp(log_sd) on its diagonal
    made: Any = None  # what a word has made on the way, for the same step

    def at(self, e: Tensor) -> Tensor:
        """z of white noise e (..., d)."""
        if self.root is None:
            return self.mean + self.log_sd.exp() * e
        return self.mean + (self.root @ e[..., None])[..., 0]

    def kl(self) -> Tensor:
        """KL from N(0, I), element by element, (..., d)."""
        square = (2 * self.log_sd).exp() if self.root is None else self.root.square().sum(-1)
        return 0.5 * (square + self.mean.square() - 1) - self.log_sd


class Walk(NamedTuple):
    """Where white noise leads, step by step."""

    z: Tensor  # (..., n, G, d)
    mu: Tensor  # mu2 in units of the linear predictors, (..., n, G, K)
