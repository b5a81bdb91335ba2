"""Intervals of predictions: from theta-hat, from the random effects, from the outcome itself.

    confidence   of the mean subject, of a mean over the population: theta alone is unknown,
                 h(E eta +- z sd(eta)); of a subject: eta given its outcomes
    prediction   y new ~ F(eta), eta given the outcomes of a subject, or of anyone

h is the identity or g^-1. What is normal given theta is a :class:`~dgmm.prediction.mixture.Mixture`
over theta, in closed form; other outcomes are drawn, theta before b before y. Parameters held at a
boundary are taken as known. Several starts move with theta as the reported one does, and differ
from each other by what is added to the variance:

    var = var_theta(reported start) + mean_m var_m + var_m(mean_m),   m over the starts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.families import Family
from dgmm.families.links import LINKS
from dgmm.information import (
    Derivative,
    Information,
    Spread,
    Uncertainty,
    reported_packing,
    uncertainty,
)
from dgmm.model import driven
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.prediction.mixture import MOST, Mixture, Moves, inverse_of
from dgmm.prediction.moments import (
    Predictive,
    average_slope,
    following,
    given_history,
    marginal,
    marginal_link,
    mean_subject,
    normal_effects,
    one_step,
    posterior_draws,
)
from dgmm.prediction.options import Wanted
from dgmm.prediction.sensitivity import (
    link_slopes,
    mean_slopes,
    population_slopes,
    response_slopes,
    subject_slopes,
)

__all__ = ["Target", "drawn", "with_interval"]

THETAS = 100
"""Values of theta behind the simulated outcomes, at most one for each."""


@dataclass(frozen=True)
class Target:
    """Rows to predict, and the outcomes seen of their subjects in the same order."""

    done: Estimate
    past: Panel
    rows: Panel
    seed: int

    def point(self, type: str, scale: str) -> Tensor:
        """The prediction, (N,)."""
        return self._expected(self.done, self.done.theta, type, scale)

    @cached_property
    def _following(self) -> Callable[[Theta, Sequence[str]], list[Predictive]]:
        """Moments given the past near theta-hat, by the reported start alone."""
        return following(self.done, self.past, self.rows, self.seed)

    def given_past(self, scale: str) -> Predictive:
        """E h(eta) and var h(eta) of each subject given its outcomes, (N,)."""
        done = self.done
        return given_history(done, done.theta, self.past, self.rows, scale, self.seed)

    def predictor(self, type: str) -> Predictive:
        """E eta, and its variance over what is not known of b and over the starts."""
        eta, own = self._predictor(self.done, self.done.theta, type)
        return (
            Predictive(eta, own + self.between(type, "link"))
            if type == "mean_subject"
            else (Predictive(eta, own))
        )

    def _predictor(self, done: Estimate, theta: Theta, type: str) -> Predictive:
        if type == "subject":
            return given_history(done, theta, self.past, self.rows, "link", self.seed)
        if type == "marginal":
            return marginal(done, theta, self.rows, "link")
        eta = mean_subject(done, theta, self.rows, "link")
        return Predictive(eta, torch.zeros_like(eta))

    def between(self, type: str, scale: str) -> Tensor:
        """Mean squared difference from :meth:`point` over the starts that predictions average."""
        if not self.done.others or type == "subject":  # whose starts are in its own variance
            return torch.zeros(self.rows.n_rows, dtype=torch.float64)
        each = [
            self._expected(
                replace(self.done, likelihood=one.likelihood, theta=one.theta, others=()),
                one.theta,
                type,
                scale,
            )
            for one in self.done.points
        ]
        return (torch.stack(each) - self.point(type, scale)).square().mean(0)

    def draws(self, type: str, size: int) -> Tensor:
        """Draws of eta of the subjects, or of anyone in their place, (size, N)."""
        if type == "subject":
            return posterior_draws(self.done, self.past, self.rows, size, self.seed)
        if type == "marginal" and not self._normal_effects:
            nothing = self.past.keep(torch.zeros(self.past.n_rows, dtype=torch.bool))
            return posterior_draws(self.done, nothing, self.rows, size, self.seed)
        eta, own = self.predictor(type)
        generator = torch.Generator().manual_seed(self.seed + 47)
        noise = torch.randn(size, len(eta), generator=generator, dtype=torch.float64)
        return eta + own.sqrt() * noise

    def normal(self, type: str) -> bool:
        """Whether eta, over what is not known of b, and a new outcome given eta are normal."""
        known = type == "mean_subject" or self._normal_effects
        return self.done.model.family.conjugate and known

    @property
    def _normal_effects(self) -> bool:
        return normal_effects(self.done.model) and len(self.done.points) == 1

    def moves(self, known: Uncertainty, type: str, outcome: bool) -> Moves:
        """How E eta and the logarithm of var(eta), or of var(y) with ``outcome``, follow theta.

        By the reported start. Network weights move E eta alone.
        """
        done, model = replace(self.done, others=()), self.done.model
        of_family = model.family.variance if outcome else None
        r = reported_packing(model).only(known.packing.shapes)

        @torch.no_grad()
        def values(theta: Theta) -> Tensor:
            (near,) = self._following(theta, ("link",)) if type == "subject" else (None,)
            eta, own = near or self._predictor(done, theta, type)
            if of_family is not None:
                own = own + of_family(eta, self.rows.rows.data, model.extra(theta, self.rows.rows))
            return torch.cat([eta, own.clamp(min=torch.finfo(own.dtype).tiny).log()])

        # b of anyone has mean zero: theta moves the middle of the population as the mean subject
        slopes = self.derivative("subject" if type == "subject" else "mean_subject", "link")
        joint, N = known.covariance(r), self.rows.n_rows
        variances = r.only(name for name in r.shapes if name != "beta")
        alone, slope = known.among(variances), torch.zeros(N, r.size, dtype=torch.float64)
        if slopes is None:
            error, table = known.beside(values, r)
            error, with_theta, of_log = error[:N], table[:N], table[N:]
            slope = of_log @ inverse_of(joint)
        else:
            error, with_theta = known.beside(lambda theta: values(theta)[:N], r, slopes)
            if variances.size:
                _, of_log = alone.beside(lambda theta: values(theta)[N:], variances)
                slope[:, r.places(variances)] = of_log @ inverse_of(alone.covariance(variances))
        lost = torch.zeros(r.size, dtype=torch.float64)
        if variances.size:

            def integrated(theta: Theta) -> Tensor:
                return torch.tensor([done.likelihood.mean_integrated(theta)], dtype=torch.float64)

            _, (lost[r.places(variances)],) = alone.beside(integrated, variances)
        return Moves(error, with_theta, slope, joint, (slope @ lost).clamp(-MOST, MOST))

    def errors(self, known: Uncertainty, type: str, scale: str) -> Tensor:
        """Standard errors of the expected value from theta-hat, (N,)."""
        return known.errors(
            lambda theta: self.expected(theta, type, scale), self.derivative(type, scale)
        )

    def expected(self, theta: Theta, type: str, scale: str) -> Tensor:
        """The prediction under another theta, by the reported start alone, (N,).

        To first order the other starts move with theta as the reported one does.
        """
        if type == "subject":
            return self._following(theta, (scale,))[0].mean
        return self._expected(replace(self.done, others=()), theta, type, scale)

    def derivative(self, type: str, scale: str) -> Derivative | None:
        """That of :meth:`expected` in theta, where it is known in closed form."""
        model, theta, rows = self.done.model, self.done.theta, self.rows
        if type == "mean_subject" and not driven(model):
            of_link = mean_slopes(model, theta, rows)
            if scale == "link":
                return of_link
            return response_slopes(model, theta, rows, self.expected(theta, type, "link"), of_link)
        if model.linear:
            return None
        if type == "subject":
            return subject_slopes(model, theta, self.past, rows)
        of_mean = population_slopes(model, theta, rows)
        if scale == "response":
            return of_mean
        return link_slopes(model, theta, rows, self.expected(theta, type, "link"), of_mean)

    def errors_of_means(self, known: Uncertainty, eta: Predictive) -> tuple[Tensor, Tensor]:
        """Standard errors from theta-hat of g^-1(E eta) and of E g^-1(eta), both given y, (N,)."""
        done, rows = self.done, self.rows.rows

        @torch.no_grad()  # the posterior has no graph: what little would have one is not all
        def values(theta: Theta) -> Tensor:
            of_link, of_mean = self._following(theta, ("link", "response"))
            centre = done.model.family.mean(of_link.mean, done.model.extra(theta, rows))
            return torch.cat([centre, of_mean.mean])

        slopes = self.derivative("subject", "link")
        if slopes is not None:
            average = average_slope(done.model, done.theta, self.rows, eta)
            slopes = response_slopes(done.model, done.theta, self.rows, eta.mean, slopes, average)
        centre, mean = known.errors(values, slopes).chunk(2)
        return centre, mean

    def _expected(self, done: Estimate, theta: Theta, type: str, scale: str) -> Tensor:
        if type == "subject":
            return given_history(done, theta, self.past, self.rows, scale, self.seed).mean
        if type == "mean_subject":
            return mean_subject(done, theta, self.rows, scale)
        if type == "one_step":
            return one_step(done, theta, self.past, self.rows, scale, self.seed)
        if scale == "link":
            return marginal_link(done, theta, self.rows)
        return marginal(done, theta, self.rows, scale).mean


def with_interval(target: Target, info: Information | None, wanted: Wanted) -> dict[str, Tensor]:
    """The columns of a prediction: fit, and with an interval se, lower, upper."""
    if wanted.scale == "categories":
        return _shares(target, wanted)
    point = target.point(wanted.type, wanted.scale)
    if wanted.interval is None:
        return {"fit": point}
    if wanted.type == "one_step":
        raise ValueError("type='one_step' has no interval; type='subject' has")
    bound = info is None and target.done.likelihood.bound
    if bound and wanted.type == "mean_subject":
        raise ValueError(
            "the error of theta is not known where a bound stands for the likelihood: intervals "
            "are those of type='subject' and 'marginal' at theta-hat"
        )
    if bound or wanted.theta == "held":
        return {"fit": point, **_given_theta(target, wanted, point)}
    if info is None:
        raise ValueError(
            "intervals need standard errors, and this fit has none (se=None); theta='held' takes "
            "the parameters as known"
        )
    known = uncertainty(target.done, info, weights=True)
    if known.empty:
        raise ValueError(f"this fit has no standard errors: {'; '.join(info.messages)}")
    known = known.taking_held_as_known()
    if wanted.interval == "prediction":
        return {"fit": point, **_of_outcome(target, known, wanted)}
    return {"fit": point, **_of_mean(target, known, wanted, point)}


def _given_theta(target: Target, wanted: Wanted, point: Tensor) -> dict[str, Tensor]:
    """Standard deviation and interval where the parameters are taken as known."""
    done, rows, family = target.done, target.rows.rows, target.done.model.family
    extra, normal = done.model.extra(done.theta, rows), target.normal(wanted.type)
    predicts = wanted.interval == "prediction"
    if predicts and wanted.scale == "link":
        raise ValueError("interval='prediction' is about outcomes: use scale='response'")
    if not normal and (predicts or wanted.type == "subject"):
        value = target.draws(wanted.type, wanted.draws)
        if predicts:
            generator = torch.Generator().manual_seed(target.seed + 41)
            value = family.simulate(value, rows.data, extra, generator) / rows.data.trials
        elif wanted.scale == "response":
            value = family.mean(value, extra)
        return {"se": value.std(0), **wanted.ends(_quantiles(value))}
    eta = target.predictor(wanted.type)
    if predicts:
        eta = Predictive(eta.mean, eta.variance + family.variance(eta.mean, rows.data, extra))
    elif wanted.type != "subject":
        eta = Predictive(point, target.between(wanted.type, wanted.scale))
    law = Mixture.of(eta.mean, eta.variance, Moves.none(len(eta.mean)))
    return {"se": law.sd, **wanted.ends(law.interval)}


def _quantiles(values: Tensor) -> Callable[[float], Tensor]:
    """The ends of an interval over draws (S, N), (N, 2)."""

    def of(level: float) -> Tensor:
        tail = (1 - level) / 2
        return torch.quantile(values, torch.tensor([tail, 1 - tail], dtype=values.dtype), dim=0).T

    return of


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


def _of_mean(
    target: Target, known: Uncertainty, wanted: Wanted, point: Tensor
) -> dict[str, Tensor]:
    type, scale, family = wanted.type, wanted.scale, target.done.model.family
    if type != "subject":
        variance = target.errors(known, type, scale).square() + target.between(type, scale)
        se = variance.sqrt()
        link = LINKS["identity"] if scale == "link" else family.mean_link
        spread = Spread.independent(point, se)
        return {"se": se, **wanted.ends(lambda level: spread.interval(level, link))}
    eta = target.given_past("link")
    law = Mixture.of(eta.mean, eta.variance, target.moves(known, type, outcome=False))
    if scale == "link" or family.conjugate:
        return {"se": law.sd, **wanted.ends(law.interval)}
    extra, link = target.done.model.extra(target.done.theta, target.rows.rows), family.mean_link
    centre, slope = family.mean(eta.mean, extra), family.mean_slope(eta.mean, extra)
    of_centre, of_mean = target.errors_of_means(known, eta)
    at = link.forward(centre)
    steep = link.derivative(at)
    through = law.through(at, slope / steep, (of_centre / steep).square())
    se = (of_mean.square() + target.given_past("response").variance).sqrt()
    ends = wanted.ends(lambda level: link.inverse(through.interval(level)).sort(dim=1).values)
    return {"se": se, **ends}


def _of_outcome(target: Target, known: Uncertainty, wanted: Wanted) -> dict[str, Tensor]:
    """Standard deviation and quantiles of a new outcome.

    In closed form where it is normal given theta, else by simulation of theta, eta and y.
    """
    if wanted.scale == "link":
        raise ValueError("interval='prediction' is about outcomes: use scale='response'")
    done, rows, type = target.done, target.rows.rows, wanted.type
    normal = target.normal(type)
    moves, eta = target.moves(known, type, outcome=normal), target.predictor(type)
    if normal:
        residual = done.model.family.variance(
            eta.mean, rows.data, done.model.extra(done.theta, rows)
        )
        law = Mixture.of(eta.mean, eta.variance + residual, moves)
        return {"se": law.sd, **wanted.ends(law.interval)}
    y = drawn(target, known, moves, eta.mean, wanted)
    return {"se": y.std(0), **wanted.ends(_quantiles(y))}


def drawn(
    target: Target, known: Uncertainty, moves: Moves, centre: Tensor, wanted: Wanted
) -> Tensor:
    """New outcomes, (draws, N): theta, then eta, then y.

    Draws of eta at theta-hat follow theta by their mean and their standard deviation, and have
    what network weights leave open of the mean as normal noise.
    """
    model, rows = target.done.model, target.rows.rows
    generator = torch.Generator().manual_seed(target.seed + 41)
    r = reported_packing(model).only(known.packing.shapes)
    thetas = known.among(r).draw(min(THETAS, wanted.draws), generator)
    middle, rest, found = r.pack(target.done.theta).detach(), moves.rest, []
    eta = target.draws(wanted.type, wanted.draws) - centre
    for theta, deviation in zip(thetas, eta.tensor_split(len(thetas)), strict=True):
        move, factor = moves.follow(r.pack(theta) - middle)
        noise = torch.randn(deviation.shape, generator=generator, dtype=torch.float64)
        value = centre + move + factor * deviation + rest * noise
        found.append(model.family.simulate(value, rows.data, model.extra(theta, rows), generator))
    return torch.cat(found) / rows.data.trials
