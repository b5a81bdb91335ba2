"""Sigmoid profiles: every subject rises once, by its own amount, at its own time and speed."""

from __future__ import annotations

import torch
from torch import Tensor

from dgmm.studies.base import Process, covariate_effect

__all__ = ["Sigmoid"]


class Sigmoid(Process):
    """f(age, sex, x) + 0.6 u0 + A / (1 + exp{-(t - c) / s}).

    log A = 1.2 + 0.3 u1,   c = 5 + 0.8 sex + 1.5 (0.3 u1 + 0.954 u2),   log s = -0.5 + 0.4 u3
    """

    name = "sigmoid"
    stream = 2
    sigma = 0.5
    dim = 4
    linear = False

    def profile(self, u: Tensor, t: Tensor, age: Tensor, sex: Tensor, x: Tensor) -> Tensor:
        level, size, place, speed = u.unsqueeze(-2).unbind(-1)
        height = torch.exp(1.2 + 0.3 * size)
        centre = 5 + 0.8 * sex + 1.5 * (0.3 * size + 0.954 * place)
        scale = torch.exp(-0.5 + 0.4 * speed)
        rise = height * torch.sigmoid((t - centre) / scale)
        return covariate_effect(age, sex, x) + 0.6 * level + rise
