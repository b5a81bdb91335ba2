"""Measurements of subjects as tensors, for every likelihood."""

from dgmm.panel.common_rows import common_rows
from dgmm.panel.crossing import Crossing, Factor, effects_of_rows
from dgmm.panel.panel import Panel
from dgmm.panel.rows import Block, LatentRows, Past, Rows, Stack
from dgmm.panel.sums import Sums
from dgmm.panel.turns import ranks, together

__all__ = [
    "Block",
    "Crossing",
    "Factor",
    "LatentRows",
    "Panel",
    "Past",
    "Rows",
    "Stack",
    "Sums",
    "common_rows",
    "effects_of_rows",
    "ranks",
    "together",
]
