"""A fit as a model of the Python package marginaleffects.

    from dgmm.adapters.marginaleffects import ModelDgmm
    from marginaleffects import avg_slopes

    avg_slopes(ModelDgmm(fit), variables="time")

Predictions are those of :meth:`dgmm.Fit.effects`, made by the specification of the fit: bases such
as ns() and bs() keep their knots whatever the grid. Arel-Bundock, Greifer and Heiss (2024), J.
Statistical Software 111(9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import polars as pl
import torch
from marginaleffects.classes import ModelAbstract, ModelVault

from dgmm.fit import Fit
from dgmm.inference.covariate_effects import mean_part
from dgmm.inference.mean_part import MeanFunction, MeanPart
from dgmm.parameters import Theta

__all__ = ["ModelDgmm"]


@dataclass(frozen=True)
class NewRows:
    """Rows at which the model is asked for; their design is built once for all parameters."""

    mean: MeanPart
    frame: pl.DataFrame
    offset: float | None

    def __getitem__(self, rows: slice) -> NewRows:
        return NewRows(self.mean, self.frame[rows], self.offset)

    @property
    def shape(self) -> tuple[int, int]:
        """That of the frame."""
        return self.frame.shape

    @cached_property
    def function(self) -> MeanFunction:
        """The quantity at the rows."""
        known = [name for name in self.frame.columns if name in self.mean.covariates]
        columns = {name: self.frame[name].to_list() for name in known}
        return self.mean.mean(self.mean.frame(columns, len(self.frame)), self.offset)


@final
class ModelDgmm(ModelAbstract):
    """A fit for predictions(), comparisons(), slopes() and their averages.

    Args:
        fit: a fit of :func:`dgmm.mixed_model` with standard errors.
        scale: "response" (the mean) or "link" (the linear predictor).
        type: of a mean: "marginal" (the default, random effects integrated out) or "mean_subject".
        offset: of every row; 0, a rate, by default for means, its own for the linear predictor.

    Raises:
        ValueError: an unknown word, or a fit without standard errors.
        TypeError: no fit.
    """

    def __init__(
        self,
        fit: Fit,
        *,
        scale: str = "response",
        type: str | None = None,
        offset: float | None = None,
    ) -> None:
        if not isinstance(fit, Fit):
            raise TypeError(f"ModelDgmm() needs a fit from mixed_model(), not {fit!r}")
        self._mean = mean_part(fit, scale, type)
        self._offset = offset
        outcome = fit.memory.spec.parsed().response.text
        data = _polars(self._mean).with_columns(
            pl.Series(outcome, fit.estimate.observed.rows.data.y.numpy())
        )
        vault = ModelVault(
            coef=self._turned(self._start),
            coefnames=np.array(self._names()),
            formula=_formula,
            modeldata=data,
            package="dgmm",
            vcov=self._covariance(),
            variable_names=[outcome, *self._mean.own],
        )
        super().__init__(fit, vault)

    def get_vcov(self, vcov: Any = True) -> np.ndarray | None:
        """The covariance of the parameters; False for none.

        Raises:
            ValueError: another kind, which the fit has to be asked for: ``se="sandwich"``.
        """
        if isinstance(vcov, str):
            raise ValueError(
                f"vcov={vcov!r}: the standard errors are those of the fit; ask mixed_model() for "
                "se='sandwich' or se='bootstrap'"
            )
        return None if vcov is False or vcov is None else self._covariance()

    def get_exog(self, newdata: pl.DataFrame) -> NewRows:
        """The rows of a frame as the fit reads them."""
        return NewRows(self._mean, newdata, self._offset)

    def get_predict(self, params: np.ndarray, newdata: NewRows) -> pl.DataFrame:
        """Predictions at some values of the parameters: rowid and estimate."""
        with torch.no_grad():
            value = newdata.function.value(self._theta(params)).numpy()
        return pl.DataFrame({"rowid": np.arange(len(value)), "estimate": value})

    # -- parameters: the coefficients as the user wrote them, all others on their internal scale ---

    @cached_property
    def _packing(self) -> Any:
        own = self._mean.quantity.packing
        return own.only([name for name in own.shapes if name in self._mean.known.packing.shapes])

    @cached_property
    def _start(self) -> np.ndarray:
        return self._packing.pack(self._mean.done.theta).detach().numpy()

    @cached_property
    def _turn(self) -> np.ndarray:
        turn, at = np.eye(self._packing.size), self._packing.positions(["beta"]).numpy()
        turn[np.ix_(at, at)] = self._mean.done.model.basis.numpy()
        return turn

    def _turned(self, x: np.ndarray) -> np.ndarray:
        return self._turn @ x

    def _theta(self, params: np.ndarray) -> Theta:
        x = np.linalg.solve(self._turn, np.asarray(params, dtype=float).reshape(-1))
        return {**self._mean.done.theta, **self._packing.unpack(torch.from_numpy(x))}

    def _covariance(self) -> np.ndarray:
        inner = self._mean.known.covariance(self._packing).numpy()
        return self._turn @ inner @ self._turn.T

    def _names(self) -> Sequence[str]:
        found: list[str] = []
        for name, shape in self._packing.shapes.items():
            size = int(np.prod(shape))
            own = [name] if not shape else [f"{name}[{j}]" for j in range(size)]
            found += self._mean.done.model.names if name == "beta" else own
        return found


def _formula(data: pl.DataFrame) -> None:
    """In place of a formula that another package would read: the fit builds its own design."""


def _polars(mean: MeanPart) -> pl.DataFrame:
    """The covariates of the observed rows; categories with the levels of the fit, in order."""
    columns = {}
    for name, values in mean.sample.items():
        levels = mean.spec.levels_of(str(name)) or mean.covariates[str(name)].variable.levels
        if levels:
            words = [str(level) for level in levels]
            columns[name] = pl.Series([str(value) for value in values], dtype=pl.Enum(words))
        else:
            columns[name] = pl.Series(values.to_numpy())
    return pl.DataFrame(columns)
