"""Figures in the documents are those of the stored tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import benchmark

figures = benchmark("figures")


@pytest.mark.parametrize("page", figures.PAGES, ids=lambda page: page.name)
def test_a_page_has_the_figures_of_its_tables(page: Path) -> None:
    """If not: make figures."""
    text = page.read_text(encoding="utf-8")
    assert figures.rewritten(text) == text
    assert text.count("<!-- figures:") == text.count("<!-- end -->")
    assert text.count("<!-- figures:") == len(figures.REGION.findall(text))


def test_every_source_is_shown_somewhere() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in figures.PAGES)
    assert set(re.findall(r"<!-- figures: (\w+)", pages)) == set(figures.SOURCES)


def test_what_was_typed_is_replaced() -> None:
    rows = figures.study_rows()
    value = rows.loc[("sigmoid", 1, 1, "oracle"), "loglik"]
    words = "study sigmoid 1 1 oracle loglik .3f"
    text = f"It is <!-- figures: {words} -->typed<!-- end -->, so far."
    assert figures.rewritten(text) == text.replace("typed", f"{value:.3f}")
    block = "<!-- figures: missing -->\n| by hand |\n<!-- end -->"
    assert figures.rewritten(block) == (
        f"<!-- figures: missing -->\n\n{figures.missing()}\n\n<!-- end -->"
    )
    with pytest.raises(ValueError, match="no source 'stduy' of figures"):
        figures.rewritten("<!-- figures: stduy sigmoid --><!-- end -->")


def test_tables_in_markdown() -> None:
    frame = figures.pd.DataFrame({"a": [1.234, float("nan")], "b": ["x | y", "z"], "c": [1, 2]})
    text = figures.markdown(frame, {"b": ("name", "`{}`"), "a": ("value", "{:+.1f}")})
    assert text.splitlines() == [
        "| name | value |",
        "| --- | --- |",
        r"| `x \| y` | +1.2 |",
        "| `z` |  |",
    ]
