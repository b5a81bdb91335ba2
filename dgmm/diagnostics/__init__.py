"""Checking a fit: residuals, what they say, how well outcomes are predicted."""
