"""Ridge penalties chosen by evidence: kappa = edf / |w|^2, network by network.

edf is the trace of (F + kappa S)^-1 F over the penalised weights w of the network, F the empirical
information sum_i s_i s_i' of the marginal likelihood. After MacKay (1992), Neural Computation 4,
448-472. A network whose weights have less than one degree of freedom together keeps at least the
penalty it started with.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from dgmm.likelihood import Importance, freeze
from dgmm.model import START_RIDGE, Model
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta

__all__ = ["choose_ridge", "effective_df", "ridge_by_evidence"]

SMALLEST, LARGEST = 1e-3, 1000.0
FEWEST = 50
ROUNDS = 4
DRAWS = 32


def effective_df(information: Tensor, kappa: Tensor) -> Tensor:
    """diag{(F + kappa S)^-1 F}: the share of each parameter that the data determine, (P,)."""
    damped = kappa + 1e-8 * (information.diagonal() + kappa).max()  # rotations of b are flat
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(information + torch.diag(damped)))
    return 1.0 - damped * inverse.diagonal()


def ridge_by_evidence(edf: float, size: float) -> float:
    """edf / |w|^2, ``size`` = |w|^2; a network not needed keeps at least its starting penalty."""
    kappa = edf / max(size, 1e-12)
    if edf < 1.0:  # nothing should draw it out of silence
        kappa = max(kappa, START_RIDGE)
    return float(np.clip(kappa, SMALLEST, LARGEST))


def choose_ridge(model: Model, theta: Theta, panel: Panel, seed: int) -> Model:
    """The model with the penalty of every fixed network whose ridge the user left open.

    With fewer than ``FEWEST`` subjects the empirical information is of too low a rank to judge by,
    and the starting penalty stays. Neural random effects have too many weights for it altogether:
    their penalty is chosen on held-out subjects.
    """
    penalised = {n: own for n, own in model.penalised().items() if not n.startswith("latent")}
    if panel.n < FEWEST or not penalised.keys() & model.open_ridge:
        return model
    free = model.direct()
    rng = np.random.default_rng([seed, 61])
    frozen = freeze(model, theta, panel, Importance(DRAWS), rng)
    wanted = model.packing.only([*free, *(name for own in penalised.values() for name in own)])
    grams = _grams(frozen.scores(theta, wanted), wanted, free, penalised)
    size = {
        prefix: float(sum(theta[name].square().sum() for name in names))
        for prefix, names in penalised.items()
    }
    for _ in range(ROUNDS):
        kappa = {prefix: model.ridge_of(prefix) for prefix in penalised}
        edf = _degrees(grams, kappa)
        model = model.with_ridge({p: ridge_by_evidence(edf[p], size[p]) for p in penalised})
    return model


def _grams(
    scores: Tensor, packing: Packing, free: list[str], penalised: Mapping[str, list[str]]
) -> dict[str, Tensor]:
    """S_g S_g' of every network, (m, m), with the unpenalised columns projected out of its scores.

    The scores (n, P) may be rotated: with more subjects than parameters P rows do.
    """
    S = torch.linalg.qr(scores, mode="r")[1] if len(scores) > scores.shape[1] else scores
    Q = torch.linalg.qr(S[:, packing.positions(free)])[0]
    S = S - Q @ (Q.T @ S)
    parts = {prefix: S[:, packing.positions(list(mine))] for prefix, mine in penalised.items()}
    return {prefix: part @ part.T for prefix, part in parts.items()}


def _degrees(grams: Mapping[str, Tensor], kappa: Mapping[str, float]) -> dict[str, float]:
    """tr{(F + kappa S)^-1 F} over the weights of every network, by the m x m matrices.

    tr = tr{(I + sum_g G_g / kappa_g)^-1 G_g / kappa_g}
    """
    scaled = {prefix: gram / max(kappa[prefix], SMALLEST) for prefix, gram in grams.items()}
    total = torch.stack(list(scaled.values())).sum(0)
    factor = torch.linalg.cholesky(total + torch.eye(len(total), dtype=total.dtype))
    inverse = torch.cholesky_inverse(factor)
    return {prefix: float((inverse * gram).sum()) for prefix, gram in scaled.items()}
