"""A fit as tidy frames, with the columns of broom.mixed, in the kind of frame that was given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import special

from dgmm.design import take_rows
from dgmm.inference import reported
from dgmm.inference.fixed_effects import coefficients
from dgmm.inference.posterior import scalars
from dgmm.inference.variance_parameters import family_parameters, part_coefficients
from dgmm.prediction import of_fit
from dgmm.prediction.predict import fitted, predict
from dgmm.prediction.same_frame import is_frame_of
from dgmm.record import Fitted, parameter_information
from dgmm.runtime.native import as_given, with_numbers
from dgmm.runtime.probability import check_level
from dgmm.runtime.result_table import ResultTable

__all__ = ["augment", "tidy", "tidy_table"]

EFFECTS = ("fixed", "ran_pars")

COLUMNS = ("effect", "component", "group", "term", "estimate", "std.error", "statistic", "df")
ENDS = ("p.value", "conf.low", "conf.high")


def tidy(
    fit: Fitted,
    effects: str | Sequence[str] = EFFECTS,
    *,
    conf_int: bool = False,
    level: float = 0.95,
    exponentiate: bool = False,
    df: str | None = "auto",
) -> Any:
    """A row per parameter, as broom.mixed's ``tidy``.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        effects: "fixed" (coefficients, of zi= and dispersion= too), "ran_pars" (standard
            deviations, correlations, parameters of the family), or both.
        conf_int: whether ``conf.low`` and ``conf.high`` are wanted.
        level: probability that an interval covers.
        exponentiate: whether fixed effects are exponentials: odds, rate, mean ratios.
        df: of the tests, see :meth:`coefficients`.

    Returns:
        A frame, of the library of the data (pandas after reading from a file), with effect,
        component (where zi= or dispersion= have coefficients), group, term, estimate, std.error,
        statistic, df (of t tests) and p.value. Terms are named as in :meth:`confint`:
        ``sd_(Intercept)|id``. Standard errors are those of the estimate as it stands; a standard
        deviation has no test, and its interval is made on the log scale. Of ``method="gibbs"``:
        posterior means, standard deviations and quantiles, without tests.
    """
    table = tidy_table(fit, effects, level=level, exponentiate=exponentiate, df=df)
    if not conf_int:
        table = table.drop(columns=["conf.low", "conf.high"])
    return as_given(table, fit.memory.frame)


def tidy_table(
    fit: Fitted,
    effects: str | Sequence[str] = EFFECTS,
    *,
    level: float = 0.95,
    exponentiate: bool = False,
    df: str | None = "auto",
) -> ResultTable:
    """The table of :func:`tidy` with its intervals, in pandas."""
    wanted = [effects] if isinstance(effects, str) else list(effects)
    for word in wanted:
        if word not in EFFECTS:
            raise ValueError(f"effects are {', '.join(map(repr, EFFECTS))}, not {word!r}")
    check_level(level)
    fixed, random = _of_draws(fit, level) if fit.sampled else _of_maximum(fit, level, df)
    parts = []
    if "fixed" in wanted:
        parts += [_exponentials(part) for part in fixed] if exponentiate else fixed
    if "ran_pars" in wanted:
        parts += random
    rows = [part.astype(object) for part in parts if len(part)]
    found = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()
    names = [name for name in (*COLUMNS, *ENDS) if name not in ("df", "component")]
    names[1:1] = ["component"] if found.get("component", pd.Series()).nunique() > 1 else []
    if "df" in found and found["df"].notna().any():
        names.insert(names.index("statistic") + 1, "df")
    found = found.reindex(columns=names)
    text = ("effect", "component", "group", "term")
    numbers = {name: float for name in names if name not in text}
    return ResultTable(found.astype(numbers))


def _of_maximum(
    fit: Fitted, level: float, df: str | None
) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
    """Estimates with standard errors: of coefficients, of variances and the family."""
    fixed = [_fixed(coefficients(fit, df), "cond", level)]
    fixed += [_fixed(table, name, level) for name, table in part_coefficients(fit).items()]
    return fixed, [_random(fit, level), _family(fit, level)]


def _of_draws(fit: Fitted, level: float) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
    """Posterior means, standard deviations and quantiles, likewise."""
    found = scalars(fit)
    groups: list[str | None] = [None] * found.coefficients
    for latent, group in zip(fit.estimate.model.latents, fit.memory.groups, strict=True):
        groups += [group] * len(latent.components())
    family = found.names[len(groups) :]
    groups += ["Residual" if name == "sigma" else "family" for name in family]
    ends = found.intervals(level, "quantile")
    table = pd.DataFrame(
        {
            "effect": "ran_pars",
            "component": "cond",
            "group": pd.Series(groups, dtype=object),
            "term": list(found.names),
            "estimate": found.flat.mean(0),
            "std.error": found.flat.std(0, ddof=1),
            "conf.low": ends[:, 0],
            "conf.high": ends[:, 1],
        }
    )
    fixed = table.iloc[: found.coefficients].assign(effect="fixed")
    return [fixed], [table.iloc[found.coefficients :]]


def _fixed(table: pd.DataFrame, component: str, level: float) -> pd.DataFrame:
    df = table["df"] if "df" in table else pd.Series(np.nan, index=table.index)
    known, tail = df.notna(), 0.5 + level / 2
    half = np.where(known, special.stdtrit(df.fillna(1.0), tail), special.ndtri(tail))
    ratio, p = ("t value", "Pr(>|t|)") if "df" in table else ("z value", "Pr(>|z|)")
    return pd.DataFrame(
        {
            "effect": "fixed",
            "component": component,
            "group": None,
            "term": list(table.index),
            "estimate": table["Estimate"].to_numpy(),
            "std.error": table["Std. Error"].to_numpy(),
            "statistic": table[ratio].to_numpy(),
            "df": df.to_numpy(),
            "p.value": table[p].to_numpy(),
            "conf.low": (table["Estimate"] - half * table["Std. Error"]).to_numpy(),
            "conf.high": (table["Estimate"] + half * table["Std. Error"]).to_numpy(),
        }
    )


def _exponentials(part: pd.DataFrame) -> pd.DataFrame:
    estimate = np.exp(part["estimate"])
    return part.assign(
        **{
            "estimate": estimate,
            "std.error": estimate * part["std.error"],
            "conf.low": np.exp(part["conf.low"]),
            "conf.high": np.exp(part["conf.high"]),
        }
    )


def _random(fit: Fitted, level: float) -> pd.DataFrame:
    found = reported.components(fit.estimate, parameter_information(fit), fit.memory.groups)
    table, ends = found.table, found.intervals(level)
    working = torch.tensor(table["working"].to_numpy(float))
    steep = [float(link.derivative(w)) for link, w in zip(found.links, working, strict=True)]
    return pd.DataFrame(
        {
            "effect": "ran_pars",
            "component": "cond",
            "group": table["group"],
            "term": [reported.component_name(row) for row in table.itertuples()],
            "estimate": table["estimate"],
            "std.error": np.abs(steep) * table["std_error"].to_numpy(float),
            "conf.low": ends[:, 0],
            "conf.high": ends[:, 1],
        }
    )


def _family(fit: Fitted, level: float) -> pd.DataFrame:
    table = family_parameters(fit, level)
    return pd.DataFrame(
        {
            "effect": "ran_pars",
            "component": "cond",
            "group": "family",
            "term": list(table.index),
            "estimate": table["estimate"].to_numpy(),
            "std.error": table["std_error"].to_numpy(),
            "conf.low": table["lower"].to_numpy(),
            "conf.high": table["upper"].to_numpy(),
        }
    )


def augment(fit: Fitted, data: Any = None) -> Any:
    """The rows of the data that the fit has used, with what it says of each, as broom.mixed's.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        data: by default the frame of the fit, which a fit read from a file does not have.

    Returns:
        A frame of the same library with ``.fitted`` (E{g^-1(eta) | y}), ``.fixed`` (the mean of the
        subject whose random effects are zero) and ``.resid`` (observed less fitted).

    Raises:
        ValueError: no data=, where the fit has no frame; another frame than that of the fit.
    """
    frame = fit.memory.frame if data is None else data
    if frame is None:
        raise ValueError(
            "augment() needs data=: this fit was read from a file, and files do not hold the frame"
        )
    if not is_frame_of(fit, frame):
        raise ValueError(
            "augment() adds columns to the frame of the fit, and data= has other rows, covariates "
            "or outcomes; predict() is for new rows"
        )
    columns = {
        ".fitted": fitted(fit).to_numpy(),
        ".fixed": predict(fit, type="mean_subject")["fit"].to_numpy(),
        ".resid": of_fit.residuals(fit.estimate, "response", fit.call.seed)[fit.memory.back],
    }
    return with_numbers(take_rows(frame, np.sort(fit.memory.rows)), columns)
