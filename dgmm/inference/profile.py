"""Profile likelihood intervals of coefficients, standard deviations, correlations and sigma.

With l_p(v) the log-likelihood maximised over all other parameters at theta_j = v, the interval is

    {v : |zeta(v)| <= z},   zeta(v) = sign(v - v-hat) sqrt[2 {l(theta-hat) - l_p(v)}],

found by a bracketed root search on either side; where a standard deviation of 0 or a correlation
of +-1 is not excluded, that end is the bound. Bates, Maechler, Bolker and Walker (2015),
J. Statistical Software 67(1), section 5.1.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import optimize, special

from dgmm.inference.coordinates import EDGE
from dgmm.inference.surfaces import Surface, Target
from dgmm.likelihood import Point

__all__ = ["check_profile", "profile_interval"]

FARTHEST = 1e8
"""Times the first guess, beyond which a side of a profile that is still flat has no end."""


def check_profile(done: Point) -> None:
    """Raise ValueError for fits without a profile: networks and Monte Carlo likelihoods."""
    if not done.model.linear:
        raise ValueError(
            "a profile of a model with dnn() would have to choose the ridge anew at every point; "
            "use method='wald'"
        )
    for latent in done.model.latents:
        if not (latent.by_columns or latent.by_reported):
            raise ValueError(
                f"a profile holds one parameter at a value, and those of {latent.label} range over "
                "no box (a process is to stay stationary); use method='wald' or 'bootstrap'"
            )
    if done.likelihood.sampled:
        raise ValueError(
            "a profile needs differences of log-likelihoods far below the Monte Carlo error of "
            "likelihood='importance'; use method='bootstrap', or likelihood='quadrature' with at "
            "most three random effects"
        )


def profile_interval(
    done: Point, target: Target, wald: tuple[float, float], level: float
) -> tuple[float, float]:
    """Both ends of a profile interval; ``wald`` (NaN allowed) is where the search begins.

    Raises:
        ValueError: as check_profile(), or when a profile finds a higher log-likelihood than the
            fit.
    """
    check_profile(done)
    surface = Surface(done, target)
    top = surface.maximum(surface.estimate)
    z = float(special.ndtri(0.5 + level / 2))
    ends = []
    for guess, limit in zip(wald, surface.limits, strict=True):
        end = _end(surface, top, guess, limit, z)
        ends.append(float(np.sign(end)) if abs(end) == EDGE and target.kind == "cor" else end)
    return ends[0], ends[1]


def _end(surface: Surface, top: float, guess: float, limit: float, z: float) -> float:
    """Where |zeta| = z between the estimate and a limit; the limit when it is never reached."""
    centre = surface.estimate

    @cache  # a search from another place differs in the last digits, and so perhaps in sign
    def excess(v: float) -> float:
        drop = top - surface.maximum(v)
        if drop < -1e-3:
            raise ValueError(
                f"the profile reached a log-likelihood {-drop:.3g} above that of the fit: the fit "
                "is not at its maximum. Refit with more points or another start."
            )
        return float(np.sqrt(2 * max(drop, 0.0))) - z

    if abs(limit - centre) < 1e-12 * max(1.0, abs(centre)):
        return limit
    outward = np.sign(limit - centre)
    inside = centre
    outside = guess if np.isfinite(guess) else centre + outward * 0.5 * max(abs(centre), 0.1)
    first = abs(outside - centre)
    for _ in range(30):
        if np.isinf(limit) and abs(outside - centre) > FARTHEST * first:
            return limit
        if (limit - outside) * outward <= 0:
            outside = limit
        f_outside = excess(outside)
        if f_outside >= 0:
            break
        if outside == limit:
            return limit
        inside = outside
        # zeta is nearly linear: aim a little beyond the crossing
        step = (outside - centre) * min(1.1 * z / max(f_outside + z, 1e-3), 4.0)
        outside = centre + (step if abs(step) > abs(outside - centre) else 1.5 * step)
    else:
        return float("nan")
    if f_outside == 0:
        return outside
    tolerance = 1e-8 * abs(outside - centre)
    return float(optimize.brentq(excess, inside, outside, xtol=tolerance, rtol=1e-10))
