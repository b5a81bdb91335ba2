"""Random effects and coefficients of the subjects of a fit."""

from __future__ import annotations

import pandas as pd

from dgmm.prediction.random_effects import coefficient_tables, effect_tables
from dgmm.record import Fitted
from dgmm.runtime.result_table import ResultTable

__all__ = ["coef", "ranef"]


def ranef(fit: Fitted, *, cond_var: bool = False) -> pd.DataFrame | dict[str, pd.DataFrame]:
    """E(b | y) per subject, in the units of the coefficients (linear latents).

    With several grouping factors a dict of such tables, one per factor. After Laplace's
    approximation they hold the conditional modes, as in lme4 (predictions are around the mean of b,
    to first order), and of method="gibbs" the posterior means over all draws.

    For a neural latent the columns are the coordinates b1, b2, ... themselves, which are only
    defined up to rotation: read profiles from :meth:`predict` instead. With ``cond_var`` the
    posterior standard deviations follow as further columns ``sd(...)``.
    """
    return _by_factor(fit, effect_tables(fit.estimate, fit.call.seed, cond_var))


def coef(fit: Fitted) -> pd.DataFrame | dict[str, pd.DataFrame]:
    """Fixed plus random effects of every subject; per factor when there are several."""
    return _by_factor(fit, coefficient_tables(fit.estimate, fit.fixef(), fit.call.seed))


def _by_factor(
    fit: Fitted, tables: dict[str, pd.DataFrame]
) -> pd.DataFrame | dict[str, pd.DataFrame]:
    """One table where there is one grouping factor, else all of them by name."""
    if len(tables) > 1:
        return {name: ResultTable(table).rename_axis(index=name) for name, table in tables.items()}
    (table,) = tables.values()
    return ResultTable(table).rename_axis(index=fit.memory.groups[0])
