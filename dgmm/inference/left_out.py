"""Leave-one-out cross-validation of a sampled posterior by Pareto-smoothed importance sampling.

    elpd = sum_i log p(y_i | y_-i),   p(y_i | y_-i)^-1 = E{1 / p(y_i | theta) | y}

The largest of the weights 1 / p are smoothed by a generalised Pareto distribution, whose shape k
says whether the sum can be trusted: up to 0.7, or fewer for less than some 2000 draws.

Vehtari, Gelman and Gabry (2017), Statistics and Computing 27, 1413-1432; Vehtari, Simpson, Gelman,
Yao and Gabry (2024), J. Machine Learning Research 25(72).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from dgmm.mcmc.diagnostics import left_out
from dgmm.prediction.by_draws import Drawn
from dgmm.record import Fitted, chains_of

__all__ = ["Loo", "loo"]

OF_SUBJECTS = 400
"""Draws of theta under which the effects of a subject are integrated out."""


@dataclass(frozen=True)
class Loo:
    """The expected log predictive density of new rows, or of new subjects.

    points: a row each, with ``elpd`` and ``pareto_k``. elpd, se: their sum and its standard error;
    p: the effective number of parameters, the log density of the draws less elpd.
    """

    by: str
    elpd: float
    se: float
    p: float
    limit: float  # of k
    points: pd.DataFrame

    @property
    def bad(self) -> int:
        """Points whose k is too large."""
        return int((self.points["pareto_k"] > self.limit).sum())

    def __sub__(self, other: Loo) -> pd.Series:
        """The difference of elpd and its standard error over the points in common."""
        if self.by != other.by or not self.points.index.equals(other.points.index):
            raise ValueError("loo() of different rows or subjects cannot be compared")
        gap = (self.points["elpd"] - other.points["elpd"]).to_numpy()
        se = math.sqrt(len(gap)) * gap.std(ddof=1)
        return pd.Series({"elpd_diff": gap.sum(), "se": se})

    def __str__(self) -> str:
        lines = [
            f"Leave-one-out by {self.by}: {len(self.points)} left out in turn",
            f"elpd {self.elpd:.1f} (standard error {self.se:.1f}), p_loo {self.p:.1f}",
        ]
        if self.bad:
            lines.append(
                f"Pareto k is above {self.limit:.2f} for {self.bad}: elpd is too high by an amount "
                "that is not known. These hold more information than draws without them can show; "
                "leave them out and refit, or leave out rows in place of subjects"
            )
        else:
            lines.append(f"Pareto k is at most {self.points['pareto_k'].max():.2f}: usable")
        return "\n".join(lines)

    __repr__ = __str__


def loo(fit: Fitted, by: str = "rows") -> Loo:
    """Leave-one-out predictive density of a sampled posterior.

    Args:
        fit: a fit of :func:`dgmm.mixed_model` with ``method="gibbs"``.
        by: "rows": each outcome given all others, of the same subject too, at the drawn effects;
            "subjects": all outcomes of a subject given the other subjects, its effects integrated
            out (one grouping factor).

    Returns:
        A record with ``elpd``, ``se``, ``p`` and ``points``; the difference of two is their
        comparison.

    Raises:
        ValueError: the fit was not sampled; several grouping factors and by="subjects".

    Example:
        >>> import dgmm
        >>> sleep = dgmm.datasets.load("sleepstudy")
        >>> fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep, method="gibbs")
        >>> round(fit.loo(by="subjects").elpd, -1)
        -890.0
    """
    chains_of(fit, "loo()")
    if by == "rows":
        log_density, index = _of_rows(fit)
    elif by == "subjects":
        fit.estimate.likelihood.check_separate("loo(by='subjects')")
        log_density, index = _of_subjects(fit)
    else:
        raise ValueError(f"by={by!r} is not one of rows, subjects")
    size = len(log_density)
    found = left_out(log_density)
    points = pd.DataFrame({"elpd": found.elpd, "pareto_k": found.k}, index=index)
    return Loo(
        by,
        float(found.elpd.sum()),
        math.sqrt(len(points)) * float(found.elpd.std(ddof=1)),
        float(found.p.sum()),
        min(1 - 1 / math.log10(max(size, 11)), 0.7),
        points,
    )


def _of_rows(fit: Fitted) -> tuple[np.ndarray, pd.Index]:
    """log p(y_ij | gamma, theta) of the draws whose effects are kept, (B, N_obs)."""
    done = fit.estimate
    drawn, family = Drawn(done, done.observed, None, fit.call.seed), done.model.family
    parts = [
        family.log_density(panel.rows.data, drawn.subject(panel), drawn.extra()).numpy()
        for _, panel in drawn.parts()
    ]
    seen = done.panel.observed.numpy()
    order = np.argsort(fit.memory.rows[seen], kind="stable")
    return np.concatenate(parts, axis=1)[:, order], fit.memory.labels[seen][order]


def _of_subjects(fit: Fitted) -> tuple[np.ndarray, pd.Index]:
    """log p(y_i | theta) of some draws, (B, n), subjects with an outcome."""
    done = fit.estimate
    assert done.chains is not None
    flat = done.chains.flat
    table = flat[:: max(1, -(-len(flat) // OF_SUBJECTS))]
    with torch.no_grad():
        values = [done.likelihood.each(done.model.packing.unpack(row)).value for row in table]
    seen = (done.observed.count > 0).numpy()
    return torch.stack(values).numpy()[:, seen], pd.Index(done.panel.ids[seen])
