# %% [markdown]
# # Several outcomes at once
#
# Question: what is gained when the outcomes of a patient are modelled together, and not one by one?
# Two data sets: two laboratory values of 500 people, read at different visits (`nafld_labs`), and
# three laboratory values and two findings of 312 patients with primary biliary cholangitis
# (`pbcseq`).

# %%
import os

import numpy as np
import pandas as pd

import dgmm
from dgmm import mv

FAST = os.environ.get("DGMM_FAST") == "1"  # fewer patients: for the tests
pd.set_option("display.width", 100)

# %% [markdown]
# ## 1. Two outcomes, a row for each value
#
# HDL cholesterol and systolic blood pressure were read at visits of their own: a frame with a row
# for each value says it as it is. `outcome=` names the two columns. Random parts of one name,
# `|p|`, have one covariance across the outcomes.

# %%
labs = dgmm.datasets.load("nafld_labs")
labs["years"] = labs["days"] / 365.25
labs = labs[labs["years"].between(-5, 5)]
two = dgmm.mixed_model(
    mv("hdl ~ years + (1 + years |p| id)", "sbp ~ years + (1 + years |p| id)"),
    labs,
    outcome=("test", "value"),
)
print(two.summary())
print(two.anova()[["npar", "logLik", "Chisq", "Pr(>Chisq)"]].to_string(index=False))

# %% [markdown]
# The first row of the table is the two separate models, which are the joint one with every
# correlation between the outcomes at zero. Here nothing is gained: cholesterol and blood pressure
# of a person have little to do with each other, and two separate models say the same.
#
# ## 2. Five outcomes of three kinds
#
# Log bilirubin, albumin and log prothrombin time are Gaussian with a line per patient; ascites and
# spiders are yes or no. One covariance holds the eight random effects. A missing cell is simply
# absent from the likelihood.

# %%
pbc = dgmm.datasets.load("pbcseq")
pbc["years"] = pbc["day"] / 365.25
pbc["lbili"], pbc["lpro"] = np.log(pbc["bili"]), np.log(pbc["protime"])
if FAST:
    pbc = pbc[pbc["id"] <= 100]
FORMULAS = {
    "lbili": "lbili ~ years + (1 + years |p| id)",
    "albumin": "albumin ~ years + (1 + years |p| id)",
    "lpro": "lpro ~ years + (1 + years |p| id)",
    "ascites": "ascites ~ years + (1 |p| id)",
    "spiders": "spiders ~ years + (1 |p| id)",
}
FAMILIES = ["gaussian", "gaussian", "gaussian", "bernoulli", "bernoulli"]
five = dgmm.mixed_model(mv(*FORMULAS.values()), pbc, family=FAMILIES, likelihood="laplace")
print(five.summary())

# %% [markdown]
# The covariance of eight random effects has 36 parameters. With eight dimensions there is no
# quadrature: the likelihood is Laplace's approximation, and the note says how far it is from
# importance sampling at its maximum. Bilirubin and prothrombin rise together, albumin falls with
# them, and who has more of the one has ascites more often.

# %%
correlation = five.correlation()
print(correlation.round(2).to_string())

# %% [markdown]
# ## 3. What one outcome says about another
#
# A patient who has had blood drawn, and was never examined for ascites. The joint model predicts
# ascites from the laboratory values, and the prediction moves with each visit.

# %%
new = pd.DataFrame({"id": ["new"], "years": [2.0]})
visits = pd.DataFrame(
    {
        "id": "new",
        "years": [0.0, 0.5, 1.0, 1.5],
        "lbili": [1.2, 1.6, 2.1, 2.6],
        "albumin": [3.3, 3.0, 2.8, 2.5],
    }
)
risk = [
    five.predict(new, outcome="ascites", history=visits.head(n))["fit"].item() for n in (1, 2, 3, 4)
]
population = five.predict(new, outcome="ascites", type="marginal")["fit"].item()
print(pd.Series([population, *risk], index=["nobody", 1, 2, 3, 4], name="P(ascites)").round(3))

# %% [markdown]
# ## 4. Does jointness pay, for patients that no fit has seen?
#
# A third of the patients is left out. Their outcomes are scored by the joint model and by the
# separate ones of the same formulas: the mean difference per patient, with its standard error.

# %%
away = pbc["id"] % 3 == 0
gaussian = [FORMULAS[name] for name in ("lbili", "albumin", "lpro")]
train = dgmm.mixed_model(mv(*gaussian), pbc[~away], se=None)
score = train.log_score(pbc[away])["difference"]
mean, error = score.mean(), score.std() / np.sqrt(len(score))
print(f"log score per patient, joint less separate: {mean:.2f} ({error:.2f})")

# %% [markdown]
# ## 5. One outcome by itself
#
# `five["albumin"]` is the fit as albumin sees it: every table and every picture of a model of one
# outcome, with the random effects and the uncertainty of all.

# %%
albumin = five["albumin"]
print(albumin.effects("years", grid=4).round(3))

# %%
assert two.names == ("hdl", "sbp")
assert two.anova()["Df"].iloc[1] == 4
assert two.anova()["Pr(>Chisq)"].iloc[1] > 0.05
assert correlation.loc["lbili:(Intercept)", "albumin:(Intercept)"] < -0.3
assert correlation.loc["lbili:(Intercept)", "lpro:(Intercept)"] > 0.3
assert (np.diff(risk) > 0).all()  # every visit of this patient is worse than the last
assert risk[-1] > population
assert FAST or mean > 2 * error
