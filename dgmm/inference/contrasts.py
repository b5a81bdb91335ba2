"""Wald tests of linear hypotheses L beta = 0.

    W = (L b)'(L V L')^-1 (L b)  ~  chi2(r),     F = W / r  ~  F(r, df)

with r the rank of L; the second with the degrees of freedom of Satterthwaite, or of Kenward and
Roger, who multiply F by a factor too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import special

from dgmm.inference.small_samples import SmallSamples
from dgmm.inference.tables import Anova
from dgmm.information import Spread
from dgmm.runtime.registry import suggestion
from dgmm.runtime.result_table import ResultTable

__all__ = ["coefficient_table", "hypothesis", "joint_test", "term_tests", "wald_test"]


def hypothesis(L: Any, names: Sequence[str], left_out: Sequence[str] = ()) -> np.ndarray:
    """The rows of L, (r, p), from a dict {coefficient: factor}, a list of names, or an array.

    Raises:
        ValueError: an unknown name, one of a column ``left_out`` of the fit, a wrong number of
            columns, or a row of zeros.
    """
    if isinstance(L, str):
        L = [L]
    if isinstance(L, Mapping):
        rows = np.zeros((1, len(names)))
        for name, factor in L.items():
            rows[0, _place(name, names, left_out)] = float(factor)
    elif isinstance(L, Sequence) and len(L) and all(isinstance(one, str) for one in L):
        rows = np.zeros((len(L), len(names)))
        for j, name in enumerate(L):
            rows[j, _place(name, names, left_out)] = 1.0
    else:
        rows = np.atleast_2d(np.asarray(L, dtype=float))
    if rows.ndim != 2 or rows.shape[1] != len(names):
        raise ValueError(
            f"L has {rows.shape[-1]} columns; the fit has {len(names)} linear coefficients: "
            f"{', '.join(names)}"
        )
    if not np.isfinite(rows).all() or not rows.size or (np.abs(rows).max(axis=1) == 0).any():
        raise ValueError("every row of L needs finite factors, at least one of them not zero")
    return rows


def _place(name: str, names: Sequence[str], left_out: Sequence[str]) -> int:
    if name in left_out:
        raise ValueError(
            f"a hypothesis about {name!r} is not estimable: the column was left out of the fit, "
            "whose outcomes say nothing about its coefficient"
        )
    if name not in names:
        raise ValueError(
            f"there is no coefficient {name!r}{suggestion(str(name), list(names))} The linear "
            f"coefficients are {', '.join(names)}."
        )
    return list(names).index(name)


def wald_test(
    beta: pd.Series, V: np.ndarray, L: np.ndarray, moments: SmallSamples | None = None
) -> Anova:
    """Test L beta = 0: one row as z (or t), several jointly as chi-squared (or F)."""
    _check(V)
    names = list(beta.index)
    listed = [_equation(row, names) for row in L]
    title = "Wald test of the linear hypothesis\n" + "\n".join(f"  {one}" for one in listed)
    found = _spread(beta, V, L)
    if len(L) == 1:
        label = listed[0].removesuffix(" = 0")
        estimate = pd.Series({label: float(found.value)})
        error = pd.Series({label: float(found.se)})
        return Anova(title, coefficient_table(estimate, error, moments, L))
    table = pd.DataFrame([_joint(found, L, moments)], index=["L beta = 0"])
    rank = int(table.iloc[0].get("Df", table.iloc[0].get("NumDF", 0)))
    short = f"L has {len(L)} rows of rank {rank}: {len(L) - rank} follow from the others"
    return Anova(title, table, (short,) if rank < len(L) else ())


def joint_test(estimate: np.ndarray, V: np.ndarray) -> dict[str, float]:
    """Test that estimates (r,) with covariance V (r, r) are all zero: Chisq, Df, Pr(>Chisq)."""
    found = Spread.normal(torch.tensor(estimate), torch.tensor(V))
    return _joint(found, np.eye(len(estimate)), None)


def term_tests(
    beta: pd.Series, V: np.ndarray, terms: Sequence[str], moments: SmallSamples | None = None
) -> Anova:
    """One test per term of the formula: all its columns zero, the others as they are."""
    _check(V)
    rows, labels = [], [term for term in dict.fromkeys(terms) if term != "(Intercept)"]
    for term in labels:
        L = np.eye(len(beta))[[j for j, owner in enumerate(terms) if owner == term]]
        rows.append(_joint(_spread(beta, V, L), L, moments))
    columns = None if rows else ["Chisq", "Df", "Pr(>Chisq)"]
    how = f"F tests, {moments.words}'s degrees of freedom" if moments else "chi-squared tests"
    title = f"Wald tests of the terms, each given all others ({how})"
    note = "a main effect beside its interaction is the effect where the other variables are zero"
    marginal = any(set(one.split(":")) < set(two.split(":")) for one in labels for two in labels)
    return Anova(title, pd.DataFrame(rows, index=labels, columns=columns), (note,) * marginal)


def coefficient_table(
    estimate: pd.Series, error: pd.Series, moments: SmallSamples | None, L: np.ndarray
) -> pd.DataFrame:
    """Estimate, Std. Error, z or (df, t), p; ``L`` (r, p) has the contrasts behind the rows."""
    ratio = estimate / error
    table = ResultTable({"Estimate": estimate, "Std. Error": error})
    if moments is None:
        table["z value"] = ratio
        table["Pr(>|z|)"] = 2 * special.ndtr(-np.abs(ratio))
        return table
    table["df"] = [moments.df(row) for row in L]
    table["t value"] = ratio
    table["Pr(>|t|)"] = 2 * special.stdtr(table["df"], -np.abs(ratio))
    return table


def _spread(beta: pd.Series, V: np.ndarray, L: np.ndarray) -> Spread:
    """L beta and its covariance."""
    estimates = Spread.normal(torch.tensor(beta.to_numpy()), torch.tensor(V))
    return estimates.combined(torch.tensor(L, dtype=torch.float64))


def _joint(found: Spread, L: np.ndarray, moments: SmallSamples | None) -> dict[str, float]:
    inner = found.covariance.numpy()
    root = np.sqrt(np.diag(inner))
    value, vector = np.linalg.eigh(inner / root / root[:, None])
    kept = value > 1e-10 * value[-1]
    rotated = vector[:, kept].T @ (found.value.numpy() / root)
    statistic, rank = float((rotated**2 / value[kept]).sum()), int(kept.sum())
    if moments is None:
        p = float(special.chdtrc(rank, statistic))
        return {"Chisq": statistic, "Df": rank, "Pr(>Chisq)": p}
    df, factor = moments.joint(L)
    F = factor * statistic / rank
    p = float(special.fdtrc(rank, df, F))
    return {"F value": F, "NumDF": rank, "DenDF": df, "Pr(>F)": p}


def _check(V: np.ndarray) -> None:
    if np.isnan(V).any():
        raise ValueError("a Wald test needs standard errors, and this fit has none (se=None)")


def _equation(row: np.ndarray, names: Sequence[str]) -> str:
    parts: list[str] = []
    for factor, name in zip(row, names, strict=True):
        if factor:
            size = "" if abs(factor) == 1 else f"{abs(factor):g} "
            sign = ("-" if factor < 0 else "") if not parts else ("- " if factor < 0 else "+ ")
            parts.append(f"{sign}{size}{name}")
    return " ".join(parts) + " = 0"
