"""The stages of a fit: independence model, nested (G)LMM, ELBO, polish, final likelihood.

0  linear predictor: Gaussian by profile ML, other families by adaptive quadrature; no ELBO needed
1  networks: decoder and encoder set to the nested (G)LMM
2  ELBO over the observed outcomes, mini-batches of subjects
3  polish on the marginal log-likelihood, nodes following theta, by the Newton decrement
4  log-likelihood with fresh nodes and its Monte Carlo error; held-out score beside the nested one
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgmm.design import Design
from dgmm.elbo import Schedule, Trace, evaluate, train
from dgmm.encoders import Encoder
from dgmm.encoders import find as find_encoder
from dgmm.evidence import choose_ridge
from dgmm.families import Family
from dgmm.latent import Normal
from dgmm.marginal import Importance, NodeRule, Quadrature, exact, freeze, modes
from dgmm.model import Model, build_model
from dgmm.networks import Weights
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.polish import Polished, polish
from dgmm.progress import Progress

__all__ = ["Control", "Estimate", "HeldOut", "Request", "estimate"]


@dataclass(frozen=True)
class Control:
    """Rare options of a fit; defaults are right for most.

    epochs, batch, learning_rate, pairs, kl_anneal, free_bits: the ELBO stage (see Schedule).
    ridge: penalty on network matrices, on the scale of the whole log-likelihood; by default
        chosen by evidence, network by network. ridge= inside a dnn() term comes first.
    draws, replicates: final importance sampling, per subject and independent scrambles.
    polish_draws: draws per subject while polishing; hessian_draws: for standard errors.
    polish_weights: networks with at most this many weights are polished too, others keep the
        weights of the ELBO stage while all linear parts (beta, Lambda, sigma) are polished.
    points: quadrature points per dimension, fixed; by default the rule grows until it is right.
    tolerance: Newton decrement, in standard errors, at which polishing stops.
    holdout: share of the subjects on which a deep model is compared with its nested model.
    """

    epochs: int = 300
    batch: int = 100
    learning_rate: float = 4e-3
    pairs: int = 2
    kl_anneal: int = 0
    free_bits: float = 0.0
    ridge: float | None = None
    draws: int = 512
    polish_draws: int = 128
    polish_weights: int = 0
    replicates: int = 8
    points: int | None = None
    tolerance: float = 0.01
    holdout: float = 0.2
    hessian_draws: int = 1024

    def schedule(self, n: int, epochs: int | None = None) -> Schedule:
        """The ELBO schedule for n subjects: at least eight steps in an epoch."""
        return Schedule(
            epochs=self.epochs if epochs is None else epochs,
            batch=int(np.clip(n // 8, 8, self.batch)),
            learning_rate=self.learning_rate,
            pairs=self.pairs,
            kl_anneal=self.kl_anneal,
            free_bits=self.free_bits,
        )


@dataclass(frozen=True)
class Request:
    """What the user asked for, checked."""

    family: Family
    method: str  # "ml", "reml", "vae"
    likelihood: str  # "exact", "quadrature", "importance"
    encoder: str
    starts: int
    seed: int
    verbose: int
    control: Control


@dataclass(frozen=True)
class HeldOut:
    """Log score of the nested and the deep model on subjects that neither was fitted to."""

    subjects: int
    difference: float  # mean over subjects, deep minus nested
    standard_error: float


@dataclass(frozen=True)
class Estimate:
    """theta-hat with the value of the likelihood there and how it was found."""

    model: Model
    theta: Theta
    panel: Panel  # all planned rows
    method: str
    likelihood: str
    rule: NodeRule | None  # None when exact
    log_likelihood: float
    mc_error: float  # Monte Carlo standard error; quadrature: change under a longer rule
    decrement: float
    evaluations: int
    converged: bool
    vcov_gls: Tensor | None = None  # internal scale, exact engine only
    encoder: Encoder | None = None
    phi: Weights = field(default_factory=dict)
    trace: Trace | None = None
    elbo: float | None = None
    elbo_error: float = 0.0  # its Monte Carlo standard error
    kl_by_direction: Tensor | None = None  # (k,) mean over subjects
    nested: Estimate | None = None
    held_out: HeldOut | None = None
    start_spread: tuple[float, ...] = ()  # penalised log-likelihood reached from each start
    messages: tuple[str, ...] = ()

    @property
    def observed(self) -> Panel:
        """The rows that enter the likelihood."""
        return self.panel.observed_rows()


def estimate(design: Design, nested: Design | None, request: Request) -> Estimate:
    """Fit the model of a design; ``nested`` is the classical design beneath a deep one."""
    unit, start = pilot(design, request.family)
    model = build_model(design, request.family, unit, request.control.ridge)
    panel = Panel.from_design(design)
    if nested is None:
        return fit_linear(model, panel, start, request)
    return fit_deep(model, panel, start, nested, request)


# -- pilot ---------------------------------------------------------------------------------------


def pilot(design: Design, family: Family) -> tuple[float, Tensor]:
    """Independence GLM by iteratively reweighted least squares: unit of eta, and X beta (N_obs,).

    The unit is the residual standard deviation for the identity link, else 1.
    """
    seen = torch.from_numpy(design.observed)
    X = torch.from_numpy(design.fixed.matrix)[seen]
    offset = torch.from_numpy(design.offset)[seen]
    rows = Panel.from_design(design).rows.take(torch.nonzero(seen)[:, 0])
    data = rows.data
    eta = family.link.forward(family.start_mean(data))
    extra = family.start_extra(data, family.start_mean(data))
    for _ in range(25):
        weight = family.information(data, eta, torch.zeros_like(extra)).clamp(min=1e-8)
        target = eta - offset + family.working_residual(data, eta)
        root = weight.sqrt()
        beta = torch.linalg.lstsq(X * root[:, None], (target * root)[:, None]).solution[:, 0]
        new = offset + X @ beta
        done = bool((new - eta).abs().max() < 1e-8 * (1 + new.abs().max()))
        eta = new.clamp(-30, 30) if family.link.name != "identity" else new
        if done:
            break
    residual = family.response(data) - family.mean(eta)
    identity = family.link.name == "identity"
    unit = float(residual.square().mean().sqrt()) if identity else 1.0
    return (unit if unit > 0 else 1.0), eta - offset


def start_theta(model: Model, panel: Panel, eta: Tensor, generator: torch.Generator) -> Theta:
    """theta of the independence model with modest random effects."""
    observed = panel.observed_rows()
    beta = torch.linalg.lstsq(observed.rows.X @ model.basis, eta[:, None]).solution[:, 0]
    theta: Theta = {"beta": beta}
    for i, network in enumerate(model.networks, 1):
        weights = network.network.initial(generator, last=0.02)
        weights["skip"] = torch.zeros(len(network.linear), dtype=torch.float64)
        theta |= {f"dnn{i}.{name}": value for name, value in weights.items()}
    for i, latent in enumerate(model.latents, 1):
        theta |= {f"latent{i}.{n}": v for n, v in latent.initial(generator).items()}
    mu = model.family.mean(eta + observed.rows.offset)
    theta["extra"] = model.family.start_extra(observed.rows.data, mu)
    return theta


# -- linear predictors ---------------------------------------------------------------------------


def fit_linear(model: Model, panel: Panel, eta: Tensor, request: Request) -> Estimate:
    """Stage 0 (or the VAE route) for a classical model."""
    if request.likelihood == "exact" and request.method != "vae":
        return fit_exact(model, panel, request)
    generator = torch.Generator().manual_seed(request.seed)
    theta = start_theta(model, panel, eta, generator)
    rule = choose_rule(model, request)
    if request.method == "vae":
        return fit_amortised(model, panel, theta, rule, request, generator)
    polished, rule, change = polish_growing(model, theta, panel, rule, request)
    return conclude(model, panel, polished, rule, change, request)


def choose_rule(model: Model, request: Request) -> NodeRule:
    """The node rule asked for."""
    if request.likelihood == "quadrature":
        points = request.control.points
        default = Quadrature.default(model.k)
        return default if points is None else Quadrature(points)
    return Importance(request.control.draws)


def fit_exact(model: Model, panel: Panel, request: Request) -> Estimate:
    """Profile (restricted) maximum likelihood from sufficient statistics."""
    stats = exact.statistics(model, panel.observed_rows())
    profile = exact.maximise(stats, reml=request.method == "reml")
    theta = exact_theta(model, profile)
    return Estimate(
        model,
        theta,
        panel,
        request.method,
        "exact",
        None,
        profile.log_likelihood,
        0.0,
        0.0,
        profile.evaluations,
        profile.converged,
        vcov_gls=torch.from_numpy(profile.vcov_gls),
        messages=() if profile.converged else (f"optimiser: {profile.message}",),
    )


def exact_theta(model: Model, profile: exact.Profile) -> Theta:
    """theta of a profile."""
    theta: Theta = {"beta": torch.from_numpy(profile.beta)}
    first = 0
    for i, latent in enumerate(model.latents, 1):
        last = first + latent.dim
        L = torch.from_numpy(profile.Lambda[first:last, first:last])
        # a zero on the diagonal (boundary) is held at a value that adds nothing to any sum
        theta[f"latent{i}.log_diagonal"] = L.diagonal().clamp(min=1e-10).log()
        if isinstance(latent, Normal) and "below" in latent.shapes():
            row, column = torch.tril_indices(latent.dim, latent.dim, -1)
            theta[f"latent{i}.below"] = L[row, column]
        first = last
    theta["extra"] = torch.tensor([profile.log_sigma], dtype=torch.float64)
    return theta


def polish_growing(
    model: Model, theta: Theta, panel: Panel, rule: NodeRule, request: Request
) -> tuple[Polished, NodeRule, float]:
    """Polish; with quadrature, repeat with longer rules until the log-likelihood stands still."""
    observed, control = panel.observed_rows(), request.control
    with Progress(request.verbose, 12, "marginal likelihood") as bar:
        polished = polish(model, theta, observed, rule, request.seed, progress=bar)
        change = 0.0
        while isinstance(rule, Quadrature):
            longer = rule.longer(model.k)
            if longer is None:
                break
            start = modes(polished.frozen)
            again = freeze(model, polished.theta, observed, longer, np.random.default_rng(0), start)
            value = polished.frozen.value(polished.theta)
            change = abs(again.value(polished.theta) - value)
            if change < 0.01 or control.points is not None:
                break
            rule = longer
            polished = polish(
                model, polished.theta, observed, rule, request.seed, start=start, progress=bar
            )
    return polished, rule, change


def fit_amortised(
    model: Model,
    panel: Panel,
    theta: Theta,
    rule: NodeRule,
    request: Request,
    generator: torch.Generator,
) -> Estimate:
    """The VAE route of a classical model: encoder tied to the start, ELBO, polish."""
    observed = panel.observed_rows()
    encoder, phi = tied_encoder(model, theta, panel, request.encoder, generator)
    schedule = request.control.schedule(panel.n)
    with Progress(request.verbose, schedule.epochs, "ELBO") as bar:
        theta, phi, trace = train(
            model, encoder, theta, phi, observed, schedule, generator, progress=bar
        )
    polished, rule, change = polish_growing(model, theta, panel, rule, request)
    done = conclude(model, panel, polished, rule, change, request)
    return with_encoder(done, encoder, phi, trace, request)


def tied_encoder(
    model: Model, theta: Theta, panel: Panel, word: str, generator: torch.Generator
) -> tuple[Encoder, Weights]:
    """An encoder that starts at the posterior of the linear part of the decoder."""
    q = sum(len(latent.names) for latent in model.latents)
    covariates = len(model.names) + sum(len(net.names) for net in model.networks)
    planned = int(panel.count.max())
    encoder = find_encoder(word)(model.k, q, covariates, planned)
    return encoder, encoder.tied(skip_matrix(model, theta), generator)


def skip_matrix(model: Model, theta: Theta) -> Tensor:
    """The linear part of all latent terms, (q, k), for time bases of unit mean square."""
    blocks = []
    for i, latent in enumerate(model.latents, 1):
        prefix = f"latent{i}."
        own = {n[len(prefix) :]: v for n, v in theta.items() if n.startswith(prefix)}
        blocks.append(latent.skip(own) / latent.scale[:, None])
    return torch.block_diag(*blocks)


def with_encoder(
    done: Estimate, encoder: Encoder, phi: Weights, trace: Trace, request: Request
) -> Estimate:
    """Attach the encoder, brought to theta-hat, and its bound there.

    The polish moves theta (and may rotate b), so the skeleton is tied anew and the corrections are
    trained at fixed theta for a fifth of the epochs.
    """
    generator = torch.Generator().manual_seed(request.seed + 5)
    skip = skip_matrix(done.model, done.theta)
    phi = {**phi, "W1": skip, "W2": skip.clone()}
    model, observed = done.model.with_reference(done.panel, rows=2000), done.observed
    theta = model.absorb(done.theta, done.model)
    schedule = request.control.schedule(done.panel.n, max(1, request.control.epochs // 5))
    with Progress(request.verbose, schedule.epochs, "encoder") as bar:
        _, phi, _ = train(
            model,
            encoder,
            theta,
            phi,
            observed,
            schedule,
            generator,
            fixed_theta=True,
            progress=bar,
        )
    bound = evaluate(model, encoder, theta, phi, observed, request.seed)
    return replace(
        done,
        encoder=encoder,
        phi=phi,
        trace=trace,
        elbo=float(bound.elbo.sum()),
        elbo_error=bound.mc_error,
        kl_by_direction=bound.kl_by_direction.mean(0),
    )


def conclude(
    model: Model,
    panel: Panel,
    polished: Polished,
    rule: NodeRule,
    change: float,
    request: Request,
) -> Estimate:
    """Final log-likelihood with fresh nodes and its error."""
    control, theta = request.control, polished.theta
    if isinstance(rule, Importance):
        rule = replace(rule, draws=control.draws)
        each, error = fresh_likelihood(
            model, theta, panel.observed_rows(), rule, request, modes(polished.frozen)
        )
        value = float(each.sum())
    else:
        value, error = polished.frozen.value(theta), change
    reached = polished.decrement < control.tolerance
    messages = (
        ()
        if reached
        else (
            f"the Newton decrement is {polished.decrement:.3g} standard errors, not below "
            f"{control.tolerance:g}: estimates may move by that much; refit with more polish_draws",
        )
    )
    return Estimate(
        model,
        theta,
        panel,
        request.method,
        request.likelihood,
        rule,
        value,
        error,
        polished.decrement,
        polished.evaluations,
        reached,
        messages=messages,
    )


def fresh_likelihood(
    model: Model,
    theta: Theta,
    panel: Panel,
    rule: Importance,
    request: Request,
    start: Tensor | None = None,
) -> tuple[Tensor, float]:
    """l_i from independent scrambles together, and the Monte Carlo error of their sum."""
    replicates = request.control.replicates
    values = []
    for number in range(replicates):
        rng = np.random.default_rng([request.seed, 71, number])
        frozen = freeze(model, theta, panel, rule, rng, start)
        start = modes(frozen)
        values.append(frozen.per_subject(theta))
    table = torch.stack(values)
    error = float(table.sum(1).std() / np.sqrt(replicates))
    return torch.logsumexp(table, 0) - np.log(replicates), error


# -- networks ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trained:
    model: Model  # centred over the subjects it was trained on
    theta: Theta
    encoder: Encoder
    phi: Weights
    trace: Trace


def fit_deep(model: Model, panel: Panel, eta: Tensor, nested: Design, request: Request) -> Estimate:
    """Stages 1 to 4 of a model with networks."""
    control = request.control
    classical = replace(request, method="ml", likelihood=nested_likelihood(nested, request))
    small_unit, small_eta = pilot(nested, request.family)
    small = build_model(nested, request.family, small_unit, control.ridge)
    small_panel = Panel.from_design(nested)
    below = fit_linear(small, small_panel, small_eta, classical)
    held_out, start = None, None
    if control.holdout > 0 and panel.n >= 20:
        held_out, start = hold_out(model, panel, small, small_panel, small_eta, classical, request)
    reached = []
    for number in range(request.starts):
        seed = request.seed + 1000 * number
        first = start if number == 0 else None
        trained = train_deep(model, panel, below, replace(request, seed=seed), first)
        reached.append((trained, polish_deep(trained, panel, replace(request, seed=seed))))
    best = max(range(len(reached)), key=lambda j: reached[j][1].path[-1])
    trained, polished = reached[best]
    done = conclude(trained.model, panel, polished, choose_rule(model, request), 0.0, request)
    done = with_encoder(done, trained.encoder, trained.phi, trained.trace, request)
    spread = tuple(run.path[-1] for _, run in reached)
    return replace(done, nested=below, held_out=held_out, start_spread=spread)


def nested_likelihood(nested: Design, request: Request) -> str:
    """The likelihood of the nested classical model."""
    if request.family.name == "gaussian" and request.family.link.name == "identity":
        return "exact"
    k = sum(len(block.columns.names) for block in nested.latents)
    return "quadrature" if k <= 2 else "importance"


def hold_out(
    model: Model,
    panel: Panel,
    small: Model,
    small_panel: Panel,
    small_eta: Tensor,
    classical: Request,
    request: Request,
) -> tuple[HeldOut, _Trained]:
    """Fit both models to some subjects, score both on the others."""
    rng = np.random.default_rng([request.seed, 13])
    away = np.zeros(panel.n, dtype=bool)
    away[rng.permutation(panel.n)[: max(2, round(request.control.holdout * panel.n))]] = True
    kept, left = np.flatnonzero(~away), np.flatnonzero(away)
    rows = torch.from_numpy(~away)[small_panel.observed_rows().subject]
    below = fit_linear(small, small_panel.select(kept), small_eta[rows], classical)
    trained = train_deep(model, panel.select(kept), below, request, None)
    other, small_other = panel.select(left).observed_rows(), small_panel.select(left)
    rule = Importance(request.control.draws)
    deep, _ = fresh_likelihood(trained.model, trained.theta, other, rule, request)
    plain = subject_log_likelihood(below, small_other.observed_rows(), request)
    gain = (deep - plain).numpy()
    score = HeldOut(len(left), float(gain.mean()), float(gain.std(ddof=1) / np.sqrt(len(left))))
    return score, trained


def subject_log_likelihood(done: Estimate, panel: Panel, request: Request) -> Tensor:
    """l_i of an estimate on any panel of the same model, (n,)."""
    if done.likelihood == "exact":
        return exact.per_subject(done.model, done.theta, panel)
    rule = done.rule if done.rule is not None else Importance(request.control.draws)
    if isinstance(rule, Importance):
        return fresh_likelihood(done.model, done.theta, panel, rule, request)[0]
    return freeze(
        done.model, done.theta, panel, rule, np.random.default_rng(request.seed)
    ).per_subject(done.theta)


def train_deep(
    model: Model, panel: Panel, below: Estimate, request: Request, start: _Trained | None
) -> _Trained:
    """Stages 1 and 2: tie decoder and encoder to the nested model, then the ELBO."""
    generator = torch.Generator().manual_seed(request.seed)
    observed, control = panel.observed_rows(), request.control
    small = model.with_reference(panel, rows=2000)
    if start is None:
        theta = tied_decoder(small, panel, below, generator)
        encoder, phi = tied_encoder(small, theta, panel, request.encoder, generator)
        schedule = control.schedule(panel.n, epochs=max(1, control.epochs // 2))
        with Progress(request.verbose, schedule.epochs, "ELBO") as bar:
            theta, phi, _ = train(
                small, encoder, theta, phi, observed, schedule, generator, progress=bar
            )
        small = choose_ridge(small, theta, observed, request.seed)
    else:  # continue a fit to a part of the subjects
        theta, encoder, phi = start.theta, start.encoder, start.phi
        small = small.with_ridge({name: start.model.ridge_of(name) for name in model.penalised()})
        theta = small.absorb(theta, start.model)
        schedule = control.schedule(panel.n, epochs=max(1, control.epochs // 3))
    with Progress(request.verbose, schedule.epochs, "ELBO") as bar:
        theta, phi, trace = train(
            small, encoder, theta, phi, observed, schedule, generator, progress=bar
        )
    small = choose_ridge(small, theta, observed, request.seed)
    full = small.with_reference(panel)
    return _Trained(full, full.absorb(theta, small), encoder, phi, trace)


def tied_decoder(model: Model, panel: Panel, below: Estimate, generator: torch.Generator) -> Theta:
    """theta of the deep model that gives the profiles of the nested fit."""
    ready = below.model.prepare(below.theta)
    target = below.model.mu1(ready, below.panel.rows) - below.panel.rows.offset
    seen = panel.rows
    theta: Theta = {"beta": torch.zeros(len(model.names), dtype=torch.float64)}
    columns = [seen.X]
    for network, inputs in zip(model.networks, seen.inputs, strict=True):
        columns.append(network.standardise(inputs)[:, list(network.linear)] * network.unit)
    coefficient = torch.linalg.lstsq(
        torch.cat(columns, dim=1), target[:, None], driver="gelsd"
    ).solution[:, 0]
    first = len(model.names)
    for i, network in enumerate(model.networks, 1):
        weights = network.network.initial(generator, last=0.02)
        weights["skip"] = coefficient[first : first + len(network.linear)]
        first += len(network.linear)
        theta |= {f"dnn{i}.{name}": value for name, value in weights.items()}
    for i, (latent, old) in enumerate(zip(model.latents, below.model.latents, strict=True), 1):
        prefix = f"latent{i}."
        own = {n[len(prefix) :]: v for n, v in below.theta.items() if n.startswith(prefix)}
        skip, T = old.skip(own), seen.T[i - 1]
        tied = latent.tied(skip @ skip.T, T.T @ T / len(T), generator)
        theta |= {f"{prefix}{name}": value for name, value in tied.items()}
    theta["extra"] = below.theta["extra"]
    # what the silent networks leave goes to the linear columns
    rest = target - (model.mu1(model.prepare(theta), seen) - seen.offset)
    theta["beta"] = torch.linalg.lstsq(seen.X @ model.basis, rest[:, None]).solution[:, 0]
    return theta


def is_linear_part(name: str) -> bool:
    """beta, extra parameters, linear latent parameters and skips: all but the networks' layers."""
    return name.rpartition(".")[2][:1] not in ("A", "a")


def polish_deep(trained: _Trained, panel: Panel, request: Request) -> Polished:
    """Stage 3: beta, Lambda, extra parameters; network weights too while they are few."""
    full = trained.model
    free = [name for name in full.packing.shapes if is_linear_part(name)]
    if full.packing.size - full.packing.only(free).size <= request.control.polish_weights:
        free = list(full.packing.shapes)
    rule: Any = choose_rule(full, request)
    if isinstance(rule, Importance):
        rule = Importance(request.control.polish_draws)
    with Progress(request.verbose, 12, "marginal likelihood") as bar:
        return polish(
            full,
            trained.theta,
            panel.observed_rows(),
            rule,
            request.seed,
            free=free,
            tolerance=request.control.tolerance,
            progress=bar,
        )
