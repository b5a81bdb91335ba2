"""Tables of results: whole at 80 columns, a data frame in all else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import dgmm
from dgmm import Fit
from dgmm.runtime.result_table import Cells, ResultTable, numbers


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([10.467, 0.5], ["10.467", "0.500"]),
        ([251.405, 10.467], ["251.4", "10.5"]),
        ([1.0, 2.0], ["1", "2"]),
        ([np.nan, 0.25], ["NA", "0.25"]),
        ([1e8, 2.5], ["1.000e+08", "2.500e+00"]),
        ([1e-9, 1.0], ["0", "1"]),
        ([2.5e-3, -1e-4, 1000.25], ["2.5e-03", "-1.0e-04", "1000.25"]),
        ([23.781, 0.5], ["23.781", "0.500"]),
        ([0.0, np.inf], ["0", "inf"]),
    ],
)
def test_a_column_has_one_number_of_decimals(values: list[float], texts: list[str]) -> None:
    assert numbers(np.array(values)) == texts


def test_copies_keep_title_and_notes() -> None:
    table = ResultTable({"a": [1.5, 2.5], "b": ["x", "y"]}, title="Means", notes=["as they are"])
    for other in (table.loc[table["a"] > 2], table.rename(columns={"a": "c"}), table.round(1)):
        assert other.title == "Means"
        assert str(other).splitlines()[0] == "Means"
        assert str(other).splitlines()[-1] == "* as they are"
    assert "<p>Means</p>" in table._repr_html_()
    assert type(table["a"]) is pd.Series
    pd.testing.assert_frame_equal(
        pd.DataFrame(table), pd.DataFrame({"a": [1.5, 2.5], "b": list("xy")})
    )


def test_long_tables_show_their_ends_and_all_their_columns() -> None:
    table = ResultTable({f"column {j}": np.arange(100) + 0.5 for j in range(12)})
    lines = str(table).splitlines()
    assert lines[-1] == "100 rows, of which the first and last five are shown"
    assert max(map(len, lines)) <= 80
    assert all(f"column {j}" in str(table) for j in range(12))


def test_every_table_of_a_fit_is_whole(sleepstudy: Fit, epil: Fit) -> None:
    drawn = sleepstudy.bootstrap(3, seed=1)
    tables = {
        "coef": sleepstudy.coef(),
        "influence": epil.influence(),
        "coefficients": epil.coefficients(),
        "confint": epil.confint(),
        "var_corr": sleepstudy.var_corr(),
        "slopes": epil.slopes(),
        "contrast": epil.contrast({"trt": "progabide"}, {"trt": "placebo"}),
        "effects": epil.effects("lage"),
        "pool": dgmm.pool([epil, epil]),
        "tidy": epil.tidy(conf_int=True),
        "glance": epil.glance(),
    }
    for name, table in tables.items():
        text = str(table)
        assert max(map(len, text.splitlines())) <= 80, name
        assert not [column for column in table.columns if str(column) not in text], name
        assert "..." not in text, name
    text = str(drawn)
    assert text.startswith("Bootstrap: 3 replicates, 0 could not be fitted")
    assert "sd_(Intercept)|Subject" in text


def test_one_name_for_one_quantity(sleepstudy: Fit) -> None:
    names = list(sleepstudy.confint().index[2:])
    assert list(sleepstudy.var_corr().index) == names
    assert list(sleepstudy.tidy("ran_pars")["term"]) == names
    assert list(sleepstudy.bootstrap(2, seed=1).values.columns[2:]) == names
    assert names[0] == "sd_(Intercept)|Subject"


def test_cells_are_the_columns_of_their_frame() -> None:
    cells = Cells(["a", "b"], {"Estimate": np.array([1.5, 2.5]), "df": [3.0, 4.0]})
    frame = cells.frame()
    assert (len(cells), "df" in cells, "z value" in cells) == (2, True, False)
    pd.testing.assert_frame_equal(
        pd.DataFrame(frame),
        pd.DataFrame({"Estimate": [1.5, 2.5], "df": [3.0, 4.0]}, index=["a", "b"]),
    )
    np.testing.assert_array_equal(cells["Estimate"], frame["Estimate"])
    assert type(frame) is ResultTable
