"""ranova: every random effect that can go, taken out in turn.

An effect goes with its variance and its covariances with q others of the same random part,

    2 (l - l_without)  ~  1/2 chi2(q) + 1/2 chi2(q + 1),

and the last one leaves independent observations. An intercept stays while its part has slopes.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy import optimize

from dgmm.estimate import Estimate, Request
from dgmm.estimate.again import refit_without_effect
from dgmm.inference.mixtures import Mixture
from dgmm.inference.tables import Anova
from dgmm.information.gaussian import GaussianLikelihood
from dgmm.parameters import Packing

__all__ = ["drop_effects", "independence"]


def drop_effects(done: Estimate, request: Request, groups: tuple[str, ...], df: float) -> Anova:
    """Likelihood-ratio test and AIC of the model without each random effect."""
    if not done.model.linear or done.method == "vae":
        raise ValueError(
            "ranova() is for models fitted by method='ml' or 'reml': the likelihood ratio of "
            "penalised networks has no known distribution, and the encoder would be fitted anew"
        )
    value = done.log_likelihood
    rows: dict[str, dict[str, float | str]] = {
        "<none>": {"npar": df, "logLik": value, "AIC": -2 * value + 2 * df, "null": ""}
    }
    notes = []
    for term, latent in enumerate(done.model.latents):
        for effect, name in enumerate(latent.names):
            if name == "(Intercept)" and len(latent.names) > 1:
                continue
            last = len(done.model.latents) == 1 and len(latent.names) == 1
            smaller, other = independence(done), 0.0
            if not last:
                found = refit_without_effect(done, request, term, effect)
                smaller, other = found.log_likelihood, found.mc_error
            q = len(latent.names) - 1 if "below" in latent.shapes() else 0
            null, gain = Mixture((q, q + 1)), value - smaller
            error = float(np.hypot(done.mc_error, other))
            known = not (error > 1e-3 and abs(gain) < 4 * error)
            label = f"{name} | {groups[term]}"
            rows[label] = {
                "npar": df - q - 1,
                "logLik": smaller,
                "AIC": -2 * smaller + 2 * (df - q - 1),
                "LRT": max(2 * gain, 0.0),
                "null": str(null),
                "Pr(>Chisq)": null.p_value(2 * gain if gain > 5e-7 else 0.0) if known else np.nan,
            }
            if not known:
                notes.append(
                    f"`{label}`: the log-likelihoods differ by {gain:.3g}, less than 4 times their "
                    f"numerical error ({error:.2g}): no p-value"
                )
    table = pd.DataFrame.from_dict(rows, orient="index")
    table = table.reindex(columns=["npar", "logLik", "AIC", "LRT", "null", "Pr(>Chisq)"])
    how = "restricted likelihood" if done.method == "reml" else "maximum likelihood"
    return Anova(f"Deletion of single random effects ({how})", table, tuple(notes))


def independence(done: Estimate) -> float:
    """max sum_i log p(y_i | b = 0): the (restricted) log-likelihood without random effects."""
    if done.likelihood == "exact":
        return _least_squares(done)
    model, panel = done.model, done.observed
    packing = Packing({name: model.packing.shapes[name] for name in ("beta", "extra")})
    blocks = list(panel.blocks())

    def negative(vector: np.ndarray) -> tuple[float, np.ndarray]:
        x = torch.from_numpy(vector).requires_grad_()
        ready = model.prepare({**done.theta, **packing.unpack(x)})
        total = torch.zeros((), dtype=torch.float64)
        for block in blocks:
            b = torch.zeros(len(block.subjects), model.k, dtype=torch.float64)
            total = total - model.log_likelihood(ready, b, block).sum()
        (slope,) = torch.autograd.grad(total, x)
        return float(total.detach()), slope.numpy()

    start = packing.pack(done.theta).detach().numpy()
    options = {"ftol": 1e-14, "gtol": 1e-6, "maxiter": 500}
    found = optimize.minimize(negative, start, jac=True, method="L-BFGS-B", options=options)
    return -float(found.fun)


def _least_squares(done: Estimate) -> float:
    likelihood = GaussianLikelihood.of(done, reml=done.method == "reml")
    none = torch.zeros(done.model.k, done.model.k, dtype=torch.float64)
    sigma2 = likelihood.solve(none).rss / likelihood.df
    return float(likelihood.value(none, 0.5 * torch.log(sigma2) + np.log(likelihood.unit)))
