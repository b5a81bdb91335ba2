"""Dense networks as pure functions of named weights."""

from __future__ import annotations

import pytest
import torch
from toys import generator

from dgmm.networks import ACTIVATIONS, Dense


def test_shapes_name_every_layer() -> None:
    assert Dense((3, 5, 4, 2)).shapes() == {
        "A1": (5, 3),
        "a1": (5,),
        "A2": (4, 5),
        "a2": (4,),
        "A3": (2, 4),
        "a3": (2,),
    }


def test_without_bias_only_the_last_intercept_goes() -> None:
    assert list(Dense((3, 5, 2), bias=False).shapes()) == ["A1", "a1", "A2"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_value_is_the_formula_written_out(activation: str, bias: bool) -> None:
    network = Dense((3, 4, 5, 2), activation, bias)
    weights = network.initial(generator(1))
    x = torch.randn(7, 6, 3, generator=generator(2), dtype=torch.float64)
    step = ACTIVATIONS[activation][0]
    first = step(x @ weights["A1"].T + weights["a1"])
    second = step(first @ weights["A2"].T + weights["a2"])
    last = second @ weights["A3"].T + (weights["a3"] if bias else 0.0)
    assert torch.allclose(network(weights, x), last, atol=1e-12, rtol=0)
    assert network(weights, x).shape == (7, 6, 2)


def test_initial_draws_follow_shapes_generator_and_scale() -> None:
    network = Dense((200, 300, 100))
    weights = network.initial(generator(3))
    assert {name: tuple(w.shape) for name, w in weights.items()} == network.shapes()
    again = network.initial(generator(3))
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert not torch.equal(weights["A1"], network.initial(generator(4))["A1"])
    # SD of a sample SD is spread / sqrt(2 x number of draws)
    for name, inputs in (("A1", 200), ("A2", 300)):
        w, spread = weights[name], inputs**-0.5
        assert abs(float(w.std()) - spread) < 4 * spread / (2 * w.numel()) ** 0.5
    assert float(weights["a2"].abs().max()) == 0.0


def test_last_scales_the_last_layer_only() -> None:
    network = Dense((3, 4, 2))
    loud, silent = network.initial(generator(5)), network.initial(generator(5), last=0.01)
    assert torch.equal(loud["A1"], silent["A1"])
    assert torch.allclose(0.01 * loud["A2"], silent["A2"], rtol=1e-14)


def test_a_network_without_hidden_layer_is_linear() -> None:
    network = Dense((3, 1), bias=False)
    weights = network.initial(generator(6))
    x = torch.randn(5, 3, generator=generator(7), dtype=torch.float64)
    assert torch.allclose(network(weights, x), x @ weights["A1"].T, rtol=1e-14)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_weight_gets_a_gradient(activation: str) -> None:
    network = Dense((3, 8, 8, 2), activation)
    weights = {n: w.requires_grad_() for n, w in network.initial(generator(8)).items()}
    x = torch.randn(50, 3, generator=generator(9), dtype=torch.float64)
    network(weights, x).square().sum().backward()
    for name, weight in weights.items():
        assert weight.grad is not None, name
        assert float(weight.grad.abs().max()) > 0, name


def test_unknown_activation_is_refused_with_the_list() -> None:
    with pytest.raises(ValueError, match="unknown activation 'tan'; did you mean 'tanh'"):
        Dense((2, 1), activation="tan")


@pytest.mark.parametrize("x", [(7, 3), (4, 6, 3)])
def test_fan_in_divides_every_matrix_by_the_root_of_its_inputs(x: tuple[int, ...]) -> None:
    plain, scaled = Dense((3, 16, 9, 2)), Dense((3, 16, 9, 2), fan_in=True)
    weights = scaled.initial(generator(1))
    divided = {
        name: w / w.shape[1] ** 0.5 if name.startswith("A") else w for name, w in weights.items()
    }
    inputs = torch.randn(x, generator=generator(2), dtype=torch.float64)
    assert torch.allclose(scaled(weights, inputs), plain(divided, inputs), rtol=1e-12)
    assert torch.allclose(scaled.jacobian(weights, inputs), plain.jacobian(divided, inputs))
    assert abs(float(weights["A2"].std()) - 1.0) < 0.3


@pytest.mark.parametrize("fan_in", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_sweep_is_the_value_with_the_derivatives_of_autograd(
    activation: str, bias: bool, fan_in: bool
) -> None:
    network = Dense((3, 4, 5, 1), activation, bias, fan_in)
    weights = network.initial(generator(1))
    x = torch.randn(7, 3, generator=generator(2), dtype=torch.float64)
    sweep = network.sweep(weights, x)
    assert torch.allclose(sweep.value, network(weights, x)[:, 0], atol=1e-12, rtol=0)
    slopes = torch.func.jacrev(lambda w: network(w, x)[:, 0])(weights)
    J = torch.cat([slopes[name].reshape(7, -1) for name in network.shapes()], dim=1)
    assert torch.allclose(sweep.jacobian(), J, atol=1e-12, rtol=0)
    omega = torch.randn(7, generator=generator(3), dtype=torch.float64)
    assert torch.allclose(sweep.pull(omega), J.T @ omega, atol=1e-12, rtol=0)


@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_a_part_that_draws_share_is_calculated_once(activation: str) -> None:
    network = Dense((5, 4, 3, 2), activation=activation, fan_in=True)
    weights = network.initial(torch.Generator().manual_seed(0))
    g = torch.Generator().manual_seed(1)
    x, shared = torch.randn(7, 6, 2, generator=g).double(), torch.randn(6, 3, generator=g).double()
    whole = torch.cat([x, shared.expand(7, 6, 3)], dim=-1)
    assert torch.allclose(network.of_parts(weights, x, shared), network(weights, whole), atol=1e-14)
