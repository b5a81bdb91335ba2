"""Likelihoods of models with restricted covariances, by those of the free ones that hold them.

Engines of classical models are written for the free entries of Lambda. A covariance with fewer
parameters phi is a curve or a surface among the free ones, psi = psi(phi), the fixed part and the
family being the same. So with J = d psi / d phi and g, H the gradient and the Hessian in psi,

    l(phi) = l(psi(phi)),   gradient J'g,   scores s_i J,   Hessian J'H J + sum_a g_a d2 psi_a,

and b given y is what it is there: every engine, exact or not, is one of the restricted model too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgmm.likelihood.answers import Compared, Each, Observed, VarianceMoments
from dgmm.likelihood.base import Integration, Likelihood, Maximum, unreached
from dgmm.likelihood.choose import choose as engine_for
from dgmm.likelihood.gaussian import GLS_FORM
from dgmm.likelihood.growth import RULE_TOLERANCE
from dgmm.likelihood.posterior import Posterior
from dgmm.likelihood.rules import NodeRule
from dgmm.model import Model
from dgmm.numerics.ascent import Ascent, Evaluation, ascend
from dgmm.numerics.hessian import curvature_of
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta, part

__all__ = ["Within", "alike", "choose"]

TIE = 1e-7
"""Log-likelihood by which one maximum must be above another to be preferred."""

STEP = 3e-4
"""Step of central differences in the variance parameters, which are on log and similar scales."""

LEAST = 1e-6
"""The least that a search takes to be known of a parameter."""


def choose(
    model: Model,
    panel: Panel,
    word: str = "auto",
    integration: Integration | None = None,
    *,
    restricted: bool = False,
    sampled: bool = False,
) -> Likelihood:
    """The likelihood that a word asks for; see :func:`dgmm.likelihood.choose.choose`."""
    options: dict[str, Any] = {"restricted": restricted, "sampled": sampled}
    wide = wider(model)
    found = engine_for(wide, panel, word, integration, **options)
    if wide is model:
        return found
    if found.sampled:  # nodes of any structure, derivatives by autograd
        return engine_for(model, panel, word, integration, **options)
    return Within(model, panel, found.integration, found.word, restricted)


def alike(likelihood: Likelihood, model: Model, panel: Panel) -> Likelihood:
    """The likelihood of the same word and options for another model."""
    return choose(model, panel, **likelihood.choice())


def wider(model: Model) -> Model:
    """The model with free covariances that holds this one; itself where they are free."""
    if all(latent.wider() is latent for latent in model.latents):
        return model
    return replace(model, latents=tuple(latent.wider() for latent in model.latents))


@dataclass(frozen=True, eq=False)
class Within(Likelihood):
    """log p(y) of a model with restricted covariances, by an engine of the wider model.

    engine: the word of that likelihood. restricted: REML. rule: of an engine by quadrature, where
    it has grown.
    """

    engine: str = "auto"
    restricted: bool = False
    rule: NodeRule | None = None

    @cached_property
    def inner(self) -> Likelihood:
        """The likelihood of the wider model."""
        wide, integration = wider(self.model), self.integration
        found = engine_for(wide, self.panel, self.engine, integration, restricted=self.restricted)
        return replace(found, rule=self.rule) if self.rule else found  # type: ignore[call-arg]

    @classmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        return None if wider(model) is not model else "its covariances are free"

    # what it is: as the engine
    word = property(lambda self: self.inner.word)
    separate = property(lambda self: self.inner.separate)
    exact = property(lambda self: self.inner.exact)
    normal = property(lambda self: self.inner.normal)
    grows = property(lambda self: self.inner.grows)

    @property
    def _closed(self) -> bool:
        """beta has a closed form given the covariances."""
        return self.restricted or self.model.by_columns

    # -- the map ---------------------------------------------------------------------------------

    def lifted(self, theta: Theta) -> Theta:
        """psi(phi): theta of the wider model with the same Lambda."""
        own = dict(theta)
        for i, latent in enumerate(self.model.latents, 1):
            weights = part(theta, f"latent{i}.")
            for name in weights:
                del own[f"latent{i}.{name}"]
            own |= {f"latent{i}.{name}": v for name, v in latent.lifted(weights).items()}
        return own

    def _at(self, theta: Theta) -> Theta:
        return {name: value.detach() for name, value in self.lifted(theta).items()}

    def _map(self, x: Tensor) -> Tensor:
        """psi(phi) of vectors."""
        return self.inner.model.packing.pack(self.lifted(self.model.packing.unpack(x)))

    def _jacobian(self, theta: Theta) -> Tensor:
        """d psi / d phi, (P_wide, P)."""
        x = self.model.packing.pack(theta).detach()
        found: Tensor = torch.autograd.functional.jacobian(self._map, x)
        return found

    # -- the function ----------------------------------------------------------------------------

    def value(self, theta: Theta) -> float:
        return self.inner.value(self._at(theta))

    def value_and_gradient(
        self, theta: Theta, free: Collection[str] | None = None
    ) -> tuple[float, Theta]:
        x = self.model.packing.pack(theta).detach().requires_grad_()
        with torch.enable_grad():
            psi = self._map(x)
        wide = self.inner.model.packing
        value, slope = self.inner.value_and_gradient(wide.unpack(psi.detach()))
        (pulled,) = torch.autograd.grad(psi, x, wide.pack(slope))
        return value, self._gradient(pulled.numpy(), free)

    def each(self, theta: Theta) -> Each:
        return self.inner.each(self._at(theta))

    def scores(self, theta: Theta, packing: Packing | None = None) -> Tensor:
        table = self.inner.scores(self._at(theta)) @ self._jacobian(theta)
        return table if packing is None else table[:, self.model.packing.places(packing)]

    def information(self, theta: Theta, packing: Packing) -> Observed:
        own = self._of_normal(theta) if self.normal else self._of_engine(theta)
        return own.among(self.model.packing, packing)

    def _of_normal(self, theta: Theta) -> Observed:
        """Central differences of the gradient; in beta, where l is quadratic, the GLS form.

        In phi, which has short steps where the entries of a singular Lambda have none.
        """
        packing = self.model.packing
        x, b = packing.pack(theta).detach(), packing.positions(["beta"])
        H = torch.zeros(len(x), len(x), dtype=torch.float64)
        if self._closed:
            H[b[:, None], b] = -torch.linalg.inv(self.gls_covariance(theta))
        for j in range(len(x)):
            if self._closed and j in b:
                continue
            slopes = []
            for step in (STEP, -STEP):
                moved = x.clone()
                moved[j] += step
                slopes.append(packing.pack(self.value_and_gradient(packing.unpack(moved))[1]))
            H[:, j] = (slopes[0] - slopes[1]) / (2 * STEP)
            H[j, b] = H[b, j]
        H = 0.5 * (H + H.T)
        form = GLS_FORM if self.restricted else "observed information, central differences"
        return Observed(curvature_of(H.numpy()), form)

    def _of_engine(self, theta: Theta) -> Observed:
        """J'H J and what the curvature of the map adds."""
        at, wide = self._at(theta), self.inner.model.packing
        found = self.inner.information(at, wide)
        g, J = wide.pack(self.inner.value_and_gradient(at)[1]), self._jacobian(theta)
        x = self.model.packing.pack(theta).detach()
        bent: Tensor = torch.autograd.functional.hessian(lambda phi: g @ self._map(phi), x)
        H = J.T @ torch.from_numpy(found.matrix) @ J + bent
        return Observed(curvature_of(H.numpy()), found.form)

    def gls_covariance(self, theta: Theta) -> Tensor:
        return self.inner.gls_covariance(self._at(theta))

    def mean_integrated(self, theta: Theta) -> float:
        return self.inner.mean_integrated(self._at(theta))

    def independence(self, theta: Theta) -> float:
        return self.inner.independence(self._at(theta))

    def variance_moments(self, theta: Theta) -> VarianceMoments | None:
        if not (self.normal and self._closed):
            return None
        packing = self.model.packing
        names = [name for name in packing.shapes if name != "beta"]
        b, v = packing.positions(["beta"]), packing.positions(names)
        I = self.information(theta, packing).information  # noqa: E741
        across = I[b][:, v]
        own = I[v][:, v] - across.T @ torch.linalg.solve(I[b][:, b], across)
        x, slopes = packing.pack(theta).detach(), []
        for j in v.tolist():
            ends = []
            for step in (STEP, -STEP):
                moved = x.clone()
                moved[j] += step
                ends.append(self.gls_covariance(packing.unpack(moved)))
            slopes.append(((ends[0] - ends[1]) / (2 * STEP)).numpy())
        vcov = self.gls_covariance(theta).numpy()
        return VarianceMoments(vcov, np.array(slopes), own.numpy())

    def posterior(self, theta: Theta) -> Posterior:
        return self.inner.posterior(self._at(theta))

    def posteriors_near(self, theta: Theta) -> Callable[[Theta], Posterior]:
        inner = self.inner.posteriors_near(self._at(theta))
        return lambda at: inner(self._at(at))

    def score_rule(self) -> NodeRule:
        return self.inner.score_rule()

    def compared(self, theta: Theta, value: float) -> Compared | None:
        found = self.inner.compared(self._at(theta), value)
        # how far the better maximum is, is said there of the wider model
        return None if found is None else found._replace(away=float("nan"))

    def choice(self) -> dict[str, Any]:
        return {**super().choice(), "restricted": self.restricted}

    def describe(self) -> str:
        return self.inner.describe()

    # -- the search ------------------------------------------------------------------------------

    def maximise(self, start: Callable[[], Theta], verbose: int = 0) -> Maximum:
        """The highest of the maxima from the starting values that the structures name."""
        reached = [
            one for theta in self.model.starts(start()) if (one := self._reach(theta)) is not None
        ]
        if not reached:
            raise FloatingPointError("the log-likelihood is not finite at the starting values")
        top = max(one.value for one in reached)
        found = next(one for one in reached if one.value > top - TIE)
        evaluations = sum(one.evaluations for one in reached)
        own, change = self, 0.0
        while own.grows:
            change = own.each(own._theta(found.x)).total_error
            longer = own.score_rule().longer(self.model.k)
            if change < RULE_TOLERANCE or longer is None or self.integration.points is not None:
                break
            own = replace(own, rule=longer)
            found = own._reach(own._theta(found.x)) or found
            evaluations += found.evaluations
        theta, tolerance = own._theta(found.x), self.integration.tolerance
        return Maximum(
            own,
            own._with_beta(theta),
            found.value,
            change,
            found.decrement,
            evaluations,
            found.decrement < tolerance,
            unreached(found.decrement, tolerance),
        )

    def _theta(self, x: np.ndarray) -> Theta:
        return self.model.packing.unpack(torch.from_numpy(x.copy()))

    def _reach(self, theta: Theta) -> Ascent | None:
        """The maximum above some theta; None where the likelihood is not finite there."""
        try:
            return ascend(
                _Search(self), self._vector(theta), tolerance=self.integration.tolerance / 100
            )
        except FloatingPointError:
            return None

    def _with_beta(self, theta: Theta) -> Theta:
        """theta with beta at its maximum given all else, of which REML knows nothing."""
        if not self.restricted:
            return theta
        plain = replace(self, restricted=False)
        slope = plain.value_and_gradient(theta)[1]["beta"]
        return {**theta, "beta": theta["beta"] + plain.gls_covariance(theta) @ slope}

    def __getstate__(self) -> dict[str, Any]:
        return {name: v for name, v in self.__dict__.items() if name != "inner"}


@dataclass
class _Search:
    """The likelihood as a function of one vector, its Hessian for a metric."""

    likelihood: Within

    def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
        one = self.likelihood
        try:
            with np.errstate(all="ignore"):  # what is not finite is a step too far
                value, slope = one.value_and_gradient(one._theta(x))
        except (ValueError, ArithmeticError) as error:  # a variance that is zero in floating point
            raise FloatingPointError("the log-likelihood is not finite") from error
        gradient = one.model.packing.pack(slope).numpy()
        return Evaluation(value, gradient, np.zeros((0, len(x))) if scores else None)

    def information(self, x: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Minus the Hessian; what is negative of its diagonal far from a maximum turned round."""
        one = self.likelihood
        found = -one.information(one._theta(x), one.model.packing).matrix
        np.fill_diagonal(found, np.maximum(np.abs(np.diag(found)), LEAST))
        return found

    def least_information(self, x: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
        return np.zeros_like(x)

    def keep(self) -> None:
        """Nothing to keep."""
