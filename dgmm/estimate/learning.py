"""A stage of learning as a call wants it: its line of progress, its checkpoint, its device."""

from __future__ import annotations

from typing import Any

import torch

from dgmm.encoders import Amortised
from dgmm.estimate.records import Request
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.runtime.progress import Progress
from dgmm.variational.schedule import Schedule
from dgmm.variational.training import Trace, train

__all__ = ["learn"]


def learn(
    model: Model,
    encoder: Amortised,
    theta: Theta,
    phi: Weights,
    panel: Panel,
    schedule: Schedule,
    generator: torch.Generator,
    request: Request,
    *,
    label: str = "ELBO",
    **how: Any,
) -> tuple[Theta, Weights, Trace]:
    """:func:`~dgmm.variational.training.train`, with its options ``how``."""
    with Progress(request.verbose, schedule.epochs, label) as bar:
        return train(
            model,
            encoder,
            theta,
            phi,
            panel,
            schedule,
            generator,
            progress=bar,
            checkpoint=request.checkpoint,
            device=request.device,
            **how,
        )
