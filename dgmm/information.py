"""Standard errors: the information about theta-hat, and what it gives for reported parameters.

Reported parameters are everything but networks and the Lambda of a neural latent, which is free up
to rotation. Without networks the observed information is the
central-difference Hessian of the marginal log-likelihood at frozen nodes. With networks, writing
r for all linear parts (Lambda and skips included) and w for the layers of networks,

    var(r) = [ H_rr - F_rw (F_ww + kappa S)^-1 F_wr ]^-1,

H_rr by central differences and F the expected information of the marginal likelihood over all of
theta, sum_i s_i s_i' of outcomes simulated from the fit; S = 1 on penalised weights, 0 elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.estimate.climb import likelihood_at
from dgmm.evidence import effective_df
from dgmm.hessian import Curvature, central_hessian, central_jacobian, curvature_of, invert
from dgmm.latent import Normal
from dgmm.marginal import Frozen, Importance, Laplace, NodeRule, Quadrature, exact, freeze
from dgmm.marginal.joint import JointLaplace
from dgmm.marginal.sparse import crossed_statistics
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta
from dgmm.polish import kappa_vector
from dgmm.simulate import simulate_panel

__all__ = ["Information", "expected_information", "information", "reported_packing"]

BOUNDARY = 1e-4
"""A diagonal entry of Lambda below this share of the largest is called zero, as lme4 does."""

EDGE = 4.0
FLAT_INFORMATION = 0.02
"""An extra parameter beyond +-4 on its log or logit scale with less information is at its edge."""

STEP = 0.005
"""Step of the central differences in pilot standard errors."""

LAPLACE_STEP = 0.02
"""The same for the closed gradient of the Laplace approximation, whose modes are iterated."""


@dataclass(frozen=True)
class Information:
    """Covariance of the reported parameters on the internal scale, and how it was made."""

    packing: Packing
    vcov: Tensor  # (P_r, P_r), NaN for parameters held at a boundary
    inverse_hessian: Tensor  # (P_r, P_r), the same unless a sandwich was asked for
    form: str
    smallest_eigenvalue: float  # of the information, scaled to unit diagonal
    asymmetry: float
    boundary: tuple[str, ...]  # columns of T whose variance is estimated as zero
    effective: dict[str, float]  # effective degrees of freedom per network
    messages: tuple[str, ...]


def reported_packing(model: Model) -> Packing:
    """beta, linear variance components, extra parameters; no network weights."""
    names = ["beta", "extra"]
    for i, latent in enumerate(model.latents, 1):
        if latent.linear:
            names += [f"latent{i}.{name}" for name in latent.shapes()]
    return model.packing.only(names)


def information(done: Estimate, kind: str, seed: int, draws: int) -> Information:
    """The information of an estimate: ``kind`` is "hessian" or "sandwich"."""
    boundary, at_zero = find_boundary(done)
    if done.model.linear:
        curvature, form = observed_information(done, at_zero, seed, draws)
        info = -curvature.matrix
        effective: dict[str, float] = {}
        messages: tuple[str, ...] = ()
    else:
        curvature, info, effective, messages, form = network_information(done, seed, draws)
    edge, notes = _family_edges(done, info)
    at_zero = at_zero | edge
    messages += notes
    vcov, smallest, trouble = _invert(info, at_zero)
    packing = reported_packing(done.model)
    inverse = vcov
    if kind == "sandwich":
        if not done.model.linear:
            raise ValueError("se='sandwich' is for models without dnn(); use se='hessian'")
        vcov, form = _sandwich(done, vcov, at_zero, seed), "cluster sandwich H^-1 (sum s s') H^-1"
    return Information(
        packing,
        torch.from_numpy(vcov),
        torch.from_numpy(inverse),
        form,
        smallest,
        curvature.asymmetry,
        boundary,
        effective,
        messages + trouble,
    )


# -- boundary ------------------------------------------------------------------------------------


def find_boundary(done: Estimate) -> tuple[tuple[str, ...], np.ndarray]:
    """Random effects without variance of their own, and the reported entries held fixed there."""
    packing = reported_packing(done.model)
    held = {name: torch.zeros(shape) for name, shape in packing.shapes.items()}
    names: list[str] = []
    for i, latent in enumerate(done.model.latents, 1):
        if not isinstance(latent, Normal):
            continue
        key = f"latent{i}.log_diagonal"
        diagonal = done.theta[key].exp()
        zero = diagonal < BOUNDARY * max(float(diagonal.max()), sigma_unit(done))
        if "log_sigma" not in done.model.family.extra:  # a thousandth on the scale of the link
            zero |= diagonal < 10 * BOUNDARY
        held[key] = zero.double()
        names += [_name(done, i - 1, latent.names[j]) for j in torch.nonzero(zero)[:, 0]]
        if "below" in latent.shapes():
            below = done.theta[f"latent{i}.below"]
            column = torch.tril_indices(latent.dim, latent.dim, -1)[1]
            # a column of Lambda that is zero throughout says nothing about its entries below
            empty = (zero[column]) & (below.abs() < BOUNDARY)
            held[f"latent{i}.below"] = empty.double()
    return tuple(names), packing.pack(held).numpy() > 0


def _family_edges(done: Estimate, info: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Extra parameters that ran to an edge of their range, where the likelihood is flat in them."""
    model, held, notes = done.model, np.zeros(len(info), dtype=bool), []
    first = int(reported_packing(model).positions(["extra"])[0]) if model.family.extra else 0
    words = model.family.natural_names()
    for name, word in zip(model.family.extra, words, strict=True):
        at = model.one_number(name)
        if at is None or name == "log_sigma":
            continue
        value = float(done.theta["extra"][at])
        if abs(value) > EDGE and info[first + at, first + at] < FLAT_INFORMATION:
            held[first + at] = True
            side = "upper" if value > 0 else "lower"
            notes.append(
                f"boundary: `{word}` of family {model.family.name!r} has run to the {side} end of "
                "its range, where the likelihood no longer depends on it. It is held there, "
                "without a standard error, and the other estimates are usable; a simpler family "
                "fits as well"
            )
    return held, tuple(notes)


def _name(done: Estimate, term: int, column: str) -> str:
    """A column of T, with its grouping factor when there are several."""
    crossing = done.panel.crossing
    return column if crossing is None else f"{column} | {crossing.names[crossing.factor[term]]}"


def sigma_unit(done: Estimate) -> float:
    """sigma in units of the model, for families that have one; else 1."""
    at = done.model.one_number("log_sigma")
    if at is None:
        return 1.0
    return float(done.theta["extra"][at].exp()) / done.model.unit


def _invert(info: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, float, tuple[str, ...]]:
    """Invert the free part; an indefinite information gives NaN and is said in words."""
    vcov = np.full(info.shape, np.nan)
    free = np.flatnonzero(~held)
    part = info[np.ix_(free, free)]
    root = np.sqrt(np.maximum(np.abs(np.diag(part)), 1e-300))
    scaled = part / root / root[:, None]
    known = bool(np.all(np.isfinite(scaled)))
    smallest = float(np.linalg.eigvalsh(scaled)[0]) if known else np.nan
    if not np.isfinite(smallest) or smallest <= 1e-10:
        message = (
            f"the Hessian is not positive definite (smallest scaled eigenvalue {smallest:.2g}): "
            "standard errors are not available; the model may be too rich for these data, or the "
            "estimates are not at a maximum"
        )
        return vcov, smallest, (message,)
    vcov[np.ix_(free, free)] = invert(part)
    return vcov, smallest, ()


# -- linear models -------------------------------------------------------------------------------


def observed_information(
    done: Estimate, held: np.ndarray, seed: int, draws: int
) -> tuple[Curvature, str]:
    """Central-difference Hessian of the marginal log-likelihood over all reported parameters."""
    packing = reported_packing(done.model)
    x = packing.pack(done.theta).numpy()
    several = done.panel.crossing is not None
    if several and done.likelihood == "laplace":
        return _laplace_information(done, x)
    if done.likelihood == "exact":
        made = crossed_statistics if several else exact.statistics
        stats: exact.Sufficient = done.statistics or made(done.model, done.observed)
        value = exact.LogLikelihood(stats)
        step = _pilot_steps(value, x)
        curvature = central_hessian(value, x, step) if several else value.hessian(x, step)
        return curvature, "observed information, central differences"
    if done.rule is not None and not isinstance(done.rule, Importance):
        return _classical_information(done)
    frozen = freeze_at(done, done.theta, done.observed, seed, draws)
    return gradient_hessian(frozen, done.theta, packing), (
        "observed information, central differences of the score at frozen nodes"
    )


def _classical_information(done: Estimate) -> tuple[Curvature, str]:
    """Louis's identity at quadrature nodes; central differences of the exact gradient for Laplace.

    On the scale of theta, whose diagonal of Lambda is logged.
    """
    assert done.rule is not None
    engine = likelihood_at(done.model, done.observed, done.rule)
    x = engine.vector(done.theta)
    here = engine.value_and_gradient(x, scores=True)
    slope = engine.working_slope(x)
    if isinstance(done.rule, Laplace):
        assert here.scores is not None
        pilot = 1 / np.sqrt((here.scores**2).sum(0) + 1e-12)
        step = LAPLACE_STEP * np.minimum(pilot, 1.0)
        H = central_jacobian(lambda at: engine.value_and_gradient(at).gradient, x, step).matrix
        form = "observed information of the Laplace approximation, central differences of the score"
    else:
        H = -engine.information(x)
        form = "observed information at the quadrature nodes (Louis's identity)"
    H = slope[:, None] * H * slope
    first = len(done.model.names)
    logged = first + np.flatnonzero(engine.pattern.on_diagonal)
    H[logged, logged] += here.gradient[logged] * x[logged]
    return curvature_of(H), form


def _laplace_information(done: Estimate, x: np.ndarray) -> tuple[Curvature, str]:
    joint = JointLaplace(done.model, done.observed)
    step = _pilot_steps(joint.value, x)
    curvature = central_jacobian(lambda at: joint.value_and_gradient(at)[1], x, step)
    return curvature, (
        "observed information, central differences of the gradient of the Laplace approximation"
    )


def _pilot_steps(value: Callable[[np.ndarray], float], x: np.ndarray) -> np.ndarray:
    """STEP pilot standard errors, from plain second differences on the diagonal."""
    centre, steps = value(x), np.empty_like(x)
    for j in range(len(x)):
        h = 1e-3 * max(1.0, abs(x[j]))
        unit = np.zeros_like(x)
        unit[j] = h
        curvature = -(value(x + unit) - 2 * centre + value(x - unit)) / h**2
        steps[j] = STEP / math.sqrt(curvature) if curvature > 0 else h
    return np.clip(steps, 1e-6, 0.05)


def gradient_hessian(frozen: Frozen, theta: Theta, packing: Packing) -> Curvature:
    """Central differences of the gradient of l at frozen nodes, nodes following theta."""
    scores = frozen.scores(theta)[:, _positions(frozen.model, packing)]
    # pilot standard errors from the scores; a parameter without information gets a small step
    pilot = (scores.square().sum(0) + 1e-12).rsqrt().clamp(max=1.0).numpy()

    def gradient(vector: np.ndarray) -> np.ndarray:
        moved = {**theta, **packing.unpack(torch.from_numpy(vector))}
        return packing.pack(frozen.value_and_gradient(moved)[1]).numpy()

    return central_jacobian(gradient, packing.pack(theta).numpy(), STEP * pilot)


def freeze_at(done: Estimate, theta: Theta, panel: Panel, seed: int, draws: int) -> Frozen:
    """Nodes for standard errors: the rule of the fit; ``draws`` quasi-random ones if sampled."""
    rule: NodeRule
    if done.rule is None:
        rule = Quadrature(3) if done.model.k <= 3 else Importance(draws)
    elif isinstance(done.rule, Importance):
        rule = replace(done.rule, draws=draws)
    else:
        rule = done.rule
    return freeze(done.model, theta, panel, rule, np.random.default_rng([seed, 29]))


def _sandwich(done: Estimate, vcov: np.ndarray, held: np.ndarray, seed: int) -> np.ndarray:
    """H^-1 (sum_i s_i s_i') H^-1 over the free parameters."""
    scores = _reported_scores(done, seed)[:, ~held]
    free = np.ix_(~held, ~held)
    robust = np.full_like(vcov, np.nan)
    robust[free] = vcov[free] @ (scores.T @ scores) @ vcov[free]
    return robust


def _reported_scores(done: Estimate, seed: int) -> np.ndarray:
    """Gradients of every l_i in the reported parameters, (n, P_r)."""
    if done.rule is not None and not isinstance(done.rule, Importance):
        engine = likelihood_at(done.model, done.observed, done.rule)
        x = engine.vector(done.theta)
        found = engine.value_and_gradient(x, scores=True).scores
        assert found is not None
        return found * engine.working_slope(x)
    frozen = freeze_at(done, done.theta, done.observed, seed, 1024)
    position = done.model.packing.positions(reported_packing(done.model).shapes)
    return frozen.scores(done.theta)[:, position].numpy()


# -- networks ------------------------------------------------------------------------------------


def network_information(
    done: Estimate, seed: int, draws: int
) -> tuple[Curvature, np.ndarray, dict[str, float], tuple[str, ...], str]:
    """Information about all linear parts, the layers of the networks integrated out."""
    model = done.model
    packing = linear_packing(model)
    frozen = freeze_at(done, done.theta, done.observed, seed, draws // 2)
    curvature = gradient_hessian(frozen, done.theta, packing)
    expected = expected_information(done, seed)
    kappa = kappa_vector(model, model.packing)
    r = _positions(model, packing)
    rest = torch.ones(model.packing.size, dtype=torch.bool)
    rest[r] = False
    w = torch.nonzero(rest)[:, 0]
    factor = torch.linalg.cholesky(expected[w][:, w] + torch.diag(kappa[w]))
    half = torch.linalg.solve_triangular(factor, expected[w][:, r], upper=False)
    loss = (half.T @ half).numpy()
    effective = _effective(model, expected, kappa)
    flat, size = rotations(model, done.theta, packing), reported_packing(model).size
    info = reported_information(-curvature.matrix - loss, flat, size)
    if info is not None:
        form = (
            "observed information (central differences of the score at frozen nodes), "
            "network weights integrated out by F + kappa S"
        )
        return curvature, info, effective, (), form
    info = reported_information(expected[r][:, r].numpy() - loss, flat, size)
    message = (
        "the observed information less the part of the network weights is not positive definite; "
        "the expected information was used instead"
    )
    info = np.full((size, size), np.nan) if info is None else info
    return curvature, info, effective, (message,), "expected information F + kappa S"


def linear_packing(model: Model) -> Packing:
    """Reported parameters first, then the skips: everything but the layers of networks."""
    layers = {name for names in model.penalised().values() for name in names}
    reported = list(reported_packing(model).shapes)
    others = [name for name in model.packing.shapes if name not in layers and name not in reported]
    return Packing({name: model.packing.shapes[name] for name in [*reported, *others]})


def _positions(model: Model, packing: Packing) -> Tensor:
    """Positions in theta of the entries of a packing, in the order of that packing."""
    return torch.cat([model.packing.positions([name]) for name in packing.shapes])


def rotations(model: Model, theta: Theta, packing: Packing) -> np.ndarray:
    """Directions of Lambda along which nothing changes, as columns (P, sum k (k - 1) / 2).

    b ~ N(0, I) is invariant under rotation, so Lambda -> Lambda (I + e S) with S antisymmetric, and
    the first layer of the network alike, leaves the likelihood and the ridge as they are: Lambda S
    is a null vector of the information about Lambda once the layers are integrated out.
    """
    columns = []
    for i, latent in enumerate(model.latents, 1):
        if latent.linear:
            continue
        name = f"latent{i}.Lambda"
        for one in range(latent.dim):
            for two in range(one):
                S = torch.zeros(latent.dim, latent.dim, dtype=torch.float64)
                S[one, two], S[two, one] = 1.0, -1.0
                zero = {n: torch.zeros(shape) for n, shape in packing.shapes.items()}
                columns.append(packing.pack({**zero, name: theta[name] @ S}))
    return torch.stack(columns, dim=1).numpy() if columns else np.zeros((packing.size, 0))


def reported_information(info: np.ndarray, flat: np.ndarray, size: int) -> np.ndarray | None:
    """Information about the first ``size`` parameters, the others integrated out, or None.

    The inverse is taken off the ``flat`` directions, on which nothing reported depends; None when
    what is left is not positive definite.
    """
    root = np.sqrt(np.maximum(np.abs(np.diag(info)), 1e-300))
    scaled = info / root / root[:, None]
    Z = np.linalg.qr(root[:, None] * flat, mode="complete")[0][:, flat.shape[1] :]
    inner = Z.T @ scaled @ Z
    if np.linalg.eigvalsh(inner)[0] <= 1e-10:
        return None
    half = Z[:size] / root[:size, None]
    return np.linalg.inv(half @ np.linalg.solve(inner, half.T))


def _effective(model: Model, expected: Tensor, kappa: Tensor) -> dict[str, float]:
    """Effective degrees of freedom, diag{(F + kappa S)^-1 F} summed per network and in total."""
    share = effective_df(expected, kappa)
    edf = {"total": float(share.sum())}
    blocks = [f"dnn{i + 1}." for i in range(len(model.networks))]
    blocks += [f"latent{i + 1}." for i, lat in enumerate(model.latents) if not lat.linear]
    for prefix in blocks:
        names = [n for n in model.packing.shapes if n.startswith(prefix)]
        edf[prefix[:-1]] = float(share[model.packing.positions(names)].sum())
    for i, latent in enumerate(model.latents, 1):
        if not latent.linear:  # rotations of b change nothing, whatever the sampled scores say
            edf[f"latent{i}"] -= latent.dim * (latent.dim - 1) / 2
            edf["total"] -= latent.dim * (latent.dim - 1) / 2
    return edf


def expected_information(done: Estimate, seed: int, draws: int = 64) -> Tensor:
    """F = E sum_i s_i s_i' over all of theta, from outcomes simulated at theta-hat, (P, P).

    Enough replicates are drawn that the simulated subjects outnumber the parameters twice.
    """
    model, panel = done.model, done.observed
    P = model.packing.size
    replicates = int(np.clip(math.ceil(2 * P / panel.n), 2, 12))
    total = torch.zeros(P, P, dtype=torch.float64)
    for number in range(replicates):
        generator = torch.Generator().manual_seed(seed + 7919 * (number + 1))
        y = simulate_panel(model, done.theta, panel, generator)
        frozen = freeze_at(done, done.theta, panel.with_outcome(y), seed + number, draws)
        scores = frozen.scores(done.theta)
        total += scores.T @ scores / replicates
    return total
