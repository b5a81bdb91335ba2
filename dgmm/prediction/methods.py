"""Whose draws of b given y predictions and log scores are made of: method="refined", "encoder"."""

from __future__ import annotations

from dataclasses import replace

from dgmm.encoders import Encoder, Mixed
from dgmm.estimate import Estimate
from dgmm.runtime.registry import suggestion
from dgmm.variational.by_encoder import ByEncoder

__all__ = ["METHODS", "check_method", "through"]

METHODS = ("refined", "encoder")


def check_method(method: str) -> None:
    """Raise ValueError where a method is not one of those."""
    if method not in METHODS:
        raise ValueError(
            f"method={method!r} is not one of {', '.join(METHODS)}"
            f"{suggestion(str(method), list(METHODS))}"
        )


def through(done: Estimate, method: str) -> Estimate:
    """The estimate as predictions by a method see it.

    By the encoder it is the start that is reported, which the encoder was taught by, alone.

    Raises:
        ValueError: an unknown method, or a fit without an encoder.
    """
    check_method(method)
    if method == "refined":
        return done
    encoder = done.encoder
    if not isinstance(encoder, Mixed | Encoder) or done.panel.several or done.model.serial:
        raise ValueError(
            "method='encoder' is for fits that come with an encoder, those with dnn() left of a "
            "bar or by method='vae'; this one has none: leave method='refined'"
        )
    if len(done.model.outcomes) > 1:
        raise ValueError(
            "method='encoder' is for models of one outcome, and this is one of several in a joint "
            "model: leave method='refined'"
        )
    likelihood = ByEncoder.of_fit(done.likelihood, encoder, done.phi)
    return replace(done, likelihood=likelihood, others=())
