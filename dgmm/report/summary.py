"""The printed report of a fit: reads like R's, says in words what is not right."""

from __future__ import annotations

import html
import textwrap
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import torch

from dgmm.design import Specification
from dgmm.estimate import Estimate, Patterns, Request, Saem
from dgmm.inference.reported import time_profile
from dgmm.inference.wald import format_p, stars
from dgmm.information import Information
from dgmm.parameters import part

__all__ = ["Summary", "fixed_lines", "number", "random_lines", "summarise"]

WIDTH = 80
PENALISED = "fitted by penalised maximum likelihood"

INPUTS = 24
"""Longest list of inputs of a network that is printed in full."""

STANDS_IN = {
    "acmv": "as all who were seen at that visit (missing at random)",
    "ccmv": "as the completers",
    "ncmv": "as those who left next",
}


class Reportable(Protocol):
    """What the report asks of a fit."""

    @property
    def formula(self) -> str: ...
    @property
    def estimate(self) -> Estimate: ...
    @property
    def request(self) -> Request: ...
    @property
    def info(self) -> Information | None: ...
    @property
    def spec(self) -> Specification: ...
    @property
    def groups(self) -> tuple[str, ...]: ...
    @property
    def messages(self) -> tuple[str, ...]: ...
    def coefficients(self, df: str | None = None) -> pd.DataFrame: ...
    def var_corr(self) -> pd.DataFrame: ...
    def family_parameters(self, level: float = 0.95) -> pd.DataFrame: ...

    def part_coefficients(self) -> dict[str, pd.DataFrame]: ...
    def aic(self) -> float: ...
    def bic(self, n: str = "observations") -> float: ...
    def deviance(self) -> float: ...
    def df(self) -> float: ...
    def df_residual(self) -> float: ...
    def nobs(self) -> int: ...
    def n_groups(self) -> int | dict[str, int]: ...


@dataclass(frozen=True)
class Summary:
    """The report: ``str(summary)`` prints it, the tables are data frames."""

    title: str
    sections: tuple[str, ...]
    coefficients: pd.DataFrame
    random_effects: pd.DataFrame
    family_parameters: pd.DataFrame
    fit_statistics: pd.Series
    networks: pd.DataFrame
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return "\n\n".join([self.title, *self.sections])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        tables = [self.fit_statistics.to_frame().T, self.random_effects, self.coefficients]
        if len(self.family_parameters):
            tables.append(self.family_parameters)
        if len(self.networks):
            tables.append(self.networks)
        body = "\n".join(table.to_html(float_format=lambda x: f"{x:.5g}") for table in tables)
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        text = html.escape(str(self))
        return (
            f"<div><strong>{html.escape(self.title.splitlines()[0])}</strong>\n{body}\n"
            f"<ul>{notes}</ul><details><summary>as text</summary><pre>{text}</pre></details></div>"
        )


def summarise(fit: Reportable, df: str | None = None) -> Summary:
    """Collect the tables and lay them out; ``df`` is that of the coefficients."""
    coefficients, random = fit.coefficients(df), fit.var_corr()
    statistics = fit_statistics(fit)
    networks, own = network_table(fit), fit.family_parameters()
    sections = [
        _statistics_text(fit, statistics),
        _random_text(fit, random),
        _fixed_text(fit, coefficients),
    ]
    if len(own):
        sections.append(_family_text(own))
    sections += [_part_text(fit, *pair) for pair in fit.part_coefficients().items()]
    if not fit.estimate.model.linear:
        sections.append(_network_text(fit, networks))
    if fit.estimate.encoder is not None:
        sections.append(_encoder_text(fit))
    if fit.estimate.saem is not None:
        sections.append(_saem_text(fit, fit.estimate.saem, coefficients["Std. Error"].to_numpy()))
    if fit.estimate.patterns is not None:
        sections.append(_pattern_text(fit.estimate.patterns, len(fit.estimate.observed.ids)))
    if fit.messages:
        sections.append("Notes:\n" + "\n".join(_wrap(f"* {m}", "  ") for m in fit.messages))
    return Summary(
        _title(fit), tuple(sections), coefficients, random, own, statistics, networks, fit.messages
    )


# -- header --------------------------------------------------------------------------------------


def _title(fit: Reportable) -> str:
    done, model = fit.estimate, fit.estimate.model
    identity = model.family.conjugate
    kind = "Linear mixed model" if identity else "Generalized linear mixed model"
    if not model.linear:
        kind = "Deep mixed model" if identity else "Deep generalized mixed model"
    how = {
        "ml": "fitted by maximum likelihood" if model.linear else PENALISED,
        "reml": "fitted by restricted maximum likelihood (REML)",
        "vae": _variational(fit),
    }[done.method]
    likelihood = done.likelihood.describe()
    lines = [
        f"{kind} {how}",
        f" Family: {model.family.name} ({model.family.link.name})",
        _wrap(f"Formula: {fit.formula}", "         "),
        _wrap(f"Marginal likelihood: {likelihood}", "   "),
    ]
    return "\n".join(lines)


def _variational(fit: Reportable) -> str:
    by_newton = fit.request.control.q == "newton" and not fit.estimate.model.linear
    how = "a variational bound, q by Newton steps" if by_newton else "variational auto-encoder"
    if fit.estimate.saem is not None:
        how = "stochastic approximation EM (SAEM)"
    polished = "polished on the marginal likelihood"
    return f"fitted by {how},\n {polished if fit.request.control.polish else 'not polished'}"


def fit_statistics(fit: Reportable) -> pd.Series:
    """AIC, BIC, logLik with its error, deviance, df.resid."""
    done = fit.estimate
    name = "logLik" if done.method != "reml" else "REML logLik"
    values = {
        "AIC": fit.aic(),
        "BIC": fit.bic(),
        name: done.log_likelihood,
        "deviance": fit.deviance(),
        "df": fit.df(),
        "df.resid": fit.df_residual(),
    }
    return pd.Series(values, name="")


def _statistics_text(fit: Reportable, statistics: pd.Series) -> str:
    done = fit.estimate
    shown = [f"{v:.1f}" if name not in ("df",) else f"{v:.4g}" for name, v in statistics.items()]
    lines = [*_columns([list(statistics.index), shown])]
    lines.append(f"BIC with n = {fit.nobs()} observations")
    if done.likelihood.sampled:
        lines.append(f"logLik by Monte Carlo: standard error {done.mc_error:.2g}")
    if done.likelihood.word == "quadrature":
        change = f"by {done.mc_error:.1g}" if done.mc_error > 1e-6 else "by less than 1e-6"
        lines.append(f"logLik changes {change} between the last two rules")
    if not done.model.linear:
        lines.append("AIC and BIC: effective degrees of freedom, conditional on the ridge")
    return "\n".join(lines)


# -- random part ---------------------------------------------------------------------------------


def random_lines(table: pd.DataFrame) -> list[str]:
    """The variance component table as lme4 prints it."""
    rows = [["Groups", "Name", "Variance", "Std.Dev.", "Corr"]]
    columns = ["group", "kind", "name1", "name2", "sdcor", "vcov"]
    records = [*table[columns].itertuples(index=False, name=None)]
    last = None
    for group, kind, name, _, sd, variance in records:
        if kind != "sd":
            continue
        values = [v for g, _, _, below, v, _ in records if (g, below) == (group, name)]
        correlations = " ".join("  NaN" if np.isnan(v) else f"{v:5.2f}" for v in values)
        for g, word, own, _, value, _ in records:  # what else a term reports of an effect
            if word not in ("sd", "cor") and (g, own) == (group, name):
                correlations = f"{word} {number(value)}"
        shown = group if group != last else ""
        last = group
        rows.append([shown, name, number(variance), number(sd), correlations])
    return [" " + line for line in _columns(rows, left=(0, 1, 4))]


def _random_text(fit: Reportable, table: pd.DataFrame) -> str:
    done, lines = fit.estimate, ["Random effects:"]
    if len(table):
        lines += random_lines(table)
    for i, latent in enumerate(done.model.latents):
        if latent.neural:
            lines += _profile_lines(fit, i)
    missing = done.panel.n_rows - fit.nobs()
    planned = f", {missing} planned with a missing outcome" if missing else ""
    sizes = fit.n_groups()
    sizes = sizes if isinstance(sizes, dict) else {fit.groups[0]: sizes}
    groups = "; ".join(f"{name}, {size}" for name, size in sizes.items())
    lines.append(_wrap(f"Number of obs: {fit.nobs()}{planned}; groups: {groups}", "   "))
    return "\n".join(lines)


def _profile_lines(fit: Reportable, i: int) -> list[str]:
    latent, profile = fit.estimate.model.latents[i], time_profile(fit.estimate, i)
    times = [f"{t:.3g}" for t in profile.times]
    rows = [[fit.spec.time_name or "row", "Std.Dev. of mu2(b, t)", "Corr"]]
    for j, (time, sd) in enumerate(zip(times, profile.sd, strict=True)):
        below = (profile.correlation[j, m] for m in range(j))
        correlations = " ".join("   NA" if np.isnan(value) else f"{value:5.2f}" for value in below)
        rows.append([time, number(sd), correlations])
    head = (
        f" {fit.groups[i]}: neural random effects of dimension {latent.dim}, b ~ N(0, I); implied "
        "at the first, middle and last time:"
    )
    return [_wrap(head, " "), *[" " + line for line in _columns(rows, left=(0, 2))]]


# -- fixed part ----------------------------------------------------------------------------------


def fixed_lines(table: pd.DataFrame, prefix: str = "") -> list[str]:
    """Coefficients with z (or df and t) and p as R prints them."""
    with_df = "df" in table
    ratio, tail = ("t value", "Pr(>|t|)") if with_df else ("z value", "Pr(>|z|)")
    rows = [["", "Estimate", "Std. Error", *(["df"] * with_df), ratio, tail, ""]]
    estimates = _decimals(table["Estimate"], table["Std. Error"])
    errors = _decimals(table["Std. Error"], table["Std. Error"])
    degrees = [[f"{df:.2f}"] for df in table["df"]] if with_df else [[] for _ in estimates]
    columns = (table.index, estimates, errors, degrees, table[ratio], table[tail])
    for name, estimate, error, df, value, p in zip(*columns, strict=True):
        z = f"{value:.2f}" if np.isfinite(value) else "NA"
        rows.append([f"{prefix}{name}", estimate, error, *df, z, format_p(p), stars(p)])
    return _columns(rows, left=(0, len(rows[0]) - 1))


def _fixed_text(fit: Reportable, table: pd.DataFrame) -> str:
    lines = ["Fixed effects:", *fixed_lines(table), "---"]
    lines.append("Signif. codes:  0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1")
    gls = "GLS form, (sum X'V^-1 X)^-1 at the estimated variances"
    if "df" in table:
        form = f"{gls}; degrees of freedom by Satterthwaite's approximation"
    elif fit.info is not None:
        form = fit.info.form
    elif fit.estimate.method != "reml":
        form = "not asked for (se=None)"
    else:
        form = gls
    lines.append(_wrap(f"Standard errors: {form}", "   "))
    if fit.estimate.model.networks:
        note = "Each fixed dnn() has mean zero over the sample: (Intercept) is at its average"
        lines.append(_wrap(note, "   "))
    return "\n".join(lines)


def _family_text(table: pd.DataFrame) -> str:
    rows = [["", "Estimate", "Std. Error", "2.5 %", "97.5 %"]]
    for name, row in table.iterrows():
        rows.append([str(name), *(number(float(value)) for value in row)])
    return "\n".join(["Family parameters:", *_columns(rows, left=(0,))])


def _part_text(fit: Reportable, name: str, table: pd.DataFrame) -> str:
    model = fit.estimate.model
    parameter = next(model.family.extra[one.position] for one in model.parts if one.name == name)
    scale, word = parameter.split("_", 1)
    title = "Zero part" if name == "zi" else "Dispersion"
    return "\n".join([f"{title} ({scale} {word}):", *fixed_lines(table)])


# -- networks and encoder ------------------------------------------------------------------------


def network_table(fit: Reportable) -> pd.DataFrame:
    """One row per network: where it stands, its inputs and size, penalty and effective df."""
    model, rows = fit.estimate.model, []
    effective = fit.info.effective if fit.info is not None else {}
    for i, net in enumerate(model.networks, 1):
        size, layers = _count(net.shapes()), "-".join(str(s) for s in net.network.sizes)
        inputs = ", ".join(net.names)
        edf = effective.get(f"dnn{i}")
        rows.append((net.label, "fixed", inputs, layers, size, edf, net.ridge))
    for i, latent in enumerate(model.latents, 1):
        if not latent.neural:
            continue
        size, ridge = _count(latent.shapes()), model.latent_ridge[i - 1]
        edf = effective.get(f"latent{i}")
        rows.append((latent.label, "random", "b", latent.layers(), size, edf, ridge))
    columns = ["term", "part", "inputs", "layers", "weights", "edf", "ridge"]
    return pd.DataFrame(rows, columns=columns)


def _count(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(int(np.prod(shape)) for shape in shapes.values())


def _chosen(fit: Reportable) -> str:
    """How penalties were chosen that the user left open, in words."""
    open_ridge, ways = fit.estimate.model.open_ridge, []
    if any(name.startswith("dnn") for name in open_ridge):
        ways.append("by evidence")
    if any(name.startswith("latent") for name in open_ridge) and fit.estimate.held_out is not None:
        ways.append("on the held-out subjects")
    return f", chosen {' and '.join(ways)}," if ways else ""


def _network_text(fit: Reportable, table: pd.DataFrame) -> str:
    rows = [list(table.columns)]
    for row in table.itertuples(index=False):
        edf = "NA" if row.edf is None or not np.isfinite(row.edf) else f"{row.edf:.1f}"
        inputs = textwrap.shorten(row.inputs, INPUTS, placeholder=" ...")
        size = str(row.weights)
        rows.append([row.term, row.part, inputs, row.layers, size, edf, f"{row.ridge:.3g}"])
    lines = ["Networks (no tests of weights; read effects(), slopes() and predictions):"]
    lines += [" " + line for line in _columns(rows, left=(0, 1, 2, 3))]
    note = f"edf are effective degrees of freedom; they take the ridge{_chosen(fit)} as known"
    lines.append(_wrap(note, "   "))
    for i, latent in enumerate(fit.estimate.model.latents, 1):
        remark = latent.remark(part(fit.estimate.theta, f"latent{i}."))
        lines += [_wrap(remark, "   ")] if remark else []
    held = fit.estimate.held_out
    if held is not None:
        verdict = "better" if held.difference > 0 else "not better"
        if abs(held.difference) < 2 * held.standard_error:
            verdict = "not clearly different"
        lines.append(
            _wrap(
                f"Held out ({held.subjects} subjects): log score per subject "
                f"{held.difference:+.3f} (s.e. {held.standard_error:.3f}) against "
                f"the nested classical model: {verdict}.",
                "   ",
            )
        )
    below = fit.estimate.nested
    if below is not None:
        lines.append(
            f"Nested classical model: log-likelihood {below.log_likelihood:.2f} (all subjects)"
        )
    done = fit.estimate
    if len(done.start_spread) > 1:
        reached = ", ".join(f"{value:.2f}" for value in done.start_spread)
        what = "Penalised log-likelihood" if done.encoder is not None else "Log evidence"
        lines.append(f"{what} reached from each start: {reached}")
        if done.encoder is not None:
            text = (
                f"Estimates are those of the best start; predictions and log scores average over "
                f"{len(done.points)} of {len(done.start_spread)} starts."
            )
            lines.append(_wrap(text, "   "))
        apart = ", ".join(f"{value:.3f}" for value in done.start_distance)
        residual = done.model.one_number("log_sigma") is not None
        unit = "residual standard deviations" if residual else "units of the linear predictor"
        if apart:
            text = f"RMS distance of mu1 from that of the start kept, in {unit}: {apart}"
            lines.append(_wrap(text, "   "))
    if done.encoder is None:
        lines.append(f"Newton decrement {done.decrement:.2g} SE; seed {fit.request.seed}")
    return "\n".join(lines)


def _encoder_text(fit: Reportable) -> str:
    done = fit.estimate
    encoder, trace = done.encoder, done.trace
    assert encoder is not None
    assert trace is not None
    assert done.elbo is not None
    size = _count(encoder.shapes())
    newton = fit.request.control.refine
    kept = f", the iterate after {trace.kept} kept" if trace.kept else ""
    gap = max(0.0, done.log_likelihood - done.elbo) / done.panel.n
    lines = [
        f"Encoder q(b | y): {encoder.name}, {encoder.covariance} covariance, {size} weights"
        + (f", refined by {newton} Newton steps" if newton else ""),
        f"ELBO {done.elbo:.2f} (s.e. {done.elbo_error:.2g}), a bound: {gap:.3f} nats per subject "
        "below logLik",
        f"{trace.epochs} epochs{kept}; Newton decrement of the polished parameters "
        f"{done.decrement:.2g} SE; seed {fit.request.seed}",
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
        lines.append(_wrap(text, "   "))
    return "\n".join(lines)


# -- missing outcomes ----------------------------------------------------------------------------


def _saem_text(fit: Reportable, path: Saem, se: np.ndarray) -> str:
    """How the stochastic approximation went: acceptance, error, coefficients on the way."""
    total, burn = len(path.trace), path.burn
    at = (1, burn, (burn + total) // 2, total)
    shown = torch.cat([path.trace[[j - 1 for j in at]], path.trace[burn:].mean(0)[None]])
    rows = [["iteration", *map(str, at), "average"]]
    for name, values in zip(path.names, shown.T.tolist(), strict=True):
        rows.append([name, *map(number, values)])
    jumps, walks = path.acceptance
    lines = [
        f"SAEM: {total} iterations, the last {total - burn} averaged; {path.chains} chains per "
        "subject",
        f"Acceptance: proposals of the encoder {jumps:.2f}, random walk {walks:.2f}",
        *(" " + line for line in _columns(rows, left=(0,))),
    ]
    worst = float(np.nanmax(path.mc_error.numpy() / se)) if np.isfinite(se).any() else np.nan
    if np.isfinite(worst):
        lines.append(f"Monte Carlo error of the averages: at most {worst:.2g} standard errors")
    return "\n".join(lines)


def _pattern_text(patterns: Patterns, n: int) -> str:
    """Sizes, shares and parameters per pattern, and what stands in after dropout."""
    rows, before = [["last visit seen", "subjects", "share", "parameters", "logLik"]], 0
    for longest, head in zip(patterns.longest, patterns.heads, strict=True):
        visits = str(longest + 1) if longest == before else f"{before + 1}-{longest + 1}"
        size = len(head.subjects)
        logs = f"{head.log_likelihood:.1f}"
        rows.append([visits, str(size), f"{size / n:.3f}", str(patterns.parameters), logs])
        before = longest + 1
    lines = ["Dropout, a head per pattern (above: the fit of all subjects):"]
    lines += [" " + line for line in _columns(rows, left=(0,))]
    total = patterns.parameters * len(patterns.heads)
    lines.append(f"Parameters of all heads: {total}, and {len(patterns.heads) - 1} shares")
    lines.append(
        _wrap(f"After dropout: {patterns.restriction}, {STANDS_IN[patterns.restriction]}", "   ")
    )
    if patterns.delta:
        lines.append(f"Linear predictor after dropout moved by delta = {patterns.delta:g}")
    return "\n".join(lines)


# -- layout --------------------------------------------------------------------------------------


def number(value: float, digits: int = 4) -> str:
    """Four significant digits, fixed notation where it reads well."""
    if not np.isfinite(value):
        return "NA"
    if abs(value) < 1e-10:  # a variance at its boundary
        return "0"
    if 1e-4 <= abs(value) < 1e6:
        magnitude = int(np.floor(np.log10(abs(value))))
        return f"{value:.{max(0, digits - 1 - magnitude)}f}"
    return f"{value:.{digits - 1}e}"


def _decimals(values: pd.Series, errors: pd.Series) -> list[str]:
    """Common decimals, so that the smallest standard error shows four significant digits."""
    known = errors[np.isfinite(errors) & (errors > 0)]
    smallest = float(known.min()) if len(known) else 1.0
    places = int(np.clip(3 - np.floor(np.log10(smallest)), 0, 7))
    return [f"{value:.{places}f}" if np.isfinite(value) else "NA" for value in values]


def _columns(rows: list[list[str]], left: tuple[int, ...] = ()) -> list[str]:
    widths = [max(len(row[j]) for row in rows) for j in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if j in left else cell.rjust(width)
            for j, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(" ".join(cells).rstrip())
    return lines


def _wrap(text: str, indent: str) -> str:
    return textwrap.fill(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
