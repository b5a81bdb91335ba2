"""Natural cubic splines by pieces, beside scipy's."""

from __future__ import annotations

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from toys import generator

from dgmm.numerics.splines import Spline, height, height_and_rise

X = torch.linspace(-3.0, 5.0, 400, dtype=torch.float64)
KNOTS = np.linspace(-1.0, 2.0, 7)
HEIGHTS = torch.randn(7, generator=generator(3), dtype=torch.float64)


def test_between_knots_as_scipy_has_it() -> None:
    ours = Spline.natural(-1.0, 2.0, 7)
    inside = X[(X >= -1) & (X <= 2)]
    value = height(ours.table(HEIGHTS), ours.place(inside))
    theirs = CubicSpline(KNOTS, HEIGHTS.numpy(), bc_type="natural")(inside.numpy())
    assert np.allclose(value.numpy(), theirs, atol=1e-12)
    assert torch.allclose(ours.knots(), torch.from_numpy(KNOTS), atol=1e-12)


def test_linear_beyond_the_outer_knots() -> None:
    ours = Spline.natural(-1.0, 2.0, 7)
    value = height(ours.table(HEIGHTS), ours.place(X))
    theirs = CubicSpline(KNOTS, HEIGHTS.numpy(), bc_type="natural")
    left, right = X < -1, X > 2
    assert left.sum() > 50
    assert right.sum() > 50
    for side, end in ((left, -1.0), (right, 2.0)):
        line = float(theirs(end)) + float(theirs(end, 1)) * (X[side] - end)
        assert torch.allclose(value[side], line, atol=1e-10)


def test_the_derivative_is_that_of_the_function() -> None:
    ours = Spline.natural(-1.0, 2.0, 7)
    place = ours.place(X).requires_grad_()
    table = ours.table(HEIGHTS)
    (expected,) = torch.autograd.grad(height(table, place).sum(), place)
    value, rise = height_and_rise(table, place)
    assert torch.allclose(rise, expected, atol=1e-12)
    assert torch.allclose(value, height(table, place), atol=1e-12)


def test_columns_and_tables_say_the_same() -> None:
    S = torch.randn(7, 3, generator=generator(5), dtype=torch.float64)
    turned = Spline.natural(-1.0, 2.0, 7).turned(S)
    w = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    place = turned.place(X)
    assert torch.allclose(turned.columns(X) @ w, height(turned.table(w), place), atol=1e-10)


def test_any_shape_and_batches_of_torch_func() -> None:
    ours = Spline.natural(-1.0, 2.0, 7)
    table, place = ours.table(HEIGHTS), ours.place(X).reshape(2, 4, 50)
    assert height(table, place).shape == (2, 4, 50)
    each = torch.func.vmap(torch.func.grad(lambda w, x: height(ours.table(w), x).sum()), (None, 0))
    slopes = each(HEIGHTS, place)
    assert torch.allclose(slopes.sum(0), ours.columns(X).sum(0), atol=1e-9)
