"""Log scores: the marginal log-likelihood of every subject of any data under a fit."""

from __future__ import annotations

from typing import Any

import pandas as pd
from torch import Tensor

from dgmm.design import Specification
from dgmm.estimate import Estimate, Request
from dgmm.panel import Panel
from dgmm.prediction.moments import outcomes_seen
from dgmm.prediction.sources import source_of

__all__ = ["log_scores", "subject_scores"]


def log_scores(
    done: Estimate, spec: Specification, newdata: Any, request: Request, seed: int
) -> pd.DataFrame:
    """See :meth:`dgmm.fit.Fit.log_score`."""
    done.likelihood.check_separate("log_score()")
    panel = outcomes_seen(done, spec, newdata)
    value, error = subject_scores(done, panel, seed)
    columns = {"log_score": value, "mc_error": error, "nobs": panel.count}
    index = pd.Index(panel.ids)
    return pd.DataFrame({name: column.numpy() for name, column in columns.items()}, index=index)


def subject_scores(done: Estimate, panel: Panel, seed: int) -> tuple[Tensor, Tensor]:
    """log p(y_i) of the outcomes seen in a panel and its numerical error, (n,) each."""
    return source_of(done).scores(panel, seed)
