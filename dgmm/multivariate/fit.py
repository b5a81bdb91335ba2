"""MultivariateFit: a model of several outcomes fitted to data, every function of it a method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, final

import numpy as np
import pandas as pd
import torch

from dgmm.design import Table, build_design
from dgmm.estimate import Estimate
from dgmm.estimate.pilot import pilot, start_theta
from dgmm.fit import Fit, canonical_outcome, fit_model, information_of
from dgmm.formula import Several
from dgmm.likelihood import Maximum, choose
from dgmm.model import build_model, join, join_panels, share
from dgmm.multivariate import comparing, report, rows, tables
from dgmm.multivariate.deep import fit_networks, has_networks, within_networks
from dgmm.multivariate.reading import (
    PARAMETERS,
    Reading,
    check_seen,
    columns_in_common,
    read_several,
    residual_of,
)
from dgmm.multivariate.record import FittedOutcomes
from dgmm.multivariate.starting import start_of
from dgmm.multivariate.views import view
from dgmm.panel import Panel
from dgmm.plan import (
    INSTEAD,
    Call,
    as_counted,
    check_control,
    check_options,
    has_recursions,
    parse_call,
    read_family,
    request_behind,
)
from dgmm.record import Memory
from dgmm.runtime.gate import gate_methods
from dgmm.runtime.versions import versions
from dgmm.runtime.warned import warn_user
from dgmm.storage import save

__all__ = ["MultivariateFit", "fit_several"]


@partial(gate_methods, instead=INSTEAD)
@final
class MultivariateFit(FittedOutcomes):
    """A fitted mixed model of several outcomes.

    ``fit["y"]`` is the fit with the outcome ``y`` in front, on which every method of
    :class:`dgmm.Fit` works: effects, contrasts, plots, with the standard errors of the joint model
    and predictions that use what was seen of all outcomes.
    """

    fixef = tables.fixef
    vcov = tables.vcov
    std_errors = tables.std_errors
    coefficients = tables.coefficients
    family_parameters = tables.family_parameters
    var_corr = tables.var_corr
    correlation = tables.correlation
    sigma = tables.sigma
    confint = tables.confint
    ranef = tables.ranef
    coef = tables.coef

    loglik = tables.loglik
    df = tables.df
    deviance = tables.deviance
    aic = tables.aic
    bic = tables.bic
    nobs = tables.nobs
    n_groups = tables.n_groups

    fitted = rows.fitted
    residuals = rows.residuals
    predict = rows.predict
    simulate = rows.simulate
    impute = rows.impute
    log_score = rows.log_score

    anova = comparing.anova
    summary = report.summary
    save = save

    @property
    def formula(self) -> str:
        """The formulas as they were written."""
        return str(self.several)

    def __getitem__(self, outcome: str) -> Fit:
        """The fit as one outcome sees it."""
        return replace(view(self, self.position(outcome)), messages=self.messages)

    def effects(self, outcome: str, *args: Any, **options: Any) -> Any:
        """The effect of covariates on one outcome; see :meth:`dgmm.Fit.effects`."""
        return view(self, self.position(outcome)).effects(*args, **options)

    def slopes(self, outcome: str, *args: Any, **options: Any) -> Any:
        """Average slopes of one outcome; see :meth:`dgmm.Fit.slopes`."""
        return view(self, self.position(outcome)).slopes(*args, **options)

    def contrast(self, outcome: str, *args: Any, **options: Any) -> Any:
        """Contrasts of one outcome; see :meth:`dgmm.Fit.contrast`."""
        return view(self, self.position(outcome)).contrast(*args, **options)

    def update(
        self, formula: Several | None = None, data: Any = None, **changes: Any
    ) -> MultivariateFit:
        """Refit with other formulas, data or arguments of :func:`dgmm.mixed_model`.

        data: by default the frame of the fit, which is kept by reference: as it is now.

        Raises:
            ValueError: no data= for a fit read from a file, which does not hold the frame.
            TypeError: an argument that mixed_model() does not have.
        """
        frame = self.frame if data is None else data
        if frame is None:
            raise ValueError(
                "update() needs data=: this fit was read from a file, and files do not hold the "
                "data frame"
            )
        families = changes.pop("family", [one.family for one in self.calls])
        bounds = changes.pop("bounds", [one.bounds for one in self.calls])
        layout = (self.layout.item, self.layout.value) if self.layout.item else None
        outcome = changes.pop("outcome", layout)
        if formula is None:
            own = {one: [getattr(call, one) for call in self.calls] for one in PARAMETERS}
            changes = {**{n: v for n, v in own.items() if any(v)}, **changes}
        call = self.calls[0].changed(
            {**dict.fromkeys(PARAMETERS), **changes, "family": "gaussian", "bounds": None}, frame
        )
        return fit_several(formula or self.several, call, families, bounds, outcome, frame)

    def refit(self, y: Any) -> MultivariateFit:
        """The same model fitted to other outcomes of the same rows.

        y: a frame as :meth:`simulate` gives it, a column per outcome labelled as the rows of the
            data, or a mapping of their names to one value per row; missing where not observed.

        Raises:
            ValueError: an outcome is not given, or has values that its family cannot have.
        """
        if self.layout.item and isinstance(y, pd.Series):
            y = {name: y[name] for name in self.names if name in y.index.get_level_values(0)}
        if not isinstance(y, Mapping | pd.DataFrame):
            table = Table.of(y)
            y = {name: table.series(name).to_numpy() for name in self.names if name in table.names}
        lacking = [name for name in self.names if name not in y]
        if lacking:
            raise ValueError(f"refit() needs all outcomes; `{lacking[0]}` is not given")
        done, call = self.estimate, self.calls[0]
        panels = [
            replace(own, beside=()).with_outcome(canonical_outcome(view(self, o), y[name]))
            for o, (name, own) in enumerate(zip(self.names, done.panel.panels, strict=True))
        ]
        panel = replace(panels[0], beside=tuple(panels[1:]))
        likelihood = choose(done.model, panel, **done.likelihood.choice())
        again = Estimate.of(likelihood.maximise(lambda: done.theta), done.method)
        info = information_of(again, call.se, request_behind(call, self.separate[0].estimate))
        separate = tuple(
            one if math.isnan(one.estimate.log_likelihood) else one.refit(y[name])
            for name, one in zip(self.names, self.separate, strict=True)
        )
        return replace(self, estimate=again, information=info, separate=separate, frame=None)

    def drop1(self) -> Any:
        """Tests of terms by fits without them are not made of joint models.

        Raises:
            ValueError: always; it says what to do.
        """
        raise ValueError(
            "drop1() is for models of one outcome: compare with a joint fit of smaller formulas, "
            "fit.anova(fit.update(mv(...))), or take the Wald tests of an outcome, fit['y'].anova()"
        )

    def is_singular(self) -> bool:
        """Whether a random effect has no variance of its own, given those before it."""
        return view(self, 0).is_singular()

    def __repr__(self) -> str:
        return f"<MultivariateFit of {', '.join(self.names)}: {self.loglik()}>"


def fit_several(
    several: Several, call: Call, families: Any, bounds: Any, outcome: Any, data: Any
) -> MultivariateFit:
    """Fit all outcomes together; see :func:`dgmm.mixed_model`."""
    check_options(call)
    reading = read_several(several, call, families, bounds, outcome)
    check_control(call.control, [parse_call(one) for one in reading.calls])
    frames = reading.layout.frames(data, reading.names)
    check_seen(frames, reading.names)
    separate = tuple(_separate(reading, o, frame) for o, frame in enumerate(frames))
    if any(has_networks(one) for one in reading.calls):
        done, known = fit_networks(reading, frames, call, separate)
    else:
        done = _fit_classical(reading, call, separate)
        known = [(one.memory, one.estimate.panel) for one in separate]
    info = information_of(done, call.se, request_behind(call, separate[0].estimate))
    if not done.converged:
        warn_user(f"the fit has not converged: {'; '.join(done.messages)}")
    groups = tuple(reading.group for _ in done.model.latents)
    memories = tuple(
        replace(_as_joined(memory, own, done.panel), groups=groups) for memory, own in known
    )
    return MultivariateFit(
        several,
        reading.calls,
        reading.layout,
        memories,
        done,
        info,
        tuple(separate),
        versions(),
        data,
    )


def _fit_classical(reading: Reading, call: Call, separate: Sequence[Fit]) -> Estimate:
    """The joint model without networks, from those of all outcomes by themselves."""
    several = reading.several
    models = [one.estimate.model for one in separate]
    model = join(reading.names, models, reading.parts)
    residual, known = residual_of(several, reading.layout, model), [one.memory for one in separate]
    panels = [one.estimate.panel for one in separate]
    if residual is not None:
        model = replace(model, residual=residual)
        panels = [own.numbered(one.rows) for own, one in zip(panels, known, strict=True)]
    panel = join_panels(panels, reading.parts)
    model = share(model, panel, columns_in_common(several, reading.names, known, models))
    request = request_behind(call, separate[0].estimate)
    restricted = call.method == "reml"
    likelihood = choose(model, panel, call.likelihood, request.integration, restricted=restricted)
    found = likelihood.maximise(
        lambda: start_of(model, panel, reading.parts, separate), call.verbose
    )
    return Estimate.of(found, "reml" if restricted else "ml")


def _as_joined(memory: Memory, own: Panel, panel: Panel) -> Memory:
    """The memory of an outcome with its rows in the order of the subjects of all."""
    moved = own.numbered(np.arange(own.n_rows)).align(panel.ids)
    return memory.ordered(moved.rows.occasion.numpy())


def _separate(reading: Reading, o: int, frame: Any) -> Fit:
    """The classical model of one outcome by itself, its parts as if no other outcome had them.

    Beside a recursion, which begins at independence, it is not fitted. An outcome that takes the
    part of another may not know a variance of its own: then it begins without one.
    """
    call = replace(reading.calls[o], se=None)
    if any(has_networks(one) for one in reading.calls):
        call = within_networks(call)
    if has_recursions(parse_call(reading.calls[o])):
        return _at_independence(call, frame)
    try:
        return fit_model(call, frame)
    except ValueError:
        if not any(outcome == o for outcome, _ in reading.loads):
            raise
    return _at_independence(call, frame)


def _at_independence(call: Call, frame: Any) -> Fit:
    """A model where it begins; it has no likelihood."""
    family = read_family(call)
    design, family = as_counted(build_design(parse_call(call), frame), family)
    unit, eta = pilot(design, family)
    model, panel = build_model(design, family, unit), Panel.from_design(design)
    theta = start_theta(model, panel, eta, torch.Generator().manual_seed(call.seed))
    likelihood = choose(model, panel)
    maximum = Maximum(likelihood, theta, math.nan, 0.0, math.nan, 0, False)
    done = Estimate.of(maximum, "ml")
    return Fit(call, Memory.of(design, None, frame), done, None, (), versions())
