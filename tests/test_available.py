"""Free memory as the system tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgmm.runtime import available


def test_what_can_be_taken_is_read_where_the_system_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "meminfo"
    told.write_text("MemTotal:       2000 kB\nMemFree:        300 kB\nMemAvailable:   700 kB\n")
    monkeypatch.setattr(available, "MEMINFO", told)
    assert available.available_memory() == 700 * 1024


def test_elsewhere_it_is_that_of_the_machine_or_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(available, "MEMINFO", tmp_path / "none")
    sizes = {"SC_PHYS_PAGES": 5, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr("os.sysconf", sizes.__getitem__)
    assert available.available_memory() == 5 * 4096
    monkeypatch.delattr("os.sysconf")
    assert available.available_memory() is None
