"""Control: impossible options are refused, the table of options is complete."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from typing import Any

import pytest

from dgmm import Control
from dgmm.estimate.control import (
    ElboOptions,
    ErrorOptions,
    NodeOptions,
    PolishOptions,
    SaemOptions,
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kl_cycles": 0}, "control kl_cycles=0 is not a whole number >= 1"),
        ({"patience": -1}, "control patience=-1 is not a whole number >= 0"),
        ({"refine": 1.5}, "control refine=1.5 is not a whole number >= 0"),
        ({"workers": 0}, "control workers=0 is not a whole number >= 1"),
        ({"steps": 0}, "control steps=0 is not a whole number >= 1"),
        ({"steps": True}, "control steps=True is not a whole number >= 1"),
        ({"free_bits": True}, "control free_bits=True must lie between"),
        ({"average": 1.0}, "control average=1.0 must lie between"),
        ({"watch": "elbo"}, "control watch is 'bound' or 'likelihood', not 'elbo'"),
        ({"precision": "half"}, "control precision is 'auto' or 'double' or 'single', not 'half'"),
        ({"covariance": "full rank"}, "control covariance is 'full' or 'diagonal'"),
        ({"checkpoint": 3}, "control checkpoint is the path of a file, not 3"),
        ({"epochs": 100, "kl_anneal": 51}, "leaves less than half of the 100 epochs"),
        ({"kl_cycles": 3, "kl_anneal": 5}, "needs kl_anneal of at least 6 epochs"),
        ({"average": 0.5, "patience": 5}, "both say which iterate is the result; give one"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Control(**options)


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        (ElboOptions, {"epochs": 0}),
        (PolishOptions, {"tolerance": 0.0}),
        (NodeOptions, {"points": 2}),
        (ErrorOptions, {"hessian_draws": 15}),
        (SaemOptions, {"chains": 3}),
    ],
)
def test_each_step_refuses_its_own_options_as_the_whole_does(
    part: type[Any], wrong: dict[str, Any]
) -> None:
    said = []
    for one in (part, Control):
        with pytest.raises(ValueError, match=f"control {next(iter(wrong))}=") as caught:
            one(**wrong)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_every_option_belongs_to_one_step() -> None:
    parts = (ElboOptions, PolishOptions, NodeOptions, ErrorOptions, SaemOptions)
    names = [one.name for part in parts for one in fields(part)]
    assert names == [one.name for one in fields(Control)]
    assert len(set(names)) == 32


def test_the_table_of_options_gives_every_default() -> None:
    rows = re.findall(r"^    (\w+) +(\S+) +\S", Control.__doc__ or "", flags=re.MULTILINE)
    told = {name: text for name, text in rows if name in Control.__dataclass_fields__}
    for one in fields(Control):
        assert ast.literal_eval(told.pop(one.name)) == one.default, one.name
    assert not told


def test_options_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        Control(300)  # type: ignore[misc]
