"""Kenward and Roger's covariance and degrees of freedom of Gaussian linear mixed models by REML.

With V = sum_i gamma_i G_i linear in the variances and covariances gamma, Phi = (X'V^-1 X)^-1,

    P_i = -X'V^-1 G_i V^-1 X,   Q_ij = X'V^-1 G_i V^-1 G_j V^-1 X,   W = var(gamma-hat)
    Phi_A = Phi + 2 Phi {sum_ij W_ij (Q_ij - P_i Phi P_j)} Phi

W is twice the inverse of tr(V^-1 G_i V^-1 G_j) - 2 tr(Phi Q_ij) + tr(Phi P_i Phi P_j), the expected
information of the restricted likelihood. Of L beta = 0 the statistic and its denominator match two
moments of F. Kenward and Roger (1997), Biometrics 53, 983-997; Halekoh and Hojsgaard (2014), J.
Statistical Software 59(9), sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.inference.small_samples import Denominator, SmallSamples
from dgmm.model import Model
from dgmm.panel import Panel, Rows
from dgmm.parameters import Theta, part

__all__ = ["KenwardRoger", "kenward_roger"]

MOST_ROWS = 4_000
"""Rows of crossed factors, whose V is one dense matrix."""

ZERO = 1e-10
"""A moment below this is rounding."""


@dataclass(frozen=True)
class KenwardRoger(SmallSamples):
    """Phi_A, with what its degrees of freedom need."""

    covariance: np.ndarray  # (p, p) Phi_A
    plain: np.ndarray  # (p, p) Phi
    slopes: np.ndarray  # (v, p, p) P_i
    uncertainty: np.ndarray  # (v, v) W

    words = "Kenward-Roger"
    form = "GLS form with Kenward and Roger's correction for estimated variances"

    def df(self, contrast: np.ndarray) -> float:
        """Denominator degrees of freedom of one contrast (p,)."""
        return self.joint(contrast[None]).df

    def joint(self, L: np.ndarray) -> Denominator:
        """Degrees of freedom and factor of the F test of L beta = 0, L (r, p)."""
        value, vector = np.linalg.eigh(L @ self.plain @ L.T)
        kept = value > 1e-10 * value[-1]
        rows = vector.T[kept] @ L
        q, half = len(rows), np.linalg.solve(rows @ self.plain @ rows.T, rows @ self.plain)
        moved = [half @ P @ self.plain @ rows.T for P in self.slopes]
        traces = np.array([np.trace(one) for one in moved])
        crossed = np.array([[np.sum(one * other.T) for other in moved] for one in moved])
        A1 = float(traces @ self.uncertainty @ traces)
        A2 = float((self.uncertainty * crossed).sum())
        return _matched(A1, A2, q)


def _matched(A1: float, A2: float, q: int) -> Denominator:
    """Section 3.2 of Halekoh and Hojsgaard, with their rules for vanishing moments."""
    if abs(A2) < ZERO:
        return Denominator(np.inf, 1.0)
    B = (A1 + 6 * A2) / (2 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    below = 3 * q + 2 * (1 - g)
    c1, c2, c3 = g / below, (q - g) / below, (q + 2 - g) / below
    V0, V1, V2 = 1 + c1 * B, 1 - c2 * B, 1 - c3 * B
    V0 = 0.0 if abs(V0) < ZERO else V0
    ratio = 1.0 if abs(1 - A2 / q) < ZERO and abs(V1) < ZERO else (1 - A2 / q) / V1
    rho = ratio**2 * V0 / V2 / q
    df = 4 + (q + 2) / (q * rho - 1)
    factor = 1.0 if abs(df - 2) < 1e-2 else df * (1 - A2 / q) / (df - 2)
    return Denominator(float(df), float(factor))


def kenward_roger(done: Estimate) -> KenwardRoger:
    """The approximation of a REML fit.

    Raises:
        ValueError: another fit, a covariance that is not linear in its parameters, or crossed
            factors over too many rows.
    """
    model, panel = done.model, done.observed
    if done.method != "reml" or done.likelihood.variance_moments(done.theta) is None:
        raise ValueError(
            "Kenward and Roger's tests are for Gaussian linear mixed models fitted by "
            f"method='reml'; this fit has family {model.family.name!r} and method={done.method!r}"
        )
    curved = [one.label for one in model.latents if not one.by_columns or one.by_reported]
    if curved:
        raise ValueError(
            "Kenward and Roger's tests need a covariance that is linear in its parameters, and "
            f"that of ({curved[0]}) is not; use df='satterthwaite'"
        )
    if panel.several and panel.n_rows > MOST_ROWS:
        raise ValueError(
            f"Kenward and Roger's tests of crossed factors need a matrix of {panel.n_rows} rows "
            f"and columns, more than {MOST_ROWS}; use df='satterthwaite'"
        )
    C, gls, crossed, gram = _sums(done)
    Phi = np.linalg.inv(gls)
    moved = Phi @ C
    information = gram - 2 * np.einsum("ab,ijab->ij", Phi, crossed)
    information += np.einsum("iab,jba->ij", moved, moved)
    W = 2 * np.linalg.pinv(information, rcond=1e-12, hermitian=True)
    inner = np.einsum("ij,ijab->ab", W, crossed) - np.einsum("ij,iab,jbc->ac", W, C, moved)
    adjusted = Phi + 2 * Phi @ inner @ Phi
    return KenwardRoger(0.5 * (adjusted + adjusted.T), Phi, -C, W)


@torch.no_grad()
def _sums(done: Estimate) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """-P (v, p, p), X'V^-1 X (p, p), Q (v, v, p, p) and tr(V^-1 G_i V^-1 G_j), (v, v)."""
    model, theta = done.model, done.theta
    ready, found = model.prepare(theta), []
    for rows, mask, same in _groups(model, done.observed):
        G = _components(model, rows, mask, same)
        V = _variance(model, ready, rows, mask, same)
        root = torch.linalg.cholesky(V)
        X = rows.X * mask[..., None]
        inner = torch.cholesky_solve(X, root)  # V^-1 X
        H = torch.stack([torch.cholesky_solve(one, root) for one in G])  # V^-1 G_i
        GX = torch.stack([one @ inner for one in G])
        HX = torch.cholesky_solve(GX, root)  # V^-1 G_i V^-1 X
        own = (
            torch.einsum("njp,injq->ipq", inner, GX),
            torch.einsum("njp,njq->pq", X, inner),
            torch.einsum("iajp,kajq->ikpq", GX, HX),
            torch.einsum("iajb,kabj->ik", H, H),
        )
        found.append(own)
    C, gls, crossed, gram = (
        torch.stack(parts).sum(0).numpy() for parts in zip(*found, strict=True)
    )
    return C, gls, crossed, gram


def _groups(model: Model, panel: Panel) -> Iterator[tuple[Rows, Tensor, list[Tensor]]]:
    """Rows (n, J) that are independent of all others, with masks of real rows and of levels.

    The last, one per latent term: (n, J, J) where two rows share its random effects.
    """
    if not panel.several:
        for block in panel.blocks():
            both = block.mask[:, :, None] & block.mask[:, None, :]
            yield block.rows, block.mask, [both.double()] * len(model.latents)
        return
    rows = panel.rows.take(torch.arange(panel.n_rows)[None])
    factor_of = {i: f for f, one in enumerate(panel.factors(len(model.latents))) for i in one.terms}
    same = [rows.level[factor_of[i]] for i in range(len(model.latents))]
    mask = torch.ones(1, panel.n_rows, dtype=torch.bool)
    yield rows, mask, [(one[:, :, None] == one[:, None, :]).double() for one in same]


def _components(model: Model, rows: Rows, mask: Tensor, same: list[Tensor]) -> list[Tensor]:
    """G_i, (n, J, J): of every variance and covariance of the random effects, of the residual."""
    found = []
    for T, latent, shared in zip(rows.T, model.latents, same, strict=True):
        for block in latent.blocks():
            for place, a in enumerate(block):
                for b in block[: place + 1]:
                    G = T[..., a][:, :, None] * T[..., b][:, None, :]
                    found.append(shared * (G if a == b else G + G.mT))
    found.append(torch.diag_embed(mask / rows.data.weights))
    return found


def _variance(model: Model, ready: Theta, rows: Rows, mask: Tensor, same: list[Tensor]) -> Tensor:
    """V, (n, J, J); a row of padding is independent with variance 1."""
    zero = torch.zeros_like(rows.offset)
    residual = model.family.variance(zero, rows.data, model.extra(ready, rows))
    V = torch.diag_embed(torch.where(mask, residual, 1.0))
    for i, (latent, shared) in enumerate(zip(model.latents, same, strict=True)):
        Z = rows.T[i] @ latent.loadings(part(ready, f"latent{i + 1}."))
        V = V + shared * (Z @ Z.mT)
    return V
