"""Tree boosting with random effects (GPBoost): a baseline of the simulation studies.

    y_ij = trees(t_ij, age_i, sex_i, x_i) + [1, N(t_ij)] b_i + e_ij,   b_i ~ N(0, diag)

N are orthonormal natural splines of time; GPBoost has no correlations between random effects. The
number of trees is chosen by the log-likelihood of a fifth of the subjects.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from dgmm.studies import Predictions
from dgmm.transforms import ns

ROUNDS = (25, 50, 100, 150)
TREES = {"learning_rate": 0.1, "max_depth": 5, "min_data_in_leaf": 50, "verbose": -1}
INPUTS = ["t", "age", "sex", "x"]


class Boosted(NamedTuple):
    """Fixed part (N,) of every row, variances of the random effects (q,) and of the residual."""

    fixed: np.ndarray
    variances: np.ndarray
    sigma2: float


def boosting(data: pd.DataFrame, seed: int, df: int) -> Predictions:
    """Fit to the rows that a method may see and predict all others."""
    N = ns(data["t"].to_numpy(), df)
    N = np.linalg.qr(N - N.mean(0))[0] * np.sqrt(len(N))
    basis = np.column_stack([np.ones(len(N)), N])
    seen = (data["observed"] & (data["set"] != "new")).to_numpy()
    ids = data["id"].to_numpy()
    learners = np.unique(ids[seen])
    away = np.random.default_rng([seed, 19]).permutation(learners)[: len(learners) // 5]
    left = seen & np.isin(ids, away)
    tried = {}
    model = fit(data, basis, seen & ~left, max(ROUNDS))
    for rounds in ROUNDS:
        found = read(model, data, rounds)
        tried[rounds] = subject_scores(found, basis, data, left).mean()
    best = max(tried, key=lambda rounds: tried[rounds])
    found = read(fit(data, basis, seen, best), data, best)
    known = (data["observed"] | (data["set"] == "new")).to_numpy()
    return posterior(found, basis, data, known)


def fit(data: pd.DataFrame, basis: np.ndarray, rows: np.ndarray, rounds: int):  # type: ignore[no-untyped-def]
    """GPBoost's booster and its Gaussian process model."""
    import gpboost

    ids = data.loc[rows, "id"].to_numpy()
    effects = gpboost.GPModel(
        group_data=ids,
        group_rand_coef_data=basis[rows, 1:],
        ind_effect_group_rand_coef=[1] * (basis.shape[1] - 1),
        likelihood="gaussian",
        num_parallel_threads=1,
    )
    values = gpboost.Dataset(data.loc[rows, INPUTS].to_numpy(), data.loc[rows, "y"].to_numpy())
    parameters = {**TREES, "num_threads": 1}
    booster = gpboost.train(
        params=parameters, train_set=values, gp_model=effects, num_boost_round=rounds
    )
    return booster, effects


def read(model, data: pd.DataFrame, rounds: int) -> Boosted:  # type: ignore[no-untyped-def]
    """The trees' sum after some rounds, and the variances."""
    booster, effects = model
    fixed = booster.predict(
        data=data[INPUTS].to_numpy(), num_iteration=rounds, ignore_gp_model=True
    )
    variances = np.asarray(effects.get_cov_pars()).ravel()
    return Boosted(np.asarray(fixed), variances[1:], float(variances[0]))


def subject_scores(
    found: Boosted, basis: np.ndarray, data: pd.DataFrame, rows: np.ndarray
) -> np.ndarray:
    """log p(y_i) of the outcomes in ``rows``, one number per subject."""
    residual, sizes = data["y"].to_numpy()[rows] - found.fixed[rows], []
    starts = np.flatnonzero(np.diff(data["id"].to_numpy()[rows], prepend=-1))
    for r, Z in zip(np.split(residual, starts[1:]), np.split(basis[rows], starts[1:]), strict=True):
        V = (Z * found.variances) @ Z.T + found.sigma2 * np.eye(len(r))
        L = np.linalg.cholesky(V)
        white = np.linalg.solve(L, r)
        sizes.append(-0.5 * white @ white - np.log(np.diag(L)).sum())
        sizes[-1] -= 0.5 * len(r) * np.log(2 * np.pi)
    return np.array(sizes)


def posterior(
    found: Boosted, basis: np.ndarray, data: pd.DataFrame, known: np.ndarray
) -> Predictions:
    """Mean and interval of every row given the outcomes known of its subject, in closed form."""
    n = data["id"].nunique()
    wide = basis.reshape(n, -1, basis.shape[1])
    weight = known.reshape(n, -1) / found.sigma2
    r = np.where(known, data["y"] - found.fixed, 0.0).reshape(n, -1)
    P = np.einsum("njq,nj,njr->nqr", wide, weight, wide) + np.diag(1 / found.variances)
    covariance = np.linalg.inv(P)
    b = np.einsum("nqr,njr,nj->nq", covariance, wide, weight * r)
    mean = found.fixed + np.einsum("njq,nq->nj", wide, b).ravel()
    spread = np.einsum("njq,nqr,njr->nj", wide, covariance, wide).ravel() + found.sigma2
    half = special.ndtri(0.975) * np.sqrt(spread)
    new = (data["set"] == "new").to_numpy()
    index = data.loc[new, "id"].unique()
    scores = pd.Series(subject_scores(found, basis, data, new), index=index)
    return Predictions(mean, mean - half, mean + half, scores)
