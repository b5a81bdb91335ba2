"""Multiple imputation of missing outcomes: theta from what is known of it, then y | y seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.bayes import Chains
from dgmm.design import Specification, Table, first_category
from dgmm.estimate import Estimate, Head
from dgmm.information import Information, Uncertainty, information, uncertainty
from dgmm.likelihood import Point
from dgmm.missing.dropout import complete_by_pattern
from dgmm.missing.pooling import pool
from dgmm.parameters import Theta
from dgmm.posterior.draws import complete
from dgmm.posterior.proposal import Places

__all__ = ["frames", "outcomes", "profile"]


def outcomes(
    done: Estimate,
    info: Information | None,
    m: int,
    seed: int,
    draws: int,
    delta: float | None = None,
) -> Iterator[Tensor]:
    """m completed outcomes of the planned rows, (N,) each, on the family's own count of them.

    ``info`` is the information about theta, None to keep theta at its estimate.
    """
    if done.chains is not None:
        yield from _of_draws(done, done.chains, m, seed)
        return
    if done.panel.several:
        raise ValueError(
            "impute() is for models with one grouping factor; with several, refit with one of them"
        )
    if done.patterns is not None:
        yield from _by_pattern(done, info, m, seed, draws, delta)
        return
    start: Places | None = None
    known = None if info is None else uncertainty(done, info)
    for number in range(m):
        generator = torch.Generator().manual_seed(_seed(seed, number))
        theta = _drawn(done.theta, known, generator)
        y, start = _completed(done, theta, generator, start)
        yield y


def _of_draws(done: Estimate, chains: Chains, m: int, seed: int) -> Iterator[Tensor]:
    """Outcomes that the sampler drew for the rows without one, from m of its draws."""
    generator = torch.Generator().manual_seed(_seed(seed, 0))
    order = torch.randperm(len(chains.kept), generator=generator)
    if m > len(order):
        raise ValueError(f"m={m} is more than the {len(order)} draws that are kept of outcomes")
    gap = ~done.panel.observed
    for row in order[:m]:
        y = done.panel.rows.data.y.clone()
        y[gap] = chains.missing[row]
        yield y


def _completed(
    done: Estimate, theta: Theta, generator: torch.Generator, start: Places | None
) -> tuple[Tensor, Places | None]:
    """Outcomes of every planned row: b | y is drawn at once where it is normal or a proposal is
    learnt, else by a chain.
    """
    if not done.likelihood.normal and not done.likelihood.bound:
        return complete(done.model, theta, done.panel, generator, start)
    panel, model = done.panel, done.model
    posterior = done.likelihood.on(model.history(panel)).posterior(theta)
    (eta,) = posterior.draws(panel, 1, generator)
    with torch.no_grad():
        extra = model.extra(theta, panel.rows)
        drawn = model.family.simulate(eta, panel.rows.data, extra, generator)
    return torch.where(panel.observed, panel.rows.data.y, drawn), None


def _seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, 89, number]).generate_state(1)[0])


def _drawn(theta: Theta, known: Uncertainty | None, generator: torch.Generator) -> Theta:
    return theta if known is None else known.draw(1, generator)[0]


def _by_pattern(
    done: Estimate, info: Information | None, m: int, seed: int, draws: int, delta: float | None
) -> Iterator[Tensor]:
    patterns, model = done.patterns, done.model
    assert patterns is not None
    shift = patterns.delta if delta is None else delta
    known = {
        _key(head): (
            head,
            None if info is None else _known_of_head(done, info, head, seed, draws),
        )
        for head in (*patterns.heads, *patterns.donors)
    }
    for number in range(m):
        generator = torch.Generator().manual_seed(_seed(seed, number))
        theta = {key: _drawn(head.theta, own, generator) for key, (head, own) in known.items()}
        heads = [theta[_key(head)] for head in patterns.heads]
        donors = [theta[_key(head)] for head in patterns.donors]
        yield complete_by_pattern(model, patterns, heads, donors, done.panel, shift, generator)


def _key(head: Head) -> bytes:
    """Heads of the same subjects are the same head."""
    return head.subjects.numpy().tobytes()


def _known_of_head(
    done: Estimate, info: Information, head: Head, seed: int, draws: int
) -> Uncertainty:
    own = done.at(head.theta)
    if len(head.subjects) < done.panel.n:
        own = Point(done.likelihood.on(done.panel.select(head.subjects)), head.theta)
        info = information(own, "hessian", seed, draws)
    return uncertainty(own, info)


# -- the user's frame ----------------------------------------------------------------------------


def frames(
    done: Estimate,
    spec: Specification,
    data: Any,
    order: tuple[pd.Index, np.ndarray],
    draw: Callable[[Estimate], Iterator[Tensor]],
) -> list[pd.DataFrame]:
    """Completed frames in the user's row order; see :meth:`dgmm.fit.Fit.impute`."""
    labels, rows = order
    back = np.argsort(rows, kind="stable")
    if data is None:
        _with_trials(done, spec, pd.DataFrame(), rows)
        plain = _plain_frame(done, spec, labels)
        name = _outcome_column(spec, plain.columns)
        return [plain.assign(**{name: _labelled(spec, y.numpy())}).iloc[back] for y in draw(done)]
    given = Table(data).frame()
    name = _outcome_column(spec, given.columns)
    done = _with_trials(done, spec, given, rows)
    _check_same(done, spec, given, name, rows)
    gap = ~done.panel.observed.numpy()
    completed = []
    for y in draw(done):
        frame = given.copy()
        column = frame[name].to_numpy(dtype=object, copy=True)
        column[rows[gap]] = _labelled(spec, y.numpy())[gap]
        frame[name] = pd.Series(column, index=frame.index).astype(_kind(given[name]))
        completed.append(frame)
    return completed


def _kind(column: pd.Series) -> Any:
    """The dtype of the completed column: floats for numbers, else as it was."""
    return float if pd.api.types.is_numeric_dtype(column) else column.dtype


def _plain_frame(done: Estimate, spec: Specification, labels: pd.Index) -> pd.DataFrame:
    """What a fit keeps of its rows: subject, time, outcome, and whether it was imputed."""
    panel, parsed = done.panel, spec.parsed()
    columns: dict[str, Any] = {parsed.latents[0].group: panel.ids[panel.subject.numpy()]}
    if spec.time_name is not None:
        columns[spec.time_name] = panel.rows.time.numpy()
    columns[parsed.response.names[0]] = panel.rows.data.y.numpy()
    return pd.DataFrame({**columns, "imputed": ~panel.observed.numpy()}, index=labels)


def _outcome_column(spec: Specification, known: Any) -> str:
    """The column that imputed outcomes are written to."""
    response = spec.parsed().response
    if response.kind == "cbind":
        raise ValueError(
            f"impute() cannot complete `{response.text}`: of a missing row the number of trials is "
            "unknown. Write the outcome as success / trials"
        )
    name = response.names[0]
    if name not in set(known):
        raise ValueError(
            f"impute() completes a column, and the outcome `{name}` is computed or not in data=; "
            "make it a column of the frame before the fit"
        )
    return name


def _labelled(spec: Specification, y: np.ndarray) -> np.ndarray:
    """Outcomes as the user wrote them: the labels of a category, numbers otherwise."""
    if not spec.response_levels:
        return y
    levels = np.array(spec.response_levels, dtype=object)
    first = first_category(spec.response_levels) if spec.ordered_response else 0
    return levels[y.astype(int) - first]


def _with_trials(
    done: Estimate, spec: Specification, data: pd.DataFrame, rows: np.ndarray
) -> Estimate:
    """The estimate whose missing rows know their number of trials."""
    response, panel = spec.parsed().response, done.panel
    if response.kind != "ratio":
        return done
    size = response.names[1]
    if done.model.family.support != "trials" or size not in data:
        raise ValueError(
            f"impute() completes `{response.text}` for family 'binomial' when the number of "
            f"trials `{size}` is a column of data="
        )
    trials = torch.from_numpy(data[size].to_numpy(dtype=float)[rows])
    data_of = panel.rows.data._replace(
        trials=torch.where(panel.observed, panel.rows.data.trials, trials)
    )
    known = panel.with_data(data_of)
    planned = replace(known, observed=panel.observed)
    return replace(done, likelihood=done.likelihood.on(planned))


def _check_same(
    done: Estimate, spec: Specification, data: pd.DataFrame, name: str, rows: np.ndarray
) -> None:
    """Refuse a frame that is not the one of the fit."""
    same = len(data) > int(rows.max())
    if same:
        missing = data[name].isna().to_numpy()[rows]
        same = bool((missing == ~done.panel.observed.numpy()).all())
    if same and not spec.response_levels and spec.parsed().response.kind == "plain":
        seen = done.panel.observed.numpy()
        there = data[name].to_numpy(dtype=float)[rows][seen]
        same = bool(np.allclose(there, done.panel.rows.data.y.numpy()[seen]))
    if not same:
        raise ValueError(
            f"data= is not the frame of the fit: its outcomes `{name}` are others; give the frame "
            "that mixed_model() was called with"
        )


# -- the mean profile ----------------------------------------------------------------------------


def profile(done: Estimate, completed: Iterator[Tensor], level: float) -> pd.DataFrame:
    """Mean outcome of all subjects per visit, by Rubin's rules; see ``Fit.pattern_profile``."""
    panel = done.panel
    visit = panel.rows.occasion.numpy()
    count = np.bincount(visit)
    means, errors = [], []
    for y in completed:
        value = done.model.family.response(panel.rows.data._replace(y=y)).numpy()
        mean = np.bincount(visit, value) / count
        spread = np.bincount(visit, np.square(value - mean[visit])) / np.maximum(count - 1, 1)
        means.append(mean)
        errors.append(np.sqrt(spread / count))
    table = pool(means, errors, df_complete=float(count.min() - 1), level=level)
    table.insert(0, "time", np.bincount(visit, panel.rows.time.numpy()) / count)
    table.insert(1, "seen", np.bincount(visit, panel.observed.double().numpy()) / count)
    table.index = pd.Index(np.arange(1, len(count) + 1), name="visit")
    return table.drop(columns=["within", "between"])
