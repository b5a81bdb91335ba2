"""tune(): latent dimension, width, basis and ridge of networks by cross-validation over subjects.

    score = (1/n) sum_i log p(y_i; theta-hat without the fold of i)

Subjects are divided into folds; every candidate is fitted without a fold and scored on it by the
marginal log-likelihood. All candidates see the same folds, so that differences are paired.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from dgmm.design import take_rows
from dgmm.fit import Fit
from dgmm.runtime.gate import gate
from dgmm.runtime.parallel import each
from dgmm.runtime.progress import Progress
from dgmm.tuning.candidates import (
    Candidate,
    all_candidates,
    check_terms,
    parts_changed,
    subject_of_rows,
)

__all__ = ["Tuning", "tune"]


@dataclass(frozen=True)
class Tuning:
    """Cross-validated scores of all candidates and the one chosen; ``print`` it.

    ``table`` has one row per candidate, the best first: the options, ``score`` (mean log score per
    subject) and its ``std_error``; ``difference`` to the best and the ``se_difference`` of it, from
    the paired differences of subjects; ``weights`` (numbers estimated) and ``seconds`` (all folds).
    """

    table: pd.DataFrame
    scores: pd.DataFrame  # log score of every subject (rows) under every candidate (columns)
    formulas: Mapping[str, str]  # by candidate
    options: tuple[str, ...]  # the columns of the table that were tuned
    best: str
    chosen: str  # by the one-standard-error rule
    failed: Mapping[str, str]  # candidates that could not be fitted, and why
    refit: Callable[[str], Fit] = field(repr=False)

    @property
    def formula(self) -> str:
        """The formula of the candidate chosen."""
        return self.formulas[self.chosen]

    def fit(self, candidate: str | None = None) -> Fit:
        """The candidate chosen (or another, by its name) fitted to all subjects."""
        name = self.chosen if candidate is None else candidate
        if name not in self.formulas:
            raise ValueError(f"there is no candidate {name!r}; there are {list(self.formulas)}")
        return self.refit(name)

    def __str__(self) -> str:
        folds = f"{len(self.scores)} subjects, log score per subject, higher is better"
        lines = [f"Cross-validation over subjects: {folds}", self.table.round(4).to_string()]
        if self.chosen == self.best:
            lines.append(f"Chosen: {self.chosen}, the best; none smaller is within one s.e. of it")
        else:
            lines.append(
                f"Chosen: {self.chosen}, the smallest within one standard error (of the difference)"
                f" of the best, {self.best}"
            )
        lines.append(f"Formula: {self.formula}")
        return "\n".join([*lines, *(f"* {name}: {why}" for name, why in self.failed.items())])

    __repr__ = __str__


@gate
def tune(
    fit: Fit,
    data: Any,
    *,
    latent: Sequence[int] | None = None,
    hidden: Sequence[tuple[int, ...]] | None = None,
    ridge: Sequence[float | None] | None = None,
    basis: Sequence[str] | None = None,
    df: Sequence[int] | None = None,
    part: str | None = None,
    classical: bool = True,
    folds: int = 5,
    workers: int = 1,
    seed: int = 0,
) -> Tuning:
    """Choose options of the networks of a fit by the cross-validated log score of subjects.

        score = (1/n) sum_i log p(y_i; theta-hat without the fold of i)

    The smallest candidate whose score is within one standard error of the best is chosen (the
    error of the paired difference). Smaller: fewer numbers estimated, then a larger ridge.

    Args:
        fit: a fit with dnn() terms; its other options hold for every candidate.
        data: the data frame of the fit.
        latent: dimensions of b of the random dnn().
        hidden: widths of the layers, one tuple per candidate.
        ridge: penalties; None is the one that a fit chooses by itself, anew in every fold.
        basis: coefficient bases of the random dnn(), as text: ``["ns(time, 4)", "ns(time, 6)"]``.
        df: degrees of freedom of the spline within the random dnn().
        part: "random", "fixed" or "both": which networks change; the random ones by default, the
            fixed ones when there are no others.
        classical: the nested classical model is a candidate, too, and the smallest.
        folds: parts that the subjects are divided into, at least 2.
        workers: processes, one thread each; candidates and folds are divided among them.
        seed: of the division into folds.

    Returns:
        A :class:`Tuning`: ``print`` it, ``dgmm.plots.plot_tuning`` draws it, ``.fit()`` fits the
        chosen model to all subjects.

    Raises:
        ValueError: nothing to tune, no network to change, a frame that is not that of the fit.

    Example:
        >>> import dgmm
        >>> sleep = dgmm.datasets.load("sleepstudy")
        >>> text = "Reaction ~ Days + (dnn(Days, latent=2, hidden=(4,)) | Subject)"
        >>> fit = dgmm.mixed_model(text, sleep, control={"epochs": 4, "holdout": 0})
        >>> dgmm.tune(fit, sleep, latent=[1, 2], folds=2).table["weights"].to_dict()["latent=1"]
        21

    References:
        Breiman, Friedman, Olshen and Stone (1984), Classification and Regression Trees, section
        3.4.3 (the one-standard-error rule); Gneiting and Raftery (2007), J. American Statistical
        Association 102, 359-378.
    """
    given = {"latent": latent, "hidden": hidden, "ridge": ridge, "basis": basis, "df": df}
    for name, values in given.items():
        if values is not None and (isinstance(values, str) or not isinstance(values, Iterable)):
            raise ValueError(f"{name}= is a list of values to try: write {name}=[{values!r}]")
    grid = {name: list(values) for name, values in given.items() if values is not None}
    candidates = all_candidates(fit, grid, parts_changed(fit, part, grid), classical)
    subjects = subject_of_rows(fit, data)
    check_terms(candidates, fit, data)
    ids = fit.estimate.panel.ids
    if not isinstance(folds, int | np.integer) or not 2 <= folds <= len(ids) // 2:
        raise ValueError(
            f"folds is a whole number from 2 to half of the {len(ids)} subjects, not {folds!r}"
        )
    fold = np.random.default_rng([seed, 83]).permutation(len(ids)) % folds
    todo = list(itertools.product(candidates, range(folds)))

    def task(one: tuple[Candidate, int]) -> _Scored:
        candidate, number = one
        away = np.isin(subjects, np.flatnonzero(fold == number))
        rows = fit.memory.back  # in the user's order
        train, test = (take_rows(data, fit.memory.rows[rows][side[rows]]) for side in (~away, away))
        return _scored(fit, candidate, train, test)

    results: dict[str, list[_Scored]] = {candidate.name: [] for candidate in candidates}
    with Progress(fit.call.verbose, len(todo), "cross-validation") as bar:
        for step, (scored, (candidate, _)) in enumerate(
            zip(each(task, todo, workers), todo, strict=True), 1
        ):
            results[candidate.name].append(scored)
            bar.update(step)
    return _tuned(fit, data, candidates, results, ids, tuple(grid))


# -- one candidate on one fold -------------------------------------------------------------------


@dataclass(frozen=True)
class _Scored:
    """One candidate on one fold."""

    values: pd.Series  # log score of the subjects left out
    weights: int
    seconds: float
    failure: str = ""


def _scored(fit: Fit, candidate: Candidate, train: Any, test: Any) -> _Scored:
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fitted = fit.update(candidate.formula, train, **{**candidate.changes, "verbose": 0})
            values = fitted.log_score(test)["log_score"]
        except (ValueError, ArithmeticError, RuntimeError, np.linalg.LinAlgError) as error:
            why = " ".join(str(error).split())[:200] or type(error).__name__
            return _Scored(pd.Series(dtype=float), 0, time.perf_counter() - begun, why)
    size = fitted.estimate.model.packing.size
    return _Scored(values, size, time.perf_counter() - begun)


# -- all of them ---------------------------------------------------------------------------------


def _tuned(
    fit: Fit,
    data: Any,
    candidates: list[Candidate],
    results: Mapping[str, list[_Scored]],
    ids: np.ndarray,
    tuned: tuple[str, ...],
) -> Tuning:
    failed = {
        name: next(one.failure for one in parts if one.failure)
        for name, parts in results.items()
        if any(one.failure for one in parts)
    }
    good = [one for one in candidates if one.name not in failed]
    if not good:
        why = next(iter(failed.values()))
        raise ValueError(f"no candidate could be fitted, the first because: {why}")
    scores = pd.DataFrame(
        {one.name: pd.concat([part.values for part in results[one.name]]) for one in good}
    ).reindex(ids.tolist())
    scores = scores.dropna()  # subjects without any observed outcome
    table, best, chosen = _ranked(scores, good, results, tuned)
    by_name = {one.name: one for one in good}

    def refit(name: str) -> Fit:
        own = by_name[name]
        changes = {key: own.changes[key] for key in ("method", "likelihood") if key in own.changes}
        return fit.update(own.formula, data, **changes)

    formulas = {one.name: one.formula for one in good}
    return Tuning(table, scores, formulas, tuned, best, chosen, failed, refit)


def _ranked(
    scores: pd.DataFrame,
    candidates: list[Candidate],
    results: Mapping[str, list[_Scored]],
    tuned: tuple[str, ...],
) -> tuple[pd.DataFrame, str, str]:
    """The table, the best candidate and the one chosen."""
    root = float(np.sqrt(len(scores)))
    best = str(scores.mean().idxmax())
    gap = scores.sub(scores[best], axis=0)
    rows = {}
    for one in candidates:
        parts = results[one.name]
        rows[one.name] = {
            "score": scores[one.name].mean(),
            "std_error": scores[one.name].std() / root,
            "difference": gap[one.name].mean(),
            "se_difference": gap[one.name].std() / root,
            "weights": max(part.weights for part in parts),
            "seconds": sum(part.seconds for part in parts),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    for place, name in enumerate(tuned):
        values = pd.Series([one.options[name] for one in candidates], table.index, dtype=object)
        table.insert(place, name, values)
    near = table[table["difference"] >= -table["se_difference"]]
    penalty = near["ridge"].map(_stiffness) if "ridge" in tuned else 0.0
    order = near.assign(softness=penalty).sort_values(
        ["weights", "softness", "score"], ascending=[True, True, False], kind="stable"
    )
    return table.sort_values("score", ascending=False, kind="stable"), best, str(order.index[0])


def _stiffness(ridge: float | None) -> float:
    """Sorts a larger ridge first; that of the evidence last."""
    return float("inf") if ridge is None or np.isnan(ridge) else -float(ridge)
