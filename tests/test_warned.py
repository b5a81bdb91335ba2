"""Warnings point at the line of the user."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import data

import dgmm


def _gaps() -> Any:
    return data("sleepstudy").assign(Days=lambda d: d["Days"].where(d.index != 3))


CALLS: dict[str, Callable[[Any], Any]] = {
    "mixed_model": lambda frame: dgmm.mixed_model(
        "Reaction ~ Days + (1 | Subject)", frame, verbose=0
    ),
    "lm_list": lambda frame: dgmm.lm_list("Reaction ~ Days | Subject", frame),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_warning_about_the_data_points_here(name: str) -> None:
    with pytest.warns(UserWarning, match="1 of 180 rows") as caught:
        CALLS[name](_gaps())
    assert caught[0].filename == __file__


def test_a_warning_of_a_method_points_here() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = CALLS["mixed_model"](_gaps())
    with pytest.warns(UserWarning, match="1 of 180 rows") as caught:
        fit.update(method="reml")
    assert caught[0].filename == __file__
    assert np.isfinite(float(fit.loglik()))
