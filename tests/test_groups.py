"""Random parts of one grouping factor: columns that a network holds already."""

from __future__ import annotations

import pytest
from toys import frame

from dgmm.design import build_design
from dgmm.formula import parse_formula
from dgmm.plan.groups import overlaps


@pytest.mark.parametrize(
    ("random", "shared"),
    [
        ("(1 | id) + (dnn(t) | id)", "(Intercept)"),
        ("(1 | id) + (dnn(poly(t, 3), form='warped') | id)", "(Intercept)"),
        ("(1 + t | id) + (dnn(0 + t) | id)", "t"),
        ("(dnn(ns(t, 3)) | id) + (0 + t | id)", "t"),
        ("(1 | id) + (dnn(0 + t) | id)", None),
        ("(x + dnn(t) | id)", None),
        ("(1 | id) + (t | id)", None),
        ("(dnn(t) | id)", None),
    ],
)
def test_a_linear_part_within_a_network_is_named(random: str, shared: str | None) -> None:
    found = overlaps(build_design(parse_formula(f"y ~ x + {random}"), frame(10, 6)))
    assert len(found) == (shared is not None)
    assert not found or f"both hold the effect `{shared}` of `id`" in found[0]
