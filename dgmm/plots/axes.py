"""Where a picture is drawn: axes that are given or made, their labels, a legend beside the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from dgmm.fit import Fit
from dgmm.multivariate.fit import MultivariateFit
from dgmm.runtime.gate import gate

__all__ = ["COLOURS", "Sheet", "categories", "mixed", "picture", "shades", "sheet", "short"]

COLOURS = ("#1f5a94", "#c2571a", "#3f7f4c", "#7a4f9a", "#6b6b6b")

LETTER = 0.07
"""Inches that a letter of a legend takes."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def picture(
    function: Callable[Concatenate[Fit, Arguments], Result],
) -> Callable[Concatenate[Fit, Arguments], Result]:
    """Put a function that draws a fit of one outcome behind the gate.

    Raises:
        TypeError: something that is no fit of one outcome, with what to give in place of it.
    """

    @wraps(function)
    def drawn(fit: Fit, *args: Arguments.args, **options: Arguments.kwargs) -> Result:
        check_fit(fit, f"{function.__name__}()")
        return function(fit, *args, **options)

    return gate(drawn)


def check_fit(fit: Any, asked: str) -> None:
    """Raise TypeError for something that is no fit of one outcome."""
    if isinstance(fit, MultivariateFit):
        name = fit.names[0]
        raise TypeError(
            f"{asked} is of one outcome: give fit[{name!r}]; this fit has {', '.join(fit.names)}"
        )
    if not isinstance(fit, Fit):
        raise TypeError(f"{asked} needs a fit from mixed_model(), not {type(fit).__name__}")


@dataclass(frozen=True, eq=False)
class Sheet:
    """The axes of a picture; ``own`` if they were made for it."""

    axes: np.ndarray  # (k,) of Axes
    own: bool

    @property
    def one(self) -> Any:
        """The axes of a picture without panels."""
        return self.axes[0]

    def label(self, x: str = "", y: str = "") -> None:
        """What is on both axes, once for all panels where these are alone in their figure."""
        if self.own and len(self.axes) > 1:
            self.one.figure.supxlabel(x, fontsize=10)
            self.one.figure.supylabel(y, fontsize=10)
            return
        for axis in self.axes:
            axis.set_xlabel(x)
            axis.set_ylabel(y)

    def legend(self) -> None:
        """A legend that covers no data: above an own figure, else right of the last axes."""
        handles, labels = self.one.get_legend_handles_labels()
        if not handles:
            return
        if not self.own:
            beside: dict[str, Any] = {
                "loc": "upper left",
                "bbox_to_anchor": (1.01, 1.0),
                "borderaxespad": 0.0,
            }
            place: Any = self.axes[-1]
        else:
            figure = self.one.figure
            room = int(figure.get_figwidth() / (0.6 + LETTER * max(map(len, labels))))
            columns = min(len(labels), max(room, 1))
            place, beside = figure, {"loc": "outside upper center", "ncols": columns}
        legend = place.legend(handles, labels, frameon=False, fontsize=9, **beside)
        for line in legend.get_lines():  # thin lines of many draws are not seen in a legend
            line.set(linewidth=max(line.get_linewidth(), 1.2), alpha=1.0)

    def plain(self) -> Sheet:
        """Without the upper and the right spine."""
        for axis in self.axes:
            axis.spines[["top", "right"]].set_visible(False)
        return self


def sheet(
    ax: Any,
    asked: str,
    count: int = 1,
    *,
    width: float = 5.4,
    height: float = 3.6,
    beside: float = 0.3,
    sharex: bool = False,
    sharey: bool = False,
    columns: int = 3,
) -> Sheet:
    """The axes of ``count`` panels: those given, or new ones in a figure of their own.

    Args:
        ax: axes of matplotlib, or as many in an array or list as there are panels; None for new
            ones, by pyplot, so that notebooks and ``show()`` know of them.
        asked: the function, for errors.
        count: number of panels.
        width: inches of a panel.
        height: inches of a panel.
        beside: inches of height around them.
        sharex: whether new panels have one horizontal axis.
        sharey: whether new panels have one vertical axis.
        columns: new panels beside each other, at most.

    Raises:
        TypeError: ``ax`` holds something that is not axes.
        ValueError: another number of axes than of panels.
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
        from matplotlib.axes import Axes
    except ImportError as error:
        raise ImportError("pictures take matplotlib: pip install 'dgmm[plots]'") from error
    if ax is None:
        columns = min(columns, count)
        rows = int(np.ceil(count / columns))
        size = (width * columns, height * rows + beside)
        figure = pyplot.figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False).ravel()
        for axis in axes[count:]:
            axis.remove()
        for axis in axes[max(count - columns, 0) : count]:  # the last of its column
            axis.xaxis.set_tick_params(labelbottom=True)
        return Sheet(axes[:count], True).plain()
    given = np.ravel(np.asarray(ax, dtype=object))
    for one in given:
        if not isinstance(one, Axes):
            raise TypeError(f"ax= of {asked} is axes of matplotlib, not {type(one).__name__}")
    if len(given) != count:
        raise ValueError(
            f"{asked} draws {count} panel{'s' * (count > 1)}: ax= is "
            f"{'one' if count == 1 else f'an array of {count}'} axes, and {len(given)} "
            f"{'is' if len(given) == 1 else 'are'} given"
        )
    return Sheet(given, False)


def categories(axis: Any, names: Sequence[Any], *, inches: float = 4.5) -> None:
    """Names of categories at 0, 1, ... of the horizontal axis, slanted where they are long."""
    texts = [str(one) for one in names]
    slanted = LETTER * 1.2 * max(map(len, texts)) * len(texts) > inches
    turned: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    axis.set_xticks(np.arange(len(texts)), texts, **(turned if slanted else {}))


def mixed(colour: str, share: float) -> tuple[float, ...]:
    """A colour (#rrggbb) with white, opaque, so that a legend shows what a picture does."""
    parts = (int(colour[j : j + 2], 16) / 255 for j in (1, 3, 5))
    return tuple(1 - share * (1 - part) for part in parts)


def shades(count: int) -> list[Any]:
    """Colours in an order, dark to light, for values that have one."""
    from matplotlib import colormaps

    return [colormaps["viridis"](at) for at in np.linspace(0.05, 0.88, count)]


def short(value: Any) -> str:
    """A value as titles have it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
