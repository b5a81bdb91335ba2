"""Which models are nested, and the null distribution between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from conftest import data
from scipy import stats

from dgmm import Fit, mixed_model
from dgmm.families import Observations, find
from dgmm.inference.anova import candidate
from dgmm.inference.nesting import inside, null_distribution


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    return data("sleepstudy").assign(half=lambda d: (d["Days"] > 4).astype(float))


@pytest.fixture(scope="module")
def fit(sleep: pd.DataFrame) -> Callable[[str], Fit]:
    made: dict[str, Fit] = {}

    def get(right: str) -> Fit:
        if right not in made:
            made[right] = mixed_model(f"Reaction ~ {right}", sleep, se=None, verbose=0)
        return made[right]

    return get


PAIRS = [
    ("1 + (1 | Subject)", "Days + (1 | Subject)", "chi2(1)"),
    ("Days + (1 | Subject)", "Days + (Days | Subject)", "0.5 chi2(1) + 0.5 chi2(2)"),
    ("1 + (1 | Subject)", "Days + (Days | Subject)", "0.5 chi2(2) + 0.5 chi2(3)"),
    ("Days + (1 | Subject)", "Days + (Days || Subject)", "0.5 chi2(0) + 0.5 chi2(1)"),
    ("1 + (1 | Subject)", "Days + (Days || Subject)", "0.5 chi2(1) + 0.5 chi2(2)"),
    ("Days + (Days || Subject)", "Days + (Days | Subject)", "chi2(1)"),
    (
        "Days + (1 | Subject) + (0 + Days | Subject)",
        "Days + (Days | Subject)",
        "chi2(1)",
    ),
    ("Days + (Days | Subject)", "Days + (Days + half | Subject)", "0.5 chi2(2) + 0.5 chi2(3)"),
    ("Days + (1 | Subject)", "Days + (Days + half | Subject)", "chi2(5)"),
    ("Days + (1 | Subject)", "Days + (Days + half || Subject)", "chi2(2)"),
    # the same span in other coordinates
    ("Days + (I(Days - 4) | Subject)", "half + Days + (Days | Subject)", "chi2(1)"),
]


@pytest.mark.parametrize(("small", "big", "null"), PAIRS)
def test_null_distributions(small: str, big: str, null: str, fit: Callable[[str], Fit]) -> None:
    found = null_distribution(candidate(fit(small)), candidate(fit(big)))
    assert str(found) == null
    several = null in ("chi2(5)", "chi2(2)")
    assert ("no simple mixture" in found.remark) == several
    assert ("nsim=" in found.remark) == several


def test_what_is_not_nested_is_named(fit: Callable[[str], Fit]) -> None:
    with pytest.raises(ValueError, match="does not contain `Days`.*aic"):
        fit("Days + (1 | Subject)").anova(fit("half + (Days | Subject)"))
    with pytest.raises(ValueError, match="random part of .* is not nested"):
        fit("Days + (0 + half | Subject)").anova(fit("Days + (Days | Subject)"))
    # a correlation is absent
    with pytest.raises(ValueError, match="a correlation"):
        fit("Days + (Days | Subject)").anova(fit("Days + (Days + half + I(Days**2)|| Subject)"))
    with pytest.raises(ValueError, match="5 parameters each"):
        fit("Days + (Days || Subject)").anova(fit("Days + half + (1 | Subject)"))


def test_other_data_are_refused(fit: Callable[[str], Fit], sleep: pd.DataFrame) -> None:
    small, formula = fit("1 + (1 | Subject)"), "Reaction ~ Days + (1 | Subject)"

    def other(frame: pd.DataFrame, text: str = formula, **options: object) -> Fit:
        return mixed_model(text, frame, verbose=0, se=None, **options)  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="180 and 179 observed outcomes"):
        small.anova(other(sleep.iloc[1:]))
    holed = sleep.assign(Days=sleep["Days"].mask(sleep["Days"] == 3))
    with (
        pytest.warns(UserWarning, match="18 of 180 rows .* left out: 18 for `Days`"),
        pytest.raises(ValueError, match="18 of 180 rows have missing values .*: 18 for `Days`"),
    ):
        small.anova(other(holed))
    with pytest.raises(ValueError, match="of 179 places the outcomes in"):
        other(sleep.iloc[1:], "Reaction ~ 1 + (1 | Subject)").anova(other(sleep.iloc[:-1]))
    shifted = sleep.assign(Reaction=lambda d: d["Reaction"] + (d["Days"] == 3))
    with pytest.raises(ValueError, match="of 180 places the outcomes in 18"):
        small.anova(other(shifted))
    with pytest.raises(ValueError, match="of 180 places the outcomes in 180"):
        small.anova(other(sleep, "log(Reaction) ~ Days + (1 | Subject)"))
    with pytest.raises(ValueError, match="group the rows differently.*18 levels"):
        small.anova(other(sleep, "Reaction ~ Days + (1 | Days)"))
    with pytest.raises(ValueError, match="the prior weights in 180"):
        small.anova(other(sleep.assign(w=2.0), weights="w"))
    with pytest.raises(ValueError, match="families differ.*gaussian with log link"):
        small.anova(other(sleep, link="log"))


def test_the_order_of_rows_does_not_matter(sleep: pd.DataFrame) -> None:
    # another covariate changes the canonical order of the rows inside a fit
    frame = sleep.assign(z=np.random.default_rng(0).normal(size=180)).sample(frac=1, random_state=1)
    small = mixed_model("Reaction ~ 1 + (1 | Subject)", frame, verbose=0)
    big = mixed_model("Reaction ~ z + (1 | Subject)", frame, verbose=0)
    assert small.anova(big).table.loc["model 2", "Df"] == 1


def test_a_frame_sorted_otherwise_is_the_same_data(sleep: pd.DataFrame) -> None:
    counts = sleep.assign(z=np.arange(180) % 7, yes=(sleep["Reaction"] > 300).astype(int))
    for family, outcome in (("gaussian", "Reaction"), ("bernoulli", "yes")):

        def fitted(frame: pd.DataFrame, right: str) -> Fit:
            options = {"family": family, "se": None}  # noqa: B023
            return mixed_model(f"{outcome} ~ {right} + (1 | Subject)", frame, **options)  # noqa: B023

        big = fitted(counts, "Days + z")
        for frame in (
            counts.sort_values(["z", "Reaction"]),
            counts.sort_values("Reaction").reset_index(drop=True),
            pl.from_pandas(counts[::-1]),
        ):
            small = fitted(frame, "Days")
            right = fitted(counts, "Days").anova(big).table
            assert small.anova(big).table.equals(right)
        other = counts.assign(
            yes=np.roll(counts["yes"], 1), Reaction=np.roll(counts["Reaction"], 1)
        )
        with pytest.raises(ValueError, match="of 180 places the outcomes in"):
            fitted(other, "Days").anova(big)
        halves = [fitted(counts[counts["Days"] % 2 == k], "z") for k in (0, 1)]
        with pytest.raises(ValueError, match="data of the fits differ"):
            halves[0].anova(halves[1].update(". ~ . + Days"))


def test_spans() -> None:
    X = np.column_stack([np.ones(5), np.arange(5.0), np.arange(5.0) ** 2])
    assert inside(1e6 * X[:, :2] @ [[1.0], [2.0]], X).all()
    assert not inside(X[:, 2:], X[:, :2]).any()
    assert not inside(X[:, :1], np.zeros((5, 0))).any()


def test_coefficients_of_the_dispersion_count(
    sleep: pd.DataFrame, fit: Callable[[str], Fit]
) -> None:
    right = "Days + (Days | Subject)"
    small = fit(right)
    options = {"se": None, "verbose": 0}
    big = mixed_model(f"Reaction ~ {right}", sleep, dispersion="~ Days", **options)
    table = small.anova(big)
    assert table.table.loc["model 2", "null"] == "chi2(1)"
    assert table.table.loc["model 2", "Pr(>Chisq)"] == pytest.approx(0.00055, abs=5e-5)
    assert "dispersion = ~ Days" in str(table)
    other = mixed_model(f"Reaction ~ {right}", sleep, dispersion="~ half + I(Days**2)", **options)
    with pytest.raises(ValueError, match="not nested.*log_sigma"):
        big.anova(other)


EDGES = {
    "negative_binomial": {"log_size": 18.0},
    "nb1": {"log_alpha": -18.0},
    "generalized_poisson": {"log_alpha": -18.0},
    "beta_binomial": {"log_precision": 18.0},
    "zero_inflated_poisson": {"logit_zero": -18.0},
    "zero_inflated_negative_binomial": {"logit_zero": -18.0, "log_size": 18.0},
    "zero_inflated_beta_binomial": {"logit_zero": -18.0, "log_precision": 18.0},
}


@pytest.mark.parametrize("name", EDGES)
def test_a_family_is_another_one_at_its_edge(name: str) -> None:
    family = find(name)
    assert {one for one, _ in family.edges()} == EDGES[name].keys()
    eta = torch.linspace(-2, 2, 24, dtype=torch.float64)
    y = torch.arange(24, dtype=torch.float64) % 6
    rows = Observations(y, torch.full_like(y, 5.0), torch.full_like(y, 1.5))
    for parameter, inner in family.edges():
        extra = {one: EDGES[name][one] if one == parameter else 0.3 for one in family.extra}
        kept = torch.tensor([extra[one] for one in inner.extra], dtype=torch.float64)
        big = family.log_density(rows, eta, torch.tensor([*extra.values()], dtype=torch.float64))
        assert torch.allclose(big, inner.log_density(rows, eta, kept), atol=1e-5)


def test_a_family_at_its_edge_is_tested_as_a_variance() -> None:
    rng, subject = np.random.default_rng(1), np.repeat(np.arange(40), 5)
    frame = pd.DataFrame({"id": subject, "x": rng.normal(size=200)})
    mu = np.exp(1 + 0.3 * frame["x"] + 0.5 * rng.normal(size=40)[subject])
    frame["even"] = np.round(mu)
    frame["over"] = rng.poisson(mu * rng.gamma(6, 1 / 6, size=200))

    def fitted(y: str, family: str, right: str = "x + (1 | id)", **options: Any) -> Fit:
        return mixed_model(f"{y} ~ {right}", frame, family=family, se=None, **options)

    null, poisson = "0.5 chi2(0) + 0.5 chi2(1)", fitted("over", "poisson")
    for family in ("negative_binomial", "zero_inflated_poisson"):
        big = fitted("over", family)
        table = poisson.anova(big).table.loc["model 2"]
        statistic = 2 * (float(big.loglik()) - float(poisson.loglik()))
        assert (table["null"], table["Df"]) == (null, 1)
        assert table["Pr(>Chisq)"] == pytest.approx(0.5 * stats.chi2.sf(statistic, 1), rel=1e-10)
    even = fitted("even", "poisson").anova(fitted("even", "negative_binomial"))
    assert even.table.loc["model 2", ["null", "Pr(>Chisq)"]].tolist() == [null, 1.0]
    assert "family = negative_binomial" in str(even)
    shorter = fitted("over", "poisson", "1 + (1 | id)")
    table = shorter.anova(fitted("over", "nb1")).table.loc["model 2"]
    assert table["null"] == "0.5 chi2(1) + 0.5 chi2(2)"
    halves = [stats.chi2.sf(table["Chisq"], df) / 2 for df in (1, 2)]
    assert table["Pr(>Chisq)"] == pytest.approx(sum(halves), rel=1e-10)
    for other, reason in (
        (fitted("over", "negative_binomial", "x + (x | id)"), "several parameters"),
        (fitted("over", "zero_inflated_negative_binomial"), "several parameters"),
        (fitted("over", "poisson", zi="~ x"), "no known distribution"),
    ):
        tests = poisson.anova(other)
        assert any(reason in note and "nsim=" in note for note in tests.notes)
    with pytest.raises(ValueError, match="nb1 with log link; negative_binomial .* no special case"):
        fitted("over", "nb1", "1 + (1 | id)").anova(fitted("over", "negative_binomial"))


def test_random_effects_of_another_predictor_are_other_effects() -> None:
    rng, subject = np.random.default_rng(3), np.repeat(np.arange(30), 6)
    frame = pd.DataFrame({"id": subject, "x": rng.normal(size=180)})
    zero = rng.uniform(size=180) < 0.3
    frame["y"] = np.where(zero, 0, rng.poisson(np.exp(1 + 0.4 * rng.normal(size=30)[subject])))
    options: dict[str, Any] = {"family": "poisson", "se": None}
    mean = mixed_model("y ~ 1 + (1 | id)", frame, zi="~ 1", **options)
    zeros = mixed_model("y ~ x + (0 + x | id)", frame, zi="~ 1 + (1 | id)", **options)
    with pytest.raises(ValueError, match="random part of .* is not nested"):
        mean.anova(zeros)
