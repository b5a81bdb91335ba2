"""What a latent structure must supply: the prior of b, mu2(b, T), and what is reported of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.design import LatentBlock
from dgmm.formula import Syntax
from dgmm.latent.records import Boundary, Chain, Component, Places
from dgmm.networks import Weights
from dgmm.panel import LatentRows

__all__ = ["Latent", "Unbounded"]


class Unbounded(NamedTuple):
    """A limit at which the likelihood may be highest, and then has no maximum."""

    latent: Latent
    weights: Weights  # of this structure
    left: str  # the outcome that it no longer enters
    back: Callable[[Weights], Weights]  # weights of the structure near some of the limit
    far: Callable[[Weights], bool]  # whether weights of the structure are on the way to it
    note: str  # of a likelihood that is highest there


class Latent(ABC):
    """b_i ~ N(0, I_k) and its contribution mu2(b_i, T_ij) to the linear predictor.

    E mu2 = 0, but for what ``inputs`` make of it, :meth:`course`, and for recursions, whose mean is
    made by networks.

    The word left of the bar is ``name``, what may stand in its parentheses its ``syntax``; the
    class is made from the term's design block by :meth:`build`. The columns of T frame have the
    root mean square of the unit of the linear predictor, so that the raw weights are of order one
    whatever the units and the origin of time.
    """

    name: ClassVar[str]
    syntax: ClassVar[Syntax] = Syntax()
    left_of_bar: ClassVar[bool] = True
    """Whether its word may stand there, and not one on the other side leads to it."""
    linear: ClassVar[bool]  # mu2 linear in b
    by_columns: ClassVar[bool] = False
    """mu2 = T Lambda b, Lambda the same for all rows, D free within :meth:`blocks` of columns."""
    columnwise: bool = False
    """mu2 = T Lambda b in every outcome, Lambda a function of the weights: :meth:`loadings_in`."""
    by_states: ClassVar[bool] = False
    """mu2 = c'z, the states z a Markov chain over the rows of a subject: :meth:`chain`."""

    recursive: ClassVar[bool] = False
    """mu2 of a row is a network of what came before: a bound stands for the likelihood."""

    reads: ClassVar[bool] = False
    """What came before are outcomes too: ``past`` of the rows."""

    states: int = 0
    """How many there are, 0 where mu2 is none of such."""

    inputs: tuple[str, ...] = ()
    """Columns of its basis that move the states."""

    gains: tuple[str, ...] = ()
    """Weights in which what the inputs do is linear."""

    label: str  # the term as written in the formula
    dim: int  # k
    names: tuple[str, ...]  # columns of T
    frame: Tensor  # (q, q), upper triangular unless there is a network
    penalised: frozenset[str] = frozenset()  # weights under the ridge
    ridge: float = 0.0  # of the penalised weights, before it is chosen on held-out subjects
    weak: Mapping[str, float] = MappingProxyType({})  # others under a penalty that stays
    places: Places = ()  # of several outcomes

    @property
    def scale(self) -> Tensor:
        """A sensible size of the standard deviation of every effect, (q,)."""
        return self.frame.square().sum(1).sqrt()

    @property
    def flat(self) -> int:
        """How many of the first elements of b have a flat prior and not N(0, 1)."""
        return 0

    @property
    def lone_variance(self) -> bool:
        """Its only parameter is a variance, whose zero leaves nothing of it."""
        return False

    @property
    def nondegenerate(self) -> bool:
        """Rows at different times vary given each other: they need no noise to have a density."""
        return False

    @property
    def neural(self) -> bool:
        """A network with many weights, of which none is reported."""
        return self.syntax.neural

    @property
    def serial(self) -> bool:
        """A path: mu2 of a row depends on the rows before it, b has an element per row."""
        return self.syntax.serial

    @classmethod
    @abstractmethod
    def build(cls, block: LatentBlock, unit: float) -> Latent:
        """Read dimensions and scales off the design; ``unit`` is the scale of eta."""

    @classmethod
    def takes_up(cls, block: LatentBlock) -> np.ndarray:
        """Columns (N, c) of which it takes up the effects of every subject, with a flat prior."""
        return np.zeros((len(block.columns.matrix), 0))

    def sized(self, rows: LatentRows, longest: int) -> Latent:
        """The structure where subjects have up to ``longest`` rows; a path has a b for each.

        It never becomes smaller, so that b of the fit keeps its meaning.

        rows: all of them, (N, .).

        Raises:
            ValueError: the rows are impossible for it.
        """
        return self

    def learning(self) -> Latent:
        """The structure while a training moves its weights; what is reported is of itself."""
        return self

    @classmethod
    def across(cls, name: str, parts: Mapping[str, Latent]) -> Latent:
        """The structure ``name`` of several outcomes, from one of this kind of each of them.

        Raises:
            ValueError: the kind has none such, or the parts do not go together.
        """
        first = next(iter(parts.values()))
        if len(parts) == 1:
            return first
        raise ValueError(
            f"{first.label} is not made for several outcomes; leave out the name `{name}`"
        )

    def beneath(self, name: str, parts: Mapping[str, Latent]) -> Latent:
        """The classical structure ``name`` of several outcomes within this one.

        parts: by outcome what is within the structure of it by itself.
        """
        return type(next(iter(parts.values()))).across(name, parts)

    def factor_in(self, weights: Weights, outcome: str) -> float:
        """By what its effects are multiplied in one of several outcomes."""
        return 1.0

    def alone(self, outcome: str) -> Latent:
        """What it is for one of several outcomes."""
        return self

    def candidates(self) -> tuple[Latent, ...]:
        """The structures between which the formula leaves the choice to the fit.

        The first is taken unless another predicts better; none of them leaves anything open.
        """
        return (self,)

    def spelled(self) -> Mapping[str, str]:
        """Options of the term by which a formula asks for this structure and no other."""
        return {}

    @abstractmethod
    def layers(self) -> str:
        """Sizes of the layers of its network for the summary ("" when there is none)."""

    def remark(self, weights: Weights) -> str:
        """A sentence for the summary about what the layers do not show ("" when there is none)."""
        return ""

    # -- parameters --------------------------------------------------------------------------

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the raw parameters; they do not depend on the panel."""

    @abstractmethod
    def initial(self, generator: torch.Generator) -> Weights:
        """Starting values when nothing is known: modest independent effects."""

    def unbounded(self, weights: Weights) -> Unbounded | None:
        """The structure at an infinite end of the range of some weights, begun at those given."""
        return None

    def starts(self, weights: Weights) -> tuple[Weights, ...]:
        """Weights from which the likelihood may have different maxima, the given ones first."""
        return (weights,)

    def times(self, weights: Weights, factor: Tensor) -> Weights:
        """Weights of a linear mu2 that varies ``factor`` times as much, about the same mean."""
        raise NotImplementedError(f"{type(self).__name__} has no factor")

    def from_covariance(
        self, covariance: Tensor, gram: Tensor, generator: torch.Generator
    ) -> Weights:
        """Weights that reproduce the linear latent with D = ``covariance`` (q, q), if any can.

        gram: (q, q) mean of T'T, by which directions of b are ordered.
        """
        return self.initial(generator)

    def from_parts(self, parts: Mapping[str, tuple[Tensor, Tensor]]) -> Weights:
        """Weights for several outcomes from separate fits of each.

        parts: by outcome D (q, q) of its columns and its conditional means (n, q), missing where a
            subject has none.
        """
        raise ValueError(f"{self.label} is not made of parts of several outcomes")

    def from_profile(self, weights: Weights, T: Tensor, profile: Tensor) -> Weights:
        """Weights near the linear ones whose curve, where there is one, is the mean profile (N,) at
        the rows T (N, q).
        """
        return weights

    def nearest(self, covariance: Tensor) -> Weights:
        """Weights of a structure linear by columns with D = ``covariance`` (q, q), or near it."""
        raise ValueError(f"{self.label} has no covariance of columns")

    def wider(self) -> Latent:
        """The structure linear by columns with a free covariance that holds this one.

        Likelihoods of classical models are written for free covariances; see :meth:`lifted`.
        """
        return self

    def lifted(self, weights: Weights) -> Weights:
        """The weights of :meth:`wider` with the same Lambda, differentiable."""
        return weights

    def invariances(self, weights: Weights) -> tuple[Weights, ...]:
        """Directions of some weights along which, with the layers following, nothing changes."""
        return ()

    # -- mu2 ---------------------------------------------------------------------------------

    @abstractmethod
    def prepare(self, weights: Weights) -> Weights:
        """Small quantities that follow from the weights alone (centres), computed once."""

    def at(self, weights: Weights, b: Tensor, rows: Sequence[LatentRows]) -> Weights:
        """Quantities that :meth:`effect` at b shares between outcomes, calculated once.

        rows: of every outcome that it enters.
        """
        return {}

    def slopes_at(self, weights: Weights, b: Tensor) -> Weights:
        """The same of :meth:`jacobian`."""
        return {}

    @abstractmethod
    def effect(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        """mu2: b (..., n, k), rows (n, J) -> (..., n, J)."""

    def course(self, weights: Weights, rows: LatentRows) -> Tensor:
        """E mu2 of the rows of a block, (n, J)."""
        return torch.zeros(rows.T.shape[:-1], dtype=torch.float64)

    def as_columns(
        self, weights: Weights, b: Tensor, rows: LatentRows
    ) -> tuple[Tensor, Tensor] | None:
        """mu2 as columns (n, J, c) times coefficients (..., n, c), None where it is none such."""
        return None

    @abstractmethod
    def jacobian(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        """d mu2 / d b at b (..., n, k): (..., n, J, k), or (n, J, k) where b does not matter."""

    def state_names(self) -> tuple[tuple[str, float], ...]:
        """Names of the states for a table, and the factors that give them their units."""
        return ()

    def flat_states(self) -> Tensor:
        """The first states per unit of the elements of b with a flat prior, (states, flat)."""
        return torch.eye(self.states, self.flat, dtype=torch.float64)

    def chain(self, weights: Weights, time: Tensor, before: Tensor, first: Tensor) -> Chain:
        """The chain over rows, if mu2 is one of states.

        time: of the rows, in any shape; before: of the row before; first: rows without any.
        """
        raise NotImplementedError(f"{type(self).__name__} is no chain of states")

    def forced(
        self, weights: Weights, gap: Tensor, first: Tensor, u: Tensor, before: Tensor
    ) -> Tensor:
        """f_j (..., d) of z_j = A_j z_{j-1} + f_j + B_j e_j, what ``inputs`` add.

        gap: since the row before, in any shape; first: rows without any; u, before: inputs (..., r)
        of the rows and of those before.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no inputs")

    def candidate_modes(self, weights: Weights) -> Tensor:
        """Values of b near which a mode of b | y may lie, (c, k), zero first and often alone."""
        return torch.zeros(1, self.dim, dtype=torch.float64)

    @abstractmethod
    def loadings(self, weights: Weights) -> Tensor:
        """Lambda (q, k): mu2 = T Lambda b + (what is not linear, or depends on the row)."""

    def loadings_in(self, weights: Weights, outcome: str) -> Tensor:
        """Lambda (q, k) of the columns that the rows of an outcome have, if columnwise."""
        raise ValueError(f"{self.label} has no loadings of columns")

    def tangent(self, weights: Weights) -> Tensor:
        """What a linear encoder should take for the linear part, (q, k)."""
        return self.loadings(weights)

    # -- what is reported --------------------------------------------------------------------

    def components(self) -> tuple[Component, ...]:
        """The parameters that are reported; none of a network."""
        return ()

    def reported(self, weights: Weights) -> Tensor:
        """Their values on the natural scale, (c,)."""
        return torch.zeros(0, dtype=torch.float64)

    def sizes(self) -> Tensor:
        """Sensible sizes of the reported values, (c,)."""
        kinds = [one.kind for one in self.components()]
        sd = self.scale[: kinds.count("sd")]
        return torch.cat([sd, torch.ones(len(kinds) - len(sd), dtype=torch.float64)])

    def working_slopes(self, weights: Weights) -> Tensor | None:
        """Slopes of the reported values, on the scale of their links, in the weights, (R, P).

        None where they have no closed form.
        """
        return None

    @property
    def by_reported(self) -> bool:
        """Any reported values within their ranges go together: see :meth:`from_reported`.

        Correlations of a free covariance do not, which is to be positive definite.
        """
        return False

    def from_reported(self, values: Tensor) -> Weights:
        """The weights with some reported values (c,)."""
        raise ValueError(f"{self.label} is not given by the values reported of it")

    def at_boundary(self, weights: Weights, floor: float) -> Boundary:
        """Where a variance is zero or a parameter is at the end of its range.

        floor: the standard deviation, in units of the model, below which an effect is called zero.
        """
        return Boundary((), {})

    def blocks(self) -> tuple[tuple[int, ...], ...]:
        """Columns of T that are correlated, block by block; independent between blocks."""
        return ()

    def holds(self, other: Latent) -> bool:
        """Whether every covariance of another structure of the same columns is one of its own."""
        return False

    @property
    def whole(self) -> bool:
        """It stays or goes as a whole: no effect can be taken out of it alone."""
        return self.serial

    def without(self, effect: int) -> tuple[Latent, tuple[int, ...]] | None:
        """The structure without one effect, and the columns of T kept; None when none is left."""
        return None
