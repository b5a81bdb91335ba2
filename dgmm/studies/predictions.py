"""What a method says about a study: predictions of every row, log-likelihoods of new subjects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dgmm.fit import Fit

__all__ = ["Predictions", "fit_predictions", "in_question"]


@dataclass(frozen=True)
class Predictions:
    """Per row of a study's frame, given the outcomes observed of the same subject.

    Subjects of the set "new" are predicted given all of their outcomes.
    """

    mean: np.ndarray  # (N,) E(mu_ij | y_i observed)
    lower: np.ndarray  # (N,) 95% prediction interval of a further outcome; NaN where not given
    upper: np.ndarray  # (N,)
    log_score: pd.Series  # log p(y_i), one per subject of the set "new"


def in_question(data: pd.DataFrame) -> np.ndarray:
    """The rows whose prediction intervals are scored: not observed, or of new subjects, (N,)."""
    return np.asarray(~data["observed"] | (data["set"] == "new"))


def fit_predictions(fit: Fit, data: pd.DataFrame, *, intervals: bool = True) -> Predictions:
    """Predictions of a fit for all rows of a study.

    Args:
        fit: fitted to :func:`dgmm.studies.training_frame` of ``data``.
        data: the frame of :func:`dgmm.simulate_study`.
        intervals: prediction intervals too, which take longer.

    Example:
        >>> import dgmm
        >>> from dgmm.studies import fit_predictions, score, training_frame
        >>> data = dgmm.simulate_study("lmm", n=(60, 20, 20))
        >>> formula = "y ~ sex * age + x + ns(t, 4) + (ns(t, 4) | id)"
        >>> fit = dgmm.mixed_model(formula, training_frame(data))
        >>> float(score(fit_predictions(fit, data), data, "lmm")["rmse_observed"].round(2))
        0.31
    """
    history = data.assign(y=data["y"].where(data["observed"] | (data["set"] == "new")))
    mean = fit.predict(data, history=history)["fit"].to_numpy(copy=True)
    lower, upper = np.full((2, len(data)), np.nan)
    if intervals:
        rows = in_question(data)
        band = fit.predict(data[rows], history=history, interval="prediction", draws=4000)
        lower[rows], upper[rows] = band["lower"], band["upper"]
    new = data[data["set"] == "new"]
    scores = fit.log_score(new)["log_score"] if len(new) else pd.Series(dtype=float)
    return Predictions(mean, lower, upper, scores)
