"""The epochs that maximise ELBO - ridge over theta and phi, in mini-batches of subjects."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dgmm.design import label_key
from dgmm.encoders import Amortised
from dgmm.encoders.steps import Sequential
from dgmm.likelihood import Importance, freeze
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.panel import Panel
from dgmm.parameters import Theta, part
from dgmm.runtime.checkpoint import Checkpoint, Saved
from dgmm.runtime.devices import on, to
from dgmm.runtime.parallel import one_thread
from dgmm.runtime.progress import Progress
from dgmm.variational.bounds import weighted, weighted_of_all
from dgmm.variational.elbo import elbo, evaluate
from dgmm.variational.newton import NewtonPosterior
from dgmm.variational.schedule import Schedule

__all__ = ["Schedule", "Trace", "train"]

SKELETON = frozenset({"W", "c"})
"""The few weights of an encoder that do the work of many: they learn faster, or the networks
would learn in their place."""

BLUR = 0.2
"""Standard deviation of what is added to log lengths before subjects are sorted by them."""

PRECISION = {"double": torch.float64, "single": torch.float32}


@dataclass(frozen=True)
class Trace:
    """ELBO per subject by epoch (at KL weight 1), and the last gradient norm."""

    elbo: tuple[float, ...]
    gradient: float
    epochs: int
    watched: tuple[float, ...] = ()  # held-out score per subject by epoch, once the KL has weight 1
    kept: int = 0  # epochs after which the result stood, when it is not the last

    def followed_by(self, other: Trace) -> Trace:
        """The trace of two trainings, one after the other."""
        kept = self.epochs + other.kept if other.kept else 0
        return Trace(
            self.elbo + other.elbo,
            other.gradient,
            self.epochs + other.epochs,
            self.watched + other.watched,
            kept,
        )


@dataclass
class _Run:
    """Where a training stands."""

    weights: dict[str, Tensor]  # "theta/..." and "phi/...", on the device
    optimiser: torch.optim.Adam
    generator: torch.Generator
    q: NewtonPosterior | None = None  # of every subject, where no encoder gives it
    mean: dict[str, Tensor] = field(default_factory=dict)  # of the last iterates
    best: dict[str, Tensor] = field(default_factory=dict)  # on held-out subjects
    epoch: int = 0
    counted: int = 0  # iterates in the mean
    since: int = 0  # epochs since the best
    kept: int = 0  # epoch of the best
    gradient: float = math.nan
    elbo: list[float] = field(default_factory=list)
    watched: list[float] = field(default_factory=list)

    @property
    def theta(self) -> Theta:
        return part(self.weights, "theta/")

    @property
    def phi(self) -> Weights:
        return part(self.weights, "phi/")

    def current(self) -> dict[str, Tensor]:
        """A copy of all weights as they are now."""
        return {name: value.detach().clone() for name, value in self.weights.items()}

    def result(self) -> dict[str, Tensor]:
        """What the training gives: the best, else the mean of the last, else the last weights."""
        return self.best or self.mean or self.current()


@one_thread()
def train(
    model: Model,
    encoder: Amortised,
    theta: Theta,
    phi: Weights,
    panel: Panel,
    schedule: Schedule,
    generator: torch.Generator,
    *,
    newton: bool = False,
    fixed_theta: bool = False,
    held: Collection[str] = (),
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    device: str = "cpu",
) -> tuple[Theta, Weights, Trace]:
    """Adam on the ELBO over mini-batches of subjects; the ridge on the scale of the whole sample.

    ``fixed_theta`` trains the encoder alone, parameters ``held`` stay what they are. With
    ``newton`` q of every subject comes from Newton steps (:class:`NewtonPosterior`), theta is
    trained alone and phi comes back as it was. With ``patience`` some subjects are held out,
    and the iterate with the best score on them is the result. Random numbers are drawn on the
    CPU and in double precision, so that they are the same everywhere; so are held-out scores.
    """
    dtype = PRECISION[schedule.precision]
    learning, watched = _held_out(panel, schedule)
    given = (theta, {} if newton else phi)
    run = _begin(
        to(given, device, dtype), schedule, generator, set(theta) if fixed_theta else set(held)
    )
    if newton:
        run.q = to(NewtonPosterior.at_modes(model, theta, learning), device, dtype)
    number, saved = (0, None) if checkpoint is None else checkpoint.next()
    if saved is not None:
        _restore(run, saved, device)
    here, seen = to((model.learning(), learning), device, dtype)
    steps, written = schedule.epochs * schedule.batches(learning.n), run.epoch
    while run.epoch < schedule.epochs and not _finished(run, schedule):
        try:
            with on(device):
                _epoch(run, here, encoder, seen, schedule, steps)
        except (FloatingPointError, torch.linalg.LinAlgError) as error:
            if not run.optimiser.state:  # no step was taken: it is the start, or the data
                raise
            raise _diverged(run, schedule, newton) from error
        run.epoch += 1
        if watched is not None and schedule.settled(run.epoch - 1):
            _watch(run, model, encoder, watched, schedule)
        if progress is not None:
            progress.update(run.epoch, elbo=run.elbo[-1] * learning.n, gradient=run.gradient)
        if checkpoint is not None and run.epoch % checkpoint.every == 0:
            checkpoint.write(number, _saved(run))
            written = run.epoch
    if checkpoint is not None and run.epoch > written:
        checkpoint.write(number, _saved(run))
    final = to(run.result(), "cpu", torch.float64)
    trace = Trace(tuple(run.elbo), run.gradient, run.epoch, tuple(run.watched), run.kept)
    return part(final, "theta/"), phi if newton else part(final, "phi/"), trace


def _begin(
    given: tuple[Theta, Weights],
    schedule: Schedule,
    generator: torch.Generator,
    held: Collection[str],
) -> _Run:
    theta, phi = given
    weights = {
        f"theta/{n}": w.detach().clone().requires_grad_(n not in held) for n, w in theta.items()
    }
    weights |= {f"phi/{n}": w.detach().clone().requires_grad_() for n, w in phi.items()}
    return _Run(weights, _optimiser(weights, schedule), generator)


def _optimiser(weights: dict[str, Tensor], schedule: Schedule) -> torch.optim.Adam:
    """Adam with three groups: the skeleton of the encoder, its networks, theta."""
    phi = part(weights, "phi/")
    groups = (
        ("skeleton", [w for name, w in phi.items() if name in SKELETON]),
        ("corrections", [w for name, w in phi.items() if name not in SKELETON]),
        ("theta", [w for w in part(weights, "theta/").values() if w.requires_grad]),
    )
    return torch.optim.Adam(
        [{"params": weights, "name": name} for name, weights in groups if weights],
        lr=schedule.learning_rate,
        betas=(0.9, schedule.memory),
    )


def _epoch(
    run: _Run, model: Model, encoder: Amortised, panel: Panel, schedule: Schedule, steps: int
) -> None:
    """Every subject once, in random order."""
    order = torch.randperm(panel.n, generator=run.generator, device="cpu")
    weight, total = schedule.kl_weight(run.epoch), 0.0
    batches = schedule.batches(panel.n)
    moving = [w for w in run.weights.values() if w.requires_grad]
    shares = list(torch.tensor_split(order, batches))
    if schedule.alike:
        longest = torch.stack([one.count for one in panel.panels]).amax(0)
        shares = _alike(order, longest.cpu(), batches, run.generator)
    for number, subjects in enumerate(shares):
        step = run.epoch * batches + number
        _set_rates(run.optimiser, schedule, step / steps, steps)
        block = panel.block(subjects.to(panel.start.device))
        e = _antithetic(schedule.pairs, len(subjects), model.k, run.generator)
        e = e.to(panel.rows.X)
        if schedule.weighted and weight == 1 and isinstance(encoder, Sequential):
            value = weighted(model, encoder, run.theta, run.phi, block, e)
            gain = value.mean()
        else:
            if run.q is None:
                bound = elbo(model, encoder, run.theta, run.phi, block, e)
            else:
                bound = run.q.bound(model, run.theta, block, e)
            kl = bound.kl.clamp(min=schedule.free_bits) if schedule.free_bits else bound.kl
            value, gain = bound.elbo, (bound.reconstruction - weight * kl).mean()
        loss = model.penalty(run.theta) / panel.n - gain
        run.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        run.gradient = float(torch.nn.utils.clip_grad_norm_(moving, 100.0))
        if not math.isfinite(run.gradient):
            raise FloatingPointError("the gradient of the ELBO is not finite")
        run.optimiser.step()
        total += float(value.detach().sum())
        if schedule.average and schedule.averages(step, steps):
            _average(run)
    run.elbo.append(total / panel.n)


def _alike(
    order: Tensor, lengths: Tensor, batches: int, generator: torch.Generator
) -> list[Tensor]:
    """Mini-batches of subjects of similar length, in random order.

    Subjects are sorted by their length times exp(N(0, :data:`BLUR`^2)), so that who meets whom is
    another draw in every epoch.
    """
    blur = BLUR * torch.randn(len(order), generator=generator, dtype=torch.float64, device="cpu")
    place = torch.argsort(lengths[order].log() + blur)
    shares = torch.tensor_split(order[place], batches)
    mixed = torch.randperm(batches, generator=generator, device="cpu")
    return [shares[one] for one in mixed.tolist()]


def _diverged(run: _Run, schedule: Schedule, newton: bool) -> ValueError:
    """Steps that led from a finite ELBO to none: the fault is that of their length."""
    word = "decoder_rate" if newton else "learning_rate"
    return ValueError(
        f"the ELBO stage diverged in epoch {run.epoch + 1} of {schedule.epochs}: the bound was "
        f"finite where it began, so the steps are too long. Give a smaller control {word} than "
        f"{schedule.learning_rate:g}, such as a tenth of it"
    )


def _antithetic(pairs: int, n: int, k: int, generator: torch.Generator) -> Tensor:
    half = torch.randn(pairs, n, k, generator=generator, dtype=torch.float64, device="cpu")
    return torch.cat([half, -half])


def _set_rates(optimiser: torch.optim.Adam, schedule: Schedule, done: float, steps: int) -> None:
    """``done`` is the share of the steps that are behind."""
    share = schedule.rate(done, steps)
    for group in optimiser.param_groups:
        factor = 1.0
        if group["name"] == "skeleton":
            factor = schedule.skeleton
        elif group["name"] == "corrections" and done < schedule.skeleton_alone:
            factor = 0.0
        group["lr"] = schedule.learning_rate * factor * share


def _average(run: _Run) -> None:
    """The running mean of the iterates (Polyak and Juditsky, 1992)."""
    run.counted += 1
    now = run.current()
    old = run.mean or now
    run.mean = {name: old[name] + (now[name] - old[name]) / run.counted for name in now}


# -- held-out subjects ---------------------------------------------------------------------------


def _held_out(panel: Panel, schedule: Schedule) -> tuple[Panel, Panel | None]:
    """Subjects that are trained on, and those that are only scored (two at least).

    Who is held out hangs on the id alone: trainings one after the other, or of a part of the
    subjects, hold out the same ones.
    """
    if not schedule.patience:
        return panel, None
    place = np.array([_uniform(one) for one in panel.ids.tolist()])
    away = place <= max(schedule.watched, np.sort(place)[min(1, panel.n - 1)])
    return panel.select(np.flatnonzero(~away)), panel.select(np.flatnonzero(away))


def _uniform(label: object) -> float:
    """A number in [0, 1) that looks random but is always that of the label."""
    return int.from_bytes(hashlib.sha256(label_key(label).encode()).digest()[:6]) / 2**48


def _watch(run: _Run, model: Model, encoder: Amortised, panel: Panel, schedule: Schedule) -> None:
    """Score the held-out subjects, with the same draws every time; keep the best iterate."""
    now = to(run.current(), "cpu", torch.float64)
    theta, phi = part(now, "theta/"), part(now, "phi/")
    if schedule.watch == "likelihood" or run.q is not None:
        rng = np.random.default_rng(0)
        score = freeze(model, theta, panel, Importance(schedule.watch_draws), rng).per_subject(
            theta
        )
    elif schedule.weighted and isinstance(encoder, Sequential):
        same, draws = torch.Generator().manual_seed(0), 2 * schedule.watch_draws
        score = weighted_of_all(model, encoder, theta, phi, panel, draws, same)
    else:
        score = evaluate(model, encoder, theta, phi, panel, 0, schedule.watch_draws, 2).elbo
    run.watched.append(float(score.mean()))
    if run.watched[-1] >= max(run.watched):
        run.best, run.kept, run.since = now, run.epoch, 0
    else:
        run.since += 1


def _finished(run: _Run, schedule: Schedule) -> bool:
    return bool(schedule.patience) and run.since >= schedule.patience


# -- checkpoints ---------------------------------------------------------------------------------

NUMBERS = ("epoch", "counted", "since", "kept", "gradient", "elbo", "watched")


def _saved(run: _Run) -> Saved:
    """Weights, moments of Adam, state of the generator, and the numbers beside them, by name."""
    tensors = {"generator": run.generator.get_state()}
    for kind in ("weights", "mean", "best"):
        tensors |= {f"{kind}/{name}": value for name, value in getattr(run, kind).items()}
    if run.q is not None:
        tensors |= {"q/mean": run.q.mean, "q/precision": run.q.precision}
    moments = run.optimiser.state_dict()["state"]
    for name, place in _places(run).items():
        for what, value in moments.get(place, {}).items():
            tensors[f"adam/{name}/{what}"] = value
    return Saved(to(tensors, "cpu"), {name: getattr(run, name) for name in NUMBERS})


def _restore(run: _Run, saved: Saved, device: str) -> None:
    """Bring a training to where it stood; what is left in it is in the order of its weights."""
    tensors = saved.tensors
    run.generator.set_state(tensors["generator"])
    with torch.no_grad():
        for name, value in run.weights.items():
            value.copy_(tensors[f"weights/{name}"])
    if run.q is not None:
        run.q = NewtonPosterior(**to(part(tensors, "q/"), device))
    for kind in ("mean", "best"):
        known = to(part(tensors, f"{kind}/"), device)
        setattr(run, kind, {name: known[name] for name in run.weights} if known else {})
    moments = {place: part(tensors, f"adam/{name}/") for name, place in _places(run).items()}
    groups = run.optimiser.state_dict()["param_groups"]
    begun = {place: values for place, values in moments.items() if values}
    run.optimiser.load_state_dict({"state": begun, "param_groups": groups})
    for name in NUMBERS:
        value = saved.numbers[name]
        setattr(run, name, list(value) if isinstance(value, list) else value)


def _places(run: _Run) -> dict[str, int]:
    """Where the optimiser keeps each weight that moves."""
    names = {id(value): name for name, value in run.weights.items()}
    groups = run.optimiser.param_groups
    moving = [names[id(value)] for group in groups for value in group["params"]]
    return {name: place for place, name in enumerate(moving)}
