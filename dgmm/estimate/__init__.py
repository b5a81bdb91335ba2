"""From a design to theta-hat, in stages.

control (rare options) -> records (request, estimate) -> pilot -> finish (polish, final likelihood)
-> amortised -> classical -> deep, recursive -> stages.
"""

from dgmm.estimate.control import Control
from dgmm.estimate.records import (
    Course,
    Estimate,
    FormChoice,
    Head,
    HeldOut,
    Member,
    Patterns,
    Request,
    Saem,
)
from dgmm.estimate.stages import estimate, stored_estimate

__all__ = [
    "Control",
    "Course",
    "Estimate",
    "FormChoice",
    "Head",
    "HeldOut",
    "Member",
    "Patterns",
    "Request",
    "Saem",
    "estimate",
    "stored_estimate",
]
