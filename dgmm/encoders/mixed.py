"""q(b | y) that is not normal: an encoder, Newton steps from its mean, a mixture about their end.

    a = mean of q_0(b | y), then ``steps`` Newton steps uphill on log p(y, b),
    R R' = (I + J'W J)^-1 at a,      b = a + R z,
    q(z | y) = sum_c w_c N(z; t_c, (A_c'A_c)^-1),   A_c lower triangular,

w, t and A from one network of a, R, the slope that is left at a, how log p(y, b) departs from the
normal one at a +- 1.5 R e_j, where the steps began, and what the outcomes say at b = 0. With a
silent network q is the normal approximation around a. The steps are the same few for every subject,
all at once: no search.

A mixture of normal densities with full covariances follows shoulders and bends of p(b | y), which a
single one cannot: Bishop (1994), Mixture density networks, Aston University NCRG/94/004.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dgmm.encoders.base import Amortised, Context, Encoder, Posterior, Sampled, context
from dgmm.model import Fixed, Model
from dgmm.networks import Dense, Weights
from dgmm.numerics.quadrature import sigma_points
from dgmm.panel import Block
from dgmm.parameters import Theta, part
from dgmm.posterior.modes import climb, factor_root

__all__ = ["Mixed", "MixedPosterior", "Standing", "quadratic"]

WIDEST = 8.0
"""Bound of a standardised input, beyond which a network has learnt nothing."""

SHIFT, STRETCH = 4.0, 2.0
"""Bounds of t_c and of the logarithms and other entries of A_c."""

ASIDE = 1.5
"""c, how far from a the outcomes are asked how they bend, in units of R."""


class Standing(NamedTuple):
    """Where the Newton steps of some subjects ended."""

    centre: Tensor  # (n, k) a
    root: Tensor  # (n, k, k) R, upper triangular
    log_det_root: Tensor  # (n,)
    inputs: Tensor  # (n, d) of the network, on their own scales


class MixedPosterior(NamedTuple):
    """q of n subjects in the coordinates z."""

    centre: Tensor  # (n, k)
    root: Tensor  # (n, k, k)
    log_det_root: Tensor  # (n,)
    log_share: Tensor  # (n, C) log w
    shift: Tensor  # (n, C, k) t
    factor: Tensor  # (n, C, k, k) A, triangular

    @property
    def shares(self) -> Tensor:
        """w, (n, C)."""
        return self.log_share.exp()

    def at(self, e: Tensor, component: Tensor) -> Tensor:
        """z (n, k, M) of white noise e (n, k, M) in the components given, (n, M)."""
        n, C, k = self.shift.shape
        inverse = torch.linalg.inv(self.factor)
        every = (inverse.reshape(n, C * k, k) @ e).reshape(n, C, k, -1) + self.shift[..., None]
        return every.gather(1, component[:, None, None].expand(n, 1, k, -1))[:, 0]

    def of(self, z: Tensor) -> Tensor:
        """b (M, n, k) at z (n, k, M)."""
        gap = self.root @ z.to(self.root.dtype)
        return (self.centre[..., None] + gap).permute(2, 0, 1).contiguous()

    def log_density(self, z: Tensor) -> Tensor:
        """log q(z), (M, n), at z (n, k, M); that of b is smaller by log |R|."""
        n, C, k = self.shift.shape
        e = (self.factor.reshape(n, C * k, k) @ z).reshape(n, C, k, -1)
        e = e - self.factor @ self.shift[..., None]
        constant = self.log_share + self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = constant - 0.5 * k * math.log(2 * math.pi)
        return torch.logsumexp(constant[..., None] - 0.5 * e.square().sum(2), 1).T

    def sample(self, e: Tensor) -> Sampled:
        """Draws by white noise e (M, n, k), as many of each component as its share asks for.

        Components are systematic draws; their beginning is a late digit of the noise.
        """
        start = (1e4 * torch.special.ndtr(e[0, :, 0])).frac()
        place = (torch.arange(len(e), dtype=e.dtype)[:, None] + start) / len(e)
        z = self.at(e.permute(1, 2, 0), self._component(place))
        b = self.of(z)
        ratio = self.log_density(z) - self.log_det_root + 0.5 * b.square().sum(-1)
        ratio = ratio + 0.5 * b.shape[-1] * math.log(2 * math.pi)
        mean, variance = self.moments()
        kl = 0.5 * (variance + mean.square() - 1 - variance.log())
        return Sampled(b, ratio, ratio.mean(0), kl, mean)

    @classmethod
    def normal(cls, q: Posterior) -> MixedPosterior:
        """A normal q as a mixture of one."""
        n, k = q.mean.shape
        identity = torch.eye(k, dtype=q.mean.dtype).expand(n, 1, k, k)
        nothing = torch.zeros(n, 1, dtype=q.mean.dtype)
        shift = torch.zeros(n, 1, k, dtype=q.mean.dtype)
        return cls(*q, nothing, shift, identity)

    def defended(self, prior: float, wide: float, times: float) -> MixedPosterior:
        """With shares of two more components: N(0, I), and one about a, ``times`` as wide as R.

        No weight p(y, b) / g(b) is larger than max p(y | b) / prior then, and a mode that q has
        missed has draws.
        """
        n, _, k = self.shift.shape
        root, centre = self.root.to(self.shift.dtype), self.centre.to(self.shift.dtype)
        away = torch.linalg.solve_triangular(root, -centre[..., None], upper=True)[..., 0]
        beside = torch.eye(k, dtype=root.dtype).expand(n, k, k) / times
        more = torch.tensor([prior, wide], dtype=root.dtype).log().expand(n, 2)
        return self._replace(
            log_share=torch.cat([self.log_share + math.log1p(-prior - wide), more], 1),
            shift=torch.cat([self.shift, torch.stack([away, torch.zeros_like(away)], 1)], 1),
            factor=torch.cat([self.factor, torch.stack([root, beside], 1)], 1),
        )

    def drawn(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """b (M, n, k) of uniforms u (M, n, 1 + k), and log q(b), (M, n).

        The first uniform chooses the component.
        """
        e = torch.special.ndtri(u[..., 1:].permute(1, 2, 0).contiguous())
        z = self.at(e.to(self.shift.dtype), self._component(u[..., 0]))
        return self.of(z), self.log_density(z) - self.log_det_root

    def _component(self, place: Tensor) -> Tensor:
        """The component at places (M, n) in [0, 1] along the shares, (n, M)."""
        ends = self.shares.cumsum(1)
        found = torch.searchsorted(ends, place.T.to(ends.dtype).contiguous())
        return found.clamp(max=ends.shape[1] - 1)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variances of the elements of b, (n, k) each."""
        shares = self.shares[..., None]
        middle = (shares * self.shift).sum(1)
        inverse = torch.linalg.inv(self.factor)
        apart = self.shift - middle[:, None]
        second = inverse @ inverse.mT + apart[..., :, None] * apart[..., None, :]
        covariance = self.root @ (shares[..., None] * second).sum(1) @ self.root.mT
        mean = self.centre + torch.einsum("nab,nb->na", self.root, middle)
        return mean, covariance.diagonal(dim1=-2, dim2=-1)


@dataclass(frozen=True)
class Mixed(Amortised):
    """phi -> q(b | y): an encoder ``base``, Newton steps, a mixture."""

    base: Encoder
    components: int = 6
    hidden: int = 64
    steps: int = 2

    @property
    def k(self) -> int:
        """Dimension of b."""
        return self.base.k

    @property
    def width(self) -> int:
        """Inputs of the network."""
        k = self.k
        return 5 * k + k * (k + 1) + 2 + 2 * self.base.q

    @property
    def network(self) -> Dense:
        """Inputs -> w, t and A of all components."""
        each = 1 + self.k + self.k * (self.k + 1) // 2
        return Dense((self.width, self.hidden, self.hidden, self.components * each), "silu")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            **{f"base.{name}": s for name, s in self.base.shapes().items()},
            **{f"head.{name}": s for name, s in self.network.shapes().items()},
        }

    def initial(self, generator: torch.Generator) -> Weights:
        return self.above(self.base.initial(generator), generator)

    def above(self, base: Weights, generator: torch.Generator) -> Weights:
        """Weights with those of the base given and a network that is nearly silent."""
        head = self.network.initial(generator, last=0.1)
        return {
            **{f"base.{name}": w for name, w in base.items()},
            **{f"head.{name}": w for name, w in head.items()},
            "scale.centre": torch.zeros(self.width, dtype=torch.float64),
            "scale.spread": torch.ones(self.width, dtype=torch.float64),
        }

    def posterior(self, phi: Weights, model: Model, ready: Theta, block: Block) -> MixedPosterior:
        return self.about(phi, self.stand(phi, model, ready, block))

    def about(self, phi: Weights, found: Standing) -> MixedPosterior:
        """q of subjects whose Newton steps are done, in the precision of the weights."""
        return MixedPosterior(*found[:3], *self.parts(phi, found.inputs.to(phi["head.A1"].dtype)))

    def stand(self, phi: Weights, model: Model, ready: Theta, block: Block) -> Standing:
        """The end of the Newton steps and the inputs of the network; no gradient."""
        with torch.no_grad():
            seen = context(model, ready, block)
            start = self.base(part(phi, "base."), seen)
            fixed = model.fixed(ready, block)
            places = [
                start.mean,
                *(one.expand_as(start.mean) for one in model.candidate_modes(ready)),
            ]
            height = torch.stack([model.log_joint(ready, b, block, fixed) for b in places])
            best = torch.nan_to_num(height, nan=-torch.inf).argmax(0)
            begun = torch.stack(places)[best, torch.arange(len(best))]
            end = climb(model, ready, block, fixed, begun, self.steps).b
            slope, P = model.slope_and_precision(ready, end, block, fixed)
            root, log_det = factor_root(P)
            left = torch.einsum("nba,nb->na", root, slope)
            bends = _bends(model, ready, block, fixed, end, root)
            inputs = self._inputs(seen, start, end, root, log_det, left, bends)
        return Standing(end, root, log_det, inputs)

    def _inputs(
        self,
        seen: Context,
        start: Posterior,
        end: Tensor,
        root: Tensor,
        log_det: Tensor,
        left: Tensor,
        bends: Tensor,
    ) -> Tensor:
        """The inputs of the network, (n, d)."""
        column, row = torch.tril_indices(self.k, self.k)  # of upper triangular roots
        weight = seen.evidence()
        score = ((weight * seen.residual)[..., None] * seen.T).sum(1)
        known = torch.log1p((weight[..., None] * seen.T.square()).sum(1))
        share = seen.mask.to(end.dtype).sum(1, keepdim=True) / self.base.J
        return torch.cat(
            [
                end,
                3 * torch.tanh(left / 3),
                bends,
                root[:, row, column],
                log_det[:, None],
                start.mean - end,
                start.root[:, row, column],
                known,
                torch.asinh(score),
                share,
            ],
            dim=1,
        )

    def parts(self, phi: Weights, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log w (n, C), t (n, C, k) and A (n, C, k, k)."""
        k, C = self.k, self.components
        scaled = (inputs - phi["scale.centre"]) / phi["scale.spread"]
        out = self.network(part(phi, "head."), WIDEST * torch.tanh(scaled / WIDEST))
        out = out.reshape(len(inputs), C, -1)
        log_share = torch.log_softmax(out[..., 0], -1)
        shift = SHIFT * torch.tanh(out[..., 1 : 1 + k] / SHIFT)
        entries = STRETCH * torch.tanh(out[..., 1 + k :] / STRETCH)
        factor = torch.diag_embed(entries[..., :k].exp())
        row, column = torch.tril_indices(k, k, -1)
        place = torch.zeros_like(factor)
        place[..., row, column] = entries[..., k:]
        return log_share, shift, factor + place


def _bends(
    model: Model, ready: Theta, block: Block, fixed: Fixed, end: Tensor, root: Tensor
) -> Tensor:
    """How log p(y, b) departs from the normal one on either side of a, by axis, (n, 2 k).

    The half sums and half differences over a +- c R e_j.
    """
    k = end.shape[1]
    points = sigma_points(k).to(end.dtype) * (ASIDE / math.sqrt(k))
    b = torch.cat([end[None], end + torch.einsum("nab,mb->mna", root, points)])
    height = model.log_joint(ready, b, block, fixed)
    away = height[1:] - height[0] + 0.5 * ASIDE**2
    above, below = torch.nan_to_num(away, nan=-1e3).clamp(-1e3, 1e3).split(k)
    return torch.asinh(torch.cat([above + below, above - below]).T)


def quadratic(z: Tensor) -> Tensor:
    """The monomials of degree 2, 1 and 0 of z (n, M, k), (n, M, k (k + 1) / 2 + k + 1)."""
    row, column = torch.tril_indices(z.shape[-1], z.shape[-1])
    return torch.cat([z[..., row] * z[..., column], z, torch.ones_like(z[..., :1])], dim=-1)


def heights(log_share: Tensor, shift: Tensor, factor: Tensor, monomials: Tensor) -> Tensor:
    """log q(z), (n, M), from the monomials of z (n, M, .): one product for all components."""
    k = shift.shape[-1]
    precision = factor.mT @ factor
    linear = (precision @ shift[..., None])[..., 0]
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = (
        log_share + log_det - 0.5 * (linear * shift).sum(-1) - 0.5 * k * math.log(2 * math.pi)
    )
    row, column = torch.tril_indices(k, k)
    double = torch.where(row == column, -0.5, -1.0).to(shift.dtype)
    square = double * precision[..., row, column]
    coefficients = torch.cat([square, linear, constant[..., None]], dim=-1)
    return torch.logsumexp(monomials @ coefficients.mT, -1)
