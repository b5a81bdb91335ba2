"""q of every subject by Newton steps that follow theta: the bound without an encoder.

    q_i = N(m_i, P_i^-1),   m_i(theta) = a_i + P_i^-1 {J_i' d log p(y_i | a_i; theta) / d eta - a_i}

a_i and P_i are kept from the last visit to subject i, J_i = d eta / d b at a_i. The step is taken
at the current theta and is differentiable in it, so that a change of the fixed part moves the
random effects at once and the bound has the curvature of the marginal likelihood; with q held where
it was, each would wait for the other. After the visit the draws b that the bound was made of give

    P_i <- I + E_q J'W J,      a_i <- m_i + rho P_i^-1 { E_q J' d log p / d eta - m_i },

half a step (rho) of the natural gradient of the bound: Khan and Lin (2017), AISTATS. For a linear
Gaussian model the first visit gives the exact posterior.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgmm.encoders import Posterior
from dgmm.model import Model
from dgmm.panel import Block, Panel
from dgmm.parameters import Theta
from dgmm.posterior.modes import factor_root, find_modes
from dgmm.variational.elbo import Bound

__all__ = ["NewtonPosterior"]

SHARE = 0.5
"""rho: the draws are few, so their mean is taken half."""

LARGEST_STEP = 2.0
"""Longest step of a mean, in prior standard deviations."""


@dataclass
class NewtonPosterior:
    """Where q of each subject stands; :meth:`bound` moves it."""

    mean: Tensor  # (n, k)
    precision: Tensor  # (n, k, k)

    @classmethod
    def at_modes(cls, model: Model, theta: Theta, panel: Panel) -> NewtonPosterior:
        """The normal approximation at the modes of b | y."""
        mean = torch.zeros(panel.n, model.k, dtype=torch.float64)
        precision = torch.zeros(panel.n, model.k, model.k, dtype=torch.float64)
        for block in panel.blocks():
            anchor = find_modes(model, theta, block)
            mean[block.subjects] = anchor.mode
            precision[block.subjects] = torch.cholesky_inverse(
                torch.linalg.cholesky(anchor.covariance)
            )
        return cls(mean, precision)

    def bound(self, model: Model, theta: Theta, block: Block, e: Tensor) -> Bound:
        """The bound of the subjects of a block with draws e (M, n, k), then half a Newton step."""
        ready = model.prepare(theta)
        held = {name: value.detach() for name, value in ready.items()}
        mu1 = model.mu1(ready, block.rows)
        root, log_det = factor_root(self.precision[block.subjects])
        mean = self._followed(model, ready, held, mu1, root, block)
        q = Posterior(mean, root, log_det)
        b = q.draw(e)
        eta = mu1 + model.mu2(ready, b, block.rows)
        density = model.log_density(ready, eta, b, block)
        (slope,) = torch.autograd.grad(density.sum(), eta, retain_graph=True)
        self._visit(model, held, q, b.detach(), eta.detach(), slope / len(e), block)
        return Bound(density.mean(0), q.kl(), q.kl_by_direction(), mean.detach())

    def _followed(
        self, model: Model, ready: Theta, held: Theta, mu1: Tensor, root: Tensor, block: Block
    ) -> Tensor:
        """m_i(theta), differentiable in theta through eta at a_i; J and P are held."""
        at = self.mean[block.subjects]
        eta = mu1 + model.mu2(ready, at, block.rows)
        density = model.log_density(ready, eta, at, block).sum()
        (slope,) = torch.autograd.grad(density, eta, create_graph=True)
        with torch.no_grad():
            J = model.jacobian(held, at, block.rows)
        score = torch.einsum("njk,nj->nk", J, slope) - at
        return at + _newton_step(root, score)

    def _visit(
        self,
        model: Model,
        held: Theta,
        q: Posterior,
        b: Tensor,
        eta: Tensor,
        slope: Tensor,
        block: Block,
    ) -> None:
        """Half a step of the natural gradient; ``slope`` is d E_q log p / d eta, draw by draw."""
        rows, subjects, mean = block.rows, block.subjects, q.mean.detach()
        with torch.no_grad():
            J = model.jacobian(held, b, rows)
            W = model.family.information(rows.data, eta, model.extra(held, rows, b))
            W = torch.where(block.mask, W, 0.0) / len(b)
            P = torch.eye(model.k, dtype=b.dtype, device=b.device)
            P = P + torch.einsum("mnja,mnj,mnjb->nab", J, W, J)
            score = torch.einsum("mnjk,mnj->nk", J, slope) - mean
            self.mean[subjects] = mean + SHARE * _newton_step(q.root, score)
            self.precision[subjects] = torch.lerp(self.precision[subjects], P, SHARE)


def _newton_step(root: Tensor, score: Tensor) -> Tensor:
    """P^-1 score, with root root' = P^-1, not longer than LARGEST_STEP."""
    step = torch.einsum("nab,ncb,nc->na", root, root, score)
    length = step.detach().norm(dim=-1, keepdim=True)
    return step * (LARGEST_STEP / length.clamp(min=LARGEST_STEP))
