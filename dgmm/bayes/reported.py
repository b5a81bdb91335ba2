"""Draws of what is reported: coefficients, standard deviations, correlations, family parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dgmm.latent import Component
from dgmm.model import Model
from dgmm.parameters import Theta, part

__all__ = ["component_names", "posterior_mean", "reported_draws", "reported_names"]


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
