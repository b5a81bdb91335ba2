"""Random numbers of several chains: every chain has streams of its own, whoever runs beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Streams"]

AHEAD = 65_536
"""Normal and uniform numbers of all chains together that are drawn at once."""

KINDS = ("normal", "uniform", "gamma")


@dataclass
class Streams:
    """Generators per chain, one for each kind of number.

    The numbers of a chain depend on its seed and number alone, and not on how many are drawn at
    once. Normal and uniform numbers are drawn ahead, for a call costs more than a number. All draws
    have the chains on their first axis.
    """

    generators: dict[str, list[np.random.Generator]]
    ahead: dict[str, np.ndarray] = field(default_factory=dict)  # (C, left)

    @classmethod
    def of(cls, seed: int, chains: Sequence[int]) -> Streams:
        """The streams of some chains (0, 1, ...) of a run."""
        seeds = [np.random.SeedSequence([seed, 101, chain]).spawn(len(KINDS)) for chain in chains]
        return cls(
            {
                kind: [np.random.Generator(np.random.PCG64(own[at])) for own in seeds]
                for at, kind in enumerate(KINDS)
            }
        )

    @property
    def chains(self) -> int:
        """C."""
        return len(self.generators["gamma"])

    def normal(self, *shape: int) -> np.ndarray:
        """Standard normal numbers, (C, *shape)."""
        return self._taken("normal", np.random.Generator.standard_normal, shape)

    def uniform(self, *shape: int) -> np.ndarray:
        """Uniform numbers in (0, 1), (C, *shape)."""
        return self._taken("uniform", np.random.Generator.random, shape)

    def gamma(self, shape: np.ndarray | float) -> np.ndarray:
        """Gamma numbers of scale 1 with these shape parameters (...), (C, ...)."""
        return np.array([one.standard_gamma(shape) for one in self.generators["gamma"]])

    def _taken(
        self, kind: str, draw: Callable[..., np.ndarray], shape: tuple[int, ...]
    ) -> np.ndarray:
        size, left = int(np.prod(shape)), self.ahead.get(kind)
        if left is None or left.shape[1] < size:
            more = max(AHEAD // self.chains, size)
            fresh = np.stack([draw(one, more) for one in self.generators[kind]])
            left = fresh if left is None else np.concatenate([left, fresh], axis=1)
        self.ahead[kind] = left[:, size:]
        return left[:, :size].reshape(self.chains, *shape)

    # -- to go on later ------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Where the streams stand: arrays, and what JSON can hold."""
        arrays = {kind: left.copy() for kind, left in self.ahead.items()}
        every = self.generators.items()
        return arrays, {kind: [one.bit_generator.state for one in own] for kind, own in every}

    @classmethod
    def at(cls, arrays: dict[str, np.ndarray], numbers: dict[str, Any]) -> Streams:
        """The streams as they stood."""
        return cls(
            {kind: [_generator(state) for state in own] for kind, own in numbers.items()},
            dict(arrays),
        )


def _generator(state: Any) -> np.random.Generator:
    bits = np.random.PCG64()
    bits.state = state
    return np.random.Generator(bits)
