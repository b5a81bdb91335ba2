"""Results that are kept: tables of replicates that grow, and how tables are printed.

A table is a CSV file, a row per task. Any number of processes may fill one at once and each may be
stopped at any time: a task belongs to the process that holds its byte of the lock file, and the
system lets go of the bytes of a process that has ended.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from scipy import stats

import dgmm

__all__ = [
    "RESULTS",
    "fill",
    "keep",
    "kept",
    "limits",
    "markdown",
    "shares",
    "verdict",
    "version",
    "worst",
]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
Task = dict[str, Any]


# -- tables that grow ----------------------------------------------------------------------------


def fill(
    path: Path,
    columns: Sequence[str],
    tasks: Sequence[Task],
    run: Callable[..., Task],
    workers: int = 1,
) -> None:
    """Add the rows that a table does not have yet, as each becomes known.

    Args:
        path: of the table, made if it is not there.
        columns: of the table, those of the tasks among them.
        tasks: what a row is of, such as ``{"family": "poisson", "seed": 3}``.
        run: called with a task as keywords, gives the other columns; a function of a module.
        workers: processes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    job = (path, columns, tasks, run)
    if workers == 1:
        _work(*job)
        return
    os.environ.update(LOKY_MAX_CPU_COUNT="1", OMP_NUM_THREADS="1")  # one processor for each
    processes = get_context("spawn")
    started = [processes.Process(target=_work, args=job, daemon=True) for _ in range(workers)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    if any(process.exitcode for process in started):
        raise RuntimeError(f"a process that fills {path.name} has failed; its message is above")


def _work(
    path: Path, columns: Sequence[str], tasks: Sequence[Task], run: Callable[..., Task]
) -> None:
    with path.with_suffix(".lock").open("a+b") as locks:
        for task in tasks:
            with _claimed(locks, task) as ours:
                if ours and not _done(path, columns, task):
                    row = {**task, **run(**task)}
                    with _only(locks):
                        _append(path, columns, row)


def kept(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The rows of a table; columns that end in ``_inside`` are strings of 0 and 1."""
    if not path.exists():
        return pd.DataFrame(columns=list(columns))
    text = {name: str for name in columns if name.endswith("inside")}
    return pd.read_csv(path, dtype=text)


def keep(path: Path, row: Task, key: Sequence[str]) -> None:
    """Write one row into a table, in the place of the one with the same key."""
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=list(row))
    same = (table[list(key)] == pd.Series(row)[list(key)]).all(axis=1)
    rows, new = table.to_dict("records"), {**row, "version": version()}
    place = int(same.argmax()) if same.any() else len(rows)
    rows[place : place + 1] = [new]
    columns = dict.fromkeys([*table, *new])
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=list(columns)).to_csv(path, index=False, float_format="%.12g")


def _done(path: Path, columns: Sequence[str], task: Task) -> bool:
    table = kept(path, columns)
    return bool((table[list(task)] == pd.Series(task)).all(axis=1).any())


def _append(path: Path, columns: Sequence[str], row: Task) -> None:
    unknown = set(row) - set(columns)
    assert not unknown, f"no column for {unknown}"
    text = pd.DataFrame([row], columns=list(columns)).to_csv(
        header=not path.exists(), index=False, float_format="%.6g"
    )
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def byte_of(task: Task) -> int:
    """The byte of the lock file that stands for a task; byte 0 is that of the one who writes."""
    return 1 + zlib.crc32(repr(sorted(task.items())).encode())


@contextmanager
def _claimed(locks: IO[bytes], task: Task) -> Iterator[bool]:
    """Whether the task is ours, until the end of the block."""
    place, ours = byte_of(task), False
    with suppress(BlockingIOError):
        fcntl.lockf(locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        ours = True
    try:
        yield ours
    finally:
        if ours:
            fcntl.lockf(locks, fcntl.LOCK_UN, 1, place)


@contextmanager
def _only(locks: IO[bytes]) -> Iterator[None]:
    """Alone among all processes that write."""
    fcntl.lockf(locks, fcntl.LOCK_EX, 1, 0)
    try:
        yield
    finally:
        fcntl.lockf(locks, fcntl.LOCK_UN, 1, 0)


@cache
def version() -> str:
    """The version of the package, with the commit and a plus if the tree differs from it."""

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)

    with suppress(OSError):
        commit = git("rev-parse", "--short", "HEAD")
        if commit.returncode == 0:
            changed = git("diff", "--quiet", "HEAD", "--", "dgmm").returncode != 0
            return f"{dgmm.__version__}-{commit.stdout.strip()}{'+' if changed else ''}"
    return dgmm.__version__


# -- what tables say -----------------------------------------------------------------------------


def shares(inside: pd.Series) -> np.ndarray:
    """Strings of 0 and 1 as numbers, (rows, points)."""
    return np.array([[int(one) for one in row] for row in inside.astype(str)])


def verdict(value: float, low: float, high: float, error: float = 0.0) -> str:
    """Whether a value keeps to its bars, or misses them by less than two of its standard errors."""
    if low <= value <= high:
        return "yes"
    return "within 2 s.e." if low - 2 * error <= value <= high + 2 * error else "**no**"


def worst(*verdicts: str) -> str:
    """The worst of some verdicts."""
    return next(one for one in ("**no**", "within 2 s.e.", "yes") if one in verdicts)


def limits(n: int, probability: float, within: float) -> tuple[float, float]:
    """Central limits of a share of n: {Q(a / 2), Q(1 - a / 2)} / n, Q binomial, a = 1 - within."""
    low, high = stats.binom.ppf([(1 - within) / 2, (1 + within) / 2], n, probability) / n
    return float(low), float(high)


def markdown(table: pd.DataFrame, columns: Mapping[str, tuple[str, str]]) -> str:
    """A table in markdown: for each column it has, its title and format; nothing where missing.

    A bar within a cell is written as the code for one.
    """
    names = [name for name in columns if name in table]

    def text(value: Any, form: str) -> str:
        return "" if pd.isna(value) else form.format(value).replace("|", r"\|")

    rows = [
        [columns[name][0] for name in names],
        ["---"] * len(names),
        *([text(row[name], columns[name][1]) for name in names] for _, row in table.iterrows()),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
