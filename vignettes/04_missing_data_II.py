# %% [markdown]
# # Simulation study II: subjects who leave
#
# Question: three subjects in ten leave, and who leaves depends on the last outcome seen. What does
# that do to a mixed model, to a deep mixed model, and to a network without random effects? The
# data are those of study I, so the outcomes that nobody saw are known.

# %%
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

import dgmm
from dgmm.studies import fit_predictions, oracle_predictions, score, standing, training_frame

pd.set_option("display.width", 160, "display.max_columns", 20)
FAST = os.environ.get("DGMM_FAST") == "1"  # few subjects, a short fit: for the tests
sizes = (90, 20, 20) if FAST else (800, 200, 200)
control = {"epochs": 20, "holdout": 0.0, "draws": 64, "polish_draws": 32} if FAST else None
se = None if FAST else "hessian"

# %% [markdown]
# ## Dropout at random, given what was seen
#
# After each visit from the fourth on, a subject leaves with a probability whose logit grows by 1.2
# per standard deviation of the outcome just seen. High outcomes leave. The visits that remain are
# not those of all subjects, and late means of what was seen are too low:

# %%
data = dgmm.simulate_study("sigmoid", study=2, seed=1, n=sizes)
train = training_frame(data)
own = data[data["set"] == "train"]
late = pd.cut(own["t"], [0, 2, 4, 6, 8, 10])
means = pd.DataFrame(
    {
        "all subjects": own.groupby(late, observed=True)["mu"].mean(),
        "still there": own[own["observed"]].groupby(late, observed=True)["y"].mean(),
        "share seen": own.groupby(late, observed=True)["observed"].mean(),
    }
)
print(means.round(2))

# %% [markdown]
# Dropout is *missing at random*: given the outcomes seen before, whether a subject stays does not
# depend on the outcome that follows. Then the likelihood of what was seen,
#
#     prod_i integral p(y_i seen | b) p(b) db,
#
# estimates the model of all outcomes, without modelling dropout and without filling anything in
# (Rubin, 1976). The condition is that the likelihood is a joint one, of all visits of a subject:
# the early outcomes that made someone leave must be in it. Least squares, row by row, has no such
# memory.

# %% [markdown]
# ## A plain network
#
# Two hidden layers, inputs t, age, sex and x, least squares over the rows that were seen. No
# random effects: each row stands for itself.

# %%
seen = data[data["observed"] & (data["set"] != "new")]


def inputs(frame):
    """Standardised columns, as a tensor."""
    columns = [frame["t"] / 5 - 1, (frame["age"] - 45) / 15, frame["sex"] - 0.5, frame["x"]]
    return torch.tensor(np.column_stack(columns))


generator = torch.Generator().manual_seed(1)
layers = [
    (torch.randn(a, b, generator=generator, dtype=torch.float64) / a**0.5, torch.zeros(b).double())
    for a, b in ((4, 32), (32, 32), (32, 1))
]
weights = [w.requires_grad_() for layer in layers for w in layer]


def network(rows):
    """Tanh layers, the last one linear."""
    for j in range(0, len(weights), 2):
        rows = rows @ weights[j] + weights[j + 1]
        rows = torch.tanh(rows) if j < len(weights) - 2 else rows
    return rows[:, 0]


X, y = inputs(seen), torch.tensor(seen["y"].to_numpy())
optimiser = torch.optim.Adam(weights, lr=0.01)
for _ in range(400 if FAST else 1500):
    optimiser.zero_grad()
    loss = (network(X) - y).square().mean() + 1e-4 * sum(w.square().sum() for w in weights[::2])
    loss.backward()
    optimiser.step()
with torch.no_grad():
    plain = network(inputs(data)).numpy()

# %% [markdown]
# ## Mixed models

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

# %% [markdown]
# ### The mean profile
#
# Averages over all training subjects, those who left included, of what each method says about
# their mean at the visits they had planned. The plain network predicts the mean of those who are
# still there; the mixed models predict that of everybody.

# %%
said = {name: fit_predictions(fit, data, intervals=not FAST) for name, fit in fits.items()}
oracle = oracle_predictions("sigmoid", data, draws=512 if FAST else 2048)
said["oracle"] = oracle.predictions
curves = pd.DataFrame({"truth": own["mu"], "plain network": plain[own.index]})
for name, fit in fits.items():
    curves[name] = fit.predict(own, type="marginal")["fit"]
profile = curves.groupby(late, observed=True).mean()
print(profile.round(2))
print("\nerror in (8, 10]:")
error = (profile - profile[["truth"]].to_numpy()).iloc[-1].drop("truth")
print(error.round(2).to_string())

# %% [markdown]
# ### The subjects
#
# RMSE against the true mean at visits that were missed (`rmse_dropped`), and the other scores of
# study I.

# %%
table = pd.DataFrame({name: score(one, data, "sigmoid") for name, one in said.items()}).T
gone = (~data["observed"] & (data["set"] == "train")).to_numpy()
of_plain = float(np.sqrt(np.mean((plain - data["mu"])[gone] ** 2)))
print(table.filter(regex="rmse|loglik|coverage").round(3))
print(f"plain network, rmse_dropped: {of_plain:.3f}")
print(standing(table).round(2))

# %% [markdown]
# The plain network does two things wrong. Its mean is that of the survivors, and it has nothing to
# say about a subject beyond age, sex and x: the visits seen before leaving do not enter.
#
# ## Profiles of some who left

# %%
ids = own.loc[~own["observed"], "id"].unique()
left = own[own["observed"]].groupby("id").size().loc[ids].sort_values(kind="stable").index
chosen = left[np.linspace(0, len(left) - 1, 6).round().astype(int)]
figure = Figure(figsize=(10, 6), layout="constrained")
axes = figure.subplots(2, 3, sharex=True, sharey=True).ravel()
for axis, one in zip(axes, chosen, strict=True):
    rows = (data["id"] == one).to_numpy()
    t, there, outcome = (data.loc[rows, name] for name in ("t", "observed", "y"))
    axis.plot(t[there], outcome[there], "o", color="black", ms=3.5)
    axis.plot(t[~there], outcome[~there], "o", color="0.7", ms=3.5)
    axis.plot(t, data.loc[rows, "mu"], ":", color="black", label="truth")
    axis.plot(t, plain[rows], color="0.5", lw=1.2, ls="--", label="plain network")
    for name, colour in (("lmm_rich", "#c2571a"), ("deep", "#1f5a94")):
        axis.plot(t, said[name].mean[rows], color=colour, lw=1.5, label=name)
    axis.set_title(f"subject {one}", fontsize=9)
axes[0].legend(frameon=False, fontsize=8)
figure.supxlabel("t")
figure.supylabel("y")
with tempfile.TemporaryDirectory() as folder:
    figure.savefig(Path(folder) / "dropout.png", dpi=130)
    print("picture:", next(Path(folder).iterdir()).name)

# %% [markdown]
# ## Other treatments of missing outcomes
#
# The fits above use `missing="observed"`, the likelihood of what was seen, which is all that is
# needed when outcomes are missing at random. Three other ways, for other purposes.
#
# **Completed data.** `impute()` draws parameters, random effects and missing outcomes from the fit,
# and `pool()` combines what is estimated from the completed frames by Rubin's rules: here the mean
# outcome in (8, 10] over all training subjects. Rows of landmark subjects are completed too, and
# left out of the mean.

# %%
at_end = own.index[(late == late.cat.categories[-1]).to_numpy()]
frames = fits["lmm_rich"].impute(m=5 if FAST else 20, seed=1)
ends = [frame.loc[at_end, ["id", "y"]].groupby("id")["y"].mean() for frame in frames]
pooled = dgmm.pool(
    [{"mean outcome": one.mean()} for one in ends], [{"mean outcome": one.sem()} for one in ends]
)
print(pooled.round(3).to_string())
print(f"true mean of these visits: {own.loc[at_end, 'mu'].groupby(own['id']).mean().mean():.3f}")

# %% [markdown]
# **SAEM.** A dense encoder needs complete histories. `missing="saem", encoder="dense"` gives it
# outcomes drawn by Markov chains from the model given what was *seen*; the likelihood never sees
# them. Its averaged iterates were 0.04 standard errors from exact maximum likelihood over twenty
# data sets, where an encoder on bare outcomes, zero where missing or filled in by itself, was 0.5
# away and in the worst data set 1.9 (`benchmarks/missing.py`, in docs/benchmarks.md).
#
# **Patterns.** If those who left differ from those who stayed in a way that their outcomes do not
# show, no method can know. `missing="pattern"` fits each dropout pattern and lets you say what
# stands in after dropout: all who were seen then ("acmv", missing at random), the completers
# ("ccmv"), those who left next ("ncmv"), each shifted by `delta`. `pattern_profile()` gives the
# mean profile.
#
# ## The table that is kept
#
# From `docs/studies.csv`, means over seeds; `python benchmarks/studies.py` makes it.

# %%
kept = pd.read_csv(Path(__file__).resolve().parent.parent / "docs" / "studies.csv")
second = kept[kept["study"] == 2]
shown = ["rmse_observed", "rmse_dropped", "rmse_future", "rmse_new", "loglik", "coverage_dropped"]
for process, rows in second.groupby("process", sort=False):
    average = rows.groupby("method", sort=False)[shown].mean()
    seeds = ", ".join(str(seed) for seed in sorted(rows["seed"].unique()))
    print(f"\n{process}, seeds {seeds}\n{average.round(3)}")
    if {"oracle", "lmm4"} <= set(average.index):
        print(standing(average).round(2))

# %% [markdown]
# ## The figures above, as assertions

# %%
assert (~own["observed"].groupby(own["id"]).all()).mean() == 0.3
assert means["still there"].iloc[-1] < means["all subjects"].iloc[-1] - 0.2
assert error["plain network"] < -0.2
assert abs(error["lmm_rich"]) < abs(error["plain network"])
assert (table["loglik"] <= table.loc["oracle", "loglik"] + 0.05).all()
assert table.loc["lmm_rich", "rmse_dropped"] < of_plain
if not FAST:
    assert abs(error["lmm_rich"]) < abs(error["plain network"]) / 2
    assert abs(error["deep"]) < abs(error["plain network"]) / 2
    assert table.loc["deep", "rmse_dropped"] < table.loc["lmm_rich", "rmse_dropped"]
    assert table.loc["deep", "loglik"] > table.loc["lmm_rich", "loglik"]
