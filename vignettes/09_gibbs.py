# %% [markdown]
# # Schools by Gibbs sampling
#
# Question: in which schools does a pupil's score depend on the home, and how sure can we be of a
# single school? One data set, `math_achieve`: 7,185 pupils in 160 schools, their mathematics score
# and the socioeconomic status of the home, here about the mean of the school. The model is the
# hierarchical regression of Hoff (2009, chapter 11),
#
#     y_ij = x_ij'beta_j + e_ij,   beta_j ~ N(theta, Sigma),   e_ij ~ N(0, sigma^2).

# %%
import os

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from scipy import special

import dgmm
from dgmm.plots import plot_ranks, plot_trace

FAST = os.environ.get("DGMM_FAST") == "1"  # fewer draws: for the tests
pd.set_option("display.width", 110)
schools = dgmm.datasets.load("math_achieve")
schools["ses"] = schools.SES - schools.groupby("School", observed=True).SES.transform("mean")
FORMULA = "MathAch ~ ses + (1 + ses | School)"

# %% [markdown]
# ## 1. Draws in place of a maximum
#
# `prior="hoff"` takes as much information as one school has: the mean and the covariance of the
# least-squares fits school by school. It is the prior of the book; the default is weaker (half-t
# standard deviations). Everything that the prior is made of stands in the summary.

# %%
fit = dgmm.mixed_model(FORMULA, schools, method="gibbs", prior="hoff", draws=1000 if FAST else 2500)
print(fit.summary())

# %% [markdown]
# The summary begins with the chains. R-hat compares them, the effective sample sizes say how many
# independent draws the bulk and the tails are worth, MCSE is what is left of Monte Carlo error in
# the mean. The intercept is centred in the schools (a school of 45 pupils tells its mean), the
# slope is not (it hardly tells its slope): the sampler looked before it began.

# %%
axes = plot_trace(fit, ["(Intercept)", "ses", "sd_ses|School"])
axes = plot_ranks(fit, ["sd_ses|School", "cor_ses.(Intercept)|School", "sigma"])

# %% [markdown]
# ## 2. REML, Gibbs, NUTS
#
# The same model three times. NUTS is numpyro 0.22, the same priors, effects not centred, one chain
# of 2,000 draws after 500 (`benchmarks/gibbs_nuts.py`); its numbers are kept here, for it is not
# installed with dgmm. Its smallest effective sample size was 175, that of the intercept.

# %%
reml = dgmm.mixed_model(FORMULA, schools, method="reml")
NUTS = [
    (12.650, 0.247),
    (2.192, 0.127),
    (2.957, 0.174),
    (0.806, 0.146),
    (0.019, 0.170),
    (6.060, 0.050),
]  # mean, SD
table = pd.DataFrame(
    {
        "REML": [*reml.fixef(), *reml.var_corr()["sdcor"]],
        "s.e.": [*reml.std_errors(), np.nan, np.nan, np.nan, np.nan],
        "Gibbs": fit.posterior_table()["Mean"].to_numpy(),
        "SD": fit.posterior_table()["SD"].to_numpy(),
        "NUTS": [mean for mean, _ in NUTS],
        "SD ": [sd for _, sd in NUTS],
    },
    index=fit.posterior_table().index,
)
print(table.round(3))

# %% [markdown]
# They agree where the data speak. The standard deviation of the slopes is where they need not: its
# posterior is skew, and a mean lies above a mode. REML gives one number and no interval; the draws
# give the interval, and whatever else is asked. How probable is a school, not yet seen, in which
# the better home has the lower score?

# %%
draws = fit.posterior_draws()
below = special.ndtr(-draws["ses"] / draws["sd_ses|School"]).mean()
print(fit.confint().round(3))
print(f"P(slope of a new school < 0) = {below:.4f}")

# %% [markdown]
# ## 3. Shrinkage
#
# A school with few pupils has a wild regression of its own. The posterior mean draws it towards
# the others, the more the less its pupils tell: by how much is not chosen but follows from Sigma.

# %%
alone = dgmm.lm_list("MathAch ~ ses | School", schools).coefficients
together = fit.coef()
known = pd.concat([alone, together.add_suffix(" shrunk")], axis=1).dropna()
figure, axis = plt.subplots(figsize=(5, 4), layout="constrained")
for _, row in known.iterrows():
    axis.plot(
        [row["(Intercept)"], row["(Intercept) shrunk"]],
        [row["ses"], row["ses shrunk"]],
        color="0.8",
        lw=0.7,
    )
axis.plot(known["(Intercept)"], known["ses"], "o", ms=3, color="#c2571a", label="alone")
axis.plot(
    known["(Intercept) shrunk"], known["ses shrunk"], "o", ms=3, color="#1f5a94", label="together"
)
axis.plot(*fit.fixef(), "+", ms=12, mew=2, color="0.1", label="mean of all schools")
axis.set_xlabel("mean of the school (mathematics score)")
axis.set_ylabel("slope of ses")
axis.spines[["top", "right"]].set_visible(False)
axis.legend(frameon=False, loc="upper left")

spread = known[["ses", "ses shrunk"]].std()
print(spread.round(3))

# %% [markdown]
# The slopes alone spread four times as wide as together: most of what looked like a difference
# between schools was the noise of 45 pupils. The means hardly move.
#
# ## 4. Is the slope needed at all?
#
# There is no likelihood-ratio test of draws. Leave-one-out compares what the models say of schools
# that they have not seen.

# %%
plain = dgmm.mixed_model(
    "MathAch ~ ses + (1 | School)", schools, method="gibbs", draws=1000 if FAST else 2500
)
both = [one.loo(by="subjects") for one in (fit, plain)]
print(both[0])
print((both[0] - both[1]).round(1))

# %% [markdown]
# A difference within its standard error: for predicting a new school the random slope matters
# little, though its standard deviation is clearly not zero.

# %%
gap = (fit.fixef() - reml.fixef()).abs() / fit.posterior_table()["SD"].iloc[:2]
assert (gap < 0.1).all()
assert fit.posterior_table()["R-hat"].max() < 1.02
for name, (mean, sd) in zip(table.index, NUTS, strict=True):
    assert abs(table.loc[name, "Gibbs"] - mean) < 0.15 * sd, name
assert below < 0.02
assert spread["ses"] > 2 * spread["ses shrunk"]
assert abs(known["(Intercept)"].std() / known["(Intercept) shrunk"].std() - 1) < 0.15
