"""The Gaussian log-likelihood with paths as a function of theta.

Given the paths relative to sigma the model is the classical one of the innovations
(:mod:`dgmm.likelihood.innovations`), and theta moves l in two ways: as in that model, and through
what the paths, relative to sigma, do to the innovations.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from dgmm.likelihood.by_series import classical_scores, per_series
from dgmm.likelihood.innovations import Innovations
from dgmm.likelihood.packed import Packed, moving_packing, sigma_of
from dgmm.likelihood.sufficient import GaussianValue
from dgmm.model import Model
from dgmm.numerics.hessian import Curvature, beside_quadratic, pilot_steps
from dgmm.parameters import Packing, Theta, part

__all__ = ["FilteredValue", "relative"]


def relative(model: Model, theta: Theta, sigma: torch.Tensor) -> Theta:
    """The weights of the paths for errors of variance one."""
    found: Theta = {}
    for i, latent in enumerate(model.latents, 1):
        if latent.by_states:
            own = latent.times(part(theta, f"latent{i}."), 1 / sigma)
            found |= {f"latent{i}.{name}": value for name, value in own.items()}
    return found


@dataclass
class FilteredValue:
    """l(theta), its gradient and Hessian, theta packed as the model has it."""

    packed: Packed
    restricted: bool = False
    # differences in beta and Lambda cost no pass of the filter
    _kept: tuple[bytes, Innovations] | None = field(default=None, init=False, repr=False)

    @property
    def model(self) -> Model:
        return self.packed.model

    @property
    def packing(self) -> Packing:
        """Names and shapes of theta."""
        return self.model.packing

    def innovations(self, theta: np.ndarray) -> Innovations:
        """Those at the paths of a theta."""
        with torch.no_grad():
            moving = self._relative(torch.from_numpy(theta))
        key = moving_packing(self.model).pack(moving).numpy().tobytes()
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, Innovations.at(self.packed, moving))
        return self._kept[1]

    def _relative(self, theta: torch.Tensor) -> Theta:
        named = self.packing.unpack(theta)
        return relative(self.model, named, sigma_of(self.model, named))

    def classical(self, theta: np.ndarray) -> tuple[GaussianValue, np.ndarray]:
        """The likelihood of the innovations, and (beta, Lambda, log sigma)."""
        stats = self.innovations(theta).statistics
        rest = theta[self.still]
        if not self.model.family.noise:
            rest = np.append(rest, np.log(self.model.unit))
        return GaussianValue(stats, self.restricted), rest

    @property
    def still(self) -> np.ndarray:
        """Places in theta of all but the weights of the paths."""
        moving = set(self.moving.tolist())
        return np.array([k for k in range(self.packing.size) if k not in moving])

    @property
    def moving(self) -> np.ndarray:
        """Places in theta of the weights of the paths."""
        found: np.ndarray = self.packing.places(moving_packing(self.model)).numpy()
        return found

    def __call__(self, theta: np.ndarray) -> float:
        value, rest = self.classical(theta)
        return value(rest)

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        """dl / d theta, (P,)."""
        value, rest = self.classical(theta)
        gradient = np.zeros(len(theta))
        gradient[self.still] = value.gradient(rest)[: len(self.still)]
        return gradient + self._through_paths(theta, value, rest)

    def _through_paths(
        self, theta: np.ndarray, value: GaussianValue, rest: np.ndarray
    ) -> np.ndarray:
        """The slope of l that goes by way of the paths relative to sigma."""
        found = self.innovations(theta)
        Lambda, v, precision = value.combination(rest)
        pieces = found.statistics.reduce(Lambda)
        slopes = found.slopes(pieces, v, precision, self.restricted)
        own = moving_packing(self.model)
        with torch.enable_grad():
            x = torch.from_numpy(theta).requires_grad_()
            along = own.pack(self._relative(x)) @ own.pack(found.paths.gradient(slopes))
            (slope,) = torch.autograd.grad(along, x)
        through: np.ndarray = slope.numpy()
        return through

    def scores(self, theta: np.ndarray) -> np.ndarray:
        """The gradient of every l_i of the likelihood, series by series, (n, P)."""
        value, rest = self.classical(theta)
        found = self.innovations(theta)
        Lambda, v, precision = value.combination(rest)
        pieces = found.statistics.reduce(Lambda)
        each = found.paths.scores(found.slopes(pieces, v, precision, False))
        x, own = torch.from_numpy(theta), moving_packing(self.model)
        through = torch.autograd.functional.jacobian(lambda at: own.pack(self._relative(at)), x)
        scores: np.ndarray = each @ through.numpy()
        still = classical_scores(found, pieces, v, precision)
        scores[:, self.still] += still[:, : len(self.still)]
        return scores

    def each(self, theta: np.ndarray) -> np.ndarray:
        """l_i of the likelihood, series by series, (n,)."""
        value, rest = self.classical(theta)
        found = self.innovations(theta)
        Lambda, v, precision = value.combination(rest)
        return per_series(found, found.statistics.reduce(Lambda), v, precision)

    def hessian(self, theta: np.ndarray) -> Curvature:
        """Exact in beta, in which l is quadratic; else central differences of the gradient."""
        value, rest = self.classical(theta)
        quadratic = -np.linalg.inv(value.gls_covariance(rest))
        return beside_quadratic(quadratic, self.gradient, theta, pilot_steps(self, theta))

    def gls_covariance(self, theta: np.ndarray) -> np.ndarray:
        """(sum X'V^-1 X)^-1, (p, p)."""
        value, rest = self.classical(theta)
        return value.gls_covariance(rest)

    # -- variance parameters: all of theta but beta ----------------------------------------------

    def variance_vector(self, theta: np.ndarray) -> np.ndarray:
        """psi."""
        return theta[self._p :]

    def gls_of_variances(self, psi: np.ndarray) -> np.ndarray:
        """(sum X'V^-1 X)^-1 at psi, (p, p)."""
        return self.gls_covariance(np.append(np.zeros(self._p), psi))

    def variance_gradient(self, psi: np.ndarray) -> np.ndarray:
        """dl / d psi with beta at its conditional maximum."""
        theta = np.append(np.zeros(self._p), psi)
        value, rest = self.classical(theta)
        theta[: self._p] = value.conditional_beta(rest)
        return self.gradient(theta)[self._p :]

    @property
    def _p(self) -> int:
        return len(self.model.names)
