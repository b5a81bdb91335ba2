"""From the word a user writes to the family."""

from __future__ import annotations

from typing import Any

from dgmm.families.base import Family
from dgmm.runtime.registry import lookup, members

__all__ = ["ALIASES", "Bounds", "find"]

Bounds = tuple[float | None, float | None]

ALIASES = {
    "nb2": "negative_binomial",
    "nbinom2": "negative_binomial",
    "nbinom1": "nb1",
    "student": "student_t",
    "t": "student_t",
    "ordinal": "cumulative",
    "tobit": "censored_gaussian",
}

NEAR = {
    **dict.fromkeys(
        ("nbinom", "negbin", "nb", "neg_binomial", "quasipoisson"), "negative_binomial"
    ),
    **dict.fromkeys(("logistic", "logit", "binary", "bernouilli"), "bernoulli"),
    **dict.fromkeys(("normal", "norm", "lm", "linear"), "gaussian"),
    **dict.fromkeys(("betabinomial", "betabin", "quasibinomial"), "beta_binomial"),
    **dict.fromkeys(("lnorm", "log_normal"), "lognormal"),
    **dict.fromkeys(("invgauss", "wald"), "inverse_gaussian"),
    "ordbeta": "ordered_beta",
    **dict.fromkeys(("zoib", "beinf", "zero_one_beta"), "zero_one_inflated_beta"),
    **dict.fromkeys(("logitnormal", "logistic_normal"), "logit_normal"),
    **dict.fromkeys(("genpois", "compois"), "generalized_poisson"),
    **dict.fromkeys(("clm", "polr", "ologit", "cumulative_logit"), "cumulative"),
    **dict.fromkeys(("zip", "zipoisson"), "zero_inflated_poisson"),
    **dict.fromkeys(("zinb", "zi_negative_binomial"), "zero_inflated_negative_binomial"),
    "truncated_poisson": "hurdle_poisson",
    "truncated_nbinom2": "hurdle_negative_binomial",
    "ziGamma": "hurdle_gamma",
    "tweedie": "hurdle_gamma",
}
"""Names and abbreviations of R and others, and the family to which they hint."""


def find(
    family: str | Family,
    link: str | None = None,
    bounds: Bounds | None = None,
    **options: Any,
) -> Family:
    """The family called by name (``"poisson"``), or the instance given.

    ``"zero_inflated_poisson"`` and ``"hurdle_negative_binomial"`` name a wrapper and its base.
    ``find(family.name, **family.options())`` makes a family again.
    """
    if isinstance(family, Family):
        if link is not None or bounds is not None or options:
            raise ValueError(
                f"family is given as {family!r}; its link and bounds are its own, do not give "
                "them again"
            )
        return family
    word = ALIASES.get(str(family), str(family))
    known = members("dgmm.families", Family)
    for wrapper in known.values():
        rest = word.removeprefix(f"{wrapper.name}_")
        if wrapper.wraps and rest != word:
            return wrapper(base=find(rest, link, bounds, **options))  # type: ignore[call-arg]
    one = lookup("dgmm.families", Family, word, "family", NEAR)
    if bounds is None:
        return one(link, **options)
    if not one.bounded:
        takers = ", ".join(sorted(name for name, other in known.items() if other.bounded))
        raise ValueError(f"family {word!r} has no bounds; bounds=(a, b) belongs to {takers}")
    return one(link, bounds=bounds, **options)  # type: ignore[call-arg]
