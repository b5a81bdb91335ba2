"""What a fit is asked for and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from os import PathLike
from typing import Any

import numpy as np
from torch import Tensor

from dgmm.encoders import Encoder
from dgmm.families import Family
from dgmm.likelihood import Integration, Maximum, Point
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.parameters import Theta
from dgmm.runtime.checkpoint import Checkpoint
from dgmm.variational.collapse import Activity
from dgmm.variational.schedule import Schedule
from dgmm.variational.training import Trace

__all__ = ["Control", "Estimate", "Head", "HeldOut", "Member", "Patterns", "Request", "Saem"]


@dataclass(frozen=True)
class Control:
    """Rare options of a fit; defaults are right for most.

    epochs, batch, learning_rate: of Adam in the ELBO stage; batch counts subjects, the learning
        rate rises over the first twentieth of the steps and then falls to zero along a cosine.
        Neural random effects take 5/8 of the epochs on the subjects kept for the choice of their
        penalty, 1/8 under every penalty tried, then half of them on all subjects; twice that under
        q="encoder", half of it with form="warped".
    steps: most steps in ``epochs`` epochs; with very many subjects there are fewer epochs, so that
        time grows no faster than the data.
    pairs: antithetic pairs of draws of b per subject and step.
    kl_anneal: epochs, at most half of the first part of the ELBO stage, over which the weight of
        the KL grows from 0 to 1; kl_cycles: how often it does so within them. free_bits: nats per
        subject below which the KL is not pushed. All three against posterior collapse after a poor
        start, with q="encoder".
    average: share of the steps, the last ones, whose mean iterate is the result; the learning rate
        then falls to a third where they begin, not to zero. q="newton" averages by itself.
    patience: epochs without a better score on held-out subjects (a tenth of them) after which the
        ELBO stage ends, with its best iterate; never before the KL has weight 1; 0 is never. watch:
        the score, "bound" (the ELBO) or "likelihood" (the marginal log-likelihood).
    precision: of the ELBO stage, "double" or "single", which takes about half of the time; "auto"
        is single while q="newton" and while the encoder alone is trained, and double else. The
        polish, the likelihood and everything reported are in double precision.
    q: how random effects are integrated while networks of them learn: "newton", a normal q for
        every subject that follows theta by Newton steps, the encoder being trained afterwards; or
        "encoder", decoder and encoder together, as in a variational auto-encoder.
    decoder_rate: the learning rate under q="newton".
    covariance: of q(b | y), "full" or "diagonal".
    refine: Newton steps by which q of every subject is improved before its bound is reported.
    workers: processes in which several starts (of neural random effects) or resamples run, one
        thread each; None is one for resamples, and as many as there are starts and processors.
    checkpoint: file that the ELBO stage, where there is one, writes every ``checkpoint_every``
        epochs; the same call goes on from it, to the same numbers, and a file of another fit is
        refused.
    ridge: penalty on network weights, on the scale of the whole log-likelihood; by default chosen
        by evidence on the fixed side, on held-out subjects left of a bar. ridge= inside a dnn()
        term comes first.
    draws, replicates: final importance sampling, per subject and independent scrambles.
    polish_draws: draws per subject while polishing; hessian_draws: for standard errors. Half and a
        thirty-second of them beside neural random effects, where nodes follow theta.
    polish_weights: networks with at most this many weights are polished too, others keep the
        weights of the ELBO stage while all linear parts (beta, Lambda, sigma) are polished.
    points: quadrature points per dimension, fixed; by default the rule grows until it is right.
    tolerance: Newton decrement, in standard errors, at which polishing stops.
    resamples: of the subjects, for se="bootstrap".
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
    steps: int = 10_000
    kl_anneal: int = 0
    kl_cycles: int = 1
    free_bits: float = 0.0
    average: float = 0.0
    patience: int = 0
    watch: str = "bound"
    precision: str = "auto"
    q: str = "newton"
    decoder_rate: float = 1e-2
    covariance: str = "full"
    refine: int = 0
    workers: int | None = None
    checkpoint: str | None = None
    checkpoint_every: int = 10
    ridge: float | None = None
    draws: int = 512
    polish_draws: int = 128
    polish_weights: int = 0
    replicates: int = 8
    points: int | None = None
    tolerance: float = 0.01
    holdout: float = 0.2
    hessian_draws: int = 1024
    resamples: int = 200
    polish: bool = True
    saem_iterations: int = 600
    chains: int = 8

    def __post_init__(self) -> None:
        for name, least in (
            ("epochs", 1),
            ("batch", 1),
            ("pairs", 1),
            ("steps", 1),
            ("kl_anneal", 0),
            ("kl_cycles", 1),
            ("patience", 0),
            ("refine", 0),
            ("workers", 1),
            ("checkpoint_every", 1),
            ("draws", 8),
            ("polish_draws", 8),
            ("polish_weights", 0),
            ("replicates", 2),
            ("hessian_draws", 16),
            ("resamples", 2),
            ("saem_iterations", 60),
            ("chains", 2),
            ("points", 3),
        ):
            value = getattr(self, name)
            whole = isinstance(value, int | np.integer) and value >= least
            if not (whole or (name in ("points", "workers") and value is None)):
                raise ValueError(f"control {name}={value!r} is not a whole number >= {least}")
        if self.chains % 2:
            raise ValueError(f"control chains={self.chains!r} is not even: chains work in pairs")
        for name, low, high in (
            ("learning_rate", 0.0, 1.0),
            ("decoder_rate", 0.0, 1.0),
            ("tolerance", 0.0, 1.0),
            ("holdout", -1e-300, 0.9),
            ("free_bits", -1e-300, np.inf),
            ("average", -1e-300, 1.0),
        ):
            if not low < getattr(self, name) < high:
                value = getattr(self, name)
                between = f"between {max(low, 0.0):g} and {high:g}"
                raise ValueError(f"control {name}={value!r} must lie {between}")
        for name, words in (
            ("watch", ("bound", "likelihood")),
            ("precision", ("auto", "double", "single")),
            ("covariance", ("full", "diagonal")),
            ("q", ("newton", "encoder")),
        ):
            if getattr(self, name) not in words:
                listed = " or ".join(repr(word) for word in words)
                raise ValueError(f"control {name} is {listed}, not {getattr(self, name)!r}")
        if not isinstance(self.checkpoint, str | PathLike | None):
            raise ValueError(f"control checkpoint is the path of a file, not {self.checkpoint!r}")
        if self.ridge is not None and not 0 <= self.ridge < np.inf:
            raise ValueError(f"control ridge={self.ridge!r} is a penalty: zero or larger, or None")
        self._check_together()

    def _check_together(self) -> None:
        if self.kl_anneal > self.epochs / 2:
            raise ValueError(
                f"control kl_anneal={self.kl_anneal} leaves less than half of the {self.epochs} "
                "epochs at KL weight 1, where the bound is one; take fewer or raise epochs"
            )
        if self.kl_cycles > 1 and self.kl_anneal < 2 * self.kl_cycles:
            raise ValueError(
                f"control kl_cycles={self.kl_cycles} needs kl_anneal of at least "
                f"{2 * self.kl_cycles} epochs, in which the KL weight rises {self.kl_cycles} times"
            )
        if self.average and self.patience:
            raise ValueError(
                "control average= and patience= both say which iterate is the result; give one"
            )

    def schedule(self, n: int, epochs: int | None = None) -> Schedule:
        """The ELBO schedule for n subjects: at least eight steps in an epoch.

        epochs: of this part of the ELBO stage, which ``steps`` shortens like the whole.
        """
        batch = int(np.clip(n // 8, 8, self.batch))
        share = min(1.0, self.steps / (self.epochs * max(1, round(n / batch))))
        wanted = self.epochs if epochs is None else epochs
        return Schedule(
            epochs=max(1, round(share * wanted)),
            batch=batch,
            learning_rate=self.learning_rate,
            pairs=self.pairs,
            kl_anneal=round(share * self.kl_anneal),
            kl_cycles=self.kl_cycles,
            free_bits=self.free_bits,
            average=self.average,
            patience=self.patience,
            watch=self.watch,
            precision="double" if self.precision == "auto" else self.precision,
        )


@dataclass(frozen=True)
class Request:
    """What the user asked for, checked."""

    family: Family
    method: str  # "ml", "reml", "vae"
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


@dataclass(frozen=True, kw_only=True)
class Estimate(Maximum):
    """theta-hat with the value of the likelihood there and how it was found."""

    method: str
    encoder: Encoder | None = None
    phi: Weights = field(default_factory=dict)
    trace: Trace | None = None
    elbo: float | None = None
    elbo_error: float = 0.0  # its Monte Carlo standard error
    kl_by_direction: Tensor | None = None  # (k,) mean over subjects
    activity: Activity | None = None  # latent directions in which subjects are told apart
    nested: Estimate | None = None
    held_out: HeldOut | None = None
    start_spread: tuple[float, ...] = ()  # log evidence reached; VAE: penalised l near the end
    start_distance: tuple[float, ...] = ()  # of mu1 from that of the start kept, in sigma
    others: tuple[Member, ...] = ()  # starts over which predictions and log scores average too
    saem: Saem | None = None
    patterns: Patterns | None = None

    @classmethod
    def of(cls, maximum: Maximum, method: str, **more: Any) -> Estimate:
        """The estimate of a maximum that was found by some method."""
        found = {one.name: getattr(maximum, one.name) for one in fields(Maximum)}
        return cls(**{**found, "method": method, **more})

    @property
    def points(self) -> tuple[Point, ...]:
        """All starts that enter predictions, the one reported first."""
        rest = (Point(self.likelihood.under(one.model), one.theta) for one in self.others)
        return (Point(self.likelihood, self.theta), *rest)
