"""The contract of every latent structure."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toys import build, frame, generator

from dgmm.latent import Latent
from dgmm.networks import Weights
from dgmm.panel import LatentRows
from dgmm.runtime.registry import members

TERMS = {
    "normal": "(t | id)",
    "normal, one column": "(1 | id)",
    "normal, diagonal": "(t || id)",
    "dnn": "(dnn(t, hidden=(6,)) | id)",
    "dnn, fewer": "(dnn(poly(t, 2), latent=2, hidden=(6,)) | id)",
    "dnn, richer basis": "(dnn(t, basis=poly(t, 3), hidden=(6,)) | id)",
    "dnn, warped": "(dnn(poly(t, 2), form='warped', hidden=(6,)) | id)",
    "dnn, dense": "(dnn(t, form='dense', hidden=(6,)) | id)",
    "cre": "(1 | cre(id, ~ t, scale=~ w))",
    "ou": "(ou(t) | id)",
    "ar1": "(ar1(visit) | id)",
    "rw": "(rw(t) | id)",
    "rw, diffuse": "(rw(t, start='diffuse') | id)",
    "llt": "(llt(t) | id)",
    "ssm": "(ssm(visit, state=2) | id)",
    "dmm": "(dmm(t, hidden=3) | id)",
    "vrnn": "(vrnn(order, hidden=3) | id)",
    "kvae": "(kvae(order, hidden=3) | id)",
}
D = torch.tensor([[1.5, 0.4], [0.4, 0.7]], dtype=torch.float64)


def made(case: str) -> tuple[Latent, LatentRows]:
    """The structure with the rows (n, J) of the subjects of a small frame."""
    data = frame(8, 5)
    data["order"] = data.groupby("id").cumcount()
    data["visit"] = data["order"] ** 2  # 0, 1, 4, 9, 16
    model, panel = build(f"y ~ t + {TERMS[case]}", data, unit=2.0)
    return model.latents[0], next(panel.blocks()).rows.of_term(0)


def some(rows: LatentRows, i: int) -> LatentRows:
    """The rows of one subject."""
    T, basis, time = (column[i : i + 1] for column in rows[:3])
    return LatentRows(T, basis, time)


def noisy(latent: Latent, seed: int = 1) -> Weights:
    g = generator(seed)
    return {
        name: 0.5 * torch.randn(shape, generator=g, dtype=torch.float64)
        for name, shape in latent.shapes().items()
    }


def draws(latent: Latent, n: int, M: int = 3) -> Tensor:
    return torch.randn(M, n, latent.dim, generator=generator(2), dtype=torch.float64)


def effect(latent: Latent, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
    return latent.effect({**weights, **latent.prepare(weights)}, b, rows)


def test_every_latent_is_covered() -> None:
    found = {made(case)[0].name for case in TERMS}
    assert found == set(members("dgmm.latent", Latent))


@pytest.mark.parametrize("case", TERMS)
def test_shapes(case: str) -> None:
    latent, rows = made(case)
    weights = noisy(latent)
    b = draws(latent, 8)
    out = effect(latent, weights, b, rows)
    assert out.shape == (3, 8, 5)
    assert torch.allclose(out[1], effect(latent, weights, b[1], rows), atol=1e-12)
    ready = {**weights, **latent.prepare(weights)}
    assert latent.jacobian(ready, b[0], rows).shape == (8, 5, latent.dim)
    assert latent.loadings(weights).shape == (len(latent.names), latent.dim)
    assert latent.scale.shape == (len(latent.names),)
    initial = latent.initial(generator())
    assert {name: tuple(w.shape) for name, w in initial.items()} == latent.shapes()
    assert latent.penalised <= set(latent.shapes())


@pytest.mark.parametrize("case", TERMS)
def test_slope_is_the_jacobian(case: str) -> None:
    latent, rows = made(case)
    weights = noisy(latent)
    ready = {**weights, **latent.prepare(weights)}
    b = draws(latent, 8)[0]
    for i in (0, 5):
        own = some(rows, i)

        def one(x: Tensor) -> Tensor:
            return latent.effect(ready, x[None], own)[0]  # noqa: B023

        expected = torch.autograd.functional.jacobian(one, b[i])
        assert torch.allclose(latent.jacobian(ready, b, rows)[i], expected, atol=1e-10)


@pytest.mark.parametrize("case", TERMS)
def test_effect_has_mean_zero_over_the_prior(case: str) -> None:
    latent, rows = made(case)
    if latent.recursive:  # its mean is a function of time that a network makes
        return
    M = 20_000
    half = torch.randn(M // 2, 1, latent.dim, generator=generator(4), dtype=torch.float64)
    b = torch.cat([half, -half])
    values = effect(latent, noisy(latent), b, some(rows, 0))
    # antithetic pairs: the error is that of the means of pairs
    pairs = 0.5 * (values[: M // 2] + values[M // 2 :])
    error = pairs.std(0) / (M // 2) ** 0.5
    # the centre itself is an average over a few prior draws (32 in the dense form)
    size = {"dense": 32, "coefficients": 256, "warped": 256}.get(getattr(latent, "form", ""), 10**9)
    centre = pairs.std(0) / (size / 2) ** 0.5
    assert (values.mean(0).abs() < 4 * torch.hypot(error, centre) + 1e-12).all()


@pytest.mark.parametrize("case", TERMS)
def test_linear_is_said_truly(case: str) -> None:
    latent, rows = made(case)
    weights, b = noisy(latent), draws(latent, 8)[0]
    doubled = effect(latent, weights, 2 * b, rows)
    gap = float((doubled - 2 * effect(latent, weights, b, rows)).abs().max())
    assert (gap < 1e-12) == latent.linear
    assert (latent.layers() == "") == (not latent.neural)


@pytest.mark.parametrize("case", ["normal", "dnn", "dnn, dense", "dnn, richer basis"])
def test_tied_reproduces_the_covariance(case: str) -> None:
    latent, (T, *_) = made(case)
    rows = T.reshape(-1, 2)
    weights = latent.from_covariance(D, rows.T @ rows / len(rows), generator())
    skip = latent.loadings(weights)
    assert torch.allclose(skip @ skip.T, D, atol=1e-8)


def test_tied_one_column() -> None:
    latent, (T, *_) = made("normal, one column")
    rows = T.reshape(-1, 1)
    weights = latent.from_covariance(D[:1, :1], rows.T @ rows / len(rows), generator())
    assert float(latent.loadings(weights).square()) == pytest.approx(1.5, abs=1e-8)


def test_tied_with_fewer_effects_keeps_the_principal_part() -> None:
    latent, (T, *_) = made("dnn, fewer")
    rows, root = T.reshape(-1, 3), torch.randn(3, 3, generator=generator(6), dtype=torch.float64)
    gram, full = rows.T @ rows / len(rows), root @ root.T
    skip = latent.loadings(latent.from_covariance(full, gram, generator()))
    value = torch.linalg.eigvalsh(
        torch.linalg.cholesky(gram).T @ full @ torch.linalg.cholesky(gram)
    )
    kept = torch.trace(skip @ skip.T @ gram)
    assert float(kept) == pytest.approx(float(value[1:].sum()), rel=1e-8)


@pytest.mark.parametrize("case", TERMS)
def test_every_parameter_gets_a_gradient(case: str) -> None:
    latent, rows = made(case)
    weights = {n: w.requires_grad_() for n, w in noisy(latent).items()}
    effect(latent, weights, draws(latent, 8), rows).square().sum().backward()
    for name, weight in weights.items():
        assert weight.grad is not None, name
        if weight.numel():
            assert float(weight.grad.abs().min(0).values.max()) > 0, name


@pytest.mark.parametrize("case", TERMS)
def test_loadings_by_columns_are_said_truly(case: str) -> None:
    latent, rows = made(case)
    weights, b = noisy(latent), draws(latent, 8)[0]
    linear = torch.einsum("njq,qk,nk->nj", rows.T, latent.loadings(weights), b)
    gap = float((effect(latent, weights, b, rows) - linear).abs().max())
    assert (gap < 1e-12) == latent.by_columns
    assert (len(latent.blocks()) > 0) == latent.by_columns


@pytest.mark.parametrize("case", TERMS)
def test_effects_of_all_subjects_at_once_are_those_of_one_after_the_other(case: str) -> None:
    latent, rows = made(case)
    if latent.recursive:  # the number of its steps depends on the rows
        return
    weights = noisy(latent)
    ready = {**weights, **latent.prepare(weights)}
    b = draws(latent, 8)[0]

    def lane(own: Tensor, *columns: Tensor) -> Tensor:
        return latent.effect(ready, own[None], LatentRows(*(c[None] for c in columns)))[0]

    assert torch.allclose(torch.func.vmap(lane)(b, *rows[:3]), latent.effect(ready, b, rows))


@pytest.mark.parametrize("case", TERMS)
def test_every_reported_value_has_a_component(case: str) -> None:
    latent, _ = made(case)
    values = latent.reported(noisy(latent))
    assert len(values) == len(latent.components())
    assert latent.neural == (len(values) == 0)
    for value, one in zip(values, latent.components(), strict=True):
        assert float(one.link.inverse(one.link.forward(value))) == pytest.approx(float(value))


@pytest.mark.parametrize("case", TERMS)
def test_a_boundary_holds_entries_of_its_own_weights(case: str) -> None:
    latent, _ = made(case)
    weights = noisy(latent)
    assert latent.at_boundary(weights, 1e-4).names == ()
    gone = latent.at_boundary(weights, 1e4)
    assert set(gone.held) <= set(weights)
    assert all(gone.held[name].shape == weights[name].shape for name in gone.held)
    assert (len(gone.names) > 0) == (not latent.neural)


def test_diagonal_has_no_covariance() -> None:
    latent, (T, *_) = made("normal, diagonal")
    assert latent.shapes() == {"log_diagonal": (2,)}
    rows = T.reshape(-1, 2)
    gram = rows.T @ rows / len(rows)
    skip = latent.loadings(latent.from_covariance(torch.diag(D.diagonal()), gram, generator()))
    assert torch.allclose(skip @ skip.T, torch.diag(D.diagonal()), atol=1e-8)


def test_full_normal_is_lower_triangular_with_a_positive_diagonal() -> None:
    latent, *_ = made("normal")
    weights = noisy(latent)
    L = torch.linalg.solve(latent.frame, latent.loadings(weights))
    assert float(L[0, 1]) == pytest.approx(0.0, abs=1e-14)
    assert torch.allclose(L.diagonal(), weights["log_diagonal"].exp())
    assert float(L[1, 0]) == pytest.approx(float(weights["below"][0]), rel=1e-12)


def test_the_frame_makes_columns_orthogonal_in_the_unit_of_the_predictor() -> None:
    latent, (T, *_) = made("normal")
    columns = (T @ latent.frame).reshape(-1, 2)
    gram = columns.T @ columns / len(columns)
    assert torch.allclose(gram, 4.0 * torch.eye(2, dtype=torch.float64))
    assert torch.equal(latent.frame, latent.frame.triu())


def test_independent_effects_keep_their_own_columns() -> None:
    latent, (T, *_) = made("normal, diagonal")
    root = (T @ latent.frame).square().mean((0, 1)).sqrt()
    assert torch.allclose(root, torch.full((2,), 2.0, dtype=torch.float64))
    assert torch.equal(latent.frame, torch.diag(latent.scale))


@pytest.mark.parametrize("case", ["dnn", "dnn, dense"])
def test_only_the_layers_of_the_network_are_penalised(case: str) -> None:
    assert made(case)[0].penalised == {"A1", "a1", "A2"}
    assert made("normal")[0].penalised == frozenset()


@pytest.mark.parametrize("case", TERMS)
def test_same_generator_same_start(case: str) -> None:
    latent, *_ = made(case)
    first, again = latent.initial(generator(1)), latent.initial(generator(1))
    assert all(torch.equal(first[name], again[name]) for name in first)
