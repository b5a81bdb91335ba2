"""The summary of a fit and its notes."""
