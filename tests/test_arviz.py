"""The way to ArviZ: groups, names of dimensions, and its numbers beside ours."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import data

from dgmm import Fit, mixed_model

arviz_base = pytest.importorskip("arviz_base", reason="arviz-base: pip install 'dgmm[arviz]'")


@pytest.fixture(scope="module")
def sleep() -> Fit:
    frame = data("sleepstudy")
    frame.index = [f"row {i}" for i in range(len(frame))]
    frame.loc["row 3", "Reaction"] = np.nan
    frame = frame.sample(frac=1, random_state=1)
    return mixed_model(
        "Reaction ~ Days + (Days | Subject)", frame, method="gibbs", draws=500, verbose=0
    )


def test_the_tree_has_the_draws_by_their_names(sleep: Fit) -> None:
    tree, drawn = sleep.as_arviz(), sleep.posterior_draws()
    assert set(tree.children) == {"posterior", "random_effects", "observed_data"}
    for name in drawn.columns:
        assert np.array_equal(tree["posterior"][name].values.ravel(), drawn[name])
    effects = tree["random_effects"]["effects_Subject"]
    assert effects.dims == ("chain", "draw", "Subject", "Subject_effect")
    one = effects.sel(Subject="308", Subject_effect="Days")
    assert float(one.mean()) == pytest.approx(sleep.ranef().loc["308", "Days"], abs=0.4)
    assert list(effects.draw.values[:3]) == [1, 3, 5]
    seen = tree["observed_data"]["Reaction"]
    assert float(seen.sel(row="row 17")) == pytest.approx(data("sleepstudy")["Reaction"][17])
    assert np.isnan(float(seen.sel(row="row 3")))


def test_arviz_says_of_the_draws_what_the_summary_says(sleep: Fit) -> None:
    stats = pytest.importorskip("arviz_stats")
    ours, tree = sleep.posterior_table(), sleep.as_arviz(log_likelihood=True)
    theirs = stats.summary(tree, round_to="none")
    assert theirs["mean"].to_numpy(float) == pytest.approx(ours["Mean"].to_numpy())
    assert theirs["r_hat"].to_numpy(float) == pytest.approx(ours["R-hat"].to_numpy())
    assert theirs["ess_bulk"].to_numpy(float) == pytest.approx(ours["ESS bulk"].to_numpy())
    loo = stats.loo(tree, var_name="Reaction", reff=1.0)
    assert loo.elpd == pytest.approx(sleep.loo().elpd, rel=1e-6)
    assert loo.p == pytest.approx(sleep.loo().p, rel=1e-5)
