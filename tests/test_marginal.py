"""log p(y; theta): exact, by quadrature, by importance sampling, and its derivatives."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from toys import build, frame, linear_gaussian, random_theta

from dgmm import datasets
from dgmm.likelihood import Frozen, Importance, NodeRule, Quadrature, freeze, places
from dgmm.likelihood import statistics as sums
from dgmm.likelihood.gaussian import per_subject, profile_theta
from dgmm.likelihood.polish import polish
from dgmm.likelihood.profiling import maximise, moment_start
from dgmm.likelihood.statistics import statistics
from dgmm.likelihood.sufficient import GaussianValue, profiled_deviance, profiled_hessian
from dgmm.model import Model
from dgmm.numerics.hessian import central_hessian, central_jacobian, invert
from dgmm.numerics.quadrature import Nodes
from dgmm.panel import Panel
from dgmm.parameters import Theta, part

GAUSSIAN = ["y ~ x + t + (t | id)", "y ~ x + (t || id)", "y ~ t + (1 | id) + (0 + w | id)"]
RULES = [Quadrature(9), Importance(256)]


def frozen_at(model: Model, theta: Theta, panel: Panel, rule: NodeRule, seed: int = 1) -> Frozen:
    return freeze(model, theta, panel, rule, np.random.default_rng(seed))


def small(text: str, family: str = "gaussian") -> tuple[Model, Panel]:
    model, panel = build(text, frame(15, 5, seed=2, missing=0.2), family, unit=1.3)
    return model, panel.observed_rows()


# -- exact ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_exact_is_the_dense_normal_density_on_sleepstudy(seed: int) -> None:
    text = "Reaction ~ Days + (Days | Subject)"
    model, panel = build(text, datasets.load("sleepstudy"), unit=30.0)
    theta = random_theta(model, seed, 0.5)
    theta["extra"] = theta["extra"] + np.log(30.0)
    beta = model.beta(theta)
    skip = model.latents[0].loadings(part(theta, "latent1."))
    total = 0.0
    for i in range(panel.n):
        rows = panel.rows.take(torch.nonzero(panel.subject == i)[:, 0])
        Z = rows.T[0] @ skip
        V = Z @ Z.T + torch.exp(2 * theta["extra"]) * torch.eye(len(Z))
        normal = stats.multivariate_normal((rows.X @ beta).numpy(), V.numpy())
        total += float(normal.logpdf(rows.data.y.numpy()))
    value = GaussianValue(statistics(model, panel))(model.packing.pack(theta).numpy())
    assert value == pytest.approx(total, abs=1e-8, rel=1e-12)
    assert float(per_subject(model, theta, panel).sum()) == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("text", GAUSSIAN)
def test_second_derivatives_are_those_of_the_gradient(text: str, reml: bool) -> None:
    model, panel = build(text, frame(15, 5, seed=2, missing=0.3), unit=1.3, weights="w")
    stat = statistics(model, panel.observed_rows())
    x = np.random.default_rng(3).normal(size=len(stat.pattern.row))
    found = profiled_hessian(stat, profiled_deviance(stat, x, reml), reml)
    step = np.full(len(x), 1e-5)
    numeric = central_jacobian(lambda y: profiled_deviance(stat, y, reml).gradient, x, step).matrix
    np.testing.assert_allclose(found, numeric, atol=1e-6 * np.abs(numeric).max())

    value = GaussianValue(stat, reml)
    theta = model.packing.pack(random_theta(model, 4)).numpy()
    whole = value.hessian(theta)[0].matrix
    numeric = central_jacobian(value.gradient, theta, np.full(len(theta), 1e-5)).matrix
    first = stat.p if reml else 0  # the restricted likelihood knows nothing of beta
    block = np.s_[first:, first:]
    np.testing.assert_allclose(whole[block], numeric[block], atol=1e-6 * np.abs(numeric).max())


@pytest.mark.parametrize("reml", [False, True])
def test_moments_of_variances_are_those_by_differences(reml: bool) -> None:
    model, panel = build("y ~ x + t + (t | id)", frame(15, 5, seed=2, missing=0.3), weights="w")
    value = GaussianValue(statistics(model, panel.observed_rows()), reml)
    theta = model.packing.pack(random_theta(model, 4)).numpy()
    found = value.variance_moments(theta)
    assert found is not None
    gls, slopes, information = found
    psi = value.variance_vector(theta)
    np.testing.assert_allclose(gls, value.gls_of_variances(psi), rtol=1e-10)
    for slope, u in zip(slopes, 1e-5 * np.eye(len(psi)), strict=True):
        numeric = (value.gls_of_variances(psi + u) - value.gls_of_variances(psi - u)) / 2e-5
        np.testing.assert_allclose(slope, numeric, atol=1e-7 * np.abs(numeric).max())
    step = np.full(len(psi), 1e-5)
    numeric = -central_jacobian(value.variance_gradient, psi, step).matrix
    np.testing.assert_allclose(information, numeric, atol=1e-6 * np.abs(numeric).max())


@pytest.mark.parametrize("reml", [False, True])
def test_models_on_an_axis_of_their_own_are_those_one_by_one(reml: bool) -> None:
    text, alone = "y ~ x + t + (t | id)", []
    for seed in range(3):
        model, panel = build(text, frame(15, 5, seed=seed, missing=0.2), unit=1.3)
        alone.append(statistics(model, panel.observed_rows()))
    together = replace(
        alone[0],
        A=np.stack([one.A for one in alone], axis=2),
        B=np.stack([one.B for one in alone], axis=2),
        **{name: np.stack([getattr(one, name) for one in alone])
           for name in ("C", "origin", "N", "constant", "unit", "log_det_basis")},
    )  # fmt: skip
    x = np.random.default_rng(1).normal(size=(3, 3))
    found = profiled_deviance(together, x, reml)
    hessian = profiled_hessian(together, found, reml)
    for i, one in enumerate(alone):
        wanted = profiled_deviance(one, x[i], reml)
        np.testing.assert_allclose(found.value[i], wanted.value, rtol=1e-13)
        np.testing.assert_allclose(found.gradient[i], wanted.gradient, rtol=1e-10)
        np.testing.assert_allclose(found.beta[i], wanted.beta, rtol=1e-10)
        np.testing.assert_allclose(hessian[i], profiled_hessian(one, wanted, reml), rtol=1e-9)
    few = together.among(np.array([2, 0]))
    np.testing.assert_array_equal(
        profiled_deviance(few, x[[2, 0]], reml).value, found.value[[2, 0]]
    )


def test_moments_of_a_balanced_design_are_its_maximum() -> None:
    """Every subject of sleepstudy has the same days, so least squares lose nothing."""
    model, panel = build("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    stat = statistics(model, panel)
    at = profiled_deviance(stat, moment_start(stat), False)
    np.testing.assert_allclose(at.gradient, 0.0, atol=1e-8)
    assert -0.5 * at.value == pytest.approx(maximise(stat).log_likelihood, abs=1e-9)


@pytest.mark.parametrize("text", GAUSSIAN)
def test_exact_with_weights_and_missing_outcomes(text: str) -> None:
    data = frame(15, 5, seed=2, missing=0.3)
    data.loc[data.id == 3, "y"] = np.nan
    model, panel = build(text, data, unit=1.3, weights="w")
    panel, theta = panel.observed_rows(), random_theta(model, 4)
    *_, known = linear_gaussian(model, theta, panel)
    found = per_subject(model, theta, panel)
    np.testing.assert_allclose(found.numpy(), known, atol=1e-8)
    assert abs(float(found[3])) < 1e-12  # nothing was seen of subject 3
    value = GaussianValue(statistics(model, panel))(model.packing.pack(theta).numpy())
    assert value == pytest.approx(known.sum(), abs=1e-8)


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("text", GAUSSIAN)
def test_gradient_of_the_profiled_deviance(text: str, reml: bool) -> None:
    model, panel = small(text)
    stat = statistics(model, panel)
    x = np.where(stat.pattern.on_diagonal, 0.8, 0.2) + 0.1 * np.arange(len(stat.pattern.row))
    gradient = profiled_deviance(stat, x, reml).gradient
    for j, unit in enumerate(np.eye(len(x))):
        up, down = (profiled_deviance(stat, x + s * 1e-5 * unit, reml).value for s in (1, -1))
        assert gradient[j] == pytest.approx((up - down) / 2e-5, rel=1e-6, abs=1e-6)


def test_profile_maximises_the_unprofiled_log_likelihood() -> None:
    model, panel = small(GAUSSIAN[0])
    stat = statistics(model, panel)
    profile = maximise(stat)
    likelihood = GaussianValue(stat)
    best = model.packing.pack(profile_theta(model, profile)).numpy()
    assert likelihood(best) == pytest.approx(profile.log_likelihood, abs=1e-8)
    assert profile.converged
    rng = np.random.default_rng(1)
    for _ in range(20):
        assert likelihood(best + 0.01 * rng.normal(size=len(best))) < likelihood(best)


@pytest.mark.parametrize("text", [GAUSSIAN[0], "y ~ x + t + (t || id)"])
def test_gradient_and_hessian_are_those_of_the_unprofiled_log_likelihood(text) -> None:
    model, panel = small(text)
    likelihood = GaussianValue(statistics(model, panel))
    x = model.packing.pack(profile_theta(model, maximise(likelihood.stats))).numpy() + 0.05
    slope = [(likelihood(x + u) - likelihood(x - u)) / 2e-5 for u in 1e-5 * np.eye(len(x))]
    np.testing.assert_allclose(likelihood.gradient(x), slope, rtol=1e-6, atol=1e-6)
    step = np.full(len(x), 1e-3)
    plain = central_hessian(likelihood, x, step).matrix
    np.testing.assert_allclose(likelihood.hessian(x)[0].matrix, plain, rtol=1e-4, atol=1e-4)


def test_statistics_are_the_same_for_any_number_of_subjects_at_a_time(monkeypatch) -> None:
    model, panel = small(GAUSSIAN[0])
    whole = statistics(model, panel)
    monkeypatch.setattr(sums, "ROWS", 7)
    parts = statistics(model, panel)
    np.testing.assert_array_equal(parts.A, whole.A)
    np.testing.assert_allclose(parts.B, whole.B, rtol=1e-13)
    np.testing.assert_allclose(parts.C, whole.C, rtol=1e-12, atol=1e-12)


def test_restricted_likelihood_is_the_integral_over_beta() -> None:
    model, panel = small("y ~ x + t + (1 | id)")
    stat = statistics(model, panel)
    profile = maximise(stat, reml=True)
    theta = profile_theta(model, profile)
    top = GaussianValue(stat)(model.packing.pack(theta).numpy())
    # Laplace's rule is exact for a quadratic; coefficients of the columns as written
    basis = model.basis.numpy()
    vcov = basis @ profile.vcov_gls @ basis.T
    integral = top + 0.5 * 3 * np.log(2 * np.pi) + 0.5 * np.linalg.slogdet(vcov)[1]
    assert profile.log_likelihood == pytest.approx(integral, abs=1e-8)


# -- node rules ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", GAUSSIAN)
def test_quadrature_is_exact_for_a_gaussian_model_at_any_theta(text: str) -> None:
    model, panel = small(text)
    theta, moved = random_theta(model, 4), random_theta(model, 5)
    frozen = frozen_at(model, theta, panel, Quadrature(5))
    for at in (theta, moved):  # nodes follow theta: exact far from the anchor, too
        *_, known = linear_gaussian(model, at, panel)
        np.testing.assert_allclose(frozen.per_subject(at).numpy(), known, atol=1e-8)


@pytest.mark.parametrize("text", GAUSSIAN)
def test_importance_agrees_with_exact_within_its_error(text: str) -> None:
    model, panel = small(text)
    theta = random_theta(model, 4)
    known = linear_gaussian(model, theta, panel)[2].sum()
    values = [frozen_at(model, theta, panel, Importance(256), s).value(theta) for s in range(12)]
    error = np.std(values, ddof=1) / 12**0.5
    assert abs(np.mean(values) - known) < 4 * error
    assert error < 0.05


@pytest.mark.parametrize(
    ("text", "family"),
    [("z ~ x + (t | id)", "bernoulli"), ("count ~ x + (t | id)", "poisson")],
)
def test_quadrature_and_importance_agree_for_other_families(text: str, family: str) -> None:
    model, panel = small(text, family)
    theta = random_theta(model, 4)
    known = frozen_at(model, theta, panel, Quadrature(31)).value(theta)
    longer = frozen_at(model, theta, panel, Quadrature(41)).value(theta)
    assert known == pytest.approx(longer, abs=1e-4)
    values = [frozen_at(model, theta, panel, Importance(512), s).value(theta) for s in range(12)]
    assert abs(np.mean(values) - known) < 4 * np.std(values, ddof=1) / 12**0.5


def test_quadrature_of_a_random_intercept_is_the_integral_by_hand() -> None:
    model, panel = small("z ~ x + (1 | id)", "bernoulli")
    theta = random_theta(model, 4)
    b = np.linspace(-10, 10, 4001)
    eta = model.mu1(model.prepare(theta), panel.rows).numpy()
    lam = float(model.latents[0].scale * theta["latent1.log_diagonal"].exp())
    total = 0.0
    for i in range(panel.n):
        mine = panel.subject.numpy() == i
        sign = 2 * panel.rows.data.y.numpy()[mine] - 1
        log_p = -np.logaddexp(0, -sign[:, None] * (eta[mine][:, None] + lam * b)).sum(0)
        total += np.log(np.sum(np.exp(log_p) * stats.norm.pdf(b)) * (b[1] - b[0]))
    value = frozen_at(model, theta, panel, Quadrature(41)).value(theta)
    assert value == pytest.approx(total, abs=1e-8)


def test_modes_come_back_in_the_order_of_the_subjects() -> None:
    model, panel = small(GAUSSIAN[0])
    theta = random_theta(model, 4)
    found = places(frozen_at(model, theta, panel, Quadrature(3))).anchor.mode
    assert found.shape == (panel.n, model.k)
    np.testing.assert_allclose(found.numpy(), linear_gaussian(model, theta, panel)[0], atol=1e-8)


def test_quadrature_grows_and_ends() -> None:
    for k in (1, 2, 3):
        rule: Quadrature | None = Quadrature.default(k)
        points = []
        while rule is not None:
            points.append(rule.points)
            assert rule.count(k) == rule.points**k
            rule = rule.longer(k)
        assert points == sorted(set(points))
    with pytest.raises(ValueError, match="at most 3 random effects per subject, this model has 4"):
        Quadrature.default(4)


# -- derivatives ---------------------------------------------------------------------------------

DEEP = "y ~ x + dnn(w, hidden=(3,)) + (dnn(t, hidden=(3,)) | id)"
DIFFERENTIABLE = [
    (GAUSSIAN[0], "gaussian"),
    ("z ~ x + (t | id)", "bernoulli"),
    (DEEP, "gaussian"),
]


@pytest.mark.parametrize(("text", "family"), DIFFERENTIABLE)
@pytest.mark.parametrize("rule", RULES)
def test_value_and_gradient_are_those_of_autograd(text: str, family: str, rule: NodeRule) -> None:
    model, panel = small(text, family)
    frozen = frozen_at(model, random_theta(model, 4), panel, rule)
    theta = random_theta(model, 5)
    value, gradient = frozen.value_and_gradient(theta)
    vector = model.packing.pack(theta).requires_grad_()
    whole = frozen.objective(model.packing.unpack(vector))
    (known,) = torch.autograd.grad(whole, vector)
    assert value == pytest.approx(float(whole.detach()), abs=1e-8)
    assert value == pytest.approx(frozen.value(theta), abs=1e-8)
    assert torch.allclose(model.packing.pack(gradient), known, atol=1e-8, rtol=1e-8)


def test_the_gradient_in_some_parameters_is_that_part_of_the_whole() -> None:
    model, panel = small("y ~ x + dnn(w, hidden=(4,)) + (dnn(t, hidden=(4,)) | id)")
    theta = random_theta(model)
    frozen = frozen_at(model, theta, panel, Importance(64))
    value, whole = frozen.value_and_gradient(theta)
    free = ("beta", "latent1.Lambda", "dnn1.skip")
    again, part = frozen.value_and_gradient(theta, free)
    assert again == value
    assert set(part) == set(free)
    for name in free:
        torch.testing.assert_close(part[name], whole[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("text", "family"), DIFFERENTIABLE)
def test_scores_add_up_to_the_gradient(text: str, family: str) -> None:
    model, panel = small(text, family)
    theta = random_theta(model, 4)
    frozen = frozen_at(model, theta, panel, Quadrature(41))
    scores = frozen.scores(theta)
    assert scores.shape == (panel.n, model.packing.size)
    gradient = model.packing.pack(frozen.value_and_gradient(theta)[1])
    scale = scores.square().sum(0).sqrt().clamp(min=1.0)
    assert float(((scores.sum(0) - gradient) / scale).abs().max()) < 1e-5


def test_scores_are_those_of_the_single_subjects() -> None:
    model, panel = small("z ~ x + (t | id)", "bernoulli")
    theta = random_theta(model, 4)
    scores = frozen_at(model, theta, panel, Quadrature(31)).scores(theta)
    for i in (0, 7):
        alone = frozen_at(model, theta, panel.select(np.array([i])), Quadrature(31))
        gradient = model.packing.pack(alone.value_and_gradient(theta)[1])
        assert torch.allclose(scores[i], gradient, atol=1e-6)


@cache
def maximum(text: str, family: str, rule: NodeRule) -> tuple[Model, Theta, Frozen]:
    """A maximum of the likelihood, with the frozen likelihood anchored there."""
    model, panel = build(text, frame(60, 6, seed=5, missing=0.1), family)
    start = model.packing.unpack(torch.zeros(model.packing.size, dtype=torch.float64))
    done = polish(model, start, panel.observed_rows(), rule, seed=1)
    assert done.converged
    return model, done.theta, done.frozen


@pytest.mark.parametrize(
    ("text", "family"), [(GAUSSIAN[0], "gaussian"), ("z ~ x + (1 | id)", "bernoulli")]
)
@pytest.mark.parametrize("rule", [Quadrature(15), Importance(256)])
def test_central_differences_give_the_standard_errors_of_autograd(
    text: str, family: str, rule: NodeRule
) -> None:
    model, theta, frozen = maximum(text, family, rule)
    packing, vector = model.packing, model.packing.pack(theta)
    H = torch.autograd.functional.hessian(lambda v: frozen.objective(packing.unpack(v)), vector)
    known = np.sqrt(np.diag(invert(-H.numpy())))
    step = 0.02 * known

    def value(x: np.ndarray) -> float:
        return frozen.value(packing.unpack(torch.from_numpy(x)))

    def slope(x: np.ndarray) -> np.ndarray:
        gradient = frozen.value_and_gradient(packing.unpack(torch.from_numpy(x)))[1]
        return packing.pack(gradient).numpy()

    for found in (
        central_hessian(value, vector.numpy(), step),
        central_jacobian(slope, vector.numpy(), step),
    ):
        np.testing.assert_allclose(np.sqrt(np.diag(invert(-found.matrix))), known, rtol=1e-4)


def test_frozen_likelihood_is_repeatable() -> None:
    model, panel = small("z ~ x + (t | id)", "bernoulli")
    theta = random_theta(model, 4)
    first, again, other = (
        frozen_at(model, theta, panel, Importance(64), s).value(theta) for s in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_a_small_variance_is_not_taken_for_zero() -> None:
    # balanced one-way layout: tau^2 = max(0, (SSB / n - SSW / (n (J - 1))) / J), many near zero
    n, J, positive = 15, 4, 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        y = 0.35 * rng.normal(size=(n, 1)) + rng.normal(size=(n, J))
        table = pd.DataFrame({"id": np.repeat(np.arange(n), J), "y": y.ravel()})
        model, panel = build("y ~ 1 + (1 | id)", table)
        found = maximise(statistics(model, panel))
        within = ((y - y.mean(1, keepdims=True)) ** 2).sum() / (n * (J - 1))
        between = J * ((y.mean(1) - y.mean()) ** 2).sum() / n
        tau = np.sqrt(max(0.0, (between - within) / J))
        assert float(found.Lambda[0, 0]) == pytest.approx(tau, abs=1e-4)
        positive += tau > 0
    assert 10 < positive < 40


# -- nodes beyond the numbers --------------------------------------------------------------------


def test_a_node_whose_density_overflows_counts_for_nothing() -> None:
    model, panel = build("count ~ x + t + (1 | id)", frame(15, 5, seed=2, missing=0.2), "poisson")
    panel, theta = panel.observed_rows(), random_theta(model)
    frozen = frozen_at(model, theta, panel, Quadrature(5))
    pieces = []
    for piece in frozen.pieces:
        e, log_weight = piece.nodes
        far = torch.tensor([1e5, -1e200], dtype=e.dtype)[:, None, None]  # e^eta, b^2 are no numbers
        nodes = Nodes(torch.cat([e, far]), torch.cat([log_weight, torch.zeros(2, 1)]))
        pieces.append(piece._replace(nodes=nodes))
    beyond = replace(frozen, pieces=tuple(pieces))
    value, gradient = beyond.value_and_gradient(theta)
    known, slopes = frozen.value_and_gradient(theta)
    assert value == pytest.approx(known, rel=1e-14)
    torch.testing.assert_close(gradient, slopes, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(beyond.scores(theta), frozen.scores(theta), rtol=1e-12, atol=1e-12)
