"""Importing the package loads only what every fit needs."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("statsmodels", "matplotlib", "scipy.stats", "gpboost", "mixedlm", "torch._dynamo")


def test_heavy_libraries_wait_until_they_are_needed() -> None:
    script = f"import sys, dgmm; print([name for name in {HEAVY!r} if name in sys.modules])"
    call = [sys.executable, "-c", script]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
