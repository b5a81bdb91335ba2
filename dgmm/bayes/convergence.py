"""Whether chains have come to one place, and whether their draws are enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dgmm.bayes.chains import Chains
from dgmm.bayes.reported import reported_draws, reported_names
from dgmm.mcmc.diagnostics import Diagnosed, diagnosed
from dgmm.model import Model

__all__ = ["Verdict", "convergence", "diagnostics", "judged"]

R_HAT = 1.01
"""Largest R-hat of chains that have mixed (Vehtari et al. 2021)."""

APART = 1.05
"""R-hat above which chains are not in one place: until 2021 the bound was 1.1."""

LEAST = 10
"""Effective sample size per chain below which draws say nothing."""

PER_CHAIN = 100
"""Least effective sample size per chain, of the bulk and of the tails."""


def diagnostics(model: Model, chains: Chains) -> list[Diagnosed]:
    """Of every reported scalar."""
    drawn = reported_draws(model, chains.flat).reshape(chains.chains, chains.draws, -1).numpy()
    return [diagnosed(drawn[:, :, j]) for j in range(drawn.shape[2])]


class Verdict(NamedTuple):
    """Whether draws can be used, and what is to be said of them."""

    usable: bool
    messages: tuple[str, ...]


def convergence(model: Model, chains: Chains, groups: Sequence[str]) -> Verdict:
    """What is wrong with the chains, in words; nothing where they have mixed.

    An R-hat between 1.01 and 1.05 is one of chains that are nearly there, an effective sample size
    below 10 per chain one that leaves R-hat itself unknown (Gelman and others 2013, section 11.5).
    """
    found, names = diagnostics(model, chains), reported_names(model, groups)
    verdict = judged(found, names, chains.chains)
    if chains.chains > 1:
        return verdict
    said = "there is one chain: R-hat compares its halves and cannot see what a second one would"
    return Verdict(verdict.usable, (*verdict.messages, said))


def judged(found: Sequence[Diagnosed], names: Sequence[str], chains: int) -> Verdict:
    """The verdict on the scalars of a posterior; none on those that do not move."""
    moving = [(n, one) for n, one in zip(names, found, strict=True) if np.isfinite(one.r_hat)]
    if not moving:
        return Verdict(True, ())
    apart = {name: one.r_hat for name, one in moving}
    size = {name: min(one.ess_bulk, one.ess_tail) for name, one in moving}
    far, small = max(apart, key=lambda n: apart[n]), min(size, key=lambda n: size[n])
    needed, least = PER_CHAIN * chains, LEAST * chains
    high, few = sum(r > R_HAT for r in apart.values()), sum(n < needed for n in size.values())
    of = f"of {len(names)} parameters"
    mixing = f"R-hat is above {R_HAT} for {high} {of}, {apart[far]:.3f} for {far}"
    sizes = f"the effective sample size is below {needed} for {few} {of}, {size[small]:.0f} for"
    unusable = "Do not use these draws; go on with fit.more(draws=)"
    usable = "Means are usable with the Monte Carlo errors shown, quantiles less so"
    if apart[far] > APART:
        said = f"the chains have not mixed: {mixing}. {unusable}, raise warmup=, or simplify the "
        return Verdict(False, (said + "random part",))
    if size[small] < least:
        said = f"the draws are far too few: {sizes} {small}, and below {least} R-hat itself is not "
        return Verdict(False, (f"{said}known. {unusable}, or simplify the random part",))
    if high and few:
        said = f"the chains have nearly mixed: {mixing}, and {sizes} {small}. {usable}"
        return Verdict(True, (f"{said}; longer chains are advised, by fit.more(draws=)",))
    if high:
        said = f"the chains have nearly mixed: {mixing}, with effective sample sizes of at least "
        return Verdict(True, (f"{said}{needed}. Longer chains are advised, by fit.more(draws=)",))
    if few:
        said = f"the draws are few: {sizes} {small}. {usable}; go on with fit.more(draws=)"
        return Verdict(True, (said,))
    return Verdict(True, ())
