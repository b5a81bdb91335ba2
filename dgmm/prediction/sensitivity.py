"""Derivatives of predictions in theta, one sweep over the rows whatever the number of parameters.

    mean subject   d mu1 / d theta
    subject        d eta_ij / d theta + J_ij P_i^-1 d^2 log p(y_i, b) / d b d theta
    population     d E h(eta) / d theta,  b ~ N(0, I)

with b_i the mode of b | y_i, which follows theta, J_ij = d eta_ij / d b, P_i its precision, and
h = g^-1. Network weights are parameters like all others.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from dgmm.information import Derivative, MeanSlopes, mean_packing
from dgmm.likelihood.nodes import derived_jacobian
from dgmm.model import Model
from dgmm.numerics.quadrature import sobol_normal
from dgmm.panel import Block, Panel, Rows
from dgmm.parameters import Packing, Theta
from dgmm.posterior.modes import find_modes
from dgmm.prediction.moments import normal_effects, population_rule, population_spread

__all__ = ["link_slopes", "mean_slopes", "population_slopes", "response_slopes", "subject_slopes"]

CELLS = 8_000_000
"""Largest number of (row, parameter) or (row, node, hidden unit) derivatives held at once."""

UNITS = 64
"""Hidden units that a node is reckoned to need."""

Found = TypeVar("Found")

DRAWS = 1024


def mean_slopes(model: Model, theta: Theta, target: Panel) -> Derivative:
    """d mu1 / d (beta, weights of the fixed networks), for every row of ``target``."""
    packing = mean_packing(model)

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        slopes = MeanSlopes.at(model, theta)
        for at in _runs(target.n_rows, packing.size):
            yield at, slopes.jacobian(target.rows.take(at))

    return Derivative(packing, blocks)


def subject_slopes(model: Model, theta: Theta, history: Panel, target: Panel) -> Derivative:
    """d E(eta | y) / d theta for every row of ``target``.

    history: the outcomes seen of the subjects of ``target``, in the same order.
    """
    if model.serial:
        return _slopes_of_path(model, theta, history, target)
    return _subject_slopes(model, theta, history, target)


def _subject_slopes(model: Model, theta: Theta, history: Panel, target: Panel) -> Derivative:
    """The same; of a path, at the rows of the history."""

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        ready = _Ready.at(model, theta)
        for block in history.blocks(cells=max(1, CELLS // model.packing.size)):
            anchor = find_modes(model, ready.theta, block)
            rows = target.block(block.subjects)
            moved = anchor.covariance @ ready.packed(
                _mixed(model, ready.values, block, anchor.mode)
            )
            by_row = _by_row_of_path if model.serial else _by_row
            direct = ready.packed(by_row(model, ready.values, rows.rows, anchor.mode, rows.mask))
            with torch.no_grad():
                J = model.jacobian(ready.values, anchor.mode, rows.rows)
                follow = (J @ moved)[rows.mask]
            yield rows.index[rows.mask], direct + follow

    return Derivative(model.packing, blocks)


def _slopes_of_path(model: Model, theta: Theta, history: Panel, target: Panel) -> Derivative:
    """A path has states at the rows of the history and of the target together."""
    both, place = history.joined(target, history.rows.data)
    whole = _subject_slopes(model.sized(both), theta, both, replace(both, masked=False))
    back = torch.full((both.n_rows,), -1).index_put((place,), torch.arange(target.n_rows))

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        for at, J in whole.blocks():
            own = back[at]
            yield own[own >= 0], J[own >= 0]

    return Derivative(whole.packing, blocks)


def population_slopes(model: Model, theta: Theta, target: Panel) -> Derivative:
    """d E g^-1(eta) / d theta over the population, for every row of ``target``."""

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        ready = _Ready.at(model, theta)
        expected = _expected(model, ready.values, target)
        columns = target.rows.columns()
        width = max(model.packing.size, DRAWS * UNITS)

        def lane(held: Theta, *own: Tensor) -> Tensor:
            return expected(held, target.rows.like(_grown(_grown(own))))

        in_dims = (None, *([0] * len(columns)))
        slope = _quiet(torch.func.vmap(torch.func.grad(lane), in_dims=in_dims))
        for at in _runs(target.n_rows, width):
            yield at, ready.packed(slope(ready.values, *(column[at] for column in columns)))

    return Derivative(model.packing, blocks)


def response_slopes(
    model: Model,
    theta: Theta,
    target: Panel,
    eta: Tensor,
    of_link: Derivative,
    average: Tensor | None = None,
) -> Derivative:
    """d g^-1(eta) / d theta from d eta / d theta at eta (N,); extra parameters move g^-1 too.

    average: (N,) mean of d g^-1(eta) / d eta where eta has a distribution that moves along; then
        the derivatives of E g^-1(eta) follow as N further values.
    """
    names = [*of_link.packing.shapes, *(["extra"] if model.family.extra else [])]
    packing = model.packing.only(names)
    from_link, from_extra = packing.positions(of_link.packing.shapes), packing.positions(["extra"])
    of_extra = _extra_slopes(model, theta, target, eta)

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        slope = model.family.mean_slope(eta, model.extra(theta, target.rows)).detach()
        for at, J in of_link.blocks():
            found = torch.zeros(len(at), packing.size, dtype=torch.float64)
            found[:, from_link] = slope[at, None] * J
            found[:, from_extra] += of_extra(at)
            yield at, found
            if average is not None:
                other = found.clone()
                other[:, from_link] += (average - slope)[at, None] * J
                yield at + target.n_rows, other

    return Derivative(packing, blocks)


def link_slopes(
    model: Model, theta: Theta, target: Panel, eta: Tensor, of_mean: Derivative
) -> Derivative:
    """d eta / d theta of the eta (N,) at which g^-1(eta) is a mean, from d mean / d theta."""
    packing = of_mean.packing
    from_extra = packing.positions(["extra"])
    of_extra = _extra_slopes(model, theta, target, eta)

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        slope = model.family.mean_slope(eta, model.extra(theta, target.rows)).detach()
        for at, J in of_mean.blocks():
            found = J.clone()
            found[:, from_extra] -= of_extra(at)
            yield at, found / slope[at, None]

    return Derivative(packing, blocks)


def _extra_slopes(
    model: Model, theta: Theta, target: Panel, eta: Tensor
) -> Callable[[Tensor], Tensor]:
    """d g^-1(eta) / d extra, (n, size of extra), of rows given by position (n,)."""
    columns = target.rows.columns()

    def lane(extra: Tensor, point: Tensor, *own: Tensor) -> Tensor:
        one = target.rows.like(_grown(_grown(own)))
        return model.family.mean(point[None, None], model.extra({"extra": extra}, one))[0, 0]

    in_dims = (None, 0, *([0] * len(columns)))
    slope: Callable[..., Tensor] = _quiet(torch.func.vmap(torch.func.grad(lane), in_dims=in_dims))

    def at_rows(at: Tensor) -> Tensor:
        if not model.family.extra:
            return torch.zeros(len(at), 0, dtype=torch.float64)
        return slope(theta["extra"].detach(), eta[at], *(column[at] for column in columns))

    return at_rows


@dataclass(frozen=True)
class _Ready:
    """theta with what follows from it, and the way back from derivatives in these to theta."""

    theta: Theta
    values: Theta
    packing: Packing
    through: Theta  # d derived / d theta, (size, P) each

    @classmethod
    def at(cls, model: Model, theta: Theta) -> _Ready:
        theta = {name: value.detach() for name, value in theta.items()}
        with torch.no_grad():
            values = model.prepare(theta)
        derived = [name for name in values if name not in theta]
        through = derived_jacobian(model, theta, derived, model.packing)
        return cls(theta, values, model.packing, through)

    def packed(self, parts: Theta) -> Tensor:
        """Derivatives in the ready parameters -> in theta, (..., P)."""
        sizes = [(name, shape if shape else (1,)) for name, shape in self.packing.shapes.items()]
        total = torch.cat([parts[n].flatten(len(parts[n].shape) - len(s)) for n, s in sizes], -1)
        for name, through in self.through.items():
            own = parts[name]
            total = total + own.flatten(own.ndim - self.values[name].ndim) @ through
        return total


def _expected(model: Model, ready: Theta, target: Panel) -> Callable[[Theta, Rows], Tensor]:
    """E g^-1(eta) of one row over b ~ N(0, I); eta is normal where it is linear in b."""
    if normal_effects(model):
        e, weight = population_rule(model, population_spread(model, ready, target))
        zero = torch.zeros(1, model.k, dtype=torch.float64)

        def along(held: Theta, one: Rows) -> Tensor:
            variance = model.jacobian(held, zero, one).square().sum()
            # at no variance the mean moves with the variance, not with its root
            spread = variance.clamp(min=torch.finfo(torch.float64).tiny).sqrt()
            eta = model.mu1(held, one)[0, 0] + e.reshape(-1) * spread
            value = model.family.mean(eta[:, None, None], model.extra(held, one))
            return (weight.reshape(-1) * value[:, 0, 0]).sum()

        return along
    b = sobol_normal(model.k, DRAWS, seed=31)[:, None, :]

    def over_draws(held: Theta, one: Rows) -> Tensor:
        eta = model.mu1(held, one) + model.mu2(held, b, one)
        return model.family.mean(eta, model.extra(held, one, b)).mean()

    return over_draws


def _runs(rows: int, width: int) -> Iterator[Tensor]:
    step = max(1, CELLS // max(width, 1))
    for first in range(0, rows, step):
        yield torch.arange(first, min(first + step, rows))


def _mixed(model: Model, ready: Theta, block: Block, b: Tensor) -> Theta:
    """d^2 log p(y_i | b) / d b d ready at b (n, k), every entry with leading axes (n, k)."""

    def lane(held: Theta, own: Tensor, *columns: Tensor) -> Tensor:
        one = block.like(_grown(columns))

        def value(at: Tensor) -> Tensor:
            return model.log_likelihood(held, at[None], one)[0]

        slope: Tensor = torch.func.grad(value)(own)
        return slope

    columns = block.columns()
    in_dims = (None, 0, *([0] * len(columns)))
    return _quiet(torch.func.vmap(torch.func.jacrev(lane), in_dims=in_dims))(ready, b, *columns)


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


def _quiet(function: Callable[..., Found]) -> Callable[..., Found]:
    """Without the warnings by which torch tells of slow paths."""

    def call(*arguments: object) -> Found:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*performance drop.*")
            return function(*arguments)

    return call
