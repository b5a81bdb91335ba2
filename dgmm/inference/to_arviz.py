"""The draws of a fit as ArviZ holds them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from dgmm.inference.left_out import log_density_of_rows
from dgmm.inference.posterior import scalars
from dgmm.record import Fitted, chains_of

__all__ = ["as_arviz"]


def as_arviz(fit: Fitted, *, log_likelihood: bool = False) -> Any:
    """The draws for ArviZ: groups ``posterior``, ``random_effects`` and ``observed_data``.

    The posterior holds every reported scalar. ``effects_GROUP`` has the dimensions GROUP, with the
    labels of its levels, and GROUP_effect; its draws are those whose effects are kept, by their
    numbers in the posterior. Rows have the labels of the data frame.

    Args:
        fit: a fit by ``method="gibbs"``.
        log_likelihood: whether to add the log density of every outcome given its effects, for
            ``arviz_stats.loo``.

    Returns:
        An ``xarray.DataTree``.

    Raises:
        ImportError: arviz-base is not installed.
        ValueError: the fit was not sampled.
    """
    chains = chains_of(fit, "as_arviz()")
    try:
        from arviz_base import from_dict
    except ImportError as error:
        raise ImportError(
            "as_arviz() needs arviz-base: pip install arviz-base (or arviz); the draws themselves "
            "are in posterior_draws(fit)"
        ) from error
    found, done = scalars(fit), fit.estimate
    posterior = {name: found[name] for name in found.names}
    factors = done.panel.factors(len(done.model.latents))
    names = [factor.name or fit.memory.groups[0] for factor in factors]
    effects = {
        f"effects_{name}": one.reshape(chains.chains, -1, *one.shape[1:]).numpy()
        for name, one in zip(names, chains.effects, strict=True)
    }
    dims, coords = dict[str, list[str]](), dict[Hashable, Any]()
    for name, factor in zip(names, factors, strict=True):
        dims[f"effects_{name}"] = [name, f"{name}_effect"]
        coords[name] = list(factor.labels)
        own = [effect for term in factor.terms for effect in done.model.latents[term].names]
        coords[f"{name}_effect"] = own
    kept = chains.kept.numpy().reshape(chains.chains, -1)[0]
    tree = from_dict({"posterior": posterior})
    added = {
        "random_effects": from_dict(
            {"posterior": effects}, dims=dims, coords={**coords, "draw": kept}
        )
    }
    outcome, y = fit.memory.spec.parsed().response.text, fit.memory.series(_outcome(fit), "y")
    by_row = {outcome: ["row"]}
    added["observed_data"] = from_dict(
        {"observed_data": {outcome: y.to_numpy()}},
        dims=by_row,
        coords={"row": y.index.to_numpy()},
    )
    if log_likelihood:
        density, index = log_density_of_rows(fit)
        values = density.reshape(chains.chains, -1, density.shape[1])
        added["log_likelihood"] = from_dict(
            {"log_likelihood": {outcome: values}},
            dims=by_row,
            coords={"row": index.to_numpy(), "draw": kept},
        )
    for group, own_tree in added.items():
        (only,) = own_tree.children.values()
        tree[group] = only.copy()
    return tree


def _outcome(fit: Fitted) -> np.ndarray:
    """y of the planned rows, missing where it was not seen, (N,)."""
    panel = fit.estimate.panel
    found: np.ndarray = np.where(panel.observed.numpy(), panel.rows.data.y.numpy(), np.nan)
    return found
