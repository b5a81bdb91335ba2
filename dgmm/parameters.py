"""theta as named tensors and as one vector: pack, unpack, select."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Packing", "Theta", "part"]

Theta = dict[str, Tensor]


def part(theta: Mapping[str, Tensor], prefix: str) -> Theta:
    """The entries whose names start with ``prefix``, without it."""
    return {name[len(prefix) :]: v for name, v in theta.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class Packing:
    """The order and the shapes of some named parameters inside a vector."""

    shapes: Mapping[str, tuple[int, ...]]

    @property
    def size(self) -> int:
        """Length of the vector."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def pack(self, theta: Mapping[str, Tensor]) -> Tensor:
        """The vector of the named parameters, (P,)."""
        if not self.shapes:
            return torch.zeros(0, dtype=torch.float64)
        return torch.cat([theta[name].reshape(-1) for name in self.shapes])

    def unpack(self, vector: Tensor) -> Theta:
        """Named views of a vector (..., P)."""
        theta, first = {}, 0
        for name, shape in self.shapes.items():
            size = math.prod(shape)
            part = vector[..., first : first + size]
            theta[name] = part.reshape(*vector.shape[:-1], *shape)
            first += size
        return theta

    def positions(self, names: Iterable[str]) -> Tensor:
        """Positions of the named parameters in the vector."""
        wanted, chosen, first = set(names), [], 0
        for name, shape in self.shapes.items():
            size = math.prod(shape)
            if name in wanted:
                chosen.append(torch.arange(first, first + size))
            first += size
        return torch.cat(chosen) if chosen else torch.zeros(0, dtype=torch.long)

    def places(self, some: Packing) -> Tensor:
        """Positions in the vector of the entries of another packing, in the order of that."""
        found = [self.positions([name]) for name in some.shapes]
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.long)

    def only(self, names: Iterable[str]) -> Packing:
        """The packing of some of the parameters, in the same order."""
        wanted = set(names)
        return Packing({name: shape for name, shape in self.shapes.items() if name in wanted})
