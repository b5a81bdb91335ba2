"""Documents that need no long fit: README, links, tables of names, docstrings, one vignette."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import benchmark
from documents import (
    CODE,
    LINK,
    PAGES,
    README,
    ROOT,
    VIGNETTES,
    blocks,
    check_blocks,
    run_block,
    run_vignette,
    tables,
)

import dgmm
from dgmm.formula import parse_formula

# -- pages ---------------------------------------------------------------------------------------


def test_the_readme_prints_what_it_shows() -> None:
    check_blocks(README)


def test_no_python_block_escapes() -> None:
    for page in (README, *PAGES):
        assert page.read_text(encoding="utf-8").count("```python") == len(blocks(page))


@pytest.mark.slow
def test_the_slow_blocks_of_the_readme() -> None:
    page, names = README, dict[str, Any]()
    for block in blocks(page):
        run_block(block, page, names)
    deep, classical = names["deep"], names["classical"]
    kept = benchmark("demo_seeds").table().loc[1]  # what the text says of it comes from here
    assert abs(float(deep.loglik()) - kept["loglik"]) < 1
    assert abs(float(classical.loglik()) - kept["classical_loglik"]) < 0.01
    assert float(deep.loglik()) > float(classical.loglik())
    assert deep.estimate.held_out.alike
    assert kept["score"] < 2 * kept["score_se"]
    assert kept["later"] == pytest.approx(kept["classical_later"], abs=0.005)


@pytest.mark.parametrize(
    "page",
    [README, *PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "data" / "README.md"],
    ids=lambda page: page.name,
)
def test_links_lead_to_files(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_picture_is_small() -> None:
    assert 10_000 < (ROOT / "docs" / "profiles.png").stat().st_size <= 120_000


# -- tables --------------------------------------------------------------------------------------


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
                known = set(dir(holder))
                for one in getattr(holder, "__mro__", (holder,)):
                    known |= set(getattr(one, "__annotations__", {}))
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
    names = (module.name for module in found)
    # each adapter needs the package it is named after
    return ["dgmm", *(name for name in names if not name.startswith("dgmm.adapters."))]


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


def test_a_vignette_holds_its_own_assertions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_vignette(VIGNETTES[-1], tmp_path, monkeypatch)  # all of them: make pages
