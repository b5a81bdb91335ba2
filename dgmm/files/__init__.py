"""Data files of other software as data frames: labels, levels, missing values and dates kept."""

from dgmm.files.read import ENDINGS, read

__all__ = ["ENDINGS", "read"]
