"""Draw the pictures of docs/plots.md: `python benchmarks/pictures.py [name ...]`.

The blocks of the page run in their order; what `axes` then is goes to the file that the next line
links to. With names only these files are written.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from stored import ROOT

__all__ = ["PAGE", "Picture", "draw", "pictures"]

PAGE = ROOT / "docs" / "plots.md"
BLOCK = re.compile(
    r"```python\n(?P<code>.*?)```\n(?:\n!\[(?P<text>[^\]]*)\]\((?P<file>[^)]+)\))?", re.DOTALL
)
DPI = 80


class Picture(NamedTuple):
    """A block of the page, and the file of its picture if it has one."""

    code: str
    file: str | None


def pictures() -> Iterator[Picture]:
    """The blocks of the page."""
    for found in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        yield Picture(found["code"], found["file"])


def draw(chosen: set[str]) -> None:
    """Run the blocks and write pictures, all of them or those of some names."""
    from matplotlib import pyplot

    names: dict[str, Any] = {}
    for one in pictures():
        exec(one.code, names)
        if one.file is None:
            continue
        path = PAGE.parent / one.file
        if not chosen or path.stem in chosen:
            path.parent.mkdir(exist_ok=True)
            np.ravel(names["axes"])[0].figure.savefig(path, dpi=DPI)
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes")
        pyplot.close("all")


if __name__ == "__main__":
    mpl.use("Agg")
    draw(set(sys.argv[1:]))
