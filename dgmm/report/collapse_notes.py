"""Notes about latent directions without a use: an encoder, or a decoder, that has collapsed."""

from __future__ import annotations

import torch

from dgmm.estimate import Estimate
from dgmm.information import find_boundary
from dgmm.variational.collapse import ACTIVE, Activity, posterior_means

__all__ = ["collapse_messages", "idle_encoders"]

WEAK = 0.5
"""Variance of posterior means, 1 where data determine b, below which it may be that of noise."""


def collapse_messages(done: Estimate) -> tuple[str, ...]:
    """Latent directions that the encoder, or the decoder, makes no use of.

    Of linear latents the second is a variance at its boundary, which has a message of its own.
    """
    if done.activity is None:
        return ()
    terms = range(len(done.model.latents))
    return tuple(
        note
        for term in terms
        for note in (_idle_encoder(done, term), _idle_latent(done, term))
        if note
    )


def idle_encoders(done: Estimate) -> tuple[str, ...]:
    if done.activity is None:
        return ()
    terms = range(len(done.model.latents))
    return tuple(note for note in (_idle_encoder(done, term) for term in terms) if note)


def _idle_encoder(done: Estimate, term: int) -> str:
    assert done.activity is not None
    of_encoder, of_posterior = done.activity.counts(term)
    if of_encoder >= of_posterior:
        return ""
    return (
        f"the encoder of {done.model.latents[term].label} has collapsed: its posterior means vary "
        f"between subjects in {of_encoder} latent directions, those of p(b | y) in {of_posterior}. "
        "Log-likelihood, linear coefficients and refined predictions do not use the encoder; "
        "network weights were trained with it only under method='vae'. For a better "
        "one refit with encoder='sites' or more epochs, for better weights then also with "
        "kl_anneal= or free_bits="
    )


def _idle_latent(done: Estimate, term: int) -> str:
    assert done.activity is not None
    latent, (_, of_posterior) = done.model.latents[term], done.activity.counts(term)
    if of_posterior >= latent.dim:
        return ""
    if latent.neural:
        return _unused(done, term, of_posterior)
    if latent.serial or find_boundary(done)[0]:  # the steps of a path may be small, and it large
        return ""
    return (
        f"nearly at the boundary: the random effects of {latent.label} differ between "
        f"subjects in {of_posterior} of {latent.dim} directions (variance of the posterior means "
        f"above {ACTIVE:g}), so that a variance, or that of a combination, is small beside what "
        "the outcomes of a subject say of it. The fixed effects are usable; a simpler random "
        "part may fit as well"
    )


def _unused(done: Estimate, term: int, active: int) -> str:
    """A neural latent has directions in which subjects do not differ: a collapse, or none."""
    latent = done.model.latents[term]
    start = (
        f"{latent.label} uses {active} of its {latent.dim} latent directions (variance of the "
        f"posterior means above {ACTIVE:g}); "
    )
    below = done.nested
    if below is not None:
        means = posterior_means(below.model, below.theta, below.observed, 0)
        nested = Activity.of(below.model, means, means).counts(term)[1]
        if min(nested, latent.dim) > active:
            return start + (
                f"the nested classical model tells subjects apart in {nested}: the decoder has "
                "collapsed. Refit with starts=3 or a smaller ridge=, or by method='vae' "
                "with kl_anneal= or free_bits="
            )
        if active and not nested:
            return start + (
                "the nested classical model finds no differences between subjects: what the "
                "network found may be noise. Leave the term out, unless held-out subjects are "
                "predicted better with it"
            )
    if not active:
        return start + "subjects do not differ beyond the residual: leave the term out"
    assert done.activity is not None
    strongest = float(torch.split(done.activity.posterior, list(done.activity.dims))[term].max())
    if strongest < WEAK and below is not None and find_boundary(below)[0]:
        return start + (
            "subjects do not differ in more, and the nested classical model is singular too: ask "
            "there, by anova() of models with fewer random effects, whether they differ at all "
            f"(largest variance {strongest:.2f} of 1); latent={active} gives the same model with "
            "fewer weights"
        )
    return start + (
        f"subjects do not differ in more. Nothing is wrong with the fit; latent={active} gives "
        "the same model with fewer weights"
    )
