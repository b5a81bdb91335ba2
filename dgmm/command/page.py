"""One self-contained page about a fit: summary, checks and pictures."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

import dgmm
from dgmm import plots
from dgmm.fit import Fit
from dgmm.multivariate.fit import MultivariateFit

__all__ = ["page"]

STYLE = """
body { font: 15px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
h1 { font-size: 1.4em } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ccc }
pre { background: #f6f6f6; padding: 1em; overflow-x: auto }
table { border-collapse: collapse; margin: 1em 0 } th, td { padding: .2em .7em; text-align: left }
tr:nth-child(even) { background: #f6f6f6 } img { max-width: 100% } figcaption { color: #555 }
"""

Drawn = tuple[str, Callable[[Fit], Any]]

PICTURES: tuple[Drawn, ...] = (
    ("The data, and their mean", plots.plot_spaghetti),
    ("Six subjects: outcomes and predictions", plots.plot_profiles),
    ("Predicted random effects", plots.plot_ranef),
    ("Quantile residuals: uniform where the model is right", plots.plot_residuals),
    ("Outcomes beside data drawn from the fit", plots.plot_pp_check),
    ("Search, or chains", plots.plot_trace),
)
"""Of one outcome; those that a fit has no use for are left out."""


def page(found: Fit | MultivariateFit) -> str:
    """The page as the text of an HTML file.

    found: a fit of one outcome or of several.
    """
    title = html.escape(" ; ".join(str(found.formula).splitlines()))
    body = [f"<h1>{title}</h1>", f"<pre>{html.escape(str(found.summary()))}</pre>"]
    if isinstance(found, MultivariateFit):
        for name in found.names:
            body += [f"<h2>{html.escape(name)}</h2>", *_of_outcome(found[name])]
    else:
        body += _of_outcome(found)
    body.append(f"<p>dgmm {dgmm.__version__}</p>")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _of_outcome(fit: Fit) -> Iterator[str]:
    yield "<h2>Checks</h2>"
    try:
        yield fit.check()._repr_html_()
    except ValueError as error:
        yield f"<p>{html.escape(str(error))}</p>"
    yield "<h2>Pictures</h2>"
    try:
        import matplotlib  # noqa: F401, an extra
    except ImportError:
        yield "<p>Pictures take matplotlib: pip install 'dgmm[plots]'</p>"
        return
    for caption, draw in PICTURES:
        with suppress(ValueError):  # the picture is refused of this kind of fit
            yield _figure(draw(fit), caption)


def _figure(axes: Any, caption: str) -> str:
    """The picture of some axes inside the page."""
    from matplotlib import pyplot

    figure, buffer = np.ravel(axes)[0].figure, io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    pyplot.close(figure)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    alt = html.escape(caption)
    return (
        f'<figure><img alt="{alt}" src="data:image/png;base64,{data}">'
        f"<figcaption>{alt}</figcaption></figure>"
    )
