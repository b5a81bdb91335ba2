"""Recursions of several outcomes: dense normals, quadrature, and the model of one outcome."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from toys import generator, random_theta, whole

import dgmm
from dgmm import mv
from dgmm.design import build_design
from dgmm.encoders import Sequential, of_recursion
from dgmm.families import find
from dgmm.formula import parse_formula
from dgmm.latent import Recursion, structures, words
from dgmm.model import Model, Part, build_model, join, join_panels, led_by, led_panel, led_theta
from dgmm.model.simulation import simulate_every
from dgmm.networks import Weights
from dgmm.panel import Panel
from dgmm.parameters import Theta, part
from dgmm.variational.bounds import importance, particles
from dgmm.variational.elbo import elbo

NAMES = ("y", "z", "w")
TERMS = (
    "kvae(t, code=2, state=2, K=2, hidden=3)",
    "kvae(t, code=2, K=2, hidden=3, control=~ u, posterior='frame')",
    "dmm(t, state=2, hidden=3)",
    "vrnn(t, latent=1, hidden=3, control=~ u)",
    "vrnn(t, latent=1, hidden=3, posterior='filter')",
    "kvae(t, code=1, state=2, K=2, hidden=3, decoder=(4, 3), encoder='joint')",
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Draws without a generator are those of one seed."""
    torch.manual_seed(0)


def frame(n: int = 5, T: int = 5, seed: int = 0) -> pd.DataFrame:
    """Subjects of two to five visits, one visit without a row, cells and whole rows missing."""
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), T), "t": np.tile(np.arange(1, T + 1), n)})
    data["u"] = rng.normal(size=n * T)
    s = rng.normal(size=n * T).cumsum() / 3
    for k, name in enumerate(NAMES):
        data[name] = k + (1 + k) * s + 0.5 * rng.normal(size=n * T)
    for name, gone in {"y": [7, 16], "z": [2, 7, 16], "w": [7, 22]}.items():
        data.loc[data.index.isin(gone), name] = np.nan
    kept = (data.t <= data.id % T + 2) & ~((data.id == 3) & (data.t == 3))
    return data[kept].reset_index(drop=True)


def joint(
    term: str,
    data: pd.DataFrame,
    names: tuple[str, ...] = NAMES,
    families: tuple[str, ...] = ("gaussian",) * 3,
    seen_rows_alone: bool = False,
) -> tuple[Model, Panel]:
    """The joint model of some columns, and the panel of all their rows.

    seen_rows_alone: every outcome has the rows with a value of it and no other.
    """
    models, panels = [], []
    for name, word in zip(names, families, strict=False):
        text = f"{name} ~ 1 + ({term} |p| id)"
        formula = parse_formula(text, latent_words=words(), structures=structures())
        rows = data[data[name].notna()] if seen_rows_alone else data
        design = build_design(formula, rows)
        models.append(build_model(design, find(word), 0.7))
        panels.append(Panel.from_design(design))
    parts = (tuple(Part(o, 0, "p") for o in range(len(names))),)
    panel = join_panels(panels, parts)
    return join(names, models, parts).sized(panel), panel


def learnt(model: Model, seed: int = 1) -> tuple[Theta, Sequential, Weights]:
    """Weights of a model and of its encoder that are nothing special."""
    encoder, g = of_recursion(model), generator(seed + 5)
    phi = {
        name: 0.3 * torch.randn(shape, generator=g, dtype=torch.float64)
        for name, shape in encoder.shapes().items()
    }
    return random_theta(model, seed), encoder, phi


# -- the linear Gaussian case ----------------------------------------------------------------------


def silent(model: Model) -> tuple[Theta, Sequential, Weights]:
    """A linear decoder, and an encoder that adds nothing."""
    theta = {n: 0 * v if "decoder" in n else v for n, v in random_theta(model, 3).items()}
    encoder = of_recursion(model)
    return theta, encoder, {n: torch.zeros(s).double() for n, s in encoder.shapes().items()}


def dense(model: Model, theta: Theta, data: pd.DataFrame, names: tuple[str, ...]) -> torch.Tensor:
    """log p(y_i) of kvae(K=1) with a linear decoder, from the normal density of all outcomes."""
    w, one, found = part(theta, "latent1."), model.latents[0], []
    K, d, p = len(names), one.dynamic, one.size  # type: ignore[attr-defined]
    A, B, C = w["A"][0], w["B"][0], w["C"][0]
    c = 0.7 * w["c"].reshape(K, p)
    V1, Q, R = (torch.diag((2 * w[n]).exp()) for n in ("l1", "lq", "lr"))
    sd = torch.stack([theta[f"{one.key}extra"][0].exp() for one in model.outcomes])
    beta = torch.stack([one.beta(theta)[0] for one in model.outcomes])
    for _, rows in data.groupby("id"):
        first, last = int(rows.t.min()), int(rows.t.max())
        T = last - first + 1
        u = torch.zeros(T).double()
        for t in range(T):  # between rows controls stay
            own = rows.u[rows.t <= first + t].to_numpy()[-1]
            u[t] = (own - one.centre[0]) / one.spread[0] if one.inputs else 0.0  # type: ignore[attr-defined]
        mean, cov = torch.zeros(T, d).double(), torch.zeros(T, T, d, d).double()
        for t in range(T):
            forced = B[:, 0] * u[t] if one.inputs else torch.zeros(d).double()
            mean[t] = forced + (A @ mean[t - 1] if t else 0.0)
            cov[t, t] = A @ cov[t - 1, t - 1] @ A.T + Q if t else V1
            for s in range(t):
                cov[t, s] = A @ cov[t - 1, s]
                cov[s, t] = cov[t, s].T
        load = c @ C
        V = torch.einsum("kd,tsde,le->tksl", load, cov, load)
        for t in range(T):
            V[t, :, t] += c @ R @ c.T + torch.diag(sd.square())
        V, m = V.reshape(T * K, T * K), (beta + mean @ load.T).reshape(-1)
        y = torch.full((T, K), torch.nan, dtype=torch.float64)
        for row in rows.itertuples():
            y[row.t - first] = torch.tensor([getattr(row, name) for name in names])
        y = y.reshape(-1)
        own = ~y.isnan()
        law = torch.distributions.MultivariateNormal(m[own], V[own][:, own])
        found.append(law.log_prob(y[own]))
    return torch.stack(found)


@pytest.mark.parametrize("names", [("y", "z"), NAMES])
@pytest.mark.parametrize("term", ["kvae(t, code=1, K=1)", "kvae(t, code=2, K=1, control=~ u)"])
def test_with_a_linear_decoder_the_bound_is_the_dense_normal(term: str, names: Any) -> None:
    data = frame()
    model, panel = joint(term, data, names)
    theta, encoder, phi = silent(model)
    seen = model.history(panel)
    exact = dense(model, theta, data, names)
    values = importance(model, encoder, theta, phi, seen, 4, generator())
    assert torch.allclose(values, exact.expand_as(values), atol=1e-8)
    cloud = particles(model, encoder, theta, phi, seen, 8, generator())
    assert torch.allclose(cloud, exact, atol=1e-8)


# -- identities ------------------------------------------------------------------------------------


def values_of(model: Model, panel: Panel, weights: Any, e: torch.Tensor) -> torch.Tensor:
    theta, encoder, phi = weights
    ready, block = model.prepare(theta), whole(model.history(panel))
    drawn = encoder.posterior(phi, model, ready, block).sample(e)
    return torch.stack([drawn.log_likelihood(model, ready, block), drawn.log_ratio])


@pytest.mark.parametrize("term", TERMS)
def test_draws_carry_the_random_part_that_b_has(term: str) -> None:
    model, panel = joint(term, frame())
    theta, encoder, phi = learnt(model)
    ready, block = model.prepare(theta), whole(model.history(panel))
    e = torch.randn(4, panel.n, model.k, dtype=torch.float64)
    drawn = encoder.posterior(phi, model, ready, block).sample(e)
    own = drawn.log_likelihood(model, ready, block)
    assert torch.allclose(own, model.log_likelihood(ready, drawn.b, block), atol=1e-12)
    g = torch.randn(20_000, panel.n, model.k, generator=generator(2), dtype=torch.float64)
    many = encoder.posterior(phi, model, ready, block).sample(g)
    error = many.log_ratio.std(0) / math.sqrt(20_000)
    assert bool(((many.log_ratio.mean(0) - many.kl).abs() < 4 * error).all())


@pytest.mark.parametrize("term", TERMS)
def test_the_leading_outcome_and_the_order_of_subjects_change_nothing(term: str) -> None:
    model, panel = joint(term, frame())
    theta, encoder, phi = learnt(model)
    e = torch.randn(3, panel.n, model.k, dtype=torch.float64)
    first = values_of(model, panel, (theta, encoder, phi), e)
    for o in (1, 2):
        weights = (led_theta(model, theta, o), encoder, phi)
        other = values_of(led_by(model, o), led_panel(panel, o), weights, e)
        assert torch.allclose(other, first, atol=1e-12)
    order = [3, 0, 4, 2, 1]
    turned = values_of(model, panel.select(np.array(order)), (theta, encoder, phi), e[:, order])
    assert torch.allclose(turned, first[:, :, order], atol=1e-12)


def test_codes_between_frames_that_tell_nearly_all_are_smoothed() -> None:
    """Where outcomes have little noise q of a gap is p(a | codes seen), and the bound is tight."""
    term, rng = (
        "kvae(t, code=1, state=2, K=1, hidden=3, posterior='frame')",
        np.random.default_rng(5),
    )
    data = frame(n=6)
    model, _ = joint(term, data)
    theta, encoder, phi = silent(model)
    theta["latent1.A"] = 0.98 * torch.eye(2, dtype=torch.float64)[None]
    theta |= {
        f"latent1.{name}": torch.full_like(theta[f"latent1.{name}"], -2.0) for name in ("lq", "lr")
    }
    c = theta["latent1.c"].numpy()
    C, start, sd = theta["latent1.C"][0, 0].numpy(), theta["latent1.l1"].exp().numpy(), np.exp(-2.0)
    z, a = np.zeros(2), np.zeros(len(data))
    for row, (first, steps) in enumerate(zip(data.t == 1, data.t.diff(), strict=True)):
        if first:
            z = start * rng.normal(size=2)
        for _ in range(0 if first else int(steps)):
            z = 0.98 * z + sd * rng.normal(size=2)
        a[row] = C @ z + sd * rng.normal()
    for k, one in enumerate(model.outcomes):
        theta[f"{one.key}extra"] = torch.full_like(theta[f"{one.key}extra"], -6.0)
        mean = float(one.beta(theta)[0]) + 0.7 * c[k] * a
        data[NAMES[k]] = mean + np.exp(-6.0) * rng.normal(size=len(data))
    data.loc[data.t.isin([2, 3]), list(NAMES)] = np.nan
    model, panel = joint(term, data)
    block = panel.masked_rows().block(torch.arange(panel.n))
    e = torch.randn(400, panel.n, model.k, generator=generator(3), dtype=torch.float64)
    gap = dense(model, theta, data, NAMES) - elbo(model, encoder, theta, phi, block, e).elbo
    assert gap.max() < 0.2
    assert gap.min() > -0.2


@pytest.mark.parametrize("term", TERMS[2:4])
def test_formulas_in_another_order_make_the_same_model(term: str) -> None:
    """Rows of c, outputs of the decoder and columns of what is read change places."""
    data, K = frame(), 3
    model, panel = joint(term, data)
    theta, _, _ = learnt(model)
    order = (2, 0, 1)
    other, moved = joint(term, data, tuple(NAMES[o] for o in order))
    one = model.latents[0]
    swapped = {n: v for n, v in theta.items() if n.startswith("latent")}
    swapped["latent1.c"] = theta["latent1.c"].reshape(K, -1)[list(order)].reshape(-1)
    for name in ("A2", "a2"):
        swapped[f"latent1.decoder.{name}"] = theta[f"latent1.decoder.{name}"][list(order)]
    for name in [n for n in swapped if n.startswith("latent1.memory.") and swapped[n].ndim == 2]:
        if swapped[name].shape[1] == one.memory.inputs:  # type: ignore[attr-defined]
            rest = list(range(K, swapped[name].shape[1]))
            swapped[name] = theta[name][:, [*order, *rest]]
    for o, outcome in zip(order, other.outcomes, strict=True):
        for what in ("beta", "extra"):
            swapped[f"{outcome.key}{what}"] = theta[f"{model.outcomes[o].key}{what}"]
    b = torch.randn(4, panel.n, model.k, dtype=torch.float64)
    if one.reads:
        steps = b.reshape(4, panel.n, -1, one.per_step)  # type: ignore[attr-defined]
        at = [0, *(1 + o for o in order)]
        turned = steps[..., at].reshape(b.shape)
    else:
        turned = b
    before, after = (
        m.log_likelihood(m.prepare(t), x, whole(m.history(p)))
        for m, t, x, p in ((model, theta, b, panel), (other, swapped, turned, moved))
    )
    assert torch.allclose(before, after, atol=1e-12)


@pytest.mark.parametrize("term", TERMS)
def test_an_outcome_that_was_not_seen_needs_no_row(term: str) -> None:
    """Rows of an outcome are its own: without a value they may be there or not."""
    data = frame()
    data.loc[data.id == 1, "z"] = np.nan  # a subject without an outcome
    gone = data[list(NAMES)].isna().all(axis=1)
    data["u"] = data.u.mask(gone).groupby(data.id).ffill()  # as between rows
    model, panel = joint(term, data)
    few, sparse = joint(term, data, seen_rows_alone=True)
    few = replace(_as_read(few, model), outcomes=model.outcomes).sized(sparse)
    assert few.k <= model.k
    theta = random_theta(model, 2)
    if term.startswith("dmm"):  # a time without any outcome is a step of its own
        model, panel = joint(term, data[~gone])
        model = _as_read(model, few)
    b = torch.randn(3, panel.n, model.k, dtype=torch.float64)
    dense_rows = model.log_likelihood(model.prepare(theta), b, whole(model.history(panel)))
    own = few.log_likelihood(few.prepare(theta), b[..., : few.k], whole(few.history(sparse)))
    assert torch.allclose(dense_rows, own, atol=1e-12)


def _as_read(model: Model, other: Model) -> Model:
    """The model with what the rows of another one have said of inputs and gaps."""
    one, known = model.latents[0], other.latents[0]
    assert isinstance(one, Recursion)
    assert isinstance(known, Recursion)
    own = replace(one, usual=known.usual, centre=known.centre, spread=known.spread)
    return replace(model, latents=(own,))


@pytest.mark.parametrize("term", ["kvae(t, code=2, K=1)", "dmm(t, state=2, hidden=3)"])
def test_outcomes_that_nobody_has_leave_the_model_of_one(term: str) -> None:
    """With the draws of the one, b is the same and so is p(y | b)."""
    data = frame()
    model, panel = joint(term, data.assign(z=np.nan, w=np.nan).fillna({"z": 0.0, "w": 0.0}))
    none = [replace(one, observed=torch.zeros_like(one.observed)) for one in panel.beside]
    panel = replace(panel, beside=tuple(none))
    alone, own = joint(term, data, ("y",))
    theta = random_theta(model, 2)
    single = {n: theta[n] for n in alone.packing.shapes if n in theta}
    size = model.latents[0].size  # type: ignore[attr-defined]
    single["latent1.c"] = theta["latent1.c"][:size]
    for name in ("A2", "a2"):
        single[f"latent1.decoder.{name}"] = theta[f"latent1.decoder.{name}"][:1]
    b = torch.randn(4, panel.n, model.k, dtype=torch.float64)
    joint_value = model.log_likelihood(model.prepare(theta), b, whole(model.history(panel)))
    value = alone.log_likelihood(alone.prepare(single), b, whole(alone.history(own)))
    assert torch.allclose(joint_value, value, atol=1e-12)


# -- quadrature ------------------------------------------------------------------------------------


def test_mixed_families_at_one_visit_are_a_plain_auto_encoder() -> None:
    """p(y, z) = int N(s) p(y | s) p(z | s) ds, one outcome Gaussian and one Bernoulli."""
    data = frame(6, 2).assign(z=lambda one: (one.y > 1).astype(float))
    data = data[data.t == 1].assign(y=lambda one: one.y.fillna(0.3))
    both = pd.concat([data, data.assign(t=2, y=np.nan, z=np.nan)])  # a path has two times
    model, panel = joint("dmm(t, state=1, hidden=3)", both, ("y", "z"), ("gaussian", "bernoulli"))
    theta, encoder, _ = learnt(model, 4)
    phi = {n: torch.zeros(s).double() for n, s in encoder.shapes().items()}  # q is the prior
    nodes, weight = (torch.tensor(x) for x in hermegauss(80))
    w, one = part(theta, "latent1."), model.latents[0]
    s = (w["m1"] + w["l1"].exp() * nodes[:, None]).double()
    mu = 0.7 * one.emitted(w, s, s, s[:, :0])  # type: ignore[attr-defined]
    y, z = (torch.tensor(data[name].to_numpy()) for name in ("y", "z"))
    beta = [one.beta(theta)[0] for one in model.outcomes]
    first = torch.distributions.Normal(beta[0] + mu[:, :1], theta["extra"][0].exp()).log_prob(y)
    second = torch.distributions.Bernoulli(logits=beta[1] + mu[:, 1:]).log_prob(z)
    exact = torch.logsumexp(first + second + weight.log()[:, None], 0) - 0.5 * math.log(2 * math.pi)
    values = importance(model, encoder, theta, phi, model.history(panel), 20_000, generator(1))
    ratio = (values - exact).exp()
    assert bool(((ratio.mean(0) - 1).abs() < 4 * ratio.std(0) / math.sqrt(20_000)).all())


def test_outcomes_not_seen_are_integrated_out() -> None:
    """p(y_1, y_2, z_2) of a recurrent network, over z_1 by Gauss-Hermite nodes."""
    data = frame(4, 2).assign(y=lambda one: one.y.fillna(0.2), z=lambda one: one.z.fillna(0.1))
    data.loc[data.t == 1, "z"] = np.nan
    term = "vrnn(t, latent=0, hidden=3)"
    model, panel = joint(term, data, ("y", "z"))
    theta = {n: 2 * v if n.startswith("latent") else v for n, v in random_theta(model, 4).items()}
    encoder = of_recursion(model)
    phi = {n: torch.zeros(s).double() for n, s in encoder.shapes().items()}
    nodes, weight = (torch.tensor(x) for x in hermegauss(80))
    b = torch.zeros(80, panel.n, model.k, dtype=torch.float64)
    b[..., 1] = nodes[:, None]  # of z at the first visit
    seen = model.history(panel)
    given = model.log_likelihood(model.prepare(theta), b, whole(seen))
    exact = torch.logsumexp(given + weight.log()[:, None], 0) - 0.5 * math.log(2 * math.pi)
    values = importance(model, encoder, theta, phi, seen, 20_000, generator(1))
    ratio = (values - exact).exp()
    assert float(ratio.std(0).max()) > 1e-3  # what z was does matter
    assert bool(((ratio.mean(0) - 1).abs() < 4 * ratio.std(0) / math.sqrt(20_000)).all())


def test_simulated_outcomes_have_the_law_of_the_model() -> None:
    """Residuals of a recurrent network from its one-step means are white noise in all outcomes."""
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"id": np.repeat(np.arange(400), 4), "t": np.tile(np.arange(1, 5), 400)})
    data["y"], data["z"] = rng.normal(size=(2, 1600))
    model, panel = joint("vrnn(t, latent=0, hidden=4)", data, ("y", "z"))
    theta = random_theta(model, 4, 0.8)
    zero = torch.zeros(panel.n, model.k, dtype=torch.float64)
    y, z = simulate_every(model, theta, panel, generator(6), zero)
    told = replace(panel.with_outcome(y), beside=(panel.beside[0].with_outcome(z),))
    block, ready = whole(told), model.prepare(theta)
    at = model.at(ready, zero[None], block, [own.mask for own in block.blocks])
    errors = []
    for o, own in enumerate(block.blocks):
        outcome = model.outcomes[o]
        mu = outcome.mu1(ready, own.rows) + model.mu2(at, zero[None], own.rows, outcome=o)[0]
        errors.append((own.rows.data.y - mu) / theta[f"{outcome.key}extra"][0].exp())
        assert float(mu.std()) > 0.05
    e = torch.stack(errors)
    assert bool((e.mean((1, 2)).abs() < 4 / 40).all())
    assert bool(((e.var((1, 2)) - 1).abs() < 4 * math.sqrt(2 / 1600)).all())
    assert abs(float((e[0] * e[1]).mean())) < 4 / 40
    assert abs(float((e[0, :, 1:] * e[1, :, :-1]).mean())) < 4 / math.sqrt(1200)


# -- fits ------------------------------------------------------------------------------------------

QUICK: dict[str, Any] = {"epochs": 4, "draws": 16, "batch": 20}


@pytest.fixture(scope="module")
def fit() -> dgmm.MultivariateFit:
    data = frame(24, 5)
    found = dgmm.mixed_model(
        "mv(y, z, w) ~ 1 + (kvae(t, code=1, K=2, hidden=3) | id)", data, control=QUICK, verbose=0
    )
    assert isinstance(found, dgmm.MultivariateFit)
    return found


def test_a_report_calls_bounds_bounds(fit: dgmm.MultivariateFit) -> None:
    said = str(fit.summary(verbose=True))
    for text in (
        "Deep mixed model of 3 outcomes fitted by maximising the ELBO, a lower bound",
        "Lower bounds of the log-likelihood",
        "Mean weights of the 2 dynamics",
        "KL of q against the prior, nats per step",
        "a bound has no information",
    ):
        assert text in said
    assert "AIC" not in said
    assert str(fit.loglik()).startswith("lower bound of 'log Lik.'")
    with pytest.raises(ValueError, match="a lower bound is known"):
        fit.aic()
    scores = fit.log_score(fit.frame, seed=fit.calls[0].seed)
    assert scores["joint"].sum() == pytest.approx(fit.estimate.log_likelihood, abs=1e-9)
    assert list(scores) == ["joint", "mc_error"]  # no classical model was fitted beside it
    alone = {name: dgmm.mixed_model(f"{name} ~ 1 + (1 | id)", fit.frame) for name in NAMES}
    beside = fit.log_score(fit.frame, separate=alone)
    expected = sum(one.log_score(fit.frame)["log_score"] for one in alone.values())
    assert np.allclose(beside["separate"], expected, atol=1e-9)


def test_a_file_gives_the_fit_back(fit: dgmm.MultivariateFit, tmp_path: Any) -> None:
    fit.save(tmp_path / "fit.dgmm")
    again = dgmm.load(tmp_path / "fit.dgmm")
    assert str(again.summary()) == str(fit.summary())
    assert np.array_equal(again.predict(), fit.predict())


def test_any_outcome_tells_of_the_others(fit: dgmm.MultivariateFit) -> None:
    data = fit.frame
    own = fit.predict(data, history=data)
    assert np.allclose(own, fit.predict(), atol=1e-12)
    assert np.allclose(own["w"], fit.predict(data, outcome="w", history=data), atol=1e-12)
    other = data.assign(z=data.z + 20.0 * (data.t == 2))
    moved = (fit.predict(data, outcome="w", history=other) - own["w"])["fit"]
    assert moved[data.t == 2].abs().max() > 1e-3
    assert moved[data.t == 1].abs().max() > 1e-4  # smoothed
    alone = fit.predict(data, outcome="w", history=data[["id", "t", "z"]])["fit"]
    assert alone.notna().all()
    assert (alone - own["w"]["fit"]).abs().max() > 1e-3
    new = data.assign(id=data.id + 100)
    strangers = fit.predict(new, outcome="y", history=new)["fit"]
    assert np.allclose(strangers, own["y"]["fit"], atol=1e-12)
    step = fit.predict(outcome="w", type="one_step")["fit"]
    last = data.t == data.t.max()
    changed = data.assign(z=data.z.where(~last, 50.0))
    told = fit.predict(data, outcome="w", type="one_step", history=changed)["fit"]
    assert np.allclose(step[~last], told[~last], atol=1e-12)


def test_gaps_are_filled_and_nothing_else(fit: dgmm.MultivariateFit) -> None:
    data = fit.frame
    one, two = fit.impute(2, seed=1)
    for name in NAMES:
        seen = data[name].notna()
        assert np.array_equal(one[name][seen], data[name][seen])
        assert one[name].notna().all()
        assert (one[name] != two[name])[~seen].all()
    (drawn,) = fit.simulate(1, seed=3)
    assert list(drawn.columns) == list(NAMES)
    assert drawn.notna().all().all()


def test_outcomes_stacked_in_rows_are_the_same_fit(fit: dgmm.MultivariateFit) -> None:
    data = fit.frame
    rows = data.melt(["id", "t", "u"], list(NAMES), "item", "value")
    term = "(kvae(t, code=1, K=2, hidden=3) |p| id)"
    again = dgmm.mixed_model(
        mv(*(f"{name} ~ 1 + {term}" for name in NAMES)),
        rows,
        outcome="item",
        control=QUICK,
        verbose=0,
    )
    assert again.estimate.log_likelihood == pytest.approx(fit.estimate.log_likelihood, abs=1e-8)


def refused(formula: Any, words: str, data: pd.DataFrame | None = None) -> None:
    with pytest.raises(ValueError, match=words):
        dgmm.mixed_model(formula, frame() if data is None else data, control=QUICK, verbose=0)


def test_what_has_no_meaning_is_refused() -> None:
    kvae = "(kvae(t, K=1) |p| id)"
    refused(mv(f"y ~ {kvae}", "z ~ (kvae(t, K=2) |p| id)"), "written alike in every formula")
    refused(mv(f"y ~ {kvae}", "z ~ (dmm(t) |p| id)"), "written alike in every formula")
    refused(mv(f"y ~ {kvae}", f"z ~ {kvae}", "w ~ 1 + (1 | id)"), "`w` is without")
    refused(mv("y ~ (kvae(t) | id)", "z ~ (kvae(t) | id)"), "one recursion")
    refused(mv(f"y ~ {kvae}", "z ~ (1 |p| id)"), "shares a name with")
    refused(mv(f"y ~ {kvae}", f"z ~ {kvae}", rescor=True), "rescor=")
    refused("mv(y, z) ~ 1 + (kvae(t) | id)", "never observed", frame().assign(z=np.nan))
    refused("mv(y, z) ~ 1 + (kvae(t) | id)", "whole numbers", frame().assign(t=frame().t / 3))
