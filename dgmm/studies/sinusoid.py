"""Sinusoidal profiles: amplitude, period, phase, level and trend of every subject's own."""

from __future__ import annotations

import torch
from torch import Tensor

from dgmm.studies.base import Process, covariate_effect

__all__ = ["Sinusoid"]


class Sinusoid(Process):
    """f(age, sex, x) + 0.6 u0 + 0.12 u4 t + A sin(2 pi t / P + 0.8 u3).

    log A = 0.3 + 0.35 u1,   log P = 1.609 + 0.12 u2
    """

    name = "sinusoid"
    stream = 3
    sigma = 0.6
    dim = 5
    linear = False

    def profile(self, u: Tensor, t: Tensor, age: Tensor, sex: Tensor, x: Tensor) -> Tensor:
        level, size, pace, phase, trend = u.unsqueeze(-2).unbind(-1)
        amplitude = torch.exp(0.3 + 0.35 * size)
        period = torch.exp(1.609 + 0.12 * pace)
        wave = amplitude * torch.sin(2 * torch.pi * t / period + 0.8 * phase)
        return covariate_effect(age, sex, x) + 0.6 * level + 0.12 * trend * t + wave
