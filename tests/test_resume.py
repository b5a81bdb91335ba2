"""Fits that were stopped: whenever it was, they end where the whole fit ends."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import data
from torch import Tensor

import dgmm
from dgmm import Fit
from dgmm.runtime.checkpoint import Checkpoint, Saved

pytestmark = pytest.mark.filterwarnings("ignore:the fit has not converged")  # polish=False

FORMULA = "Reaction ~ dnn(Days, hidden=(3,)) + (dnn(Days, hidden=(3,), ridge=4) | Subject)"
SMALL = {
    "epochs": 10,
    "holdout": 0.0,
    "workers": 1,
    "draws": 16,
    "replicates": 2,
    "polish": False,
    "checkpoint_every": 1,
}
SLOW: dict[str, tuple[int, dict[str, Any]]] = {
    "two starts": (2, {}),
    "two workers": (2, {"workers": 2}),
    "held out": (1, {"holdout": 0.25}),
    "encoder": (1, {"method": "vae", "epochs": 12, "checkpoint_every": 2}),
    "mean": (1, {"method": "vae", "average": 0.5}),
    "patience": (1, {"patience": 2, "epochs": 12, "learning_rate": 0.05}),
    "polished": (1, {"polish": True, "precision": "double"}),
}


@cache
def frame() -> pd.DataFrame:
    """36 subjects at 4 visits."""
    sleep = data("sleepstudy").astype({"Subject": str})
    twice = sleep.assign(Subject=sleep["Subject"] + "b", Reaction=sleep["Reaction"] + 3)
    both = pd.concat([sleep, twice], ignore_index=True)
    return both[both["Days"].isin([0, 3, 6, 9])]


def fit(path: Path | None = None, starts: int = 1, method: str = "vb", **options: Any) -> Fit:
    control = {**SMALL, **options, "checkpoint": path}
    given = {"method": method, "starts": starts, "se": None, "verbose": 0}
    return dgmm.mixed_model(FORMULA, frame(), control=control, **given)


@cache
def whole(case: str = "") -> Fit:
    starts, options = SLOW.get(case, (1, {}))
    return fit(None, starts, **options)


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two records, dictionaries or tuples of tensors and numbers are not the same."""
    if isinstance(one, Tensor):
        same = one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
        return [] if same else [where]
    if isinstance(one, dict):
        return [d for key in one for d in differences(one[key], other[key], f"{where}/{key}")]
    if isinstance(one, tuple):
        pairs = enumerate(zip(one, other, strict=True))
        return [d for key, pair in pairs for d in differences(*pair, f"{where}/{key}")]
    return [] if one == other else [where]


def same_numbers(one: Fit, other: Fit) -> bool:
    """All numbers of two estimates, those of every start and of the held-out score included."""
    numbers = ("theta", "phi", "trace", "elbo", "kl_by_direction", "held_out", "start_spread")
    found = []
    for name in (*numbers, "log_likelihood", "others"):
        pair = [getattr(fitted.estimate, name) for fitted in (one, other)]
        if name == "others":
            pair = [tuple(member.theta for member in members) for members in pair]
        found += differences(*pair, name)
    assert found == []
    return one.call == other.call


def stopped_after_every_write(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fitted: Callable[[Path], Fit]
) -> list[Path]:
    """The folder as it is after every writing of a fit: what a machine that stops there leaves."""
    path, write, left = folder / "now" / "fit.ckpt", Checkpoint.write, []
    path.parent.mkdir()

    def copying(self: Checkpoint, number: int, saved: Saved) -> None:
        write(self, number, saved)
        left.append(folder / str(len(left)))
        shutil.copytree(path.parent, left[-1])

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "write", copying)
        fitted(path)
    return left


# -- stopped -------------------------------------------------------------------------------------


def test_a_fit_stopped_after_any_write_ends_where_the_whole_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All trainings: away from the nested model, on under the penalty; encoders are taught anew."""
    left = stopped_after_every_write(tmp_path, monkeypatch, fit)
    assert len(left) >= 7
    for folder in left:
        assert same_numbers(fit(folder / "fit.ckpt"), whole()), folder.name
        assert names(folder) == ["fit.ckpt"]
    new, last = frame().head(8), fit(left[-1] / "fit.ckpt")
    pd.testing.assert_frame_equal(last.predict(new), whole().predict(new), check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW)
def test_stopped_after_any_write_with_every_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    starts, options = SLOW[case]
    alone = {**options, "workers": 1}  # so that all writings are seen

    def fitted(path: Path) -> Fit:
        return fit(path, starts, **alone)

    for folder in stopped_after_every_write(tmp_path, monkeypatch, fitted):
        again = fit(folder / "fit.ckpt", starts, **options)
        assert again.estimate.start_spread == whole(case).estimate.start_spread
        if case != "two workers":  # the word stands in the call
            assert same_numbers(again, whole(case)), folder.name
        assert not list(folder.glob("*.part"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_killed_within_a_write_leaves_the_write_before(tmp_path: Path) -> None:
    """Two fsync belong to a write: at the 13th the new file is written and has no name yet."""
    path, sync, left = tmp_path / "fit.ckpt", os.fsync, [13]

    def die(number: int) -> None:
        sync(number)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    expected = whole()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks beside threads
        process = os.fork()
    if not process:
        torch.set_num_threads(1)  # the others were not forked
        os.fsync = die
        try:
            fit(path)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    assert names(tmp_path) == ["fit.ckpt", "fit.ckpt.part"]
    assert same_numbers(fit(path), expected)
    assert names(tmp_path) == ["fit.ckpt"]


FRESH = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_resume import fit
print("begin", flush=True)
fit(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_killed_at_random_moments_and_gone_on_each_time(tmp_path: Path) -> None:
    """One fit of many lives: 12 kills, each 0 to 2 seconds after the model is called."""
    path, rng = tmp_path / "fit.ckpt", np.random.default_rng(3)
    root = str(Path(dgmm.__file__).resolve().parents[1])
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", FRESH, str(path), str(Path(__file__).parent)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0, 2))
        process.kill()
        process.wait()
    assert same_numbers(fit(path), whole())
    assert names(tmp_path) == ["fit.ckpt"]


def test_a_full_disk_does_not_end_a_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full from the fifth writing on: told once, the same numbers, and what was written is used."""
    path, sync, done = tmp_path / "fit.ckpt", os.fsync, [0]

    def full(number: int) -> None:
        done[0] += 1
        if done[0] > 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(number)

    with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        patch.setattr(os, "fsync", full)
        assert same_numbers(fit(path), whole())
    told = [one for one in told if "has not converged" not in str(one.message)]  # polish=False
    assert [one.filename for one in told] == [__file__]
    assert "the fit goes on without a new checkpoint" in str(told[0].message)
    assert names(tmp_path) == ["fit.ckpt"]
    assert same_numbers(fit(path), whole())


# -- another fit ---------------------------------------------------------------------------------


def test_a_checkpoint_belongs_to_one_fit(tmp_path: Path) -> None:
    path = tmp_path / "fit.ckpt"
    options = {"holdout": 0.0, "epochs": 2}
    fit(path, **options)
    with pytest.raises(ValueError, match="different: control epochs. Call with"):
        fit(path, **{**options, "epochs": 3})
    other = frame().assign(Reaction=frame()["Reaction"] + 1.0)
    control = {**SMALL, **options, "checkpoint": path}
    with pytest.raises(ValueError, match="different: outcome `Reaction`. Call with"):
        dgmm.mixed_model(FORMULA, other, method="vb", starts=1, se=None, control=control)
    family = dgmm.families.find("censored_gaussian", bounds=(None, 500.0))
    with pytest.raises(ValueError, match="different: .*family"):
        dgmm.mixed_model(FORMULA, frame(), method="vb", family=family, starts=1, control=control)


def test_families_with_other_bounds_are_other_fits() -> None:
    words = [
        dgmm.mixed_model(
            "Reaction ~ Days + (1 | Subject)",
            frame(),
            family=dgmm.families.find("censored_gaussian", bounds=(None, upper)),
            se=None,
        ).call.words()["family"]
        for upper in (500.0, 550.0)
    ]
    assert words[0] != words[1]


# -- interrupts ----------------------------------------------------------------------------------


def settings() -> dict[str, Any]:
    """What a process has once only."""
    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "random": torch.random.get_rng_state().tolist(),
        "gradients": torch.is_grad_enabled(),
        "filters": list(warnings.filters),
        "showing": warnings.showwarning,
        "errors": np.geterr(),
    }


def test_an_interrupt_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    """Ctrl-C after a share of all calls of functions of the package; then the same fit again."""
    calls, package = [0, 0], str(Path(dgmm.__file__).parent)

    def count(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(package):
            calls[0] += 1
            if calls[0] == calls[1]:
                raise KeyboardInterrupt

    def counted(name: str, until: int = 0) -> Fit:
        calls[:] = [0, until]
        sys.setprofile(count)
        try:
            fitted = fit(tmp_path / f"{name}.ckpt", holdout=0.0, epochs=2)
            fitted.save(tmp_path / f"{name}.dgmm")
        finally:
            sys.setprofile(None)
        return fitted

    expected, before = counted("whole"), settings()
    total = calls[0]
    for share in (0.05, 0.4, 0.7, 0.98):
        with pytest.raises(KeyboardInterrupt):
            counted("stopped", until=round(share * total))
        assert settings() == before, share
        assert not list(tmp_path.glob("*.part"))
        (tmp_path / "stopped.ckpt").unlink(missing_ok=True)
    assert same_numbers(counted("stopped"), expected)


def test_the_numbers_that_are_compared_are_all_there() -> None:
    """A field of the estimate with a new name would not be compared."""
    known = {one.name for one in fields(whole().estimate)}
    assert {"theta", "phi", "trace", "elbo", "held_out", "others", "log_likelihood"} <= known
    assert whole().estimate.trace
    assert whole().estimate.phi
