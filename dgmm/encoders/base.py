"""What an encoder is: q(b | y) = N(m, R R'), amortised over subjects.

Every encoder adds corrections to the same skeleton, the posterior of the model linearised at b = 0,

    u_ij = e^c_1 sqrt(w_ij) T_ij W,    h_i = e^c_2 sum_j w_ij r_ij T_ij W,
    P_i  = I + sum_j u_ij u_ij',       m_i = P_i^-1 h_i,

with w the information in eta and r the working residual, both at b = 0 and the current theta.
It sees residuals, times and covariates, never bare y: with y alone the optimum itself is wrong for
covariates that vary between subjects. With ``covariance="diagonal"`` the mean stays P_i^-1 h_i and
the variances are the best independent ones, 1 / P_i[k, k].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.panel import Block, Rows
from dgmm.parameters import Theta
from dgmm.posterior.modes import factor_root

__all__ = [
    "Amortised",
    "Approximation",
    "Context",
    "Encoder",
    "Posterior",
    "Sampled",
    "context",
]


class Context(NamedTuple):
    """What the encoder may look at, padded; entries of masked rows are zero."""

    T: Tensor  # (n, J, q) time bases of all latent terms, orthonormal on average per outcome
    weight: Tensor  # (n, J) information in eta at b = 0, in units of eta
    residual: Tensor  # (n, J) working residual at b = 0, in units of eta
    covariates: Tensor  # (n, J, c) fixed columns and network inputs, standardised
    occasion: Tensor  # (n, J) planned occasion of the row; K of them a time with K outcomes
    mask: Tensor  # (n, J)
    imputed: Tensor  # (n, J) bool: the outcome was filled in, it is no evidence about b

    def evidence(self) -> Tensor:
        """The weight of rows whose outcome was seen, zero elsewhere, (n, J)."""
        return torch.where(self.imputed, torch.zeros((), dtype=self.weight.dtype), self.weight)


class Sampled(NamedTuple):
    """Draws from q, with what sets it apart from the prior."""

    b: Tensor  # (M, n, k)
    log_ratio: Tensor  # (M, n) log q(b) - log p(b)
    kl: Tensor  # (n,), over the draws where it has no closed form
    kl_by_direction: Tensor  # (n, k)
    mean: Tensor  # (n, k)
    mu2: tuple[Tensor, ...] = ()  # of every outcome, (M, n, J), where drawing took it
    common: Tensor | None = None  # of outcomes that are alike in one array, (M, n, J, K)

    def log_weight(self, model: Model, ready: Theta, block: Block) -> Tensor:
        """log {p(y_i | b_i) p(b_i) / q(b_i)}, (M, n)."""
        return self.log_likelihood(model, ready, block) - self.log_ratio

    def log_likelihood(self, model: Model, ready: Theta, block: Block) -> Tensor:
        """log p(y_i | b_i), (M, n)."""
        if self.common is not None:
            alike = model.alike(block)
            assert alike is not None
            return alike.log_density(ready, alike.mu1(ready) + self.common)
        if not self.mu2:
            return model.log_likelihood(ready, self.b, block)
        fixed, total = model.fixed(ready, block), torch.zeros(self.b.shape[:-1], dtype=self.b.dtype)
        for o, (own, mu1, mu2) in enumerate(zip(block.blocks, fixed, self.mu2, strict=True)):
            total = total + model.log_density(ready, mu1 + mu2, self.b, own, o)
        return total


class Approximation(Protocol):
    """q of the subjects of a block."""

    def sample(self, e: Tensor) -> Sampled:
        """Draws by white noise e (M, n, k)."""
        ...


class Posterior(NamedTuple):
    """q = N(mean, root root')."""

    mean: Tensor  # (n, k)
    root: Tensor  # (n, k, k)
    log_det_root: Tensor  # (n,)

    def draw(self, e: Tensor) -> Tensor:
        """b = mean + root e for e (M, n, k)."""
        return self.mean + torch.einsum("nab,mnb->mna", self.root, e)

    def sample(self, e: Tensor) -> Sampled:
        """Draws by white noise e (M, n, k)."""
        b = self.draw(e)
        ratio = 0.5 * (b.square() - e.square()).sum(-1) - self.log_det_root
        return Sampled(b, ratio, self.kl(), self.kl_by_direction(), self.mean)

    def kl(self) -> Tensor:
        """KL(q || N(0, I)) in closed form, (n,)."""
        squares = self.root.square().sum((-2, -1)) + self.mean.square().sum(-1)
        return 0.5 * (squares - self.mean.shape[-1]) - self.log_det_root

    def kl_by_direction(self) -> Tensor:
        """KL of each marginal q(b_k) against N(0, 1), (n, k): zero where the prior is kept."""
        variance = self.root.square().sum(-1)
        return 0.5 * (variance + self.mean.square() - 1 - variance.log())


class Amortised(ABC):
    """Weights phi and data of a subject -> q(b | y)."""

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of phi."""

    @abstractmethod
    def initial(self, generator: torch.Generator) -> Weights:
        """Random weights at which q is simple."""

    @abstractmethod
    def posterior(self, phi: Weights, model: Model, ready: Theta, block: Block) -> Approximation:
        """q of the subjects of a block at the current theta."""


@dataclass(frozen=True)
class Encoder(Amortised):
    """phi -> q(b | y). Sizes: k latent, q columns of T, c covariates, J planned occasions."""

    k: int
    q: int
    c: int
    J: int
    covariance: str = "full"  # of q: "full" or "diagonal"

    name: ClassVar[str]

    @abstractmethod
    def initial(self, generator: torch.Generator) -> Weights:
        """Random weights; the corrections start near zero, the skeleton at a random W."""

    def posterior(self, phi: Weights, model: Model, ready: Theta, block: Block) -> Posterior:
        return self(phi, context(model, ready, block))

    @abstractmethod
    def __call__(self, phi: Weights, seen: Context) -> Posterior:
        """The approximate posterior of the subjects of a context."""

    @property
    def changes(self) -> int:
        """Numbers by which :func:`adjust` moves a posterior."""
        return 2 * self.k if self.diagonal else self.k + self.k * (self.k + 1) // 2

    @property
    def diagonal(self) -> bool:
        """The elements of b are independent under q."""
        return self.covariance == "diagonal"

    def tied(self, skip: Tensor, generator: torch.Generator) -> Weights:
        """Start at the posterior of the linear decoder: W = ``skip`` (q, k), c = 0."""
        return {**self.initial(generator), **skeleton_weights(skip)}


def context(model: Model, ready: Theta, block: Block, imputed: Tensor | None = None) -> Context:
    """What the encoder sees of a block at the current theta: the rows of all outcomes.

    imputed: (n, J) bool, rows of the only outcome whose value was filled in.
    """
    parts = [_of_outcome(model, ready, own, o) for o, own in enumerate(block.blocks)]
    seen = parts[0] if len(parts) == 1 else _together(parts, [own.rows for own in block.blocks])
    return seen if imputed is None else seen._replace(imputed=imputed & seen.mask)


def _of_outcome(model: Model, ready: Theta, block: Block, o: int) -> Context:
    """The rows of one outcome, with the columns that all outcomes have in theirs."""
    outcome, rows, mask = model.outcomes[o], block.rows, block.mask
    extra = model.extra(ready, rows, outcome=o)
    eta, unit = outcome.mu1(ready, rows), outcome.unit
    weight = outcome.family.information(rows.data, eta, extra) * unit**2
    residual = outcome.family.working_residual(rows.data, eta, extra) / unit
    T = model.columns_of(rows, o) @ model.whitener
    inputs = [
        (x - net.centre) / net.spread for x, net in zip(rows.inputs, outcome.networks, strict=True)
    ]
    covariates = torch.cat([rows.X @ outcome.basis / unit, *inputs], dim=-1)
    return Context(
        torch.where(mask[..., None], T, 0.0),
        torch.where(mask, weight, 0.0),
        torch.where(mask, residual, 0.0),
        torch.where(mask[..., None], covariates, 0.0),
        rows.occasion,
        mask,
        torch.zeros_like(mask),
    )


def _together(parts: Sequence[Context], rows: Sequence[Rows]) -> Context:
    """The rows of all outcomes in order of time, each with the covariates of its own outcome."""
    sizes = [one.covariates.shape[-1] for one in parts]
    ends, total = np.cumsum(sizes).tolist(), sum(sizes)
    spread = [
        one._replace(
            covariates=pad(one.covariates, (end - size, total - end)),
            occasion=len(parts) * one.occasion + o,
        )
        for o, (one, size, end) in enumerate(zip(parts, sizes, ends, strict=True))
    ]
    both = Context(*(torch.cat(columns, dim=1) for columns in zip(*spread, strict=True)))
    time = torch.cat([torch.where(r.time.isnan(), r.occasion, r.time) for r in rows], dim=1)
    order = torch.where(both.mask, time, torch.inf).argsort(dim=1, stable=True)
    subject = torch.arange(len(order), device=order.device)[:, None]
    return Context(*(column[subject, order] for column in both))


def skeleton(phi: Weights, seen: Context) -> tuple[Tensor, Tensor]:
    """u (n, J, k) and the terms of h (n, J, k) of the linearised posterior.

    W is shared: u alone would leave its sign open, column by column, and training from a random
    start would have to carry columns through zero.
    """
    direction, c = seen.T @ phi["W"], phi["c"].exp()
    weight = seen.evidence()
    u = c[0] * weight.sqrt()[..., None] * direction
    h = c[1] * (weight * seen.residual)[..., None] * direction
    return u, h


def skeleton_shapes(q: int, k: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of the skeleton."""
    return {"W": (q, k), "c": (2,)}


def skeleton_weights(W: Tensor) -> Weights:
    """The skeleton of a linear decoder with loadings W."""
    return {"W": W.clone(), "c": torch.zeros(2, dtype=torch.float64)}


def random_skeleton(q: int, k: int, generator: torch.Generator) -> Weights:
    """A skeleton that knows nothing of the decoder."""
    return skeleton_weights(0.5 * torch.randn(q, k, generator=generator, dtype=torch.float64))


def from_natural(
    precision: Tensor, shift: Tensor, diagonal: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """P^-1 h, a root of P^-1 and its log determinant, for P (n, k, k) and h (n, k).

    Independent: the root of diag(P)^-1, at which KL(q || N(P^-1 h, P^-1)) is smallest.
    """
    root, log_det = factor_root(precision)
    mean = torch.einsum("nab,ncb,nc->na", root, root, shift)
    if not diagonal:
        return mean, root, log_det
    each = precision.diagonal(dim1=-2, dim2=-1)
    return mean, torch.diag_embed(each.rsqrt()), -0.5 * each.log().sum(-1)


def pearson(seen: Context) -> Tensor:
    """Residuals in their own standard deviation, softly bounded at +-10, (n, J, 1)."""
    scaled = seen.weight.sqrt() * seen.residual
    return 10 * torch.tanh(scaled / 10)[..., None]


def adjust(skeletal: Posterior, change: Tensor) -> Posterior:
    """Move a posterior by a network's output (n, k + k (k + 1) / 2): mean shift, then a factor.

    root <- root F with F lower triangular, exp(.) on its diagonal; a zero output changes nothing.
    With (n, 2 k) numbers F is diagonal.
    """
    k = skeletal.mean.shape[-1]
    log_diagonal = change[:, k : 2 * k]
    F = torch.diag_embed(log_diagonal.exp())
    if change.shape[-1] > 2 * k:
        row, column = torch.tril_indices(k, k, -1)
        place = torch.arange(len(F))[:, None], row[None], column[None]
        F = F.index_put(place, change[:, 2 * k :])
    return Posterior(
        skeletal.mean + change[:, :k],
        skeletal.root @ F,
        skeletal.log_det_root + log_diagonal.sum(-1),
    )


def linearised(phi: Weights, seen: Context, diagonal: bool = False) -> Posterior:
    """The skeleton alone: the posterior of the model linearised at b = 0."""
    u, h = skeleton(phi, seen)
    identity = torch.eye(u.shape[-1], dtype=u.dtype)
    return Posterior(*from_natural(identity + u.mT @ u, h.sum(1), diagonal))
