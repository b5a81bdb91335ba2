"""Versions and platform recorded in every fit."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata

__all__ = ["versions"]

PACKAGES = ("dgmm", "torch", "numpy", "scipy", "pandas")


def versions() -> dict[str, str]:
    """Package name -> version, with the Python version."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
