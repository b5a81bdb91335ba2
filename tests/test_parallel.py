"""Tasks in several processes: the same results, their warnings, and no process left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import dgmm
from dgmm.runtime import parallel
from dgmm.runtime.parallel import each, one_thread


def test_one_thread_within_and_the_threads_of_before_afterwards() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyboardInterrupt
    assert torch.get_num_threads() == before


def test_results_come_in_their_order() -> None:
    assert list(each(abs, [-3, 2, -1])) == [3, 2, 1]
    assert list(each(abs, [-3], workers=4)) == [3]  # no pool for one
    assert list(each(abs, [], workers=4)) == []


def test_a_task_in_this_process_leaves_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """joblib may take threads: nothing of the process is changed, warnings come by themselves."""
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    with pytest.warns(UserWarning, match="odd"):
        assert parallel._apart(lambda x: warnings.warn("odd", stacklevel=1), 1, os.getpid()) == (
            None,
            [],
        )
    assert threads == []


def test_warnings_of_another_process_are_brought_back() -> None:
    def task(number: int) -> int:
        warnings.warn(f"found {number}", RuntimeWarning, stacklevel=1)
        return number

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as here the filters of a worker are its own
        warnings.filterwarnings("always", message="found")
        found = parallel._apart(task, 3, parent=-1)
    assert found == (3, [("found 3", RuntimeWarning)])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_worker_ends_with_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process forks a parent, which forks a worker that would run for a minute, and dies."""
    monkeypatch.setattr(parallel, "LOOK", 0.02)
    ends, held = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks beside threads
        parent = os.fork()
        if not parent:
            own = os.getpid()
            if not os.fork():
                parallel._end_with(own)
                time.sleep(60)
                os._exit(0)
            time.sleep(0.1)
            os.kill(own, signal.SIGKILL)
    os.close(held)
    os.waitpid(parent, 0)
    begun = time.monotonic()
    ready, _, _ = select.select([ends], [], [], 20)  # at an end: nobody holds the pipe any more
    os.close(ends)
    assert ready
    assert time.monotonic() - begun < 10


# -- the pool itself -----------------------------------------------------------------------------

POOL = """
import signal, sys, threading, time, warnings
from dgmm.runtime.parallel import each
def task(seconds):
    warnings.warn(f"ran {seconds}")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))
    return seconds
if sys.argv[1] == "idle":
    list(each(task, [0.1, 0.1], 2))
    print("ready", flush=True)
    time.sleep(60)
if sys.argv[1] == "busy":
    threading.Timer(6, lambda: print("ready", flush=True)).start()
    list(each(task, [60, 60], 2))
if sys.argv[1] == "interrupted":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(6, lambda: print("ready", flush=True)).start()
    try:
        list(each(task, [60, 60], 2))
    except KeyboardInterrupt:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            print(list(each(task, [0.2, 0.1, 0.3], 2)), [str(one.message) for one in told])
"""


def _pool(mode: str) -> subprocess.Popen[str]:
    root = str(Path(dgmm.__file__).resolve().parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", POOL, mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _alive(session: int) -> int:
    listed = subprocess.run(["ps", "-eo", "sid"], capture_output=True, text=True, check=True)
    return listed.stdout.split().count(str(session))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["idle", "busy"])
def test_nothing_is_left_seconds_after_a_kill(mode: str) -> None:
    process = _pool(mode)
    assert _alive(process.pid) >= 3
    process.kill()
    process.wait()
    ends = time.monotonic() + 10
    while _alive(process.pid) and time.monotonic() < ends:
        time.sleep(0.2)
    assert _alive(process.pid) == 0


@pytest.mark.slow
@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["notebook", "terminal"])
def test_after_an_interrupt_the_pool_works_again(send: Callable[[int, int], None]) -> None:
    """Sent to the process alone, as a notebook does, and to its workers too, as a terminal does."""
    process = _pool("interrupted")
    send(process.pid, signal.SIGINT)
    said, error = process.communicate(timeout=60)
    assert said == "[0.2, 0.1, 0.3] ['ran 0.2', 'ran 0.1', 'ran 0.3']\n"
    assert "Traceback" not in error
