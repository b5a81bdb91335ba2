"""The states of paths: where every subject is at each of its visits, and how well that is known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dgmm.record import Fitted

__all__ = ["states"]


def states(fit: Fitted, *, type: str = "smoothed") -> pd.DataFrame:
    """E(z | y) and sd(z | y) of the states of all paths at every row kept, in the user's order.

    Rows whose outcome is missing have states too. A level and a slope, ``llt(time):level`` and
    ``llt(time):slope``, are those of the subject beside the fixed part, the slope per unit of time.

    Those of a recursion are its latent variables, ``dmm(time):z1``: known up to what its networks
    can undo, turns and bends. Of a Kalman auto-encoder they are the codes.

    Args:
        fit: a fit with a path.
        type: "smoothed", given all outcomes; of a recursion also "filtered", given those of the row
            and before.

    Returns:
        Subject, time, and of every state two columns, its mean and ``sd(...)``. The states of a
        subject whose outcomes do not tell where a diffuse path begins are missing.

    Raises:
        ValueError: the model has no path, or one beside a network; another type.
    """
    if type not in ("smoothed", "filtered"):
        raise ValueError(f"type={type!r} is not one of smoothed, filtered")
    done = fit.estimate
    names = [pair for latent in done.model.latents for pair in latent.state_names()]
    if not names:
        raise ValueError("states() is for models with a path, such as (ou(time) | id)")
    panel = done.panel
    history = done.likelihood.on(done.model.history(panel))
    mean, variance = history.posterior(done.theta).states(type == "filtered")
    columns = {
        fit.memory.groups[0]: panel.ids[panel.subject.numpy()],
        fit.memory.spec.time_name or "time": panel.rows.time.numpy(),
    }
    for (name, factor), one, spread in zip(names, mean, variance, strict=True):
        columns[name] = factor * one.numpy()
        columns[f"sd({name})"] = np.sqrt(spread.numpy()) * factor
    return pd.DataFrame(columns, index=fit.memory.labels).iloc[fit.memory.back]
