"""Curves that b shifts, stretches and scales: the term, its start, its modes, fits with it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor
from toys import build, frame, generator

import dgmm
from dgmm.formula import with_own_options
from dgmm.latent.dnn import Neural
from dgmm.latent.warp import FIRST, KNOTS, LAST, REACH, TIMES
from dgmm.model import Model, candidates
from dgmm.numerics.quadrature import sobol_normal
from dgmm.panel import LatentRows, Panel
from dgmm.parameters import Theta, part
from dgmm.posterior.modes import find_modes
from dgmm.runtime.devices import to

TERM = "(dnn(poly(t, 3), form='warped', hidden=(6,), latent=3) | id)"
QUICK = {"epochs": 30, "draws": 128, "replicates": 2, "polish_draws": 64}


def waves(n: int = 60, J: int = 12, phase: float = 0.6, seed: int = 1) -> pd.DataFrame:
    """y = 2 sin(2 pi (t + shift_i)) + level_i + noise, t on [0, 1]."""
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), J), "t": np.tile(np.linspace(0, 1, J), n)})
    shift, level = rng.normal(0, phase / (2 * np.pi), n), rng.normal(0, 0.4, n)
    data["mu"] = 2 * np.sin(2 * np.pi * (data.t + shift[data.id])) + level[data.id]
    data["y"] = data["mu"] + rng.normal(0, 0.3, n * J)
    return data


def made() -> tuple[Model, Panel, Neural]:
    model, panel = build(f"y ~ t + {TERM}", frame(10, 6), unit=1.7)
    latent = model.latents[0]
    assert isinstance(latent, Neural)
    return model, panel, latent


def drawn(latent: Neural, seed: int = 4) -> dict[str, Tensor]:
    g = generator(seed)
    return {
        name: 0.3 * torch.randn(shape, generator=g, dtype=torch.float64)
        for name, shape in latent.shapes().items()
    }


# -- the term --------------------------------------------------------------------------------------


def test_the_effect_is_the_curve_at_the_moved_time() -> None:
    _, panel, latent = made()
    warp = latent.warp
    assert warp is not None
    weights = drawn(latent)
    b = torch.randn(5, latent.dim, generator=generator(2), dtype=torch.float64)
    T = panel.rows.T[0].reshape(10, 6, -1)[:5]
    ready = {**weights, **warp.prepare(weights, latent.centre)}
    effect = warp.effect(ready, b, T)

    time = panel.rows.T[0] @ warp.along
    assert float(time.min()) == pytest.approx(-1)
    assert float(time.max()) == pytest.approx(1)
    knots = np.linspace(FIRST, LAST, KNOTS)
    h = CubicSpline(knots, warp.curve.columns(torch.from_numpy(knots)).numpy(), bc_type="natural")

    def curve(who: Tensor, s: Tensor) -> np.ndarray:
        tau = ((s - who @ weights["shift"]) * (who @ weights["stretch"]).exp()).numpy()
        inside = h(tau.clip(FIRST, LAST))
        beyond = (tau - tau.clip(FIRST, LAST))[:, None] * h(tau.clip(FIRST, LAST), 1)
        gain = float((who @ weights["size"]).exp())
        result: np.ndarray = gain * (inside + beyond) @ weights["curve"].numpy()
        return result

    for i in range(5):
        s = T[i] @ warp.along
        mean = np.mean([curve(other, s) for other in latent.centre], axis=0)
        # the mean over b is kept at knots, between which it is smooth
        assert np.allclose(effect[i].numpy(), curve(b[i], s) - mean, atol=1e-2)


def at(latent: Neural, panel: Panel, s: Tensor) -> LatentRows:
    """The rows (1, J) of one subject at times s on the scale where the data lie on [-1, 1]."""
    assert latent.warp is not None
    T = panel.rows.T[0]

    def powers(time: Tensor) -> Tensor:
        return time[:, None] ** torch.arange(4, dtype=time.dtype)

    cubic = torch.linalg.lstsq(powers(T @ latent.warp.along), T).solution
    rows = (powers(s) @ cubic)[None]
    return LatentRows(rows, rows, rows[..., 0])


@pytest.mark.parametrize("size", [0.5, 1.0])
def test_the_mean_over_b_is_zero_outside_the_observed_times_too(size: float) -> None:
    _, panel, latent = made()
    warp, weights = latent.warp, drawn(latent)
    assert warp is not None
    weights |= {name: size * weights[name] for name in ("shift", "stretch", "size")}
    weights |= {name: 0 * weights[name] for name in ("A1", "A2", "a1", "Lambda")}
    ready = {**weights, **latent.prepare(weights)}
    s = torch.linspace(-REACH - 1, REACH + 1, 173, dtype=torch.float64)
    rows = at(latent, panel, s)
    assert torch.allclose(rows.T[0] @ warp.along, s)
    centre, many = latent.centre[:, None], sobol_normal(latent.dim, 2**13, seed=9)[:, None]
    effect = latent.effect(ready, many, rows)[:, 0]
    # by the knots, against the draws over which it is centred
    assert (
        float((latent.effect(ready, centre, rows)[:, 0].mean(0) / effect.std(0)).abs().max()) < 0.01
    )
    # by those draws, against many others
    assert float((effect.mean(0) / effect.std(0)).abs().max()) < 0.06


def test_the_tangent_is_the_mean_slope() -> None:
    _, panel, latent = made()
    warp = latent.warp
    assert warp is not None
    s = torch.linspace(FIRST, LAST, 100, dtype=torch.float64)
    line = torch.linalg.lstsq(warp.curve.columns(s), (0.4 - 0.7 * s)[:, None], driver="gelsd")
    weights = {**drawn(latent), "curve": line.solution[:, 0]}  # level and trend of h
    T = panel.rows.T[0].reshape(10, 6, -1)[:1]
    wide = latent.centre[:, None, :]
    slope = warp.jacobian({**weights, **warp.prepare(weights, latent.centre)}, wide, T).mean(0)[0]
    tangent = latent.tangent(weights) - latent.loadings(weights)
    assert torch.allclose(T[0] @ tangent, slope, atol=1e-6)


def test_the_start_is_the_linear_model_to_first_order() -> None:
    _, panel, latent = made()
    T = panel.rows.T[0]
    D = torch.diag(torch.tensor([0.5, 0.3, 0.2, 0.1], dtype=torch.float64))
    tied = latent.from_covariance(D, T.T @ T / len(T), generator())
    profile = (2 * T @ latent.warp.along).sin() if latent.warp is not None else T[:, 0]
    start = latent.from_profile(tied, T, profile)
    assert float(start["curve"].norm()) > 0.1
    assert float(torch.stack([start[n].norm() for n in ("shift", "size")]).max()) > 0.05
    rows, b = T[:, None, :], torch.zeros(len(T), latent.dim, dtype=torch.float64)
    ready = {**start, **latent.prepare(start)}
    random = {n: 0 * w if n in latent.penalised else w for n, w in ready.items()}
    before = T @ latent.loadings(tied)
    after = latent.jacobian(random, b, LatentRows(rows, rows, rows[..., 0]))[:, 0]
    # what is random in the start, and what of a slope of the curve is no combination of T
    assert float((before - after).square().mean() / before.square().mean()) < 0.02


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_start_does_not_hang_on_the_units_of_the_outcome(scale: float) -> None:
    starts = []
    for unit in (1.7, 1.7 * scale):
        model, panel = build(f"y ~ t + {TERM}", frame(10, 6), unit=unit)
        latent = model.latents[0]
        assert isinstance(latent, Neural)
        assert latent.warp is not None
        T = panel.rows.T[0]
        D = unit**2 * torch.diag(torch.tensor([0.5, 0.3, 0.2, 0.1], dtype=torch.float64))
        tied = latent.from_covariance(D, T.T @ T / len(T), generator())
        starts.append(latent.from_profile(tied, T, 2 * unit * (T @ latent.warp.along).sin()))
    assert float(starts[0]["curve"].norm()) > 0.1
    for name in ("curve", "shift", "stretch", "size", "Lambda"):
        assert torch.allclose(starts[0][name], starts[1][name], atol=1e-6), name


def test_other_latents_have_no_curve_to_follow() -> None:
    model, panel = build("y ~ t + (dnn(t, hidden=(6,)) | id)", frame(10, 6))
    latent = model.latents[0]
    weights = latent.initial(generator())
    assert latent.from_profile(weights, panel.rows.T[0], panel.rows.T[0][:, 0]) is weights
    assert len(latent.candidate_modes(weights)) == 1
    assert latent.remark(weights) == ""


def test_a_weak_penalty_that_no_search_moves() -> None:
    model, *_ = made()
    kappa = model.ridge()
    for name in ("shift", "stretch", "size"):
        assert kappa[f"latent1.{name}"] == 16.0  # a prior standard deviation of a quarter
        assert model.with_ridge({"latent1": 3.0}).ridge()[f"latent1.{name}"] == 16.0
    assert kappa["latent1.curve"] == 1.0
    assert model.with_ridge({"latent1": 3.0}).ridge()["latent1.A1"] == 3.0


@pytest.mark.parametrize(
    ("term", "said"),
    [
        ("(dnn(0 + poly(t, 3), form='warped') | id)", "keep the intercept"),
        ("(dnn(t * x, form='warped') | id)", "one numeric variable"),
        ("(dnn(t, form='wrapped') | id)", "'coefficients', 'warped', 'dense' or 'auto'"),
    ],
)
def test_terms_without_a_time_are_refused(term: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build(f"y ~ x + {term}", frame(10, 6))


@pytest.mark.parametrize(
    ("term", "ridges"),
    [
        ("(dnn(poly(t, 3), hidden=(6,), form='auto') | id)", [1.0, 25.0]),
        ("(dnn(t, hidden=(6,), ridge=3, form='auto') | id)", [3.0, 3.0]),
        ("(dnn(t, hidden=(6,)) | id)", [1.0]),
        ("(dnn(t, hidden=(6,), form='coefficients') | id)", [1.0]),
        ("(dnn(t, hidden=(6,), form='dense') | id)", [1.0]),
        ("(dnn(0 + t, hidden=(6,), form='auto') | id)", [1.0]),
        ("(dnn(t * x, hidden=(6,), form='auto') | id)", [1.0]),
    ],
)
def test_the_formula_leaves_the_form_open(term: str, ridges: list[float]) -> None:
    model, _ = build(f"y ~ x + {term}", frame(10, 6))
    found = candidates(model)
    assert [one.latent_ridge for one in found] == [(ridge,) for ridge in ridges]
    asked = [dict(one.latents[0].spelled())["form"] for one in found]
    assert asked == (["coefficients", "warped"] if len(found) > 1 else [model.latents[0].form])
    for one, form in zip(found, asked, strict=True):
        assert candidates(one) == (one,)  # nothing is left open
        text = with_own_options(f"y ~ x + {term}", [{"form": form}])
        same, _ = build(text, frame(10, 6))
        assert same.packing.shapes == one.packing.shapes
        assert (same.latents[0].warp is None) == (one.latents[0].warp is None)


def test_two_terms_are_varied_one_at_a_time() -> None:
    term = "(dnn({}, hidden=(3,), form='auto') | id)"
    text = f"y ~ x + {term.format('t')} + (1 | id) + {term.format('poly(t, 2)')}"
    model, _ = build(text, frame(10, 6))
    forms = [[one.spelled().get("form") for one in some.latents] for some in candidates(model)]
    general, warped = "coefficients", "warped"
    assert forms == [[general, None, general], [warped, None, general], [general, None, warped]]


def test_a_time_that_does_not_move_is_refused() -> None:
    data = frame(10, 6).assign(u=0.5)
    formula = "y ~ x + (dnn(u, form='warped') | id)"
    with pytest.warns(UserWarning, match="dropped"), pytest.raises(ValueError, match="one numeric"):
        dgmm.mixed_model(formula, data, verbose=0)


def test_heads_of_patterns_share_the_curve() -> None:
    model, *_ = made()
    head = set(model.head())
    assert head.isdisjoint({f"latent1.{name}" for name in ("shift", "stretch", "size", "curve")})
    assert {"beta", "extra", "latent1.Lambda", "latent1.A2"} <= head
    assert "latent1.A1" not in head


def test_an_intercept_of_its_own_may_stand_beside_a_warped_curve() -> None:
    model, _ = build(f"y ~ t + (1 | id) + {TERM}", frame(10, 6))
    alone, *_ = made()
    together, one = model.latents[1], alone.latents[0]
    assert isinstance(together, Neural)
    assert isinstance(one, Neural)
    assert together.warp is not None
    assert one.warp is not None
    assert together.names == one.names
    assert torch.allclose(together.warp.along, one.warp.along)


# -- modes -----------------------------------------------------------------------------------------


def test_modes_are_looked_for_on_both_sides_of_a_wave() -> None:
    """A wave half a period early or late: from b = 0 Newton ends in the nearest mode."""
    data = waves(200, 12, phase=1.5, seed=3)
    model, panel = build("y ~ 1 + (dnn(poly(t, 5), form='warped', latent=2) | id)", data)
    latent = model.latents[0]
    assert isinstance(latent, Neural)
    assert latent.warp is not None
    theta: Theta = {
        name: torch.zeros(shape, dtype=torch.float64)
        for name, shape in model.packing.shapes.items()
    }
    s = panel.rows.T[0] @ latent.warp.along
    columns = latent.warp.curve.columns(torch.linspace(-1.5, 1.5, 300, dtype=torch.float64))
    wave = 2 * torch.sin(torch.pi * (torch.linspace(-1.5, 1.5, 300, dtype=torch.float64) + 1))
    theta["latent1.curve"] = torch.linalg.lstsq(columns, wave[:, None]).solution[:, 0]
    theta["latent1.shift"] = torch.tensor([-1.5 / torch.pi, 0.0], dtype=torch.float64)
    theta["latent1.stretch"] = torch.tensor([0.0, 0.02], dtype=torch.float64)
    theta["extra"] = torch.full_like(theta["extra"], -1.2)
    assert len(s) == panel.n_rows
    block = next(iter(panel.blocks()))
    ready = model.prepare(theta)
    near = find_modes(model, theta, block, torch.zeros(panel.n, model.k, dtype=torch.float64))
    best = find_modes(model, theta, block)
    gain = model.log_joint(ready, best.mode, block) - model.log_joint(ready, near.mode, block)
    assert float(gain.min()) > -1e-6
    assert int((gain > 1.0).sum()) >= 2
    places = model.candidate_modes(ready)
    assert places.shape == (9, 2)
    assert not places[0].any()
    assert part(ready, "latent1.")["mean"].shape == (TIMES,)


def test_far_b_give_finite_curves() -> None:
    """An encoder that has not learnt yet may ask for them, in single precision."""
    _, panel, latent = made()
    weights = drawn(latent)
    far = 1e4 * torch.randn(10, latent.dim, generator=generator(2), dtype=torch.float64)
    ready = {n: w.float() for n, w in {**weights, **latent.prepare(weights)}.items()}
    assert latent.warp is not None
    small = to(latent.warp, "cpu", torch.float32)
    T = panel.rows.T[0].reshape(10, 6, -1).float()
    b = far.float().requires_grad_()
    effect = small.effect(ready, b, T)
    assert torch.isfinite(effect).all()
    assert torch.isfinite(torch.autograd.grad(effect.sum(), b)[0]).all()


# -- fits ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def waved() -> dgmm.Fit:
    formula = "y ~ ns(t, 5) + (dnn(ns(t, 5), form='warped', latent=3, hidden=(8,)) | id)"
    return dgmm.mixed_model(formula, waves(), seed=1, verbose=0, starts=1, control=QUICK)


def test_a_fit_finds_the_phases(waved: dgmm.Fit) -> None:
    data = waves()
    linear = dgmm.mixed_model("y ~ ns(t, 5) + (ns(t, 5) | id)", data)
    assert waved.loglik().value > linear.loglik().value + 20
    error = np.sqrt(np.mean((waved.predict(data)["fit"] - data["mu"]) ** 2))
    assert error < np.sqrt(np.mean((linear.predict(data)["fit"] - data["mu"]) ** 2))
    theta, latent = waved.estimate.theta, waved.estimate.model.latents[0]
    assert isinstance(latent, Neural)
    assert latent.warp is not None
    moved = waved.ranef().to_numpy() @ theta["latent1.shift"].numpy() * latent.warp.half
    phases = np.random.default_rng(1).normal(0, 0.6 / (2 * np.pi), 60)  # as waves() draws them
    assert abs(np.corrcoef(moved, phases)[0, 1]) > 0.95
    sd = float(theta["latent1.shift"].norm()) * latent.warp.half
    assert sd == pytest.approx(0.6 / (2 * np.pi), rel=0.5)  # size and lines take a part of it


def test_the_summary_says_how_far_curves_are_moved(waved: dgmm.Fit) -> None:
    text = str(waved.summary())
    assert "Warped curve: SD of its shift" in " ".join(text.split())


def test_the_fit_is_saved_with_its_curve(waved: dgmm.Fit, tmp_path) -> None:  # type: ignore[no-untyped-def]
    waved.save(tmp_path / "fit.dgmm")
    again = dgmm.load(tmp_path / "fit.dgmm")
    data = waves(6, 12, seed=9)
    assert np.allclose(again.predict(data)["fit"], waved.predict(data)["fit"])


def test_standard_errors_and_random_profile(waved: dgmm.Fit) -> None:
    assert waved.information is not None
    assert float(waved.information.effective["latent1"]) > 0
    profile = waved.random_profile()
    assert (profile.table["sd"] > 0).all()
