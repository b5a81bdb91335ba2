"""The coverage studies: stored tables, their reports, a part of one run again."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import benchmark

import dgmm
from dgmm.studies import (
    expected_coverage,
    fit_predictions,
    oracle_predictions,
    score,
    training_frame,
)

stored = benchmark("stored")
fixed = benchmark("coverage_fixed")
random = benchmark("coverage_random")
ahead = benchmark("intervals")
population = benchmark("coverage_population")

# -- beside a network of covariates --------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return stored.kept(stored.RESULTS / "coverage_fixed_gaussian.csv", fixed.COLUMNS)


def test_the_stored_study_is_within_its_bars(table: pd.DataFrame) -> None:
    """93 to 97 % for the coefficient, 92 to 97 % for the curve, give or take its own error."""
    found, size = fixed.report(table), len(table)
    error = np.sqrt(0.95 * 0.05 / size)
    assert 0.93 - 2 * error < found["coverage of x"] < 0.97 + 2 * error
    error = found["its standard error"]
    assert 0.92 - 2 * error < found["coverage of the band"] < 0.97 + 2 * error
    assert abs(found["bias"]) < 3 * found["empirical SD"] / np.sqrt(size)


@pytest.mark.slow
def test_data_sets_of_the_study_are_fitted_as_stored(table: pd.DataFrame) -> None:
    for row in table.head(10).itertuples():
        again = fixed.one(fixed.DESIGNS["gaussian"], int(row.seed))
        assert abs(again["estimate"] - row.estimate) < 0.1 * row.std_error
        assert again["std_error"] == pytest.approx(row.std_error, rel=0.02)
        assert again["edf"] == pytest.approx(row.edf, abs=1.5)


# -- of the population ---------------------------------------------------------------------------


def test_population_averaged_intervals_cover_in_the_stored_study() -> None:
    table = stored.kept(population.PATH, population.COLUMNS)
    assert len(table) >= 200
    assert table["converged"].all()
    found = population.report(table)
    assert len(found) == 2 * len(population.TIMES) + 7
    assert found["within"].all()


def test_the_truth_of_the_population_is_an_average_over_draws() -> None:
    frame = population.simulate(0)
    rng = np.random.default_rng(1)
    b = population.SD * rng.normal(size=40_000)
    eta = population.columns(frame.head(12)) @ population.BETA
    drawn = 1 / (1 + np.exp(-(eta[:, None] + b)))
    error = drawn.std(1) / np.sqrt(len(b))
    assert (np.abs(population.population(frame.head(12)) - drawn.mean(1)) < 4 * error).all()
    (difference, ratio, slope), _ = population.truths(frame)
    up, down = (population.population(frame.assign(t=frame["t"] + h)).mean() for h in (1e-4, -1e-4))
    assert slope == pytest.approx((up - down) / 2e-4, rel=1e-6)
    assert np.sign(np.log(ratio)) == np.sign(difference)


@pytest.mark.slow
def test_data_sets_of_the_population_are_fitted_as_stored() -> None:
    table = stored.kept(population.PATH, population.COLUMNS)
    for row in table.head(5).itertuples():
        again = population.one(int(row.seed))
        assert again["means_inside"] == row.means_inside
        assert again["sd"] == pytest.approx(row.sd, rel=1e-3)


# -- beside a neural random part -----------------------------------------------------------------


def test_the_truth_of_the_study() -> None:
    """The mean of eta over subjects and that of y, against plain draws of the same subjects."""
    u = np.random.default_rng(1).normal(size=(40_000, 4))
    for family, outcome in random.OUTCOMES.items():
        eta = random.profile(outcome, u, np.broadcast_to(random.GRID, (len(u), 15)))
        for name, values in (("effects", eta), ("marginal", outcome.mean(eta))):
            error = values.std(0) / len(u) ** 0.5
            assert (np.abs(values.mean(0) - random.population(family)[name]) < 4.5 * error).all()


def test_the_covariates_follow_the_curve_and_not_the_subject() -> None:
    frame = random.simulate("gaussian", "400x10", 1)
    means = frame.groupby("id")[["x", "t"]].mean()
    assert means.corr().iloc[0, 1] > 0.5
    assert frame[["t", "w"]].corr().iloc[0, 1] > 0.4
    assert (frame["t"].min() > 0) & (frame["t"].max() < 10)
    # the generator of the random part comes after x, t and w, so these know nothing of it
    other = random.simulate("gaussian", "400x10", 2)
    assert not np.allclose(frame["x"], other["x"])


def test_what_a_row_holds_of_a_fit() -> None:
    frame = random.simulate("gaussian", "200x6", 1).query("id < 40")
    quick = {"epochs": 1, "holdout": 0.0, "ridge": 10.0, "draws": 16, "polish": False}
    formula = "y ~ x + w + ns(t, 4) + (dnn(ns(t, 4), hidden=(2,), latent=1) | id)"
    control = {**quick, "hessian_draws": 32, "replicates": 2}
    fit = dgmm.mixed_model(formula, frame, control=control, starts=1, verbose=0)
    row = random.measured(fit, "gaussian")
    below = dgmm.mixed_model("y ~ x + w + ns(t, 4) + (ns(t, 4) | id)", frame, verbose=0)
    for name in ("x", "w"):
        assert row[f"nested_se_{name}"] == pytest.approx(below.std_errors()[name], rel=1e-3)
        assert row[f"se_{name}"] == fit.std_errors()[name]
    assert set(row) <= set(random.COLUMNS)
    points = fit.effects("t", at={"t": list(random.GRID), "x": 0.0, "w": 0.0})
    truth = random.population("gaussian")["effects"]
    held = [
        low <= at <= high for low, at, high in zip(points.lower, truth, points.upper, strict=True)
    ]
    assert [one == "1" for one in row["effects_inside"]] == held


def made(n: int, seed: int, scale: float = 1.0) -> pd.DataFrame:
    """Rows of a study whose estimates are N(1/2, (scale 0.1)^2) with SE 0.1."""
    rng = np.random.default_rng(seed)
    rows = []
    for family in random.OUTCOMES:
        for form in random.FORMS:
            for size in random.SIZES:
                error = rng.normal(size=(n, 4)) * 0.1 * scale
                rows += [
                    {
                        "family": family, "form": form, "size": size, "seed": i, "route": "one",
                        "estimate_x": 0.5 + error[i, 0], "se_x": 0.1,
                        "estimate_w": 0.5 + error[i, 1], "se_w": 0.1,
                        "nested_estimate_x": 0.5 + error[i, 2], "nested_se_x": 0.1,
                        "nested_estimate_w": 0.5 + error[i, 3], "nested_se_w": 0.1,
                        "converged": True,
                        **{f"{band}_inside": "1" * 14 + "0" for band in random.BANDS},
                        **{f"{band}_se": 0.2 for band in random.BANDS},
                        **{f"{band}_error": 0.2 for band in random.BANDS},
                    }
                    for i in range(n)
                ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(random.COLUMNS))


def test_right_intervals_pass_and_wrong_ones_do_not() -> None:
    right, wrong = made(400, 3), made(400, 3, scale=1.4)
    assert (random.by_cell(right)["passed"] == "yes").all()
    pools = random.pooled(right)
    assert pools["passed"].isin(["yes", "within 2 s.e."]).all()
    assert pools["n"].eq(1600).all()
    assert pools["ratio"].between(0.96, 1.04).all()
    assert (random.by_cell(wrong)["passed"] == "**no**").all()
    assert (random.pooled(wrong)["passed"] == "**no**").all()
    assert random.of_bands(right)["coverage"].to_numpy() == pytest.approx(14 / 15)
    assert random.of_bands(right)["worst"].to_numpy() == pytest.approx(0)


def test_fits_without_standard_errors_do_not_cover() -> None:
    table = made(100, 4)
    table.loc[table.index % 4 == 0, ["se_x", "se_w", "route", "effects_inside"]] = None
    cells, pools = random.by_cell(table), random.pooled(table)
    assert cells["given"].to_numpy() == pytest.approx(0.75)
    assert (cells["coverage"] <= 0.75).all()
    assert (pools["passed"] == "**no**").all()
    bands = random.of_bands(table).set_index("band").loc["effects", "coverage"]
    assert bands.to_numpy() == pytest.approx(0.75 * 14 / 15)
    share = random.routes(table).set_index("route")["share"]
    assert share["no standard errors"].to_numpy() == pytest.approx(0.25)


# -- prediction intervals ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def linear() -> dgmm.Fit:
    data = training_frame(dgmm.simulate_study("lmm", 2, 1, n=(150, 20, 0)))
    text = "y ~ sex * age + x + ns(t, 4) + (ns(t, 4) | id)"
    return dgmm.mixed_model(text, data, verbose=0)


def test_intervals_are_set_beside_those_of_the_oracle(linear: dgmm.Fit) -> None:
    row = ahead.compared(linear, "lmm", 2, 1001, 20)
    data = dgmm.simulate_study("lmm", 2, 1001, n=(20, 20, 0))
    ours = score(fit_predictions(linear, data), data, "lmm")
    best = score(oracle_predictions("lmm", data).predictions, data, "lmm")
    for kind in ("future", "dropped"):
        assert row[f"coverage_{kind}"] == pytest.approx(ours[f"coverage_{kind}"], abs=1e-12)
        assert row[f"oracle_coverage_{kind}"] == pytest.approx(best[f"coverage_{kind}"], abs=1e-12)
        assert row[f"width_{kind}"] == pytest.approx(ours[f"width_{kind}"], abs=1e-12)
        assert row[f"oracle_width_{kind}"] == pytest.approx(best[f"width_{kind}"], abs=1e-12)


def test_the_error_of_a_difference_in_coverage_is_that_over_subjects(linear: dgmm.Fit) -> None:
    """Of the mean over rows, 10 each: the standard error of the mean over subjects."""
    row = ahead.compared(linear, "lmm", 1, 1001, 20)
    data = dgmm.simulate_study("lmm", 1, 1001, n=(1, 20, 0))
    future = (data["set"] == "landmark") & ~data["observed"]
    inside = [
        expected_coverage(one, data, "lmm")
        for one in (fit_predictions(linear, data), oracle_predictions("lmm", data).predictions)
    ]
    means = pd.Series(inside[0] - inside[1])[future].groupby(data["id"]).mean()
    assert row["error_future"] == pytest.approx(means.std() / 20**0.5, rel=1e-10)
    assert "error_dropped" not in row


def test_a_report_of_intervals_applies_the_bars() -> None:
    numbers = {"coverage": 0.93, "oracle_coverage": 0.95, "error": 0.002, "width": 1.0}
    row = {f"{name}_future": value for name, value in numbers.items()}
    row |= {"process": "lmm", "study": 1, "seed": 1, "method": "deep", "oracle_width_future": 1.0}
    changes: list[dict[str, float]] = [
        {}, {"error_future": 0.007}, {"coverage_future": 0.941}, {"width_future": 0.94},
    ]  # fmt: skip
    rows = [row | change for change in changes]
    rows[3]["coverage_future"] = 0.95
    table = pd.DataFrame(rows, columns=list(ahead.COLUMNS)).assign(seed=range(4))
    assert ahead.by_kind(table)["passed"].to_list() == ["**no**", "yes", "yes", "**no**"]


# -- tables that grow ----------------------------------------------------------------------------


def square(folder: Path, seed: int) -> dict[str, Any]:
    with (folder / f"run_{seed}").open("x"):  # a second run of the same task fails
        return {"value": seed**2, "inside": "01"}


@pytest.fixture
def tasks() -> list[dict[str, int]]:
    return [{"seed": seed} for seed in range(12)]


def test_a_table_grows_by_what_it_lacks(tmp_path: Path, tasks: list[dict[str, int]]) -> None:
    path, columns = tmp_path / "table.csv", ("seed", "value", "inside")
    run = partial(square, tmp_path)
    stored.fill(path, columns, tasks[:5], run)
    stored.fill(path, columns, tasks, run)
    found = stored.kept(path, columns)
    assert found["seed"].to_list() == list(range(12))
    assert found["value"].to_list() == [seed**2 for seed in range(12)]
    assert set(found["inside"]) == {"01"}


HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "a+b")
fcntl.lockf(file, fcntl.LOCK_EX, 1, int(sys.argv[2]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_task_of_another_process_is_left_to_it(
    tmp_path: Path, tasks: list[dict[str, int]]
) -> None:
    path, columns = tmp_path / "table.csv", ("seed", "value", "inside")
    place = str(stored.byte_of(tasks[3]))
    words = [sys.executable, "-c", HOLDER, str(path.with_suffix(".lock")), place]
    run = partial(square, tmp_path)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        stored.fill(path, columns, tasks, run)
        assert sorted(stored.kept(path, columns)["seed"]) == [0, 1, 2, *range(4, 12)]
        other.kill()
    stored.fill(path, columns, tasks, run)
    assert sorted(stored.kept(path, columns)["seed"]) == list(range(12))


def test_a_row_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    for program, n, seconds in (("a", 1, 0.5), ("a", 2, 1.0), ("b", 1, 2.0), ("a", 1, 0.123456789)):
        row = {"program": program, "n": n, "seconds": seconds}
        stored.keep(path, row, ["program", "n"])
    found = pd.read_csv(path)
    assert found["program"].to_list() == ["a", "a", "b"]
    assert found["seconds"].to_list() == [0.123456789, 1.0, 2.0]
    assert found["version"].str.startswith(dgmm.__version__).all()


def test_limits_are_those_of_the_binomial() -> None:
    """At 50 replicates 43 or more cover with probability 0.9995."""
    low, high = stored.limits(50, 0.95, 0.999)
    assert (round(50 * low), high) == (41, 1.0)


def test_a_verdict_knows_its_error() -> None:
    assert stored.verdict(0.95, 0.94, 0.96) == "yes"
    assert stored.verdict(0.93, 0.94, 0.96, 0.006) == "within 2 s.e."
    assert stored.verdict(0.93, 0.94, 0.96, 0.004) == "**no**"
    assert stored.worst("yes", "**no**", "within 2 s.e.") == "**no**"
