"""One outcome measured repeatedly: its family, the fixed part, the density of y given b.

    eta_ij = offset_ij + X_ij beta + networks + (random part),   y_ij | b_i ~ F(g^-1(eta_ij), extra)

The random part of eta and of an extra parameter is handed in: which latent structure enters which
predictor is known to the model alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgmm.families import Extra, Family, Observations
from dgmm.networks import FixedNetwork, Reference
from dgmm.panel import Block, Panel, Rows
from dgmm.parameters import Packing, Theta, part

__all__ = ["REFERENCE_ROWS", "Longitudinal", "PartPredictor", "standing"]

FARTHEST = 20.0
"""Largest working residual that a recursion reads, in units of the linear predictor."""

REFERENCE_ROWS = 20_000
"""Most rows over which networks are centred."""


def standing(
    family: Family, data: Observations, eta: Tensor, extra: Extra, unit: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Working residuals from eta and their standard deviation, in a unit."""
    residual = family.working_residual(data, eta, extra) / unit
    spread = family.information(data, eta, extra).rsqrt() / unit
    return residual.clamp(-FARTHEST, FARTHEST), spread


@dataclass(frozen=True)
class PartPredictor:
    """The linear predictor of an extra parameter of the family: "zi" or "dispersion"."""

    name: str
    position: int  # of the parameter in family.extra
    names: tuple[str, ...]  # its columns


@dataclass(frozen=True)
class Longitudinal:
    """The parameters of an outcome are ``key`` + "beta", "dnn1.A1", "extra" in theta.

    Coefficients that several outcomes have in common are those of "shared" at the places
    ``shared``; they are the last coordinates.
    """

    family: Family
    names: tuple[str, ...]  # (p,) linear coefficients
    basis: Tensor  # (p, p): beta = basis @ (theta["beta"], theta["shared"] at shared)
    unit: float  # scale of the linear predictor
    networks: tuple[FixedNetwork, ...]
    parts: tuple[PartPredictor, ...]
    reference: Reference
    key: str = ""
    name: str = ""  # of one among several
    shared: tuple[int, ...] = ()

    # -- parameters ------------------------------------------------------------------------------

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters of the mean."""
        own = len(self.names) - len(self.shared)
        shapes: dict[str, tuple[int, ...]] = {f"{self.key}beta": (own,)}
        for i, network in enumerate(self.networks, 1):
            shapes |= {f"{self.key}dnn{i}.{name}": s for name, s in network.shapes().items()}
        return shapes

    def direct(self) -> list[str]:
        """The parameters in which the mean is linear: beta, and the skips of the networks."""
        skips = [f"{self.key}dnn{i}.skip" for i in range(1, len(self.networks) + 1)]
        return [f"{self.key}beta", *skips]

    def extra_shape(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of the extra parameters."""
        return {f"{self.key}extra": (sum(self.extra_sizes),)}

    def beta(self, theta: Theta) -> Tensor:
        """Coefficients of the columns as the user wrote them."""
        return self.basis @ self.coordinates(theta)

    def coordinates(self, theta: Theta) -> Tensor:
        """The coefficients of the columns X basis, (p,): own ones, then those in common."""
        own = theta[f"{self.key}beta"]
        if not self.shared:
            return own
        return torch.cat([own, theta["shared"][list(self.shared)]])

    def places(self, packing: Packing) -> Tensor:
        """Where a packing has the coordinates, (p,)."""
        own = packing.positions([f"{self.key}beta"])
        if not self.shared:
            return own
        return torch.cat([own, packing.positions(["shared"])[list(self.shared)]])

    def penalised(self) -> dict[str, list[str]]:
        """Per network ("dnn1") its layers."""
        return {
            f"{self.key}dnn{i}": [f"{self.key}dnn{i}.{name}" for name in network.network.shapes()]
            for i, network in enumerate(self.networks, 1)
        }

    def ridges(self) -> dict[str, float]:
        """Penalty of every network."""
        return {f"{self.key}dnn{i}": one.ridge for i, one in enumerate(self.networks, 1)}

    def with_ridge(self, kappa: Mapping[str, float]) -> Longitudinal:
        """The outcome with other penalties for some networks."""
        networks = tuple(
            replace(network, ridge=kappa.get(f"{self.key}dnn{i}", network.ridge))
            for i, network in enumerate(self.networks, 1)
        )
        return replace(self, networks=networks)

    # -- the mean --------------------------------------------------------------------------------

    def prepare(self, theta: Theta) -> Theta:
        """gamma of every network: its least-squares coefficients on the columns it shares."""
        found = {}
        for i, network in enumerate(self.networks, 1):
            C = network.columns(self.reference.X)
            weights = part(theta, f"{self.key}dnn{i}.")
            f = network.raw(weights, self.reference.inputs[i - 1])
            found[f"{self.key}dnn{i}.gamma"] = torch.linalg.solve(C.T @ C, C.T @ f)
        return found

    def network_effect(self, ready: Theta, i: int, rows: Rows) -> Tensor:
        """The centred, orthogonal output of the i-th (0, 1, ...) network at some rows."""
        network = self.networks[i]
        inputs = rows.inputs[i]
        if rows.steady[i : i + 1] == (True,) and inputs.ndim == 3:  # once per subject is enough
            inputs = inputs[:, :1]
        f = network.raw(part(ready, f"{self.key}dnn{i + 1}."), inputs)
        return f - network.columns(rows.X) @ ready[f"{self.key}dnn{i + 1}.gamma"]

    def mu1(self, ready: Theta, rows: Rows) -> Tensor:
        """offset + X beta + networks, in the shape of the rows."""
        eta = rows.offset + rows.X @ self.beta(ready)
        for i in range(len(self.networks)):
            eta = eta + self.network_effect(ready, i, rows)
        return eta

    def standing(self, ready: Theta, rows: Rows) -> tuple[Tensor, Tensor]:
        """Working residuals from the fixed part and their standard deviation, in its unit."""
        eta, extra = self.mu1(ready, rows), self.extra(ready, rows, {})
        return standing(self.family, rows.data, eta, extra, self.unit)

    def log_density(self, eta: Tensor, extra: Extra, block: Block) -> Tensor:
        """log p(y_i | b_i), (..., n), at a linear predictor eta (..., n, J)."""
        density = self.family.log_density(block.rows.data, eta, extra)
        return torch.where(block.mask, density, 0.0).sum(-1)

    @property
    def quadratic(self) -> bool:
        """log p is quadratic in eta, with a curvature that b does not move."""
        return self.family.conjugate and self.family.noise and not self.parts

    def log_density_of(
        self, mu1: Tensor, columns: Tensor, coefficients: Tensor, extra: Extra, block: Block
    ) -> Tensor:
        """log p(y_i | b_i), (..., n), at eta = mu1 + Z c where it is quadratic in eta,

            log p(y_i; mu) + d' sum_j z_j w_j r_j - d' (sum_j w_j z_j z_j') d / 2,

        d = c - c0 from the mean c0 of the draws, mu = mu1 + Z c0, r the residuals at mu and w the
        information: draws of c cost nothing per row, and sums about c0 keep their digits.

        mu1: (n, J); columns: Z (n, J, c); coefficients: (..., n, c).
        """
        data, family = block.rows.data, self.family
        centre = coefficients.detach().mean(tuple(range(coefficients.ndim - 2)))
        mu = mu1 + (columns @ centre[..., None])[..., 0]
        weight = torch.where(block.mask, family.information(data, mu, extra), 0.0)[..., None]
        residual = family.working_residual(data, mu, extra)[..., None]
        weighted, away = weight * columns, coefficients - centre
        first = (weighted * residual).sum(1)
        half = 0.5 * torch.einsum("njc,njd->ncd", weighted, columns)
        slope = first - torch.einsum("...nc,ncd->...nd", away, half)
        return self.log_density(mu, extra, block) + (slope * away).sum(-1)

    # -- extra parameters ------------------------------------------------------------------------

    def extra(self, ready: Theta, rows: Rows, random: Mapping[int, Tensor]) -> Extra:
        """Extra parameters of the family: (R,), or (R, ..., J) when a part models one of them.

        random: what latent structures add to the r-th (1, 2, ...) of them.
        """
        coefficients = ready[f"{self.key}extra"]
        if not self.parts:
            return coefficients
        values = []
        columns = self.extra_designs(rows)
        for r, coefficient in enumerate(torch.split(coefficients, list(self.extra_sizes))):
            design = columns[r]
            value = coefficient[0] if design is None else design @ coefficient
            values.append(value + random[r + 1] if r + 1 in random else value)
        return torch.stack(torch.broadcast_tensors(*values))

    @property
    def extra_sizes(self) -> tuple[int, ...]:
        """Coefficients of every extra parameter, 1 where it is one number."""
        sizes = [1] * len(self.family.extra)
        for one in self.parts:
            sizes[one.position] = len(one.names)
        return tuple(sizes)

    def one_number(self, name: str) -> int | None:
        """Position among "extra" of an extra parameter that no part models; else None."""
        if name not in self.family.extra:
            return None
        at = self.family.extra.index(name)
        if any(one.position == at for one in self.parts):
            return None
        return sum(self.extra_sizes[:at])

    def extra_designs(self, rows: Rows) -> list[Tensor | None]:
        """Per extra parameter its columns (..., c), None where it is one number."""
        designs: list[Tensor | None] = [None] * len(self.family.extra)
        for one, Z in zip(self.parts, rows.Z, strict=True):
            designs[one.position] = Z
        return designs

    def spread_extra(self, start: Tensor, rows: Rows) -> Tensor:
        """Coefficients at which every row has the extra parameters ``start`` (R,)."""
        coefficients = []
        for value, Z in zip(start, self.extra_designs(rows), strict=True):
            if Z is None:
                coefficients.append(value.reshape(1))
            else:
                constant = value.expand(len(Z), 1).clone()
                coefficients.append(torch.linalg.lstsq(Z, constant).solution[:, 0])
        return torch.cat(coefficients) if coefficients else start

    # -- reparametrisation -----------------------------------------------------------------------

    def with_reference(self, panel: Panel, rows: int) -> Longitudinal:
        """Centre the networks over (at most ``rows`` evenly spaced rows of) a panel."""
        step = max(1, math.ceil(panel.n_rows / rows))
        kept = panel.rows.take(torch.arange(0, panel.n_rows, step))
        return replace(self, reference=Reference(kept.X, kept.inputs))

    def absorb(self, theta: Theta, other: Longitudinal) -> Theta:
        """theta of ``other``, which centres over another sample, for the same function of x."""
        if not self.networks:
            return theta
        gap = torch.zeros(len(self.names), dtype=torch.float64)
        old, new = other.prepare(theta), self.prepare(theta)
        for i, network in enumerate(self.networks, 1):
            shift = new[f"{self.key}dnn{i}.gamma"] - old[f"{self.key}dnn{i}.gamma"]
            if "(Intercept)" in self.names:
                gap[self.names.index("(Intercept)")] += shift[0]
            gap[list(network.shared)] += shift[1:]
        moved = theta[f"{self.key}beta"] + torch.linalg.solve(self.basis, gap)
        return {**theta, f"{self.key}beta": moved}
