"""Kalman filter, smoother, draws and slopes of many series at once: knows no model.

    z_1 = B_1 e_1,   z_j = A_j z_{j-1} + B_j e_j,   u_j = c_j'z_j + N(0, R_j),   e ~ N(0, I),

one outcome a row, and any number of right-hand sides u at once: the variances are the same for all,
and everything else is linear in u. Several outcomes at one time, with independent errors, are rows
with A = I and B = 0 between them; a row that was not seen moves the state and is no more. With
Q = BB', the prediction m, P of the state of a row and g = 1 where it was seen,

    v = u - c'm,   F = c'Pc + R,   K = g P c / F,
    m + K v,   (I - K c') P (I - K c')' + R K K'          (Joseph's form: no P loses its sign)

lead to log p(u) = -1/2 sum g (log 2 pi F + v^2 / F). Backwards, from a = 0 and S = 0 after the last
row, with a = A'r and S = A'N A of the row that follows,

    w = g v / F - K'a,   r = c w + a,            N = g c c' / F + (I - K c')' S (I - K c'),
    E(z | u) = m + P r,  var(z | u) = P - P N P,  E(e | u) = B'r,   and the slopes of log p(u)

    in Q   1/2 (r r' - N),        in A   r E(z_{j-1} | u)' - N A var(z_{j-1} | u_1, ..., u_{j-1}),
    in R   1/2 (w^2 - g / F - K'S K),  in c   w E(z | u)' - K' + K'S (I - K c') P.

A variance R may be negative, as the curvature of a log-density that is not concave: all but the
whitened innovations hold while every 1 + c'Pc / R is positive.

After Durbin and Koopman (2012), Time Series Analysis by State Space Methods, 2nd ed., chapters 4
and 6.4, and for the slopes Koopman and Shephard (1992), Biometrika 79, 823-826. A start without a
prior is no state but a right-hand side: de Jong (1991), Annals of Statistics 19, 1073-1083.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dgmm.numerics.steps import Steps

__all__ = [
    "Backward",
    "Filtered",
    "Slopes",
    "System",
    "carried",
    "filtered",
    "pulled",
    "states",
]


@dataclass(frozen=True)
class System:
    """The matrices of every packed row; those of a first row hold its start, A_1 is not used."""

    steps: Steps
    A: np.ndarray  # (d, d, N)
    B: np.ndarray  # (d, d, N)
    c: np.ndarray  # (d, N)
    R: np.ndarray  # (N,)
    seen: np.ndarray  # (N,) 1.0 or 0.0

    @cached_property
    def Q(self) -> np.ndarray:
        """The covariances of the innovations, (d, d, N)."""
        return _product(self.B, _transposed(self.B))


@dataclass(frozen=True)
class Filtered:
    """One pass forwards: predictions of the states, and the innovations of r right-hand sides."""

    system: System
    v: np.ndarray  # (r, N)
    F: np.ndarray  # (N,)
    K: np.ndarray  # (d, N)
    m: np.ndarray  # (d, r, N) of the state of a row before its outcome
    P: np.ndarray  # (d, d, N)

    @cached_property
    def gain(self) -> np.ndarray:
        """g / F, (N,)."""
        gain: np.ndarray = self.system.seen / self.F
        return gain

    @property
    def whitened(self) -> np.ndarray:
        """g v / sqrt(F), (r, N): independent, with variance one where a right-hand side is u."""
        return self.v * np.sqrt(self.gain)

    @property
    def log_F(self) -> np.ndarray:
        """g log |F|, (N,)."""
        found: np.ndarray = self.system.seen * np.log(np.abs(self.F))
        return found

    @cached_property
    def through(self) -> np.ndarray:
        """I - K c', (d, d, N)."""
        d = len(self.K)
        return np.eye(d)[:, :, None] - self.K[:, None] * self.system.c

    @cached_property
    def after(self) -> np.ndarray:
        """var(z_j | u_1, ..., u_j), (d, d, N)."""
        KK = self.system.R * self.K[:, None] * self.K
        return _between(self.through, self.P) + KK

    def backward(self, v: np.ndarray | None = None, m: np.ndarray | None = None) -> Backward:
        """The pass backwards, of the right-hand sides or of linear combinations of them.

        v (h, N), m (d, h, N): combined as the right-hand sides are.
        """
        system, K, gain, through = self.system, self.K, self.gain, self.through
        v, m = (self.v if v is None else v), (self.m if m is None else m)
        d, h, N = len(K), len(v), len(gain)
        if d == 1:
            r1, N1, w, S1 = _backward_of_one(self, v)
            return Backward(self, m, v, r1[None], N1[None, None], w, S1[None, None])
        r, S_row = np.empty((d, h, N)), np.zeros((d, d, N))
        w, precision = np.empty((h, N)), np.empty((d, d, N))
        for more, at, following in system.steps.backwards():
            n = at.stop - at.start
            a, S = np.zeros((d, h, n)), S_row[..., at]
            if more:
                A = system.A[..., following]
                a[..., :more] = _product(_transposed(A), r[..., following])
                S[..., :more] = _between(_transposed(A), precision[..., following])
            k, c, g = K[:, at], system.c[:, at], gain[at]
            w[:, at] = v[:, at] * g - _product(k[None], a)[0]
            r[..., at] = c[:, None] * w[:, at] + a
            cc = g * c[:, None] * c
            precision[..., at] = _between(_transposed(through[..., at]), S) + cc
        return Backward(self, m, v, r, precision, w, S_row)


@dataclass(frozen=True)
class Backward:
    """One pass backwards: what all rows say of the states and of the errors."""

    forward: Filtered
    m: np.ndarray  # (d, h, N) of the predictions
    v: np.ndarray  # (h, N)
    r: np.ndarray  # (d, h, N)
    N: np.ndarray  # (d, d, N)
    w: np.ndarray  # (h, N): E(u - c'z | u) = R w
    S: np.ndarray  # (d, d, N) A'N A of the row that follows, 0 after the last

    @property
    def mean(self) -> np.ndarray:
        """E(z | u), (d, h, N)."""
        return self.m + _product(self.forward.P, self.r)

    @property
    def covariance(self) -> np.ndarray:
        """var(z | u), (d, d, N)."""
        P = self.forward.P
        return P - _product(P, _product(self.N, P))

    @property
    def innovations(self) -> np.ndarray:
        """E(e | u), (d, h, N)."""
        return _product(_transposed(self.forward.system.B), self.r)

    def slopes(self, weight: np.ndarray | None = None) -> Slopes:
        """The slopes of -1/2 sum g {log F + tr(v' weight v) / F} in the matrices of every row.

        weight: (h, h) symmetric, by default the identity: the sum over right-hand sides.
        """
        return Slopes(self, np.eye(len(self.v)) if weight is None else weight)


@dataclass(frozen=True)
class Slopes:
    """See :meth:`Backward.slopes`; only what is asked for is calculated."""

    backward: Backward
    weight: np.ndarray  # (h, h)

    @cached_property
    def Q(self) -> np.ndarray:
        """In the covariances of the innovations, both entries of a pair moving, (d, d, N)."""
        r = self.backward.r
        return 0.5 * (_outer(self._weighted(r), r) - self.backward.N)

    @cached_property
    def A(self) -> np.ndarray:
        """In the transitions, (d, d, N)."""
        back, forward = self.backward, self.backward.forward
        system = forward.system
        before = system.steps.before
        m = (back.m + forward.K[:, None] * back.v)[..., before]
        found = _outer(self._weighted(back.r), m)
        found += 2 * _product(self.Q, _product(system.A, forward.after[..., before]))
        found[..., system.steps.first] = 0.0
        return found

    @cached_property
    def R(self) -> np.ndarray:
        """In the variances of the errors, (N,)."""
        w, K, forward = self.backward.w, self.backward.forward.K, self.backward.forward
        D = forward.gain + _product(self._KS, K[:, None])[0, 0]
        found: np.ndarray = 0.5 * ((self._weighted(w[None])[0] * w).sum(0) - D)
        return found

    @cached_property
    def c(self) -> np.ndarray:
        """In what the outcomes take of the states, (d, N)."""
        back, forward = self.backward, self.backward.forward
        around = _product(_product(self._KS, forward.through), forward.P)[0]
        mean = _outer(back.mean, self._weighted(back.w[None]))[:, 0]
        found: np.ndarray = mean - forward.K + around
        return found

    @cached_property
    def _KS(self) -> np.ndarray:
        """K'S, (1, d, N)."""
        return _product(self.backward.forward.K[None], self.backward.S)

    def _weighted(self, x: np.ndarray) -> np.ndarray:
        return _product(x, np.broadcast_to(self.weight[:, :, None], (*self.weight.shape, 1)))


def filtered(system: System, u: np.ndarray) -> Filtered:
    """The pass forwards over the right-hand sides u (r, N), packed as the system is."""
    d, (r, N) = len(system.A), u.shape
    if d == 1:
        v, F, K1, m1, P1 = _forward_of_one(system, u)
        return Filtered(system, v, F, K1[None], m1[None], P1[None, None])
    v, F, K = np.empty((r, N)), np.empty(N), np.empty((d, N))
    m, P = np.empty((d, r, N)), np.empty((d, d, N))
    Q, identity, every = system.Q, np.eye(d)[:, :, None], system.steps.first.stop
    mean, cov = np.zeros((d, r, every)), np.zeros((d, d, every))
    for at in system.steps.slices:
        A, n = system.A[..., at], at.stop - at.start
        mean = _product(A, mean[..., :n])
        cov = _between(A, cov[..., :n]) + Q[..., at]
        cov = 0.5 * (cov + _transposed(cov))
        m[..., at], P[..., at] = mean, cov
        c, R = system.c[:, at], system.R[at]
        Pc = _product(cov, c[:, None])[:, 0]
        F[at] = f = np.where(system.seen[at] > 0, (c * Pc).sum(0) + R, 1.0)
        K[:, at] = k = Pc * (system.seen[at] / f)
        v[:, at] = e = u[:, at] - _product(c[None], mean)[0]
        mean = mean + k[:, None] * e
        cov = _between(identity - k[:, None] * c, cov) + R * k[:, None] * k
    return Filtered(system, v, F, K, m, P)


def states(system: System, e: np.ndarray) -> np.ndarray:
    """The states (d, r, N) that white noise e (d, r, N) makes."""
    return carried(system, _product(system.B, e))


def carried(system: System, f: np.ndarray) -> np.ndarray:
    """The states z_j = A_j z_{j-1} + f_j (d, r, N) of additions f (d, r, N)."""
    z = f.copy()
    for before, at in zip(system.steps.slices, system.steps.slices[1:], strict=False):
        n = at.stop - at.start
        z[..., at] += _product(system.A[..., at], z[..., before][..., :n])
    return z


def pulled(system: System, slope: np.ndarray) -> np.ndarray:
    """Slopes (d, r, N) in the additions of :func:`carried`, from those in its states."""
    found = slope.copy()
    for more, at, following in system.steps.backwards():
        if more:
            A = _transposed(system.A[..., following])
            found[..., at][..., :more] += _product(A, found[..., following])
    return found


# -- one state: the same, with no more than a few operations a step --------------------------------


def _forward_of_one(
    system: System, u: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """v (r, N), F, K, m (r, N) and P; the variance after an outcome is P R / F."""
    A, Q, c, R, seen = system.A[0, 0], system.Q[0, 0], system.c[0], system.R, system.seen
    AA, cc, slices = A * A, c * c, system.steps.slices
    P, F, missed = np.empty_like(Q), np.empty_like(Q), bool((seen == 0).any())
    p = np.zeros(system.steps.first.stop)
    for at in slices:
        P[at] = p = AA[at] * p[: at.stop - at.start] + Q[at]
        f = cc[at] * p + R[at]
        F[at] = f = np.where(seen[at] > 0, f, 1.0) if missed else f
        left = p * R[at] / f
        p = np.where(seen[at] > 0, left, p) if missed else left
    K = P * c * seen / F
    v, m = np.empty_like(u), np.empty_like(u)
    mean = np.zeros((len(u), len(p) if not slices else slices[0].stop))
    for at in slices:
        m[:, at] = mean = A[at] * mean[:, : at.stop - at.start]
        v[:, at] = e = u[:, at] - c[at] * mean
        mean = mean + K[at] * e
    return v, F, K, m, P


def _backward_of_one(
    found: Filtered, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """r (h, N), N, w (h, N) and S."""
    A, c, K = found.system.A[0, 0], found.system.c[0], found.K[0]
    AA, through, own = A * A, np.square(found.through[0, 0]), found.gain * c * c
    scaled, S, precision = v * found.gain, np.zeros_like(K), np.empty_like(K)
    r, w, h = np.empty_like(v), np.empty_like(v), len(v)
    for more, at, following in found.system.steps.backwards():
        n = at.stop - at.start
        a = np.zeros((h, n))
        if more:
            np.multiply(AA[following], precision[following], out=S[at][:more])
            np.multiply(A[following], r[:, following], out=a[:, :more])
        precision[at] = through[at] * S[at] + own[at]
        w[:, at] = x = scaled[:, at] - K[at] * a
        r[:, at] = c[at] * x + a
    return r, precision, w, S


def _product(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """A B over the last axis, (a, b, n) and (b, c, n)."""
    if A.shape[1] == 1:
        return A * B
    total = A[:, 0, None] * B[None, 0]
    for k in range(1, A.shape[1]):
        total += A[:, k, None] * B[None, k]
    return total


def _outer(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """A B', (a, h, n) and (b, h, n)."""
    if len(A) == len(B) == 1:
        return (A * B).sum(1)[:, None]
    return np.einsum("ahn,bhn->abn", A, B)


def _between(A: np.ndarray, P: np.ndarray) -> np.ndarray:
    """A P A'."""
    if len(A) == 1:
        return A * A * P
    return _product(_product(A, P), _transposed(A))


def _transposed(A: np.ndarray) -> np.ndarray:
    return A.swapaxes(0, 1)
