"""q of a code moved by a linear state space: Gaussian potentials, carried by the same filter.

    psi_t(a) = exp(eta_t'a - a' Lambda_t a / 2),   q(a, z) proportional to p(a, z) prod_t psi_t(a_t)

    eta_t = sum_k e^{omega_tk} J_k r_tk / s_tk^2 + delta_tk,
    Lambda_t = sum_k e^{omega_tk} J_k J_k' / s_tk^2 + diag(rho_tk^2),   k the outcomes seen

J_k is the slope of the decoder of an outcome at a = 0 and s_tk the standard deviation of the
outcome, so that with a linear decoder and silent networks (omega, delta, rho) psi_t is the density
of the outcomes and q the posterior. As that density psi_t is a product over outcomes, each with a
network of its own: one that was not seen is left out, and the others stay what they are.

With ``joint`` one network of all outcomes of a step, r_t and which of them were seen, says
Lambda_t = diag(lambda_t) and eta_t = lambda_t m_t. It knows what no outcome tells by itself, as the
pixels of a picture, and is right for the patterns of missing outcomes that it has learnt from.

The potentials to come say of z_t a message exp(nu_t'z - z' Omega_t z / 2), by the filter run
backwards; then q(a_t | a_1..a_{t-1}) is normal with closed moments, and draws go forwards. Weights
of several dynamics see the code: the messages take those of its filtered mean, which costs q some
of its shape and the bound nothing of its truth.

"smooth" is this; "frame" is one step by itself, q(a_t | y_t) = N(V_t eta_t, V_t) with
V_t = (I + Lambda_t)^-1, and between steps that were seen the same as "smooth".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from dgmm.encoders.steps import Path, Sequential, recursion_of
from dgmm.latent import KalmanCode, Law
from dgmm.latent.kvae import Dynamics
from dgmm.model import Model
from dgmm.networks import Dense, Weights
from dgmm.panel import Block
from dgmm.parameters import Theta, part

__all__ = ["Potentials"]


INFORMED = 2.0
"""Log precision of what a network of all outcomes says at its start: of a code that it tells
nothing of a decoder learns to do without."""


class _Message(NamedTuple):
    """Omega (n, d, d) and nu (n, d)."""

    precision: Tensor
    shift: Tensor


@dataclass(frozen=True)
class Potentials(Sequential):
    """Sizes: p of the code, c inputs, K outcomes."""

    size: int
    inputs: int
    hidden: int
    smooth: bool
    outcomes: int = 1
    joint: tuple[int, ...] = ()  # layers of one network of all outcomes, none without

    @classmethod
    def of(cls, model: Model) -> Potentials:
        """The encoder of a model with a code and nothing else that is random."""
        one = recursion_of(model)
        if len(model.latents) > 1:
            raise ValueError(f"{one.label} stands alone left of its bar: leave out the other terms")
        assert isinstance(one, KalmanCode)
        smooth = one.posterior == "smooth"
        layers = one.decoder.sizes[-2:0:-1] if one.joint else ()
        return cls(one.size, one.width, one.hidden, smooth, one.outcomes, layers)

    @property
    def head(self) -> Dense:
        """(r, x) -> omega, delta, rho, of one outcome."""
        return Dense((1 + self.inputs, self.hidden, 1 + 2 * self.size))

    @property
    def heads(self) -> list[str]:
        """The beginning of the names of the weights of every outcome."""
        return [f"head{k or ''}." for k in range(self.outcomes)]

    @property
    def reader(self) -> Dense:
        """(r, seen, x) of all outcomes -> m, log lambda."""
        return Dense((2 * self.outcomes + self.inputs, *self.joint, 2 * self.size))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        if self.joint:
            return {f"reader.{name}": s for name, s in self.reader.shapes().items()}
        shapes = self.head.shapes()
        return {f"{head}{name}": s for head in self.heads for name, s in shapes.items()}

    def initial(self, generator: torch.Generator) -> Weights:
        found: Weights = {}
        if self.joint:
            own = self.reader.initial(generator)
            own[f"a{len(self.joint) + 1}"][self.size :] = INFORMED
            return {f"reader.{name}": w for name, w in own.items()}
        for head in self.heads:
            own = self.head.initial(generator, last=0.05)
            found |= {f"{head}{name}": w for name, w in own.items()}
        return found

    def posterior(self, phi: Weights, model: Model, ready: Theta, block: Block) -> Path:
        return _Carried(phi, model, ready, block, self)


@dataclass(frozen=True)
class _Carried(Path):
    encoder: Potentials

    @cached_property
    def code(self) -> KalmanCode:
        """The latent structure."""
        assert isinstance(self.latent, KalmanCode)
        return self.latent

    @cached_property
    def potentials(self) -> tuple[Tensor, Tensor]:
        """eta (n, G, p) and Lambda (n, G, p, p)."""
        steps, p = self.steps, self.encoder.size
        if self.encoder.joint:
            return self._read_jointly()
        changes = []
        for k, head in enumerate(self.encoder.heads):
            known = torch.cat([steps.residual[..., k, None], steps.x], dim=-1)
            changes.append(self.encoder.head(part(self.phi, head), known))
        change = torch.where(steps.seen[..., None], torch.stack(changes, dim=-2), 0.0)
        omega, delta, rho = change.split([1, p, p], dim=-1)  # (n, G, K, .)
        J = self.code.slope(self.weights)
        weight = omega[..., 0].clamp(-5, 5).exp() / steps.spread.square()
        weight = torch.where(steps.seen, weight, 0.0)
        squares = (J[:, :, None] * J[:, None]).flatten(1)
        eta = (weight * steps.residual) @ J + delta.sum(-2)
        Lambda = (weight @ squares).unflatten(-1, (p, p))
        return eta, Lambda + torch.diag_embed(rho.square().sum(-2))

    def _read_jointly(self) -> tuple[Tensor, Tensor]:
        steps, p = self.steps, self.encoder.size
        known = torch.cat([steps.residual, steps.seen.to(steps.x), steps.x], dim=-1)
        m, spread = self.encoder.reader(part(self.phi, "reader."), known).split([p, p], dim=-1)
        precision = torch.where(self.seen[..., None], spread.clamp(-7, 7).exp(), 0.0)
        return precision * m, torch.diag_embed(precision)

    @cached_property
    def seen(self) -> Tensor:
        """Steps with an outcome that was seen, (n, G)."""
        return self.steps.seen.any(-1)

    def mixing(self) -> Tensor:
        code, w = self.code, self.weights
        return torch.stack([code.weights_of(w, h) for h in self.memories], dim=1)

    @cached_property
    def dynamics(self) -> list[Dynamics]:
        """Of every step, with the filtered mean of the code in the place of the code."""
        return [self.code.dynamics(self.weights, h) for h in self.memories]

    @cached_property
    def memories(self) -> list[Tensor]:
        """h before every step, of filtered means of the code."""
        code, w, steps = self.code, self.weights, self.steps
        n = len(steps.real)
        state = code.start(w).expand(n, code.state_size)
        if code.modes == 1:
            return [code.unpacked(state)[2]] * steps.number
        found = []
        for t in range(steps.number):
            found.append(code.unpacked(state)[2])
            law = code.prior(w, state, steps.x[:, t], t == 0)
            m, P, by = law.made
            mean, V = self._updated(law, t)
            assert law.root is not None
            gain = torch.cholesky_solve(by.C @ P, law.root).mT
            m = m + (gain @ (mean - law.mean)[..., None])[..., 0]
            P = P - gain @ (law.root @ law.root.mT - V) @ gain.mT
            moved = code.packed(m, P, code.remembered(w, state, mean))
            state = torch.where(steps.real[:, t, None], moved, state)
        return found

    def _updated(self, law: Law, t: int) -> tuple[Tensor, Tensor]:
        """Mean and covariance of a code of some law, times its potential."""
        eta, Lambda = (one[:, t] for one in self.potentials)
        assert law.root is not None
        S = law.root @ law.root.mT
        V = torch.linalg.solve(torch.eye(S.shape[-1], dtype=S.dtype) + S @ Lambda, S)
        shift = torch.cholesky_solve(law.mean[..., None], law.root) + eta[..., None]
        return (V @ shift)[..., 0], V

    @cached_property
    def messages(self) -> list[_Message]:
        """What the potentials after every step say of its z."""
        code, w, steps = self.code, self.weights, self.steps
        Q, R = code.noise(w)
        n, d, p = len(steps.real), code.dynamic, code.size
        message = _Message(Q.new_zeros(n, d, d), Q.new_zeros(n, d))
        found = [message]
        eta, Lambda = self.potentials
        for t in reversed(range(1, steps.number)):
            by = self.dynamics[t]
            less = torch.eye(p, dtype=Q.dtype) + Lambda[:, t] @ R
            own = by.C.mT @ torch.linalg.solve(less, Lambda[:, t]) @ by.C
            shift = (by.C.mT @ torch.linalg.solve(less, eta[:, t, :, None]))[..., 0]
            Omega, nu = message.precision + own, message.shift + shift
            back = by.A.mT @ torch.linalg.inv(torch.eye(d, dtype=Q.dtype) + Omega @ Q)
            moved = (by.B @ steps.x[:, t, :, None])[..., 0]
            nu = (back @ (nu - (Omega @ moved[..., None])[..., 0])[..., None])[..., 0]
            Omega = back @ Omega @ by.A
            message = _Message(0.5 * (Omega + Omega.mT), nu)
            found.append(message)
        return found[::-1]

    def step(self, t: int, state: Tensor, law: Law) -> Law:
        if self.encoder.smooth:
            return self._guided(t, law)
        seen = self.seen[:, t]
        eta, Lambda = (one[:, t] for one in self.potentials)
        V = torch.linalg.inv(torch.eye(eta.shape[-1], dtype=eta.dtype) + Lambda)
        own = self._whitened((V @ eta[..., None])[..., 0], V, law, seen)
        if bool((seen | ~self.steps.real[:, t]).all()):
            return own
        between = self._guided(t, law)
        assert own.root is not None
        assert between.root is not None
        mean = torch.where(seen[:, None], own.mean, between.mean)
        root = torch.where(seen[:, None, None], own.root, between.root)
        return Law(mean, root.diagonal(dim1=-2, dim2=-1).log(), root)

    def _guided(self, t: int, law: Law) -> Law:
        """The law of e of a step given its potential and the message of those to come."""
        assert law.root is not None
        code, w = self.code, self.weights
        m, P, by = law.made
        Omega, nu = self.messages[t]
        P = torch.linalg.solve(torch.eye(code.dynamic, dtype=P.dtype) + P @ Omega, P)
        less = nu - (Omega @ m[..., None])[..., 0]
        m = m + (P @ less[..., None])[..., 0]
        _, R = code.noise(w)
        root = torch.linalg.cholesky(by.C @ (0.5 * (P + P.mT)) @ by.C.mT + R)
        guided = Law((by.C @ m[..., None])[..., 0], law.log_sd, root)
        mean, V = self._updated(guided, t)
        return self._whitened(mean, V, law, self.steps.real[:, t])

    def _whitened(self, mean: Tensor, V: Tensor, law: Law, told: Tensor) -> Law:
        """The law of e of a code with some mean and covariance; the prior where nothing is told."""
        assert law.root is not None
        away = (mean - law.mean)[..., None]
        m = torch.linalg.solve_triangular(law.root, away, upper=False)[..., 0]
        own = torch.linalg.cholesky(0.5 * (V + V.mT))
        shape = torch.broadcast_shapes(law.root.shape, own.shape)
        root = torch.linalg.solve_triangular(law.root, own.expand(shape), upper=False)
        m = torch.where(told[:, None], m, 0.0)
        root = torch.where(told[:, None, None], root, torch.eye(shape[-1], dtype=root.dtype))
        return Law(m, root.diagonal(dim1=-2, dim2=-1).log(), root)

    def others(self) -> Law:
        nothing = self.steps.residual.new_zeros(len(self.steps.real), 0)
        return Law(nothing, nothing)
