"""What the information about theta-hat is kept in, and about which parameters it is."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from dgmm.model import Model
from dgmm.parameters import Packing

__all__ = ["Information", "Joint", "positions", "reported_packing"]


SILENT = 0.5
"""Effective degrees of freedom below which a network on the fixed side has no curve."""


@dataclass(frozen=True)
class Joint:
    """Covariance of all of theta, layers of networks included, on the internal scale."""

    packing: Packing
    vcov: Tensor  # (P, P), NaN for parameters held at a boundary


@dataclass(frozen=True)
class Information:
    """Covariance of the reported parameters on the internal scale, and how it was made."""

    packing: Packing
    vcov: Tensor  # (P_r, P_r), NaN for parameters held at a boundary
    inverse_hessian: Tensor  # (P_r, P_r), the same unless a sandwich was asked for
    form: str
    smallest_eigenvalue: float  # of the information, scaled to unit diagonal
    asymmetry: float
    boundary: tuple[str, ...]  # columns of T without a variance of their own
    effective: dict[str, float]  # effective degrees of freedom per network
    messages: tuple[str, ...]
    joint: Joint | None = field(
        default=None, repr=False, compare=False, metadata={"saved": False}
    )  # with networks; large, and made again when a fit was read from a file
    resampled: Tensor | None = None  # (B, P) all of theta, a row per resample or draw
    posterior: bool = False  # rows are draws from the posterior, not resamples of se="bootstrap"

    def silent(self, model: Model) -> tuple[int, ...]:
        """The networks on the fixed side (0, 1, ...) of which only the linear part is left."""
        networks = range(len(model.networks))
        return tuple(i for i in networks if self.effective.get(f"dnn{i + 1}", 1.0) < SILENT)


def reported_packing(model: Model) -> Packing:
    """beta, linear variance components, extra parameters; no network weights."""
    names = [f"{one.key}{name}" for one in model.outcomes for name in ("beta", "extra")]
    names += ["shared", *(model.residual.shapes() if model.residual is not None else ())]
    for i, latent in enumerate(model.latents, 1):
        if not latent.neural:
            names += [f"latent{i}.{name}" for name in latent.shapes()]
    return model.packing.only(names)


def positions(model: Model, packing: Packing) -> Tensor:
    """Positions in theta of the entries of a packing, in the order of that packing."""
    return model.packing.places(packing)
