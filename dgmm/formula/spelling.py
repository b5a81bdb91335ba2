"""Code in a formula as a syntax tree of Python and back, every name spelled as R may spell it.

A name may hold dots (`alk.phos` is one name), may be a word that Python keeps for itself (`class`),
may be written in any alphabet, and in back-quotes may be anything. Each becomes one plain name of
the tree; nothing is evaluated here.
"""

from __future__ import annotations

import ast
import functools
import keyword
import re

from dgmm.formula.grammar import CONSTANTS, MOST_DEEP, name_text

__all__ = ["SpellingError", "code_name", "code_text", "plain_code", "read_code"]

_LONGEST = 100_000
_ALIAS = "quoted\u00b7"  # the middle dot is legal in a Python name and in no R name
_TOKEN = re.compile(
    r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`([^`]+)`"
    r"|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|([^\W\d][\w.]*)"
)


class SpellingError(ValueError):
    """Code that is not one expression."""


@functools.lru_cache(maxsize=4096)
def read_code(text: str) -> ast.expr:
    """Return the syntax tree of one expression.

    Raises:
        SpellingError: the text is no expression, or nested more than MOST_DEEP deep.
    """
    unreadable = f"`{_short(text)}` is not an expression that can be read"
    if len(text) > _LONGEST:
        raise SpellingError(f"{unreadable}: it has more than {_LONGEST:,} characters")
    try:
        tree = ast.parse(_TOKEN.sub(_alias, text.strip()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SpellingError(unreadable) from error
    level, depth = [tree], 0
    while level:
        depth += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]  # type: ignore[misc]
    if depth > MOST_DEEP:
        raise SpellingError(f"{unreadable}: it is nested more than {MOST_DEEP} deep")
    return tree


def plain_code(text: str) -> str:
    """Return the expression as it is written plainly, whatever its blanks and quotes were."""
    return code_text(read_code(text))


def code_text(node: ast.expr) -> str:
    """Return a syntax tree as text, the names as they were, odd ones in back-quotes."""

    def restore(match: re.Match[str]) -> str:
        return name_text(bytes.fromhex(match.group(1)).decode())

    return re.sub(_ALIAS + r"([0-9a-f]+)", restore, ast.unparse(node))


def code_name(name: str) -> str:
    """Return the name that a word of the tree stands for."""
    return bytes.fromhex(name[len(_ALIAS) :]).decode() if name.startswith(_ALIAS) else name


def _alias(match: re.Match[str]) -> str:
    quoted, bare = match.groups()
    if quoted is None and (bare is None or bare in CONSTANTS or _is_plain(bare)):
        return match.group(0)
    name = quoted if quoted is not None else bare
    return _ALIAS + name.encode().hex()


def _is_plain(name: str) -> bool:
    return name.isascii() and "." not in name and not keyword.iskeyword(name)


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
