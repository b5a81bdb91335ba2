"""theta as named tensors and as one vector."""

from __future__ import annotations

import torch

from dgmm.parameters import Packing

PACKING = Packing({"beta": (3,), "latent1.Lambda": (2, 2), "empty": (0,), "extra": (1,)})


def test_size_counts_every_entry() -> None:
    assert PACKING.size == 8
    assert Packing({}).size == 0


def test_unpack_is_the_inverse_of_pack() -> None:
    vector = torch.arange(8, dtype=torch.float64)
    theta = PACKING.unpack(vector)
    assert {name: tuple(value.shape) for name, value in theta.items()} == dict(PACKING.shapes)
    assert theta["latent1.Lambda"].tolist() == [[3.0, 4.0], [5.0, 6.0]]
    assert torch.equal(PACKING.pack(theta), vector)


def test_pack_follows_its_own_order_and_ignores_other_names() -> None:
    theta = PACKING.unpack(torch.arange(8, dtype=torch.float64))
    shuffled = {"other": torch.ones(5), **dict(reversed(theta.items()))}
    assert torch.equal(PACKING.pack(shuffled), PACKING.pack(theta))


def test_unpack_keeps_leading_axes() -> None:
    table = torch.arange(16, dtype=torch.float64).reshape(2, 8)
    theta = PACKING.unpack(table)
    assert theta["latent1.Lambda"].shape == (2, 2, 2)
    assert torch.equal(theta["latent1.Lambda"][1], PACKING.unpack(table[1])["latent1.Lambda"])


def test_unpack_passes_gradients() -> None:
    vector = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    PACKING.unpack(vector)["extra"].sum().backward()
    assert vector.grad is not None
    assert vector.grad.tolist() == [0.0] * 7 + [1.0]


def test_positions_pick_the_named_entries() -> None:
    vector = torch.arange(8, dtype=torch.float64)
    positions = PACKING.positions(["extra", "beta"])
    assert positions.tolist() == [0, 1, 2, 7]
    part = PACKING.only(["extra", "beta"])
    assert torch.equal(vector[positions], part.pack(PACKING.unpack(vector)))
    assert PACKING.positions([]).tolist() == []


def test_only_keeps_the_order_of_the_whole() -> None:
    assert list(PACKING.only(["extra", "beta"]).shapes) == ["beta", "extra"]


def test_empty_packing_gives_an_empty_vector() -> None:
    vector = Packing({}).pack({"beta": torch.ones(2)})
    assert vector.shape == (0,)
    assert vector.dtype == torch.float64
