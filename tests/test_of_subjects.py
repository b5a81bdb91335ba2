"""posterior(): b of new subjects by both methods, beside closed forms and each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import data
from toys import crossed_frame, whole

import dgmm
from dgmm import Fit, mixed_model
from dgmm.numerics.quadrature import sobol_normal
from dgmm.prediction.moments import outcomes_seen

TEXT = "Reaction ~ Days + (dnn(ns(Days, 2), hidden=(3,), ridge=1) | Subject)"


@pytest.fixture(scope="module")
def curved() -> Fit:
    """A small network, taught for the default number of steps."""
    return mixed_model(
        TEXT, data("sleepstudy"), starts=1, se=None, control={"holdout": 0.0}, seed=3, verbose=0
    )


@pytest.fixture(scope="module")
def normal() -> Fit:
    """A linear model whose exact posterior the encoder has."""
    return mixed_model(
        "Reaction ~ Days + (Days | Subject)",
        data("sleepstudy"),
        method="vae",
        control={"epochs": 60},
        se=None,
        verbose=0,
    )


def seen_in_part(frame: pd.DataFrame) -> pd.DataFrame:
    """Half of the subjects up to day 4, and one of whom nothing was seen."""
    half = frame["Subject"].isin(sorted(frame["Subject"].unique())[:9])
    known = frame.assign(Reaction=frame["Reaction"].mask(half & (frame["Days"] > 4)))
    return known.assign(Reaction=known["Reaction"].mask(frame["Subject"] == "308"))


@pytest.mark.parametrize("method", ["refined", "encoder"])
def test_a_linear_model_has_its_closed_form(method: str, normal: Fit, sleepstudy: Fit) -> None:
    """Conditional means and standard deviations of lme4's kind, log p(y) by dense algebra."""
    exact = sleepstudy if method == "refined" else normal
    known = mixed_model("Reaction ~ Days + (Days | Subject)", data("sleepstudy"), verbose=0)
    table = exact.posterior(data("sleepstudy"), method=method).table
    if method == "refined":
        theirs = known.ranef(cond_var=True)
        scores = known.log_score(data("sleepstudy"))["log_score"]
        error = (table["sd(Days)"] / table["ess"] ** 0.5).to_numpy()
        away = (table["Days"] - theirs["Days"]).to_numpy() / error
        ratio = table["sd(Days)"] / theirs["sd(Days)"]
        assert np.abs(ratio - 1).max() < 4 * (1 / (2 * table["ess"].min())) ** 0.5
    else:  # at the theta of the other fit, which the polish has brought near the maximum
        theirs = normal.ranef(cond_var=True)
        scores = normal.log_score(data("sleepstudy"))["log_score"]
        away = (
            (table["Days"] - theirs["Days"]) / table["sd(Days)"] * table["ess"] ** 0.5
        ).to_numpy()
    assert np.abs(away).max() < 4
    z = (table["log_score"] - scores) / table["mc_error"]
    assert np.abs(z).max() < 4


def test_both_methods_agree_on_subjects_seen_in_part(curved: Fit) -> None:
    frame = seen_in_part(data("sleepstudy"))
    ours = curved.posterior(frame, method="encoder").table
    theirs = curved.posterior(frame).table
    assert list(ours.columns) == list(theirs.columns)
    names = [name for name in ours if name.startswith("b")]
    for name in names:
        size = (1 / ours["ess"] + 1 / theirs["ess"]) ** 0.5
        away = (ours[name] - theirs[name]) / ours[f"sd({name})"] / size
        assert np.abs(away).max() < 4
    gap = ours["log_score"] - theirs["log_score"]
    assert np.abs(gap / np.hypot(ours["mc_error"], theirs["mc_error"])).max() < 4
    assert bool(theirs["refined"].all())
    assert ours["refined"].mean() < 0.2
    assert ours["nobs"].to_dict() == theirs["nobs"].to_dict()
    assert ours.loc["308", "nobs"] == 0


@pytest.mark.parametrize("method", ["refined", "encoder"])
def test_a_subject_of_whom_nothing_was_seen_has_the_prior(curved: Fit, method: str) -> None:
    frame = data("sleepstudy")
    found = curved.posterior(frame.assign(Reaction=np.nan), method=method, draws=4000)
    names = list(found.names)
    error = 4 / found.table["ess"].min() ** 0.5
    assert found.table[names].abs().to_numpy().max() < error
    assert (found.table[[f"sd({n})" for n in names]] - 1).abs().to_numpy().max() < error
    assert found.table["log_score"].abs().max() < 4 * found.table["mc_error"].max()
    assert (found.table["nobs"] == 0).all()
    assert np.abs(found.draws.mean((0, 1))).max() < 4 / (18 * found.table["ess"].min()) ** 0.5


def test_draws_have_the_moments_of_the_table(curved: Fit) -> None:
    found = curved.posterior(data("sleepstudy"), method="encoder", draws=4000)
    assert found.draws.shape == (4000, 18, len(found.names))
    for j, name in enumerate(found.names):
        mean, sd = found.table[name], found.table[f"sd({name})"]
        drawn = found.draws[:, :, j]
        assert np.abs((drawn.mean(0) - mean) / sd).max() < 4 / 4000**0.5
        assert np.abs(drawn.std(0) / sd - 1).max() < 4 * (2 / 4000) ** 0.5
    assert curved.posterior(data("sleepstudy")).draws.shape == (0, 18, len(found.names))


def test_log_scores_and_predictions_by_the_encoder(curved: Fit) -> None:
    """Beside 65,536 draws of the prior, which miss no part of p(b | y)."""
    frame = seen_in_part(data("sleepstudy"))
    known = frame[frame["Subject"] != "308"]
    done = curved.estimate
    panel = outcomes_seen(done, curved.memory.spec, known)
    model, block = done.model, whole(panel)
    b = sobol_normal(model.k, 2**16, seed=5)[:, None].expand(2**16, panel.n, model.k)
    with torch.no_grad():
        ready = model.prepare(done.theta)
        height = model.log_likelihood(ready, b, block)
        rows = outcomes_seen(done, curved.memory.spec, data("sleepstudy")).align(panel.ids)
        target = whole(rows)
        eta = model.mu1(ready, target.rows) + model.mu2(ready, b, target.rows)
        weight = torch.softmax(height, 0)
        mean = torch.einsum("mn,mnj->nj", weight, eta)
        sd = torch.einsum("mn,mnj->nj", weight, (eta - mean).square()).sqrt()
    score = (torch.logsumexp(height, 0) - np.log(2**16)).numpy()
    ours = curved.log_score(known, method="encoder")
    assert np.abs((ours["log_score"] - score) / ours["mc_error"]).max() < 4
    table = curved.posterior(known, method="encoder").table
    np.testing.assert_allclose(ours["log_score"], table["log_score"], atol=1e-12)
    asked = data("sleepstudy")[data("sleepstudy")["Subject"] != "308"]
    found = curved.predict(asked, history=known, method="encoder")["fit"].to_numpy()
    error = sd.numpy() / np.sqrt(table["ess"].to_numpy())[:, None]
    assert np.abs((found.reshape(error.shape) - mean.numpy()) / error).max() < 4


def test_a_file_holds_the_encoder_and_what_is_known_of_it(curved: Fit, tmp_path: Path) -> None:
    curved.save(tmp_path / "fit")
    again = dgmm.load(tmp_path / "fit")
    assert again.estimate.lesson == curved.estimate.lesson
    assert again.estimate.encoder == curved.estimate.encoder
    frame = seen_in_part(data("sleepstudy"))
    ours, theirs = (one.posterior(frame, method="encoder").table for one in (curved, again))
    pd.testing.assert_frame_equal(pd.DataFrame(ours), pd.DataFrame(theirs), rtol=1e-6, atol=1e-8)


def test_what_it_is_not_for(sleepstudy: Fit, curved: Fit) -> None:
    with pytest.raises(ValueError, match="method='encoder' is for fits that come with an encoder"):
        sleepstudy.posterior(data("sleepstudy"), method="encoder")
    with pytest.raises(ValueError, match="method='encode' is not one of refined, encoder"):
        curved.log_score(data("sleepstudy"), method="encode")
    with pytest.raises(ValueError, match="draws is a number of draws, 0 or more, not -1"):
        curved.posterior(data("sleepstudy"), draws=-1)
    crossed = mixed_model("y ~ x + (1 | a) + (1 | b)", crossed_frame(), verbose=0)
    with pytest.raises(ValueError, match="one grouping factor"):
        crossed.posterior(crossed_frame())
