"""The parameters of a classical model as one vector, and what is asked of its log-likelihood."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from dgmm.families.derivatives import row_derivatives
from dgmm.latent import Pattern
from dgmm.likelihood.working import LEAST_OF_EXTRA, least_of_loadings, working_information
from dgmm.model import Model
from dgmm.numerics.ascent import Evaluation
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = ["ClassicalObjective"]

SHRUNK = 0.01
"""Share of a variance below which a step does not lead at once."""


class ClassicalObjective(ABC):
    """The marginal log-likelihood of a classical model as a function of one vector.

    The vector is (beta on the internal basis, free entries of Lambda, extra coefficients). Entries
    of Lambda are not logged: l is even in every column, so a variance of zero is an inner point.
    ``columns`` are those of T frame in units of the model, (N, q).
    ``offset`` may be replaced between calls; ``eta`` and ``omega`` hold the fixed part of eta and
    dl / d eta, dl / d extra of the last call, (N,), ``latest`` its modes of b, (k, n). ``modes``
    are those of the last point kept, where the search for others begins.
    """

    eta: Tensor
    omega: list[Tensor]
    modes: np.ndarray
    latest: np.ndarray

    def __init__(self, model: Model, panel: Panel) -> None:
        self.model, self.panel = model, panel
        self.pattern = Pattern.of(model.latents)
        self.columns = model.columns(panel.rows) / model.unit
        self.sizes = (len(model.names), len(self.pattern.row), *model.extra_sizes)
        self.begin()

    def begin(self) -> None:
        """Forget all that calls have left behind."""
        self.offset = self.panel.rows.offset
        self.eta = torch.empty(self.panel.n_rows, dtype=torch.float64)
        self.evaluations = 0
        self.modes = np.zeros((self.pattern.q, self.panel.n))
        self.latest = self.modes.copy()

    @abstractmethod
    def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
        """l(x), its gradient, and with ``scores`` the gradient of every l_i."""

    def keep(self) -> None:
        """Let the next search for modes begin where the last one ended."""
        self.modes[:] = self.latest

    def Lambda(self, x: np.ndarray) -> np.ndarray:
        """Lambda (q, k), q = k, on the scale of ``columns``."""
        return self.model.unit * self.pattern.fill(self._split(x)[1])

    def effects(self, x: np.ndarray, b: np.ndarray) -> Tensor:
        """The coefficients (n, q) of the columns of T at b (k, n)."""
        frame = torch.block_diag(*(latent.frame for latent in self.model.latents))
        own = torch.from_numpy(self.pattern.fill(self._split(x)[1]) @ b)
        return (frame @ own).T

    def _entries(self, to_Lambda: np.ndarray) -> np.ndarray:
        """Slopes in the free entries of L (..., E) from those in Lambda (..., q, k)."""
        return self.model.unit * to_Lambda[..., self.pattern.row, self.pattern.column]

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

    def information(self, x: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The information about x, (P, P), after a call at x that gave the ``scores`` (n, P).

        About beta and the Lambda of eta that of the outcome linearised at the modes,

            X'V^-1 X,     1/2 sum_i tr(M_i G_a M_i G_b),   M_i = T_i'V_i^-1 T_i,

        G_a the slope of Lambda Lambda' in its entry a: no outlier and no overdispersion inflates
        it. About the rest the outer product of the scores, but about a parameter of the family no
        more than its curvature would have with b known; the scores also say how both go together,
        the less the fewer subjects there are.
        """
        own = np.concatenate([np.full(self.sizes[0], True), self._entered == 0])
        own = np.concatenate([own, np.full(self.size - len(own), False)])
        F, norm = self._linearised(x, own), np.maximum(np.sqrt((scores**2).sum(0)), 1e-150)
        unit = scores / norm
        extra = slice(self.sizes[0] + self.sizes[1], None)
        norm[extra] = np.minimum(norm[extra], np.sqrt(self._with_b_known(x)))
        known, rest = unit[:, own], unit[:, ~own] * norm[~own]
        out = np.zeros((self.size, self.size))
        cross = _root(F) @ np.linalg.solve(_root(known.T @ known), known.T @ rest)
        # so many columns would explain this share of anything
        cross *= math.sqrt(max(0.0, 1 - np.count_nonzero(own) / len(scores)))
        out[np.ix_(own, own)], out[np.ix_(~own, ~own)] = F, rest.T @ rest
        out[np.ix_(own, ~own)], out[np.ix_(~own, own)] = cross, cross.T
        return out

    @property
    def _entered(self) -> np.ndarray:
        """The predictor that every entry of Lambda enters, 0 for eta, (E,)."""
        return np.array(self.model.predictor_of_columns(), dtype=int)[self.pattern.row]

    def _with_b_known(self, x: np.ndarray) -> np.ndarray:
        """|d2 log p(y | b) / d x_a^2| at the modes, of every coefficient of extra parameters."""
        rows, parts = self.panel.rows, self._split(x)[2:]
        if not parts:
            return np.zeros(0)
        own = torch.from_numpy(self.Lambda(x) @ self.latest).T[self.panel.subject]
        shift = self.columns * own
        entered = torch.tensor(self.model.predictor_of_columns())
        predictors, designs = [self.eta], self.model.outcome.extra_designs(rows)
        for part, design in zip(parts, designs, strict=True):
            own = torch.from_numpy(part)
            predictors.append(own.expand(len(rows.X)) if design is None else design @ own)
        moved = [p + shift[:, entered == s].sum(1) for s, p in enumerate(predictors)]
        every = range(len(moved))
        second = row_derivatives(self.model.family, rows.data, moved, every, 2).second
        sums = []
        for s, design in enumerate(designs, 1):
            W = second[s, s]
            sums.append(W.sum().reshape(1) if design is None else (design.square().T @ W))
        known: np.ndarray = torch.cat(sums).abs().numpy()
        return known

    def _linearised(self, x: np.ndarray, own: np.ndarray) -> np.ndarray:
        """The information about beta and the entries of Lambda among ``own``."""
        Lambda, effects = torch.from_numpy(self.Lambda(x)), self.effects(x, self.latest)
        working = working_information(self.model, self.theta(x), self.panel, self.eta, effects)
        RX = working.forward(self.panel.rows.X @ self.model.basis)
        M, slopes = working.within(self.columns), []
        for r, c in zip(self.pattern.row, self.pattern.column, strict=True):
            half = torch.zeros_like(Lambda)
            half[r] = self.model.unit * Lambda[:, c]
            slopes.append(half + half.T)
        p, place = self.sizes[0], own[self.sizes[0] :][: len(slopes)]
        MG = M[:, None] @ torch.stack(slopes)[torch.from_numpy(place)]
        out = torch.zeros(int(own.sum()), int(own.sum()), dtype=torch.float64)
        out[:p, :p] = RX.T @ RX
        out[p:, p:] = 0.5 * torch.einsum("neab,nfba->ef", MG, MG)
        return out.numpy()

    def stepped(self, x: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Where a step leads that is straight in L L', L being the free entries of Lambda.

        With S = L^-1 dL the factor of L (I + S + S') L': of outcomes that say much of b it is the
        covariance that is nearly quadratic in l. x + step where that is not positive definite.
        """
        there = x + step
        inside = slice(self.sizes[0], self.sizes[0] + self.sizes[1])
        L, dL = self.pattern.fill(x[inside]), self.pattern.fill(step[inside])
        if not (np.diag(L) != 0).all():
            return there
        S = np.linalg.solve(L, dL)
        value, vector = np.linalg.eigh(np.eye(len(L)) + S + S.T)
        if len(value) and value[0] > SHRUNK:
            moved = L @ np.linalg.cholesky((vector * value) @ vector.T)
            there[inside] = moved[self.pattern.row, self.pattern.column]
        return there

    def least_information(self, x: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
        """The least information: about Lambda near zero, and the family at its edge, (P,)."""
        least = np.zeros_like(x)
        p = self.sizes[0]
        # a parameter of the family may run to its edge, where nothing is known of it any more
        least[p + self.sizes[1] :] = LEAST_OF_EXTRA
        inside = slice(p, p + self.sizes[1])
        least[inside] = least_of_loadings(self.pattern, x[inside], diagonal[inside])
        return least

    def working_slope(self, x: np.ndarray) -> np.ndarray:
        """d vector / d theta, (P,): theta holds the logs of the diagonal."""
        slope = np.ones_like(x)
        p = self.sizes[0]
        inside = slope[p : p + self.sizes[1]]
        inside[self.pattern.on_diagonal] = x[p : p + self.sizes[1]][self.pattern.on_diagonal]
        return slope


def _root(M: np.ndarray) -> np.ndarray:
    """C with C C' = M, a positive semidefinite matrix."""
    root = np.maximum(np.sqrt(np.diag(M)), 1e-150)
    C = np.linalg.cholesky(M / root / root[:, None] + 1e-10 * np.eye(len(M)))
    factor: np.ndarray = root[:, None] * C
    return factor
