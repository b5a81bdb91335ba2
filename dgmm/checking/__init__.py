"""A battery of checks of a family: its density first, then fits with it.

outcomes (what can be observed, with its measure) -> density, fits (the checks) -> family.
"""

from dgmm.checking.family import check_family
from dgmm.checking.outcomes import FamilyError

__all__ = ["FamilyError", "check_family"]
