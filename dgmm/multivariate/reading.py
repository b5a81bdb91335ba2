"""The words of a call for several outcomes: a call and a frame for each, and what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from dgmm.design import Layout, Table
from dgmm.families import Family
from dgmm.formula import (
    Formula,
    Several,
    named_parts,
    parse_formula,
    plain_name,
    without_loadings,
)
from dgmm.model import Model, Part
from dgmm.outcomes import Residual
from dgmm.outcomes.residual import MOST
from dgmm.plan import Call, latent_words, structures
from dgmm.record import Memory

PARAMETERS = ("zi", "oi", "dispersion")
"""Arguments that model a parameter of one family."""

__all__ = [
    "Reading",
    "check_seen",
    "columns_in_common",
    "outcome_name",
    "read_several",
    "residual_of",
]


@dataclass(frozen=True)
class Reading:
    """What a call for several outcomes says."""

    several: Several
    calls: tuple[Call, ...]  # one per outcome
    names: tuple[str, ...]
    group: str
    parts: tuple[tuple[Part, ...], ...]
    loads: tuple[tuple[int, str], ...]  # (outcome, name) of every load()
    layout: Layout


def read_several(several: Several, call: Call, families: Any, bounds: Any, outcome: Any) -> Reading:
    """The calls of all outcomes and their common random parts.

    call: with the options that all have in common.

    Raises:
        ValueError: families and formulas of different number, a name that stands in one outcome
            only, several grouping factors, or an option that is for one outcome.
    """
    if call.missing != "observed":
        raise ValueError(f"missing={call.missing!r} is for models of one outcome")
    if call.se == "bootstrap":
        raise ValueError("se='bootstrap' is for models of one outcome; use 'hessian' or 'sandwich'")
    count = len(several.formulas)
    kinds = _each(families, count, "family", "families")
    limits = [bounds] * count
    if isinstance(bounds, list):
        limits = _each(bounds, count, "bounds", "bounds")
    plain, loads = [], []
    for o, text in enumerate(several.formulas):
        rest, taken = without_loadings(text)
        plain.append(rest)
        loads += [(o, name) for name in taken]
    texts = _with_loaded_parts(plain, loads)
    parsed = [parse_formula(t, latent_words=latent_words(), structures=structures()) for t in texts]
    names = tuple(outcome_name(one) for one in parsed)
    _check_networks(parsed, names, loads, call.method)
    parts = _parts(parsed, names, loads)
    _check_names(parts, names)
    groups = {term.group for one in parsed for term in one.latents}
    if len(groups) != 1:
        listed = " and ".join(f"`{one}`" for one in sorted(groups)) or "none"
        raise ValueError(
            f"several outcomes have one grouping factor in common; the formulas have {listed}"
        )
    modelled: dict[str, list[Any]] = {
        one: _of_parameter(one, getattr(call, one), names) for one in PARAMETERS
    }
    calls = tuple(
        replace(
            call, formula=text, family=kind, bounds=limit,
            **{option: given[o] for option, given in modelled.items()},
        )
        for o, (text, kind, limit) in enumerate(zip(texts, kinds, limits, strict=True))
    )  # fmt: skip
    (group,) = groups
    return Reading(several, calls, names, group, parts, tuple(loads), _layout(outcome))


def _each(given: Any, count: int, word: str, plural: str) -> list[Any]:
    """One value for all outcomes, or one for each."""
    if not isinstance(given, list | tuple):
        return [given] * count
    if len(given) != count:
        raise ValueError(
            f"there are {count} formulas and {len(given)} {plural}: give one for each outcome, or "
            f"one {word}= for all"
        )
    for one in given:
        if word == "family" and not isinstance(one, str | Family):
            raise TypeError(f"family= holds words in quotes or Families, not {one!r}")
    return list(given)


def _of_parameter(option: str, given: Any, names: Sequence[str]) -> list[str | None]:
    """The formula of ``option=`` of every outcome, None without one."""
    if isinstance(given, Mapping):
        strange = [name for name in given if name not in names]
        if strange:
            raise ValueError(
                f"{option}= names the outcome {strange[0]!r}; there are {', '.join(names)}"
            )
        found = [given.get(name) for name in names]
    elif given is None or (isinstance(given, list | tuple) and len(given) == len(names)):
        found = [None] * len(names) if given is None else list(given)
    else:
        raise ValueError(
            f"{option}= of several outcomes is a mapping of their names to formulas, "
            f"{option}={{{names[0]!r}: '~ x'}}, or a list with a formula or None for each of the "
            f"{len(names)}, not {given!r}"
        )
    for name, one in zip(names, found, strict=True):
        if one is not None and not isinstance(one, str):
            raise TypeError(f"{option}= of `{name}` is a formula in quotes, not {one!r}")
        if one is not None and "|" in one:
            raise ValueError(
                f"{option}= of `{name}` has random effects, {one!r}, which joint models have in "
                f"the mean alone: take fixed terms in {option}=, or fit `{name}` by itself"
            )
    return found


def _layout(outcome: Any) -> Layout:
    if outcome is None:
        return Layout()
    if isinstance(outcome, str):
        return Layout(outcome, "value")
    if isinstance(outcome, tuple | list) and len(outcome) == 2:
        return Layout(*map(str, outcome))
    raise ValueError(
        "outcome= is the column that names the outcome of a row, the values then being in the "
        f"column `value`, or a pair of both columns, not {outcome!r}"
    )


def outcome_name(one: Formula) -> str:
    """The outcome of a formula: the column, or the text of an expression of columns."""
    text = one.response.text
    return plain_name(text) or text


def _with_loaded_parts(texts: Sequence[str], loads: Sequence[tuple[int, str]]) -> list[str]:
    """The formulas with the random part itself where it is loaded."""
    defined: dict[str, list[str]] = {}
    for text in texts:
        for name, part in named_parts(text):
            defined.setdefault(name, []).append(part)
    found = list(texts)
    for o, name in loads:
        if name not in defined:
            listed = ", ".join(defined) or "none"
            raise ValueError(
                f"load({name}) has no random part to take: no outcome has (... |{name}| group); "
                f"names given: {listed}"
            )
        if len(defined[name]) > 1:
            raise ValueError(
                f"load({name}) takes the random part of one outcome, and {len(defined[name])} have "
                f"(... |{name}| group)"
            )
        found[o] = f"{found[o]} + {defined[name][0]}"
    return found


def _parts(
    parsed: Sequence[Formula], names: Sequence[str], loads: Sequence[tuple[int, str]]
) -> tuple[tuple[Part, ...], ...]:
    """The random parts of the joint model, those of one name together, in the order of join()."""
    found: dict[Any, list[Part]] = {}
    for o, one in enumerate(parsed):
        for i, term in enumerate(one.latents):
            key = term.shared or (o, i)
            if any(part.outcome == o for part in found.get(key, [])):
                raise ValueError(f"the name `{key}` stands twice in the formula of `{names[o]}`")
            loaded = (o, term.shared) in loads
            found.setdefault(key, []).append(Part(o, i, term.shared, loaded))

    def place(one: Part) -> tuple[bool, bool]:
        return one.loaded, not parsed[one.outcome].latents[one.latent].syntax.neural

    return tuple(tuple(sorted(own, key=place)) for own in found.values())


def _check_networks(
    parsed: Sequence[Formula],
    names: Sequence[str],
    loads: Sequence[tuple[int, str]],
    method: str,
) -> None:
    """A network is not loaded, and has no restricted likelihood; it alone has an encoder."""
    deep = any(one.networks or any(t.syntax.neural for t in one.latents) for one in parsed)
    known = ("auto", "ml", "vae" if deep else "reml", "reml")
    if method not in known:
        listed = " or ".join(repr(word) for word in dict.fromkeys(known[1:]))
        raise ValueError(f"method={method!r} is for models of one outcome; use {listed}")
    for one, outcome in zip(parsed, names, strict=True):
        if method == "reml" and (one.networks or any(t.syntax.neural for t in one.latents)):
            raise ValueError(
                f"method='reml' is for models without dnn(), and `{outcome}` has one; leave "
                "method='auto'"
            )
        for term in one.latents:
            if term.syntax.neural and any(name == term.shared for _, name in loads):
                raise ValueError(
                    f"load({term.shared}) takes a linear random part, and {term.text} has a "
                    f"network: write (dnn(..., latent=k) |{term.shared}| group) in both outcomes, "
                    "which then share its effects by networks of their own"
                )


def _check_names(parts: Sequence[Sequence[Part]], names: Sequence[str]) -> None:
    for own in parts:
        if len(own) == 1 and own[0].name:
            name = own[0].name
            raise ValueError(
                f"the random part |{name}| stands in one outcome only, `{names[own[0].outcome]}`: "
                "a name joins the parts of several outcomes. Use it in another formula too, or "
                "write (terms | group)"
            )


def check_seen(frames: Sequence[Any], names: Sequence[str]) -> None:
    """Refuse an outcome that nobody was ever asked, where it is a column."""
    for frame, name in zip(frames, names, strict=True):
        table = Table.of(frame)
        if name in table.names and bool(pd.isna(table.series(name)).all()):
            raise ValueError(
                f"the outcome `{name}` was never observed: all its values are missing; leave it out"
            )


def columns_in_common(
    several: Several, names: Sequence[str], memories: Sequence[Memory], models: Sequence[Model]
) -> list[dict[int, int]]:
    """Of every coefficient in common its outcomes, each with the column there.

    Raises:
        ValueError: an outcome that is none, a term that its formula does not have or that stands in
            one formula only, or one whose columns differ between the outcomes.
    """
    found: list[dict[int, int]] = []
    for term, given in several.shared:
        columns = {
            name: {
                model.names[j]: j
                for j, one in enumerate(memory.terms)
                if set(one.split(":")) == set(term.split(":"))
            }
            for name, memory, model in zip(names, memories, models, strict=True)
        }
        for name in given:
            if name not in columns:
                raise ValueError(
                    f"shared= names the outcome {name!r}; there are {', '.join(names)}"
                )
        chosen = list(given) or [name for name in names if columns[name]]
        if len(given) == 1:
            raise ValueError(
                f"shared= names one outcome for `{term}`, `{given[0]}`; coefficients in common "
                "need two"
            )
        without = [name for name in chosen if not columns[name]]
        if without or len(chosen) < 2:
            has = [name for name in names if columns[name]]
            listed = "that of " + " and ".join(f"`{name}`" for name in has) if has else "none"
            raise ValueError(
                f"shared= gives `{term}` one coefficient in several outcomes, and of the formulas "
                f"{listed} has this term"
            )
        first = columns[chosen[0]]
        for name in chosen[1:]:
            if list(columns[name]) != list(first):
                raise ValueError(
                    f"shared= gives `{term}` the same coefficients in several outcomes, and it has "
                    f"the columns {', '.join(first)} in `{chosen[0]}` and "
                    f"{', '.join(columns[name])} in `{name}`"
                )
        found += [{names.index(name): columns[name][column] for name in chosen} for column in first]
    return found


def residual_of(several: Several, layout: Layout, model: Model) -> Residual | None:
    """Which outcomes of a joint model have correlated residuals.

    Raises:
        ValueError: fewer than two Gaussian outcomes, too many, or a frame in which no two outcomes
            stand on one row.
    """
    if not several.rescor:
        return None
    own = {one.name: one.family.conjugate and one.family.noise for one in model.outcomes}
    chosen = [name for name, able in own.items() if able]
    if not isinstance(several.rescor, bool):
        chosen = list(several.rescor)
        for name in chosen:
            if not own.get(name, False):
                able = ", ".join(f"`{one}`" for one, can in own.items() if can) or "none"
                raise ValueError(
                    f"rescor= correlates residuals of Gaussian outcomes with identity link, and "
                    f"names `{name}`; such outcomes are {able}"
                )
    if not 2 <= len(chosen) <= MOST:
        raise ValueError(
            "rescor= correlates the residuals of two to eight Gaussian outcomes with identity "
            f"link; there are {len(chosen)}"
        )
    if layout.item:
        raise ValueError(
            "rescor= is about outcomes on the same row: give a frame with a column per outcome, in "
            f"which `{layout.item}` has been spread, and leave outcome= out"
        )
    return Residual(tuple(chosen))
