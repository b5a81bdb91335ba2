"""What a fit remembers of its data, so that new data get the same columns; plain JSON, no code."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from dgmm.design.between import Between
from dgmm.design.estimable import Alias
from dgmm.design.expressions import ExpressionError, parse_expression
from dgmm.design.grouping import GroupingSpecification
from dgmm.design.variables import Variable
from dgmm.formula import (
    NETWORK,
    Formula,
    FormulaError,
    LatentTerm,
    Syntax,
    code_name,
    linear_terms,
    parse_formula,
    split_group,
    with_part,
)
from dgmm.transforms import State

_VERSION = 2
_KINDS = ("number", "boolean", "category")


@dataclass(frozen=True)
class Specification:
    """Formula, kinds and levels of the columns, states of the transforms, columns kept."""

    formula: str
    latent_words: dict[str, Syntax] = field(default_factory=dict)
    structures: dict[str, Syntax] = field(default_factory=dict)
    variables: tuple[Variable, ...] = ()
    groupings: tuple[GroupingSpecification, ...] = ()
    states: dict[str, State] = field(default_factory=dict)
    kept: dict[str, tuple[str, ...]] = field(default_factory=dict)
    response_levels: tuple[Any, ...] = ()
    ordered_response: bool = False  # its levels are numbered as ordered categories
    time_name: str | None = None
    weights: str | None = None
    offset: str | None = None
    parts: dict[str, str] = field(default_factory=dict)  # "zi", "dispersion"
    offset_array: bool = False  # the fit had an offset that no column of new data can supply
    aliases: dict[str, tuple[Alias, ...]] = field(default_factory=dict)  # of columns left out
    between: dict[str, Between] = field(default_factory=dict)  # of subjects, for cre()

    def parsed(self) -> Formula:
        """Return the formula, taken apart again."""
        formula = parse_formula(
            self.formula, latent_words=self.latent_words, structures=self.structures
        )
        for name, text in self.parts.items():
            formula = with_part(formula, name, text, self.structures)
        return formula

    def levels_of(self, name: str) -> tuple[Any, ...]:
        """The levels of a column of numbers that C() or factor() makes a category, else ()."""
        if not any(one.name == name and one.kind == "number" for one in self.variables):
            return ()
        for code, state in self.states.items():
            call = parse_expression(code)
            if "levels" in state and isinstance(call, ast.Call):
                column = call.args[0]
                if isinstance(column, ast.Name) and code_name(column.id) == name:
                    return tuple(float(x) if isinstance(x, str) else x for x in state["levels"])
        return ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types; floats survive exactly."""
        plain: dict[str, Any] = _plain({"version": _VERSION, **asdict(self)})
        return plain

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Specification:
        """Read what to_json() wrote; every part is checked, nothing in it is ever executed."""
        try:
            return _checked(cls, record)
        except FormulaError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise ValueError(f"this is not a specification of dgmm: {error}") from error


def block_texts(formula: Formula) -> Iterator[tuple[str, str, bool]]:
    """Yield (key, text, whether it is coded beside an intercept) of every block of columns."""
    yield "fixed", formula.fixed, False
    for k, network in enumerate(formula.networks):
        yield f"network {k}", network.inputs, True
    for k, latent in enumerate(formula.latents):
        yield f"latent {k}", latent.terms, False
        if latent.basis is not None:
            yield f"basis {k}", latent.basis, scaled(latent)
        if latent.given is not None:
            yield f"given {k}", latent.given.terms, True
    for part in formula.parts:
        yield part.name, part.fixed, False


def scaled(term: LatentTerm) -> bool:
    """Whether the basis of a random part is that of its standard deviation, by cre(scale=)."""
    return term.given is not None and term.given.scale is not None


def expressions(formula: Formula) -> Iterator[str]:
    """Yield every expression of the right-hand side, offsets included, in order."""
    for _, text, _ in block_texts(formula):
        yield from linear_terms(text).factors
    for term in formula.latents:
        if term.given is not None and term.given.time is not None:
            yield term.given.time
    yield from formula.offsets


def _checked(cls: type[Specification], record: dict[str, Any]) -> Specification:
    if record["version"] not in (1, _VERSION):
        raise ValueError(f"version {record['version']!r} is not {_VERSION}")
    spec = cls(
        formula=_text(record["formula"]),
        latent_words=_words(record["latent_words"]),
        structures=_words(record.get("structures", {})),
        variables=tuple(_variable(one) for one in record["variables"]),
        groupings=tuple(_grouping(one) for one in record["groupings"]),
        states={_text(key): _state(state) for key, state in record["states"].items()},
        kept={_text(k): tuple(map(_text, names)) for k, names in record["kept"].items()},
        response_levels=tuple(_label(level) for level in record["response_levels"]),
        ordered_response=bool(record.get("ordered_response")),
        time_name=_optional(record["time_name"]),
        weights=_optional(record["weights"]),
        offset=_optional(record["offset"]),
        parts={_text(k): _text(text) for k, text in record.get("parts", {}).items()},
        offset_array=bool(record["offset_array"]),
        aliases={
            _text(key): tuple(map(_alias, equations))
            for key, equations in record.get("aliases", {}).items()
        },
        between={_text(k): _between(one) for k, one in record.get("between", {}).items()},
    )
    formula = spec.parsed()
    for text in (*expressions(formula), *formula.response.parts):
        parse_expression(text)
    if [g.columns for g in spec.groupings] != [split_group(x.group) for x in formula.latents]:
        raise ExpressionError("its groups are not those of its formula")
    return spec


def _words(record: Any) -> dict[str, Syntax]:
    """The words left of a bar; version 1 had only names, of networks."""
    if isinstance(record, list):
        return {_text(word): NETWORK for word in record}
    return {_text(word): _syntax(one) for word, one in record.items()}


def _syntax(record: dict[str, Any]) -> Syntax:
    kinds = {
        _text(name): _text(kind) if isinstance(kind, str) else tuple(map(_text, kind))
        for name, kind in record["options"].items()
    }
    return Syntax(kinds, bool(record["neural"]), bool(record["serial"]))


def _variable(record: dict[str, Any]) -> Variable:
    if record["kind"] not in _KINDS:
        raise ValueError(f"a column cannot be of kind {record['kind']!r}")
    levels = tuple(_label(level) for level in record["levels"])
    return Variable(_text(record["name"]), record["kind"], levels, bool(record.get("ordered")))


def _grouping(record: dict[str, Any]) -> GroupingSpecification:
    return GroupingSpecification(
        _text(record["name"]),
        tuple(_text(name) for name in record["columns"]),
        tuple(tuple(_label(label) for label in labels) for labels in record["labels"]),
        tuple(tuple(int(code) for code in row) for row in record["combinations"]),
    )


def _alias(record: dict[str, Any]) -> Alias:
    weights = {_text(name): float(weight) for name, weight in record["weights"].items()}
    return Alias(_text(record["name"]), _text(record["term"]), weights, float(record["limit"]))


def _between(record: dict[str, Any]) -> Between:
    return Between(
        tuple(map(_text, record["names"])),
        tuple(map(int, record["sources"])),
        tuple(map(float, record["times"])),
        {_text(key): tuple(map(float, row)) for key, row in record["values"].items()},
        tuple(map(float, record["average"])),
    )


def _state(state: dict[str, Any]) -> State:
    return {_text(key): _data(value) for key, value in state.items()}


def _data(value: Any) -> Any:
    if isinstance(value, list):
        return [_data(one) for one in value]
    return value if value is None else _label(value)


def _label(value: Any) -> Any:
    if not isinstance(value, (str, int, float, bool)):
        raise TypeError(f"{type(value).__name__} where a number or text belongs")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where text belongs")
    return value


def _optional(value: Any) -> str | None:
    return None if value is None else _text(value)


def _plain(value: Any) -> Any:
    """Turn tuples into lists, as a JSON file would; NaN has no place in JSON."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} cannot be saved")
    return value


def left_out_words(formula: Formula, key: str, what: str, rank: int) -> str:
    """A sentence about the columns that a block loses because of others.

    what: the columns and their reasons; of the default basis of a network, whose columns nobody
        wrote, the sentence says what that means.
    rank: number of columns kept, without a constant one.
    """
    kind, _, number = key.partition(" ")
    if kind == "fixed":
        return f"dropped from the fixed terms: {what}"
    if not number:
        return f"dropped from the {kind}= formula: {what}"
    term = (formula.networks if kind == "network" else formula.latents)[int(number)]
    if kind == "basis" and formula.latents[int(number)].usual:
        time = formula.latents[int(number)].usual
        return (
            f"the curves of {term.text} are known at the values of `{time}` seen, and not between "
            f"them, for these are few: basis=ns({time}, {rank}) in dnn() knows them there, too"
        )
    return f"dropped from the {term.text}: {what}"
