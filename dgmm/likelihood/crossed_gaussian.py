"""Gaussian outcome with several grouping factors, nested or crossed: log p(y) in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from dgmm.likelihood.answers import Each, Observed
from dgmm.likelihood.base import SEPARATE_MODELS
from dgmm.likelihood.crossed_search import search
from dgmm.likelihood.crossed_statistics import CrossedStatistics, crossed_statistics
from dgmm.likelihood.gaussian import Gaussian, closed_form
from dgmm.likelihood.level_posterior import LevelPosterior
from dgmm.likelihood.posterior import Posterior
from dgmm.likelihood.profiling import Profile
from dgmm.likelihood.rules import NodeRule
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta

__all__ = ["NOT_SEPARATE", "CrossedGaussian", "not_crossed"]

NOT_SEPARATE = f"log-likelihoods and scores of single subjects are for {SEPARATE_MODELS}"


def not_crossed(model: Model, panel: Panel) -> str | None:
    """Why a model does not have several grouping factors that can be eliminated."""
    if not panel.several:
        return "it is for several grouping factors"
    if len(model.outcomes) > 1:
        return "several grouping factors are for one outcome"
    if model.networks or not model.by_columns:
        return "several grouping factors are for random effects T Lambda b and models without dnn()"
    if model.parts:
        named = " and ".join(f"{one.name}=" for one in model.parts)
        return f"{named} is for one grouping factor; the formula has several"
    return None


@dataclass(frozen=True, eq=False)
class CrossedGaussian(Gaussian):
    """The (restricted) log-likelihood of a linear mixed model with several grouping factors."""

    separate = False

    @classmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        return not_crossed(model, panel) or closed_form(model)

    @cached_property
    def statistics(self) -> CrossedStatistics:
        """One pass over the observed rows."""
        return crossed_statistics(self.model, self.observed)

    def each(self, theta: Theta) -> Each:
        raise ValueError(NOT_SEPARATE)

    def scores(self, theta: Theta, packing: Packing | None = None) -> Tensor:
        raise ValueError(NOT_SEPARATE)

    def score_rule(self) -> NodeRule:
        raise ValueError(NOT_SEPARATE)

    def posterior(self, theta: Theta) -> Posterior:
        return LevelPosterior(self.model, theta, self.observed)

    def information(self, theta: Theta, packing: Packing) -> Observed:
        found = super().information(theta, packing)
        self.statistics.forget()
        return found

    def _profile(self) -> Profile:
        found = search(self.statistics, self.restricted)
        self.statistics.forget()
        return found
