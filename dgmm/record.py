"""The record of a fit: the call, the memory of the data, the estimate and what is known of it.

Functions of a fit take a :class:`Fitted`; :class:`dgmm.Fit` binds them as methods.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from dgmm.bayes import Chains
from dgmm.design import Column, Departures, Design, LeftOut, Specification
from dgmm.estimate import Estimate, Request
from dgmm.information import Information, information
from dgmm.information.restricted import restricted_information
from dgmm.plan import Call, request_behind
from dgmm.runtime.absent import WHY

__all__ = [
    "Fitted",
    "Memory",
    "chains_of",
    "check_maximum",
    "check_not_recursive",
    "check_rows",
    "joint_information",
    "parameter_information",
]


@dataclass(frozen=True, eq=False)
class Memory:
    """The part of the data that a fit keeps, rows in canonical order."""

    spec: Specification
    index: np.ndarray  # (N,) labels of the rows in the user's frame
    rows: np.ndarray  # (N,) positions of these rows
    groups: tuple[str, ...]  # grouping factor of each latent term
    terms: tuple[str, ...]  # (p,) term of the formula that each linear coefficient belongs to
    covariates: dict[str, Column]  # of the right-hand side as given
    nested_spec: Specification | None  # of the classical model beneath a deep one
    left_out: LeftOut  # rows of the user's frame with a gap, counted by column
    departures: Departures  # of the rows from the equations of columns left out
    frame: Any = field(default=None, repr=False, metadata={"saved": False})  # the user's, by name

    @classmethod
    def of(cls, design: Design, nested: Design | None, frame: Any) -> Memory:
        """The memory of a design and of the frame that it was built from."""
        return cls(
            design.spec,
            _labels(design.index),
            design.rows,
            tuple(
                block.grouping.name + (f" ({block.term.target})" if block.term.target else "")
                for block in design.latents
            ),
            design.fixed.terms,
            design.covariates,
            None if nested is None else nested.spec,
            design.left_out,
            design.departures,
            frame,
        )

    def ordered(self, at: np.ndarray) -> Memory:
        """The same rows in another order, ``at`` (N,)."""
        return replace(
            self,
            index=self.index[at],
            rows=self.rows[at],
            covariates={name: one.take(at) for name, one in self.covariates.items()},
            departures=replace(self.departures, values=self.departures.values[at]),
        )

    @property
    def labels(self) -> pd.Index:
        """Labels of the rows, (N,)."""
        return pd.Index(self.index.tolist())

    @property
    def back(self) -> np.ndarray:
        """Positions of the rows in the order of the user's frame, (N,)."""
        return np.argsort(self.rows, kind="stable")

    def series(self, values: np.ndarray, name: str) -> pd.Series:
        """Values (N,) in the order of the user's frame, labelled as its rows."""
        return pd.Series(values, index=self.labels, name=name).iloc[self.back]


@dataclass(frozen=True, eq=False, repr=False)
class Fitted:
    """A fitted model: six fields, on which every function of a fit is made."""

    call: Call
    memory: Memory
    estimate: Estimate
    information: Information | None  # None after se=None and after REML
    messages: tuple[str, ...]
    versions: dict[str, str]

    @property
    def formula(self) -> str:
        """The formula as it was written."""
        return self.call.formula

    @property
    def request(self) -> Request:
        """The request that the estimate answers, for fitting its model again."""
        return request_behind(self.call, self.estimate)

    @property
    def sampled(self) -> bool:
        """Whether the fit holds draws from a posterior in place of a maximum."""
        return self.estimate.sampled

    def fixef(self) -> pd.Series:
        """Linear coefficients, named as the columns they belong to."""
        model = self.estimate.model
        beta = model.beta(self.estimate.theta).detach().numpy()
        return pd.Series(beta, index=list(model.names), name="Estimate")


def chains_of(fit: Fitted, asked: str) -> Chains:
    """The chains of a fit; ValueError where it was not sampled."""
    found = fit.estimate.chains
    if found is None:
        raise ValueError(
            f"{asked} is for fits by method='gibbs'; this one is by {fit.estimate.method!r}"
        )
    return found


def check_alone(fit: Fitted, asked: str, instead: str) -> None:
    """Raise ValueError where the fit is one outcome of several, as the joint fit sees it."""
    if len(fit.estimate.model.outcomes) > 1:
        raise ValueError(
            f"{asked} fits models of one outcome again, and this is one of several in a joint "
            f"model: {instead}"
        )


def check_rows(fit: Fitted, asked: str) -> None:
    """Raise ValueError where the rows of the fit are not in memory."""
    if fit.estimate.panel.sums is not None:
        raise ValueError(f"{asked} {WHY}")


def check_maximum(fit: Fitted, asked: str, instead: str) -> None:
    """Raise ValueError where the fit is no maximum: of a sampled posterior, of a bound."""
    if fit.estimate.likelihood.bound:
        raise ValueError(
            f"{asked} is about the maximum of a likelihood, and of this model a lower bound is "
            "known: compare models by log_score() of subjects that they have not seen"
        )
    if fit.sampled:
        raise ValueError(
            f"{asked} is about the maximum of a likelihood, and this fit holds draws from the "
            f"posterior (method='gibbs'): {instead}, or refit with method='ml'"
        )


def check_not_recursive(fit: Fitted, asked: str) -> None:
    """Raise ValueError where the random part of a row is made of the rows and outcomes before."""
    if fit.estimate.model.recursive:
        raise ValueError(
            f"{asked} is about a random part that b alone makes at any row; a recursion makes it "
            "of the rows before, and of their outcomes: take moments of simulate()"
        )


def parameter_information(fit: Fitted) -> Information | None:
    """The information of a fit; of the restricted likelihood after REML."""
    done = fit.estimate
    if fit.information is None and done.method == "reml" and fit.call.se is not None:
        return restricted_information(done)
    return fit.information


def joint_information(fit: Fitted) -> Information | None:
    """That, with the joint covariance of network weights, which files do not hold."""
    info, deep = parameter_information(fit), not fit.estimate.model.linear
    if not deep or info is None or info.joint is not None or info.resampled is not None:
        return info
    assert fit.call.se is not None
    draws = fit.call.control.hessian_draws
    again = information(fit.estimate, fit.call.se, fit.call.seed, draws)
    return replace(info, joint=again.joint)


def _labels(index: pd.Index) -> np.ndarray:
    """The labels of an index, (N,): numbers as they are, all others (dates, pairs) as objects."""
    values = index.to_numpy()
    return values if values.dtype.kind in "iufb" else index.astype(object).to_numpy()
