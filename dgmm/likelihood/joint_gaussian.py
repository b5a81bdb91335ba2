"""Several Gaussian outcomes with correlated random effects: log p(y) in closed form."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dgmm.likelihood.answers import Each, Observed
from dgmm.likelihood.base import Integration, Likelihood, Maximum
from dgmm.likelihood.gaussian import GLS_FORM, per_subject
from dgmm.likelihood.joint_profile import Free, profiled, value_of
from dgmm.likelihood.joint_statistics import JointPieces, JointStatistics, joint_statistics
from dgmm.likelihood.numerical import Numerical
from dgmm.likelihood.posterior import NormalPosterior, Posterior
from dgmm.likelihood.profiling import near_zero
from dgmm.likelihood.rules import Laplace, NodeRule
from dgmm.model import Model
from dgmm.numerics.hessian import curvature_of
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta

__all__ = ["JointGaussian"]

EXPECTED = 20
"""Steps of the EM algorithm before Newton's method."""

STEPS, HALVINGS = 100, 30
SETTLED = 1e-9
"""Newton decrement of l, squared, at which a search ends."""

RAISED = 0.5
"""A column of Lambda that came to zero begins again from here."""


class _At(NamedTuple):
    """A theta taken apart: Lambda relative to the sigmas, v, and its free entries."""

    Lambda: Tensor  # (Q, Q)
    v: Tensor  # (R,)
    log_sigma: Tensor  # (K,)


@dataclass(frozen=True, eq=False)
class JointGaussian(Numerical):
    """The (restricted) log-likelihood of a linear mixed model of several outcomes."""

    restricted: bool = False

    word = "exact"
    exact = True
    normal = True

    @property
    def rule(self) -> NodeRule:
        return Laplace()

    @classmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        if reason := super().cannot(model, panel):
            return reason
        if len(model.outcomes) < 2:
            return "it is for several outcomes"
        for one in model.outcomes:
            if not one.family.conjugate or one.parts or one.networks:
                return (
                    "it is for Gaussian outcomes with identity link and one residual variance "
                    f"each, and `{one.name}` is of family {one.family.name!r}"
                )
        if not all(latent.by_columns and latent.wider() is latent for latent in model.latents):
            return "it is for random effects T Lambda b with free covariances and without dnn()"
        return None

    @classmethod
    def of(
        cls, model: Model, panel: Panel, integration: Integration, restricted: bool = False
    ) -> Likelihood:
        if restricted and model.in_common:
            raise ValueError(
                "method='reml' is for outcomes with coefficients of their own, and shared= makes "
                "them have some in common: use method='ml'"
            )
        return cls(model, panel, integration, restricted)

    @cached_property
    def statistics(self) -> JointStatistics:
        """One pass over the observed rows."""
        return joint_statistics(self.model, self.panel.seen_rows())

    @cached_property
    def free(self) -> Free:
        """The coefficients of all outcomes, those in common once."""
        places = torch.cat([one.places(self.model.packing) for one in self.model.outcomes])
        return Free(self.statistics, places)

    def _profiled(self, Lambda: Tensor) -> tuple[float, Tensor]:
        return profiled(self.statistics.reduce(Lambda), self.restricted, self.free)

    # -- theta and the relative scale --------------------------------------------------------------

    def _apart(self, theta: Theta) -> _At:
        stats, model = self.statistics, self.model
        log_sigma = torch.stack([theta[f"{o.key}extra"][0] for o in model.outcomes]).detach()
        u = stats.unit / log_sigma.exp()
        L = torch.from_numpy(stats.pattern.fill(stats.pattern.of_theta(theta).detach().numpy()))
        pieces = []
        for o, one, scale in zip(model.outcomes, stats.each, u, strict=True):
            beta = o.coordinates(theta).detach() - torch.from_numpy(one.origin)
            pieces += [-scale * beta, scale[None]]
        return _At(u[stats.outcome_of_row][:, None] * L, torch.cat(pieces), log_sigma)

    def _theta(self, Lambda: Tensor, v: Tensor) -> Theta:
        """theta of a profile; columns of Lambda get a positive diagonal."""
        stats, pattern = self.statistics, self.statistics.pattern
        u = v[stats.of_y]
        L = (Lambda / u[stats.outcome_of_row][:, None]).numpy()
        packing = self.model.packing
        vector = torch.zeros(packing.size, dtype=torch.float64)
        for k, (o, one) in enumerate(zip(self.model.outcomes, stats.each, strict=True)):
            own = (stats.outcome_of_column == k) & ~stats.of_y
            vector[o.places(packing)] = torch.from_numpy(one.origin) - v[own] / u[k]
            vector[packing.positions([f"{o.key}extra"])] = (stats.unit[k] / u[k]).log()
        entries = pattern.to_theta(L[pattern.row, pattern.column])
        return {**packing.unpack(vector), **entries}

    # -- the function ------------------------------------------------------------------------------

    def value(self, theta: Theta) -> float:
        at = self._apart(theta)
        found = self.statistics.reduce(at.Lambda)
        v = profiled(found, True)[1] if self.restricted else at.v
        return -0.5 * value_of(found, v, self.restricted)

    def value_and_gradient(
        self, theta: Theta, free: Collection[str] | None = None
    ) -> tuple[float, Theta]:
        slope = self.scaled_slope(theta)
        gradient = self.model.packing.unpack(slope)
        return self.value(theta), {n: g for n, g in gradient.items() if free is None or n in free}

    def scaled_slope(self, theta: Theta) -> Tensor:
        """The gradient of l in the order of theta, (P,)."""
        at = self._apart(theta)
        found = self.statistics.reduce(at.Lambda)
        J = self._jacobian(theta, at)
        first, second = self._slopes(found, at.v)
        slope = -0.5 * (J[: len(first)].T @ first + J[len(first) :].T @ second)
        for k, name in enumerate(o.key for o in self.model.outcomes):
            slope[self.model.packing.positions([f"{name}extra"])] -= self.statistics.each[k].N
        return slope

    def _slopes(self, found: JointPieces, v: Tensor) -> tuple[Tensor, Tensor]:
        """-2 l less 2 sum N log sigma: the gradient in the free entries of Lambda, and in v."""
        pattern = found.stats.pattern
        whole = found.slope(v, False)
        return whole[pattern.row, pattern.column], 2 * found.S @ v

    def _jacobian(self, theta: Theta, at: _At) -> Tensor:
        """d (entries of Lambda, v) / d theta, (E + R, P)."""
        stats, packing, model = self.statistics, self.model.packing, self.model
        pattern, E, R = stats.pattern, len(stats.pattern.row), len(at.v)
        J = torch.zeros(E + R, packing.size, dtype=torch.float64)
        entries, u = at.Lambda[pattern.row, pattern.column], at.v[stats.of_y]
        through = torch.where(
            torch.from_numpy(pattern.on_diagonal), entries, u[stats.outcome_of_row[pattern.row]]
        )
        places = torch.cat([packing.positions([name]) for name in self._weights()])
        J[torch.arange(E), places] = through
        for k, o in enumerate(model.outcomes):
            sigma = packing.positions([f"{o.key}extra"])
            own = torch.nonzero(stats.outcome_of_row[pattern.row] == k)[:, 0]
            J[own, sigma] = -entries[own]
            columns = torch.nonzero(stats.outcome_of_column == k)[:, 0]
            J[E + columns, sigma] = -at.v[columns]
            beta = o.places(packing)
            J[E + columns[:-1], beta] = -u[k]
        return J

    def _weights(self) -> list[str]:
        """Parameters of all latent structures, in the order of the free entries of Lambda."""
        pairs = enumerate(self.model.latents, 1)
        return [f"latent{i}.{name}" for i, latent in pairs for name in latent.shapes()]

    def information(self, theta: Theta, packing: Packing) -> Observed:
        """The Hessian of l in closed form."""
        at, stats = self._apart(theta), self.statistics
        found, pattern = stats.reduce(at.Lambda), stats.pattern
        whole, E = self.model.packing, len(stats.pattern.row)
        inner, beside = found.hessian(at.v)
        joint = torch.cat([torch.cat([inner, beside], 1), torch.cat([beside.T, 2 * found.S], 1)], 0)
        J = self._jacobian(theta, at)
        H = J.T @ joint @ J
        # what the second derivatives of (Lambda, v) in theta add
        first, second = self._slopes(found, at.v)
        entries, u = at.Lambda[pattern.row, pattern.column], at.v[stats.of_y]
        diagonal = torch.from_numpy(pattern.on_diagonal)
        places = torch.cat([whole.positions([name]) for name in self._weights()])
        H[places, places] += torch.where(diagonal, first * entries, 0.0)
        through = torch.where(diagonal, entries, u[stats.outcome_of_row[pattern.row]]) * first
        for k, o in enumerate(self.model.outcomes):
            s = int(whole.positions([f"{o.key}extra"]))
            own = stats.outcome_of_row[pattern.row] == k
            H[s, s] += (first * entries)[own].sum()
            H[s, places[own]] -= through[own]
            H[places[own], s] -= through[own]
            columns = torch.nonzero(stats.outcome_of_column == k)[:, 0]
            H[s, s] += second[columns] @ at.v[columns]
            beta = o.places(whole)
            H[s, beta] += u[k] * second[columns[:-1]]
            H[beta, s] += u[k] * second[columns[:-1]]
        assert len(places) == E
        curvature = curvature_of((-0.5 * H).numpy())
        form = GLS_FORM if self.restricted else "observed information in closed form"
        return Observed(curvature, form).among(whole, packing)

    def each(self, theta: Theta) -> Each:
        value = per_subject(self.model, theta, self.observed)
        return Each(value, torch.zeros_like(value), 0.0)

    def posterior(self, theta: Theta) -> Posterior:
        return NormalPosterior(self.model, theta, self.observed)

    # -- the search --------------------------------------------------------------------------------

    def maximise(self, start: Callable[[], Theta], verbose: int = 0) -> Maximum:
        """Newton's method over the free entries of Lambda of either sign, all else profiled out.

        l is even in every column of Lambda: where a diagonal entry came near zero the search begins
        again with a larger one, and the better of the two maxima is taken.
        """
        pattern = self.statistics.pattern
        Lambda = self._expected(self._apart(start()).Lambda)
        x, value, left, used = self._climb(Lambda[pattern.row, pattern.column])
        low = torch.from_numpy(near_zero(pattern, x.numpy()))
        if bool(low.any()):
            again = self._climb(torch.where(low, RAISED, x))
            used += again[3]
            if again[1] < value - 1e-7:
                x, value, left = again[:3]
        theta = self._theta(self._filled(x), self._profiled(self._filled(x))[1])
        done = left < 1e-4
        told = () if done else (f"the Newton decrement is {left:.3g} standard errors",)
        return Maximum(self, theta, -0.5 * value, 0.0, left, used, done, told)

    def _expected(self, Lambda: Tensor) -> Tensor:
        """Lambda after a few steps of the EM algorithm: D is the mean of E(b_i b_i' given y)."""
        pattern = self.statistics.pattern
        free = torch.zeros(len(Lambda), len(Lambda), dtype=torch.bool)
        free[pattern.row, pattern.column] = free[pattern.column, pattern.row] = True
        for _ in range(EXPECTED):
            found = self.statistics.reduce(Lambda)
            v = profiled(found, self.restricted, self.free)[1]
            mean = torch.linalg.solve_triangular(found.L.mT, (found.K @ v)[..., None], upper=True)
            second = (mean @ mean.mT + found.inverse).mean(0)
            D = torch.where(free, Lambda @ second @ Lambda.T, 0.0)
            Lambda = torch.linalg.cholesky(D)
        return Lambda

    def _filled(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.statistics.pattern.fill(x.numpy()))

    def _climb(self, x: Tensor) -> tuple[Tensor, float, float, int]:
        """The minimum of the profiled -2 l from some entries (E,), its value, decrement, steps."""
        used, left = 0, float("inf")
        value = self._profiled(self._filled(x))[0]
        for _ in range(STEPS):
            used += 1
            gradient, H = self._newton(x)
            size, turn = torch.linalg.eigh(H)
            size = size.abs().clamp(min=1e-10 * float(size.abs().max()))
            step = turn @ ((turn.T @ gradient) / size)
            left = float(0.5 * gradient @ step)  # of l, squared: 2 x the gain that is expected
            if left < SETTLED:
                break
            length, better = 1.0, False
            for _ in range(HALVINGS):
                trial = x - length * step
                after = self._profile(trial)
                if after < value - 1e-4 * length * float(gradient @ step):
                    better = True
                    break
                length *= 0.5
            if not better:
                break
            x, value = trial, after
        return x, value, max(left, 0.0) ** 0.5, used

    def _profile(self, x: Tensor) -> float:
        try:
            return self._profiled(self._filled(x))[0]
        except torch.linalg.LinAlgError:
            return float("inf")

    def _newton(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient and Hessian of the profiled -2 l; of REML without what log det S_xx adds."""
        stats, pattern = self.statistics, self.statistics.pattern
        found = stats.reduce(self._filled(x))
        v = profiled(found, self.restricted, self.free)[1]
        gradient = found.slope(v, self.restricted)[pattern.row, pattern.column]
        inner, beside = found.hessian(v)
        curve, df = 2 * found.S, stats.df(self.restricted)
        if self.free.in_common:
            J, curve = self.free.curvature(found.S, v, df)
            beside = beside @ J
        else:
            y = torch.nonzero(stats.of_y)[:, 0]
            curve[y, y] += 2 * df / v[y].square()
        H = inner - beside @ torch.linalg.solve(curve, beside.T)
        return gradient, 0.5 * (H + H.T)

    def gls_covariance(self, theta: Theta) -> Tensor:
        """Of the first outcome's coefficients, (p, p)."""
        if self.model.equalities or self.model.in_common:
            raise ValueError(
                "kind='gls' is for outcomes with coefficients of their own, and shared= makes "
                "them have some in common: use kind='hessian'"
            )
        at, stats = self._apart(theta), self.statistics
        x = ~stats.of_y
        inverse = torch.linalg.inv(stats.reduce(at.Lambda).S[x][:, x])
        own = stats.outcome_of_column[x] == 0
        return inverse[own][:, own] / at.v[stats.of_y][0] ** 2

    def choice(self) -> dict[str, Any]:
        return {**super().choice(), "restricted": self.restricted}

    def describe(self) -> str:
        return "exact"
