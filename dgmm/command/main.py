"""Read a command line, run it, return its exit status."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dgmm
from dgmm.command import actions

__all__ = ["main"]

STATUS = """exit status:
  0  done
  1  a fault of dgmm
  2  the command, a file, a formula or an option cannot work; stderr says why
  3  done, and the fit has not converged
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _told
            status = int(options.run(options))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # and what is left
        return 0
    except (ValueError, TypeError, OSError, ImportError) as error:
        return _failed(error, 2)
    except RuntimeError as error:
        return _failed(error, 1)
    except KeyboardInterrupt:
        return _failed("interrupted", 130)


def _told(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as one line: a line of Python means nothing to who calls from a shell."""
    sys.stderr.write(f"dgmm: {message}\n")


def _failed(error: object, status: int) -> int:
    sys.stderr.write(f"dgmm: {error}\n")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dgmm",
        description="Classical and deep generalized mixed models.",
        epilog=STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dgmm {dgmm.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_fit, _summary, _predict, _check, _report, _datasets, _demo):
        add(commands)
    return parser


def _fit(commands: Any) -> None:
    one = commands.add_parser("fit", help="fit a model and print its summary")
    one.add_argument("formula", help="'y ~ x + (1 | id)', 'mv(y1, y2) ~ x + (1 |p| id)'")
    one.add_argument("data", help=f"a file ({', '.join(actions.ENDINGS)}) or a data set of dgmm")
    one.add_argument(
        "--family", help="of the outcome; of several outcomes one or several, by commas"
    )
    for name, text in (
        ("link", "of the family"),
        ("method", "auto, ml, reml, vae, vb, gibbs"),
        ("likelihood", "auto, exact, filter, quadrature, laplace, importance"),
        ("se", "hessian, sandwich, bootstrap, none"),
        ("zi", "a formula for structural zeros, '~ x'"),
        ("oi", "a formula for the upper end of an interval"),
        ("dispersion", "a formula for the dispersion"),
        ("weights", "a column of prior weights"),
        ("offset", "a column added to the linear predictor"),
        ("missing", "observed, saem, pattern"),
        ("outcome", "of several outcomes in a long file: the column that names them"),
    ):
        one.add_argument(f"--{name}", help=text)
    one.add_argument("--bounds", metavar="LOWER,UPPER", help="of an outcome on an interval")
    for name in ("seed", "starts", "chains", "draws", "warmup"):
        one.add_argument(f"--{name}", type=int)
    one.add_argument("--out", type=Path, metavar="FILE.dgmm", help="save the fit")
    one.add_argument("--json", action="store_true", help="print tables as JSON")
    _verbosity(one)
    one.set_defaults(run=actions.fit)


def _summary(commands: Any) -> None:
    one = _of_a_fit(commands, "summary", "print the summary of a saved fit")
    one.add_argument("--json", action="store_true", help="print tables as JSON")
    one.add_argument("--verbose", action="store_true", help="also how the maximum was found")
    one.set_defaults(run=actions.summary)


def _predict(commands: Any) -> None:
    one = _of_a_fit(commands, "predict", "predict new rows")
    one.add_argument("data", help="a file with the new rows")
    one.add_argument("--history", help="a file with what is known of their subjects")
    one.add_argument("--type", default="subject", help="subject (default), marginal, mean_subject")
    one.add_argument("--scale", default="response", help="response (default), link")
    one.add_argument("--interval", help="confidence or prediction")
    one.add_argument("--level", type=float, default=0.95, help="of the interval, 0.95 by default")
    one.add_argument("--outcome", help="of a fit of several outcomes: which one")
    one.add_argument("--out", type=Path, metavar="FILE.csv", help="default: stdout")
    one.add_argument("--json", action="store_true", help="print a JSON record per row")
    one.set_defaults(run=actions.predict)


def _check(commands: Any) -> None:
    one = _of_a_fit(commands, "check", "check a saved fit")
    one.add_argument("--json", action="store_true", help="print the table as JSON")
    one.set_defaults(run=actions.check)


def _report(commands: Any) -> None:
    one = _of_a_fit(commands, "report", "write one page: tables, checks, pictures")
    one.add_argument("--out", type=Path, metavar="FILE.html", required=True)
    one.set_defaults(run=actions.report)


def _datasets(commands: Any) -> None:
    one = commands.add_parser("datasets", help="list data sets, or write one as CSV to stdout")
    one.add_argument("name", nargs="?")
    one.add_argument("--about", action="store_true", help="origin, licence and columns instead")
    one.set_defaults(run=actions.data_sets)


def _demo(commands: Any) -> None:
    one = commands.add_parser("demo", help="fit a deep and a classical model to real data")
    one.add_argument("--output", type=Path, default=Path(), help="folder of the picture")
    _verbosity(one)
    one.set_defaults(run=actions.show)


def _of_a_fit(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    one = commands.add_parser(name, help=text)
    one.add_argument(
        "fit", type=Path, metavar="FILE.dgmm", help="a file written by --out or fit.save()"
    )
    return one


def _verbosity(one: argparse.ArgumentParser) -> None:
    one.add_argument("--quiet", action="store_true", help="no progress on stderr")
