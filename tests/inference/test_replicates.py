"""The parametric bootstrap: seeds, resuming, failures, spread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import data

from dgmm import Fit, mixed_model
from dgmm.estimate import Estimate, Request
from dgmm.inference import replicates
from dgmm.inference.replicates import simulated_outcome


def test_spread_of_the_estimates_is_their_standard_error(sleepstudy: Fit) -> None:
    found = sleepstudy.bootstrap(150, seed=1)
    assert found.failed == ()
    names = ["(Intercept)", "Days"]
    ratio = found.values[names].std() / sleepstudy.std_errors()
    assert (ratio - 1).abs().max() < 4 / np.sqrt(300)
    bias = (found.values[names].mean() - sleepstudy.fixef()) / sleepstudy.std_errors()
    assert bias.abs().max() < 4 / np.sqrt(150)
    bounds = found.intervals(0.95)
    wald = sleepstudy.confint()
    width = (bounds[:2, 1] - bounds[:2, 0]) / (wald.iloc[:2, 1] - wald.iloc[:2, 0])
    np.testing.assert_allclose(width, 1.0, atol=0.25)


def test_intervals_are_the_percentiles(sleepstudy: Fit) -> None:
    found = sleepstudy.bootstrap(40, seed=5).values["Days"]
    bounds = sleepstudy.confint(0.8, method="bootstrap", nsim=40, seed=5, parm="Days")
    np.testing.assert_allclose(bounds.loc["Days"], found.quantile([0.1, 0.9]), rtol=1e-12)
    assert list(bounds.columns) == ["10 %", "90 %"]


def test_workers_do_not_change_the_result(cbpp: Fit) -> None:
    one = cbpp.bootstrap(4, seed=2)
    two = cbpp.bootstrap(4, seed=2, workers=2)
    pd.testing.assert_frame_equal(one.values, two.values, rtol=1e-9)
    longer = cbpp.bootstrap(5, seed=2)
    pd.testing.assert_frame_equal(one.values, longer.values.iloc[:4], rtol=1e-9)


def test_an_interrupted_run_goes_on(sleepstudy: Fit, tmp_path: Path) -> None:
    path, whole = tmp_path / "replicates.csv", sleepstudy.bootstrap(8, seed=3)
    sleepstudy.bootstrap(5, seed=3, path=path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# dgmm bootstrap, fit ")
    path.write_text(text[:-30], encoding="utf-8")  # the last row was cut off
    resumed = sleepstudy.bootstrap(8, seed=3, path=path)
    pd.testing.assert_frame_equal(resumed.values, whole.values, check_exact=True)
    table = pd.read_csv(path, comment="#")
    assert table["replicate"].to_list() == list(range(8))
    assert list(table.columns[2:]) == list(whole.values.columns)


def test_what_is_done_is_not_fitted_again(
    sleepstudy: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "replicates.csv"
    first = sleepstudy.bootstrap(3, seed=3, path=path)

    def never(*_: object) -> Estimate:
        raise AssertionError("fitted again")

    monkeypatch.setattr(replicates, "refit_estimate", never)
    again = sleepstudy.bootstrap(3, seed=3, path=path)
    pd.testing.assert_frame_equal(first.values, again.values, check_exact=True)


def test_a_file_of_another_fit_is_refused(
    sleepstudy: Fit, sleepstudy_reml: Fit, tmp_path: Path
) -> None:
    path = tmp_path / "replicates.csv"
    sleepstudy.bootstrap(2, seed=3, path=path)
    for fit, seed in ((sleepstudy, 4), (sleepstudy_reml, 3)):
        with pytest.raises(ValueError, match="another fit or seed"):
            fit.bootstrap(2, seed=seed, path=path)


def test_a_full_disk_does_not_end_a_bootstrap(sleepstudy: Fit, tmp_path: Path) -> None:
    """A limit on the size of files cuts the third row, as a full disk does."""
    resource = pytest.importorskip("resource")
    path, whole = tmp_path / "replicates.csv", sleepstudy.bootstrap(4, seed=3)
    sleepstudy.bootstrap(2, seed=3, path=path)
    two, before = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(two) + 40, before[1]))
    try:
        with pytest.warns(UserWarning, match="not all .* written to .*replicates.csv': File too l"):
            found = sleepstudy.bootstrap(4, seed=3, path=path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    pd.testing.assert_frame_equal(found.values, whole.values, check_exact=True)
    assert path.read_bytes() == two


def test_a_full_disk_leaves_a_file_that_was_cut_off_as_it_was(
    sleepstudy: Fit, tmp_path: Path
) -> None:
    """The row that an interruption cut off is taken away in a new file, or the old one stays."""
    resource = pytest.importorskip("resource")
    path, before = tmp_path / "replicates.csv", resource.getrlimit(resource.RLIMIT_FSIZE)
    sleepstudy.bootstrap(2, seed=3, path=path)
    cut = path.read_bytes()[:-5]
    path.write_bytes(cut)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    try:
        with pytest.raises(OSError, match="replicates.csv' could not be written .File too large"):
            sleepstudy.bootstrap(2, seed=3, path=path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == cut


def test_a_row_that_is_no_replicate_is_refused(sleepstudy: Fit, tmp_path: Path) -> None:
    path = tmp_path / "replicates.csv"
    sleepstudy.bootstrap(2, seed=3, path=path)
    text = path.read_text(encoding="utf-8")
    for wrong in ("1,,2.5\n", text.splitlines()[-1].replace(".", "x") + "\n"):
        path.write_text(text + wrong, encoding="utf-8")
        with pytest.raises(
            ValueError, match="replicates.csv' is damaged: a row is not a replicate"
        ):
            sleepstudy.bootstrap(3, seed=3, path=path)


def test_failures_are_counted_and_said(
    sleepstudy: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = replicates.refit_estimate, iter(range(100))

    def sometimes(done: Estimate, request: Request, y: torch.Tensor) -> Estimate:
        if next(count) == 1:
            raise ValueError("no maximum, sorry")
        return real(done, request, y)

    monkeypatch.setattr(replicates, "refit_estimate", sometimes)
    path = tmp_path / "replicates.csv"
    with pytest.warns(UserWarning, match="1 of 6 bootstrap replicates .* no maximum, sorry"):
        sleepstudy.confint(method="bootstrap", nsim=6, path=path)
    found = sleepstudy.bootstrap(6, path=path)
    assert found.failed == ("no maximum, sorry",)
    assert list(found.values.index) == [0, 2, 3, 4, 5]


def test_simulated_outcomes_are_missing_where_the_real_ones_are(sleepstudy: Fit) -> None:
    panel = sleepstudy.estimate.panel
    y = panel.rows.data.y.clone()
    y[::7] = torch.nan
    fit = sleepstudy.refit(_in_user_order(sleepstudy, y))
    drawn = simulated_outcome(fit.estimate, 1, 0)
    assert torch.equal(torch.isnan(drawn), torch.isnan(y))
    assert fit.bootstrap(2, seed=1).values.notna().all(axis=None)


def _in_user_order(fit: Fit, y: torch.Tensor) -> np.ndarray:
    return y.numpy()[fit.memory.back]


def test_refusals(deep: Fit, sleepstudy: Fit) -> None:
    with pytest.raises(ValueError, match=r"without dnn\(\)"):
        deep.bootstrap(2)
    with pytest.raises(ValueError, match="nsim is a whole number, at least 1, not 0"):
        sleepstudy.bootstrap(0)
    with pytest.raises(ValueError, match="workers is a whole number"):
        sleepstudy.bootstrap(2, workers=0)


def test_parameters_of_the_family_and_of_its_parts_are_kept() -> None:
    frame = data("epil")
    options = {"family": "nb2", "verbose": 0}
    for more in ({}, {"dispersion": "~ V4"}, {"zi": "~ V4"}):
        fit = mixed_model("y ~ lbase + (1 | subject)", frame, **options, **more)
        found = fit.confint(method="bootstrap", nsim=3, seed=1)
        assert list(found.index) == list(fit.confint().index)
        assert found.notna().all(axis=None)
