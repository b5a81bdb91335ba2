"""Text -> Formula: `y ~ x + dnn(age, sex) + (dnn(ns(time, 4)) | id)`. Knows no data.

grammar (pieces of text), syntax (of a word) -> options, terms (linear algebra) -> rewriting
(update, nested), tuning (options of networks) -> parse.
"""

from dgmm.formula.grammar import FormulaError
from dgmm.formula.parse import parse_formula, with_part
from dgmm.formula.rewriting import grouped_formula, nested_formula, update_formula
from dgmm.formula.syntax import NETWORK, Syntax
from dgmm.formula.terms import (
    Formula,
    LatentTerm,
    NetworkTerm,
    Part,
    Response,
    linear_terms,
    split_group,
)
from dgmm.formula.tuning import has_network, with_options

__all__ = [
    "NETWORK",
    "Formula",
    "FormulaError",
    "LatentTerm",
    "NetworkTerm",
    "Part",
    "Response",
    "Syntax",
    "grouped_formula",
    "has_network",
    "linear_terms",
    "nested_formula",
    "parse_formula",
    "split_group",
    "update_formula",
    "with_options",
    "with_part",
]
