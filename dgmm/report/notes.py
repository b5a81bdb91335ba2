"""The notes of a fit: separation, boundaries, collapse, errors that matter."""

from __future__ import annotations

from collections.abc import Callable

from dgmm.design import Design
from dgmm.estimate import Estimate
from dgmm.inference.separation import find_separation
from dgmm.information import Information, boundary_reasons, find_boundary
from dgmm.report.collapse_notes import collapse_messages, idle_encoders
from dgmm.report.likelihood_notes import of_approximation, of_monte_carlo, of_quadrature
from dgmm.report.network_notes import (
    of_effective_parameters,
    of_held_out,
    of_nested_model,
    of_silent_effects,
    of_silent_networks,
)
from dgmm.variational.collapse import ACTIVE

__all__ = [
    "CHECKS",
    "of_search",
    "separation_messages",
    "statistical_messages",
]

SUSPICIOUS = 5.0
"""Standard deviations of a column times its coefficient, on the scale of a logit or log link."""

FEW_ROWS = 500
"""Rows up to which no coefficient need be suspicious: there it takes no time to look."""

OFF = 0.1
"""Nats per subject between log-likelihood and ELBO: q and the posterior differ by some 0.4
standard deviations in one direction."""

DEAD = 0.05
"""Share of the weight of a mode of K, as a multiple of 1/K, below which it is called dead."""

LOOSE = 0.1
"""Nats per step between ELBO and importance-weighted bound."""

FELL = 2.0
"""Nats per subject: the first epochs may be about some of the subjects, the last about all."""

Check = Callable[[Estimate, Information | None], tuple[str, ...]]
"""Finds messages about an estimate and what is known of it; none where nothing is to be said."""


def statistical_messages(done: Estimate, info: Information | None) -> tuple[str, ...]:
    """All messages about an estimate, in the order of the checks."""
    return tuple(message for check in CHECKS for message in check(done, info))


# -- the checks ----------------------------------------------------------------------------------


def of_information(done: Estimate, info: Information | None) -> tuple[str, ...]:
    """Hessians that are not positive definite, parameters at an edge."""
    return () if info is None else info.messages


def of_boundary(done: Estimate, info: Information | None) -> tuple[str, ...]:
    """Random effects without a variance of their own, paths at an end of their range."""
    reasons = boundary_reasons(done)
    if not reasons:
        return ()
    kind = "boundary (singular) fit" if find_boundary(done)[0] else "boundary"
    return (f"{kind}: {'; '.join(reasons)}. {_simpler(done)}",)


def _simpler(done: Estimate) -> str:
    """What a singular fit is good for, and what to do with it."""
    correlated = any(len(block) > 1 for one in done.model.latents for block in one.blocks())
    without = ", or || for no correlations" if correlated else ""
    return (
        "The fixed effects are usable; a simpler random part may fit as well (fewer terms"
        f"{without}): compare by anova()"
    )


def of_nested_boundary(done: Estimate, info: Information | None) -> tuple[str, ...]:
    """A boundary of the classical model beneath neural random effects."""
    if done.nested is None or not any(latent.neural for latent in done.model.latents):
        return ()
    own = boundary_reasons(done)
    reasons = [reason for reason in boundary_reasons(done.nested) if reason not in own]
    if not reasons:
        return ()
    return (
        f"the nested classical model is a boundary (singular) fit: {'; '.join(reasons)}. The "
        "random part may be too rich for these data: fewer columns or a smaller latent= may fit "
        "as well",
    )


def of_collapse(done: Estimate, info: Information | None) -> tuple[str, ...]:
    """Latent directions without a use."""
    return collapse_messages(done)


def of_encoder(done: Estimate, info: Information | None) -> tuple[str, ...]:
    """An encoder far from the posterior, and what of the fit that touches."""
    if done.elbo is None or done.encoder is None or done.likelihood.bound:
        return ()
    n = int((done.observed.count > 0).sum())
    gap = (done.log_likelihood - done.elbo) / n
    if gap <= OFF + 2 * (done.elbo_error + done.mc_error) / n:
        return ()
    said = f"the encoder is {gap:.2f} nats per subject off p(b | y) (log-likelihood less ELBO)"
    if idle_encoders(done):
        return (said,)  # the rest is in that note
    return (
        f"{said}: its q(b | y) does not stand for the posterior. Log-likelihood and standard "
        "errors do not use it, predictions by method='encoder' correct it by weights, and "
        "estimates use it only where networks were trained together with it, or under control "
        "polish=False. For a better one refit with control refine=5, encoder='sites' or more "
        "epochs",
    )


def of_course(done: Estimate, info: Information | None) -> tuple[str, ...]:
    """Latent variables of a recursion that q leaves at their prior, and a loose ELBO."""
    course, found = done.course, []
    if course is None or done.elbo is None:
        return ()
    idle = int((course.active <= ACTIVE).sum())
    if idle:
        found.append(
            f"{idle} of {len(course.active)} latent variables are not used (variance of the means "
            f"of q over subjects and steps at most {ACTIVE:g}): the outcomes before a step say as "
            "much without them. Fewer, or none, may predict as well; against a collapse after a "
            "poor start refit with control kl_anneal= or another seed"
        )
    if course.mixing is not None:
        dead = int((course.mixing < DEAD / len(course.mixing)).sum())
        if dead:
            found.append(
                f"{dead} of {len(course.mixing)} dynamics have died: their mean weight is below "
                f"{DEAD:g} of an equal share. K={len(course.mixing) - dead} says as much, or refit "
                "with another seed"
            )
    gap = (done.log_likelihood - done.elbo) / max(course.steps, 1)
    if gap > LOOSE:
        found.append(
            f"the ELBO is {gap:.2g} nats per step below the importance-weighted bound: q is not "
            "the posterior, and theta was learnt on the ELBO. More epochs may bring them "
            "together, or another form of posterior="
        )
    return tuple(found)


def of_training(done: Estimate, info: Information | None) -> tuple[str, ...]:
    """An ELBO that ended below where it began; the best iterate is kept where one is looked for."""
    trace = done.trace
    if trace is None or trace.kept or len(trace.elbo) < 2:
        return ()
    first, last = trace.elbo[0], trace.elbo[-1]
    if last >= first - max(FELL, 0.1 * abs(first)):
        return ()
    return (
        f"the ELBO fell from {first:.2f} to {last:.2f} nats per subject in its stage, which was to "
        "raise it: the steps are too long. Refit with a smaller control learning_rate, or "
        "decoder_rate under method='vb'",
    )


def of_saem(done: Estimate, info: Information | None) -> tuple[str, ...]:
    """Chains that hardly move, and imputation without missing outcomes."""
    if done.saem is None:
        return ()
    found = []
    if done.saem.acceptance[0] < 0.2:
        found.append(
            f"the encoder's proposals are accepted at a rate of {done.saem.acceptance[0]:.2f} "
            "only: chains move by the random walk, and averages carry more Monte Carlo error; "
            "raise control saem_iterations or epochs"
        )
    if bool(done.panel.observed.all()):
        found.append("missing='saem': no planned outcome is missing, so nothing was imputed")
    return tuple(found)


CHECKS: tuple[Check, ...] = (
    of_information,
    of_boundary,
    of_nested_boundary,
    of_collapse,
    of_encoder,
    of_course,
    of_training,
    of_quadrature,
    of_approximation,
    of_monte_carlo,
    of_saem,
    of_nested_model,
    of_effective_parameters,
    of_silent_networks,
    of_silent_effects,
    of_held_out,
)


def of_search(done: Estimate) -> tuple[str, ...]:
    """Messages about the encoder, which a maximum of the likelihood does not depend on."""
    return (*of_encoder(done, None), *idle_encoders(done))


# -- separation ----------------------------------------------------------------------------------


def separation_messages(design: Design, done: Estimate) -> tuple[str, ...]:
    """Infinite coefficients are named; in long data they are looked for when one is very large."""
    if done.sampled:  # a proper prior keeps every coefficient finite
        return ()
    model, rows = done.model, done.observed.rows
    compared = model.family.comparisons(rows.X, rows.data)
    if compared is None or not model.names:
        return ()
    spread = (rows.X - rows.X.mean(0)).square_().mean(0).sqrt()
    effect = model.beta(done.theta).detach().abs() * spread
    if len(rows.X) > FEW_ROWS and not bool((effect > SUSPICIOUS).any()):
        return ()
    found = find_separation(*(one.numpy() for one in compared))
    if found is None:
        return ()
    columns = [model.names[j] for j in found.columns if j < len(model.names)]
    named = ", ".join(f"`{name}`" for name in columns if name != "(Intercept)")
    if not named:
        return ()
    outcome = f"`{design.formula.response.text}`"
    if found.complete:
        raise ValueError(
            f"{named} separates the outcome {outcome} completely: every row is predicted without "
            "error and the coefficients are infinite. Leave the variable out, or look for an "
            "outcome coded into it"
        )
    return (
        f"separation: in part of the rows {named} decides the outcome {outcome}, so its "
        "coefficient is infinite and its standard error and z test mean nothing; the other "
        "estimates are usable. Merge categories, leave the variable out, or test it by anova() of "
        "the models with and without it",
    )
