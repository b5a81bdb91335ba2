"""Rare options of a fit: five records, every option with its check beside it; flat for the user.

A function that needs the options of one step asks for its record (``ElboOptions``); a ``Control``
is all five at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from os import PathLike
from typing import Any

import numpy as np

from dgmm.runtime.gate import is_number, is_whole

__all__ = [
    "Control",
    "ElboOptions",
    "ErrorOptions",
    "NodeOptions",
    "PolishOptions",
    "SaemOptions",
]

Check = Callable[[str, Any], None]
"""Raises a ValueError when the value of an option, called by its name, is impossible."""


# -- the kinds of options ------------------------------------------------------------------------


def _option(default: Any, check: Check) -> Any:
    return field(default=default, metadata={"check": check})


def _whole(default: int | None, least: int) -> Any:
    """A whole number; None only where it is the default."""

    def check(name: str, value: Any) -> None:
        if value is None and default is None:
            return
        if not is_whole(value) or value < least:
            raise ValueError(f"control {name}={value!r} is not a whole number >= {least}")

    return _option(default, check)


def _between(default: float, low: float, high: float, *, from_low: bool = False) -> Any:
    """A number in (low, high), or in [low, high)."""

    def check(name: str, value: Any) -> None:
        if not is_number(value) or not (low < value < high or (from_low and value == low)):
            raise ValueError(f"control {name}={value!r} must lie between {low:g} and {high:g}")

    return _option(default, check)


def _one_of(default: str, *others: str) -> Any:
    words = (default, *others)

    def check(name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in words:
            listed = " or ".join(map(repr, words))
            raise ValueError(f"control {name} is {listed}, not {value!r}")

    return _option(default, check)


def _is_path(name: str, value: Any) -> None:
    if not isinstance(value, str | PathLike | None):
        raise ValueError(f"control {name} is the path of a file, not {value!r}")


def _is_penalty(name: str, value: Any) -> None:
    if value is not None and not (is_number(value) and 0 <= value < np.inf):
        raise ValueError(f"control {name}={value!r} is a penalty: zero or larger, or None")


@dataclass(frozen=True, kw_only=True)
class _Options:
    """Options that are checked when they are made."""

    def __post_init__(self) -> None:
        for one in fields(self):
            if "check" in one.metadata:
                one.metadata["check"](one.name, getattr(self, one.name))


# -- one record per step -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ElboOptions(_Options):
    """Options of the ELBO stage, and of the choice of the penalty that goes with it."""

    epochs: int = _whole(300, 1)
    batch: int = _whole(100, 1)
    batches: str = _one_of("random", "length")
    learning_rate: float = _between(4e-3, 0.0, 1.0)
    pairs: int = _whole(2, 1)
    bound: str = _one_of("elbo", "weighted")
    steps: int = _whole(10_000, 1)
    kl_anneal: int = _whole(0, 0)
    kl_cycles: int = _whole(1, 1)
    free_bits: float = _between(0.0, 0.0, np.inf, from_low=True)
    average: float = _between(0.0, 0.0, 1.0, from_low=True)
    patience: int = _whole(0, 0)
    watch: str = _one_of("bound", "likelihood")
    precision: str = _one_of("auto", "double", "single")
    decoder_rate: float = _between(1e-2, 0.0, 1.0)
    covariance: str = _one_of("full", "diagonal")
    refine: int = _whole(0, 0)
    workers: int | None = _whole(None, 1)
    checkpoint: str | None = _option(None, _is_path)
    checkpoint_every: int = _whole(10, 1)
    ridge: float | None = _option(None, _is_penalty)
    holdout: float = _between(0.2, 0.0, 0.9, from_low=True)

    def __post_init__(self) -> None:
        super().__post_init__()
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


@dataclass(frozen=True, kw_only=True)
class PolishOptions(_Options):
    """Options of the maximisation of the marginal likelihood."""

    polish: bool = True
    tolerance: float = _between(0.01, 0.0, 1.0)
    polish_draws: int = _whole(128, 8)


@dataclass(frozen=True, kw_only=True)
class NodeOptions(_Options):
    """Options of the nodes by which the marginal likelihood is integrated."""

    draws: int = _whole(512, 8)
    replicates: int = _whole(8, 2)
    points: int | None = _whole(None, 3)


@dataclass(frozen=True, kw_only=True)
class ErrorOptions(_Options):
    """Options of the standard errors."""

    hessian_draws: int = _whole(1024, 16)
    resamples: int = _whole(200, 2)


@dataclass(frozen=True, kw_only=True)
class SaemOptions(_Options):
    """Options of missing="saem"."""

    saem_iterations: int = _whole(600, 60)
    chains: int = _whole(8, 2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chains % 2:
            raise ValueError(f"control chains={self.chains!r} is not even: chains work in pairs")


# the fields of the last base come first
@dataclass(frozen=True, kw_only=True)
class Control(SaemOptions, ErrorOptions, NodeOptions, PolishOptions, ElboOptions):
    """Rare options of a fit; defaults are right for most.

    ================ ======== ====================================================================
    ELBO stage       default  of method="vae" and "vb", and of the encoder that comes with a fit
    ================ ======== ====================================================================
    epochs           300      passes over the subjects by Adam. Under method="vb" neural random
                              effects take 5/8 of them away from the nested model and 1/8 under
                              every penalty tried, twice that (but no more than all) under "vae";
                              the encoder at theta-hat takes 1/5
    batch            100      subjects in a mini-batch
    batches          "random" of any subjects, or of similar "length": recursions then calculate few
                              steps that only pad others to the longest of a mini-batch
    learning_rate    0.004    of Adam; it rises over the first twentieth of the steps and then
                              falls to zero along a cosine
    pairs            2        antithetic pairs of draws of b per subject and step
    bound            "elbo"   that is maximised; "weighted", of recursions alone, is the bound by
                              importance weights of the draws of ``pairs``, once the KL has weight 1
    steps            10000    most steps in ``epochs`` epochs; with very many subjects there are
                              fewer epochs, so that time grows no faster than the data
    kl_anneal        0        epochs, at most half of the first part of the stage, over which the
                              weight of the KL grows from 0 to 1. With kl_cycles and free_bits
                              against posterior collapse after a poor start, method="vae"
    kl_cycles        1        times that it does so within them
    free_bits        0.0      nats per subject below which the KL is not pushed
    average          0.0      share of the steps, the last ones, whose mean iterate is the result;
                              the learning rate then falls to a third where they begin, not to
                              zero. method="vb" averages by itself
    patience         0        epochs without a better score on held-out subjects (a tenth of them)
                              after which the stage ends, with its best iterate; never before the
                              KL has weight 1; 0 is never
    watch            "bound"  that score: the ELBO, or the marginal log-"likelihood"
    precision        "auto"   of the stage, "double" or "single", which takes about half of the
                              time; "auto" is single under method="vb" and while the encoder alone
                              is trained, and double else. The polish, the likelihood and
                              everything reported are in double precision
    decoder_rate     0.01     the learning rate under method="vb"
    covariance       "full"   of q(b | y), or "diagonal"
    refine           0        Newton steps by which q of every subject is improved before its
                              bound is reported
    workers          None     processes in which the folds and starts of neural random effects,
                              or resamples, run, one thread each; None is one for resamples,
                              and otherwise as many as there are tasks and processors
    checkpoint       None     file that the stage, where there is one, writes as it goes (each of
                              several starts beside it: FILE.start1); the same call goes on from
                              it, to the same numbers, and a file of another fit is refused
    checkpoint_every 10       epochs between two writings
    ridge            None     penalty on network weights, on the scale of the whole
                              log-likelihood; by default chosen by evidence on the fixed side, by
                              log scores of folds of the subjects left of a bar. ridge= inside a
                              dnn() term comes first
    holdout          0.2      share of the subjects in a fold when a deep model is compared with
                              its nested model: every subject is scored by fits without it. 0
                              leaves the comparison out; neural random effects choose penalty and
                              form on folds of a fifth all the same. Recursions hold out a tenth,
                              and nobody where it is 0
    ================ ======== ====================================================================
    Polish           default
    ================ ======== ====================================================================
    polish           True     False keeps the estimates of learning or of SAEM as they are;
                              likelihood and standard errors are those of the marginal likelihood
                              at that point, which is not its maximum
    tolerance        0.01     Newton decrement, in standard errors, at which polishing stops
    polish_draws     128      draws per subject while polishing; half of them beside neural random
                              effects, where nodes follow theta
    ================ ======== ====================================================================
    Nodes            default
    ================ ======== ====================================================================
    draws            512      per subject, of the final importance sampling
    replicates       8        independent scrambles of them
    points           None     quadrature points per dimension, fixed; by default the rule grows
                              until it is right
    ================ ======== ====================================================================
    Standard errors  default
    ================ ======== ====================================================================
    hessian_draws    1024     draws per subject; a thirty-second of them beside neural random
                              effects, where nodes follow theta
    resamples        200      of the subjects, for se="bootstrap"
    ================ ======== ====================================================================
    missing="saem"   default
    ================ ======== ====================================================================
    saem_iterations  600      the first third has a gain that does not decrease, iterates of the
                              rest are averaged
    chains           8        per subject, an even number
    ================ ======== ====================================================================
    """
