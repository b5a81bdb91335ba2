"""ranova: every random effect that can go, taken out in turn.

An effect goes with its variance and its covariances with q others of the same random part,

    2 (l - l_without)  ~  1/2 chi2(q) + 1/2 chi2(q + 1),

and the last one leaves independent observations. An intercept stays while its part has slopes. A
path, or a part with a restricted covariance, goes as a whole.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from dgmm.estimate import Estimate, Request
from dgmm.estimate.again import refit_without_effect
from dgmm.inference.mixtures import Mixture
from dgmm.inference.tables import Anova
from dgmm.latent import Latent

__all__ = ["drop_effects"]


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
        if _carries(done, latent):
            notes.append(
                f"`{latent.label}` stays: without it and without noise (dispersion='~ 0') the "
                "outcome has no density"
            )
            continue
        for effect, name in enumerate(latent.names[:1] if latent.whole else latent.names):
            if name == "(Intercept)" and len(latent.names) > 1 and not latent.whole:
                continue
            alone = latent.whole or len(latent.names) == 1
            last = len(done.model.latents) == 1 and alone
            if last:
                smaller, other = done.likelihood.independence(done.theta), 0.0
            else:
                found = refit_without_effect(done, request, term, effect)
                smaller, other = found.log_likelihood, found.mc_error
            gone, null = _lost(latent, effect)
            gain = value - smaller
            error = float(np.hypot(done.mc_error, other))
            known = not (error > 1e-3 and abs(gain) < 4 * error)
            label = f"{latent.label if latent.whole else name} | {groups[term]}"
            p = np.nan
            if known and null is not None:
                p = null.p_value(2 * gain if gain > 5e-7 else 0.0)
            rows[label] = {
                "npar": df - gone,
                "logLik": smaller,
                "AIC": -2 * smaller + 2 * (df - gone),
                "LRT": max(2 * gain, 0.0),
                "null": "unknown" if null is None else str(null),
                "Pr(>Chisq)": p,
            }
            if null is None:
                notes.append(
                    f"`{label}`: without a variance its correlation has no value, so the "
                    "likelihood ratio has no known distribution; compare AIC"
                )
            if not known:
                notes.append(
                    f"`{label}`: the log-likelihoods differ by {gain:.3g}, less than 4 times their "
                    f"numerical error ({error:.2g}): no p-value"
                )
    table = pd.DataFrame.from_dict(rows, orient="index")
    table = table.reindex(columns=["npar", "logLik", "AIC", "LRT", "null", "Pr(>Chisq)"])
    how = "restricted likelihood" if done.method == "reml" else "maximum likelihood"
    return Anova(f"Deletion of single random effects ({how})", table, tuple(notes))


def _carries(done: Estimate, latent: Latent) -> bool:
    """Whether it alone makes outcomes without noise vary."""
    model = done.model
    others = (one for one in model.latents if one is not latent)
    return not model.family.noise and not any(one.nondegenerate for one in others)


def _lost(latent: Latent, effect: int) -> tuple[int, Mixture | None]:
    """How many parameters an effect takes with it, and the distribution of the likelihood ratio."""
    if latent.whole:
        size = len(latent.components())
        proper = size == 1 and not latent.flat  # else it is a likelihood of other contrasts
        return size, Mixture((0, 1)) if proper else None
    block = next(one for one in latent.blocks() if effect in one)
    return len(block), Mixture((len(block) - 1, len(block)))
