"""Kalman variational auto-encoder `kvae(time)`: a code that a linear state space moves.

    z_t = A_t z_{t-1} + B_t x_t + N(0, Q),   a_t = C_t z_t + N(0, R),   mu2_t = c'a_t + d(a_t),
    (A_t, B_t, C_t) = sum_k w_tk (A_k, B_k, C_k),
    w_t = softmax(V h_{t-1} + v),   h_t = GRU(h_{t-1}; a_t)

Q and R are diagonal, d is a network, x_t are controls. The weights depend on codes of the past
alone, so that z can be integrated out: given them

    a_t | a_1..a_{t-1} ~ N(C_t m_t, C_t P_t C_t' + R),

m_t and P_t the predictions of the Kalman filter. The code is the latent variable of a recursion
whose state is (m, P, h), and z is never drawn. With K=1 and a silent network mu2 is a linear
Gaussian state space. After Fraccaro, Kamronn, Paquet and Winther (2017), NeurIPS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import linear

from dgmm.formula import Syntax
from dgmm.latent.law import Law
from dgmm.latent.recursion import FLOOR, Recursion
from dgmm.networks import Dense, Gated, Weights
from dgmm.parameters import part

__all__ = ["Dynamics", "KalmanCode"]


class Dynamics(NamedTuple):
    """A (..., d, d), B (..., d, c) and C (..., p, d) of a step."""

    A: Tensor
    B: Tensor
    C: Tensor


class Predicted(NamedTuple):
    """z of a step before its code: N(m, P), m (..., d), and the dynamics of the step."""

    m: Tensor
    P: Tensor
    by: Dynamics


@dataclass(frozen=True)
class KalmanCode(Recursion):
    """The state is (m, P, h) after a step; ``size`` is that of the code."""

    name = "kvae"
    on_grid = True
    potentials = True
    late = ("memory.", "h0", "V", "v")
    syntax = Syntax(
        options={
            "code": "count",
            "state": "count",
            "K": "count",
            "hidden": "count",
            "decoder": "layers",
            "encoder": ("each", "joint"),
            "posterior": ("smooth", "frame"),
            "control": "terms",
        },
        neural=True,
        serial=True,
    )
    dynamic: int = 2  # d
    modes: int = 3  # K
    widths: tuple[int, ...] = ()  # of the layers of d; none is one of ``hidden`` units
    joint: bool = False  # one network of all outcomes of a step says what they tell of the code

    @classmethod
    def of(cls, options: Any, **given: Any) -> Self:
        return cls(
            size=options.get("code", 1),
            dynamic=options.get("state", 2),
            modes=options.get("K", 3),
            hidden=options.get("hidden", 16),
            widths=options.get("decoder", ()),
            joint=options.get("encoder", "each") == "joint",
            **given,
        )

    @property
    def state_size(self) -> int:
        memory = self.hidden if self.modes > 1 else 0
        return self.dynamic * (1 + self.dynamic) + memory

    @property
    def memory(self) -> Gated:
        """a and h -> h."""
        return Gated(self.size, self.hidden)

    @property
    def decoder(self) -> Dense:
        """a -> d."""
        return Dense((self.size, *(self.widths or (self.hidden,)), self.outcomes))

    def layers(self) -> str:
        sizes = [self.decoder.sizes]
        if self.modes > 1:
            sizes.append((self.size, self.hidden, self.modes))
        return "; ".join("-".join(map(str, one)) for one in sizes)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        d, p, K = self.dynamic, self.size, self.modes
        mixing: dict[str, tuple[int, ...]] = {}
        if K > 1:
            mixing = {f"memory.{name}": s for name, s in self.memory.shapes().items()}
            mixing |= {"h0": (self.hidden,), "V": (K, self.hidden), "v": (K,)}
        return {
            "l1": (d,),
            "A": (K, d, d),
            "B": (K, d, self.width),
            "C": (K, p, d),
            "lq": (d,),
            "lr": (p,),
            "c": (self.outcomes * p,),
            **mixing,
            **{f"decoder.{name}": s for name, s in self.decoder.shapes().items()},
        }

    def initial(self, generator: torch.Generator) -> Weights:
        """Every A near a multiple of the identity, and no two alike."""
        shapes = self.shapes()

        def normal(name: str, spread: float) -> Tensor:
            draws = torch.randn(shapes[name], generator=generator, dtype=torch.float64)
            return spread * draws

        found = {
            "l1": torch.zeros(self.dynamic, dtype=torch.float64),
            "A": 0.9 * torch.eye(self.dynamic, dtype=torch.float64) + normal("A", 0.1),
            "B": normal("B", 0.05),
            "C": normal("C", 0.7),
            "lq": torch.full(shapes["lq"], -1.0, dtype=torch.float64),
            "lr": torch.full(shapes["lr"], -1.75, dtype=torch.float64),  # R = 0.03
            "c": normal("c", 1.0),
        }
        if self.modes > 1:
            found |= {"h0": torch.zeros(self.hidden, dtype=torch.float64), "V": normal("V", 0.3)}
            found["v"] = torch.zeros(self.modes, dtype=torch.float64)
            memory = self.memory.initial(generator)
            found |= {f"memory.{name}": w for name, w in memory.items()}
        decoder = self.decoder.initial(generator, last=0.1)
        return found | {f"decoder.{name}": w for name, w in decoder.items()}

    # -- the filter --------------------------------------------------------------------------------

    def weights_of(self, weights: Weights, h: Tensor) -> Tensor:
        """w given the codes of the past, (..., K)."""
        if self.modes == 1:
            return h.new_ones(*h.shape[:-1], 1)
        return torch.softmax(linear(h, weights["V"], weights["v"]), dim=-1)

    def dynamics(self, weights: Weights, h: Tensor) -> Dynamics:
        """The mixture of a step given the codes of the past."""
        if self.modes == 1:
            return Dynamics(*(weights[name][0] for name in ("A", "B", "C")))
        w = self.weights_of(weights, h)
        return Dynamics(*(torch.einsum("...k,kab->...ab", w, weights[n]) for n in ("A", "B", "C")))

    def noise(self, weights: Weights) -> tuple[Tensor, Tensor]:
        """Q (d, d) and R (p, p)."""
        variances = ((2 * weights[name].clamp(min=FLOOR)).exp() for name in ("lq", "lr"))
        Q, R = (torch.diag(one) for one in variances)
        return Q, R

    def unpacked(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """m (..., d), P (..., d, d) and h of a state."""
        d = self.dynamic
        m, P, h = state.split([d, d * d, state.shape[-1] - d - d * d], dim=-1)
        return m, P.unflatten(-1, (d, d)), h

    def packed(self, m: Tensor, P: Tensor, h: Tensor) -> Tensor:
        """The state, (..., S)."""
        return torch.cat([m, P.flatten(-2).expand(*m.shape[:-1], -1), h], dim=-1)

    def predicted(
        self, weights: Weights, state: Tensor, x: Tensor, first: bool, by: Dynamics
    ) -> tuple[Tensor, Tensor]:
        """m and P of z before its code, (..., d) and (..., d, d)."""
        m, P, _ = self.unpacked(state)
        moved = (by.B @ x[..., None])[..., 0]
        if first:
            start = torch.diag((2 * weights["l1"].clamp(min=FLOOR)).exp())
            return moved.expand_as(m), start.expand_as(P)
        Q, _ = self.noise(weights)
        return moved + (by.A @ m[..., None])[..., 0], by.A @ P @ by.A.mT + Q

    def told(self, weights: Weights, state: Tensor, a: Tensor, law: Law) -> Tensor:
        """The state once the code a of a step is known, which had some law before."""
        m, P, by = law.made
        _, R = self.noise(weights)
        assert law.root is not None
        K = torch.cholesky_solve(by.C @ P, law.root).mT
        m = m + (K @ (a - law.mean)[..., None])[..., 0]
        left = torch.eye(self.dynamic, dtype=K.dtype) - K @ by.C
        P = left @ P @ left.mT + K @ R @ K.mT
        return self.packed(m, P, self.remembered(weights, state, a))

    def remembered(self, weights: Weights, state: Tensor, a: Tensor) -> Tensor:
        """h after the code a of a step."""
        h = self.unpacked(state)[2]
        if self.modes == 1:
            return h
        memory = part(weights, "memory.")
        return self.memory.step(memory, self.memory.drive(memory, a), h)

    # -- the duties of a recursion -----------------------------------------------------------------

    def start(self, weights: Weights) -> Tensor:
        d = self.dynamic
        nothing = weights["A"].new_zeros(d * (1 + d))
        return torch.cat([nothing, weights["h0"]]) if self.modes > 1 else nothing

    def prior(self, weights: Weights, state: Tensor, x: Tensor, first: bool) -> Law:
        by = self.dynamics(weights, self.unpacked(state)[2])
        m, P = self.predicted(weights, state, x, first, by)
        _, R = self.noise(weights)
        root = torch.linalg.cholesky(by.C @ P @ by.C.mT + R)
        mean = (by.C @ m[..., None])[..., 0]
        return Law(mean, root.diagonal(dim1=-2, dim2=-1).log(), root, Predicted(m, P, by))

    def emitted(self, weights: Weights, z: Tensor, state: Tensor, x: Tensor) -> Tensor:
        return self.loaded(weights, z) + self.decoder(part(weights, "decoder."), z)

    def slope(self, weights: Weights) -> Tensor:
        """d mu2 / d a at a = 0, in units of the linear predictors, (K, p)."""
        zero = weights["c"].new_zeros(self.size)
        c = weights["c"].reshape(self.outcomes, self.size)
        return c + self.decoder.jacobian(part(weights, "decoder."), zero)

    def advanced(
        self, weights: Weights, state: Tensor, z: Tensor, x: Tensor, r: Tensor, law: Law
    ) -> Tensor:
        return self.told(weights, state, z, law)
