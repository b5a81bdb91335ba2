"""Notes about networks: what they add to the nested classical model."""

from __future__ import annotations

from dgmm.estimate import Estimate
from dgmm.information import Information
from dgmm.penalised.silence import silent

__all__ = [
    "of_effective_parameters",
    "of_held_out",
    "of_nested_model",
    "of_silent_effects",
    "of_silent_networks",
]


def of_nested_model(done: Estimate, info: Information | None) -> tuple[str, ...]:
    """A deep model that fits worse than the classical one within it."""
    below = done.nested
    if below is None or done.log_likelihood >= below.log_likelihood - 2 * done.mc_error - 0.1:
        return ()
    return (
        f"the log-likelihood is below that of the nested classical model "
        f"({below.log_likelihood:.2f}): the ridge, a small latent= or a poor start holds the "
        "network back; raise latent= or starts=, lower ridge=, or prefer the classical model",
    )


def of_effective_parameters(done: Estimate, info: Information | None) -> tuple[str, ...]:
    """Networks with more effective parameters than half of the subjects with an outcome."""
    effective = {} if info is None else info.effective
    subjects = int((done.observed.count > 0).sum())
    return tuple(
        f"a network has {edf:.0f} effective parameters for {subjects} subjects: it "
        "will follow their noise; raise its ridge= or take fewer hidden units"
        for network, edf in effective.items()
        if network != "total" and edf > subjects / 2
    )


def of_silent_networks(done: Estimate, info: Information | None) -> tuple[str, ...]:
    """Networks on the fixed side whose penalty has left nothing but a line."""
    fallen = () if info is None else info.silent(done.model)
    return tuple(
        f"{done.model.networks[i].label} has fallen silent: its penalty leaves the linear part "
        "alone. Standard errors and bands take it as known that there is no curve, and are too "
        "narrow where there is a weak one; compare with a spline, or refit with ridge= or starts=3"
        for i in fallen
    )


def of_silent_effects(done: Estimate, info: Information | None) -> tuple[str, ...]:
    """Networks left of a bar that say nothing."""
    own = [name for name in silent(done.model, done.theta) if name.startswith("latent")]
    return tuple(
        f"the network of {done.model.latents[int(name.removeprefix('latent')) - 1].label} is silent"
        + (
            ": with none of the penalties tried were subjects held out predicted better by more "
            "than two standard errors"
            if name in done.model.open_ridge and done.held_out is not None
            else ""
        )
        for name in own
    )


def of_held_out(done: Estimate, info: Information | None) -> tuple[str, ...]:
    """A deep model that predicts subjects held out worse than the classical one."""
    held = done.held_out
    if held is None or not held.worse:
        return ()
    return (
        "on held-out subjects the nested classical model predicts better: prefer it unless "
        "there is a reason for the network",
    )
