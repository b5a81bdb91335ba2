"""What is known of theta when it was sampled: the draws themselves."""

from __future__ import annotations

import torch

from dgmm.bayes import Chains
from dgmm.information.records import Information, reported_packing
from dgmm.model import Model

__all__ = ["posterior_information"]


def posterior_information(model: Model, chains: Chains) -> Information:
    """The record of draws from a posterior: their covariance, and themselves."""
    packing, flat = reported_packing(model), chains.flat
    vcov = torch.cov(flat[:, model.packing.places(packing)].T).reshape(packing.size, packing.size)
    return Information(
        packing,
        vcov,
        vcov,
        f"posterior standard deviations of {len(flat)} draws",
        float("nan"),
        0.0,
        (),
        {},
        (),
        resampled=flat,
        posterior=True,
    )
