"""Hierarchical centring: which columns of the fixed part stand in the mean of the random effects.

    u_j = E_j beta + gamma_j,   z_jl = T_j e_jl + r_jl for column l in every level j

and r_jl beta_l stays outside of the effects. Of a column that is one of the effects', or constant
within levels, r is zero. A covariate whose means are larger than its deviations from them is
centred by its means, e_jl with T = 1, and r are the deviations: else its coefficient and the
effects, which the sums of a level cannot tell apart, hold each other fast.

Where the outcomes of a level tell its effect better than the prior does, u_j hardly depends on beta
and centring mixes well; where they do not, gamma_j hardly depends on beta and leaving beta outside
mixes well. The rule compares both: column l is centred when

    sum over levels and effects k with e_jlk != 0 of D_kk / (D_kk + v_jkk),   v_j = (T_j'W T_j)^-1,

is more than half of their number. Of several factors the column goes to the one with the largest
variance of a mean of effects, D_kk / m.

Gelfand, Sahu and Carlin (1995), Biometrika 82, 479-488; Papaspiliopoulos, Roberts and Skold (2007),
Statistical Science 22, 59-73.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dgmm.bayes.layout import Layout
from dgmm.panel import Panel

__all__ = ["EXACT", "Centring", "centre", "possible"]

EXACT = 1e-8
"""Root mean square of what is left of a column, 1 before, that counts as rounding."""

PARTLY = 0.5
"""Share of the square of a column that its means in the levels are to have."""


@dataclass(frozen=True)
class Centring:
    """The columns that every factor takes into the mean of its effects."""

    E: tuple[np.ndarray, ...]  # (K, p, m) per factor, zero for columns outside
    inside: np.ndarray  # (p,) -1 outside, else the factor


def possible(layout: Layout, panel: Panel) -> tuple[np.ndarray, ...]:
    """e_jl of every factor, (K, p, m); missing for columns most of whose square is in r."""
    seen = panel.observed_rows()
    rows, found = layout.rows(seen), []
    for factor, t, level in zip(layout.factors, rows.t, rows.level, strict=True):
        K, m, p = factor.K, factor.m, layout.p
        G, H = np.zeros((m, K, K)), np.zeros((m, K, p))
        np.add.at(G, level, t[:, :, None] * t[:, None, :])
        np.add.at(H, level, t[:, :, None] * rows.z[:, None, :])
        E = np.linalg.pinv(G, rcond=1e-10, hermitian=True) @ H
        # a column of T has itself for coefficient, also in levels whose rows leave it open
        for k in range(K):
            size = np.sqrt(np.square(t[:, k]).mean())
            for j in range(p):
                ratio = t[0, k] / rows.z[0, j] if rows.z[0, j] else 0.0
                if size and ratio and np.abs(t[:, k] - ratio * rows.z[:, j]).max() < EXACT * size:
                    E[:, :, j] = np.eye(K)[k] / ratio
        left = np.square(rows.z - np.einsum("ik,ikp->ip", t, E[level])).mean(0)  # of 1
        lost = left > 1 - PARTLY
        E[:, :, lost] = np.nan
        E[np.abs(E) < 1e-12] = 0.0
        found.append(np.ascontiguousarray(np.moveaxis(E, 0, -1)))
    return tuple(found)


def centre(
    possible: Sequence[np.ndarray], D: Sequence[np.ndarray], own: Sequence[np.ndarray]
) -> Centring:
    """The choice at covariances D_f (K, K) and own information T_j'W T_j (K, K, m)."""
    p = possible[0].shape[1]
    inside, best = np.full(p, -1), np.full(p, -np.inf)
    for f, (E, covariance, information) in enumerate(zip(possible, D, own, strict=True)):
        m = E.shape[-1]
        variance = np.diag(covariance)
        # 1 / (T'WT)^-1_kk: a level that does not tell the effect has none
        ridge = 1e-12 * np.einsum("kkm->km", information).max(initial=1e-300)
        precise = np.moveaxis(information, -1, 0) + ridge * np.eye(len(variance))
        told = 1 / np.einsum("mkk->km", np.linalg.inv(precise))
        share = variance[:, None] * told / (1 + variance[:, None] * told)  # (K, m)
        for j in range(p):
            if np.isnan(E[:, j]).any():
                continue
            used = E[:, j] != 0
            if not used.any() or share[used].mean() <= 0.5:
                continue
            weight = float((variance[used.any(1)] / m).max())
            if weight > best[j]:
                inside[j], best[j] = f, weight
    chosen = tuple(
        np.where((inside == f)[None, :, None], np.nan_to_num(E), 0.0)
        for f, E in enumerate(possible)
    )
    return Centring(chosen, inside)
