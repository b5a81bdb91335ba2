"""Functions of theta-hat: closed forms of the delta method, draws, held parameters, intervals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor

from dgmm.families.links import LINKS
from dgmm.information import Covariance, Derivative, Draws, Spread
from dgmm.parameters import Packing, Theta

PACKING = Packing({"a": (2,), "c": (1,)})
THETA = {
    "a": torch.tensor([1.0, -0.5], dtype=torch.float64),
    "c": torch.tensor([0.3], dtype=torch.float64),
}


def ratio(theta: Theta) -> Tensor:
    """Three functions: a_1 / a_2, exp(c), a_1."""
    a, c = theta["a"], theta["c"]
    return torch.stack([a[0] / a[1], c[0].exp(), a[0]])


def jacobian() -> Tensor:
    J = [[-2.0, -4.0, 0.0], [0.0, 0.0, np.exp(0.3)], [1.0, 0.0, 0.0]]
    return torch.tensor(J, dtype=torch.float64)


@pytest.fixture
def V() -> Tensor:
    root = torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return 0.01 * root @ root.T


def test_the_delta_method_by_autograd_by_differences_and_in_closed_form(V: Tensor) -> None:
    known, J = Covariance(THETA, PACKING, V), jacobian()
    expected = J @ V @ J.T

    def plain(theta: Theta) -> Tensor:
        with torch.no_grad():
            return ratio(theta)

    closed = Derivative.dense(PACKING, jacobian)
    for found, tolerance in (
        (known.of(ratio), 1e-12),
        (known.of(ratio, closed), 1e-12),
        (known.of(plain), 2e-3),
    ):
        torch.testing.assert_close(found.covariance, expected, rtol=tolerance, atol=1e-12)
        se = expected.diagonal().sqrt()
        torch.testing.assert_close(found.se, se, rtol=tolerance, atol=0)
        torch.testing.assert_close(found.value, ratio(THETA))
    torch.testing.assert_close(known.errors(ratio, closed), expected.diagonal().sqrt())


def test_a_derivative_in_some_parameters_takes_their_block(V: Tensor) -> None:
    known = Covariance(THETA, PACKING, V)
    some = Derivative.dense(PACKING.only(["c"]), lambda: torch.tensor([[2.0]]).double())
    found = known.of(lambda theta: 2 * theta["c"], some)
    assert float(found.se) == pytest.approx(2 * float(V[2, 2].sqrt()))
    other = Derivative.dense(Packing({"w": (1,)}), lambda: torch.ones(1, 1).double())
    with pytest.raises(ValueError, match="does not hold the parameters w"):
        known.of(ratio, other)


def test_combinations_of_functions(V: Tensor) -> None:
    found = Covariance(THETA, PACKING, V).of(ratio)
    L = torch.tensor([[1.0, 0.0, -2.0]], dtype=torch.float64)
    one = found.combined(L)
    assert float(one.se) == pytest.approx(float((L @ found.covariance @ L.T).sqrt()))
    assert float(one.value) == pytest.approx(-4.0)
    same = Spread.normal(found.value, found.covariance).combined(L)
    torch.testing.assert_close(same.se, one.se)


def test_a_held_parameter_spoils_only_what_uses_it(V: Tensor) -> None:
    V = V.clone()
    V[2], V[:, 2] = torch.nan, torch.nan
    table = torch.randn(50, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    table = 0.1 * table + PACKING.pack(THETA)
    held = torch.tensor([False, False, True])
    for known in (Covariance(THETA, PACKING, V), Draws(THETA, PACKING, table, held)):
        found = known.of(ratio)
        assert found.se.isnan().tolist() == [False, True, False]
        rest = found.combined(torch.tensor([[1.0, 0.0, 1.0]]).double())
        assert not bool(rest.se.isnan().any())
        assert not known.empty
        filled = known.taking_held_as_known().of(ratio)
        torch.testing.assert_close(filled.se[[0, 2]], found.se[[0, 2]])
        assert float(filled.se[1]) == 0.0
        for theta in known.draw(3, torch.Generator().manual_seed(4)):
            assert float(theta["c"]) == pytest.approx(0.3)


def test_draws_give_standard_deviations_and_percentiles() -> None:
    table = torch.randn(200, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    table = 0.1 * table + PACKING.pack(THETA)
    known = Draws(THETA, PACKING, table, torch.zeros(3, dtype=torch.bool))
    each = torch.stack([ratio(PACKING.unpack(row)) for row in table]).numpy()
    found = known.of(ratio)
    np.testing.assert_allclose(found.se, each.std(0, ddof=1))
    np.testing.assert_allclose(found.covariance, np.cov(each.T), rtol=1e-10)
    ends = known.interval(ratio, 0.9, percentiles=True)
    np.testing.assert_allclose(ends.T, np.quantile(each, [0.05, 0.95], axis=0))
    L = torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64)
    assert float(found.combined(L).se) == pytest.approx((each[:, 0] + each[:, 1]).std(ddof=1))


@pytest.mark.parametrize("name", ["log", "logit", "inverse"])
def test_an_interval_is_symmetric_on_the_scale_of_its_link(name: str) -> None:
    link, p = LINKS[name], torch.tensor([0.2, 0.7], dtype=torch.float64)
    found = Spread.independent(p, torch.tensor([0.05, 0.1], dtype=torch.float64)).interval(
        0.9, link
    )
    on_link = link.forward(found)
    torch.testing.assert_close(on_link.mean(1), link.forward(p))
    half = (on_link[:, 1] - on_link[:, 0]).abs() / 2
    slope = {"log": 1 / p, "logit": 1 / (p * (1 - p)), "inverse": 1 / p.square()}[name]
    expected = special.ndtri(0.95) * torch.tensor([0.05, 0.1], dtype=torch.float64) * slope
    torch.testing.assert_close(half, expected)
    assert (found[:, 0] < found[:, 1]).all()
