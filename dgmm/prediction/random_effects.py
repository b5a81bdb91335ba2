"""Tables of random effects and of the coefficients of every subject or level."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.information import find_boundary
from dgmm.parameters import part
from dgmm.prediction.by_draws import level_tables
from dgmm.prediction.moments import random_effects

__all__ = [
    "boundary_names",
    "coefficient_tables",
    "effect_tables",
]


def boundary_names(done: Estimate) -> tuple[str, ...]:
    """Random effects without a variance of their own, given those before them."""
    return find_boundary(done)[0]


def effect_tables(done: Estimate, seed: int, cond_var: bool) -> dict[str, pd.DataFrame]:
    """E(b | y) of the levels of every grouping factor, in the units of the coefficients."""
    if done.chains is not None:
        return _of_draws(done, cond_var)
    effects, tables = random_effects(done, done.kept, seed), {}
    for f, factor in enumerate(done.panel.factors(len(done.model.latents))):
        matrix, names = effect_matrix(done, factor.terms)
        table = _effect_table(
            effects.mean[f], effects.covariance[f], matrix, names, factor.labels, cond_var
        )
        tables[factor.name] = table
    return tables


def _of_draws(done: Estimate, cond_var: bool) -> dict[str, pd.DataFrame]:
    """Posterior means and standard deviations of the effects themselves."""
    tables = {}
    factors = done.panel.factors(len(done.model.latents))
    for factor, (mean, sd) in zip(factors, level_tables(done), strict=True):
        names = [name for term in factor.terms for name in done.model.latents[term].names]
        frame = pd.DataFrame(mean.numpy(), index=pd.Index(factor.labels), columns=names)
        if cond_var:
            for j, name in enumerate(names):
                frame[f"sd({name})"] = sd[:, j].numpy()
        tables[factor.name] = frame
    return tables


def _effect_table(
    mean: Tensor,
    covariance: Tensor,
    matrix: Tensor,
    names: list[str],
    labels: np.ndarray,
    cond_var: bool,
) -> pd.DataFrame:
    frame = pd.DataFrame((mean @ matrix.T).numpy(), index=pd.Index(labels), columns=names)
    if cond_var:
        spread = torch.einsum("ak,nkl,al->na", matrix, covariance, matrix).clamp(min=0).sqrt()
        for j, name in enumerate(names):
            frame[f"sd({name})"] = spread[:, j].numpy()
    return frame


def effect_matrix(done: Estimate, terms: Iterable[int]) -> tuple[Tensor, list[str]]:
    """b of some terms -> what is shown: Lambda b of columns, b itself of neural latents.

    The states of a path are at its rows and belong in no table of subjects.
    """
    blocks, names, neural = [], [], 0
    for term in terms:
        latent = done.model.latents[term]
        if latent.linear and not latent.serial:
            blocks.append(latent.loadings(part(done.theta, f"latent{term + 1}.")))
            inside = done.model.part_of(term)
            names += [f"{inside}:{name}" if inside else name for name in latent.names]
        elif latent.serial:
            blocks.append(torch.zeros(0, latent.dim, dtype=torch.float64))
        else:
            blocks.append(torch.eye(latent.dim, dtype=torch.float64))
            names += [f"b{neural + j + 1}" for j in range(latent.dim)]
            neural += latent.dim
    if not names:
        raise ValueError(
            "ranef() has a row per subject, and a path has a state at every visit: read them from "
            "fitted() or predict(type='subject')"
        )
    return torch.block_diag(*blocks), names


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
