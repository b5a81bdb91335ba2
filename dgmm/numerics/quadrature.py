"""Node rules: tables of standardised draws e and log weights lw.

Each rule turns an integral over b = m + R e into a weighted sum,

    integral f(b) db  ~  sum_m exp(lw_m) f(m + R e_m) |R|,

where lw_m is the log weight of the node minus the log base density at e_m.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy import special
from torch import Tensor

__all__ = [
    "MOST_DIMENSIONS",
    "Nodes",
    "gauss_hermite",
    "keyed_uniforms",
    "log_t",
    "normal_rule",
    "sigma_points",
    "sobol_gaussian",
    "sobol_normal",
    "sobol_t",
    "sphere",
    "spherical_radial",
    "wide_rule",
]

NODES, NARROW = 61, 3.0
"""Gauss-Hermite nodes of an expectation over the population, and the spread up to which they do."""

MOST = 4000
"""Equidistant nodes at most: enough for a spread of 54 on the scale of a logit."""


class Nodes(NamedTuple):
    """e: (M, n or 1, k) standardised draws; log_weight: (M, n or 1)."""

    e: Tensor
    log_weight: Tensor

    def rows(self, subjects: Tensor) -> Nodes:
        """The nodes of some subjects (shared rules are returned as they are)."""
        if self.e.shape[1] == 1:
            return self
        return Nodes(self.e[:, subjects], self.log_weight[:, subjects])


def _tensor_product(points: np.ndarray, log_weight: np.ndarray, k: int) -> Nodes:
    axes = np.meshgrid(*[points] * k, indexing="ij")
    logs = np.meshgrid(*[log_weight] * k, indexing="ij")
    e = np.stack([axis.ravel() for axis in axes], axis=-1)
    total = np.sum([log.ravel() for log in logs], axis=0)
    return Nodes(torch.from_numpy(e)[:, None, :], torch.from_numpy(total)[:, None])


def gauss_hermite(k: int, points: int) -> Nodes:
    """Product Gauss-Hermite rule with ``points`` nodes in each of k dimensions."""
    x, weight = special.roots_hermitenorm(points)
    keep = weight > 0  # the outermost weights of long rules underflow: they carry nothing
    return _tensor_product(x[keep], np.log(weight[keep]) + 0.5 * x[keep] ** 2, k)


def normal_rule(points: int) -> tuple[Tensor, Tensor]:
    """Nodes of N(0, 1) and their weights, which sum to one, (M, 1) each."""
    nodes = gauss_hermite(1, points)
    return nodes.e[..., 0], torch.softmax(nodes.log_weight - 0.5 * nodes.e[..., 0].square(), 0)


def wide_rule(spread: float) -> tuple[Tensor, Tensor]:
    """A rule for E h(m + s z), z ~ N(0, 1), s at most ``spread``: nodes and weights, (M, 1) each.

    h is as smooth as the inverse of a logit, whose nearest singularity is pi i off the real line,
    and grows no faster than exp. Gauss-Hermite nodes have the distance pi / (2 M)^(1/2) and M that
    is enough for s up to 3 is not for 10; beyond, equidistant nodes (the trapezoidal rule) at
    pi^2 / 12 s, whose error is exp(-24), to 8 standard deviations on either side of where exp(s z)
    has its mass. Trefethen and Weideman (2014), SIAM Review 56, 385-458.
    """
    if spread <= NARROW:
        return normal_rule(NODES)
    reach = 8.0 + spread
    half = min(math.ceil(12 * spread * reach / math.pi**2), MOST // 2)
    z = torch.linspace(-reach, reach, 2 * half + 1, dtype=torch.float64)[:, None]
    return z, torch.softmax(-0.5 * z.square(), 0)


def sigma_points(k: int) -> Tensor:
    """2k points +-sqrt(k) e_j of equal weight, (2k, k): exact for N(0, I_k) up to third moments.

    The spherical rule of degree 3: Stroud (1971), Approximate Calculation of Multiple Integrals.
    """
    axes = math.sqrt(k) * torch.eye(k, dtype=torch.float64)
    return torch.cat([axes, -axes])


def sphere(k: int, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (M, k) on the unit sphere and their positive weights, which sum to one.

    Degree 5: +-e_i and (+-1, ..., +-1) / sqrt k. Degree 7, up to seven dimensions, also
    (+-e_i +- e_j) / sqrt 2. The weights of the three orbits are those that integrate all
    monomials up to the degree: Stroud (1971), Approximate Calculation of Multiple Integrals, ch. 8.

    Raises:
        ValueError: the degree is another, or a weight would not be positive.
    """
    if degree not in (5, 7) or (degree == 7 and k > 7):
        raise ValueError(f"no positive rule of degree {degree} on the sphere in {k} dimensions")
    axes = np.concatenate([np.eye(k), -np.eye(k)])
    corners = np.array(list(itertools.product((-1.0, 1.0), repeat=k))) / math.sqrt(k)
    if degree == 5:
        orbits, total = [axes, corners], np.array([2, k]) / (k + 2)
    else:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=2))) / math.sqrt(2)
        pairs = [signs @ np.eye(k)[[i, j]] for i, j in itertools.combinations(range(k), 2)]
        orbits = [axes, np.concatenate(pairs), corners]
        total = np.array([16 - 2 * k, 8 * (k - 1), k**2]) / ((k + 2) * (k + 4))
    sizes = [len(orbit) for orbit in orbits]
    return np.concatenate(orbits), np.repeat(total / sizes, sizes)


def spherical_radial(
    n: int,
    k: int,
    degree: int,
    radii: int,
    rng: np.random.Generator,
    keys: Sequence[int] | None = None,
) -> Nodes:
    """Rule for N(0, I_k) of spheres with as many radii, each turned at random for every subject.

    The squared radii are Gauss-Laguerre nodes for chi^2_k / 2, exact up to degree 4 radii - 2. A
    rule that all subjects share would make their errors add up. Genz and Monahan (1999),
    Journal of Computational and Applied Mathematics 112, 71-90.
    """
    points, weight = sphere(k, degree)
    half, mass = special.roots_genlaguerre(radii, k / 2 - 1)
    shape = (radii, k, k)
    if keys is None:
        normal = rng.normal(size=(n, *shape))
    else:  # the nodes of a subject do not depend on who else is there
        normal = np.stack([np.random.default_rng([89, key]).normal(size=shape) for key in keys])
    Q, R = np.linalg.qr(normal)
    Q = Q * np.sign(np.diagonal(R, axis1=-2, axis2=-1))[..., None, :]  # uniform over rotations
    e = np.einsum("r,mk,nrkl->rmnl", np.sqrt(2 * half), points, Q).reshape(-1, n, k)
    log_weight = np.log(np.multiply.outer(mass / mass.sum(), weight)).reshape(-1, 1)
    density = -0.5 * np.square(e).sum(-1) - 0.5 * k * math.log(2 * math.pi)
    return Nodes(torch.from_numpy(e), torch.from_numpy(log_weight - density))


def _shifted_sobol(
    n: int,
    dimensions: int,
    draws: int,
    rng: np.random.Generator,
    keys: Sequence[int] | None = None,
) -> np.ndarray:
    """One Sobol set, digitally shifted for each subject: uniforms of shape (draws, n, dimensions).

    A set shared by all subjects makes their errors add up; the digital shift (exclusive or of the
    binary digits) keeps the net structure and makes subjects independent. Dimensions beyond the
    21201 of a Sobol set, the white noise of a long path, are plain random numbers.
    """
    bits = 30
    from scipy.stats import qmc  # heavy: loaded when something is sampled

    engine = qmc.Sobol(min(dimensions, qmc.Sobol.MAXDIM), scramble=True, bits=bits, rng=rng)
    base = (engine.random(draws) * 2**bits).astype(np.int64)
    if dimensions > qmc.Sobol.MAXDIM:
        more = (draws, dimensions - qmc.Sobol.MAXDIM)
        base = np.concatenate([base, rng.integers(0, 2**bits, more, dtype=np.int64)], axis=1)
    if keys is None:
        shift = rng.integers(0, 2**bits, size=(n, dimensions), dtype=np.int64)
    else:  # the draws of a subject do not depend on who else is there
        rows = [np.random.default_rng([97, key]).integers(0, 2**bits, dimensions) for key in keys]
        shift = np.array(rows, dtype=np.int64).reshape(n, dimensions)
    return (np.bitwise_xor(base[:, None, :], shift[None]) + 0.5) / 2**bits


def sobol_t(
    n: int,
    k: int,
    draws: int,
    rng: np.random.Generator,
    df: float = 5.0,
    keys: Sequence[int] | None = None,
) -> Nodes:
    """Quasi-random draws from the k-variate t with ``df`` degrees of freedom, new for each subject.

    Uses k + 1 Sobol dimensions; draws should be a power of two.
    """
    u = _shifted_sobol(n, k + 1, draws, rng, keys)
    mixing = special.gammaincinv(df / 2, u[..., :1]) * 2 / df
    e = special.ndtri(u[..., 1:]) / np.sqrt(mixing)
    draws_of_t = torch.from_numpy(e)
    return Nodes(draws_of_t, -math.log(draws) - log_t(draws_of_t, df))


def log_t(e: Tensor, df: float) -> Tensor:
    """Log density of the standard k-variate t with ``df`` degrees of freedom, e (..., k)."""
    k = e.shape[-1]
    constant = (
        special.gammaln((df + k) / 2) - special.gammaln(df / 2) - 0.5 * k * math.log(df * math.pi)
    )
    return constant - 0.5 * (df + k) * torch.log1p(e.square().sum(-1) / df)


@lru_cache(maxsize=8)
def _scrambled(dimensions: int, draws: int, seed: int) -> np.ndarray:
    """A scrambled Sobol set in binary digits, (draws, dimensions)."""
    from scipy.stats import qmc  # heavy: loaded when something is sampled

    rng = np.random.default_rng([seed, 101])
    engine = qmc.Sobol(dimensions, scramble=True, bits=30, rng=rng)
    found: np.ndarray = (engine.random(draws) * 2**30).astype(np.int64)
    return found


MOST_DIMENSIONS = 2_000
"""Dimensions up to which draws for single subjects are quasi-random."""


def keyed_uniforms(keys: Sequence[int], dimensions: int, draws: int, seed: int) -> Tensor:
    """Quasi-random uniforms of subjects by their keys, (draws, n, dimensions).

    One Sobol set with digital shifts from a hash of key, dimension and seed: those of a subject do
    not depend on who else is there, and 100,000 subjects cost no generator each. The hash is
    splitmix64: Steele, Lea and Flood (2014), OOPSLA.
    """
    bits, base = 30, _scrambled(dimensions, draws, seed)
    places = np.arange(1, dimensions + 1, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03)
    start = np.asarray(keys, dtype=np.uint64)[:, None] ^ np.uint64(seed % 2**32 << 32)
    x = (start + places) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    shift = ((x ^ (x >> np.uint64(31))) >> np.uint64(64 - bits)).astype(np.int64)
    return torch.from_numpy((np.bitwise_xor(base[:, None], shift) + 0.5) / 2**bits)


def sobol_gaussian(n: int, k: int, draws: int, rng: np.random.Generator) -> Tensor:
    """Quasi-random draws from N(0, I_k), new for each subject, shape (draws, n, k).

    In more than :data:`MOST_DIMENSIONS` they are plain random draws: to scramble so many takes
    longer than all that is done with them.
    """
    if k > MOST_DIMENSIONS:
        return torch.from_numpy(rng.standard_normal((draws, n, k)))
    return torch.from_numpy(special.ndtri(_shifted_sobol(n, k, draws, rng)))


def sobol_normal(k: int, draws: int, seed: int) -> Tensor:
    """Quasi-random draws from N(0, I_k) in antithetic pairs, shape (draws, k); mean exactly 0."""
    u = _shifted_sobol(1, k, draws // 2, np.random.default_rng(seed))[:, 0]
    half = torch.from_numpy(special.ndtri(u))
    return torch.cat([half, -half])
