"""The statistical model: its joint density, how it is built, draws from it."""

from dgmm.model.alike import Alike
from dgmm.model.build import START_RIDGE, build_model, orthonormal_basis
from dgmm.model.candidates import candidates
from dgmm.model.density import Fixed, Model, log_prior
from dgmm.model.inputs import course, driven, kept
from dgmm.model.joint import (
    Part,
    alone,
    alone_panel,
    join,
    join_panels,
    key_of,
    led_by,
    led_panel,
    led_theta,
    within,
    without,
)
from dgmm.model.shared import apart, apart_theta, share, shared_theta
from dgmm.model.structure import Entry

__all__ = [
    "START_RIDGE",
    "Alike",
    "Entry",
    "Fixed",
    "Model",
    "Part",
    "alone",
    "alone_panel",
    "apart",
    "apart_theta",
    "build_model",
    "candidates",
    "course",
    "driven",
    "join",
    "join_panels",
    "kept",
    "key_of",
    "led_by",
    "led_panel",
    "led_theta",
    "log_prior",
    "orthonormal_basis",
    "share",
    "shared_theta",
    "within",
    "without",
]
