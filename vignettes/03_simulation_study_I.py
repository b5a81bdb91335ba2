# %% [markdown]
# # Simulation study I: complete data
#
# Question: when profiles are not those of a linear mixed model, how much of what could be known
# does the deep model find, and what does it cost where the linear mixed model is true? The data
# are simulated, so the truth is known: the subject's own mean at every visit, and the likelihood.
# Between the best linear mixed model and the *oracle*, the true model itself, there is a gap. We
# measure the share of it that is closed.

# %%
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import dgmm
from dgmm.studies import (
    fit_predictions,
    oracle_predictions,
    row_kinds,
    score,
    standing,
    training_frame,
)

pd.set_option("display.width", 160, "display.max_columns", 20)
FAST = os.environ.get("DGMM_FAST") == "1"  # few subjects, a short fit: for the tests
sizes = (90, 20, 20) if FAST else (800, 200, 200)
control = {"epochs": 20, "holdout": 0.0, "draws": 64, "polish_draws": 32} if FAST else None
se = None if FAST else "hessian"

# %% [markdown]
# ## Three processes
#
# One Gaussian outcome, 20 visits on [0, 10], covariates age, sex and x. Subjects differ in
#
# - `lmm`: the coefficients of a spline. The linear mixed model is the truth.
# - `sigmoid`: the amplitude, the time and the speed of one rise.
# - `sinusoid`: amplitude, period and phase of a wave, beside level and trend.
#
# In the last two the mean depends on the covariates by a wave in age that has another sign for the
# other sex, and by x squared. Three sets of subjects: `train`; `landmark`, seen up to t = 5, the
# rest is to be predicted; `new`, never shown.

# %%
data = dgmm.simulate_study("sigmoid", study=1, seed=1, n=sizes)
train = training_frame(data)
print(data.groupby("set", sort=False).agg(subjects=("id", "nunique"), seen=("observed", "sum")))

# %% [markdown]
# ## Fits
#
# Two linear mixed models, the plain one and one with splines of age and x and as many columns of
# time as the deep model. A comparison with the plain one alone would flatter it: much of what a
# network finds is a richer basis.
#
# The deep model has `form='warped'`: a curve that each subject's random effects shift, stretch and
# scale in time, beside a spline whose coefficients they give linearly and by a network. Subjects
# who go through the same course at different times are what it is for; without it, in its general
# form, the network finds about two thirds of what there is (`deep` in the table further down,
# `warped` being the model fitted here).

# %%
fits = {
    "lmm4": dgmm.mixed_model("y ~ sex * age + x + ns(t, 4) + (ns(t, 4) | id)", train),
    "lmm_rich": dgmm.mixed_model(
        "y ~ sex * ns(age, 4) + ns(x, 3) + ns(t, 7) * sex + (ns(t, 7) | id)", train
    ),
    "deep": dgmm.mixed_model(
        "y ~ dnn(age, sex, x) + ns(t, 7) * sex + (dnn(ns(t, 7), form='warped') | id)",
        train,
        seed=1,
        control=control,
        se=se,
    ),
}
print(fits["deep"].summary())

# %% [markdown]
# ## Scores
#
# RMSE is against the true mean mu, not against the outcomes: of observed visits of the training
# subjects, of the future of the landmark subjects, and of new subjects given all their visits.
# `loglik` is the log-likelihood per new subject, which is a fair judge of the whole model: nothing
# of these subjects was used. Coverage is of 95% prediction intervals, expected over the noise of
# the outcomes.

# %%
said = {name: fit_predictions(fit, data, intervals=not FAST) for name, fit in fits.items()}
oracle = oracle_predictions("sigmoid", data, draws=512 if FAST else 2048)
said["oracle"] = oracle.predictions
table = pd.DataFrame({name: score(one, data, "sigmoid") for name, one in said.items()}).T
print(table.filter(regex="rmse|loglik|coverage").round(3))
print(standing(table).round(2))

# %% [markdown]
# The oracle needs integrals too. It samples every subject's random effects around several modes
# and along the posterior, and reports with how many effective draws: the fewest of any subject,

# %%
print(round(oracle.effective.min()), "of", 512 if FAST else 2048)

# %% [markdown]
# Nobody can beat the oracle except by luck. Its own RMSE of the future says how little five years
# tell about the next five: subjects who have not risen yet may rise at any time.
#
# ## Profiles
#
# Six landmark subjects. Black: visits that were seen. Grey: those that were not. The dotted curve
# is the true mean.

# %%
kinds = row_kinds(data)
landmark = data.loc[data["set"] == "landmark", "id"].unique()
gap = (said["deep"].mean - data["mu"]) ** 2
ranked = gap[kinds["future"]].groupby(data["id"]).mean().sort_values().index
chosen = sorted(ranked[np.linspace(0, len(ranked) - 1, 6).round().astype(int)])
figure = Figure(figsize=(10, 6), layout="constrained")
axes = figure.subplots(2, 3, sharex=True, sharey=True).ravel()
for axis, one in zip(axes, chosen, strict=True):
    rows = (data["id"] == one).to_numpy()
    t, seen = data.loc[rows, "t"], data.loc[rows, "observed"]
    y = data.loc[rows, "y"]
    axis.plot(t[seen], y[seen], "o", color="black", ms=3.5)
    axis.plot(t[~seen], y[~seen], "o", color="0.7", ms=3.5)
    axis.plot(t, data.loc[rows, "mu"], ":", color="black", label="truth")
    for name, colour in (("lmm_rich", "#c2571a"), ("deep", "#1f5a94"), ("oracle", "#3f7f4c")):
        axis.plot(t, said[name].mean[rows], color=colour, lw=1.5, label=name)
    axis.axvline(5, color="0.85", lw=0.8)
    axis.set_title(f"subject {one}", fontsize=9)
axes[0].legend(frameon=False, fontsize=8)
figure.supxlabel("t")
figure.supylabel("y")
with tempfile.TemporaryDirectory() as folder:
    figure.savefig(Path(folder) / "profiles.png", dpi=130)
    print("picture:", next(Path(folder).iterdir()).name)

# %% [markdown]
# ## The table that is kept
#
# `python benchmarks/studies.py` runs all methods on all processes; its rows are kept in
# `docs/studies.csv`. Means over seeds. GPBoost is tree boosting with linear random effects, `gru` a
# recurrent network without random effects, `lmm7` the plain LMM with seven columns of time.

# %%
kept = pd.read_csv(Path(__file__).resolve().parent.parent / "docs" / "studies.csv")
first = kept[kept["study"] == 1]
shown = ["rmse_observed", "rmse_future", "rmse_new", "loglik", "coverage_future", "seconds"]
for process, rows in first.groupby("process", sort=False):
    means = rows.groupby("method", sort=False)[shown].mean()
    seeds = ", ".join(str(seed) for seed in sorted(rows["seed"].unique()))
    print(f"\n{process}, seeds {seeds}\n{means.round(3)}")
    if {"oracle", "lmm4"} <= set(means.index):
        print(standing(means).round(2))

# %% [markdown]
# How to read it.
#
# - The rival is the best of the LMMs, measure by measure. The distance from `lmm4` to `lmm_rich` is
#   what splines do; what lies beyond is what random effects inside a curve do.
# - `gru` has no random effects: it learns to continue a series of outcomes from 1000 of them.
# - Where the LMM is true a method should lose nothing. That row is the price of flexibility.
#
# ## The figures above, as assertions

# %%
true = table.loc["oracle"]
assert np.isfinite(table.filter(regex="rmse|loglik")).all(axis=None)
assert (table["loglik"] <= true["loglik"] + 0.05).all()
assert (table["rmse_new"] >= true["rmse_new"] - 0.005).all()
assert table.loc["lmm_rich", "loglik"] > table.loc["lmm4", "loglik"]
assert oracle.effective.min() > 10
if not FAST:
    assert abs(true["rmse_future"] - 1.047) < 0.01
    assert abs(true["loglik"] + 19.597) < 0.01
    assert abs(table.loc["lmm4", "loglik"] + 21.49) < 0.02
    assert abs(table.loc["lmm_rich", "loglik"] + 20.61) < 0.02
    assert table.loc["deep", "loglik"] > table.loc["lmm_rich", "loglik"]
    assert table.loc["deep", "rmse_future"] < table.loc["lmm_rich", "rmse_future"]
