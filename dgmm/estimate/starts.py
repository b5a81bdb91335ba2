"""Several starts of a deep fit: what each is asked, and how far apart they ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from dgmm.estimate.records import Request
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.runtime.parallel import processors

__all__ = ["distances", "own_request", "workers_of"]


def workers_of(request: Request, tasks: int | None = None) -> int:
    """Processes for some tasks, by default the starts: one for each that has a processor."""
    wanted = request.control.workers
    tasks = request.starts if tasks is None else tasks
    return min(tasks, processors()) if wanted is None else wanted


def own_request(request: Request, number: int, part: str = "") -> Request:
    """The request of a ``part`` of the start ``number`` (0, 1, ...): its seed, its checkpoint."""
    if request.starts == 1:
        return request
    kept = request.checkpoint
    return replace(
        request,
        seed=request.seed + 1000 * number,
        verbose=request.verbose if number == 0 or workers_of(request) == 1 else 0,
        checkpoint=None if kept is None else kept.branch(f"start{number + 1}{part}"),
    )


def distances(reached: Sequence[tuple[Model, Theta]], best: int, panel: Panel) -> tuple[float, ...]:
    """Root mean square over the rows of mu1 minus that of the best start, in units of sigma.

    Families without a residual standard deviation: in units of the linear predictor. Of several
    outcomes the largest.
    """
    found = [_distances_of(reached, best, o, one) for o, one in enumerate(panel.panels)]
    return tuple(max(own) for own in zip(*found, strict=True))


def _distances_of(
    reached: Sequence[tuple[Model, Theta]], best: int, outcome: int, panel: Panel
) -> list[float]:
    with torch.no_grad():
        curves = [
            model.outcomes[outcome].mu1(model.prepare(theta), panel.rows)
            for model, theta in reached
        ]
    best_model, theta = reached[best]
    own = best_model.outcomes[outcome]
    at = own.one_number("log_sigma")
    sigma = 1.0 if at is None else float(theta[f"{own.key}extra"][at].exp())
    gaps = [curve - curves[best] for curve in curves]
    return [float(gap.square().mean().sqrt()) / sigma for gap in gaps]
