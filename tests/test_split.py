"""A model with fixed networks, taken apart."""

from __future__ import annotations

import torch
from toys import build, frame, random_theta

from dgmm.parameters import part
from dgmm.penalised.split import fixed_only, take_apart

TEXT = (
    "y ~ x + t + dnn(x, w, hidden=(5, 4)) + dnn(t, hidden=(3,), activation='softplus') + (t | id)"
)


def pieces(missing: float = 0.0):
    model, panel = build(TEXT, frame(20, 5, missing=missing), unit=2.0)
    return model, panel.observed_rows(), random_theta(model, 1, 0.7)


def test_which_models_can_be_taken_apart() -> None:
    assert fixed_only(pieces()[0])
    assert not fixed_only(build("y ~ x + (t | id)", frame())[0])
    assert not fixed_only(build("y ~ dnn(x) + (dnn(t) | id)", frame())[0])


def test_the_pieces_add_up_to_mu1() -> None:
    """With the reference among the rows, and apart from them (missing outcomes)."""
    for missing in (0.0, 0.2):
        model, panel, theta = pieces(missing)
        split = take_apart(model, panel)
        inner, w = split.inner(theta), split.packing.pack(theta)
        linear = split.panel.rows.X @ split.classical.beta(inner)
        whole = model.mu1(model.prepare(theta), panel.rows)
        apart = panel.rows.offset + linear + split.sweep(w).effect()
        assert torch.allclose(apart, whole, atol=1e-10)


def test_theta_comes_back() -> None:
    model, panel, theta = pieces()
    split = take_apart(model, panel)
    back = split.theta(split.inner(theta), split.packing.pack(theta))
    assert list(back) == list(model.packing.shapes)
    assert all(torch.equal(back[name], theta[name]) for name in theta)


def test_jacobian_and_pull_are_those_of_autograd() -> None:
    for missing in (0.0, 0.2):
        model, panel, theta = pieces(missing)
        split = take_apart(model, panel)
        w = split.packing.pack(theta)

        def effect(v: torch.Tensor) -> torch.Tensor:
            ready = model.prepare({**theta, **split.packing.unpack(v)})  # noqa: B023
            return model.mu1(ready, panel.rows)  # noqa: B023

        J = torch.func.jacrev(effect)(w)
        sweep = split.sweep(w)
        assert torch.allclose(sweep.jacobian(), J, atol=1e-10)
        omega = torch.randn(panel.n_rows, dtype=torch.float64)
        assert torch.allclose(sweep.pull(omega), J.T @ omega, atol=1e-9)


def test_skips_are_columns_without_a_penalty() -> None:
    model, panel, theta = pieces()
    split = take_apart(model, panel)
    assert len(split.classical.names) == len(model.names) + 1  # w; x and t are linear already
    assert split.classical.linear
    assert not any("skip" in name for name in split.packing.shapes)
    one = {**theta, "dnn1.skip": theta["dnn1.skip"] + 1.0}
    moved = model.network_effect(model.prepare(one), 0, panel.rows)
    moved = moved - model.network_effect(model.prepare(theta), 0, panel.rows)
    assert torch.allclose(split.panel.rows.X[:, -1], moved, atol=1e-10)


def test_kappa_is_the_ridge_of_every_layer_weight() -> None:
    model, panel, theta = pieces()
    model = model.with_ridge({"dnn1": 3.0, "dnn2": 5.0})
    split = take_apart(model, panel)
    theta = {name: torch.ones_like(value) for name, value in theta.items()}
    first = sum(value.numel() for name, value in part(theta, "dnn1.").items() if name != "skip")
    kappa = split.kappa(model)
    assert torch.equal(kappa[:first], torch.full((first,), 3.0, dtype=torch.float64))
    assert float(kappa[first:].unique()) == 5.0
    assert torch.allclose(0.5 * kappa.sum(), model.penalty(theta))


def test_some_subjects_keep_their_rows() -> None:
    model, panel, theta = pieces()
    split = take_apart(model, panel)
    some = split.select(torch.arange(0, 20, 3))
    assert some.panel.n == 7
    w = split.packing.pack(theta)
    rows = torch.cat([torch.arange(5) + 5 * i for i in range(0, 20, 3)])
    gap = some.sweep(w).effect() - split.sweep(w).effect()[rows]
    # centred over other rows: a difference in the columns that the networks are orthogonal to
    X = some.panel.rows.X
    assert torch.allclose(X @ torch.linalg.lstsq(X, gap[:, None]).solution, gap[:, None], atol=1e-9)
