"""Checks of a family by itself: its density, moments, derivatives, draws, copies."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dgmm.checking.outcomes import Case, possible
from dgmm.families import Extra, Family, Observations, find
from dgmm.runtime.registry import members

__all__ = ["CHECKS"]

DRAWS = 4000
ERRORS = 5.0  # Monte Carlo standard errors allowed
QUADRATURE = 1e-5  # of a sum over all outcomes
RELATIVE = 1e-4
DIFFERENCE = 1e-4
GRID = 0.02  # of a distribution function between two points of the grid
FAR = 30.0  # of eta

Check = Callable[[Case], None]


def copies(case: Case) -> None:
    """A pickled or copied family, or one made again from its options, has the same density."""
    family, data = case.family, case.some()
    known = family.log_density(data, case.eta, case.extra)
    again = {
        "pickle": pickle.loads(pickle.dumps(family)),
        "copy": copy.copy(family),
        "deepcopy": copy.deepcopy(family),
        "options": _from_options(family),
    }
    for way, other in again.items():
        if (other.name, other.options()) != (family.name, family.options()):
            raise case.fail("copies", f"by {way} it becomes {other!r} with {other.options()}")
        if not torch.equal(other.log_density(data, case.eta, case.extra), known):
            raise case.fail("copies", f"by {way} its log-density is another one")


def _from_options(family: Family) -> Family:
    options = family.options()
    own = type(family) not in members("dgmm.families", Family).values()
    return type(family)(**options) if own else find(family.name, **options)


def total(case: Case) -> None:
    """The density sums or integrates to 1 over all outcomes."""
    probability = case.every()[1].sum(0)
    if not torch.allclose(probability, torch.ones_like(probability), atol=QUADRATURE):
        raise case.fail("total", f"over all outcomes its density adds up to {_list(probability)}")


def rows(case: Case) -> None:
    """The log-density is that of every row by itself: in any order, under draws in front."""
    family, data, order = case.family, case.some(), torch.tensor([2, 0, 1])
    value = family.log_density(data, case.eta, case.extra)
    if value.shape != case.eta.shape:
        raise case.fail("rows", f"3 rows have a log-density of shape {tuple(value.shape)}")
    turned = Observations(*(column[order] for column in data))
    if not torch.allclose(family.log_density(turned, case.eta[order], case.extra), value[order]):
        raise case.fail("rows", "rows in another order have other log-densities")
    stacked = family.log_density(data, torch.stack([case.eta, case.eta + 0.1]), case.extra)
    if stacked.shape != (2, 3) or not torch.allclose(stacked[0], value):
        raise case.fail("rows", "two draws of eta (2, 3) are not two rows of log-densities (2, 3)")
    by_row = case.extra[:, None].expand(-1, 3).clone()
    if not torch.allclose(family.log_density(data, case.eta, by_row), value, rtol=1e-10):
        raise case.fail("rows", "`extra` with one value per row, (R, 3), has other log-densities")
    for y in case.sample:  # ties, and one row alone
        tied = case.data(torch.full((3,), float(y), dtype=torch.float64))
        alone = Observations(*(column[:1] for column in tied))
        found = family.log_density(tied, case.eta, case.extra)
        one = family.log_density(alone, case.eta[:1], case.extra)
        if not torch.isfinite(found).all() or not torch.allclose(one, found[:1]):
            raise case.fail("rows", f"the log-density at y = {y:g} is {_list(found)}")


def weights(case: Case) -> None:
    """A prior weight of 2 is two rows: it doubles the score."""
    one, two = (_score(case, case.some(weight)) for weight in (1.0, 2.0))
    if not torch.allclose(two, 2 * one, rtol=1e-8, atol=1e-12):
        raise case.fail("weights", f"weight 2 gives the score {_list(two)}, weight 1 {_list(one)}")


def moments(case: Case) -> None:
    """The mean, its slope and inverse, and the variance are those of the density."""
    family, (data, probability) = case.family, case.every()
    response = family.response(data)
    mean = (probability * response).sum(0)
    _same(case, "mean", family.mean(case.eta, case.extra), mean)
    step = DIFFERENCE
    ends = [family.mean(case.eta + side * step, case.extra) for side in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * step)
    _same(case, "mean_slope", family.mean_slope(case.eta, case.extra), slope)
    back = family.predictor(family.mean(case.eta, case.extra), case.extra)
    _same(case, "predictor", back, case.eta)
    variance = (probability * (response - mean).square()).sum(0)
    row = Observations(*(column[0] for column in data))
    stated = _unless_unwritten(lambda: family.variance(case.eta, row, case.extra))
    if stated is not None:
        _same(case, "variance", stated, variance)
        residual = family.observation_variance(case.eta, case.extra)
        if not bool((residual > 0).all()):
            raise case.fail("observation_variance", f"it is {_list(residual)}")


def derivatives(case: Case) -> None:
    """First derivatives match differences, closed ones match those by autograd."""
    family, data = case.family, case.some()
    eta, extra = case.eta.clone().requires_grad_(), case.extra.clone().requires_grad_()
    value = family.log_density(data, eta, extra)
    points = [eta, extra] if len(extra) else [eta]
    slopes = torch.autograd.grad(value.sum(), points, retain_graph=True)
    step = DIFFERENCE
    with torch.no_grad():
        ends = [family.log_density(data, case.eta + s * step, case.extra) for s in (1, -1)]
        _same(case, "derivatives", slopes[0], (ends[0] - ends[1]) / (2 * step))
        for r in range(len(case.extra)):
            move = torch.zeros_like(case.extra)
            move[r] = step
            up, down = (family.log_density(data, case.eta, case.extra + s * move) for s in (1, -1))
            _same(case, f"derivatives in extra[{r}]", slopes[1][r], (up - down).sum() / (2 * step))
    closed = family.derivatives(data, case.eta, case.extra, 4)
    if closed is None:
        return
    _same(case, "derivatives, value", closed.value + family.constant(data), value.detach())
    every = (closed.first, closed.second, closed.third, closed.fourth)
    for order, known in enumerate((one for one in every if one is not None), 1):
        (value,) = torch.autograd.grad(value.sum(), eta, create_graph=True)
        _same(case, f"derivatives, order {order}", known, value.detach())


def scoring(case: Case) -> None:
    """The expected score is zero, weights of scoring are positive, the working residual is one."""
    family, (data, probability) = case.family, case.every()
    score = _score(case, data)
    centre = (probability * torch.where(probability > 0, score, 0.0)).sum(0)
    if not torch.allclose(centre, torch.zeros_like(centre), atol=1e-4):
        raise case.fail("scoring", f"the expected score is {_list(centre)}, not 0")
    weight = family.information(case.some(), case.eta, case.extra)
    residual = family.working_residual(case.some(), case.eta, case.extra)
    if not bool((weight > 0).all()) or not bool(torch.isfinite(residual).all()):
        raise case.fail(
            "scoring", f"weights are {_list(weight)}, working residuals {_list(residual)}"
        )


def far_out(case: Case) -> None:
    """The log-density and its derivatives stay finite far out in eta."""
    positive = bool((case.eta > 0).all()) and case.family.link.name != "log"
    ends = [1e-3, FAR] if positive else [-FAR, FAR]
    for y in np.unique(case.sample):
        eta = torch.tensor(ends, dtype=torch.float64, requires_grad=True)
        data = case.data(torch.full((2,), float(y), dtype=torch.float64))
        value = case.family.log_density(data, eta, case.extra)
        for order in range(3):
            if not bool(torch.isfinite(value).all()):
                raise case.fail(
                    "far_out", f"at y = {y:g}, eta = {_list(eta)} derivative {order} of the "
                    f"log-density is {_list(value)}"
                )  # fmt: skip
            if not value.requires_grad:
                break
            (value,) = torch.autograd.grad(value.sum(), eta, create_graph=True)


def draws(case: Case) -> None:
    """Simulated outcomes are possible, follow the density, and repeat with their generator."""
    family, data = case.family, case.some()
    eta = case.eta.expand(DRAWS, 3)

    def drawn(seed: int) -> Tensor:
        return family.simulate(eta, data, case.extra, torch.Generator().manual_seed(seed))

    y = _unless_unwritten(lambda: drawn(1))
    if y is None:
        return
    if y.shape != (DRAWS, 3) or not torch.equal(y, drawn(1)):
        raise case.fail("draws", f"shape {tuple(y.shape)}, or other draws by the same generator")
    trials = data.trials.expand_as(y).numpy()
    read = family.read(y.numpy(), trials, np.ones_like(trials))[0]
    if not np.array_equal(read, (y / data.trials if family.support != "trials" else y).numpy()):
        raise case.fail("draws", "read() changes simulated outcomes")
    every, probability = case.every()
    for share in (0.2, 0.5, 0.8):  # quantiles of the density
        for j in range(3):
            order = torch.argsort(every.y[:, j])
            below = probability[order, j].cumsum(0)
            at = min(int((below < share).sum()), len(order) - 1)
            p, cut = float(below[at]), float(every.y[order[at], j])
            seen = float((y[:, j] <= cut).double().mean())
            error = ERRORS * math.sqrt(max(p * (1 - p), 1e-6) / DRAWS)
            if abs(seen - p) > error + GRID:
                raise case.fail(
                    "draws", f"P(y <= {cut:.4g}) is {p:.4f} by the density and {seen:.4f} of "
                    f"{DRAWS} draws at eta = {float(case.eta[j]):g}"
                )  # fmt: skip
    mean, spread = family.mean(case.eta, case.extra), family.response(data._replace(y=y))
    allowed = ERRORS * spread.std(0) / math.sqrt(DRAWS)
    if bool(((spread.mean(0) - mean).abs() > allowed).any()):
        raise case.fail("draws", f"their mean is {_list(spread.mean(0))}, the mean {_list(mean)}")


def starts(case: Case) -> None:
    """Starting values are finite and inside the range of the link, for ties and one row too."""
    family = case.family
    samples = {"its outcomes": case.sample, "one row": case.sample[-1:]}
    samples |= {f"all outcomes {y:g}": np.full(4, y) for y in np.unique(case.sample)}
    for words, sample in samples.items():
        data = case.data(torch.from_numpy(np.array(sample, dtype=float)))
        mean = family.start_mean(data)
        extra = family.start_extra(data, mean)
        eta = family.link.forward(mean)
        if mean.shape != data.y.shape or not bool(torch.isfinite(eta).all()):
            raise case.fail("starts", f"start_mean of {words} is {_list(mean)}")
        if extra.shape != case.extra.shape or not bool(torch.isfinite(extra).all()):
            raise case.fail("starts", f"start_extra of {words} is {_list(extra)}")


def reported(case: Case) -> None:
    """Parameters are reported by name, on a scale whose link knows them."""
    family = case.family
    value, names = family.natural(case.extra), family.natural_names()
    links = family.natural_links()
    if not len(value) == len(names) == len(links) == len(set(names)):
        raise case.fail("reported", f"{len(value)} parameters, names {names}, {len(links)} links")
    for name, link, one in zip(names, links, value, strict=True):
        if not torch.allclose(link.inverse(link.forward(one)), one, rtol=1e-8):
            raise case.fail("reported", f"`{name}` = {float(one):g} does not survive {link.name}")


def refusals(case: Case) -> None:
    """read() keeps possible outcomes, and refuses others in words only."""
    family, sample = case.family, case.sample
    trials = case.data(torch.from_numpy(sample)).trials.numpy()
    read = family.read(sample, trials, np.ones_like(sample))[0]
    if not np.allclose(read, sample):
        raise case.fail("refusals", f"read() makes {read.tolist()} of {sample.tolist()}")
    for y in (-1.0, 0.5, 1e18, np.inf, max(possible(family)) + 0.25):
        try:
            family.read(np.array([y]), trials[:1], np.ones(1))
        except ValueError as error:
            if len(str(error).split()) < 4:
                raise case.fail("refusals", f"y = {y:g} is refused by {str(error)!r}") from error
        except Exception as error:
            raise case.fail("refusals", f"y = {y:g} ends in {type(error).__name__}") from error


CHECKS: tuple[Check, ...] = (
    copies,
    reported,
    refusals,
    rows,
    total,
    weights,
    moments,
    derivatives,
    scoring,
    far_out,
    starts,
    draws,
)


def _score(case: Case, data: Observations) -> Tensor:
    eta = case.eta.expand_as(data.y).clone().requires_grad_()
    value = case.family.log_density(data, eta, case.extra)
    return torch.autograd.grad(value.sum(), eta)[0]


def _same(case: Case, check: str, found: Tensor, expected: Tensor) -> None:
    if not torch.allclose(found, expected, rtol=RELATIVE, atol=QUADRATURE):
        raise case.fail(check, f"it is {_list(found)}, by the density {_list(expected)}")


def _unless_unwritten(function: Callable[[], Tensor]) -> Tensor | None:
    """The value of a method that a family need not have, None where it has none."""
    try:
        return function()
    except ValueError as error:
        if "write" in str(error):
            return None
        raise


def _list(values: Tensor | Extra) -> str:
    return "[" + ", ".join(f"{float(one):.5g}" for one in values.detach().reshape(-1)) + "]"
