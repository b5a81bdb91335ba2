"""A joint fit through every door: each outcome given all, draws, imputations, files, bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import special, stats
from toys import frame

import dgmm
from dgmm import mv
from dgmm.design import Layout
from dgmm.formula import FormulaError

REFERENCE = Path(__file__).parent / "reference"
FORMULAS = ("y1 ~ time + (1 + time |p| id)", "y2 ~ time + (1 + time |p| id)")


def several() -> pd.DataFrame:
    return pd.read_csv(REFERENCE / "several.csv")


@pytest.fixture(scope="module")
def fit() -> dgmm.MultivariateFit:
    return dgmm.mixed_model(mv(*FORMULAS), several())


def covariances(fit: dgmm.MultivariateFit) -> tuple[np.ndarray, pd.Series]:
    """D of (y1, y1:time, y2, y2:time), and sigma."""
    table = fit.var_corr()
    sd = table[(table.kind == "sd") & (table.group != "Residual")].sdcor.to_numpy()
    return fit.correlation().to_numpy() * np.outer(sd, sd), fit.sigma()


def conditional(fit, past: pd.DataFrame, time: float) -> tuple[float, float]:
    """E and var of the line of y2 at a time, given all outcomes seen: the normal distribution."""
    D, sigma = covariances(fit)
    beta, Z, r, noise = fit.fixef(), [], [], []
    for k, name in enumerate(("y1", "y2")):
        if name not in past:
            continue
        seen = past.dropna(subset=[name])
        z = np.zeros((len(seen), 4))
        z[:, 2 * k], z[:, 2 * k + 1] = 1.0, seen.time
        Z.append(z)
        r.append(seen[name] - beta[name, "(Intercept)"] - beta[name, "time"] * seen.time)
        noise.append(np.full(len(seen), sigma[name] ** 2))
    z, residual = np.concatenate(Z), np.concatenate(r)
    V = z @ D @ z.T + np.diag(np.concatenate(noise))
    at = np.array([0, 0, 1.0, time])
    gain = at @ D @ z.T @ np.linalg.inv(V)
    mean = beta["y2", "(Intercept)"] + beta["y2", "time"] * time + gain @ residual
    return float(mean), float(at @ D @ at - gain @ z @ D @ at)


def test_the_history_of_one_outcome_updates_the_other(fit) -> None:
    new = pd.DataFrame({"id": ["s05"], "time": [4.0]})
    own = several()[several().id == "s05"]
    assert own.y2.isna().all()  # one person with one outcome only
    found = fit.predict(new, outcome="y2")["fit"].item()
    assert found == pytest.approx(conditional(fit, own, 4.0)[0], abs=1e-6)
    past = own[["id", "time", "y1"]].assign(id="new", y1=own.y1 + 1.0)
    of_new = fit.predict(new.assign(id="new"), outcome="y2", history=past, interval="confidence")
    mean, variance = conditional(fit, past, 4.0)
    assert of_new["fit"].item() == pytest.approx(mean, abs=1e-6)
    assert of_new["se"].item() > np.sqrt(variance)  # the error of theta is in it
    assert of_new["se"].item() == pytest.approx(np.sqrt(variance), rel=0.1)


def test_history_of_both_outcomes_is_used(fit) -> None:
    past = several()[several().id == "s07"][["id", "time", "y1", "y2"]].assign(id=99)
    found = fit.predict(pd.DataFrame({"id": [99], "time": [3.0]}), outcome="y2", history=past)
    assert found["fit"].item() == pytest.approx(conditional(fit, past, 3.0)[0], abs=1e-6)


def test_prob_asks_for_categories_of_all_outcomes(fit) -> None:
    with pytest.raises(ValueError, match="categories"):
        fit.predict(type="prob")


def test_a_subject_of_whom_one_outcome_says_nothing_is_kept(fit) -> None:
    wide = several()
    some = wide[wide.id.isin(wide.id.unique()[:4])]
    middle = some.id == some.id.unique()[1]
    past = some.assign(y1=some.y1.where(~middle))
    long = past.melt(id_vars=["id", "time"], value_vars=["y1", "y2"], var_name="item")
    long = long.dropna(subset=["value"])
    assert set(long.loc[long["item"] == "y1", "id"]) < set(long["id"])
    stacked = replace(fit, layout=Layout("item", "value"))
    one = stacked.predict(some, outcome="y2", history=long)["fit"]
    np.testing.assert_allclose(one, fit.predict(some, outcome="y2", history=past)["fit"])
    scores = stacked.log_score(long)
    assert scores.index.tolist() == some.id.unique().tolist()
    np.testing.assert_allclose(scores, fit.log_score(past))


def test_outcomes_without_a_common_part_are_predicted_as_by_their_own_models() -> None:
    apart = ("y1 ~ time + (1 | id)", "y2 ~ time + (1 | id)")
    joint = dgmm.mixed_model(mv(*apart), several())
    past = several()[several().id == "s07"].assign(id="new")
    new = pd.DataFrame({"id": ["new"], "time": [4.0]})
    for name, formula in zip(joint.names, apart, strict=True):
        own = dgmm.mixed_model(formula, several())
        expected = own.predict(new, history=past)["fit"].item()
        found = joint.predict(new, outcome=name, history=past)["fit"].item()
        assert found == pytest.approx(expected, abs=1e-4)
        assert joint[name].predict(new, history=past)["fit"].item() == pytest.approx(found)
        average = joint[name].predict(new, type="marginal")["fit"].item()
        beta = joint.fixef()[name]
        assert average == pytest.approx(beta["(Intercept)"] + 4 * beta["time"], abs=1e-8)


def test_an_outcome_has_the_history_and_the_density_of_itself_alone(fit) -> None:
    past = several()[several().id == "s07"].assign(id="new")
    new = pd.DataFrame({"id": ["new"], "time": [3.0]})
    found = fit["y2"].predict(new, history=past)["fit"].item()
    alone = past[["id", "time", "y2"]]
    assert found == pytest.approx(conditional(fit, alone, 3.0)[0], abs=1e-6)
    assert found == pytest.approx(fit.predict(new, outcome="y2", history=alone)["fit"].item())
    seen, (D, sigma) = past.dropna(subset=["y2"]), covariances(fit)
    Z = np.column_stack([np.ones(len(seen)), seen.time])
    V = Z @ D[2:, 2:] @ Z.T + sigma["y2"] ** 2 * np.eye(len(seen))
    expected = stats.multivariate_normal(Z @ fit.fixef()["y2"].to_numpy(), V).logpdf(seen.y2)
    score = fit["y2"].log_score(past)
    assert score["log_score"].item() == pytest.approx(expected, abs=1e-8)
    assert score["nobs"].item() == len(seen)


def test_an_outcome_is_a_fit_with_the_standard_errors_of_the_joint_model(fit) -> None:
    one = fit["y2"]
    pd.testing.assert_series_equal(one.fixef(), fit.fixef()["y2"], check_names=False)
    np.testing.assert_allclose(one.std_errors(), fit.std_errors()["y2"])
    line = one.effects("time")
    beta, V = one.fixef(), fit.vcov().loc["y2", "y2"]
    x = np.array([1.0, line["time"].iloc[10]])
    assert line["fit"].iloc[10] == pytest.approx(x @ beta, abs=1e-8)
    assert line["se"].iloc[10] == pytest.approx(np.sqrt(x @ V.to_numpy() @ x), rel=1e-6)


def test_random_effects_coefficients_and_residuals_belong_together(fit) -> None:
    data, effects, coef = several(), fit.ranef(), fit.coef()["y2"]
    assert list(effects) == ["y1:(Intercept)", "y1:time", "y2:(Intercept)", "y2:time"]
    np.testing.assert_allclose(
        coef["time"], fit.fixef()["y2", "time"] + effects["y2:time"], atol=1e-12
    )
    line = (
        coef["(Intercept)"].loc[data.id].to_numpy()
        + coef["time"].loc[data.id].to_numpy() * data.time
    )
    np.testing.assert_allclose(fit.fitted("y2"), line, atol=1e-8)
    np.testing.assert_allclose(fit.residuals()["y2"], data.y2 - line, atol=1e-8)


def test_simulated_outcomes_have_the_covariance_between_outcomes(fit) -> None:
    drawn = fit.simulate(60, seed=4)
    first = several().time == 0.0
    both = np.concatenate([frame[first].to_numpy() for frame in drawn])
    D, sigma = covariances(fit)
    V = D[np.ix_([0, 2], [0, 2])] + np.diag(sigma.to_numpy() ** 2)
    error = np.sqrt((V[0, 0] * V[1, 1] + V[0, 1] ** 2) / len(both))
    assert np.cov(both.T)[0, 1] == pytest.approx(V[0, 1], abs=4 * error)


def test_imputed_outcomes_keep_what_was_seen_and_follow_the_other_outcome(fit) -> None:
    data = several()
    completed = fit.impute(40, seed=2)
    assert not completed[0][["y1", "y2"]].isna().any().any()
    seen = data.y1.notna()
    pd.testing.assert_series_equal(completed[3].y1[seen], data.y1[seen])
    own = data.id == "s05"
    mean = np.mean([frame.y2[own & (data.time == 3.0)].item() for frame in completed])
    expected, variance = conditional(fit, data[own], 3.0)
    spread = np.sqrt((1.2 * variance + fit.sigma()["y2"] ** 2) / 40)
    assert mean == pytest.approx(expected, abs=4 * spread)


def test_held_out_subjects_say_what_jointness_is_worth() -> None:
    data = several()
    late = data.id.str[1:].astype(int) > 40
    fit = dgmm.mixed_model(mv(*FORMULAS), data[~late])
    score = fit.log_score(data[late])
    apart = sum(
        dgmm.mixed_model(f"{y} ~ time + (1 + time | id)", data[~late]).log_score(
            data[late & data[y].notna()]
        )["log_score"]
        for y in ("y1", "y2")
    )
    np.testing.assert_allclose(score["separate"], apart.reindex(score.index), atol=1e-6)
    np.testing.assert_allclose(score["difference"], score["joint"] - score["separate"])


def test_the_test_of_separate_models(fit) -> None:
    table = fit.anova()
    apart = [dgmm.mixed_model(f"{y} ~ time + (1 + time | id)", several()) for y in ("y1", "y2")]
    ratio = 2 * (float(fit.loglik()) - sum(float(one.loglik()) for one in apart))
    assert table["Chisq"].iloc[1] == pytest.approx(ratio, abs=1e-6)
    assert table["Df"].iloc[1] == 4
    assert table["npar"].tolist() == [12.0, 16.0]


def test_a_long_frame_is_the_wide_one(fit) -> None:
    data = several()
    long = data.melt(id_vars=["id", "time"], value_vars=["y1", "y2"], var_name="item")
    again = dgmm.mixed_model(
        mv(*FORMULAS), long.dropna(subset=["value"]), outcome=("item", "value")
    )
    assert float(again.loglik()) == pytest.approx(float(fit.loglik()), abs=1e-8)
    new = pd.DataFrame({"id": ["s05"], "time": [4.0]})
    np.testing.assert_allclose(
        again.predict(new, outcome="y2")["fit"], fit.predict(new, outcome="y2")["fit"], atol=1e-6
    )


def test_the_shorthand_is_one_formula_for_all(fit) -> None:
    short = dgmm.mixed_model("mv(y1, y2) ~ time + (1 + time | id)", several())
    assert float(short.loglik()) == pytest.approx(float(fit.loglik()), abs=1e-8)
    assert short.names == ("y1", "y2")


def test_the_order_of_outcomes_does_not_matter(fit) -> None:
    turned = dgmm.mixed_model(mv(*FORMULAS[::-1]), several())
    assert float(turned.loglik()) == pytest.approx(float(fit.loglik()), abs=1e-7)
    np.testing.assert_allclose(turned.fixef()["y1"], fit.fixef()["y1"], atol=1e-6)
    order = list(fit.correlation())
    np.testing.assert_allclose(turned.correlation().loc[order, order], fit.correlation(), atol=1e-5)


def test_an_update_takes_the_rest_of_the_call_with_it(fit) -> None:
    again = fit.update(mv("y1 ~ time + (1 |p| id)", "y2 ~ time + (1 |p| id)"), se=None)
    direct = dgmm.mixed_model(
        mv("y1 ~ time + (1 |p| id)", "y2 ~ time + (1 |p| id)"), several(), se=None
    )
    assert float(again.loglik()) == pytest.approx(float(direct.loglik()), abs=1e-8)
    table = fit.anova(again)
    assert table["npar"].tolist() == [9.0, 16.0]
    with pytest.raises(TypeError, match="REML"):
        fit.update(REML=True)


def test_a_file_holds_the_fit(fit, tmp_path: Path) -> None:
    fit.save(tmp_path / "joint.dgmm")
    read = dgmm.load(tmp_path / "joint.dgmm")
    assert isinstance(read, dgmm.MultivariateFit)
    assert str(read.summary()) == str(fit.summary())
    new = pd.DataFrame({"id": ["s05"], "time": [4.0]})
    pd.testing.assert_frame_equal(read.predict(new, outcome="y2"), fit.predict(new, outcome="y2"))
    pd.testing.assert_series_equal(dgmm.fixef(read), fit.fixef())


def test_the_summary_says_what_is_given_of_every_outcome_and_counts_its_ends() -> None:
    data = frame(12, 5).assign(z=lambda d: np.clip(d["y"], 0, 3))
    both = mv("y ~ t + (1 | id)", "z ~ t + (1 | id)")
    options = {"bounds": [None, (0, 3)], "weights": "w", "se": None, "verbose": 0}
    fit = dgmm.mixed_model(both, data, family=["gaussian", "censored_gaussian"], **options)
    low, high = int((data["z"] == 0).sum()), int((data["z"] == 3).sum())
    assert str(fit.summary()).splitlines()[2:6] == [
        "   With: weights = w",
        " z (censored_gaussian, identity): z ~ t + (1 | id)",
        "   With: weights = w, bounds = (0, 3)",
        f"   Outcomes: {low} censored at 0, {high} censored at 3, of 60",
    ]


def test_the_summary_has_a_section_by_outcome_and_one_correlation_matrix(fit) -> None:
    text = str(fit.summary())
    assert "Linear mixed model of 2 outcomes fitted by maximum likelihood" in text
    assert "Outcome y1:" in text
    assert "Outcome y2:" in text
    assert text.count("Residual standard deviation") == 2
    assert fit.summary().correlation.shape == (4, 4)


def test_mixed_kinds_have_predictions_inside_their_range() -> None:
    rng, n = np.random.default_rng(3), 40
    b = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], n)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), 5), "t": np.tile(np.arange(5.0), n)})
    data["y"] = b[data.id, 0] + 0.5 * rng.normal(size=5 * n)
    data["z"] = (rng.random(5 * n) < special.expit(b[data.id, 1])).astype(float)
    fit = dgmm.mixed_model(
        mv("y ~ 1 + (1 |p| id)", "z ~ 1 + (1 |p| id)"), data, family=["gaussian", "bernoulli"]
    )
    new = pd.DataFrame({"id": ["a", "b"], "t": 0.0})
    past = pd.DataFrame({"id": ["a", "b"], "t": 0.0, "y": [-1.5, 1.5]})
    found = fit.predict(new, outcome="z", history=past, interval="confidence")
    assert found["fit"].iloc[0] < 0.4 < 0.6 < found["fit"].iloc[1]
    assert (found["lower"] > 0).all()
    assert (found["upper"] < 1).all()
    assert set(fit.impute(1, seed=1, data=data)[0]["z"].unique()) == {0.0, 1.0}


def wide() -> pd.DataFrame:
    return several().rename(columns={"y1": "a", "y2": "b"})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda d: dgmm.mixed_model(mv("a ~ 1 + (1 |p| id)", "b ~ 1 + (1 | id)"), d),
         r"\|p\| stands in one outcome only, `a`"),
        (lambda d: dgmm.mixed_model(mv("a ~ 1 + (1 |p| id)", "b ~ 1 + load(q)"), d),
         r"load\(q\) has no random part to take"),
        (lambda d: dgmm.mixed_model(
            mv("a ~ 1 + (1 |p| id)", "b ~ 1 + (1 |p| id)"), d, family=["gaussian"]),
         "2 formulas and 1 families"),
        (lambda d: dgmm.mixed_model(
            mv("a ~ 1 + (1 |p| id)", "b ~ 1 + (1 |p| id)"), d.assign(b=np.nan)),
         "`b` was never observed"),
        (lambda d: dgmm.mixed_model(
            mv("a ~ 1 + (1 |p| id)", "b ~ 1 + (1 |p| group)"), d),
         "one grouping factor in common; the formulas have `group` and `id`"),
        (lambda d: dgmm.mixed_model(
            mv("a ~ 1 + (1 |p| id)", "b ~ 1 + (1 |p| id)"), d, family=["gaussian", "bernoulli"]),
         "needs outcomes 0 and 1"),
        (lambda d: dgmm.mixed_model("a ~ 1 + (1 |p| id)", d), "joins the parts of several"),
        (lambda d: dgmm.mixed_model("a ~ 1 + (1 | id)", d, family=["gaussian"]),
         "one outcome has one family"),
        (lambda d: dgmm.mixed_model(
            mv("a ~ 1 + (1 |p| id)", "b ~ 1 + (1 |p| id)"), d, zi="~ 1"),
         "zi= of several outcomes is a mapping of their names"),
        (lambda d: dgmm.mixed_model(
            mv("a ~ 1 + (1 |p| id)", "b ~ 1 + (1 |p| id)"), d, outcome="kind"),
         "no column `kind`"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_words(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(wide())


def test_formulas_that_do_not_go_together() -> None:
    with pytest.raises(FormulaError, match="at least two formulas"):
        mv("a ~ 1 + (1 | id)")
    with pytest.raises(FormulaError, match="`a` has two formulas"):
        mv("a ~ 1 + (1 | id)", "a ~ 1 + (1 | id)")


def test_asking_for_an_outcome_that_is_not_there(fit) -> None:
    with pytest.raises(ValueError, match="'y3' is not one of y1, y2"):
        fit.predict(outcome="y3")
    with pytest.raises(ValueError, match="none of the outcomes `y1`, `y2`"):
        fit.predict(
            pd.DataFrame({"id": ["n"], "time": [1.0]}),
            outcome="y1",
            history=pd.DataFrame({"id": ["n"], "time": [0.0]}),
        )


def test_rows_of_a_subject_that_one_outcome_lacks_keep_their_labels() -> None:
    data = several()
    long = data.melt(id_vars=["id", "time"], value_vars=["y1", "y2"], var_name="item")
    long = long.dropna(subset=["value"])
    long = long[~((long.id == "s01") & (long.item == "y1"))]  # the first subject has y2 alone
    fit = dgmm.mixed_model(mv(*FORMULAS), long, outcome=("item", "value"), se=None)
    own, coef = long[long.item == "y2"], fit.coef()["y2"].loc
    line = coef[own.id, "(Intercept)"].to_numpy() + coef[own.id, "time"].to_numpy() * own.time
    np.testing.assert_allclose(fit.fitted("y2").loc[own.index], line, atol=1e-8)
    np.testing.assert_allclose(fit.residuals("y2").loc[own.index], own.value - line, atol=1e-8)
    assert fit.impute(1, seed=1)[0]["value"].equals(long["value"])


def test_criteria_seen_from_an_outcome_are_those_of_all(fit) -> None:
    one = fit["y2"]
    assert one.nobs() == fit.nobs() == int(several()[["y1", "y2"]].notna().sum().sum())
    assert one.n_groups() == fit.n_groups()
    for name in ("aic", "bic", "deviance", "df"):
        assert getattr(one, name)() == pytest.approx(getattr(fit, name)(), abs=1e-10)
    size = np.log(fit.nobs())
    assert fit.bic() == pytest.approx(-2 * float(fit.loglik()) + size * fit.df(), abs=1e-10)


def test_standard_errors_that_cannot_be_calculated_are_said_in_words(monkeypatch) -> None:
    def fails(*_: object) -> None:
        raise FloatingPointError("the information is not finite")

    monkeypatch.setattr("dgmm.fit.information", fails)
    joint = dgmm.fit.fit_model
    monkeypatch.setattr(
        "dgmm.multivariate.fit.fit_model", lambda call, data: joint(replace(call, se=None), data)
    )
    with pytest.raises(ValueError, match="standard errors cannot be calculated .*or se=None"):
        dgmm.mixed_model(mv("y1 ~ 1 + (1 |p| id)", "y2 ~ 1 + (1 |p| id)"), several())


def test_the_error_of_quadrature_is_said_between_rules() -> None:
    data = several().assign(z=lambda d: (d.y1 > 1).where(d.y1.notna()).astype(float))
    fit = dgmm.mixed_model(
        mv("y2 ~ 1 + (1 |p| id)", "z ~ 1 + (1 |p| id)"), data, family=["gaussian", "bernoulli"],
        se=None,
    )  # fmt: skip
    assert "between the last two rules" in str(fit.summary())
    assert "by 0 " not in str(fit.summary())


def test_a_refit_is_the_fit_of_a_frame_with_these_outcomes(fit) -> None:
    drawn = fit.simulate(1, seed=8)[0]
    data, names = several(), ["y1", "y2"]
    drawn = drawn.where(data[names].notna())
    again = fit.refit(drawn)
    direct = dgmm.mixed_model(mv(*FORMULAS), data.assign(y1=drawn.y1, y2=drawn.y2))
    assert float(again.loglik()) == pytest.approx(float(direct.loglik()), abs=1e-7)
    np.testing.assert_allclose(again.fixef(), direct.fixef(), atol=1e-5)
    np.testing.assert_allclose(again.std_errors(), direct.std_errors(), rtol=1e-5)
    np.testing.assert_allclose(again.anova()["logLik"], direct.anova()["logLik"], atol=1e-6)
    back = fit.refit({name: data.set_index(data.index)[name] for name in names})
    assert float(back.loglik()) == pytest.approx(float(fit.loglik()), abs=1e-7)
    foreign = fit.refit(pl.from_pandas(data[names]))
    assert float(foreign.loglik()) == pytest.approx(float(fit.loglik()), abs=1e-7)
    with pytest.raises(ValueError, match="needs all outcomes; `y2` is not given"):
        fit.refit(drawn[["y1"]])
    with pytest.raises(TypeError, match="data must be a data frame .* not NoneType"):
        fit.refit(None)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f: f["y1"].refit(f["y1"].fitted()), "refit.. fits models of one outcome again"),
        (lambda f: f["y1"].drop1(), "drop1.. fits models of one outcome again"),
        (lambda f: f["y1"].ranova(), "ranova.. fits models of one outcome again"),
        (lambda f: f["y1"].bootstrap(2, seed=1), "bootstrap.. fits models of one outcome again"),
        (lambda f: f["y1"].confint(method="profile"), "one of several in a joint model: take"),
        (lambda f: f.confint(method="profile"), "joint models have 'wald'"),
        (lambda f: f.drop1(), r"fit.anova\(fit.update\(mv"),
    ],
)
def test_what_joint_fits_do_not_have_is_refused_with_advice(fit, call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(fit)


def test_a_dispersion_of_one_outcome_is_that_of_its_own_model() -> None:
    data, apart = several(), ("y1 ~ time + (1 | id)", "y2 ~ time + (1 | id)")
    fit = dgmm.mixed_model(mv(*apart), data, dispersion={"y1": "~ time"}, likelihood="laplace")
    one = dgmm.mixed_model(apart[0], data, dispersion="~ time", likelihood="laplace")
    two = dgmm.mixed_model(apart[1], data)
    assert float(fit.loglik()) == pytest.approx(float(one.loglik()) + float(two.loglik()), abs=1e-5)
    found, own = (f.part_coefficients()["dispersion"] for f in (fit["y1"], one))
    np.testing.assert_allclose(found["Estimate"], own["Estimate"], atol=1e-4)
    np.testing.assert_allclose(found["Std. Error"], own["Std. Error"], rtol=1e-3)
    assert "dispersion:" in str(fit.summary())
    with pytest.raises(ValueError, match="has random effects, '~ .1 . id.', which joint models"):
        dgmm.mixed_model(mv(*apart), data, dispersion=["~ (1 | id)", None])
    with pytest.raises(ValueError, match="dispersion= names the outcome 'q'; there are y1, y2"):
        dgmm.mixed_model(mv(*apart), data, dispersion={"q": "~ time"})
