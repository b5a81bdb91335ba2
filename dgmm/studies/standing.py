"""Where methods stand between the best linear mixed model and the oracle."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

__all__ = ["standing"]

LINEAR = ("lmm4", "lmm7", "lmm_rich")
SHARES = ("loglik", "rmse_observed", "rmse_new")
RATIOS = ("rmse_future", "rmse_dropped")
COVERAGES = ("coverage_future", "coverage_dropped")


def standing(table: pd.DataFrame, baseline: Sequence[str] = LINEAR) -> pd.DataFrame:
    """Place the methods of one data set between the linear mixed model and the oracle.

        share     (method - best LMM) / (oracle - best LMM), 0 for that LMM and 1 for the oracle
        ratio     RMSE / RMSE of the oracle
        excess    coverage - coverage of the oracle

    Args:
        table: one row of :func:`dgmm.studies.score` per method, "oracle" among them.
        baseline: the rows that are linear mixed models; the best one is taken measure by measure. A
            rival whose fixed part is too poor flatters every other method.

    Returns:
        A frame with the same rows and the columns ``share_loglik, share_rmse_observed,
        share_rmse_new, ratio_rmse_future, ratio_rmse_dropped, excess_coverage_future,
        excess_coverage_dropped`` as far as the table has them.

    Raises:
        ValueError: the table has no oracle, or none of the baseline.

    Example:
        >>> import pandas as pd
        >>> from dgmm.studies import standing
        >>> table = pd.DataFrame({"loglik": [-22.0, -20.5, -20.0]}, ["lmm4", "deep", "oracle"])
        >>> standing(table)["share_loglik"].to_dict()
        {'lmm4': 0.0, 'deep': 0.75, 'oracle': 1.0}
    """
    linear = [one for one in baseline if one in table.index]
    if "oracle" not in table.index or not linear:
        raise ValueError(
            f"the table needs the rows 'oracle' and one of {', '.join(baseline)}; it has "
            f"{', '.join(map(str, table.index))}"
        )
    oracle, found = table.loc["oracle"], pd.DataFrame(index=table.index)
    given = [name for name in table.columns if pd.notna(oracle[name])]
    for name in (one for one in SHARES if one in given):
        values = table.loc[linear, name]
        best = values.max() if name == "loglik" else values.min()
        found[f"share_{name}"] = (table[name] - best) / (oracle[name] - best)
    for name in (one for one in RATIOS if one in given):
        found[f"ratio_{name}"] = table[name] / oracle[name]
    for name in (one for one in COVERAGES if one in given):
        found[f"excess_{name}"] = table[name] - oracle[name]
    return found.astype(float)
