"""Residuals correlated on a row: nlme on stacked rows, a density written out, draws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special, stats
from toys import check_information, random_theta

import dgmm
from dgmm import mv
from dgmm.formula import FormulaError
from dgmm.likelihood import choose
from dgmm.likelihood.numerical import LinearGaussian
from dgmm.multivariate.fit import MultivariateFit

HERE = Path(__file__).parent / "reference"
FORMULAS = ("y1 ~ time + group + (1 |p| id)", "y2 ~ time + group + (1 |p| id)")


def residual() -> pd.DataFrame:
    return pd.read_csv(HERE / "residual.csv")


@pytest.fixture(scope="module")
def fit() -> MultivariateFit:
    return dgmm.mixed_model(mv(*FORMULAS, rescor=True), residual())


def rho(fit: MultivariateFit) -> float:
    return float(fit.var_corr().loc["rescor_y2.y1", "sdcor"])


@pytest.mark.parametrize(
    ("key", "options", "method"),
    [
        ("rescor", {"rescor": True}, "ml"),
        ("both", {"rescor": ("y1", "y2"), "shared": "time"}, "ml"),
        ("reml", {"rescor": True}, "reml"),
    ],
)
def test_the_maximum_is_that_of_nlme(key: str, options: dict, method: str) -> None:
    stored = json.loads((HERE / "residual.json").read_text())[key]
    fit = dgmm.mixed_model(mv(*FORMULAS, **options), residual(), method=method, se=None)
    assert fit.estimate.converged
    assert float(fit.loglik()) == pytest.approx(stored["logLik"], abs=1e-6)
    assert fit.df() == stored["df"]
    assert rho(fit) == pytest.approx(stored["rho"], abs=2e-5)
    assert fit.fixef()["y1", "(Intercept)"] == pytest.approx(stored["fixef"]["a"], abs=2e-5)
    assert fit.sigma().to_list() == pytest.approx(list(stored["sigma"].values()), abs=1e-5)


# -- three outcomes, every set of them on some rows ------------------------------------------------

SIGMA = np.array([0.8, 0.5, 1.2])
R = np.array([[1.0, 0.5, -0.3], [0.5, 1.0, 0.2], [-0.3, 0.2, 1.0]])


@pytest.fixture(scope="module")
def three() -> MultivariateFit:
    rng, n = np.random.default_rng(8), 25
    data = pd.DataFrame({"id": np.repeat(np.arange(n), 5), "t": np.tile(np.arange(5.0), n)})
    e = rng.normal(size=(5 * n, 3)) @ np.linalg.cholesky(np.outer(SIGMA, SIGMA) * R).T
    for k in range(3):
        data[f"x{k}"] = k + 0.2 * data.t + rng.normal(size=n)[data.id] + e[:, k]
        data.loc[rng.random(5 * n) < 0.25, f"x{k}"] = np.nan
    data = data.sample(frac=1.0, random_state=3)  # rows of a subject stand apart
    formulas = [f"x{k} ~ t + (1 |p| id)" for k in range(3)]
    return dgmm.mixed_model(mv(*formulas, rescor=True, shared="t"), data, se=None)


def written_out(fit: MultivariateFit, data: pd.DataFrame) -> float:
    """The normal density of the reported estimates, subject by subject."""
    names, beta, sigma = list(fit.names), fit.fixef(), fit.sigma().to_numpy()
    table = fit.var_corr()
    own = table[(table.kind == "sd") & (table.group != "Residual")].sdcor.to_numpy()
    D = fit.correlation().to_numpy() * np.outer(own, own)
    S = np.diag(sigma**2)
    pairs = table[(table.kind == "cor") & (table.group == "Residual")]
    for one, two, value in pairs[["name1", "name2", "sdcor"]].itertuples(index=False):
        i, j = names.index(one), names.index(two)
        S[i, j] = S[j, i] = value * sigma[i] * sigma[j]
    total = 0.0
    for _, rows in data.groupby("id"):
        y = rows[names].to_numpy()
        mean = np.column_stack([beta[k, "(Intercept)"] + beta[k, "t"] * rows.t for k in names])
        V = np.kron(np.ones((len(rows), len(rows))), D) + np.kron(np.eye(len(rows)), S)
        seen = ~np.isnan(y).ravel()
        gap = (y - mean).ravel()[seen]
        total += stats.multivariate_normal.logpdf(gap, np.zeros(len(gap)), V[np.ix_(seen, seen)])
    return float(total)


def test_the_value_is_the_normal_density_written_out(three) -> None:
    assert len(three.estimate.likelihood.together.sets) == 7
    assert float(three.loglik()) == pytest.approx(written_out(three, three.frame), abs=1e-8)


def test_derivatives_are_those_of_the_dense_density(three) -> None:
    model = three.estimate.model
    theta = random_theta(model, 4, 0.4)
    ours = choose(model, three.estimate.panel, "exact")
    dense, pack = LinearGaussian(model, three.estimate.panel), model.packing.pack
    assert ours.value(theta) == pytest.approx(dense.value(theta), abs=1e-8)
    assert float(ours.each(theta).value.sum()) == pytest.approx(ours.value(theta), abs=1e-8)
    expected = pack(dense.value_and_gradient(theta)[1])
    torch.testing.assert_close(
        pack(ours.value_and_gradient(theta)[1]), expected, atol=1e-8, rtol=1e-10
    )
    torch.testing.assert_close(ours.scores(theta).sum(0), expected, atol=1e-8, rtol=1e-10)
    check_information(ours, theta)


# -- what follows from it --------------------------------------------------------------------------


def test_history_weighs_outcomes_of_one_row_by_their_correlation(fit) -> None:
    past = residual()[residual().id == "s07"].dropna().assign(id="new")
    new = pd.DataFrame({"id": ["new"], "time": [7.0], "group": [1]})
    found = fit.predict(new, outcome="y2", history=past)["fit"].item()
    beta, sigma, table = fit.fixef(), fit.sigma().to_numpy(), fit.var_corr()
    own = table[(table.kind == "sd") & (table.group != "Residual")].sdcor.to_numpy()
    D = fit.correlation().to_numpy() * np.outer(own, own)
    S = np.diag(sigma) @ np.array([[1, rho(fit)], [rho(fit), 1]]) @ np.diag(sigma)
    lines = [
        beta[k, "(Intercept)"] + beta[k, "time"] * past.time + beta[k, "group"] * past.group
        for k in ("y1", "y2")
    ]
    gap = (past[["y1", "y2"]].to_numpy() - np.column_stack(lines)).ravel()
    m = len(past)
    V = np.kron(np.ones((m, m)), D) + np.kron(np.eye(m), S)
    shift = np.kron(np.ones((1, m)), D) @ np.linalg.solve(V, gap)
    at = beta["y2", "(Intercept)"] + 7 * beta["y2", "time"] + beta["y2", "group"]
    assert found == pytest.approx(at + shift[1], abs=1e-8)


def test_a_missing_outcome_is_imputed_given_the_other_one_on_its_row(fit) -> None:
    data = residual()
    gap = data.y1.notna() & data.y2.isna()
    completed = fit.impute(60, seed=3)
    slope = rho(fit) * fit.sigma()["y2"] / fit.sigma()["y1"]
    lines = fit.fitted()
    expected = lines["y2"] + slope * (data.y1 - lines["y1"])
    mean = np.mean([frame.y2[gap] for frame in completed], axis=0)
    spread = np.std([frame.y2[gap] for frame in completed], axis=0)
    error = mean - expected[gap]
    assert float(np.abs(error / spread).mean()) < 0.2  # 60 draws: 0.10 of their spread
    assert np.corrcoef(mean - lines["y2"][gap], (data.y1 - lines["y1"])[gap])[0, 1] > 0.9


def test_simulated_residuals_have_the_correlation(fit) -> None:
    drawn = fit.simulate(30, seed=2, condition_on_data=True)
    lines = fit.fitted()
    found = np.concatenate([(frame - lines).to_numpy() for frame in drawn])
    error = (1 - rho(fit) ** 2) / np.sqrt(len(found))
    assert np.corrcoef(found.T)[0, 1] == pytest.approx(rho(fit), abs=4 * error)
    assert found.std(0) == pytest.approx(fit.sigma().to_numpy(), rel=0.03)


def test_intervals_of_the_correlation_are_on_the_scale_of_atanh(fit) -> None:
    row = fit.var_corr().loc["rescor_y2.y1"]
    ends = np.tanh(np.arctanh(row.sdcor) + np.array([-1, 1]) * 1.959964 * row.se_working)
    np.testing.assert_allclose(fit.confint().loc["residuals", "rescor_y2.y1"], ends, rtol=1e-5)
    assert row.se_working == pytest.approx(1 / np.sqrt(218 - 50), rel=0.15)  # rows with both
    assert f"on a row: {row.sdcor:.4f}" in str(fit.summary())


def test_a_third_outcome_of_another_kind_stays_what_it_is() -> None:
    rng, data = np.random.default_rng(6), residual()
    who = data.id.str[1:].astype(int)
    p = special.expit(rng.normal(size=51)[who])
    data["z"] = (rng.random(len(data)) < p).astype(float)
    alone = [f.replace("|p|", "|") for f in FORMULAS]
    two = dgmm.mixed_model(mv(*alone, rescor=True), data, se=None)
    three = dgmm.mixed_model(
        mv(*alone, "z ~ 1 + (1 | id)", rescor=True), data,
        family=["gaussian", "gaussian", "bernoulli"], se=None, likelihood="laplace",
    )  # fmt: skip
    one = dgmm.mixed_model("z ~ 1 + (1 | id)", data, family="bernoulli", likelihood="laplace")
    total = float(two.loglik()) + float(one.loglik())
    assert float(three.loglik()) == pytest.approx(total, abs=1e-4)
    assert rho(three) == pytest.approx(rho(two), abs=1e-3)


def test_a_file_holds_it(fit, tmp_path: Path) -> None:
    fit.save(tmp_path / "rows.dgmm")
    read = dgmm.load(tmp_path / "rows.dgmm")
    assert str(read.summary()) == str(fit.summary())
    assert read.log_score(residual())["joint"].sum() == pytest.approx(float(fit.loglik()))
    assert fit.anova()["Df"].iloc[1] == 2


def test_bad_input_is_refused_in_words() -> None:
    data = residual()
    with pytest.raises(FormulaError, match="names of at least two outcomes, not 'y1'"):
        mv(*FORMULAS, rescor="y1")
    with pytest.raises(ValueError, match="names `y3`; such outcomes are `y1`, `y2`"):
        dgmm.mixed_model(mv(*FORMULAS, rescor=("y1", "y3")), data)
    long = data.melt(id_vars=["id", "time", "group"], var_name="item").dropna()
    with pytest.raises(ValueError, match="a column per outcome, in which `item` has been spread"):
        dgmm.mixed_model(mv(*FORMULAS, rescor=True), long, outcome="item")
    counts = data.assign(y2=data.y2.round().abs())
    with pytest.raises(ValueError, match="two to eight Gaussian outcomes with identity link"):
        dgmm.mixed_model(mv(*FORMULAS, rescor=True), counts, family=["gaussian", "poisson"])
