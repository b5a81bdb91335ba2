"""The information about theta-hat: observed, expected, cluster-robust."""

from dgmm.information.boundary import boundary_reasons, find_boundary, sigma_unit
from dgmm.information.linearised import linearise
from dgmm.information.mean_slopes import MeanSlopes, mean_packing
from dgmm.information.networks import (
    inverse_off,
    network_information,
)
from dgmm.information.observed import freeze_at
from dgmm.information.posterior import posterior_information
from dgmm.information.records import Information, Joint, reported_packing
from dgmm.information.spread import Derivative, Spread
from dgmm.information.standard_errors import information
from dgmm.information.uncertainty import Covariance, Draws, Posterior, Uncertainty, uncertainty

__all__ = [
    "Covariance",
    "Derivative",
    "Draws",
    "Information",
    "Joint",
    "MeanSlopes",
    "Posterior",
    "Spread",
    "Uncertainty",
    "boundary_reasons",
    "find_boundary",
    "freeze_at",
    "information",
    "inverse_off",
    "linearise",
    "mean_packing",
    "network_information",
    "posterior_information",
    "reported_packing",
    "sigma_unit",
    "uncertainty",
]
