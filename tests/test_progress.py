"""The progress line: late, only on a terminal, wiped at the end."""

import io

import pytest

from dgmm.runtime.progress import Progress, format_line, format_seconds


class Clock:
    """A clock that moves only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that calls itself a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setenv("COLUMNS", "80")
    return Clock()


def run(stream: io.StringIO, clock: Clock, verbose: int, seconds: float, steps: int = 10) -> str:
    """Run `steps` steps of equal length and return what was printed before the end."""
    with Progress(verbose, steps, "ELBO", stream=stream, clock=clock) as bar:
        for step in range(1, steps + 1):
            clock.now += seconds / steps
            bar.update(step, elbo=-100.0 - step, gradient=1 / step)
        return stream.getvalue()


def test_nothing_before_two_seconds(clock: Clock) -> None:
    stream = Terminal()
    assert run(stream, clock, 1, 1.9) == ""
    assert stream.getvalue() == ""


def test_line_shows_step_elbo_gradient_and_time_left(clock: Clock) -> None:
    printed = run(Terminal(), clock, 1, 100.0).split("\r")
    assert len(printed) == 11
    assert printed[5].rstrip() == (
        "ELBO  5/10 [##########          ]  ELBO -105.0  |g| 0.2  0:50 left"
    )


def test_line_is_wiped_at_the_end(clock: Clock) -> None:
    stream = Terminal()
    before = run(stream, clock, 1, 100.0)
    wiping = stream.getvalue().removeprefix(before)
    widest = max(len(line) for line in before.split("\r"))
    assert wiping == "\r" + " " * widest + "\r"
    assert "\n" not in stream.getvalue()


def test_line_is_wiped_after_an_error(clock: Clock) -> None:
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), Progress(1, 2, "ELBO", stream, clock=clock) as bar:
        clock.now = 3.0
        bar.update(1)
        raise KeyboardInterrupt
    assert stream.getvalue().endswith(" \r")


def test_shorter_line_covers_a_longer_one(clock: Clock) -> None:
    stream = Terminal()
    with Progress(1, 100, "ELBO", stream, clock=clock) as bar:
        clock.now = 50.0
        bar.update(1, elbo=-123456.7)
        clock.now = 51.0
        bar.update(99)
        first, second = stream.getvalue().split("\r")[1:]
    assert len(first) == len(second)


def test_line_fits_the_terminal(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    printed = run(Terminal(), clock, 1, 100.0)
    assert max(len(line) for line in printed.split("\r")) == 29


def test_redraws_at_most_ten_times_a_second(clock: Clock) -> None:
    printed = run(Terminal(), clock, 1, 3.0, steps=3000)
    assert 8 <= printed.count("\r") <= 11


@pytest.mark.parametrize("verbose", [0, 1])
def test_silent_when_not_on_a_terminal(clock: Clock, verbose: int) -> None:
    assert run(io.StringIO(), clock, verbose, 100.0) == ""


def test_verbose_zero_is_silent_on_a_terminal(clock: Clock) -> None:
    stream = Terminal()
    assert run(stream, clock, 0, 100.0) == stream.getvalue() == ""


def test_verbose_two_forces_lines_ten_seconds_apart(clock: Clock) -> None:
    stream = io.StringIO()
    lines = run(stream, clock, 2, 50.0, steps=100).splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("ELBO   4/100 [#")
    assert "\r" not in stream.getvalue()


def test_line_without_quantities_or_steps() -> None:
    assert format_line("Starts", 0, 4, None, None, 9.0) == "Starts 0/4 [                    ]"
    done = format_line("Starts", 5, 4, None, None, 9.0)
    assert done == "Starts 5/4 [####################]  0:00 left"


def test_durations() -> None:
    assert [format_seconds(value) for value in (0.4, 59.6, 3599.9)] == ["0:00", "1:00", "1:00:00"]
