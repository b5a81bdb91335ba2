"""The notes of a fit: each where it is true, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from toys import build, frame

from dgmm import Fit, mixed_model
from dgmm.information import boundary_reasons
from dgmm.report.collapse_notes import collapse_messages
from dgmm.report.notes import (
    of_boundary,
    of_encoder,
    of_nested_boundary,
    of_training,
)
from dgmm.variational.collapse import Activity
from dgmm.variational.training import Trace

QUICK = {"epochs": 6, "holdout": 0.0, "draws": 32, "polish_draws": 16}
DEEP = "y ~ t + (dnn(t, hidden=(4,)) | id)"


def lines(level: float, slope: float, shared: bool, n: int = 60, J: int = 6) -> pd.DataFrame:
    """y = 1 + t/2 + level u_i + slope v_i (t - 4) + noise; v = u where they are shared."""
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), J), "t": np.tile(np.arange(float(J)), n)})
    u, v = rng.normal(size=(2, n))
    v = u if shared else v
    data["x"] = rng.normal(size=n)[data.id]
    data["y"] = 1 + 0.5 * data.t + level * u[data.id] + slope * v[data.id] * data.t
    data["y"] += rng.normal(size=n * J)
    return data


def fitted(text: str, data: pd.DataFrame, **options: object) -> Fit:
    return mixed_model(text, data, verbose=0, **options)  # type: ignore[arg-type]


# -- the boundary of the random part ---------------------------------------------------------------


@pytest.mark.parametrize(("slope", "sign"), [(0.82, "1"), (-0.82, "-1")])
def test_a_correlation_of_one_is_not_a_variance_of_zero(slope: float, sign: str) -> None:
    fit = fitted("y ~ t + (t | id)", lines(1.2, slope, shared=True))
    table = fit.var_corr().set_index("kind")["sdcor"]
    first, second = table["sd"].iloc[:2]
    assert second > 0.6
    assert abs(table["cor"]) == pytest.approx(1, abs=1e-6)
    (note,) = fit.messages
    assert f"the correlation of `(Intercept)` and `t` is estimated as {sign} " in note
    assert f"(standard deviations {first:.3g} and {second:.3g})" in note
    assert "zero" not in note
    assert "drop" not in note
    assert fit.is_singular()
    assert fit.boundary() == ("t",)


def test_effects_of_their_own_are_not_singular() -> None:
    fit = fitted("y ~ t + (t | id)", lines(1.2, 0.82, shared=False))
    assert fit.messages == ()
    assert not fit.is_singular()


def test_a_variance_of_zero_is_called_so() -> None:
    fit = fitted("y ~ t + (t || id)", lines(1.2, 0.0, shared=False))
    sd = fit.var_corr()["sdcor"]
    assert sd.iloc[0] > 1
    assert sd.iloc[1] < 1e-6
    (note,) = fit.messages
    assert "the variance of `t` is estimated as zero" in note
    assert "correlation of" not in note


def singular(fit: Fit, *zeros: int) -> tuple[str, ...]:
    """The reasons of a fit, some diagonal entries of its Lambda set to zero."""
    done = fit.estimate
    log_diagonal = done.theta["latent1.log_diagonal"].clone()
    log_diagonal[list(zeros)] = -30.0
    return boundary_reasons(
        replace(done, theta={**done.theta, "latent1.log_diagonal": log_diagonal})
    )


def test_the_origin_of_time_does_not_change_the_reason() -> None:
    data = lines(1.2, 0.82, shared=False)
    data["year"] = data.t + 2000
    for time in ("t", "year"):
        fit = fitted(f"y ~ {time} + ({time} | id)", data)
        (reason,) = singular(fit, 1)
        assert f"the correlation of `(Intercept)` and `{time}`" in reason
        # an empty first orthonormal column leaves all lines through one point: no variance is zero
        (reason,) = singular(fit, 0)
        assert f"the correlation of `(Intercept)` and `{time}` is estimated as -1" in reason


def test_three_effects_of_rank_two_are_a_combination() -> None:
    fit = fitted("y ~ t + (t + I(t**2) | id)", lines(1.2, 0.82, shared=False))
    done = fit.estimate
    theta = {
        **done.theta,
        "latent1.log_diagonal": torch.tensor([0.0, -0.5, -30.0]).double(),
        "latent1.below": torch.tensor([0.3, 0.4, 0.5]).double(),
    }
    (reason,) = boundary_reasons(replace(done, theta=theta))
    assert reason.startswith("`I(t ** 2)` (standard deviation ")
    assert reason.endswith("is estimated as a linear combination of `(Intercept)`, `t`")


def test_the_term_is_named_where_there_are_several() -> None:
    data = lines(1.2, 0.0, shared=False)
    data["item"] = np.tile(np.arange(6), 60)
    data["y"] -= data.groupby("item")["y"].transform("mean")
    fit = fitted("y ~ 1 + (1 | id) + (1 | item)", data)
    (note,) = fit.messages
    assert "in (1 | item) the variance of `(Intercept)` is estimated as zero" in note
    assert fit.boundary() == ("(Intercept) | item",)


def test_a_path_at_an_end_of_its_range_is_said_to_be() -> None:
    rng = np.random.default_rng(5)
    n, J, rho = 20, 5, 0.6
    data = pd.DataFrame({"id": np.repeat(np.arange(n), J), "t": np.tile(np.arange(float(J)), n)})
    state = rng.normal(size=(n, J))
    for j in range(1, J):
        state[:, j] = rho * state[:, j - 1] + np.sqrt(1 - rho**2) * state[:, j]
    data["y"] = 2 * state.ravel() + 0.3 * rng.normal(size=n * J)
    data["level"] = 2 * rng.normal(size=n)[data.id] + 0.3 * rng.normal(size=n * J)
    (note,) = fitted("level ~ 1 + (ou(t) | id)", data, se=None).messages
    assert "boundary: the range of `ou(t)` has run to an end (" in note
    assert "does not change over time, as a random intercept" in note
    fit = fitted("y ~ 1 + (ou(t) | id)", data, se=None)
    assert fit.messages == ()
    done = fit.estimate
    noisy = {**done.theta, "extra": torch.tensor([-1.0]).double()}  # as if there were noise
    theta = {**noisy, "latent1.log_range": torch.tensor([8.0]).double()}
    (note,) = of_boundary(replace(done, theta=theta), None)
    assert "the range of `ou(t)` has run to an end" in note
    assert "does not change over time, as a random intercept" in note
    low = {**noisy, "latent1.log_range": torch.tensor([-8.0]).double()}
    (note,) = of_boundary(replace(done, theta=low), None)
    assert "independent, as residuals are" in note
    zero = {**noisy, "latent1.log_sd": torch.tensor([-20.0]).double()}
    (note,) = of_boundary(replace(done, theta=zero), None)
    assert "the variance of `ou(t)` is estimated as zero" in note

    # the steps of a path may all be small, and the path large
    idle = Activity((done.model.k,), torch.zeros(done.model.k), torch.zeros(done.model.k))
    assert collapse_messages(replace(done, activity=idle)) == ()


@pytest.mark.parametrize(
    ("atanh", "states"), [(5.0, "does not change"), (-5.0, "changes its sign"), (2.0, "")]
)
def test_a_correlation_of_one_between_visits_is_an_end(atanh: float, states: str) -> None:
    model, _ = build("y ~ x + (ar1(visit) | id)", frame(8, 5).assign(visit=lambda d: d.y.index % 5))
    weights = {"log_sd": torch.zeros(1).double(), "atanh_rho": torch.tensor([atanh]).double()}
    found = model.latents[0].at_boundary(weights, 1e-4)
    assert found.names == ()
    assert bool(found.held["atanh_rho"]) == bool(states)
    assert [states in reason for reason in found.reasons] == ([True] if states else [])


def test_directions_without_use_of_linear_effects_are_named() -> None:
    done = fitted("y ~ t + (t | id)", lines(1.2, 0.82, shared=False), se=None).estimate
    idle = Activity((2,), torch.tensor([0.9, 0.001]), torch.tensor([0.9, 0.001]))
    (note,) = collapse_messages(replace(done, activity=idle))
    assert "differ between subjects in 1 of 2 directions" in note


def test_the_part_of_a_variance_is_named() -> None:
    rng = np.random.default_rng(5)
    n, J = 30, 5
    data = pd.DataFrame({"id": np.repeat(np.arange(n), J)})
    level = np.exp(0.5 + 0.5 * rng.normal(size=n)[data.id])
    data["c"] = rng.poisson(level) * (rng.random(n * J) > 0.3)
    fit = fitted("c ~ 1 + (1 | id)", data, family="poisson", zi="~ 1 + (1 | id)", se=None)
    sd = fit.var_corr().set_index("group")["sdcor"]
    assert sd["id (zi)"] < 1e-3 < sd["id"]
    (note,) = of_boundary(fit.estimate, None)
    assert "in zi= (1 | id) the variance of `(Intercept)` is estimated as zero" in note
    assert fit.boundary() == ("zi:(Intercept)",)


# -- neural random effects -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deep() -> Fit:
    """Neural random effects of data whose subjects differ in nothing."""
    data = lines(0.0, 0.0, shared=False)
    return fitted(DEEP, data, starts=1, se=None, control=QUICK)


def test_a_deep_fit_passes_on_that_its_nested_model_is_singular(deep: Fit) -> None:
    nested = deep.estimate.nested
    assert nested is not None
    (reason, *_) = boundary_reasons(nested)
    assert any("nested classical model is a boundary" in m and reason in m for m in deep.messages)
    assert deep.is_singular()


def test_one_direction_in_use_may_be_noise(deep: Fit) -> None:
    def note(value: float, log_diagonal: list[float]) -> str:
        done = deep.estimate
        assert done.nested is not None
        theta = {**done.nested.theta, "latent1.log_diagonal": torch.tensor(log_diagonal).double()}
        one = torch.tensor([value, 0.001]).double()
        nested, activity = replace(done.nested, theta=theta), Activity((2,), one, one)
        (found,) = collapse_messages(replace(done, nested=nested, activity=activity))
        return found

    assert "finds no differences between subjects" in note(0.1, [-30.0, -30.0])
    assert "whether they differ at all" in note(0.1, [-1.5, -30.0])
    assert "Nothing is wrong with the fit" in note(0.9, [-1.5, -30.0])


def test_a_deep_fit_of_subjects_that_differ_is_not_singular(deep: Fit) -> None:
    data = lines(1.2, 0.82, shared=False)
    fit = fitted(DEEP, data, starts=1, se=None, control=QUICK)
    assert not fit.is_singular()
    assert of_nested_boundary(fit.estimate, None) == ()
    # one direction idle, as p(b | y) often has it, is no boundary while the nested model has none
    activity = fit.estimate.activity
    assert activity is not None
    idle = replace(activity, posterior=torch.tensor([0.9, 0.001]).double())
    assert not replace(fit, estimate=replace(fit.estimate, activity=idle)).is_singular()
    none = replace(activity, posterior=torch.zeros(2).double())
    assert replace(fit, estimate=replace(fit.estimate, activity=none)).is_singular()


@pytest.mark.parametrize(("gap", "notes"), [(0.05, 0), (21.0, 1)])
def test_an_encoder_that_is_off_is_said_to_be(gap: float, notes: int, deep: Fit) -> None:
    done = deep.estimate
    off = replace(done, elbo=done.log_likelihood - 60 * gap, elbo_error=0.1, mc_error=0.1)
    found = of_encoder(off, None)
    assert len(found) == notes
    assert not notes or "21.00 nats per subject" in found[0]


@pytest.mark.parametrize(
    ("elbo", "kept", "notes"),
    [
        ((-9.0, -8.5), 0, 0),
        ((-9.0, -10.5), 0, 0),
        ((-9.0, -12.0), 0, 1),
        ((-9.0, -12.0), 5, 0),
        ((-90.0, -95.0), 0, 0),
    ],
)
def test_an_elbo_that_fell_is_blamed_on_the_rate(
    elbo: tuple[float, ...], kept: int, notes: int, deep: Fit
) -> None:
    assert of_training(deep.estimate, None) == ()
    done = replace(deep.estimate, trace=Trace(elbo, 0.1, 2, (), kept))
    found = of_training(done, None)
    assert len(found) == notes
    assert not notes or "fell from -9.00 to -12.00 nats per subject" in found[0]


def test_a_silent_network_left_of_a_bar_is_named() -> None:
    texts = [f"y ~ t + (dnn(t, hidden=(3,), ridge={ridge}) | id)" for ridge in (1e6, 0.05)]
    quiet, loud = (mixed_model(text, frame(25, 5), control=QUICK, starts=1) for text in texts)
    assert any(
        "the network of (dnn(t, hidden=(3,)" in note and note.endswith("is silent")
        for note in quiet.messages
    )
    assert not any("is silent" in note for note in loud.messages)
