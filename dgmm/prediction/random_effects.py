"""Tables of random effects and of the coefficients of every subject or level."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.information import find_boundary
from dgmm.likelihood.crossed_laplace import effects_of_levels
from dgmm.parameters import part
from dgmm.prediction.moments import random_effects

__all__ = [
    "boundary_names",
    "factor_coefficients",
    "factor_tables",
    "random_effect_table",
    "subject_coefficients",
]


def boundary_names(done: Estimate) -> tuple[str, ...]:
    """Random effects whose own variance is estimated as zero."""
    return find_boundary(done)[0]


def random_effect_table(done: Estimate, seed: int, cond_var: bool) -> pd.DataFrame:
    """See :meth:`dgmm.fit.Fit.ranef`."""
    mean, covariance = random_effects(done, done.observed, seed)
    matrix, names = effect_matrix(done, range(len(done.model.latents)))
    return _effect_table(mean, covariance, matrix, names, done.panel.ids, cond_var)


def factor_tables(done: Estimate, cond_var: bool) -> dict[str, pd.DataFrame]:
    """The same per grouping factor, when there are several."""
    crossing = done.panel.crossing
    assert crossing is not None
    effects = effects_of_levels(done.model, done.theta, done.observed)
    tables = {}
    for f, name in enumerate(crossing.names):
        matrix, names = effect_matrix(done, crossing.terms(f))
        labels = crossing.labels[f]
        table = _effect_table(
            effects.mean[f], effects.covariance[f], matrix, names, labels, cond_var
        )
        tables[name] = table.rename_axis(index=name)
    return tables


def _effect_table(
    mean: Tensor,
    covariance: Tensor,
    matrix: Tensor,
    names: list[str],
    labels: np.ndarray,
    cond_var: bool,
) -> pd.DataFrame:
    index = pd.Index(list(labels), name="subject")
    frame = pd.DataFrame((mean @ matrix.T).numpy(), index=index, columns=names)
    if cond_var:
        spread = torch.einsum("ak,nkl,al->na", matrix, covariance, matrix).clamp(min=0).sqrt()
        for j, name in enumerate(names):
            frame[f"sd({name})"] = spread[:, j].numpy()
    return frame


def effect_matrix(done: Estimate, terms: Iterable[int]) -> tuple[Tensor, list[str]]:
    """b of some terms -> what is shown: Lambda b for linear latents, b itself for neural ones."""
    blocks, names, neural = [], [], 0
    for term in terms:
        latent = done.model.latents[term]
        if latent.linear:
            blocks.append(latent.skip(part(done.theta, f"latent{term + 1}.")))
            inside = done.model.part_of(term)
            names += [f"{inside}:{name}" if inside else name for name in latent.names]
        else:
            blocks.append(torch.eye(latent.dim, dtype=torch.float64))
            names += [f"b{neural + j + 1}" for j in range(latent.dim)]
            neural += latent.dim
    return torch.block_diag(*blocks), names


def subject_coefficients(done: Estimate, fixef: pd.Series, seed: int) -> pd.DataFrame:
    """See :meth:`dgmm.fit.Fit.coef`."""
    if not all(latent.linear for latent in done.model.latents):
        raise ValueError(
            "coef() adds random to fixed effects, which a neural random part does not have. Read "
            "subject profiles from predict(type='subject'), or fit the classical model."
        )
    return _coefficients(random_effect_table(done, seed, cond_var=False), fixef)


def factor_coefficients(done: Estimate, fixef: pd.Series) -> dict[str, pd.DataFrame]:
    """The same per grouping factor: fixed effects plus those of this factor."""
    tables = factor_tables(done, cond_var=False)
    return {
        name: _coefficients(table, fixef).rename_axis(index=name) for name, table in tables.items()
    }


def _coefficients(effects: pd.DataFrame, fixef: pd.Series) -> pd.DataFrame:
    table = pd.DataFrame(
        np.tile(fixef.to_numpy(), (len(effects), 1)), index=effects.index, columns=fixef.index
    )
    for name in effects:
        table[name] = table.get(name, 0.0) + effects[name]
    return table
