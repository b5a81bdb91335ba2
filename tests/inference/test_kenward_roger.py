"""Kenward and Roger's tests, against pbkrtest and in layouts with exact tests."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import data, reference
from toys import crossed_gaussian

from dgmm import Fit, mixed_model


def frames() -> dict[str, tuple]:
    ortho, crossed = data("orthodont"), crossed_gaussian()
    place = (np.arange(1, len(crossed) + 1) * 7) % 11 % 3
    return {
        "orthodont": (
            "distance ~ factor(age) * Sex + (1 | Subject)",
            ortho.drop(ortho.index[[2, 16, 49, 50, 51]]),
        ),
        "milk": ("protein ~ Diet * Time + (1 | Cow)", data("milk")),
        "crossed": (
            "y ~ arm + x + (1 | g) + (1 | h)",
            crossed.assign(arm=np.array(["a", "b", "c"])[place]),
        ),
        "sleepstudy": ("Reaction ~ Days + (Days | Subject)", data("sleepstudy")),
    }


@pytest.mark.parametrize("name", ["orthodont", "milk", "crossed", "sleepstudy"])
def test_standard_errors_and_degrees_of_freedom_of_pbkrtest(name: str) -> None:
    formula, frame = frames()[name]
    fit = mixed_model(formula, frame, method="reml", verbose=0)
    stored = reference("means", name)["kr"]
    table = fit.coefficients(df="kenward-roger")
    np.testing.assert_allclose(table["Estimate"], stored["coef"], rtol=1e-6)
    np.testing.assert_allclose(table["Std. Error"], stored["se"], rtol=1e-6)
    np.testing.assert_allclose(table["df"], stored["df"], rtol=1e-6)
    terms = fit.anova(df="kenward-roger").table
    for column, key in (("F value", "F"), ("DenDF", "ddf"), ("Pr(>F)", "p")):
        expected = [term[key] for term in stored["terms"]]
        np.testing.assert_allclose(terms[column], expected, rtol=1e-6)


def test_a_balanced_split_plot_has_exact_tests() -> None:
    frame = data("orthodont")
    frame = frame[frame["Subject"].isin(sorted(set(frame["Subject"]))[:22])]
    fit = mixed_model("distance ~ factor(age) + (1 | Subject)", frame, method="reml", verbose=0)
    n = frame["Subject"].nunique()
    row = fit.anova(df="kenward-roger").table.iloc[0]
    assert row["DenDF"] == pytest.approx(3 * (n - 1), rel=1e-6)
    # the analysis of variance of visits within subjects
    y = frame.pivot(index="Subject", columns="age", values="distance").to_numpy()
    visit = y.mean(0) - y.mean()
    rest = y - y.mean(1, keepdims=True) - visit
    F = n * (visit**2).sum() / 3 / ((rest**2).sum() / (3 * (n - 1)))
    assert row["F value"] == pytest.approx(F, rel=1e-6)
    gls = fit.std_errors(kind="gls")
    np.testing.assert_allclose(fit.coefficients("kenward-roger")["Std. Error"], gls, rtol=1e-6)


def test_the_default_after_reml_with_few_groups(sleepstudy_reml: Fit, sleepstudy: Fit) -> None:
    one, two = sleepstudy_reml.coefficients(), sleepstudy_reml.coefficients("satterthwaite")
    np.testing.assert_array_equal(one.to_numpy(), two.to_numpy())
    assert "t value" in one
    assert "z value" in sleepstudy_reml.coefficients(None)
    assert "z value" in sleepstudy.coefficients()
    assert "Tests: t, Satterthwaite's degrees of freedom; REML, 18 groups" in str(
        sleepstudy_reml.summary()
    )
    assert "Tests: t, Kenward-Roger's" in str(sleepstudy_reml.summary("kenward-roger"))
    words = " ".join(str(sleepstudy.summary()).split())
    assert "Tests: z, as if variances were known; p values are too small with 18 groups" in words


def test_many_groups_have_z_tests(math_achieve: Fit) -> None:
    assert math_achieve.n_groups() >= 100
    fit = math_achieve.update(method="reml")
    assert "z value" in fit.coefficients()
    assert "Tests: z, the normal distribution of large samples; 160 groups" in str(fit.summary())


def test_other_fits_are_refused(sleepstudy: Fit, cbpp: Fit, no_cs: Fit) -> None:
    for fit in (sleepstudy, cbpp):
        with pytest.raises(ValueError, match="fitted by method='reml'"):
            fit.coefficients(df="kenward-roger")
    with pytest.raises(ValueError, match="linear in its parameters.*df='satterthwaite'"):
        no_cs.coefficients(df="kenward-roger")


@pytest.fixture(scope="module")
def no_cs() -> Fit:
    return mixed_model(
        "distance ~ age + cs(age | Subject)",
        data("orthodont"),
        method="reml",
        verbose=0,
    )
