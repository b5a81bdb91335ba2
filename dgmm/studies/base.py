"""What a process of the simulation studies must supply: its profiles and its residual SD."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

__all__ = ["Process", "covariate_effect"]


class Process(ABC):
    """y_ij = profile(u_i, t_ij; age_i, sex_i, x_i) + e_ij, u_i ~ N(0, I_k), e ~ N(0, sigma^2)"""

    name: ClassVar[str]
    stream: ClassVar[int]  # sets its random numbers apart from those of the other processes
    sigma: ClassVar[float]
    dim: ClassVar[int]  # k
    linear: ClassVar[bool]  # profile linear in u: a linear mixed model

    @abstractmethod
    def profile(self, u: Tensor, t: Tensor, age: Tensor, sex: Tensor, x: Tensor) -> Tensor:
        """The subject-specific mean: u (..., n, k), all others (n, J) -> (..., n, J)."""


def covariate_effect(age: Tensor, sex: Tensor, x: Tensor) -> Tensor:
    """f = 1.5 sin(2 pi (age - 20) / 50) (1 if sex = 1, else -0.5) + 0.5 x^2."""
    wave = 1.5 * torch.sin(2 * torch.pi * (age - 20) / 50)
    return wave * torch.where(sex == 1, 1.0, -0.5) + 0.5 * x.square()
