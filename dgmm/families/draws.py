"""Random numbers that the families share."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["log_gamma_draw", "uniform"]


def uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform on (0, 1), never 0."""
    draw = torch.rand(like.shape, generator=generator, dtype=like.dtype)
    return draw.clamp(min=torch.finfo(like.dtype).tiny)


def log_gamma_draw(shape: Tensor, generator: torch.Generator) -> Tensor:
    """log of a Gamma(shape, 1) variable; small shapes do not underflow: G(a) = G(a+1) U^(1/a)."""
    whole = shape.contiguous()
    bigger = torch._standard_gamma(whole + 1, generator=generator)
    return bigger.log() + uniform(whole, generator).log() / whole
