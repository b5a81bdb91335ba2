"""The house: what a room alone may ask, how long a file is, how many modules have no folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dgmm

PACKAGE = Path(dgmm.__file__).parent
LONGEST = 400
FLAT = 15

OWNED = {
    r"isinstance\([^)]*\bNormal\b": {"latent"},
    r"\"log_diagonal\"|'log_diagonal'": {"latent"},
    r"likelihood(\.word)? (==|!=|in|not in) [\"'(\[{]": {"likelihood"},
    r"isinstance\([^)]*\b(Cross|Gaussian|Adaptive|Node|Sampled|LinearG)\w*\b": {"likelihood"},
    r"\brule is (not )?None": {"likelihood"},
    r"\bcrossing\b.* is (not )?None|\.crossing\b": {"panel"},
}
"""What may be asked in some rooms only, as regular expressions."""


def lines(folder: Path = PACKAGE) -> list[tuple[Path, str]]:
    return [
        (file.relative_to(PACKAGE), line)
        for file in sorted(folder.rglob("*.py"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]


@pytest.mark.parametrize("pattern", OWNED)
def test_only_its_room_asks(pattern: str) -> None:
    rooms = OWNED[pattern]
    asked = re.compile(pattern)
    found = [
        f"{file}: {line.strip()}"
        for file, line in lines()
        if file.parts[0] not in rooms and asked.search(line) and "dgmm." not in line
    ]
    assert not found


@pytest.mark.parametrize("pattern", OWNED)
def test_every_pattern_finds_an_example(pattern: str) -> None:
    examples = {
        "if isinstance(latent, Normal):",
        'theta["log_diagonal"]',
        'if done.likelihood == "exact":',
        "isinstance(likelihood, Gaussian)",
        "if self.rule is None:",
        "if panel.crossing is not None:",
    }
    assert any(re.search(pattern, example) for example in examples)


def test_no_file_is_long() -> None:
    count = {
        file.relative_to(PACKAGE).as_posix(): len(file.read_text(encoding="utf-8").splitlines())
        for file in PACKAGE.rglob("*.py")
    }
    assert {name: n for name, n in count.items() if n > LONGEST} == {}


def test_modules_live_in_folders() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= FLAT
