"""What nobody foresaw becomes a sentence that names the model; what was said passes as it is."""

from __future__ import annotations

import inspect
import pickle
import warnings
from types import FunctionType
from typing import Any

import numpy as np
import pandas as pd
import pytest

import dgmm
from dgmm import plots
from dgmm.runtime.gate import UnforeseenError, gate, keep_origin

INSIDE = """
import math
import warnings
import numpy as np

def own(formula): raise ValueError("the outcome is constant")
def passed_on(formula):
    try:
        {}["x"]
    except KeyError as error:
        raise ValueError("no column x") from error
def domain(formula): return math.log(-1.0)
def key(formula): return {}["missing"]
def singular(formula, *_): return np.linalg.inv(np.zeros((2, 2)))
def conversion(formula): return float("a")
def signal(formula): raise FloatingPointError("the modes are not found")
def asserted(formula): assert formula == ""
def deep(formula): return deep(formula)
def memory(formula): raise MemoryError
def interrupted(formula): raise KeyboardInterrupt
def absent(formula): open("/nowhere/at/all")
def warned(formula): warnings.warn("look")
def called_back(formula): return formula()
"""


def inside(name: str) -> Any:
    """A function that could stand in the package."""
    space: dict[str, Any] = {"__name__": "dgmm.somewhere"}
    exec(compile(INSIDE, "somewhere.py", "exec"), space)
    return gate(space[name])


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("domain", "ValueError: math domain error"),
        ("key", "KeyError: 'missing'"),
        ("singular", "LinAlgError: Singular matrix"),
        ("conversion", "ValueError: could not convert string to float: 'a'"),
        ("asserted", "AssertionError"),
        ("signal", "FloatingPointError: the modes are not found"),
        ("deep", "RecursionError: maximum recursion depth exceeded"),
    ],
)
def test_what_nobody_foresaw_names_the_model_and_asks_for_a_report(name: str, cause: str) -> None:
    with pytest.raises(UnforeseenError) as caught:
        inside(name)("y ~ x + (1 | id)")
    message = str(caught.value)
    assert message.startswith(f"{name}() of `y ~ x + (1 | id)` failed with ")
    assert cause in message
    assert "Please report it" in message
    assert type(caught.value.__cause__).__name__ == cause.partition(":")[0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("own", ValueError),
        ("passed_on", ValueError),
        ("memory", MemoryError),
        ("interrupted", KeyboardInterrupt),
        ("absent", FileNotFoundError),
        ("warned", UserWarning),
    ],
)
def test_what_was_said_passes_as_it_is(name: str, kind: type[BaseException]) -> None:
    with warnings.catch_warnings(), pytest.raises(kind) as caught:
        warnings.simplefilter("error")
        inside(name)("y ~ x")
    assert type(caught.value) is kind


def test_the_users_own_code_speaks_for_itself() -> None:
    with pytest.raises(ZeroDivisionError):
        inside("called_back")(lambda: 1 / 0)


def test_an_error_of_a_worker_keeps_its_origin() -> None:
    for name, foreseen in [("own", True), ("domain", False)]:
        try:
            inside(name).__wrapped__("y ~ x")
        except ValueError as error:
            keep_origin(error)
            sent = pickle.loads(pickle.dumps(error))  # as processes hand it on: no traceback
        assert sent.foreseen is foreseen


def test_an_argument_that_is_not_there_is_named() -> None:
    data = dgmm.datasets.load("sleepstudy")
    for options, message in [
        ({"REML": True}, r"has no argument REML=; write method='reml' or method='ml'\."),
        ({"famly": "poisson"}, r"no argument famly=; did you mean family=\?"),
        ({"nAGQ": 9}, "no argument nAGQ=; write likelihood='quadrature'"),
        ({"zzz": 1}, r"no argument zzz=\. It has formula, data, family"),
    ]:
        with pytest.raises(TypeError, match=message):
            dgmm.mixed_model("Reaction ~ Days + (1 | Subject)", data, **options)
    with pytest.raises(TypeError, match="missing a required argument: 'data'"):
        dgmm.mixed_model("y ~ x")  # type: ignore[call-arg]


def test_arguments_of_a_method(sleepstudy: dgmm.Fit) -> None:
    with pytest.raises(ValueError, match=r"did you mean scale='response'\?"):
        sleepstudy.predict(type="response")
    with pytest.raises(TypeError, match=r"no argument re\.form=; write type='subject'"):
        dgmm.predict(sleepstudy, **{"re.form": None})
    words = r"no argument REML=; write method='reml' or method='ml'\. It has form"
    with pytest.raises(TypeError, match=words):
        sleepstudy.update(REML=True)
    assert list(inspect.signature(dgmm.Fit.predict).parameters)[1] == "newdata"


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("confint", {"level": "95%"}, r"level= of confint\(\) is a number, not '95%'"),
        ("effects", {"covariates": 3}, "covariates= of .* is a word in quotes or a list of names"),
        ("predict", {"seed": 1.5}, "seed= of .* is a whole number or None, not 1.5"),
        ("contrast", {"one": [("Days", 1)], "other": {}}, "one= of .* is a dict, not"),
        ("simulate", {"seed": 1, "condition_on_data": 1}, "condition_on_data= .* is True or False"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_the_annotation(
    method: str, options: dict[str, Any], message: str, sleepstudy: dgmm.Fit
) -> None:
    with pytest.raises(TypeError, match=message):
        getattr(sleepstudy, method)(**options)
    assert len(sleepstudy.simulate(np.int64(2), seed=np.int32(1)).columns) == 2
    assert len(sleepstudy.effects(("Days",), grid=3, level=np.float32(0.9))) == 3


def test_every_entry_is_behind_the_gate() -> None:
    public = [getattr(dgmm, name) for name in dgmm.__all__]
    drawn = [getattr(plots, name) for name in plots.__all__]
    functions = [one for one in (*public, *drawn) if isinstance(one, FunctionType)]
    methods = [getattr(dgmm.Fit, name) for name in dir(dgmm.Fit) if not name.startswith("_")]
    functions += [one for one in methods if isinstance(one, FunctionType)]
    assert len(functions) > 80
    assert [one.__name__ for one in functions if not hasattr(one, "__wrapped__")] == []


def test_a_fault_inside_a_fit_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dgmm.fit.make_request", inside("singular").__wrapped__)
    data = pd.DataFrame({"id": [1, 1, 2, 2, 3, 3], "y": [1.0, 2.0, 4.0, 3.0, 5.0, 5.5]})
    with pytest.raises(UnforeseenError, match=r"mixed_model\(\) of `y ~ 1 \+ \(1 \| id\)` failed"):
        dgmm.mixed_model("y ~ 1 + (1 | id)", data, verbose=0)
