"""How well a method does in a study: one record for fits, the oracle and any baseline."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy import special

from dgmm.fit import Fit
from dgmm.information import Spread
from dgmm.studies.base import Process
from dgmm.studies.lmm import COEFFICIENTS
from dgmm.studies.predictions import Predictions
from dgmm.studies.simulate import find_process

__all__ = ["coefficient_errors", "expected_coverage", "row_kinds", "score"]

BANDS = ("dropped", "future", "new")


def row_kinds(data: pd.DataFrame) -> dict[str, np.ndarray]:
    """Which rows are scored together, (N,) bool each; a kind without rows is left out.

    observed: seen outcomes of the training subjects; dropped: theirs after dropout; future: those
    of the landmark subjects after t = 5; new: all of the subjects never shown to a method.
    """
    seen = data["observed"].to_numpy()
    train, landmark, new = ((data["set"] == one).to_numpy() for one in ("train", "landmark", "new"))
    kinds = {
        "observed": train & seen,
        "dropped": train & ~seen,
        "future": landmark & ~seen,
        "new": new,
    }
    return {name: rows for name, rows in kinds.items() if rows.any()}


def score(predictions: Predictions, data: pd.DataFrame, process: str | Process) -> pd.Series:
    """Score the predictions of a method against the true profiles of a study.

        rmse      root mean of (mean - mu)^2
        coverage  mean of P(lower <= Y <= upper), Y ~ N(mu, sigma^2) a further outcome at the row
        width     mean of upper - lower
        loglik    mean of log p(y_i) over the subjects of the set "new"

    The coverage is the expected share of outcomes inside, given the profiles: no noise of the
    outcomes is in it. Rows of new subjects have been seen, so it is about a second outcome there.

    Args:
        predictions: of a fit (:func:`dgmm.studies.fit_predictions`), of the oracle
            (:func:`dgmm.studies.oracle_predictions`), or arrays of any other method.
        data: the frame of :func:`dgmm.simulate_study`.
        process: the process of ``data``, for its sigma.

    Returns:
        A series with ``rmse_observed, rmse_dropped, rmse_future, rmse_new``, the same of
        ``coverage_`` and ``width_`` without observed rows, ``loglik`` and ``loglik_se``, its
        standard error over subjects. What a study does not have is left out.
    """
    if len(predictions.mean) != len(data):
        raise ValueError(
            f"predictions of {len(predictions.mean)} rows for a study of {len(data)} rows"
        )
    kinds, error = row_kinds(data), predictions.mean - data["mu"].to_numpy()
    found = {f"rmse_{kind}": root_mean_square(error[rows]) for kind, rows in kinds.items()}
    inside = expected_coverage(predictions, data, process)
    width = predictions.upper - predictions.lower
    for kind in (one for one in BANDS if one in kinds):
        found[f"coverage_{kind}"] = float(inside[kinds[kind]].mean())
        found[f"width_{kind}"] = float(width[kinds[kind]].mean())
    each = predictions.log_score.to_numpy()
    if len(each):
        found["loglik"] = float(each.mean())
    if len(each) > 1:
        found["loglik_se"] = float(each.std(ddof=1) / np.sqrt(len(each)))
    return pd.Series(found, name="score")


def expected_coverage(
    predictions: Predictions, data: pd.DataFrame, process: str | Process
) -> np.ndarray:
    """P(lower <= Y <= upper) of every row, Y ~ N(mu, sigma^2), (N,); NaN without an interval."""
    sigma, mu = find_process(process).sigma, data["mu"].to_numpy()
    upper, lower = (
        special.ndtr((end - mu) / sigma) for end in (predictions.upper, predictions.lower)
    )
    return np.asarray(upper - lower)


def root_mean_square(values: np.ndarray) -> float:
    """sqrt(mean(values^2))."""
    return float(np.sqrt(np.mean(np.square(values))))


def coefficient_errors(fit: Fit) -> pd.DataFrame:
    """Linear effects of the process "lmm" beside the truth, age standardised as (age - 45) / 15.

        sex + 45 sex:age,   15 age,   15 sex:age,   x

    Args:
        fit: with linear terms sex, age, sex:age and x, age in years.

    Returns:
        A frame with rows sex, age, sex:age, x and columns truth, estimate, std_error, z, the error
        in standard errors.

    Raises:
        ValueError: the fit lacks one of the four linear terms.
    """
    fixed = fit.fixef()
    # the order of the factors of an interaction is that of the formula
    product = "sex:age" if "sex:age" in fixed.index else "age:sex"
    names = ["sex", "age", product, "x"]
    absent = [name for name in names if name not in fixed.index]
    if absent:
        raise ValueError(f"the fit has no linear term {absent[0]!r}; use `sex * age + x`")
    L = np.diag([1.0, 15.0, 15.0, 1.0])
    L[0, 2] = 45.0
    V = torch.tensor(fit.vcov().loc[names, names].to_numpy())
    found = Spread.normal(torch.tensor(fixed[names].to_numpy()), V).combined(torch.tensor(L))
    table = pd.DataFrame({"truth": pd.Series(COEFFICIENTS), "estimate": found.value.numpy()})
    table["std_error"] = found.se.numpy()
    return table.assign(z=(table["estimate"] - table["truth"]) / table["std_error"])
