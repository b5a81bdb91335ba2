"""What fit_many() returns: tables with a row per model, and any of the fits itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from dgmm.fit import Fit
from dgmm.many.models import Models
from dgmm.plan import INSTEAD
from dgmm.runtime.gate import gate_methods
from dgmm.runtime.native import as_given
from dgmm.runtime.result_table import ResultTable

__all__ = ["ManyFits"]

SHOWN = 5
"""Reasons for models without a fit that a report shows."""


@partial(gate_methods, instead=INSTEAD)
@dataclass(frozen=True, eq=False, repr=False)
class ManyFits:
    """One model fitted to many outcomes, or to many parts of a frame.

    The tables have a row per model, in the order of ``outcomes=`` or of the labels of ``by=``;
    all are missing where a model has no fit, and ``glance["status"]`` says why. ``fits[i]`` and
    ``fits.fit(label)`` fit one of the models alone, as an ordinary :class:`dgmm.Fit`.
    """

    models: Models = field(repr=False)
    glance: pd.DataFrame
    """``nobs``, ``groups``, ``df``, ``logLik``, ``AIC``, ``BIC``, ``sigma``, ``singular``,
    ``converged``, ``decrement`` (Newton decrement where the last step began, in standard errors),
    ``engine`` ("batched" or "alone") and ``status``, empty where nothing is to be said."""
    coefficients: pd.DataFrame
    std_errors: pd.DataFrame
    var_corr: pd.DataFrame
    """Standard deviations, correlations, sigma, named as in :meth:`dgmm.Fit.confint`."""
    var_corr_errors: pd.DataFrame
    """Standard errors of their logarithms and inverse hyperbolic tangents (``se_working``)."""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.models)

    def __getitem__(self, at: int) -> Fit:
        if not -len(self) <= at < len(self):
            raise IndexError(f"there are {len(self)} models, and no number {at}")
        return self.models.fit(at % len(self))

    def __iter__(self) -> Iterator[Fit]:
        return (self.models.fit(at) for at in range(len(self)))

    def fit(self, label: Any) -> Fit:
        """The fit of one model alone, by its outcome or its level of ``by=``.

        Raises:
            KeyError: there is no such model.
            ValueError: it cannot be fitted.
        """
        return self.models.fit(self.models.at(label))

    def tidy(self) -> Any:
        """A row per model and coefficient: estimate, std.error, z and its p value.

            z = estimate / std.error,   p = 2 Phi(-|z|)

        Returns:
            A frame of the library of the data, with a column of the labels, ``term``,
            ``estimate``, ``std.error``, ``statistic`` and ``p.value``; coefficients that a model
            does not have are left out. p values of few subjects are too small: REML fits of single
            models have t tests.
        """
        M, p = self.coefficients.shape
        estimate, error = self.coefficients.to_numpy().ravel(), self.std_errors.to_numpy().ravel()
        with np.errstate(invalid="ignore", divide="ignore"):
            z = estimate / error
        table = ResultTable(
            {
                self.models.name: np.repeat(self.models.labels, p),
                "term": np.tile(np.array(self.coefficients.columns, dtype=object), M),
                "estimate": estimate,
                "std.error": error,
                "statistic": z,
                "p.value": 2 * special.ndtr(-np.abs(z)),
            }
        )
        found = table[~np.isnan(estimate)].reset_index(drop=True)
        return as_given(found, self.models.data)

    def __repr__(self) -> str:
        glance = self.glance
        fitted = glance["logLik"].notna()
        alone = int((glance["engine"] == "alone").sum())
        own = f", by `{self.models.name}`" if self.models.part is not None else ""
        lines = [f"{len(self):,} fits of `{self.models.call.formula.strip()}`{own}"]
        lines.append(
            f"{int(glance['converged'].sum()):,} converged, {int(glance['singular'].sum()):,} "
            f"singular, {int((~fitted).sum()):,} without a fit; {alone:,} fitted alone"
        )
        spread = self.coefficients.quantile([0.0, 0.25, 0.5, 0.75, 1.0])
        spread.index = pd.Index(["least", "25 %", "50 %", "75 %", "largest"])
        lines.append(spread.to_string(float_format=lambda x: f"{x:.4g}"))
        reasons = glance.loc[~fitted, "status"].value_counts()
        lines += [f"* {count:,} models: {reason}" for reason, count in reasons[:SHOWN].items()]
        return "\n".join([*lines, *(f"* {note}" for note in self.notes)])
