"""python -m dgmm demo | fit | datasets."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from dgmm import datasets, demo
from dgmm.api import mixed_model

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "demo":
            demo.run(Path(options.output), verbose=options.verbose)
        elif options.command == "datasets":
            print("\n".join(datasets.available()))
        else:
            _fit(options)
    except (ValueError, FileNotFoundError) as error:
        print(f"dgmm: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dgmm", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("demo", help="fit a deep and a classical model to real data")
    show.add_argument("--output", default=".", help="folder of the picture")
    commands.add_parser("datasets", help="list the data sets that come with the package")
    fit = commands.add_parser("fit", help="fit a model to a CSV file and print the summary")
    fit.add_argument("formula")
    fit.add_argument("data", help="a CSV file, or the name of a data set of the package")
    fit.add_argument("--family", default="gaussian")
    fit.add_argument("--seed", type=int, default=0)
    fit.add_argument("--save", help="write the fit to this file")
    for command in (show, fit):
        command.add_argument("--verbose", type=int, default=1, help="0 silent, 1 progress")
    return parser


def _fit(options: argparse.Namespace) -> None:
    path = Path(options.data)
    frame = pd.read_csv(path) if path.suffix == ".csv" else datasets.load(options.data)
    fit = mixed_model(
        options.formula, frame, family=options.family, seed=options.seed, verbose=options.verbose
    )
    print(fit.summary())
    if options.save:
        fit.save(options.save)


if __name__ == "__main__":
    sys.exit(main())
