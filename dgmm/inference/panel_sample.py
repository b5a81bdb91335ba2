"""The rows of a fit with cre() as a panel: which may be tested, and in which order they stand."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dgmm.design import Table
from dgmm.inference.nesting import inside
from dgmm.inference.within import Sample
from dgmm.record import Fitted
from dgmm.runtime.registry import suggestion

__all__ = ["means_of", "panel_sample", "unnamed"]


def means_of(fit: Fitted) -> tuple[str, ...]:
    """The columns that cre() adds to the fixed ones.

    Raises:
        ValueError: there are none, or the model is none of those that panel_test() is about.
    """
    done, between = fit.estimate, fit.memory.spec.between
    made = [one.names for key, one in between.items() if key.startswith("given")]
    means = tuple(n for names in made for n in names if n in done.model.names)
    if not made:
        raise ValueError(
            f"panel_test() is about the means of covariates within subjects, and {fit.formula!r} "
            "has none: fit it with (1 | cre(id, ~ x)), x the covariates that vary within subjects"
        )
    if not means:
        raise ValueError("panel_test(): no mean in cre() tells subjects apart, so none is tested")
    if not done.model.linear:
        raise ValueError(
            "panel_test() is for models without dnn(): a network of the means takes part of what "
            "is tested. Refit with linear terms, cre(id, ~ x)"
        )
    if done.panel.several:
        raise ValueError("panel_test() is for one grouping factor: the subjects of the panel")
    if done.model.parts:
        raise ValueError("panel_test() is for models without zi= and dispersion=")
    if bool((done.observed.rows.data.weights != 1).any()):
        raise ValueError("panel_test() is for fits without prior weights, weights=")
    return means


def panel_sample(fit: Fitted, time: str | None) -> Sample:
    """All columns of the observed rows, sorted by subject and then by time."""
    done, panel = fit.estimate, fit.estimate.observed
    order = np.lexsort([_order(fit, time), panel.subject.numpy()])
    rows = panel.rows
    X, y, offset = (
        one.numpy()[order] for one in (rows.X, rows.data.y / rows.data.trials, rows.offset)
    )
    _, subject = np.unique(panel.subject.numpy()[order], return_inverse=True)
    return Sample(tuple(done.model.names), X, y, offset, subject)


def unnamed(sample: Sample, levels: Sample) -> list[str]:
    """The columns that vary within subjects and whose means the model does not hold."""
    own = levels.columns(levels.varying())
    known = inside(own.mean(own.X)[own.subject], sample.X)
    return [name for name, held in zip(own.names, known, strict=True) if not held]


def _order(fit: Fitted, time: str | None) -> np.ndarray:
    """What sorts the observed rows of a subject, (N_obs,)."""
    memory, seen = fit.memory, fit.estimate.panel.observed.numpy()
    name = memory.spec.time_name if time is None else time
    if name is None:
        return memory.rows[seen]
    if name in memory.covariates:
        return memory.covariates[name].values[seen]
    table = Table.of({} if memory.frame is None else memory.frame)
    if name not in table.names:
        known = list(dict.fromkeys([*memory.covariates, *table.names]))
        raise ValueError(f"panel_test(): there is no column {name!r}{suggestion(name, known)}")
    codes, _ = pd.factorize(table.series(name), sort=True)
    return np.asarray(codes)[memory.rows[seen]]
