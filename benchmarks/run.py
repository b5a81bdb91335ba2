"""Accuracy and speed beside the peers, measured in one run: `make bench`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from simulate import _frame, linear_profiles, random_slopes, sigmoid_profiles
from stored import RESULTS, keep

import dgmm
from dgmm.information import gradient_hessian, reported_packing
from dgmm.likelihood import Frozen, Importance, Quadrature, freeze
from dgmm.parameters import Theta
from dgmm.transforms import ns

SPEED_RUNS = 3


def best_time(call: Callable[[], Any]) -> tuple[float, Any]:
    """Shortest of a few runs, and the result."""
    times, result = [], None
    for _ in range(SPEED_RUNS):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return min(times), result


# -- speed ---------------------------------------------------------------------------------------


def speed() -> None:
    """Data frame to printed summary, standard errors included, 8,000 subjects x 20 visits."""
    data = random_slopes(8000, 20, seed=1)
    print("Linear mixed model, 8,000 subjects x 20 visits, y ~ x + t + (t | id)")
    print("from data frame to printed summary, standard errors included (ML)\n")
    ours, fit = best_time(lambda: _ours(data))
    rows = [("dgmm", ours, fit.estimate.log_likelihood)]
    rows.append(("mixedlm", *_mixedlm(data)))
    start = time.perf_counter()
    peer = _statsmodels(data)
    rows.append(("statsmodels MixedLM (one run)", time.perf_counter() - start, peer.llf))
    print(f"{'':32}{'seconds':>10}{'times dgmm':>12}{'log-likelihood':>18}")
    for name, seconds, value in rows:
        print(f"{name:32}{seconds:10.2f}{seconds / ours:12.1f}{value:18.4f}")
        row = {"program": name, "seconds": seconds, "loglik": float(value)}
        keep(RESULTS / "linear.csv", row, ["program"])
    print()


def _ours(data: pd.DataFrame) -> dgmm.Fit:
    fit = dgmm.mixed_model("y ~ x + t + (t | id)", data, verbose=0)
    str(fit.summary())
    return fit


def _mixedlm(data: pd.DataFrame) -> tuple[float, float]:
    import mixedlm

    def run() -> Any:
        fit = mixedlm.lmer("y ~ x + t + (t | id)", data, REML=False)
        str(fit.summary())
        return fit

    seconds, fit = best_time(run)
    value = fit.logLik()
    return seconds, float(getattr(value, "value", value))


def _statsmodels(data: pd.DataFrame) -> Any:
    from statsmodels.regression.mixed_linear_model import MixedLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MixedLM.from_formula("y ~ x + t", data, groups="id", re_formula="~ t")
        result = model.fit(reml=False)
    str(result.summary())
    return result


# -- accuracy of profiles ------------------------------------------------------------------------


def profiles() -> None:
    """RMSE of fitted subject profiles against the truth, deep and linear."""
    print("Subject profiles, 800 subjects x 20 visits: RMSE against the true profile, relative to")
    print("the linear mixed model with (1 + ns(t, 4) | id)\n")
    rng = np.random.default_rng(3)
    linear = _frame(800, 20, rng)
    splines = ns(linear["t"].to_numpy(), 4)
    linear_profiles(np.column_stack([np.ones(len(linear)), splines]), linear, rng)
    for name, data in (
        ("linear mixed model is true", linear),
        ("sigmoid profiles", sigmoid_profiles(800, 20, seed=4)),
    ):
        classical = dgmm.mixed_model("y ~ x + ns(t, 4) + (1 + ns(t, 4) | id)", data, verbose=0)
        richer = dgmm.mixed_model("y ~ x + ns(t, 8) + (1 + ns(t, 8) | id)", data, verbose=0)
        start = time.perf_counter()
        deep = dgmm.mixed_model("y ~ x + ns(t, 4) + (dnn(ns(t, 4)) | id)", data, seed=1, verbose=0)
        seconds = time.perf_counter() - start
        base, wide, net = (_rmse(fit, data) for fit in (classical, richer, deep))
        held = deep.estimate.held_out
        assert held is not None
        print(f"{name}: dnn {net / base:.4f}, LMM with ns(t, 8) {wide / base:.4f}")
        print(
            f"   held-out log score per subject {held.difference:+.3f} "
            f"(s.e. {held.standard_error:.3f}); deep fit {seconds:.0f} s"
        )
    print()


def _rmse(fit: dgmm.Fit, data: pd.DataFrame) -> float:
    return float(np.sqrt(np.mean((fit.fitted().to_numpy() - data["mu"].to_numpy()) ** 2)))


# -- standard errors -----------------------------------------------------------------------------


def hessians() -> None:
    """Central-difference against autograd Hessian of the same frozen likelihood."""
    print("Central-difference against autograd Hessian, frozen nodes: largest relative difference")
    print("of a standard error\n")
    data = dgmm.datasets.load("contraception")
    data["y"] = (data["use"] == "Y").astype(int)
    fit = dgmm.mixed_model(
        "y ~ age + I(age**2) + livch + urban + (1 | district)", data, family="bernoulli", verbose=0
    )
    sleep = dgmm.datasets.load("sleepstudy")
    slope = dgmm.mixed_model(
        "Reaction ~ Days + (Days | Subject)", sleep, likelihood="quadrature", verbose=0
    )
    for name, one in (("contraception", fit), ("sleepstudy", slope)):
        done = one.estimate
        for rule in (Quadrature(11), Importance(512)):
            frozen = freeze(done.model, done.theta, done.observed, rule, np.random.default_rng(0))
            gap = _gap(frozen, done.theta)
            print(f"{name:16}{rule.describe(done.model.k):60}{gap:.1e}")
    print()


def _gap(frozen: Frozen, theta: Theta) -> float:
    packing = reported_packing(frozen.model)
    central = -gradient_hessian(frozen, theta, packing).matrix
    exact = -torch.autograd.functional.hessian(
        lambda vector: frozen.objective(packing.unpack(vector)), packing.pack(theta)
    ).numpy()
    one, two = (np.sqrt(np.diag(np.linalg.inv(matrix))) for matrix in (central, exact))
    return float(np.abs(one / two - 1).max())


if __name__ == "__main__":
    speed()
    profiles()
    hessians()
