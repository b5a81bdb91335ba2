"""Formula + data frame -> Design: named numpy columns, one row per measurement.

expressions (safe evaluation) -> variables (any frame) -> encoding, grouping -> response,
specification -> frame (rows and their order) -> build.
"""

from dgmm.design.build import Design, LatentBlock, NetworkBlock, build_design, rebuild
from dgmm.design.encoding import Columns
from dgmm.design.grouping import Grouping
from dgmm.design.specification import Specification
from dgmm.design.variables import take_rows

__all__ = [
    "Columns",
    "Design",
    "Grouping",
    "LatentBlock",
    "NetworkBlock",
    "Specification",
    "build_design",
    "rebuild",
    "take_rows",
]
