"""The joint density: centring, orthogonality, penalty, and its pieces."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from toys import build, frame, random_theta, whole

from dgmm.model import log_prior
from dgmm.parameters import part

DEEP = "y ~ x + t + dnn(x, w, hidden=(5,)) + (t | id)"


def test_networks_are_centred_over_the_reference_sample() -> None:
    model, panel = build(DEEP, frame(40, 5), unit=2.0)
    ready = model.prepare(random_theta(model, 1, 0.7))
    effect = model.network_effect(ready, 0, panel.rows)
    assert float(effect.std()) > 0.1
    assert abs(float(effect.mean())) < 1e-10


def test_networks_are_orthogonal_to_the_linear_columns_they_share() -> None:
    model, panel = build(DEEP, frame(40, 5), unit=2.0)
    effect = model.network_effect(model.prepare(random_theta(model, 1, 0.7)), 0, panel.rows)
    names = list(model.names)
    x, t = (panel.rows.X[:, names.index(name)] for name in ("x", "t"))
    assert abs(float(effect @ x)) < 1e-8
    assert abs(float(effect @ t)) > 1e-3  # t is no input of the network: nothing is taken out
    assert model.networks[0].shared == (names.index("x"),)


def test_the_skip_covers_only_what_the_linear_columns_do_not() -> None:
    model, _ = build(DEEP, frame())
    assert [model.networks[0].names[j] for j in model.networks[0].linear] == ["w"]


def test_centring_over_some_rows_only() -> None:
    model, panel = build(DEEP, frame(40, 5))
    small = model.with_reference(panel, rows=50)
    assert len(small.reference.X) == 50
    theta = random_theta(model, 1, 0.7)
    effect = small.network_effect(small.prepare(theta), 0, panel.rows)
    assert abs(float(effect[::4].mean())) < 1e-10
    assert abs(float(effect.mean())) > 1e-6


def test_absorb_keeps_the_function() -> None:
    model, panel = build(
        "y ~ x + t + dnn(x, w, hidden=(5,)) + dnn(t, hidden=(3,)) + (t | id)",
        frame(40, 5),
        unit=2.0,
    )
    small = model.with_reference(panel, rows=50)
    theta = random_theta(model, 1, 0.7)
    before = small.mu1(small.prepare(theta), panel.rows)
    moved = model.absorb(theta, small)
    after = model.mu1(model.prepare(moved), panel.rows)
    assert torch.allclose(after, before, atol=1e-8)
    unmoved = model.mu1(model.prepare(theta), panel.rows)
    assert float((unmoved - before).abs().max()) > 1e-4


def test_absorb_without_networks_changes_nothing() -> None:
    model, panel = build("y ~ x + (t | id)", frame())
    theta = random_theta(model)
    assert model.absorb(theta, model.with_reference(panel, rows=5)) is theta


def test_penalty_is_on_network_weights_and_never_on_linear_parts() -> None:
    text = "y ~ x + dnn(w, hidden=(3,), ridge=2) + (dnn(t, hidden=(4,), ridge=5) | id)"
    model, _ = build(text, frame())
    kappa = model.ridge()
    assert {name.split(".")[1][:1].lower() for name in kappa} == {"a"}
    for prefix, ridge in (("dnn1", 2.0), ("latent1", 5.0)):
        for matrix in ("A1", "A2"):
            assert kappa[f"{prefix}.{matrix}"] == ridge
    for free in ("beta", "extra", "dnn1.skip", "latent1.Lambda"):
        assert free not in kappa
    theta = random_theta(model)
    known = sum(0.5 * kappa[n] * float(theta[n].square().sum()) for n in kappa)
    assert float(model.penalty(theta)) == pytest.approx(known, rel=1e-12)


def test_a_classical_model_has_no_penalty() -> None:
    model, _ = build("y ~ x + (t | id)", frame())
    assert model.linear
    assert model.ridge() == {}
    assert float(model.penalty(random_theta(model))) == 0.0


def test_beta_is_that_of_the_columns_as_written() -> None:
    model, panel = build("y ~ x + t + (1 | id)", frame(), unit=2.0)
    theta = random_theta(model)
    columns = panel.rows.X @ model.basis
    assert torch.allclose(columns.T @ columns / len(columns), 4 * torch.eye(3).double(), atol=1e-10)
    eta = panel.rows.X @ model.beta(theta)
    assert torch.allclose(eta, columns @ theta["beta"], atol=1e-10)
    assert torch.allclose(model.mu1(model.prepare(theta), panel.rows), eta, atol=1e-10)


def test_offsets_are_added() -> None:
    model, panel = build("count ~ x + offset(log(size)) + (1 | id)", frame(), "poisson")
    theta = random_theta(model)
    gap = model.mu1(model.prepare(theta), panel.rows) - panel.rows.X @ model.beta(theta)
    assert torch.allclose(gap, panel.rows.offset)
    assert float(panel.rows.offset.std()) > 0.1


def test_random_parts_of_several_terms_add_up() -> None:
    model, panel = build("y ~ x + (1 | id) + (dnn(0 + t, hidden=(3,)) | id)", frame())
    assert model.k == 2
    ready, rows = model.prepare(random_theta(model)), whole(panel).rows
    b = torch.randn(panel.n, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    first, second = b * torch.tensor([1.0, 0.0]), b * torch.tensor([0.0, 1.0])
    total = model.mu2(ready, b, rows)
    parts = model.mu2(ready, first, rows) + model.mu2(ready, second, rows)
    silent = model.mu2(ready, torch.zeros_like(b), rows)
    assert torch.allclose(total, parts - silent, atol=1e-10)
    assert model.jacobian(ready, b, rows).shape == (panel.n, 5, 2)


def test_log_joint_is_likelihood_plus_prior_over_real_rows() -> None:
    data = frame(8, 5, seed=1, missing=0.3)
    model, panel = build("y ~ x + (t | id)", data)
    panel, theta = panel.observed_rows(), random_theta(model)
    block, ready = whole(panel), model.prepare(theta)
    b = torch.randn(4, 8, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    eta = model.mu1(ready, panel.rows) + torch.einsum(
        "nq,mnq->mn",
        panel.rows.T[0] @ model.latents[0].loadings(part(theta, "latent1.")),
        b[:, panel.subject],
    )
    sd = math.exp(float(theta["extra"][0]))
    rows = torch.from_numpy(stats.norm.logpdf(panel.rows.data.y.numpy(), eta.numpy(), sd))
    known = torch.zeros(4, 8, dtype=torch.float64).index_add(1, panel.subject, rows)
    assert torch.allclose(model.log_likelihood(ready, b, block), known, atol=1e-8)
    prior = torch.from_numpy(stats.norm.logpdf(b.numpy()).sum(-1))
    assert torch.allclose(log_prior(b), prior, atol=1e-12)
    assert torch.allclose(model.log_joint(ready, b, block), known + prior, atol=1e-8)


def test_packing_holds_every_parameter_once() -> None:
    model, _ = build(DEEP, frame())
    theta = random_theta(model)
    assert set(theta) == {
        "beta", "dnn1.skip", "dnn1.A1", "dnn1.a1", "dnn1.A2",
        "latent1.log_diagonal", "latent1.below", "extra",
    }  # fmt: skip
    assert model.packing.size == 3 + 1 + 5 * 2 + 5 + 5 + 2 + 1 + 1


@pytest.mark.parametrize("steady", [True, False])
def test_networks_of_steady_inputs_are_calculated_once_per_subject(steady: bool) -> None:
    """Unequal numbers of rows, a subject without any: the same mu1 as row by row."""
    data = frame(10, 5, missing=0.3)
    if not steady:
        data["x"] += data["t"]
    model, panel = build("y ~ dnn(x, hidden=(5,)) + (t | id)", data)
    panel = panel.keep(panel.observed & (panel.subject != 4))
    assert panel.rows.steady == (steady,)
    ready = model.prepare(random_theta(model))
    block = whole(panel)
    by_row = model.mu1(ready, panel.rows)
    in_block = model.mu1(ready, block.rows)
    torch.testing.assert_close(in_block[block.mask], by_row[block.index[block.mask]])


RANDOM = (
    "(t | id)",
    "(dnn(t, hidden=(3,), latent=2) | id)",
    "(dnn(ns(t, 3), hidden=(3,), latent=2, basis=ns(t, 4)) | id)",
    "(dnn(ns(t, 3), hidden=(3,), latent=2, form='warped') | id)",
    "(dnn(t, hidden=(3,), latent=2, form='dense') | id)",
    "(ar1(visit) | id)",
)


@pytest.mark.parametrize("terms", RANDOM)
def test_slope_and_precision_are_those_of_the_joint_density(terms: str) -> None:
    """The slope by autograd; of normal outcomes and linear parts P is the curvature."""
    data = frame(6, 5, seed=1, missing=0.2)
    data["visit"] = data.groupby("id").cumcount()
    model, panel = build(f"y ~ x + {terms}", data)
    panel = panel.observed_rows()
    model, theta = model.sized(panel), random_theta(model)
    block, ready = whole(panel), model.prepare(theta)
    b = torch.randn(6, model.k, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    slope, P = model.slope_and_precision(ready, b, block)
    point = b.clone().requires_grad_()
    (known,) = torch.autograd.grad(model.log_joint(ready, point, block).sum(), point)
    torch.testing.assert_close(slope, known, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(P, model.precision(ready, b, block))
    if all(latent.linear for latent in model.latents):
        H = torch.autograd.functional.hessian(lambda at: model.log_joint(ready, at, block).sum(), b)
        own = torch.stack([-H[i, :, i] for i in range(6)])
        torch.testing.assert_close(P, own, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("terms", RANDOM[1:3])
@pytest.mark.parametrize("visits", [6, 20])
def test_many_draws_have_the_density_of_each(terms: str, visits: int) -> None:
    """Of many rows by sums, of few row by row, of single draws always so."""
    model, panel = build(f"y ~ x + {terms}", frame(6, visits, seed=1, missing=0.2))
    panel, theta = panel.observed_rows(), random_theta(model)
    block, ready = whole(panel), model.prepare(theta)
    b = torch.randn(7, 6, model.k, generator=torch.Generator().manual_seed(1)).double()
    single = torch.stack([model.log_likelihood(ready, one, block) for one in b])
    torch.testing.assert_close(model.log_likelihood(ready, b, block), single, rtol=1e-10, atol=1e-9)
