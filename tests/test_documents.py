"""Every page is executed: README and docs, docstring examples, vignettes, tables of names."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import importlib.util
import io
import pkgutil
import re
import runpy
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import dgmm
from dgmm.formula import parse_formula

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
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


# -- pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_print_what_the_page_shows(page: Path) -> None:
    names: dict[str, Any] = {}
    found = [block for block in blocks(page) if not block.slow]
    assert any(block.printed for block in found)
    for block in found:
        assert run_block(block, page, names) == block.printed, f"{page.name}, line {block.line}"


def test_no_python_block_escapes() -> None:
    for page in PAGES:
        assert page.read_text(encoding="utf-8").count("```python") == len(blocks(page))


@pytest.mark.slow
def test_the_slow_blocks_of_the_readme() -> None:
    page, names = ROOT / "README.md", dict[str, Any]()
    for block in blocks(page):
        run_block(block, page, names)
    deep, classical = names["deep"], names["classical"]
    assert float(deep.loglik()) > float(classical.loglik())
    assert abs(deep.estimate.held_out.difference) < 2 * deep.estimate.held_out.standard_error
    shown = re.search(r"higher \((-[\d.]+) against (-[\d.]+)\)", page.read_text(encoding="utf-8"))
    assert shown is not None
    assert abs(float(deep.loglik()) - float(shown[1])) < 2
    assert abs(float(classical.loglik()) - float(shown[2])) < 0.06


@pytest.mark.parametrize(
    "page",
    [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "data" / "README.md"],
    ids=lambda page: page.name,
)
def test_links_lead_to_files(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_picture_is_small() -> None:
    assert 10_000 < (ROOT / "docs" / "profiles.png").stat().st_size <= 120_000


# -- tables --------------------------------------------------------------------------------------


def test_every_call_in_coming_from_runs() -> None:
    page = ROOT / "docs" / "coming_from.md"
    names: dict[str, Any] = {}
    run_block(blocks(page)[0], page, names)
    fits, generics = 0, 0
    for table in tables(page):
        for row in table:
            for call in CODE.findall(row[1]):
                if call.startswith("mixed_model("):
                    assert isinstance(eval(call, names), dgmm.Fit), call
                    fits += 1
                elif call.startswith("fit."):
                    assert eval(call, names) is not None, call
                    generics += 1
    assert fits > 30
    assert generics > 50


def test_every_word_in_quotes_in_coming_from_is_a_family() -> None:
    words = set()
    for table in tables(ROOT / "docs" / "coming_from.md"):
        for row in table:
            words |= {word[1:-1] for word in CODE.findall(row[1]) if word.startswith('"')}
    assert {"nb1", "ordered_beta", "lognormal"} <= words
    for word in words:
        assert dgmm.families.find(word).name


def test_every_formula_in_coming_from_is_read() -> None:
    rows = next(
        table
        for table in tables(ROOT / "docs" / "coming_from.md")
        if "(1 | Subject)" in table[0][1] and "mixed_model" not in table[0][1]
    )
    read = 0
    for row in rows:
        for term in CODE.findall(row[1]):
            if "(" in term and not term.endswith("()"):
                formula = f"y ~ {term}" if "|" in term else f"y ~ {term} + (1 | id)"
                assert parse_formula(formula).latents
                read += 1
    assert read >= 10


def test_every_name_in_the_notation_table_exists() -> None:
    checked = 0
    for table in tables(ROOT / "docs" / "notation.md"):
        for row in table:
            for path in CODE.findall(row[2]):
                holder: Any = dgmm
                *inner, last = path.split(".")
                for at, part in enumerate(inner):
                    name = ".".join(["dgmm", *inner[: at + 1]])
                    found = holder is dgmm or hasattr(holder, "__path__")
                    found = found and importlib.util.find_spec(name) is not None
                    holder = importlib.import_module(name) if found else getattr(holder, part)
                known = {*dir(holder), *getattr(holder, "__annotations__", {})}
                assert last in known, path
                checked += 1
    assert checked > 40


def test_contributing_names_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = [p for p in CODE.findall(text) if re.fullmatch(r"[\w/]*(/|\.py|\.md|\.csv)", p)]
    assert len(paths) > 20
    for path in paths:
        plain = re.sub(r"(NN_)?[Nn][Aa][Mm][Ee](\.\w+)?$", "", path)
        assert (ROOT / plain).exists() or (ROOT / "dgmm" / plain).exists(), path


# -- docstrings and vignettes --------------------------------------------------------------------


def _modules() -> list[str]:
    found = pkgutil.walk_packages(dgmm.__path__, "dgmm.")
    return ["dgmm", *(module.name for module in found)]


def test_docstring_examples() -> None:
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    with_examples = set()
    for name in _modules():
        for test in finder.find(importlib.import_module(name), name):
            if test.examples:
                with_examples.add(name)
                runner.run(test)
    assert {"dgmm", "dgmm.api", "dgmm.datasets"} <= with_examples
    assert runner.summarize(verbose=False).failed == 0


def test_the_entry_points_have_an_example_and_arguments() -> None:
    assert ">>>" in (dgmm.mixed_model.__doc__ or "")
    for name in dgmm.__all__:
        assert getattr(dgmm, name).__doc__, name


@pytest.mark.vignette
@pytest.mark.parametrize("path", VIGNETTES, ids=lambda path: path.name)
def test_vignettes_hold_their_own_assertions(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DGMM_FAST", "1")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(path), run_name="__main__")
    assert names.get("FAST", True) is True  # quick vignettes need no short form
    assert "\nassert " in path.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == []  # pictures go to a folder of their own
