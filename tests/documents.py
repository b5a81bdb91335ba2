"""The documents of the repository: blocks of code, the output beside them, tables, vignettes."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
VIGNETTES = sorted((ROOT / "vignettes").glob("*.py"))
FENCE = re.compile(
    r"^(?P<slow><!-- slow -->\n)?```python\n(?P<code>.*?)^```\n"
    r"(?:\n```text\n(?P<printed>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")
CELL = re.compile(r"(?<!\\)\|")
CODE = re.compile(r"`([^`]+)`")


class Block(NamedTuple):
    """A python block of a page and the text block that follows it."""

    code: str
    printed: str
    slow: bool
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            found["code"],
            found["printed"] or "",
            found["slow"] is not None,
            text.count("\n", 0, found.start("code")) + 1,
        )
        for found in FENCE.finditer(text)
    ]


def run_block(block: Block, page: Path, names: dict[str, Any]) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile("\n" * (block.line - 1) + block.code, page, "exec"), names)
    return output.getvalue()


def check_blocks(page: Path) -> None:
    """Run the python blocks of a page; each prints the text block after it."""
    names: dict[str, Any] = {}
    found = [block for block in blocks(page) if not block.slow]
    assert any(block.printed for block in found)
    for block in found:
        assert run_block(block, page, names) == block.printed, f"{page.name}, line {block.line}"


def tables(page: Path) -> list[list[list[str]]]:
    """The tables of a page: rows of cells, headers left out."""
    found: list[list[list[str]]] = [[]]
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            cells = [cell.strip().replace(r"\|", "|") for cell in CELL.split(line)[1:-1]]
            found[-1].append(cells)
        elif found[-1]:
            found.append([])
    return [table[2:] for table in found if table]


def run_vignette(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a vignette in its short form in an empty folder; its own assertions decide."""
    monkeypatch.setenv("DGMM_FAST", "1")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(folder)
    names = runpy.run_path(str(path), run_name="__main__")
    assert names.get("FAST", True) is True  # quick vignettes need no short form
    assert "\nassert " in path.read_text(encoding="utf-8")
    assert list(folder.iterdir()) == []  # pictures go to a folder of their own
