"""Structures of the covariance of random effects: their factors, parameters and words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import frame, generator

import dgmm
from dgmm.formula import FormulaError, LatentTerm, parse_formula
from dgmm.latent import structures
from dgmm.latent.structures import Structure, build

Q = 4
CASES = {
    "us": {},
    "diag": {},
    "diag hom": {"hom": True},
    "cs": {},
    "cs hom": {"hom": True},
    "ar1": {},
    "ar1 het": {"hom": False},
}
RESTRICTED = [case for case in CASES if case not in ("us", "diag")]


def structure(case: str, q: int = Q) -> Structure:
    word = case.split()[0]
    term = LatentTerm(f"{word}(0 + f | g)", "normal", "0 + f", "g", word, CASES[case])
    return build(term, q)


def weights(one: Structure, seed: int = 1) -> dict[str, Tensor]:
    return {
        name: 0.6 * torch.randn(shape, generator=generator(seed), dtype=torch.float64)
        for name, shape in one.shapes().items()
    }


def dense(case: str, values: Tensor) -> Tensor:
    """D written out from the reported values, standard deviations and then the correlation."""
    one = structure(case)
    rho = values[-1:] if "rho" in [c.kind for c in one.components(tuple("abcd"))] else values[:0]
    sd = values[: len(values) - len(rho)].expand(Q)
    step = torch.arange(Q, dtype=torch.float64)
    lag = (step[:, None] - step).abs()
    R = torch.eye(Q, dtype=torch.float64)
    if case.startswith("cs"):
        R = torch.where(lag == 0, 1.0, rho)
    if case.startswith("ar1"):
        R = torch.sign(rho) ** lag * rho.abs() ** lag
    return sd[:, None] * R * sd


def test_the_words_are_the_files() -> None:
    assert set(structures()) == {"us", "diag", "cs", "ar1"} == {c.split()[0] for c in CASES}


@pytest.mark.parametrize("case", RESTRICTED)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_factor_is_that_of_the_matrix_of_the_reported_values(case: str, seed: int) -> None:
    one = structure(case)
    frame = torch.diag(torch.tensor([2.0, 2.0, 2.0, 2.0], dtype=torch.float64))
    w = weights(one, seed)
    L = one.factor(w)
    assert torch.equal(L, torch.tril(L))
    assert bool((L.diagonal() > 0).all())
    half = frame @ L
    assert torch.allclose(half @ half.T, dense(case, one.reported(w, frame)), atol=1e-12)


def test_the_factor_of_compound_symmetry_is_that_of_lme4() -> None:
    """a_1 = 0, a_j+1 = a_j + (1 - rho a_j)^2 / (1 - rho^2 a_j): Cholesky factor in closed form."""
    one = structure("cs")
    w = weights(one)
    rho = float(one.reported(w, torch.eye(Q, dtype=torch.float64))[-1])
    C, a = np.zeros((Q, Q)), 0.0
    for j in range(Q):
        C[j, j] = np.sqrt(1 - rho**2 * a)
        C[j + 1 :, j] = (rho - rho**2 * a) / C[j, j]
        a += (1 - rho * a) ** 2 / (1 - rho**2 * a)
    assert np.allclose(one.factor(w).numpy(), w["log_sd"].exp().numpy()[:, None] * C, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_a_structure_lies_in_its_wider_one_with_the_same_factor(case: str) -> None:
    one = structure(case)
    w, wide = weights(one), one.wider()
    assert wide.free
    assert one.free == (wide.shapes() == one.shapes() and wide.name == one.name)
    assert torch.allclose(wide.factor(one.lifted(w)), one.factor(w), atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_the_nearest_weights_of_a_matrix_of_the_structure_are_its_own(case: str) -> None:
    one = structure(case)
    w = weights(one)
    L = one.factor(w)
    found = one.nearest(L @ L.T)
    for name, value in w.items():
        assert torch.allclose(found[name], value, atol=1e-7)


@pytest.mark.parametrize("case", RESTRICTED)
def test_reported_values_give_the_weights_back(case: str) -> None:
    one = structure(case)
    frame = 1.7 * torch.eye(Q, dtype=torch.float64)
    w = weights(one)
    found = one.from_reported(one.reported(w, frame), frame)
    for name, value in w.items():
        assert torch.allclose(found[name], value, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_the_factor_has_two_derivatives(case: str) -> None:
    one = structure(case)
    w = weights(one)
    names, values = tuple(w), tuple(value.requires_grad_() for value in w.values())

    def lifted(*inner: Tensor) -> Tensor:
        return torch.cat(list(one.lifted(dict(zip(names, inner, strict=True))).values()))

    assert torch.autograd.gradcheck(lifted, values)
    assert torch.autograd.gradgradcheck(lifted, values)


def test_which_structures_hold_which() -> None:
    held = {
        big: {small for small in CASES if structure(big).holds(structure(small))} for big in CASES
    }
    assert held["us"] == set(CASES)
    assert held["diag"] == {"diag", "diag hom"}
    assert held["diag hom"] == {"diag hom"}
    assert held["cs"] == {"diag", "diag hom", "cs", "cs hom"}
    assert held["cs hom"] == {"diag hom", "cs hom"}
    assert held["ar1"] == {"diag hom", "ar1"}
    assert held["ar1 het"] == {"diag", "diag hom", "ar1", "ar1 het"}


# -- words of a formula ----------------------------------------------------------------------------


def terms(text: str) -> tuple[LatentTerm, ...]:
    return parse_formula(f"y ~ x + {text}", structures=structures()).latents


@pytest.mark.parametrize("value", ["TRUE", "True"])
def test_a_word_before_the_bar_is_the_covariance_of_its_columns(value: str) -> None:
    (one,) = terms(f"cs(0 + f | g, hom={value})")
    assert (one.kind, one.covariance, one.terms, one.group) == ("normal", "cs", "0 + f", "g")
    assert one.structure == {"hom": True}
    assert one.text == f"cs(0 + f | g, hom={value})"
    (plain,) = terms("cs(t | g)")
    assert (plain.terms, plain.structure) == ("1 + t", {})


def test_a_word_is_taken_to_every_group() -> None:
    one, two = terms("ar1(0 + f | a/b, hom=FALSE)")
    assert (one.text, two.text) == (
        "ar1(0 + f | a, hom=FALSE)",
        "ar1(0 + f | a:b, hom=FALSE)",
    )
    assert (one.group, two.group) == ("a", "a:b")
    assert one.structure == two.structure == {"hom": False}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cs(t || g)", "holds one bar"),
        ("cs(1 + t)", "holds one bar"),
        ("cs( | g)", "a side of the bar is empty"),
        ("cs(t | )", "a side of the bar is empty"),
        ("cs(0 | g)", "leaves nothing random"),
        ("cs(dnn(t) | g)", "a network has no such covariance"),
        ("us(1 + t | g, hom=TRUE)", "no option hom= here"),
        ("cs(t | g, het=TRUE)", "The options are: hom"),
        ("cs(t | g, hom=1)", "hom= is TRUE or FALSE"),
        ("homcs(0 + f | g)", r"cs\(terms \| group, hom=TRUE\)"),
        ("homdiag(0 + f | g)", r"diag\(terms \| group, hom=TRUE\)"),
        ("hetar1(0 + f | g)", r"ar1\(terms \| group, hom=FALSE\)"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(text: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        terms(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cs(1 | id)", "a correlation needs two columns or more, and `1` has one"),
        ("ar1(0 + t | id)", "a correlation needs two columns or more"),
        ("ar1(1 + f | id)", r"write ar1\(0 \+ f \| id\)"),
        ("cs(0 + f | id) + ar1(0 + f | id)", "both hold the effect"),
        ("cs(1 + t | id) + dnn(x)", "has a restricted covariance"),
        ("diag(t | id, hom=TRUE) + (dnn(t) | id)", "has a restricted covariance"),
    ],
)
def test_what_has_no_meaning_is_refused_in_words(text: str, message: str) -> None:
    data = frame().assign(f=np.tile(list("abcde"), 12))
    with pytest.raises(ValueError, match=message):
        dgmm.mixed_model(f"y ~ x + {text}", data, verbose=0)


def test_a_call_with_a_bar_inside_stays_an_expression() -> None:
    assert terms("(1 | g) + I(a | b)")[0].text == "(1 | g)"
