"""What a family must supply, and what follows from it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.families.links import LINKS, Link
from dgmm.runtime.registry import suggestion

__all__ = [
    "FORMS",
    "Derivatives",
    "Extra",
    "Family",
    "Observations",
    "OutcomeError",
    "refuse",
    "slope_of",
]

Extra = Tensor
"""Extra parameters of a family on the unconstrained scale: (R,), or (R, ..., J) row by row."""


THRESHOLD = {
    "logit": (math.pi**2 / 3, "pi^2 / 3"),
    "probit": (1.0, "1"),
    "cloglog": (math.pi**2 / 6, "pi^2 / 6"),
}
"""Variance of the standard logistic, normal and extreme value distribution."""

FORMS = {
    "lognormal": "log{1 + var(y) / E(y)^2}",
    "trigamma": "psi_1{E(y)^2 / var(y)}",
    "delta": "var(y) / {d E(y) / d eta}^2",
}
"""Forms of the variance of an observation on the scale of eta."""


class Observations(NamedTuple):
    """Outcomes with what the density needs beside the linear predictor; equal shapes (..., J)."""

    y: Tensor
    trials: Tensor
    weights: Tensor


class Derivatives(NamedTuple):
    """log p(y | eta) less ``constant(data)``, and its derivatives in eta."""

    value: Tensor
    first: Tensor
    second: Tensor
    third: Tensor
    fourth: Tensor | None = None  # gives Laplace's approximation a closed curvature


class Family(ABC):
    """F(g^-1(eta), sigma): the distribution of y given the random effects.

    A final subclass declares ``name``, ``links`` (the first one is the default) and ``extra``, the
    unconstrained names of further parameters: ``log_sigma`` is reported as sigma, ``logit_zero`` as
    zero, any other name as it is. It writes six methods; the others follow from them, and a family
    whose mean is not g^-1(eta), or which knows a closed form, says so by its own version.

    Prior weights multiply the log-density (for a Gaussian outcome they divide the variance), and
    log-densities stay finite, with their derivatives, far out in eta and ``extra``.

    Every method broadcasts: ``eta`` may carry draws in front, shape (M, n, J), and an entry of
    ``extra`` is a number or, with dispersion= or zi=, one value per row: never index it by shape.
    """

    name: str
    links: tuple[str, ...]
    extra: tuple[str, ...] = ()
    support: str = "real"  # or "binary", "counts", "trials", "positive", "interval", "ordered"
    dispersion: str | None = None  # the entry of ``extra`` that dispersion= models
    zi: str | None = None  # the one that zi= models
    oi: str | None = None  # the one that oi= models
    repeats: ClassVar[bool] = True  # one outcome per subject can show more variance than F has
    threshold: ClassVar[bool] = False  # y says whether a latent variable exceeds a threshold
    bounded: ClassVar[bool] = False  # takes bounds=(a, b)
    censors: ClassVar[bool] = False  # an outcome at a bound lies there or beyond it
    wraps: ClassVar[bool] = False  # takes base=, another family, and bears its name too
    intercept: ClassVar[bool] = True  # False: thresholds take the place of the fixed intercept
    location: ClassVar[int | None] = None  # the entry of ``extra`` that moves along with eta
    noise: bool = True  # False: y given the random effects is its mean

    def __init__(self, link: str | None = None) -> None:
        word = link or self.links[0]
        if word not in self.links:
            raise ValueError(
                f"family {self.name!r} has no link {word!r}{suggestion(word, self.links)} "
                f"Available: {', '.join(self.links)}."
            )
        self.link: Link = LINKS[word]

    @abstractmethod
    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Observed outcomes, trials and weights as the family counts them.

        Raises OutcomeError, naming the row, when an outcome is impossible under the family.
        """

    @abstractmethod
    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        """log p(y | eta, extra), prior weights included, elementwise."""

    @abstractmethod
    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        """var(y | eta) of the outcome as a mean (a proportion for binomial counts)."""

    @abstractmethod
    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        """One draw of y for every entry of eta."""

    @abstractmethod
    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        """Starting values of ``extra``, (R,), given pilot values of g^-1(eta)."""

    @abstractmethod
    def start_mean(self, data: Observations) -> Tensor:
        """A pilot value of g^-1(eta) for every row, inside the range of g."""

    @property
    def conjugate(self) -> bool:
        """Whether y given eta is normal with mean eta: normal b then integrate in closed form."""
        return False

    # -- what follows, unless a family knows better --------------------------------------------

    def given_sum(self, data: Observations, eta: Tensor, mask: Tensor) -> Tensor | None:
        """log p(y_i | sum_j y_ij) of every subject, (n, J) -> (n,), less what is free of eta.

        None unless the sum is sufficient for a level added to all eta_ij, which then is gone.
        """
        return None

    def edges(self) -> tuple[tuple[str, Family], ...]:
        """The families that this one becomes where an entry of ``extra`` goes to its boundary.

        A test of one against the other has its null value on the edge of the parameter space.
        """
        return ()

    def modelled(self, part: str) -> str | None:
        """The entry of ``extra`` that the argument "dispersion", "zi" or "oi" models, if any."""
        return {"dispersion": self.dispersion, "zi": self.zi, "oi": self.oi}[part]

    def distribution(
        self, data: Observations, eta: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor] | None:
        """P(Y < y) and P(Y <= y), which differ at outcomes of positive probability.

        Without derivatives, for calibration; None where a family does not know them. Prior weights
        that multiply the log-density are not in them.
        """
        return None

    def extremes(self, data: Observations) -> tuple[Tensor, Tensor] | None:
        """Where the outcome is the least, and where the greatest, possible one, if there is any.

        Such outcomes push a coefficient to infinity when they are all that a covariate shows. Both
        where the outcome says nothing about eta.
        """
        if self.support in ("binary", "trials"):
            return data.y == 0, data.y == data.trials
        if self.support == "counts":
            return data.y == 0, torch.zeros_like(data.y, dtype=torch.bool)
        return None

    def comparisons(self, X: Tensor, data: Observations) -> tuple[Tensor, Tensor, Tensor] | None:
        """X (N, p), and :meth:`extremes`: rows in which an infinite coefficient would show.

        A family with thresholds compares them with x'beta: a column for each follows those of X.
        """
        sides = self.extremes(data)
        return None if sides is None else (X, *sides)

    def fitted_to(self, y: np.ndarray, labels: tuple[Any, ...] = ()) -> Family:
        """The family once the outcomes are known, and the labels of a category if y was one.

        An ordinal family counts and names its categories.
        """
        return self

    def without_noise(self) -> Family:
        """The family in which y given the random effects is its mean, and they vary instead.

        Raises:
            ValueError: the family has no such limit.
        """
        raise ValueError(
            "dispersion='~ 0', an outcome without noise about its path, is for family='gaussian' "
            f"with link='identity', not for family={self.name!r} with link={self.link.name!r}"
        )

    def mean(self, eta: Tensor, extra: Extra) -> Tensor:
        """E(y | eta), g^-1(eta) by default; for counts out of trials, the probability."""
        return self.link.inverse(eta)

    def mean_slope(self, eta: Tensor, extra: Extra) -> Tensor:
        """d E(y | eta) / d eta, elementwise; a family with its own mean has its own slope."""
        return self.link.derivative(eta)

    def predictor(self, mean: Tensor, extra: Extra) -> Tensor:
        """eta with E(y | eta) = ``mean``; a family with its own mean has its own inverse."""
        return self.link.forward(mean)

    @property
    def category_names(self) -> tuple[str, ...]:
        """The categories of an ordinal outcome from low to high, none for other families."""
        return ()

    def scored(self, scores: Sequence[float]) -> Family:
        """The family whose mean is E{s(y)}, a score for every category."""
        raise ValueError(f"family {self.name!r} has no ordered categories")

    @property
    def mean_link(self) -> Link:
        """The link on whose scale an interval of E(y) stays inside the range of the mean."""
        return self.link

    def response(self, data: Observations) -> Tensor:
        """The outcome on the scale of its mean (y, or y / trials)."""
        return data.y / data.trials

    def without_residual(self, data: Observations) -> Tensor | None:
        """eta of every row if its outcome is its mean, missing where that is not known.

        None for a discrete outcome, which always varies about its mean.
        """
        continuous = self.support in ("real", "positive", "interval")
        return self.link.forward(self.start_mean(data)) if continuous else None

    def information(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        """The weight of Fisher scoring, (d E(y) / d eta)^2 / var(y).

        It is the expected information in eta of an exponential family, and a lower bound of it
        (that of the quasi-likelihood with this mean and variance) for any other.
        """
        return self.mean_slope(eta, extra).square() / self.variance(eta, data, extra)

    def working_residual(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        """{y - E(y)} / {d E(y) / d eta}: the residual on the scale of eta."""
        slope = self.mean_slope(eta, extra)
        # a flat link (|eta| large) leaves no information on this scale; the sign keeps the side
        safe = torch.where(slope.abs() < 1e-10, torch.where(slope < 0, -1e-10, 1e-10), slope)
        return (self.response(data) - self.mean(eta, extra)) / safe

    def score(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        """d log p / d eta, elementwise, closed or by autograd; differentiable."""
        closed = self.derivatives(data, eta, extra, order=1)
        if closed is not None:
            return closed.first
        return slope_of(lambda point: self.log_density(data, point, extra), eta, extra)

    def constant(self, data: Observations) -> Tensor:
        """The part of log p without parameters that ``derivatives`` leaves out, elementwise."""
        return torch.zeros_like(data.y)

    def derivatives(
        self, data: Observations, eta: Tensor, extra: Extra, order: int = 3
    ) -> Derivatives | None:
        """Closed derivatives of log p - constant(data) in eta, or None: then autograd takes them.

        ``order`` 2 promises that value and third are not looked at, 1 only value and first are:
        what is not looked at may be any tensor. The fourth is for ``order`` 4, and may be None.
        """
        return None

    def cumulant(self, eta: Tensor) -> tuple[Tensor, Tensor] | None:
        """kappa and its slope where log p = w {y eta - m kappa(eta)} + c(y), m trials, w weight."""
        return None

    def cumulant_change(self, eta: Tensor, delta: Tensor) -> tuple[Tensor, Tensor] | None:
        """How kappa and its slope change from eta to eta + delta, to all digits of large counts."""
        return None

    def natural_links(self) -> tuple[Link, ...]:
        """Per reported extra parameter the link on whose scale its interval is made."""
        return tuple(LINKS[_prefix(name) or "identity"] for name in self.extra)

    def natural(self, extra: Extra) -> Tensor:
        """The extra parameters on the scale on which they are reported, (R,)."""
        if not self.extra:
            return extra
        links = self.natural_links()
        return torch.stack([link.inverse(v) for link, v in zip(links, extra, strict=True)])

    def natural_names(self) -> tuple[str, ...]:
        """Names of the reported extra parameters: ``sigma`` for ``log_sigma``."""
        return tuple(name.removeprefix(f"{_prefix(name)}_") for name in self.extra)

    @property
    def atoms(self) -> tuple[float, ...]:
        """Outcomes of positive probability of a distribution that is continuous elsewhere."""
        return ()

    @property
    def yes_or_no(self) -> bool:
        """Whether the outcome may be a variable of two values, such as yes and no."""
        return self.support in ("binary", "trials", "ordered")

    def options(self) -> dict[str, Any]:
        """The arguments that make this family again, as plain values."""
        return {"link": self.link.name}

    # -- the variance of an observation on the scale of eta ---------------------------------------

    @property
    def multiplicative(self) -> bool:
        """Whether eta acts on the logarithm of E(y)."""
        return self.link.name == "log"

    def observation_variance(self, eta: Tensor, extra: Extra, form: str = "lognormal") -> Tensor:
        """The variance v_e of one observation on the scale of eta, the residual of R2 and ICC.

            latent     the variance of the latent variable: pi^2 / 3 (logit), 1 (probit), pi^2 / 6
                       (cloglog), where the outcome says which thresholds it exceeds
            lognormal  log{1 + var(y) / E(y)^2} / e^2,   e = d log E(y) / d eta
            trigamma   psi_1{E(y)^2 / var(y)} / e^2
            delta      var(y) / {d E(y) / d eta}^2

        ``form`` says which of the last three where eta acts on log E(y); elsewhere it is delta.
        Moments are those given eta, of weight 1 and one trial.

        References:
            Nakagawa, Johnson and Schielzeth (2017), J. Royal Society Interface 14: 20170213.
        """
        if self.threshold:
            return torch.full_like(eta, THRESHOLD[self.link.name][0])
        one = torch.ones_like(eta)
        spread = self.variance(eta, Observations(one, one, one), extra)
        slope = self.mean_slope(eta, extra)
        if form == "delta" or not self.multiplicative:
            return spread / slope.square()
        mean = self.mean(eta, extra)
        ratio = spread / mean.square()
        size = torch.log1p(ratio) if form == "lognormal" else torch.polygamma(1, 1 / ratio)
        return size / (slope / mean).square()

    def observation_formula(self, form: str = "lognormal") -> str:
        """The formula of :meth:`observation_variance`, in plain text."""
        if self.threshold:
            return THRESHOLD[self.link.name][1]
        return FORMS[form if self.multiplicative else "delta"]

    def per_trial(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """y / trials out of one trial: how a family without trials reads a response `a / b`."""
        return y / trials, np.ones_like(trials), weights

    def __repr__(self) -> str:
        return f"{self.name}(link={self.link.name!r})"


class OutcomeError(ValueError):
    """An outcome outside the support of a family.

    ``row`` is its position among the observed outcomes (from 0), ``message`` the sentence without
    it, so that a caller who knows the user's rows can name them.
    """

    def __init__(self, message: str, row: int) -> None:
        super().__init__(f"row {row}: {message}")
        self.message, self.row = message, row


def refuse(bad: np.ndarray, y: np.ndarray, message: str, advice: str = "") -> None:
    """Raise OutcomeError for the first row where ``bad`` (N,) is true; it ends in 'found y'."""
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        ending = f" {advice}" if advice else ""
        raise OutcomeError(f"{message}, found {y[row]:g}.{ending}", row)


def slope_of(function: Callable[[Tensor], Tensor], eta: Tensor, extra: Extra) -> Tensor:
    """d function / d eta, elementwise, by autograd; differentiable where eta or extra are."""
    graph = torch.is_grad_enabled() and (eta.requires_grad or extra.requires_grad)
    with torch.enable_grad():
        point = eta if eta.requires_grad else eta.detach().requires_grad_()
        return torch.autograd.grad(function(point).sum(), point, create_graph=graph)[0]


def _prefix(name: str) -> str:
    word = name.split("_")[0]
    return word if word in ("log", "logit") and word != name else ""
