"""How E(eta | y) of a subject moves with theta, its random effects following.

With b_i the mode of b | y_i,

    d eta_ij / d theta + J_ij P_i^-1 d^2 log p(y_i, b) / d b d theta,     J_ij = d eta_ij / d b,

so that var(eta_ij | y) from theta-hat ~ N(theta, V) has the delta-method form, network weights
included: one sweep over the subjects, whatever the number of parameters.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from dgmm.likelihood.nodes import derived_jacobian
from dgmm.model import Model
from dgmm.panel import Block, Panel, Rows
from dgmm.parameters import Theta
from dgmm.posterior.modes import find_modes

__all__ = ["parameter_variance"]

CELLS = 8_000_000
"""Largest number of (row, parameter) derivatives held at once."""


def parameter_variance(
    model: Model, theta: Theta, V: Tensor, history: Panel, target: Panel
) -> Tensor:
    """Variance of E(eta | y) that comes from theta-hat, for every row of ``target``, (N,).

    V: covariance of all of theta (P, P), in the order of the packing.
    history: the outcomes seen of the subjects of ``target``, in the same order.
    """
    if model.serial and not history.masked:
        both, place = history.joined(target, history.rows.data)
        target = replace(both, masked=False)
        return parameter_variance(model.sized(both), theta, V, both, target)[place]
    theta = {name: value.detach() for name, value in theta.items()}
    with torch.no_grad():
        ready = model.prepare(theta)
    derived = [name for name in ready if name not in theta]
    through = derived_jacobian(model, theta, derived, model.packing)

    def packed(parts: Theta) -> Tensor:
        """Derivatives in the ready parameters -> in theta, (..., P)."""
        total = torch.cat([parts[n].flatten(len(parts[n].shape) - len(s)) for n, s in sizes], -1)
        for name in derived:
            own = parts[name]
            total = total + own.flatten(own.ndim - ready[name].ndim) @ through[name]
        return total

    sizes = [(name, shape if shape else (1,)) for name, shape in model.packing.shapes.items()]
    variance = torch.zeros(target.n_rows, dtype=torch.float64)
    for block in history.blocks(cells=max(1, CELLS // model.packing.size)):
        anchor = find_modes(model, theta, block)
        rows = target.block(block.subjects)
        moved = anchor.covariance @ packed(_mixed(model, ready, block, anchor.mode))
        here = rows.rows
        by_row = _by_row_of_path if model.serial else _by_row
        direct = packed(by_row(model, ready, here, anchor.mode, rows.mask))
        with torch.no_grad():
            J = model.jacobian(ready, anchor.mode, here)
            follow = (J @ moved)[rows.mask]
            total = direct + follow
            variance[rows.index[rows.mask]] = ((total @ V) * total).sum(-1)
    return variance.clamp(min=0)


def _mixed(model: Model, ready: Theta, block: Block, b: Tensor) -> Theta:
    """d^2 log p(y_i | b) / d b d ready at b (n, k), every entry with leading axes (n, k)."""

    def lane(held: Theta, mask: Tensor, own: Tensor, *columns: Tensor) -> Tensor:
        one = replace(block, mask=mask[None], rows=block.rows.like(_grown(columns)))

        def value(at: Tensor) -> Tensor:
            return model.log_likelihood(held, at[None], one)[0]

        slope: Tensor = torch.func.grad(value)(own)
        return slope

    columns = block.rows.columns()
    in_dims = (None, 0, 0, *([0] * len(columns)))
    return _quiet(torch.func.vmap(torch.func.jacrev(lane), in_dims=in_dims))(
        ready, block.mask, b, *columns
    )


def _by_row(model: Model, ready: Theta, rows: Rows, b: Tensor, mask: Tensor) -> Theta:
    """d eta / d ready of the R rows inside the mask, b (n, k): every entry with a leading R."""

    def lane(held: Theta, own: Tensor, *columns: Tensor) -> Tensor:
        one = rows.like(_grown(_grown(columns)))
        eta = model.mu1(held, one) + model.mu2(held, own[None], one)
        return eta[0, 0]

    columns = tuple(column[mask] for column in rows.columns())
    in_dims = (None, 0, *([0] * len(columns)))
    own = b[torch.nonzero(mask)[:, 0]]
    return _quiet(torch.func.vmap(torch.func.grad(lane), in_dims=in_dims))(ready, own, *columns)


def _by_row_of_path(model: Model, ready: Theta, rows: Rows, b: Tensor, mask: Tensor) -> Theta:
    """The derivatives of :func:`_by_row` where a row depends on the others of its subject."""

    def lane(held: Theta, own: Tensor, chosen: Tensor, *columns: Tensor) -> Tensor:
        one = rows.like(_grown(columns))
        eta = model.mu1(held, one) + model.mu2(held, own[None], one)
        return (eta[0] * chosen).sum()

    who, where = torch.nonzero(mask).T
    chosen = torch.nn.functional.one_hot(where, mask.shape[1]).double()
    columns = tuple(column[who] for column in rows.columns())
    in_dims = (None, 0, 0, *([0] * len(columns)))
    derivative = torch.func.vmap(torch.func.grad(lane), in_dims=in_dims)
    return _quiet(derivative)(ready, b[who], chosen, *columns)


def _grown(columns: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(column[None] for column in columns)


def _quiet(function: Callable[..., Theta]) -> Callable[..., Theta]:
    """Without the warnings by which torch tells of slow paths."""

    def call(*arguments: object) -> Theta:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*performance drop.*")
            return function(*arguments)

    return call
