"""log p(y; theta) of a model on the rows of a panel, and what is read off it at any theta."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from dgmm.likelihood.answers import Compared, Each, Observed, VarianceMoments
from dgmm.likelihood.at_zero import at_zero
from dgmm.likelihood.nodes import Frozen, freeze
from dgmm.likelihood.polish import Polished
from dgmm.likelihood.posterior import Posterior
from dgmm.likelihood.rules import NodeRule
from dgmm.model import Model, driven, kept
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta

__all__ = [
    "ROUNDS",
    "SEPARATE_MODELS",
    "Integration",
    "Likelihood",
    "Maximum",
    "Point",
    "Smooth",
    "unreached",
]


ROUNDS = 12
"""Most times that the anchors of the nodes are moved during a search."""

SEPARATE_MODELS = (
    "models with one grouping factor: with several, the subjects are not independent and have no "
    "log-likelihoods of their own"
)
"""The models that have a log-likelihood of every subject, for messages."""


@dataclass(frozen=True)
class Integration:
    """How finely an integral over random effects is calculated, and the seed of its draws.

    draws, replicates: importance sampling of a reported value, per subject and independent
    scrambles. polish_draws: during the search for the maximum. hessian_draws: for the information.
    points: of quadrature per dimension, None grows until the value stands still. tolerance: Newton
    decrement, in standard errors, at which a search ends.
    """

    seed: int = 0
    draws: int = 512
    replicates: int = 8
    polish_draws: int = 128
    hessian_draws: int = 1024
    points: int | None = None
    tolerance: float = 0.01


class Smooth(Protocol):
    """The likelihood as a smooth function of theta near one value."""

    def value_and_gradient(
        self, theta: Theta, free: Collection[str] | None = None
    ) -> tuple[float, Theta]: ...
    def scores(self, theta: Theta, packing: Packing | None = None) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Likelihood(ABC):
    """One way to calculate log p(y; theta).

    The words of ``likelihood=`` and their order of preference stand in
    :mod:`dgmm.likelihood.choose`; every other module asks the object. A question that a member
    cannot answer is refused by a ValueError that says why.
    """

    model: Model
    panel: Panel  # all planned rows
    integration: Integration = Integration()

    word: ClassVar[str]
    separate: ClassVar[bool] = True  # a product over subjects
    exact: ClassVar[bool] = False
    sampled: ClassVar[bool] = False  # values carry a Monte Carlo error
    normal: ClassVar[bool] = False  # y and b are jointly normal
    bound: ClassVar[bool] = False  # values lie below log p(y), by an amount that is not known
    grows: ClassVar[bool] = False  # the error of a value is its change under a longer rule

    @classmethod
    @abstractmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        """Why this likelihood does not apply, in a sentence; None when it does."""

    @classmethod
    def of(
        cls, model: Model, panel: Panel, integration: Integration, restricted: bool = False
    ) -> Likelihood:
        """The likelihood of a model that it applies to; ``restricted`` for REML."""
        if restricted:
            raise ValueError(
                "method='reml' is for Gaussian linear mixed models, likelihood='exact'"
            )
        return cls(model.sized(panel), panel, integration)

    @staticmethod
    def one_factor(panel: Panel) -> str | None:
        """Why a likelihood of independent subjects does not apply, with the factors found."""
        if not panel.several:
            return None
        names = " and ".join(factor.name for factor in panel.factors(len(panel.rows.T)))
        return f"it is for one grouping factor, and the formula has {names}"

    @classmethod
    def automatic(cls, model: Model) -> bool:
        """Whether likelihood="auto" may take it for a model that it applies to."""
        return True

    @cached_property
    def observed(self) -> Panel:
        """The rows that enter the likelihood."""
        return self.panel.observed_rows()

    @cached_property
    def kept(self) -> Panel:
        """These, and with inputs those that move a state unseen, which count in no density."""
        return kept(self.model, self.panel) if driven(self.model) else self.observed

    # -- numbers at a theta ----------------------------------------------------------------------

    @abstractmethod
    def value(self, theta: Theta) -> float:
        """l(theta)."""

    @abstractmethod
    def value_and_gradient(
        self, theta: Theta, free: Collection[str] | None = None
    ) -> tuple[float, Theta]:
        """l(theta) and its gradient in the ``free`` parameters, by default all."""

    @abstractmethod
    def each(self, theta: Theta) -> Each:
        """l_i(theta) of every subject, (n,), without rows 0."""

    @abstractmethod
    def scores(self, theta: Theta, packing: Packing | None = None) -> Tensor:
        """The gradient of every l_i in the order of a packing, by default all of theta, (n, P)."""

    @abstractmethod
    def information(self, theta: Theta, packing: Packing) -> Observed:
        """The Hessian of l in the parameters of a packing."""

    @abstractmethod
    def posterior(self, theta: Theta) -> Posterior:
        """b given the outcomes seen."""

    def posteriors_near(self, theta: Theta) -> Callable[[Theta], Posterior]:
        """:meth:`posterior` at values close to theta, found from that at theta where this helps."""
        base = self.posterior(theta)
        return lambda at: base.near(at) or self.posterior(at)

    # -- the search ------------------------------------------------------------------------------

    @abstractmethod
    def maximise(self, start: Callable[[], Theta], verbose: int = 0) -> Maximum:
        """The maximum over all of theta; ``start`` is called where a starting value is needed."""

    def unmoved(self, theta: Theta) -> Maximum:
        """The record of a theta that was not found by maximising, such as the end of the ELBO."""
        return self.concluded(self.polished(theta, rounds=0))

    def polished(
        self,
        theta: Theta,
        *,
        free: Collection[str] | None = None,
        rounds: int = ROUNDS,
        tolerance: float = 3e-3,
        evaluations: int = 40,
        verbose: int = 0,
    ) -> Polished:
        """Search from theta over the ``free`` parameters, by default all, the ridge included."""
        raise ValueError(f"likelihood={self.word!r} of this model has no nodes to follow theta")

    def concluded(self, polished: Polished) -> Maximum:
        """The maximum that a polish reached, its value with fresh nodes and its error."""
        raise ValueError(f"likelihood={self.word!r} of this model has no nodes to follow theta")

    def near(self, theta: Theta) -> Smooth:
        """The function that a search around theta follows: nodes anchored there, if there are."""
        return self

    def anchored(self, theta: Theta, start: Tensor | None = None) -> Frozen:
        """Nodes of :meth:`score_rule` anchored at theta; Newton begins at ``start`` (n, k)."""
        rng = np.random.default_rng([self.integration.seed, 29])
        return freeze(self.model, theta, self.kept, self.score_rule(), rng, start)

    def compared(self, theta: Theta, value: float) -> Compared | None:
        """Its ``value`` at theta beside a better one; None where it is no approximation."""
        return None

    def score_rule(self) -> NodeRule:
        """The node rule for scores and standard errors."""
        raise ValueError(f"likelihood={self.word!r} of this model has no nodes")

    def independence(self, theta: Theta) -> float:
        """max sum_i log p(y_i | b = 0) over beta and extra parameters, searched from theta."""
        return at_zero(self.model, theta, self.kept)

    # -- other rows, other options -----------------------------------------------------------------

    def on(self, panel: Panel) -> Likelihood:
        """The same engine and options for other rows or other subjects."""
        return replace(self, panel=panel, model=self.model.sized(panel))

    def under(self, model: Model) -> Likelihood:
        """The same engine and options for another model of the same rows."""
        return replace(self, model=model)

    def by(self, **options: Any) -> Self:
        """With other options of the integration."""
        integration = replace(self.integration, **options)
        return self if integration == self.integration else replace(self, integration=integration)

    def by_id(self) -> Likelihood:
        """With draws of every subject that depend on its id, not on who else is there."""
        return self

    def _vector(self, theta: Theta) -> np.ndarray:
        """theta as the engines take it, (P,)."""
        vector: np.ndarray = self.model.packing.pack(theta).detach().numpy()
        return vector

    def _gradient(self, slope: np.ndarray, free: Collection[str] | None) -> Theta:
        """A gradient (P,) of an engine by name, in the ``free`` parameters, by default all."""
        gradient = self.model.packing.unpack(torch.from_numpy(slope))
        return {n: g for n, g in gradient.items() if free is None or n in free}

    def check_separate(self, asked: str) -> None:
        """Raise ValueError where subjects have no log-likelihoods of their own."""
        if not self.separate:
            raise ValueError(f"{asked} is for {SEPARATE_MODELS}")

    def choice(self) -> dict[str, Any]:
        """The arguments of choose() that lead to this kind of likelihood."""
        return {"word": self.word, "integration": self.integration}

    # -- in words ----------------------------------------------------------------------------------

    @abstractmethod
    def describe(self) -> str:
        """The likelihood for the summary."""

    def variance_moments(self, theta: Theta) -> VarianceMoments | None:
        """Moments for degrees of freedom of t and F tests; None where tests are normal."""
        return None

    def mean_integrated(self, theta: Theta) -> float:
        """1/2 log |(X'V^-1X)^-1|, by which l would grow if beta were integrated out of it.

        Zero where it has been already (REML), and where that has no closed form.
        """
        return 0.0

    def gls_covariance(self, theta: Theta) -> Tensor:
        """(sum X'V^-1 X)^-1 of the internal columns, (p, p)."""
        raise ValueError(
            "kind='gls' exists for Gaussian models with linear random effects fitted by "
            "likelihood='exact'; use kind='hessian'"
        )


@dataclass(frozen=True)
class Point:
    """A model at a parameter value: a likelihood and theta."""

    likelihood: Likelihood
    theta: Theta

    @property
    def model(self) -> Model:
        """The model."""
        return self.likelihood.model

    @property
    def panel(self) -> Panel:
        """All planned rows."""
        return self.likelihood.panel

    @property
    def observed(self) -> Panel:
        """The rows that enter the likelihood."""
        return self.likelihood.observed

    @property
    def kept(self) -> Panel:
        """These, and with inputs those that move a state unseen."""
        return self.likelihood.kept

    def at(self, theta: Theta) -> Point:
        """Another value under the same likelihood; nothing is claimed about a maximum."""
        return Point(self.likelihood, theta)


@dataclass(frozen=True)
class Maximum(Point):
    """The maximum found, under the likelihood that it is a maximum of: a rule may have grown."""

    log_likelihood: float
    mc_error: float  # Monte Carlo s.e., change to a longer rule, 0 when exact
    decrement: float  # Newton decrement that was left, in standard errors
    evaluations: int
    converged: bool
    messages: tuple[str, ...] = ()


def chosen_columns(scores: np.ndarray, whole: Packing, packing: Packing | None) -> Tensor:
    """The columns (n, P) of some parameters, in the order of their packing."""
    table = torch.from_numpy(scores)
    if packing is None:
        return table
    return table[:, torch.cat([whole.positions([name]) for name in packing.shapes])]


def unreached(decrement: float, tolerance: float) -> tuple[str, ...]:
    """The note about a search that ended too far from a maximum; none when it is near enough."""
    if decrement < tolerance:
        return ()
    return (
        f"the Newton decrement is {decrement:.3g} standard errors, not below "
        f"{tolerance:g}: estimates may still move by that much",
    )
