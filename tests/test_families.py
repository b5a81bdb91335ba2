"""Families and links against closed forms: a new family adds a line to each table.

What every family must keep in any case is in dgmm.checking, see test_checking.py.
"""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from toys import generator

from dgmm.families import Family, Observations, available, find
from dgmm.families.base import Derivatives
from dgmm.families.links import LINKS
from dgmm.families.naming import NEAR

WRAPPED = (
    "zero_inflated_negative_binomial",
    "zero_inflated_binomial",
    "hurdle_negative_binomial",
    "hurdle_gamma",
    "hurdle_lognormal",
)
TOLERANCE = 1e-7  # of the quadrature at the ends of an interval
CASES = [(name, link) for name in (*available(), *WRAPPED) for link in find(name).links]
OPTIONS: dict[str, dict] = {
    "cumulative": {"categories": 4, "first": 1},
    "beta": {"bounds": (1.0, 7.0)},
    "ordered_beta": {"bounds": (1.0, 7.0)},
    "zero_one_inflated_beta": {"bounds": (1.0, 7.0)},
    "logit_normal": {"bounds": (1.0, 7.0)},
    "censored_gaussian": {"bounds": (-1.0, 2.0)},
}
VALUES = {
    "gaussian": [-0.4],
    "student_t": [-0.4, 1.9],
    "lognormal": [-0.4],
    "gamma": [0.5],
    "inverse_gaussian": [0.7],
    "beta_binomial": [0.8],
    "negative_binomial": [0.9],
    "nb1": [-0.5],
    "generalized_poisson": [-1.0],
    "beta": [2.5],
    "ordered_beta": [-1.0, 0.7, 2.5],
    "zero_one_inflated_beta": [2.5, -0.8, -0.4],
    "logit_normal": [-0.4],
    "censored_gaussian": [-0.4],
    "cumulative": [-0.8, -0.2, 0.3],
    "zero_inflated_poisson": [-0.6],
    "zero_inflated_binomial": [-0.6],
    "hurdle_poisson": [-0.6],
    "zero_inflated_negative_binomial": [0.9, -0.6],
    "hurdle_negative_binomial": [0.9, -0.6],
    "hurdle_gamma": [0.5, -0.6],
    "hurdle_lognormal": [-0.4, -0.6],
}
EXACT = {  # the stated information is the expected one
    *("gaussian", "bernoulli", "binomial", "poisson", "student_t", "lognormal", "gamma"),
    *("inverse_gaussian", "negative_binomial", "beta", "censored_gaussian", "cumulative"),
    *("zero_one_inflated_beta", "logit_normal"),
}
LEGAL = {"real": [0.0, 1.0], "positive": [0.3, 2.0], "interval": [1.5, 6.0], "ordered": [1.0, 3.0]}

# impossible outcomes: (y, trials, weights) and words of the error
IMPOSSIBLE = {
    "bernoulli": [
        ((0.0, 2.0), (1.0, 1.0), "needs outcomes 0 and 1, found 2"),
        ((0.0, 0.5), (1.0, 1.0), "found 0.5"),
        ((0.0, 1.0), (1.0, 3.0), "family='binomial' with cbind"),
    ],
    "student_t": [],
    "lognormal": [((2.0, 0.0), (1.0, 1.0), "row 1: .* above 0, found 0.*hurdle_gamma")],
    "gamma": [((2.0, -3.0), (1.0, 1.0), "row 1: .* above 0, found -3")],
    "inverse_gaussian": [((0.0,), (1.0,), "above 0, found 0")],
    "beta_binomial": [((5.0,), (3.0,), "found 5 out of 3")],
    "negative_binomial": [((1.5,), (1.0,), "counts 0, 1, 2, .*found 1.5.*gamma")],
    "nb1": [((np.inf,), (1.0,), "up to 2.53, found inf")],
    "generalized_poisson": [((1e17,), (1.0,), "lose whole numbers")],
    "beta": [((0.5, 1.0), (1.0, 1.0), "row 1: .*strictly between 0 and 1.*ordered_beta")],
    "ordered_beta": [((0.5, 1.2), (1.0, 1.0), "row 1: .*from 0 to 1, found 1.2")],
    "zero_one_inflated_beta": [((0.5, 1.2), (1.0, 1.0), "row 1: .*from 0 to 1, found 1.2")],
    "logit_normal": [((0.5, 0.0), (1.0, 1.0), "row 1: .*strictly between 0 and 1.*ordered_beta")],
    "censored_gaussian": [((0.5, -1.2), (1.0, 1.0), "row 1: .*from 0 to inf")],
    "cumulative": [((1.0, 2.5), (1.0, 1.0), "row 1: .*consecutive whole numbers, found 2.5")],
    "zero_inflated": [((3.0, -1.0), (1.0, 1.0), "row 1: .*found -1")],
    "hurdle": [((0.0, 2.5), (1.0, 1.0), "row 1: .*found 2.5")],
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
    return find(*case, **OPTIONS.get(case[0], {}))


def extra_of(family: Family) -> Tensor:
    return torch.tensor(VALUES.get(family.name, []), dtype=torch.float64)


def closed_derivatives(case: tuple[str, str]) -> Derivatives | None:
    family = family_of(case)
    return family.derivatives(some(family), etas(case), extra_of(family))


def positive(case: tuple[str, str]) -> bool:
    return case[1] in ("inverse", "sqrt") or (
        (case[1] == "identity" and find(case[0]).support in ("counts", "positive"))
        and "lognormal" not in case[0]
    )


def etas(case: tuple[str, str]) -> Tensor:
    if find(case[0]).support == "interval":  # shapes above 1, or the ends need more digits
        return torch.tensor([-0.6, 0.1, 0.5], dtype=torch.float64)
    values = [0.4, 1.1, 1.9] if positive(case) else [-1.6, 0.3, 1.2]
    return torch.tensor(values, dtype=torch.float64)


def legal(family: Family) -> list[float]:
    """Two possible outcomes; zeros and ends of an interval where there is mass."""
    if family.atoms and family.name != "censored_gaussian":
        return [1.0, 6.0] if family.bounded else [0.0, 2.0]
    return LEGAL.get(family.support, [0.0, 1.0])


def observations(family: Family, y: Tensor, weight: float = 1.0) -> Observations:
    trials = 7.0 if family.support == "trials" else 1.0
    return Observations(y, torch.full_like(y, trials), torch.full_like(y, weight))


def some(family: Family, weight: float = 1.0) -> Observations:
    low, high = legal(family)
    return observations(family, torch.tensor([low, high, high], dtype=torch.float64), weight)


def support(family: Family) -> tuple[Tensor, Tensor]:
    """Every outcome (S, 1) with its measure, wide enough for all of eta."""
    grid = torch.linspace(-45.0, 45.0, 9001, dtype=torch.float64)
    step = torch.tensor(0.01, dtype=torch.float64)
    if family.name == "censored_gaussian":
        lower, upper = family.options()["bounds"]
        nodes, weights = np.polynomial.legendre.leggauss(200)
        y = 0.5 * (lower + upper) + 0.5 * (upper - lower) * torch.from_numpy(nodes)
        inner = torch.from_numpy(weights) * 0.5 * (upper - lower)
        y, measure = with_mass(y, inner, [lower, upper])
    elif family.support == "real":
        y, measure = torch.sinh(grid), step * torch.cosh(grid)
    elif family.support == "positive":
        y, measure = torch.exp(grid[:6000]), step * torch.exp(grid[:6000])
        if family.name.startswith("hurdle"):
            y, measure = with_mass(y, measure, [0.0])
    elif family.support == "interval":
        lower, upper = family.options()["bounds"]
        middle = grid[(grid > -30) & (grid < 30)]  # y itself keeps no more digits at its ends
        y = lower + (upper - lower) * torch.sigmoid(middle)
        measure = step * (upper - lower) * torch.sigmoid(middle) * torch.sigmoid(-middle)
        y, measure = with_mass(y, measure, list(family.atoms))
    else:
        tops = {"binary": 1, "trials": 7, "counts": 400, "ordered": 3}
        y = torch.arange(tops[family.support] + 1, dtype=torch.float64)
        y = y + 1 if family.support == "ordered" else y
        measure = torch.ones_like(y)
    return y[:, None], measure[:, None]


def with_mass(y: Tensor, measure: Tensor, points: list[float]) -> tuple[Tensor, Tensor]:
    at = torch.tensor(points, dtype=torch.float64)
    return torch.cat([y, at]), torch.cat([measure, torch.ones_like(at)])


def enumerated(case: tuple[str, str]) -> tuple[Family, Tensor, Observations, Tensor]:
    """Family, eta (E,), all outcomes (S, E) and their probabilities (S, E)."""
    family, eta = family_of(case), etas(case)
    y, measure = support(family)
    data = observations(family, y.expand(len(y), len(eta)).clone())
    density = family.log_density(data, eta, extra_of(family)).exp()
    return family, eta, data, density * measure


@pytest.mark.parametrize("case", CASES)
def test_density_has_total_one(case: tuple[str, str]) -> None:
    *_, probability = enumerated(case)
    assert torch.allclose(probability.sum(0), torch.ones(3, dtype=torch.float64), atol=TOLERANCE)


@pytest.mark.parametrize("case", CASES)
def test_mean_variance_and_slope_are_right(case: tuple[str, str]) -> None:
    family, eta, data, probability = enumerated(case)
    response = family.response(data)
    mean = (probability * response).sum(0)
    assert torch.allclose(mean, family.mean(eta, extra_of(family)), rtol=1e-7, atol=1e-7)
    point = eta.clone().requires_grad_()
    (slope,) = torch.autograd.grad(family.mean(point, extra_of(family)).sum(), point)
    assert torch.allclose(family.mean_slope(eta, extra_of(family)), slope, rtol=1e-8)
    variance = (probability * (response - mean).square()).sum(0)
    one = Observations(*(column[0] for column in data))
    stated = family.variance(eta, one, extra_of(family))
    assert torch.allclose(variance, stated, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("case", CASES)
def test_the_variance_of_an_observation_has_the_moments_of_the_density(
    case: tuple[str, str],
) -> None:
    family, eta, data, probability = enumerated(case)
    extra, step = extra_of(family), 1e-5
    assert torch.allclose(family.predictor(family.mean(eta, extra), extra), eta, atol=1e-8)
    if family.support == "trials" or "sigma^2" in family.observation_formula():
        return  # several trials here, one in the definition; or a latent variable
    response = family.response(data)
    mean = (probability * response).sum(0)
    variance = (probability * (response - mean).square()).sum(0)

    def expected(point: Tensor) -> Tensor:
        return (family.log_density(data, point, extra).exp() * measure_of(family) * response).sum(0)

    slope = (expected(eta + step) - expected(eta - step)) / (2 * step)
    ratio, elasticity = variance / mean.square(), slope / mean
    forms = {"delta": variance / slope.square()}
    if case[1] == "log" or "lognormal" in case[0]:
        forms["lognormal"] = torch.log1p(ratio) / elasticity.square()
        forms["trigamma"] = torch.polygamma(1, 1 / ratio) / elasticity.square()
    for form, value in forms.items():
        if not family.threshold:
            found = family.observation_variance(eta, extra, form)
            assert torch.allclose(found, value, rtol=1e-4), (form, found, value)


def measure_of(family: Family) -> Tensor:
    return support(family)[1]


@pytest.mark.parametrize("case", CASES)
def test_information_is_minus_the_expected_second_derivative(case: tuple[str, str]) -> None:
    family, eta, data, probability = enumerated(case)
    point = eta.expand_as(data.y).clone().requires_grad_()
    value = family.log_density(data, point, extra_of(family)).sum()
    (slope,) = torch.autograd.grad(value, point, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), point)
    expected = -(probability * second).sum(0)
    one = Observations(*(column[0] for column in data))
    stated = family.information(one, eta, extra_of(family))
    if family.name in EXACT:
        assert torch.allclose(stated, expected, rtol=1e-5)
    assert (stated <= expected * (1 + 1e-5)).all()  # else a lower bound
    assert (stated > 0).all()
    assert torch.allclose((probability * slope).sum(0), torch.zeros_like(eta), atol=1e-5)
    residual = family.working_residual(data, eta.expand_as(data.y), extra_of(family))
    assert torch.allclose((probability * residual).sum(0), torch.zeros_like(eta), atol=1e-5)


@pytest.mark.parametrize("case", [case for case in CASES if case[0] in EXACT])
@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_information_times_working_residual_is_the_score(
    case: tuple[str, str], weight: float
) -> None:
    family, eta = family_of(case), etas(case).requires_grad_()
    data = some(family, weight)
    value = family.log_density(data, eta, extra_of(family)).sum()
    (score,) = torch.autograd.grad(value, eta)
    with torch.no_grad():
        information = family.information(data, eta, extra_of(family))
        found = information * family.working_residual(data, eta, extra_of(family))
    assert torch.allclose(found, score, rtol=1e-8)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_the_score_is_the_slope_of_the_log_density(case: tuple[str, str], weight: float) -> None:
    """In eta, and where it is itself differentiated, in eta and in the extra parameters."""
    family, eta = family_of(case), etas(case).requires_grad_()
    extra, data = extra_of(family).clone().requires_grad_(), some(family, weight)
    value = family.log_density(data, eta, extra).sum()
    (slope,) = torch.autograd.grad(value, eta, create_graph=True)
    score = family.score(data, eta, extra)
    torch.testing.assert_close(score, slope, rtol=1e-8, atol=1e-10)

    def further(first: torch.Tensor) -> list[torch.Tensor]:
        given = (eta, extra)
        if not first.requires_grad:
            return [torch.zeros_like(one) for one in given]
        found = torch.autograd.grad(first.sum(), given, allow_unused=True, retain_graph=True)
        pairs = zip(given, found, strict=True)
        return [torch.zeros_like(one) if its is None else its for one, its in pairs]

    for found, known in zip(further(score), further(slope), strict=True):
        torch.testing.assert_close(found, known, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_prior_weights_multiply_the_log_density(case: tuple[str, str]) -> None:
    family, eta = family_of(case), etas(case)
    y = some(family).y
    plain = family.log_density(some(family), eta, extra_of(family))
    weighted = family.log_density(some(family, 2.5), eta, extra_of(family))
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
@pytest.mark.parametrize("far", [0.0, -15.0, 15.0])
def test_everything_is_finite_far_out(case: tuple[str, str], far: float) -> None:
    family = family_of(case)
    ends = [1e-3, 30.0] if positive(case) else [-30.0, 30.0]
    for y in legal(family):
        eta = torch.tensor(ends, dtype=torch.float64, requires_grad=True)
        extra = extra_of(family) if far == 0 else torch.full_like(extra_of(family), far)
        extra.requires_grad_()
        data = observations(family, torch.full((2,), y, dtype=torch.float64))
        value = family.log_density(data, eta, extra)
        found = [value]
        if family.extra:
            found += torch.autograd.grad(value.sum(), extra, create_graph=True)
        for _ in range(3):
            if value.requires_grad:
                (value,) = torch.autograd.grad(value.sum(), eta, create_graph=True)
                found.append(value)
        for derivative in found:
            assert torch.isfinite(derivative).all(), (y, derivative)
        with torch.no_grad():
            information = family.information(data, eta, extra)
            if far == 0:
                assert torch.isfinite(family.working_residual(data, eta, extra)).all()
                assert torch.isfinite(information).all()
                assert (information >= 0).all()


@pytest.mark.parametrize("case", CASES)
def test_extra_parameters_may_differ_by_row(case: tuple[str, str]) -> None:
    family, eta = family_of(case), etas(case)
    extra, data = extra_of(family), some(family)
    rows = extra[:, None].expand(len(extra), 3).clone()
    for method in (family.log_density, family.information, family.working_residual):
        assert torch.allclose(method(data, eta, rows), method(data, eta, extra), rtol=1e-10)
    assert torch.allclose(family.variance(eta, data, rows), family.variance(eta, data, extra))
    assert torch.allclose(family.mean(eta, rows), family.mean(eta, extra))
    assert torch.allclose(family.mean_slope(eta, rows), family.mean_slope(eta, extra))
    one, two = (family.simulate(eta, data, e, generator(1)) for e in (rows, extra))
    assert torch.allclose(one, two)


@pytest.mark.parametrize("case", [case for case in CASES if closed_derivatives(case) is not None])
def test_closed_derivatives_are_those_of_autograd(case: tuple[str, str]) -> None:
    family, eta = family_of(case), etas(case).requires_grad_()
    extra, data = extra_of(family), some(family, 2.5)
    closed = family.derivatives(data, eta, extra)
    assert closed is not None
    value = family.log_density(data, eta, extra)
    assert torch.allclose(closed.value + family.constant(data), value, rtol=1e-12)
    for derivative in closed[1:4]:
        (value,) = torch.autograd.grad(value.sum(), eta, create_graph=True)
        assert torch.allclose(derivative, value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_simulated_outcomes_have_the_mean_and_the_variance(case: tuple[str, str]) -> None:
    family, M = family_of(case), 20_000
    eta = etas(case).expand(M, 3)
    data = some(family)
    y = family.simulate(eta, data, extra_of(family), generator(3))
    assert y.shape == (M, 3)
    drawn = family.response(data._replace(y=y))
    mean = family.mean(eta[0], extra_of(family))
    error = drawn.std(0) / M**0.5
    assert ((drawn.mean(0) - mean).abs() < 4 * error).all()
    square = (drawn - mean).square()
    variance = family.variance(eta[0], data, extra_of(family))
    assert ((square.mean(0) - variance).abs() < 4 * square.std(0) / M**0.5).all()


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
    assert f"family {find(name).name!r}" in str(caught.value)


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
    own = find(name).base.name if find(name).wraps else name
    with pytest.raises(ValueError, match=f"family '{own}' has no link 'cauchit'") as caught:
        find(name, "cauchit")
    for link in find(name).links:
        assert link in str(caught.value)


def test_an_instance_is_taken_as_it_is() -> None:
    family = find("poisson", "sqrt")
    assert find(family) is family
    assert repr(family) == "poisson(link='sqrt')"


def test_other_names_and_wrappers() -> None:
    assert find("nbinom2").name == find("nb2").name == "negative_binomial"
    assert find("t").name == "student_t"
    assert find("tobit", bounds=(None, 3.0)).options()["bounds"] == (None, 3.0)
    assert find("hurdle_nbinom2").name == "hurdle_negative_binomial"
    assert find("zero_inflated_poisson").extra == ("logit_zero",)
    with pytest.raises(ValueError, match="unknown family 'poison'; did you mean 'poisson'"):
        find("zero_inflated_poison")
    with pytest.raises(ValueError, match="family 'gamma' has no bounds.*beta.*ordered_beta"):
        find("gamma", bounds=(0, 1))
    with pytest.raises(ValueError, match="its own"):
        find(find("gamma"), "log")
    with pytest.raises(ValueError, match="needs a base of counts, not 'gamma'"):
        find("zero_inflated_gamma")


def test_an_ordinal_family_counts_its_categories() -> None:
    family = find("ordinal").fitted_to(np.array([3.0, 1.0, 2.0, 2.0]))
    assert family.extra == ("threshold1", "log_step2")
    assert family.options() == {"link": "logit", "categories": 3, "first": 1, "labels": ()}
    assert family.natural_names() == ("1|2", "2|3")
    assert not family.intercept
    with pytest.raises(ValueError, match="consecutive categories, found 1, 3"):
        find("ordinal").fitted_to(np.array([3.0, 1.0]))
    with pytest.raises(ValueError, match="categories 1 to 3, found 4"):
        family.read(np.array([4.0]), np.ones(1), np.ones(1))


# -- distribution functions ----------------------------------------------------------------------

WITHOUT = {"beta_binomial", "generalized_poisson", "own"}
"""Families that know no distribution function."""

KNOWN = [case for case in CASES if find(case[0]).name not in WITHOUT]
DISCRETE = ("binary", "counts", "trials", "ordered")


@pytest.mark.parametrize("case", KNOWN)
def test_the_distribution_function_belongs_to_the_density(case: tuple[str, str]) -> None:
    family, eta, extra = family_of(case), etas(case), extra_of(family_of(case))
    low, high = legal(family)

    def at(y: float) -> tuple[Tensor, Tensor]:
        found = family.distribution(observations(family, torch.full_like(eta, y)), eta, extra)
        assert found is not None
        return found

    def density(y: float) -> Tensor:
        data = observations(family, torch.full_like(eta, y))
        return family.log_density(data, eta, extra).exp()

    if family.support in DISCRETE:
        assert torch.equal(at(low)[0], torch.zeros_like(eta))
        before = at(low)[0]
        last = {"trials": 7.0, "ordered": 4.0}.get(family.support, high)
        for y in np.arange(low, last + 1):
            below, up_to = at(float(y))
            assert torch.allclose(below, before, atol=1e-12)
            assert torch.allclose(up_to - below, density(float(y)), rtol=1e-8, atol=1e-12)
            before = up_to
        if family.support != "counts":
            assert torch.allclose(before, torch.ones_like(eta), atol=1e-12)
        return
    for y in family.atoms:
        below, up_to = at(y)
        assert torch.allclose(up_to - below, density(y), rtol=1e-10)
    step, inner = 1e-5, [low + share * (high - low) for share in (0.2, 0.6, 0.9)]
    for y in inner:
        assert torch.equal(*at(y))
        slope = (at(y + step)[0] - at(y - step)[0]) / (2 * step)
        assert torch.allclose(slope, density(y), rtol=1e-6)
    if family.support == "positive":
        least = density(0.0) if family.atoms else torch.zeros_like(eta)
        assert torch.allclose(at(1e-12)[0], least, atol=1e-4)
        return
    far = 1e9 if family.name == "student_t" else 60.0
    ends = family.options().get("bounds", (-far, far) if family.support == "real" else (0, 1))
    assert torch.allclose(at(ends[0])[0], torch.zeros_like(eta), atol=1e-12)
    assert torch.allclose(at(ends[1])[1], torch.ones_like(eta), atol=1e-12)


@pytest.mark.parametrize("case", KNOWN)
def test_simulated_outcomes_have_uniform_randomised_ranks(case: tuple[str, str]) -> None:
    """P(Y < y) + U P(Y = y) of outcomes y of the family is uniform."""
    family, extra = family_of(case), extra_of(family_of(case))
    ends = (0.4, 1.9) if positive(case) else (-0.8, 0.8)
    eta = torch.linspace(*ends, 4000, dtype=torch.float64)
    data = observations(family, torch.full_like(eta, legal(family)[1]))
    y = family.simulate(eta, data, extra, generator(4))
    found = family.distribution(data._replace(y=y), eta, extra)
    assert found is not None
    u = np.random.default_rng(5).uniform(size=len(eta))
    pit = found[0].numpy() + u * (found[1] - found[0]).numpy()
    assert stats.kstest(pit, "uniform").pvalue > 0.01


def test_the_mean_of_a_wide_logit_normal() -> None:
    """Its rule beside one of 4,001 nodes, up to sigma = 5, the mean found again from it."""
    family, z = (
        find("logit_normal", bounds=(1.0, 7.0)),
        torch.linspace(-10, 10, 4001, dtype=torch.float64),
    )
    weight = torch.exp(-0.5 * z.square())
    eta = torch.tensor([-4.0, 0.3, 2.0], dtype=torch.float64)
    for sigma, bar in ((0.3, 1e-14), (3.0, 1e-11), (5.0, 1e-6)):
        extra = torch.tensor([math.log(sigma)], dtype=torch.float64)
        mean = 1 + 6 * torch.sigmoid(eta[:, None] + sigma * z) @ weight / weight.sum()
        assert torch.allclose(family.mean(eta, extra), mean, rtol=bar)
        assert torch.allclose(family.predictor(mean, extra), eta, atol=1e-5)


TWINS = {
    "student_t": lambda y, m: stats.t.logpdf(y, math.exp(1.9), m, math.exp(-0.4)),
    "lognormal": lambda y, m: stats.lognorm.logpdf(y, math.exp(-0.4), scale=np.exp(m)),
    "gamma": lambda y, m: stats.gamma.logpdf(y, math.exp(0.5), scale=m / math.exp(0.5)),
    "inverse_gaussian": lambda y, m: stats.invgauss.logpdf(
        y, m / math.exp(0.7), scale=math.exp(0.7)
    ),
    "beta_binomial": lambda y, m: stats.betabinom.logpmf(
        y, 7, m * math.exp(0.8), (1 - m) * math.exp(0.8)
    ),
    "negative_binomial": lambda y, m: stats.nbinom.logpmf(
        y, math.exp(0.9), math.exp(0.9) / (math.exp(0.9) + m)
    ),
    "nb1": lambda y, m: stats.nbinom.logpmf(y, m / math.exp(-0.5), 1 / (1 + math.exp(-0.5))),
    "beta": lambda y, m: stats.beta.logpdf(
        y, m * math.exp(2.5), (1 - m) * math.exp(2.5), loc=1, scale=6
    ),
    "logit_normal": lambda y, m: (
        stats.norm.logpdf(np.log((y - 1) / (7 - y)), m, math.exp(-0.4))
        - np.log((y - 1) * (7 - y) / 6)
    ),
}


@pytest.mark.parametrize("case", [case for case in CASES if case[0] in TWINS])
def test_log_densities_of_scipy(case: tuple[str, str]) -> None:
    family, eta = family_of(case), etas(case)
    data, location = some(family), family.link.inverse(eta).numpy()
    twin = TWINS[case[0]](data.y.numpy(), location)
    ours = family.log_density(data, eta, extra_of(family))
    np.testing.assert_allclose(ours.numpy(), twin, rtol=1e-9)


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


# -- copies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LINKS)
def test_a_link_is_copied_and_pickled_by_its_name(name: str) -> None:
    link = LINKS[name]
    assert copy.deepcopy(link) is link
    assert pickle.loads(pickle.dumps(link)) is link


@pytest.mark.parametrize("word", NEAR)
def test_names_of_other_programs_hint_at_a_family(word: str) -> None:
    assert find(NEAR[word]).name == NEAR[word]
    with pytest.raises(ValueError, match=f"unknown family '{word}'; did you mean '{NEAR[word]}'"):
        find(word)


@pytest.mark.parametrize(
    ("word", "meant"),
    [("nbinom", "negative_binomial"), ("Gamma", "gamma"), ("beta-binomial", "beta_binomial"),
     ("negative.binomial", "negative_binomial"), ("inverse.gaussian", "inverse_gaussian"),
     ("Negative Binomial", "negative_binomial"), ("binomail", "binomial")],
)  # fmt: skip
def test_a_word_that_is_nearly_right_hints_at_the_family_meant(word: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        find(word)


def test_zeros_beside_proportions_have_a_family() -> None:
    with pytest.raises(ValueError, match="beside proportions family='ordered_beta'"):
        find("zero_inflated_beta")
