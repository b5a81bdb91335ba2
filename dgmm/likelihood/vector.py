"""The parameters of a classical model as one vector, and what is asked of its log-likelihood."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from dgmm.latent import Pattern
from dgmm.model import Model
from dgmm.numerics.ascent import Evaluation
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = ["ClassicalObjective"]

LEAST_OF_EXTRA = 0.01  # a standard error of 10 on a log or logit scale


class ClassicalObjective(ABC):
    """The marginal log-likelihood of a classical model as a function of one vector.

    The vector is (beta on the internal basis, free entries of Lambda, extra coefficients). Entries
    of Lambda are not logged: l is even in every column, so a variance of zero is an inner point.
    ``offset`` may be replaced between calls; ``eta`` and ``omega`` hold the fixed part of eta and
    dl / d eta, dl / d extra of the last call, (N,), and ``modes`` those of b, (k, n).
    """

    eta: Tensor
    omega: list[Tensor]
    modes: np.ndarray

    def __init__(self, model: Model, panel: Panel) -> None:
        self.model, self.panel = model, panel
        self.pattern = Pattern.of(model.latents)
        self.frame = torch.block_diag(*(latent.frame for latent in model.latents)).numpy()
        self.sizes = (len(model.names), len(self.pattern.row), *model.extra_sizes)
        self.offset = panel.rows.offset
        self.eta = torch.empty(panel.n_rows, dtype=torch.float64)
        self.evaluations = 0

    @abstractmethod
    def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
        """l(x), its gradient, and with ``scores`` the gradient of every l_i."""

    def Lambda(self, x: np.ndarray) -> np.ndarray:
        """Lambda (q, k), q = k, on the scale of the columns of T."""
        filled: np.ndarray = self.frame @ self.pattern.fill(self._split(x)[1])
        return filled

    def _entries(self, to_Lambda: np.ndarray) -> np.ndarray:
        """Slopes in the free entries of L (..., E) from those in Lambda (..., q, k)."""
        found: np.ndarray = self.frame.T @ to_Lambda
        return found[..., self.pattern.row, self.pattern.column]

    def _fixed_part(self, x: np.ndarray) -> Tensor:
        """offset + X beta, (N,)."""
        coefficients = self.model.basis @ torch.from_numpy(self._split(x)[0])
        return torch.addmv(self.offset, self.panel.rows.X, coefficients, out=self.eta)

    @property
    def size(self) -> int:
        """P, the length of the vector."""
        return sum(self.sizes)

    def _split(self, x: np.ndarray) -> list[np.ndarray]:
        return np.split(x, np.cumsum(self.sizes)[:-1])

    def vector(self, theta: Theta) -> np.ndarray:
        """The vector of a theta."""
        parts = [theta["beta"], self.pattern.of_theta(theta), theta["extra"]]
        return torch.cat([p.detach().reshape(-1) for p in parts]).numpy()

    def theta(self, x: np.ndarray) -> Theta:
        """The theta of a vector: columns of Lambda get a positive diagonal."""
        beta, entries, *extra = self._split(x)
        theta: Theta = {"beta": torch.from_numpy(beta.copy()), **self.pattern.to_theta(entries)}
        theta["extra"] = torch.from_numpy(np.concatenate([np.zeros(0), *extra]))
        return theta

    def least_information(self, x: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
        """The curvature in Lambda near zero, where the scores vanish, (P,).

        There l is a function of lambda^2 with scores s = ds/d(lambda^2) 2 lambda, and its curvature
        in lambda is of the order of the standard deviation of the sum of ds/d(lambda^2).
        """
        least = np.zeros_like(x)
        p = self.sizes[0]
        # a parameter of the family may run to its edge, where nothing is known of it any more
        least[p + self.sizes[1] :] = LEAST_OF_EXTRA
        inside = slice(p, p + self.sizes[1])
        length = np.sqrt((self.pattern.fill(x[inside]) ** 2).sum(0))[self.pattern.column]
        least[inside] = np.sqrt(diagonal[inside]) / (2 * np.maximum(length, 1e-12))
        return least

    def working_slope(self, x: np.ndarray) -> np.ndarray:
        """d vector / d theta, (P,): theta holds the logs of the diagonal."""
        slope = np.ones_like(x)
        p = self.sizes[0]
        inside = slope[p : p + self.sizes[1]]
        inside[self.pattern.on_diagonal] = x[p : p + self.sizes[1]][self.pattern.on_diagonal]
        return slope
