"""Factor loadings: the random part of one outcome, times a number, in others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dgmm.design import LatentBlock
from dgmm.families.links import LINKS
from dgmm.latent.base import Latent, Unbounded
from dgmm.latent.records import Boundary, Component, Places
from dgmm.networks import Weights
from dgmm.panel import LatentRows

__all__ = ["Loaded"]

LEAST = 0.3
"""Standard deviation, in the scale of its column, at which a search begins at the least."""

FAR = 0.3
"""Size below which infinite loadings are tried."""

NOTHING = 1e-3
"""Size at which what is loaded adds next to nothing to the outcome that has it."""

AT_ZERO = 1e-4
"""Size of what is loaded, in its scale, below which loadings are not known."""


@dataclass(frozen=True)
class Loaded(Latent):
    """mu2 = T Lambda b in the outcome that has the part, and l_k T Lambda b in others.

    The loading of the first is one, which gives b its unit. Where Lambda is zero, so is every
    l_k T Lambda b, and the loadings are not identified.

    References:
        Rockwood and Jeon (2019), Multivariate Behavioral Research 54, 288-306.
    """

    inner: Latent
    taken: tuple[str, ...]  # the outcomes that take it, (L,)
    ratio: Tensor  # (L,) units of their predictors over that of the first

    name = "loaded"

    @classmethod
    def of(cls, inner: Latent, ratio: Mapping[str, float]) -> Loaded:
        """A part of one outcome in others, by name, with the ratio of their units to its own."""
        return cls(inner, tuple(ratio), torch.tensor(list(ratio.values()), dtype=torch.float64))

    @classmethod
    def build(cls, block: LatentBlock, unit: float) -> Loaded:
        raise ValueError("a loading belongs to several outcomes: load(p) in mv()")

    @property
    def linear(self) -> bool:  # type: ignore[override]
        return self.inner.linear

    @property
    def columnwise(self) -> bool:  # type: ignore[override]
        return self.inner.columnwise

    @property
    def label(self) -> str:  # type: ignore[override]
        return self.inner.label

    @property
    def dim(self) -> int:  # type: ignore[override]
        return self.inner.dim

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.inner.names

    @property
    def frame(self) -> Tensor:  # type: ignore[override]
        return self.inner.frame

    @property
    def whole(self) -> bool:
        return True

    def layers(self) -> str:
        return self.inner.layers()

    # -- parameters --------------------------------------------------------------------------

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {**self.inner.shapes(), "loading": (len(self.taken),)}

    def initial(self, generator: torch.Generator) -> Weights:
        return {**self.inner.initial(generator), "loading": torch.ones_like(self.ratio)}

    def starts(self, weights: Weights) -> tuple[Weights, ...]:
        """The loadings given, and their mirror image: a sign is a maximum of its own."""
        return (weights, {**weights, "loading": -weights["loading"]})

    def from_parts(self, parts: Mapping[str, tuple[Tensor, Tensor]]) -> Weights:
        first, *others = parts.values()
        D, mean = first
        loading = []
        for other, own in others:
            seen = ~(mean[:, 0].isnan() | own[:, 0].isnan())
            cross = mean[seen, 0] @ own[seen, 0]
            size = (other[0, 0] / D[0, 0].clamp(min=1e-12)).sqrt()
            loading.append(torch.where(cross < 0, -size, size))
        # from zero, where l is stationary, no search would find away
        least = (LEAST * self.inner.scale).square()
        D = D + torch.diag((least - D.diagonal()).clamp(min=0))
        found = torch.stack(loading) / self.ratio
        return {**self.inner.nearest(D), "loading": found.clamp(-10, 10)}

    def times(self, weights: Weights, factor: Tensor) -> Weights:
        own = {name: weights[name] for name in self.inner.shapes()}
        return {**self.inner.times(own, factor), "loading": weights["loading"]}

    def unbounded(self, weights: Weights) -> Unbounded | None:
        """Infinite loadings, and no Lambda: the part acts in the outcomes that take it alone."""
        first, *others = self.taken
        loading, effect = weights["loading"], (weights["loading"] * self.ratio)[0]
        own = self.inner.times(self._inside(weights), effect.abs().clamp(min=LEAST))
        latent: Latent = self.inner
        if others:
            latent = Loaded(self.inner, tuple(others), self.ratio[1:] / self.ratio[0])
            own = {**own, "loading": loading[1:] / loading[0]}

        def back(found: Weights) -> Weights:
            part, size = self._inside(found), self._size(found)
            one = torch.ones_like(self.ratio[:1])
            ratios = torch.cat([one, found["loading"]]) if others else one
            near = self.inner.times(part, NOTHING / size)
            return {**near, "loading": ratios * size / NOTHING / self.ratio[0]}

        note = (
            f"the likelihood is highest where the loading of {self.label} in `{first}` is "
            "infinite: the part varies there and not in the outcome that has it, so there is no "
            f"maximum. Give `{first}` a random part of its own in place of load()"
        )
        (left, *_), *_ = self.places
        return Unbounded(latent, own, left, back, lambda w: bool(self._size(w) < FAR), note)

    def _inside(self, weights: Weights) -> Weights:
        return {name: weights[name] for name in self.inner.shapes()}

    def _size(self, weights: Weights) -> Tensor:
        """The largest standard deviation of what is loaded, in the scale of its column."""
        Lambda = self.inner.loadings(self._inside(weights))
        return (Lambda.norm(dim=1) / self.inner.scale).max()

    def prepare(self, weights: Weights) -> Weights:
        return self.inner.prepare(weights)

    # -- mu2 ---------------------------------------------------------------------------------

    @property
    def places(self) -> Places:  # type: ignore[override]
        return self.inner.places

    def _factor(self, weights: Weights, outcome: str) -> Tensor | float:
        if outcome not in self.taken:
            return 1.0
        at = self.taken.index(outcome)
        return weights["loading"][at] * self.ratio[at]

    def factor_in(self, weights: Weights, outcome: str) -> float:
        return float(self._factor(weights, outcome))

    def effect(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        # the rows of an outcome that takes the part have its columns
        return self._factor(weights, rows.outcome) * self.inner.effect(weights, b, rows)

    def as_columns(
        self, weights: Weights, b: Tensor, rows: LatentRows
    ) -> tuple[Tensor, Tensor] | None:
        found, factor = self.inner.as_columns(weights, b, rows), self._factor(weights, rows.outcome)
        return None if found is None else (found[0], factor * found[1])

    def jacobian(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        return self._factor(weights, rows.outcome) * self.inner.jacobian(weights, b, rows)

    def loadings(self, weights: Weights) -> Tensor:
        return self.inner.loadings(weights)

    def loadings_in(self, weights: Weights, outcome: str) -> Tensor:
        return self._factor(weights, outcome) * self.inner.loadings_in(weights, outcome)

    def alone(self, outcome: str) -> Latent:
        return self.inner

    # -- what is reported --------------------------------------------------------------------

    def components(self) -> tuple[Component, ...]:
        own = (Component("loading", (one,), LINKS["identity"]) for one in self.taken)
        return (*self.inner.components(), *own)

    def reported(self, weights: Weights) -> Tensor:
        return torch.cat([self.inner.reported(weights), weights["loading"] * self.ratio])

    def at_boundary(self, weights: Weights, floor: float) -> Boundary:
        found = self.inner.at_boundary(weights, floor)
        size = self.loadings(weights).norm(dim=1) / self.inner.scale
        gone = bool((size < AT_ZERO).all())
        held = {**found.held, "loading": torch.full((len(self.taken),), gone)}
        reasons = found.reasons
        if gone:
            listed = ", ".join(f"`{one}`" for one in self.taken)
            reasons = (*reasons, f"with it the loadings of {listed} are not identified")
        return found._replace(held=held, reasons=reasons)
