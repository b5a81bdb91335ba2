"""The models between which a formula leaves the choice to the fit."""

from __future__ import annotations

from dataclasses import replace

from dgmm.latent import Latent
from dgmm.model.density import Model

__all__ = ["candidates"]


def candidates(model: Model) -> tuple[Model, ...]:
    """The first is fitted unless another predicts better; none of them leaves anything open.

    The first has the first candidate of every latent structure, each further one another candidate
    of one of them.
    """
    own = [latent.candidates() for latent in model.latents]
    first = tuple(some[0] for some in own)
    others = [
        (*first[:i], latent, *first[i + 1 :]) for i, some in enumerate(own) for latent in some[1:]
    ]
    return tuple(_with_latents(model, latents) for latents in (first, *others))


def _with_latents(model: Model, latents: tuple[Latent, ...]) -> Model:
    """Other structures of the same terms, with the penalties of a beginning where open."""
    ridges = tuple(
        latent.ridge if f"latent{i}" in model.open_ridge else given
        for i, (latent, given) in enumerate(zip(latents, model.latent_ridge, strict=True), 1)
    )
    return replace(model, latents=latents, latent_ridge=ridges)
