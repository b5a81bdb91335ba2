# %% [markdown]
# # A first model
#
# Question: what does a report of dgmm say, line by line, and when is a network worth its price?
# Two data sets: sleepstudy, where the linear mixed model is enough, and pbcseq, where profiles
# bend. Each time the classical model stands beside ours.

# %%
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import dgmm
from dgmm.plots import plot_profiles, plot_trace

FAST = os.environ.get("DGMM_FAST") == "1"  # fewer epochs, draws and patients: for the tests

# %% [markdown]
# ## 1. sleepstudy: a linear mixed model
#
# Reaction times (ms) of 18 drivers on ten days of short sleep. In R: `lmer(Reaction ~ Days + (Days
# | Subject), sleepstudy, REML = FALSE)`.

# %%
sleep = dgmm.datasets.load("sleepstudy")
fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep)
print(fit.summary())

# %% [markdown]
# The report, from the top.
#
# - *Marginal likelihood: exact.* Random effects are integrated out in closed form. Other models
#   have a quadrature rule or Monte Carlo draws here.
# - *df 6*: two coefficients, two standard deviations, one correlation, the residual variance.
# - *Random effects.* Drivers differ by 24 ms on day 0 (SD), and by 5.7 ms per day in their slope.
#   Starting slow says little about the slope: the correlation is 0.08.
# - *Fixed effects.* The average reaction time is 251 ms on day 0 and grows by 10.5 ms per day.
#   *Std. Error* is the uncertainty of that number, *z value* the ratio of the two, *Pr(>|z|)* the
#   two-sided p-value of the Wald test that the coefficient is zero.
# - *Standard errors: observed information.* The curvature of the marginal log-likelihood in all
#   six parameters. lme4 prints the GLS form instead, which takes the variances as known. These
#   data are balanced and complete, so the two are equal:

# %%
print(pd.DataFrame({"observed": fit.std_errors(), "GLS": fit.std_errors(kind="gls")}).round(3))

# %% [markdown]
# The variances have no z-test. A variance cannot be negative, so under the hypothesis "zero" it
# lies on the edge of what is possible and its estimate is not normal around it. Read an interval
# instead. It is made on the log scale (on the atanh scale for a correlation), so it stays in
# range.

# %%
print(fit.confint().round(2))

# %% [markdown]
# Now the same model by statsmodels MixedLM. Every line should agree, and does. MixedLM's standard
# errors of variances are left out on purpose: they mix two scales.

# %%
peer = dgmm.compare(fit)
print(peer)

# %% [markdown]
# ## 2. pbcseq: profiles that bend
#
# Bilirubin of patients with primary biliary cirrhosis at their visits. Patients leave the study
# when they die or get a new liver. A fifth of the patients is set aside, and neither model sees
# them.

# %%
data = dgmm.datasets.load("pbcseq")
data["years"] = data["day"] / 365.25
data["trt"] = data["trt"].map({0: "placebo", 1: "d-penicillamine"})
data["trt"] = pd.Categorical(data["trt"], ["placebo", "d-penicillamine"])
ids = np.sort(data["id"].unique())
away = data["id"].isin(np.random.default_rng(2026).permutation(ids)[: len(ids) // 5])
train, held_out = data[~away], data[away]
if FAST:
    train = train[train["id"] % 2 == 0]
print(
    f"{len(train)} visits of {train['id'].nunique()} patients, {held_out['id'].nunique()} set aside"
)

# %% [markdown]
# The classical model has a natural spline with four random coefficients per patient.

# %%
classical = dgmm.mixed_model(
    "log(bili) ~ age + sex + ns(years, 3) * trt + (1 + ns(years, 3) | id)", train
)
print(classical.summary())

# %% [markdown]
# Here the two forms of the standard error are not equal. Sick patients leave early, and that ties
# the estimated mean at late times to the estimated variances. The observed information knows it.
# The GLS form does not, and is too small for the late part of the spline.

# %%
both = pd.DataFrame({"observed": classical.std_errors(), "GLS": classical.std_errors(kind="gls")})
print(both.round(3))

# %% [markdown]
# The deep model: `dnn(age, sex)` is a network of two covariates, and `(dnn(ns(years, 3)) | id)`
# says that a patient's curve is a network of that patient's random effects b. Both contain the
# linear model: the network can only add to it, and pays a penalty for what it adds.

# %%
control = {"epochs": 20, "draws": 64, "replicates": 2, "polish_draws": 32, "hessian_draws": 64}
deep = dgmm.mixed_model(
    "log(bili) ~ dnn(age, sex, hidden=(8,)) + ns(years, 3) * trt + (dnn(ns(years, 3)) | id)",
    train,
    seed=1,
    control=control if FAST else None,
)
print(deep.summary(verbose=True))

# %% [markdown]
# What is new in this report, of which `deep.summary()` prints the twenty lines about the model.
#
# - *logLik by Monte Carlo: standard error.* The likelihood is an integral over b, here by
#   importance sampling. Differences of a few times that standard error mean nothing.
# - *AIC and BIC: effective degrees of freedom.* A penalised weight counts for less than one
#   parameter. These criteria take the penalty as given, so use them with care.
# - *Random effects* show the standard deviation of a patient's curve around the mean curve at the
#   first, middle and last time, and the correlation between these times. b itself has no meaning:
#   it may be rotated without changing the model. Only the residual keeps its familiar line.
# - *Fixed effects*: `age` and `sex` are gone from the table, they are inside the network. The
#   network is centred over the sample, so the intercept now belongs to the average patient. Before
#   it belonged to a man of age 0, which is why its standard error was four times as large.
# - *Networks*: layers, number of weights, effective degrees of freedom (edf), penalty (ridge).
#   Weights have no estimates worth reading and no tests.
# - *Held out.* Both models are fitted five times, each time without a fifth of the patients in
#   `train`. Each of these gets a log score, the log-likelihood of that patient's visits under
#   either model. The line gives the mean difference, deep minus classical, with its standard
#   error over patients. Within two standard errors it says "not clearly different". This line
#   decides, not the log-likelihood above it: the network has more freedom and is bound to fit its
#   own data better.
# - *ELBO.* An encoder comes with the fit, a fast approximation q(b | y) to the posterior of b,
#   trained by maximising a lower bound of the log-likelihood. The distance to the
#   log-likelihood is the average error of q (a Kullback-Leibler divergence) and should be small.
#   The ELBO is not a log-likelihood: do not compare it between models and do not put it into an
#   AIC. Whether the fit has converged is what the *Newton decrement* says: the distance to the
#   maximum of the penalised likelihood in standard errors.
# - *KL per latent direction*: how much the visits say about each coordinate of b.
# - *Variance of posterior means by direction*: 0 is a direction in which all patients keep the
#   prior, which nobody needs; 1 is one that the visits determine. Encoder and posterior agree, or
#   the encoder has collapsed, which a note would say.

# %%
side = dgmm.compare(deep, held_out)
print(side)

# %% [markdown]
# The second table, aloud. *dgmm* and *MixedLM* are the estimates, each followed by its standard
# error. `age` and `sexf` exist only in MixedLM. *RMSE, subjects of the fit* measures the distance
# of the fitted curves from the visits that made them, so the more flexible model wins by
# construction. *RMSE, held-out subjects* predicts new patients knowing age, sex, treatment and
# time only: both models are poor at it, since patients differ by far more than these covariates
# explain. *Later visits given earlier* shows each new patient's first half and predicts the second
# half.
#
# Verdict: the network raises the log-likelihood but not the held-out score. For these patients we
# would report the classical model.

# %%
with tempfile.TemporaryDirectory() as folder:
    axes = plot_profiles(deep, train, against={"LMM": classical}, label="deep")
    axes[0].figure.savefig(Path(folder) / "profiles.png", dpi=130)
    plot_trace(deep).figure.savefig(Path(folder) / "trace.png", dpi=130)
    print("pictures:", sorted(path.name for path in Path(folder).iterdir()))

# %% [markdown]
# ## The figures above, as assertions

# %%
assert abs(float(fit.loglik()) + 875.970) < 1e-3  # lme4, REML = FALSE
assert np.allclose(fit.fixef(), [251.405, 10.467], atol=1e-3)
assert np.allclose(fit.std_errors(), [6.632, 1.502], atol=1e-3)
assert np.allclose(fit.std_errors(), fit.std_errors(kind="gls"), rtol=1e-4)
assert np.allclose(peer.fixed["dgmm"], peer.fixed["MixedLM"], atol=1e-3)
assert np.allclose(peer.random["dgmm"], peer.random["MixedLM"], atol=5e-3)

gain = float(deep.loglik()) - float(classical.loglik())
error = deep.loglik().mc_error
score = deep.estimate.held_out
assert side.statistics.loc["log-likelihood", "MixedLM"] < float(classical.loglik()) + 1e-3
assert deep.estimate.elbo < float(deep.loglik()) + 4 * error  # a lower bound
assert np.isfinite(deep.std_errors()).all()
late = [name for name in classical.fixef().index if name.startswith("ns(years, 3)")]
shift = (deep.fixef() - classical.fixef())[late] / classical.std_errors()[late]
assert shift.abs().max() < (3 if FAST else 1)
if not FAST:
    assert abs(float(classical.loglik()) + 1086.09) < 0.01
    assert both.loc["ns(years, 3)3", "observed"] > 1.2 * both.loc["ns(years, 3)3", "GLS"]
    assert 5 < gain < 30
    assert abs(score.difference) < 3 * score.standard_error
    assert deep.estimate.decrement < 0.01
    assert abs(side.statistics.diff(axis=1).loc["RMSE, held-out subjects", "MixedLM"]) < 0.05
