"""The package shows its public names and loads a library only when a name needs it."""

from __future__ import annotations

import importlib
import json
import pickle
import pkgutil
import subprocess
import sys

import pytest

import dgmm

HEAVY = ("torch", "formulaic", "statsmodels", "matplotlib", "scipy.stats", "gpboost", "mixedlm")


def loaded(script: str, names: tuple[str, ...] = HEAVY) -> list[str]:
    """The modules among ``names`` that a fresh process has loaded after ``script``."""
    ask = f"\nimport json, sys; print(json.dumps([n for n in {names!r} if n in sys.modules]))"
    call = [sys.executable, "-c", script + ask]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


def test_import_alone_loads_no_library() -> None:
    assert loaded("import dgmm", (*HEAVY, "pandas", "numpy")) == []


def test_data_and_the_error_of_a_formula_need_no_torch() -> None:
    assert loaded("import dgmm; dgmm.datasets.load('sleepstudy')") == []
    assert loaded("import dgmm; dgmm.FormulaError") == []


def test_a_fit_and_its_plots_wait_for_what_they_do_not_use() -> None:
    script = "import dgmm; dgmm.mixed_model, dgmm.summary, dgmm.plots.plot_effects"
    assert loaded(script, (*HEAVY, "torch._dynamo")) == ["torch"]


def test_dir_shows_the_public_names_and_no_other() -> None:
    assert dir(dgmm) == sorted(dgmm.__all__)
    importlib.import_module("dgmm.mcmc")  # sets an attribute of the package
    assert "mcmc" not in dir(dgmm)


def test_every_public_name_leads_somewhere_and_none_hides_a_module() -> None:
    modules = {module.name for module in pkgutil.iter_modules(dgmm.__path__)}
    for name in dgmm.__all__:
        thing = getattr(dgmm, name)
        if name in modules:
            assert thing is sys.modules[f"dgmm.{name}"]
        else:
            assert thing.__name__ == name
    exec("from dgmm import *", names := {})
    assert set(dgmm.__all__) <= set(names)


def test_public_functions_and_classes_pickle_by_name() -> None:
    for thing in (dgmm.mixed_model, dgmm.Fit, dgmm.FormulaError, dgmm.families.Family):
        assert pickle.loads(pickle.dumps(thing)) is thing
    assert dgmm.Family is dgmm.families.Family


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'dgmm' has no attribute 'glmer'"):
        _ = dgmm.glmer  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="glmer"):
        exec("from dgmm import glmer")
