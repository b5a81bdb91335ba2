"""F and g: the conditional distribution of the outcome. One family per file.

A new family is one new file with a final subclass of :class:`Family`; the word in
``family="poisson"`` is its ``name``.
"""

from dgmm.families.base import Extra, Family, Observations
from dgmm.registry import lookup, members

__all__ = ["Extra", "Family", "Observations", "available", "find"]


def available() -> list[str]:
    """Names of the families in this folder."""
    return sorted(members("dgmm.families", Family))


def find(family: "str | Family", link: str | None = None) -> Family:
    """The family called by name (``"poisson"``), or the instance given."""
    if isinstance(family, Family):
        return family
    return lookup("dgmm.families", Family, str(family), "family")(link)
