"""What q of a recursion does, step by step."""

from __future__ import annotations

import torch

from dgmm.record import Fitted
from dgmm.report.layout import columns, count
from dgmm.report.network_part import used_directions
from dgmm.report.tables import Tables

__all__ = ["course_lines", "course_part"]

SHOWN = 6
"""Groups of steps in the table."""


def course_part(fit: Fitted, tables: Tables) -> str | None:
    """KL per step and active units; None of a model without a recursion."""
    return course_lines(fit)


def course_lines(fit: Fitted) -> str | None:
    """The section of :func:`course_part`."""
    done, course = fit.estimate, fit.estimate.course
    if course is None or done.encoder is None or done.trace is None:
        return None
    kept = f", the iterate after {done.trace.kept} kept" if done.trace.kept else ""
    size = count(done.encoder.shapes())
    lines = [
        f"Posterior q, step by step: {size} weights, {done.trace.epochs} epochs{kept}",
        *used_directions(done),
    ]
    if not len(course.active):
        return "\n".join(lines)
    values = " ".join(f"{value:.2f}" for value in course.active)
    lines.append(f"Variance of the means of q over subjects and steps: {values}")
    groups = torch.tensor_split(torch.arange(len(course.kl)), min(SHOWN, len(course.kl)))
    head, kl = ["step"], ["KL"]
    for one in groups:
        first, last = int(one[0]) + 1, int(one[-1]) + 1
        head.append(str(first) if first == last else f"{first}-{last}")
        weight = course.subjects[one].double()
        each = (course.kl[one].sum(1) * weight).sum() / weight.sum()
        kl.append(f"{float(each):.3f}")
    if course.mixing is not None and len(course.mixing) > 1:
        shares = " ".join(f"{share:.2f}" for share in course.mixing)
        lines.append(f"Mean weights of the {len(course.mixing)} dynamics: {shares}")
    lines.append("KL of q against the prior, nats per step:")
    lines += [" " + line for line in columns([head, kl])]
    return "\n".join(lines)
