"""Estimators of panels beside plm's, and conditional likelihoods beside dummies and enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from conftest import data, reference
from torch import Tensor

from dgmm.families import Observations, find
from dgmm.inference.within import (
    Estimator,
    Sample,
    first_differences,
    given_sum,
    swamy_arora,
    within,
)


def firms(name: str) -> Sample:
    frame = data("grunfeld")
    rows = [k - 1 for k in reference("panel", name).get("left_out", [])]
    frame = frame.drop(index=rows)
    X = np.column_stack([np.ones(len(frame)), frame["value"], frame["capital"]])
    _, subject = np.unique(frame["firm"].astype(int), return_inverse=True)
    names = ("(Intercept)", "value", "capital")
    return Sample(names, X, frame["inv"].to_numpy(), np.zeros(len(frame)), subject)


def agrees(found: Estimator, known: dict[str, list[float]]) -> None:
    assert list(found.names) == known["names"]
    np.testing.assert_allclose(found.beta, known["estimate"], rtol=1e-9)
    np.testing.assert_allclose(np.sqrt(np.diag(found.vcov)), known["std_error"], rtol=1e-9)
    np.testing.assert_allclose(np.sqrt(np.diag(found.robust)), known["robust"], rtol=1e-9)


@pytest.mark.parametrize("name", ["grunfeld", "grunfeld_unbalanced"])
def test_the_estimators_are_plms(name: str) -> None:
    sample, known = firms(name), reference("panel", name)
    agrees(within(sample), known["within"])
    agrees(first_differences(sample), known["differences"])
    random, level, noise = swamy_arora(sample)
    agrees(random, known["random"])
    np.testing.assert_allclose([noise, level], known["sd"], rtol=1e-9)


def test_an_offset_is_taken_off_the_outcome() -> None:
    sample = firms("grunfeld")
    moved = Sample(
        sample.names, sample.X, sample.y + 0.3 * sample.X[:, 1], sample.y, sample.subject
    )
    np.testing.assert_allclose(within(moved).beta, [0.3, 0.0], atol=1e-9)


def test_columns_that_do_not_move_and_copies_are_left_out() -> None:
    sample = firms("grunfeld")
    firm = sample.subject.astype(float)
    X = np.column_stack([sample.X, firm, 2 * sample.X[:, 1] + firm])
    longer = Sample((*sample.names, "firm", "copy"), X, sample.y, sample.offset, sample.subject)
    assert longer.varying() == ("value", "capital")
    np.testing.assert_allclose(within(longer).beta, within(sample).beta, rtol=1e-10)


def test_leads_are_those_of_the_next_row_of_a_subject() -> None:
    subject = np.array([0, 0, 0, 1, 2, 2])
    x = np.arange(6.0)
    longer = Sample(("x",), x[:, None], x, np.zeros(6), subject).with_leads(("x",))
    assert longer.names == ("x", "lead(x)")
    np.testing.assert_array_equal(longer.X, [[0, 1], [1, 2], [4, 5]])
    np.testing.assert_array_equal(longer.subject, [0, 0, 1])


# -- given the sums --------------------------------------------------------------------------------


def discrete(family: str, n: int = 40, T: int = 4) -> Sample:
    """An unbalanced panel whose levels depend on the means of x."""
    rng = np.random.default_rng(7)
    id = np.repeat(np.arange(n), T)
    x, z = rng.normal(size=(2, n * T))
    eta = 0.6 * x - 0.3 * z + rng.normal(size=n)[id]
    y = (
        rng.poisson(np.exp(eta))
        if family == "poisson"
        else rng.uniform(size=n * T) < 1 / (1 + np.exp(-eta))
    )
    kept = rng.uniform(size=n * T) < 0.8
    _, subject = np.unique(id[kept], return_inverse=True)
    X = np.column_stack([x, z])[kept]
    return Sample(("x", "z"), X, y[kept].astype(float), 0.1 * z[kept], subject)


def test_counts_given_their_sums_are_poisson_with_dummies() -> None:
    sample = discrete("poisson")
    found = given_sum(find("poisson"), sample)
    assert found is not None
    seen = np.bincount(sample.subject, sample.y)[sample.subject] > 0
    dummies = pd.get_dummies(sample.subject[seen]).to_numpy(float)
    model = sm.GLM(
        sample.y[seen],
        np.column_stack([sample.X[seen], dummies]),
        family=sm.families.Poisson(),
        offset=sample.offset[seen],
    ).fit(tol=1e-14, maxiter=200)
    np.testing.assert_allclose(found.beta, model.params[:2], atol=1e-10)
    np.testing.assert_allclose(np.sqrt(np.diag(found.vcov)), model.bse[:2], rtol=1e-8)


def enumerated(sample: Sample, beta: Tensor) -> Tensor:
    """log p(y_i | sum) of zeros and ones by all d of the same sum, (n,)."""
    eta = torch.from_numpy(sample.offset) + torch.from_numpy(sample.X) @ beta
    y, found = torch.from_numpy(sample.y), []
    for i in range(len(sample.count)):
        own = torch.from_numpy(sample.subject == i)
        every = torch.tensor(list(product([0.0, 1.0], repeat=int(own.sum()))), dtype=torch.float64)
        alike = every[every.sum(1) == y[own].sum()]
        found.append(y[own] @ eta[own] - (alike @ eta[own]).logsumexp(0))
    return torch.stack(found)


def test_zeros_and_ones_given_their_sums_are_enumerated() -> None:
    sample = discrete("bernoulli")
    found = given_sum(find("bernoulli"), sample)
    assert found is not None
    beta = torch.from_numpy(found.beta)
    scores = torch.func.jacfwd(lambda b: enumerated(sample, b))(beta)
    H = torch.func.hessian(lambda b: enumerated(sample, b).sum())(beta)
    assert float(scores.sum(0).abs().max()) < 1e-9
    inverse = torch.linalg.inv(-H)
    np.testing.assert_allclose(found.vcov, inverse, rtol=1e-9)
    np.testing.assert_allclose(found.robust, inverse @ scores.T @ scores @ inverse, rtol=1e-9)


def test_families_without_a_sufficient_sum_have_none() -> None:
    sample = discrete("bernoulli")
    assert given_sum(find("bernoulli", "probit"), sample) is None
    assert given_sum(find("negative_binomial"), discrete("poisson")) is None
    eta = torch.zeros(2, 3, dtype=torch.float64)
    data = Observations(eta, eta + 1, eta + 1)
    assert find("gamma").given_sum(data, eta, eta == 0) is None
    # nothing moves: no maximum
    still = Sample(("x",), np.ones((6, 1)), np.arange(6.0), np.zeros(6), np.repeat([0, 1], 3))
    assert given_sum(find("poisson"), still) is None
    # an infinite maximum is none
    x = np.array([0.0, 1.0, 0.0, 1.0])
    separated = Sample(("x",), x[:, None], x, np.zeros(4), np.repeat([0, 1], 2))
    assert given_sum(find("bernoulli"), separated) is None
