"""Size and power of the tests of `check()`.

    python benchmarks/residual_checks.py --replicates 100
    python benchmarks/residual_checks.py --scenario poisson --replicates 500
    python benchmarks/residual_checks.py --report

100 subjects x 6 visits, t = 0, 0.2, ..., 1, x constant within a subject,

    eta_ij = 0.3 + 0.5 x_i + 0.6 t_ij + b_i

Right models: gaussian, bernoulli, poisson, ordered_beta, zero_inflated (of Poisson), a network
(deep; the truth is a fit to curves that rise at a time of their own). Sets in which the network
falls silent are counted and left out: the model fitted is then the nested classical one, which is
wrong there. So the penalty is given, and not chosen on subjects left out, which takes the classical
model in more than half of such sets; to first order the tests do not depend on which sets are
taken, as they are uncorrelated with the scores. Wrong ones, each fitted
without what the data have: quadratic (1.5 t^2), overdispersion (a negative binomial of size 2),
zeros (a quarter of them),
tails (t noise with 4 degrees of freedom), ar1 (noise of correlation 0.5). `dropout` is a right
Gaussian model of 200 subjects, of which those with a high outcome tend to leave: 30 % of the
outcomes are missing at random. There the residuals of the last visit, one of a subject, are also
tested for uniformity by Kolmogorov and Smirnov, missing outcomes completed from the model
("completed") and as they are ("naive"). Other options are the defaults. Rows are added to the
table, by any number of processes at once.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import special, stats
from stored import RESULTS, fill, kept, markdown, verdict, version

import dgmm
from dgmm.diagnostics.evidence import Evidence
from dgmm.diagnostics.statistics import STATISTICS
from dgmm.penalised.silence import silent

TABLE = RESULTS / "residual_checks.csv"
NAMES = tuple(one.name for one in STATISTICS)
KEY = ("scenario", "seed")
COLUMNS = (
    *KEY, "version", *(f"p_{name}" for name in (*NAMES, "completed", "naive")), "missing",
    "seconds_fit", "seconds_check", "failure",
)  # fmt: skip
VISITS = 6
BARS = (0.03, 0.08)
SILENT = "the network is silent: the model is the nested classical one"


class Scenario(NamedTuple):
    """Data, the model that is fitted, and the statistic that should see what is wrong with it."""

    draw: Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]  # of eta, time
    family: str = "gaussian"
    formula: str = "y ~ x + t + (1 | id)"
    sd: float = 1.0  # of b
    sees: str = ""  # the statistic, "" of a right model
    n: int = 100
    options: Mapping[str, Any] = MappingProxyType({})  # of the fit


def poisson(rng: np.random.Generator, eta: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Counts."""
    return rng.poisson(np.exp(eta)).astype(float)


def ordered_beta(rng: np.random.Generator, eta: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Proportions with ends; cutpoints -2 and 2, precision 6."""
    mu, u = special.expit(eta - 0.5), rng.uniform(size=eta.shape)
    inside = rng.beta(6 * mu, 6 * (1 - mu)).clip(1e-9, 1 - 1e-9)
    low, high = special.expit(-2 - eta + 0.5), special.expit(eta - 0.5 - 2)
    return np.where(u < low, 0.0, np.where(u > 1 - high, 1.0, inside))


def ar1(rng: np.random.Generator, eta: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Noise of variance 1 and correlation 0.5^lag."""
    noise = rng.normal(size=eta.shape)
    for j in range(1, eta.shape[1]):
        noise[:, j] = 0.5 * noise[:, j - 1] + np.sqrt(0.75) * noise[:, j]
    return eta + noise


def dropout(rng: np.random.Generator, eta: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Noise of variance 1; who has a high outcome tends to leave."""
    y = rng.normal(eta, 1.0)
    gone = np.zeros(len(y), dtype=bool)
    seen = y.copy()
    for j in range(1, y.shape[1]):
        gone |= rng.uniform(size=len(y)) < special.expit(2.5 * (y[:, j - 1] - 1.6))
        seen[gone, j] = np.nan
    return seen


def curves(rng: np.random.Generator, eta: np.ndarray, t: np.ndarray) -> np.ndarray:
    """A rise of height 3 exp(0.3 u) at a time 0.5 + 0.2 u of the subject."""
    height, place = 3 * np.exp(0.3 * rng.normal(size=(2, len(eta), 1)))
    rise = special.expit((t - 0.5 - 0.2 * np.log(place / 3) / 0.3) / 0.1)
    return eta + height * rise + rng.normal(0, 0.5, eta.shape)


SCENARIOS = {
    "gaussian": Scenario(lambda rng, eta, t: rng.normal(eta, 1.0), formula="y ~ x + t + (t | id)"),
    "bernoulli": Scenario(
        lambda rng, eta, t: (rng.uniform(size=eta.shape) < special.expit(eta)).astype(float),
        "bernoulli",
    ),
    "poisson": Scenario(poisson, "poisson", sd=0.6),
    "ordered_beta": Scenario(ordered_beta, "ordered_beta", sd=0.7),
    "zero_inflated": Scenario(
        lambda rng, eta, t: poisson(rng, eta, t) * (rng.uniform(size=eta.shape) > 0.25),
        "zero_inflated_poisson",
        sd=0.6,
    ),
    "deep": Scenario(
        curves,
        formula="y ~ x + ns(t, 3) + (dnn(ns(t, 3), ridge=4) | id)",
        sd=0.5,
        options={"starts": 1, "control": {"holdout": 0.0}},
    ),
    "quadratic": Scenario(
        lambda rng, eta, t: rng.normal(eta + 1.5 * t**2, 1.0),
        formula="y ~ x + t + (t | id)",
        sees="mean",
    ),
    "overdispersion": Scenario(
        lambda rng, eta, t: rng.poisson(np.exp(eta) * rng.gamma(2, 0.5, eta.shape)).astype(float),
        "poisson",
        sd=0.6,
        sees="dispersion",
    ),
    "zeros": Scenario(
        lambda rng, eta, t: poisson(rng, eta, t) * (rng.uniform(size=eta.shape) > 0.25),
        "poisson",
        sd=0.6,
        sees="zeros",
    ),
    "tails": Scenario(lambda rng, eta, t: eta + rng.standard_t(4, eta.shape), sees="uniformity"),
    "ar1": Scenario(ar1, formula="y ~ x + t + (1 | id) + (0 + t | id)", sees="autocorrelation"),
    "dropout": Scenario(dropout, formula="y ~ x + t + (1 | id)", n=200),
}
RIGHT = ("gaussian", "bernoulli", "poisson", "ordered_beta", "zero_inflated", "deep", "dropout")


def simulate(scenario: str, seed: int) -> pd.DataFrame:
    """One data set; of the network, drawn from a fit with one."""
    if scenario == "deep":
        frame, fit = deep_truth()
        return frame.assign(y=fit.simulate(1, seed=seed)["sim_1"])
    return drawn(scenario, seed)


@cache
def deep_truth() -> tuple[pd.DataFrame, Any]:
    """The rows of a data set of curves, and the deep fit to it that stands for the truth."""
    frame = drawn("deep", 9999)
    deep = SCENARIOS["deep"]
    return frame, dgmm.mixed_model(deep.formula, frame, se=None, verbose=0, **deep.options)


def drawn(scenario: str, seed: int) -> pd.DataFrame:
    """Outcomes of a scenario."""
    one = SCENARIOS[scenario]
    rng = np.random.default_rng([seed, list(SCENARIOS).index(scenario), 41])
    t = np.broadcast_to(np.arange(VISITS) / (VISITS - 1), (one.n, VISITS))
    x, b = rng.normal(size=(one.n, 1)), one.sd * rng.normal(size=(one.n, 1))
    slope = 0.5 * rng.normal(size=(one.n, 1)) if "t | id" in one.formula else 0.0
    y = one.draw(rng, 0.3 + 0.5 * x + (0.6 + slope) * t + b, t)
    wide = {"t": t, "x": np.broadcast_to(x, t.shape), "y": y}
    frame = pd.DataFrame({name: values.ravel() for name, values in wide.items()})
    return frame.assign(id=np.repeat(np.arange(one.n), VISITS))


def last_visit(fit: Any, complete: bool) -> float:
    """The p value of Kolmogorov and Smirnov for the residuals of the last planned visit."""
    u = fit.residuals("quantile", conditional=False, complete=complete)
    return float(stats.kstest(u.iloc[VISITS - 1 :: VISITS].dropna(), "uniform").pvalue)


def one(scenario: str, seed: int) -> dict[str, Any]:
    """Fit and check one data set; a fit that fails is a row too."""
    chosen, data, start = SCENARIOS[scenario], simulate(scenario, seed), time.perf_counter()
    row: dict[str, Any] = {"version": version(), "missing": data["y"].isna().mean()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fit = dgmm.mixed_model(
                chosen.formula,
                data,
                family=chosen.family,
                se=None,
                seed=seed,
                verbose=0,
                **chosen.options,
            )
            middle = time.perf_counter()
            if silent(fit.estimate.model, fit.estimate.theta):
                return {**row, "seconds_fit": middle - start, "failure": SILENT}
            found = {f"p_{name}": one.p for name, one in Evidence(fit, seed).tested.items()}
            if scenario == "dropout":
                for name, complete in (("completed", True), ("naive", False)):
                    found[f"p_{name}"] = last_visit(fit, complete)
        except (ValueError, ArithmeticError, RuntimeError, np.linalg.LinAlgError) as error:
            return {**row, "failure": " ".join(str(error).split())[:200]}
    row |= {"seconds_fit": middle - start, "seconds_check": time.perf_counter() - middle}
    return {**row, **found}


# -- tables for the documents ----------------------------------------------------------------------


def rejections(table: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """The share of p values below 0.05 of every scenario, with the number of data sets."""
    rows = []
    for scenario, own in table.groupby("scenario", sort=False):
        good = own[own["failure"].isna()] if "failure" in own else own
        row: dict[str, Any] = {"scenario": scenario, "sets": len(good)}
        for name in names:
            p = good[f"p_{name}"].dropna()
            row[name] = (p < 0.05).mean() if len(p) else np.nan
        rows.append({**row, "seconds": good["seconds_check"].median()})
    return pd.DataFrame(rows)


def size_table() -> str:
    """Sizes of right models at the level 0.05, in markdown."""
    table = kept(TABLE, COLUMNS)
    found = rejections(table[table["scenario"].isin(RIGHT)], NAMES)
    columns = {"scenario": ("right model", "{}"), "sets": ("data sets", "{:d}")}
    columns |= {name: (name, "{:.3f}") for name in NAMES}
    columns["seconds"] = ("seconds", "{:.1f}")
    return markdown(found, columns)


def power_table() -> str:
    """Power against wrong models, in markdown."""
    table = kept(TABLE, COLUMNS)
    found = rejections(table[~table["scenario"].isin(RIGHT)], NAMES)
    columns = {"scenario": ("wrong model", "{}"), "sets": ("data sets", "{:d}")}
    return markdown(found, columns | {name: (name, "{:.2f}") for name in NAMES})


def share(scenario: str, name: str) -> tuple[float, int]:
    """The share of rejections by one statistic and the number of data sets."""
    table = kept(TABLE, COLUMNS)
    p = table.loc[table["scenario"] == scenario, f"p_{name}"].dropna()
    return float((p < 0.05).mean()), len(p)


def left_out(scenario: str) -> str:
    """How many data sets of a scenario are not in its shares, and of how many."""
    table = kept(TABLE, COLUMNS)
    own = table[table["scenario"] == scenario]
    return f"{own['failure'].notna().sum()} of {len(own)}"


def main() -> None:
    """Fill the table, or print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenario", choices=list(SCENARIOS), nargs="*", default=list(SCENARIOS))
    parser.add_argument("--replicates", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    if not given.report:
        seeds = range(given.replicates)
        tasks = [{"scenario": s, "seed": seed} for seed in seeds for s in given.scenario]
        fill(TABLE, COLUMNS, tasks, one, given.workers)
    table = kept(TABLE, COLUMNS)
    print(rejections(table, (*NAMES, "completed", "naive")).round(3).to_string())
    for scenario in RIGHT:
        value, count = share(scenario, "uniformity")
        error = (0.05 * 0.95 / max(count, 1)) ** 0.5
        print(scenario, round(value, 3), verdict(value, *BARS, error=error))


if __name__ == "__main__":
    main()
