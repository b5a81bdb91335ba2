"""cv(): how well outcomes of subjects that a fit has not seen are predicted.

log score_i = log p(y_i; theta-hat without the fold of i)
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dgmm.design import Table, take_rows
from dgmm.diagnostics.scoring import scoring_rules
from dgmm.fit import Fit
from dgmm.record import check_rows
from dgmm.runtime.gate import gate
from dgmm.runtime.parallel import each
from dgmm.runtime.progress import Progress
from dgmm.runtime.registry import suggestion
from dgmm.tuning.candidates import subject_of_rows

__all__ = ["Validated", "cv"]


@dataclass(frozen=True)
class Validated:
    """Scores of subjects that were left out; ``print`` it.

    subjects: a row each with ``fold``, ``nobs``, ``log_score`` (of all outcomes of the subject
        together) and its ``mc_error``. rows: ``log``, ``crps`` and ``brier`` of every outcome by
        itself, predicted over the population.
    """

    by: str
    folds: int
    subjects: pd.DataFrame
    rows: pd.DataFrame
    failed: tuple[str, ...]  # folds that could not be fitted, and why

    @property
    def table(self) -> pd.DataFrame:
        """Means with standard errors over subjects: the log score, and those of rows."""
        score = self.subjects["log_score"]
        found = {"log score of a subject": (score.mean(), score.sem(), len(score))}
        own = self.rows.groupby("subject", sort=False)
        for name in ("log", "crps", "brier"):
            if name in self.rows:
                means = own[name].mean()
                found[f"{name}, mean of a subject's rows"] = (means.mean(), means.sem(), len(means))
        names = ["mean", "std_error", "subjects"]
        return pd.DataFrame.from_dict(found, orient="index", columns=names)

    def __sub__(self, other: Validated) -> pd.Series:
        """The mean difference of log scores over the subjects in common, and its standard error."""
        gap = (self.subjects["log_score"] - other.subjects["log_score"]).dropna()
        return pd.Series({"difference": gap.mean(), "se": gap.sem(), "subjects": len(gap)})

    def __str__(self) -> str:
        lines = [
            f"Cross-validation, {self.folds} folds by {self.by}",
            self.table.round(4).to_string(),
        ]
        return "\n".join([*lines, *(f"* {one}" for one in self.failed)])

    __repr__ = __str__


class _Fold(NamedTuple):
    subjects: pd.DataFrame
    rows: pd.DataFrame
    failure: str


@gate
def cv(
    fit: Fit,
    folds: int = 10,
    by: str = "subject",
    *,
    data: Any = None,
    draws: int = 400,
    workers: int = 1,
    seed: int = 0,
) -> Validated:
    """Leave subjects out in turn, refit, and score their outcomes.

        score = (1/n) sum_i log p(y_i; theta-hat without the fold of i)

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        folds: parts that the subjects are divided into.
        by: "subject", or a column that is the same in all rows of a subject (a centre, a family):
            subjects with one value of it are left out together.
        data: the frame of the fit; needed for a fit that was read from a file.
        draws: behind the scores of single outcomes.
        workers: processes, among which folds are divided.
        seed: of the division into folds and of the draws.

    Returns:
        A :class:`Validated`; the difference of two of the same seed compares the models.

    Raises:
        ValueError: folds or by= do not fit the data; another frame; no fold could be fitted.

    Example:
        >>> import dgmm
        >>> sleep = dgmm.datasets.load("sleepstudy")
        >>> fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep)
        >>> dgmm.cv(fit, 6).table["mean"].round(1).to_list()
        [-49.4, -5.3, 28.1]

    References:
        Gneiting and Raftery (2007), J. American Statistical Association 102, 359-378.
    """
    check_rows(fit, "cv()")
    frame = fit.memory.frame if data is None else data
    if frame is None:
        raise ValueError(
            "cv() needs data=: this fit was read from a file, and files do not hold the data frame"
        )
    if fit.estimate.panel.several:
        raise ValueError("cv() leaves subjects out: it is for models with one grouping factor")
    subject = subject_of_rows(fit, frame)
    unit = _units(fit, frame, by, subject)
    count = int(unit.max()) + 1
    if not isinstance(folds, int | np.integer) or not 2 <= folds <= count:
        raise ValueError(
            f"folds is a whole number from 2 to the {count} units of {by!r}, not {folds!r}"
        )
    fold = (np.random.default_rng([seed, 97]).permutation(count) % folds)[unit]

    def task(number: int) -> _Fold:
        away = fold[subject] == number
        rows = fit.memory.back
        train, test = (
            take_rows(frame, fit.memory.rows[rows][side[rows]]) for side in (~away, away)
        )
        return _fold(fit, train, test, number, draws, seed)

    found = []
    with Progress(fit.call.verbose, folds, "cross-validation") as bar:
        for step, one in enumerate(each(task, list(range(folds)), workers), 1):
            found.append(one)
            bar.update(step)
    good = [one for one in found if not one.failure]
    if not good:
        raise ValueError(f"no fold could be fitted, the first because: {found[0].failure}")
    failed = tuple(f"fold {j + 1}: {one.failure}" for j, one in enumerate(found) if one.failure)
    return Validated(
        by,
        folds,
        pd.concat([one.subjects for one in good]),
        pd.concat([one.rows for one in good]),
        failed,
    )


def _units(fit: Fit, frame: Any, by: str, subject: np.ndarray) -> np.ndarray:
    """A number 0, 1, ... for every subject, (n,): those of one number are left out together."""
    n = fit.estimate.panel.n
    if by == "subject":
        return np.arange(n)
    table = Table(frame).frame()
    if by not in table.columns:
        hint = suggestion(by, ["subject", *map(str, table.columns)])
        raise ValueError(f"by={by!r} is neither 'subject' nor a column of the frame{hint}")
    codes = pd.factorize(table[by].iloc[fit.memory.rows])[0]
    first = np.full(n, -1)
    first[subject[::-1]] = codes[::-1]
    if (first[subject] != codes).any() or (first < 0).any():
        raise ValueError(
            f"by={by!r} is not one value in all rows of a subject: rows of a subject would be in "
            "the fit and left out of it at once"
        )
    return pd.factorize(first)[0]


def _fold(fit: Fit, train: Any, test: Any, number: int, draws: int, seed: int) -> _Fold:
    """The fit without a fold, and its scores."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            one = fit.update(data=train, se=None, verbose=0)
            subjects = one.log_score(test, seed=seed).assign(fold=number + 1)
            rows = scoring_rules(one, test, draws=draws, seed=seed)
        except (ValueError, ArithmeticError, RuntimeError, np.linalg.LinAlgError) as error:
            why = " ".join(str(error).split())[:200] or type(error).__name__
            return _Fold(pd.DataFrame(), pd.DataFrame(), why)
    frame = Table(test).frame()
    group = frame[fit.memory.groups[0]] if fit.memory.groups[0] in frame else frame.iloc[:, 0]
    place = frame.index.get_indexer(rows.index) if frame.index.is_unique else np.arange(len(rows))
    rows = pd.DataFrame(rows).assign(subject=group.to_numpy()[place])
    return _Fold(subjects[["fold", "nobs", "log_score", "mc_error"]], rows, "")
