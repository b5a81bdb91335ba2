"""Evaluate `log(x)`, `ns(time, 4)`, `I(age ** 2)` on columns, by walking the syntax tree.

Nothing is ever handed to Python's eval: only the node types below are understood, only the names
in FUNCTIONS are called, and a dotted name (`alk.phos`) is one R name, never an attribute.  A
formula from a stranger's file can therefore do no more than arithmetic.
"""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dgmm.design.from_r import hint_for
from dgmm.formula import SpellingError, code_name, code_text, read_code
from dgmm.runtime.listing import listed
from dgmm.runtime.registry import misnamed
from dgmm.transforms import FUNCTIONS, Contrast, Factor, State, Stateful

_BINARY: dict[type[ast.operator], Any] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.true_divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
    ast.BitAnd: np.logical_and,
    ast.BitOr: np.logical_or,
}
_UNARY: dict[type[ast.unaryop], Any] = {
    ast.USub: np.negative,
    ast.UAdd: np.positive,
    ast.Not: np.logical_not,
    ast.Invert: np.logical_not,
}
_COMPARE: dict[type[ast.cmpop], Any] = {
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}


class ExpressionError(ValueError):
    """An expression that cannot be evaluated; `name` is the word in the formula to point at."""

    def __init__(self, message: str, name: str | None = None):
        self.name = name
        super().__init__(message)


@functools.lru_cache(maxsize=512)
def parse_expression(text: str) -> ast.expr:
    """Return the syntax tree of one expression after checking every node of it."""
    try:
        tree = read_code(text)
    except SpellingError as error:
        raise ExpressionError(str(error)) from error
    _check(tree, text)
    return tree


def _check(node: ast.expr, text: str) -> None:
    """Walk the tree as the evaluation will, and refuse everything it does not know."""
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None):
            children: list[ast.expr] = []
        case ast.Name():
            children = []
        case ast.UnaryOp(operand=operand):
            children = [operand]
        case ast.BinOp(left=left, op=op, right=right):
            if isinstance(op, ast.BitXor):
                raise ExpressionError(f"`{text}`: write a power as x**2, not x^2, inside a call")
            if type(op) not in _BINARY:
                raise ExpressionError(f"`{text}`: this operator is not known in a formula")
            children = [left, right]
        case ast.Compare(left=left, ops=ops, comparators=others):
            if not all(type(op) in _COMPARE for op in ops):
                raise ExpressionError(f"`{text}`: only == != < <= > >= compare in a formula")
            children = [left, *others]
        case ast.Tuple(elts=children) | ast.List(elts=children):
            pass
        case ast.Call(func=function, args=arguments, keywords=keywords):
            _check_call(_called(function, text), keywords, text)
            children = [*arguments, *(keyword.value for keyword in keywords)]
        case _:
            raise ExpressionError(
                f"`{text}`: a formula knows columns, numbers, arithmetic, comparisons and the "
                f"functions {', '.join(FUNCTIONS)}, nothing else of Python"
            )
    for child in children:
        _check(child, text)


def _check_call(name: str, keywords: list[ast.keyword], text: str) -> None:
    if name not in FUNCTIONS or not callable(FUNCTIONS[name]):
        near = difflib.get_close_matches(name, FUNCTIONS, 1)
        hint = hint_for(name) or (f"Did you mean {near[0]}()? " if near else "") + (
            "A formula may call "
            + ", ".join(key for key, value in FUNCTIONS.items() if callable(value))
            + "; networks are dnn(...) terms of their own"
        )
        raise ExpressionError(f"`{text}`: there is no function {name}(). {hint}", name)
    if any(keyword.arg is None for keyword in keywords):
        raise ExpressionError(f"`{text}`: ** arguments are not known in a formula")


def _called(node: ast.expr, text: str) -> str:
    """Return the name of a function."""
    if isinstance(node, ast.Name):
        return code_name(node.id)
    raise ExpressionError(f"`{text}`: only names of columns and functions may stand here")


def names_of(text: str, columns: Collection[str]) -> tuple[str, ...]:
    """Return the columns an expression reads, in order; a column wins over `pi`."""
    found: dict[str, None] = {}
    _collect(parse_expression(text), found)
    read = tuple(name for name in found if name in columns or not _is_constant(name))
    for name in read:
        if name not in columns:
            raise unknown_column(name, columns, text)
    return read


def _collect(node: ast.AST, found: dict[str, None]) -> None:
    if isinstance(node, ast.Name):
        found[code_name(node.id)] = None
        return
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.Call) and child is node.func):
            _collect(child, found)


def _is_constant(name: str) -> bool:
    return isinstance(FUNCTIONS.get(name), (float, Contrast))


def unknown_column(name: str, columns: Collection[str], text: str = "") -> ExpressionError:
    """Return the error for a name that no column bears, with the nearest one."""
    where = f" (in `{text}`)" if text not in ("", name) else ""
    if name in FUNCTIONS:
        return ExpressionError(f"`{name}` is a function: write {name}(...){where}", name)
    near = difflib.get_close_matches(name, map(str, columns), 1, 0.5)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    hint = f" {hint_for(name)}" if hint_for(name) else hint
    message = f"there is no column `{name}`{where}.{hint} The columns are: {listed(columns, 30)}"
    return ExpressionError(message, name)


@dataclass
class Evaluator:
    """Columns plus the states of the transforms: learnt at the fit, reused for new rows."""

    columns: Mapping[str, np.ndarray | Factor]
    states: dict[str, State] = field(default_factory=dict)
    learning: bool = True
    source: Callable[[str, Any, bool], Any] | None = None
    """What a transform learns from in place of its argument: of its text and value, by levels."""
    _known: dict[str, Any] = field(default_factory=dict, repr=False)

    def value(self, text: str) -> Any:
        """Evaluate one expression to an array (N,) or (N, k), a Factor, or a number."""
        if text not in self._known:
            self._known[text] = self._evaluated(text)
        return self._known[text]

    def _evaluated(self, text: str) -> Any:
        try:
            with np.errstate(all="ignore"):
                return self._walk(parse_expression(text))
        except ExpressionError:
            raise
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            raise ExpressionError(f"`{text}`: {error}") from error

    def _walk(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self._lookup(code_name(name))
            case ast.UnaryOp(op=op, operand=operand):
                return _number(_UNARY[type(op)](_numeric(self._walk(operand))))
            case ast.BinOp(left=left, op=op, right=right):
                function = _BINARY[type(op)]
                return _number(function(_numeric(self._walk(left)), _numeric(self._walk(right))))
            case ast.Compare():
                return self._compare(node)
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                return tuple(self._walk(element) for element in elements)
            case ast.Call():
                return self._call(node)
        raise ExpressionError(f"`{ast.unparse(node)}` has no meaning in a formula")

    def _lookup(self, name: str) -> Any:
        if name in self.columns:
            return self.columns[name]
        if _is_constant(name):
            return FUNCTIONS[name]
        raise unknown_column(name, self.columns)

    def _compare(self, node: ast.Compare) -> np.ndarray:
        sides = [self._walk(side) for side in (node.left, *node.comparators)]
        result: Any = True
        for left, op, right in zip(sides, node.ops, sides[1:], strict=False):
            result = result & _COMPARE[type(op)](*_comparable(left, right))
        return np.asarray(result)

    def _call(self, node: ast.Call) -> Any:
        function = FUNCTIONS[_called(node.func, "")]
        arguments = [self._walk(argument) for argument in node.args]
        options = {code_name(str(k.arg)): self._walk(k.value) for k in node.keywords}
        _check_arguments(_called(node.func, ""), function, arguments, options)
        if isinstance(function, Stateful):
            return self._stateful(node, function, arguments, options)
        if not isinstance(function, Contrast) and function is not FUNCTIONS["I"]:
            arguments = [_numeric(argument) for argument in arguments]
        return function(*arguments, **options)

    def _stateful(
        self, node: ast.Call, function: Stateful, arguments: list[Any], options: dict[str, Any]
    ) -> Any:
        key = code_text(node)
        if self.learning and key not in self.states:
            first, *others = arguments
            if self.source is not None:
                first = self.source(code_text(node.args[0]), first, function.by_levels)
            self.states[key] = function.fit(first, *others, **options)
        if key not in self.states:
            raise ExpressionError(f"`{key}` was not among the terms of the fit")
        return function.apply(arguments[0], self.states[key])


def _check_arguments(
    name: str, function: Any, arguments: list[Any], options: dict[str, Any]
) -> None:
    """Refuse a call that the function cannot take, with its arguments by name."""
    learnt = isinstance(function, Stateful)
    signature = inspect.signature(function.fit if learnt else function)
    known = list(signature.parameters)
    if learnt and not arguments:
        raise ExpressionError(f"{name}() needs a column first, as in {name}(x)")
    for option in options:
        if option not in known:
            raise ExpressionError(f"{name}() has no option {misnamed(option, known[1:])}")
    try:
        signature.bind(*arguments, **options)
    except TypeError as error:
        raise ExpressionError(f"{name}({', '.join(known)}): {error}") from error


def _numeric(value: Any) -> Any:
    if isinstance(value, Factor):
        levels = ", ".join(map(str, value.levels[:4]))
        raise ExpressionError(
            f"arithmetic needs numbers, and a column here is categorical (levels {levels}, ...)"
        )
    if isinstance(value, (str, tuple, type(None), Contrast)):
        raise ExpressionError(f"arithmetic needs numbers, not {value!r}")
    return np.asarray(value, dtype=float) if np.asarray(value).dtype != bool else value


def _number(value: Any) -> Any:
    """Return scalars as plain numbers, whole ones as int, so that ns(x, 2 + 1) has df 3."""
    array = np.asarray(value)
    if array.ndim or array.dtype == bool:
        return array
    return int(array) if float(array).is_integer() and abs(array) < 2**53 else float(array)


def _comparable(left: Any, right: Any) -> tuple[Any, Any]:
    sides = [
        np.array([str(level) for level in side.levels])[side.codes]
        if isinstance(side, Factor)
        else side
        for side in (left, right)
    ]
    if any(isinstance(side, Factor) for side in (left, right)):
        sides = [s if isinstance(s, np.ndarray) and s.dtype.kind == "U" else str(s) for s in sides]
    return sides[0], sides[1]
