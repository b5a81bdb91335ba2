"""Estimated marginal means of a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dgmm.inference.comparisons import Means
from dgmm.inference.covariate_effects import mean_part
from dgmm.inference.fixed_effects import moments_of
from dgmm.inference.marginal_means import marginal_means
from dgmm.prediction.moments import normal_effects
from dgmm.record import Fitted
from dgmm.runtime.gate import is_number

__all__ = ["emmeans"]


def emmeans(
    fit: Fitted,
    names: str | Sequence[str],
    *,
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    weights: str = "equal",
    scale: str = "link",
    type: str | None = None,
    offset: float | None = None,
    df: str | float | None = "auto",
    level: float = 0.95,
) -> Means:
    """Means of every level of some covariates, averaged over the levels of all others.

        m_k = sum_g w_kg f(x_g)

    over the cells g of a grid of all factors, numbers at their means; f is the linear predictor or,
    on scale="response", the mean of the population or of the subject without random effects, which
    is averaged as it is. Pairs and contrasts are made from the result: ``.pairs()``.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        names: covariates whose levels have a mean each; of a number the values in ``at``.
        by: covariates within whose levels means are compared.
        at: values of covariates, ``{"months": [3, 6, 12]}``.
        weights: of the cells averaged over: "equal", "proportional" (frequencies of their
            combinations in the observed rows) or "sample" (f averaged over the observed rows).
        scale: "link" or "response".
        type: of a mean: "marginal" (the default, random effects integrated out) or "mean_subject".
        offset: of every cell; 0, a rate per unit of exposure, by default.
        df: as in :meth:`coefficients`, or a number of degrees of freedom.
        level: probability that the interval of one mean covers.

    Returns:
        :class:`~dgmm.inference.comparisons.Means`. A mean that the outcomes say nothing about (an
        empty cell) is missing, and a note names it.

    Raises:
        ValueError: an unknown covariate, level or word, or a fit without standard errors.

    Example:
        >>> import dgmm
        >>> frame = dgmm.datasets.load("orthodont")
        >>> fit = dgmm.mixed_model("distance ~ age * Sex + (1 | Subject)", frame, method="reml")
        >>> means = fit.emmeans("Sex", by="age", at={"age": [8, 14]}, df="kenward-roger")
        >>> means.table["mean"].round(2).to_list()
        [22.62, 21.21, 27.32, 24.09]

    References:
        Searle, Speed and Milliken (1980), American Statistician 34, 216-221.
    """
    model = fit.estimate.model
    if scale == "response" and type is None and model.family.conjugate and normal_effects(model):
        scale = "link"  # which is the mean, with degrees of freedom
    mean = mean_part(fit, scale, type)
    given = float(df) if is_number(df) else None  # type: ignore[arg-type]
    if given is not None and not given > 0:
        raise ValueError(f"df is a positive number of degrees of freedom, not {df!r}")
    no_t = given is not None or mean.quantity.whole
    return marginal_means(
        mean,
        names,
        by=by,
        at=at,
        weights=weights,
        offset=offset,
        moments=None if no_t else moments_of(fit, df),  # type: ignore[arg-type]
        df=np.inf if given is None else given,
        level=level,
    )
