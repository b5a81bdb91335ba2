"""Standard deviations and correlations as coordinates of D, good up to their boundaries.

For one random part, D = S R S with S = diag(sd) and R = U U', the rows of U on the unit sphere:

    U_11 = 1,  U_j1 = z_j1,  U_j2 = z_j2 sqrt(1 - z_j1^2),  ...,  U_jj = prod sqrt(1 - z_jk^2),

z_jk in [-1, 1] partial correlations. The first column of z is a correlation itself, so any
correlation becomes a coordinate once its two effects are put first. After Lewandowski, Kurowicka
and Joe (2009), J. Multivariate Analysis 100, 1989-2001.

A restricted covariance has the parameters that are reported of it for coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dgmm.inference.reported import covariance
from dgmm.latent import Component, Latent
from dgmm.parameters import Theta, part

__all__ = ["EDGE", "Coordinates"]

EDGE = 1 - 1e-9
"""The largest partial correlation: at 1 itself the square root has no derivative."""


@dataclass(frozen=True)
class Coordinates:
    """Where each standard deviation and partial correlation stands in one vector.

    ``orders`` (one permutation per random part) says which effects come first. The vector holds,
    part by part, the standard deviations in that order and then the partial correlations row by
    row, none for independent effects.
    """

    latents: tuple[Latent, ...]
    orders: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, latents: Sequence[Latent], term: int = 0, first: Sequence[int] = ()) -> Coordinates:
        """With the effects ``first`` of random part ``term`` in front."""
        orders = []
        for i, latent in enumerate(latents):
            lead = list(first) if i == term else []
            orders.append((*lead, *(j for j in range(len(latent.names)) if j not in lead)))
        return cls(tuple(latents), tuple(orders))

    def correlated(self, i: int) -> bool:
        """Whether random part i has correlations."""
        return len(self.latents[i].blocks()) < len(self.orders[i])

    def start(self, i: int) -> int:
        """Position of the first standard deviation of part i."""
        return sum(self._size(j) for j in range(i))

    @property
    def size(self) -> int:
        """Length of the vector."""
        return self.start(len(self.latents))

    def _size(self, i: int) -> int:
        q = len(self.orders[i])
        if self.latents[i].by_reported:
            return len(self.latents[i].components())
        return q + (q * (q - 1) // 2 if self.correlated(i) else 0)

    def is_deviation(self) -> np.ndarray:
        """True at standard deviations and what else is positive, False at partial correlations."""
        out = np.zeros(self.size, dtype=bool)
        for i, (latent, order) in enumerate(zip(self.latents, self.orders, strict=True)):
            first = self.start(i)
            out[first : first + len(order)] = True
            if latent.by_reported:
                ends = [_ends(one) for one in latent.components()]
                out[first : first + len(ends)] = [low == 0.0 and high > 1e9 for low, high in ends]
        return out

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """The ends of the range of every entry, a little inside at correlations."""
        deviation = self.is_deviation()
        lower, upper = np.where(deviation, 0.0, -EDGE), np.where(deviation, np.inf, EDGE)
        for i, latent in enumerate(self.latents):
            if not latent.by_reported:
                continue
            for j, one in enumerate(latent.components(), self.start(i)):
                low, high = _ends(one)
                inside = 0.5 * (1 - EDGE) * (high - low) if np.isfinite(high - low) else 0.0
                lower[j], upper[j] = low + inside, high - inside
        return lower, upper

    def units(self) -> np.ndarray:
        """A sensible size of every standard deviation and such, 1 for partial correlations."""
        out = np.ones(self.size)
        for i, (latent, order) in enumerate(zip(self.latents, self.orders, strict=True)):
            first = self.start(i)
            own = latent.scale.numpy()[list(order)]
            if latent.by_reported:
                own = latent.sizes().numpy()
            out[first : first + len(own)] = own
        return out

    def root(self, i: int, vector: Tensor) -> Tensor:
        """A square root of D (q, q) of part i, rows in the order of the formula."""
        q, first = len(self.orders[i]), self.start(i)
        sd = vector[first : first + q]
        U = torch.eye(q, dtype=torch.float64)
        if self.correlated(i):
            U = sphere_rows(vector[first + q : first + self._size(i)], q)
        inverse = torch.argsort(torch.tensor(self.orders[i]))
        return (sd[:, None] * U)[inverse]

    def to_theta(self, vector: Tensor) -> Theta:
        """The random part of theta at these coordinates."""
        theta: Theta = {}
        for i, latent in enumerate(self.latents):
            if latent.by_reported:
                own = vector[self.start(i) : self.start(i) + self._size(i)]
                weights = latent.from_reported(own)
            else:
                root = self.root(i, vector)
                weights = latent.nearest(root @ root.T)
            theta |= {f"latent{i + 1}.{name}": value for name, value in weights.items()}
        return theta

    def of_theta(self, theta: Theta) -> np.ndarray:
        """The coordinates of a theta."""
        out = np.zeros(self.size)
        for i, order in enumerate(self.orders):
            q, first = len(order), self.start(i)
            if self.latents[i].by_reported:
                weights = part(theta, f"latent{i + 1}.")
                values = self.latents[i].reported(weights).detach().numpy()
                out[first : first + len(values)] = values
                continue
            D = covariance(self.latents[i], part(theta, f"latent{i + 1}.")).detach().numpy()
            D = D[np.ix_(order, order)]
            sd = np.sqrt(np.diag(D))
            out[first : first + q] = sd
            if self.correlated(i):
                out[first + q : first + self._size(i)] = partials(D)
        return out


def _ends(one: Component) -> tuple[float, float]:
    """The range of a reported parameter."""
    ends = one.link.inverse(torch.tensor([-torch.inf, torch.inf], dtype=torch.float64))
    low, high = ends.tolist()
    return low, high


def sphere_rows(z: Tensor, q: int) -> Tensor:
    """U (q, q), lower triangular with unit rows, from q (q - 1) / 2 partial correlations."""
    rows, used = [], 0
    for j in range(q):
        entries, rest = [], torch.ones((), dtype=torch.float64)
        for k in range(j):
            entries.append(z[used + k] * rest)
            rest = rest * torch.sqrt((1 - z[used + k].square()).clamp(min=0))
        used += j
        zero = torch.zeros(q - j - 1, dtype=torch.float64)
        rows.append(torch.cat([torch.stack([*entries, rest]), zero]))
    return torch.stack(rows)


def partials(D: np.ndarray) -> np.ndarray:
    """The partial correlations z of a covariance matrix; 0 where a variance is zero."""
    q = len(D)
    sd = np.sqrt(np.diag(D))
    safe = np.where(sd > 1e-8 * sd.max(initial=0.0), sd, np.inf)
    R = D / safe / safe[:, None]
    np.fill_diagonal(R, 1.0)
    L = np.linalg.cholesky(R + 1e-12 * np.eye(q))
    out = []
    for j in range(q):
        rest = 1.0
        for k in range(j):
            value = L[j, k] / np.sqrt(rest) if rest > 1e-12 else 0.0
            out.append(float(np.clip(value, -EDGE, EDGE)))
            rest -= L[j, k] ** 2
    return np.array(out)
