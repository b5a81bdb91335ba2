"""The choice of network options by cross-validation."""
