"""The words of a call: read, checked at the door, and turned into a request.

call (the arguments) -> groups, model (formula, family, design) -> request.
"""

from dgmm.plan.call import Call, read_control, read_prior, read_values
from dgmm.plan.elsewhere import INSTEAD
from dgmm.plan.from_sums import check_columns, check_enough, check_left, check_stored
from dgmm.plan.groups import check_varies
from dgmm.plan.model import (
    as_counted,
    has_recursions,
    is_deep,
    latent_words,
    parse_call,
    read_designs,
    read_family,
    structures,
)
from dgmm.plan.request import check_control, check_options, make_request, request_behind

__all__ = [
    "INSTEAD",
    "Call",
    "as_counted",
    "check_columns",
    "check_control",
    "check_enough",
    "check_left",
    "check_options",
    "check_stored",
    "check_varies",
    "has_recursions",
    "is_deep",
    "latent_words",
    "make_request",
    "parse_call",
    "read_control",
    "read_designs",
    "read_family",
    "read_prior",
    "read_values",
    "request_behind",
    "structures",
]
