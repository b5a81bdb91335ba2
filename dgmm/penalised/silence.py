"""Networks of which their penalty has left nothing."""

from __future__ import annotations

from dgmm.model import Model
from dgmm.parameters import Theta

__all__ = ["classical", "silent"]

SILENT = 0.1
"""Nats of penalty in which a network says nothing: a larger one would change nothing."""


def silent(model: Model, theta: Theta) -> tuple[str, ...]:
    """The networks ("dnn1", "latent1") whose layers w have kappa |w|^2 / 2 < SILENT."""
    return tuple(
        network
        for network, names in model.penalised().items()
        if 0.5 * model.ridge_of(network) * sum(float(theta[w].square().sum()) for w in names)
        < SILENT
    )


def classical(model: Model, theta: Theta) -> bool:
    """Whether silent networks leave nothing but the nested classical model: every parameter with a
    penalty is a weight of one of them.
    """
    layers = model.penalised()
    weights = {weight for network in silent(model, theta) for weight in layers[network]}
    return set(model.ridge()) <= weights
