"""dnn(x; weights): dense networks as pure functions of named weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dgmm.runtime.registry import suggestion

__all__ = ["ACTIVATIONS", "Dense", "Sweep", "Weights"]

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


def _tanh_pair(x: Tensor) -> tuple[Tensor, Tensor]:
    value = torch.from_numpy(np.tanh(x.numpy()))  # a fifth of the time of torch.tanh in float64
    return value, 1 - value.square()


def _pair(name: str) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    step, slope = ACTIVATIONS[name]
    return lambda x: (step(x), slope(x))


PAIRS = {name: _pair(name) for name in ACTIVATIONS} | {"tanh": _tanh_pair}
"""s and its derivative at once, without a graph."""


@dataclass(frozen=True)
class Sweep:
    """A network with one output at some inputs, and its derivatives in the weights.

    With h_l what enters layer l and delta_l = df / d(output of layer l), df / dA_l = delta_l h_l'
    and df / da_l = delta_l. Weights are in the order of :meth:`Dense.shapes`.
    """

    value: Tensor  # (n,)
    network: Dense
    weights: Weights
    entering: tuple[Tensor, ...]  # h_1, h_2, ..., (n, size)
    slopes: tuple[Tensor, ...]  # s' of every hidden layer, (n, size)

    def _backwards(self, delta: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Layers from the last to the first with their delta, that of the output given (n, 1)."""
        layers = len(self.entering)
        for layer in range(layers, 0, -1):
            if layer < layers:
                A = self.network.matrix(self.weights, layer + 1)
                delta = (delta @ A) * self.slopes[layer - 1]
            yield layer, delta

    def pull(self, omega: Tensor) -> Tensor:
        """sum_j omega_j df_j / d weights, omega (n,), (P,)."""
        parts = []
        for layer, delta in self._backwards(omega[:, None]):
            if f"a{layer}" in self.weights:
                parts.append(delta.sum(0))
            gain = self.network.gain(layer)
            parts.append(gain * (delta.T @ self.entering[layer - 1]).reshape(-1))
        return torch.cat(parts[::-1])

    def jacobian(self) -> Tensor:
        """df / d weights, (n, P)."""
        size = sum(value.numel() for value in self.weights.values())
        J = torch.empty(len(self.value), size, dtype=torch.float64)
        last = size
        for layer, delta in self._backwards(torch.ones_like(self.value)[:, None]):
            entering = self.entering[layer - 1]
            if f"a{layer}" in self.weights:
                first = last - delta.shape[1]
                J[:, first:last] = delta
                last = first
            first = last - delta.shape[1] * entering.shape[1]
            block = J[:, first:last].unflatten(1, (delta.shape[1], entering.shape[1]))
            torch.mul(self.network.gain(layer) * delta[:, :, None], entering[:, None, :], out=block)
            last = first
        return J


@dataclass(frozen=True)
class Dense:
    """f(x) = c_L A_L s(c_{L-1} A_{L-1} s(... c_1 A_1 x + a_1 ...) + a_{L-1}) + a_L.

    s is the activation. The last layer has no intercept when ``bias`` is False: a network that is
    centred afterwards would carry an unidentified constant.

    sizes: (inputs, hidden ..., outputs).
    fan_in: c_l = 1 / sqrt(inputs of layer l), so that weights of order one, which is what one
    penalty for all layers asks for, give functions of order one whatever the width (Neal, 1996,
    Bayesian Learning for Neural Networks, chapter 2); else c_l = 1.
    """

    sizes: tuple[int, ...]
    activation: str = "tanh"
    bias: bool = True
    fan_in: bool = False

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
                spread = 1.0 if self.fan_in else 1.0 / math.sqrt(shape[1])
                if name == f"A{len(self.sizes) - 1}":
                    spread *= last
            else:
                spread = 0.5 if name != f"a{len(self.sizes) - 1}" else 0.0
            weights[name] = spread * torch.randn(shape, generator=generator, dtype=torch.float64)
        return weights

    def gain(self, layer: int) -> float:
        """c of a layer (1, 2, ...)."""
        return 1.0 / math.sqrt(self.sizes[layer - 1]) if self.fan_in else 1.0

    def matrix(self, weights: Weights, layer: int) -> Tensor:
        """c A of a layer (1, 2, ...)."""
        A = weights[f"A{layer}"]
        return self.gain(layer) * A if self.fan_in else A

    def __call__(self, weights: Weights, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return self._after(
            weights, functional.linear(x, self.matrix(weights, 1), weights.get("a1"))
        )

    def of_parts(self, weights: Weights, x: Tensor, shared: Tensor) -> Tensor:
        """f of (x, shared), (..., outputs): the first layer works on each of them by itself.

        ``shared`` may lack axes of x, such as draws: its part is then calculated once for all.
        """
        A, first = self.matrix(weights, 1), x.shape[-1]
        inner = functional.linear(shared, A[:, first:], weights.get("a1"))
        return self._after(weights, functional.linear(x, A[:, :first]) + inner)

    def _after(self, weights: Weights, x: Tensor) -> Tensor:
        """The layers after the first, whose output is x before the activation."""
        step, _ = ACTIVATIONS[self.activation]
        for layer in range(2, len(self.sizes)):
            A = self.matrix(weights, layer)
            x = functional.linear(step(x), A, weights.get(f"a{layer}"))
        return x

    def jacobian(self, weights: Weights, x: Tensor) -> Tensor:
        """d f / d x at x (..., inputs): (..., outputs, inputs), layer by layer in closed form."""
        step, slope = ACTIVATIONS[self.activation]
        J = self.matrix(weights, 1).expand(*x.shape[:-1], *weights["A1"].shape)
        for layer in range(1, len(self.sizes) - 1):
            x = functional.linear(x, self.matrix(weights, layer), weights.get(f"a{layer}"))
            J = self.matrix(weights, layer + 1) @ (slope(x)[..., None] * J)
            x = step(x)
        return J

    def sweep(self, weights: Weights, x: Tensor) -> Sweep:
        """f at x (n, inputs) for one output, with what its derivatives in the weights are made of.

        No graph: closed derivatives, several times faster than autograd.
        """
        layers, entering, slopes = len(self.sizes) - 1, [x], []
        for layer in range(1, layers):
            inner = functional.linear(
                entering[-1], self.matrix(weights, layer), weights[f"a{layer}"]
            )
            value, slope = PAIRS[self.activation](inner)
            entering.append(value)
            slopes.append(slope)
        last = functional.linear(
            entering[-1], self.matrix(weights, layers), weights.get(f"a{layers}")
        )
        return Sweep(last[:, 0], self, weights, tuple(entering), tuple(slopes))
