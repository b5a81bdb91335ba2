"""The page of checks: what it sees in fits that are right and in fits that are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import data
from scipy import stats
from toys import crossed_frame, frame, generator

import dgmm
from dgmm import Fit, mixed_model, mv
from dgmm.diagnostics.check import Checked, judged
from dgmm.diagnostics.draws import draws
from dgmm.diagnostics.evidence import Evidence
from dgmm.diagnostics.finding import Finding
from dgmm.diagnostics.of_estimate import boundary, monte_carlo
from dgmm.diagnostics.of_residuals import effects, influential, outliers, spread, uniformity
from dgmm.diagnostics.testing import Tested
from dgmm.mcmc.diagnostics import pareto_k


def test_of_overdispersed_counts(epil: Fit) -> None:
    """The epileptics' counts vary more than a Poisson, and have more zeros: a known case."""
    page = epil.check(seed=1)
    table = page.table
    for name in ("dispersion", "zeros"):
        assert table.loc[name, "verdict"] == "look"
    assert table.loc["convergence", "verdict"] == "ok"
    assert page.usable
    assert page.verdict == "look"
    better = Evidence(epil.update(family="negative_binomial"), 1, draws=1).tested
    assert better["uniformity"].p > 0.01
    assert better["zeros"].p > 0.01
    assert "dispersion" not in better  # its parameter takes it up


def test_the_page_in_words_and_as_html(sleepstudy: Fit) -> None:
    page = sleepstudy.check()
    text = str(page)
    assert max(map(len, text.splitlines())) <= 80
    assert "Newton decrement" in text
    assert "row 56, 59" in page.table.loc["outliers", "said"]  # subject 332
    assert page.to_html().count("<tr>") == len(page.table) + 1
    assert "<html>" in page.to_html()
    assert str(dgmm.check(sleepstudy)) == text


def test_advice_is_for_the_kind_of_outcome(sleepstudy: Fit, epil: Fit, toenail: Fit) -> None:
    """No dispersion= where a family has no dispersion, no t distribution of counts."""
    said = {}
    for fit in (sleepstudy, epil, toenail):
        evidence = Evidence(fit, 1, draws=1)
        said[fit] = [find(evidence).advice for find in (uniformity, spread, outliers)]
    assert said[sleepstudy] == [
        "another family or link, dispersion=; plot_residuals() shows where",
        "dispersion='~ time', a family whose variance follows the mean, a random slope",
        "look at the rows named; student_t for heavy tails",
    ]
    assert said[epil] == [
        "another family or link, zi=; plot_residuals() shows where",
        "negative_binomial, beta_binomial, a random slope",
        "look at the rows named; negative_binomial, beta_binomial",
    ]
    assert said[toenail] == [
        "another family or link; plot_residuals() shows where",
        "another link, a random slope",
        "look at the rows named; another link",
    ]


def test_verdicts_follow_holm() -> None:
    p = [0.001, 0.02, 0.03, np.nan]
    found = judged([Finding(str(j), "", p=value) for j, value in enumerate(p)])
    assert [one.verdict for one in found] == ["look", "look", "look", "ok"]
    found = judged([Finding(str(j), "", p=value) for j, value in enumerate([0.02, 0.03, 0.9])])
    assert [one.verdict for one in found] == ["ok", "ok", "ok"]


def test_a_fit_that_has_not_converged_is_not_usable(sleepstudy: Fit) -> None:
    done = replace(sleepstudy.estimate, converged=False, messages=("stopped early",))
    page = replace(sleepstudy, estimate=done).check()
    assert not page.usable
    assert "not usable before something is done" in str(page)
    assert "stopped early" in page.table.loc["convergence", "said"]


def test_a_singular_fit_is_said_to_be_one(singular: Fit) -> None:
    found = boundary(Evidence(singular, 1))
    assert found.verdict == "look"
    assert "ranova" in found.advice


def test_draws_of_random_effects_have_the_moments_of_the_posterior(epil: Fit) -> None:
    done = epil.estimate
    b = torch.stack([one.b for one in draws(done, done.theta, 400, generator(2))])  # type: ignore[misc]
    exact = done.likelihood.posterior(done.theta).effects()
    error = exact.covariance[0][:, 0, 0].sqrt() / 400**0.5
    assert bool(((b.mean(0) - exact.mean[0])[:, 0].abs() < 4.5 * error).all())
    ratio = b.var(0)[:, 0] / exact.covariance[0][:, 0, 0]
    assert float(ratio.mean()) == pytest.approx(1.0, abs=4 * (2 / 400 / 59) ** 0.5)


def test_completed_residuals_are_uniform_under_dropout_and_those_seen_are_not() -> None:
    """Who has a high outcome leaves: last visits of those still there are low."""
    rng = np.random.default_rng(4)
    n, J = 400, 5
    b = rng.normal(size=(n, 1))
    y = 1 + b + rng.normal(size=(n, J))
    gone = np.cumsum(y > 1.5, axis=1)[:, :-1] > 0
    y[:, 1:][gone] = np.nan
    wide = pd.DataFrame({"id": np.repeat(np.arange(n), J), "y": y.ravel()})
    fit = mixed_model("y ~ 1 + (1 | id)", wide, se=None, verbose=0)
    last = slice(J - 1, None, J)
    whole = fit.residuals("quantile", conditional=False, seed=1).iloc[last]
    seen = fit.residuals("quantile", conditional=False, complete=False, seed=1).iloc[last].dropna()
    assert stats.kstest(whole, "uniform").pvalue > 0.01
    assert stats.kstest(seen, "uniform").pvalue < 1e-6
    assert Evidence(fit, 2).tested["population"].p > 0.01
    assert Evidence(fit, 2).tested["uniformity"].p > 0.01


def test_noise_that_is_correlated_in_time_and_means_that_bend() -> None:
    rng = np.random.default_rng(5)
    n, J = 60, 8
    e = rng.normal(size=(n, J))
    for j in range(1, J):
        e[:, j] = 0.6 * e[:, j - 1] + 0.8 * e[:, j]
    t = np.tile(np.arange(J), n)
    y = 1 + rng.normal(size=(n, 1)) + e
    wide = pd.DataFrame({"id": np.repeat(np.arange(n), J), "t": t, "y": y.ravel()})
    fit = mixed_model("y ~ t + (t | id)", wide, verbose=0)
    assert Evidence(fit, 1).tested["autocorrelation"].p < 1e-4
    plain = 1 + rng.normal(size=(n, 1)) + rng.normal(size=(n, J))
    bent = wide.assign(y=plain.ravel() + 0.1 * (t - 3.5) ** 2)
    found = Evidence(mixed_model("y ~ t + (t | id)", bent, verbose=0), 1).tested
    assert found["mean"].p < 1e-6


def test_crossed_factors_and_sampled_fits_are_looked_at_by_a_draw() -> None:
    """Their tests have the rows as units; the page says so."""
    crossed = mixed_model("y ~ x + (1 | a) + (1 | b)", crossed_frame(), verbose=0)
    page = crossed.check()
    assert "one draw of theta" in page.how
    assert page.table.loc["distribution of y given b", "verdict"] == "ok"
    sampled = mixed_model(
        "Reaction ~ Days + (Days | Subject)", data("sleepstudy"), method="gibbs", draws=200,
        chains=2, verbose=0,
    )  # fmt: skip
    page = sampled.check()
    assert "R-hat" in page.table.loc["convergence", "said"]
    assert "row 5" in page.table.loc["outliers", "said"]
    u = sampled.residuals("quantile")
    assert u.between(0, 1).all()


def test_one_of_several_outcomes() -> None:
    wide = frame(40, 5, seed=2, missing=0.1)
    fit = mixed_model(
        mv("y ~ x + (1 | id)", "count ~ x + (1 | id)"),
        wide,
        family=["gaussian", "poisson"],
        verbose=0,
    )
    page = fit["count"].check()
    assert isinstance(page, Checked)
    assert "dispersion" in page.table.index
    given = fit.residuals("count", type="quantile")
    assert given.isna().sum() == wide["count"].isna().sum()


def test_a_deep_fit(deep: Fit) -> None:
    evidence = Evidence(deep, 1, draws=1)
    found = monte_carlo(evidence)
    assert found is not None
    weights = torch.cat(deep.estimate.likelihood.posterior(deep.estimate.theta).log_weights(), 1)
    assert weights.shape[1] == 18
    assert f"{pareto_k(weights.numpy()).max():.2f}" in found.said
    assert influential(evidence) is None  # weights of a network have no one-step deletion
    vars(evidence)["tested"] = {"effects": Tested(1.0, 1, 0.3)}
    of_b = effects(evidence)
    assert of_b is not None
    assert of_b.advice.endswith("another latent= or ridge=")  # it has a network already
    u = deep.residuals("quantile")
    assert stats.kstest(u, "uniform").pvalue > 0.001


def test_the_tail_of_weights() -> None:
    """Ratios N(0, 1) to N(0, s^2): bounded where s > 1, with k = 1 - s^2 where s < 1."""
    rng = np.random.default_rng(0)
    wide, narrow = 1.5 * rng.normal(size=20_000), 0.5 * rng.normal(size=20_000)
    weights = np.column_stack([-0.5 * wide**2 * (1 - 1 / 2.25), -0.5 * narrow**2 * (1 - 1 / 0.25)])
    k = pareto_k(weights)
    assert k[0] < 0.3
    assert k[1] == pytest.approx(0.75, abs=0.15)
