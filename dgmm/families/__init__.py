"""F and g: the conditional distribution of the outcome. One family per file.

A new family is one new file with a final subclass of :class:`Family`; the word in
``family="poisson"`` is its ``name``.
"""

from dgmm.families.base import Extra, Family, Observations, OutcomeError
from dgmm.families.naming import find
from dgmm.families.own import OwnFamily
from dgmm.runtime.registry import members

__all__ = ["Extra", "Family", "Observations", "OutcomeError", "OwnFamily", "available", "find"]


def available() -> list[str]:
    """Names of the families in this folder."""
    return sorted(members("dgmm.families", Family))
