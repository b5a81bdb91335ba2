"""Moving tensors, choosing a device, and that the ELBO mixes in nothing that was not moved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from toys import build, encoder_for, frame, generator, random_theta

from dgmm.encoders import Encoder
from dgmm.runtime.devices import ENOUGH, _each, choose_device, on, to
from dgmm.runtime.registry import members
from dgmm.variational.elbo import elbo
from dgmm.variational.newton import NewtonPosterior

WORDS = sorted(members("dgmm.encoders", Encoder))


class Spy(TorchDispatchMode):
    """Stands in for another device: nothing may be calculated with that was not moved there.

    Numbers (tensors without axes) may come from anywhere, as on a real device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.there: dict[int, torch.Tensor] = {}  # holds them, so that no id is used twice

    def move(self, tensor: torch.Tensor) -> torch.Tensor:
        moved = tensor.clone()
        self.there[id(moved)] = moved
        return moved

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, torch.Tensor)]
        foreign = [x for x in given if x.dim() and id(x) not in self.there]
        fresh = func is torch.ops.aten.lift_fresh.default  # made here from a list of numbers
        assert fresh or not foreign, f"{func}: {[tuple(x.shape) for x in foreign]} was not moved"
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if isinstance(made, torch.Tensor):
                self.there[id(made)] = made
        return result


# -- the mover -----------------------------------------------------------------------------------


def tensors_of(held: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    _each(held, note)
    return found


def test_every_tensor_of_model_and_panel_is_moved_and_nothing_else_changes() -> None:
    model, panel = build("y ~ x + dnn(w, hidden=(3,)) + (dnn(t, hidden=(3,)) | id)", frame(6, 4))
    narrow_model, narrow_panel = _each((model, panel), lambda t: t.to(torch.float16))
    assert {t.dtype for t in tensors_of((narrow_model, narrow_panel))} == {torch.float16}
    for one in (narrow_model.basis, narrow_model.whitener, narrow_model.reference.X):
        assert one.dtype == torch.float16
    for one in (narrow_model.networks[0].centre, narrow_model.latents[0].scale):
        assert one.dtype == torch.float16
    assert narrow_panel.ids is panel.ids
    assert type(narrow_panel.rows.data) is type(panel.rows.data)
    assert (narrow_model.names, narrow_model.family) == (model.names, model.family)
    assert narrow_model.latents[0].network == model.latents[0].network


def test_what_is_there_already_stays_the_same() -> None:
    model, panel = build("y ~ x + (t | id)", frame(6, 4))
    same_model, same_panel, theta = to((model, panel, random_theta(model)), "cpu")
    assert same_model.basis is model.basis
    assert same_panel.rows.X is panel.rows.X
    assert sorted(theta) == sorted(model.packing.shapes)
    assert to("a word", "cpu") == "a word"


# -- the choice ----------------------------------------------------------------------------------


def test_auto_is_the_cpu_without_a_card_and_for_small_batches(monkeypatch: Any) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto", 10 * ENOUGH) == "cpu"
    assert choose_device("cpu", 10 * ENOUGH) == "cpu"
    with pytest.raises(ValueError, match="needs a graphics card"):
        choose_device("cuda", 10 * ENOUGH)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto", ENOUGH) == "cuda"
    assert choose_device("auto", ENOUGH - 1) == "cpu"
    assert choose_device("cuda", 1) == "cuda"


def test_new_tensors_are_made_on_the_device_within() -> None:
    with on("meta"):
        assert torch.eye(2).device.type == "meta"
    with on("cpu"):
        assert torch.eye(2).device.type == "cpu"


# -- the ELBO ------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize("form", ["coefficients", "dense"])
@pytest.mark.parametrize("family", ["gaussian", "bernoulli", "negative_binomial"])
def test_a_step_calculates_with_moved_tensors_only(
    word: str, covariance: str, form: str, family: str
) -> None:
    outcome = {"gaussian": "y", "bernoulli": "z", "negative_binomial": "count"}[family]
    latent = f"(dnn(t, hidden=(3,), form='{form}') | id) + (0 + x | id)"
    model, panel = build(f"{outcome} ~ x + dnn(w, hidden=(3,)) + {latent}", frame(12, 5), family)
    encoder = replace(encoder_for(model, panel, word), covariance=covariance)
    e = torch.randn(4, 12, model.k, generator=generator(), dtype=torch.float64)
    spy = Spy()
    given = (model, panel, random_theta(model, 1), encoder.initial(generator()))
    there, seen, theta, phi = _each((*given,), spy.move)
    theta, phi = ({n: w.requires_grad_() for n, w in part.items()} for part in (theta, phi))
    subjects, e = spy.move(torch.arange(12)), spy.move(e)
    with spy:
        bound = elbo(there, encoder, theta, phi, seen.block(subjects), e)
        loss = there.penalty(theta) / 12 - bound.elbo.mean()
        loss.backward()
    slopes = [w.grad for w in (*theta.values(), *phi.values()) if w.grad is not None]
    assert len(slopes) > len(phi)
    assert all(bool(torch.isfinite(slope).all()) for slope in slopes)


@pytest.mark.parametrize("form", ["coefficients", "dense"])
def test_newton_steps_of_q_calculate_with_moved_tensors_only(form: str) -> None:
    text = f"z ~ x + dnn(w, hidden=(3,)) + (dnn(t, hidden=(3,), form='{form}') | id)"
    model, panel = build(text, frame(12, 5), "bernoulli")
    theta, spy = random_theta(model, 1), Spy()
    e = spy.move(torch.randn(4, 12, model.k, generator=generator(), dtype=torch.float64))
    given = model, panel, theta, NewtonPosterior.at_modes(model, theta, panel)
    there, seen, theta, q = _each(given, spy.move)
    theta = {name: value.requires_grad_() for name, value in theta.items()}
    subjects = spy.move(torch.arange(12))
    with spy:
        q.bound(there, theta, seen.block(subjects), e).elbo.mean().backward()
    assert all(bool(torch.isfinite(w.grad).all()) for w in theta.values() if w.grad is not None)


def test_the_spy_finds_what_was_left_behind() -> None:
    model, panel = build("y ~ x + (t | id)", frame(12, 5))
    encoder, spy = encoder_for(model, panel, "sites"), Spy()
    theta, phi, seen = _each(
        (random_theta(model, 1), encoder.initial(generator()), panel), spy.move
    )
    e = spy.move(torch.zeros(2, 12, 2, dtype=torch.float64))
    with pytest.raises(AssertionError, match="was not moved"), spy:
        elbo(model, encoder, theta, phi, seen.block(spy.move(torch.arange(12))), e)
