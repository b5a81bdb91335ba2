"""The numbers stored from R against dense densities: crossed.json and ou.json."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REFERENCE, reference
from dense import LOG_2PI, Laplace, Normal
from scipy import stats
from torch import Tensor
from torch.func import grad, hessian
from toys import (
    ar1_frame,
    counts_frame,
    crossed_gaussian,
    crossed_poisson,
    occasions_frame,
    ou_frame,
    stuck_frame,
    visits_frame,
)

PATHS = ("ou", "ou_intercept", "ar1_intercept", "ar1", "ar1_negative")


def tensor(values: Any) -> Tensor:
    return torch.tensor(np.asarray(values, dtype=float))


def design(data: pd.DataFrame) -> Tensor:
    """(Intercept), x."""
    return tensor(np.column_stack([np.ones(len(data)), data.x]))


def levels(codes: pd.Series) -> Tensor:
    """One-hot, (N, m)."""
    return torch.nn.functional.one_hot(tensor(codes).long()).double()


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("ou", ou_frame),
        ("ar1", ar1_frame),
        ("visits", visits_frame),
        ("stuck", stuck_frame),
        ("counts", counts_frame),
        ("occasions", occasions_frame),
    ],
)
def test_a_stored_frame_is_the_one_of_its_recipe(
    name: str, frame: Callable[[], pd.DataFrame]
) -> None:
    pd.testing.assert_frame_equal(pd.read_csv(REFERENCE / f"{name}.csv"), frame())


# -- paths -----------------------------------------------------------------------------------------


def path(name: str) -> tuple[Normal, Tensor]:
    """The density of an entry in (beta, log sd_path, range', log sigma[, log sd_intercept]).

    range' is the log range of a path in real time, atanh rho at visits.
    """
    entry, ou = reference("ou", name), name.startswith("ou")
    data = ou_frame() if ou else ar1_frame()
    outcome, time = "z" if name == "ar1_negative" else "y", "time" if ou else "visit"
    data = data.dropna(subset=[outcome]).reset_index(drop=True)
    X, at, id = design(data), tensor(data[time]), tensor(data.id)
    lag, same = (at[:, None] - at).abs(), (id[:, None] == id).double()

    def moments(x: Tensor) -> tuple[Tensor, Tensor]:
        correlation = torch.exp(-lag / x[3].exp()) if ou else torch.tanh(x[3]) ** lag
        V = torch.exp(2 * x[2]) * correlation * same
        if len(x) > 5:
            V = V + torch.exp(2 * x[5]) * same
        return X @ x[:2], V + torch.exp(2 * x[4]) * torch.eye(len(X), dtype=torch.float64)

    reach = math.log(entry["range"]) if ou else math.atanh(entry["rho"])
    x = [*entry["fixef"].values(), math.log(entry["sd_path"]), reach, math.log(entry["sigma"])]
    x += [math.log(entry["sd_intercept"])] if "sd_intercept" in entry else []
    groups = tuple(tensor(at).long() for at in data.groupby("id").indices.values())
    return Normal(tensor(data[outcome]), moments, groups), tensor(x)


@pytest.mark.parametrize("name", PATHS)
def test_a_path_has_the_stored_likelihood_at_its_maximum(name: str) -> None:
    entry, (density, x) = reference("ou", name), path(name)
    assert len(density.y) == entry["n"]
    assert len(density.groups) == entry["groups"]
    value = density.each(x).sum()
    assert float(value) == pytest.approx(entry["log_likelihood"], abs=1e-8)
    assert float(density.scores(x).sum(0).abs().max()) < 1e-5
    for other in entry["others"].values():
        assert other["log_likelihood"] == pytest.approx(entry["log_likelihood"], abs=1e-8)


@pytest.mark.parametrize("name", PATHS)
def test_a_path_has_the_stored_standard_errors(name: str) -> None:
    entry, (density, x) = reference("ou", name), path(name)
    curvature = hessian(lambda x: density.each(x).sum())(x)
    se = torch.linalg.inv(-curvature).diagonal().sqrt().tolist()
    reach = entry["se_log"].get("range", entry.get("se_atanh_rho"))
    stored = [*entry["se_full"], entry["se_log"]["sd_path"], reach, entry["se_log"]["sigma"]]
    stored += [entry["se_log"]["sd_intercept"]] if "sd_intercept" in entry["se_log"] else []
    assert se == pytest.approx(stored, rel=1e-6)
    gls = torch.linalg.inv(-curvature[:2, :2])
    np.testing.assert_allclose(gls, entry["vcov_gls"], rtol=1e-5, atol=1e-8)


def test_counts_along_a_path_have_the_stored_laplace_approximation() -> None:
    entry = reference("ou", "poisson_ou")
    data = ou_frame().dropna(subset=["count"])
    value = 0.0
    beta, sd, reach = tensor(entry["fixef"]), entry["sd_path"], entry["range"]
    for _, own in data.groupby("id"):
        y, eta, time = tensor(own["count"]), design(own) @ beta, tensor(own.time)
        root = sd * torch.linalg.cholesky(torch.exp(-(time[:, None] - time).abs() / reach))

        def log_joint(
            x: Tensor, u: Tensor, y: Tensor = y, eta: Tensor = eta, root: Tensor = root
        ) -> Tensor:
            f = y * (eta + root @ u) - torch.exp(eta + root @ u) - torch.lgamma(y + 1)
            return f.sum() - 0.5 * (u @ u + len(u) * LOG_2PI)

        value += float(Laplace((log_joint,), len(own)).total(tensor([0.0])))
    assert len(data) == entry["n"]
    assert value == pytest.approx(entry["log_likelihood"], abs=1e-7)


# -- crossed factors -------------------------------------------------------------------------------


def crossed(reml: bool) -> tuple[Callable[[Tensor], Tensor], dict[str, Any], Tensor]:
    """l in the log SDs of g, h and the noise, beta at its maximum or integrated out."""
    data = crossed_gaussian()
    y, X, G, H = tensor(data.y), design(data), levels(data.g), levels(data.h)

    def total(v: Tensor) -> Tensor:
        V = torch.exp(2 * v[0]) * G @ G.T + torch.exp(2 * v[1]) * H @ H.T
        V = V + torch.exp(2 * v[2]) * torch.eye(len(y), dtype=torch.float64)
        information = X.T @ torch.linalg.solve(V, X)
        residual = y - X @ torch.linalg.solve(information, X.T @ torch.linalg.solve(V, y))
        log_det = torch.logdet(V) + reml * torch.logdet(information)
        quadratic = residual @ torch.linalg.solve(V, residual)
        return -0.5 * ((len(y) - 2 * reml) * LOG_2PI + log_det + quadratic)

    entry = reference("crossed", "crossed_gaussian")["reml" if reml else "ml"]
    sds = (entry["sd"]["g"], entry["sd"]["h"], entry["sigma"])
    return total, entry, tensor(sds).log()


@pytest.mark.parametrize("reml", [False, True])
def test_crossed_intercepts_have_the_stored_likelihood_at_its_maximum(reml: bool) -> None:
    total, entry, v = crossed(reml)
    assert float(total(v)) == pytest.approx(entry["log_likelihood"], abs=1e-8)
    assert float(grad(total)(v).abs().max()) < 1e-6


@pytest.mark.parametrize("reml", [False, True])
def test_crossed_intercepts_have_the_stored_errors_of_their_log_sds(reml: bool) -> None:
    total, entry, v = crossed(reml)
    se = torch.linalg.inv(-hessian(total)(v)).diagonal().sqrt()
    assert se.tolist() == pytest.approx(
        [entry["se_log_sd"][name] for name in ("g", "h", "sigma")], rel=1e-6
    )


def test_the_stored_profile_ends_are_where_the_deviance_rises_by_the_quantile() -> None:
    total, entry, v = crossed(reml=False)
    stored = reference("crossed", "crossed_gaussian")["profile"]
    for place, name in enumerate(("sd_g", "sd_h", "sigma")):
        for end in stored[name]:
            if end > 0:
                rest, at = [i for i in range(3) if i != place], v.clone()
                at[place] = math.log(end)
                for _ in range(30):  # Newton in the other two
                    slope, curvature = grad(total)(at), hessian(total)(at)
                    at[rest] -= torch.linalg.solve(curvature[rest][:, rest], slope[rest])
                rise = 2 * (entry["log_likelihood"] - float(total(at)))
                assert rise == pytest.approx(stats.chi2(1).ppf(0.95), abs=1e-6)


def test_crossed_counts_have_the_stored_laplace_approximation() -> None:
    entry, data = reference("crossed", "crossed_poisson")["laplace"], crossed_poisson()
    y, X, G, H = tensor(data.c), design(data), levels(data.g), levels(data.h)
    m = G.shape[1]

    def log_joint(x: Tensor, u: Tensor) -> Tensor:
        eta = X @ x[2:] + x[0].exp() * G @ u[:m] + x[1].exp() * H @ u[m:]
        f = y * eta - eta.exp() - torch.lgamma(y + 1)
        return f.sum() - 0.5 * (u @ u + len(u) * LOG_2PI)

    laplace = Laplace((log_joint,), m + H.shape[1])
    log_sd = [math.log(entry["sd"][name]) for name in ("g", "h")]
    x = tensor([*log_sd, *entry["fixef"].values()])
    assert float(laplace.total(x)) == pytest.approx(entry["log_likelihood"], abs=1e-7)
    assert float(laplace.gradient(x).abs().max()) < 1e-6
    V = torch.linalg.inv(-laplace.hessian(x))
    np.testing.assert_allclose(V[2:, 2:], entry["vcov"], rtol=1e-6, atol=1e-9)
    se = V.diagonal()[:2].sqrt().tolist()
    assert se == pytest.approx([entry["se_log_sd"][name] for name in ("g", "h")], rel=1e-6)
    for name, part, place in (("g", slice(None, m), 0), ("h", slice(m, None), 1)):
        modes = x[place].exp() * laplace.modes(x)[0, part]
        np.testing.assert_allclose(modes, entry["ranef"][name]["mode"], atol=1e-7)
