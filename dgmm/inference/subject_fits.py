"""lm_list: the model fitted to every subject on its own.

    eta_ij = offset_ij + x_ij'beta_i,     beta_i by iteratively reweighted least squares

for all subjects at once. With the spread of beta_i before one's eyes, one chooses random effects.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from dgmm.families import Family
from dgmm.panel import Block, Panel

__all__ = ["SubjectFits", "subject_fits"]

ITERATIONS = 50


@dataclass(frozen=True)
class SubjectFits:
    """Coefficients of every subject; missing where its own data do not determine them."""

    coefficients: pd.DataFrame  # (n, p)
    std_errors: pd.DataFrame  # (n, p), residual variance pooled over subjects
    counts: pd.Series  # (n,) observed outcomes
    sigma: float  # pooled residual standard deviation, 1 for families without one
    df_residual: int
    notes: tuple[str, ...]

    def __str__(self) -> str:
        table = self.coefficients.describe().loc[["min", "25%", "50%", "75%", "max"]]
        lines = [f"{len(self.coefficients)} separate fits; spread of the coefficients:"]
        lines.append(table.to_string(float_format=lambda x: f"{x:.4g}"))
        lines.append(f"Pooled residual SD {self.sigma:.4g} on {self.df_residual} df")
        return "\n".join(lines + [f"* {note}" for note in self.notes])

    __repr__ = __str__


def subject_fits(panel: Panel, family: Family, names: list[str], group: str) -> SubjectFits:
    """Separate generalized linear models on the columns X of a panel."""
    observed = panel.observed_rows()
    n, p = panel.n, len(names)
    beta = torch.full((n, p), torch.nan, dtype=torch.float64)
    error, rss = beta.clone(), torch.zeros(n, dtype=torch.float64)
    for block in observed.blocks():
        found, inverse, squares = _fit(block, family)
        beta[block.subjects], rss[block.subjects] = found, squares
        error[block.subjects] = inverse.diagonal(dim1=1, dim2=2).sqrt()
    known = ~torch.isnan(beta).any(1)
    df = int((observed.count[known] - p).sum())
    dispersed = "log_sigma" in family.extra
    sigma = float((rss[known].sum() / df).sqrt()) if dispersed and df > 0 else 1.0
    index = pd.Index(panel.ids, name=group)
    missing = int((~known).sum())
    note = (
        f"{missing} of {n} levels of `{group}` do not determine their coefficients: too few or "
        "too uniform observations"
    )
    return SubjectFits(
        pd.DataFrame(beta.numpy(), index=index, columns=names),
        pd.DataFrame(sigma * error.numpy(), index=index, columns=names),
        pd.Series(observed.count.numpy(), index=index, name="counts"),
        sigma,
        df,
        (note,) if missing else (),
    )


def _fit(block: Block, family: Family) -> tuple[Tensor, Tensor, Tensor]:
    """beta (n, p), (X'WX)^-1 (n, p, p) and weighted residual sums of squares (n,)."""
    rows, mask = block.rows, block.mask.double()
    data, X = rows.data, rows.X * mask[..., None]
    mu = family.start_mean(data)
    extra = torch.zeros_like(family.start_extra(data, mu))
    eta = family.link.forward(mu)
    identity = family.link.name == "identity"
    limit = torch.inf if identity else 30.0
    beta = torch.zeros(len(X), X.shape[2], dtype=torch.float64)
    settled = torch.zeros(len(X), dtype=torch.bool)
    for _ in range(ITERATIONS):
        weight = family.information(data, eta, extra).clamp(min=1e-10) * mask
        target = eta - rows.offset + family.working_residual(data, eta, extra)
        gram = X.mT @ (X * weight[..., None])
        inverse, full = _inverse(gram)
        new = (inverse @ (X.mT @ (weight * target)[..., None]))[..., 0]
        moved = (new - beta).abs().amax(1)
        settled = moved <= 1e-8 * (1 + new.abs().amax(1))
        beta = new
        eta = (rows.offset + (rows.X @ beta[..., None])[..., 0]).clamp(-limit, limit)
        if bool((settled | ~full).all()):
            break
    squares = (weight * (target - (rows.X @ beta[..., None])[..., 0]).square()).sum(1)
    known = settled & full & (block.mask.sum(1) >= X.shape[2])
    return (
        torch.where(known[:, None], beta, torch.nan),
        torch.where(known[:, None, None], inverse, torch.nan),
        squares,
    )


def _inverse(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Inverses of (n, p, p) and which of them have full rank."""
    root = gram.diagonal(dim1=1, dim2=2).clamp(min=1e-300).sqrt()
    scaled = gram / root[:, :, None] / root[:, None, :]
    value, vector = torch.linalg.eigh(scaled)
    full = value[:, 0] > 1e-10
    safe = torch.where(value > 1e-10, value, torch.inf)
    inverse = (vector / safe[:, None, :]) @ vector.mT
    return inverse / root[:, :, None] / root[:, None, :], full
