"""A request to fit a model, and the estimate that answers it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from dgmm.encoders import Encoder
from dgmm.estimate.control import Control
from dgmm.families import Family
from dgmm.likelihood import NodeRule, gaussian
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.runtime.checkpoint import Checkpoint
from dgmm.variational.collapse import Activity
from dgmm.variational.training import Trace

__all__ = ["Estimate", "Head", "HeldOut", "Member", "Patterns", "Request", "Saem"]


@dataclass(frozen=True)
class Request:
    """What the user asked for, checked."""

    family: Family
    method: str  # "ml", "reml", "vae"
    likelihood: str  # "exact", "quadrature", "importance", "laplace" (several grouping factors)
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


@dataclass(frozen=True)
class HeldOut:
    """Log score of the nested and the deep model on subjects that neither was fitted to.

    The penalty of neural random effects was chosen by this score, so it is a little too good.
    """

    subjects: int
    difference: float  # mean over subjects, deep minus nested
    standard_error: float

    @classmethod
    def of(cls, gain: Tensor) -> HeldOut:
        """From the difference of every subject, (n,)."""
        values = gain.detach().numpy()
        error = float(values.std(ddof=1) / np.sqrt(len(values)))
        return cls(len(values), float(values.mean()), error)


@dataclass(frozen=True)
class Member:
    """What one of several starts of a neural random part reached."""

    model: Model  # with its penalties and centres
    theta: Theta


def unreached(decrement: float, tolerance: float) -> tuple[str, ...]:
    """The note about a search that ended too far from a maximum; none when it is near enough."""
    if decrement < tolerance:
        return ()
    return (
        f"the Newton decrement is {decrement:.3g} standard errors, not below "
        f"{tolerance:g}: estimates may still move by that much",
    )


@dataclass(frozen=True)
class Estimate:
    """theta-hat with the value of the likelihood there and how it was found."""

    model: Model
    theta: Theta
    panel: Panel  # all planned rows
    method: str
    likelihood: str
    rule: NodeRule | None  # None when exact
    log_likelihood: float
    mc_error: float  # Monte Carlo standard error; quadrature: change between two rules
    decrement: float
    evaluations: int
    converged: bool
    vcov_gls: Tensor | None = None  # internal scale, exact engine only
    encoder: Encoder | None = None
    phi: Weights = field(default_factory=dict)
    trace: Trace | None = None
    elbo: float | None = None
    elbo_error: float = 0.0  # its Monte Carlo standard error
    kl_by_direction: Tensor | None = None  # (k,) mean over subjects
    activity: Activity | None = None  # latent directions in which subjects are told apart
    nested: Estimate | None = None
    held_out: HeldOut | None = None
    statistics: gaussian.Statistics | None = field(
        default=None, repr=False, compare=False, metadata={"saved": False}
    )  # what the exact likelihood was made of, for its information; not kept in files
    start_spread: tuple[float, ...] = ()  # log evidence reached; VAE: penalised l near the end
    start_distance: tuple[float, ...] = ()  # of mu1 from that of the start kept, in sigma
    others: tuple[Member, ...] = ()  # starts over which predictions and log scores average too
    messages: tuple[str, ...] = ()
    saem: Saem | None = None
    patterns: Patterns | None = None

    @property
    def members(self) -> tuple[Member, ...]:
        """All starts that enter predictions, the one reported first."""
        return (Member(self.model, self.theta), *self.others)

    @property
    def observed(self) -> Panel:
        """The rows that enter the likelihood."""
        return self.panel.observed_rows()
