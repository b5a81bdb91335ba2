"""Small designs with known answers, shared by the tests of the numerical core."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.design import build_design
from dgmm.encoders import Encoder
from dgmm.estimate.amortised import tied_encoder
from dgmm.families import find as find_family
from dgmm.formula import parse_formula, with_part
from dgmm.latent import structures, words
from dgmm.latent.dnn import Neural
from dgmm.likelihood import Likelihood
from dgmm.model import Model, build_model
from dgmm.panel import Block, Crossing, Panel
from dgmm.parameters import Theta, part
from dgmm.plan import as_counted


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frame(n: int = 12, J: int = 5, seed: int = 0, missing: float = 0.0) -> pd.DataFrame:
    """A small longitudinal frame: y gaussian, z 0/1, count, successes out of size."""
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), J), "t": np.tile(np.arange(J) / J, n)})
    data["t"] += rng.uniform(0, 0.5 / J, n * J)
    data["x"] = np.repeat(rng.normal(size=n), J)
    data["w"] = rng.uniform(0.5, 2.0, n * J)
    b = rng.normal(size=(n, 2)) @ np.array([[0.8, 0.3], [0.0, 0.6]])
    eta = 0.3 + 0.5 * data.x - 0.4 * data.t + b[data.id, 0] + b[data.id, 1] * data.t
    data["y"] = 1 + 2 * eta + rng.normal(size=n * J)
    data["z"] = (rng.uniform(size=n * J) < 1 / (1 + np.exp(-eta))).astype(float)
    data["count"] = rng.poisson(np.exp(eta)).astype(float)
    data["size"] = rng.integers(2, 9, n * J).astype(float)
    data["hits"] = rng.binomial(data["size"].astype(int), 1 / (1 + np.exp(-eta))).astype(float)
    gone = rng.uniform(size=n * J) < missing
    data.loc[gone, ["y", "z", "count", "hits"]] = np.nan
    return data


def build(
    text: str,
    data: pd.DataFrame,
    family: str = "gaussian",
    unit: float = 1.0,
    weights: str = "",
    parts: dict[str, str] | None = None,
) -> tuple[Model, Panel]:
    """Model and panel (planned rows included) of a formula."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        formula = parse_formula(text, latent_words=words(), structures=structures())
        for name, part in (parts or {}).items():
            formula = with_part(formula, name, part, structures())
        design = build_design(formula, data, weights=weights or None)
    design, chosen = as_counted(design, find_family(family))
    return build_model(design, chosen, unit), Panel.from_design(design)


def random_theta(model: Model, seed: int = 0, spread: float = 0.3) -> Theta:
    draws = torch.randn(model.packing.size, generator=generator(seed), dtype=torch.float64)
    return model.packing.unpack(spread * draws)


def check_information(ours: Likelihood, theta: Theta, h: float = 1e-5) -> None:
    """The information about all of theta is that of central differences of the gradient."""
    packing = ours.model.packing
    H, x = ours.information(theta, packing).matrix, packing.pack(theta)
    for j in range(len(x)):
        unit = torch.zeros_like(x)
        unit[j] = h
        ahead, behind = (
            packing.pack(ours.value_and_gradient(packing.unpack(x + s * unit))[1]) for s in (1, -1)
        )
        np.testing.assert_allclose(H[j], ((ahead - behind) / (2 * h)).numpy(), atol=2e-5, rtol=1e-6)


def encoder_for(model: Model, panel: Panel, word: str) -> Encoder:
    """The encoder that a fit of this model makes, its weights left aside."""
    return tied_encoder(model, random_theta(model), panel, word, generator())[0]


def whole(panel: Panel) -> Block:
    """All subjects of a panel in one block, in their order."""
    return panel.block(torch.arange(panel.n))


def subject_rows(panel: Panel, i: int) -> slice:
    first = int(panel.start[i])
    return slice(first, first + int(panel.count[i]))


def linear_gaussian(
    model: Model, theta: Theta, panel: Panel
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Posterior means (n, k), covariances (n, k, k) and l_i (n,) by dense normal algebra."""
    sigma2 = float(torch.exp(2 * theta["extra"][0]))
    beta = model.beta(theta)
    Lambda = torch.block_diag(
        *(latent.loadings(part(theta, f"latent{i}.")) for i, latent in enumerate(model.latents, 1))
    )
    means, covariances, values = [], [], []
    for i in range(panel.n):
        rows = panel.rows.take(torch.arange(panel.n_rows)[subject_rows(panel, i)])
        Z = torch.cat(rows.T, dim=1) @ Lambda
        residual = rows.data.y - rows.offset - rows.X @ beta
        V = Z @ Z.T + torch.diag(sigma2 / rows.data.weights)
        gain = torch.linalg.solve(V, Z).T
        means.append(gain @ residual)
        covariances.append(torch.eye(model.k, dtype=V.dtype) - gain @ Z)
        quadratic = residual @ torch.linalg.solve(V, residual)
        normal = len(residual) * np.log(2 * np.pi)
        values.append(-0.5 * (normal + torch.linalg.slogdet(V)[1] + quadratic))
    return torch.stack(means).numpy(), torch.stack(covariances).numpy(), torch.stack(values).numpy()


# -- several grouping factors ----------------------------------------------------------------------


def crossed_frame(seed: int = 0, rows: int = 150) -> pd.DataFrame:
    """Two crossed factors a, b and a factor c that numbers anew within a; uneven cells."""
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(
        {
            "a": rng.integers(0, 12, rows),
            "b": rng.choice(list("pqrstuvwxyz"), rows),
            "c": rng.integers(0, 4, rows),
            "x": rng.normal(size=rows),
            "t": np.tile([-1.0, 0.0, 1.0], rows)[:rows],
            "w": rng.uniform(0.5, 2.0, rows),
        }
    )
    inner = data.groupby(["a", "c"]).ngroup().to_numpy()
    by_b = pd.factorize(data.b)[0]
    eta = 0.2 + 0.4 * data.x + 0.8 * rng.normal(size=12)[data.a] + 0.6 * rng.normal(size=11)[by_b]
    eta += 0.5 * rng.normal(size=60)[inner] + 0.3 * data.t * rng.normal(size=11)[by_b]
    data["y"] = 2 + eta + 0.7 * rng.normal(size=rows)
    data["z"] = (rng.uniform(size=rows) < 1 / (1 + np.exp(-eta))).astype(float)
    data["count"] = rng.poisson(np.exp(eta)).astype(float)
    data["size"] = rng.integers(1, 6, rows).astype(float)
    data["hits"] = rng.binomial(data["size"].astype(int), 1 / (1 + np.exp(-eta))).astype(float)
    data["positive"] = np.exp(0.2 * eta) + 0.1 * rng.normal(size=rows)
    return data


def as_crossed(panel: Panel) -> Panel:
    """A panel with one grouping factor, told as one with several."""
    crossing = Crossing(("id",), (panel.ids,), (0,) * len(panel.rows.T))
    return replace(panel, crossing=crossing, rows=replace(panel.rows, level=(panel.subject,)))


def dense_Z(model: Model, theta: Theta, panel: Panel) -> np.ndarray:
    """Z Lambda (N, q) with a column for every effect of every level of every term."""
    crossing, parts = panel.crossing, []
    assert crossing is not None
    for i, latent in enumerate(model.latents):
        skip = latent.loadings(part(theta, f"latent{i + 1}."))
        one_hot = torch.eye(len(crossing.labels[crossing.factor[i]]), dtype=torch.float64)
        level = one_hot[panel.rows.level[crossing.factor[i]]]
        wide = torch.einsum("nk,nm->nmk", panel.rows.T[i] @ skip, level)
        parts.append(wide.reshape(panel.n_rows, -1))
    return torch.cat(parts, dim=1).detach().numpy()


def dense_crossed(model: Model, theta: Theta, panel: Panel, reml: bool = False) -> float:
    """log N(y; X beta, Z D Z' + sigma^2 W^-1), or with X beta integrated out."""
    Z, rows = dense_Z(model, theta, panel), panel.rows
    V = Z @ Z.T + np.diag(float(torch.exp(2 * theta["extra"][0])) / rows.data.weights.numpy())
    y, X = (rows.data.y - rows.offset).numpy(), rows.X.numpy()
    beta = model.beta(theta).detach().numpy()
    information = X.T @ np.linalg.solve(V, X)
    if reml:
        beta = np.linalg.solve(information, X.T @ np.linalg.solve(V, y))
    r, size = y - X @ beta, len(y) - reml * X.shape[1]
    value = size * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r)
    return float(-0.5 * (value + reml * np.linalg.slogdet(information)[1]))


def dense_laplace(model: Model, theta: Theta, panel: Panel) -> float:
    """Laplace's approximation by autograd on all random effects at once."""
    Z, rows = torch.from_numpy(dense_Z(model, theta, panel)), panel.rows
    fixed = model.mu1(theta, rows).detach()

    def joint(u: torch.Tensor) -> torch.Tensor:
        f = model.family.log_density(rows.data, fixed + Z @ u, theta["extra"])
        return f.sum() - 0.5 * u @ u

    u = torch.zeros(Z.shape[1], dtype=torch.float64)
    for _ in range(100):
        gradient, hessian = (d(joint)(u) for d in (torch.func.grad, torch.func.hessian))
        eigen, vector = torch.linalg.eigh(-hessian)
        step = vector @ ((vector.T @ gradient) / eigen.abs().clamp(min=1.0))
        while joint(u + step) < joint(u) - 1e-9:
            step = 0.5 * step
        u = u + step
        if float(step.abs().max()) < 1e-13:
            break
    return float(joint(u) - 0.5 * torch.linalg.slogdet(-torch.func.hessian(joint)(u))[1])


# -- frames whose fits in R are stored in tests/reference ------------------------------------------


def crossed_gaussian() -> pd.DataFrame:
    """Gaussian y with crossed factors g (6 levels) and h (20); x has no effect. crossed.json."""
    r = np.random.default_rng(1)
    g, h, x = r.integers(0, 6, 120), r.integers(0, 20, 120), r.normal(size=120)
    y = 2 + 1.5 * r.normal(size=6)[g] + 0.5 * r.normal(size=20)[h] + r.normal(size=120)
    return pd.DataFrame({"g": g, "h": h, "x": x, "y": y})


def crossed_poisson() -> pd.DataFrame:
    """Counts c with crossed factors g (8 levels) and h (25); x has no effect. crossed.json."""
    r = np.random.default_rng(5)
    g, h, x = r.integers(0, 8, 200), r.integers(0, 25, 200), r.normal(size=200)
    eta = 0.5 + 0.7 * r.normal(size=8)[g] + 0.6 * r.normal(size=25)[h]
    return pd.DataFrame({"g": g, "h": h, "x": x, "c": r.poisson(np.exp(eta))})


def ou_frame() -> pd.DataFrame:
    """60 subjects at 4 to 8 real times; y and a count follow an Ornstein-Uhlenbeck path. ou.csv.

    The path of y has SD 1.2 and correlation exp(-lag / 2), beside intercepts of SD 0.8 and noise
    of SD 0.5; that of the count SD 0.7 and exp(-lag / 3). Some outcomes are missing.
    """
    r = np.random.default_rng(20)
    parts = []
    for i in range(60):
        n = int(r.integers(4, 9))
        time = np.sort(r.choice(1000, n, replace=False)) / 100  # in [0, 10), no ties
        x = np.round(r.normal(size=n), 3)
        path, other = 1.2 * _path(r, np.diff(time) / 2), 0.7 * _path(r, np.diff(time) / 3)
        y = 1 + 0.5 * x + 0.8 * r.normal() + path + 0.5 * r.normal(size=n)
        count = r.poisson(np.exp(0.4 + 0.3 * x + other)).astype(float)
        parts.append(pd.DataFrame({"id": i, "time": time, "x": x, "y": y.round(4), "count": count}))
    data = pd.concat(parts, ignore_index=True)
    data.loc[r.uniform(size=len(data)) < 0.06, "y"] = np.nan
    data.loc[r.uniform(size=len(data)) < 0.04, "count"] = np.nan
    return data


def ar1_frame() -> pd.DataFrame:
    """60 subjects at some of the visits 0, ..., 9; paths of correlation 0.7 and -0.6. ar1.csv.

    A quarter of the visits is not there. The path of y (SD 1, rho 0.7) goes with intercepts of SD
    0.7, that of z (SD 1.2, rho -0.6) with none; noise has SD 0.6. Some outcomes are missing.
    """
    r = np.random.default_rng(21)
    parts = []
    for i in range(60):
        visit = np.flatnonzero(r.uniform(size=10) < 0.75)
        n = len(visit)
        x = np.round(r.normal(size=n), 3)
        lag = np.arange(10)
        rough = [_stationary(r, rho ** np.abs(lag[:, None] - lag))[visit] for rho in (0.7, -0.6)]
        y = 2 - 0.4 * x + 0.7 * r.normal() + rough[0] + 0.6 * r.normal(size=n)
        z = 1 + 0.3 * x + 1.2 * rough[1] + 0.6 * r.normal(size=n)
        parts.append(
            pd.DataFrame({"id": i, "visit": visit, "x": x, "y": y.round(4), "z": z.round(4)})
        )
    data = pd.concat(parts, ignore_index=True)
    data.loc[r.uniform(size=len(data)) < 0.05, ["y", "z"]] = np.nan
    return data


def visits_frame(seed: int = 41) -> pd.DataFrame:
    """40 subjects at 4 to 9 irregular times: intercepts, a path and noise. visits.csv.

    Intercepts have SD 0.8, the path of y has SD 1 and correlation exp(-lag / 1.2), noise SD 0.5.
    """
    r = np.random.default_rng(seed)
    parts = []
    for i in range(40):
        n = int(r.integers(4, 10))
        time = np.sort(r.choice(800, n, replace=False)) / 100  # in [0, 8), no ties
        x = np.round(r.normal(size=n), 3)
        y = 1 + 0.2 * time + 0.5 * x + 0.8 * r.normal() + _path(r, np.diff(time) / 1.2)
        y = y + 0.5 * r.normal(size=n)
        parts.append(pd.DataFrame({"id": i, "time": time, "x": x, "y": y.round(4)}))
    return pd.concat(parts, ignore_index=True)


def stuck_frame() -> pd.DataFrame:
    """As visits_frame; the default start of lme does not lead to the maximum. stuck.csv."""
    return visits_frame(99)


def counts_frame() -> pd.DataFrame:
    """80 subjects at 6 to 12 irregular times; counts with intercepts and a path. counts.csv.

    Intercepts have SD 0.6, the path SD 0.7 and correlation exp(-lag / 1.5).
    """
    r = np.random.default_rng(42)
    parts = []
    for i in range(80):
        n = int(r.integers(6, 13))
        time = np.sort(r.choice(1000, n, replace=False)) / 100
        x = np.round(r.normal(size=n), 3)
        eta = 0.8 + 0.3 * x + 0.6 * r.normal() + 0.7 * _path(r, np.diff(time) / 1.5)
        parts.append(pd.DataFrame({"id": i, "time": time, "x": x, "count": r.poisson(np.exp(eta))}))
    return pd.concat(parts, ignore_index=True)


def occasions_frame() -> pd.DataFrame:
    """60 subjects, two outcomes at each of four occasions, items crossed with them. occasions.csv.

    The effects of a subject at the occasions have SDs 0.6, 0.9, 1.3, 1.7 and correlation 0.5 (y),
    or SD 1 and correlation 0.7^lag (z); noise has SD 0.6. A count has log mean 0.3 + 0.4 x + the
    effects of y times 0.5 + those of items. `t` is 0 to 3; one of ten rows is not there.
    """
    r = np.random.default_rng(43)
    sd, lag = np.array([0.6, 0.9, 1.3, 1.7]), np.abs(np.arange(4)[:, None] - np.arange(4))
    item = 0.5 * r.normal(size=10)
    parts = []
    for i in range(60):
        t = np.repeat(np.arange(4), 2)
        which, x = r.integers(0, 10, 8), np.round(r.normal(size=8), 3)
        u = sd * _stationary(r, np.where(lag > 0, 0.5, 1.0))
        v = _stationary(r, 0.7**lag)
        y = 2 + 0.4 * x + u[t] + 0.6 * r.normal(size=8)
        z = 1 - 0.3 * x + v[t] + item[which] + 0.6 * r.normal(size=8)
        count = r.poisson(np.exp(0.3 + 0.4 * x + 0.5 * u[t] + item[which]))
        columns = {"y": y.round(4), "z": z.round(4), "count": count}
        labels = {"id": i, "occasion": np.array(list("abcd"))[t], "t": t, "item": which, "x": x}
        parts.append(pd.DataFrame({**labels, **columns}))
    data = pd.concat(parts, ignore_index=True)
    return data[r.uniform(size=len(data)) > 0.1].reset_index(drop=True)


def _path(r: np.random.Generator, lag: np.ndarray) -> np.ndarray:
    """A stationary Ornstein-Uhlenbeck path of variance 1 at lags in units of its range."""
    values = [r.normal()]
    for step in lag:
        keep = np.exp(-step)
        values.append(keep * values[-1] + np.sqrt(1 - keep**2) * r.normal())
    return np.array(values)


def _stationary(r: np.random.Generator, correlation: np.ndarray) -> np.ndarray:
    return np.linalg.cholesky(correlation) @ r.normal(size=len(correlation))


def waves_seen_in_part() -> tuple[Model, Theta, Panel]:
    """Waves that b shifts, by almost half a period per standard deviation, and stretches.

    Three subjects, seen whole, in the first two fifths, and once at a height that the wave has
    twice: a posterior that is nearly normal, one that is bent, one with two modes.
    """
    r, J = np.random.default_rng(3), 12
    data = pd.DataFrame({"id": np.repeat(np.arange(3), J), "t": np.tile(np.linspace(0, 1, J), 3)})
    shift = np.array([0.49, -0.55, 0.1])[data.id]
    data["y"] = 2 * np.sin(2 * np.pi * (data.t + shift)) + r.normal(0, 0.3, len(data))
    data.loc[(data.id == 1) & (data.t > 0.4), "y"] = np.nan
    data.loc[data.id == 2, "y"] = np.where(data.t[data.id == 2] == 0, 1.0, np.nan)
    model, panel = build("y ~ 1 + (dnn(poly(t, 5), form='warped', latent=2) | id)", data)
    theta = {name: torch.zeros(s, dtype=torch.float64) for name, s in model.packing.shapes.items()}
    latent = model.latents[0]
    assert isinstance(latent, Neural)
    assert latent.warp is not None
    place = torch.linspace(-1.5, 1.5, 300, dtype=torch.float64)
    wave = 2 * torch.sin(torch.pi * (place + 1))[:, None]
    columns = latent.warp.curve.columns(place)
    theta["latent1.curve"] = torch.linalg.lstsq(columns, wave).solution[:, 0]
    theta["latent1.shift"] = torch.tensor([-1.5 / torch.pi, 0.0], dtype=torch.float64)
    theta["latent1.stretch"] = torch.tensor([0.0, 0.2], dtype=torch.float64)
    theta["extra"] = torch.full_like(theta["extra"], -1.2)
    return model, theta, panel.observed_rows()


class OnGrid(NamedTuple):
    """b | y of every subject by the trapezoid rule on a grid of two random effects."""

    axis: Tensor  # (G,)
    height: Tensor  # (n, G, G) log p(y, b)
    log_likelihood: Tensor  # (n,)
    mean: Tensor  # (n, 2)
    covariance: Tensor  # (n, 2, 2)


def on_grid(
    model: Model, theta: Theta, panel: Panel, half: float = 6.0, points: int = 301
) -> OnGrid:
    axis = torch.linspace(-half, half, points, dtype=torch.float64)
    b, ready, heights = torch.cartesian_prod(axis, axis), model.prepare(theta), []
    for i in range(panel.n):
        block = panel.block(torch.tensor([i]))
        parts = b[:, None].split(40_000)
        heights.append(torch.cat([model.log_joint(ready, part, block)[:, 0] for part in parts]))
    height = torch.stack(heights)
    weight = torch.softmax(height, 1)
    mean = weight @ b
    gap = b - mean[:, None]
    covariance = torch.einsum("ng,nga,ngb->nab", weight, gap, gap)
    value = torch.logsumexp(height, 1) + 2 * torch.log(axis[1] - axis[0])
    return OnGrid(axis, height.reshape(-1, points, points), value, mean, covariance)
