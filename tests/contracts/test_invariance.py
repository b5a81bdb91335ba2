"""Units, origins, labels and the order of the rows change nothing but what they must."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from dgmm import Fit, mixed_model
from dgmm.design import build_design
from dgmm.estimate.pilot import pilot
from dgmm.estimate.tied import tied_decoder
from dgmm.families import find
from dgmm.formula import parse_formula
from dgmm.latent import words
from dgmm.likelihood import Importance, freeze
from dgmm.model import build_model
from dgmm.panel import Panel

GAUSSIAN: dict[str, tuple[str, dict[str, Any]]] = {
    "intercept": ("y ~ x + t + (1 | g)", {}),
    "slope": ("y ~ x + t + (1 + t | g)", {}),
    "restricted": ("y ~ x + t + (1 + t | g)", {"method": "reml"}),
    "crossed": ("y ~ x + t + (1 | g) + (1 | h)", {}),
    "crossed, restricted": ("y ~ x + t + (1 + t | g) + (1 | h)", {"method": "reml"}),
    "weighted": ("y ~ x + t + (1 + t | g)", {"weights": "w"}),
    "offset": ("y ~ x + t + (1 | g)", {"offset": "o"}),
}
FEW = ((1e-12, 1e6), (1e6, 1e9))
"""Units and origins."""

MANY = ((1e-12, 1e-9, 1e-6, 1e-3, 1e3, 1e6, 1e9, 1e12), (1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9))


def measured() -> pd.DataFrame:
    """30 subjects with 6 rows, a second factor of 6 levels; everything has a spread near one."""
    r = np.random.default_rng(3)
    g, h = np.repeat(np.arange(30), 6), np.tile(np.arange(6), 30)
    t = h + r.uniform(0, 0.5, 180)
    x = r.normal(size=180) + r.normal(size=30)[g]
    u = r.normal(size=(30, 2)) @ np.array([[1.0, 0.3], [0, 0.4]])
    y = 1 + 0.5 * x + 0.3 * t + u[g, 0] + u[g, 1] * t + 0.6 * r.normal(size=6)[h]
    y += 0.9 * r.normal(size=180)
    w, o = r.uniform(0.5, 2, 180), r.normal(size=180)
    return pd.DataFrame({"g": g, "h": h, "t": t, "x": x, "y": y, "w": w, "o": o})


@pytest.mark.parametrize("changes", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", GAUSSIAN)
def test_gaussian_fits_keep_their_digits_in_any_unit_and_from_any_origin(
    form: str, changes: tuple[tuple[float, ...], tuple[float, ...]]
) -> None:
    scales, origins = changes
    formula, options = GAUSSIAN[form]
    data = measured()
    base = mixed_model(formula, data, verbose=0, **options)
    free = len(data) - 3 * ("method" in options)
    for name in ("x", "t", "y"):
        for scale in scales:
            moved = data.assign(**{name: data[name] * scale})
            if name == "y":
                moved["o"] *= scale
            fit = mixed_model(formula, moved, verbose=0, **options)
            if name == "y":
                gain = free * math.log(scale)
            else:
                gain = math.log(scale) if "method" in options else 0.0
            agree(fit, base, {name: scale}, gain)
    for name in ("x", "t", "y") + (("o",) if "offset" in options else ()):
        for origin in origins:
            moved = data.assign(**{name: data[name] + origin})
            agree(mixed_model(formula, moved, verbose=0, **options), base, {}, 0.0)


def agree(fit: Fit, base: Fit, scale: dict[str, float], gain: float) -> None:
    """Slopes, their standard errors, sigma and the log-likelihood after a change of units."""
    assert fit.estimate.converged
    assert fit.messages == base.messages
    outcome = scale.get("y", 1.0)
    for name in ("x", "t"):
        factor = outcome / scale.get(name, 1.0)
        error = factor * base.std_errors()[name]
        assert abs(fit.fixef()[name] - factor * base.fixef()[name]) < 1e-6 * error
        assert fit.std_errors()[name] == pytest.approx(error, rel=1e-6)
    assert fit.sigma() == pytest.approx(outcome * base.sigma(), rel=1e-6)
    assert float(fit.loglik()) == pytest.approx(float(base.loglik()) - gain, abs=1e-5)


def test_residuals_that_sums_lose_beside_random_effects_are_told() -> None:
    data = measured()
    for spread, digits in ((1e3, None), (1e5, 3), (1e6, 1)):
        wide = data.assign(y=data["y"] + spread * np.sin(7.0 * data["g"]))
        fit = mixed_model("y ~ x + t + (1 | g)", wide, verbose=0)
        notes = [note for note in fit.messages if "double precision keeps about" in note]
        assert len(notes) == (digits is not None)
        within = within_groups(wide)
        error = abs(fit.sigma() / within - 1)
        assert error < (1e-6 if digits is None else 10.0 ** (1 - digits))
        assert digits is None or f"about {digits} digits" in notes[0]


def within_groups(data: pd.DataFrame) -> float:
    """sigma when the variance between groups is beyond all bounds: least squares within them."""
    about = data[["y", "x", "t"]] - data.groupby("g")[["y", "x", "t"]].transform("mean")
    X, y = about[["x", "t"]].to_numpy(), about["y"].to_numpy()
    left = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    return float(np.sqrt(left @ left / (len(y) - data["g"].nunique())))


def test_julian_days_change_the_intercept_alone() -> None:
    data = measured()
    base = mixed_model("y ~ t + (1 + t | g)", data, verbose=0)
    fit = mixed_model("y ~ t + (1 + t | g)", data.assign(t=data["t"] + 2_451_545), verbose=0)
    assert fit.fixef()["t"] == pytest.approx(base.fixef()["t"], abs=1e-8)
    assert fit.std_errors()["t"] == pytest.approx(base.std_errors()["t"], rel=1e-6)
    sd = [one.var_corr()["sdcor"].iloc[1] for one in (fit, base)]
    assert sd[0] == pytest.approx(sd[1], rel=1e-6)
    new = data.head(6)
    np.testing.assert_allclose(
        fit.predict(new.assign(t=new["t"] + 2_451_545))["fit"], base.predict(new)["fit"], atol=1e-6
    )


@pytest.mark.parametrize("name", ["1", "2", "3", "4", "lottery"])
def test_means_and_standard_deviations_that_nist_certifies(name: str) -> None:
    """Groups whose means differ less than chance would have it leave sigma^2 the mean square."""
    known = json.loads((Path(__file__).parent.parent / "reference" / "nist.json").read_text())
    if name == "lottery":
        wanted = known["lottery"]
        y = np.sort(np.array(wanted["values"], dtype=float))
        y = np.stack([y[:109], y[:108:-1]], axis=1).ravel()  # smallest beside largest
    else:
        wanted = known["numacc"][name]
        half = {"1": 1.0}.get(name, 0.1)
        pair = (wanted["mean"] - half, wanted["mean"] + half)
        y = np.array([wanted["mean"], *(pair * (1 if name == "1" else 500))])
    data = pd.DataFrame({"y": y, "g": (np.arange(len(y)) + len(y) % 2) // 2})
    fit = mixed_model("y ~ 1 + (1 | g)", data, method="reml", verbose=0)
    assert fit.fixef()["(Intercept)"] == pytest.approx(wanted["mean"], rel=1e-14)
    # the outcomes themselves are rounded to 1e-16 of their size
    tolerance = max(1e-10, 1e-15 * wanted["mean"] / wanted["standard_deviation"])
    assert fit.sigma() == pytest.approx(wanted["standard_deviation"], rel=tolerance)


def counted() -> pd.DataFrame:
    """24 subjects with 5 rows and an outcome of every kind."""
    r = np.random.default_rng(5)
    g, N = np.repeat(np.arange(24), 5), 120
    t, x = np.tile(np.arange(5.0), 24) + r.uniform(0, 0.5, N), r.normal(size=N)
    eta = 0.2 + 0.4 * x + 0.15 * t + 0.8 * r.normal(size=24)[g]
    mean, p = np.exp(eta), 1 / (1 + np.exp(-eta))
    outcomes = {
        "poisson": r.poisson(mean),
        "negative_binomial": r.negative_binomial(3, 3 / (3 + mean)),
        "zero_inflated_poisson": r.poisson(mean) * (r.uniform(size=N) < 0.8),
        "bernoulli": r.binomial(1, p),
        "cumulative": (eta + r.logistic(size=N) > 0).astype(int) + (eta + r.logistic(size=N) > 1.5),
        "gamma": r.gamma(3, mean / 3),
        "inverse_gaussian": r.wald(mean, 3.0),
        "lognormal": np.exp(eta + 0.5 * r.normal(size=N)),
        "student_t": eta + 0.5 * r.standard_t(4, size=N),
        "beta": r.beta(5 * p, 5 * (1 - p)).clip(1e-4, 1 - 1e-4),
    }
    return pd.DataFrame({"g": [f"s{i}" for i in g], "t": t, "x": x, **outcomes})


def otherwise(data: pd.DataFrame) -> pd.DataFrame:
    """The rows in another order, under other labels, x in a millionth of its unit."""
    order = np.random.default_rng(0).permutation(len(data))
    labels = {one: f"z{(7 * i) % 24:03d}" for i, one in enumerate(data["g"].unique())}
    return data.iloc[order].assign(g=lambda d: d["g"].map(labels), x=lambda d: 1e6 * d["x"])


@pytest.mark.parametrize("family", [one for one in counted() if one not in ("g", "t", "x")])
def test_every_family_knows_no_units_labels_or_order(family: str) -> None:
    data = counted().astype({"cumulative": int})
    formula = f"{family} ~ x + t + (1 | g)"
    origin = 1e5 if family == "cumulative" else 1e6  # its thresholds are at x = t = 0
    base = mixed_model(formula, data, family=family, verbose=0)
    moved = otherwise(data).assign(t=lambda d: d["t"] + origin)
    fit = mixed_model(formula, moved, family=family, verbose=0)
    assert float(fit.loglik()) == pytest.approx(float(base.loglik()), abs=1e-5)
    for name, unit in (("x", 1e6), ("t", 1.0)):
        error = base.std_errors()[name] / unit
        assert abs(fit.fixef()[name] - base.fixef()[name] / unit) < 1e-3 * error
        assert fit.std_errors()[name] == pytest.approx(error, rel=1e-3)


def test_thresholds_too_far_from_the_data_are_refused_with_what_to_do() -> None:
    data = counted().astype({"cumulative": int}).assign(t=lambda d: d["t"] + 1e6)
    with pytest.raises(ValueError, match=r"stand where `t` is zero.* as in center\(t\)"):
        mixed_model("cumulative ~ t + (1 | g)", data, family="cumulative", verbose=0)
    fit = mixed_model("cumulative ~ center(t) + (1 | g)", data, family="cumulative", verbose=0)
    near = data.assign(t=data["t"] - 1e6)
    base = mixed_model("cumulative ~ t + (1 | g)", near, family="cumulative", verbose=0)
    assert fit.std_errors()["center(t)"] == pytest.approx(base.std_errors()["t"], rel=1e-3)


NETWORK = "y ~ x + (dnn(ns(t, 3), hidden=(4,)) | g)"


def test_a_network_knows_no_units_either() -> None:
    data, control = measured(), {"epochs": 60, "ridge": 6.0}
    base = mixed_model(NETWORK, data, control=control, starts=1, se=None, verbose=0)
    unit = 1e-6
    moved = data.assign(y=unit * data["y"], t=data["t"] / unit, x=data["x"] * unit)
    fit = mixed_model(NETWORK, moved, control=control, starts=1, se=None, verbose=0)
    gain = len(data) * math.log(unit)
    # both within the tolerance of the search, which single precision does not reach by one path
    assert float(fit.loglik()) + gain == pytest.approx(float(base.loglik()), abs=0.01)
    assert fit.fixef()["x"] == pytest.approx(base.fixef()["x"], abs=1e-4)  # se 0.07


# -- neural random effects -------------------------------------------------------------------------

NEURAL = {
    "general": "dnn(ns(t, 3), hidden=(4,), latent=2, ridge=8)",
    "dense": "dnn(ns(t, 3), hidden=(4,), latent=2, ridge=3, form='dense')",
    "warped": "dnn(ns(t, 3), hidden=(4,), latent=2, ridge=100, form='warped')",
}
UNITS = ({"y": 1e-3}, {"y": 1e3}, {"t": 1e3}, {"x": 1e3}, {"y": 1e-3, "t": 1e3, "x": 1e3})


def sigmoids(n: int = 30, J: int = 6) -> pd.DataFrame:
    """Everybody rises by two, once, at a time of his own."""
    r = np.random.default_rng(4)
    g = np.repeat(np.arange(n), J)
    t = np.tile(np.linspace(0, 1, J), n) + r.uniform(0, 0.1, n * J)
    x, onset, level = r.normal(size=n)[g], r.normal(0.5, 0.2, n)[g], 0.3 * r.normal(size=n)[g]
    y = 0.5 * x + level + 2 / (1 + np.exp(-(t - onset) / 0.08)) + 0.2 * r.normal(size=n * J)
    return pd.DataFrame({"g": g, "t": t, "x": x, "y": y})


@pytest.mark.parametrize("form", NEURAL)
def test_learning_begins_at_one_place_in_any_unit(form: str) -> None:
    """theta is unit-free but for log sigma, and the floors of its start are shares of something."""
    formula = parse_formula(f"y ~ x + t + ({NEURAL[form]} | g)", latent_words=words())
    below = "y ~ x + t + (ns(t, 3) | g)"
    found = []
    for units in ({}, *UNITS):
        data = sigmoids().assign(**{name: sigmoids()[name] * c for name, c in units.items()})
        design = build_design(formula, data)
        unit, _ = pilot(design, find("gaussian"))
        model, panel = build_model(design, find("gaussian"), unit), Panel.from_design(design)
        model = model.with_reference(panel)
        nested = mixed_model(below, data, se=None, verbose=0).estimate
        theta = tied_decoder(model, panel, nested, torch.Generator().manual_seed(0))
        nodes = np.random.default_rng(1)
        frozen = freeze(model, theta, panel.observed_rows(), Importance(16), nodes)
        scale = math.log(units.get("y", 1.0))
        value = frozen.value(theta) + panel.n_rows * scale
        found.append((model.packing.pack({**theta, "extra": theta["extra"] - scale}), value))
    for vector, value in found[1:]:
        torch.testing.assert_close(vector, found[0][0], rtol=0, atol=1e-5)
        assert value == pytest.approx(found[0][1], abs=1e-3)


@pytest.mark.parametrize("form", ["general", "dense"])
def test_neural_fits_know_no_units(form: str) -> None:
    """The same maximum and the same gain of subjects left out."""
    control = {"epochs": 1, "holdout": 0.5, "draws": 64, "replicates": 2, "polish_draws": 32}
    options = {"starts": 1, "se": None, "verbose": 0, "control": control}
    found = []
    for units in ({}, UNITS[-1]):
        data = sigmoids().assign(**{name: sigmoids()[name] * c for name, c in units.items()})
        fit = mixed_model(f"y ~ x + ({NEURAL[form]} | g)", data, **options)
        held = fit.estimate.held_out
        assert held is not None
        gain = len(data) * math.log(units.get("y", 1.0))
        slope = fit.fixef()["x"] * units.get("x", 1.0) / units.get("y", 1.0)
        found.append((float(fit.loglik()) + gain, held.difference, slope))
    # folds end 0.2 standard errors from a maximum, by paths that single precision tells apart
    for one, other, off in zip(*found, (0.01, 2e-3, 1e-4), strict=True):
        assert one == pytest.approx(other, abs=off)
