"""Fitted models, one fit each per session. Tests must not change them."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dgmm import Fit, mixed_model
from dgmm.datasets import load

os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")  # tests run beside each other, starts do not

REFERENCE = Path(__file__).parent / "reference"
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

FORMULAS = {
    "sleepstudy": "Reaction ~ Days + (Days | Subject)",
    "orthodont": "distance ~ age * Sex + (age | Subject)",
    "math_achieve": "MathAch ~ SES + (SES | School)",
    "pbcseq": "lbili ~ years * trt + (years | id)",
    "pbcseq_ns2": "lbili ~ ns(years, 2) * trt + (ns(years, 2) | id)",
    "cbpp": "cbind(incidence, size - incidence) ~ period + (1 | herd)",
    "toenail": "y ~ trt * time + (1 | patientID)",
    "contraception": "y ~ age + I(age**2) + livch + urban + (1 | district)",
    "epil": "y ~ lbase * trt + lage + V4 + (1 | subject)",
    "epil_nb": "y ~ lbase * trt + lage + V4 + (1 | subject)",
    "wine": "rating ~ temp + contact + (1 | judge)",
}
FAMILIES = {
    "cbpp": "binomial",
    "toenail": "bernoulli",
    "contraception": "bernoulli",
    "epil": "poisson",
    "epil_nb": "negative_binomial",
    "wine": "cumulative",
}
DEEP = "Reaction ~ Days + (dnn(ns(Days, 2)) | Subject)"


def data(name: str) -> pd.DataFrame:
    """A shipped data set as the stored reference fits used it."""
    if name.startswith("pbcseq"):
        frame = load("pbcseq")
        return frame.assign(
            years=frame["day"] / 365.25,
            lbili=np.log(frame["bili"]),
            trt=frame["trt"].astype("category"),
        )
    frame = load(name.removesuffix("_nb"))
    if name == "orthodont":
        levels = pd.CategoricalDtype(["Male", "Female"])
        return frame.assign(Sex=frame["Sex"].astype(str).astype(levels))
    if name == "toenail":
        return frame.assign(
            y=(frame["outcome"] != "none or mild").astype(float),
            trt=(frame["treatment"] != "itraconazole").astype(float),
        )
    if name == "contraception":
        return frame.assign(y=(frame["use"] == "Y").astype(float))
    return frame


def reference(file: str, name: str) -> dict[str, Any]:
    """One entry of a file of stored reference numbers."""
    entries = json.loads((REFERENCE / f"{file}.json").read_text(encoding="utf-8"))["refs"]
    return next(entry for entry in entries if entry["id"] == name)


def benchmark(name: str) -> ModuleType:
    """A script of the folder benchmarks, as a module."""
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))
    return importlib.import_module(name)


def no_slopes() -> pd.DataFrame:
    """Twelve subjects with levels of their own and one slope, 1/2, in common."""
    rng = np.random.default_rng(0)
    time = np.arange(5.0)
    level, noise = rng.normal(size=(12, 1)), 0.5 * rng.normal(size=(12, 5))
    centred = time - time.mean()
    noise -= np.outer(noise @ centred, centred) / (centred @ centred)
    y = 1 + 0.5 * time + level + noise
    return pd.DataFrame({"id": np.repeat(np.arange(12), 5), "t": np.tile(time, 12), "y": y.ravel()})


@pytest.fixture(scope="session")
def fit_of() -> Callable[..., Fit]:
    """``fit_of("cbpp", method="vae")``: the fit of FORMULAS with some options, made once."""
    made: dict[tuple[Any, ...], Fit] = {}

    def get(name: str, **options: Any) -> Fit:
        key = (name, *sorted(options.items()))
        if key not in made:
            family = FAMILIES.get(name, "gaussian")
            made[key] = mixed_model(FORMULAS[name], data(name), family=family, verbose=0, **options)
        return made[key]

    return get


@pytest.fixture(scope="session")
def sleepstudy(fit_of: Callable[..., Fit]) -> Fit:
    return fit_of("sleepstudy")


@pytest.fixture(scope="session")
def sleepstudy_reml(fit_of: Callable[..., Fit]) -> Fit:
    return fit_of("sleepstudy", method="reml")


@pytest.fixture(scope="session")
def orthodont(fit_of: Callable[..., Fit]) -> Fit:
    return fit_of("orthodont")


@pytest.fixture(scope="session")
def math_achieve(fit_of: Callable[..., Fit]) -> Fit:
    return fit_of("math_achieve")


@pytest.fixture(scope="session")
def pbcseq(fit_of: Callable[..., Fit]) -> Fit:
    return fit_of("pbcseq")


@pytest.fixture(scope="session")
def cbpp(fit_of: Callable[..., Fit]) -> Fit:
    return fit_of("cbpp")


@pytest.fixture(scope="session")
def toenail(fit_of: Callable[..., Fit]) -> Fit:
    return fit_of("toenail")


@pytest.fixture(scope="session")
def contraception(fit_of: Callable[..., Fit]) -> Fit:
    return fit_of("contraception")


@pytest.fixture(scope="session")
def epil(fit_of: Callable[..., Fit]) -> Fit:
    return fit_of("epil")


@pytest.fixture(scope="session")
def cbpp_vae(fit_of: Callable[..., Fit]) -> Fit:
    return fit_of("cbpp", method="vae", likelihood="importance")


@pytest.fixture(scope="session")
def singular() -> Fit:
    """No subject has a slope of its own: within each the noise is orthogonal to time."""
    return mixed_model("y ~ t + (t || id)", no_slopes(), verbose=0)


@pytest.fixture(scope="session")
def deep() -> Fit:
    """A small deep fit: one neural random part, few epochs."""
    return mixed_model(DEEP, data("sleepstudy"), control={"epochs": 20, "holdout": 0.0}, verbose=0)


@pytest.fixture(scope="session")
def curved_frame() -> pd.DataFrame:
    """60 subjects x 5: y = 0.5 x + sin(2 z) + b + e, x correlated with the curve, g a factor."""
    rng = np.random.default_rng(3)
    n, J = 60, 5
    z = rng.uniform(-2, 2, n * J)
    x = 0.7 * np.sin(2 * z) + rng.normal(size=n * J)
    y = 0.5 * x + np.sin(2 * z) + np.repeat(rng.normal(size=n), J) + rng.normal(0, 0.6, n * J)
    count = rng.poisson(np.exp(0.3 * x + 0.5 * np.sin(2 * z)))
    g = np.where(rng.uniform(size=n * J) < 0.4, "b", "a")
    return pd.DataFrame(
        {"id": np.repeat(np.arange(n), J), "x": x, "z": z, "g": g, "y": y, "count": count}
    )


QUICK = {"epochs": 20, "holdout": 0.0, "draws": 64, "replicates": 2, "polish_draws": 32}


@pytest.fixture(scope="session")
def curved(curved_frame: pd.DataFrame) -> Fit:
    """A Gaussian fit with a small network on the fixed side."""
    formula = "y ~ x + g + dnn(z, hidden=(6,), ridge=1) + (1 | id)"
    return mixed_model(formula, curved_frame, control=QUICK, verbose=0)


@pytest.fixture(scope="session")
def curved_counts(curved_frame: pd.DataFrame) -> Fit:
    """The same for counts."""
    formula = "count ~ x + dnn(z, hidden=(4,), ridge=1) + (1 | id)"
    return mixed_model(formula, curved_frame, family="poisson", control=QUICK, verbose=0)


@pytest.fixture(params=["sleepstudy", "cbpp", "deep"])
def any_fit(request: pytest.FixtureRequest) -> Fit:
    """An exact, a quadrature and a deep fit in turn."""
    fit: Fit = request.getfixturevalue(request.param)
    return fit
