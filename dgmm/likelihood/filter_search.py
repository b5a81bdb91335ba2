"""The maximum of the Gaussian log-likelihood with paths, over the weights of the paths alone.

Given them relative to sigma the model is the classical one of the innovations, of which
:mod:`dgmm.likelihood.profiling` profiles out Lambda, sigma and beta. So the profiled likelihood has
the gradient of l where it stands, and few parameters are left, one or two a path; the search begins
at every value that the paths name, and the highest maximum is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import optimize

from dgmm.latent import Pattern
from dgmm.likelihood.filtered import relative
from dgmm.likelihood.innovations import Innovations
from dgmm.likelihood.packed import Packed, moving_packing
from dgmm.likelihood.profiling import Profile, maximise
from dgmm.model import Model
from dgmm.numerics.walled import Walled
from dgmm.parameters import Theta

__all__ = ["Found", "search"]

FARTHEST = 15.0
"""Working parameters of paths, of order one whatever the units, are kept within."""

COARSE, FINE = 1e-3, 1e-7
"""Slopes of the deviance per outcome at which a search ends: on the way, and at a maximum, where
what is left of the log-likelihood is about N times its square."""

FINEST, MANY = 1e-9, 5000
"""The slope where the outcomes are few, and leave directions that are nearly flat."""

SOME = 150
"""Subjects on which starts are tried, at least, where there are more."""

NEAR, BELOW = 0.2, 5.0
"""Working parameters by which maxima are one, and log-likelihood by which one is not worth it."""

FAR = 4.0
"""Where an end may be what they run to."""

COSTS_NOTHING = 1e-9
"""Deviance per outcome that is rounding, and what the search has left."""

BESIDE = 1.0
"""Log-likelihood below the start that counts where there is none: maxima lie beside such places,
where a path has no noise or a root on the unit circle."""

TIE = 1e-7
"""Log-likelihood by which one maximum must be above another to be preferred."""


@dataclass(frozen=True)
class Found:
    """The maximum: theta, and the classical one of the innovations there."""

    theta: np.ndarray
    moving: np.ndarray  # weights of the paths relative to sigma
    value: float
    profile: Profile
    innovations: Innovations
    evaluations: int
    slope: float  # largest of the profiled log-likelihood, per outcome


def search(packed: Packed, restricted: bool, starts: Sequence[Theta]) -> Found:
    """The highest maximum from several weights of the paths relative to sigma.

    All starts are followed a part of the way, and of many subjects on a few of them; maxima that
    are apart, and not far below the highest, are then found on all.
    """
    step = max(1, packed.series // SOME)
    few = packed if step == 1 else packed.some(np.arange(0, packed.series, step))
    reached = sorted(
        (_climbed(few, restricted, start, COARSE) for start in starts), key=lambda one: -one.value
    )
    own, apart = moving_packing(packed.model), list[Found]()
    for one in reached:
        near = (np.abs(one.moving - other.moving).max() < NEAR for other in apart)
        if one.value > reached[0].value - BELOW and not any(near):
            apart.append(one)
    weights = [own.unpack(torch.from_numpy(one.moving)) for one in apart]
    every = [_climbed(packed, restricted, start, FINE) for start in weights]
    top = max(one.value for one in every)
    return next(one for one in every if one.value > top - TIE)


def _climbed(packed: Packed, restricted: bool, start: Theta, tolerance: float) -> Found:
    own = moving_packing(packed.model)
    entries: list[np.ndarray | None] = [None]
    N, used = int(packed.seen.sum()), 0
    last: dict[bytes, tuple[Profile, Innovations, np.ndarray]] = {}  # of the last point

    def at(x: np.ndarray) -> tuple[Profile, Innovations, np.ndarray]:
        nonlocal used
        if (known := last.get(x.tobytes())) is not None:
            return known
        used += 1
        found = Innovations.at(packed, own.unpack(torch.from_numpy(x)))
        stats = found.statistics
        profile = maximise(stats, restricted, entries[0])
        sigma = math.exp(profile.log_sigma) / stats.unit
        pattern = stats.pattern
        Lambda = profile.Lambda / sigma
        if len(pattern.row):
            entries[0] = Lambda[pattern.row, pattern.column]
        v = np.append(stats.origin - profile.beta, 1.0)
        slopes = found.slopes(stats.reduce(Lambda), v, sigma**-2, restricted)
        last.clear()
        last[x.tobytes()] = profile, found, own.pack(found.paths.gradient(slopes)).numpy()
        return last[x.tobytes()]

    def per_outcome(x: np.ndarray) -> tuple[float, np.ndarray]:
        profile, _, gradient = at(x)
        return -2 * profile.log_likelihood / N, -2 * gradient / N

    scaled = Walled(per_outcome, 2 * BESIDE / N)
    x, range_ = own.pack(start).detach().numpy(), _range(packed.model)
    if tolerance == FINE and N < MANY:
        tolerance = FINEST
    options = {"ftol": 1e-15, "gtol": tolerance, "maxiter": 200, "maxcor": 30}
    box = list(zip(-range_, range_, strict=True))
    ended = optimize.minimize(scaled, x, jac=True, method="L-BFGS-B", bounds=box, options=options)
    x = ended.x
    if tolerance < COARSE:
        x = _at_ends(scaled, _sharpened(scaled, x, tolerance, range_), range_)
    profile, found, gradient = at(x)
    theta = _theta(packed.model, profile, own.unpack(torch.from_numpy(x)))
    inside = np.abs(x) < range_
    slope = float(np.abs(gradient[inside]).max(initial=0.0)) / N
    return Found(theta, x, profile.log_likelihood, profile, found, used, slope)


def _range(model: Model) -> np.ndarray:
    """How far from zero the working parameters may be; what inputs do has no end."""
    own = moving_packing(model)
    free = [f"latent{i}.{name}" for i, one in enumerate(model.latents, 1) for name in one.gains]
    found = np.full(own.size, FARTHEST)
    found[own.places(own.only(free)).numpy()] = np.inf
    return found


def _sharpened(
    scaled: Callable[[np.ndarray], tuple[float, np.ndarray]],
    x: np.ndarray,
    tolerance: float,
    range_: np.ndarray,
) -> np.ndarray:
    """Newton steps while they make the gradient smaller and cost nothing."""
    value, gradient = scaled(x)
    for _ in range(3):
        free = np.abs(x) < range_
        if np.abs(gradient[free]).max(initial=0.0) < tolerance:
            break
        h, unit = 1e-4, np.eye(len(x))
        H = np.array([(scaled(x + h * u)[1] - scaled(x - h * u)[1]) / (2 * h) for u in unit])
        H = 0.5 * (H + H.T)[np.ix_(free, free)]
        step = np.zeros_like(x)
        step[free] = np.linalg.lstsq(H, gradient[free], rcond=1e-8)[0]
        if np.abs(step).max() > 1.0:
            break
        after, slope = scaled(x - step)
        smaller = np.abs(slope[free]).max() < np.abs(gradient[free]).max()
        if not (smaller and after < value + 1e-12 * max(1.0, abs(value))):
            break
        x, value, gradient = x - step, after, slope
    return x


def _at_ends(
    scaled: Callable[[np.ndarray], tuple[float, np.ndarray]], x: np.ndarray, range_: np.ndarray
) -> np.ndarray:
    """Parameters that run to an end of their range, taken there where that costs nothing."""
    value = scaled(x)[0]
    for k in np.flatnonzero((np.abs(x) > FAR) & np.isfinite(range_)):
        there = x.copy()
        there[k] = math.copysign(FARTHEST, x[k])
        found = scaled(there)[0]
        if found < value + COSTS_NOTHING:
            x, value = there, min(found, value)
    return x


def _theta(model: Model, profile: Profile, moving: Theta) -> np.ndarray:
    """theta of a profile and the paths relative to its sigma."""
    pattern = Pattern.of(model.latents)
    log_sigma = torch.tensor([profile.log_sigma], dtype=torch.float64)
    theta: Theta = {
        "beta": torch.from_numpy(profile.beta),
        **pattern.to_theta(profile.Lambda[pattern.row, pattern.column]),
        **relative(model, moving, (-log_sigma).exp()),
        "extra": log_sigma[: int(model.family.noise)],
    }
    vector: np.ndarray = model.packing.pack(theta).numpy()
    return vector
