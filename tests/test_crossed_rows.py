"""Derivatives of rows in closed form against autograd, and what closed forms leave out."""

from __future__ import annotations

import pytest
import torch
from toys import build, crossed_frame

from dgmm.likelihood.crossed_rows import constant, density, slopes, with_graph

CASES = (
    ("z ~ x + (1 | a)", "bernoulli"),
    ("hits / size ~ x + (1 | a)", "binomial"),
    ("count ~ x + (1 | a)", "poisson"),
    ("count ~ x + (1 | a)", "negative_binomial"),
    ("y ~ x + (1 | a)", "gaussian"),
    ("positive ~ x + (1 | a)", "gamma"),
)


@pytest.mark.parametrize(("text", "family"), CASES)
def test_values_and_derivatives_are_those_of_autograd(text: str, family: str) -> None:
    frame = crossed_frame()
    frame["positive"] = frame["positive"].abs() + 0.1
    model, panel = build(text, frame, family, weights="w" if family == "gaussian" else None)
    data, N = panel.rows.data, panel.n_rows
    eta = torch.linspace(-1.0, 1.5, N, dtype=torch.float64)
    extra = torch.full((len(model.family.extra),), 0.3, dtype=torch.float64)
    wanted = with_graph(model.family, data, eta.clone().requires_grad_(), extra)
    found = slopes(model.family, data, eta, extra)
    for own, other in zip(found[1:], wanted[1:], strict=True):
        if own is not None:
            torch.testing.assert_close(own, other.detach(), atol=1e-10, rtol=1e-10)
    total = constant(model.family, data, extra)
    whole = float(model.family.log_density(data, eta, extra).sum())
    assert float(found.f.sum()) + total == pytest.approx(whole, abs=1e-9)
    torch.testing.assert_close(density(model.family, data, eta, extra), found.f)
