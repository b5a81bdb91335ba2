"""The printed report: golden print-outs, width, what must not be in it, HTML."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import DEEP, data

from dgmm import Fit, mixed_model
from dgmm.estimate import HeldOut
from dgmm.inference.wald import wald_table
from dgmm.report.fixed_part import fixed_lines
from dgmm.report.layout import number
from dgmm.report.network_part import encoder_part, network_part
from dgmm.report.notes import CHECKS, of_boundary, of_encoder
from dgmm.report.random_part import random_lines
from dgmm.report.summary import sections_of
from dgmm.report.tables import tables_of

GOLDEN = Path(__file__).parent / "golden"
FITS = [
    "sleepstudy",
    "sleepstudy_reml",
    "orthodont",
    "cbpp",
    "cbpp_vae",
    "epil",
    "singular",
    "deep",
]


@pytest.fixture(params=FITS)
def fit(request: pytest.FixtureRequest) -> Fit:
    found: Fit = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("name", ["sleepstudy", "cbpp", "singular"])
def test_golden(name: str, request: pytest.FixtureRequest) -> None:
    text = str(request.getfixturevalue(name).summary()) + "\n"
    expected = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    assert text == expected


def test_printing_a_summary_is_its_text(sleepstudy: Fit) -> None:
    summary = sleepstudy.summary()
    assert repr(summary) == str(summary)


def test_printing_a_fit_shows_its_estimates(sleepstudy: Fit, deep: Fit) -> None:
    assert repr(sleepstudy).splitlines() == [
        "Linear mixed model fitted by maximum likelihood",
        " Family: gaussian (identity)",
        "Formula: Reaction ~ Days + (Days | Subject)",
        "Log-likelihood: -875.9697 (df=6)",
        "Random effects:",
        " Groups   Name        Std.Dev. Corr",
        " Subject  (Intercept)    23.78",
        "          Days           5.717  0.08",
        " Residual                25.59",
        "Number of obs: 180; groups: Subject, 18",
        "Fixed effects:",
        "  (Intercept)         Days",
        "        251.4        10.47",
    ]
    assert "neural random effects" in repr(deep)
    assert max(map(len, repr(deep).splitlines())) <= 80


def test_what_the_formula_does_not_say_is_printed() -> None:
    random = np.random.default_rng(1)
    group = np.repeat(np.arange(20), 5)
    mean = 1 / (1 + np.exp(-random.normal(size=20)[group]))
    frame = pd.DataFrame({"y": 10 * random.beta(5 * mean, 5 * (1 - mean)), "g": group})
    fit = mixed_model("y ~ 1 + (1 | g)", frame, bounds=(0, 10), family="beta", verbose=0)
    assert "   With: bounds = (0, 10)" in str(fit.summary())
    frame = data("sleepstudy").assign(w=1.0)
    offset = np.zeros(len(frame))
    fit = mixed_model(
        "Reaction ~ Days + (1 | Subject)", frame, weights="w", offset=offset, verbose=0
    )
    assert "   With: weights = w, offset = one value per row" in str(fit.summary())


def test_outcomes_at_the_ends_are_counted() -> None:
    random = np.random.default_rng(3)
    group = np.repeat(np.arange(30), 5)
    y = 1 + random.normal(size=30)[group] + random.normal(size=150)
    frame = pd.DataFrame({"y": np.clip(y, 0, 2.5), "g": group})
    frame.loc[:2, "y"] = np.nan
    low, high = int((frame["y"] == 0).sum()), int((frame["y"] == 2.5).sum())
    lines = {}
    for family, bounds in (("censored_gaussian", (0, None)), ("ordered_beta", (0, 2.5))):
        options = {"family": family, "bounds": bounds, "se": None, "verbose": 0}
        text = str(mixed_model("y ~ 1 + (1 | g)", frame, **options).summary())
        lines[family] = [line.strip() for line in text.splitlines()[3:5]]
    assert lines == {
        "censored_gaussian": ["With: bounds = (0, none)", f"Outcomes: {low} censored at 0, of 147"],
        "ordered_beta": ["With: bounds = (0, 2.5)", f"Outcomes: {low} at 0, {high} at 2.5, of 147"],
    }
    options = {"family": "zero_inflated_poisson", "se": None, "verbose": 0}
    counts = data("epil")
    text = str(mixed_model("y ~ trt + (1 | subject)", counts, **options).summary())
    assert f"   Outcomes: {(counts['y'] == 0).sum()} at 0, of 236" in text


def test_the_report_of_a_network_has_twenty_lines_and_no_words_of_its_search(deep: Fit) -> None:
    quiet = replace(deep, messages=())
    text = str(quiet.summary())
    assert len(text.splitlines()) == 20
    for word in ("encoder", "ELBO", "KL", "start", "Newton", "ridge", "quasi-random", "weights"):
        assert word not in text
        if word != "start":
            assert word in str(deep.summary(verbose=True))
    values = re.search(r"logLik (\S+) \(df (\S+), effective\), AIC (\S+), BIC (\S+)", text)
    assert values is not None
    expected = [float(deep.loglik()), deep.df(), deep.aic(), deep.bic()]
    np.testing.assert_allclose([float(one) for one in values.groups()], expected, atol=0.051)
    profile = deep.random_profile([0, 9])
    rows = {one[one.index("Days") :].split()[2]: one for one in text.splitlines() if "curve" in one}
    assert list(rows) == ["0", "4", "9"]
    for time, sd in zip(("0", "9"), profile.table["sd"], strict=True):
        assert float(rows[time].split("= ")[1].split()[1]) == pytest.approx(sd, rel=0.02)


def test_short_notes_end_at_a_stop_and_those_of_the_search_are_counted(deep: Fit) -> None:
    done = deep.estimate
    off = replace(done, elbo=done.log_likelihood - 5.0 * done.panel.n)
    messages = (*deep.messages, *of_encoder(off, None))
    fit = replace(deep, estimate=off, messages=messages)
    text = str(fit.summary()).split("\n\n")[-1]
    head, *notes = text.splitlines()
    assert head == "Notes (with advice by summary(fit, verbose=True); 1 more about the search):"
    whole = str(fit.summary(verbose=True))
    for note in notes:
        assert len(note) <= 80
        assert note[2:] in " ".join(whole.split())
    assert len(notes) == len(deep.messages)
    assert "the encoder is" in whole
    assert "the encoder is" not in text


def test_groups_are_subjects_with_an_outcome_in_every_report(deep: Fit) -> None:
    frame = data("sleepstudy")
    frame.loc[frame["Subject"] == "308", "Reaction"] = np.nan
    said = "groups: Subject, 17 (1 more without an outcome)"
    fits = [
        mixed_model("Reaction ~ Days + (1 | Subject)", frame, verbose=0),
        mixed_model(
            "Reaction ~ 1 + (1 | Subject)", frame, method="gibbs", draws=400, warmup=100, verbose=0
        ),
    ]
    for fit in fits:
        assert said in " ".join(str(fit.summary()).split())
    panel = deep.estimate.panel
    gone = panel.subject == 0
    blank = panel.rows.data.y.masked_fill(gone, float("nan"))
    rows = replace(panel.rows, data=panel.rows.data._replace(y=blank))
    likelihood = replace(
        deep.estimate.likelihood, panel=replace(panel, rows=rows, observed=panel.observed & ~gone)
    )
    assert deep.estimate.panel.n == 18
    short = replace(deep, estimate=replace(deep.estimate, likelihood=likelihood))
    for verbose in (False, True):
        assert said in " ".join(str(short.summary(verbose=verbose)).split())


def test_only_fits_that_could_have_t_tests_are_told_so(deep: Fit, cbpp: Fit) -> None:
    for fit in (deep, cbpp):
        text = str(fit.summary(verbose=True))
        assert "has t tests" not in text
        assert "Tests: z, the normal distribution of large samples" in text


def test_no_line_is_wider_than_eighty(fit: Fit) -> None:
    assert max(len(line) for line in str(fit.summary()).splitlines()) <= 80


def test_a_long_formula_is_wrapped() -> None:
    terms = " + ".join(f"I(Days**{power} / 10)" for power in (2, 3, 4, 5))
    fit = mixed_model(
        f"Reaction ~ Days + {terms} + (Days | Subject)", data("sleepstudy"), verbose=0
    )
    text = str(fit.summary())
    assert max(len(line) for line in text.splitlines()) <= 80
    assert fit.formula in " ".join(text.split())


def test_no_trailing_blanks_and_no_machine_words(fit: Fit) -> None:
    text = str(fit.summary())
    assert all(line == line.rstrip() for line in text.splitlines())
    assert not re.search(
        r"\bnan\b|\binf\b|tensor|None|e-1[0-9]\b(?! under)", text.split("Fixed")[0]
    )


def test_only_linear_coefficients_are_tested(fit: Fit) -> None:
    text = str(fit.summary(verbose=True))
    table = text.split("Fixed effects:")[1].split("---")[0].splitlines()[2:]
    tested = [line.split("  ")[0].strip() for line in table if line]
    assert len(tested) == len(fit.fixef())
    for line in text.split("Fixed effects:")[0].splitlines():
        assert "***" not in line
        assert "z value" not in line
    assert "z value" not in fit.summary().random_effects.columns
    assert "z value" not in fit.summary().networks.columns
    assert "Pr(" not in text.split("---")[1].split("Signif")[1]


def test_html_holds_the_numbers_and_no_markup_of_the_user(fit: Fit) -> None:
    page = fit._repr_html_()
    assert page.startswith("<div>")
    assert page.rstrip().endswith("</div>")
    for value in fit.fixef():
        assert f"{value:.5g}" in page
    for value in fit.std_errors():
        assert f"{value:.5g}" in page
    assert f"{fit.aic():.5g}" in page
    assert len(re.findall(r"<table", page)) == (3 if fit.estimate.model.linear else 4)


def test_html_is_escaped() -> None:
    frame = data("sleepstudy").assign(flag=lambda d: d["Days"] < 5)
    fit = mixed_model("Reaction ~ I(Days < 3) + (1 | Subject)", frame, verbose=0)
    page = fit._repr_html_()
    assert "Days < 3" not in page
    assert "Days &lt; 3" in page


def test_the_deep_report_says_all_when_asked(deep: Fit) -> None:
    text = str(deep.summary(verbose=True))
    assert "Deep mixed model fitted by penalised maximum likelihood" in text
    assert "importance sampling" in text
    assert "logLik by Monte Carlo: standard error" in text
    assert "effective degrees of freedom" in text
    assert "(dnn(ns(Days, 2)) | Subject)" in text
    assert f"{deep.estimate.nested.log_likelihood:.2f}" in text  # type: ignore[union-attr]
    assert "sites" in text
    assert "seed 0" in text


def test_the_report_names_the_bound_and_counts_all_its_epochs(deep: Fit) -> None:
    formula = "Reaction ~ Days + (dnn(ns(Days, 2), hidden=(3,), ridge=5) | Subject)"
    options = {"control": {"epochs": 24, "holdout": 0.0}, "starts": 1, "verbose": 0}
    for method, epochs, words in (
        ("vb", 15 + 3, "a variational bound, q by Newton steps"),  # 5/8 and 1/8
        ("vae", 24 + 6, "variational auto-encoder"),
    ):
        fit = mixed_model(formula, data("sleepstudy"), method=method, se=None, **options)
        trace, text = fit.estimate.trace, str(fit.summary(verbose=True))
        assert trace is not None
        assert trace.epochs == len(trace.elbo) == epochs
        assert f"\n{epochs} epochs\n" in text
        assert f"Deep mixed model fitted by {words}" in text
    assert re.search(r"^\d+ epochs", str(deep.summary(verbose=True)), flags=re.MULTILINE) is None


def test_the_ridge_is_printed_with_few_digits(deep: Fit) -> None:
    lines = str(deep.summary(verbose=True)).splitlines()
    line = next(part for part in lines if part.startswith(" (dnn("))
    assert len(line.split()[-1].replace(".", "").lstrip("0")) <= 4


def test_a_bound_is_not_printed_above_its_log_likelihood(fit: Fit) -> None:
    found = re.search(r"a bound: (-?[0-9.]+) nats", str(fit.summary(verbose=True)))
    assert found is None or float(found.group(1)) >= 0


def test_quadrature_does_not_print_rounding_error(cbpp: Fit) -> None:
    found = re.search(r"logLik changes by (\S+) under", str(cbpp.summary()))
    assert found is None or not 0 < float(found.group(1)) < 1e-8


@pytest.mark.parametrize(
    ("difference", "error", "said"),
    [
        (0.267, 0.054, "better."),
        (-0.9, 0.2, "worse."),
        (-0.004, 0.001, "the two predict alike."),
        (
            -0.004,
            0.009,
            "inconclusive: differences below 0.018 nats per subject cannot be seen with "
            "200 subjects.",
        ),
        (
            0.05,
            0.237,
            "inconclusive: differences below 0.47 nats per subject cannot be seen with 200 "
            "subjects.",
        ),
    ],
)
def test_the_verdict_of_the_held_out_score(
    deep: Fit, difference: float, error: float, said: str
) -> None:
    held = HeldOut(200, 5, difference, error)
    fit = replace(deep, estimate=replace(deep.estimate, held_out=held))
    text = " ".join(str(fit.summary()).split())
    expected = (
        f"Held out in 5 folds (200 subjects): log score per subject {difference:+.3f} "
        f"(s.e. {error:.3f}) against the nested classical model: {said}"
    )
    assert expected in text


def test_missing_outcomes_are_counted() -> None:
    frame = data("sleepstudy")
    frame.loc[[1, 2], "Reaction"] = np.nan
    text = str(mixed_model("Reaction ~ Days + (1 | Subject)", frame, verbose=0).summary())
    assert "Number of obs: 178, 2 planned with a missing outcome; groups: Subject, 18" in text


@pytest.mark.parametrize("options", [{"family": "binomial"}, {}], ids=["glmm", "deep"])
def test_a_report_without_standard_errors(options: dict) -> None:
    if options:
        formula, frame = "cbind(incidence, size - incidence) ~ 1 + (1 | herd)", data("cbpp")
    else:
        formula, frame = DEEP, data("sleepstudy")
        options = {"control": {"epochs": 2, "draws": 32, "polish_draws": 32, "holdout": 0.0}}
    fit = mixed_model(formula, frame, se=None, verbose=0, **options)
    text = str(fit.summary())
    assert "NA" in text
    assert "***" not in text.split("---")[0]


def test_no_information_criterion_without_effective_degrees_of_freedom(deep: Fit) -> None:
    control = {"epochs": 2, "draws": 32, "polish_draws": 32, "holdout": 0.0}
    fit = mixed_model(DEEP, data("sleepstudy"), se=None, verbose=0, control=control)
    # 297 weights do not count as none: what cannot be counted is missing
    assert np.isnan(fit.df())
    assert np.isnan(fit.aic())
    assert np.isnan(fit.bic())
    assert np.isfinite(deep.aic())


def test_correlations_are_laid_out_as_in_lme4(fit_of: Callable[..., Fit]) -> None:
    lines = random_lines(fit_of("pbcseq_ns2").var_corr())
    assert lines[0].split() == ["Groups", "Name", "Variance", "Std.Dev.", "Corr"]
    assert [len(line.split()) for line in lines[1:]] == [4, 5, 6, 3]
    # lme4 prints 0.32 below the first, then 0.31 0.47
    assert lines[2].split()[-1] == "0.32"
    assert lines[3].split()[-2:] == ["0.31", "0.47"]
    starts = {line.index(entry) for line, entry in zip(lines[2:4], ["0.32", "0.31"], strict=True)}
    assert len(starts) == 1


def test_coefficient_lines() -> None:
    names = ["(Intercept)", "x"]
    table = wald_table(
        pd.Series([1234.5, -0.00123], index=names), pd.Series([10.0, 0.0004], index=names)
    )
    lines = fixed_lines(table)
    assert lines[0].split() == ["Estimate", "Std.", "Error", "z", "value", "Pr(>|z|)"]
    assert lines[1].split() == [
        "(Intercept)",
        "1234.5000000",
        "10.0000000",
        "123.45",
        "<2e-16",
        "***",
    ]
    assert lines[2].split() == ["x", "-0.0012300", "0.0004000", "-3.07", "0.00211", "**"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (565.5154, "565.5"),
        (0.02376, "0.02376"),
        (1.0, "1.000"),
        (123456.7, "123457"),
        (1.5e7, "1.500e+07"),
        (1e-21, "0"),
        (0.0, "0"),
        (float("nan"), "NA"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_a_report_is_its_sections_in_their_order(fit: Fit) -> None:
    tables = tables_of(fit, "auto")
    for verbose in (False, True):
        written = {section: section(fit, tables) for section in sections_of(fit, verbose)}
        text = "\n\n".join(one for one in written.values() if one is not None)
        assert text == str(fit.summary(verbose=verbose))
    assert (written[network_part] is None) == fit.estimate.model.linear
    assert (written[encoder_part] is None) == (fit.estimate.encoder is None)


def test_notes_are_those_of_the_checks_in_their_order(singular: Fit, deep: Fit) -> None:
    for fit in (singular, deep):
        done, info = fit.estimate, fit.information
        found = [message for check in CHECKS for message in check(done, info)]
        assert [message for message in fit.messages if message in found] == found
    (boundary,) = [check(singular.estimate, None) for check in CHECKS if check is of_boundary]
    assert "`t`" in boundary[0]
