"""The gate between a user and the package: what nobody foresaw becomes a sentence, too.

An error is foreseen when a `raise` of this package made it, and then it passes as it is. So do
those of the machine (memory, files), of missing packages, warnings made errors, interrupts, and
whatever comes out of a user's own code, a family for example. Any other exception of numpy, torch,
pandas or Python itself is a fault of the package.
"""

from __future__ import annotations

import dis
import inspect
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from numbers import Integral, Real
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, ParamSpec, TypeVar

import numpy as np

from dgmm.runtime.listing import shortened
from dgmm.runtime.registry import misnamed

__all__ = ["UnforeseenError", "gate", "gate_methods", "is_number", "is_whole", "keep_origin"]

PACKAGE = __name__.partition(".")[0]
LIBRARIES = (sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["platstdlib"], "<")
INSTALLED = {"site-packages", "dist-packages"}
"""Where the code of Python itself stands, and folders of what is installed."""

SIGNALS = (AssertionError, ArithmeticError, np.linalg.LinAlgError, StopIteration)
"""Exceptions that the package raises for itself: outside, nobody caught them."""

PASSING = (MemoryError, OSError, ImportError, Warning)
KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "str": (lambda value: isinstance(value, str), "a word in quotes"),
    "int": (lambda value: is_whole(value), "a whole number"),
    "float": (lambda value: is_number(value), "a number"),
    "bool": (lambda value: _is_truth(value), "True or False"),
    "Sequence[str]": (lambda value: _is_list(value), "a list of names"),
    "Mapping[str, Any]": (lambda value: isinstance(value, Mapping), "a dict"),
    "None": (lambda value: value is None, "None"),
}
"""Kinds of values by their annotation, and their names in an error."""

_RAISE = dis.opmap["RAISE_VARARGS"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Class = TypeVar("Class", bound=type)


class UnforeseenError(RuntimeError):
    """An error inside the package that none of its checks foresaw; its cause is the original."""


def gate(
    function: Callable[Arguments, Result], instead: Mapping[str, str] | None = None
) -> Callable[Arguments, Result]:
    """Return the function with its errors made sentences.

    Args:
        function: an entry point.
        instead: arguments of other packages and what to write for them here.

    Raises:
        TypeError: arguments that the function does not have, with the nearest that it has; words
            where numbers belong, by the annotations of the function.
        UnforeseenError: an exception that is not foreseen; names the model, asks for a report.
    """
    signature = inspect.signature(function)
    kinds = {name: _kinds(one.annotation) for name, one in signature.parameters.items()}

    @wraps(function)
    def entry(*args: Arguments.args, **options: Arguments.kwargs) -> Result:
        try:
            bound = signature.bind(*args, **options)
        except TypeError as error:
            words = _misfit(function.__name__, signature, options, instead or {}, str(error))
            raise TypeError(words) from None
        for name, value in bound.arguments.items():
            if kinds[name]:
                bound.arguments[name] = _of_kind(value, kinds[name], name, function.__name__)
        try:
            return function(*bound.args, **bound.kwargs)
        except Exception as error:
            if _is_foreseen(error):
                raise
            model = _model(bound.arguments)
            raise UnforeseenError(
                f"{function.__name__}() {f'of `{model}` ' if model else ''}failed with "
                f"{_named(error)}. No check foresaw this: it is a fault of {PACKAGE}. Please "
                "report it with this message and, if you can, a few rows of data that give it"
            ) from error

    return entry


def gate_methods(cls: Class, instead: Mapping[str, str] | None = None) -> Class:
    """Put every public method of a class behind the gate."""
    for name in dir(cls):
        method = getattr(cls, name)
        if not name.startswith("_") and inspect.isfunction(method):
            setattr(cls, name, gate(method, instead))
    return cls


def keep_origin(error: Exception) -> None:
    """Note on an error whether it is foreseen, before it leaves the process that it arose in."""
    error.__dict__["foreseen"] = _is_foreseen(error)


def _of_kind(value: Any, kinds: tuple[str, ...], name: str, function: str) -> Any:
    """The value, a number of numpy as a plain one; or an error when it is of no such kind."""
    if not any(KINDS[kind][0](value) for kind in kinds):
        wanted = " or ".join(KINDS[kind][1] for kind in kinds)
        raise TypeError(f"{name}= of {function}() is {wanted}, not {shortened(value)}")
    return value.item() if isinstance(value, np.generic) else value


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number, of Python or numpy; True and False are none."""
    return isinstance(value, Integral) and not _is_truth(value)


def is_number(value: Any) -> bool:
    """Return whether a value is a real number, of Python or numpy; True and False are none."""
    return isinstance(value, Real) and not _is_truth(value)


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def _is_list(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def _kinds(annotation: Any) -> tuple[str, ...]:
    """The kinds of an annotation like "int | None", () where it has others."""
    kinds = tuple(str(annotation).split(" | "))
    return kinds if all(kind in KINDS for kind in kinds) else ()


def _is_foreseen(error: Exception) -> bool:
    noted = error.__dict__.get("foreseen")
    if noted is not None:
        return bool(noted)
    if isinstance(error, (UnforeseenError, *PASSING)):
        return True
    last: TracebackType | None = error.__traceback__
    inside = False
    while last is not None:
        here = _is_ours(last.tb_frame)
        inside = inside or here
        if inside and not here and not _is_library(last.tb_frame):
            return True  # the user's own code, called back
        if last.tb_next is None:
            break
        last = last.tb_next
    if last is None or isinstance(error, SIGNALS) or not _is_ours(last.tb_frame):
        return False
    return last.tb_frame.f_code.co_code[last.tb_lasti] == _RAISE


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == PACKAGE


def _is_library(frame: FrameType) -> bool:
    if frame.f_globals.get("__name__") == "__main__":
        return False
    file = frame.f_code.co_filename
    return file.startswith(LIBRARIES) or not INSTALLED.isdisjoint(Path(file).parts)


def _model(arguments: Mapping[str, Any]) -> str:
    """The formula among the arguments, or that of a fit among them."""
    for value in arguments.values():
        formula = getattr(value, "formula", value)
        if isinstance(formula, str) and "~" in formula:
            return formula
    return ""


def _named(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    said = str(error).partition("\n")[0].rstrip(". ")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _misfit(
    name: str,
    signature: inspect.Signature,
    options: Mapping[str, Any],
    instead: Mapping[str, str],
    fault: str,
) -> str:
    """Say which argument a function does not have, and which one is meant."""
    known = [one for one in signature.parameters if one not in ("self", "fit")]
    for option in options:
        if option not in signature.parameters:
            return f"{name}() has no argument {misnamed(option, known, instead)}"
    return f"{name}({', '.join(known)}): {fault}"
