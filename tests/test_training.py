"""The epochs: options of the schedule, held-out subjects, going on after a stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_elbo import linear_case
from test_families import CASES, VALUES
from test_families import OPTIONS as OPTIONS_OF
from toys import encoder_for, generator, random_theta

from dgmm.families import Observations, find
from dgmm.likelihood import Importance, freeze
from dgmm.parameters import Theta
from dgmm.runtime.checkpoint import Checkpoint, Saved
from dgmm.runtime.devices import to
from dgmm.variational import training
from dgmm.variational.elbo import evaluate
from dgmm.variational.training import Schedule, Trace, _held_out, train


class StopError(Exception):
    """The power fails."""


class Failing(Checkpoint):
    """A checkpoint whose machine stops after some writings."""

    left = 0

    def write(self, number: int, saved: Saved) -> None:
        super().write(number, saved)
        self.left -= 1
        if not self.left:
            raise StopError


def run(schedule: Schedule, seed: int = 1, n: int = 30, **options: Any) -> tuple[Theta, Trace]:
    """theta and phi together, and the trace, from a poor start."""
    model, panel, _ = linear_case(n)
    encoder = encoder_for(model, panel, "sites")
    theta, phi = random_theta(model, 2), encoder.initial(generator(1))
    moved, learnt, trace = train(
        model, encoder, theta, phi, panel, schedule, generator(seed), **options
    )
    return {**moved, **learnt}, trace


def same(one: Theta, other: Theta) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


# -- steps that are too long ---------------------------------------------------------------------


@pytest.mark.parametrize(("newton", "word"), [(False, "learning_rate"), (True, "decoder_rate")])
def test_a_divergence_is_blamed_on_the_rate(newton: bool, word: str) -> None:
    with pytest.raises(ValueError, match=f"diverged in epoch .* smaller control {word} than 1000"):
        run(Schedule(epochs=20, learning_rate=1000.0), newton=newton)


def test_a_start_without_an_elbo_is_not_blamed_on_the_rate() -> None:
    model, panel, _ = linear_case(20)
    encoder = encoder_for(model, panel, "sites")
    theta = {**random_theta(model, 2), "extra": torch.tensor([-800.0]).double()}
    with pytest.raises((FloatingPointError, torch.linalg.LinAlgError)):
        train(
            model, encoder, theta, encoder.initial(generator(1)), panel, Schedule(2), generator(1)
        )


# -- options -------------------------------------------------------------------------------------


def test_the_mean_of_the_last_iterates_is_their_mean() -> None:
    whole = Schedule(epochs=1, batch=10, average=0.67)  # the last two of three steps
    mean, _ = run(whole)
    iterates = []
    model, panel, _ = linear_case(30)
    encoder = encoder_for(model, panel, "sites")
    theta, phi = random_theta(model, 2), encoder.initial(generator(1))

    def note(*args: Any, **kwargs: Any) -> None:
        iterates.append({n: w.detach().clone() for n, w in weights.items()})

    weights: dict[str, torch.Tensor] = {}
    begin = training._begin

    def spied(*args: Any) -> Any:
        started = begin(*args)
        weights.update(started.weights)
        started.optimiser.register_step_post_hook(note)
        return started

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_begin", spied)
        train(model, encoder, theta, phi, panel, whole, generator(1))
    assert len(iterates) == 3
    for name, value in mean.items():
        prefix = "theta/" if name in theta else "phi/"
        known = torch.stack([one[prefix + name] for one in iterates[1:]]).mean(0)
        assert torch.allclose(value, known, atol=1e-12), name


def test_cycles_change_the_path() -> None:
    once = run(Schedule(epochs=4, batch=10, kl_anneal=4))[1].elbo
    twice = run(Schedule(epochs=4, batch=10, kl_anneal=4, kl_cycles=2))[1].elbo
    assert once != twice


@pytest.mark.parametrize("watch", ["bound", "likelihood"])
def test_patience_gives_back_the_iterate_with_the_best_held_out_score(watch: str) -> None:
    rough = Schedule(
        epochs=60, batch=10, learning_rate=0.3, patience=3, watch=watch, watched=0.3, kl_anneal=6
    )
    best, trace = run(rough)
    # scores begin with the first epoch at KL weight 1, the sixth
    assert len(trace.watched) == trace.epochs - 5
    assert trace.epochs < 60
    assert trace.epochs == trace.kept + 3
    assert int(np.argmax(trace.watched)) == trace.kept - 6
    # the same score, calculated outside
    model, panel, _ = linear_case(30)
    encoder = encoder_for(model, panel, "sites")
    held = _held_out(panel, rough)[1]
    assert held is not None
    theta = {name: best[name] for name in model.packing.shapes}
    phi = {name: best[name] for name in encoder.shapes()}
    if watch == "bound":
        score = evaluate(model, encoder, theta, phi, held, 0, 32, 2).elbo
    else:
        frozen = freeze(model, theta, held, Importance(32), np.random.default_rng(0))
        score = frozen.per_subject(theta)
    assert float(score.mean()) == pytest.approx(max(trace.watched), abs=1e-10)


def test_the_same_subjects_are_held_out_of_any_panel() -> None:
    """Those of a part are those of the whole that are in the part, of any order."""
    _, panel, _ = linear_case(200)
    patient = Schedule(patience=1, watched=0.2)
    learning, held = _held_out(panel, patient)
    assert held is not None
    assert sorted([*learning.ids, *held.ids]) == sorted(panel.ids)
    assert 24 <= held.n <= 56  # binomial(200, 0.2), two and a half standard deviations
    some = panel.select(torch.randperm(200, generator=generator(1))[:150])
    part = _held_out(some, patient)[1]
    assert part is not None
    assert set(part.ids) == set(held.ids) & set(some.ids)
    few = _held_out(panel.select(torch.arange(5)), Schedule(patience=1, watched=1e-9))[1]
    assert few is not None
    assert few.n == 2
    assert _held_out(panel, Schedule())[1] is None


def test_patience_does_not_end_before_the_kl_has_weight_one() -> None:
    rough = Schedule(epochs=30, batch=10, learning_rate=0.5, patience=1, kl_anneal=25)
    _, trace = run(rough)
    assert trace.epochs >= 26
    assert trace.kept >= 25


@pytest.mark.parametrize("newton", [False, True])
def test_single_precision_ends_where_double_does(newton: bool) -> None:
    """The same random numbers, so the same path up to rounding."""
    model, panel, theta = linear_case(40)
    encoder = encoder_for(model, panel, "sites")
    phi, bounds, paths = encoder.initial(generator(1)), [], []
    for precision in ("double", "single"):
        schedule = Schedule(epochs=15, batch=10, precision=precision)
        moved, learnt, trace = train(
            model, encoder, theta, phi, panel, schedule, generator(1), newton=newton
        )
        assert {w.dtype for w in (*moved.values(), *learnt.values())} == {torch.float64}
        bounds.append(evaluate(model, encoder, moved, learnt, panel, 1).elbo.mean())
        paths.append(trace.elbo)
    assert abs(float(bounds[0] - bounds[1])) < 1e-4  # nats per subject
    assert np.abs(np.subtract(*paths)).max() < 1e-3
    assert paths[0] != paths[1]


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_every_family_can_be_calculated_in_single_precision(name: str) -> None:
    family = find(name, **OPTIONS_OF.get(name, {}))
    eta = torch.linspace(-1.0, 1.0, 40, dtype=torch.float64)
    extra = torch.tensor(VALUES.get(family.name, []), dtype=torch.float64)
    ones = torch.ones_like(eta)
    seen = Observations(ones, 3 * ones if family.support == "trials" else ones, ones)
    y = family.simulate(eta, seen, extra, generator(1))
    parts = []
    for dtype in (torch.float64, torch.float32):
        data, x, own = to((seen._replace(y=y), eta, extra), "cpu", dtype)
        x.requires_grad_()
        density = family.log_density(data, x, own)
        (slope,) = torch.autograd.grad(density.sum(), x)
        weight = family.information(data, x.detach(), own)
        residual = family.working_residual(data, x.detach(), own)
        assert {part.dtype for part in (density, slope, weight, residual)} == {dtype}
        parts.append([part.detach().double() for part in (density, slope, weight, residual)])
    for double, single in zip(*parts, strict=True):
        assert torch.allclose(double, single, rtol=1e-3, atol=1e-3)


def test_traces_follow_one_another() -> None:
    one, two = Trace((1.0, 2.0), 0.5, 2), Trace((3.0,), 0.1, 1, (4.0,), 1)
    assert one.followed_by(two) == Trace((1.0, 2.0, 3.0), 0.1, 3, (4.0,), 3)
    assert two.followed_by(one).kept == 0


# -- going on after a stop -----------------------------------------------------------------------

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "averaged": {"average": 0.6},
    "patient": {"patience": 50, "watched": 0.3},
    "annealed": {"kl_anneal": 4, "kl_cycles": 2},
    "single": {"precision": "single", "average": 0.6},
    "newton": {"newton": True},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("writings", [1, 2])
def test_an_interrupted_training_ends_where_the_whole_one_does(
    name: str, writings: int, tmp_path: Path
) -> None:
    chosen = dict(OPTIONS[name])
    newton = chosen.pop("newton", False)
    schedule = replace(Schedule(epochs=8, batch=10), **chosen)
    whole, trace = run(schedule, newton=newton)
    failing = Failing(tmp_path / "fit.ckpt", {}, every=3)
    failing.left = writings
    with pytest.raises(StopError):
        run(schedule, checkpoint=failing, newton=newton)
    resumed = Checkpoint(tmp_path / "fit.ckpt", {}, every=3)
    after, again = run(schedule, checkpoint=resumed, newton=newton)
    assert same(whole, after)
    assert again == trace
    # finished: nothing is calculated again, and the file stays as it is
    written = (tmp_path / "fit.ckpt").stat().st_mtime_ns
    finished = Checkpoint(tmp_path / "fit.ckpt", {}, every=3)
    last, _ = run(schedule, checkpoint=finished, newton=newton)
    assert same(whole, last)
    assert (tmp_path / "fit.ckpt").stat().st_mtime_ns == written


def test_the_generator_goes_on_where_it_stood(tmp_path: Path) -> None:
    """What is drawn after a training does not depend on the interruption."""
    schedule, draws = Schedule(epochs=4, batch=10), []
    model, panel, theta = linear_case(20)
    encoder = encoder_for(model, panel, "sites")
    phi = encoder.initial(generator(1))
    for _ in range(2):
        stream = generator(5)
        kept = Checkpoint(tmp_path / "fit.ckpt", {}, every=2)
        train(model, encoder, theta, phi, panel, schedule, stream, checkpoint=kept)
        draws.append(torch.randn(3, generator=stream))
    assert torch.equal(*draws)


def test_mini_batches_of_similar_length() -> None:
    """Lengths of 2 and 200 do not meet; every subject is there once, in batches of any order."""
    lengths = torch.tensor([2, 200] * 10)
    orders = set()
    for seed in range(5):
        rng = generator(seed)
        order = torch.randperm(20, generator=rng)
        shares = training._alike(order, lengths, 4, rng)
        assert sorted(torch.cat(shares).tolist()) == list(range(20))
        assert all(len(one) == 5 for one in shares)
        assert all(len(lengths[one].unique()) == 1 for one in shares)
        orders.add(tuple(int(lengths[one[0]]) for one in shares))
    assert len(orders) > 1
    same = torch.full((20,), 7)
    rng = generator(0)
    mixed = torch.cat(training._alike(torch.arange(20), same, 1, rng))
    assert mixed.tolist() != list(range(20))
