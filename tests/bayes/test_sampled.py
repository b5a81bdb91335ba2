"""Fits by method="gibbs": published and stored posteriors, likelihood fits, and every method."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import benchmark
from conftest import data as shipped
from scipy import special, stats

import dgmm
from dgmm import Fit, mixed_model
from dgmm.inference.within_between import drawn_within_between

SLEEP = "Reaction ~ Days + (Days | Subject)"
MATH = "MathAch ~ ses + (1 + ses | School)"


def math() -> pd.DataFrame:
    frame = shipped("math_achieve")
    mean = frame.groupby("School", observed=True)["SES"].transform("mean")
    return frame.assign(ses=frame["SES"] - mean)


@pytest.fixture(scope="module")
def schools() -> Fit:
    return mixed_model(MATH, math(), method="gibbs", verbose=0)


@pytest.fixture(scope="module")
def sleep() -> Fit:
    frame = shipped("sleepstudy").copy()
    frame.loc[[3, 8], "Reaction"] = np.nan
    return mixed_model(SLEEP, frame, method="gibbs", draws=1000, seed=3, verbose=0)


@pytest.fixture(scope="module")
def counts() -> tuple[Fit, Fit]:
    """Poisson counts in 40 groups by the sampler, and by quadrature."""
    rng = np.random.default_rng(8)
    g, x = np.repeat(np.arange(40), 6), rng.normal(size=240)
    y = rng.poisson(np.exp(0.5 + 0.4 * x + 0.6 * rng.normal(size=40)[g]))
    frame, formula = pd.DataFrame({"y": y, "x": x, "g": g}), "y ~ x + (1 | g)"
    sampled = mixed_model(formula, frame, family="poisson", method="gibbs", draws=800, verbose=0)
    return sampled, mixed_model(formula, frame, family="poisson", verbose=0)


# -- posteriors that are known -----------------------------------------------------------------


def test_the_schools_have_the_posterior_of_unit_information() -> None:
    """An independent program under the same priors, 4 x 2500 draws: means and their deviations."""
    fit = mixed_model(MATH, math(), method="gibbs", prior="hoff", draws=1000, verbose=0)
    known = {"(Intercept)": (12.641, 0.240), "ses": (2.202, 0.126), "sigma": (6.062, 0.052)}
    table = fit.posterior_table()
    for name, (mean, sd) in known.items():
        assert abs(table["Mean"][name] - mean) < 0.1 * sd + 3 * table["MCSE"][name]
        assert table["SD"][name] == pytest.approx(sd, rel=0.06)
    variance = fit.var_corr()["vcov"]
    drawn = fit.posterior_draws()
    for row, mean in ((0, 8.641), (1, 0.666)):
        own = drawn.iloc[:, 2 + row] ** 2
        error = 3 * table["MCSE"].iloc[2 + row] * 2 * table["Mean"].iloc[2 + row]
        assert abs(variance.iloc[row] - mean) < 0.1 * own.std() + error


def test_the_schools_mix_at_default_settings(schools: Fit) -> None:
    table = schools.posterior_table()
    assert table["R-hat"].max() <= 1.01
    assert min(table["ESS bulk"].min(), table["ESS tail"].min()) >= 400
    assert schools.estimate.converged
    assert not schools.estimate.messages
    reml = mixed_model(MATH, math(), method="reml", verbose=0)
    gap = (schools.fixef() - reml.fixef()).abs() / table["SD"][:2]
    assert (gap < 0.1).all()
    assert schools.estimate.chains is not None
    assert schools.estimate.chains.inside == (0, -1)  # schools tell their mean, not their slope


def test_the_schools_of_hoff_have_his_posterior() -> None:
    folder = os.environ.get("DGMM_DATA")
    if folder is None or not (Path(folder) / "nels_math.csv").exists():
        pytest.skip("nels_math.csv is not in DGMM_DATA")
    frame = pd.read_csv(Path(folder) / "nels_math.csv")
    mean = frame.groupby("sch_id")["stu_ses"].transform("mean")
    frame = frame.assign(ses=frame["stu_ses"] - mean)
    formula = "stu_mathscore ~ ses + (1 + ses | sch_id)"
    ml = mixed_model(formula, frame, verbose=0)
    assert float(ml.loglik()) == pytest.approx(-7280.212, abs=1e-3)
    assert ml.fixef().to_list() == pytest.approx([48.1049, 2.3815], abs=1e-4)
    assert ml.std_errors().to_list() == pytest.approx([0.5272, 0.2868], abs=1e-4)
    fit = mixed_model(formula, frame, method="gibbs", prior="hoff", draws=2500, verbose=0)
    table, drawn = fit.posterior_table(), fit.posterior_draws()
    assert table["Mean"]["ses"] == pytest.approx(2.38, abs=0.02)
    assert 1.76 < table["2.5 %"]["ses"] < 1.85
    assert 2.92 < table["97.5 %"]["ses"] < 2.97
    below = special.ndtr(-drawn["ses"] / drawn["sd_ses|sch_id"]).mean()
    assert below == pytest.approx(0.08, abs=0.01)
    assert fit.var_corr()["vcov"].to_list() == pytest.approx([23.5, 2.8, 1.35, 77.8], abs=0.2)


def test_crossed_factors_have_the_posterior_near_reml() -> None:
    rng = np.random.default_rng(3)
    N = 700
    frame = pd.DataFrame(
        {"a": rng.integers(0, 40, N), "b": rng.integers(0, 35, N), "x": rng.normal(size=N)}
    )
    u, v = rng.normal(size=(40, 2)) * [1.0, 0.5], 0.8 * rng.normal(size=35)
    frame["y"] = 3 + frame.x * (1 + u[frame.a, 1]) + u[frame.a, 0] + v[frame.b]
    frame["y"] += rng.normal(size=N)
    formula = "y ~ x + (1 + x | a) + (1 | b)"
    reml = mixed_model(formula, frame, method="reml", verbose=0)
    fit = mixed_model(formula, frame, method="gibbs", draws=1000, verbose=0)
    check_near(fit, reml)
    assert fit.n_groups() == {"a": 40, "b": 35}
    both = [one.ranef() for one in (fit, reml)]
    for name in ("a", "b"):
        assert np.abs(both[0][name] - both[1][name]).max().max() < 0.15
        assert np.corrcoef(both[0][name].iloc[:, 0], both[1][name].iloc[:, 0])[0, 1] > 0.999


def check_near(fit: Fit, maximum: Fit) -> None:
    """Fixed effects within 0.15, log variances within 0.5 posterior standard deviations."""
    table, drawn = fit.posterior_table(), fit.posterior_draws()
    assert table["R-hat"].max() < 1.02
    names = list(maximum.fixef().index)
    gap = (table["Mean"][names] - maximum.fixef()).abs() / table["SD"][names]
    assert (gap < 0.15).all(), gap
    sd = maximum.var_corr().query("kind == 'sd'")
    for group, name, value in sd[["group", "name1", "sdcor"]].itertuples(index=False, name=None):
        own = np.log(drawn["sigma" if group == "Residual" else f"sd_{name}|{group}"])
        assert abs(own.mean() - np.log(value)) < 0.5 * own.std(), (group, name)


def test_counts_have_the_posterior_near_quadrature(counts: tuple[Fit, Fit]) -> None:
    check_near(*counts)


def test_a_deviation_has_the_posterior_of_quadrature_and_not_the_maximum() -> None:
    """Six coefficients for 59 patients: benchmarks/gibbs_posterior.py."""
    study = benchmark("gibbs_posterior")
    exact = pd.read_csv(study.RESULTS / "gibbs_posterior.csv").set_index("what")
    mean, sd = exact.loc["posterior under the default prior", ["mean", "sd"]]
    frame, options = shipped("epil"), {"family": "poisson", "verbose": 0}
    fit = mixed_model(study.FORMULA, frame, method="gibbs", draws=600, warmup=300, **options)
    drawn, size = np.log(fit.posterior_draws()[study.SCALAR]), fit.posterior_table()["ESS bulk"]
    assert abs(drawn.mean() - mean) < 4 * sd / np.sqrt(size[study.SCALAR])
    assert drawn.std() == pytest.approx(sd, rel=0.1)
    top = exact["mode"].iloc[0]
    ml = mixed_model(study.FORMULA, frame, se=None, **options)
    assert np.log(ml.var_corr()["sdcor"].iloc[0]) == pytest.approx(top, abs=1e-4)
    assert 0.5 < (mean - top) / sd < 0.8  # by construction: REML, skewness


def test_yes_or_no_has_the_posterior_near_quadrature() -> None:
    rng = np.random.default_rng(4)
    g, x = np.repeat(np.arange(60), 10), rng.normal(size=600)
    eta = 0.3 + 0.7 * x + rng.normal(size=60)[g]
    frame = pd.DataFrame({"y": rng.random(600) < special.expit(eta), "x": x, "g": g})
    frame = frame.assign(y=frame["y"].astype(float))
    options = {"family": "bernoulli", "verbose": 0}
    fit = mixed_model("y ~ x + (1 | g)", frame, method="gibbs", draws=500, **options)
    check_near(fit, mixed_model("y ~ x + (1 | g)", frame, **options))
    assert fit.estimate.chains is not None
    rates = fit.estimate.chains.acceptance
    assert 0.3 < float(rates["effects 1"].mean()) < 0.55
    assert float(rates["coefficients"].min()) > 0.5


@pytest.mark.parametrize(
    ("family", "parameter"),
    [
        pytest.param("gamma", "shape", marks=pytest.mark.slow),
        pytest.param("negative_binomial", "size", marks=pytest.mark.slow),
        pytest.param("cumulative", "2|3", marks=pytest.mark.slow),
    ],
)
def test_other_families_are_sampled_with_their_parameters(family: str, parameter: str) -> None:
    rng = np.random.default_rng(6)
    g, x = np.repeat(np.arange(40), 8), rng.normal(size=320)
    eta = 0.5 + 0.5 * x + 0.5 * rng.normal(size=40)[g]
    y = {
        "gamma": rng.gamma(4.0, np.exp(eta) / 4),
        "negative_binomial": rng.poisson(np.exp(eta) * rng.gamma(3.0, 1 / 3, 320)),
        "cumulative": 1 + (eta + rng.logistic(size=320) > np.array([[-1], [0.5], [2]])).sum(0),
    }[family].astype(float)
    frame = pd.DataFrame({"y": y, "x": x, "g": g})
    if family == "cumulative":
        frame["y"] = pd.Categorical(y.astype(int), categories=[1, 2, 3, 4], ordered=True)
    options = {"family": family, "verbose": 0}
    ml = mixed_model("y ~ x + (1 | g)", frame, **options)
    fit = mixed_model("y ~ x + (1 | g)", frame, method="gibbs", draws=800, **options)
    table = fit.posterior_table()
    assert table["R-hat"].max() < 1.05
    gap = (table["Mean"]["x"] - ml.fixef()["x"]) / table["SD"]["x"]
    assert abs(gap) < 0.25
    own, other = fit.family_parameters().loc[parameter], ml.family_parameters().loc[parameter]
    assert abs(own["estimate"] - other["estimate"]) < 0.5 * own["std_error"]
    assert own["lower"] < own["estimate"] < own["upper"]


# -- calibration, small ------------------------------------------------------------------------


def test_ranks_of_the_truth_are_uniform_and_a_slip_in_the_prior_is_found() -> None:
    """A hundred data sets; all 500 and other models are in benchmarks/gibbs.py."""
    study = benchmark("gibbs")
    case = replace(study.CASES[0], thin=6, warmup=100)
    assert study.uniformity(study.ranks(case, 100))["p"].min() > 1e-3
    assert study.uniformity(study.ranks(case, 100, mutant=True))["p"].min() < 1e-6


def test_sweeps_and_new_outcomes_in_turn_keep_the_prior() -> None:
    study = benchmark("gibbs")
    assert study.geweke(study.CASES[0], 600)["z"].abs().max() < 4


# -- chains ------------------------------------------------------------------------------------


def test_chains_go_on_to_the_draws_of_a_longer_run(tmp_path: Path) -> None:
    options = {"method": "gibbs", "warmup": 50, "verbose": 0, "chains": 2}
    frame = shipped("sleepstudy")
    with pytest.warns(UserWarning, match="not mixed"):
        short = mixed_model(SLEEP, frame, draws=40, **options)
    with pytest.warns(UserWarning, match="not mixed"):
        long = mixed_model(SLEEP, frame, draws=60, **options)
    short.save(tmp_path / "fit.dgmm")
    read = dgmm.load(tmp_path / "fit.dgmm")
    assert str(read.summary()) == str(short.summary())
    for one in (short, read):
        with pytest.warns(UserWarning, match="not mixed"):
            more = one.more(20)
        assert more.call.draws == 60
        assert np.array_equal(more.posterior_draws(), long.posterior_draws())
        pd.testing.assert_frame_equal(more.ranef(cond_var=True), long.ranef(cond_var=True))


def test_an_interrupted_run_ends_where_it_would_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dgmm.bayes.gibbs import Gibbs

    frame, file = shipped("sleepstudy"), tmp_path / "chains.ckpt"
    options = {"method": "gibbs", "draws": 60, "warmup": 40, "verbose": 0}
    whole = mixed_model(SLEEP, frame, **options)
    assert whole.estimate.converged
    assert str(whole.summary()).startswith("NOTE: the chains have nearly mixed: R-hat is above")
    sweep, seen = Gibbs.sweep, []

    def stopping(self: Gibbs, *args: object) -> None:
        seen.append(1)
        if len(seen) == 275:  # the pilot has 200 sweeps
            raise KeyboardInterrupt
        sweep(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Gibbs, "sweep", stopping)
    with pytest.raises(KeyboardInterrupt):
        mixed_model(SLEEP, frame, control={"checkpoint": str(file)}, **options)
    monkeypatch.setattr(Gibbs, "sweep", sweep)
    again = mixed_model(SLEEP, frame, control={"checkpoint": str(file)}, **options)
    assert np.array_equal(again.posterior_draws(), whole.posterior_draws())


def test_further_draws_have_a_checkpoint_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dgmm.bayes.gibbs import Gibbs

    file = str(tmp_path / "more.ckpt")
    formula, frame = "Reaction ~ 1 + (1 | Subject)", shipped("sleepstudy")
    fit = mixed_model(formula, frame, method="gibbs", draws=300, warmup=100, verbose=0)
    whole = fit.more(100)
    sweep, seen = Gibbs.sweep, []

    def stopping(self: Gibbs, *args: object) -> None:
        seen.append(1)
        if len(seen) == 55:
            raise KeyboardInterrupt
        sweep(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Gibbs, "sweep", stopping)
    with pytest.raises(KeyboardInterrupt):
        fit.more(100, checkpoint=file)
    seen.clear()
    again = fit.more(100, checkpoint=file)
    assert len(seen) == 50  # fifty had been kept
    assert np.array_equal(again.posterior_draws(), whole.posterior_draws())
    pd.testing.assert_frame_equal(again.ranef(cond_var=True), whole.ranef(cond_var=True))
    with pytest.raises(ValueError, match="different: where the chains stand"):
        whole.more(100, checkpoint=file)
    with pytest.raises(ValueError, match="different: draws"):
        fit.more(200, checkpoint=file)
    with pytest.raises(ValueError, match="its folder does not exist"):
        fit.more(100, checkpoint=str(tmp_path / "nowhere" / "file"))


def test_another_seed_gives_other_draws_and_the_same_seed_the_same() -> None:
    options = {"method": "gibbs", "draws": 200, "warmup": 50, "verbose": 0, "chains": 4}
    fits = [
        mixed_model("Reaction ~ 1 + (1 | Subject)", shipped("sleepstudy"), seed=seed, **options)
        for seed in (1, 1, 2)
    ]
    draws = [fit.posterior_draws().to_numpy() for fit in fits]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_chains_that_have_not_mixed_are_called_so_at_the_top() -> None:
    with pytest.warns(UserWarning, match="have not mixed: R-hat"):
        fit = mixed_model(
            SLEEP, shipped("sleepstudy"), method="gibbs", draws=10, warmup=0, verbose=0
        )
    assert not fit.estimate.converged
    assert str(fit.summary()).startswith("NOTE: the chains have not mixed: R-hat is above 1.01")


# -- what a fit of draws answers -----------------------------------------------------------------


def test_the_summary_has_priors_and_diagnostics(schools: Fit) -> None:
    text = str(schools.summary())
    for words in (
        "Linear mixed model fitted by Gibbs sampling",
        "4 chains of 2000 draws after 500 sweeps",
        "Hierarchical centring: (Intercept) in School; not ses",
        "R-hat ESS bulk ESS tail",
        "sd((Intercept), ses) ~ half_t(2, 17.2, 26)",
        "sigma ~ half_t(2, 17.2)",
    ):
        assert words in text


def test_a_fit_of_draws_prints_itself_and_is_tidied_beside_a_maximum(sleep: Fit) -> None:
    assert "Posterior means over 4 chains of 1000 draws" in repr(sleep)
    table, drawn = sleep.tidy(conf_int=True).set_index("term"), sleep.posterior_draws()
    assert list(table.index) == list(drawn.columns)
    assert table["group"].to_list() == [None, None, *["Subject"] * 3, "Residual"]
    assert table["estimate"].to_numpy() == pytest.approx(drawn.mean().to_numpy())
    assert table["std.error"].to_numpy() == pytest.approx(drawn.std().to_numpy())
    ends = drawn.quantile([0.025, 0.975]).to_numpy()
    assert pytest.approx(ends) == table[["conf.low", "conf.high"]].to_numpy().T
    ml = mixed_model(SLEEP, shipped("sleepstudy"), verbose=0)
    shown = dgmm.modelsummary(ml, sleep).frame
    assert shown.loc["AIC"].to_list() == ["1763.9", ""]
    assert shown.loc["Method"].to_list() == ["ML", "GIBBS"]


def test_intervals_are_quantiles_and_the_shortest(sleep: Fit) -> None:
    drawn = sleep.posterior_draws()
    quantile, shortest = sleep.confint(), sleep.confint(method="hdi", parm="sd_Days|Subject")
    ends = np.quantile(drawn["sigma"], [0.025, 0.975])
    assert quantile.loc["sigma"].to_list() == pytest.approx(list(ends))
    low, high = shortest.iloc[0]
    own = drawn["sd_Days|Subject"]
    assert ((own >= low) & (own <= high)).mean() == pytest.approx(0.95, abs=0.003)
    assert high - low <= np.diff(quantile.loc["sd_Days|Subject"])[0] + 1e-9
    with pytest.raises(ValueError, match="'quantile', 'hdi'"):
        sleep.confint(method="profile")
    for method in ("quantile", "hdi"):
        with pytest.raises(ValueError, match="level is a probability between 0 and 1, not 1.5"):
            sleep.confint(1.5, method=method)


def test_functions_of_the_fixed_part_are_functions_of_the_draws(sleep: Fit) -> None:
    drawn = sleep.posterior_draws()
    line = drawn["(Intercept)"] + 9 * drawn["Days"]
    found = sleep.effects("Days", at={"Days": [9.0]}).iloc[0]
    assert found["fit"] == pytest.approx(line.mean())
    assert found["se"] == pytest.approx(line.std(), rel=1e-6)
    assert found["lower"] == pytest.approx(line.quantile(0.025), rel=1e-6)
    slope = sleep.slopes().loc["Days"]
    assert slope["Mean"] == pytest.approx(drawn["Days"].mean())
    assert sleep.vcov().to_numpy() == pytest.approx(np.cov(drawn.iloc[:, :2].T), rel=1e-8)
    assert list(sleep.coefficients().columns)[:2] == ["Mean", "SD"]


def test_predictions_are_those_of_maximum_likelihood_with_wider_intervals(sleep: Fit) -> None:
    frame = shipped("sleepstudy").copy()
    frame.loc[[3, 8], "Reaction"] = np.nan
    ml = mixed_model(SLEEP, frame, verbose=0)
    new = pd.DataFrame({"Subject": ["308", "308", "new"], "Days": [0.0, 9.0, 3.0]})
    past = frame[frame.Subject.isin(["309", "310"]) & (frame.Days < 4)]
    later = pd.DataFrame({"Subject": ["309", "310"], "Days": [5.0, 9.0]})
    cases = [
        ({"newdata": new}, 4.0),
        ({"newdata": new, "type": "mean_subject"}, 2.0),
        ({"newdata": new, "type": "marginal"}, 3.0),
        ({"newdata": later, "history": past}, 5.0),
    ]
    for options, near in cases:
        for interval in ("confidence", "prediction"):
            one, other = (fit.predict(interval=interval, **options) for fit in (sleep, ml))
            assert (one["fit"] - other["fit"]).abs().max() < near
            ratio = (one["upper"] - one["lower"]) / (other["upper"] - other["lower"])
            assert ratio.between(0.9, 1.45).all(), (options, interval, ratio)
    assert (sleep.fitted() - ml.fitted()).abs().max() < 4
    assert sleep.ranef().corrwith(ml.ranef()).min() > 0.999
    assert (sleep.coef() - sleep.ranef() - sleep.fixef()).abs().max().max() < 1e-9


def test_counts_are_predicted_on_their_scale(counts: tuple[Fit, Fit]) -> None:
    sampled, exact = counts
    ratio = sampled.predict()["fit"] / exact.predict()["fit"]
    assert ratio.between(0.85, 1.25).all()
    marginal = [fit.predict(type="marginal")["fit"].mean() for fit in counts]
    assert marginal[0] == pytest.approx(marginal[1], rel=0.06)
    whole = sampled.predict(interval="prediction", level=0.9)
    y = sampled.fitted() + sampled.residuals()
    assert 0.88 < ((y >= whole["lower"]) & (y <= whole["upper"])).mean() < 1.0
    several = sampled.predict(interval="prediction", level=[0.9, 0.5])
    np.testing.assert_array_equal(several[["lower_90", "upper_90"]], whole[["lower", "upper"]])


def test_comparisons_are_means_and_quantiles_of_draws_without_tests(
    counts: tuple[Fit, Fit],
) -> None:
    sampled = counts[0]
    drawn = sampled.posterior_draws()["x"].to_numpy()
    ratio = sampled.contrast({"x": 1}, {"x": 0}, compare="ratio").iloc[0]
    assert ratio["Mean"] == pytest.approx(np.exp(drawn).mean(), rel=1e-10)
    assert ratio["SD"] == pytest.approx(np.exp(drawn).std(ddof=1), rel=1e-10)
    ends = np.exp(np.quantile(drawn, [0.025, 0.975]))
    assert ratio[["lower", "upper"]].to_list() == pytest.approx(ends, rel=1e-6)
    means = sampled.emmeans("x", at={"x": [0, 1]})
    found = means.pairs(compare="ratio").iloc[0]
    assert found["Mean"] == pytest.approx(np.exp(-drawn).mean(), rel=1e-10)
    gap = means.pairs().iloc[0]
    assert gap[["lower", "upper"]].to_list() == pytest.approx(
        -np.quantile(drawn, [0.975, 0.025]), rel=1e-6
    )
    level = sampled.posterior_draws()["(Intercept)"].to_numpy() + drawn
    shown = means.table.iloc[1]
    assert shown[["lower", "upper"]].to_list() == pytest.approx(
        np.quantile(level, [0.025, 0.975]), rel=1e-6
    )
    for table in (means.pairs(), sampled.marginal_coefs()):
        assert list(table.columns) == ["Mean", "SD", "lower", "upper"]
    assert sampled.marginal_coefs().loc["x", "Mean"] == pytest.approx(drawn.mean(), rel=0.01)
    with pytest.raises(ValueError, match="read the intervals of pairs"):
        means.letters()


def test_effects_within_and_between_are_in_the_summary() -> None:
    frame = shipped("grunfeld")
    formula = "inv ~ value + (1 | cre(firm, ~ value))"
    fit = mixed_model(formula, frame, method="gibbs", draws=300, warmup=100, chains=2, verbose=0)
    text, drawn = str(fit.summary()), fit.posterior_draws()
    assert "Effects within and between firm, and their difference:" in text
    table = drawn_within_between(fit)
    between = drawn["value"] + drawn["mean(value | firm)"]
    assert list(table.index) == ["value, within", "value, between", "value, difference"]
    known = [drawn["value"].mean(), between.mean(), drawn["mean(value | firm)"].mean()]
    assert table["Mean"].to_list() == pytest.approx(known, rel=1e-9)
    assert table.loc["value, between", "97.5 %"] == pytest.approx(between.quantile(0.975))
    plain = mixed_model("inv ~ value + (1 | firm)", frame, method="gibbs", draws=40, verbose=0)
    assert "within and between" not in str(plain.summary())


def test_draws_from_the_posterior_predictive_repeat_the_data(sleep: Fit) -> None:
    new = sleep.simulate(400, seed=1)
    own = sleep.simulate(400, seed=1, condition_on_data=True)
    y = shipped("sleepstudy")["Reaction"]
    assert new.to_numpy().std() == pytest.approx(y.std(), rel=0.15)
    residual = own.sub(sleep.fitted(), axis=0).to_numpy().std()
    drawn = sleep.posterior_draws()
    assert sleep.sigma() == pytest.approx(drawn["sigma"].mean())
    assert 1.0 < residual / sleep.sigma() < 1.25  # the effects are not known either


def test_missing_outcomes_are_imputed_by_the_sampler(sleep: Fit) -> None:
    frame = shipped("sleepstudy").copy()
    frame.loc[[3, 8], "Reaction"] = np.nan
    completed = sleep.impute(300, seed=2, data=frame)
    values = np.array([one.loc[[3, 8], "Reaction"].to_list() for one in completed])
    interval = sleep.predict(frame.loc[[3, 8]], interval="prediction")
    assert values.mean(0) == pytest.approx(interval["fit"].to_numpy(), abs=8)
    assert values.std(0) == pytest.approx(interval["se"].to_numpy(), rel=0.15)
    assert completed[0].drop(index=[3, 8])["Reaction"].equals(frame.drop(index=[3, 8])["Reaction"])
    with pytest.raises(ValueError, match="more than the"):
        sleep.impute(10**6, seed=1)


@pytest.mark.slow
def test_leave_one_out_is_that_of_fits_without_the_subject() -> None:
    """log p(y_i | others) of three subjects by fits without them, within Monte Carlo error."""
    frame = shipped("sleepstudy")
    options = {"method": "gibbs", "draws": 1500, "verbose": 0}
    fit = mixed_model("Reaction ~ Days + (1 | Subject)", frame, **options)
    found = fit.loo(by="subjects")
    assert found.elpd == pytest.approx(found.points["elpd"].sum())
    for subject in ("310", "335", "352"):
        without = frame[frame.Subject != subject]
        rest = mixed_model("Reaction ~ Days + (1 | Subject)", without, **options)
        score = rest.log_score(frame[frame.Subject == subject]).iloc[0]
        near = abs(score["log_score"] - found.points["elpd"][subject])
        assert near < 4 * score["mc_error"] + 0.05
    rows = fit.loo()
    assert len(rows.points) == 180
    assert 15 < rows.p < 25  # 18 subjects, two coefficients, two variances
    wide = mixed_model("Reaction ~ 1 + (1 | Subject)", frame, **options)
    assert (fit.loo() - wide.loo())["elpd_diff"] > 50


def test_leave_one_out_sums_its_rows(sleep: Fit) -> None:
    rows = sleep.loo()
    assert rows.elpd == pytest.approx(rows.points["elpd"].sum())
    assert list(rows.points.index) == [at for at in range(180) if at not in (3, 8)]
    assert 25 < rows.p < 40  # brms gives 34 for all 180 rows
    assert (rows - rows)["elpd_diff"] == 0
    with pytest.raises(ValueError, match="rows, subjects"):
        sleep.loo(by="groups")


def test_questions_about_a_maximum_are_refused_with_advice(sleep: Fit) -> None:
    for name in ("anova", "drop1", "ranova", "aic", "bic"):
        with pytest.raises(ValueError, match=r"loo\(\).*refit with method='ml'"):
            getattr(sleep, name)()
    with pytest.raises(ValueError, match="posterior"):
        sleep.influence()
    with pytest.raises(ValueError, match="posterior"):
        sleep.bootstrap(2)
    with pytest.raises(ValueError, match="method='gibbs'"):
        mixed_model(SLEEP, shipped("sleepstudy"), verbose=0, se=None).loo()


def test_another_outcome_is_sampled_anew(sleep: Fit) -> None:
    y = sleep.simulate(1, seed=5)["sim_1"]
    again = sleep.refit(y)
    assert again.estimate.chains is not None
    assert abs(again.fixef()["Days"] - sleep.fixef()["Days"]) < 6


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"chains": 0}, "chains=0: it is a number of chains, at least 1"),
        ({"draws": 0}, "draws=0"),
        ({"warmup": -1}, "warmup=-1"),
        ({"chains": 2.5}, "a whole number"),
        ({"prior": "flat"}, "prior='flat' is not available"),
        ({"prior": 3}, "prior= is made by"),
        ({"zi": "~ 1", "family": "poisson"}, "zi= is a second one"),
        ({"dispersion": "~ Days"}, "dispersion= is a second one"),
        ({"se": "sandwich"}, "its draws"),
        ({"missing": "pattern"}, "missing='pattern'"),
        ({"prior": dgmm.prior(cov=dgmm.inv_wishart(1, np.eye(2)))}, "more than 1 degrees"),
        ({"prior": dgmm.prior(beta=dgmm.normal([1, 2, 3], 1))}, "3 means"),
        ({"prior": "hoff", "formula": "Reaction ~ Days + (1 | Subject)"}, "the same columns"),
        ({"formula": "Reaction ~ dnn(Days) + (1 | Subject)"}, r"dnn\(Days\) is a network"),
        ({"formula": "Reaction ~ Days + (dnn(Days) | Subject)"}, "is a network"),
        ({"formula": "Reaction ~ Days + (ou(Days) | Subject)"}, "paths"),
        ({"formula": "Reaction ~ Days + cs(1 + Days | Subject)"}, "is restricted"),
        ({"formula": "Reaction ~ Days + (1 | one)"}, "`one` has 1 level"),
    ],
)
def test_what_cannot_be_sampled_is_refused_by_name(options: dict[str, object], words: str) -> None:
    frame = shipped("sleepstudy").assign(one="a")
    if options.get("family") == "poisson":
        frame["Reaction"] = frame["Reaction"].round()
    given = {"formula": SLEEP, "method": "gibbs", "verbose": 0, **options}
    with pytest.raises((ValueError, TypeError), match=words):
        mixed_model(data=frame, **given)  # type: ignore[arg-type]


def test_a_constant_outcome_is_refused() -> None:
    frame = shipped("sleepstudy").assign(Reaction=1.0)
    with pytest.raises(ValueError, match="nothing to explain"):
        mixed_model(SLEEP, frame, method="gibbs", verbose=0)


def test_options_of_the_sampler_belong_to_it() -> None:
    with pytest.raises(ValueError, match="chains= belongs to method='gibbs'"):
        mixed_model(SLEEP, shipped("sleepstudy"), chains=2)


def test_a_proper_prior_saves_a_separated_outcome() -> None:
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(20), 6), rng.normal(size=120)
    frame = pd.DataFrame({"y": (x > 0).astype(float), "x": x, "g": g})
    with pytest.raises(ValueError, match="separates"):
        mixed_model("y ~ x + (1 | g)", frame, family="bernoulli", verbose=0)
    fit = mixed_model(
        "y ~ x + (1 | g)",
        frame,
        family="bernoulli",
        method="gibbs",
        prior=dgmm.prior(beta=dgmm.normal(0, 2.5)),
        draws=600,
        verbose=0,
    )
    row = fit.posterior_table().loc["x"]
    assert 3 < row["Mean"] < 12
    assert np.isfinite(row["SD"])
    assert row["R-hat"] < 1.05


def test_estimates_with_known_errors_have_their_normal_posterior() -> None:
    """A meta-analysis with all variances known: (mu, gamma) is normal, in closed form."""
    y, error, tau = np.array([28.0, 8, -3, 7, -1]), np.array([15.0, 10, 16, 11, 9]), 6.0
    frame = pd.DataFrame({"y": y, "study": list("abcde"), "precision": error**-2})
    told = dgmm.prior(beta=dgmm.normal(2, 10), cov=dgmm.known(tau**2), sigma2=dgmm.known(1))
    options = {"weights": "precision", "method": "gibbs", "verbose": 0}
    fit = mixed_model("y ~ 1 + (1 | study)", frame, prior=told, **options)
    weight = 1 / (error**2 + tau**2)
    precision = weight.sum() + 10.0**-2
    mean = ((weight * y).sum() + 2 / 10.0**2) / precision
    row = fit.posterior_table().loc["(Intercept)"]
    assert abs(row["Mean"] - mean) < 4 * row["MCSE"]
    assert row["SD"] == pytest.approx(precision**-0.5, rel=0.03)
    shrunk = tau**2 * weight * (y - mean)
    assert fit.ranef()["(Intercept)"].to_numpy() == pytest.approx(shrunk, abs=0.25)
    assert "sigma^2 ~ known(1)" in str(fit.summary())
    with pytest.raises(ValueError, match="5 observed outcomes cannot tell"):
        mixed_model("y ~ 1 + (1 | study)", frame, **options)


def test_the_prior_predictive_is_normal_where_all_variances_are_known() -> None:
    """y_i ~ N(x'm, x'diag(s^2)x + t'D t + sigma^2 / w), rows of a subject with covariance t'D t."""
    frame = shipped("sleepstudy").assign(w=2.0)
    D = np.array([[400.0, 30.0], [30.0, 25.0]])
    told = dgmm.prior(
        beta=dgmm.normal([250, 10], [40, 5]), cov=dgmm.known(D), sigma2=dgmm.known(900)
    )
    with pytest.warns(UserWarning, match="not mixed"):
        fit = mixed_model(
            SLEEP, frame, method="gibbs", prior=told, weights="w", draws=4, warmup=0, verbose=0
        )
    drawn = fit.prior_predictive(3000, seed=1).to_numpy()
    first, last = drawn[0], drawn[9]
    for values, t in ((first, 0.0), (last, 9.0)):
        line = np.array([1.0, t])
        variance = line @ (np.diag([1600.0, 25.0]) + D) @ line + 450
        known = stats.norm(250 + 10 * t, np.sqrt(variance))
        assert stats.kstest(values, known.cdf).pvalue > 1e-3
    shared = np.array([1.0, 0]) @ (np.diag([1600.0, 25.0]) + D) @ np.array([1.0, 9])
    error = np.sqrt(first.var() * last.var() / 3000)
    assert abs(np.cov(first, last)[0, 1] - shared) < 4 * error
    theta = fit.prior_draws(3000, seed=2)
    assert list(theta.columns) == list(fit.posterior_draws().columns)
    assert stats.kstest(theta["Days"], stats.norm(10, 5).cdf).pvalue > 1e-3
    assert theta["cor_Days.(Intercept)|Subject"].to_numpy() == pytest.approx(0.3, abs=1e-9)
    with pytest.raises(ValueError, match=r"prior_predictive\(\) is for fits by method='gibbs'"):
        mixed_model(SLEEP, frame, verbose=0, se=None).prior_predictive(seed=1)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        fit.prior_predictive(0, seed=1)


def test_counts_of_crossed_factors_have_the_mean_of_their_prior() -> None:
    """E(y) = exp(m + v/2) under a normal predictor of mean m and variance v."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"a": np.repeat(range(6), 8), "b": np.tile(range(8), 6)})
    frame["y"] = rng.poisson(2.0, 48).astype(float)
    told = dgmm.prior(beta=dgmm.normal(0.5, 0.3), cov=dgmm.known(0.09))
    options = {"family": "poisson", "method": "gibbs", "prior": told, "verbose": 0}
    fit = mixed_model("y ~ 1 + (1 | a) + (1 | b)", frame, draws=300, warmup=100, **options)
    means = fit.prior_predictive(1500, seed=3).to_numpy().mean(0)
    assert abs(means.mean() - np.exp(0.5 + 0.27 / 2)) < 4 * means.std() / np.sqrt(1500)
