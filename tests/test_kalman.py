"""The filter against dense normal densities, statsmodels, the Nile, central differences."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy import optimize
from statsmodels.tsa.statespace.structural import UnobservedComponents

from dgmm.numerics.kalman import System, filtered, states
from dgmm.numerics.steps import Steps

Array = NDArray[np.float64]
LENGTHS = np.array([3, 0, 5, 1, 4])
FLAT = 1e6
"""Variance of an approximately diffuse start, that of statsmodels."""


def random_system(d: int, seed: int = 0, unseen: float = 0.2) -> System:
    rng, N = np.random.default_rng(seed), int(LENGTHS.sum())
    A, B = 0.5 * rng.normal(size=(d, d, N)), rng.normal(size=(d, d, N))
    seen = (rng.uniform(size=N) > unseen).astype(float)
    c, R = rng.normal(size=(d, N)), rng.uniform(0.2, 1, N)
    return System(Steps.of(LENGTHS), A, B, c, R, seen)


def series(A: Array, B: Array, first: Array, c: Array, R: float, seen: Array) -> System:
    """One regular series: the same matrices at every row, ``first`` the root of the start."""
    N = len(seen)
    every = [np.repeat(M[..., None], N, axis=-1) for M in (A, B, c)]
    every[1][..., 0] = first
    return System(Steps.of(np.array([N])), *every, np.full(N, R), seen.astype(float))


def log_likelihood(system: System, u: Array) -> float:
    """log p(u) of one right-hand side."""
    found = filtered(system, u[None])
    normal = system.seen.sum() * math.log(2 * math.pi)
    return float(-0.5 * (normal + found.log_F.sum() + (found.whitened**2).sum()))


def diffuse(system: System, u: Array, columns: Array) -> float:
    """log p(u) with the coefficients of ``columns`` (f, N) integrated out by a flat prior."""
    z = filtered(system, np.concatenate([columns, u[None]])).whitened
    G, f = z @ z.T, len(columns)
    rest = G[f, f] - G[f, :f] @ np.linalg.solve(G[:f, :f], G[:f, f])
    normal = system.seen.sum() * math.log(2 * math.pi)
    log_F = filtered(system, u[None]).log_F.sum()
    return float(-0.5 * (normal + log_F + np.linalg.slogdet(G[:f, :f])[1] + rest))


def unfolded(system: System, i: int) -> tuple[Array, Array]:
    """The packed rows of a series and its states as a matrix times white noise, (n, d, d n)."""
    rows = np.flatnonzero(system.steps.series == i)
    d, z, found = len(system.A), np.zeros((len(system.A), len(system.A) * len(rows))), []
    for j, row in enumerate(rows):
        z = system.A[:, :, row] @ z if j else z.copy()
        z[:, j * d : (j + 1) * d] += system.B[:, :, row]
        found.append(z)
    return rows, np.array(found).reshape(len(rows), d, d * len(rows))


# -- against dense normal densities ----------------------------------------------------------------


def test_rows_of_series_are_packed_by_steps() -> None:
    steps = Steps.of(LENGTHS)
    assert steps.sizes.tolist() == [4, 3, 3, 2, 1]
    assert steps.order.tolist() == [2, 4, 0, 3, 1]
    assert steps.rows[steps.slices[1]].tolist() == [4, 10, 1]
    assert steps.before[steps.slices[2]].tolist() == [4, 5, 6]
    assert (steps.rows[steps.back] == np.arange(13)).all()
    empty = Steps.of(np.zeros(2, dtype=int))
    assert len(empty.rows) == len(empty.before) == 0
    assert empty.first == slice(0, 0)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_density_states_and_noise_are_those_of_the_dense_normal(d: int) -> None:
    system, rng = random_system(d), np.random.default_rng(1)
    u = rng.normal(size=(2, len(system.R)))
    found = filtered(system, u)
    back, z = found.backward(), found.whitened
    for i in range(len(LENGTHS)):
        rows, Z = unfolded(system, i)
        C = np.einsum("an,nab->nb", system.c[:, rows], Z)
        seen = system.seen[rows] > 0
        V = (C @ C.T + np.diag(system.R[rows]))[np.ix_(seen, seen)]
        y, own = u[:, rows[seen]], found.log_F[rows]
        expected = y @ np.linalg.solve(V, y.T)
        np.testing.assert_allclose(z[:, rows] @ z[:, rows].T, expected, atol=1e-10)
        assert own.sum() == pytest.approx(np.linalg.slogdet(V)[1], abs=1e-10)
        gain = np.linalg.solve(V, C[seen]).T  # cov(e, y) V^-1
        e, var = gain @ y.T, np.eye(len(gain)) - gain @ C[seen]
        for j, row in enumerate(rows):
            np.testing.assert_allclose(back.mean[:, :, row], Z[j] @ e, atol=1e-10)
            np.testing.assert_allclose(back.covariance[..., row], Z[j] @ var @ Z[j].T, atol=1e-10)
            own = e[j * d : (j + 1) * d]
            np.testing.assert_allclose(back.innovations[:, :, row], own, atol=1e-10)


@pytest.mark.parametrize("d", [1, 2])
def test_a_masked_row_is_a_row_that_is_not_there(d: int) -> None:
    system = random_system(d, seed=3, unseen=0.3)
    u = np.random.default_rng(1).normal(size=(1, len(system.R)))
    for i in np.flatnonzero(LENGTHS[system.steps.order]):
        rows = np.flatnonzero(system.steps.series == i)
        kept = np.flatnonzero(system.seen[rows])
        A, Q, last = np.eye(d), np.zeros((d, d)), []
        for j, row in enumerate(rows):  # moves over the rows that go are put together
            step = system.A[..., row] if j else np.zeros((d, d))
            A, Q = step @ A, step @ Q @ step.T + system.Q[..., row]
            if j in kept:
                last.append((row, A, np.linalg.cholesky(Q)))
                A, Q = np.eye(d), np.zeros((d, d))
        if not last:
            continue
        at = [row for row, *_ in last]
        A, B = (np.stack([one[k] for one in last], axis=-1) for k in (1, 2))
        steps = Steps.of(np.array([len(at)]))
        short = System(steps, A, B, system.c[:, at], system.R[at], np.ones(len(at)))
        one, whole = filtered(short, u[:, at]), filtered(system, u)
        np.testing.assert_allclose(one.whitened, whole.whitened[:, at], atol=1e-12)
        np.testing.assert_allclose(one.log_F, whole.log_F[at], atol=1e-12)
        np.testing.assert_allclose(
            one.backward().mean, whole.backward().mean[:, :, at], atol=1e-12, rtol=0
        )


@pytest.mark.parametrize("d", [1, 2, 3])
def test_slopes_are_those_of_central_differences(d: int) -> None:
    system, rng = random_system(d, seed=4), np.random.default_rng(1)
    u = rng.normal(size=(2, len(system.R)))
    weight = np.array([[1.0, 0.6], [0.6, -0.3]])

    def value(at: System) -> float:
        found = filtered(at, u)
        z = found.whitened
        return float(-0.5 * (found.log_F.sum() + ((weight @ z) * z).sum()))

    slopes = filtered(system, u).backward().slopes(weight)
    in_B = 2 * np.einsum("abn,bcn->acn", slopes.Q, system.B)
    for name, own in {"A": slopes.A, "B": in_B, "c": slopes.c, "R": slopes.R}.items():
        M, h = getattr(system, name), 1e-5
        for at in np.ndindex(M.shape):
            moved = [M.copy(), M.copy()]
            moved[0][at] += h
            moved[1][at] -= h
            up, down = (value(replace(system, **{name: one})) for one in moved)
            assert own[at] == pytest.approx((up - down) / (2 * h), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("d", [1, 2])
def test_the_covariance_stays_positive_definite(d: int) -> None:
    """10,000 steps, nearly no noise, a start of 1e5, states that hardly move."""
    A = np.array([[1.0, 1.0], [0.0, 1.0]])[:d, :d]
    B = np.diag([1e-6, 1e-8])[:d, :d]
    c = np.array([1.0, 0.0])[:d]
    system = series(A, B, 1e5 * np.eye(d), c, 1e-6, np.ones(10_000))
    found = filtered(system, np.random.default_rng(0).normal(size=(1, 10_000)))
    for P in (found.P, found.after):
        assert np.array_equal(P, P.swapaxes(0, 1)) or np.allclose(P, P.swapaxes(0, 1), rtol=1e-12)
        np.linalg.cholesky(np.moveaxis(P, -1, 0))  # fails where it is not
    assert np.isfinite(found.whitened).all()


def test_states_of_white_noise_have_the_covariance_of_the_system() -> None:
    system = random_system(2)
    N = len(system.R)
    unit = np.eye(2 * N).reshape(2, N, 2 * N).swapaxes(1, 2)
    z = states(system, unit)
    for i in range(len(LENGTHS)):
        rows, Z = unfolded(system, i)
        if not len(rows):
            continue
        made = z[:, :, rows].transpose(2, 0, 1).reshape(2 * len(rows), -1)
        dense = Z.reshape(2 * len(rows), -1)
        np.testing.assert_allclose(made @ made.T, dense @ dense.T, atol=1e-12)


# -- against statsmodels ---------------------------------------------------------------------------


def gappy(seed: int = 5) -> Array:
    rng = np.random.default_rng(seed)
    y = np.cumsum(0.4 * rng.normal(size=80)) + 0.1 * np.arange(80) + rng.normal(size=80)
    y[[3, 17, 18, 40, 41, 79]] = np.nan
    return y


MODELS = {
    # level, parameters of statsmodels, A, B, c, R
    "rwalk": ([0.8], np.eye(1), [[0.8]], [1.0], 0.0),
    "llevel": ([0.7, 0.3], np.eye(1), [[0.3]], [1.0], 0.7),
    "lltrend": (
        [0.7, 0.3, 0.02],
        np.array([[1.0, 1], [0, 1]]),
        np.diag([0.3, 0.02]),
        [1.0, 0],
        0.7,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_structural_models_agree_with_statsmodels(name: str) -> None:
    parameters, A, Q, c, R = MODELS[name]
    y, A = gappy(), np.asarray(A)
    start = np.diag([2.0, 0.5])[: len(A), : len(A)]
    model = UnobservedComponents(y, name, loglikelihood_burn=0)
    model.ssm.initialize_known(np.zeros(len(A)), start)
    system = series(A, np.sqrt(Q), np.sqrt(start), np.array(c), R, ~np.isnan(y))
    u = np.nan_to_num(y)
    assert log_likelihood(system, u) == pytest.approx(model.loglike(parameters), abs=1e-8)
    smoothed = model.smooth(parameters).smoothed_state
    back = filtered(system, u[None]).backward()
    np.testing.assert_allclose(back.mean[:, 0], smoothed, atol=1e-8)


NILE = sm.datasets.nile.load_pandas().data["volume"].to_numpy(float)
QUOTED = (1484.8, 15067.6)
"""Variances of level and noise at which statsmodels ends from its default start."""

PUBLISHED = (1469.1, 15098.5)
"""Those at the maximum of the exact likelihood, Durbin and Koopman (2012), section 2.2."""


def nile(level: float, noise: float, start: float) -> System:
    B, first = np.array([[math.sqrt(level)]]), np.array([[math.sqrt(start)]])
    return series(np.eye(1), B, first, np.ones(1), noise, np.ones(len(NILE)))


def exact_nile(level: float, noise: float) -> float:
    return diffuse(nile(level, noise, 0.0), NILE, np.ones((1, len(NILE))))


def approximate_nile(level: float, noise: float) -> float:
    """A start of variance 1e6 whose first outcome does not count, as statsmodels has it."""
    found = filtered(nile(level, noise, FLAT), NILE[None])
    every = np.log(2 * math.pi) + found.log_F + found.whitened[0] ** 2
    return float(-0.5 * every[1:].sum())


def test_nile_with_an_exact_and_an_approximate_diffuse_start() -> None:
    level, noise = QUOTED
    assert exact_nile(level, noise) == pytest.approx(-633.4646423212, abs=1e-6)
    exact = UnobservedComponents(NILE, "llevel", use_exact_diffuse=True)
    assert exact_nile(level, noise) == pytest.approx(exact.loglike([noise, level]), abs=1e-8)
    approximate = UnobservedComponents(NILE, "llevel").loglike([noise, level])
    assert approximate_nile(level, noise) == pytest.approx(approximate, abs=1e-8)


@pytest.mark.parametrize(
    ("function", "quoted"), [(exact_nile, -633.4646423212), (approximate_nile, -632.5377605785)]
)
def test_nile_at_its_maximum(function: Callable[[float, float], float], quoted: float) -> None:
    """The quoted values are where statsmodels ends by default, a little below the maximum."""
    found = optimize.minimize(
        lambda x: -function(math.exp(x[0]), math.exp(x[1])), [7.0, 9.0], options={"gtol": 1e-8}
    )
    assert quoted < -found.fun < quoted + 1e-4
    if function is exact_nile:
        assert -found.fun == pytest.approx(function(*PUBLISHED), abs=1e-6)
        np.testing.assert_allclose(np.exp(found.x), PUBLISHED, rtol=1e-3)


def test_paths_without_noise_have_the_likelihood_of_corcar1() -> None:
    """nlme's corCAR1() beside a random intercept: R = 0, and the intercept as a right-hand side."""
    folder = Path(__file__).parent / "reference"
    refs = json.loads((folder / "serial.json").read_text())["refs"]
    (ref,) = [one for one in refs if one["id"] == "car1_intercept"]
    data = pd.read_csv(folder / "visits.csv").sort_values(["id", "time"])
    sd_b, sd, scale = ref["parameters"].values()
    steps = Steps.of(data.groupby("id").size().to_numpy())
    at = data.iloc[steps.rows]
    gap = at["time"].to_numpy() - at["time"].to_numpy()[steps.before]
    first = np.zeros(len(at), dtype=bool)
    first[steps.first] = True
    A = np.exp(-gap / scale)
    B = sd * np.where(first, 1.0, np.sqrt(-np.expm1(-2 * gap / scale)))
    N, fixed = len(at), np.array(ref["fixef"])
    system = System(steps, A[None, None], B[None, None], np.ones((1, N)), np.zeros(N), np.ones(N))
    residual = at["y"] - fixed[0] - fixed[1] * at["time"] - fixed[2] * at["x"]
    found = filtered(system, np.stack([sd_b * np.ones(N), residual]))
    z = found.whitened
    G = np.array([[np.bincount(steps.series, a * b) for a in z] for b in z])
    M = 1 + G[0, 0]
    rest = G[1, 1] - G[0, 1] ** 2 / M
    total = N * math.log(2 * math.pi) + found.log_F.sum() + (np.log(M) + rest).sum()
    assert -0.5 * total == pytest.approx(ref["log_likelihood"], abs=1e-8)
