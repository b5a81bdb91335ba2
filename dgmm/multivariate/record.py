"""The record of a fit of several outcomes, on which all its functions are made."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from dgmm.design import Layout
from dgmm.estimate import Estimate
from dgmm.fit import Fit
from dgmm.formula import Several
from dgmm.information import Information, information
from dgmm.plan import Call
from dgmm.record import Memory
from dgmm.report.notes import statistical_messages

__all__ = ["FittedOutcomes"]


@dataclass(frozen=True, eq=False, repr=False)
class FittedOutcomes:
    """The fields of a joint fit; ``estimate`` is that of all outcomes, the first one in front."""

    several: Several
    calls: tuple[Call, ...]  # of every outcome by itself
    layout: Layout
    memories: tuple[Memory, ...]
    estimate: Estimate
    information: Information | None  # None after se=None, and after REML
    separate: tuple[Fit, ...]  # every outcome by itself
    versions: dict[str, str]
    frame: Any = field(default=None, repr=False, metadata={"saved": False})  # the user's, by name

    @property
    def names(self) -> tuple[str, ...]:
        """The outcomes."""
        return tuple(one.name for one in self.estimate.model.outcomes)

    def position(self, outcome: str) -> int:
        """The place of an outcome.

        Raises:
            ValueError: there is none of this name.
        """
        if outcome not in self.names:
            raise ValueError(f"outcome={outcome!r} is not one of {', '.join(self.names)}")
        return self.names.index(outcome)

    @cached_property
    def known(self) -> Information | None:
        """``information`` with the joint covariance of networks, which files do not hold."""
        info, call = self.information, self.calls[0]
        if info is None or info.joint is not None or self.estimate.model.linear:
            return info
        assert call.se is not None
        again = information(self.estimate, call.se, call.seed, call.control.hessian_draws)
        return replace(info, joint=again.joint)

    @cached_property
    def messages(self) -> tuple[str, ...]:
        """What the fit says about itself."""
        own = statistical_messages(self.estimate, self.information)
        return (*self.estimate.messages, *own)
