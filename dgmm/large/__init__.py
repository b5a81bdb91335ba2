"""Gaussian models of rows that are not in memory: sums by subject, then the usual engine."""

from dgmm.large.fit import StoredFit, fit_stored

__all__ = ["StoredFit", "fit_stored"]
