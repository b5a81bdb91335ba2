"""Several Gaussian outcomes with correlated random effects: log p(y) in closed form."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dgmm.likelihood.answers import Observed
from dgmm.likelihood.base import Integration, Likelihood, Maximum
from dgmm.likelihood.gaussian import GLS_FORM
from dgmm.likelihood.joint_profile import Free, profiled, value_of
from dgmm.likelihood.joint_rows import Together, together
from dgmm.likelihood.joint_statistics import (
    JointPieces,
    JointStatistics,
    joint_statistics,
    no_sums,
)
from dgmm.likelihood.numerical import LinearGaussian
from dgmm.likelihood.profiling import near_zero
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

DIFFERENCE = 1e-4
"""Step of central differences in the parameters of correlations, which are of order one."""

RAISED = 0.5
"""A column of Lambda that came to zero begins again from here."""


class _At(NamedTuple):
    """A theta taken apart: the sums at Lambda relative to the sigmas, and v."""

    pieces: JointPieces  # at Lambda (Q, Q)
    v: Tensor  # (R,)

    @property
    def Lambda(self) -> Tensor:
        return self.pieces.Lambda

    @property
    def stats(self) -> JointStatistics:
        """The sums at the correlations of the residuals."""
        return self.pieces.stats


@dataclass(frozen=True, eq=False)
class JointGaussian(LinearGaussian):
    """The (restricted) log-likelihood of a linear mixed model of several outcomes."""

    restricted: bool = False

    @classmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        if reason := super().cannot(model, panel):
            return reason
        if len(model.outcomes) < 2:
            return "it is for several outcomes"
        if reason := no_sums(model):
            return reason
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
    def together(self) -> Together | None:
        """The same where residuals are correlated."""
        return together(self.model, self.panel.seen_rows(), self.statistics)

    def _reduced(self, Lambda: Tensor, raw: Tensor) -> JointPieces:
        """The sums at Lambda and at the parameters of the correlations of residuals."""
        stats = self.statistics if self.together is None else self.together.under(raw)
        return stats.reduce(Lambda)

    @property
    def _raw(self) -> Tensor:
        """Positions in theta of the correlations of residuals."""
        residual = self.model.residual
        return self.model.packing.positions(() if residual is None else residual.shapes())

    @cached_property
    def free(self) -> Free:
        """The coefficients of all outcomes, those in common once."""
        places = torch.cat([one.places(self.model.packing) for one in self.model.outcomes])
        stats = self.statistics if self.together is None else self.together.base
        return Free(stats, places)

    # -- theta and the relative scale --------------------------------------------------------------

    def _apart(self, theta: Theta) -> _At:
        model = self.model
        log_sigma = torch.stack([theta[f"{o.key}extra"][0] for o in model.outcomes]).detach()
        stats = self.free.stats
        u = stats.unit / log_sigma.exp()
        L = torch.from_numpy(stats.pattern.fill(stats.pattern.of_theta(theta).detach().numpy()))
        pieces = []
        for o, one, scale in zip(model.outcomes, stats.each, u, strict=True):
            beta = o.coordinates(theta).detach() - torch.from_numpy(one.origin)
            pieces += [-scale * beta, scale[None]]
        raw = model.packing.pack(theta).detach()[self._raw]
        found = self._reduced(u[stats.outcome_of_row][:, None] * L, raw)
        return _At(found, torch.cat(pieces))

    def _theta(self, x: Tensor) -> Theta:
        """theta of a profile; columns of Lambda get a positive diagonal."""
        found, v = self._at(x)
        stats, pattern, packing = found.stats, found.stats.pattern, self.model.packing
        u = v[stats.of_y]
        L = (found.Lambda / u[stats.outcome_of_row][:, None]).numpy()
        vector = torch.zeros(packing.size, dtype=torch.float64)
        for k, (o, one) in enumerate(zip(self.model.outcomes, stats.each, strict=True)):
            own = (stats.outcome_of_column == k) & ~stats.of_y
            vector[o.places(packing)] = torch.from_numpy(one.origin) - v[own] / u[k]
            vector[packing.positions([f"{o.key}extra"])] = (stats.unit[k] / u[k]).log()
        vector[self._raw] = x[len(pattern.row) :]
        entries = pattern.to_theta(L[pattern.row, pattern.column])
        return {**packing.unpack(vector), **entries}

    # -- the function ------------------------------------------------------------------------------

    def value(self, theta: Theta) -> float:
        at = self._apart(theta)
        v = profiled(at.pieces, True)[1] if self.restricted else at.v
        return -0.5 * value_of(at.pieces, v, self.restricted)

    def value_and_gradient(
        self, theta: Theta, free: Collection[str] | None = None
    ) -> tuple[float, Theta]:
        slope = self.scaled_slope(theta)
        gradient = self.model.packing.unpack(slope)
        return self.value(theta), {n: g for n, g in gradient.items() if free is None or n in free}

    def scaled_slope(self, theta: Theta) -> Tensor:
        """The gradient of l in the order of theta, (P,)."""
        at = self._apart(theta)
        J = self._jacobian(at)
        first, second = self._slopes(at)
        slope = -0.5 * (J[: len(first)].T @ first + J[len(first) :].T @ second)
        for k, name in enumerate(o.key for o in self.model.outcomes):
            slope[self.model.packing.positions([f"{name}extra"])] -= self.statistics.each[k].N
        if self.together is not None:
            raw = self.model.packing.pack(theta).detach()[self._raw]
            slope[self._raw] = -0.5 * self.together.slope(raw, at.pieces, at.v, False)
        return slope

    def _slopes(self, at: _At) -> tuple[Tensor, Tensor]:
        """-2 l less 2 sum N log sigma: the gradient in the free entries of Lambda, and in v."""
        pattern = at.stats.pattern
        whole = at.pieces.slope(at.v, False)
        return whole[pattern.row, pattern.column], 2 * at.pieces.S @ at.v

    def _jacobian(self, at: _At) -> Tensor:
        """d (entries of Lambda, v) / d theta, (E + R, P)."""
        stats, packing, model = at.stats, self.model.packing, self.model
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
        """The Hessian of l in closed form; of correlations of residuals by differences."""
        at = self._apart(theta)
        found, stats, pattern = at.pieces, at.stats, at.stats.pattern
        whole, E = self.model.packing, len(stats.pattern.row)
        inner, beside = found.hessian(at.v)
        joint = torch.cat([torch.cat([inner, beside], 1), torch.cat([beside.T, 2 * found.S], 1)], 0)
        J = self._jacobian(at)
        H = J.T @ joint @ J
        # what the second derivatives of (Lambda, v) in theta add
        first, second = self._slopes(at)
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
        H = -0.5 * H
        if len(self._raw):
            x = whole.pack(theta).detach()
            rows = self._differences(lambda one: self.scaled_slope(whole.unpack(one)), x, self._raw)
            H[self._raw], H[:, self._raw] = rows, rows.T
            own = rows[:, self._raw]
            H[self._raw[:, None], self._raw] = 0.5 * (own + own.T)
        curvature = curvature_of(H.numpy())
        form = GLS_FORM if self.restricted else "observed information in closed form"
        return Observed(curvature, form).among(whole, packing)

    # -- the search --------------------------------------------------------------------------------

    def maximise(self, start: Callable[[], Theta], verbose: int = 0) -> Maximum:
        """Newton's method over the free entries of Lambda of either sign, all else profiled out.

        l is even in every column of Lambda: where a diagonal entry came near zero the search begins
        again with a larger one, and the better of the two maxima is taken.
        """
        pattern, theta = self.statistics.pattern, start()
        E, raw = len(pattern.row), self.model.packing.pack(theta).detach()[self._raw]
        Lambda = self._expected(self._apart(theta).Lambda, raw)
        x, value, left, used = self._climb(torch.cat([Lambda[pattern.row, pattern.column], raw]))
        low = torch.zeros(len(x), dtype=torch.bool)
        low[:E] = torch.from_numpy(near_zero(pattern, x[:E].numpy()))
        if bool(low.any()):
            again = self._climb(torch.where(low, RAISED, x))
            used += again[3]
            if again[1] < value - 1e-7:
                x, value, left = again[:3]
        done = left < 1e-4
        told = () if done else (f"the Newton decrement is {left:.3g} standard errors",)
        return Maximum(self, self._theta(x), -0.5 * value, 0.0, left, used, done, told)

    def _expected(self, Lambda: Tensor, raw: Tensor) -> Tensor:
        """Lambda after a few steps of the EM algorithm: D is the mean of E(b_i b_i' given y)."""
        pattern = self.statistics.pattern
        free = torch.zeros(len(Lambda), len(Lambda), dtype=torch.bool)
        free[pattern.row, pattern.column] = free[pattern.column, pattern.row] = True
        for _ in range(EXPECTED):
            found = self._reduced(Lambda, raw)
            v = profiled(found, self.restricted, self.free)[1]
            mean = torch.linalg.solve_triangular(found.L.mT, (found.K @ v)[..., None], upper=True)
            second = (mean @ mean.mT + found.inverse).mean(0)
            D = torch.where(free, Lambda @ second @ Lambda.T, 0.0)
            factor, failed = torch.linalg.cholesky_ex(D)
            Lambda = Lambda if failed else factor  # the steps do not leave a boundary
        return Lambda

    def _at(self, x: Tensor) -> tuple[JointPieces, Tensor]:
        """The sums at entries of Lambda and parameters of residuals (E + M,), and the best v."""
        pattern = self.statistics.pattern
        E = len(pattern.row)
        found = self._reduced(torch.from_numpy(pattern.fill(x[:E].numpy())), x[E:])
        return found, profiled(found, self.restricted, self.free)[1]

    def _climb(self, x: Tensor) -> tuple[Tensor, float, float, int]:
        """The minimum of the profiled -2 l from some (E + M,), its value, decrement, steps."""
        used, left = 0, float("inf")
        value = self._profile(x)
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
            return value_of(*self._at(x), self.restricted)
        except torch.linalg.LinAlgError:
            return float("inf")

    def _gradient_at(self, x: Tensor) -> tuple[Tensor, JointPieces, Tensor]:
        """The gradient of the profiled -2 l, (E + M,), and where it was taken."""
        pattern = self.statistics.pattern
        found, v = self._at(x)
        slope = found.slope(v, self.restricted)[pattern.row, pattern.column]
        if self.together is None:
            return slope, found, v
        own = self.together.slope(x[len(slope) :], found, v, self.restricted)
        return torch.cat([slope, own]), found, v

    def _newton(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient and Hessian of the profiled -2 l; of REML without what log det S_xx adds."""
        gradient, found, v = self._gradient_at(x)
        stats = found.stats
        inner, beside = found.hessian(v)
        curve, df = 2 * found.S, stats.df(self.restricted)
        if self.free.in_common:
            J, curve = self.free.curvature(found.S, v, df)
            beside = beside @ J
        else:
            y = torch.nonzero(stats.of_y)[:, 0]
            curve[y, y] += 2 * df / v[y].square()
        H = inner - beside @ torch.linalg.solve(curve, beside.T)
        E = len(H)
        if len(x) > E:
            rows = self._differences(
                lambda one: self._gradient_at(one)[0], x, torch.arange(E, len(x))
            )
            H = torch.cat([torch.cat([H, rows[:, :E].T], 1), rows])
        return gradient, 0.5 * (H + H.T)

    @staticmethod
    def _differences(of: Callable[[Tensor], Tensor], x: Tensor, at: Tensor) -> Tensor:
        """Central differences of a gradient in some entries of x, (M, P)."""
        rows = []
        for j in at.tolist():
            unit = torch.zeros_like(x)
            unit[j] = DIFFERENCE
            rows.append((of(x + unit) - of(x - unit)) / (2 * DIFFERENCE))
        return torch.stack(rows)

    def gls_covariance(self, theta: Theta) -> Tensor:
        """Of the first outcome's coefficients, (p, p)."""
        if self.model.equalities or self.model.in_common:
            raise ValueError(
                "kind='gls' is for outcomes with coefficients of their own, and shared= makes "
                "them have some in common: use kind='hessian'"
            )
        at = self._apart(theta)
        stats, x = at.stats, ~at.stats.of_y
        inverse = torch.linalg.inv(at.pieces.S[x][:, x])
        own = stats.outcome_of_column[x] == 0
        return inverse[own][:, own] / at.v[stats.of_y][0] ** 2

    def choice(self) -> dict[str, Any]:
        return {**super().choice(), "restricted": self.restricted}
