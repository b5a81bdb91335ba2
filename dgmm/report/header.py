"""The head of a report: the model in words, the criteria of its fit."""

from __future__ import annotations

from dgmm.estimate import Course, Estimate
from dgmm.families import Family
from dgmm.inference.criteria import nobs
from dgmm.panel import Panel
from dgmm.plan import Call
from dgmm.record import Fitted
from dgmm.report.layout import columns, wrap
from dgmm.report.tables import Tables, fit_statistics

__all__ = [
    "arguments",
    "bounds_of",
    "error_lines",
    "kind_of",
    "method_of",
    "model_lines",
    "sampling_of",
    "statistics",
    "title",
]

PENALISED = "fitted by penalised maximum likelihood"


def title(fit: Fitted, tables: Tables) -> str:
    """The model in words, and which likelihood is maximised."""
    likelihood = f"Marginal likelihood: {fit.estimate.likelihood.describe()}"
    return "\n".join([*model_lines(fit), wrap(likelihood, "   ")])


def model_lines(fit: Fitted) -> list[str]:
    """The model in words: its kind, family and formula, and what is given beside the formula."""
    family = fit.estimate.model.family
    return [
        f"{kind_of(fit)} {method_of(fit)}",
        f" Family: {family.name} ({family.link.name})" + _noiseless(fit),
        wrap(f"Formula: {fit.formula}", "         "),
        *arguments(fit.call, family, fit.estimate.panel),
    ]


def arguments(call: Call, family: Family, panel: Panel) -> list[str]:
    """What changes the model and is not in its formula; the outcomes at the ends of their range."""
    given, bounds = [], family.options().get("bounds")
    for name in ("weights", "offset"):
        value = getattr(call, name)
        if value is not None:
            given.append(f"{name} = {value if isinstance(value, str) else 'one value per row'}")
    if bounds is not None:
        ends = ("none" if end is None else f"{end:g}" for end in bounds)
        given.append(f"bounds = ({', '.join(ends)})")
    lines = [wrap(f"   With: {', '.join(given)}", "         ")] if given else []
    values = family.atoms or ((0.0,) if family.zi is not None else ())
    if values:
        y = family.response(panel.rows.data)[panel.observed]
        word = "censored at" if family.censors else "at"
        counts = (f"{int((y == value).sum())} {word} {value:g}" for value in values)
        lines.append(f"   Outcomes: {', '.join(counts)}, of {len(y)}")
    return lines


def kind_of(fit: Fitted) -> str:
    """Linear mixed model, and its relatives."""
    model, identity = fit.estimate.model, fit.estimate.model.family.conjugate
    if model.linear:
        return "Linear mixed model" if identity else "Generalized linear mixed model"
    return "Deep mixed model" if identity else "Deep generalized mixed model"


def method_of(fit: Fitted) -> str:
    """How it was fitted."""
    if fit.estimate.likelihood.bound:
        return "fitted by maximising the ELBO, a lower bound"
    return {
        "ml": "fitted by maximum likelihood" if fit.estimate.model.linear else PENALISED,
        "reml": "fitted by restricted maximum likelihood (REML)",
        "vae": _variational(fit, "variational auto-encoder"),
        "vb": _variational(fit, "a variational bound, q by Newton steps"),
        "gibbs": f"fitted by {sampling_of(fit)}",
    }[fit.estimate.method]


def _bounds(fit: Fitted, course: Course) -> list[str]:
    done = fit.estimate
    errors = (done.elbo_error, done.mc_error, course.particles_error)
    return [
        "Lower bounds of the log-likelihood; Monte Carlo s.e. "
        + ", ".join(f"{one:.2g}" for one in errors),
        f"per step of {course.steps}: "
        + ", ".join(
            f"{value / max(course.steps, 1):.4f}"
            for value in (done.elbo or 0.0, done.log_likelihood, course.particles)
        ),
    ]


def bounds_of(fit: Fitted) -> str:
    """The bounds of the log-likelihood of a recursion."""
    course, values = fit.estimate.course, fit_statistics(fit)
    assert course is not None
    lines = columns([list(values.index), [f"{value:.1f}" for value in values]])
    return "\n".join([*lines, *_bounds(fit, course)])


def sampling_of(fit: Fitted) -> str:
    """How a posterior was sampled."""
    exact = fit.estimate.model.family.conjugate
    return "Gibbs sampling" if exact else "Metropolis-within-Gibbs sampling"


def _noiseless(fit: Fitted) -> str:
    return "" if fit.estimate.model.family.noise else ", no noise: outcomes lie on the path"


def _variational(fit: Fitted, how: str) -> str:
    if fit.estimate.saem is not None:
        how = "stochastic approximation EM (SAEM)"
    polished = "polished on the marginal likelihood"
    return f"fitted by {how},\n {polished if fit.call.control.polish else 'not polished'}"


def statistics(fit: Fitted, tables: Tables) -> str:
    """AIC, BIC, log-likelihood, and how exact the last of them is."""
    done, values = fit.estimate, tables.told
    if done.course is not None:
        return bounds_of(fit)
    shown = [f"{v:.1f}" if name not in ("df",) else f"{v:.4g}" for name, v in values.items()]
    lines = [*columns([list(values), shown])]
    lines.append(f"BIC with n = {nobs(fit)} observations")
    lines += error_lines(done)
    if not done.model.linear:
        lines.append("AIC and BIC: effective degrees of freedom, conditional on the ridge")
    return "\n".join(lines)


def error_lines(done: Estimate) -> list[str]:
    """The numerical error of the log-likelihood in words; none where it is exact."""
    lines = []
    if done.likelihood.sampled:
        lines.append(f"logLik by Monte Carlo: standard error {done.mc_error:.2g}")
    if done.likelihood.grows:
        change = f"by {done.mc_error:.1g}" if done.mc_error > 1e-6 else "by less than 1e-6"
        lines.append(f"logLik changes {change} between the last two rules")
    return lines
