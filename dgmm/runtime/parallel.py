"""One task for many arguments, in this process or in several with one thread each."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from joblib import Parallel, cpu_count, delayed

from dgmm.runtime.gate import keep_origin
from dgmm.runtime.warned import warn_user

__all__ = ["each", "one_thread", "processors"]

Given = TypeVar("Given")
Result = TypeVar("Result")
Told = tuple[str, type[Warning]]

LOOK = 0.5
"""Seconds between two looks of a worker at whether its parent still lives."""


def processors() -> int:
    """Processors that this process may use."""
    return int(cpu_count())


@contextmanager
def one_thread() -> Iterator[None]:
    """Within, torch takes one thread: a second costs small mini-batches more than it computes."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


def each(
    task: Callable[[Given], Result], todo: Sequence[Given], workers: int = 1
) -> Iterator[Result]:
    """Results in the order of ``todo``, as they come; warnings of workers are given here.

    Workers end with the process that started them, whatever ended it.
    """
    if workers == 1 or len(todo) < 2:
        yield from map(task, todo)
        return
    parent = os.getpid()
    pool = Parallel(
        n_jobs=min(workers, len(todo)),
        return_as="generator",
        batch_size=1,
        initializer=_end_with,
        initargs=(parent,),
    )
    results: Iterator[tuple[Result, list[Told]]] = pool(
        delayed(_apart)(task, one, parent) for one in todo
    )
    for result, told in results:
        for message, category in told:
            warn_user(message, category)
        yield result


def _apart(task: Callable[[Given], Result], one: Given, parent: int) -> tuple[Result, list[Told]]:
    """The result, and the warnings, which nobody would see in a process of its own."""
    if os.getpid() == parent:  # joblib takes threads within a worker
        return task(one), []
    with one_thread(), warnings.catch_warnings(record=True) as caught:
        try:
            result = task(one)
        except Exception as error:
            keep_origin(error)
            raise
    return result, [(str(warning.message), warning.category) for warning in caught]


def _end_with(parent: int) -> None:
    """End this process soon after its parent: a pool does not notice that nobody waits for it.

    An interrupt from the keyboard is left to the parent, who ends the pool.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        os._exit(1)

    if os.getpid() != parent and os.name == "posix":  # elsewhere a dead parent keeps its number
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=watch, daemon=True).start()
