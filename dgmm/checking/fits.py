"""Checks of a family in fits of y ~ x + (1 | id) to a few outcomes drawn from it."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch

from dgmm.api import load, mixed_model
from dgmm.checking.outcomes import Case
from dgmm.families import Family
from dgmm.fit import Fit
from dgmm.runtime.registry import members

__all__ = ["check_fits"]

SUBJECTS, ROWS = 8, 4

Check = Callable[["Fitting"], None]


@dataclass(frozen=True)
class Fitting:
    """A case, outcomes of some subjects, and the fit to them."""

    case: Case
    data: pd.DataFrame
    fit: Fit


def check_fits(case: Case) -> None:
    """Fit a small data set and run the checks on it."""
    data = _frame(case)
    try:
        fit = _fit(case, data)
    except ValueError as error:
        raise case.fail("fit", f"{len(data)} ordinary rows are not fitted: {error}") from error
    for check in CHECKS:
        check(Fitting(case, data, fit))


def invariance(one: Fitting) -> None:
    """Order of the rows, names of subjects, type of frame, unit and origin of x change nothing."""
    case, data, known = one.case, one.data, one.fit
    order = np.random.default_rng(2).permutation(len(data))
    other = data.iloc[order]
    columns = {
        **{name: other[name].to_numpy() for name in other},
        "id": np.array([f"subject {one}" for one in other["id"]]),
        "x": 1000 * other["x"].to_numpy() + 5,
    }
    found = _fit(case, columns)
    value, other_value = float(known.loglik()), float(found.loglik())
    if abs(value - other_value) > 1e-3:
        raise case.fail("invariance", f"the log-likelihood {value:.6f} becomes {other_value:.6f}")
    small, large = (float(fit.fixef()["x"]) for fit in (found, known))
    if abs(1000 * small - large) > 0.01 * max(abs(large), 0.1):
        raise case.fail(
            "invariance", f"x times 1000 has the coefficient {small:.6g}, x itself {large:.6g}"
        )


def kept(one: Fitting) -> None:
    """Pickled, copied and saved fits predict the same; one row does as it does among others."""
    case, data, fit = one.case, one.data, one.fit
    known = fit.predict(data)["fit"].to_numpy()
    again = {"pickle": pickle.loads(pickle.dumps(fit)), "deepcopy": copy.deepcopy(fit)}
    if type(case.family) in members("dgmm.families", Family).values():  # what a file can name
        with TemporaryDirectory() as folder:
            fit.save(Path(folder) / "fit")
            again["a file"] = load(Path(folder) / "fit")
    for way, other in again.items():
        if not np.allclose(other.predict(data)["fit"], known, rtol=1e-10):
            raise case.fail("kept", f"after {way} the fit predicts other values")
    alone = fit.predict(data.iloc[[3]])["fit"].iloc[0]
    if not np.isclose(alone, known[3], rtol=1e-8):
        raise case.fail("kept", f"a row alone is predicted {alone:g}, among others {known[3]:g}")


def degenerate(one: Fitting) -> None:
    """Constant outcomes, one row, ties, and rows without outcome end in a fit or a sentence."""
    case, data = one.case, one.data
    frames: dict[str, pd.DataFrame] = {
        f"all outcomes {y:g}": data.assign(y=y) for y in np.unique(case.sample)[[0, -1]]
    }
    frames |= {
        "one row": data.iloc[:1],
        "one subject": data.iloc[:ROWS],
        "a constant covariate": data.assign(x=1.0),
        "no outcome": data.assign(y=np.nan),
    }
    for words, frame in frames.items():
        try:
            _fit(case, frame)
        except ValueError as error:
            if len(str(error).split()) < 4:
                raise case.fail("degenerate", f"{words} ends in {str(error)!r}") from error
        except Exception as error:
            raise case.fail(
                "degenerate", f"{words} ends in {type(error).__name__}: {error}"
            ) from error


CHECKS: tuple[Check, ...] = (invariance, kept, degenerate)


def _frame(case: Case) -> pd.DataFrame:
    """Outcomes y of 8 subjects, drawn where the family can, else those of the sample in turn."""
    rng = np.random.default_rng(1)
    subject = np.repeat(np.arange(SUBJECTS), ROWS)
    x = rng.normal(size=len(subject))
    centre = float(case.eta.mean())
    eta = torch.from_numpy(centre + 0.2 * x + 0.3 * rng.normal(size=SUBJECTS)[subject])
    data = case.data(torch.from_numpy(np.resize(case.sample, len(subject))))
    try:
        y = case.family.simulate(eta, data, case.extra, torch.Generator().manual_seed(3)).numpy()
    except ValueError:
        y = rng.permutation(data.y.numpy())
    for at, value in zip((0, len(y) // 2, len(y) - 1), (0, -1, len(case.sample) // 2), strict=True):
        y[at] = case.sample[value]  # both ends are there
    if case.family.support == "ordered":
        y[1 : 1 + len(np.unique(case.sample))] = np.unique(case.sample)
    return pd.DataFrame({"id": subject, "x": x, "y": y, "m": data.trials.numpy()})


def _fit(case: Case, data: Any) -> Fit:
    left = "y / m" if case.family.support == "trials" else "y"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = mixed_model(f"{left} ~ x + (1 | id)", data, family=case.family, se=None, verbose=0)
    assert isinstance(fit, Fit)
    return fit
