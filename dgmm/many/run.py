"""Fit all models of a call: together where their likelihood allows it, else one by one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dgmm.design.expressions import ExpressionError
from dgmm.fit import Fit
from dgmm.formula import FormulaError
from dgmm.inference.criteria import df, groups_seen, nobs
from dgmm.inference.reported import component_name, identified
from dgmm.inference.variance_parameters import is_singular, sigma
from dgmm.latent import Component
from dgmm.likelihood.many import ManyEstimates, ManyRows, estimate_each, usual
from dgmm.many.batch import Batch, read_batch
from dgmm.many.fits import ManyFits
from dgmm.many.models import Models, models_of
from dgmm.plan import Call, check_options
from dgmm.runtime.parallel import each
from dgmm.runtime.result_table import ResultTable

__all__ = ["fit_each"]

NO_EFFECT = 1e-8
"""Standard deviation, relative to its scale, below which an effect has no correlations."""

NOTHING = dict.fromkeys(
    ("nobs", "groups", "df", "logLik", "AIC", "BIC", "sigma", "decrement"), math.nan
)
"""Of a model without a fit."""

TROUBLE = (ValueError, TypeError, ArithmeticError, RuntimeError, KeyError, IndexError)
"""What one model may raise without an end of the others."""


class _Part(NamedTuple):
    """Some models, and their rows of all tables."""

    models: np.ndarray  # (k,)
    tables: tuple[pd.DataFrame, ...]  # those of ManyFits, (k, columns) each


def fit_each(
    call: Call, data: Any, by: str | None, outcomes: Sequence[str] | None, workers: int
) -> ManyFits:
    """The fits of all models of a call; see :func:`dgmm.fit_many`."""
    check_options(call)
    models = models_of(call, data, by, outcomes)
    batch = _read(models)
    if isinstance(batch, Batch):
        parts, notes = _together(batch, call), batch.messages
    else:
        parts, notes = [], (f"fitted one by one: {batch}",)
    missing = np.ones(len(models), dtype=bool)
    for part in parts:
        missing[part.models] = False
    todo = np.flatnonzero(missing).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the status of a model says it
        parts += each(partial(_alone, models), todo, workers)
    order = np.argsort(np.concatenate([part.models for part in parts]), kind="stable")
    index = pd.Index(models.labels, name=models.name)
    tables = [
        pd.concat(own).iloc[order].set_axis(index)
        for own in zip(*(part.tables for part in parts), strict=True)
    ]
    if tables[0]["logLik"].isna().all():
        raise ValueError(f"no model can be fitted; the first: {tables[0]['status'].iloc[0]}")
    glance, coefficients, std_errors, var_corr, errors = map(ResultTable, tables)
    return ManyFits(models, glance, coefficients, std_errors, var_corr, errors, notes)


def _read(models: Models) -> Batch | str:
    """The rows of all models; a clause where every model has to be read by itself."""
    try:
        return read_batch(models)
    except (FormulaError, ExpressionError):
        raise
    except ValueError as error:
        return str(error)


# -- together --------------------------------------------------------------------------------------


def _together(batch: Batch, call: Call) -> list[_Part]:
    """The models that have a maximum like any other."""
    parts = []
    for models in batch.chunks():
        parts += _some(batch, call, models, batch.rows(models))
    return parts


def _some(batch: Batch, call: Call, models: np.ndarray, rows: ManyRows) -> list[_Part]:
    """Fit some models at once; where linear algebra stops at one of them, half by half."""
    plain = usual(rows)
    if not plain.any():
        return []
    models, rows = models[plain], rows.among(plain)
    try:
        with np.errstate(all="ignore"):
            found = estimate_each(rows, batch.pattern, call.method == "reml")
    except np.linalg.LinAlgError:
        halves = np.array_split(np.arange(len(models)), 2) if len(models) > 1 else []
        return [p for half in halves for p in _some(batch, call, models[half], rows.among(half))]
    good = found.usable & np.isfinite(found.log_likelihood)
    found = ManyEstimates(*(one[good] for one in found))
    return [_Part(models[good], _tables(batch, call, rows.among(good), found))]


def _tables(
    batch: Batch, call: Call, rows: ManyRows, found: ManyEstimates
) -> tuple[pd.DataFrame, ...]:
    """The rows of all tables."""
    size = len(batch.names) + len(batch.pattern.row) + 1
    nobs, deviance = rows.observed.sum(1), -2 * found.log_likelihood
    glance = {
        "nobs": nobs,
        "groups": rows.subjects.sum(1),
        "df": float(size),
        "logLik": found.log_likelihood,
        "AIC": deviance + 2 * size,
        "BIC": deviance + np.log(nobs) * size,
        "sigma": found.sigma,
        "singular": found.zero.any(1),
        "converged": True,
        "decrement": found.decrement,
        "engine": "batched",
        "status": "",
    }
    labels = [*((batch.group, one) for one in batch.components), None]
    columns = [_name(*label) if label else "sigma" for label in labels]
    correlation = np.array([label is not None and label[1].kind == "cor" for label in labels])
    value = np.where(correlation, np.tanh(found.working), np.exp(found.working))
    value[:, correlation] = np.where(_silent(batch, found), np.nan, value[:, correlation])
    told = identified(found.working, found.working_error, correlation)
    error = np.where(told, found.working_error, np.nan)
    beta_error = found.beta_error
    if call.se is None:
        error = np.full_like(error, np.nan)
        beta_error = beta_error if call.method == "reml" else np.full_like(beta_error, np.nan)
    coefficients = list(batch.names)
    return (
        pd.DataFrame(glance),
        pd.DataFrame(found.beta, columns=coefficients),
        pd.DataFrame(beta_error, columns=coefficients),
        pd.DataFrame(value, columns=columns),
        pd.DataFrame(error, columns=columns),
    )


def _silent(batch: Batch, found: ManyEstimates) -> np.ndarray:
    """Correlations with an effect whose standard deviation is zero: there are none."""
    zero = np.sqrt((found.loadings**2).sum(-1)) < NO_EFFECT * found.scale
    names = [one.effects[0] for one in batch.components if one.kind == "sd"]
    pairs = [one.effects for one in batch.components if one.kind == "cor"]
    at = np.array([[names.index(name) for name in pair] for pair in pairs], dtype=int)
    silent: np.ndarray = zero[:, at.reshape(-1, 2)].any(-1)
    return silent


def _name(group: str, component: Component) -> str:
    first, *second = component.effects
    row = _Row(group, component.kind, first, second[0] if second else None)
    return component_name(row)


class _Row(NamedTuple):
    """A row of the table of variance components."""

    group: str
    kind: str
    name1: str
    name2: str | None


# -- alone -----------------------------------------------------------------------------------------


def _alone(models: Models, at: int) -> _Part:
    """One model by itself; its error is its status."""
    try:
        fit = models.fit(at)
    except TROUBLE as error:
        glance = {"singular": False, "converged": False, "engine": "alone", "status": str(error)}
        empty = pd.DataFrame(index=[at])
        return _Part(np.array([at]), (pd.DataFrame([glance | NOTHING]), *[empty] * 4))
    components = fit.var_corr()
    rows = (_glance(fit), fit.fixef(), fit.std_errors(), components["sdcor"])
    errors = components["se_working"]
    return _Part(np.array([at]), tuple(pd.DataFrame([dict(row)]) for row in (*rows, errors)))


def _glance(fit: Fit) -> dict[str, Any]:
    done = fit.estimate
    said = [one for one in fit.messages if not one.startswith("boundary (singular)")]
    return {
        "nobs": nobs(fit),
        "groups": next(seen for seen, _ in groups_seen(fit).values()),
        "df": df(fit),
        "logLik": done.log_likelihood,
        "AIC": fit.aic(),
        "BIC": fit.bic(),
        "sigma": sigma(fit),
        "singular": is_singular(fit),
        "converged": done.converged,
        "decrement": done.decrement,
        "engine": "alone",
        "status": "; ".join(said),
    }
