"""The full conditional distributions, one a file, for all chains at once.

    y_j = Z_j beta + T_j gamma_j + e,   gamma_j ~ N(0, D),   e ~ N(0, sigma^2)

effects, coefficients, covariance, residual, outcomes: exact draws; scale: a move along which
effects and their variances change together; location: one along which thresholds and effects do;
walks: Metropolis steps where the outcome is not Gaussian.
"""
