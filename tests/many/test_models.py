"""The models of a call: labels, formulas, rows."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import data

from dgmm.many.models import models_of
from dgmm.plan import Call


def test_labels_of_a_column_are_plain_and_in_natural_order() -> None:
    frame = data("bodyweight")
    found = models_of(Call(formula="weight ~ Time + (1 | Rat)"), frame, "Diet", None)
    assert [str(label) for label in found.labels] == ["1", "2", "3"]
    assert found.at(found.labels[1]) == found.at("2") == 1
    assert found.formula(2) == "weight ~ Time + (1 | Rat)"
    assert found.part is not None
    np.testing.assert_array_equal(found.part + 1, frame["Diet"].astype(int))


def test_an_outcome_is_the_left_side_of_its_formula() -> None:
    frame = data("bodyweight").rename(columns={"weight": "HLA-A"}).assign(g=1.0)
    found = models_of(Call(formula=" ~ Time + (1 | Rat)"), frame, None, ["HLA-A", "g"])
    assert found.formula(0) == "`HLA-A` ~ Time + (1 | Rat)"
    assert found.formula(1) == "g ~ Time + (1 | Rat)"
    assert found.name == "outcome"
    assert found.fit(0).nobs() == len(frame)
    with pytest.raises(KeyError, match="they are 'HLA-A', 'g'"):
        found.at("h")
