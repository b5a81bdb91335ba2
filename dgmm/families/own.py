"""A family of your own: the density is all that must be written."""

from __future__ import annotations

from abc import ABC

import numpy as np
import torch
from torch import Tensor

from dgmm.families.base import Extra, Family, Observations, slope_of

__all__ = ["OwnFamily"]


class OwnFamily(Family, ABC):
    """Base of a family that says its ``name``, its ``links`` and its ``log_density``.

        class Rayleigh(OwnFamily):            # p(y) = y / s^2 exp{-y^2 / (2 s^2)},  s = e^eta
            name = "rayleigh"
            links = ("log",)
            support = "positive"

            def log_density(self, data, eta, extra):
                z = data.y * torch.exp(-eta)
                return data.weights * (torch.log(z) - eta - 0.5 * z**2)

            def mean(self, eta, extra):        # g^-1(eta) unless written
                return torch.exp(eta) * math.sqrt(math.pi / 2)

            def predictor(self, mean, extra):  # the inverse of the mean, g unless written
                return torch.log(mean / math.sqrt(math.pi / 2))

        dgmm.check_family(Rayleigh(), y=[0.3, 0.8, 1.2, 1.9, 3.1])

    That is enough for estimates, standard errors, tests and predictions. :func:`dgmm.check_family`
    compares what is written with the density, and says which method is wrong.

    ``support`` says which outcomes there are ("real" unless written). Further parameters are named
    in ``extra`` ("log_shape" is reported as its exponential) and start at zero unless
    ``start_extra`` says better. Residuals by type "pearson", R2 and ICC need ``variance``,
    simulation and intervals for new outcomes need ``simulate``, and impossible outcomes are refused
    by ``read``.

    The density must be made of torch operations with three derivatives, elementwise, and count the
    prior weights. Weights of scoring are the observed information, where it is positive.
    """

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.per_trial(y, trials, weights)

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        raise ValueError(
            f"family {self.name!r} does not say its variance: write variance(eta, data, extra)"
        )

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        raise ValueError(
            f"family {self.name!r} cannot draw outcomes: write "
            "simulate(eta, data, extra, generator)"
        )

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        return torch.zeros(len(self.extra), dtype=torch.float64)

    def start_mean(self, data: Observations) -> Tensor:
        return self.response(data).mean().expand(data.y.shape).clone()

    def mean_slope(self, eta: Tensor, extra: Extra) -> Tensor:
        """d E(y | eta) / d eta, by autograd."""
        return slope_of(lambda point: self.mean(point, extra), eta, extra)

    def without_residual(self, data: Observations) -> Tensor | None:
        """Not known: a pilot value of the mean says nothing about a row."""
        return None

    def information(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        """-d2 log p / d eta2 where it is positive, else a thousandth of its mean size."""
        graph = torch.is_grad_enabled() and (eta.requires_grad or extra.requires_grad)
        point = eta if eta.requires_grad else eta.detach().requires_grad_()
        with torch.enable_grad():
            total = self.log_density(data, point, extra).sum()
            (slope,) = torch.autograd.grad(total, point, create_graph=True)
            (curvature,) = torch.autograd.grad(slope.sum(), point, create_graph=graph)
        least = 1e-3 * curvature.detach().abs().mean() + 1e-12
        return torch.maximum(-curvature, least)

    def working_residual(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        """Score over information."""
        return self.score(data, eta, extra) / self.information(data, eta, extra)
