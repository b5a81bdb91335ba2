"""What a fit says about itself: separation, boundaries, collapse, errors that matter."""

from __future__ import annotations

from dgmm.design import Design
from dgmm.estimate import Estimate
from dgmm.information import Information, find_boundary
from dgmm.separation import find_separation

__all__ = ["separation_messages", "statistical_messages"]

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


def statistical_messages(done: Estimate, info: Information | None) -> tuple[str, ...]:
    found: list[str] = list(info.messages) if info is not None else []
    names = find_boundary(done)[0]
    if names:
        listed = ", ".join(f"`{name}`" for name in names)
        correlated = any("below" in latent.shapes() for latent in done.model.latents)
        beyond = " beyond the other random effects" if done.model.k > 1 else ""
        found.append(
            f"boundary (singular) fit: the variance of {listed}{beyond} is estimated as zero. "
            "The fixed effects are usable; drop the term"
            + (" or use || to simplify" if correlated else "")
        )
    if done.kl_by_direction is not None and bool((done.kl_by_direction < 0.01).any()):
        dead = int((done.kl_by_direction < 0.01).sum())
        found.append(
            f"posterior collapse in {dead} of {len(done.kl_by_direction)} latent directions: the "
            "encoder tells subjects apart no better than the prior there; the model needs fewer "
            "latent dimensions, or the variance is truly zero"
        )
    if done.likelihood == "quadrature" and done.mc_error > 0.01:
        found.append(
            f"the log-likelihood still changes by {done.mc_error:.2g} between two quadrature "
            "rules: estimates of large variances may be off; raise points, or use "
            "likelihood='importance'"
        )
    if done.likelihood == "importance" and done.mc_error > 0.5:
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
