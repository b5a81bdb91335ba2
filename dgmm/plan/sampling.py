"""method="gibbs": its options, and the models that it is for."""

from __future__ import annotations

from dataclasses import fields

from dgmm.design import Design, scaled
from dgmm.latent.structures import build as build_structure
from dgmm.plan.call import Call
from dgmm.runtime.gate import is_whole

__all__ = ["check_sampled", "check_sampling"]

OPTIONS = {
    "chains": (1, "a number of chains"),
    "draws": (4, "a number of draws of each chain"),
    "warmup": (0, "a number of sweeps before them"),
}
"""The least value of an option, and its meaning."""


def check_sampling(call: Call) -> None:
    """Values that are possible, and only beside method="gibbs"."""
    for name, (least, meaning) in OPTIONS.items():
        value = getattr(call, name)
        if not is_whole(value) or value < least:
            raise ValueError(f"{name}={value!r}: it is {meaning}, at least {least}")
    if call.method == "gibbs":
        return
    defaults = {one.name: one.default for one in fields(Call)}
    for name in (*OPTIONS, "prior"):
        if getattr(call, name) != defaults[name]:
            raise ValueError(f"{name}= belongs to method='gibbs'; method={call.method!r} has none")


def check_sampled(call: Call, design: Design) -> None:
    """Refuse, by name, what the sampler has no conditionals for.

    Raises:
        ValueError: a network, a path, zi=, dispersion=, a restricted covariance, a scale of one, a
            pattern-mixture model, standard errors of a maximum.
    """
    formula = design.formula
    deep = [term.text for term in formula.networks]
    deep += [term.text for term in formula.latents if term.syntax.neural]
    if deep:
        raise ValueError(
            f"method='gibbs' samples linear terms, and {deep[0]} is a network: take a spline, such "
            "as ns(x, 4), or method='ml'"
        )
    for name in design.parts:
        raise ValueError(
            f"method='gibbs' samples one predictor, and {name}= is a second one; use method='ml', "
            "or leave it out: the family then has one parameter for all rows"
        )
    for block in design.latents:
        if block.term.syntax.serial:
            raise ValueError(
                f"method='gibbs' has no paths such as {block.term.text}; use method='ml'"
            )
        if scaled(block.term):
            raise ValueError(
                f"method='gibbs' draws one standard deviation for all, and {block.term.text} has "
                "scale=; use method='ml'"
            )
        structure = build_structure(block.term, len(block.columns.names))
        if not structure.free:
            raise ValueError(
                f"method='gibbs' draws free covariances (x | id) or independent effects (x || id), "
                f"and {block.term.text} is restricted; use method='ml'"
            )
    if call.missing != "observed":
        raise ValueError(
            f"missing={call.missing!r} is not for method='gibbs', which draws missing outcomes as "
            "one of its steps; use missing='observed'"
        )
    if call.se != "hessian":
        raise ValueError(
            f"se={call.se!r} is about a maximum; the uncertainty of method='gibbs' is its draws"
        )
