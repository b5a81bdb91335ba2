"""The true model of a study: its process as a latent structure without parameters.

So the densities, modes and panels of the package serve the truth as they serve a fitted model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.design import LatentBlock, build_design
from dgmm.families import find as find_family
from dgmm.formula import parse_formula
from dgmm.latent import Latent
from dgmm.model import Model, build_model
from dgmm.networks import Weights
from dgmm.panel import LatentRows, Panel
from dgmm.parameters import Theta
from dgmm.studies.base import Process

__all__ = ["Truth", "true_model"]

INPUTS = ("t", "age", "sex", "x")


class Truth(NamedTuple):
    """The true model, its theta, all rows of a study by subject and where they stand in it."""

    model: Model
    theta: Theta
    panel: Panel
    order: np.ndarray  # (N,) position in the frame of every row of the panel


def true_model(process: Process, data: pd.DataFrame) -> Truth:
    """The model that simulated ``data``: mu1 = 0, mu2 the profile, sigma known."""
    design = build_design(parse_formula(f"y ~ 1 + (0 + {' + '.join(INPUTS)} | id)"), data)
    latent = TrueProfile(process, torch.eye(len(INPUTS), dtype=torch.float64))
    model = replace(build_model(design, find_family("gaussian"), 1.0), latents=(latent,))
    theta = {
        "beta": torch.zeros(1, dtype=torch.float64),
        "extra": torch.tensor([math.log(process.sigma)], dtype=torch.float64),
    }
    return Truth(model, theta, Panel.from_design(design), design.rows)


@dataclass(frozen=True)
class TrueProfile(Latent):
    """mu2 = the profile of a process, covariates included; not centred, nothing to estimate."""

    process: Process
    frame: Tensor

    name = "true_profile"
    label = "the true profile"
    names = INPUTS
    linear = False

    @classmethod
    def build(cls, block: LatentBlock, unit: float) -> TrueProfile:
        raise ValueError("the true profile is made from a process, not from a formula")

    @property
    def dim(self) -> int:  # type: ignore[override]
        """k, the number of random effects of the process."""
        return self.process.dim

    def layers(self) -> str:
        return ""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {}

    def initial(self, generator: torch.Generator) -> Weights:
        return {}

    def prepare(self, weights: Weights) -> Weights:
        return {}

    def effect(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        return self.process.profile(b, *rows.T.unbind(-1))

    def jacobian(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        # every measurement as a subject of its own: one backward pass gives all derivatives
        n, J, q = rows.T.shape
        each = rows._replace(T=rows.T.reshape(-1, 1, q))
        own = b.detach().repeat_interleave(J, dim=0).requires_grad_()
        with torch.enable_grad():
            total = self.effect(weights, own, each).sum()
        return torch.autograd.grad(total, own)[0].reshape(n, J, self.dim)

    def loadings(self, weights: Weights) -> Tensor:
        return torch.zeros(len(self.names), self.dim, dtype=torch.float64)
