"""Cluster bootstrap: subjects drawn with replacement, refitted from the estimate.

    i*_1, ..., i*_n  uniform on 1..n,   theta* = argmax sum_m l_{i*_m}(theta) - kappa |w|^2 / 2,
    var(theta-hat) = covariance of theta* over the resamples

Nothing is taken from the model about the dependence within subjects or the spread of outcomes. The
ridge stays what it was, and networks begin at the estimate: what the choice of the ridge and other
maxima add is not in it. Davison and Hinkley (1997), Bootstrap Methods and their Application, 3.8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy import optimize

from dgmm.estimate import Estimate, Request
from dgmm.estimate.classical import fit_linear
from dgmm.inference.replicates import Outcome, converged, guarded, parameters, run_tasks
from dgmm.information import Information, Joint, information, is_gaussian
from dgmm.marginal import Importance, Quadrature, freeze
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta
from dgmm.polish import Surface, kappa_vector
from dgmm.progress import Progress

__all__ = ["joint_again", "percentile_intervals", "resampled_information"]

ROUNDS = 2
"""Times the nodes are moved to where a refit of a model with networks has come."""

EVALUATIONS = 25
DRAWS = 64


def resampled_information(done: Estimate, request: Request) -> Information:
    """The information record of se="bootstrap": its covariances are those of the resamples."""
    control, model = request.control, done.model
    base = information(done, "hessian", request.seed, control.hessian_draws)
    refit = _classical_refit(done, request) if model.linear else _deep_refit(done, base)

    def task(number: int) -> Outcome:
        def fit() -> np.ndarray:
            theta = refit(_resample(done, request, number))
            return model.packing.pack(theta).detach().numpy()

        return guarded(fit, number)

    kept, failed = [], []
    with Progress(request.verbose, control.resamples, "cluster bootstrap") as bar:
        tasks = run_tasks(task, list(range(control.resamples)), control.workers)
        for step, (_, values, why) in enumerate(tasks, 1):
            bar.update(step)
            if values is None:
                failed.append(why)
            else:
                kept.append(values)
    if len(kept) < 2:
        raise ValueError(f"the resamples could not be fitted, the first because: {failed[0]}")
    table = torch.from_numpy(np.array(kept))
    joint = _joint(done, table)
    at = model.packing.positions(base.packing.shapes)
    vcov = torch.where(torch.isnan(base.vcov), torch.nan, joint.vcov[at][:, at])
    return replace(
        base,
        vcov=vcov,
        form=f"cluster bootstrap, {len(kept)} resamples of the subjects",
        joint=joint,
        resampled=table,
        messages=(*base.messages, *_said(failed, control.resamples)),
    )


def _joint(done: Estimate, table: torch.Tensor) -> Joint:
    """The covariance of all of theta over the resamples (B, P)."""
    return Joint(done.model.packing, torch.cov(table.T).reshape(table.shape[1], -1))


def joint_again(done: Estimate, info: Information, request: Request, kind: str) -> Joint | None:
    """The joint covariance of a fit with networks that was read from a file."""
    if info.resampled is not None:
        return _joint(done, info.resampled)
    return information(done, kind, request.seed, request.control.hessian_draws).joint


def percentile_intervals(
    done: Estimate, info: Information | None, groups: tuple[str, ...], level: float
) -> np.ndarray:
    """Percentiles of the resamples in the order of the Wald table, (P, 2)."""
    if info is None or info.resampled is None:
        raise ValueError("method='percentile' is for a fit with se='bootstrap'; refit with it")
    unpack = done.model.packing.unpack
    values = [parameters(replace(done, theta=unpack(row)), groups) for row in info.resampled]
    tail = (1 - level) / 2
    return np.nanquantile(np.array(values), [tail, 1 - tail], axis=0).T


def _said(failed: list[str], count: int) -> tuple[str, ...]:
    if not failed:
        return ()
    return (
        f"{len(failed)} of {count} resamples of the bootstrap could not be fitted and are left "
        f"out, the first because: {failed[0]}",
    )


def _resample(done: Estimate, request: Request, number: int) -> Panel:
    rng = np.random.default_rng(np.random.SeedSequence([request.seed, 83], spawn_key=(number,)))
    return done.panel.select(rng.integers(0, done.panel.n, done.panel.n))


def _classical_refit(done: Estimate, request: Request) -> Callable[[Panel], Theta]:
    quiet = replace(request, verbose=0)

    def refit(panel: Panel) -> Theta:
        rows = panel.observed_rows().rows
        eta = rows.X @ done.model.beta(done.theta).detach()
        return converged(fit_linear(done.model, panel, eta, quiet, theta=done.theta)).theta

    return refit


def _deep_refit(done: Estimate, base: Information) -> Callable[[Panel], Theta]:
    """Quasi-Newton over all of theta, one unit of z a standard error of the estimate.

    The gradient at the estimate over all subjects is taken off: weights that were not polished stay
    where they are until a resample moves them.
    """
    assert base.joint is not None
    model, packing = done.model, done.model.packing
    value, vector = np.linalg.eigh(np.nan_to_num(base.joint.vcov.numpy()))
    root = vector * np.sqrt(value.clip(min=0))
    kappa = kappa_vector(model, packing).numpy()
    centre = packing.pack(done.theta).detach().numpy()
    exact = is_gaussian(model) and all(latent.linear for latent in model.latents)
    rounds = 1 if exact else ROUNDS

    def surface(theta: Theta, panel: Panel, number: int) -> Surface:
        rng, rule = np.random.default_rng([number, 29]), Quadrature(1) if exact else done.rule
        rule = replace(rule, draws=DRAWS) if isinstance(rule, Importance) else rule
        assert rule is not None
        return Surface(freeze(model, theta, panel, rule, rng), theta, packing, kappa)

    left = surface(done.theta, done.observed, 0)(centre)[1]

    def refit(panel: Panel) -> Theta:
        theta, seen = done.theta, panel.observed_rows()
        for number in range(rounds):
            theta = _descend(surface(theta, seen, number), theta, packing, root, left)
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
    found = optimize.minimize(whitened, start, jac=True, method="L-BFGS-B", options=options)
    return packing.unpack(torch.from_numpy(x + root @ found.x))
