"""The quantities that effects, slopes and means are about, as functions of theta at some rows.

    linear predictor      mu1
    mean subject          g^-1(mu1), the subject whose random part is zero
    population            E g^-1{mu1 + mu2(b)},  b ~ N(0, I)

With the identity link and random effects of mean zero the three are one. The population is that of
the start that is reported. Zeger, Liang and Albert (1988), Biometrics 44, 1049-1060.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.families.links import LINKS, Link
from dgmm.information import Derivative, MeanSlopes, mean_packing
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta
from dgmm.prediction.moments import marginal, mean_subject
from dgmm.prediction.sensitivity import mean_slopes, population_slopes, response_slopes

__all__ = ["Predictor", "Quantity", "quantity"]

STEP = 1e-5
"""Step of central differences in a parameter, where derivatives have no closed form."""

SCALES = ("link", "response")
TYPES = ("marginal", "mean_subject")


@dataclass(frozen=True)
class Quantity(ABC):
    """A function of theta for every row of a panel, with its derivatives at theta-hat."""

    done: Estimate

    whole: ClassVar[bool] = True  # it needs the covariance of all of theta
    offset: ClassVar[float | None] = 0.0  # where it is held unless another is given; None: its own

    @property
    @abstractmethod
    def words(self) -> str:
        """The quantity in words, for the title of a table."""

    @property
    def link(self) -> Link:
        """The scale on which intervals of the quantity are symmetric."""
        return self.done.model.family.mean_link

    @abstractmethod
    def value(self, theta: Theta, panel: Panel) -> Tensor:
        """The quantity at the rows of a panel, (N,)."""

    @abstractmethod
    def derivative(self, panel: Panel) -> Derivative:
        """Its derivatives in theta at theta-hat."""

    def jacobian(self, panel: Panel) -> Tensor:
        """The derivatives in one matrix (N, P), in the order of :attr:`packing`."""
        found = self.derivative(panel)
        J = torch.zeros(panel.n_rows, self.packing.size, dtype=torch.float64)
        where = self.packing.places(found.packing)
        for at, some in found.blocks():
            J[at[:, None], where] = some
        return J

    @property
    def packing(self) -> Packing:
        """The parameters that it may move with."""
        return self.done.model.packing


@dataclass(frozen=True)
class Predictor(Quantity):
    """mu1."""

    whole = False
    offset = None
    link = LINKS["identity"]

    @property
    def words(self) -> str:
        return "mean" if self.done.model.family.conjugate else "linear predictor"

    @property
    def packing(self) -> Packing:
        return mean_packing(self.done.model)

    @cached_property
    def slopes(self) -> MeanSlopes:
        """d mu1 / d m at m-hat."""
        return MeanSlopes.at(self.done.model, self.done.theta)

    def value(self, theta: Theta, panel: Panel) -> Tensor:
        return self.done.model.mu1(self.done.model.prepare(theta), panel.rows)

    def derivative(self, panel: Panel) -> Derivative:
        return Derivative.dense(self.packing, lambda: self.slopes.jacobian(panel.rows))


@dataclass(frozen=True)
class MeanSubject(Quantity):
    """g^-1(mu1)."""

    @property
    def words(self) -> str:
        return "mean of the subject whose random effects are zero"

    def value(self, theta: Theta, panel: Panel) -> Tensor:
        return mean_subject(self.done, theta, panel, "response")

    def derivative(self, panel: Panel) -> Derivative:
        model, theta = self.done.model, self.done.theta
        eta = mean_subject(self.done, theta, panel, "link")
        return response_slopes(model, theta, panel, eta, mean_slopes(model, theta, panel))


@dataclass(frozen=True)
class Population(Quantity):
    """E g^-1(eta) over b ~ N(0, I)."""

    @property
    def words(self) -> str:
        return "mean of the population, random effects integrated out"

    @cached_property
    def _reported(self) -> Estimate:
        return replace(self.done, others=())

    def value(self, theta: Theta, panel: Panel) -> Tensor:
        return marginal(self._reported, theta, panel, "response").mean

    def derivative(self, panel: Panel) -> Derivative:
        model, theta = self.done.model, self.done.theta
        if not model.serial:
            return population_slopes(model, theta, panel)
        return Derivative.dense(self.packing, lambda: self._differences(panel))

    def _differences(self, panel: Panel) -> Tensor:
        """Central differences, where a row has its state from the other rows of its subject."""
        x, columns = self.packing.pack(self.done.theta).detach(), []
        for j in range(len(x)):
            step = torch.zeros_like(x)
            step[j] = STEP * max(1.0, float(x[j].abs()))
            ends = (self.value(self.packing.unpack(x + s), panel) for s in (step, -step))
            up, down = ends
            columns.append((up - down) / (2 * step[j]))
        return torch.stack(columns, dim=1)


def quantity(done: Estimate, scale: str, type: str | None) -> Quantity:
    """The quantity that two words of the user name; on the response scale by default marginal.

    Raises:
        ValueError: an unknown word, or the linear predictor of a population.
    """
    if scale not in SCALES:
        raise ValueError(f"scale is 'link' or 'response', not {scale!r}")
    if type not in (None, *TYPES):
        raise ValueError(f"type is 'marginal' or 'mean_subject', not {type!r}")
    if scale == "link":
        if type == "marginal":
            raise ValueError(
                "type='marginal' averages means over the population: use it with scale='response'; "
                "marginal_coefs() has population-averaged coefficients on the link scale"
            )
        return Predictor(done)
    return MeanSubject(done) if type == "mean_subject" else Population(done)
