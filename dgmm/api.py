"""Entry points: mixed_model() and load(). Options are checked here, once."""

from __future__ import annotations

import pkgutil
import warnings
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dgmm import latent as latent_folder
from dgmm import storage
from dgmm.design import Design, Grouping, build_design
from dgmm.encoders import find as find_encoder
from dgmm.estimate import Control, Estimate, Request, estimate
from dgmm.estimate.again import refit_estimate
from dgmm.families import Family, OutcomeError
from dgmm.families import find as find_family
from dgmm.fit import Fit, row_labels
from dgmm.formula import (
    Formula,
    grouped_formula,
    nested_formula,
    parse_formula,
    update_formula,
    with_part,
)
from dgmm.inference.subject_fits import SubjectFits, subject_fits
from dgmm.information import Information, find_boundary, information
from dgmm.panel import Panel
from dgmm.registry import suggestion
from dgmm.separation import find_separation
from dgmm.versions import versions

__all__ = ["lm_list", "load", "mixed_model"]

METHODS = ("auto", "ml", "reml", "vae")
LIKELIHOODS = ("auto", "exact", "laplace", "quadrature", "importance")
STANDARD_ERRORS = ("hessian", "sandwich", None)
MOST_QUADRATURE = 3
SUSPICIOUS = 5.0
"""Standard deviations of a column times its coefficient, on the scale of a logit or log link."""


def mixed_model(
    formula: str,
    data: Any,
    *,
    family: str | Family = "gaussian",
    link: str | None = None,
    method: str = "auto",
    likelihood: str = "auto",
    encoder: str = "sites",
    missing: str = "observed",
    se: str | None = "hessian",
    bounds: tuple[float | None, float | None] | None = None,
    zi: str | None = None,
    dispersion: str | None = None,
    weights: Any = None,
    offset: Any = None,
    missing_covariates: str = "drop",
    starts: int = 1,
    seed: int = 0,
    device: str = "auto",
    verbose: int = 1,
    control: Control | dict[str, Any] | None = None,
) -> Fit:
    """Fit a classical or deep generalized mixed model.

        b_i ~ N(0, I),   y_ij | b_i ~ F(g^-1{offset + mu1(x_ij) + mu2(b_i, t_ij)}, sigma)

    Args:
        formula: ``y ~ x + dnn(age, sex) + (dnn(ns(time, 4)) | id)``; linear terms, splines,
            ``dnn()`` networks. Groups may be nested (``(1 | a/b)``) or crossed
            (``(1 | a) + (1 | b)``) when every term is linear. Two-column outcomes:
            ``cbind(success, failure)`` or ``success / trials``.
        data: a data frame (pandas, polars, pyarrow, ...), one row per measurement. Rows with a
            missing outcome are kept (valid under MAR).
        family: "gaussian", "bernoulli", "binomial", "poisson" or a Family of your own.
        link: one of the family's links; its first one by default.
        method: "ml", "reml", "vae" (variational auto-encoder, then polished on the marginal
            likelihood); "auto" is ML without networks, VAE with them.
        likelihood: "exact" (Gaussian, linear random effects), "quadrature" (at most three random
            effects; the rule grows until the log-likelihood moves less than 0.01), "importance"
            (any), "laplace" (any, without networks: an approximation, fast); "auto" takes the
            first of the first three that applies. With several grouping factors "exact", or
            "laplace" for other outcomes.
        encoder: "sites", "dense" or "recurrent".
        missing: "observed": outcomes that were not seen contribute nothing.
        se: "hessian", "sandwich" (cluster-robust; no networks, one grouping factor) or
            None.
        bounds: (lower, upper) of an outcome on an interval (families "beta", "ordered_beta"), or
            the limits of censoring ("censored_gaussian", where None is no limit).
        zi: a formula for the probability of a structural zero, on the logit scale, such as
            ``"~ z + (1 | id)"``; makes a count family zero-inflated, and models the zeros of a
            hurdle family.
        dispersion: a formula such as ``"~ x"`` for the dispersion parameter of the family on its
            log scale (log sigma of a Gaussian outcome).
        weights: prior weights, a column name or one value per row.
        offset: added to the linear predictor, a column name or one value per row.
        missing_covariates: "drop" rows with a missing covariate, with one counted warning, or
            raise an "error".
        starts: number of starts of the deep fit, the best is kept and the spread reported.
        seed: of every random number used.
        device: "auto" or "cpu".
        verbose: 0 silent, 1 a progress line on a terminal, 2 everywhere.
        control: rare options, a :class:`dgmm.Control` or a dict of its fields.

    Returns:
        A :class:`dgmm.Fit`; start with ``print(fit.summary())``.

    Raises:
        FormulaError, ValueError: the formula, a column or an option cannot work; the message says
            which and what would.

    Example:
        >>> import dgmm
        >>> sleep = dgmm.datasets.load("sleepstudy")
        >>> fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep)
        >>> round(float(fit.loglik()), 3)
        -875.97

    References:
        Laird and Ware (1982), Biometrics 38, 963-974; Bates, Maechler, Bolker and Walker (2015),
        J. Statistical Software 67(1); Kingma and Welling (2014), ICLR; Rizopoulos, van Gerwen and
        Willemsen, deep mixed-effects models by variational auto-encoders (slides).
    """
    parsed = parse_formula(formula, latent_words=_latent_words())
    for name, text in (("zi", zi), ("dispersion", dispersion)):
        parsed = parsed if text is None else with_part(parsed, name, text)
    chosen = find_family(family, link, bounds)
    if zi is not None and "logit_zero" not in chosen.extra:
        chosen = find_family("zero_inflated", base=chosen)
    _check_options(method, missing, se, device)
    _whole("starts", starts, 1)
    _whole("seed", seed, 0)
    call = {
        "family": chosen.name,
        "link": chosen.link.name,
        "method": method,
        "likelihood": likelihood,
        "encoder": find_encoder(encoder).name,
        "se": se,
        "bounds": bounds,
        "zi": zi,
        "dispersion": dispersion,
        "weights": weights if isinstance(weights, str) else None,
        "offset": offset if isinstance(offset, str) else None,
        "missing_covariates": missing_covariates,
        "starts": starts,
        "seed": seed,
        "control": asdict(_control(control)),
    }
    columns = {
        "weights": weights,
        "offset": offset,
        "missing_covariates": missing_covariates,
        "intercept": chosen.intercept,
        "ordered": chosen.support == "ordered",
    }
    design, chosen = _read(build_design(parsed, data, **columns), chosen)
    _check_groups(design, chosen)
    nested = _nested(parsed, data, columns, chosen) if _is_deep(parsed) else None
    request = _request(call, design, chosen, verbose)
    if se == "sandwich" and len(_factors(design)) > 1:
        raise ValueError(
            "se='sandwich' needs independent subjects, which several grouping factors do not "
            "leave; use se='hessian'"
        )
    done = _estimate(design, nested, request)
    apart = _separation_messages(design, done)
    info = None
    if se is not None and request.method != "reml":
        info = information(done, se, seed, request.control.hessian_draws)
    return Fit(
        parsed.text,
        design.spec,
        done,
        request,
        info,
        tuple(
            block.grouping.name + (f" ({block.term.target})" if block.term.target else "")
            for block in design.latents
        ),
        row_labels(design.index),
        design.rows,
        call,
        versions(),
        (*design.messages, *done.messages, *apart, *_statistical_messages(done, info)),
        None if nested is None else nested.spec,
        design.fixed.terms,
        fit_again,
        fit_outcome,
    )


def fit_again(fit: Fit, formula: str | None, data: Any, changes: dict[str, Any]) -> Fit:
    """mixed_model() again with some arguments changed: the work of ``fit.update``."""
    text = fit.formula if formula is None else update_formula(fit.formula, formula)
    return mixed_model(text, data, **{**fit.call, **changes})


def fit_outcome(fit: Fit, y: Any, method: str | None = None) -> Fit:
    """The model of a fit for another outcome (None: the same): the work of ``fit.refit``."""
    panel, family = fit.estimate.panel, fit.estimate.model.family
    request = fit.request if method is None else replace(fit.request, method=method)
    new = panel.rows.data.y
    if y is not None:
        values = np.asarray(y, dtype=float)
        if values.shape != (panel.n_rows,):
            raise ValueError(
                f"refit() needs one outcome for each of the {panel.n_rows} rows of the fit, in the "
                f"order of fitted(); it got an array of shape {values.shape}"
            )
        canonical = np.empty(panel.n_rows)
        canonical[np.argsort(fit.rows, kind="stable")] = values
        seen, data = ~np.isnan(canonical), panel.rows.data
        trials, weights = data.trials.numpy()[seen], data.weights.numpy()[seen]
        canonical[seen] = family.read(canonical[seen], trials, weights)[0]
        new = torch.from_numpy(canonical)
    done = refit_estimate(fit.estimate, request, new)
    info = None
    if fit.call["se"] is not None and request.method != "reml":
        draws = request.control.hessian_draws
        info = information(done, fit.call["se"], request.seed, draws)
    messages = (*done.messages, *_statistical_messages(done, info))
    call = {**fit.call, "method": request.method}
    return replace(fit, estimate=done, request=request, info=info, messages=messages, call=call)


def lm_list(
    formula: str,
    data: Any,
    *,
    family: str | Family = "gaussian",
    link: str | None = None,
    weights: Any = None,
    offset: Any = None,
) -> SubjectFits:
    """Fit the same (generalized) linear model to every subject on its own.

        eta_ij = offset_ij + x_ij'beta_i

    Args:
        formula: ``y ~ x | id``, or the formula of a mixed model, whose fixed part is then taken.
        data: a data frame, one row per measurement.
        family: as in :func:`dgmm.mixed_model`.
        link: one of the family's links.
        weights: prior weights, a column name or one value per row.
        offset: added to the linear predictor, likewise.

    Returns:
        A record with ``coefficients`` and ``std_errors`` (a row per subject), ``counts``, and the
        pooled ``sigma``. A subject whose data do not determine its coefficients has missing ones.

    Example:
        >>> import dgmm
        >>> fits = dgmm.lm_list("Reaction ~ Days | Subject", dgmm.datasets.load("sleepstudy"))
        >>> fits.coefficients.loc["308"].round(3).to_list()
        [244.193, 21.765]

    References:
        Pinheiro and Bates (2000), Mixed-Effects Models in S and S-PLUS, section 4.1.
    """
    parsed = parse_formula(grouped_formula(formula), latent_words=_latent_words())
    if _is_deep(parsed):
        raise ValueError("lm_list() is for linear terms; leave out dnn()")
    chosen = find_family(family, link)
    design, chosen = _read(build_design(parsed, data, weights=weights, offset=offset), chosen)
    group = design.latents[0].grouping.name
    return subject_fits(Panel.from_design(design), chosen, list(design.fixed.names), group)


def load(path: str | Path) -> Fit:
    """Read a fit written by ``fit.save``; nothing in the file is executed."""
    fit: Fit = storage.load(Path(path), Fit, fit_again=fit_again, fit_outcome=fit_outcome)
    return fit


# -- checks --------------------------------------------------------------------------------------


def _latent_words() -> tuple[str, ...]:
    return tuple(m.name for m in pkgutil.iter_modules(latent_folder.__path__) if m.name != "base")


def _one_of(name: str, value: Any, known: tuple[Any, ...], later: str = "") -> None:
    if value not in known:
        words = [str(word) for word in known]
        hint = suggestion(str(value), words)
        raise ValueError(f"{name}={value!r} is not available{hint} Use {', '.join(words)}.{later}")


def _whole(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} is a whole number, at least {least}, not {value!r}")


def _check_options(method: str, missing: str, se: str | None, device: str) -> None:
    _one_of("method", method, METHODS)
    _one_of("missing", missing, ("observed",))
    _one_of("se", se, STANDARD_ERRORS)
    _one_of("device", device, ("auto", "cpu"))


def _control(control: Control | dict[str, Any] | None) -> Control:
    if isinstance(control, Control):
        return control
    if control is not None and not isinstance(control, dict):
        raise TypeError(f"control is a dgmm.Control or a dict of its options, not {control!r}")
    known = Control.__dataclass_fields__
    for name in control or {}:
        if name not in known:
            hint = suggestion(name, list(known))
            raise ValueError(f"control has no option {name!r}{hint} It has {', '.join(known)}.")
    return Control(**(control or {}))


def _read(design: Design, family: Family) -> tuple[Design, Family]:
    """The outcome as the family counts it, impossible outcomes refused by their row."""
    seen = design.observed
    if design.formula.response.kind == "cbind" and family.support != "trials":
        raise ValueError(
            f"cbind(success, failure) is an outcome of family='binomial', not {family.name!r}"
        )
    if np.any(design.weights[seen] <= 0):
        raise ValueError("weights must be positive; leave out rows that should not count")
    columns = [design.y, design.trials, design.weights]
    every = bool(seen.all())
    try:
        parts = family.read(*(column if every else column[seen] for column in columns))
        family = family.fitted_to(parts[0])
    except OutcomeError as error:
        label = design.index[np.flatnonzero(seen)[error.row]]
        raise ValueError(f"{error.message} (row {label!r} of the data)") from None
    if every:
        columns = [np.asarray(part, dtype=float) for part in parts]
    else:
        columns = [column.copy() for column in columns]
        for column, part in zip(columns, parts, strict=True):
            column[seen] = part
    y, trials, weights = columns
    return replace(design, y=y, trials=trials, weights=weights), family


def _estimate(design: Design, nested: Design | None, request: Request) -> Estimate:
    try:
        return estimate(design, nested, request)
    except (FloatingPointError, np.linalg.LinAlgError, torch.linalg.LinAlgError) as error:
        y, X = design.y[design.observed], design.fixed
        ranges = ", ".join(
            f"`{name}` {low:.3g} to {high:.3g}"
            for name, low, high in zip(X.names, X.matrix.min(0), X.matrix.max(0), strict=True)
            if name != "(Intercept)"
        )
        raise ValueError(
            f"the likelihood cannot be calculated ({error}). Look for values out of scale: the "
            f"outcome `{design.formula.response.text}` runs from {y.min():.3g} to {y.max():.3g}"
            + (f"; {ranges}" if ranges else "")
        ) from error


def _separation_messages(design: Design, done: Estimate) -> tuple[str, ...]:
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


def _factors(design: Design) -> list[str]:
    """The grouping factors, each once."""
    return list(dict.fromkeys(block.grouping.name for block in design.latents))


def _check_groups(design: Design, family: Family) -> None:
    names = _factors(design)
    if not names:
        raise ValueError(
            f"{design.formula.text!r} has no random part; add one, for example (1 | id). For "
            "independent rows use a regression package such as statsmodels."
        )
    if len(names) > 1:
        _check_several(design, names)
    observed = design.observed
    y = (design.y / design.trials)[observed]
    if np.all(y == y[0]):
        raise ValueError(
            f"the outcome `{design.formula.response.text}` is {y[0]:g} in every observed row: "
            "there is nothing to explain"
        )
    seen = int(observed.sum())
    for name in names:
        blocks = [block for block in design.latents if block.grouping.name == name]
        effects = sum(len(block.columns.names) for block in blocks)
        levels = np.count_nonzero(np.bincount(blocks[0].grouping.codes[observed]))
        if not family.repeats and not design.ratio and seen <= levels * effects:
            raise ValueError(
                f"{seen} observed outcomes cannot tell {effects} random effects for each of "
                f"{levels} levels of `{name}` from the residual; use fewer random effects"
            )


def _check_several(design: Design, names: list[str]) -> None:
    """Networks have one grouping factor; factors that divide the rows alike are one factor."""
    formula, listed = design.formula, ", ".join(f"`{name}`" for name in names)
    for one, two in combinations(design.latents, 2):
        shared = set(one.columns.names) & set(two.columns.names)
        if one.grouping.name != two.grouping.name and shared and _alike(one.grouping, two.grouping):
            raise ValueError(
                f"`{one.grouping.name}` and `{two.grouping.name}` divide the rows alike, so that "
                f"{one.term.text} and {two.term.text} cannot be told apart; keep one of them"
            )
    random = [term for term in formula.latents if term.kind != "normal"]
    deep = [*(term.text for term in formula.networks), *(term.text for term in random)]
    if deep:
        kept = random[0].group if random else names[0]
        raise ValueError(
            f"{deep[0]} is a network, and the formula has {len(names)} grouping factors "
            f"({listed}): networks are fitted with one. Make the term linear, or keep one factor, "
            f"for example `{kept}`."
        )


def _alike(one: Grouping, two: Grouping) -> bool:
    """Whether two factors are the same partition of the rows."""
    pairs = np.unique(np.stack([one.codes, two.codes]), axis=1).shape[1]
    return pairs == len(np.unique(one.codes)) == len(np.unique(two.codes))


def _is_deep(parsed: Formula) -> bool:
    return bool(parsed.networks) or any(term.kind != "normal" for term in parsed.latents)


def _nested(parsed: Formula, data: Any, columns: dict[str, Any], family: Family) -> Design:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same warnings were given for the design itself
        return _read(build_design(nested_formula(parsed), data, **columns), family)[0]


def _request(call: dict[str, Any], design: Design, family: Family, verbose: int) -> Request:
    """The checked options as the estimation takes them, "auto" resolved."""
    deep = _is_deep(design.formula)
    method = _method(call["method"], deep)
    return Request(
        family,
        method,
        _likelihood(call["likelihood"], method, deep, design, family),
        call["encoder"],
        call["starts"],
        call["seed"],
        verbose,
        Control(**call["control"]),
    )


def _method(method: str, deep: bool) -> str:
    if deep and method in ("ml", "reml"):
        raise ValueError(
            f"method={method!r} is for models without dnn(); leave method='auto' or 'vae'"
        )
    return ("vae" if deep else "ml") if method == "auto" else method


def _likelihood(word: str, method: str, deep: bool, design: Design, family: Family) -> str:
    gaussian = family.name == "gaussian" and family.link.name == "identity"
    if len(_factors(design)) > 1:
        return _several_likelihood(word, method, gaussian, design)
    _one_of("likelihood", word, LIKELIHOODS)
    if method == "vae" and any(block.term.target for block in design.latents):
        raise ValueError("random effects in zi= need a model without dnn() and method='ml'")
    exact = gaussian and not deep and not design.parts
    k = sum(block.term.latent or len(block.columns.names) for block in design.latents)
    if method == "reml" and not (exact and word in ("auto", "exact")):
        raise ValueError("method='reml' is for Gaussian linear mixed models, likelihood='exact'")
    if word == "exact" and (not exact or method == "vae"):
        raise ValueError(
            "likelihood='exact' is for a Gaussian outcome with identity link and linear random "
            "effects fitted by method='ml' or 'reml'; use 'quadrature' or 'importance'"
        )
    if word == "laplace" and (deep or method == "vae"):
        raise ValueError(
            "likelihood='laplace' is for models without dnn() fitted by method='ml'; use "
            "'importance', which is the likelihood itself"
        )
    if word == "quadrature" and k > MOST_QUADRATURE:
        raise ValueError(
            f"likelihood='quadrature' needs at most {MOST_QUADRATURE} random effects, this model "
            f"has {k}; use likelihood='importance'"
        )
    if word != "auto":
        return word
    if exact and method != "vae":
        return "exact"
    linear = all(block.term.kind == "normal" for block in design.latents)
    return "quadrature" if linear and method != "vae" and k <= 2 else "importance"


def _several_likelihood(word: str, method: str, gaussian: bool, design: Design) -> str:
    """With several grouping factors: exact for Gaussian outcomes, else Laplace's approximation."""
    if method == "vae":
        raise ValueError("method='vae' is for one grouping factor; leave method='auto' or 'ml'")
    if design.parts:
        named = " and ".join(f"{name}=" for name in design.parts)
        raise ValueError(f"{named} is for one grouping factor; the formula has several")
    if method == "reml" and not gaussian:
        raise ValueError("method='reml' is for Gaussian linear mixed models, likelihood='exact'")
    fitting = "exact" if gaussian else "laplace"
    if word not in ("auto", fitting):
        why = "a Gaussian outcome with identity link" if gaussian else "this family and link"
        raise ValueError(
            f"likelihood={word!r} is not available with several grouping factors: {why} has "
            f"likelihood={fitting!r}"
        )
    return fitting


def _statistical_messages(done: Estimate, info: Information | None) -> tuple[str, ...]:
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
