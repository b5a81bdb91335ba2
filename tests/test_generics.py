"""Every generic is the method of the same name as a function, for fits alone."""

from __future__ import annotations

import inspect
from pathlib import Path

import pandas as pd
import pytest
from conftest import data

import dgmm
from dgmm import Fit, generics


def test_arguments_reach_the_method(sleepstudy: Fit) -> None:
    ours = dgmm.confint(sleepstudy, 0.8, parm="Days")
    pd.testing.assert_frame_equal(ours, sleepstudy.confint(0.8, parm="Days"), check_exact=True)
    assert list(dgmm.var_corr(sleepstudy)["group"]) == ["Subject"] * 3 + ["Residual"]


def test_summary_update_and_save(sleepstudy: Fit, tmp_path: Path) -> None:
    assert str(dgmm.summary(sleepstudy)) == str(sleepstudy.summary())
    changed = dgmm.update(sleepstudy, data=data("sleepstudy"), method="reml")
    assert float(dgmm.loglik(changed)) == pytest.approx(-871.814136, abs=1e-5)
    dgmm.save(sleepstudy, tmp_path / "fit")
    assert dgmm.load(tmp_path / "fit").loglik() == sleepstudy.loglik()


def test_refit_and_bootstrap(sleepstudy: Fit) -> None:
    y = data("sleepstudy")["Reaction"]
    assert float(dgmm.refit(sleepstudy, y).loglik()) == float(sleepstudy.refit(y).loglik())
    ours, theirs = dgmm.bootstrap(sleepstudy, 2, seed=1), sleepstudy.bootstrap(2, seed=1)
    pd.testing.assert_frame_equal(ours.values, theirs.values, check_exact=True)


def test_every_method_has_its_function_and_every_function_its_method() -> None:
    methods = {
        name
        for name, member in inspect.getmembers(Fit, inspect.isfunction)
        if not name.startswith("_")
    }
    # these have no generic in R
    assert methods - set(generics.__all__) == {
        "boundary",
        "coefficients",
        "df",
        "held_covariates",
        "more",
        "posterior",  # the name of a room
    }
    assert set(generics.__all__) <= methods
    assert set(generics.__all__) <= set(dgmm.__all__)
    for name in generics.__all__:
        assert getattr(dgmm, name).__name__ == name
        function, method = getattr(dgmm, name), getattr(Fit, name)
        assert inspect.getdoc(function) == inspect.getdoc(method)
        assert inspect.signature(function) == inspect.signature(method)


@pytest.mark.parametrize("name", generics.__all__)
def test_anything_else_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=rf"{name}\(\) needs a fit from mixed_model\(\), not int"):
        getattr(generics, name)(3)


def test_a_frame_is_no_fit() -> None:
    # pandas has methods of these names, which must not answer
    for name in ("update", "predict", "vcov"):
        with pytest.raises(TypeError, match="needs a fit from mixed_model.*DataFrame"):
            getattr(generics, name)(pd.DataFrame({"a": [1]}))
