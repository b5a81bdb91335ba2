"""What tune() tries: formulas with other options, and the rows that they are tried on."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dgmm.design import build_design
from dgmm.fit import Fit
from dgmm.formula import has_network, nested_formula, parse_formula, with_options
from dgmm.prediction.same_frame import is_frame_of

__all__ = ["Candidate", "all_candidates", "check_terms", "parts_changed", "subject_of_rows"]

CLASSICAL = "classical"


@dataclass(frozen=True)
class Candidate:
    """One model that is tried."""

    name: str
    formula: str
    options: Mapping[str, Any]
    changes: Mapping[str, Any]  # arguments of mixed_model()


def parts_changed(fit: Fit, part: str | None, grid: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """The parts of the formula whose networks change."""
    if not grid:
        raise ValueError("nothing to tune: give latent=, hidden=, ridge=, basis= or df=")
    for name, values in grid.items():
        if not values:
            raise ValueError(f"{name}= lists no values to try")
    present = [one for one in ("random", "fixed") if has_network(fit.formula, one)]
    if not present:
        raise ValueError(f"tune() is for networks, and {fit.formula!r} has no dnn()")
    if part not in (None, "random", "fixed", "both"):
        raise ValueError(f"part is 'random', 'fixed' or 'both', not {part!r}")
    wanted = (present[0],) if part is None else ("random", "fixed") if part == "both" else (part,)
    if not set(wanted) & set(present):
        raise ValueError(f"part={part!r}: {fit.formula!r} has no dnn() there")
    needs = [name for name in ("latent", "basis", "df") if name in grid]
    if needs and ("random" not in wanted or "random" not in present):
        raise ValueError(f"{needs[0]}= is an option of a random dnn(), left of a bar")
    return wanted


def all_candidates(
    fit: Fit, grid: Mapping[str, Sequence[Any]], parts: tuple[str, ...], classical: bool
) -> list[Candidate]:
    """Every combination of the options, and the nested classical model."""
    model, control = fit.estimate.model, replace(fit.call.control, workers=1)
    if not any(name.startswith("latent") for name in model.open_ridge):
        # else the penalty is chosen on subjects held out in every fold
        control = replace(control, holdout=0.0)
    changes = {"se": None, "control": control, "starts": fit.call.starts or 1}
    spec = fit.memory.spec
    words = {"latent_words": spec.latent_words, "structures": spec.structures}
    found = []
    if classical:
        text = nested_formula(parse_formula(fit.formula, **words)).text
        plain = {**changes, "method": "auto", "likelihood": "auto"}
        found.append(Candidate(CLASSICAL, text, dict.fromkeys(grid), plain))
    for values in itertools.product(*grid.values()):
        options = dict(zip(grid, values, strict=True))
        text = with_options(fit.formula, options, parts)
        parse_formula(text, **words)  # an impossible option is refused here
        name = ", ".join(f"{option}={value}" for option, value in options.items())
        found.append(Candidate(name, text, options, changes))
    return found


def check_terms(candidates: Sequence[Candidate], fit: Fit, data: Any) -> None:
    """Build the columns of every candidate once: a misspelled basis is refused before any fit."""
    spec = fit.memory.spec
    words = {"latent_words": spec.latent_words, "structures": spec.structures}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # given by the fit itself
        for one in candidates:
            build_design(parse_formula(one.formula, **words), data)


def subject_of_rows(fit: Fit, data: Any) -> np.ndarray:
    """The subject of every row of the fit (N,); checks that the frame is the one of the fit."""
    for name in ("weights", "offset"):
        if isinstance(getattr(fit.call, name), np.ndarray):
            raise ValueError(
                f"cross-validation divides the frame: give {name}= as the name of a column"
            )
    if not is_frame_of(fit, data):
        raise ValueError(
            "data= is not the frame of this fit: rows, subjects, covariates or outcomes differ"
        )
    return fit.estimate.panel.subject.numpy()
