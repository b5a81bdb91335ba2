"""Cluster bootstrap: subjects drawn with replacement, refitted from the estimate.

    i*_1, ..., i*_n  uniform on 1..n,   theta* = argmax sum_m l_{i*_m}(theta) - kappa |w|^2 / 2,
    var(theta-hat) = covariance of theta* over the resamples

Nothing is taken from the model about the dependence within subjects or the spread of outcomes. The
ridge stays what it was, and networks begin at the estimate: what the choice of the ridge and other
maxima add is not in it. Where the layers of a network are not at a maximum (the variational stage
ended elsewhere), one Gauss-Newton step stands for the refit, for all resamples at once:

    theta* = theta-hat + V sum_i (c_i - 1) s_i,   c_i how often subject i was drawn

Davison and Hinkley (1997), Bootstrap Methods and their Application, sections 3.8 and 7.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from dgmm.estimate import Estimate, Request
from dgmm.estimate.classical import fit_linear
from dgmm.inference.replicates import Outcome, converged, guarded, parameters
from dgmm.information import Information, freeze_at, information, uncertainty
from dgmm.likelihood.polish import Surface, kappa_vector
from dgmm.numerics.walled import Walled
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta
from dgmm.runtime.parallel import each
from dgmm.runtime.progress import Progress

__all__ = ["percentile_intervals", "resampled_information"]

ROUNDS = 2
"""Times the nodes are moved to where a refit of a model with networks has come."""

SETTLED = 0.5
"""Decrement, in standard errors, up to which the layers of a network are at a maximum."""

EVALUATIONS = 40
DRAWS = 64


def resampled_information(done: Estimate, request: Request) -> Information:
    """The information record of se="bootstrap": its covariances are those of the resamples."""
    control, model = request.control, done.model
    base = information(done, "hessian", request.seed, control.hessian_draws)
    form = f"cluster bootstrap, {control.resamples} resamples of the subjects"
    failed: list[str] = []
    if not model.linear and _decrement(done, base) > SETTLED:
        table, form = _one_step(done, request, base), f"{form}, one Gauss-Newton step each"
    else:
        refit = _classical_refit(done, request) if model.linear else _deep_refit(done, base)
        table, failed = _refitted(done, request, refit)
    own = table[:, model.packing.positions(base.packing.shapes)]
    spread = torch.cov(own.T).reshape(own.shape[1], -1)
    return replace(
        base,
        vcov=torch.where(torch.isnan(base.vcov), torch.nan, spread),
        form=form,
        joint=None,
        resampled=table,
        messages=(*base.messages, *_said(failed, control.resamples)),
    )


def _refitted(
    done: Estimate, request: Request, refit: Callable[[Panel], Theta]
) -> tuple[Tensor, list[str]]:
    """theta of every resample that could be fitted (B, P), and why others could not."""
    packing, control = done.model.packing, request.control

    def task(number: int) -> Outcome:
        def fit() -> np.ndarray:
            theta = refit(done.panel.select(drawn_subjects(done, request, number)))
            return packing.pack(theta).detach().numpy()

        return guarded(fit, number)

    kept, failed = [], []
    with Progress(request.verbose, control.resamples, "cluster bootstrap") as bar:
        tasks = each(task, list(range(control.resamples)), control.workers or 1)
        for step, (_, values, why) in enumerate(tasks, 1):
            bar.update(step)
            if values is None:
                failed.append(why)
            else:
                kept.append(values)
    if len(kept) < 2:
        raise ValueError(f"the resamples could not be fitted, the first because: {failed[0]}")
    return torch.from_numpy(np.array(kept)), failed


def percentile_intervals(
    done: Estimate, info: Information | None, groups: tuple[str, ...], level: float
) -> np.ndarray:
    """Percentiles of the resamples in the order of the Wald table, (P, 2)."""
    if info is None or info.resampled is None:
        raise ValueError("method='percentile' is for a fit with se='bootstrap'; refit with it")

    def table(theta: Theta) -> Tensor:
        return torch.from_numpy(parameters(replace(done, theta=theta), groups))

    return uncertainty(done, info).interval(table, level, percentiles=True).numpy()


def _said(failed: list[str], count: int) -> tuple[str, ...]:
    if not failed:
        return ()
    return (
        f"{len(failed)} of {count} resamples of the bootstrap could not be fitted and are left "
        f"out, the first because: {failed[0]}",
    )


def drawn_subjects(done: Estimate, request: Request, number: int) -> np.ndarray:
    """The subjects of a resample, (n,) positions."""
    rng = np.random.default_rng(np.random.SeedSequence([request.seed, 83], spawn_key=(number,)))
    return rng.integers(0, done.panel.n, done.panel.n)


# -- networks --------------------------------------------------------------------------------------


def _decrement(done: Estimate, base: Information) -> float:
    """sqrt(g'V g), g the gradient of the penalised log-likelihood in all of theta."""
    slope, V = _surface(done, done.theta, done.observed, 0)(_vector(done))[1], _joint(base)
    return float(np.sqrt(slope @ V @ slope))


def _one_step(done: Estimate, request: Request, base: Information) -> Tensor:
    model, size = done.model, request.control.resamples
    draws = request.control.hessian_draws // 2
    scores = freeze_at(done, done.theta, done.observed, request.seed, draws).scores(done.theta)
    counts = [
        np.bincount(drawn_subjects(done, request, number), minlength=done.panel.n)
        for number in range(size)
    ]
    steps = (np.array(counts) - 1.0) @ scores.numpy() @ _joint(base)
    return model.packing.pack(done.theta).detach() + torch.from_numpy(steps)


def _joint(base: Information) -> np.ndarray:
    assert base.joint is not None
    return np.nan_to_num(base.joint.vcov.numpy())


def _vector(done: Estimate) -> np.ndarray:
    vector: np.ndarray = done.model.packing.pack(done.theta).detach().numpy()
    return vector


def _closed(done: Estimate) -> bool:
    """One node, which follows theta, gives l exactly."""
    return done.likelihood.normal


def _surface(done: Estimate, theta: Theta, panel: Panel, number: int) -> Surface:
    model, likelihood = done.model, done.likelihood.on(panel).by(seed=number, hessian_draws=DRAWS)
    kappa = kappa_vector(model, model.packing).numpy()
    return Surface(likelihood.anchored(theta), theta, model.packing, kappa)


def _classical_refit(done: Estimate, request: Request) -> Callable[[Panel], Theta]:
    quiet = replace(request, verbose=0)

    def refit(panel: Panel) -> Theta:
        likelihood = done.likelihood.on(panel)
        eta = likelihood.observed.rows.X @ done.model.beta(done.theta).detach()
        return converged(fit_linear(likelihood, eta, quiet, theta=done.theta)).theta

    return refit


def _deep_refit(done: Estimate, base: Information) -> Callable[[Panel], Theta]:
    """Quasi-Newton over all of theta, one unit of z a standard error of the estimate.

    The little gradient that is left at the estimate is taken off: refitted to all subjects, it is
    its own fixed point.
    """
    packing = done.model.packing
    value, vector = np.linalg.eigh(_joint(base))
    root = vector * np.sqrt(value.clip(min=0))
    left = _surface(done, done.theta, done.observed, 0)(_vector(done))[1]
    rounds = 1 if _closed(done) else ROUNDS

    def refit(panel: Panel) -> Theta:
        theta, seen = done.theta, panel.observed_rows()
        for number in range(rounds):
            theta = _descend(_surface(done, theta, seen, number), theta, packing, root, left)
        return theta

    return refit


def _descend(
    surface: Surface, theta: Theta, packing: Packing, root: np.ndarray, left: np.ndarray
) -> Theta:
    x = packing.pack(theta).detach().numpy()

    def whitened(z: np.ndarray) -> tuple[float, np.ndarray]:
        step = root @ z
        value, slope = surface(x + step)
        return value - float(left @ step), root.T @ (slope - left)

    options = {"maxfun": EVALUATIONS, "gtol": 0.01, "maxcor": 20}
    start = np.zeros(root.shape[1])
    found = optimize.minimize(Walled(whitened), start, jac=True, method="L-BFGS-B", options=options)
    return packing.unpack(torch.from_numpy(x + root @ found.x))
