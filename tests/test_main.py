"""The command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgmm.__main__ import main


def test_fit_prints_the_summary_and_saves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sleep.dgmm"
    status = main(["fit", "Reaction ~ Days + (Days | Subject)", "sleepstudy", "--save", str(path)])
    assert status == 0
    assert "Days" in capsys.readouterr().out
    assert path.stat().st_size > 0


def test_a_bad_formula_ends_with_a_message_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "Reaction ~ Dayz + (1 | Subject)", "sleepstudy"]) == 2
    assert "Dayz" in capsys.readouterr().err


def test_datasets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets"]) == 0
    assert "sleepstudy" in capsys.readouterr().out.split()


def test_without_a_command_the_usage_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert "demo" in capsys.readouterr().err
