"""From a design to theta-hat, in stages.

records (what is asked, what comes back) -> pilot -> finish (polish, final likelihood) -> amortised
-> classical -> deep -> stages.
"""

from dgmm.estimate.records import Control, Estimate, Head, HeldOut, Member, Patterns, Request, Saem
from dgmm.estimate.stages import estimate

__all__ = [
    "Control",
    "Estimate",
    "Head",
    "HeldOut",
    "Member",
    "Patterns",
    "Request",
    "Saem",
    "estimate",
]
