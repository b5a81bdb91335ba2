"""Coefficients that several outcomes have in common: one parameter in the place of several.

The columns X_S of such coefficients are taken orthogonal to the own columns X_O of their outcome,

    X beta = X_O B_O z + (X_S - X_O P) diag(c) gamma,   P = argmin |X_S - X_O P|^2,

which changes the meaning of z alone: beta_S = c gamma in every outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dgmm.model.build import orthonormal_basis
from dgmm.model.density import Model
from dgmm.outcomes import Longitudinal
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = ["apart", "apart_theta", "share", "shared_theta"]


def share(model: Model, panel: Panel, groups: Sequence[Mapping[int, int]]) -> Model:
    """The model in which every group of columns, {outcome: column}, has one coefficient."""
    scale = [0.0] * len(groups)
    outcomes = []
    for o, (outcome, own) in enumerate(zip(model.outcomes, panel.panels, strict=True)):
        at = {group[o]: g for g, group in enumerate(groups) if o in group}
        if at:
            outcome = _sharing(outcome, own.rows.X[own.observed], at, scale)
        outcomes.append(outcome)
    return replace(model, outcomes=tuple(outcomes))


def _sharing(
    outcome: Longitudinal, X: Tensor, at: Mapping[int, int], scale: list[float]
) -> Longitudinal:
    """The outcome with its columns (keys of ``at``) at places (values) among those in common.

    scale: of every place the c of the first outcome that has it, which is noted there.
    """
    columns = list(at)
    own = [j for j in range(len(outcome.names)) if j not in at]
    p, first = len(outcome.names), len(own)
    basis = torch.zeros(p, p, dtype=torch.float64)
    along = torch.zeros(first, len(columns), dtype=torch.float64)
    if own:
        B = orthonormal_basis(X[:, own], outcome.unit)
        basis[torch.tensor(own)[:, None], torch.arange(first)] = B
        along = B @ torch.linalg.lstsq(X[:, own] @ B, X[:, columns]).solution
    rest = X[:, columns] - X[:, own] @ along
    for j, (column, place) in enumerate(at.items()):
        scale[place] = scale[place] or float(outcome.unit / rest[:, j].square().mean().sqrt())
        basis[column, first + j] = scale[place]
        basis[own, first + j] = -scale[place] * along[:, j]
    return replace(outcome, basis=basis, shared=tuple(at.values()))


def shared_theta(model: Model, theta: Theta, old: Sequence[Longitudinal]) -> Theta:
    """The parameters nearest to those of outcomes without common coefficients, by keys of now."""
    if not model.in_common:
        return theta
    found: list[list[Tensor]] = [[] for _ in range(model.in_common)]
    for now, before in zip(model.outcomes, old, strict=True):
        beta = before.basis @ theta[f"{now.key}beta"]
        z = torch.linalg.solve(now.basis, beta)
        own = len(z) - len(now.shared)
        theta = {**theta, f"{now.key}beta": z[:own]}
        for place, value in zip(now.shared, z[own:], strict=True):
            found[place].append(value)
    return {**theta, "shared": torch.stack([torch.stack(one).mean() for one in found])}


def apart(model: Model) -> Model:
    """The model with coefficients of its own in every outcome, as many as there are columns."""
    if not model.in_common:
        return model
    outcomes = tuple(replace(one, shared=()) for one in model.outcomes)
    more = sum(len(one.shared) for one in model.outcomes) - model.in_common
    return replace(model, outcomes=outcomes, equalities=more)


def apart_theta(model: Model, theta: Mapping[str, Tensor]) -> Theta:
    """The parameters of :func:`apart`."""
    if not model.in_common:
        return dict(theta)
    found = {name: value for name, value in theta.items() if name != "shared"}
    for one in model.outcomes:
        found[f"{one.key}beta"] = one.coordinates(dict(theta))
    return found
