"""Gated recurrent units as pure functions of named weights (Cho et al., 2014, EMNLP)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from dgmm.networks.dense import Weights

__all__ = ["Gated"]


@dataclass(frozen=True)
class Gated:
    """s' = u s + (1 - u) tanh(V_n x + r U_n s),   r, u = sigmoid(V x + U s).

    The rows of "input" (V) and "state" (U) are those of r, u and the proposal n.
    """

    inputs: int
    hidden: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights."""
        H = self.hidden
        return {"input": (3 * H, self.inputs), "state": (3 * H, H), "bias": (3 * H,)}

    def initial(self, generator: torch.Generator) -> Weights:
        """Draws with variances of one over the number of inputs."""
        H, drawn = self.hidden, {}
        for name, size in (("input", self.inputs), ("state", H)):
            draws = torch.randn(3 * H, size, generator=generator, dtype=torch.float64)
            drawn[name] = max(size, 1) ** -0.5 * draws
        return {**drawn, "bias": torch.zeros(3 * H, dtype=torch.float64)}

    def drive(self, weights: Weights, x: Tensor) -> Tensor:
        """What inputs x (..., inputs) put into the three gates, (..., 3 hidden)."""
        return linear(x, weights["input"], weights["bias"])

    def step(self, weights: Weights, drive: Tensor, state: Tensor) -> Tensor:
        """The next state from the :meth:`drive` of one row and the state (..., hidden)."""
        reset_in, update_in, new_in = drive.chunk(3, -1)
        reset_s, update_s, new_s = linear(state, weights["state"]).chunk(3, -1)
        update = torch.sigmoid(update_in + update_s)
        proposal = torch.tanh(new_in + torch.sigmoid(reset_in + reset_s) * new_s)
        return update * state + (1 - update) * proposal
