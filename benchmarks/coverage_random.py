"""Coverage of intervals beside a neural random part.

    python benchmarks/coverage_random.py --replicates 50 --workers 2
    python benchmarks/coverage_random.py --family poisson --form general --size 200x6
    python benchmarks/coverage_random.py --report

    g(E y_ij) = intercept + 0.5 x_i + 0.5 w_ij + level_i + A_i / [1 + exp{-(t_ij - c_i) / s_i}]
    y ~ x + w + ns(t, 4) + (dnn(ns(t, 4)) | id), the general form and form='warped'

Neither form contains this truth. A subject is seen for seven of ten years and those with a large x
come later, so x follows the curve between subjects; w follows the mean curve within subjects. Per
data set: estimate and standard error of x and w, by the deep fit and by the nested classical one,
and the points of a grid at which two pointwise bands hold the truth: that of ``effects()`` for the
mean of eta over subjects, and that of ``predict(type="marginal")`` for the mean of y. All options
are the defaults. Rows are added to the table, by any number of processes at once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import special, stats
from stored import RESULTS, fill, kept, limits, markdown, shares, verdict, version, worst

import dgmm
from dgmm.information import information

TABLE = RESULTS / "coverage_random.csv"
TRUTH = 0.5  # of both coefficients
COEFFICIENTS = ("x", "w")
BANDS = ("effects", "marginal")
FORMS = {"general": "dnn(ns(t, 4))", "warped": "dnn(ns(t, 4), form='warped')"}
SIZES = {"200x6": (200, 6), "400x10": (400, 10)}
GRID = np.linspace(1, 9, 15)
Z = float(special.ndtri(0.975))
KEY = ("family", "form", "size", "seed")
COLUMNS = (
    *KEY, "version",
    *(f"{what}_{name}" for name in COEFFICIENTS for what in ("estimate", "se")),
    *(f"nested_{what}_{name}" for name in COEFFICIENTS for what in ("estimate", "se")),
    "route", "converged", "decrement", "loglik", "nested_loglik", "held_out", "held_out_se",
    *(f"{band}_{what}" for band in BANDS for what in ("inside", "se", "error")),
    "seconds", "failure",
)  # fmt: skip


# -- the truth -----------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """An outcome: inverse link, draws given eta, and the size of what differs between subjects."""

    mean: Callable[[np.ndarray], np.ndarray]
    draw: Callable[[np.random.Generator, np.ndarray], np.ndarray]
    intercept: float
    height: float  # median of A
    level: float  # SD of the level


OUTCOMES = {
    "gaussian": Outcome(lambda eta: eta, lambda rng, eta: rng.normal(eta, 0.5), 0.0, 3.0, 0.6),
    "bernoulli": Outcome(
        special.expit,
        lambda rng, eta: (rng.uniform(size=eta.shape) < special.expit(eta)).astype(float),
        -1.5,
        3.0,
        0.6,
    ),
    "poisson": Outcome(
        np.exp, lambda rng, eta: rng.poisson(np.exp(eta)).astype(float), -0.5, 1.5, 0.3
    ),
}


def profile(outcome: Outcome, u: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The random part with the intercept: u (n, 4) standard normal, t (n, J) -> (n, J).

    log A = log height + 0.3 u1,   c = 5 + 1.8 u2,   log s = 0.3 u3
    """
    level, size, place, speed = u.T[:, :, None]
    rise = special.expit((t - 5 - 1.8 * place) / np.exp(0.3 * speed))
    return outcome.intercept + outcome.level * level + outcome.height * np.exp(0.3 * size) * rise


@cache
def population(family: str) -> dict[str, np.ndarray]:
    """Means over subjects of eta and of y at the grid, x = w = 0, (15,) each.

    Over 2^15 points of a scrambled Sobol sequence.
    """
    outcome = OUTCOMES[family]
    points = stats.qmc.Sobol(4, rng=np.random.default_rng(0)).random(2**15)
    u = special.ndtri(np.clip(points, 1e-12, 1 - 1e-12))
    eta = profile(outcome, u, np.broadcast_to(GRID, (len(u), len(GRID))))
    return {"effects": eta.mean(0), "marginal": outcome.mean(eta).mean(0)}


def simulate(family: str, size: str, seed: int) -> pd.DataFrame:
    """One data set; of one seed, the forms are fitted to the same."""
    outcome, (n, visits) = OUTCOMES[family], SIZES[size]
    rng = np.random.default_rng([seed, list(OUTCOMES).index(family), n, 29])
    x = rng.normal(size=n)
    start = 3 * special.ndtr(0.8 * x + 0.6 * rng.normal(size=n))
    t = start[:, None] + (np.arange(visits) + rng.uniform(size=(n, visits))) * 7 / visits
    curve = special.expit((t - 5) / 2)
    w = 3 * (curve - 0.5) + rng.normal(size=t.shape)
    eta = TRUTH * x[:, None] + TRUTH * w + profile(outcome, rng.normal(size=(n, 4)), t)
    wide = {"t": t, "x": np.broadcast_to(x[:, None], t.shape), "w": w, "y": outcome.draw(rng, eta)}
    frame = pd.DataFrame({name: values.ravel() for name, values in wide.items()})
    return frame.assign(id=np.repeat(np.arange(n), visits))


# -- one replicate -------------------------------------------------------------------------------


def one(family: str, form: str, size: str, seed: int) -> dict[str, Any]:
    """Fit one data set; a fit that fails is a row too."""
    formula = f"y ~ x + w + ns(t, 4) + ({FORMS[form]} | id)"
    start = time.perf_counter()
    try:
        fit = dgmm.mixed_model(
            formula, simulate(family, size, seed), family=family, seed=seed, verbose=0
        )
        found = measured(fit, family)
    except Exception as error:  # it counts as an interval that does not cover
        found = {"failure": f"{type(error).__name__}: {error}"[:200]}
    return {**found, "seconds": time.perf_counter() - start, "version": version()}


def measured(fit: dgmm.Fit, family: str) -> dict[str, Any]:
    """What a row holds of a fit."""
    done, info = fit.estimate, fit.information
    assert info is not None
    row: dict[str, Any] = {
        "route": info.form,
        "converged": done.converged,
        "decrement": done.decrement,
        "loglik": done.log_likelihood,
    }
    below = classical(fit)
    assert below is not None
    row["nested_loglik"] = below.estimate.log_likelihood
    for start, model in (("", fit), ("nested_", below)):
        estimate, error = model.fixef(), model.std_errors()
        for name in COEFFICIENTS:
            row[f"{start}estimate_{name}"], row[f"{start}se_{name}"] = estimate[name], error[name]
    if done.held_out is not None:
        row["held_out"] = done.held_out.difference
        row["held_out_se"] = done.held_out.standard_error
    held = {"t": GRID.tolist(), "x": 0.0, "w": 0.0}
    nobody = pd.DataFrame({**held, "id": "nobody"})
    makers: dict[str, Callable[[], pd.DataFrame]] = {
        "effects": lambda: fit.effects("t", at=held),
        "marginal": lambda: fit.predict(nobody, type="marginal", interval="confidence"),
    }
    for name, make in makers.items():
        with suppress(ValueError):  # no standard errors: a band that does not cover
            row |= on_grid(name, make(), population(family)[name])
    return row


def on_grid(name: str, band: pd.DataFrame, truth: np.ndarray) -> dict[str, Any]:
    """Where a band holds the truth, its mean standard error, the error of the curve."""
    inside = (band["lower"] <= truth) & (truth <= band["upper"])
    return {
        f"{name}_inside": "".join("1" if hit else "0" for hit in inside),
        f"{name}_se": band["se"].mean(),
        f"{name}_error": float(np.sqrt(np.mean((band["fit"] - truth) ** 2))),
    }


def classical(fit: dgmm.Fit) -> dgmm.Fit | None:
    """The nested classical model as a fit of its own."""
    below = fit.estimate.nested
    if below is None:
        return None
    info = information(below, "hessian", fit.call.seed, fit.call.control.hessian_draws)
    return replace(fit, estimate=below, information=info)


# -- the report ----------------------------------------------------------------------------------


def intervals(table: pd.DataFrame, start: str = "") -> pd.DataFrame:
    """Every interval of a linear coefficient: cell, coefficient, error, SE, whether it covers.

    An interval that could not be given does not cover.
    """
    parts = []
    for name in COEFFICIENTS:
        error, se = table[f"{start}estimate_{name}"] - TRUTH, table[f"{start}se_{name}"]
        covers = (error.abs() <= Z * se) & se.notna()
        part = table[[*KEY, "converged"]]
        parts.append(part.assign(coefficient=name, error=error, se=se, covers=covers))
    return pd.concat(parts, ignore_index=True)


def summarised(rows: pd.DataFrame) -> pd.Series:
    """Coverage and standard errors of the intervals of one coefficient in one cell."""
    mean = rows["se"].mean()
    return pd.Series(
        {
            "n": len(rows),
            "given": rows["se"].notna().mean(),
            "coverage": rows["covers"].mean(),
            "ratio": mean / rows["error"][rows["se"].notna()].std(),
            "bias": rows["error"][rows["se"].notna()].mean() / mean,
            "converged": rows["converged"].eq(True).mean(),  # a fit that failed has not
        }
    )


def by_cell(table: pd.DataFrame) -> pd.DataFrame:
    """A row per cell and coefficient, with the coverage by the nested classical model."""
    by = [*KEY[:3], "coefficient"]
    ours, below = (
        intervals(table, start).groupby(by, sort=False).apply(summarised, include_groups=False)
        for start in ("", "nested_")
    )
    found = ours.join(below[["coverage", "ratio"]].add_prefix("nested_")).reset_index()
    found[["low", "high"]] = [limits(int(n), 0.95, 0.999) for n in found["n"]]
    found["passed"] = [
        worst(
            verdict(row.coverage, row.low, row.high),
            verdict(row.ratio, 0.85, 1.18, ratio_error(row.ratio, row.n)),
        )
        for row in found.itertuples()
    ]
    return found


def ratio_error(ratio: float, n: float) -> float:
    """The standard error of mean SE / SD, from that of the SD of n normal errors."""
    return float(ratio / np.sqrt(2 * max(n - 1, 1)))


def pooled(table: pd.DataFrame) -> pd.DataFrame:
    """A row per family and form: means over its cells, weighted by their intervals."""
    rows = []
    means = ["given", "coverage", "ratio", "bias", "converged", "nested_coverage", "nested_ratio"]
    for (family, form), cells in by_cell(table).groupby(["family", "form"], sort=False):
        found = {name: np.average(cells[name], weights=cells["n"]) for name in means}
        n = int(cells["n"].sum())
        error = np.sqrt(0.95 * 0.05 / n)
        low, high = (0.93, 0.97) if family == "bernoulli" else (0.94, 0.96)
        least = 0.95 if family == "gaussian" else 0.0
        found["passed"] = worst(
            verdict(found["coverage"], low, high, error),
            verdict(found["ratio"], 0.95, 1.08, ratio_error(found["ratio"], n)),
            verdict(found["given"], least, 1.0),
        )
        rows.append({"family": family, "form": form, "n": n, "error": error, **found})
    return pd.DataFrame(rows)


def of_bands(table: pd.DataFrame) -> pd.DataFrame:
    """Coverage of the two bands, average over the curve, by family and form and over all fits."""
    rows = []
    for (family, form), fits in [
        *table.groupby(["family", "form"], sort=False),
        (("all", "both"), table),
    ]:
        for band in BANDS:
            given = fits[fits[f"{band}_inside"].notna()]
            inside = np.zeros((len(fits), len(GRID)))  # a band that was not given does not cover
            inside[: len(given)] = shares(given[f"{band}_inside"])
            each = inside.mean(1)
            root = np.sqrt(np.mean(given[f"{band}_error"] ** 2))
            error = each.std() / np.sqrt(len(each))
            rows.append(
                {
                    "family": family,
                    "form": form,
                    "band": band,
                    "n": len(fits),
                    "coverage": each.mean(),
                    "error": error,
                    "worst": inside.mean(0).min(),
                    "ratio": given[f"{band}_se"].mean() / root,
                    "passed": verdict(each.mean(), 0.92, 0.97, error),
                }
            )
    return pd.DataFrame(rows)


def routes(table: pd.DataFrame) -> pd.DataFrame:
    """The share of the fits whose standard errors came by each route, by family and form."""
    given = table["se_x"].notna() & table["se_w"].notna()
    route = table["route"].where(given, "no standard errors").rename("route")
    counted = table.groupby(["family", "form", route], sort=False).size()
    return (counted / table.groupby(["family", "form"]).size()).rename("share").reset_index()


SHOWN: dict[str, tuple[str, str]] = {
    "family": ("family", "{}"),
    "form": ("form", "{}"),
    "size": ("subjects x visits", "{}"),
    "coefficient": ("of", "{}"),
    "band": ("band", "{}"),
    "route": ("route", "{}"),
    "share": ("share", "{:.3f}"),
    "n": ("n", "{:.0f}"),
    "given": ("with SE", "{:.2f}"),
    "coverage": ("coverage", "{:.3f}"),
    "error": ("its s.e.", "{:.3f}"),
    "low": ("99.9 % limits: from", "{:.2f}"),
    "high": ("to", "{:.2f}"),
    "worst": ("worst point", "{:.2f}"),
    "ratio": ("mean SE / SD", "{:.2f}"),
    "bias": ("bias in SE", "{:+.2f}"),
    "converged": ("converged", "{:.2f}"),
    "nested_coverage": ("nested: coverage", "{:.3f}"),
    "nested_ratio": ("nested: mean SE / SD", "{:.2f}"),
    "passed": ("within its bars", "{}"),
}
REPORT = {"by_cell": by_cell, "pooled": pooled, "bands": of_bands, "routes": routes}


def report(path: Path = TABLE) -> dict[str, str]:
    """The tables of the report in markdown, by name."""
    table = kept(path, COLUMNS)
    return {name: markdown(make(table), SHOWN) for name, make in REPORT.items()}


def main() -> None:
    """Read the command line, fill the table, print the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--family", nargs="+", default=list(OUTCOMES), choices=list(OUTCOMES))
    parser.add_argument("--form", nargs="+", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--size", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--replicates", type=int, default=50, help="rows of every cell")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--csv", type=Path, default=TABLE, help="the table")
    parser.add_argument("--report", action="store_true", help="print what the table says")
    options = parser.parse_args()
    if not options.report:
        cells = product(range(options.replicates), options.family, options.form, options.size)
        tasks = [
            {"family": family, "form": form, "size": size, "seed": seed}
            for seed, family, form, size in cells
        ]
        fill(options.csv, COLUMNS, tasks, one, options.workers)
    for name, text in report(options.csv).items():
        print(f"\n{name}\n\n{text}")


if __name__ == "__main__":
    main()
