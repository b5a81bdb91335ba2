"""Every likelihood against dense algebra or brute force: value, gradient, scores, information,
posterior, other rows. A class that appears in dgmm/likelihood is under this contract that day.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from toys import build, crossed_frame, frame, random_theta
from twins import Known, kind_of, twin_of

import dgmm.likelihood
from dgmm.likelihood import Likelihood, choose
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta

# -- the models ------------------------------------------------------------------------------------


def one_factor() -> pd.DataFrame:
    return frame(8, 4, seed=2)


def two_visits() -> pd.DataFrame:
    """Paths of two states, over which a grid is possible."""
    return frame(8, 2, seed=2)


def with_gaps() -> pd.DataFrame:
    """Some outcomes are missing, and all those of two subjects."""
    data = frame(9, 4, seed=3, missing=0.2)
    data.loc[data.id.isin([0, 5]), ["y", "z", "count", "hits"]] = np.nan
    return data


def several() -> pd.DataFrame:
    return crossed_frame(rows=60)


def several_with_gaps() -> pd.DataFrame:
    """Some outcomes are missing, and all those of a level of each factor."""
    data = crossed_frame(rows=70)
    lost = data.a.eq(3) | data.b.eq("r") | (np.arange(70) % 11 == 0)
    data.loc[lost, ["y", "z", "count", "hits"]] = np.nan
    return data


@dataclass(frozen=True)
class Case:
    """A model, its frame, and the words of ``likelihood=`` that are to work for it."""

    text: str
    words: tuple[str, ...]
    data: Callable[[], pd.DataFrame] = one_factor
    family: str = "gaussian"
    weights: str = ""

    def __str__(self) -> str:
        told = [self.text.replace(" ", ""), self.family, self.weights]
        told += [self.data.__name__.replace("_", "-")]
        return "_".join(word for word in told if word)


CLOSED = ("exact", "laplace", "quadrature")
ALL = (*CLOSED, "importance")
NODES = ("laplace", "quadrature", "importance")
CASES = (
    Case("y ~ x + t + (1 | id)", CLOSED),
    Case("y ~ x + t + (t | id)", ALL),
    Case("y ~ x + t + (t || id)", CLOSED),
    Case("y ~ x + (1 | id) + (0 + t | id)", CLOSED),
    Case("y ~ x + (1 | id) + (0 + t + w || id)", CLOSED),
    Case("y ~ 1 + (t + w | id)", ALL),
    Case("y ~ x + (t | id)", ALL, weights="w"),
    Case("y ~ x + offset(w) + (t | id)", CLOSED),
    Case("y ~ x + t + (t | id)", ALL, with_gaps),
    Case("y ~ x + offset(t) + (1 | id)", ALL, with_gaps, weights="w"),
    Case("y ~ x + (1 | a) + (1 | b)", ("exact",), several),
    Case("y ~ x + (t | a) + (1 | b)", ("exact",), several, weights="w"),
    Case("y ~ x + (1 | a / c)", ("exact",), several),
    Case("y ~ x + (x || a) + (t | b) + (0 + t | a)", ("exact",), several),
    Case("y ~ x + offset(t) + (1 | a / c) + (1 | b)", ("exact",), several_with_gaps, weights="w"),
    Case("y ~ x + (ou(t) | id)", ("exact", "filter"), with_gaps),
    Case("y ~ x + (1 | id) + (ou(t) | id)", ("exact", "filter")),
    Case("y ~ x + (1 | id) + (rw(t) | id)", ("exact", "filter"), weights="w"),
    Case("y ~ x + t + (t | id) + (llt(t) | id)", ("exact", "filter"), with_gaps),
    Case("y ~ x + cs(1 + t + w | id)", ("exact",), with_gaps, weights="w"),
    Case("y ~ x + cs(t | a, hom=TRUE) + (1 | b)", ("exact",), several),
    Case("y ~ t + (1 | cre(id, ~ t, scale=~ w))", ("exact",), with_gaps, weights="w"),
    Case("count ~ t + (1 | cre(id, ~ w, scale=~ x))", ("laplace", "quadrature"), family="poisson"),
    Case("count ~ x + cs(t | id, hom=TRUE)", ("laplace",), family="poisson"),
    Case("count ~ x + (ou(t) | id)", ("laplace",), family="poisson"),
    Case("count ~ x + (ou(t) | id)", ("importance",), two_visits, family="poisson"),
    Case("count ~ x + (1 | id) + (rw(t) | id)", ("laplace",), with_gaps, family="poisson"),
    Case("z ~ x + dnn(w, hidden=(2,)) + (1 | id)", ("laplace", "quadrature"), family="bernoulli"),
    Case("z ~ x + t + (1 | id)", NODES, family="bernoulli"),
    Case("count ~ x + t + (t | id)", NODES, family="poisson"),
    Case("count ~ x + offset(t) + (t || id)", NODES, with_gaps, family="poisson"),
    Case("cbind(hits, size - hits) ~ x + (1 | id) + (0 + t | id)", NODES, family="binomial"),
    Case("z ~ x + (1 | id)", NODES, with_gaps, family="bernoulli", weights="w"),
    Case("count ~ x + (1 | a) + (1 | b)", ("laplace",), several, family="poisson"),
    Case("z ~ x + (t || a) + (1 | b)", ("laplace",), several_with_gaps, family="bernoulli"),
    Case("cbind(hits, size - hits) ~ x + (1 | a / c)", ("laplace",), several, family="binomial"),
)
PAIRS = [(case, word) for case in CASES for word in case.words]
ALONE = [(case, word) for case, word in PAIRS if case.data in (one_factor, two_visits, with_gaps)]
every = pytest.mark.parametrize(("case", "word"), PAIRS, ids=[f"{w}-{c}" for c, w in PAIRS])
CROSSED = [pair for pair in PAIRS if pair not in ALONE]
one_factor_only = pytest.mark.parametrize(
    ("case", "word"), ALONE, ids=[f"{w}-{c}" for c, w in ALONE]
)

REFUSED = (
    (Case("count ~ x + (1 | id)", (), family="poisson"), "exact"),
    (Case("y ~ x + (1 | a) + (1 | b)", (), several), "quadrature"),
    (Case("count ~ x + (1 | a) + (1 | b)", (), several, family="poisson"), "exact"),
    (Case("count ~ x + (1 | a) + (1 | b)", (), several, family="poisson"), "importance"),
    (Case("count ~ 1 + (x + t + w | id)", (), family="poisson"), "quadrature"),
)


# -- how close -------------------------------------------------------------------------------------

EXACT = 1e-8
"""Of l and l_i, beside the numerical error that the likelihood itself gives."""

CLOSE = {"exact": 5e-5, "filter": 5e-5, "laplace": 2e-4, "quadrature": 2e-2, "importance": 5e-2}
"""Of the information, relative to its largest entry; central differences, Louis, or few nodes."""

NODES_ERROR = {"quadrature": 2e-3, "importance": 5e-2}
"""Of means over nodes: the posterior and, relative to the largest, scores and gradient."""


def tolerance(case: Case, word: str) -> float:
    """Of gradient, scores and posterior. Gauss-Hermite nodes are exact for normal outcomes."""
    exact = word in ("exact", "filter", "laplace") or (
        word == "quadrature" and case.family == "gaussian"
    )
    return 1e-7 if exact else NODES_ERROR[word]


# -- a case, built once ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Set:
    """A model at a theta, its likelihood, and the numbers it should give."""

    model: Model
    panel: Panel
    theta: Theta
    known: Known
    likelihood: Likelihood

    @property
    def one_factor(self) -> bool:
        """Whether l is a sum over the subjects of the panel."""
        return self.panel.crossing is None

    @property
    def seen(self) -> np.ndarray:
        """Subjects with an outcome, (n,) bool."""
        return array(self.panel.observed_rows().count) > 0


@cache
def built(case: Case) -> tuple[Model, Panel]:
    return build(case.text, case.data(), case.family, 0.8, case.weights)


@cache
def known_of(case: Case, kind: str) -> Known:
    """Shared by the words that have the twin in common."""
    model, panel = built(case)
    return Known(twin_of(model, panel, kind), model.packing.pack(random_theta(model, seed=1)))


@cache
def set_of(case: Case, word: str) -> Set:
    model, panel = built(case)
    known = known_of(case, kind_of(model, word))
    return Set(model, panel, random_theta(model, seed=1), known, choose(model, panel, word))


def array(found: object) -> np.ndarray:
    """Tensors and arrays alike."""
    return found.detach().numpy() if isinstance(found, torch.Tensor) else np.asarray(found)


def errors(likelihood: Likelihood, theta: Theta) -> np.ndarray:
    """The numerical errors of all l_i, (n,); those of Laplace's approximation are not asked for."""
    if not likelihood.separate:
        return np.zeros(likelihood.panel.n)
    return np.nan_to_num(array(likelihood.each(theta).error))


def total_error(likelihood: Likelihood, theta: Theta) -> float:
    """The numerical error of l from those of l_i, taken to be independent."""
    return float(np.sqrt(np.square(errors(likelihood, theta)).sum()))


def one_set(s: Set) -> float:
    """How far l by one set of draws may be from l by all of them."""
    return 100 * total_error(s.likelihood, s.theta) if s.likelihood.sampled else 1e-9


def members() -> Iterator[type[Likelihood]]:
    """The concrete classes of the folder."""
    for module in pkgutil.iter_modules(dgmm.likelihood.__path__):
        held = vars(importlib.import_module(f"dgmm.likelihood.{module.name}"))
        for one in held.values():
            own = inspect.isclass(one) and one.__module__ == f"dgmm.likelihood.{module.name}"
            if own and issubclass(one, Likelihood) and not inspect.isabstract(one):
                yield one


# -- value -----------------------------------------------------------------------------------------


@every
def test_the_value_is_the_twins(case: Case, word: str) -> None:
    s = set_of(case, word)
    limit = EXACT + 4 * total_error(s.likelihood, s.theta)
    assert s.likelihood.value(s.theta) == pytest.approx(s.known.total, abs=limit)


@one_factor_only
def test_values_by_subject_are_the_twins(case: Case, word: str) -> None:
    s = set_of(case, word)
    value, error = array(s.likelihood.each(s.theta).value), errors(s.likelihood, s.theta)
    assert value.sum() == pytest.approx(s.likelihood.value(s.theta), abs=1e-9)
    assert value.shape == error.shape == (s.panel.n,)
    assert (np.abs(value - s.known.each) <= EXACT + 6 * error).all()


@one_factor_only
def test_the_error_of_a_closed_form_is_zero_and_that_of_nodes_is_not(case: Case, word: str) -> None:
    s = set_of(case, word)
    error = array(s.likelihood.each(s.theta).error)
    if word == "laplace":  # an approximation, whose error nobody knows
        assert np.isnan(error).all()
    elif word == "exact":
        assert error.max() == 0
    elif case.family != "gaussian":
        assert error[s.seen].min() > 0


@pytest.mark.parametrize(("case", "word"), CROSSED, ids=[f"{w}-{c}" for c, w in CROSSED])
def test_levels_of_several_factors_have_no_density_of_their_own(case: Case, word: str) -> None:
    s = set_of(case, word)
    for asked in (s.likelihood.each, s.likelihood.scores):
        with pytest.raises(ValueError, match="subjects are not independent"):
            asked(s.theta)


@one_factor_only
def test_subjects_without_outcomes_contribute_nothing(case: Case, word: str) -> None:
    s = set_of(case, word)
    each, none = s.likelihood.each(s.theta), ~s.seen
    assert (
        np.abs(array(each.value)[none]) <= EXACT + 6 * errors(s.likelihood, s.theta)[none]
    ).all()
    found = array(s.likelihood.scores(s.theta, s.model.packing))[none]
    np.testing.assert_allclose(found, 0, atol=EXACT)


# -- derivatives -----------------------------------------------------------------------------------


@every
def test_the_gradient_is_the_twins(case: Case, word: str) -> None:
    s = set_of(case, word)
    value, gradient = s.likelihood.value_and_gradient(s.theta)
    assert value == pytest.approx(s.likelihood.value(s.theta), abs=one_set(s))
    assert set(gradient) == set(s.theta)
    assert all(gradient[name].shape == s.theta[name].shape for name in s.theta)
    found = array(s.model.packing.pack(gradient))
    limit = tolerance(case, word) * max(1.0, np.abs(s.known.gradient).max())
    np.testing.assert_allclose(found, s.known.gradient, atol=limit)


@every
def test_the_gradient_in_some_parameters_is_that_part_of_it(case: Case, word: str) -> None:
    s = set_of(case, word)
    _, whole = s.likelihood.value_and_gradient(s.theta)
    free = s.model.packing.only(["beta", "latent1.log_diagonal"])
    value, some = s.likelihood.value_and_gradient(s.theta, free.shapes)
    assert set(some) == set(free.shapes)
    assert value == pytest.approx(s.likelihood.value(s.theta), abs=one_set(s))
    for name, held in some.items():
        np.testing.assert_allclose(array(held), array(whole[name]), atol=1e-9)


@one_factor_only
def test_scores_by_subject_are_the_twins(case: Case, word: str) -> None:
    s = set_of(case, word)
    found = array(s.likelihood.scores(s.theta, s.model.packing))
    limit = tolerance(case, word) * max(1.0, np.abs(found).max())
    np.testing.assert_allclose(found, s.known.scores, atol=limit)


@one_factor_only
def test_scores_add_up_to_the_gradient(case: Case, word: str) -> None:
    s = set_of(case, word)
    found = array(s.likelihood.scores(s.theta, s.model.packing)).sum(0)
    limit = tolerance(case, word) * max(1.0, np.abs(s.known.gradient).max())
    np.testing.assert_allclose(found, s.known.gradient, atol=limit)


@one_factor_only
def test_scores_of_some_parameters_are_those_columns(case: Case, word: str) -> None:
    s = set_of(case, word)
    packing = s.model.packing.only(["beta", "extra"])
    at = array(s.model.packing.positions(["beta", "extra"]))
    whole = array(s.likelihood.scores(s.theta, s.model.packing))
    found = array(s.likelihood.scores(s.theta, packing))
    np.testing.assert_allclose(found, whole[:, at], atol=EXACT)


@every
def test_the_information_is_the_twins_hessian(case: Case, word: str) -> None:
    s = set_of(case, word)
    found = s.likelihood.information(s.theta, s.model.packing)
    matrix = array(found.matrix)
    limit = CLOSE[word] * np.abs(s.known.hessian).max()
    np.testing.assert_allclose(matrix, s.known.hessian, atol=limit)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-9)
    assert isinstance(found.form, str)
    assert found.form


@every
def test_the_information_of_some_parameters_is_that_block(case: Case, word: str) -> None:
    s = set_of(case, word)
    at = array(s.model.packing.positions(["beta"]))
    found = array(s.likelihood.information(s.theta, s.model.packing.only(["beta"])).matrix)
    expected = s.known.hessian[np.ix_(at, at)]
    np.testing.assert_allclose(found, expected, atol=CLOSE[word] * np.abs(expected).max())


# -- posterior and other rows ----------------------------------------------------------------------


@every
def test_the_posterior_of_every_level_is_the_twins(case: Case, word: str) -> None:
    s, limit = set_of(case, word), tolerance(case, word)
    found = effects_of(s.likelihood, s.theta)
    for (mean, covariance), (m, C) in zip(found, s.known.effects, strict=True):
        np.testing.assert_allclose(mean, m, atol=limit)
        np.testing.assert_allclose(covariance, C, atol=limit)


def effects_of(likelihood: Likelihood, theta: Theta) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per grouping factor mean (m, k) and covariance (m, k, k) of b given y."""
    mean, covariance = likelihood.posterior(theta).effects()
    if isinstance(mean, tuple | list):
        return [(array(m), array(C)) for m, C in zip(mean, covariance, strict=True)]
    return [(array(mean), array(covariance))]


@every
def test_a_posterior_nearby_is_the_posterior_there(case: Case, word: str) -> None:
    s = set_of(case, word)
    moved = {name: value + 0.01 for name, value in s.theta.items()}
    near, there = s.likelihood.posteriors_near(s.theta)(moved), s.likelihood.posterior(moved)
    for found, expected in zip(near.effects(), there.effects(), strict=True):
        for ours, direct in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, direct, atol=NODES_ERROR.get(word, 1e-6))


@every
def test_on_other_rows_it_is_the_likelihood_of_those(case: Case, word: str) -> None:
    s = set_of(case, word)
    panel = s.panel.keep(torch.arange(s.panel.n_rows) % 3 > 0)
    other = s.likelihood.on(panel)
    twin = twin_of(s.model, panel, kind_of(s.model, word))
    expected = float(twin.density.total(s.known.x))
    limit = EXACT + 4 * total_error(other, s.theta)
    assert other.value(s.theta) == pytest.approx(expected, abs=limit)


@one_factor_only
def test_on_some_subjects_it_is_their_part(case: Case, word: str) -> None:
    s, chosen = set_of(case, word), np.array([4, 1, 6])
    part = array(s.likelihood.on(s.panel.select(chosen)).each(s.theta).value)
    whole = s.likelihood.each(s.theta)
    limit = EXACT + 8 * errors(s.likelihood, s.theta)[chosen]
    assert (np.abs(part - array(whole.value)[chosen]) <= limit).all()


# -- which one -------------------------------------------------------------------------------------


ELSEWHERE = ("joint_gaussian", "joint_laplace", "joint_loadings", "joint_quadrature", "bound")
"""Members for several outcomes, whose contract is test_joint_likelihoods.py beside this file, and
the bound of recursions, which no case here has: tests/test_recursion.py."""


@pytest.mark.parametrize("one", list(members()), ids=lambda one: one.__name__)
def test_a_likelihood_says_why_it_does_not_apply(one: type[Likelihood]) -> None:
    for case in CASES:
        s = set_of(case, case.words[0])
        why = one.cannot(s.model, s.panel)
        assert why is None or (isinstance(why, str) and " " in why.strip())


@pytest.mark.parametrize("one", list(members()), ids=lambda one: one.__name__)
def test_every_likelihood_is_under_this_contract(one: type[Likelihood]) -> None:
    if one.__module__.rpartition(".")[2] in ELSEWHERE:
        return
    assert any(type(set_of(case, word).likelihood) is one for case, word in PAIRS)


@every
def test_the_chosen_likelihood_applies(case: Case, word: str) -> None:
    s = set_of(case, word)
    assert type(s.likelihood).cannot(s.model, s.panel) is None


@pytest.mark.parametrize(("case", "word"), REFUSED, ids=[f"{w}-{c}" for c, w in REFUSED])
def test_a_word_that_does_not_apply_is_refused_by_a_sentence(case: Case, word: str) -> None:
    model, panel = build(case.text, case.data(), case.family)
    with pytest.raises(ValueError, match=word):
        choose(model, panel, word)
