# %% [markdown]
# # State space terms
#
# Question: what does a subject's last visit say about its next one, beyond what all of its visits
# say? One data set, `ovary`: the number of large follicles of eleven mares, day by day over a
# cycle. Beside it stand the numbers of nlme, where the same is `correlation = corExp()`.

# %%
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import dgmm
from dgmm.plots import fan, plot_fan

ovary = dgmm.datasets.load("ovary")
ovary["wave"], ovary["rise"] = np.sin(2 * np.pi * ovary["Time"]), np.cos(2 * np.pi * ovary["Time"])
pd.set_option("display.width", 100)

# %% [markdown]
# ## 1. What a random intercept leaves
#
# The cycle is one sine wave, and mares differ by a constant. `Time` counts cycles: 0 and 1 are
# ovulations, a day is about 0.045.

# %%
plain = dgmm.mixed_model("follicles ~ wave + rise + (1 | Mare)", ovary)
residual = ovary.assign(left=plain.residuals()).sort_values(["Mare", "Time"])
before = residual.groupby("Mare")["left"].shift()
lag_one = np.corrcoef(residual["left"][before.notna()], before.dropna())[0, 1]
print(f"correlation of residuals of neighbouring days: {lag_one:.2f}")

# %% [markdown]
# A mare that is above her curve today is above it tomorrow. The model calls that noise, and its
# standard errors count 308 observations as if each said something new about the curve.
#
# ## 2. A path per mare
#
# `(ou(Time) | Mare)` gives every mare an Ornstein-Uhlenbeck path: a state that wanders about her
# curve and forgets where it was, with correlation exp(-gap / range) over a gap. The times may be
# any, and every mare has her own. What is left after the path is noise, day by day.

# %%
path = dgmm.mixed_model("follicles ~ wave + rise + (1 | Mare) + (ou(Time) | Mare)", ovary)
print(path.summary())

# %% [markdown]
# The same model in nlme, fitted by ML from its default start:
#
#     lme(follicles ~ sin(2*pi*Time) + cos(2*pi*Time), random = ~ 1 | Mare, method = "ML",
#         correlation = corExp(form = ~ Time | Mare, nugget = TRUE))
#
# corExp splits one variance s^2 by a nugget c: sd(path)^2 = (1 - c) s^2, sigma^2 = c s^2.

# %%
nlme = {
    "logLik": -774.38634590886,
    "(Intercept)": 12.1076934290529,
    "wave": -2.9209012650391,
    "rise": -0.833997996231683,
    "sd mare": 2.376236,
    "sd path": 3.38256199051753,  # 3.8044 sqrt(1 - 0.2095)
    "range": 0.21009584345559,
    "sigma": 1.74122761696001,  # 3.8044 sqrt(0.2095)
}
sizes = dict(zip(("sd mare", "sd path", "range", "sigma"), path.var_corr()["sdcor"], strict=True))
ours = {"logLik": float(path.loglik()), **path.fixef(), **sizes}
both = pd.DataFrame({"dgmm": ours, "nlme": nlme})
print(both.round(4))

# %% [markdown]
# Both find the same maximum. What did the path change? The log-likelihood by 55 for two parameters,
# and the standard errors of the wave, which are 1.7 and 2 times as large now: 308 days that
# resemble each other say less about a curve over days. The intercept hangs on the mares, as before.

# %%
gain = float(path.loglik()) - float(plain.loglik())
ratio = path.std_errors() / plain.std_errors()
print(f"gain in log-likelihood {gain:.1f}")
print(ratio.round(2))

# %% [markdown]
# A path has no correlation over time where it has no variance, so the likelihood ratio has no
# known distribution; `anova()` says so. With a difference of 107, AIC leaves no doubt.

# %%
days = 1 / ovary.groupby("Mare")["Time"].diff().median()
memory = sizes["range"] * days
print(f"the path has forgotten 63% of where it was after {memory:.1f} days")
print(f"AIC: {plain.aic():.1f} without, {path.aic():.1f} with the path")

# %% [markdown]
# ## 3. Forecasts
#
# Take one mare out, fit to the ten others, and tell the model the first part of her cycle. Then
# `predict(..., history=)` at later times is a forecast: near the last visit it knows her state,
# farther on it returns to her mean, and farther still the interval is as wide as it gets.

# %%
name, known_until = "11", 0.6
others = ovary[ovary["Mare"] != name]
mare = ovary[ovary["Mare"] == name].sort_values("Time")
past, future = mare[mare["Time"] <= known_until], mare[mare["Time"] > known_until]
fitted = dgmm.mixed_model("follicles ~ wave + rise + (1 | Mare) + (ou(Time) | Mare)", others)
flat = dgmm.mixed_model("follicles ~ wave + rise + (1 | Mare)", others)
forecast = fan(fitted, future, history=past, levels=(0.5, 0.8, 0.95), seed=1)
shown = forecast[["fit", "lower_80", "upper_80"]].round(2)
print(shown.assign(Time=future["Time"].round(2), seen=future["follicles"]).iloc[[0, 1, 4, 9, -1]])

# %% [markdown]
# `fan()` gives the numbers, `plot_fan()` the picture: bands of 50, 80 and 95 % for the next counts.
# A normal outcome knows no zero, and the widest band goes a little below it; the square root of the
# count would not.

# %%
inside = (future["follicles"] >= forecast["lower_80"]) & (
    future["follicles"] <= forecast["upper_80"]
)
wide = (forecast["upper_80"] - forecast["lower_80"]).to_numpy()
print(f"{inside.sum()} of {len(inside)} later counts lie in the band of 80%")
print(f"its width: {wide[0]:.1f} at the next day, {wide[-1]:.1f} at the end")

# %% [markdown]
# How much is the state worth? Let both models, fitted to all mares, say what the next visit brings,
# every fourth day of every mare from her own past.

# %%
day: dict[str, list[float]] = {"path": [], "intercept": []}
for _, own in ovary.groupby("Mare"):
    own = own.sort_values("Time")
    for j in range(8, len(own), 4):
        ahead = {"history": own.iloc[:j]}
        for word, fit in (("path", path), ("intercept", plain)):
            seen = fit.predict(own.iloc[[j]], **ahead)["fit"].iloc[0]
            day[word].append(own["follicles"].iloc[j] - seen)
rmse = {word: float(np.sqrt(np.mean(np.square(error)))) for word, error in day.items()}
print(f"error one day ahead: {rmse['path']:.2f} with the path, {rmse['intercept']:.2f} without")

# %%
with tempfile.TemporaryDirectory() as folder:
    grid = pd.DataFrame({"Mare": name, "Time": np.linspace(known_until, 1.1, 40)})
    grid["wave"], grid["rise"] = np.sin(2 * np.pi * grid["Time"]), np.cos(2 * np.pi * grid["Time"])
    axes = plot_fan(fitted, grid, history=past, seed=1)
    axes[0].figure.savefig(Path(folder) / "fan.png", dpi=130)
    print("pictures:", sorted(picture.name for picture in Path(folder).iterdir()))

# %% [markdown]
# ## 4. Is there noise?
#
# `corCAR1` of nlme has no nugget: every count lies on the path. That is `dispersion="~ 0"`, at the
# edge of the model above, and nlme's log-likelihood of it is -777.442482615937.

# %%
formula = "follicles ~ wave + rise + (1 | Mare) + (ou(Time) | Mare)"
exact = dgmm.mixed_model(formula, ovary, dispersion="~ 0")
print(exact.anova(path))
kept = ["range_ou(Time)|Mare", "sigma"]
print(path.confint(method="profile", parm=kept).round(3))

# %% [markdown]
# There is: sigma is far from zero, and without it the path forgets within two days instead of five.
#
# ## The figures above, as assertions

# %%
assert abs(ours["logLik"] - nlme["logLik"]) < 1e-6
assert (both["dgmm"] / both["nlme"] - 1).abs().max() < 1e-3
assert lag_one > 0.5
assert 50 < gain < 60
assert abs(float(exact.loglik()) + 777.442482615937) < 1e-6
assert exact.var_corr()["sdcor"].iloc[2] < 0.5 * sizes["range"]
assert (ratio[["wave", "rise"]] > 1.5).all()
assert plain.aic() - path.aic() > 100
assert inside.mean() > 0.6
assert wide[-1] > 1.2 * wide[0]
assert rmse["path"] < 0.9 * rmse["intercept"]
