"""One task for many arguments, in this process or in several with one thread each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from joblib import Parallel, cpu_count, delayed

__all__ = ["each", "processors"]

Given = TypeVar("Given")
Result = TypeVar("Result")


def processors() -> int:
    """Processors that this process may use."""
    return int(cpu_count())


def each(
    task: Callable[[Given], Result], todo: Sequence[Given], workers: int = 1
) -> Iterator[Result]:
    """Results in the order of ``todo``, as they come."""
    if workers == 1 or len(todo) < 2:
        return map(task, todo)
    pool = Parallel(n_jobs=workers, return_as="generator", batch_size=1)
    results: Iterator[Result] = pool(delayed(_single_thread)(task, one) for one in todo)
    return results


def _single_thread(task: Callable[[Given], Result], one: Given) -> Result:
    torch.set_num_threads(1)
    return task(one)
