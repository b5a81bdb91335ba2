"""A request to fit a model, and the estimate that answers it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor

from dgmm.bayes import Chains, Sampling
from dgmm.encoders import Amortised
from dgmm.estimate.control import Control
from dgmm.families import Family
from dgmm.likelihood import Integration, Maximum, Point
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.parameters import Theta
from dgmm.runtime.checkpoint import Checkpoint
from dgmm.variational.collapse import Activity
from dgmm.variational.teaching import Lesson
from dgmm.variational.training import Trace

__all__ = [
    "Course",
    "Estimate",
    "FormChoice",
    "Head",
    "HeldOut",
    "Member",
    "Patterns",
    "Request",
    "Saem",
    "mean_and_error",
]


@dataclass(frozen=True)
class Request:
    """What the user asked for, checked."""

    family: Family
    method: str  # "ml", "reml", "vae", "vb", "gibbs"
    likelihood: str  # the word of likelihood=
    encoder: str
    starts: int
    seed: int
    verbose: int
    control: Control
    missing: str = "observed"  # "saem", "pattern"
    restriction: str = "acmv"  # of "pattern": "ccmv", "ncmv"
    delta: float = 0.0  # added to the linear predictor after dropout
    device: str = "cpu"  # of the ELBO stage
    checkpoint: Checkpoint | None = field(default=None, metadata={"saved": False})
    sampling: Sampling = field(default_factory=Sampling)  # of "gibbs"

    @property
    def integration(self) -> Integration:
        """How finely integrals over random effects are calculated."""
        control = self.control
        return Integration(
            self.seed,
            control.draws,
            control.replicates,
            control.polish_draws,
            control.hessian_draws,
            control.points,
            control.tolerance,
        )


@dataclass(frozen=True)
class Saem:
    """The path of stochastic approximation EM, linear coefficients on the user's scale."""

    names: tuple[str, ...]  # (p,)
    trace: Tensor  # (iterations, p)
    burn: int  # iterations before the gain decreases; the rest is averaged
    mc_error: Tensor  # (p,) Monte Carlo standard error of the average, by batch means
    acceptance: tuple[float, float]  # of the encoder's proposals and of the random walk
    chains: int  # per subject


@dataclass(frozen=True)
class Head:
    """The model as it is for some subjects."""

    subjects: Tensor  # (n_h,) positions in the panel
    theta: Theta
    log_likelihood: float  # of the observed outcomes of these subjects


@dataclass(frozen=True)
class Patterns:
    """A pattern-mixture model; a visit is the position among the planned rows of a subject."""

    restriction: str
    delta: float
    last: Tensor  # (n,) last visit seen, -1 without any
    group: Tensor  # (n,) group of patterns, -1 without any
    longest: tuple[int, ...]  # (G,) longest visit of each group
    heads: tuple[Head, ...]  # (G,) for the outcomes seen
    first: int  # first visit that somebody misses for good
    donors: tuple[Head, ...]  # for the outcomes of visits first, first + 1, ... after dropout
    parameters: int  # of one head


NEGLIGIBLE = 0.02
"""Nats per subject that do not matter: 4 log units of 200 subjects."""


@dataclass(frozen=True)
class HeldOut:
    """Log score of the deep model less that of the nested one, over subjects that neither has seen.

    The penalty of neural random effects was chosen by the score of the deep model, so it is a
    little too good.
    """

    subjects: int
    folds: int  # in which they were left out
    difference: float  # mean over subjects
    standard_error: float

    @classmethod
    def of(cls, gain: Tensor, folds: int) -> HeldOut:
        """From the difference of every subject, (n,)."""
        return cls(len(gain), folds, *mean_and_error(gain))

    @property
    def visible(self) -> float:
        """The smallest difference that so many subjects show."""
        return 2 * self.standard_error

    @property
    def alike(self) -> bool:
        """Whether a difference that would matter can be ruled out."""
        return abs(self.difference) + self.visible < NEGLIGIBLE

    @property
    def worse(self) -> bool:
        """Whether the nested model predicts better, by more than chance."""
        return self.difference < -self.visible and not self.alike


@dataclass(frozen=True)
class FormChoice:
    """Two forms that a formula left open, by log scores of subjects that the fits have not seen."""

    subjects: int
    folds: int
    taken: str  # as options of the terms
    left: str
    difference: float  # mean over subjects, the form taken less the other
    standard_error: float


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """The mean of independent values (n,) and its standard error."""
    return float(values.mean()), float(values.std()) / len(values) ** 0.5


@dataclass(frozen=True)
class Course:
    """What q of a recursion does, step by step, and the bounds of all subjects together."""

    kl: Tensor  # (G, d) nats per subject that has the step
    subjects: Tensor  # (G,) who have it
    active: Tensor  # (d,) variance of the means of q over subjects and steps, 0 the prior's
    particles: float  # the particle bound
    particles_error: float  # its Monte Carlo standard error
    steps: int  # of all subjects
    mixing: Tensor | None = None  # (K,) mean weights of several dynamics


@dataclass(frozen=True)
class Member:
    """What one of several starts of a neural random part reached."""

    model: Model  # with its penalties and centres
    theta: Theta


@dataclass(frozen=True, kw_only=True)
class Estimate(Maximum):
    """theta-hat with the value of the likelihood there and how it was found."""

    method: str
    encoder: Amortised | None = None
    phi: Weights = field(default_factory=dict)
    trace: Trace | None = None
    elbo: float | None = None
    elbo_error: float = 0.0  # its Monte Carlo standard error
    kl_by_direction: Tensor | None = None  # (k,) mean over subjects
    lesson: Lesson | None = None  # of an encoder taught on simulated subjects
    activity: Activity | None = None  # latent directions in which subjects are told apart
    nested: Estimate | None = None
    held_out: HeldOut | None = None
    form_choice: FormChoice | None = None
    start_spread: tuple[float, ...] = ()  # log evidence reached; VAE: penalised l near the end
    start_distance: tuple[float, ...] = ()  # of mu1 from that of the start kept, in sigma
    start_log_likelihood: tuple[float, ...] = ()  # by the same nodes
    start_coefficients: Tensor | None = None  # (starts, p)
    node_error: Tensor | None = None  # (p,) of the coefficients under other nodes, in SE
    others: tuple[Member, ...] = ()  # starts over which predictions and log scores average too
    saem: Saem | None = None
    patterns: Patterns | None = None
    course: Course | None = None  # of a recursion
    chains: Chains | None = None  # draws from the posterior, of which theta is the mean

    @classmethod
    def of(cls, maximum: Maximum, method: str, **more: Any) -> Estimate:
        """The estimate of a maximum that was found by some method."""
        found = {one.name: getattr(maximum, one.name) for one in fields(Maximum)}
        return cls(**{**found, "method": method, **more})

    @property
    def sampled(self) -> bool:
        """Whether theta is the mean of draws from its posterior, and no maximum."""
        return self.chains is not None

    @property
    def points(self) -> tuple[Point, ...]:
        """All starts that enter predictions, the one reported first."""
        rest = (Point(self.likelihood.under(one.model), one.theta) for one in self.others)
        return (Point(self.likelihood, self.theta), *rest)
