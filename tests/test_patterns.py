"""Pattern-mixture models: the table of restrictions, heads per pattern, profiles after dropout."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from toys import build

import dgmm
from dgmm import Fit, mixed_model
from dgmm.estimate.patterns import donor_patterns, last_seen

TEXT = "y ~ sex + ns(t, 3) + (t | id)"
LEVELS, VISITS = 3, 4


def dropouts(n: int = 300, J: int = 5, seed: int = 1, shift: float = 0.0) -> pd.DataFrame:
    """A linear mixed model with dropout by the last outcome; ``full`` is what would be seen.

    shift: what dropouts are moved by after they left (not at random).
    """
    rng = np.random.default_rng(seed)
    t, sex = np.linspace(0, 1, J), rng.integers(0, 2, n)[:, None]
    b = rng.multivariate_normal([0, 0], [[1.0, 0.2], [0.2, 0.5]], n)
    y = 1 + 0.5 * sex + 1.5 * t - 0.5 * t**2 + b[:, :1] + b[:, 1:] * t
    y = y + rng.normal(0, 0.6, (n, J))
    gone = np.zeros((n, J), dtype=bool)
    hazard = 1 / (1 + np.exp(1.2 - 1.3 * (y[:, 1:-1] - y.mean())))
    gone[:, 2:] = np.logical_or.accumulate(rng.uniform(size=(n, J - 2)) < hazard, axis=1)
    y = y + shift * gone
    data = pd.DataFrame({"id": np.repeat(np.arange(n), J), "t": np.tile(t, n)})
    data["sex"], data["full"] = np.repeat(sex, J), y.ravel()
    data["y"] = data["full"].mask(gone.ravel())
    return data


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return dropouts()


@pytest.fixture(scope="module")
def fits(data: pd.DataFrame) -> dict[str, Fit]:
    return {
        word: mixed_model(TEXT, data, missing="pattern", restriction=word, verbose=0)
        for word in ("acmv", "ccmv", "ncmv")
    }


# -- the saturated table -------------------------------------------------------------------------


def table_truth(seed: int) -> tuple[np.ndarray, Callable[[int], np.ndarray]]:
    """A joint distribution of 4 visits with 3 levels, and P(D = d | y) missing at random."""
    rng = np.random.default_rng(seed)
    joint = rng.dirichlet(np.ones(LEVELS**VISITS)).reshape((LEVELS,) * VISITS)
    # hazard of leaving after visit d + 1, given the outcomes up to it
    hazard = [rng.uniform(0.1, 0.5, (LEVELS,) * (d + 1)) for d in range(VISITS - 1)]

    def pattern(d: int) -> np.ndarray:
        """P(D = d, y) for last visit d = 0, 1, ..., summed over what is not seen."""
        p = joint.copy()
        for s in range(d):
            p = p * (1 - hazard[s])[(...,) + (None,) * (VISITS - 1 - s)]
        if d < VISITS - 1:
            p = p * hazard[d][(...,) + (None,) * (VISITS - 1 - d)]
        return p.sum(tuple(range(d + 1, VISITS)))

    return joint, pattern


def implied(pattern: Callable[[int], np.ndarray], restriction: str) -> np.ndarray:
    """The joint distribution under a restriction, from what is observed only."""
    final = VISITS - 1

    def conditional(visit: int) -> np.ndarray:
        """f(y_visit | y_<visit, D in donors)."""
        donors = donor_patterns(restriction, visit, range(VISITS), final)
        p = sum(pattern(d).sum(tuple(range(visit + 1, d + 1))) for d in sorted(donors))
        return p / p.sum(-1, keepdims=True)

    total = np.zeros((LEVELS,) * VISITS)
    for d in range(VISITS):
        p = pattern(d)
        for visit in range(d + 1, VISITS):
            p = p[..., None] * conditional(visit)
        total = total + p
    return total


@pytest.mark.parametrize("seed", range(5))
def test_available_cases_are_missing_at_random_in_a_saturated_table(seed: int) -> None:
    joint, pattern = table_truth(seed)
    assert np.abs(implied(pattern, "acmv") - joint).max() < 1e-12
    for other in ("ccmv", "ncmv"):
        p = implied(pattern, other)
        assert p.sum() == pytest.approx(1, abs=1e-12)
        assert np.abs(p - joint).max() > 1e-3


def test_available_cases_are_the_weighted_conditionals_of_the_patterns() -> None:
    """f(y_t | y_<t, D >= t) = sum_s w_s f_s(y_t | y_<t), w_s in proportion to pi_s f_s(y_<t)."""
    _, pattern = table_truth(0)
    for visit in range(1, VISITS):
        parts = [pattern(s).sum(tuple(range(visit + 1, s + 1))) for s in range(visit, VISITS)]
        weight = np.stack([p.sum(-1) for p in parts])  # pi_s f_s(y_<t)
        weight = weight / weight.sum(0)
        mixture = sum(
            w[..., None] * p / p.sum(-1, keepdims=True) for w, p in zip(weight, parts, strict=True)
        )
        pooled = sum(parts)
        assert np.abs(pooled / pooled.sum(-1, keepdims=True) - mixture).max() < 1e-12


def test_donors() -> None:
    patterns = (2, 4, 7)
    assert donor_patterns("acmv", 3, patterns, 7) == {4, 7}
    assert donor_patterns("ccmv", 3, patterns, 7) == {7}
    assert donor_patterns("ncmv", 3, patterns, 7) == {4}
    assert donor_patterns("ncmv", 5, patterns, 7) == {7}


# -- fits ----------------------------------------------------------------------------------------


def test_heads_are_the_fits_of_their_subjects(data: pd.DataFrame, fits: dict[str, Fit]) -> None:
    patterns = fits["ccmv"].estimate.patterns
    assert patterns is not None
    last = data[data["y"].notna()].groupby("id").size() - 1
    assert patterns.last.tolist() == last.tolist()
    before = -1
    for longest, head in zip(patterns.longest, patterns.heads, strict=True):
        ids = last.index[(last > before) & (last <= longest)]
        assert head.subjects.tolist() == ids.tolist()
        assert len(ids) >= 30
        own = mixed_model(TEXT, data[data["id"].isin(ids)], verbose=0, se=None)
        assert head.log_likelihood == pytest.approx(own.loglik().value, abs=1e-5)
        before = longest
    # the completers stand in at every visit
    completers = patterns.heads[-1]
    assert all(torch.equal(d.subjects, completers.subjects) for d in patterns.donors)
    assert patterns.parameters == 5 + 3 + 1


def test_small_patterns_are_pooled_with_longer_ones() -> None:
    data = dropouts(150)
    patterns = mixed_model(TEXT, data, missing="pattern", verbose=0).estimate.patterns
    assert patterns is not None
    assert patterns.longest[-1] == 4
    assert len(patterns.longest) < len(patterns.last.unique())
    assert sum(len(head.subjects) for head in patterns.heads) == 150


def test_the_profile_under_acmv_is_that_of_maximum_likelihood(
    data: pd.DataFrame, fits: dict[str, Fit]
) -> None:
    """The mean profile of the LMM with a mean for every visit, within Monte Carlo error."""
    saturated = "y ~ C(visit) + (t | id)"
    visits = data.assign(visit=(4 * data["t"]).round().astype(int))
    fit = mixed_model(saturated, visits, missing="pattern", verbose=0)
    profile = fit.pattern_profile(m=100, seed=3)
    ml = fit.predict(visits.iloc[:5], type="mean_subject")["fit"].to_numpy()
    z = (profile["estimate"] - ml) / profile["std_error"]
    assert (z.abs() < 4 * np.sqrt(profile["fmi"] / 100) + 1e-9).all()
    assert np.allclose(profile["seen"], visits.groupby("visit")["y"].count() / 300)
    assert np.allclose(profile["time"], np.linspace(0, 1, 5))
    assert (profile["fmi"].iloc[:2] == 0).all()
    assert (np.diff(profile["fmi"].iloc[1:]) > 0).all()


def test_restrictions_differ_as_dropout_does(fits: dict[str, Fit]) -> None:
    """Subjects with high outcomes leave, so completers stand in for them with lower ones."""
    ends = {
        word: fit.pattern_profile(m=5, seed=3)["estimate"].iloc[-1] for word, fit in fits.items()
    }
    assert ends["ccmv"] < ends["acmv"]
    assert abs(ends["ncmv"] - ends["acmv"]) > 1e-3


def test_delta_moves_the_profile_by_delta_times_the_share_that_left(fits: dict[str, Fit]) -> None:
    plain = fits["acmv"].pattern_profile(m=4, seed=3)
    moved = fits["acmv"].pattern_profile(m=4, seed=3, delta=-0.7)
    shift = moved["estimate"] - plain["estimate"]
    assert np.allclose(shift, -0.7 * (1 - plain["seen"]), atol=1e-12)


@pytest.mark.slow
def test_dropout_not_at_random_is_recovered_when_delta_is_given() -> None:
    """Mean of 20 data sets at the last visit against the complete data: bias without delta only."""
    gaps = []
    for seed in range(20):
        data = dropouts(300, seed=100 + seed, shift=-0.8)
        fit = mixed_model(TEXT, data, missing="pattern", verbose=0, delta=-0.8)
        truth = data.groupby("t")["full"].mean().iloc[-1]
        right = fit.pattern_profile(m=10, seed=1)["estimate"].iloc[-1] - truth
        wrong = fit.pattern_profile(m=10, seed=1, delta=0.0)["estimate"].iloc[-1] - truth
        gaps.append((right, wrong))
    (right, wrong), error = np.mean(gaps, 0), np.std(gaps, 0, ddof=1) / np.sqrt(20)
    assert abs(right) < 4 * error[0]
    assert wrong > 10 * error[1]


def test_gaps_before_dropout_are_filled_within_the_pattern(data: pd.DataFrame) -> None:
    holes = data.copy()
    inside = holes["y"].notna() & (holes.groupby("id").cumcount() == 1) & (holes["id"] % 3 == 0)
    later = holes.groupby("id")["y"].transform(lambda y: y.iloc[2:].notna().any())
    holes.loc[inside & later, "y"] = np.nan
    holes.loc[holes["id"] == 7, "y"] = np.nan  # never seen
    fit = mixed_model(TEXT, holes, missing="pattern", verbose=0)
    first = fit.impute(m=2, seed=1, data=holes)
    assert all(frame["y"].notna().all() for frame in first)
    again = fit.impute(m=2, seed=1, data=holes)
    for one, two in zip(first, again, strict=True):
        pd.testing.assert_frame_equal(one, two)
    assert not np.allclose(first[0]["y"], first[1]["y"])


def test_a_refit_has_its_own_heads(data: pd.DataFrame, fits: dict[str, Fit]) -> None:
    again = fits["ccmv"].refit(2 * data["y"])
    heads = (fit.estimate.patterns.heads for fit in (again, fits["ccmv"]))  # type: ignore[union-attr]
    for new, old in zip(*heads, strict=True):
        assert torch.allclose(new.theta["beta"], 2 * old.theta["beta"], atol=1e-4)


def test_summary_and_file(fits: dict[str, Fit], tmp_path: Path) -> None:
    fit = fits["ncmv"]
    text = str(fit.summary())
    assert "Dropout, a head per pattern" in text
    assert "After dropout: ncmv, as those who left next" in text
    patterns = fit.estimate.patterns
    assert patterns is not None
    assert f"Parameters of all heads: {9 * len(patterns.heads)}" in text
    fit.save(tmp_path / "fit.dgmm")
    again = dgmm.load(tmp_path / "fit.dgmm")
    assert str(again.summary()) == text
    pd.testing.assert_frame_equal(
        again.pattern_profile(m=2, seed=1), fit.pattern_profile(m=2, seed=1)
    )


def test_the_last_visit_seen() -> None:
    data = dropouts(40)
    data.loc[data["id"] == 3, "y"] = np.nan
    data.loc[(data["id"] == 5) & (data["t"] < 0.2), "y"] = np.nan
    _, panel = build("y ~ t + (t | id)", data)
    last = last_seen(panel)
    assert int(last[3]) == -1
    for i, j in product((0, 5, 7), range(5)):
        row = data[(data["id"] == i)].iloc[j]
        assert not (j > int(last[i]) and np.isfinite(row["y"]))


def test_a_deep_model_has_heads_on_a_shared_trunk() -> None:
    data = dropouts(100)
    text = "y ~ sex + t + (dnn(t, latent=2, hidden=(4,)) | id)"
    control = {"epochs": 10, "holdout": 0.0, "polish_draws": 16, "tolerance": 0.5}
    fit = mixed_model(text, data, missing="pattern", verbose=0, control=control, se=None)
    patterns, theta = fit.estimate.patterns, fit.estimate.theta
    assert patterns is not None
    for head in patterns.heads:
        assert torch.equal(head.theta["latent1.A1"], theta["latent1.A1"])
        assert not torch.equal(head.theta["latent1.A2"], theta["latent1.A2"])
        assert not torch.equal(head.theta["beta"], theta["beta"])
    assert fit.pattern_profile(m=2, seed=1)["estimate"].notna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"restriction": "mar"}, "acmv, ccmv, ncmv"),
        ({"delta": np.nan}, "delta= is a finite number"),
        ({"method": "reml"}, "maximum likelihood"),
        ({"missing": "observed", "restriction": "ccmv"}, "belong to missing='pattern'"),
        ({"formula": "y ~ t + (1 | id)"}, "time"),
        ({"formula": "full ~ t + (t | id)"}, "Keep the rows"),
    ],
)
def test_options_that_do_not_go_together(
    change: dict[str, Any], message: str, data: pd.DataFrame
) -> None:
    options = {"formula": TEXT, "missing": "pattern", "verbose": 0, **change}
    with pytest.raises(ValueError, match=message):
        mixed_model(data=data, **options)


def test_other_fits_have_no_pattern_profile(sleepstudy: Fit) -> None:
    with pytest.raises(ValueError, match="missing='pattern'"):
        dgmm.pattern_profile(sleepstudy, seed=1)


def test_too_few_completers(data: pd.DataFrame) -> None:
    short = data[data["t"] < 1].copy()
    short.loc[(short["t"] > 0.7), "y"] = np.nan
    with pytest.raises(ValueError, match="last planned visit"):
        mixed_model("y ~ t + (t | id)", short, missing="pattern", verbose=0)
