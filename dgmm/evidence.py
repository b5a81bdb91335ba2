"""Ridge penalties chosen by evidence: kappa = edf / |w|^2, network by network.

edf is the trace of (F + kappa S)^-1 F over the penalised weights w of the network, F the empirical
information sum_i s_i s_i' of the marginal likelihood. After MacKay (1992), Neural Computation 4,
448-472. A network whose weights have less than one degree of freedom together keeps at least the
penalty it started with.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgmm.marginal import Importance, freeze
from dgmm.model import START_RIDGE, Model
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.polish import kappa_vector

__all__ = ["choose_ridge", "effective_df", "ridge_by_evidence"]

SMALLEST, LARGEST = 0.1, 1000.0
FEWEST = 50
ROUNDS = 4
DRAWS = 64


def effective_df(information: Tensor, kappa: Tensor) -> Tensor:
    """diag{(F + kappa S)^-1 F}: the share of each parameter that the data determine, (P,)."""
    total = information + torch.diag(kappa)
    damping = 1e-8 * total.diagonal().max()  # rotations of b are flat
    identity = torch.eye(len(total), dtype=torch.float64)
    factor = torch.linalg.cholesky(total + damping * identity)
    return torch.cholesky_solve(information, factor).diagonal()


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
    penalised = {name: own for name, own in model.penalised().items() if name.startswith("dnn")}
    if panel.n < FEWEST or not penalised.keys() & model.open_ridge:
        return model
    shapes = model.packing.shapes
    packing = model.packing.only(
        name for name in shapes if name == "beta" or name.startswith("dnn")
    )
    rng = np.random.default_rng([seed, 61])
    frozen = freeze(model, theta, panel, Importance(DRAWS), rng)
    scores = frozen.scores(theta)[:, model.packing.positions(packing.shapes)]
    information = scores.T @ scores
    for _ in range(ROUNDS):
        share = effective_df(information, kappa_vector(model, packing))
        ridge = {}
        for prefix, names in penalised.items():
            at = packing.positions(names)
            size = float(sum(theta[name].square().sum() for name in names))
            ridge[prefix] = ridge_by_evidence(float(share[at].sum()), size)
        model = model.with_ridge(ridge)
    return model
