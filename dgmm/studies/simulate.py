"""The data of simulation studies I and II: sets of subjects, visits, dropout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from dgmm.runtime.gate import gate
from dgmm.runtime.registry import lookup
from dgmm.studies.base import Process

__all__ = ["find_process", "simulate_study", "training_frame"]

SETS = ("train", "landmark", "new")
LENGTH = 10.0  # of the study
LANDMARK = 5.0  # subjects of this set are seen up to here
SLOPE = 1.2  # of the dropout hazard, per SD of the outcome seen last
DROPOUT = 0.3  # share of the training subjects that leave before their last visit
FIRST_HAZARD = 3  # nobody leaves before the fourth visit


@gate
def simulate_study(
    process: str | Process,
    study: int = 1,
    seed: int = 1,
    n: Sequence[int] = (800, 200, 200),
    visits: int = 20,
) -> pd.DataFrame:
    """Simulate the data of simulation study I or II: one Gaussian outcome, known profiles.

        y_ij = mu(u_i, t_ij; age_i, sex_i, x_i) + e_ij,   u_i ~ N(0, I),   e_ij ~ N(0, sigma^2)

    Visits at (j + U(0.05, 0.95)) 10 / visits, j = 0, 1, ...; age ~ U(20, 70), sex 0 or 1, x ~ N(0,
    1). Study II adds dropout to the training subjects: after each visit from the fourth on, a
    subject leaves with logit probability alpha + 1.2 z, z the outcome just seen, standardised over
    all training outcomes; alpha makes exactly 30% leave before their last visit (missing at
    random, since what was seen decides).

    Args:
        process: "lmm" (a linear mixed model with natural splines), "sigmoid", "sinusoid", or a
            :class:`dgmm.studies.Process` of your own.
        study: 1, or 2 with dropout.
        seed: of the random numbers; study I and II of one seed have the same outcomes.
        n: numbers of subjects in the sets "train" (to fit to), "landmark" (seen up to t = 5, the
            rest is to be predicted) and "new" (never shown to a method).
        visits: planned visits per subject.

    Returns:
        A frame with one row per planned visit: id, set, t, age, sex, x, y, mu (the true
        subject-specific mean) and observed. y holds the outcomes that were not observed too; a
        method may see those of :func:`dgmm.studies.training_frame`.

    Raises:
        ValueError: an unknown process, or a study, size or number of visits that cannot be.

    Example:
        >>> import dgmm
        >>> data = dgmm.simulate_study("sigmoid", study=2, seed=1)
        >>> data.groupby("set", sort=False)["id"].nunique().to_dict()
        {'train': 800, 'landmark': 200, 'new': 200}
        >>> left = ~data[data["set"] == "train"].groupby("id")["observed"].all()
        >>> float(left.mean())
        0.3
    """
    chosen = find_process(process)
    n = _checked(study, seed, n, visits)
    rng = np.random.default_rng([seed, chosen.stream, 77])
    total = sum(n)
    set_ = np.repeat(SETS, n)
    age, sex = rng.uniform(20, 70, total), rng.integers(0, 2, total).astype(float)
    x, u = rng.normal(size=total), rng.normal(size=(total, chosen.dim))
    t = (np.arange(visits) + rng.uniform(0.05, 0.95, (total, visits))) * LENGTH / visits
    covariates = [np.broadcast_to(one[:, None], t.shape) for one in (age, sex, x)]
    columns = [torch.from_numpy(np.ascontiguousarray(one)) for one in (t, *covariates)]
    mu = chosen.profile(torch.from_numpy(u), *columns).numpy()
    y = mu + rng.normal(0, chosen.sigma, t.size).reshape(t.shape)
    observed = np.where(set_[:, None] == "landmark", t <= LANDMARK, True)
    if study == 2:
        train = set_ == "train"
        stays = _before_dropout(y[train], rng.uniform(size=t.shape)[train])
        observed[train] &= stays
    wide = {"t": t, **dict(zip(("age", "sex", "x"), covariates, strict=True)), "y": y, "mu": mu}
    frame = pd.DataFrame({name: values.ravel() for name, values in wide.items()})
    frame.insert(0, "set", np.repeat(set_, visits))
    frame.insert(0, "id", np.repeat(np.arange(total), visits))
    return frame.assign(observed=observed.ravel())


def training_frame(data: pd.DataFrame) -> pd.DataFrame:
    """What a method may see of a study: train and landmark rows, y missing where not observed.

    Rows that were not observed stay, so that ``fitted()`` of a fit predicts them.

    Example:
        >>> import dgmm
        >>> from dgmm.studies import training_frame
        >>> train = training_frame(dgmm.simulate_study("lmm", n=(20, 10, 10)))
        >>> train["id"].nunique(), bool(train.loc[train["t"] <= 5, "y"].notna().all())
        (30, True)
    """
    seen = data[data["set"] != "new"]
    return seen.assign(y=seen["y"].where(seen["observed"])).drop(columns=["mu", "observed"])


def find_process(process: str | Process) -> Process:
    """A process by its name; the folder ``dgmm/studies`` is the list."""
    if isinstance(process, Process):
        return process
    return lookup("dgmm.studies", Process, process, "process")()


def _checked(study: int, seed: int, n: Sequence[int], visits: int) -> tuple[int, int, int]:
    if study not in (1, 2):
        raise ValueError(f"study is 1 (complete) or 2 (30% dropout), not {study!r}")
    sizes = tuple(n) if isinstance(n, Sequence) else (n,)
    whole = all(isinstance(one, int | np.integer) and one >= 0 for one in sizes)
    if len(sizes) != 3 or not whole or sizes[0] < 1:
        raise ValueError(
            f"n={n!r} must be three numbers of subjects, train (at least 1), landmark, new"
        )
    if not (isinstance(visits, int | np.integer) and visits > FIRST_HAZARD + 1):
        raise ValueError(f"visits={visits!r} is not a whole number >= {FIRST_HAZARD + 2}")
    if not (isinstance(seed, int | np.integer) and seed >= 0):
        raise ValueError(f"seed={seed!r} is not a whole number >= 0")
    return sizes


def _before_dropout(y: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """True for the visits that take place, (n, J).

    A subject leaves after visit j when logit(U_ij) < alpha + slope z_ij, that is when alpha exceeds
    logit(U_ij) - slope z_ij. The smallest of these per subject is the alpha at which it leaves at
    all, and the quantile of the smallest ones is the alpha at which a given share leaves.
    """
    z = (y - y.mean()) / y.std()
    needed = np.log(uniform) - np.log1p(-uniform) - SLOPE * z
    needed[:, :FIRST_HAZARD] = np.inf
    needed[:, -1] = np.inf
    leaving = round(DROPOUT * len(y))
    alpha = np.sort(needed.min(1))[leaving - 1] if leaving else -np.inf
    leaves = needed <= alpha
    last = np.where(leaves.any(1), leaves.argmax(1), y.shape[1] - 1)
    return np.arange(y.shape[1]) <= last[:, None]
