"""The joint density p(y, b) = p(b) p(y | b), on one page.

    b_i ~ N(0, I_k),   eta_ij = mu1(X_ij) + mu2(b_i, T_ij),   y_ij | b_i ~ F(g^-1(eta_ij), sigma)

Several outcomes are independent given b_i, or residuals of one row are correlated. theta is a
dictionary of named tensors on an internal, unit-free scale: the coefficients of orthonormal columns
("beta"; "shared" those that outcomes have in common), the extra parameters of the family ("extra"),
the weights of fixed networks ("dnn1.A1") and those of the latent structures ("latent1." and the
names that they give them).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from dgmm.families import Extra
from dgmm.model.alike import Alike, OfFamily, by_family
from dgmm.model.expanded import Expanded
from dgmm.model.structure import Entry, Structure
from dgmm.outcomes import Standardised
from dgmm.panel import Block, LatentRows, Panel, Past, Rows
from dgmm.parameters import Theta, part

__all__ = ["Entry", "Fixed", "Model", "log_prior"]

Fixed = tuple[Tensor, ...]
"""mu1 of the rows of a block, (n, J) for every outcome."""


@dataclass(frozen=True)
class Model(Structure):
    """Everything fixed before estimation; ``theta`` holds everything estimated."""

    # -- sizes and parameters ----------------------------------------------------------------

    @property
    def k(self) -> int:
        """Dimension of b_i."""
        return sum(latent.dim for latent in self.latents)

    @property
    def linear(self) -> bool:
        """No network anywhere: a classical mixed model."""
        return not self.networks and not any(latent.neural for latent in self.latents)

    @property
    def by_columns(self) -> bool:
        """The random part is linear in b, with loadings that are the same for all rows."""
        return all(latent.by_columns for latent in self.latents)

    @property
    def serial(self) -> bool:
        """The random part of a row depends on the other rows of its subject."""
        return any(latent.serial for latent in self.latents)

    @property
    def recursive(self) -> bool:
        """A random part is a recursion of networks, whose likelihood is known by a bound."""
        return any(latent.recursive for latent in self.latents)

    @property
    def reads(self) -> bool:
        """The random part of a row depends on the outcomes before it."""
        return any(latent.reads for latent in self.latents)

    def sized(self, panel: Panel) -> Model:
        """The model where the subjects of a panel have room: paths have a step for every row."""
        if not self.serial:
            return self
        longest, found = panel.longest, []
        for i, (latent, entries) in enumerate(zip(self.latents, self.entries, strict=True)):
            for entry in entries:
                rows = panel.panels[entry.outcome].rows
                latent = latent.sized(rows.of_term(i, self.outcomes[entry.outcome].name), longest)
            found.append(latent)
        return replace(self, latents=tuple(found))

    def history(self, panel: Panel) -> Panel:
        """The rows whose states follow from the outcomes seen: of a path every planned one."""
        return panel.masked_rows() if self.serial else panel.observed_rows()

    # -- the density -----------------------------------------------------------------------------

    def prepare(self, theta: Theta) -> Theta:
        """theta with what follows from it once for all subjects: gamma_i, centres."""
        ready = dict(theta)
        for outcome in self.outcomes:
            ready |= outcome.prepare(theta)
        for i, latent in enumerate(self.latents, 1):
            derived = latent.prepare(part(theta, f"latent{i}."))
            ready |= {f"latent{i}.{name}": value for name, value in derived.items()}
        return ready

    def fixed(self, ready: Theta, block: Block) -> Fixed:
        """mu1 of the rows of a block, for every outcome."""
        pairs = zip(self.outcomes, block.blocks, strict=True)
        return tuple(outcome.mu1(ready, own.rows) for outcome, own in pairs)

    def mu2(
        self,
        ready: Theta,
        b: Tensor,
        rows: Rows,
        terms: Sequence[int] | None = None,
        outcome: int = 0,
        seen: Tensor | None = None,
    ) -> Tensor:
        """Random part, or what some of its ``terms`` contribute: b (..., n, k) -> (..., n, J).

        seen: (n, J) bool, rows whose outcome is read by structures that do so; by default none.
        """
        found = self._random(ready, b, rows, Entry(outcome, 0), terms, seen)
        if found is None:
            return torch.zeros(*b.shape[:-1], rows.offset.shape[-1], dtype=b.dtype)
        return found

    def _random(
        self,
        ready: Theta,
        b: Tensor,
        rows: Rows,
        entry: Entry,
        terms: Sequence[int] | None = None,
        seen: Tensor | None = None,
    ) -> Tensor | None:
        """The sum of all latent structures that enter a predictor, None without any."""
        parts = self._split(b)
        effects = [
            self.latents[i].effect(
                part(ready, f"latent{i + 1}."),
                parts[i],
                self.latent_rows(ready, rows, i, entry.outcome, seen if self.reads else None),
            )
            for i, own in enumerate(self.entries)
            if entry in own and (terms is None or i in terms)
        ]
        if not effects:
            return None
        return torch.stack(effects).sum(0) if len(effects) > 1 else effects[0]

    def at(
        self,
        ready: Theta,
        b: Tensor,
        block: Block,
        seen: Sequence[Tensor] | None = None,
        *,
        slopes: bool = False,
    ) -> Theta:
        """``ready`` with what all of several outcomes take from b (..., n, k) at the rows of a
        block.

        seen: per outcome (n, J) bool, rows whose outcome is read, as in :meth:`mu2`.
        """
        if len(self.outcomes) == 1:
            return ready
        found, parts = dict(ready), self._split(b)
        told = seen if self.reads else None
        for i, (latent, own) in enumerate(zip(self.latents, parts, strict=True)):
            weights = part(ready, f"latent{i + 1}.")
            more = latent.at(weights, own, self.rows_of(ready, block, i, told))
            more |= latent.slopes_at(weights, own) if slopes else {}
            found |= {f"latent{i + 1}.{name}": value for name, value in more.items()}
        return found

    def alike(self, block: Block) -> Alike | None:
        """The outcomes of a block as columns of one array; None where they were not measured in
        the same rows, or where a mean has more than columns of its own.
        """
        if not block.beside or self._families is None or self.residual is not None:
            return None
        stack = block.stack
        return None if stack is None else Alike(self.outcomes, self._families, stack)

    @cached_property
    def _families(self) -> tuple[OfFamily, ...] | None:
        return by_family(self.outcomes)

    def rows_of(
        self, ready: Theta, block: Block, i: int, seen: Sequence[Tensor] | None
    ) -> tuple[LatentRows, ...]:
        """The rows of the outcomes that the i-th (0, 1, ...) latent structure enters."""
        found = []
        for o in (e.outcome for e in self.entries[i] if e.outcome < len(block.blocks)):
            own = block.blocks[o]
            rows = self.latent_rows(ready, own.rows, i, o, None if seen is None else seen[o])
            found.append(rows._replace(there=own.there))
        return tuple(found)

    def latent_rows(
        self, ready: Theta, rows: Rows, i: int, outcome: int = 0, seen: Tensor | None = None
    ) -> LatentRows:
        """What the i-th (0, 1, ...) latent structure sees of the rows of an outcome.

        seen: rows whose outcome is known; what it says is given where this is, or is read.
        """
        own = self.outcomes[outcome]
        found = rows.of_term(i, own.name)
        if seen is None and not self.latents[i].reads:
            return found
        residual, spread = own.standing(ready, rows)
        known = torch.zeros_like(residual, dtype=torch.bool) if seen is None else seen
        return found._replace(past=Past(torch.where(known, residual, 0.0), spread, known))

    def jacobian(self, ready: Theta, b: Tensor, rows: Rows, outcome: int = 0) -> Tensor:
        """d eta / d b at b (..., n, k): (..., n, J, k)."""
        slopes = []
        for i, (latent, inner) in enumerate(zip(self.latents, self._split(b), strict=True)):
            slope = torch.zeros(*rows.offset.shape, latent.dim, dtype=b.dtype)
            if Entry(outcome, 0) in self.entries[i]:
                weights = part(ready, f"latent{i + 1}.")
                slope = latent.jacobian(weights, inner, self.latent_rows(ready, rows, i, outcome))
            slopes.append(slope.expand(*b.shape[:-1], *slope.shape[-2:]))
        return torch.cat(slopes, dim=-1) if len(slopes) > 1 else slopes[0]

    def precision(
        self, ready: Theta, b: Tensor, block: Block, fixed: Fixed | None = None
    ) -> Tensor:
        """P = I + J'W J with the expected information W in eta at b (..., n, k), (..., n, k, k)."""
        fixed = self.fixed(ready, block) if fixed is None else fixed
        ready, P = self.at(ready, b, block, slopes=True), torch.eye(self.k, dtype=b.dtype)
        for at in self._expanded(ready, b, block, fixed):
            P = P + at.precision()
        if self.residual is not None:
            together = self._together()
            rows = [self._standardised(ready, b, block, fixed, o) for o in together]
            slopes = [self.jacobian(ready, b, block.blocks[o].rows, o) for o in together]
            P = P + self.residual.precision(ready, rows, slopes)
        return P

    def slope_and_precision(
        self, ready: Theta, b: Tensor, block: Block, fixed: Fixed | None = None
    ) -> tuple[Tensor, Tensor]:
        """d log p(y_i, b_i) / d b_i, (..., n, k), and P."""
        fixed = self.fixed(ready, block) if fixed is None else fixed
        if not self._by_predictors:
            slope = self._slope_by_autograd(ready, b, block, fixed)
            return slope, self.precision(ready, b, block, fixed)
        ready = self.at(ready, b, block, slopes=True)
        slope, P = -b, torch.eye(self.k, dtype=b.dtype)
        for at in self._expanded(ready, b, block, fixed):
            slope, P = slope + at.slope(), P + at.precision()
        return slope, P

    @property
    def _by_predictors(self) -> bool:
        """b enters the linear predictors of independent outcomes, and nothing else."""
        elsewhere = any(entry.predictor for own in self.entries for entry in own)
        return not (elsewhere or self.reads or self.residual is not None)

    def _slope_by_autograd(self, ready: Theta, b: Tensor, block: Block, fixed: Fixed) -> Tensor:
        """Differentiable where a graph is kept."""
        graph, point = torch.is_grad_enabled(), b.detach().requires_grad_()
        with torch.enable_grad():
            value = self.log_joint(ready, point, block, fixed).sum()
        found: Tensor = torch.autograd.grad(value, point, create_graph=graph)[0]
        return found

    def _expanded(self, ready: Theta, b: Tensor, block: Block, fixed: Fixed) -> Iterator[Expanded]:
        """Every outcome whose residuals are its own, expanded in b."""
        together = self._together()
        for o, (outcome, own) in enumerate(zip(self.outcomes, block.blocks, strict=True)):
            if o not in together:
                J = self.jacobian(ready, b, own.rows, o)
                eta = fixed[o] + self.mu2(ready, b, own.rows, outcome=o)
                extra = self.extra(ready, own.rows, b, o)
                yield Expanded(outcome.family, own, J, eta, extra)

    def log_likelihood(
        self, ready: Theta, b: Tensor, block: Block, fixed: Fixed | None = None
    ) -> Tensor:
        """log p(y_i | b_i): b (..., n, k) -> (..., n), over the real rows of the block.

        fixed: mu1 of the rows, where it is known already.
        """
        fixed = self.fixed(ready, block) if fixed is None else fixed
        told = [own.mask for own in block.blocks]
        ready, together = self.at(ready, b, block, told), self._together()
        total: Tensor | None = None
        for o, own in enumerate(block.blocks):
            if o in together:
                continue
            density = self._by_sums(ready, b, own, fixed[o], o)
            if density is None:
                eta = fixed[o] + self.mu2(ready, b, own.rows, outcome=o, seen=own.mask)
                density = self.log_density(ready, eta, b, own, o)
            total = density if total is None else total + density
        if self.residual is not None:
            rows = [self._standardised(ready, b, block, fixed, o) for o in together]
            density = self.residual.log_density(ready, rows)
            total = density if total is None else total + density
        assert total is not None
        return total

    def _by_sums(self, ready: Theta, b: Tensor, block: Block, mu1: Tensor, o: int) -> Tensor | None:
        """log p(y_i | b_i) of an outcome by sums, None where it is not quadratic or where draws are
        so few that rows come cheaper.
        """
        outcome, parts, rows = self.outcomes[o], self._split(b), block.rows
        if b.ndim < 3 or not outcome.quadratic:
            return None
        every = [
            self.latents[i].as_columns(
                part(ready, f"latent{i + 1}."), parts[i], rows.of_term(i, outcome.name)
            )
            for i, own in enumerate(self.entries)
            if Entry(o, 0) in own
        ]
        if len(found := [one for one in every if one is not None]) < max(1, len(every)):
            return None
        Z, c = (torch.cat(some, dim=-1) for some in zip(*found, strict=True))
        if 2 * Z.shape[-1] > Z.shape[-2]:
            return None
        return outcome.log_density_of(mu1, Z, c, self.extra(ready, rows, outcome=o), block)

    def _together(self) -> list[int]:
        """The outcomes whose residuals are correlated."""
        return [] if self.residual is None else self.residual.among(self.outcomes)

    def _standardised(
        self, ready: Theta, b: Tensor, block: Block, fixed: Fixed, o: int
    ) -> Standardised:
        """The rows of an outcome in units of its residuals."""
        own, outcome = block.blocks[o], self.outcomes[o]
        eta = fixed[o] + self.mu2(ready, b, own.rows, outcome=o)
        data, extra = own.rows.data, self.extra(ready, own.rows, b, o)
        log_scale = 0.5 * outcome.family.variance(eta, data, extra).log()
        e = (outcome.family.response(data) - eta) * torch.exp(-log_scale)
        return Standardised(torch.where(own.mask, e, 0.0), log_scale, own)

    def log_density(
        self, ready: Theta, eta: Tensor, b: Tensor, block: Block, outcome: int = 0
    ) -> Tensor:
        """log p(y_i | b_i), (..., n), at a linear predictor eta (..., n, J) known already."""
        extra = self.extra(ready, block.rows, b, outcome)
        return self.outcomes[outcome].log_density(eta, extra, block)

    def log_joint(
        self, ready: Theta, b: Tensor, block: Block, fixed: Fixed | None = None
    ) -> Tensor:
        """log p(y_i, b_i) = log p(y_i | b_i) + log N(b_i; 0, I)."""
        return self.log_likelihood(ready, b, block, fixed) + log_prior(b)

    def extra(self, ready: Theta, rows: Rows, b: Tensor | None = None, outcome: int = 0) -> Extra:
        """Extra parameters of the family: (R,), or (R, ..., J) when a part models one of them.

        Without ``b`` the random effects of the parts are at their mean, zero.
        """
        own, random = self.outcomes[outcome], {}
        for one in own.parts if b is not None else ():
            assert b is not None
            added = self._random(ready, b, rows, Entry(outcome, one.position + 1))
            if added is not None:
                random[one.position + 1] = added
        return own.extra(ready, rows, random)

    def candidate_modes(self, ready: Theta) -> Tensor:
        """Values of b near which the modes of b | y may lie, (c, k); zero is the first."""
        found = [torch.zeros(1, self.k, dtype=torch.float64)]
        for i, latent in enumerate(self.latents):
            own = latent.candidate_modes(part(ready, f"latent{i + 1}."))[1:]
            before = sum(one.dim for one in self.latents[:i])
            after = self.k - before - latent.dim
            found.append(torch.nn.functional.pad(own, (before, after)))
        return torch.cat(found)

    def starts(self, theta: Theta) -> list[Theta]:
        """Parameters from which the likelihood may have different maxima, the given ones first."""
        found = [theta]
        for i, latent in enumerate(self.latents, 1):
            for weights in latent.starts(part(theta, f"latent{i}."))[1:]:
                found.append({**theta, **{f"latent{i}.{n}": w for n, w in weights.items()}})
        return found

    def _split(self, b: Tensor) -> tuple[Tensor, ...]:
        return torch.split(b, [latent.dim for latent in self.latents], dim=-1)


def log_prior(b: Tensor) -> Tensor:
    """log N(b; 0, I) over the last axis."""
    return -0.5 * b.square().sum(-1) - 0.5 * b.shape[-1] * math.log(2 * math.pi)
