"""One function for every command: options in, text on stdout, the exit status back."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dgmm import datasets, demo
from dgmm.api import load, mixed_model
from dgmm.command.page import page
from dgmm.files import ENDINGS, read
from dgmm.fit import Fit
from dgmm.multivariate.fit import MultivariateFit

__all__ = [
    "ENDINGS",
    "check",
    "data_sets",
    "fit",
    "predict",
    "report",
    "show",
    "summary",
]

DONE, NOT_CONVERGED = 0, 3
PLAIN = (
    "link", "method", "likelihood", "zi", "oi", "dispersion", "weights", "offset", "missing",
    "outcome", "seed", "starts", "chains", "draws", "warmup",
)  # fmt: skip
"""Options that :func:`dgmm.mixed_model` takes as they are."""


def fit(options: argparse.Namespace) -> int:
    """Fit a model, print its summary, save it."""
    given = {name: value for name in PLAIN if (value := getattr(options, name)) is not None}
    if options.family is not None:
        families = options.family.split(",")
        given["family"] = families if len(families) > 1 else families[0]
    if options.bounds is not None:
        given["bounds"] = _bounds(options.bounds)
    if options.se is not None:
        given["se"] = None if options.se == "none" else options.se
    frame = _frame(options.data)
    found = mixed_model(options.formula, frame, verbose=0 if options.quiet else 2, **given)
    if options.out is not None:
        found.save(options.out)
    return _shown(found, options.json)


def summary(options: argparse.Namespace) -> int:
    """Print the summary of a saved fit."""
    return _shown(load(options.fit), options.json, options.verbose)


def predict(options: argparse.Namespace) -> int:
    """Predict the rows of a file."""
    found, frame = load(options.fit), _frame(options.data)
    extra: dict[str, Any] = {}
    if options.history is not None:
        extra["history"] = _frame(options.history)
    if isinstance(found, MultivariateFit):
        extra["outcome"] = options.outcome
    elif options.outcome is not None:
        raise ValueError("--outcome is for fits of several outcomes, and this is one of one")
    table = found.predict(
        frame,
        type=options.type,
        scale=options.scale,
        interval=options.interval,
        level=options.level,
        **extra,
    )
    table = table.to_frame() if isinstance(table, pd.Series) else table
    rows = pd.concat([frame, table], axis=1)
    text = _json(_records(rows)) if options.json else rows.to_csv(index=False)
    if options.out is None:
        _say(text.rstrip("\n"))
    else:
        options.out.write_text(text, encoding="utf-8")
    return DONE


def check(options: argparse.Namespace) -> int:
    """Print the checks of every outcome."""
    pages = {name: one.check() for name, one in _each(load(options.fit)).items()}
    if options.json:
        _say(_json({name: _records(one.table.reset_index()) for name, one in pages.items()}))
    else:
        _say("\n\n".join(map(str, pages.values())))
    return DONE


def report(options: argparse.Namespace) -> int:
    """Write the page of a fit."""
    options.out.write_text(page(load(options.fit)), encoding="utf-8")
    return DONE


def data_sets(options: argparse.Namespace) -> int:
    """List the data sets, or write one."""
    if options.name is None:
        _say("\n".join(datasets.available()))
    elif options.about:
        _say(datasets.describe(options.name))
    else:
        datasets.load(options.name).to_csv(sys.stdout, index=False)
    return DONE


def show(options: argparse.Namespace) -> int:
    """Run the demonstration."""
    demo.run(options.output, verbose=0 if options.quiet else 2)
    return DONE


# -- pieces --------------------------------------------------------------------------------------


def _say(value: object) -> None:
    """A text on stdout, with the end of a line."""
    sys.stdout.write(f"{str(value).rstrip()}\n")


def _frame(name: str) -> pd.DataFrame:
    """A file, or a data set that comes with the package."""
    if Path(name).suffix.lower() in ENDINGS:
        return read(name)
    if name not in datasets.available():
        raise ValueError(
            f"{name} is neither a data set of dgmm (see `dgmm datasets`) nor a file that ends in "
            f"{', '.join(ENDINGS)}"
        )
    return datasets.load(name)


def _bounds(text: str) -> tuple[float | None, float | None]:
    """Both ends; an empty one is no limit."""
    ends = text.split(",")
    try:
        low, high = (float(end) if end.strip() else None for end in ends)
    except ValueError:
        raise ValueError(f"--bounds takes two numbers, LOWER,UPPER, not {text!r}") from None
    return low, high


def _each(found: Fit | MultivariateFit) -> dict[str, Fit]:
    """The fit of every outcome by name."""
    if isinstance(found, MultivariateFit):
        return {name: found[name] for name in found.names}
    return {found.formula.split("~")[0].strip(): found}


def _shown(found: Fit | MultivariateFit, as_json: bool, verbose: bool = False) -> int:
    if not as_json:
        _say(found.summary(verbose=verbose))
    else:
        outcomes = {
            name: {"glance": _records(one.glance())[0], "terms": _records(one.tidy())}
            for name, one in _each(found).items()
        }
        done = {"formula": str(found.formula), "converged": bool(found.estimate.converged)}
        _say(_json({**done, "outcomes": outcomes}))
    return DONE if found.estimate.converged else NOT_CONVERGED


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A record per row; missing values are None, dates text."""
    known = table.astype(object).where(table.notna(), None)
    return known.to_dict(orient="records")


def _json(value: Any) -> str:
    """Numbers in full precision; what JSON has no word for as text."""
    return json.dumps(value, indent=1, default=_plain)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)
