"""Text -> Formula: `y ~ x + dnn(age, sex) + (dnn(ns(time, 4)) | id)`. Knows no data.

grammar (pieces of text), syntax (of a word) -> spelling (names as R has them) -> algebra (of linear
terms) -> options, terms -> rewriting (update, nested), tuning (options of networks) -> networks ->
conditional (the right of a bar) -> parse.
"""

from dgmm.formula.algebra import Terms, linear_terms
from dgmm.formula.grammar import FormulaError, name_text, plain_name
from dgmm.formula.parse import parse_formula, with_part
from dgmm.formula.rewriting import grouped_formula, nested_formula, update_formula
from dgmm.formula.several import (
    Several,
    mv,
    named_parts,
    spread,
    without_loadings,
)
from dgmm.formula.spelling import SpellingError, code_name, code_text, read_code
from dgmm.formula.syntax import NETWORK, Syntax
from dgmm.formula.terms import (
    Formula,
    Given,
    LatentTerm,
    NetworkTerm,
    Part,
    Response,
    formula_text,
    split_group,
)
from dgmm.formula.tuning import has_network, with_options, with_own_options

__all__ = [
    "NETWORK",
    "Formula",
    "FormulaError",
    "Given",
    "LatentTerm",
    "NetworkTerm",
    "Part",
    "Response",
    "Several",
    "SpellingError",
    "Syntax",
    "Terms",
    "code_name",
    "code_text",
    "formula_text",
    "grouped_formula",
    "has_network",
    "linear_terms",
    "mv",
    "name_text",
    "named_parts",
    "nested_formula",
    "parse_formula",
    "plain_name",
    "read_code",
    "split_group",
    "spread",
    "update_formula",
    "with_options",
    "with_own_options",
    "with_part",
    "without_loadings",
]
