"""What a fit says about itself: separation, boundaries, collapse, errors that matter."""

from __future__ import annotations

from dgmm.design import Design
from dgmm.estimate import Estimate
from dgmm.inference.separation import find_separation
from dgmm.information import Information, find_boundary
from dgmm.variational.collapse import ACTIVE, Activity, posterior_means

__all__ = ["collapse_messages", "separation_messages", "statistical_messages"]

SUSPICIOUS = 5.0
"""Standard deviations of a column times its coefficient, on the scale of a logit or log link."""


def separation_messages(design: Design, done: Estimate) -> tuple[str, ...]:
    """Infinite coefficients are looked for when one is suspiciously large, and named."""
    model, rows = done.model, done.observed.rows
    extremes = model.family.extremes(rows.data)
    if extremes is None:
        return ()
    effect = model.beta(done.theta).detach().abs() * rows.X.std(0, correction=0)
    if not bool((effect > SUSPICIOUS).any()):
        return ()
    found = find_separation(rows.X.numpy(), *(side.numpy() for side in extremes))
    if found is None:
        return ()
    named = ", ".join(
        f"`{model.names[j]}`" for j in found.columns if model.names[j] != "(Intercept)"
    )
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


def collapse_messages(done: Estimate) -> tuple[str, ...]:
    """Latent directions that the encoder, or the decoder, makes no use of.

    Of linear latents the second is a variance at its boundary, which has a message of its own.
    """
    if done.activity is None:
        return ()
    found = []
    for term, latent in enumerate(done.model.latents):
        of_encoder, of_posterior = done.activity.counts(term)
        if of_encoder < of_posterior:
            found.append(
                f"the encoder of {latent.label} has collapsed: its posterior means vary between "
                f"subjects in {of_encoder} latent directions, those of p(b | y) in {of_posterior}. "
                "Log-likelihood, predictions and linear coefficients do not use the encoder; "
                "network weights were trained with it only under control q='encoder'. For a better "
                "one refit with encoder='sites' or more epochs, for better weights then also with "
                "kl_anneal= or free_bits="
            )
        if of_posterior < latent.dim and latent.neural:
            found.append(_unused(done, term, of_posterior))
        elif of_posterior < latent.dim and not find_boundary(done)[0]:
            found.append(
                f"nearly at the boundary: the random effects of {latent.label} differ between "
                f"subjects in {of_posterior} of {latent.dim} directions, so that a variance, or "
                "that of a combination, is estimated as almost zero. The fixed effects are "
                "usable; a simpler random part gives the same model"
            )
    return tuple(found)


def _unused(done: Estimate, term: int, active: int) -> str:
    """What it means that a neural latent has directions in which subjects do not differ."""
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
                "collapsed. Refit with starts=3 or a smaller ridge=, or by control q='encoder' "
                "with kl_anneal= or free_bits="
            )
    if not active:
        return start + "subjects do not differ beyond the residual: leave the term out"
    return start + (
        f"subjects do not differ in more. Nothing is wrong with the fit; latent={active} gives "
        "the same model with fewer weights"
    )


def statistical_messages(done: Estimate, info: Information | None) -> tuple[str, ...]:
    found: list[str] = list(info.messages) if info is not None else []
    names = find_boundary(done)[0]
    if names:
        listed = ", ".join(f"`{name}`" for name in names)
        correlated = any(len(block) > 1 for one in done.model.latents for block in one.blocks())
        beyond = " beyond the other random effects" if done.model.k > 1 else ""
        found.append(
            f"boundary (singular) fit: the variance of {listed}{beyond} is estimated as zero. "
            "The fixed effects are usable; drop the term"
            + (" or use || to simplify" if correlated else "")
        )
    found += collapse_messages(done)
    if done.likelihood.grows and done.mc_error > 0.01:
        found.append(
            f"the log-likelihood still changes by {done.mc_error:.2g} between two quadrature "
            "rules: estimates of large variances may be off; raise points, or use "
            "likelihood='importance'"
        )
    if done.likelihood.sampled and done.mc_error > 0.5:
        found.append(
            f"the Monte Carlo error of the log-likelihood is {done.mc_error:.2g}: differences "
            f"below {4 * done.mc_error:.1f} mean nothing; raise control draws"
        )
    if done.saem is not None and done.saem.acceptance[0] < 0.2:
        found.append(
            f"the encoder's proposals are accepted at a rate of {done.saem.acceptance[0]:.2f} "
            "only: chains move by the random walk, and averages carry more Monte Carlo error; "
            "raise control saem_iterations or epochs"
        )
    if done.saem is not None and bool(done.panel.observed.all()):
        found.append("missing='saem': no planned outcome is missing, so nothing was imputed")
    below = done.nested
    if below is not None and done.log_likelihood < below.log_likelihood - 2 * done.mc_error - 0.1:
        found.append(
            f"the log-likelihood is below that of the nested classical model "
            f"({below.log_likelihood:.2f}): the ridge or a small latent= holds the network back; "
            "raise latent=, lower ridge=, or prefer the classical model"
        )
    for network, edf in (info.effective if info is not None else {}).items():
        if network != "total" and edf > done.panel.n / 2:
            found.append(
                f"a network has {edf:.0f} effective parameters for {done.panel.n} subjects: it "
                "will follow their noise; raise its ridge= or take fewer hidden units"
            )
    held = done.held_out
    if held is not None and held.difference < -2 * held.standard_error:
        found.append(
            "on held-out subjects the nested classical model predicts better: prefer it unless "
            "there is a reason for the network"
        )
    return tuple(found)
