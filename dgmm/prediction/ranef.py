"""Random effects and coefficients of the subjects of a fit."""

from __future__ import annotations

import pandas as pd

from dgmm.prediction import rows
from dgmm.record import Fitted

__all__ = ["coef", "ranef"]


def ranef(fit: Fitted, *, cond_var: bool = False) -> pd.DataFrame | dict[str, pd.DataFrame]:
    """E(b | y) per subject, in the units of the coefficients (linear latents).

    With several grouping factors a dict of such tables, one per factor; after Laplace's
    approximation they hold the conditional modes, as in lme4.

    For a neural latent the columns are the coordinates b1, b2, ... themselves, which are only
    defined up to rotation: read profiles from :meth:`predict` instead. With ``cond_var`` the
    posterior standard deviations follow as further columns ``sd(...)``.
    """
    if fit.estimate.panel.several:
        return rows.factor_tables(fit.estimate, cond_var)
    table = rows.random_effect_table(fit.estimate, fit.call.seed, cond_var)
    return table.rename_axis(index=fit.memory.groups[0])


def coef(fit: Fitted) -> pd.DataFrame | dict[str, pd.DataFrame]:
    """Fixed plus random effects of every subject; per factor when there are several."""
    if fit.estimate.panel.several:
        return rows.factor_coefficients(fit.estimate, fit.fixef())
    table = rows.subject_coefficients(fit.estimate, fit.fixef(), fit.call.seed)
    return table.rename_axis(index=fit.memory.groups[0])
