# %% [markdown]
# # Uncertainty
#
# Question: what can the standard errors of a network say, and what can they not? One data set,
# `milk`: the protein content of the milk of 79 cows on three diets, week by week after calving. It
# falls for three weeks and recovers slowly. Each time a spline stands beside the network.

# %%
import os
import tempfile
from pathlib import Path

import pandas as pd

import dgmm
from dgmm.plots import plot_effects

FAST = os.environ.get("DGMM_FAST") == "1"  # fewer resamples of the bootstrap: for the tests
milk = dgmm.datasets.load("milk")
pd.set_option("display.width", 100)

# %% [markdown]
# ## 1. Two models of one curve
#
# A natural spline with six coefficients, and a network of default size. Both have a random
# intercept per cow.

# %%
FORMULA = "protein ~ Diet + dnn(Time) + (1 | Cow)"
spline = dgmm.mixed_model("protein ~ Diet + ns(Time, 6) + (1 | Cow)", milk)
network = dgmm.mixed_model(FORMULA, milk, seed=5, control={"holdout": 0.0})
print(network.summary(verbose=True))

# %% [markdown]
# The network has 1,153 weights and spends about eight degrees of freedom. The ridge decides how
# many; it was chosen by evidence, from the same data. AIC and BIC count these *effective* degrees
# of freedom and take the ridge as known. That makes them comparable between networks and splines to
# a unit or two, not to a decimal.

# %%
table = pd.DataFrame(
    {
        name: {"logLik": float(fit.loglik()), "df": fit.df(), "AIC": fit.aic()}
        for name, fit in (("spline", spline), ("network", network))
    }
)
print(table.round(1))

# %% [markdown]
# ## 2. The curve with its bands
#
# `effects()` walks over a covariate and holds the others at their mean or reference level. The
# standard error comes from one joint covariance of the linear coefficients *and* all weights,
# V = (F + kappa S)^-1: F is the information of the marginal likelihood, kappa S the ridge. This is
# the covariance that smoothing splines use (mgcv prints the same kind of band). It allows for the
# bias of the penalty on average over the curve, not at every point: at a sharp bend a penalised
# curve is too flat, and the band there covers less often than it says.

# %%
ours, theirs = (fit.effects("Time", grid=19) for fit in (network, spline))
weeks = [0, 3, 9, 18]
print(ours.loc[weeks].round(3))
print(theirs.loc[weeks].round(3))

# %% [markdown]
# `lower` and `upper` cover the curve at one week with 95% probability. They say nothing about the
# whole curve: of nineteen weeks, about one is missed. `sim_lower` and `sim_upper` contain the whole
# curve with 95% probability; they are wider by this factor.

# %%
factor = ((ours["sim_upper"] - ours["fit"]) / (ours["upper"] - ours["fit"])).iloc[0]
distance = ((ours["fit"] - theirs["fit"]) / theirs["se"]).abs().max()
print(f"simultaneous / pointwise {factor:.2f}")
print(f"largest distance of the two curves: {distance:.2f} standard errors")

# %% [markdown]
# ## 3. Numbers instead of curves
#
# A weight has no meaning, a function of the curve has. How much protein is lost from week 1 to week
# 4, and what is the average slope over all visits? Both have a standard error by the delta method,
# and it does not matter whether the covariate is linear, in a spline or in a network.

# %%
loss = {
    name: fit.contrast({"Time": 1}, {"Time": 4}).iloc[0]
    for name, fit in (("spline", spline), ("network", network))
}
print(pd.DataFrame(loss).T[["Estimate", "Std. Error", "lower", "upper"]].round(3))
print(network.slopes()[["Estimate", "Std. Error"]].round(4))

# %% [markdown]
# ## 4. When the model of the cows is wrong
#
# All of this believes that cows differ by a constant, (1 | Cow). In fact visits of a cow close in
# time resemble each other more than visits far apart. The cluster sandwich does not believe it:
# it measures how scores differ from cow to cow. The cluster bootstrap draws whole cows with
# replacement and refits.

# %%
robust = dgmm.mixed_model(FORMULA, milk, se="sandwich", seed=5, control={"holdout": 0.0})
resampled = dgmm.mixed_model(
    FORMULA,
    milk,
    se="bootstrap",
    seed=5,
    control={"holdout": 0.0, "resamples": 10 if FAST else 100},
)
fits = {"information": network, "sandwich": robust, "bootstrap": resampled}
errors = {name: fit.slopes()["Std. Error"] for name, fit in fits.items()}
print(pd.DataFrame(errors).round(4))

# %% [markdown]
# Those of the diets agree within a fifth: what the model gets wrong about the cows does little
# harm to these numbers. The average slope hangs on how sharply the curve bends, and there they
# differ. With 79 cows the sandwich is usable; with 20 it would be too small itself.
#
# What does the implied random part say? A random slope lets the share of the variance between cows
# change over time. `random_profile()` gives it at any times, with intervals.

# %%
slopes = dgmm.mixed_model("protein ~ Diet + ns(Time, 6) + (Time | Cow)", milk)
profile = slopes.random_profile([1, 7, 13, 19])
print(profile)

# %% [markdown]
# ## 5. What the standard errors cannot say
#
# **They take the ridge as known.** Give a ridge that is too large, and the network misses the
# fall after calving by several standard errors while its bands get *narrower*. Bands are honest
# only around a penalty that fits the data. Evidence chose one twenty times smaller here.

# %%
stiff = dgmm.mixed_model(
    FORMULA.replace("dnn(Time)", "dnn(Time, ridge=1.5)"), milk, control={"holdout": 0.0}
)
wrong = stiff.effects("Time", grid=19)
miss = (wrong["fit"] - theirs["fit"]).abs() / wrong["se"]
print(f"degrees of freedom {stiff.information.effective['dnn1']:.1f}, ", end="")
print(f"log-likelihood {float(stiff.loglik()):.1f} instead of {float(network.loglik()):.1f}")
print(f"largest distance from the spline {miss.max():.1f} of its own standard errors")
print(f"its standard errors are {(wrong['se'] / ours['se']).mean():.2f} times as large")

# %% [markdown]
# **They know one maximum.** A likelihood with a network has several. Another start is another
# answer, or the same one, as here. Other seeds end in a sharper bend after calving with half of the
# degrees of freedom, up to about one standard error away. Try it with your data; `starts=3` keeps
# the one of the largest evidence.

# %%
other = dgmm.mixed_model(FORMULA, milk, seed=5, control={"holdout": 0.0})
again = other.effects("Time", grid=19)
start = ((again["fit"] - ours["fit"]) / ours["se"]).abs().max()
print(f"largest distance between two starts: {start:.2f} standard errors")

# %% [markdown]
# **They do not know what they have not seen.** The data end in week 19. Beyond, the spline goes on
# as a straight line, the network as its activations please, each with a band of its own, which
# says how well the data determine that continuation, not whether milk follows it.

# %%
ahead = {
    name: fit.effects("Time", at={"Time": [19, 25]}).set_index("Time")[["fit", "lower", "upper"]]
    for name, fit in (("spline", spline), ("network", network))
}
print(pd.concat(ahead).round(2))

# %% [markdown]
# Nor is there a test of "no network". Compare effective degrees of freedom with those of the linear
# model (1 for one covariate), compare held-out scores, or fit both and look at `effects()`.

# %%
with tempfile.TemporaryDirectory() as folder:
    plot_effects(network, "Time").figure.savefig(Path(folder) / "curve.png", dpi=130)
    axes = plot_effects(network, ("Time", "Diet"))
    axes.figure.savefig(Path(folder) / "diets.png", dpi=130)
    print("pictures:", sorted(path.name for path in Path(folder).iterdir()))

# %% [markdown]
# ## The figures above, as assertions

# %%
assert 3 < network.information.effective["dnn1"] < 15
assert abs(network.aic() - spline.aic()) < 15
assert distance < 2
assert 1.2 < factor < 1.6
assert abs(loss["network"]["Estimate"] - loss["spline"]["Estimate"]) < loss["spline"]["Std. Error"]
assert abs(loss["network"]["Std. Error"] / loss["spline"]["Std. Error"] - 1) < 0.25
ratio = pd.DataFrame(errors).div(errors["information"], axis=0)
assert ratio["sandwich"].iloc[:2].between(0.8, 1.25).all()
assert ratio["bootstrap"].between(0.4, 1.8).all()  # few resamples when fast
assert (profile.table["lower"] < profile.table["sd"]).all()
assert stiff.information.effective["dnn1"] < 5
assert miss.max() > 3
assert (wrong["se"] / ours["se"]).mean() < 1
assert start < 2
