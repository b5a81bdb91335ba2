"""Streams of random numbers: every chain has its own, whoever runs beside it."""

from __future__ import annotations

import numpy as np

from dgmm.mcmc import Streams


def numbers(streams: Streams) -> np.ndarray:
    parts = [streams.normal(3, 2), streams.uniform(5), streams.gamma(np.array([0.5, 4.0]))]
    return np.concatenate([one.reshape(streams.chains, -1) for one in parts], axis=1)


def test_a_chain_is_the_same_alone_and_among_others() -> None:
    together, alone = numbers(Streams.of(7, [0, 1, 2])), numbers(Streams.of(7, [1]))
    assert np.array_equal(together[1], alone[0])
    assert not np.array_equal(together[0], together[1])


def test_streams_go_on_where_they_stood() -> None:
    streams = Streams.of(3, [0, 4])
    numbers(streams)
    again = Streams.at(*streams.state())
    assert np.array_equal(numbers(streams), numbers(again))


def test_numbers_do_not_depend_on_how_many_are_asked_for_at_once() -> None:
    one, other = Streams.of(1, [0]), Streams.of(1, [0])
    few = np.concatenate([one.normal(7)[0] for _ in range(10_000)])  # more than are drawn ahead
    assert np.array_equal(few, other.normal(70_000)[0])


def test_the_numbers_have_their_distributions() -> None:
    streams = Streams.of(11, range(4))
    x, u, g = streams.normal(20_000), streams.uniform(20_000), streams.gamma(np.full(20_000, 3.0))
    for values, mean, variance in ((x, 0, 1), (u, 0.5, 1 / 12), (g, 3, 3)):
        assert abs(values.mean() - mean) < 4 * (variance / values.size) ** 0.5
        assert abs(values.var() / variance - 1) < 0.03
