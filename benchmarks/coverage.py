"""Coverage of Wald intervals for a linear coefficient beside a network: `python coverage.py 100`.

y_ij = 0.5 x_i + sin(2 z_ij) + b_i + e_ij,   x correlated with sin(2 z),   200 subjects x 5
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

import dgmm

TRUTH = 0.5


def simulate(seed: int, n: int = 200, visits: int = 5) -> pd.DataFrame:
    """One data set; x varies within subjects and follows the curve."""
    rng = np.random.default_rng([seed, 17])
    subject = np.repeat(np.arange(n), visits)
    z = rng.uniform(-2, 2, n * visits)
    curve = np.sin(2 * z)
    x = 0.7 * curve + rng.normal(size=len(z))
    y = TRUTH * x + curve + rng.normal(size=n)[subject] + rng.normal(0, 0.8, len(z))
    return pd.DataFrame({"id": subject, "x": x, "z": z, "y": y})


def main(replicates: int) -> None:
    """Print bias, SE against the empirical standard deviation, and coverage at 95 %."""
    estimates, errors = [], []
    for seed in range(replicates):
        fit = dgmm.mixed_model(
            "y ~ x + dnn(z) + (1 | id)",
            simulate(seed),
            seed=seed,
            verbose=0,
            control={"epochs": 150, "holdout": 0.0},
        )
        estimates.append(fit.fixef()["x"])
        errors.append(fit.std_errors()["x"])
        if (seed + 1) % 20 == 0 or seed + 1 == replicates:
            beta, se = np.array(estimates), np.array(errors)
            inside = np.abs(beta - TRUTH) < 1.959964 * se
            print(
                f"{seed + 1} replicates: bias {beta.mean() - TRUTH:+.4f}, empirical SD "
                f"{beta.std(ddof=1):.4f}, mean SE {se.mean():.4f}, coverage {inside.mean():.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
