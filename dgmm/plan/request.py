"""From a call and its design to the request that the estimation takes, "auto" resolved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dgmm.bayes import Sampling
from dgmm.design import Design, scaled
from dgmm.encoders import find as find_encoder
from dgmm.estimate import Control, Estimate, Request
from dgmm.families import Family
from dgmm.formula import Formula
from dgmm.likelihood import WORDS
from dgmm.plan.call import Call
from dgmm.plan.groups import factors
from dgmm.plan.model import has_neural_effects, has_paths, has_recursions, is_deep
from dgmm.plan.sampling import check_sampled, check_sampling
from dgmm.runtime.devices import choose_device
from dgmm.runtime.gate import is_whole
from dgmm.runtime.registry import suggestion

__all__ = ["check_options", "make_request", "request_behind"]

METHODS = ("auto", "ml", "reml", "vae", "vb", "gibbs")
STANDARD_ERRORS = ("hessian", "sandwich", "bootstrap", None)
MISSING = ("observed", "saem", "pattern")
RESTRICTIONS = ("acmv", "ccmv", "ncmv")


def _one_of(name: str, value: Any, known: tuple[Any, ...], later: str = "") -> None:
    if value not in known:
        words = [str(word) for word in known]
        hint = suggestion(str(value), words)
        raise ValueError(f"{name}={value!r} is not available{hint} Use {', '.join(words)}.{later}")


def _check_whole(name: str, value: Any, least: int) -> None:
    if not is_whole(value) or value < least:
        raise ValueError(f"{name} is a whole number, at least {least}, not {value!r}")


def check_options(call: Call) -> None:
    """The options of a call that can be judged without the data."""
    _one_of("method", call.method, METHODS)
    _one_of("missing", call.missing, MISSING)
    _one_of("se", call.se, STANDARD_ERRORS)
    _one_of("device", call.device, ("auto", "cpu", "cuda"))
    if call.starts is not None:
        _check_whole("starts", call.starts, 1)
    _check_whole("seed", call.seed, 0)
    _check_whole("verbose", call.verbose, 0)
    check_sampling(call)
    find_encoder(call.encoder)


def check_control(control: Control, formulas: Sequence[Formula]) -> None:
    """Refuse options of recursions for other models, and those that recursions do not have.

    formulas: of all outcomes.

    Raises:
        ValueError: the option, and what there is in its place.
    """
    recursions = any(has_recursions(one) for one in formulas)
    if control.bound == "weighted" and not recursions:
        raise ValueError(
            "control bound='weighted' is for recursions, vrnn(), dmm() and kvae(): leave it out"
        )
    if control.ridge is not None and recursions and not any(one.networks for one in formulas):
        raise ValueError(
            "control ridge= is a penalty of dnn(), and the weights of a recursion have none: leave "
            "it out; vrnn() has dropout="
        )
    if control.free_bits and control.bound == "weighted":
        raise ValueError("control bound='weighted' has no KL by itself that free_bits= could spare")


def make_request(call: Call, design: Design, family: Family) -> Request:
    """The options of a call as the estimation takes them, checked, "auto" resolved."""
    formula = design.formula
    check_control(call.control, [formula])
    method = _method(call.method, formula, call.missing)
    _check_missing(call, method, design)
    likelihood = _likelihood(call.likelihood, method, design, family)
    if method == "gibbs":
        check_sampled(call, design)
    _check_errors(call.se, method, design)
    size = len(design.latents[0].grouping.levels), design.n_rows
    return _request(call, family, method, likelihood, has_neural_effects(formula), size)


def request_behind(call: Call, done: Estimate) -> Request:
    """The request that an estimate answers, for fitting its model again."""
    neural = any(latent.neural for latent in done.model.latents)
    size = done.panel.n, done.panel.n_rows
    word = done.likelihood.word
    return _request(call, done.model.family, done.method, word, neural, size)


def _request(
    call: Call, family: Family, method: str, likelihood: str, neural: bool, size: tuple[int, int]
) -> Request:
    """The request for a model of this ``size`` (subjects, rows).

    Neural random effects depend on their start: by default two, which predict together.
    """
    return Request(
        family,
        method,
        likelihood,
        find_encoder(call.encoder).name,
        call.starts if call.starts is not None else 2 if neural else 1,
        call.seed,
        call.verbose,
        call.control,
        call.missing,
        call.restriction,
        float(call.delta),
        choose_device(call.device, _cells(call.control, *size)),
        sampling=Sampling(call.chains, call.draws, call.warmup, call.prior),
    )


def _cells(control: Control, subjects: int, rows: int) -> int:
    """Measurements times draws in a mini-batch of the ELBO stage."""
    share = control.batch / max(1, subjects)
    return int(min(1.0, share) * rows * 2 * control.pairs)


def _check_errors(se: str | None, method: str, design: Design) -> None:
    if se in ("sandwich", "bootstrap") and len(factors(design)) > 1:
        raise ValueError(
            f"se={se!r} needs independent subjects, which several grouping factors do not "
            "leave; use se='hessian'"
        )
    if se == "bootstrap" and method == "reml":
        raise ValueError("se='bootstrap' is for maximum likelihood; use method='ml'")


def _check_missing(call: Call, method: str, design: Design) -> None:
    """missing= needs certain other arguments, and data that fit to it."""
    missing, several = call.missing, len(factors(design)) > 1
    if missing != "pattern" and (call.restriction != "acmv" or call.delta != 0):
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
        if call.encoder != "dense":
            raise ValueError(
                "missing='saem' completes the outcomes that encoder='dense' sees; "
                f"encoder={call.encoder!r} needs no imputation: use missing='observed' with "
                "it, or encoder='dense' with 'saem'"
            )
        return
    _one_of("restriction", call.restriction, RESTRICTIONS)
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
    if method == "vb" and not neural:
        raise ValueError("method='vb' is for models with dnn() left of a bar; leave method='auto'")
    if is_deep(formula) and method == "reml":
        raise ValueError("method='reml' is for models without dnn(); leave method='auto'")
    if missing == "saem" and method in ("ml", "reml", "vb", "gibbs"):
        raise ValueError(
            f"missing='saem' is a way of method='vae'; method={method!r} takes missing='observed'"
        )
    if method != "auto":
        return method
    return "vae" if missing == "saem" else "ml"


def _no_reml(word: str, design: Design, family: Family) -> str:
    """Why there is no restricted likelihood, what is there and what to do."""
    if not family.conjugate:
        found = f"family={family.name!r} with link={family.link.name!r} is given"
    elif design.parts:
        found = " and ".join(f"{name}=" for name in design.parts) + " is given"
    elif has_neural_effects(design.formula):
        found = "there is a dnn() left of a bar"
    elif any(scaled(term) for term in design.formula.latents):
        found = "a cre() has scale="
    else:
        found = f"likelihood={word!r} is given"
    return (
        "method='reml' is for Gaussian linear mixed models, likelihood='exact', and "
        f"{found}; use method='ml'"
    )


def _likelihood(word: str, method: str, design: Design, family: Family) -> str:
    """The word of likelihood=, where it fits the method; the model is asked when it is built."""
    _one_of("likelihood", word, WORDS)
    if method == "vae" and len(factors(design)) > 1:
        raise ValueError("method='vae' is for one grouping factor; leave method='auto' or 'ml'")
    if method == "vae" and any(block.term.target for block in design.latents):
        raise ValueError(
            "random effects in zi= need a model without dnn() left of a bar, and method='ml'"
        )
    _check_paths(design)
    closed = family.conjugate and not has_neural_effects(design.formula) and not design.parts
    closed = closed and not any(scaled(term) for term in design.formula.latents)
    if method == "reml" and not (closed and word in ("auto", "exact", "filter")):
        raise ValueError(_no_reml(word, design, family))
    if method == "vae" and word == "exact":
        raise ValueError(
            "likelihood='exact' is for a Gaussian outcome with identity link and linear random "
            "effects fitted by method='ml' or 'reml'; use 'quadrature' or 'importance'"
        )
    if method == "vae" and word == "laplace":
        raise ValueError(
            "likelihood='laplace' is for models without dnn() left of a bar fitted by method='ml'; "
            "use 'importance', which is the likelihood itself"
        )
    return word


def _check_paths(design: Design) -> None:
    """Paths stand alone in their predictor."""
    for term in design.formula.latents:
        if not term.syntax.serial:
            continue
        if any(block.term.target for block in design.latents):
            raise ValueError(f"{term.text} is a path: random effects in zi= cannot stand beside it")
