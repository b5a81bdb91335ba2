"""Which likelihood of a model: the words of ``likelihood=`` and their order of preference."""

from __future__ import annotations

from dgmm.likelihood.adaptive import AdaptiveLaplace, AdaptiveQuadrature
from dgmm.likelihood.base import Integration, Likelihood
from dgmm.likelihood.bound import ImportanceBound
from dgmm.likelihood.crossed_gaussian import CrossedGaussian
from dgmm.likelihood.crossed_laplace import CrossedLaplace
from dgmm.likelihood.filter import Filter
from dgmm.likelihood.filter_laplace import FilterLaplace
from dgmm.likelihood.filter_sampled import FilterSampled
from dgmm.likelihood.gaussian import Gaussian
from dgmm.likelihood.joint_gaussian import JointGaussian
from dgmm.likelihood.joint_laplace import JointLaplace
from dgmm.likelihood.joint_loadings import JointLoadings
from dgmm.likelihood.joint_quadrature import JointQuadrature
from dgmm.likelihood.numerical import LinearGaussian, NodeLaplace, NodeQuadrature, Sampled
from dgmm.model import Model
from dgmm.panel import Panel

__all__ = ["MEMBERS", "WORDS", "choose"]

MEMBERS: tuple[type[Likelihood], ...] = (
    ImportanceBound,
    Gaussian,
    CrossedGaussian,
    JointGaussian,
    JointLoadings,
    Filter,
    LinearGaussian,
    FilterLaplace,
    FilterSampled,
    AdaptiveQuadrature,
    JointQuadrature,
    NodeQuadrature,
    CrossedLaplace,
    JointLaplace,
    Sampled,
    AdaptiveLaplace,
    NodeLaplace,
)
"""In the order in which likelihood="auto" tries them."""

WORDS = ("auto", "exact", "filter", "laplace", "quadrature", "importance", "bound")


def choose(
    model: Model,
    panel: Panel,
    word: str = "auto",
    integration: Integration | None = None,
    *,
    restricted: bool = False,
    sampled: bool = False,
) -> Likelihood:
    """The likelihood that a word asks for, "auto" the first that applies.

    Args:
        model: the model.
        panel: its planned rows.
        word: one of ``WORDS``.
        integration: how finely integrals are calculated.
        restricted: beta integrated out, for REML.
        sampled: "auto" takes importance sampling, as the variational route does.

    Raises:
        ValueError: no likelihood under this word applies; the message says why and what does.
    """
    integration = integration or Integration()
    if word == "auto" and sampled:
        word = Sampled.word
    reasons: list[str | None] = []
    for member in MEMBERS:
        if word not in ("auto", member.word):
            continue
        reason = member.cannot(model, panel)
        if reason is None and (word != "auto" or member.automatic(model)):
            return member.of(model, panel, integration, restricted)
        # members go from special to general; one for other grouping factors has nothing to say
        reasons.insert(len(reasons) if member.separate != panel.several else 0, reason)
    reason = next((one for one in reversed(reasons) if one), "no likelihood applies")
    others = _others(model, panel)
    if not others:
        raise ValueError(f"there is no likelihood for this model: {reason}")
    raise ValueError(f"likelihood={word!r} is not available: {reason}; use {others}")


def _others(model: Model, panel: Panel) -> str:
    words = [member.word for member in MEMBERS if member.cannot(model, panel) is None]
    return " or ".join(f"likelihood={word!r}" for word in dict.fromkeys(words))
