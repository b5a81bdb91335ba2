"""The memory of a whole call beside that of the data, in a process of its own."""

import subprocess
import sys

import pytest

MOST = 6.0
"""Times the data frame, at 80,000 subjects with 20 visits."""

SCRIPT = """
import sys
import numpy as np, pandas as pd, torch
import dgmm

torch.set_num_threads(1)

def panel(n, J=20):
    rng = np.random.default_rng(1)
    id, t = np.repeat(np.arange(n), J), np.tile(np.linspace(0, 1, J), n)
    g, x = np.repeat(rng.integers(0, 2, n), J) * 1.0, rng.normal(size=n * J)
    eta = 0.2 + 0.5 * t - 0.3 * g + 0.1 * x + 0.6 * rng.normal(size=n)[id]
    family = sys.argv[2]
    if family == "gaussian":
        y = eta + 0.4 * rng.normal(size=n)[id] * t + rng.normal(size=n * J)
    elif family == "poisson":
        y = 1.0 * rng.poisson(np.exp(eta + 0.4 * rng.normal(size=n)[id] * t))
    else:
        y = 1.0 * (rng.uniform(size=n * J) < 1 / (1 + np.exp(-eta)))
    return pd.DataFrame(dict(id=id, t=t, g=g, x=x, y=y))

def fit(data):
    options = dict(family=sys.argv[2], likelihood=sys.argv[3], verbose=0)
    str(dgmm.mixed_model("y ~ t * g + x + " + sys.argv[1], data, **options).summary())

def highest(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024

fit(panel(50))
data = panel(80_000)
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")
before = highest("VmRSS")
fit(data)
print((highest("VmHWM") - before) / data.memory_usage().sum())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("random", "family", "likelihood"),
    [
        ("(t | id)", "gaussian", "exact"),
        ("(1 | id)", "bernoulli", "laplace"),
        ("(t | id)", "poisson", "laplace"),
    ],
)
def test_a_call_needs_at_most_six_times_the_data(random, family, likelihood) -> None:
    command = [sys.executable, "-c", SCRIPT, random, family, likelihood]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < MOST, done.stdout
