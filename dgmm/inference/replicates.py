"""Parametric bootstrap: simulate outcomes from a fit with new random effects, and refit.

    y* ~ p(y; theta-hat),   theta* = argmax l(theta; y*)

Replicate r draws from a seed of its own, SeedSequence(seed, spawn_key=(r,)): results depend neither
on the number of workers nor on where an interrupted run was resumed.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.estimate import Estimate, Request
from dgmm.estimate.again import refit_estimate
from dgmm.inference.nesting import Candidate
from dgmm.inference.reported import components, family_parameters, part_coefficients
from dgmm.model.simulation import simulate_outcomes
from dgmm.runtime.parallel import each
from dgmm.runtime.progress import Progress
from dgmm.runtime.result_table import ResultTable
from dgmm.runtime.warned import warn_user
from dgmm.runtime.whole_file import write_whole

__all__ = [
    "Outcome",
    "Replicates",
    "bootstrap",
    "converged",
    "guarded",
    "parameters",
    "ratio_p_value",
]

Outcome = tuple[int, np.ndarray | None, str]  # replicate, values, why it failed


@dataclass(frozen=True)
class Replicates:
    """Estimates of every replicate that could be fitted, and how many could not."""

    values: pd.DataFrame  # one row per replicate, indexed by its number
    failed: tuple[str, ...]  # reasons, one per failed replicate

    def __str__(self) -> str:
        table = ResultTable(
            {
                "mean": self.values.mean(),
                "sd": self.values.std(),
                "2.5 %": self.values.quantile(0.025),
                "97.5 %": self.values.quantile(0.975),
            },
            title=f"Bootstrap: {len(self.values)} replicates, {len(self.failed)} could not be "
            "fitted; percentiles of the estimates",
        )
        return str(table)

    __repr__ = __str__

    def intervals(self, level: float) -> np.ndarray:
        """Percentile intervals, (P, 2)."""
        tail = (1 - level) / 2
        ends = np.nanquantile(self.values.to_numpy(), [tail, 1 - tail], axis=0)
        return np.asarray(ends).T


def parameters(done: Estimate, groups: tuple[str, ...]) -> np.ndarray:
    """Estimates in the order of the Wald table: coefficients, variances, family, zi, dispersion."""
    found = [
        components(done, None, groups).table["estimate"],
        family_parameters(done, None, 0.95)["estimate"],
        *(table["Estimate"] for table in part_coefficients(done, None).values()),
    ]
    beta = done.model.beta(done.theta).detach().numpy()
    return np.concatenate([beta, *(one.to_numpy(dtype=float) for one in found)])


def bootstrap(
    done: Estimate,
    request: Request,
    groups: tuple[str, ...],
    names: list[str],
    *,
    nsim: int,
    seed: int,
    workers: int = 1,
    path: Path | None = None,
) -> Replicates:
    """Parameters of ``nsim`` simulated and refitted data sets.

    path: a CSV file that grows by one row per replicate; replicates that it holds already are not
        fitted again.

    Raises:
        ValueError: networks, an impossible nsim, or a file that belongs to another fit or seed.
    """
    _check(done, nsim, workers)
    store = _Store(path, _fingerprint(done, seed), names)
    known = {one[0]: one for one in store.read()}
    todo = [number for number in range(nsim) if number not in known]

    def task(number: int) -> Outcome:
        return _parameters_of(done, request, groups, seed, number)

    full = ""
    with Progress(request.verbose, nsim, "bootstrap") as bar:
        for outcome in each(task, todo, workers):
            known[outcome[0]] = outcome
            full = store.append(outcome) or full
            bar.update(len(known))
    if full:
        warn_user(f"not all replicates could be written to {str(path)!r}: {full}")
    kept = [known[number] for number in range(nsim)]
    good = {number: values for number, values, _ in kept if values is not None}
    table = pd.DataFrame.from_dict(good, orient="index", columns=names)
    return Replicates(table, tuple(why for _, values, why in kept if values is None))


def ratio_p_value(
    small: Candidate, big: Candidate, statistic: float, *, nsim: int, seed: int, workers: int
) -> tuple[float, int]:
    """Parametric bootstrap p-value of 2 (l_big - l_small), and the replicates that it rests on.

    (1 + #{simulated >= observed}) / (1 + replicates), outcomes simulated from the small model.
    """
    _check(small.estimate, nsim, workers)

    def task(number: int) -> Outcome:
        return _ratio_of(small, big, seed, number)

    values = []
    with Progress(small.request.verbose, nsim, "bootstrap of the likelihood ratio") as bar:
        for step, (_, value, _) in enumerate(each(task, list(range(nsim)), workers), 1):
            bar.update(step)
            if value is not None:
                values.append(float(value[0]))
    if not values:
        raise ValueError(f"all {nsim} replicates of the bootstrap failed")
    beyond = sum(value >= statistic - 1e-6 for value in values)
    return (1 + beyond) / (1 + len(values)), len(values)


def _check(done: Estimate, nsim: int, workers: int) -> None:
    if not done.model.linear:
        raise ValueError(
            "the bootstrap refits the model to every replicate, which takes minutes each with a "
            "network, and its ridge would be chosen anew; it is for models without dnn()"
        )
    for name, value in (("nsim", nsim), ("workers", workers)):
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} is a whole number, at least 1, not {value!r}")


# -- one replicate -------------------------------------------------------------------------------


def simulated_outcome(done: Estimate, seed: int, number: int) -> Tensor:
    """y* for every planned row, NaN where the outcome was not observed, (N,)."""
    (state,) = np.random.SeedSequence(seed, spawn_key=(number,)).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(state >> np.uint64(1)))
    y = torch.full((done.panel.n_rows,), torch.nan, dtype=torch.float64)
    drawn = simulate_outcomes(done.model, done.theta, done.kept, generator)
    y[done.panel.observed] = drawn[done.kept.observed]
    return y


def _parameters_of(
    done: Estimate, request: Request, groups: tuple[str, ...], seed: int, number: int
) -> Outcome:
    def fit() -> np.ndarray:
        again = converged(refit_estimate(done, request, simulated_outcome(done, seed, number)))
        return parameters(again, groups)

    return guarded(fit, number)


def _ratio_of(small: Candidate, big: Candidate, seed: int, number: int) -> Outcome:
    def fit() -> np.ndarray:
        y = simulated_outcome(small.estimate, seed, number)
        other = torch.full((big.estimate.panel.n_rows,), torch.nan, dtype=torch.float64)
        other[torch.from_numpy(big.order)] = y[torch.from_numpy(small.order)]
        low = converged(refit_estimate(small.estimate, small.request, y))
        high = converged(refit_estimate(big.estimate, big.request, other))
        return np.array([2 * (high.log_likelihood - low.log_likelihood)])

    return guarded(fit, number)


def guarded(fit: Callable[[], np.ndarray], number: int) -> Outcome:
    """The outcome of a replicate: its numbers, or why there are none."""
    try:
        return number, fit(), ""
    except (ValueError, ArithmeticError, RuntimeError, np.linalg.LinAlgError) as error:
        return number, None, " ".join(str(error).split())[:200] or type(error).__name__


def converged(done: Estimate) -> Estimate:
    """The estimate if it is one, else ValueError."""
    if not done.converged:
        raise ValueError("; ".join(done.messages) or "the optimiser did not converge")
    return done


# -- many ----------------------------------------------------------------------------------------


def _fingerprint(done: Estimate, seed: int) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(done.theta.items()):
        digest.update(name.encode() + np.round(value.detach().numpy(), 6).tobytes())
    digest.update(done.observed.rows.data.y.numpy().tobytes())
    return f"# dgmm bootstrap, fit {digest.hexdigest()[:16]}, seed {seed}"


@dataclass(frozen=True)
class _Store:
    """A CSV file of replicates: a line that names the fit, the names, one row per replicate."""

    path: Path | None
    first: str
    names: list[str]

    def read(self) -> list[Outcome]:
        """What the file holds; a row cut off by an interruption is taken away."""
        if self.path is None:
            return []
        if not self.path.exists() or not self.path.stat().st_size:
            self._write([])
            return []
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        first, _, rest = whole.partition("\n")
        if first != self.first:
            raise ValueError(
                f"{str(self.path)!r} holds replicates of another fit or seed ({first!r}, not "
                f"{self.first!r}); give another path"
            )
        rows = [row for row in list(csv.reader(io.StringIO(rest)))[1:] if row]
        try:
            outcomes = [_outcome(row, len(self.names)) for row in rows]
        except ValueError as error:
            raise ValueError(
                f"{str(self.path)!r} is damaged: a row is not a replicate ({error}); give another "
                "path, or delete that row"
            ) from error
        if whole != text:
            self._write(outcomes)
        return outcomes

    def append(self, outcome: Outcome) -> str:
        """Add one row and see it written; why it was not, with the file as before."""
        if self.path is None:
            return ""
        size = self.path.stat().st_size
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                csv.writer(file).writerow(self._row(outcome))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(self.path, size)
            return str(error.strerror)
        return ""

    def _write(self, outcomes: list[Outcome]) -> None:
        assert self.path is not None
        text = io.StringIO(self.first + "\n", newline="")
        text.seek(0, io.SEEK_END)
        writer = csv.writer(text)
        writer.writerow(["replicate", "failed", *self.names])
        writer.writerows(self._row(one) for one in outcomes)
        write_whole(self.path, text.getvalue().encode())

    def _row(self, outcome: Outcome) -> list[str]:
        number, values, why = outcome
        cells = [""] * len(self.names) if values is None else [repr(float(v)) for v in values]
        return [str(number), why, *cells]


def _outcome(row: list[str], count: int) -> Outcome:
    number, why, *cells = row
    if len(cells) != count:
        raise ValueError(f"{len(cells)} values in place of {count}")
    if why:
        return int(number), None, why
    return int(number), np.array([float(cell) if cell else math.nan for cell in cells]), ""
