"""The log-likelihood without random effects, at its maximum."""

from __future__ import annotations

import numpy as np
import torch
from scipy import optimize

from dgmm.model import Model
from dgmm.numerics.walled import Walled
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta

__all__ = ["at_zero"]


def at_zero(model: Model, theta: Theta, observed: Panel) -> float:
    """max sum_i log p(y_i | b = 0) over beta and extra parameters."""
    shapes = model.packing.shapes
    own = [f"{one.key}{name}" for one in model.outcomes for name in ("beta", "extra")]
    packing = Packing(
        {n: shape for n, shape in shapes.items() if n in (*own, "shared", "residual")}
    )
    blocks = list(observed.blocks())

    def negative(vector: np.ndarray) -> tuple[float, np.ndarray]:
        x = torch.from_numpy(vector).requires_grad_()
        ready = model.prepare({**theta, **packing.unpack(x)})
        total = torch.zeros((), dtype=torch.float64)
        for block in blocks:
            b = torch.zeros(len(block.subjects), model.k, dtype=torch.float64)
            total = total - model.log_likelihood(ready, b, block).sum()
        (slope,) = torch.autograd.grad(total, x)
        return float(total.detach()), slope.numpy()

    start = packing.pack(theta).detach().numpy()
    options = {"ftol": 1e-14, "gtol": 1e-6, "maxiter": 500}
    found = optimize.minimize(Walled(negative), start, jac=True, method="L-BFGS-B", options=options)
    return -float(found.fun)
