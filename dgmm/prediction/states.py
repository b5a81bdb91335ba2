"""The states of paths: where every subject is at each of its visits, and how well that is known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dgmm.record import Fitted

__all__ = ["states"]


def states(fit: Fitted) -> pd.DataFrame:
    """E(z | y) and sd(z | y) of the states of all paths at every row kept, in the user's order.

    Rows whose outcome is missing have states too. A level and a slope, ``llt(time):level`` and
    ``llt(time):slope``, are those of the subject beside the fixed part, the slope per unit of time.

    Returns:
        Subject, time, and of every state two columns, its mean and ``sd(...)``. The states of a
        subject whose outcomes do not tell where a diffuse path begins are missing.

    Raises:
        ValueError: the model has no path, or one beside a network.
    """
    done = fit.estimate
    names = [pair for latent in done.model.latents for pair in latent.state_names()]
    if not names:
        raise ValueError("states() is for models with a path, such as (ou(time) | id)")
    panel = done.panel
    history = done.likelihood.on(done.model.history(panel))
    mean, variance = history.posterior(done.theta).states()
    columns = {
        fit.memory.groups[0]: panel.ids[panel.subject.numpy()],
        fit.memory.spec.time_name or "time": panel.rows.time.numpy(),
    }
    for (name, factor), one, spread in zip(names, mean, variance, strict=True):
        columns[name] = factor * one.numpy()
        columns[f"sd({name})"] = np.sqrt(spread.numpy()) * factor
    return pd.DataFrame(columns, index=fit.memory.labels).iloc[fit.memory.back]
