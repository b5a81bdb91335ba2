"""Intervals of predictions: from theta-hat, from the random effects, from the outcome itself.

    confidence   h(E eta) +- z se,   se^2 = var from theta-hat  (+ h'^2 var(eta | y) of a subject)
    prediction   of y ~ F(eta), eta normal with both variances, or drawn from eta | y

Of a mean over the population E h(eta) takes the place of h(E eta). Parameters held at a boundary
are taken as known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from scipy import special
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.families import Family
from dgmm.families.links import LINKS
from dgmm.information import Derivative, Information, Spread, Uncertainty, uncertainty
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.prediction.moments import (
    Predictive,
    given_history,
    marginal,
    mean_subject,
    posterior_draws,
)
from dgmm.prediction.options import Wanted
from dgmm.prediction.sensitivity import (
    mean_slopes,
    population_slopes,
    response_slopes,
    subject_slopes,
)

__all__ = ["Target", "with_interval"]


@dataclass(frozen=True)
class Target:
    """Rows to predict, and the outcomes seen of their subjects in the same order."""

    done: Estimate
    past: Panel
    rows: Panel
    seed: int

    def point(self, type: str, scale: str) -> Tensor:
        """The prediction, (N,)."""
        done, theta = self.done, self.done.theta
        if type == "subject":
            return given_history(done, theta, self.past, self.rows, scale, self.seed).mean
        if type == "marginal":
            return marginal(done, theta, self.rows, scale).mean
        return mean_subject(done, theta, self.rows, scale)

    def predictor(self, type: str) -> Predictive:
        """E eta, and the variance of eta over a subject's own b, or over the population."""
        if type == "subject":
            done = self.done
            return given_history(done, done.theta, self.past, self.rows, "link", self.seed)
        population = marginal(self.done, self.done.theta, self.rows, "link")
        return Predictive(self.point(type, "link"), population.variance)

    def expected(self, theta: Theta, type: str, scale: str) -> Tensor:
        """E h(eta) over the population, else h(E eta), by the reported start alone.

        To first order the other starts move with theta as the reported one does.
        """
        done = replace(self.done, others=())
        if type == "marginal":
            return marginal(done, theta, self.rows, scale).mean
        if type == "mean_subject":
            return mean_subject(done, theta, self.rows, scale)
        eta = given_history(done, theta, self.past, self.rows, "link", self.seed).mean
        if scale == "link":
            return eta
        return done.model.family.mean(eta, done.model.extra(theta, self.rows.rows))

    def derivative(self, type: str, scale: str) -> Derivative | None:
        """That of :meth:`expected` in theta, where it is known in closed form."""
        model, theta, rows = self.done.model, self.done.theta, self.rows
        if type == "mean_subject":
            of_link = mean_slopes(model, theta, rows)
        elif model.linear:
            return None
        elif type == "marginal" and scale == "response":
            return population_slopes(model, theta, rows)
        elif type == "marginal":
            return mean_slopes(model, theta, rows)
        else:
            of_link = subject_slopes(model, theta, self.past, rows)
        if scale == "link":
            return of_link
        eta = self.expected(theta, type, "link")
        return response_slopes(model, theta, rows, eta, of_link)


def with_interval(target: Target, info: Information | None, wanted: Wanted) -> dict[str, Tensor]:
    """The columns of a prediction: fit, and with an interval se, lower, upper."""
    if wanted.scale == "categories":
        return _shares(target, wanted)
    point = target.point(wanted.type, wanted.scale)
    if wanted.interval is None:
        return {"fit": point}
    if info is None:
        raise ValueError("intervals need standard errors; this fit has none (se=None)")
    known = uncertainty(target.done, info, weights=True)
    if known.empty:
        raise ValueError(f"this fit has no standard errors: {'; '.join(info.messages)}")
    known = known.taking_held_as_known()
    if wanted.interval == "prediction":
        return {"fit": point, **_of_outcome(target, known, wanted)}
    return {"fit": point, **_of_mean(target, known, wanted, point)}


def _shares(target: Target, wanted: Wanted) -> dict[str, Tensor]:
    """P(y = k) of every category by its name: E{s(y)} with the score 1 for it and 0 for others."""
    family = target.done.model.family
    names = family.category_names
    if not names:
        raise ValueError(
            "scale='categories' gives the probabilities of ordered categories, family="
            f"'cumulative'; this fit has family {family.name!r}"
        )
    if wanted.interval is not None:
        raise ValueError("probabilities of categories come without intervals; leave interval out")
    found = {}
    for k, name in enumerate(names):
        scored = family.scored([float(j == k) for j in range(len(names))])
        found[name] = replace(target, done=_with_family(target.done, scored)).point(
            wanted.type, "response"
        )
    return found


def _with_family(done: Estimate, family: Family) -> Estimate:
    """The estimate with another mean of the same distribution, all starts included."""
    others = tuple(replace(one, model=one.model.with_outcome(family=family)) for one in done.others)
    model = done.model.with_outcome(family=family)
    return replace(done, likelihood=done.likelihood.under(model), others=others)


def _of_theta(target: Target, known: Uncertainty, type: str, scale: str) -> Tensor:
    """Standard errors of the expected value from theta-hat, (N,)."""
    return known.errors(
        lambda theta: target.expected(theta, type, scale), target.derivative(type, scale)
    )


def _of_mean(
    target: Target, known: Uncertainty, wanted: Wanted, point: Tensor
) -> dict[str, Tensor]:
    type, scale = wanted.type, wanted.scale
    model, rows = target.done.model, target.rows.rows
    se, centre = _of_theta(target, known, type, scale), point
    if type == "subject":
        eta, own = target.predictor(type)
        centre, slope = eta, torch.ones_like(eta)
        if scale == "response":
            extra = model.extra(target.done.theta, rows)
            centre, slope = model.family.mean(eta, extra), model.family.mean_slope(eta, extra)
        se = (se.square() + slope.square() * own).sqrt()
    link = LINKS["identity"] if scale == "link" else model.family.mean_link
    ends = Spread.independent(centre, se).interval(wanted.level, link)
    return {"se": se, "lower": ends[:, 0], "upper": ends[:, 1]}


def _of_outcome(target: Target, known: Uncertainty, wanted: Wanted) -> dict[str, Tensor]:
    """Standard deviation and quantiles of a new outcome, by simulation of eta and y.

    In closed form where the likelihood is exact.
    """
    if wanted.scale == "link":
        raise ValueError("interval='prediction' is about outcomes: use scale='response'")
    done, rows = target.done, target.rows.rows
    family, extra = done.model.family, done.model.extra(done.theta, rows)
    spread = _of_theta(target, known, wanted.type, "link")
    if done.likelihood.normal and wanted.type == "subject":  # eta | y and y | eta are normal
        eta, own = target.predictor(wanted.type)
        variance = family.variance(eta, rows.data, extra)
        se = (spread.square() + own + variance).sqrt()
        z = float(special.ndtri(0.5 + wanted.level / 2))
        return {"se": se, "lower": eta - z * se, "upper": eta + z * se}
    size = (wanted.draws, target.rows.n_rows)
    generator = torch.Generator().manual_seed(target.seed + 41)
    noise = torch.randn(*size, generator=generator, dtype=torch.float64)
    if wanted.type == "subject":
        eta = posterior_draws(done, target.past, target.rows, wanted.draws, target.seed)
    else:  # a population mean has no random effect of its own; a new outcome of anyone has
        eta, own = target.predictor(wanted.type)
        spread = (spread.square() + own).sqrt()
    y = family.simulate(eta + spread * noise, rows.data, extra, generator) / rows.data.trials
    tail = (1 - wanted.level) / 2
    ends = torch.quantile(y, torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return {"se": y.std(0), "lower": ends[0], "upper": ends[1]}
