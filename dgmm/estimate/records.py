"""What a fit is asked for and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from dgmm.elbo import Schedule, Trace
from dgmm.encoders import Encoder
from dgmm.families import Family
from dgmm.marginal import NodeRule, exact
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = ["Control", "Estimate", "Head", "HeldOut", "Patterns", "Request", "Saem"]


@dataclass(frozen=True)
class Control:
    """Rare options of a fit; defaults are right for most.

    epochs, batch, learning_rate, pairs, kl_anneal, free_bits: the ELBO stage (see Schedule).
    ridge: penalty on network weights, on the scale of the whole log-likelihood; by default
        chosen by evidence, network by network. ridge= inside a dnn() term comes first.
    draws, replicates: final importance sampling, per subject and independent scrambles.
    polish_draws: draws per subject while polishing; hessian_draws: for standard errors.
    polish_weights: networks with at most this many weights are polished too, others keep the
        weights of the ELBO stage while all linear parts (beta, Lambda, sigma) are polished.
    points: quadrature points per dimension, fixed; by default the rule grows until it is right.
    tolerance: Newton decrement, in standard errors, at which polishing stops.
    polish: False keeps the estimates of the ELBO or of SAEM as they are; likelihood and standard
        errors are those of the marginal likelihood at that point, which is not its maximum.
    saem_iterations, chains: of missing="saem"; the first third has a gain that does not decrease,
        iterates of the rest are averaged. Chains per subject, an even number.
    holdout: share of the subjects on which a deep model is compared with its nested model.
    """

    epochs: int = 300
    batch: int = 100
    learning_rate: float = 4e-3
    pairs: int = 2
    kl_anneal: int = 0
    free_bits: float = 0.0
    ridge: float | None = None
    draws: int = 512
    polish_draws: int = 128
    polish_weights: int = 0
    replicates: int = 8
    points: int | None = None
    tolerance: float = 0.01
    holdout: float = 0.2
    hessian_draws: int = 1024
    polish: bool = True
    saem_iterations: int = 600
    chains: int = 8

    def __post_init__(self) -> None:
        for name, least in (
            ("epochs", 1),
            ("batch", 1),
            ("pairs", 1),
            ("kl_anneal", 0),
            ("draws", 8),
            ("polish_draws", 8),
            ("polish_weights", 0),
            ("replicates", 2),
            ("hessian_draws", 16),
            ("saem_iterations", 60),
            ("chains", 2),
            ("points", 3),
        ):
            value = getattr(self, name)
            whole = isinstance(value, int | np.integer) and value >= least
            if not (whole or (name == "points" and value is None)):
                raise ValueError(f"control {name}={value!r} is not a whole number >= {least}")
        if self.chains % 2:
            raise ValueError(f"control chains={self.chains!r} is not even: chains work in pairs")
        for name, low, high in (
            ("learning_rate", 0.0, 1.0),
            ("tolerance", 0.0, 1.0),
            ("holdout", -1e-300, 0.9),
            ("free_bits", -1e-300, np.inf),
        ):
            if not low < getattr(self, name) < high:
                value = getattr(self, name)
                raise ValueError(f"control {name}={value!r} must lie between {low:g} and {high:g}")

    def schedule(self, n: int, epochs: int | None = None) -> Schedule:
        """The ELBO schedule for n subjects: at least eight steps in an epoch."""
        return Schedule(
            epochs=self.epochs if epochs is None else epochs,
            batch=int(np.clip(n // 8, 8, self.batch)),
            learning_rate=self.learning_rate,
            pairs=self.pairs,
            kl_anneal=self.kl_anneal,
            free_bits=self.free_bits,
        )


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
    """Log score of the nested and the deep model on subjects that neither was fitted to."""

    subjects: int
    difference: float  # mean over subjects, deep minus nested
    standard_error: float


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
    nested: Estimate | None = None
    held_out: HeldOut | None = None
    statistics: exact.Statistics | None = field(
        default=None, repr=False, compare=False, metadata={"saved": False}
    )  # what the exact likelihood was made of, for its information; not kept in files
    start_spread: tuple[float, ...] = ()  # penalised log-likelihood reached from each start
    messages: tuple[str, ...] = ()
    saem: Saem | None = None
    patterns: Patterns | None = None

    @property
    def observed(self) -> Panel:
        """The rows that enter the likelihood."""
        return self.panel.observed_rows()
