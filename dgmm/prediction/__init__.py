"""Predictions for rows of the fit and of new data, random effects, log scores."""
