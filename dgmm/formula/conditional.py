"""The right of a bar: `id`, `school/class`, `a:b`, and `cre(id, ~ x)`, correlated random effects.

`cre(id, ~ x1 + dnn(x1, x2), device="chamberlain", time=year, scale=~ z)` names what the mean of the
random intercept of a subject depends on; a network brings its linear terms with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dgmm.formula.algebra import linear_terms
from dgmm.formula.grammar import (
    Piece,
    Summand,
    called,
    calls_within,
    name_text,
    plain_name,
    split,
    summands,
)
from dgmm.formula.networks import read_network
from dgmm.formula.options import latent_options, split_arguments
from dgmm.formula.syntax import Syntax
from dgmm.formula.terms import (
    Given,
    LatentTerm,
    NetworkTerm,
    check_algebra,
    check_linear,
    join_terms,
    plain_sum,
)

__all__ = ["Group", "given_to", "read_groups", "with_given"]

WORD = "cre"
DEVICES = ("mundlak", "chamberlain")
SYNTAX = Syntax({"device": DEVICES, "time": "terms", "scale": "terms"})
EXAMPLE = "as in (1 | cre(id, ~ x1 + x2))"


@dataclass(frozen=True)
class Group:
    """A grouping factor, and what its random effects are given."""

    name: str
    given: Given | None = None


def read_groups(right: Piece) -> list[Group]:
    """Expand `a/b` to a and a:b, `a + b` to a and b; take `cre(a, ~ x)` as it is."""
    groups: list[Group] = []
    for _, part in split(right, "+"):
        call = called(part)
        if call is not None and call[0] == WORD:
            groups.append(_conditional(part, call[1]))
            continue
        if calls_within(part, WORD):
            raise part.error(f"{WORD}() holds the whole group, {EXAMPLE}")
        path: list[str] = []
        for _, level in split(part, "/"):
            path += [_group_name(name) for _, name in split(level, ":")]
            groups.append(Group(":".join(path)))
    return list(dict.fromkeys(groups))


def given_to(blocks: list[LatentTerm], piece: Piece) -> LatentTerm:
    """Return the part left of the bar that holds the random intercept, which cre() is about."""
    for block in blocks:
        if not block.syntax.serial and linear_terms(block.terms).intercept:
            return block
    raise piece.error(
        f"{WORD}() is about the mean of a random intercept, and there is none here: write "
        f"(1 | cre(id, ~ x)), paths and slopes alone as terms of their own"
    )


def with_given(term: LatentTerm, given: Given, piece: Piece) -> LatentTerm:
    """Return the part given the rows of its group; a scale makes it another kind."""
    if given.scale is None:
        return replace(term, given=given)
    if term.kind != "normal" or term.covariance != "us":
        raise piece.error(
            "scale= is for random effects with a free covariance, (1 | cre(id, ~ x, scale=~ z)), "
            "without a network, a word in front of the bar, or ||"
        )
    return replace(term, given=given, kind=WORD, basis=given.scale)


def _group_name(piece: Piece) -> str:
    name = plain_name(piece.text)
    if name is None:
        raise piece.error(
            f"a group is a column (id), a nesting (school/class) or a crossing (a:b), not "
            f"`{piece.text}`; grouping columns always count as categories, no factor() is needed"
        )
    return name_text(name)


def _conditional(piece: Piece, arguments: Piece) -> Group:
    """Read `cre(group, ~ terms, option=value)`."""
    inside, options = split_arguments(arguments)
    if len(inside) != 2 or not inside[1].text.startswith("~"):
        raise piece.error(
            f"{WORD}() takes a group and a formula without outcome, {EXAMPLE}: the covariates "
            "whose means over the rows of a subject its random intercept depends on"
        )
    group = ":".join(_group_name(part) for _, part in split(inside[0], ":"))
    linear, networks = _terms(inside[1].part(1), piece, group)
    chosen = latent_options(options, piece, SYNTAX)
    device = chosen.get("device", DEVICES[0])
    time = chosen.get("time")
    if time is not None and device != "chamberlain":
        raise options["time"].error("time= is for device='chamberlain'; means have no order")
    if time is not None:
        check_algebra(time.text, time)
    scale = chosen.get("scale")
    return Group(
        group,
        Given(
            linear,
            networks,
            device,
            None if time is None else time.text,
            None if scale is None else _linear(scale, piece),
        ),
    )


def _terms(right: Piece, piece: Piece, group: str) -> tuple[str, tuple[NetworkTerm, ...]]:
    """The linear terms, those of networks included, and the networks."""
    linear: list[Summand] = []
    networks: list[NetworkTerm] = []
    for term in summands(right) if right.text else []:
        call = called(term.piece)
        if call is not None and call[0] == "dnn":
            if term.sign == "-":
                raise term.piece.error("a network cannot be subtracted; leave it out instead")
            networks.append(read_network(term.piece, call[1], group))
        else:
            check_linear(term, ("dnn", "offset"))
            linear.append(term)
    text = join_terms([term for term in linear if term.piece.text not in ("0", "1")])
    present = {frozenset(term) for term in linear_terms(text).terms} if text else set()
    for network in networks:
        for factors in linear_terms(network.inputs).terms:
            if frozenset(factors) not in present:
                present.add(frozenset(factors))
                text = f"{text} + {':'.join(factors)}" if text else ":".join(factors)
    if not present:
        raise piece.error(f"{WORD}() names no covariate: write their formula, {EXAMPLE}")
    check_algebra(text, piece)
    return text, tuple(networks)


def _linear(right: Piece, piece: Piece) -> str:
    """The terms of scale=, of which an intercept would be the variance itself."""
    terms = summands(right) if right.text else []
    return plain_sum(terms, piece, "scale= names no covariate: write scale=~ z")
