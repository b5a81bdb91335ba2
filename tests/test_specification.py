"""What is saved is plain JSON, reads back exactly, and a tampered file is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dgmm.design import Specification, build_design
from dgmm.formula import parse_formula


def specification() -> Specification:
    rng = np.random.default_rng(1)
    data = pd.DataFrame(
        {
            "id": np.repeat(np.arange(20), 5),
            "t": rng.uniform(size=100),
            "x": rng.normal(size=100),
            "g": pd.Categorical(rng.choice(["p", "q"], 100)),
            "y": rng.normal(size=100),
        }
    )
    formula = parse_formula("y ~ x + C(g, contr.sum) + poly(x, 2) + (dnn(ns(t, 3)) | id/g)")
    with pytest.warns(UserWarning, match="a combination of"):
        return build_design(formula, data).spec


def test_json_gives_the_same_specification() -> None:
    spec = specification()
    again = Specification.from_json(json.loads(json.dumps(spec.to_json(), allow_nan=False)))
    assert again == spec


def test_words_of_the_first_version_are_networks():
    spec = specification()
    record = {**spec.to_json(), "version": 1, "latent_words": ["dnn"]}
    assert Specification.from_json(record).parsed() == spec.parsed()


@pytest.mark.parametrize(
    "change",
    [
        {"formula": "y ~ I(__import__('os').system('true')) + (dnn(ns(t, 3)) | id/g)"},
        {"formula": "y ~ x.__class__.__bases__(1) + (dnn(ns(t, 3)) | id/g)"},
        {"formula": "(lambda: 1)() ~ x + (dnn(ns(t, 3)) | id/g)"},
        {"formula": "y ~ x"},
        {"states": {"ns(t, 3)": {"knots": {"a": 1}}}},
        {"variables": [{"name": "x", "kind": "code", "levels": []}]},
        {"version": 99},
        {"groupings": 3},
    ],
)
def test_a_tampered_file_is_refused(change: dict[str, Any]) -> None:
    record = specification().to_json()
    with pytest.raises(ValueError, match="."):
        Specification.from_json({**record, **change})
