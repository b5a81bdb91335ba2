"""One line of progress on a terminal: label, step, bar, objective, gradient and time left."""

import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

__all__ = ["Progress"]

BAR_WIDTH = 20
REDRAW_SECONDS = 0.1
LINE_SECONDS = 10.0


class Progress:
    """Show how far a calculation of `total` steps has come.

    Nothing appears before `min_seconds` have passed. On a terminal one line is redrawn in place
    and wiped at the end; elsewhere nothing is printed, unless `verbose=2` asks for plain lines,
    one every ten seconds. `verbose=0` is silent everywhere.

    >>> with Progress(verbose=0, total=2, label="ELBO") as bar:
    ...     bar.update(1, elbo=-123.4, gradient=0.01)
    """

    def __init__(
        self,
        verbose: int,
        total: int,
        label: str,
        stream: TextIO | None = None,
        min_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._silent = verbose < 1 or (verbose < 2 and not self._terminal)
        self._total = max(total, 1)
        self._label = label
        self._clock = clock
        self._start = clock()
        self._next = self._start + min_seconds
        self._pause = REDRAW_SECONDS if self._terminal else LINE_SECONDS
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0

    def update(
        self, step: int, *, elbo: float | None = None, gradient: float | None = None
    ) -> None:
        """Report that `step` steps are done, with the current ELBO and gradient norm if known."""
        now = self._clock()
        if self._silent or now < self._next:
            return
        self._next = now + self._pause
        line = format_line(self._label, step, self._total, elbo, gradient, now - self._start)
        if self._terminal:
            self._redraw(line)
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def _redraw(self, line: str) -> None:
        line = line[: shutil.get_terminal_size().columns - 1]  # a wrapped line cannot be redrawn
        self._stream.write("\r" + line.ljust(self._width))
        self._width = max(self._width, len(line))


def format_line(
    label: str,
    step: int,
    total: int,
    elbo: float | None,
    gradient: float | None,
    elapsed: float,
) -> str:
    """Return the text of one line, the time left extrapolated from the steps so far.

    >>> format_line("ELBO", 5, 10, -123.42, 0.0123, 60.0)
    'ELBO  5/10 [##########          ]  ELBO -123.4  |g| 0.012  1:00 left'
    """
    share = min(max(step / total, 0.0), 1.0)
    bar = ("#" * round(BAR_WIDTH * share)).ljust(BAR_WIDTH)
    parts = [f"{label} {step:>{len(str(total))}}/{total} [{bar}]"]
    if elbo is not None:
        parts.append(f"ELBO {elbo:.1f}")
    if gradient is not None:
        parts.append(f"|g| {gradient:.2g}")
    if share > 0:
        parts.append(f"{format_seconds(elapsed * (1 - share) / share)} left")
    return "  ".join(parts)


def format_seconds(seconds: float) -> str:
    """Return a duration as minutes and seconds, with hours if there are any.

    >>> format_seconds(75.2), format_seconds(3700)
    ('1:15', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
