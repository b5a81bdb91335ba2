"""Is the sampler right, and how fast is it? Simulation-based calibration, Geweke's test, speed.

    python benchmarks/gibbs.py calibration [replicates [case ...]]
    python benchmarks/gibbs.py geweke [iterations [case ...]]
    python benchmarks/gibbs.py speed nels_math.csv

The rows go to benchmarks/results (those of NUTS come from gibbs_nuts.py).

Calibration: parameters from the prior, outcomes from them, and their rank among 99 draws from the
posterior is uniform; the same sampler with the scale matrix of its inverse-Wishart prior inverted
must fail. Geweke: the joint distribution of parameters and outcomes, once from the prior, once by
sweeps and new outcomes in turn. Speed: effective sample size (bulk, the smallest over all scalars)
per second of one processor, beside a loop over the groups with the same conditionals.

Talts et al. (2018), arXiv:1804.06788; Geweke (2004), J. American Statistical Association 99,
799-804.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats

import dgmm
from dgmm.bayes import Prior, Sampler, prepare, sampler_of
from dgmm.bayes.conditionals.walks import Langevin
from dgmm.bayes.gibbs import Gibbs
from dgmm.bayes.layout import Rows
from dgmm.bayes.metropolis import Metropolis
from dgmm.bayes.products import Products, products_of
from dgmm.bayes.reported import reported_names
from dgmm.bayes.sampler import Pooled, State
from dgmm.mcmc import Streams
from dgmm.mcmc.diagnostics import diagnosed
from dgmm.model import Model
from dgmm.panel import Panel

RESULTS = Path(__file__).parent / "results"
BINS, RANKS = 20, 99
S = [[0.6, 0.1], [0.1, 0.2]]


@dataclass(frozen=True)
class Case:
    """A design, a family and proper priors from which everything is simulated."""

    name: str
    formula: str
    family: str
    prior: Prior
    warmup: int
    thin: int

    def design(self, groups: int = 10, size: int = 6) -> tuple[Model, Panel]:
        """The model on rows with some outcome; the sampler gets its own."""
        rng = np.random.default_rng(17)
        N = groups * size
        frame = pd.DataFrame({"g": np.repeat(np.arange(groups), size), "x": rng.normal(size=N)})
        frame["y"] = {
            "gaussian": rng.normal(size=N),
            "poisson": rng.poisson(2, N),
            "cumulative": 1 + np.arange(N) % 4,
        }[self.family]
        fit = dgmm.mixed_model(self.formula, frame, family=self.family, se=None, verbose=0)
        return fit.estimate.model, fit.estimate.panel


CASES = (
    Case(
        "linear",
        "y ~ x + (1 + x | g)",
        "gaussian",
        dgmm.prior(beta=dgmm.normal(0, 1), cov=dgmm.inv_wishart(7, S), sigma2=dgmm.inv_gamma(3, 2)),
        200,
        20,
    ),
    Case(
        "half-t",
        "y ~ x + (1 + x | g)",
        "gaussian",
        dgmm.prior(beta=dgmm.normal(0, 1), cov=dgmm.half_t(4, 0.5), sigma2=dgmm.half_t(4, 1.0)),
        200,
        20,
    ),
    Case(
        "poisson",
        "y ~ x + (1 + x | g)",
        "poisson",
        dgmm.prior(beta=dgmm.normal(0, 0.5), cov=dgmm.inv_wishart(7, S)),
        400,
        20,
    ),
    Case(
        "ordinal",
        "y ~ x + (1 + x | g)",
        "cumulative",
        dgmm.prior(
            beta=dgmm.normal(0, 0.5),
            cov=dgmm.inv_wishart(7, S),
            family=dgmm.normal([-1, 0, 0], 0.5),
        ),
        400,
        20,
    ),
    Case(
        "half-normal",
        "y ~ x + (1 + x || g)",
        "gaussian",
        dgmm.prior(
            beta=dgmm.normal(0, 1), cov=dgmm.half_normal(0.5), sigma2=dgmm.log_normal(0, 0.4)
        ),
        200,
        20,
    ),
)


# -- draws from the joint distribution ---------------------------------------------------------


def scalars(sampler: Sampler, beta: np.ndarray, D: np.ndarray, extra: np.ndarray) -> np.ndarray:
    """beta as written, standard deviations and the correlation, those of the family, (R, C)."""
    sd, family = np.sqrt(np.array([D[0, 0], D[1, 1]])), sampler.layout.model.family
    parts = [beta / sampler.layout.size[:, None], sd]
    if len(sampler.prior.blocks[0]) == 1:
        parts.append((D[0, 1] / sd[0] / sd[1])[None])
    return np.concatenate([*parts, family.natural(torch.from_numpy(extra.copy())).numpy()])


def from_prior(sampler: Sampler, streams: Streams) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients on the scaled columns (p, C), D (K, K, C), extra (R, C)."""
    prior, size = sampler.prior, sampler.layout.size
    beta = prior.coefficients(streams).T * size[:, None]
    D = prior.covariance(0, sampler.layout.factors[0].K, streams)
    extra = prior.extra(streams).T
    if sampler.layout.model.family.conjugate:
        extra = 0.5 * np.log(prior.residual(streams))[None]
    return beta, D, extra


def outcomes(
    sampler: Sampler, beta: np.ndarray, gamma: np.ndarray, extra: np.ndarray, seed: int
) -> torch.Tensor:
    """y (N,) of one chain given everything: beta (p,), gamma (K, m), extra (R,)."""
    rows = sampler.layout.rows(sampler.panel)
    eta = rows.offset + rows.z @ beta
    eta = eta + np.einsum("nk,kn->n", rows.t[0], gamma[:, rows.level[0]])
    generator = torch.Generator().manual_seed(seed)
    family, data = sampler.layout.model.family, sampler.panel.rows.data
    return family.simulate(torch.from_numpy(eta), data, torch.from_numpy(extra), generator)


def effects(D: np.ndarray, m: int, rng: np.random.Generator) -> np.ndarray:
    """gamma (K, m) ~ N(0, D)."""
    return np.linalg.cholesky(D) @ rng.normal(size=(len(D), m))


def names_of(model: Model) -> list[str]:
    return reported_names(model, ["g"])


# -- calibration -------------------------------------------------------------------------------


def inverted(prior: Prior) -> Prior:
    """The prior whose inverse-Wishart has the inverse of its scale: the slip to be found."""
    wrong = np.linalg.inv(np.array(prior.cov.S))
    return replace(prior, cov=dgmm.inv_wishart(prior.cov.df, wrong))


class BatchedGibbs(Gibbs):
    """The sampler with outcomes of its own for every chain, y (C, N)."""

    y: np.ndarray

    @cached_property
    def products(self) -> Products:
        plain = products_of(self.layout, self.panel, self.left)
        own, rows = plain.factors[0], self.rows
        pick = np.eye(self.layout.factors[0].m)[rows.level[0]]
        h = np.einsum("nk,cn,nm->kcm", rows.t[0], self.y, pick)
        zero = np.zeros(self.layout.p)
        factors = (replace(own, h=h),)
        return Products(
            factors, plain.RR, self.left.T @ self.y.T, np.square(self.y).sum(1), plain.N, zero
        )


class BatchedMetropolis(Metropolis):
    """The sampler with outcomes of its own for every chain, y (C, N)."""

    y: np.ndarray

    @cached_property
    def seen(self) -> Panel:
        panel = self.panel.observed_rows()
        data = panel.rows.data._replace(y=torch.from_numpy(self.y))
        return replace(panel, rows=replace(panel.rows, data=data))

    @cached_property
    def rows(self) -> Rows:
        return self.layout.rows(self.panel.observed_rows())

    @cached_property
    def pooled(self) -> Pooled:
        """One point for all chains: the prior mean, and the curvature there."""
        beta = self.prior.mean * self.layout.size
        return Pooled(beta, 0.3 * np.ones_like(beta), 1.0, self.prior.extra_mean)

    @cached_property
    def _weight(self) -> np.ndarray:
        return np.ones(len(self.rows.offset))

    @cached_property
    def _langevin(self) -> Langevin:
        p, of_family = self.layout.p, self.prior.extra_sd**-2 + 0.2 * len(self.rows.offset)
        P = np.diag(np.append(np.zeros(p), of_family))
        P[:p, :p] = self.rows.z.T @ self.rows.z + self.prior_precision
        return Langevin(P)


def batched(model: Model, panel: Panel, prior: Prior, inside: list[int], y: np.ndarray) -> Sampler:
    plain = sampler_of(model, panel, prior, inside)
    kind = BatchedGibbs if model.family.conjugate else BatchedMetropolis
    found = kind(plain.layout, plain.panel, plain.prior, plain.centring)
    object.__setattr__(found, "y", y)
    return found


def ranks(case: Case, replicates: int, *, mutant: bool = False) -> np.ndarray:
    """The rank of every scalar among its draws, (replicates, R): a chain for each data set."""
    model, panel = case.design()
    truth = sampler_of(model, panel, case.prior)
    asked = inverted(case.prior) if mutant else case.prior
    inside = prepare(model, panel, asked, 0).centring.inside.tolist()
    beta, D, extra = from_prior(truth, Streams.of(5, range(replicates)))
    y = []
    for c in range(replicates):
        gamma = effects(D[:, :, c], truth.layout.factors[0].m, np.random.default_rng(c))
        y.append(outcomes(truth, beta[:, c], gamma, extra[:, c], c).numpy())
    sampler = batched(model, panel, asked, inside, np.array(y))
    streams, below = Streams.of(6, range(replicates)), 0
    state, here = sampler.start(streams), scalars(truth, beta, D, extra)
    with np.errstate(all="ignore"):
        for t in range(1, case.warmup + RANKS * case.thin + 1):
            sampler.sweep(state, streams, t**-0.6 if t <= case.warmup else 0.0)
            if t > case.warmup and (t - case.warmup) % case.thin == 0:
                at = sampler.coefficients(state)
                below = below + (scalars(sampler, at, state.D[0], state.extra) < here)
    return np.asarray(below).T


def uniformity(found: np.ndarray) -> pd.DataFrame:
    """chi2 of the ranks in 20 bins, a row per scalar."""
    size = (RANKS + 1) // BINS
    counts = np.stack([np.bincount(one // size, minlength=BINS) for one in found.T])
    expected = len(found) / BINS
    chi2 = (np.square(counts - expected) / expected).sum(1)
    return pd.DataFrame({"chi2": chi2, "p": stats.chi2(BINS - 1).sf(chi2)})


def calibration(replicates: int, cases: Sequence[Case] = CASES) -> pd.DataFrame:
    tables = []
    for case in cases:
        for mutant in (False, True) if case.name == "linear" else (False,):
            began = time.process_time()
            table = uniformity(ranks(case, replicates, mutant=mutant))
            table.insert(0, "scalar", names_of(case.design()[0]))
            table.insert(0, "sampler", "S inverted" if mutant else "as it is")
            table.insert(0, "case", case.name)
            table["replicates"] = replicates
            tables.append(table)
            print(table.to_string(), f"{time.process_time() - began:.0f} s", flush=True)
    return pd.concat(tables, ignore_index=True)


# -- Geweke ------------------------------------------------------------------------------------


def geweke(case: Case, iterations: int, seed: int = 1) -> pd.DataFrame:
    """z of first and second moments: successive-conditional against marginal-conditional draws."""
    model, panel = case.design(groups=5, size=3)
    first = sampler_of(model, panel, case.prior)
    direct = scalars(first, *from_prior(first, Streams.of(seed, range(20_000))))
    streams, rng = Streams.of(seed, [10**6]), np.random.default_rng(seed)
    beta, D, extra = from_prior(first, streams)
    gamma = effects(D[:, :, 0], first.layout.factors[0].m, rng)
    kept, state = [], first.start(streams)
    state.scales = dict(warmed(case, model, panel).scales)
    for t in range(iterations):
        y = outcomes(first, beta[:, 0], gamma, extra[:, 0], int(rng.integers(2**31)))
        sampler = sampler_of(model, panel.with_outcome(y), case.prior)
        state.beta = beta - sampler.pooled.beta[:, None]
        state.u, state.D, state.extra = [gamma[:, None]], [D], extra
        with np.errstate(all="ignore"):
            sampler.sweep(state, streams, 0.0)
        beta, D, extra = sampler.coefficients(state), state.D[0], state.extra
        gamma = sampler.gamma(state, 0)[:, 0]
        kept.append(scalars(sampler, beta, D, extra)[:, 0])
        del t
    walked = np.array(kept).T
    rows = []
    for name, one, other in zip(names_of(model), walked, direct, strict=True):
        for power in (1, 2):
            a, b = one**power, other**power
            error = np.hypot(diagnosed(a[None]).mcse, b.std() / len(b) ** 0.5)
            rows.append((case.name, name, power, (a.mean() - b.mean()) / error))
    return pd.DataFrame(rows, columns=["case", "scalar", "moment", "z"])


def warmed(case: Case, model: Model, panel: Panel) -> State:
    """A state whose step lengths have been learnt on the outcomes of the design."""
    sampler, streams = sampler_of(model, panel, case.prior), Streams.of(3, [0])
    state = sampler.start(streams)
    for t in range(1, 201):
        sampler.sweep(state, streams, t**-0.6)
    return state


# -- speed -------------------------------------------------------------------------------------


def nels(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path)
    frame["ses"] = frame.stu_ses - frame.groupby("sch_id").stu_ses.transform("mean")
    return frame.rename(columns={"stu_mathscore": "math", "sch_id": "school"})


def loop(frame: pd.DataFrame, draws: int, seed: int) -> np.ndarray:
    """The conditionals of Hoff (2009), chapter 11, school by school; (draws, 6)."""
    groups = [one for _, one in frame.groupby("school")]
    X = [np.column_stack([np.ones(len(one)), one.ses]) for one in groups]
    y = [one.math.to_numpy() for one in groups]
    fits = np.array([np.linalg.lstsq(a, b, rcond=None)[0] for a, b in zip(X, y, strict=True)])
    pairs = list(zip(X, y, fits, strict=True))
    s0 = np.mean([np.square(b - a @ f).sum() / (len(b) - 2) for a, b, f in pairs])
    mu0, S0 = fits.mean(0), np.cov(fits.T)
    m, N, rng = len(groups), len(frame), np.random.default_rng(seed)
    theta, Sigma, s2, beta = mu0, S0, s0, fits.copy()
    L0 = np.linalg.inv(S0)
    kept = np.empty((draws, 6))
    for t in range(draws):
        precision = np.linalg.inv(Sigma)
        for j in range(m):
            V = np.linalg.inv(precision + X[j].T @ X[j] / s2)
            mean = V @ (precision @ theta + X[j].T @ y[j] / s2)
            beta[j] = mean + np.linalg.cholesky(V) @ rng.normal(size=2)
        L = np.linalg.inv(L0 + m * precision)
        theta = L @ (L0 @ mu0 + precision @ beta.sum(0))
        theta = theta + np.linalg.cholesky(L) @ rng.normal(size=2)
        gap = beta - theta
        Sigma = stats.invwishart(4 + m, S0 + gap.T @ gap).rvs(random_state=rng)
        left = sum(np.square(y[j] - X[j] @ beta[j]).sum() for j in range(m))
        s2 = (s0 + left) / 2 / rng.gamma((1 + N) / 2)
        kept[t] = (*theta, Sigma[0, 0], Sigma[0, 1], Sigma[1, 1], s2)
    return kept


def least(draws: np.ndarray) -> float:
    """The smallest bulk effective sample size over scalars, draws (C, S, R)."""
    return min(diagnosed(draws[:, :, j]).ess_bulk for j in range(draws.shape[2]))


def speed(path: Path, draws: int = 10_000) -> pd.DataFrame:
    frame, rows = nels(path), []
    formula = "math ~ ses + (1 + ses | school)"
    dgmm.mixed_model(formula, frame, method="gibbs", prior="hoff", draws=50, warmup=50)
    began = time.process_time()
    fit = dgmm.mixed_model(
        formula, frame, method="gibbs", prior="hoff", draws=draws // 4, warmup=500, verbose=0
    )
    used = time.process_time() - began
    model, flat = fit.estimate.model, fit.estimate.chains.flat
    theta = model.packing.unpack(flat)
    root = torch.func.vmap(model.latents[0].loadings)(
        {n.removeprefix("latent1."): v for n, v in theta.items() if n.startswith("latent1.")}
    )
    D = root @ root.mT
    beta = theta["beta"] @ model.basis.T
    own = torch.stack(
        [*beta.T, D[:, 0, 0], D[:, 0, 1], D[:, 1, 1], (2 * theta["extra"][:, 0]).exp()]
    )
    rows.append(("dgmm, 4 chains", used, least(own.T.reshape(4, -1, 6).numpy())))
    began = time.process_time()
    plain = loop(frame, draws // 5, 1)
    rows.append(("loop over schools", time.process_time() - began, least(plain[None, 500:])))
    table = pd.DataFrame(rows, columns=["sampler", "cpu_seconds", "min_ess"])
    table["ess_per_second"] = table.min_ess / table.cpu_seconds
    return table


def chosen(names: Sequence[str]) -> list[Case]:
    """The cases of these names, all without any."""
    return [case for case in CASES if not names or case.name in names]


def store(name: str, table: pd.DataFrame, *, key: str = "case", precision: int = 4) -> None:
    """Keep a table in place of the rows of its cases."""
    path = RESULTS / name
    old = pd.read_csv(path) if path.exists() else table[:0]
    whole = pd.concat([old[~old[key].isin(table[key])], table], ignore_index=True)
    whole.to_csv(path, index=False, float_format=f"%.{precision}g")


def main(task: str, *rest: str) -> None:
    if task == "calibration":
        table = calibration(int(rest[0]) if rest else 500, chosen(rest[1:]))
        store("gibbs_calibration.csv", table, precision=6)
    elif task == "geweke":
        size = int(rest[0]) if rest else 20_000
        table = pd.concat([geweke(case, size) for case in chosen(rest[1:])], ignore_index=True)
        store("gibbs_geweke.csv", table)
        print(table.to_string())
    elif task == "speed":
        table = speed(Path(rest[0]))
        store("gibbs_speed.csv", table, key="sampler")
        print(table.to_string())
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
