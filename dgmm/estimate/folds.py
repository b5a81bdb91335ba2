"""Does the network help? Log scores of all subjects, each by a fit that has not seen it.

    gain_i = log p(y_i; deep fit without the fold of i) - log p(y_i; nested fit without it)

The deep fit without a fold f goes on from theta-hat of all subjects; penalties and start are those
of all subjects. To compare penalties one Newton step is enough,

    theta-hat - (M - sum_f s_i s_i')^-1 sum_f s_i,

the infinitesimal jackknife of a fold; the gain that is reported comes from fits brought near their
own maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dgmm.estimate.nested import FEWEST, Nested
from dgmm.estimate.records import Estimate, Request
from dgmm.likelihood import Likelihood, NodeRule, freeze
from dgmm.likelihood.rules import AroundOne
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.penalised.marginal import Climb, Top, climb

__all__ = ["Folds"]

SHARE = 0.2
"""Of the subjects in a fold, where none is asked for."""

REFIT = Climb(rounds=2, evaluations=12, tolerance=0.05)

DRAWS, SCRAMBLES = 128, 2
"""By which a subject left out is scored."""


@dataclass(frozen=True)
class Folds:
    """Subjects with an outcome, dealt out once and for all."""

    likelihood: Likelihood  # of the deep model
    request: Request
    left: tuple[np.ndarray, ...]  # positions of the subjects of every fold
    plain: Tensor  # (n,) log score by the nested fit without the fold; NaN without an outcome

    @classmethod
    def deal(
        cls, likelihood: Likelihood, below: Nested, classical: Estimate, request: Request
    ) -> Folds | None:
        """None where the subjects are too few to tell anything.

        classical: the nested fit to all subjects, where those without a fold begin.
        """
        panel = likelihood.panel
        seen = panel.subject[panel.observed].unique().numpy()
        if len(seen) < FEWEST:
            return None
        order = seen[np.random.default_rng([request.seed, 13]).permutation(len(seen))]
        number = max(2, round(1 / (request.control.holdout or SHARE)))
        left = tuple(np.sort(part) for part in np.array_split(order, number))
        plain = torch.full((panel.n,), torch.nan, dtype=torch.float64)
        for part in left:
            kept = np.setdiff1d(np.arange(panel.n), part)
            fitted = below.fit(kept, classical.theta)
            other = fitted.likelihood.on(below.panel.select(part)).by(seed=request.seed)
            plain[torch.from_numpy(part)] = other.each(fitted.theta).value
        return cls(likelihood, request, left, plain)

    @property
    def panel(self) -> Panel:
        """All planned rows."""
        return self.likelihood.panel

    def guess(self, model: Model, top: Top) -> Tensor:
        """The gain of every subject with an outcome, by one step from the fit to all of them."""
        packing, held = model.packing, []
        x = packing.pack(top.theta)
        for part in self.left:
            metric, total = top.metric.without(torch.from_numpy(part), self.panel.n)
            held.append(packing.unpack(x - metric.solve(total)))
        rule, scores = AroundOne(DRAWS * SCRAMBLES), []
        for part, theta in zip(self.left, held, strict=True):
            rng = np.random.default_rng([self.request.seed, 17])
            frozen = freeze(model, theta, self._left_out(part), rule, rng)
            scores.append(frozen.per_subject(theta))
        return self._gain(scores)

    def gain(self, model: Model, theta: Theta, rule: NodeRule | None) -> Tensor:
        """The gain of every subject with an outcome, by fits without its fold."""
        held = []
        for part in self.left:
            kept = self.panel.select(np.setdiff1d(np.arange(self.panel.n), part)).observed_rows()
            found = climb(model, theta, kept, self.request.seed, REFIT, rule=rule)
            own = self.likelihood.under(model).on(self.panel.select(part))
            held.append(own.by(draws=DRAWS, replicates=SCRAMBLES).each(found.theta).value)
        return self._gain(held)

    def _left_out(self, part: np.ndarray) -> Panel:
        return self.panel.select(part).observed_rows()

    def _gain(self, scores: Sequence[Tensor]) -> Tensor:
        score = torch.full_like(self.plain, torch.nan)
        for part, own in zip(self.left, scores, strict=True):
            score[torch.from_numpy(part)] = own
        gain = score - self.plain
        return gain[~gain.isnan()]
