"""All modes of b | y: those of a grid, ties, places where nothing is finite."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor
from toys import OnGrid, on_grid, waves_seen_in_part, whole

from dgmm.latent.dnn import Neural
from dgmm.model import Model
from dgmm.panel import LatentRows, Panel
from dgmm.parameters import Theta
from dgmm.posterior.modes import by_height, find_modes
from dgmm.posterior.several import find_all_modes


@cache
def made() -> tuple[Model, Theta, Panel, OnGrid]:
    model, theta, panel = waves_seen_in_part()
    return model, theta, panel, on_grid(model, theta, panel)


def test_the_modes_are_the_maxima_of_a_grid() -> None:
    model, theta, panel, grid = made()
    found = find_all_modes(model, theta, whole(panel))
    assert found.number.tolist() == [1, 1, 2]
    step = float(grid.axis[1] - grid.axis[0])
    for i in range(panel.n):
        height = grid.height[i]
        around = torch.nn.functional.max_pool2d(height[None, None], 9, 1, 4)[0, 0]
        place = torch.nonzero((height == around) & (height > height.max() - 4))
        tops = sorted((float(height[tuple(at)]), grid.axis[at].tolist()) for at in place)[::-1]
        assert len(tops) == int(found.number[i])
        for mode, (_, top) in zip(found.anchor.mode[:, i], tops, strict=False):
            assert mode.tolist() == pytest.approx(top, abs=2 * step)
    # Laplace masses against those on the two sides of the plane between the modes
    one, two = found.anchor.mode[:, 2]
    b = torch.cartesian_prod(grid.axis, grid.axis)
    nearer = (b - one).norm(dim=1) < (b - two).norm(dim=1)
    share = torch.softmax(grid.height[2].flatten(), 0)[nearer].sum()
    assert float(found.mass[0, 2]) == pytest.approx(float(share), abs=0.1)


def test_the_slope_is_zero_at_every_mode() -> None:
    model, theta, panel, _ = made()
    found, block, ready = find_all_modes(model, theta, whole(panel)), whole(panel), theta
    ready = model.prepare(theta)
    with torch.no_grad():
        fixed = model.fixed(ready, block)
    slope, _ = model.slope_and_precision(ready, found.anchor.mode, block, fixed)
    assert float(slope.abs().max()) < 1e-4


def test_a_subject_with_one_mode_has_that_of_the_single_search() -> None:
    model, theta, panel, _ = made()
    found = find_all_modes(model, theta, whole(panel))
    single = find_modes(model, theta, whole(panel))
    torch.testing.assert_close(found.anchor.mode[0], single.mode, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.anchor.root[0], single.root, atol=1e-5, rtol=0)


def test_of_places_equally_high_but_for_rounding_the_first_is_taken() -> None:
    height = torch.tensor([[-5.0, -5.0], [-5.0 + 1e-10, -4.9], [-7.0, -torch.inf]]).double()
    assert by_height(height)[:, 0].tolist() == [0, 1, 2]
    assert by_height(height)[:, 1].tolist() == [1, 0, 2]


def test_a_place_without_a_finite_precision_is_passed_over(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    model, theta, panel, _ = made()
    known = find_all_modes(model, theta, whole(panel))
    places, slopes = Neural.candidate_modes, Neural.jacobian

    def with_far(self: Neural, weights: dict[str, Tensor]) -> Tensor:
        return torch.cat([places(self, weights), torch.full((1, 2), 60.0, dtype=torch.float64)])

    def steep(self: Neural, weights: dict[str, Tensor], b: Tensor, rows: LatentRows) -> Tensor:
        far = (b.norm(dim=-1) > 50)[..., None, None]
        return torch.where(far, torch.inf, slopes(self, weights, b, rows))

    monkeypatch.setattr(Neural, "candidate_modes", with_far)
    monkeypatch.setattr(Neural, "jacobian", steep)
    found = find_all_modes(model, theta, whole(panel))
    torch.testing.assert_close(found.anchor.mode, known.anchor.mode)
    torch.testing.assert_close(found.mass, known.mass)
    single = find_modes(model, theta, whole(panel))
    torch.testing.assert_close(single.mode, known.anchor.mode[0], atol=1e-6, rtol=0)


def test_no_place_with_a_finite_precision_is_an_error(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    model, theta, panel, _ = made()
    slopes = Neural.jacobian

    def steep(self: Neural, weights: dict[str, Tensor], b: Tensor, rows: LatentRows) -> Tensor:
        return torch.full_like(slopes(self, weights, b, rows), torch.inf)

    monkeypatch.setattr(Neural, "jacobian", steep)
    with pytest.raises(torch.linalg.LinAlgError):
        find_all_modes(model, theta, whole(panel))
