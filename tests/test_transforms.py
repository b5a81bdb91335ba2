"""Bases against R's numbers, and the promise that training state serves new rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dgmm.transforms import FUNCTIONS, C, Contrast, Factor, Stateful, bs, center, ns, poly, scale

REFERENCE = json.loads((Path(__file__).parent / "reference" / "splines.json").read_text())
BASES = [ns, bs, poly]


def array(values: Any) -> np.ndarray:
    """R's numbers; NA arrives as null or as the string NA."""
    return np.array([np.nan if v in (None, "NA") else v for v in values], dtype=float)


def matrix(rows: Any) -> np.ndarray:
    return np.array([array(row) for row in rows])


def label(entry: dict[str, Any]) -> str:
    return f"{entry['fun']}-{entry['data']}-{json.dumps(entry['args'])}"


@pytest.mark.parametrize("entry", REFERENCE["refs"], ids=label)
def test_equal_to_R(entry: dict[str, Any]) -> None:
    """splines.json holds splines::ns, splines::bs and stats::poly of R 4.2.2."""
    basis = FUNCTIONS[entry["fun"]]
    x = array(REFERENCE["x"][entry["data"]])
    options = {k.replace("boundary", "boundary_knots"): v for k, v in entry["args"].items()}
    state = json.loads(json.dumps(basis.fit(x, **options)))
    assert np.allclose(basis.apply(x, state), matrix(entry["basis"]), 0, 1e-10, equal_nan=True)
    new = array(REFERENCE["new"])
    if entry["fun"] == "bs":
        new = new[(new >= np.nanmin(x)) & (new <= np.nanmax(x))]
    if entry["predict"]:
        expected = matrix(entry["predict"])
        assert np.allclose(basis.apply(new, state), expected, 1e-10, 1e-10, equal_nan=True)


@pytest.mark.parametrize("basis", BASES, ids=lambda basis: basis.name)
def test_a_missing_value_affects_its_own_row_only(basis: Stateful) -> None:
    x = np.linspace(0, 3, 40)
    holed = np.append(x, np.nan)
    values = basis(holed, 3)
    assert np.isnan(values[-1]).all()
    assert np.array_equal(values[:-1], basis(x, 3))


@pytest.mark.parametrize("basis", [ns, bs], ids=["ns", "bs"])
def test_tied_knots_are_named(basis: Stateful) -> None:
    x = np.r_[np.zeros(60), np.arange(1, 41)]
    with pytest.raises(ValueError, match=rf"knots fall on 0 .*{basis.name}\(x, knots="):
        basis(x, 6)
    assert np.linalg.matrix_rank(basis(x, knots=(5, 20))) == basis(x, knots=(5, 20)).shape[1]


@pytest.mark.parametrize("basis", [ns, bs], ids=["ns", "bs"])
def test_spline_arguments_are_checked(basis: Stateful) -> None:
    x = np.linspace(0, 1, 20)
    with pytest.raises(ValueError, match="whole number"):
        basis(x, 3.5)
    with pytest.raises(ValueError, match="must lie inside"):
        basis(x, knots=(2,))
    with pytest.raises(ValueError, match="needs two or more"):
        basis(np.ones(5), 3)
    with pytest.raises(ValueError, match="all are missing"):
        basis(np.full(5, np.nan), 3)


def test_ns_is_linear_outside_its_boundary() -> None:
    state = ns.fit(np.linspace(0, 1, 50), 4)
    far = ns.apply(np.array([2.0, 3.0, 4.0, -1.0, -2.0, -3.0]), state)
    assert np.allclose(far[0] - 2 * far[1] + far[2], 0, atol=1e-12)
    assert np.allclose(far[3] - 2 * far[4] + far[5], 0, atol=1e-12)


def test_poly_is_orthonormal_and_refuses_too_high_a_degree() -> None:
    x = np.random.default_rng(1).normal(size=50)
    P = np.column_stack([np.full(50, 50**-0.5), poly(x, 4)])
    assert np.allclose(P.T @ P, np.eye(5), atol=1e-12)
    assert np.allclose(poly(x, 2, raw=True), np.column_stack([x, x**2]), 1e-15)
    with pytest.raises(ValueError, match="different values"):
        poly(np.array([0.0, 1.0, 0.0]), 2)


def test_scale_and_center_as_in_R() -> None:
    x = np.array([1.0, 2.0, 4.0, 9.0])
    assert np.allclose(scale(x), (x - 4) / x.std(ddof=1))
    # R: scale(x, center = FALSE) divides by sqrt(sum(x^2) / (n - 1))
    assert np.allclose(scale(x, center=False), x / np.sqrt((x**2).sum() / 3))
    assert np.allclose(scale(x, scale=False), x - 4)
    assert np.isnan(scale(np.append(x, np.nan))).sum() == 1
    assert np.allclose(center(np.append(x, np.nan))[:-1], x - 4)
    with pytest.raises(ValueError, match="constant"):
        scale(np.ones(3))


def test_contrasts_are_Rs() -> None:
    # R: contr.sum(3), contr.helmert(3), contr.poly(3), contr.treatment(3, base = 2)
    assert Contrast("sum").coding("abc")[0].tolist() == [[1, 0], [0, 1], [-1, -1]]
    assert Contrast("helmert").coding("abc")[0].tolist() == [[-1, -1], [1, -1], [0, 2]]
    expected = [[-(0.5**0.5), 6**-0.5], [0, -2 * 6**-0.5], [0.5**0.5, 6**-0.5]]
    assert np.allclose(Contrast("poly").coding("abc")[0], expected)
    assert Contrast("poly").coding("abcde")[1] == (".L", ".Q", ".C", "^4")
    coding, endings = Contrast("treatment")(base="b").coding("abc")
    assert coding.tolist() == [[1, 0], [0, 0], [0, 1]]
    assert endings == ("a", "c")
    with pytest.raises(ValueError, match="not among the levels"):
        Contrast("treatment", "d").coding("abc")


def test_C_remembers_levels_and_refuses_new_ones() -> None:
    state = C.fit(np.array([1.0, 2.0, 4.0]), "sum")
    assert state == {"levels": [1, 2, 4], "contrast": "sum", "base": None, "ordered": True}
    again = C.apply(np.array([4.0, 4.0]), state)
    assert again.codes.tolist() == [2, 2]
    with pytest.raises(ValueError, match="3 did not occur.*known levels: 1, 2, 4"):
        C.apply(np.array([3.0]), state)
    with pytest.raises(ValueError, match="leaves out b"):
        C.fit(Factor(np.array([0, 1]), ("a", "b")), levels=("a",))
    with pytest.raises(ValueError, match=r"contr\.treatment, contr\.sum"):
        C.fit(np.array([1.0, 2.0]), "unknown")
