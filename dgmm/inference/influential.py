"""The influence of each subject on the coefficients, by one step instead of n refits.

With s_i and I_i a subject's score and information at theta-hat,

    theta-hat - theta(-i)  ~  (I - I_i)^-1 s_i,
    Cook's distance_i = d_i'V^-1 d_i / p,   dfbetas_ij = d_ij / se_j,   d_i = beta-hat - beta(-i).

For a Gaussian linear model s_i and I_i are those of beta and the step is exact at the variances of
the fit; otherwise they are those of all reported parameters, I_i by central differences of s_i.
After Cook (1977), Technometrics 19, 15-18, and Pregibon (1981), Annals of Statistics 9, 705-724.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.inference.fixed_effects import vcov
from dgmm.information import find_boundary, freeze_at, reported_packing
from dgmm.likelihood import Point
from dgmm.model import course
from dgmm.record import Fitted, check_maximum
from dgmm.runtime.registry import suggestion
from dgmm.runtime.result_table import ResultTable

__all__ = ["gaussian_scores", "influence", "influence_table", "subject_steps"]

STEP = 1e-4

CELLS = 4_000_000
"""Entries of covariances V_i held at once."""


def influence_table(
    done: Point, V: np.ndarray, names: list[str], seed: int, factor: int = 0
) -> pd.DataFrame:
    """Cook's distance and dfbetas of every level of a grouping factor, by default the subjects.

    V: (p, p) covariance of beta-hat.
    """
    if not done.model.linear:
        raise ValueError(
            "influence() is for models without dnn(): a network's weights have no one-step "
            "deletion. Leave subjects out and refit with update(data=...)."
        )
    own = done.panel.factors(len(done.model.latents))[factor]
    separate = done.likelihood.separate
    steps = subject_steps(done, seed) if separate else level_steps(done, factor)
    frame = pd.DataFrame(index=pd.Index(own.labels))
    if np.isnan(V).any():
        raise ValueError("influence() needs standard errors, and this fit has none (se=None)")
    frame["cooks_distance"] = np.einsum("na,an->n", steps, np.linalg.solve(V, steps.T)) / len(V)
    for j, name in enumerate(names):
        frame[f"dfbetas({name})"] = steps[:, j] / np.sqrt(V[j, j])
    return frame


def subject_steps(done: Point, seed: int) -> np.ndarray:
    """beta-hat - beta(-i) in the user's columns, (n, p)."""
    scores, information = (
        gaussian_scores(done) if done.likelihood.normal else _numerical(done, seed)
    )
    total = information.sum(0)
    steps = torch.linalg.solve(total - information, scores[:, :, None])[..., 0]
    return (steps[:, : len(done.model.names)] @ done.model.basis.T).numpy()


def level_steps(done: Point, factor: int) -> np.ndarray:
    """beta-hat - beta(-i) without the rows of each level of a grouping factor, (m, p).

    One Newton step from theta-hat on the likelihood of the other rows: in beta, where it is exact,
    for a Gaussian outcome, else in all reported parameters.
    """
    packing, panel = reported_packing(done.model), done.panel
    held = find_boundary(done)[1]
    if done.likelihood.normal:
        held = np.arange(len(held)) >= len(done.model.names)
    free = torch.from_numpy(np.flatnonzero(~held))
    steps = []
    for code in range(len(panel.factors(len(done.model.latents))[factor].labels)):
        other = done.likelihood.on(panel.keep(panel.rows.level[factor] != code))
        gradient = packing.pack(other.value_and_gradient(done.theta)[1])[free]
        information = other.information(done.theta, packing).information[free][:, free]
        steps.append(-torch.linalg.solve(information, gradient)[: len(done.model.names)])
    return (torch.stack(steps) @ done.model.basis.T).numpy()


def gaussian_scores(done: Point) -> tuple[Tensor, Tensor]:
    """X_i'V_i^-1 r_i and X_i'V_i^-1 X_i in the internal columns."""
    model, panel = done.model, done.observed
    rows, basis = panel.rows, model.basis
    X = rows.X @ basis
    residual = rows.data.y / rows.data.trials - rows.offset - X @ done.theta["beta"]
    eta = torch.zeros_like(residual)
    variance = model.family.variance(eta, rows.data, done.theta["extra"].detach())
    ready = model.prepare(done.theta)
    residual = residual - course(model, ready, done.kept)[done.kept.observed].detach()
    p = X.shape[1]
    scores = torch.zeros(panel.n, p, dtype=torch.float64)
    information = torch.zeros(panel.n, p, p, dtype=torch.float64)
    for block in panel.blocks(cells=max(1, CELLS // max(1, int(panel.count.max())))):
        seen = block.mask[..., None]
        none = torch.zeros(len(block.subjects), model.k, dtype=torch.float64)
        Z = torch.where(seen, model.jacobian(ready, none, block.rows).detach(), 0.0)
        noise = torch.where(block.mask, variance[block.index], 1.0)
        root = torch.linalg.cholesky(Z @ Z.mT + torch.diag_embed(noise))
        both = torch.cat([X[block.index], residual[block.index][..., None]], dim=-1)
        both = torch.linalg.solve_triangular(root, torch.where(seen, both, 0.0), upper=False)
        A, r = both[..., :-1], both[..., -1:]
        information[block.subjects] = A.mT @ A
        scores[block.subjects] = (A.mT @ r)[..., 0]
    return scores, information


def _numerical(done: Point, seed: int) -> tuple[Tensor, Tensor]:
    """Scores of the free reported parameters at frozen nodes, and their central differences."""
    packing = reported_packing(done.model)
    frozen = freeze_at(done, done.theta, done.observed, seed, 256)
    whole = done.model.packing
    place = torch.cat([whole.positions([name]) for name in packing.shapes])
    free = torch.from_numpy(np.flatnonzero(~find_boundary(done)[1]))
    x = packing.pack(done.theta).detach()

    def scores(vector: Tensor) -> Tensor:
        moved = {**done.theta, **packing.unpack(vector)}
        return frozen.scores(moved)[:, place][:, free]

    columns = []
    for j in free:
        unit = torch.zeros_like(x)
        unit[j] = STEP
        columns.append((scores(x - unit) - scores(x + unit)) / (2 * STEP))
    information = torch.stack(columns, dim=2)
    return scores(x), 0.5 * (information + information.mT)


def influence(fit: Fitted, group: str | None = None) -> pd.DataFrame:
    """Cook's distance and dfbetas of every subject, by one step from the fit.

        Cook's distance = d'V^-1 d / p,   dfbetas = d / se,   d = beta-hat - beta(-i)

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        group: one of several grouping factors, whose levels are left out in turn; by default the
            first.

    References:
        Cook (1977), Technometrics 19, 15-18; Pregibon (1981), Annals of Statistics 9, 705-724.
    """
    check_maximum(fit, "influence()", "read the Pareto k of loo()")
    V, names = vcov(fit).to_numpy(), list(fit.estimate.model.names)
    known = list(dict.fromkeys(fit.memory.groups))
    group = known[0] if group is None else group
    if group not in known:
        hint = suggestion(str(group), known)
        raise ValueError(f"there is no grouping factor {group!r}{hint} Known: {', '.join(known)}.")
    factor = known.index(group) if fit.estimate.panel.several else 0
    table = influence_table(fit.estimate, V, names, fit.call.seed, factor)
    return ResultTable(table).rename_axis(index=group)
