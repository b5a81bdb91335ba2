"""Tables of random effects and of the coefficients of every subject or level."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dgmm.estimate import Estimate
from dgmm.information import find_boundary
from dgmm.prediction.sources import source_of

__all__ = [
    "boundary_names",
    "coefficient_tables",
    "effect_tables",
]


def boundary_names(done: Estimate) -> tuple[str, ...]:
    """Random effects without a variance of their own, given those before them."""
    return find_boundary(done)[0]


def effect_tables(done: Estimate, seed: int, cond_var: bool) -> dict[str, pd.DataFrame]:
    """The effects of the levels of every grouping factor, in the units of the coefficients."""
    return source_of(done).effects(seed, cond_var)


def coefficient_tables(done: Estimate, fixef: pd.Series, seed: int) -> dict[str, pd.DataFrame]:
    """Fixed effects plus those of the levels of every grouping factor."""
    if any(latent.neural for latent in done.model.latents):
        raise ValueError(
            "coef() adds random to fixed effects, which a neural random part does not have. Read "
            "subject profiles from predict(type='subject'), or fit the classical model."
        )
    tables = effect_tables(done, seed, cond_var=False)
    return {name: _coefficients(table, fixef) for name, table in tables.items()}


def _coefficients(effects: pd.DataFrame, fixef: pd.Series) -> pd.DataFrame:
    table = pd.DataFrame(
        np.tile(fixef.to_numpy(), (len(effects), 1)), index=effects.index, columns=fixef.index
    )
    for name in effects:
        table[name] = table.get(name, 0.0) + effects[name]
    return table
