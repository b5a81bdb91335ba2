"""NUTS of numpyro on the model of `gibbs.py speed`: effective sample size per processor second.

    pip install numpyro arviz-stats pandas        (an environment of its own)
    OMP_NUM_THREADS=1 python benchmarks/gibbs_nuts.py nels_math.csv [draws]

Hoff's unit-information priors; the random effects centred and not, written over Cholesky factors.
The time is that of a second run, without compilation. A row each is added to
benchmarks/results/gibbs_speed.csv.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
from arviz_stats.base import array_stats
from numpyro.infer import MCMC, NUTS

TABLE = Path(__file__).parent / "results" / "gibbs_speed.csv"

jax.config.update("jax_enable_x64", True)


def data(path: str) -> dict[str, np.ndarray]:
    frame = pd.read_csv(path)
    frame["ses"] = frame.stu_ses - frame.groupby("sch_id").stu_ses.transform("mean")
    school = np.unique(frame.sch_id, return_inverse=True)[1]
    X = np.column_stack([np.ones(len(frame)), frame.ses])
    y = frame.stu_mathscore.to_numpy()
    fits = np.array(
        [
            np.linalg.lstsq(X[school == j], y[school == j], rcond=None)[0]
            for j in range(school.max() + 1)
        ]
    )
    residual = y - (X * fits[school]).sum(1)
    count = np.bincount(school)
    s0 = np.mean(np.bincount(school, np.square(residual)) / (count - 2))
    return {"X": X, "y": y, "school": school, "mu0": fits.mean(0), "S0": np.cov(fits.T), "s0": s0}


def model(X, y, school, mu0, S0, s0, centred):
    theta = numpyro.sample("theta", dist.MultivariateNormal(mu0, covariance_matrix=S0))
    # Sigma ~ IW(4, S0): its inverse is Wishart, by its Cholesky factor
    L = numpyro.sample("L", dist.WishartCholesky(4.0, scale_matrix=jnp.linalg.inv(S0)))
    Sigma = jnp.linalg.inv(L @ L.T)
    numpyro.deterministic("Sigma", Sigma)
    s2 = numpyro.sample("s2", dist.InverseGamma(0.5, 0.5 * s0))
    root = jnp.linalg.cholesky(Sigma)
    m = int(school.max()) + 1
    if centred:
        with numpyro.plate("schools", m):
            beta = numpyro.sample("beta", dist.MultivariateNormal(theta, scale_tril=root))
    else:
        with numpyro.plate("schools", m):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
        beta = theta + z @ root.T
    eta = (X * beta[school]).sum(1)
    numpyro.sample("y", dist.Normal(eta, jnp.sqrt(s2)), obs=y)


def run(given: dict[str, np.ndarray], centred: bool, draws: int) -> tuple[float, float, dict]:
    mcmc = MCMC(NUTS(model), num_warmup=500, num_samples=draws, num_chains=1, progress_bar=False)
    mcmc.run(jax.random.PRNGKey(0), **given, centred=centred)  # compiles, and warms up
    began = time.process_time()
    mcmc.run(jax.random.PRNGKey(1), **given, centred=centred)
    found = {name: np.asarray(one) for name, one in mcmc.get_samples().items()}
    used = time.process_time() - began
    Sigma = found["Sigma"]
    scalars = [*found["theta"].T, Sigma[:, 0, 0], Sigma[:, 0, 1], Sigma[:, 1, 1], found["s2"]]
    least = min(float(array_stats.ess(one[None])) for one in scalars)
    return used, least, {"mean": [float(one.mean()) for one in scalars]}


def main(path: str, draws: str = "2000") -> None:
    given, rows = data(path), []
    for centred in (True, False):
        used, least, rest = run(given, centred, int(draws))
        name = f"numpyro NUTS, {'centred' if centred else 'not centred'}"
        rows.append((name, used, least, least / used))
        print(rows[-1], rest, flush=True)
    table = pd.read_csv(TABLE)
    table = table[~table.sampler.str.startswith("numpyro")]
    new = pd.DataFrame(rows, columns=list(table.columns))
    pd.concat([table, new]).to_csv(TABLE, index=False, float_format="%.4g")


if __name__ == "__main__":
    main(*sys.argv[1:])
