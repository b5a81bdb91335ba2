"""Predictions: known and new subjects, closed forms, intervals, refusals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import FORMULAS, data
from scipy import integrate, stats

from dgmm import Fit, mixed_model


def lmm_matrices(fit: Fit) -> tuple[np.ndarray, np.ndarray, float]:
    """beta, D and sigma^2 of an intercept and slope model."""
    found = fit.var_corr()["vcov"].to_numpy()
    D = np.array([[found[0], found[2]], [found[2], found[1]]])
    return fit.fixef().to_numpy(), D, fit.sigma() ** 2


def profile(days: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(days)), days])


# -- points ----------------------------------------------------------------------------------------


def test_the_rows_of_the_fit_get_their_fitted_values(any_fit: Fit) -> None:
    frame = data("cbpp" if "herd" in any_fit.formula else "sleepstudy")
    fitted = any_fit.fitted()
    np.testing.assert_allclose(any_fit.predict()["fit"], fitted, rtol=1e-10)
    shuffled = frame.sample(frac=1, random_state=2)
    found = any_fit.predict(shuffled)
    assert list(found.index) == list(shuffled.index)
    np.testing.assert_allclose(found["fit"], fitted.loc[shuffled.index], rtol=1e-8)


def test_a_part_of_the_rows_gets_the_same_values(any_fit: Fit) -> None:
    frame = data("cbpp" if "herd" in any_fit.formula else "sleepstudy")
    some = frame.iloc[[5, 40, 17, 18]]
    whole = any_fit.predict(frame)["fit"]
    np.testing.assert_allclose(any_fit.predict(some)["fit"], whole.iloc[[5, 40, 17, 18]], rtol=1e-8)


def test_a_new_subject_is_the_population(sleepstudy: Fit) -> None:
    days = np.array([0.0, 3.5, 12.0])
    new = pd.DataFrame({"Days": days, "Subject": "somebody"})
    expected = profile(days) @ sleepstudy.fixef()
    for kind in ("subject", "mean_subject", "marginal"):
        np.testing.assert_allclose(sleepstudy.predict(new, type=kind)["fit"], expected, rtol=1e-10)
    np.testing.assert_allclose(sleepstudy.predict(new[["Days"]])["fit"], expected, rtol=1e-10)


def test_history_of_a_new_subject_gives_the_best_linear_predictor(sleepstudy: Fit) -> None:
    beta, D, sigma2 = lmm_matrices(sleepstudy)
    past = pd.DataFrame({"Reaction": [310.0, 305.0, 350.0], "Days": [0.0, 1.0, 4.0]})
    future = pd.DataFrame({"Days": [5.0, 9.0, 20.0]})
    T, ahead = profile(past["Days"].to_numpy()), profile(future["Days"].to_numpy())
    V = T @ D @ T.T + sigma2 * np.eye(3)
    expected = ahead @ (beta + D @ T.T @ np.linalg.solve(V, past["Reaction"] - T @ beta))
    found = sleepstudy.predict(future.assign(Subject="new"), history=past.assign(Subject="new"))
    np.testing.assert_allclose(found["fit"], expected, rtol=1e-8)


def test_history_in_place_of_the_data_of_the_fit(sleepstudy: Fit) -> None:
    frame = data("sleepstudy")
    own = frame[frame["Subject"] == "308"]
    whole = sleepstudy.predict(own, history=own)["fit"]
    np.testing.assert_allclose(whole, sleepstudy.fitted().loc[own.index], rtol=1e-8)
    half = sleepstudy.predict(own, history=own.iloc[:3])["fit"]
    assert not np.allclose(half, whole, rtol=1e-3)


def test_missing_outcomes_in_the_history_say_nothing(sleepstudy: Fit) -> None:
    past = pd.DataFrame({"Reaction": [310.0, 305.0], "Days": [0.0, 1.0], "Subject": "a"})
    gap = pd.concat([past, pd.DataFrame({"Reaction": [np.nan], "Days": [2.0], "Subject": "a"})])
    new = pd.DataFrame({"Days": [5.0], "Subject": "a"})
    with_gap = sleepstudy.predict(new, history=gap)["fit"]
    np.testing.assert_allclose(with_gap, sleepstudy.predict(new, history=past)["fit"], rtol=1e-12)


def test_history_names_the_subjects_it_says_nothing_of(sleepstudy: Fit) -> None:
    frame = data("sleepstudy")
    new = pd.DataFrame({"Days": [4.0, 4.0, 4.0], "Subject": ["308", "309", "x"]})
    population = sleepstudy.predict(new, type="marginal")["fit"].iloc[0]
    own = sleepstudy.predict(new)["fit"]
    with pytest.warns(UserWarning, match="history=") as told:
        found = sleepstudy.predict(new, history=frame[frame["Subject"] != "308"])["fit"]
    said = [str(one.message) for one in told]
    assert any("`Subject` '308', which the fit has" in one for one in said)
    assert any("no outcome of `Subject` 'x':" in one for one in said)
    np.testing.assert_allclose(found, [population, own.iloc[1], population], rtol=1e-10)
    gone = frame.assign(Reaction=np.nan)
    with pytest.warns(UserWarning, match="'308', '309', which the fit has"):
        found = sleepstudy.predict(new, history=gone)["fit"]
    np.testing.assert_allclose(found, population, rtol=1e-10)


@pytest.mark.parametrize(
    ("new", "history", "options", "words"),
    [
        (["Days", "Subject"], ["Days", "Reaction"], {}, "history=.*no column `Subject`"),
        (["Days"], ["Days", "Reaction", "Subject"], {}, "newdata has no column `Subject`"),
        (
            ["Days", "Subject"],
            ["Days", "Reaction", "Subject"],
            {"type": "marginal"},
            "type='subject'.*'marginal'",
        ),
    ],
)
def test_histories_that_belong_to_nobody(new, history, options, words, sleepstudy: Fit) -> None:
    frame = data("sleepstudy").head(20)
    with pytest.raises(ValueError, match=words):
        sleepstudy.predict(frame[new], history=frame[history], **options)
    with pytest.raises(ValueError, match="its `Subject` are 'a', those of newdata '308', '309'"):
        sleepstudy.predict(frame, history=frame.assign(Subject="a"))


def test_rows_of_nobody_are_named(sleepstudy: Fit) -> None:
    frame = data("sleepstudy").head(3).astype({"Subject": object})
    population = sleepstudy.predict(frame, type="marginal")["fit"]
    with pytest.warns(UserWarning, match="newdata has no column `Subject`: .* population"):
        found = sleepstudy.predict(frame[["Days"]])["fit"]
    np.testing.assert_allclose(found, population, rtol=1e-10)
    with pytest.warns(UserWarning, match="`Subject` is missing in 1 of 3 rows"):
        found = sleepstudy.predict(frame.assign(Subject=["308", None, "308"]))["fit"]
    assert found.iloc[1] == pytest.approx(population.iloc[1])
    assert found.iloc[0] == pytest.approx(sleepstudy.fitted().iloc[0])


def test_a_subject_without_a_label_is_not_the_one_with_an_empty_label() -> None:
    frame = data("sleepstudy").astype({"Subject": str}).replace({"Subject": {"308": ""}})
    fit = mixed_model("Reaction ~ Days + (1 | Subject)", frame, verbose=0)
    nobody = frame.head(2).astype({"Subject": object}).assign(Subject=[None, ""])
    with pytest.warns(UserWarning, match="missing in 1 of 2 rows"):
        found = fit.predict(nobody)["fit"]
    assert found.iloc[0] == pytest.approx(fit.predict(nobody, type="marginal")["fit"].iloc[0])
    assert found.iloc[1] == pytest.approx(fit.fitted().iloc[1])


def test_a_dict_of_columns_is_a_frame(sleepstudy: Fit) -> None:
    frame = data("sleepstudy").head(12)
    columns = {name: frame[name].tolist() for name in frame}
    found = sleepstudy.predict(columns, history=columns)["fit"]
    np.testing.assert_allclose(found, sleepstudy.predict(frame, history=frame)["fit"], rtol=1e-12)
    one = sleepstudy.predict({"Subject": "308", "Days": 3.0})["fit"]
    assert one.tolist() == pytest.approx(sleepstudy.fitted().iloc[[3]].tolist())
    several = sleepstudy.predict({"Subject": "308", "Days": [3.0, 4.0]})["fit"]
    assert several.tolist() == pytest.approx(sleepstudy.fitted().iloc[[3, 4]].tolist())
    for days, found in (([1.0, 2.0], "`Days` has 2"), ([[1.0], [2.0], [3.0]], "`Days` has 3 x 1")):
        wrong = {"Subject": ["308"] * 3, "Days": np.array(days)}
        with pytest.raises(ValueError, match=f"one value per row each: `Subject` has 3, {found}"):
            sleepstudy.predict(wrong)
    scores = sleepstudy.log_score(columns)
    pd.testing.assert_frame_equal(scores, sleepstudy.log_score(frame))
    lazy = pl.DataFrame(columns).lazy()
    np.testing.assert_allclose(sleepstudy.predict(lazy)["fit"], sleepstudy.predict(frame)["fit"])
    with pytest.raises(ValueError, match="no column `Subject`"):
        sleepstudy.log_score(frame.drop(columns="Subject"))


def test_history_moves_a_count_model_towards_its_subject(epil: Fit) -> None:
    frame = data("epil")
    own = frame[frame["subject"].astype(str) == "1"]
    stranger = own.assign(subject="new")
    without = epil.predict(stranger)["fit"]
    with_own = epil.predict(stranger, history=stranger)["fit"]
    np.testing.assert_allclose(with_own, epil.fitted().loc[own.index], rtol=1e-6)
    assert ((with_own < without) == (own["y"].mean() < without.mean())).all()


def test_transformations_keep_the_knots_of_the_fit(fit_of: Callable[..., Fit]) -> None:
    fit, frame = fit_of("pbcseq_ns2"), data("pbcseq")
    some = frame.iloc[[3, 4]]
    np.testing.assert_allclose(fit.predict(some)["fit"], fit.fitted().iloc[[3, 4]], rtol=1e-8)


# -- marginal means --------------------------------------------------------------------------------


def test_marginal_means_of_a_logit_model(toenail: Fit) -> None:
    new = pd.DataFrame({"trt": [0.0, 1.0, 0.0], "time": [0.0, 3.0, 12.0]})
    eta = toenail.predict(new, type="mean_subject", scale="link")["fit"].to_numpy()
    coefficients = toenail.fixef().to_numpy()
    X = np.column_stack([np.ones(3), new["trt"], new["time"], new["trt"] * new["time"]])
    np.testing.assert_allclose(eta, X @ coefficients, rtol=1e-10)
    sd = toenail.var_corr()["sdcor"].iloc[0]

    def mean(at: float) -> float:
        def weighted(b: float) -> float:
            return stats.norm.pdf(b) / (1 + np.exp(-(at + sd * b)))

        return float(integrate.quad(weighted, -12, 12, epsabs=1e-12)[0])

    marginal = toenail.predict(new, type="marginal")["fit"]
    np.testing.assert_allclose(marginal, [mean(at) for at in eta], atol=1e-3)
    middle = toenail.predict(new, type="mean_subject")["fit"]
    np.testing.assert_allclose(middle, 1 / (1 + np.exp(-eta)), rtol=1e-10)
    assert (np.abs(marginal - 0.5) < np.abs(middle - 0.5)).all()
    # without history the expected outcome of a subject is the marginal mean
    np.testing.assert_allclose(toenail.predict(new)["fit"], marginal, atol=2e-3)
    link = toenail.predict(new, type="marginal", scale="link")["fit"]
    np.testing.assert_allclose(link, np.log(marginal / (1 - marginal)), rtol=1e-10)
    assert (np.abs(link) < 0.7 * np.abs(eta)).all()  # attenuated, as Zeger et al. (1988) have it


def test_marginal_means_of_counts_have_a_closed_form(epil: Fit) -> None:
    new = data("epil").iloc[[0, 50, 100]]
    middle = epil.predict(new, type="mean_subject")["fit"]
    factor = np.exp(epil.var_corr()["vcov"].iloc[0] / 2)
    marginal = epil.predict(new, type="marginal")["fit"]
    np.testing.assert_allclose(marginal, factor * middle, rtol=2e-3)


# -- intervals -------------------------------------------------------------------------------------


def test_confidence_of_the_mean_subject_is_the_delta_method(sleepstudy: Fit) -> None:
    days = np.array([0.0, 4.0, 15.0])
    X, new = profile(days), pd.DataFrame({"Days": days})
    se = np.sqrt(np.einsum("np,pq,nq->n", X, sleepstudy.vcov(), X))
    found = sleepstudy.predict(new, type="mean_subject", interval="confidence", level=0.9)
    assert list(found.columns) == ["fit", "se", "lower", "upper"]
    np.testing.assert_allclose(found["se"], se, rtol=1e-4)
    z = stats.norm.ppf(0.95)
    np.testing.assert_allclose(found["upper"] - found["fit"], z * se, rtol=1e-4)
    np.testing.assert_allclose(found["fit"] - found["lower"], z * se, rtol=1e-4)
    marginal = sleepstudy.predict(new, type="marginal", interval="confidence", level=0.9)
    np.testing.assert_allclose(marginal, found, rtol=1e-4)


def test_confidence_on_the_response_scale_stays_in_range(toenail: Fit) -> None:
    new = pd.DataFrame({"trt": [0.0, 1.0], "time": [0.0, 18.0]})
    for kind in ("mean_subject", "marginal", "subject"):
        found = toenail.predict(new, type=kind, interval="confidence")
        assert (found["lower"] > 0).all()
        assert (found["upper"] < 1).all()
        assert (found["lower"] < found["fit"]).all()
        assert (found["fit"] < found["upper"]).all()


def test_a_known_subject_is_known_better_than_a_new_one(sleepstudy: Fit) -> None:
    new = pd.DataFrame({"Days": [4.0, 4.0], "Subject": ["308", "nobody"]})
    for interval in ("confidence", "prediction"):
        found = sleepstudy.predict(new, interval=interval)
        assert found["se"].iloc[0] < 0.8 * found["se"].iloc[1]
    wide = sleepstudy.predict(new, interval="prediction", draws=4000)["se"]
    narrow = sleepstudy.predict(new, interval="confidence")["se"]
    expected = np.sqrt(narrow**2 + sleepstudy.sigma() ** 2)
    np.testing.assert_allclose(wide, expected, rtol=4 / np.sqrt(2 * 4000))


def test_coverage_of_prediction_intervals() -> None:
    rng = np.random.default_rng(12)
    n, J = 300, 8
    frame = pd.DataFrame({"id": np.repeat(np.arange(n), J), "t": np.tile(np.arange(J) / J, n)})
    b = rng.normal(size=(n, 2)) @ np.array([[1.0, 0.4], [0.0, 0.7]])
    mean = 1 + 2 * frame["t"] + b[frame["id"], 0] + b[frame["id"], 1] * frame["t"]
    frame["y"] = mean + 0.5 * rng.normal(size=n * J)
    early = frame["t"] < 0.5
    fit = mixed_model("y ~ t + (t | id)", frame.assign(y=frame["y"].where(early)), verbose=0)
    late = frame[~early]
    found = fit.predict(late, interval="prediction", level=0.9)
    covered = ((found["lower"] < late["y"]) & (late["y"] < found["upper"])).groupby(late["id"])
    share = covered.mean()
    assert abs(share.mean() - 0.9) < 4 * share.std() / np.sqrt(n)
    fresh = fit.predict(late.assign(id="new"), interval="prediction", level=0.9)
    covered = ((fresh["lower"] < late["y"]) & (late["y"] < fresh["upper"])).groupby(late["id"])
    share = covered.mean()
    assert abs(share.mean() - 0.9) < 4 * share.std() / np.sqrt(n)


def test_prediction_intervals_of_counts_are_counts(epil: Fit) -> None:
    found = epil.predict(interval="prediction")
    assert (found["lower"] >= 0).all()
    assert (found["lower"] == found["lower"].round()).mean() > 0.9
    y = data("epil")["y"]
    inside = ((found["lower"] <= y) & (y <= found["upper"])).mean()
    assert inside > 0.75  # Poisson is too narrow for these counts, as the literature says


def test_same_seed_same_interval(cbpp: Fit) -> None:
    first = cbpp.predict(interval="prediction", seed=1)
    pd.testing.assert_frame_equal(first, cbpp.predict(interval="prediction", seed=1))
    assert not first.equals(cbpp.predict(interval="prediction", seed=2))


def test_exact_intervals_have_no_monte_carlo_error(sleepstudy: Fit) -> None:
    """Var(y new | y) = var of E(eta | y) over theta and b, plus sigma^2."""
    mean = sleepstudy.predict(interval="confidence")
    new = sleepstudy.predict(interval="prediction")
    se = np.sqrt(mean["se"] ** 2 + sleepstudy.sigma() ** 2)
    np.testing.assert_allclose(new["se"], se, rtol=1e-10)
    assert (new["upper"] - new["fit"] > 1.959963985 * se).all()  # variances are estimates
    pd.testing.assert_frame_equal(new, sleepstudy.predict(interval="prediction", seed=9))


def test_intervals_of_a_deep_fit(deep: Fit) -> None:
    new = pd.DataFrame({"Days": [0.0, 4.0, 9.0], "Subject": ["308", "308", "nobody"]})
    inner = deep.predict(new, interval="confidence")
    outer = deep.predict(new, interval="prediction", draws=20_000)
    assert (inner["lower"] < inner["fit"]).all()
    assert (inner["fit"] < inner["upper"]).all()
    assert (outer["se"] > inner["se"]).all()
    assert inner["se"].iloc[1] < inner["se"].iloc[2]


# -- rows and refusals -----------------------------------------------------------------------------


def test_a_row_without_covariates_is_missing() -> None:
    fit = mixed_model(FORMULAS["sleepstudy"], data("sleepstudy"), verbose=0)
    new = pd.DataFrame({"Days": [1.0, np.nan, 3.0], "Subject": "308"}, index=["a", "b", "c"])
    with pytest.warns(UserWarning, match="1 of 3 rows .*`Days`"):
        found = fit.predict(new)
    assert list(found.index) == ["a", "b", "c"]
    assert list(found["fit"].isna()) == [False, True, False]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"type": "sub"}, "type='sub'|subject, mean_subject, marginal|did you mean 'subject'"),
        ({"scale": "logit"}, "scale='logit'|response, link"),
        ({"interval": "conf"}, "interval='conf'|confidence, prediction"),
        ({"level": 95}, "level|between 0 and 1|95"),
        ({"level": [0.5, 1.0]}, "level|between 0 and 1|1.0"),
        ({"level": []}, "level has no probability"),
        ({"new_groups": "allow"}, "new_groups='allow'|population, error"),
        ({"new_groups": "error"}, "`Subject`|'nobody'|history=|'population'"),
        ({"interval": "prediction", "scale": "link"}, "scale='response'"),
        ({"interval": "prediction", "draws": 0}, "draws"),
        (
            {
                "new_groups": "error",
                "history": pd.DataFrame({"Reaction": [300.0], "Days": [0.0], "Subject": ["x"]}),
            },
            "`Subject`|'nobody'",
        ),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_refusals(options: dict, words: str, sleepstudy: Fit) -> None:
    new = pd.DataFrame({"Days": [4.0], "Subject": ["nobody"]})
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        sleepstudy.predict(new, **options)
    for word in words.split("|"):
        assert word in str(caught.value)


def test_a_level_that_was_not_in_the_fit(cbpp: Fit) -> None:
    with pytest.raises(ValueError, match="`period`.*'9'.*1, 2, 3, 4"):
        cbpp.predict(pd.DataFrame({"period": ["9"], "herd": ["1"]}))


def test_a_column_that_is_not_there(sleepstudy: Fit) -> None:
    with pytest.raises(ValueError, match="no column `Days`"):
        sleepstudy.predict(pd.DataFrame({"Subject": ["308"]}))
    with pytest.raises(ValueError, match="no column `Reaction`"):
        new = pd.DataFrame({"Days": [4.0], "Subject": ["x"]})
        sleepstudy.predict(new, history=new)


def test_intervals_need_standard_errors() -> None:
    fit = mixed_model(FORMULAS["sleepstudy"], data("sleepstudy"), se=None, verbose=0)
    with pytest.raises(ValueError, match="need standard errors"):
        fit.predict(interval="confidence")
    assert fit.predict()["fit"].notna().all()


def test_reml_fits_have_intervals(sleepstudy_reml: Fit) -> None:
    bounds = sleepstudy_reml.predict(type="mean_subject", interval="confidence")
    V = sleepstudy_reml.vcov().to_numpy()
    X = np.column_stack([np.ones(180), data("sleepstudy")["Days"]])
    np.testing.assert_allclose(bounds["se"], np.sqrt(np.einsum("np,pq,nq->n", X, V, X)), rtol=1e-6)
