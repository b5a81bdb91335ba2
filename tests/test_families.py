"""The contract of every family, and of every link: a new family adds a line to each table."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from toys import generator

from dgmm.families import Family, Observations, available, find
from dgmm.families.links import LINKS

CASES = [(name, link) for name in available() for link in find(name).links]
TRIALS = {"binomial": 7.0}
EXTRA = {"gaussian": torch.tensor([-0.4], dtype=torch.float64)}
POSITIVE = {("poisson", "identity"), ("poisson", "sqrt"), ("gaussian", "inverse")}

# impossible outcomes: (y, trials, weights) and words of the error
IMPOSSIBLE = {
    "bernoulli": [
        ((0.0, 2.0), (1.0, 1.0), "needs outcomes 0 and 1, found for example 2"),
        ((0.0, 0.5), (1.0, 1.0), "found for example 0.5"),
        ((0.0, 1.0), (1.0, 3.0), "family='binomial' with cbind"),
    ],
    "binomial": [
        ((5.0,), (3.0,), "found 5 out of 3"),
        ((-1.0,), (3.0,), "found -1 out of 3"),
        ((1.5,), (3.0,), "whole numbers of successes"),
        ((0.3,), (1.0,), "whole numbers of successes"),
    ],
    "gaussian": [],
    "poisson": [((3.0, -1.0), (1.0, 1.0), "found -1"), ((1.5,), (1.0,), "counts 0, 1, 2")],
}


def family_of(case: tuple[str, str]) -> Family:
    return find(*case)


def extra_of(family: Family) -> Tensor:
    return EXTRA.get(family.name, torch.zeros(0, dtype=torch.float64))


def etas(case: tuple[str, str]) -> Tensor:
    values = [0.4, 1.1, 1.9] if case in POSITIVE else [-1.6, 0.3, 1.2]
    return torch.tensor(values, dtype=torch.float64)


def observations(family: Family, y: Tensor, weight: float = 1.0) -> Observations:
    trials = TRIALS.get(family.name, 1.0)
    return Observations(y, torch.full_like(y, trials), torch.full_like(y, weight))


def support(family: Family, eta: Tensor) -> tuple[Tensor, Tensor]:
    """Every outcome (S, 1) with its measure, wide enough for all of eta."""
    if family.name == "gaussian":
        y = torch.linspace(-25.0, 25.0, 4001, dtype=torch.float64)
        return y[:, None], torch.full_like(y, 50.0 / 4000)[:, None]
    top = {"bernoulli": 1, "binomial": 7, "poisson": 150}[family.name]
    y = torch.arange(top + 1, dtype=torch.float64)[:, None]
    return y, torch.ones_like(y)


def enumerated(case: tuple[str, str]) -> tuple[Family, Tensor, Observations, Tensor]:
    """Family, eta (E,), all outcomes (S, E) and their probabilities (S, E)."""
    family, eta = family_of(case), etas(case)
    y, measure = support(family, eta)
    data = observations(family, y.expand(len(y), len(eta)).clone())
    density = family.log_density(data, eta, extra_of(family)).exp()
    return family, eta, data, density * measure


@pytest.mark.parametrize("case", CASES)
def test_density_has_total_one(case: tuple[str, str]) -> None:
    *_, probability = enumerated(case)
    assert torch.allclose(probability.sum(0), torch.ones(3, dtype=torch.float64), atol=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_mean_is_the_inverse_link_and_variance_is_right(case: tuple[str, str]) -> None:
    family, eta, data, probability = enumerated(case)
    response = family.response(data)
    mean = (probability * response).sum(0)
    assert torch.allclose(mean, family.mean(eta, extra_of(family)), atol=1e-8)
    assert torch.equal(family.mean(eta, extra_of(family)), family.link.inverse(eta))
    variance = (probability * (response - mean).square()).sum(0)
    one = Observations(*(column[0] for column in data))
    stated = family.variance(eta, one, extra_of(family))
    assert torch.allclose(variance, stated, atol=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_information_is_minus_the_expected_second_derivative(case: tuple[str, str]) -> None:
    family, eta, data, probability = enumerated(case)
    point = eta.expand_as(data.y).clone().requires_grad_()
    value = family.log_density(data, point, extra_of(family)).sum()
    (slope,) = torch.autograd.grad(value, point, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), point)
    expected = -(probability * second).sum(0)
    one = Observations(*(column[0] for column in data))
    assert torch.allclose(family.information(one, eta, extra_of(family)), expected, rtol=1e-8)
    assert torch.allclose((probability * slope).sum(0), torch.zeros_like(eta), atol=1e-8)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_information_times_working_residual_is_the_score(
    case: tuple[str, str], weight: float
) -> None:
    family, eta = family_of(case), etas(case).requires_grad_()
    data = observations(family, torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64), weight)
    value = family.log_density(data, eta, extra_of(family)).sum()
    (score,) = torch.autograd.grad(value, eta)
    with torch.no_grad():
        information = family.information(data, eta, extra_of(family))
        found = information * family.working_residual(data, eta, extra_of(family))
    assert torch.allclose(found, score, rtol=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_prior_weights_multiply_the_log_density(case: tuple[str, str]) -> None:
    family, eta = family_of(case), etas(case)
    y = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)
    plain = family.log_density(observations(family, y), eta, extra_of(family))
    weighted = family.log_density(observations(family, y, 2.5), eta, extra_of(family))
    if family.name == "gaussian":  # a weight divides the variance instead
        sd = math.exp(-0.4) / math.sqrt(2.5)
        plain = (
            torch.from_numpy(
                stats.norm.logpdf(y.numpy(), family.mean(eta, extra_of(family)).numpy(), sd)
            )
            / 2.5
        )
    assert torch.allclose(weighted, 2.5 * plain, rtol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_score_is_finite_far_out(case: tuple[str, str]) -> None:
    family = family_of(case)
    ends = [1e-3, 30.0] if case in POSITIVE else [-30.0, 30.0]
    for y in (0.0, 1.0):
        eta = torch.tensor(ends, dtype=torch.float64, requires_grad=True)
        data = observations(family, torch.full((2,), y, dtype=torch.float64))
        value = family.log_density(data, eta, extra_of(family))
        (score,) = torch.autograd.grad(value.sum(), eta)
        assert torch.isfinite(value).all(), (y, value)
        assert torch.isfinite(score).all(), (y, score)
        with torch.no_grad():
            assert torch.isfinite(family.working_residual(data, eta, extra_of(family))).all()
            information = family.information(data, eta, extra_of(family))
        assert torch.isfinite(information).all()
        assert (information >= 0).all()


@pytest.mark.parametrize("case", CASES)
def test_simulated_outcomes_have_the_mean_and_the_variance(case: tuple[str, str]) -> None:
    family, M = family_of(case), 20_000
    eta = etas(case).expand(M, 3)
    data = observations(family, torch.zeros(3, dtype=torch.float64))
    y = family.simulate(eta, data, extra_of(family), generator(3))
    assert y.shape == (M, 3)
    drawn = family.response(data._replace(y=y))
    mean = family.mean(eta[0], extra_of(family))
    error = drawn.std(0) / M**0.5
    assert ((drawn.mean(0) - mean).abs() < 4 * error).all()
    square = (drawn - mean).square()
    variance = family.variance(eta[0], data, extra_of(family))
    assert ((square.mean(0) - variance).abs() < 4 * square.std(0) / M**0.5).all()


@pytest.mark.parametrize("case", CASES)
def test_same_generator_same_draws(case: tuple[str, str]) -> None:
    family = family_of(case)
    eta = etas(case).expand(50, 3)
    data = observations(family, torch.zeros(3, dtype=torch.float64))
    first, again, other = (
        family.simulate(eta, data, extra_of(family), generator(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("case", CASES)
def test_simulated_outcomes_are_possible(case: tuple[str, str]) -> None:
    family = family_of(case)
    data = observations(family, torch.zeros(3, dtype=torch.float64))
    y = family.simulate(etas(case).expand(50, 3), data, extra_of(family), generator(1)).numpy()
    trials = np.full_like(y, TRIALS.get(family.name, 1.0))
    read, _, _ = family.read(y, trials, np.ones_like(y))
    np.testing.assert_array_equal(read, y)


@pytest.mark.parametrize("case", CASES)
def test_draws_in_front_broadcast(case: tuple[str, str]) -> None:
    family, eta = family_of(case), etas(case)
    data = observations(family, torch.ones(3, dtype=torch.float64))
    table = family.log_density(data, torch.stack([eta, eta + 0.1]), extra_of(family))
    assert table.shape == (2, 3)
    assert torch.equal(table[1], family.log_density(data, eta + 0.1, extra_of(family)))


@pytest.mark.parametrize("case", CASES)
def test_starts_are_inside_the_range_of_the_link(case: tuple[str, str]) -> None:
    family = family_of(case)
    y = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    data = observations(family, y)
    mean = family.start_mean(data)
    assert torch.isfinite(family.link.forward(mean)).all()
    extra = family.start_extra(data, mean)
    assert extra.shape == (len(family.extra),)
    assert torch.isfinite(extra).all()


def test_the_gaussian_scale_starts_at_the_residual_root_mean_square() -> None:
    family = find("gaussian")
    y = torch.tensor([1.0, 3.0, 5.0], dtype=torch.float64)
    extra = family.start_extra(observations(family, y), torch.full_like(y, 3.0))
    assert float(extra[0]) == pytest.approx(0.5 * math.log(8 / 3))


@pytest.mark.parametrize("name", available())
def test_every_family_has_its_impossible_outcomes_listed(name: str) -> None:
    assert name in IMPOSSIBLE


@pytest.mark.parametrize(
    ("name", "outcome"), [(name, case) for name, cases in IMPOSSIBLE.items() for case in cases]
)
def test_impossible_outcomes_are_refused_in_words(name: str, outcome: tuple) -> None:
    y, trials, words = outcome
    with pytest.raises(ValueError, match=words) as caught:
        find(name).read(np.array(y), np.array(trials), np.ones(len(y)))
    assert f"family {name!r}" in str(caught.value)


def test_proportions_with_weights_are_counts_out_of_trials() -> None:
    y, trials, weights = find("binomial").read(
        np.array([0.25, 1.0]), np.ones(2), np.array([8.0, 3.0])
    )
    assert (y.tolist(), trials.tolist(), weights.tolist()) == ([2, 3], [8, 3], [1, 1])


@pytest.mark.parametrize("name", ["gaussian", "poisson"])
def test_a_family_without_trials_reads_a_ratio(name: str) -> None:
    y, trials, _ = find(name).read(np.array([6.0, 8.0]), np.array([2.0, 4.0]), np.ones(2))
    assert (y.tolist(), trials.tolist()) == ([3, 2], [1, 1])


@pytest.mark.parametrize("name", available())
def test_unknown_link_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(ValueError, match=f"family '{name}' has no link 'cauchit'") as caught:
        find(name, "cauchit")
    for link in find(name).links:
        assert link in str(caught.value)


def test_an_instance_is_taken_as_it_is() -> None:
    family = find("poisson", "sqrt")
    assert find(family) is family
    assert repr(family) == "poisson(link='sqrt')"


# -- links ---------------------------------------------------------------------------------------

MEANS = {"identity": (-2.0, 3.0), "log": (0.1, 5.0), "sqrt": (0.1, 5.0), "inverse": (0.2, 5.0)}


def means(name: str) -> Tensor:
    low, high = MEANS.get(name, (0.02, 0.98))
    return torch.linspace(low, high, 25, dtype=torch.float64)


@pytest.mark.parametrize("name", LINKS)
def test_inverse_undoes_forward(name: str) -> None:
    mu = means(name)
    eta = LINKS[name].forward(mu)
    assert torch.allclose(LINKS[name].inverse(eta), mu, atol=1e-12)
    assert torch.allclose(LINKS[name].forward(LINKS[name].inverse(eta)), eta, atol=1e-10)


@pytest.mark.parametrize("name", LINKS)
def test_derivative_is_that_of_the_inverse(name: str) -> None:
    eta = LINKS[name].forward(means(name)).requires_grad_()
    (slope,) = torch.autograd.grad(LINKS[name].inverse(eta).sum(), eta)
    assert torch.allclose(LINKS[name].derivative(eta), slope, rtol=1e-10)


@pytest.mark.parametrize("name", LINKS)
def test_logs_of_the_mean_and_its_complement(name: str) -> None:
    link, mu = LINKS[name], means(name)
    mu = mu[mu > 0]
    eta = link.forward(mu)
    assert torch.allclose(link.log_mean(eta), mu.log(), atol=1e-10)
    if link.log_complement is not None:
        assert torch.allclose(link.log_complement(eta), torch.log1p(-mu), atol=1e-10)


@pytest.mark.parametrize("name", ["logit", "probit", "cloglog"])
def test_logs_keep_their_digits_in_the_tails(name: str) -> None:
    link = LINKS[name]
    assert link.log_complement is not None
    low = torch.tensor(-30.0, dtype=torch.float64)
    known = {"logit": -30.0, "probit": float(stats.norm.logcdf(-30)), "cloglog": -30.0}[name]
    assert float(link.log_mean(low)) == pytest.approx(known, rel=1e-10)
    high = {"logit": -30.0, "probit": float(stats.norm.logcdf(-30)), "cloglog": -math.exp(30)}
    assert float(link.log_complement(-low)) == pytest.approx(high[name], rel=1e-10)
