"""Pattern-mixture models of dropout: a head for every pattern, and who stands in for whom.

With d the last visit seen, f(y) = sum_d pi_d f_d(y_1..y_d) f_d(y_{d+1}..y_J | y_1..y_d). The data
say nothing about the last factor; a restriction borrows it, visit by visit, from those seen there:

    f_d(y_t | y_<t) = f(y_t | y_<t, D in donors(t)),    donors(t) = {s >= t}  acmv
                                                                    {J}       ccmv
                                                                    {t}       ncmv

With monotone dropout, acmv is missing at random (Molenberghs, Michiels, Kenward and Diggle 1998,
Statistica Neerlandica 52, 153-161; Thijs, Molenberghs, Michiels, Verbeke and Curran 2002,
Biostatistics 3, 245-265). The factors that its donors contribute are together the likelihood of
all outcomes seen,

    sum_t sum_{i: D_i >= t} log f(y_it | y_i,<t; theta) = sum_i log f(y_i,1..D_i; theta),

so with parameters that the visits share, the fit of all subjects is what it borrows. (The same
model fitted to the subjects with D >= t only would be off: who is among them depends on y_<t.)

A head is the model of the formula fitted to some subjects: everything of its own in a classical
model; with networks the hidden layers (the trunk), and a warped curve with what moves it, are those
of all subjects, and the last layers and all linear parts are the head's own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dgmm.estimate.again import refit_subjects
from dgmm.estimate.deep import polish_heads
from dgmm.estimate.records import Estimate, Head, Patterns, Request
from dgmm.panel import Panel

__all__ = ["donor_patterns", "last_seen", "with_patterns"]

LEAST = 30
"""Patterns with fewer subjects are pooled with longer ones."""


def last_seen(panel: Panel) -> Tensor:
    """Planned occasion of the last outcome seen, -1 where there is none, (n,)."""
    last = torch.full((panel.n,), -1, dtype=torch.long)
    seen = panel.observed
    return last.scatter_reduce(0, panel.subject[seen], panel.rows.occasion[seen], "amax")


def donor_patterns(
    restriction: str, visit: int, patterns: Sequence[int], final: int
) -> frozenset[int]:
    """The patterns whose subjects stand in at a visit for those who left before it.

    patterns: those with enough subjects, or pooled ones by their longest; the nearest at or after
    the visit is the neighbour.
    """
    later = [d for d in patterns if d >= visit]
    if restriction == "acmv":
        return frozenset(later)
    return frozenset({final} if restriction == "ccmv" else {min(later)})


def with_patterns(done: Estimate, request: Request) -> Estimate:
    """Attach the heads of all patterns to a fit of all subjects.

    Heads are those of the start that is reported, so the others leave.
    """
    done = replace(done, others=())
    panel, last = done.panel, last_seen(done.panel)
    final = int(panel.rows.occasion.max())
    longest = pooled(done, last, final)
    number = torch.bucketize(last.clamp(min=0), torch.tensor(longest))
    group = torch.where(last < 0, -1, number)
    cache: dict[frozenset[int], Head] = {}
    value = done.log_likelihood

    def head(members: Collection[int]) -> Head:
        key = frozenset(members)
        if key not in cache:
            wanted = torch.tensor([longest.index(d) for d in key])
            cache[key] = fit_head(done, request, torch.isin(group, wanted))
        return cache[key]

    first, everybody = int(last.min()) + 1, Head(torch.arange(panel.n), done.theta, value)

    def donor(visit: int) -> Head:
        if request.restriction == "acmv":
            return everybody
        return head(donor_patterns(request.restriction, visit, longest, longest[-1]))

    return replace(
        done,
        patterns=Patterns(
            request.restriction,
            request.delta,
            last,
            group,
            tuple(longest),
            tuple(head({d}) for d in longest),
            first,
            tuple(donor(visit) for visit in range(first, final + 1)),
            _own_parameters(done),
        ),
    )


def pooled(done: Estimate, last: Tensor, final: int) -> list[int]:
    """The longest visit of every group of patterns, each with enough subjects to be fitted."""
    ends, waiting = [], torch.zeros(len(last), dtype=torch.bool)
    for d in range(final + 1):
        waiting = waiting | (last == d)
        if bool((last == d).any()) and _enough(done, waiting, d):
            ends.append(d)
            waiting = torch.zeros_like(waiting)
    if not ends or (ends[-1] < final and int((last == final).sum()) == 0):
        raise ValueError(
            "missing='pattern' needs subjects who were seen at the last planned visit, and enough "
            f"of them ({LEAST}) to fit the model to; use missing='observed'"
        )
    ends[-1] = final  # what waits at the end belongs to the group before it
    return ends


def _enough(done: Estimate, members: Tensor, visit: int) -> bool:
    """Thirty subjects, more visits than random effects, and columns that they can tell apart."""
    if int(members.sum()) < LEAST or visit + 1 <= done.model.k:
        return False
    rows = done.panel.select(torch.nonzero(members)[:, 0]).observed_rows().rows
    columns = rows.X @ done.model.basis
    return int(torch.linalg.matrix_rank(columns)) == columns.shape[1]


def fit_head(done: Estimate, request: Request, members: Tensor) -> Head:
    """The model fitted to some subjects, (n,) bool."""
    subjects = torch.nonzero(members)[:, 0]
    if done.model.linear:
        found = refit_subjects(done, request, subjects)
        return Head(subjects, found.theta, found.log_likelihood)
    polished = polish_heads(done, done.panel.select(subjects), request)
    return Head(subjects, polished.theta, polished.frozen.value(polished.theta))


def _own_parameters(done: Estimate) -> int:
    """Parameters of a head: all of a classical model, linear parts and last layers of others."""
    return done.model.packing.only(done.model.head()).size
