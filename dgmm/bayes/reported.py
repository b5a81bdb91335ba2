"""Draws of what is reported: coefficients, standard deviations, correlations, family parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from dgmm.bayes.chains import Chains
from dgmm.latent import Component
from dgmm.mcmc.diagnostics import Diagnosed, diagnosed
from dgmm.model import Model
from dgmm.parameters import Theta, part

__all__ = ["component_names", "convergence", "posterior_mean", "reported_draws", "reported_names"]

R_HAT = 1.01
"""Largest R-hat of chains that have mixed (Vehtari et al. 2021)."""

PER_CHAIN = 100
"""Least effective sample size per chain, of the bulk and of the tails."""


def reported_names(model: Model, groups: Sequence[str]) -> list[str]:
    """The names of all scalars, in the order of :func:`reported_draws`.

    groups: the name of the grouping factor of every latent structure.
    """
    names = list(model.names)
    for latent, group in zip(model.latents, groups, strict=True):
        names += component_names(latent.components(), group)
    if model.outcome.one_number("log_sigma") is not None:
        names.append("sigma")
    return names + [name for _, name in _family(model)]


def component_names(components: Sequence[Component], group: str) -> list[str]:
    """sd_(Intercept)|Subject, cor_Days.(Intercept)|Subject."""
    where = f"|{group}" if group else ""
    return [f"{one.kind}_{'.'.join(reversed(one.effects))}{where}" for one in components]


def _family(model: Model) -> list[tuple[int, str]]:
    """Positions and names of the family parameters that are no residual standard deviation."""
    family = model.family
    pairs = zip(family.extra, family.natural_names(), strict=True)
    return [(r, name) for r, (own, name) in enumerate(pairs) if own != "log_sigma"]


def _mapped(function: Callable[[Theta], Tensor], theta: Theta) -> Tensor:
    """A function of every draw, (B, r)."""
    found: Tensor = torch.func.vmap(function)(theta)
    return found


def reported_draws(model: Model, flat: Tensor) -> Tensor:
    """Draws (B, R) on the natural scale from draws of theta (B, P)."""
    theta = model.packing.unpack(flat)
    found = [theta["beta"] @ model.basis.T]
    for i, latent in enumerate(model.latents, 1):
        found.append(_mapped(latent.reported, part(theta, f"latent{i}.")))
    at = model.outcome.one_number("log_sigma")
    if at is not None:
        found.append(theta["extra"][:, at, None].exp())
    own = [r for r, _ in _family(model)]
    if own:
        found.append(torch.func.vmap(model.family.natural)(theta["extra"])[:, own])
    return torch.cat(found, dim=1)


def covariances(model: Model, flat: Tensor, i: int) -> Tensor:
    """Draws of D of the i-th (0, 1, ...) latent structure, (B, q, q)."""
    theta = model.packing.unpack(flat)
    root = _mapped(model.latents[i].loadings, part(theta, f"latent{i + 1}."))
    return root @ root.mT


def posterior_mean(model: Model, flat: Tensor) -> Theta:
    """theta of posterior means: of coefficients, of D, of sigma^2, of other extra parameters."""
    theta = model.packing.unpack(flat)
    mean: Theta = {"beta": theta["beta"].mean(0)}
    for i, latent in enumerate(model.latents):
        weights = latent.nearest(covariances(model, flat, i).mean(0))
        mean |= {f"latent{i + 1}.{name}": value for name, value in weights.items()}
    extra = theta["extra"].mean(0)
    at = model.outcome.one_number("log_sigma")
    if at is not None:
        extra[at] = 0.5 * (2 * theta["extra"][:, at]).exp().mean().log()
    return {**mean, "extra": extra}


def diagnostics(model: Model, chains: Chains) -> list[Diagnosed]:
    """Of every reported scalar."""
    drawn = reported_draws(model, chains.flat).reshape(chains.chains, chains.draws, -1).numpy()
    return [diagnosed(drawn[:, :, j]) for j in range(drawn.shape[2])]


def convergence(model: Model, chains: Chains, groups: Sequence[str]) -> tuple[str, ...]:
    """What is wrong with the chains, in words; nothing where they have mixed."""
    found, names = diagnostics(model, chains), reported_names(model, groups)
    needed = PER_CHAIN * chains.chains
    messages = []
    apart = [(one.r_hat, name) for one, name in zip(found, names, strict=True)]
    worst, where = max(apart, key=lambda pair: np.nan_to_num(pair[0], nan=0.0))
    if worst > R_HAT:
        count = sum(one > R_HAT for one, _ in apart)
        messages.append(
            f"the chains have not mixed: R-hat is above {R_HAT} for {count} of {len(names)} "
            f"parameters, {worst:.3f} for {where}. Do not use these draws; go on with "
            "fit.more(draws=), raise warmup=, or simplify the random part"
        )
    few = [(min(one.ess_bulk, one.ess_tail), name) for one, name in zip(found, names, strict=True)]
    least, where = min(few, key=lambda pair: np.nan_to_num(pair[0], nan=np.inf))
    if least < needed and not messages:
        count = sum(one < needed for one, _ in few)
        messages.append(
            f"the draws are few: the effective sample size is below {needed} for {count} of "
            f"{len(names)} parameters, {least:.0f} for {where}. Means are usable with the Monte "
            "Carlo errors shown, quantiles less so; go on with fit.more(draws=)"
        )
    if chains.chains == 1:
        messages.append(
            "there is one chain: R-hat compares its halves and cannot see what a second one would"
        )
    return tuple(messages)
