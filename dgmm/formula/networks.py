"""Networks of covariates, `dnn(age, sex, hidden=(32, 16))`, among the fixed terms or in cre()."""

from __future__ import annotations

from collections.abc import Sequence

from dgmm.formula.grammar import Piece, summands
from dgmm.formula.options import network_options, split_arguments
from dgmm.formula.terms import NetworkTerm, plain_sum

__all__ = ["read_network"]


def read_network(piece: Piece, arguments: Piece, group: str = "") -> NetworkTerm:
    """Read a call of dnn(); with a ``group`` its inputs are means over the rows of a level."""
    inputs, options = split_arguments(arguments)
    text = _input_text(inputs, piece)
    return NetworkTerm(piece.text, text, **network_options(options, piece), group=group)


def _input_text(inputs: Sequence[Piece], piece: Piece) -> str:
    """Join the inputs of a network into one sum; a network has its own biases: no intercept."""
    terms = [term for part in inputs for term in summands(part)]
    return plain_sum(terms, piece, "dnn() needs at least one input, as in dnn(age, sex)")
