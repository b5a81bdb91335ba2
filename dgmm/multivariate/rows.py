"""Rows of a joint fit: predictions of any outcome given all, draws, imputations, log scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.design import Table, label_key
from dgmm.estimate import Estimate
from dgmm.fit import Fit
from dgmm.information import uncertainty
from dgmm.likelihood import choose
from dgmm.missing.imputations import frames
from dgmm.model import alone_panel, led_panel
from dgmm.model.simulation import check_population, simulate_every
from dgmm.multivariate.reading import outcome_name
from dgmm.multivariate.record import FittedOutcomes
from dgmm.multivariate.views import alone_history, history_of, in_front_alone, view
from dgmm.panel import Panel
from dgmm.prediction.landmarks import at_landmarks, clock_of
from dgmm.prediction.moments import given_history_each
from dgmm.prediction.new_rows import history_of as past_of
from dgmm.prediction.new_rows import rows_asked
from dgmm.prediction.new_values import calculable

__all__ = ["fitted", "impute", "log_score", "predict", "residuals", "simulate"]


def predict(
    fit: FittedOutcomes,
    newdata: Any = None,
    *,
    outcome: str | None = None,
    type: str = "subject",
    scale: str = "response",
    history: Any = None,
    at: Any = None,
    time: str | None = None,
    interval: str | None = None,
    level: float | Sequence[float] = 0.95,
    new_groups: str = "population",
    draws: int = 1000,
    seed: int | None = None,
) -> pd.DataFrame:
    """Predictions of an outcome given what was seen of all outcomes of a subject.

        E{h(eta_k) | y_1, ..., y_K seen}

    Args:
        fit: a fit of ``mixed_model(mv(...))``.
        newdata: rows to predict, by default those of the fit; the covariates of the outcome asked
            for are enough.
        outcome: which outcome; without it all of them, the first level of the columns.
        type: "subject", "mean_subject" or "marginal", as in :meth:`dgmm.Fit.predict`.
        scale: "response", "link" or "categories".
        history: past rows, which take the place of the data of the fit; any outcome will do.
        at: landmarks: the rows after each are predicted from the history up to it, see
            :meth:`dgmm.Fit.predict`.
        time: the column that landmarks are values of.
        interval: "confidence" or "prediction".
        level: probability that an interval covers, or several.
        new_groups: "population" or "error" for subjects without an outcome.
        draws: behind a prediction interval.
        seed: of these draws.

    Raises:
        ValueError: no such outcome, or a history without any of them.
    """
    if outcome is None:
        told = history
        if history is not None and at is None:  # read once for all
            told = history_of(fit, view(fit, 0), 0, history)
        at_once = None
        if at is None and interval is None and type == "subject" and new_groups == "population":
            at_once = _each_given_all(fit, newdata, told, history, scale, seed)
        each = at_once or {
            name: predict(
                fit, newdata, outcome=name, type=type, scale=scale,
                history=led_panel(told, o) if isinstance(told, Panel) else told,
                at=at, time=time, interval=interval, level=level, new_groups=new_groups,
                draws=draws, seed=seed,
            )
            for o, name in enumerate(fit.names)
        }  # fmt: skip
        return pd.concat(each, axis=1)
    o = fit.position(outcome)
    one = view(fit, o)
    if at is not None:
        known = fit.frame if history is None else history
        if known is None:
            raise ValueError(
                "at= needs history=: this fit was read from a file, and files do not hold the data"
            )
        return at_landmarks(
            at, newdata, known,
            clock_of(time, one.memory, one.estimate.panel.subject.numpy()), one.memory.groups[0],
            lambda rows, past: predict(
                fit, rows, outcome=outcome, type=type, scale=scale, history=past,
                interval=interval, level=level, new_groups=new_groups, draws=draws, seed=seed,
            ),
        )  # fmt: skip
    past = history
    if history is not None and not isinstance(history, Panel):
        past = history_of(fit, one, o, history)
    rows = _rows_of_outcomes(fit, newdata)[o]
    return one.predict(
        rows, type=type, scale=scale, history=past, interval=interval, level=level,
        new_groups=new_groups, draws=draws, seed=seed,
    )  # fmt: skip


def _rows_of_outcomes(fit: FittedOutcomes, newdata: Any) -> Sequence[Any]:
    """The frame in which every outcome is predicted: one for all, unless rows are values of one."""
    if newdata is not None and fit.layout.item in Table.of(newdata).names:
        return fit.layout.present(newdata, fit.names)
    return [newdata] * len(fit.names)


def _each_given_all(
    fit: FittedOutcomes, newdata: Any, told: Any, history: Any, scale: str, seed: int | None
) -> dict[str, pd.DataFrame] | None:
    """Means of all outcomes of a recursion by draws of one posterior.

    None of other models, or where outcomes have subjects of their own.
    """
    done = fit.estimate
    if not done.likelihood.bound or scale not in ("response", "link"):
        return None
    asked = []
    every = _rows_of_outcomes(fit, newdata)
    for o, (memory, rows) in enumerate(zip(fit.memories, every, strict=True)):
        order, own = (memory.labels, memory.rows), in_front_alone(fit, o)
        asked.append(rows_asked(own, memory.spec, rows, told, order, memory.departures, "subject"))
    targets = [one.target for one in asked]
    if any(not np.array_equal(one.ids, targets[0].ids) for one in targets[1:]):
        return None
    past = past_of(done, fit.memories[0].spec, targets[0], told)
    given = None if isinstance(history, Panel) else history
    with calculable(fit.memories[0], newdata=newdata, history=given):
        random = fit.calls[0].seed if seed is None else seed
        found = given_history_each(done, past, targets, scale, random)
        return {
            name: one.frame({"fit": value.mean}, "subject")
            for name, one, value in zip(fit.names, asked, found, strict=True)
        }


def fitted(fit: FittedOutcomes, outcome: str | None = None, *, scale: str = "response") -> Any:
    """E{h(eta) | y} of every row: of one outcome a series, else a frame with a column for each."""
    return _by_outcome(fit, outcome, lambda one: one.fitted(scale=scale))


def residuals(fit: FittedOutcomes, outcome: str | None = None, *, type: str = "response") -> Any:
    """Outcomes less their fitted values, given the outcomes of all kinds."""
    return _by_outcome(fit, outcome, lambda one: one.residuals(type=type))


def _by_outcome(fit: FittedOutcomes, outcome: str | None, of: Callable[[Fit], pd.Series]) -> Any:
    if outcome is not None:
        return of(view(fit, fit.position(outcome)))
    found = {name: of(view(fit, o)) for o, name in enumerate(fit.names)}
    return pd.concat(found, axis=0 if fit.layout.item else 1)


def simulate(
    fit: FittedOutcomes, nsim: int = 1, *, seed: int, condition_on_data: bool = False
) -> list[pd.DataFrame]:
    """Outcomes of all kinds drawn from the fitted model, a frame per draw.

    Random effects are drawn once for all outcomes of a subject; ``condition_on_data`` keeps their
    conditional means.
    """
    if nsim < 1:
        raise ValueError(f"nsim is a number of draws, at least 1, not {nsim!r}")
    done, generator = fit.estimate, torch.Generator().manual_seed(seed)
    check_population(done.model)
    given = done.likelihood.posterior(done.theta).effects().mean[0] if condition_on_data else None
    found = []
    for _ in range(nsim):
        b = given
        if b is None:
            size = (done.panel.n, done.model.k)
            b = torch.randn(size, generator=generator, dtype=torch.float64)
        drawn = simulate_every(done.model, done.theta, done.panel, generator, b)
        columns = {
            name: memory.series(y.numpy(), name)
            for name, memory, y in zip(fit.names, fit.memories, drawn, strict=True)
        }
        found.append(pd.concat(columns, axis=0 if fit.layout.item else 1))
    return found


def impute(fit: FittedOutcomes, m: int = 5, *, seed: int, data: Any = None) -> list[pd.DataFrame]:
    """Complete the missing cells of all outcomes m times, given every outcome that was seen.

        theta ~ N(theta-hat, V),   b | y seen, theta,   y_k missing | b, theta

    Args:
        fit: a fit of ``mixed_model(mv(...))``.
        m: number of completed data sets.
        seed: of the draws.
        data: the frame of the fit, of which every result is a copy with complete outcomes; needed
            for a fit that was read from a file.

    Raises:
        ValueError: m is no number of data sets; ``data`` is another frame.
    """
    if not isinstance(m, int | np.integer) or m < 1:
        raise ValueError(f"m is a number of completed data sets, at least 1, not {m!r}")
    frame = fit.frame if data is None else data
    if frame is None:
        raise ValueError(
            "impute() needs data=: this fit was read from a file, and files do not hold the frame"
        )
    views = [view(fit, o) for o in range(len(fit.names))]
    return [_filled(fit, views, frame, drawn) for drawn in _completed(fit, m, seed)]


def _filled(fit: FittedOutcomes, views: list[Fit], frame: Any, drawn: list[Tensor]) -> pd.DataFrame:
    """The frame with the drawn outcomes in its gaps."""
    parts = fit.layout.frames(frame, fit.names)
    for o, (one, y) in enumerate(zip(views, drawn, strict=True)):
        memory = one.memory
        order = memory.labels, memory.rows
        own = parts[o] if fit.layout.item else frame
        (frame_,) = frames(one.estimate, memory.spec, own, order, partial(_once, y))
        if fit.layout.item:
            parts[o] = frame_.rename(columns={fit.names[o]: fit.layout.value})
        else:
            frame = frame_
    if not fit.layout.item:
        return frame
    return pd.concat(parts).loc[Table.of(frame).frame().index]


def _once(y: Tensor, done: Estimate) -> Iterator[Tensor]:
    yield y


def _completed(fit: FittedOutcomes, m: int, seed: int) -> Iterator[list[Tensor]]:
    """Outcomes of all planned rows, completed m times."""
    done = fit.estimate
    known = None if fit.information is None else uncertainty(done, fit.information)
    likelihood = done.likelihood
    if not likelihood.normal and not likelihood.bound:  # any posterior by weighted draws
        likelihood = choose(done.model, done.panel, "importance", likelihood.integration)
    for number in range(m):
        generator = torch.Generator().manual_seed(seed + 7919 * number)
        theta = done.theta if known is None else known.draw(1, generator)[0]
        b = likelihood.by(seed=seed + number).posterior(theta).effect_draws(generator)
        drawn = simulate_every(done.model, theta, done.panel, generator, b, given=True)
        pairs = zip(done.panel.panels, drawn, strict=True)
        yield [torch.where(own.observed, own.rows.data.y, y) for own, y in pairs]


def log_score(
    fit: FittedOutcomes,
    newdata: Any,
    *,
    separate: Mapping[str, Fit] | None = None,
    seed: int | None = None,
) -> pd.DataFrame:
    """Marginal log-likelihood of new subjects, jointly and by the separate models.

        l_i = log integral p(y_i1, ..., y_iK | b; theta-hat) N(b; 0, I) db

    Args:
        fit: a fit of ``mixed_model(mv(...))``.
        newdata: rows with outcomes of subjects, who are taken as new.
        separate: by name fits of outcomes by themselves that the joint one is compared with, such
            as deep ones. By default the classical ones that the joint fit began with; recursions
            begin with none, and have the column where fits are given.
        seed: of draws, where the likelihood needs them.

    Returns:
        A row per subject: ``joint``, ``separate`` (the sum over the separate fits), ``difference``
        (both where there are such fits), and ``mc_error`` of the joint one. The mean
        difference with its standard error says what jointness is worth for subjects that no fit
        has seen.

    Raises:
        ValueError: ``separate`` has no fit of an outcome, or one of other subjects.
    """
    _check_separate(fit, separate or {})
    one = view(fit, 0)
    with calculable(one.memory, newdata=newdata):
        panel = history_of(fit, one, 0, newdata)
        likelihood = one.estimate.likelihood.on(panel)
        if seed is not None:
            likelihood = likelihood.by(seed=seed)
        each = likelihood.by_id().each(one.estimate.theta)
        found = [
            _alone(fit, panel, o, newdata)
            if separate is None
            else _given(separate[name], fit, panel, o, newdata, seed)
            for o, name in enumerate(fit.names)
            if separate is not None or not one.estimate.model.recursive
        ]
    table = {"joint": each.value.numpy()}
    if found:
        total = torch.stack(found).sum(0)
        table |= {"separate": total.numpy(), "difference": (each.value - total).numpy()}
    table |= {"mc_error": each.error.numpy()}
    index = pd.Index(panel.ids, name=fit.memories[0].groups[0])
    return pd.DataFrame(table, index=index)


def _check_separate(fit: FittedOutcomes, separate: Mapping[str, Fit]) -> None:
    if not separate:
        return
    lost = [name for name in fit.names if not isinstance(separate.get(name), Fit)]
    if lost or len(separate) != len(fit.names):
        raise ValueError(
            f"separate= needs a fit of every outcome by its name ({', '.join(fit.names)}), not "
            f"{', '.join(map(str, separate))}"
        )
    group = fit.memories[0].groups[0]
    for name, one in separate.items():
        of_outcome, by = outcome_name(one.memory.spec.parsed()), sorted(set(one.memory.groups))
        if of_outcome != name or by != [group]:
            raise ValueError(
                f"separate[{name!r}] is a fit of `{of_outcome}` by {', '.join(by) or 'nobody'}; "
                f"it must be of `{name}` by {group}"
            )


def _alone(fit: FittedOutcomes, panel: Panel, o: int, newdata: Any) -> Tensor:
    """log p(y_ik) of one outcome under the separate fit that the joint one began with, (n,)."""
    alone, own = fit.separate[o], alone_panel(fit.estimate.model, panel, o)
    if not fit.estimate.model.linear:  # other columns: those of the classical model
        own = alone_history(fit, alone, o, newdata).align(panel.ids)
    return alone.estimate.likelihood.on(own).each(alone.estimate.theta).value


def _given(
    alone: Fit, fit: FittedOutcomes, panel: Panel, o: int, newdata: Any, seed: int | None
) -> Tensor:
    """log p(y_ik) of one outcome under a fit of the user's, (n,)."""
    frame = fit.layout.present(newdata, fit.names)[o]
    if frame is None:
        return torch.zeros(panel.n, dtype=torch.float64)
    scores = alone.log_score(frame, seed=seed)["log_score"]
    of = {label_key(name): value for name, value in scores.items()}
    return torch.tensor([of.get(label_key(one), 0.0) for one in panel.ids], dtype=torch.float64)
