"""Formula + data frame -> Design: named numpy columns, one row per measurement.

expressions (safe evaluation), labels -> variables (any frame) -> encoding, grouping -> response,
specification -> frame (rows and their order) -> build.
"""

from dgmm.design.build import Design, LatentBlock, NetworkBlock, build_design, rebuild
from dgmm.design.conditional import GivenBlock
from dgmm.design.covariates import covariate_frame, covariate_values, typical_value
from dgmm.design.dot import in_columns
from dgmm.design.encoding import Columns
from dgmm.design.estimable import Alias, Departures, dependent_columns
from dgmm.design.expressions import names_of
from dgmm.design.frame import names_in, read_names
from dgmm.design.given import as_numbers, beside, by_index, row_labels
from dgmm.design.grouping import Grouping, GroupingSpecification, label_rank
from dgmm.design.incomplete import LeftOut
from dgmm.design.labels import factorize, label_key, places_among
from dgmm.design.layout import Layout
from dgmm.design.response import first_category, numbered
from dgmm.design.specification import Specification, scaled
from dgmm.design.streamed import Batch, Reading, complete_stored, open_reading
from dgmm.design.surrogate import Surrogate, surrogate
from dgmm.design.variables import Column, Table, Variable, read_column, take_rows

__all__ = [
    "Alias",
    "Batch",
    "Column",
    "Columns",
    "Departures",
    "Design",
    "GivenBlock",
    "Grouping",
    "GroupingSpecification",
    "LatentBlock",
    "Layout",
    "LeftOut",
    "NetworkBlock",
    "Reading",
    "Specification",
    "Surrogate",
    "Table",
    "Variable",
    "as_numbers",
    "beside",
    "build_design",
    "by_index",
    "complete_stored",
    "covariate_frame",
    "covariate_values",
    "dependent_columns",
    "factorize",
    "first_category",
    "in_columns",
    "label_key",
    "label_rank",
    "names_in",
    "names_of",
    "numbered",
    "open_reading",
    "places_among",
    "read_column",
    "read_names",
    "rebuild",
    "row_labels",
    "scaled",
    "surrogate",
    "take_rows",
    "typical_value",
]
