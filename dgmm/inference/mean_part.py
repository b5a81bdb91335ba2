"""The mean part at any covariates, with its derivatives in the parameters and its standard error.

    var{f(x)} = J V J',   J = d f(x) / d theta,   V = (F + kappa S)^-1

with f the linear predictor mu1, which moves with m = (beta, weights) alone, or a mean.

V is the Bayesian covariance of a penalised fit: its bands allow for the bias of the penalty on
average over the sample. Wahba (1983), J. R. Statist. Soc. B 45, 133-150; Nychka (1988), J. American
Statistical Association 83, 1134-1143; Marra and Wood (2012), Scandinavian J. Statistics 39, 53-74.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.design import (
    Column,
    Departures,
    Design,
    Specification,
    covariate_frame,
    names_of,
    rebuild,
    typical_value,
)
from dgmm.estimate import Estimate
from dgmm.families.links import Link
from dgmm.inference.quantities import Quantity
from dgmm.information import (
    Derivative,
    Information,
    MeanSlopes,
    Spread,
    Uncertainty,
    mean_packing,
    uncertainty,
)
from dgmm.model import within
from dgmm.panel import Panel, Rows
from dgmm.parameters import Theta
from dgmm.prediction.new_values import tell_beyond
from dgmm.runtime.registry import suggestion

__all__ = ["MeanFunction", "MeanPart"]

ROWS = 2_000


@dataclass(frozen=True)
class MeanFunction:
    """A function of the parameters, (G,), and its derivatives in those of a quantity, (G, P).

    departures: its derivatives in the coefficients left out, (G, D): a function is estimable where
        they vanish.
    """

    value: Callable[[Theta], Tensor]
    slope: Callable[[], Tensor]
    departures: Departures

    def __sub__(self, other: MeanFunction) -> MeanFunction:
        apart = self.departures.values - other.departures.values
        return MeanFunction(
            lambda theta: self.value(theta) - other.value(theta),
            lambda: self.slope() - other.slope(),
            replace(self.departures, values=apart),
        )

    def __truediv__(self, divisor: float) -> MeanFunction:
        return MeanFunction(
            lambda theta: self.value(theta) / divisor,
            lambda: self.slope() / divisor,
            self.departures,
        )

    def combined(self, L: np.ndarray) -> MeanFunction:
        """L f, L (H, G)."""
        factors = torch.from_numpy(L)
        return MeanFunction(
            lambda theta: factors @ self.value(theta),
            lambda: factors @ self.slope(),
            replace(self.departures, values=L @ self.departures.values),
        )

    @staticmethod
    def stacked(functions: Sequence[MeanFunction]) -> MeanFunction:
        """Several functions as one, (G_1 + G_2 + ...,)."""
        values = np.concatenate([one.departures.values for one in functions])
        return MeanFunction(
            lambda theta: torch.cat([one.value(theta) for one in functions]),
            lambda: torch.cat([one.slope() for one in functions]),
            replace(functions[0].departures, values=values),
        )

    def on(self, link: Link, theta: Theta) -> MeanFunction:
        """g(f) of a link g: log f, logit f; derivatives at ``theta``."""

        def slope() -> Tensor:
            return self.slope() / link.derivative(link.forward(self.value(theta)))[:, None]

        return MeanFunction(lambda at: link.forward(self.value(at)), slope, self.departures)


@dataclass(frozen=True)
class MeanPart:
    """A quantity of a fit as a function of the covariates."""

    quantity: Quantity
    info: Information | None  # None: without standard errors
    spec: Specification
    covariates: Mapping[str, Column]
    terms: tuple[str, ...]  # (p,) of the linear columns

    @property
    def done(self) -> Estimate:
        """The estimate that all of it is about."""
        return self.quantity.done

    # -- parameters ----------------------------------------------------------------------------

    @cached_property
    def known(self) -> Uncertainty:
        """Of m: linear coefficients, and weights where a network is on the fixed side.

        Of a mean over the population: of all parameters, those at a boundary taken as known.
        """
        if self.info is None:
            raise ValueError("this fit has no standard errors (se=None), which bands are made of")
        if not self.quantity.whole:
            return uncertainty(self.done, self.info, weights=bool(self.done.model.networks))
        found = uncertainty(self.done, self.info, weights=True)
        return found if found.empty else found.taking_held_as_known()

    def spread(self, function: MeanFunction) -> Spread:
        """The functions at m-hat with their standard errors; missing where not estimable.

        Raises:
            ValueError: the fit has none.
        """
        slope = Derivative.dense(self.quantity.packing, function.slope)
        found = self.known.of(function.value, slope)
        if bool(found.se.isnan().any()):
            messages = () if self.info is None else self.info.messages
            raise ValueError(f"this fit has no standard errors: {'; '.join(messages)}")
        unknown = torch.from_numpy(~function.departures.estimable)
        return replace(
            found,
            value=found.value.masked_fill(unknown, torch.nan),
            left=found.left.masked_fill(unknown[:, None], torch.nan),
        )

    def silent(self, frame: pd.DataFrame) -> tuple[str, ...]:
        """The networks without a curve whose inputs differ between the rows of a frame."""
        rows, model = self.rows(frame)[0], self.done.model
        silent = () if self.info is None else self.info.silent(model)
        return tuple(
            model.networks[i].label for i in silent if bool((rows.inputs[i].std(0) > 0).any())
        )

    # -- covariates ----------------------------------------------------------------------------

    @cached_property
    def sample(self) -> pd.DataFrame:
        """Covariates of the observed rows; with cre() their subjects too, whose means they keep."""
        seen = self.done.panel.observed.numpy()
        frame = covariate_frame({name: c.take(seen) for name, c in self.covariates.items()})
        if not self.spec.between:
            return frame
        panel, terms = self.done.panel, len(self.done.model.latents)
        groups: dict[str, np.ndarray] = {}
        for f, factor in enumerate(panel.factors(terms)):
            level = panel.rows.level[f] if panel.several else panel.subject
            memory = self.spec.groupings[factor.terms[0]]
            groups |= memory.columns_at(level.numpy()[seen])
        return frame.assign(**{name: v for name, v in groups.items() if name not in frame})

    @cached_property
    def typical(self) -> dict[str, Any]:
        """Means of numbers over the rows of the fit, first levels of categories."""
        return {
            name: typical_value(column, self.spec.levels_of(name))
            for name, column in self.covariates.items()
        }

    @cached_property
    def of_offset(self) -> tuple[str, ...]:
        """The covariates of the offset() terms."""
        texts = self.spec.parsed().offsets
        used = {name for text in texts for name in names_of(text, self.covariates)}
        return tuple(name for name in self.covariates if name in used)

    @property
    def has_offset(self) -> bool:
        """Whether the predictor holds an offset, of a term or of the argument."""
        return bool(self.of_offset) or self.mean_offset is not None

    @cached_property
    def own(self) -> tuple[str, ...]:
        """The covariates of mu1, in the order of the formula."""
        used = self._design(pd.DataFrame([self.typical])).of_mean
        return tuple(name for name in self.covariates if name in used)

    def random_covariates(self, terms: Sequence[int]) -> tuple[str, ...]:
        """The covariates of some random parts, in the order of the formula."""
        latents = self._design(pd.DataFrame([self.typical])).latents
        blocks = [latents[i].columns for i in terms] + [
            latents[i].basis or latents[i].columns for i in terms
        ]
        used = frozenset().union(*(one for block in blocks for one in block.variables))
        return tuple(name for name in self.covariates if name in used)

    def check(self, names: Any, further: Sequence[str] = ()) -> None:
        """Every name must be a covariate of the fixed part, or one of some others."""
        for name in names:
            if name not in self.own and name not in further:
                hint = suggestion(str(name), list(self.own))
                raise ValueError(
                    f"{name!r} is no covariate of the fixed part{hint} It has "
                    f"{', '.join(map(repr, self.own)) or 'none'}."
                )

    def check_values(
        self, given: Mapping[str, Any], what: str, further: Sequence[str] = ()
    ) -> None:
        """Check the names of a setting, and warn of numbers beyond those of the fit."""
        self.check(given, further)
        for name, value in given.items():
            if name in self.own and self.covariates[name].variable.kind == "number":
                new = pd.to_numeric(pd.Series(np.ravel(value), dtype=object), errors="coerce")
                tell_beyond(name, new.to_numpy(float), self.sample[name].to_numpy(), what, "values")

    def frame(self, columns: Mapping[str, Any], size: int) -> pd.DataFrame:
        """A frame of ``size`` rows: the given columns, all others at their typical value."""
        full = {**self.typical, **columns}
        for name in full:
            if name not in self.covariates:
                raise ValueError(
                    f"{name!r} is no covariate of the model, which has "
                    f"{', '.join(map(repr, self.covariates)) or 'none'}"
                )
        made = {name: self._column(name, full[name], size) for name in full}
        return pd.DataFrame(made, index=pd.RangeIndex(size))  # rows, even without a column

    def _column(self, name: str, value: Any, size: int) -> Any:
        given = np.asarray(value, dtype=object)
        if given.size not in (1, size):
            raise ValueError(f"`{name}` is held at one value, not at {given.size}: {value!r}")
        values = list(np.broadcast_to(given.reshape(-1), (size,)))
        variable = self.covariates[name].variable
        if variable.kind == "number":
            return self._finite(name, values)
        if variable.kind == "category":
            known = [level for level in variable.levels if level in values]
            return pd.Categorical(values, categories=known) if len(known) else values
        return values

    def _finite(self, name: str, values: list[Any]) -> np.ndarray:
        numbers = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").to_numpy(float)
        wrong = np.flatnonzero(~np.isfinite(numbers))
        if len(wrong):
            raise ValueError(
                f"`{name}` is a number, so its values are finite numbers, not {values[wrong[0]]!r}"
            )
        return numbers

    def rows(self, frame: pd.DataFrame) -> tuple[Rows, Departures]:
        """Rows of the model in the order of the frame; an offset column counts at its mean."""
        design, panel, order = self._at(frame)
        known = design.departures.of_mean()
        return panel.rows.take(order), replace(known, values=known.values[order.numpy()])

    def panel(self, frame: pd.DataFrame) -> tuple[Panel, Tensor]:
        """The same as a panel of one unknown subject, and the order that is that of the frame."""
        return self._at(frame)[1:]

    def _at(self, frame: pd.DataFrame) -> tuple[Design, Panel, Tensor]:
        design = self._design(frame)
        panel = within(self.done.model, Panel.from_design(design))
        rows = replace(panel.rows, offset=panel.rows.offset + (self.mean_offset or 0.0))
        return design, replace(panel, rows=rows), torch.from_numpy(np.argsort(design.rows))

    @cached_property
    def mean_offset(self) -> float | None:
        """Mean of an offset= column or array over the rows of the fit; None without one.

        offset() terms are in the rows.
        """
        if self.spec.offset is None and not self.spec.offset_array:
            return None
        panel, design = self.done.panel, self._design(covariate_frame(self.covariates))
        return float(panel.rows.offset.mean()) - float(design.offset.mean())

    def _design(self, frame: pd.DataFrame) -> Design:
        spec = replace(self.spec, offset=None, offset_array=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return rebuild(spec, frame, outcome=False)

    # -- functions of the parameters -----------------------------------------------------------

    def offsets(self, frame: pd.DataFrame, offset: float | None) -> Tensor:
        """The offset of every row of a frame, (G,): the one given, else that of the quantity."""
        own = self.rows(frame)[0].offset
        held = self.quantity.offset if offset is None else offset
        return own if held is None else torch.full_like(own, held)

    def mean(self, frame: pd.DataFrame, offset: float | None = None) -> MeanFunction:
        """The quantity at the rows of a frame, at their offset or at the one given."""
        quantity, (panel, departures, order) = self.quantity, self._held(frame, offset)
        return MeanFunction(
            lambda theta: quantity.value(theta, panel)[order],
            lambda: quantity.jacobian(panel)[order],
            departures,
        )

    def average(self, frame: pd.DataFrame, offset: float | None = None) -> MeanFunction:
        """The mean of the quantity over the rows of a frame, as one function."""
        (panel, departures, _), size = self._held(frame, offset), len(frame)
        place, quantity = torch.arange(size), self.quantity
        parts = [
            panel.keep((place >= at) & (place < at + ROWS)) if size > ROWS else panel
            for at in range(0, size, ROWS)
        ]

        def value(theta: Theta) -> Tensor:
            return (
                torch.stack([quantity.value(theta, some).sum() for some in parts]).sum()[None]
                / size
            )

        def slope() -> Tensor:
            sums = [quantity.jacobian(some).sum(0) for some in parts]
            return torch.stack(sums).sum(0)[None] / size

        mean = departures.values.mean(axis=0, keepdims=True)
        return MeanFunction(value, slope, replace(departures, values=mean))

    def _held(self, frame: pd.DataFrame, offset: float | None) -> tuple[Panel, Departures, Tensor]:
        """The rows of a frame at their offset: a panel, and the order that is that of the frame."""
        design, panel, order = self._at(frame)
        held = self.quantity.offset if offset is None else offset
        if held is not None:
            own = torch.full_like(panel.rows.offset, held)
            panel = replace(panel, rows=replace(panel.rows, offset=own))
        known = design.departures.of_mean()
        return panel, replace(known, values=known.values[order.numpy()]), order

    def term(self, term: str, frame: pd.DataFrame) -> MeanFunction:
        """The contribution of one term, with mean zero over the sample."""
        rows, departures = self.rows(frame)
        labels = [network.label for network in self.done.model.networks]
        if term in labels:
            i = labels.index(term)
            return self._network(i, rows, departures.of_block(f"network {i}"))
        columns = [j for j, name in enumerate(self.terms) if name == term]
        if not columns or term == "(Intercept)":
            known = [*labels, *dict.fromkeys(t for t in self.terms if t != "(Intercept)")]
            hint = suggestion(term, known)
            raise ValueError(
                f"there is no term {term!r}{hint} The fixed part has {', '.join(known)}."
            )
        names = [self.done.model.names[j] for j in columns]
        return self._columns(columns, rows, departures.of_term(term, names))

    def _network(self, i: int, rows: Rows, departures: Departures) -> MeanFunction:
        model, packing = self.done.model, mean_packing(self.done.model)
        own = packing.positions([n for n in packing.shapes if n.startswith(f"dnn{i + 1}.")])

        def slope() -> Tensor:
            found = torch.zeros(len(rows.X), packing.size, dtype=torch.float64)
            found[:, own] = MeanSlopes.at(model, self.done.theta).network(i, rows)
            return found

        return MeanFunction(
            lambda theta: model.network_effect(model.prepare(theta), i, rows),
            slope,
            departures,
        )

    def _columns(self, columns: list[int], rows: Rows, departures: Departures) -> MeanFunction:
        model = self.done.model
        X = rows.X[:, columns] - self.done.observed.rows.X[:, columns].mean(0)

        def slope() -> Tensor:
            found = torch.zeros(len(X), mean_packing(model).size, dtype=torch.float64)
            found[:, : len(model.names)] = X @ model.basis[columns]
            return found

        return MeanFunction(lambda theta: X @ model.beta(theta)[columns], slope, departures)
