"""Near dependence of columns: named where it is, silent under changes of origin and unit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dgmm import mixed_model
from dgmm.design import build_design
from dgmm.design.collinearity import collinear
from dgmm.formula import parse_formula


def frame(seed: int = 1, n: int = 60, J: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), J), "t": np.tile(np.arange(float(J)), n)})
    data["x"], data["z"], data["w"] = rng.normal(size=(3, n * J))
    data["trt"] = np.where(data.id % 2 == 0, "a", "b")
    data["year"] = 2000 + data.t + rng.integers(0, 5, n)[data.id]
    data["big"] = 1e6 * data.x + 3e6 * data.z
    data["y"] = rng.normal(size=n * J)
    return data


def found(right: str, data: pd.DataFrame):  # type: ignore[no-untyped-def]
    design = build_design(parse_formula(f"y ~ {right} + (1 | id)"), data)
    return collinear(design.fixed, design.observed)


@pytest.mark.parametrize("noise", [1e-6, 1e-3])
@pytest.mark.parametrize("right", ["{}", "0 + {}", "0 + trt + {}"])
def test_a_column_beside_its_copy_with_noise(noise: float, right: str) -> None:
    data = frame()
    data["copy"] = data.x + noise * data.w
    (one,) = found(right.format("x + t + copy + z"), data)
    assert one.names == ("x", "copy")
    # by least squares: the variance of x about what the other columns make of it
    others = {"{}": "1", "0 + {}": "", "0 + trt + {}": "trt"}[right]
    columns = [data[name].to_numpy() for name in ("t", "copy", "z")]
    if others:
        columns.append(np.ones(len(data)))
    if others == "trt":
        columns.append((data.trt == "b").to_numpy(float))
    A = np.column_stack(columns)
    x = data.x.to_numpy()
    rest = x - A @ np.linalg.lstsq(A, x, rcond=None)[0]
    whole = x - x.mean() if others else x
    assert one.inflation == pytest.approx(whole @ whole / (rest @ rest), rel=1e-3)
    # of two columns with correlation r: sqrt{(1 + r) / (1 - r)}, 1 - r^2 the share left of one
    left = noise * (data.w - np.polyval(np.polyfit(data.x, data.w, 1), data.x)).std(ddof=0)
    assert one.condition == pytest.approx(2 * data.x.std(ddof=0) / left, rel=0.01)


def test_the_standard_errors_are_those_of_the_inflation() -> None:
    data = frame()
    data["copy"] = data.x + 1e-2 * data.w
    (one,) = found("x + copy", data)
    X = np.column_stack([np.ones(len(data)), data["x"], data["copy"]])
    both = np.linalg.inv(X.T @ X)[1, 1]
    alone = 1 / np.square(data.x - data.x.mean()).sum()
    assert one.inflation == pytest.approx(both / alone, rel=1e-6)


def test_two_dependences_are_two() -> None:
    data = frame()
    data["u"], data["v"] = data.x + 1e-4 * data.w, data.z + 1e-5 * data.y
    data["sum"] = data.t + data.w + 1e-6 * data.y
    sets = {one.names for one in found("x + z + u + v", data)}
    assert sets == {("x", "u"), ("z", "v")}
    for name in "abcde":
        data[name] = data.x + 1e-4 * np.random.default_rng(ord(name)).normal(size=len(data))
    (five,) = found("t + a + b + c + d + e", data)
    assert five.names == tuple("abcde")
    (three,) = found("x + t + w + sum", data)
    assert three.names == ("t", "w", "sum")


@pytest.mark.parametrize(
    "right",
    [
        "x + z + t + trt",
        "year + I(year**2)",
        "year * trt + x",
        "poly(year, 3) * trt",
        "I(x * 1e9) + z",
        "I(x + 1e6) + z + trt",
        "ns(t, 4) * trt + x",
        "x * z * year",
        "0 + trt + year",
        "0 + year",
        "big + z",
        "1",
    ],
)
def test_origins_units_powers_and_interactions_are_none(right: str) -> None:
    assert found(right, frame()) == []


def test_rows_without_an_outcome_do_not_count() -> None:
    data = frame()
    data["copy"] = np.where(data.t < 4, data.x + 1e-6 * data.w, data.w)
    assert found("x + copy", data) == []
    data.loc[data.t >= 4, "y"] = np.nan
    (one,) = found("x + copy", data)
    assert one.names == ("x", "copy")


def test_thresholds_are_a_constant() -> None:
    data = frame()
    data["later"], data["copy"] = data.year + 50 + data.z, data.x + 1e-6 * data.w
    formula = parse_formula("y ~ 0 + year + later + x + copy + (1 | id)")
    design = build_design(formula, data)
    far, near = collinear(design.fixed, design.observed)
    assert (far.names, near.names) == (("year", "later"), ("x", "copy"))  # both near a constant
    (one,) = collinear(design.fixed, design.observed, constant=True)
    assert one.names == ("x", "copy")


def test_the_note_names_the_columns() -> None:
    data = frame()
    data["copy"] = data.x + 1e-6 * data.w
    (note,) = build_design(parse_formula("y ~ x + copy + (1 | id)"), data).messages
    assert note.startswith("collinearity: `x`, `copy` nearly depend on each other")


def test_the_note_names_the_part() -> None:
    data = frame()
    data["copy"] = data.x + 1e-6 * data.w
    fit = mixed_model("y ~ x + (1 | id)", data, dispersion="~ z + copy", verbose=0)
    assert not any("collinearity" in message for message in fit.messages)
    fit = mixed_model("y ~ z + (1 | id)", data, dispersion="~ x + copy", verbose=0)
    assert any(m.startswith("dispersion= collinearity: `x`, `copy` ") for m in fit.messages)
