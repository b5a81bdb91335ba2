"""Pages that fit many models: docs, every call of "Coming from", vignettes. Run by make pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from documents import (
    CODE,
    PAGES,
    ROOT,
    VIGNETTES,
    blocks,
    check_blocks,
    run_block,
    run_vignette,
    tables,
)

import dgmm

pytestmark = pytest.mark.pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_print_what_the_page_shows(page: Path) -> None:
    check_blocks(page)


@pytest.mark.parametrize(
    ("name", "fewest", "fewest_generics"),
    [
        ("coming_from.md", 25, 45),
        ("coming_from_nlme.md", 10, 6),
        ("coming_from_plm.md", 4, 5),
        ("coming_from_bayes.md", 3, 15),
    ],
    ids=["lme4", "nlme", "plm", "brms"],
)
def test_every_call_in_coming_from_runs(name: str, fewest: int, fewest_generics: int) -> None:
    page = ROOT / "docs" / name
    names: dict[str, Any] = {}
    run_block(blocks(page)[0], page, names)
    cells = [row[1] for table in tables(page) for row in table]
    calls = dict.fromkeys(call for cell in cells for call in CODE.findall(cell))  # each once
    fits = [call for call in calls if call.startswith("mixed_model(")]
    generics = [call for call in calls if call.startswith("fit.")]
    for call in fits:
        assert isinstance(eval(call, names), dgmm.Fit), call
    for call in generics:
        assert eval(call, names) is not None, call
    assert len(fits) > fewest
    assert len(generics) > fewest_generics


@pytest.mark.parametrize("path", VIGNETTES, ids=lambda path: path.name)
def test_vignettes_hold_their_own_assertions(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_vignette(path, tmp_path, monkeypatch)
