"""Whether a data frame holds the rows that a fit was made from."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from dgmm.design import rebuild
from dgmm.prediction.moments import outcomes_seen
from dgmm.record import Fitted

__all__ = ["is_frame_of"]


def is_frame_of(fit: Fitted, data: Any) -> bool:
    """Say whether a frame is that of the fit, or one with the same rows in any library.

    Compared are the positions of the rows that the fit has used, their subjects, covariates and
    outcomes.

    Raises:
        TypeError: no data frame.
    """
    if data is fit.memory.frame and data is not None:
        return True
    memory, own = fit.memory, fit.estimate.observed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # given by the fit itself
        try:
            design = rebuild(memory.spec, data, outcome=True)
            panel = outcomes_seen(fit.estimate, memory.spec, data)
        except ValueError:
            return False
    covariates = zip(design.covariates.values(), memory.covariates.values(), strict=True)
    return (
        np.array_equal(design.rows, memory.rows)
        and panel.ids.tolist() == own.ids.tolist()
        and torch.equal(panel.count, own.count)
        and torch.equal(panel.rows.data.y, own.rows.data.y)
        and all(np.array_equal(one.values, other.values) for one, other in covariates)
    )
