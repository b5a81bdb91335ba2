# %% [markdown]
# # A family of your own
#
# Question: how much must be written to fit a mixed model with a distribution that dgmm does not
# have, and how is it checked? Two answers: a Rayleigh outcome in five lines of density, and a
# Weibull outcome with a shape parameter, right-censored, in a few more.

# %%
import numpy as np
import pandas as pd
import torch

import dgmm
from dgmm.families import OwnFamily

# %% [markdown]
# ## Five lines of density
#
# The Rayleigh distribution has p(y) = y / s^2 exp{-y^2 / (2 s^2)}, y > 0; we let log s be linear.
# A family is a class with a name, its links and the log-density, written with torch. `data` holds
# the outcome and the prior weights, `eta` the linear predictor, all of one shape.


# %%
class Rayleigh(OwnFamily):
    """Rayleigh outcomes, log s = eta."""

    name = "rayleigh"
    links = ("log",)

    def log_density(self, data, eta, extra):
        """Elementwise, with the prior weights."""
        z = data.y * torch.exp(-eta)
        return data.weights * (torch.log(z) - eta - 0.5 * z**2)


rng = np.random.default_rng(1)
n, visits = 200, 6
data = pd.DataFrame({"id": np.repeat(np.arange(n), visits), "x": rng.normal(size=n * visits)})
truth = 0.5 + 0.3 * data["x"] + 0.4 * rng.normal(size=n)[data["id"]]
data["y"] = rng.rayleigh(np.exp(truth))
fit = dgmm.mixed_model("y ~ x + (1 | id)", data, family=Rayleigh())
print(fit.summary())

# %% [markdown]
# Derivatives, modes, quadrature, the standard errors and the tests follow from the density. The
# true values 0.5, 0.3 and 0.4 (SD) lie inside the intervals:

# %%
print(fit.confint().round(3))
inside = fit.confint().to_numpy()
assert ((inside[:, 0] < [0.5, 0.3, 0.4]) & (inside[:, 1] > [0.5, 0.3, 0.4])).all()

# %% [markdown]
# ## Check it against what is known
#
# y^2 of a Rayleigh variable is exponential with mean 2 s^2, that is gamma with shape one. A gamma
# model of y^2 with log link has twice the coefficients. Its shape is estimated rather than known,
# so the two agree closely but not exactly.

# %%
square = data.assign(y=data["y"] ** 2)
gamma = dgmm.mixed_model("y ~ x + (1 | id)", square, family="gamma")
print(pd.DataFrame({"Rayleigh": fit.fixef(), "gamma of y^2, halved": gamma.fixef() / 2}).round(4))
print(gamma.family_parameters().round(3))
assert abs(fit.fixef()["x"] - gamma.fixef()["x"] / 2) < 0.001

# %% [markdown]
# The intercepts differ by log(2) / 2 = 0.3466, because the mean of y^2 is 2 s^2.
#
# ## A further parameter, and censoring
#
# Times that are Weibull with shape k and scale e^eta, some of them only known to exceed the end of
# the study. A second column cannot enter a density, but a sign can: a censored time is stored with
# a minus. `extra` names the parameters that are estimated beside the coefficients: `log_shape` is
# estimated on the log scale and reported as `shape`. With `simulate` and `mean` written too, the
# fit also simulates and predicts on the scale of the outcome.


# %%
class CensoredWeibull(OwnFamily):
    """Weibull times with log scale eta; -t is a time known to exceed t."""

    name = "censored_weibull"
    links = ("log",)
    extra = ("log_shape",)

    def log_density(self, data, eta, extra):
        """Density of a time, survival function of a censored one."""
        log_z = torch.exp(extra[0]) * (torch.log(data.y.abs()) - eta)
        density = extra[0] + log_z - torch.log(data.y.abs()) - torch.exp(log_z)
        return data.weights * torch.where(data.y > 0, density, -torch.exp(log_z))

    def start_mean(self, data):
        """The average time, censored or not."""
        return data.y.abs().mean().expand(data.y.shape).clone()

    def mean(self, eta, extra):
        """scale * Gamma(1 + 1 / shape)."""
        return torch.exp(eta + torch.lgamma(1 + torch.exp(-extra[0])))

    def simulate(self, eta, data, extra, generator):
        """Uncensored times."""
        u = torch.rand(eta.shape, generator=generator, dtype=eta.dtype)
        return torch.exp(eta) * (-torch.log(u)) ** torch.exp(-extra[0])


scale = np.exp(1 - 0.5 * data["x"] + 0.5 * rng.normal(size=n)[data["id"]])
time = scale * rng.weibull(1.8, size=len(data))
data["time"] = np.where(time > 6, -6, time)
print(f"{(data['time'] < 0).mean():.0%} of the times are censored")
weibull = dgmm.mixed_model("time ~ x + (1 | id)", data, family=CensoredWeibull())
print(weibull.summary())

# %% [markdown]
# Taking censored times at their face value would be biased:

# %%
naive = dgmm.mixed_model(
    "time ~ x + (1 | id)", data.assign(time=data["time"].abs()), family=CensoredWeibull()
)
print(
    pd.DataFrame(
        {
            "truth": [1.0, -0.5],
            "censored": weibull.fixef().to_numpy(),
            "at face value": naive.fixef().to_numpy(),
        },
        index=["(Intercept)", "x"],
    ).round(3)
)
assert abs(weibull.fixef()["x"] + 0.5) < 2 * weibull.std_errors()["x"]
assert abs(naive.fixef()["x"] + 0.5) > 4 * naive.std_errors()["x"]

# %% [markdown]
# ## What is asked of a density
#
# - torch operations only, elementwise, with three derivatives; no Python `if` on values (use
#   `torch.where`, with no infinity in the branch that is not taken).
# - log-densities, not densities: write logs of products as sums, so that nothing overflows.
# - every entry of `extra` unconstrained: logarithms of what is positive.
#
# A family that is of use to others becomes a file in `dgmm/families/`; it then also passes the
# contract tests, which integrate the density, compare mean and variance, and go far into the tails.
