"""Likelihood-ratio tests of nested mixed models.

2 (l_1 - l_0)  against chi2, or the mixture of chi2 that a variance at its boundary asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from dgmm.inference.mixtures import Mixture
from dgmm.inference.nesting import Candidate, null_distribution
from dgmm.inference.same_data import paired
from dgmm.inference.tables import Anova

__all__ = ["compare_nested"]

Simulated = Callable[[Candidate, Candidate, float], tuple[float, int]]


def compare_nested(candidates: Sequence[Candidate], simulated: Simulated | None = None) -> Anova:
    """The models by number of parameters, each tested against the one before it.

    simulated: p-value and number of replicates of a parametric bootstrap for (small, big,
        statistic), in place of the reference distribution.

    Raises:
        ValueError: when a comparison has no meaning (other data, REML with other fixed columns,
            models that are not nested, networks).
    """
    for one in candidates:
        _check_classical(one)
    ordered = sorted(_with_family(candidates), key=lambda one: one.df)
    notes = [f"BIC counts the {ordered[0].nobs} observed outcomes"]
    rows = [_row(one) for one in ordered]
    for j in range(1, len(ordered)):
        small, big = ordered[j - 1], ordered[j]
        test, remarks = _test(small, big, simulated)
        rows[j] |= test
        notes += [remark for remark in remarks if remark not in notes]
    columns = ["npar", "AIC", "BIC", "logLik", "deviance", "Chisq", "Df", "null", "Pr(>Chisq)"]
    table = pd.DataFrame(rows, index=_labels(ordered), columns=columns)
    method = "REML" if ordered[0].estimate.method == "reml" else "maximum likelihood"
    listed = [f"  model {j}: {one.label}" for j, one in enumerate(ordered, 1)]
    title = "\n".join([f"Likelihood-ratio tests ({method})", *listed])
    return Anova(title, table, tuple(notes))


def _with_family(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """Labels that name the family where there is more than one."""
    names = [one.estimate.model.family.name for one in candidates]
    if len(set(names)) == 1:
        return candidates
    return [
        replace(one, label=f"{one.label}, family = {name}")
        for one, name in zip(candidates, names, strict=True)
    ]


def _labels(ordered: Sequence[Candidate]) -> list[str]:
    return [f"model {j}" for j in range(1, len(ordered) + 1)]


def _row(one: Candidate) -> dict[str, float | str]:
    deviance = -2 * one.estimate.log_likelihood
    return {
        "npar": one.df,
        "AIC": deviance + 2 * one.df,
        "BIC": deviance + float(np.log(one.nobs)) * one.df,
        "logLik": one.estimate.log_likelihood,
        "deviance": deviance,
        "null": "",
    }


def _check_classical(one: Candidate) -> None:
    if not one.estimate.model.linear:
        raise ValueError(
            f"`{one.label}` has a network. Its effective degrees of freedom are for AIC; the "
            "likelihood ratio of a penalised network has no known distribution. Look at the "
            "held-out comparison in its summary, or score held-out subjects of both models."
        )


def _test(
    small: Candidate, big: Candidate, simulated: Simulated | None
) -> tuple[dict[str, float | str], list[str]]:
    small, big = paired(small, big)
    _check_restricted(small, big)
    if small.df == big.df:
        raise ValueError(
            f"`{small.label}` and `{big.label}` have {small.df:g} parameters each: neither is "
            "nested in the other. Compare aic()."
        )
    null = null_distribution(small, big)
    difference = big.estimate.log_likelihood - small.estimate.log_likelihood
    error = float(np.hypot(small.estimate.mc_error, big.estimate.mc_error))
    statistic = 2 * difference
    found: dict[str, float | str] = {
        "Chisq": max(statistic, 0.0),
        "Df": big.df - small.df,
        "null": str(null),
    }
    remarks = [null.remark] if null.remark and simulated is None else []
    doubt = _doubt(difference, error)
    if doubt:
        return found | {"Pr(>Chisq)": np.nan}, [*remarks, doubt]
    if simulated is not None:
        p, size = simulated(small, big, statistic)
        found |= {"null": f"bootstrap({size})", "Pr(>Chisq)": p}
        return found, remarks
    return found | {"Pr(>Chisq)": _p_value(null, statistic)}, remarks


def _p_value(null: Mixture, statistic: float) -> float:
    # a parameter at its boundary leaves both models at the same maximum up to rounding
    return null.p_value(statistic if statistic > 1e-5 else 0.0)


def _doubt(difference: float, error: float) -> str:
    """Why a difference cannot be tested, or nothing."""
    if error > 1e-3 and abs(difference) < 4 * error:
        return (
            f"the log-likelihoods differ by {difference:.3g}, less than 4 times their numerical "
            f"error ({error:.2g}): no p-value. Raise control draws (or points) and refit"
        )
    if difference < -1e-3 - 4 * error:
        return (
            f"the larger model has the lower log-likelihood (by {-difference:.3g}): it is not at "
            "its maximum, and there is no p-value. Refit it from other starts"
        )
    return ""


def _check_restricted(small: Candidate, big: Candidate) -> None:
    restricted = [one.estimate.method == "reml" for one in (small, big)]
    if not any(restricted):
        return
    advice = "refit both with method='ml' (fit.update(method='ml'))"
    if not all(restricted):
        raise ValueError(f"one fit is by REML and the other is not: {advice}")
    same = small.X.shape == big.X.shape and np.allclose(small.X, big.X, rtol=1e-10, atol=0)
    if not same:
        raise ValueError(
            "restricted likelihoods of models with different fixed columns are likelihoods of "
            f"different data and cannot be compared: {advice}"
        )
