"""Spheres around b | y, turned at random: the rule of searches in four to seven dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dgmm.likelihood.rules.base import NodeRule
from dgmm.numerics.quadrature import Nodes, sphere, spherical_radial

__all__ = ["Spherical"]

DIMENSIONS = range(4, 8)
"""Below, product rules take fewer nodes; above, weights are negative or spheres have many."""

LADDER = ((5, 2), (7, 2), (7, 3))
"""Degree on the sphere and number of radii."""


@dataclass(frozen=True)
class Spherical(NodeRule):
    """Rule of some degree on each of ``radii`` spheres.

    In five dimensions 84 nodes (degree 5, two radii) are as near as the 243 of a product rule with
    three points per dimension, and 246 (degree 7, three radii) as near as 1,024.
    """

    degree: int
    radii: int

    name = "spherical"

    @classmethod
    def within(cls, k: int, usual: float, most: float) -> Spherical | None:
        """The finest of the ladder with a usual number of nodes, else the coarsest if it has at
        most so many; None without one.
        """
        if k not in DIMENSIONS:
            return None
        rules = [cls(*one) for one in LADDER]
        fine = [rule for rule in rules if rule.count(k) <= usual]
        if fine:
            return fine[-1]
        return rules[0] if rules[0].count(k) <= most else None

    def nodes(
        self, k: int, n: int, rng: np.random.Generator, keys: Sequence[int] | None = None
    ) -> Nodes:
        return spherical_radial(n, k, self.degree, self.radii, rng, keys)

    def count(self, k: int) -> int:
        return self.radii * len(sphere(k, self.degree)[1])

    def describe(self, k: int) -> str:
        return f"{self.radii} spheres of degree {self.degree} per subject, turned at random"
