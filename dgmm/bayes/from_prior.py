"""Draws of theta from the prior of a model."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgmm.bayes.layout import layout_of
from dgmm.bayes.priors import Prior
from dgmm.bayes.specified import specify
from dgmm.mcmc import Streams
from dgmm.model import Model
from dgmm.panel import Panel

__all__ = ["drawn_from_prior"]


def drawn_from_prior(model: Model, panel: Panel, prior: Prior, size: int, seed: int) -> Tensor:
    """Independent draws of theta, (size, P).

    Defaults of the prior are those of the planned rows of the panel.
    """
    layout = layout_of(model, panel)
    own, streams = specify(prior, layout, panel), Streams.of(seed, range(size))
    beta = own.coefficients(streams) * layout.size
    D = [
        np.moveaxis(own.covariance(f, factor.K, streams), -1, 0).copy()
        for f, factor in enumerate(layout.factors)
    ]
    extra = own.extra(streams)
    if model.family.conjugate:
        extra = 0.5 * np.log(own.residual(streams))[:, None]
    parts = (torch.from_numpy(one) for one in D)
    return layout.table(torch.from_numpy(beta), tuple(parts), torch.from_numpy(extra))
