"""The networks of a report, and the encoder."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd

from dgmm.encoders import Encoder, Mixed
from dgmm.estimate import Estimate
from dgmm.estimate.folds import enough
from dgmm.inference.fixed_effects import std_errors
from dgmm.parameters import part
from dgmm.record import Fitted
from dgmm.report.layout import columns, count, wrap
from dgmm.report.tables import Tables
from dgmm.variational.collapse import ACTIVE

__all__ = [
    "against_nested",
    "encoder_part",
    "network_lines",
    "network_part",
    "remarks",
    "used_directions",
]

INPUTS = 24
"""Longest list of inputs of a network that is printed in full."""


def network_part(fit: Fitted, tables: Tables) -> str | None:
    """Networks, their sizes and penalties, the comparison with the nested model, the starts."""
    return None if fit.estimate.model.linear else network_lines(fit, tables.networks)


def network_lines(fit: Fitted, table: pd.DataFrame) -> str:
    """The section of :func:`network_part` from the table of networks."""
    rows = [list(table.columns)]
    for row in table.itertuples(index=False):
        edf = "NA" if row.edf is None or not np.isfinite(row.edf) else f"{row.edf:.1f}"
        inputs = textwrap.shorten(row.inputs, INPUTS, placeholder=" ...")
        size = str(row.weights)
        rows.append([row.term, row.part, inputs, row.layers, size, edf, f"{row.ridge:.3g}"])
    lines = ["Networks (no tests of weights; read effects(), slopes() and predictions):"]
    lines += [" " + line for line in columns(rows, left=(0, 1, 2, 3))]
    note = f"edf are effective degrees of freedom; they take the ridge{_chosen(fit)} as known"
    lines.append(wrap(note, "   "))
    lines += remarks(fit)
    if not fit.estimate.likelihood.bound:
        lines += [*against_nested(fit.estimate), *_starts(fit), *_maximum(fit)]
    return "\n".join(lines)


def remarks(fit: Fitted) -> list[str]:
    """What the networks left of a bar say of themselves."""
    latents = fit.estimate.model.latents
    said = (one.remark(part(fit.estimate.theta, f"latent{i}.")) for i, one in enumerate(latents, 1))
    return [wrap(remark, "   ") for remark in said if remark]


def against_nested(done: Estimate) -> list[str]:
    """How the network does beside the classical model, in all and on subjects held out."""
    return [*_form(done), *_held_out(done), *_nested(done)]


def used_directions(done: Estimate) -> list[str]:
    """Latent variables of a recursion that q makes use of; nothing of other models."""
    if done.course is None:
        return []
    active = int((done.course.active > ACTIVE).sum())
    return [f"Active latent variables: {active} of {len(done.course.active)}"]


def _maximum(fit: Fitted) -> list[str]:
    """How near theta-hat is to a maximum, and how much that owes to the draws."""
    done = fit.estimate
    lines = [f"Newton decrement {done.decrement:.2g} SE; seed {fit.call.seed}"]
    if done.node_error is not None:
        error = done.node_error
        most, mean = float(error.abs().max()), float(error.square().mean().sqrt())
        text = (
            f"Monte Carlo error of the linear coefficients: {mean:.2f} SE, {most:.2f} at most "
            "(other draws would move them by so much; control polish_draws)"
        )
        lines.append(wrap(text, "   "))
    return lines


def _chosen(fit: Fitted) -> str:
    """How penalties were chosen that the user left open, in words."""
    open_ridge, ways = fit.estimate.model.open_ridge, []
    if any(not name.startswith("latent") for name in open_ridge):
        ways.append("by evidence")
    if any(name.startswith("latent") for name in open_ridge) and enough(fit.estimate.panel):
        ways.append("on subjects held out")
    return f", chosen {' and '.join(ways)}," if ways else ""


def _form(done: Estimate) -> list[str]:
    chosen = done.form_choice
    if chosen is None:
        return []
    text = (
        f"The formula left the form open: {chosen.taken} was taken, {chosen.left} tried; held out "
        f"in {chosen.folds} folds ({chosen.subjects} subjects), log score per subject "
        f"{chosen.difference:+.3f} (s.e. {chosen.standard_error:.3f}) against it."
    )
    return [wrap(text, "   ")]


def _held_out(done: Estimate) -> list[str]:
    held = done.held_out
    if held is None:
        return []
    verdict = "worse" if held.difference < 0 else "better"
    if held.alike:
        verdict = "the two predict alike"
    elif abs(held.difference) < held.visible:
        verdict = (
            f"inconclusive: differences below {held.visible:.2g} nats per subject cannot be seen "
            f"with {held.subjects} subjects"
        )
    text = (
        f"Held out in {held.folds} folds ({held.subjects} subjects): log score per subject "
        f"{held.difference:+.3f} (s.e. {held.standard_error:.3f}) against "
        f"the nested classical model: {verdict}."
    )
    return [wrap(text, "   ")]


def _nested(done: Estimate) -> list[str]:
    below = done.nested
    if below is None:
        return []
    return [f"Nested classical model: log-likelihood {below.log_likelihood:.2f} (all subjects)"]


def _starts(fit: Fitted) -> list[str]:
    done = fit.estimate
    if len(done.start_spread) < 2:
        return []
    reached = ", ".join(f"{value:.2f}" for value in done.start_spread)
    what = "Penalised log-likelihood" if done.encoder is not None else "Log evidence"
    lines = [f"{what} reached from each start: {reached}"]
    if done.start_log_likelihood:
        values = ", ".join(f"{value:.2f}" for value in done.start_log_likelihood)
        lines.append(f"Log-likelihood of each start: {values}")
    if done.encoder is not None:
        text = (
            f"Estimates are those of the best start; predictions and log scores average over "
            f"{len(done.points)} of {len(done.start_spread)} starts."
        )
        lines.append(wrap(text, "   "))
    apart = ", ".join(f"{value:.3f}" for value in done.start_distance)
    residual = done.model.outcome.one_number("log_sigma") is not None
    unit = "residual standard deviations" if residual else "units of the linear predictor"
    lines += _coefficients_apart(fit)
    if apart:
        text = f"RMS distance of mu1 from that of the start kept, in {unit}: {apart}"
        lines.append(wrap(text, "   "))
    return lines


def _coefficients_apart(fit: Fitted) -> list[str]:
    """How far the starts are apart in the linear coefficients, in standard errors."""
    table = fit.estimate.start_coefficients
    if table is None or fit.information is None or len(table) < 2:
        return []
    errors = std_errors(fit).to_numpy()
    own = fit.estimate.model.beta(fit.estimate.theta).detach()
    away = np.nanmax(np.abs((table[:, : len(own)] - own).numpy()) / errors[: len(own)], axis=1)
    shown = ", ".join(f"{value:.2f}" for value in away)
    text = f"Largest distance of a linear coefficient from that of the start kept, in SE: {shown}"
    return [wrap(text, "   ")]


def _taught(done: Estimate) -> list[str]:
    """How far the encoder is from p(b | y) of subjects that it has not learnt from."""
    lesson = done.lesson
    if lesson is None:
        return []
    text = (
        f"The encoder was taught on subjects simulated at the estimates; of {lesson.subjects} "
        f"others, seen in part, it is {lesson.gap:.3f} (s.e. {lesson.error:.2g}) nats per subject "
        "off p(b | y)"
    )
    return [wrap(text, "   ")]


def encoder_part(fit: Fitted, tables: Tables) -> str | None:
    """The encoder: its size, its bound, and the latent directions that it uses."""
    done = fit.estimate
    encoder, trace = done.encoder, done.trace
    if not isinstance(encoder, Encoder | Mixed):
        return None
    assert trace is not None
    assert done.elbo is not None
    size = count(encoder.shapes())
    newton = fit.call.control.refine
    kept = f", the iterate after {trace.kept} kept" if trace.kept else ""
    gap = max(0.0, done.log_likelihood - done.elbo) / done.panel.n
    if isinstance(encoder, Mixed):
        text = (
            f"Encoder q(b | y): {encoder.base.name}, {encoder.steps} Newton steps, "
            f"{encoder.components} normal components, {size} weights"
        )
    else:
        text = f"Encoder q(b | y): {encoder.name}, {encoder.covariance} covariance, {size} weights"
        text += f", refined by {newton} Newton steps" if newton else ""
    lines = [
        text,
        *_taught(done),
        f"ELBO {done.elbo:.2f} (s.e. {done.elbo_error:.2g}), a bound: {gap:.3f} nats per subject "
        "below logLik",
        *([f"{trace.epochs} epochs{kept}"] if trace.epochs else []),
    ]
    if done.kl_by_direction is not None:
        parts = " ".join(f"{value:.2f}" for value in done.kl_by_direction)
        lines.append(f"KL of q against the prior per latent direction: {parts}")
    if done.activity is not None:
        own, exact = (
            " ".join(f"{value:.2f}" for value in values)
            for values in (done.activity.encoder, done.activity.posterior)
        )
        text = f"Variance of posterior means by direction: under q {own}; under p(b | y) {exact}"
        lines.append(wrap(text, "   "))
    return "\n".join(lines)
