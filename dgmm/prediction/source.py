"""What predictions are made from: an estimate of theta, or draws from its posterior."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.families import Extra
from dgmm.information import Information
from dgmm.likelihood import Predictive
from dgmm.panel import Panel
from dgmm.prediction.options import Wanted

__all__ = ["Rows", "Source"]


@dataclass(frozen=True)
class Rows:
    """Rows to predict, with the outcomes seen of their subjects in the same order.

    given: the outcomes were given with the rows, and are not those of the fit.
    """

    target: Panel
    past: Panel
    given: bool
    seed: int


@dataclass(frozen=True)
class Source(ABC):
    """The numbers behind predictions of one fit."""

    done: Estimate

    @abstractmethod
    def columns(self, rows: Rows, info: Information | None, wanted: Wanted) -> dict[str, Tensor]:
        """The columns of a prediction, (N,) each: fit, and with an interval se, lower, upper."""

    @abstractmethod
    def fitted(self, scale: str, seed: int) -> Tensor:
        """E{h(eta) | y} for every planned row, (N,)."""

    @abstractmethod
    def simulations(
        self, nsim: int, generator: torch.Generator, seed: int, condition: bool
    ) -> Tensor:
        """Outcomes for every planned row, (N, nsim); with the effects of the fit on condition."""

    @abstractmethod
    def effects(self, seed: int, cond_var: bool) -> dict[str, pd.DataFrame]:
        """The effects of the levels of every grouping factor, in units of the coefficients."""

    @abstractmethod
    def scores(self, panel: Panel, seed: int) -> tuple[Tensor, Tensor]:
        """log p(y_i) of the outcomes seen in a panel and its numerical error, (n,) each."""

    @abstractmethod
    def normal(self, rows: Rows) -> Predictive | None:
        """The mean and variance of eta given the outcomes seen where it is normal, (N,) each."""

    @abstractmethod
    def eta(self, rows: Rows, size: int) -> tuple[Tensor, Extra]:
        """Draws of eta (S, N), at least ``size``, with the parameters of the family beside them."""
