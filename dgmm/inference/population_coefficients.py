"""Population-averaged coefficients of a model with random effects.

    g{E g^-1(eta_ij)} = x_ij'beta_M,   beta_M = (X'X)^-1 X'(g{E g^-1(eta)} - offset)

over the observed rows: the linear predictor of the averages, nearest in least squares. Exact where
the average keeps the link (identity; log with a random intercept; probit). Hedeker, du Toit,
Demirtas and Gibbons (2018), Statistics in Medicine 37, 3034-3045.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from dgmm.inference.quantities import Population
from dgmm.inference.wald import spread_table
from dgmm.information import Derivative, uncertainty
from dgmm.parameters import Theta
from dgmm.prediction.moments import marginal_link
from dgmm.prediction.sensitivity import link_slopes
from dgmm.record import Fitted, joint_information
from dgmm.runtime.result_table import ResultTable

__all__ = ["marginal_coefs"]


def marginal_coefs(fit: Fitted, *, level: float = 0.95) -> pd.DataFrame:
    """Coefficients of the population average, with standard errors by the delta method.

        beta_M = (X'X)^-1 X' g{E g^-1(X beta + T b)},   b ~ N(0, I)

    Those of :meth:`coefficients` hold for one subject; of a logit model these are nearer to zero.
    Offsets are taken off, so that coefficients are those of a rate.

    Args:
        fit: a fit of :func:`dgmm.mixed_model` without dnn() on the fixed side.
        level: probability that an interval covers.

    Returns:
        A table with Estimate, Std. Error, z value, Pr(>|z|), lower and upper for every coefficient;
        of draws from a posterior Mean, SD, lower and upper.

    Raises:
        ValueError: a network on the fixed side, whose weights are no coefficients, or a fit without
            standard errors.

    Example:
        >>> import dgmm
        >>> cbpp = dgmm.datasets.load("cbpp")
        >>> formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
        >>> fit = dgmm.mixed_model(formula, cbpp, family="binomial")
        >>> fit.marginal_coefs()["Estimate"].round(2).to_list()
        [-1.29, -0.94, -1.07, -1.51]

    References:
        Hedeker, du Toit, Demirtas and Gibbons (2018), Statistics in Medicine 37, 3034-3045.
    """
    done, info = replace(fit.estimate, others=()), joint_information(fit)
    model, panel = done.model, done.observed
    if model.networks:
        raise ValueError(
            f"{model.networks[0].label} has no coefficients; effects(), slopes() and contrast() "
            "with scale='response' average it over the population"
        )
    if info is None:
        raise ValueError("marginal_coefs() needs standard errors, and this fit has none (se=None)")
    known = uncertainty(done, info, weights=True)
    if known.empty:
        raise ValueError(f"this fit has no standard errors: {'; '.join(info.messages)}")
    X, offset = panel.rows.X, panel.rows.offset
    Q, R = torch.linalg.qr(X @ model.basis)
    nearest = model.basis @ torch.linalg.solve_triangular(R, Q.T, upper=True)

    def value(theta: Theta) -> Tensor:
        return nearest @ (marginal_link(done, theta, panel) - offset)

    population = Population(done)
    eta = marginal_link(done, done.theta, panel)
    of_link = link_slopes(model, done.theta, panel, eta, population.derivative(panel))

    def slope() -> Tensor:
        total = torch.zeros(len(nearest), of_link.packing.size, dtype=torch.float64)
        for at, J in of_link.blocks():
            total += nearest[:, at] @ J
        return total

    found = known.taking_held_as_known().of(value, Derivative.dense(of_link.packing, slope))
    table = spread_table(found, list(model.names), level)
    return ResultTable(table, title="Coefficients of the population, random effects integrated out")
