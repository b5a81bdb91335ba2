# %% [markdown]
# # Panel data: wages and unions
#
# Question: what is a union contract worth to a worker? 595 men and women of the Panel Study of
# Income Dynamics were asked in seven years, 1976 to 1982. Four models answer differently, and a
# test says which of them the data allow.
#
#     log wage_it = x_it'beta + w_i'delta + alpha_i + u_it
#
# x changes from year to year (experience, weeks worked, union), w does not (sex, ethnicity,
# education), and alpha_i is all that is not in the data and stays: talent, the school, the family.
# The question behind all four is whether alpha_i is related to x_i.

# %%
import os
import warnings

import numpy as np
import pandas as pd

import dgmm

FAST = os.environ.get("DGMM_FAST") == "1"
wages = dgmm.datasets.load("psid7682")
wages["lwage"] = np.log(wages["wage"])
changing = "experience + I(experience**2) + weeks + occupation + industry + south + smsa + married"
changing += " + union"
fixed = f"{changing} + gender + ethnicity + education"
print(wages.groupby("id")["union"].nunique().value_counts().rename({1: "never", 2: "changed"}))

# %% [markdown]
# Only those whose contract changed say what happens to a worker who joins. Everybody else can
# merely be compared with other people.
#
# ## Pooled, random, within
#
# Pooled least squares and random effects, `(1 | id)`, use both comparisons. They are right if
# alpha_i is unrelated to x_i. The within estimator uses the changes alone; it loses sex, ethnicity
# and education, which do not change. Correlated random effects, `(1 | cre(id, ~ x))`, give alpha_i
# a mean that is linear in the means of x over the years of a worker:
#
#     alpha_i | X_i ~ N(xbar_i'pi, s^2)

# %%
random = dgmm.mixed_model(f"lwage ~ {fixed} + (1 | id)", wages)
fit = dgmm.mixed_model(f"lwage ~ {fixed} + (1 | cre(id, ~ {changing}))", wages)
print(fit.summary())

# %% [markdown]
# The section "Effects within and between" has both comparisons. A worker who joins a union gains
# 3.3%; those who are in one earn 10.9% more than others who are alike in the rest. With a year of
# experience the wage of a worker who had none rises by 11%, while people who have a year more of it
# than others earn 3% more. The 11% are not the value of experience alone: within a worker it grows
# by one a year, so that the rise of all wages in these years, inflation too, is in it; dummies of
# the years would leave nothing of it within a worker but its curvature. The likelihood ratio of the
# two models says what the Wald test in the last line says:

# %%
print(dgmm.anova(random, fit))

# %% [markdown]
# ## All estimators side by side

# %%
found = fit.panel_test(time="year")
table = found.table.xs("Estimate", axis=1, level=1)
shown = table.loc[["experience", "unionyes", "smsayes", "education", "genderfemale"]]
design = fit.estimate.panel.rows.X.numpy()[:, : len(random.fixef())]
y = fit.estimate.panel.rows.data.y.numpy()
pooled = np.linalg.lstsq(design, y, rcond=None)[0]
shown.insert(0, "pooled", pd.Series(pooled, index=random.fixef().index))
print(shown.round(4).to_string())
assert abs(table["CRE"] - table["within"])[["experience", "unionyes"]].max() < 1e-8
assert abs(table.loc["unionyes", "within"] - 0.032785) < 1e-6

# %% [markdown]
# The column of correlated random effects repeats the within estimates to the last digit, and it has
# education and sex beside them. That is no accident: once the means are there, what is left of x is
# its deviation from them, whatever the variance of alpha_i. Pooled least squares puts the union at
# 9%, random effects between that and the 3.3%, depending on which estimator of the variance it
# uses: maximum likelihood, which finds much of the variance between people, or Swamy and Arora.
#
# ## Which test decides
#
# Random effects are right if the means have no effect of their own, pi = 0: Mundlak's test.
# Hausman's test compares the estimates within with those of random effects; at the variances of
# this fit it is the same number.

# %%
print(found.tests.round(4).to_string())
mundlak = found.tests.loc["Mundlak: no effect of the means", "Chisq"]
hausman = found.tests.loc["Hausman, variances of the CRE fit", "Chisq"]
assert abs(mundlak / hausman - 1) < 1e-6
assert found.tests["Pr(>Chisq)"].iloc[:2].max() < 1e-10

# %% [markdown]
# Both forms leave no doubt. The difference of the covariances that Hausman's original test needs is
# not positive definite at the variances of Swamy and Arora, and the test does not exist; Mundlak's
# form always does. The last line asks something else: all models here need covariates that do not
# answer to earlier wages (strict exogeneity). Values of the next year should then say nothing of
# the wage of this one. The data do not object.
#
# ## New people
#
# A model of alpha_i given the covariates also predicts for people who are not in the sample: their
# means come from their own rows. Held out are 100 workers.

# %%
held = wages["id"].astype(int) > 495
train, new = wages[~held], wages[held]
scores = {}
for name, text in {"random": "id", "correlated": f"cre(id, ~ {changing})"}.items():
    model = dgmm.mixed_model(f"lwage ~ {fixed} + (1 | {text})", train, verbose=0)
    scores[name] = float(model.log_score(new)["log_score"].mean())
print({name: round(value, 3) for name, value in scores.items()})
assert scores["correlated"] > scores["random"] + 0.5

# %% [markdown]
# ## A network of the means
#
# If alpha_i is a curved function of the means, a network finds it: `cre(id, ~ dnn(x))` is linear in
# the means, without a penalty, plus a penalised network of them. It can improve predictions of new
# people. It cannot change the slopes of this linear model: they stay the within estimates.

# %%
small = "experience + weeks + union"
curved = dgmm.mixed_model(
    f"lwage ~ {small} + education + (1 | cre(id, ~ dnn({small}, hidden=(8,))))",
    train,
    verbose=0,
    control={"holdout": 0.0} if FAST else {},
)
straight = dgmm.mixed_model(
    f"lwage ~ {small} + education + (1 | cre(id, ~ {small}))", train, verbose=0
)
gain = (curved.log_score(new)["log_score"] - straight.log_score(new)["log_score"]).mean()
print(f"nats per new worker: {gain:+.3f}")
gap = (curved.fixef() - straight.fixef())[["experience", "weeks", "unionyes"]].abs().max()
print(f"largest difference of the slopes: {gap:.1e}")
assert gap < 1e-8

# %% [markdown]
# ## A trap
#
# Wages of the year before explain much of this year's. Put among the covariates they break strict
# exogeneity, and the fit says so, whatever the column is called.

# %%
wages = wages.sort_values(["id", "year"])
wages["before"] = wages.groupby("id", observed=True)["lwage"].shift(1)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    lagged = dgmm.mixed_model("lwage ~ before + weeks + (1 | cre(id, ~ before + weeks))", wages)
print(next(str(one.message) for one in said if "Nickell" in str(one.message)))
first = wages.groupby("id", observed=True)["lwage"].transform("first")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    remedy = dgmm.mixed_model(
        "lwage ~ before + weeks + y0 + (1 | cre(id, ~ weeks))", wages.assign(y0=first)
    )
print(f"within {lagged.fixef()['before']:.3f}, given the first wage {remedy.fixef()['before']:.3f}")
assert remedy.fixef()["before"] > lagged.fixef()["before"] + 0.1
