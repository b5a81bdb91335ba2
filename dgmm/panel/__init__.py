"""Measurements of subjects as tensors, for every likelihood."""

from dgmm.panel.crossing import Crossing, Factor
from dgmm.panel.panel import Panel
from dgmm.panel.rows import Block, LatentRows, Rows

__all__ = ["Block", "Crossing", "Factor", "LatentRows", "Panel", "Rows"]
