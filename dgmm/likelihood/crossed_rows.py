"""log p(y | eta) of every row and its derivatives in eta, for one linear predictor.

In closed form where the family has one, which leaves out a constant; else by autograd.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dgmm.families import Family, Observations

__all__ = ["Graph", "Slopes", "constant", "density", "slopes", "with_graph"]


class Slopes(NamedTuple):
    """log p(y | eta) less its constant and its first three derivatives in eta, (N,) each."""

    f: Tensor
    first: Tensor
    second: Tensor
    third: Tensor | None  # where it was asked for


class Graph(NamedTuple):
    """log p(y | eta) and all three derivatives, differentiable in eta and extra."""

    f: Tensor
    first: Tensor
    second: Tensor
    third: Tensor


def slopes(family: Family, data: Observations, eta: Tensor, extra: Tensor) -> Slopes:
    """Derivatives row by row: in closed form where there is one, else two of them by autograd."""
    closed = family.derivatives(data, eta, extra, 3)
    if closed is not None:
        return Slopes(*closed[:4])
    eta = eta.detach().requires_grad_()
    with torch.enable_grad():
        f = family.log_density(data, eta, extra)
        (first,) = torch.autograd.grad(f, eta, torch.ones_like(eta), create_graph=True)
        second = _derivative(first, eta, create_graph=False)
    return Slopes(f.detach(), first.detach(), second.detach(), None)


def density(family: Family, data: Observations, eta: Tensor, extra: Tensor) -> Tensor:
    """log p(y | eta) less its constant of every row, (N,)."""
    closed = family.derivatives(data, eta, extra, 1)
    if closed is not None:
        return closed.value
    with torch.no_grad():
        return family.log_density(data, eta, extra)


def with_graph(family: Family, data: Observations, eta: Tensor, extra: Tensor) -> Graph:
    """Value and derivatives by autograd, differentiable in eta and extra."""
    with torch.enable_grad():
        ones = torch.ones_like(eta)
        f = family.log_density(data, eta, extra)
        first = torch.autograd.grad(f, eta, ones, create_graph=True)[0]
        second = _derivative(first, eta, create_graph=True)
        third = _derivative(second, eta, create_graph=False)
    return Graph(f, first, second, third)


def _derivative(value: Tensor, at: Tensor, create_graph: bool) -> Tensor:
    if not value.requires_grad:  # linear in eta: its derivative is constant
        return torch.zeros_like(at)
    ones = torch.ones_like(value)
    (found,) = torch.autograd.grad(
        value, at, ones, create_graph=create_graph, retain_graph=True, allow_unused=True
    )
    return torch.zeros_like(at) if found is None else found


def constant(family: Family, data: Observations, extra: Tensor) -> float:
    """The sum over rows of what :func:`slopes` and :func:`density` leave out of log p."""
    if family.derivatives(data, torch.zeros_like(data.y), extra, 1) is None:
        return 0.0
    return float(family.constant(data).expand(data.y.shape).sum())
