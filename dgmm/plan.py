"""What a call of mixed_model() asks for, checked once at the door, in words.

Options, grouping factors, the outcome as the family counts it; then the record that the estimation
takes.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from dgmm.design import Design, Grouping, build_design
from dgmm.estimate import Control, Request
from dgmm.families import Family, OutcomeError
from dgmm.formula import Formula, nested_formula
from dgmm.latent import words as latent_words
from dgmm.runtime.devices import choose_device
from dgmm.runtime.registry import suggestion

__all__ = [
    "as_counted",
    "check_groups",
    "check_options",
    "check_whole",
    "factors",
    "is_deep",
    "latent_words",
    "make_request",
    "nested_design",
    "read_control",
]

METHODS = ("auto", "ml", "reml", "vae")
LIKELIHOODS = ("auto", "exact", "laplace", "quadrature", "importance")
STANDARD_ERRORS = ("hessian", "sandwich", "bootstrap", None)
MISSING = ("observed", "saem", "pattern")
RESTRICTIONS = ("acmv", "ccmv", "ncmv")
MOST_QUADRATURE = 3


def _one_of(name: str, value: Any, known: tuple[Any, ...], later: str = "") -> None:
    if value not in known:
        words = [str(word) for word in known]
        hint = suggestion(str(value), words)
        raise ValueError(f"{name}={value!r} is not available{hint} Use {', '.join(words)}.{later}")


def check_whole(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} is a whole number, at least {least}, not {value!r}")


def check_options(method: str, missing: str, se: str | None, device: str) -> None:
    _one_of("method", method, METHODS)
    _one_of("missing", missing, MISSING)
    _one_of("se", se, STANDARD_ERRORS)
    _one_of("device", device, ("auto", "cpu", "cuda"))


def read_control(control: Control | dict[str, Any] | None) -> Control:
    if isinstance(control, Control):
        return control
    if control is not None and not isinstance(control, dict):
        raise TypeError(f"control is a dgmm.Control or a dict of its options, not {control!r}")
    known = Control.__dataclass_fields__
    for name in control or {}:
        if name not in known:
            hint = suggestion(name, list(known))
            raise ValueError(f"control has no option {name!r}{hint} It has {', '.join(known)}.")
    return Control(**(control or {}))


def as_counted(design: Design, family: Family) -> tuple[Design, Family]:
    """The outcome as the family counts it, impossible outcomes refused by their row."""
    seen = design.observed
    if design.formula.response.kind == "cbind" and family.support != "trials":
        raise ValueError(
            f"cbind(success, failure) is an outcome of family='binomial', not {family.name!r}"
        )
    if np.any(design.weights[seen] <= 0):
        raise ValueError("weights must be positive; leave out rows that should not count")
    columns = [design.y, design.trials, design.weights]
    every = bool(seen.all())
    try:
        parts = family.read(*(column if every else column[seen] for column in columns))
        family = family.fitted_to(parts[0])
    except OutcomeError as error:
        (label,) = design.index[[np.flatnonzero(seen)[error.row]]].tolist()
        raise ValueError(f"{error.message} (row {label!r} of the data)") from None
    if every:
        columns = [np.asarray(part, dtype=float) for part in parts]
    else:
        columns = [column.copy() for column in columns]
        for column, part in zip(columns, parts, strict=True):
            column[seen] = part
    y, trials, weights = columns
    return replace(design, y=y, trials=trials, weights=weights), family


def factors(design: Design) -> list[str]:
    """The grouping factors, each once."""
    return list(dict.fromkeys(block.grouping.name for block in design.latents))


def check_groups(design: Design, family: Family) -> None:
    names = factors(design)
    if not names:
        raise ValueError(
            f"{design.formula.text!r} has no random part; add one, for example (1 | id). For "
            "independent rows use a regression package such as statsmodels."
        )
    if len(names) > 1:
        _check_several(design, names)
    observed = design.observed
    y = (design.y / design.trials)[observed]
    if np.all(y == y[0]):
        raise ValueError(
            f"the outcome `{design.formula.response.text}` is {y[0]:g} in every observed row: "
            "there is nothing to explain"
        )
    seen = int(observed.sum())
    for name in names:
        blocks = [block for block in design.latents if block.grouping.name == name]
        effects = sum(len(block.columns.names) for block in blocks)
        levels = np.count_nonzero(np.bincount(blocks[0].grouping.codes[observed]))
        if not family.repeats and not design.ratio and seen <= levels * effects:
            raise ValueError(
                f"{seen} observed outcomes cannot tell {effects} random effects for each of "
                f"{levels} levels of `{name}` from the residual; use fewer random effects"
            )


def _check_several(design: Design, names: list[str]) -> None:
    """Networks have one grouping factor; factors that divide the rows alike are one factor."""
    formula, listed = design.formula, ", ".join(f"`{name}`" for name in names)
    for one, two in combinations(design.latents, 2):
        shared = set(one.columns.names) & set(two.columns.names)
        if one.grouping.name != two.grouping.name and shared and _alike(one.grouping, two.grouping):
            raise ValueError(
                f"`{one.grouping.name}` and `{two.grouping.name}` divide the rows alike, so that "
                f"{one.term.text} and {two.term.text} cannot be told apart; keep one of them"
            )
    paths = [term for term in formula.latents if term.syntax.serial]
    if paths:
        raise ValueError(
            f"{paths[0].text} is a path, and the formula has {len(names)} grouping factors "
            f"({listed}): paths are fitted with one. Keep `{paths[0].group}` alone, or leave the "
            "path out"
        )
    random = [term for term in formula.latents if term.syntax.neural]
    deep = [*(term.text for term in formula.networks), *(term.text for term in random)]
    if deep:
        kept = random[0].group if random else names[0]
        raise ValueError(
            f"{deep[0]} is a network, and the formula has {len(names)} grouping factors "
            f"({listed}): networks are fitted with one. Make the term linear, or keep one factor, "
            f"for example `{kept}`."
        )


def _alike(one: Grouping, two: Grouping) -> bool:
    """Whether two factors are the same partition of the rows."""
    pairs = np.unique(np.stack([one.codes, two.codes]), axis=1).shape[1]
    return pairs == len(np.unique(one.codes)) == len(np.unique(two.codes))


def is_deep(parsed: Formula) -> bool:
    return bool(parsed.networks) or has_neural_effects(parsed)


def has_neural_effects(parsed: Formula) -> bool:
    return any(term.syntax.neural for term in parsed.latents)


def has_paths(parsed: Formula) -> bool:
    return any(term.syntax.serial for term in parsed.latents)


def nested_design(parsed: Formula, data: Any, columns: dict[str, Any], family: Family) -> Design:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same warnings were given for the design itself
        return as_counted(build_design(nested_formula(parsed), data, **columns), family)[0]


def make_request(call: dict[str, Any], design: Design, family: Family, verbose: int) -> Request:
    """The checked options as the estimation takes them, "auto" resolved."""
    method = _method(call["method"], design.formula, call["missing"])
    _check_missing(call, method, design)
    control = Control(**call["control"])
    return Request(
        family,
        method,
        _likelihood(call["likelihood"], method, design, family),
        call["encoder"],
        _starts(call["starts"], design.formula),
        call["seed"],
        verbose,
        control,
        call["missing"],
        call["restriction"],
        float(call["delta"]),
        choose_device(call["device"], _cells(design, control)),
    )


def _starts(wanted: int | None, parsed: Formula) -> int:
    """Networks left of a bar depend on where they start: two starts, which predict together."""
    if wanted is not None:
        return wanted
    return 2 if has_neural_effects(parsed) else 1


def _cells(design: Design, control: Control) -> int:
    """Measurements times draws in a mini-batch of the ELBO stage."""
    grouping = design.latents[0].grouping
    share = control.batch / max(1, len(grouping.levels))
    return int(min(1.0, share) * design.n_rows * 2 * control.pairs)


def _check_missing(call: dict[str, Any], method: str, design: Design) -> None:
    """What missing= needs of the other arguments and of the data."""
    missing, several = call["missing"], len(factors(design)) > 1
    if missing != "pattern" and (call["restriction"] != "acmv" or call["delta"] != 0):
        raise ValueError("restriction= and delta= belong to missing='pattern'")
    if missing == "observed":
        return
    if has_paths(design.formula) and missing == "pattern":
        raise ValueError("missing='pattern' has no paths; use missing='observed'")
    if several:
        raise ValueError(
            f"missing={missing!r} is for one grouping factor; the formula has "
            f"{', '.join(factors(design))}: use missing='observed'"
        )
    if missing == "saem":
        if call["encoder"] != "dense":
            raise ValueError(
                "missing='saem' completes the outcomes that encoder='dense' sees; "
                f"encoder={call['encoder']!r} needs no imputation: use missing='observed' with "
                "it, or encoder='dense' with 'saem'"
            )
        return
    _one_of("restriction", call["restriction"], RESTRICTIONS)
    if not isinstance(call["delta"], int | float | np.number) or not np.isfinite(call["delta"]):
        raise ValueError(f"delta is a shift of the linear predictor, not {call['delta']!r}")
    if method == "reml":
        raise ValueError("missing='pattern' is for maximum likelihood; use method='ml'")
    if design.spec.time_name is None:
        raise ValueError(
            "missing='pattern' needs the order of the visits, which is that of the time in the "
            "random part, such as (time | id)"
        )
    if not _somebody_leaves(design):
        raise ValueError(
            "missing='pattern' is about dropout, and no subject has planned rows after its last "
            f"outcome. Keep the rows of visits that were missed, with `"
            f"{design.formula.response.text}` missing"
        )


def _somebody_leaves(design: Design) -> bool:
    """Whether the last row of some subject has no outcome."""
    code = design.latents[0].grouping.codes
    end = np.append(code[1:] != code[:-1], True)
    return bool((~design.observed & end).any())


def _method(method: str, formula: Formula, missing: str) -> str:
    neural = has_neural_effects(formula)
    if neural and method == "ml":
        raise ValueError(
            "method='ml' is for models without dnn() left of a bar; leave method='auto' or 'vae'"
        )
    if is_deep(formula) and has_paths(formula) and method == "ml":
        raise ValueError(
            "a path beside dnn() is fitted by a variational bound; leave method='auto' or 'vae'"
        )
    if is_deep(formula) and method == "reml":
        raise ValueError("method='reml' is for models without dnn(); leave method='auto', or 'vae'")
    if missing == "saem" and method in ("ml", "reml"):
        raise ValueError(
            f"missing='saem' is a way of method='vae'; method={method!r} takes missing='observed'"
        )
    if method != "auto":
        return method
    by_bound = neural or (is_deep(formula) and has_paths(formula))
    return "vae" if by_bound or missing == "saem" else "ml"


def _likelihood(word: str, method: str, design: Design, family: Family) -> str:
    gaussian = family.name == "gaussian" and family.link.name == "identity"
    if len(factors(design)) > 1:
        return _several_likelihood(word, method, gaussian, design)
    _one_of("likelihood", word, LIKELIHOODS)
    if method == "vae" and any(block.term.target for block in design.latents):
        raise ValueError(
            "random effects in zi= need a model without dnn() left of a bar, and method='ml'"
        )
    if has_paths(design.formula):
        return _path_likelihood(word, method, design)
    neural = has_neural_effects(design.formula)
    exact = gaussian and not neural and not design.parts
    k = sum(
        block.term.options.get("latent") or len(block.columns.names) for block in design.latents
    )
    if method == "reml" and not (exact and word in ("auto", "exact")):
        raise ValueError("method='reml' is for Gaussian linear mixed models, likelihood='exact'")
    if word == "exact" and (not exact or method == "vae"):
        raise ValueError(
            "likelihood='exact' is for a Gaussian outcome with identity link and linear random "
            "effects fitted by method='ml' or 'reml'; use 'quadrature' or 'importance'"
        )
    if word == "laplace" and (neural or method == "vae"):
        raise ValueError(
            "likelihood='laplace' is for models without dnn() left of a bar fitted by method='ml'; "
            "use 'importance', which is the likelihood itself"
        )
    if word == "quadrature" and k > MOST_QUADRATURE:
        raise ValueError(
            f"likelihood='quadrature' needs at most {MOST_QUADRATURE} random effects, this model "
            f"has {k}; use likelihood='importance'"
        )
    if word != "auto":
        return word
    if exact and method != "vae":
        return "exact"
    return "quadrature" if not neural and method != "vae" and k <= 2 else "importance"


def _path_likelihood(word: str, method: str, design: Design) -> str:
    """The normal approximation at the modes, which is exact for Gaussian outcomes."""
    path = next(term for term in design.formula.latents if term.syntax.serial)
    if method == "reml":
        raise ValueError(f"method='reml' has no paths such as {path.text}; use method='ml'")
    if any(block.term.target for block in design.latents):
        raise ValueError(f"{path.text} is a path: random effects in zi= cannot stand beside it")
    if method == "vae" and word in ("auto", "importance"):
        return "importance"
    if method == "vae" or word not in ("auto", "laplace", "importance"):
        kept = "'importance'" if method == "vae" else "'laplace' (exact for Gaussian outcomes)"
        raise ValueError(f"likelihood={word!r} has no paths such as {path.text}; use {kept}")
    return "laplace" if word == "auto" else word


def _several_likelihood(word: str, method: str, gaussian: bool, design: Design) -> str:
    """With several grouping factors: exact for Gaussian outcomes, else Laplace's approximation."""
    if method == "vae":
        raise ValueError("method='vae' is for one grouping factor; leave method='auto' or 'ml'")
    if design.parts:
        named = " and ".join(f"{name}=" for name in design.parts)
        raise ValueError(f"{named} is for one grouping factor; the formula has several")
    if method == "reml" and not gaussian:
        raise ValueError("method='reml' is for Gaussian linear mixed models, likelihood='exact'")
    fitting = "exact" if gaussian else "laplace"
    if word not in ("auto", fitting):
        why = "a Gaussian outcome with identity link" if gaussian else "this family and link"
        raise ValueError(
            f"likelihood={word!r} is not available with several grouping factors: {why} has "
            f"likelihood={fitting!r}"
        )
    return fitting
