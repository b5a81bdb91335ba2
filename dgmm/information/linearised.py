"""A model whose networks are all on the fixed side, as the classical model it is to first order.

At theta-hat, with J = d mu1 / d m and m = (beta, skips, layers w),

    eta = offset* + J m + T Lambda b,      offset* = mu1(m-hat) - J m-hat,

is a classical mixed model with the columns J: its information is the Gauss-Newton form of ours, by
the same engines, and exact for beta and the skips, in which mu1 is linear. Layers enter by few
coordinates u, w = U u / sqrt(kappa) with U an orthonormal basis of the rows of J_w: along all other
directions the data say nothing and the ridge kappa decides alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgmm.information.mean_slopes import MeanSlopes, mean_packing, runs
from dgmm.likelihood import Importance, Likelihood, NodeRule, Point, Quadrature
from dgmm.likelihood.adaptive import AdaptiveQuadrature
from dgmm.likelihood.gaussian import Gaussian
from dgmm.model import Model
from dgmm.networks import Reference
from dgmm.panel import Rows

__all__ = ["Linearised", "linearise"]

SILENT = 1e-10
"""Share of the longest row of J_w, squared, below which a row adds no direction."""

MOST_ROWS = 3_000
"""Evenly spaced rows whose J_w spans what all rows do."""

LEAST_RIDGE = 1e-6
"""A smaller ridge is no ridge, but scales the coordinates."""

POINTS = {1: 25, 2: 15, 3: 9}
DRAWS = 256


@dataclass(frozen=True)
class Linearised:
    """The classical estimate, and how its R coefficients give the parameters m of the mean."""

    done: Point
    lift: Tensor  # (P_m, R): m = lift coefficients, but for the directions of the ridge alone
    alone: Tensor  # (P_m, P_m): covariance along the directions of the ridge alone
    penalty: Tensor  # (R,): 1 for the coordinates u, 0 for beta and skips
    layers: Tensor  # (R,) bool: the coordinates u
    blocks: dict[str, slice]  # the coefficients of "beta", "dnn1", ...


@dataclass(frozen=True)
class _Piece:
    """What one block of m ("beta", "dnn1") contributes."""

    lift: Tensor
    alone: Tensor
    penalty: Tensor
    layers: Tensor


def linearise(done: Point) -> Linearised:
    """See the module; all latent terms must be linear."""
    model, rows = done.model, done.observed.rows
    slopes = MeanSlopes.at(model, done.theta)
    p = len(model.names)
    nothing = torch.zeros(p, dtype=torch.float64)
    pieces = [
        _Piece(torch.eye(p, dtype=torch.float64), torch.diag(nothing), nothing, nothing.bool())
    ]
    pieces += [_network_piece(slopes, i, rows) for i in range(len(model.networks))]
    lift = torch.block_diag(*(piece.lift for piece in pieces))
    blocks, first = {}, 0
    for name, piece in zip(["beta", *_labels(model)], pieces, strict=True):
        blocks[name] = slice(first, first + piece.lift.shape[1])
        first = blocks[name].stop
    return Linearised(
        _classical(done, slopes, lift),
        lift,
        torch.block_diag(*(piece.alone for piece in pieces)),
        torch.cat([piece.penalty for piece in pieces]),
        torch.cat([piece.layers for piece in pieces]),
        blocks,
    )


def _labels(model: Model) -> list[str]:
    return [f"dnn{i}" for i in range(1, len(model.networks) + 1)]


def _network_piece(slopes: MeanSlopes, i: int, rows: Rows) -> _Piece:
    """The skip as it is, the layers in few coordinates of unit penalty."""
    network = slopes.model.networks[i]
    skips, kappa = len(network.linear), max(network.ridge, LEAST_RIDGE)
    seen = _rows(rows, slice(0, len(rows.X), math.ceil(len(rows.X) / MOST_ROWS)))
    U = row_space(slopes.network(i, seen)[:, skips:])
    silent = torch.eye(len(U), dtype=torch.float64) - U @ U.T
    skip = torch.eye(skips, dtype=torch.float64)
    layers = torch.arange(skips + U.shape[1]) >= skips
    return _Piece(
        torch.block_diag(skip, U / kappa**0.5),
        torch.block_diag(torch.zeros_like(skip), silent / kappa),
        layers * (network.ridge / kappa),
        layers,
    )


def row_space(J: Tensor) -> Tensor:
    """An orthonormal basis (P, r) of the rows of J (N, P), by Cholesky of J J' with pivots.

    Every step takes the row that the basis explains least; it ends when none is left above SILENT
    times the longest (squared lengths). Harbrecht, Peters and Schneider (2012), Applied Numerical
    Mathematics 62, 428-440.
    """
    left = J.square().sum(1)
    least, most = SILENT * left.max(), min(J.shape)
    factor = torch.zeros(most, len(J), dtype=torch.float64)
    chosen: list[int] = []
    while len(chosen) < most and float(left.max()) > least:
        k, row = len(chosen), int(left.argmax())
        column = J @ J[row] - factor[:k].T @ factor[:k, row]
        factor[k] = column / left[row].sqrt()
        left = left - factor[k].square()
        left[row] = 0.0
        chosen.append(row)
    return torch.linalg.qr(J[chosen].T)[0]


def _classical(done: Point, slopes: MeanSlopes, lift: Tensor) -> Point:
    """The classical model at theta-hat, its coefficients those of the columns J lift."""
    model, panel = done.model, done.observed
    with torch.no_grad():
        mu1 = model.mu1(model.prepare(done.theta), panel.rows)
    J = torch.cat(
        [slopes.jacobian(_rows(panel.rows, at)) @ lift for at in runs(panel.n_rows, len(lift))]
    )
    m = mean_packing(model).pack(done.theta).detach()
    # the coordinates of m-hat, up to what the columns do not see
    beta = torch.linalg.lstsq(lift, m[:, None]).solution[:, 0]
    rows = replace(panel.rows, X=J, inputs=(), offset=mu1 - J @ beta)
    classical = replace(model, open_ridge=()).with_outcome(
        names=tuple(f"m{j}" for j in range(J.shape[1])),
        basis=torch.eye(J.shape[1], dtype=torch.float64),
        networks=(),
        reference=Reference(J[:1], ()),
    )
    theta = {name: v for name, v in done.theta.items() if name.startswith(("latent", "extra"))}
    panel, integration = replace(panel, rows=rows), done.likelihood.integration
    likelihood: Likelihood
    if done.likelihood.exact:
        likelihood = Gaussian(classical, panel, integration)
    else:
        likelihood = AdaptiveQuadrature(classical, panel, integration, _rule(model.k))
    return Point(likelihood, {"beta": beta, **theta})


def _rule(k: int) -> NodeRule:
    return Quadrature(POINTS[k]) if k in POINTS else Importance(DRAWS)


def _rows(rows: Rows, at: slice) -> Rows:
    return rows.take(torch.arange(at.start, at.stop, at.step or 1))
