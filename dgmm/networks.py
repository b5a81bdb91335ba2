"""dnn(x; weights): dense networks as pure functions of named weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dgmm.registry import suggestion

__all__ = ["ACTIVATIONS", "Dense", "Weights"]

Weights = dict[str, Tensor]

Map = Callable[[Tensor], Tensor]


def _silu_slope(x: Tensor) -> Tensor:
    gate = torch.sigmoid(x)
    return gate * (1 + x * (1 - gate))


ACTIVATIONS: dict[str, tuple[Map, Map]] = {
    "tanh": (torch.tanh, lambda x: 1 - torch.tanh(x).square()),
    "softplus": (functional.softplus, torch.sigmoid),
    "silu": (functional.silu, _silu_slope),
    "relu": (torch.relu, lambda x: (x > 0).to(x.dtype)),
}
"""The activation s and its derivative, by name."""


@dataclass(frozen=True)
class Dense:
    """f(x) = A_L s(A_{L-1} s(... A_1 x + a_1 ...) + a_{L-1}) + a_L, with s the activation.

    sizes: (inputs, hidden ..., outputs). The last layer has no intercept when ``bias`` is False:
    a network that is centred afterwards would carry an unidentified constant.
    """

    sizes: tuple[int, ...]
    activation: str = "tanh"
    bias: bool = True

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"unknown activation {self.activation!r}"
                f"{suggestion(self.activation, list(ACTIVATIONS))} "
                f"Available: {', '.join(ACTIVATIONS)}."
            )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights: A1, a1, A2, ..."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, (inputs, outputs) in enumerate(
            zip(self.sizes[:-1], self.sizes[1:], strict=True), start=1
        ):
            shapes[f"A{layer}"] = (outputs, inputs)
            if self.bias or layer < len(self.sizes) - 1:
                shapes[f"a{layer}"] = (outputs,)
        return shapes

    def initial(self, generator: torch.Generator, last: float = 1.0) -> Weights:
        """Glorot-scaled draws; the last layer is multiplied by ``last`` (near 0: starts silent)."""
        weights = {}
        for name, shape in self.shapes().items():
            if name.startswith("A"):
                spread = 1.0 / math.sqrt(shape[1])
                if name == f"A{len(self.sizes) - 1}":
                    spread *= last
            else:
                spread = 0.5 if name != f"a{len(self.sizes) - 1}" else 0.0
            weights[name] = spread * torch.randn(shape, generator=generator, dtype=torch.float64)
        return weights

    def __call__(self, weights: Weights, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        step, _ = ACTIVATIONS[self.activation]
        layers = len(self.sizes) - 1
        for layer in range(1, layers + 1):
            x = functional.linear(x, weights[f"A{layer}"], weights.get(f"a{layer}"))
            if layer < layers:
                x = step(x)
        return x

    def jacobian(self, weights: Weights, x: Tensor) -> Tensor:
        """d f / d x at x (n, inputs): (n, outputs, inputs), layer by layer in closed form."""
        step, slope = ACTIVATIONS[self.activation]
        J = weights["A1"].expand(len(x), *weights["A1"].shape)
        for layer in range(1, len(self.sizes) - 1):
            x = functional.linear(x, weights[f"A{layer}"], weights.get(f"a{layer}"))
            J = weights[f"A{layer + 1}"] @ (slope(x)[..., None] * J)
            x = step(x)
        return J

    def weight_jacobian(self, weights: Weights, x: Tensor) -> Tensor:
        """d f / d weights at x (n, inputs) of a network with one output, (n, P), backwards.

        Columns in the order of :meth:`shapes`.
        """
        step, slope = ACTIVATIONS[self.activation]
        layers, entering, slopes = len(self.sizes) - 1, [x], []
        for layer in range(1, layers):
            inner = functional.linear(entering[-1], weights[f"A{layer}"], weights[f"a{layer}"])
            entering.append(step(inner))
            slopes.append(slope(inner))
        delta, blocks = torch.ones_like(x[:, :1]), []
        for layer in range(layers, 0, -1):
            if layer < layers:
                delta = (delta @ weights[f"A{layer + 1}"]) * slopes[layer - 1]
            if f"a{layer}" in weights:
                blocks.append(delta)
            blocks.append((delta[:, :, None] * entering[layer - 1][:, None, :]).flatten(1))
        return torch.cat(blocks[::-1], dim=1)
