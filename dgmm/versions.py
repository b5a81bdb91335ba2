"""Versions and platform recorded in every fit."""

from __future__ import annotations

import platform
from importlib import metadata

__all__ = ["versions"]

PACKAGES = ("dgmm", "torch", "numpy", "scipy", "pandas", "formulaic")


def versions() -> dict[str, str]:
    """Package name -> version, with the Python version."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
