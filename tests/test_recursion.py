"""Recursions: exact twins of every special case, bounds beside the Kalman filter, bad input."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import Tensor
from toys import build, generator, random_theta, whole

import dgmm
from dgmm.encoders import Learnt, Stepwise
from dgmm.encoders.particles import Cloud
from dgmm.latent import Recursion
from dgmm.likelihood.bound import ImportanceBound
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.panel import Panel
from dgmm.parameters import Theta, part
from dgmm.variational.bounds import importance, particles, weighted_of_all
from dgmm.variational.elbo import elbo, evaluate
from dgmm.variational.schedule import Schedule
from dgmm.variational.training import train

A, Q, R = 0.9, 0.19, 0.1
"""The first row of the table of linear Gaussian cases."""

DMM = "y ~ 1 + (dmm(t, state=2, hidden=4) | id)"
VRNN = "y ~ 1 + (vrnn(t, latent=2, hidden=4) | id)"
FILTER = "y ~ 1 + (vrnn(t, latent=2, hidden=4, posterior='filter') | id)"
BESIDE = "y ~ 1 + (1 | id) + (dmm(t, state=1, hidden=4) | id)"
EVERY = (DMM, VRNN, FILTER, BESIDE)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Draws without a generator are those of one seed."""
    torch.manual_seed(0)


def frame(n: int = 5, T: int = 4, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), T), "t": np.tile(np.arange(1, T + 1), n)})
    data["u"] = rng.normal(size=n * T)
    data["y"] = rng.normal(size=n * T).cumsum() / 3
    return data


def uneven() -> pd.DataFrame:
    """Subjects of one to five visits, one outcome missing, one visit without a row."""
    data = frame(5, 5)
    data.loc[[7, 21], "y"] = np.nan
    return data[(data.t <= data.id + 1) & ~((data.id == 4) & (data.t == 3))]


def learnt(
    text: str, data: pd.DataFrame, seed: int = 1, family: str = "gaussian"
) -> tuple[Model, Panel, Theta, Stepwise, Weights]:
    """A model, its masked panel, and weights of it and of an encoder that are nothing special."""
    model, panel = build(text, data, family)
    model = model.sized(panel)
    encoder, g = Stepwise.of(model), generator(seed + 5)
    phi = {
        name: 0.3 * torch.randn(shape, generator=g, dtype=torch.float64)
        for name, shape in encoder.shapes().items()
    }
    return model, model.history(panel), random_theta(model, seed), encoder, phi


def log_weights(
    model: Model, panel: Panel, theta: Theta, encoder: Stepwise, phi: Weights, draws: int = 8
) -> Tensor:
    return importance(model, encoder, theta, phi, panel, draws, generator(3))


def recursion(model: Model) -> tuple[Recursion, int]:
    found = next(i for i, one in enumerate(model.latents) if one.recursive)
    one = model.latents[found]
    assert isinstance(one, Recursion)
    return one, found


# -- identities ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", EVERY)
def test_the_order_of_subjects_and_padding_change_nothing(text: str) -> None:
    model, panel, theta, encoder, phi = learnt(text, uneven())
    ready, e = model.prepare(theta), torch.randn(3, panel.n, model.k, dtype=torch.float64)

    def values(subjects: list[int]) -> Tensor:
        block = panel.block(torch.tensor(subjects))
        drawn = encoder.posterior(phi, model, ready, block).sample(e[:, subjects])
        return torch.stack([drawn.log_likelihood(model, ready, block), drawn.log_ratio])

    together = values([0, 1, 2, 3, 4])
    assert torch.allclose(values([3, 0, 4, 2, 1]), together[:, :, [3, 0, 4, 2, 1]], atol=1e-12)
    for i in range(panel.n):
        assert torch.allclose(values([i])[..., 0], together[..., i], atol=1e-12)


@pytest.mark.parametrize("text", EVERY)
def test_draws_carry_the_random_part_that_b_has(text: str) -> None:
    model, panel, theta, encoder, phi = learnt(text, uneven())
    ready, block = model.prepare(theta), whole(panel)
    e = torch.randn(4, panel.n, model.k, dtype=torch.float64)
    drawn = encoder.posterior(phi, model, ready, block).sample(e)
    with_mu2 = drawn.log_likelihood(model, ready, block)
    assert torch.allclose(with_mu2, model.log_likelihood(ready, drawn.b, block), atol=1e-12)


@pytest.mark.parametrize("text", EVERY)
def test_the_divergence_is_the_mean_of_the_log_ratio(text: str) -> None:
    model, panel, theta, encoder, phi = learnt(text, uneven())
    q = encoder.posterior(phi, model, model.prepare(theta), whole(panel))
    drawn = q.sample(torch.randn(40_000, panel.n, model.k, generator=generator(2)).double())
    error = drawn.log_ratio.std(0) / 200
    assert bool(((drawn.log_ratio.mean(0) - drawn.kl).abs() < 4 * error).all())
    assert torch.allclose(drawn.kl_by_direction.sum(1), drawn.kl, atol=1e-12)


def test_without_latent_variables_it_is_a_recurrent_network() -> None:
    data = frame(4, 6)
    text = "y ~ 1 + (vrnn(t, latent=0, hidden=3, control=~ u) | id)"
    model, panel, theta, encoder, phi = learnt(text, data)
    weights, (one, _) = part(theta, "latent1."), recursion(model)
    cell = torch.nn.GRUCell(2, 3).double()
    with torch.no_grad():  # theirs: n = tanh(V x + r (U h + c)), h' = (1 - u) n + u h
        cell.weight_ih.copy_(weights["memory.input"])
        cell.weight_hh.copy_(weights["memory.state"])
        cell.bias_ih.copy_(weights["memory.bias"])
        cell.bias_hh.zero_()
    y, beta = torch.tensor(data.y.to_numpy()).reshape(4, 6), model.beta(theta)[0]
    u = torch.tensor((data.u - one.centre[0]).to_numpy() / one.spread[0]).reshape(4, 6)
    h, sigma, total = weights["h0"].expand(4, 3), theta["extra"][0].exp(), torch.zeros(4)
    for t in range(6):
        entering = torch.cat([h, u[:, t, None]], dim=1)
        hidden = torch.tanh(entering @ weights["decoder.A1"].T + weights["decoder.a1"])
        mu = beta + (hidden @ weights["decoder.A2"].T + weights["decoder.a2"])[:, 0]
        total = total + torch.distributions.Normal(mu, sigma).log_prob(y[:, t])
        h = cell(torch.stack([y[:, t] - beta, u[:, t]], dim=1), h)
    bound = elbo(model, encoder, theta, phi, whole(panel), torch.zeros(2, 4, model.k))
    assert torch.allclose(bound.elbo, total, atol=1e-12)
    assert torch.equal(bound.kl, torch.zeros(4, dtype=torch.float64))
    weighted = log_weights(model, panel, theta, encoder, phi)
    assert torch.allclose(weighted, total.expand_as(weighted), atol=1e-12)
    cloud = particles(model, encoder, theta, phi, panel, 16, generator())
    assert torch.allclose(cloud, total, atol=1e-12)


@pytest.mark.parametrize("form", ["rnn", "iid"])
def test_one_visit_is_a_plain_auto_encoder(form: str) -> None:
    """Of subjects with two visits the second of whom is missing: p(y_1) is that of a VAE."""
    data = frame(6, 2)
    data.loc[data.t == 2, "y"] = np.nan
    text = f"y ~ 1 + (vrnn(t, latent=2, hidden=3, prior='{form}', posterior='filter') | id)"
    model, panel, theta, encoder, phi = learnt(text, data)
    w, y = part(theta, "latent1."), torch.tensor(data.y[data.t == 1].to_numpy())
    e = torch.randn(5, 6, model.k, dtype=torch.float64)
    h, m, log_sd = w["h0"], torch.zeros(2), torch.zeros(2)
    if form == "rnn":
        f = torch.tanh(h @ w["law.A1"].T + w["law.a1"]) @ w["law.A2"].T + w["law.a2"]
        m, log_sd = f[:2], w["l"] + f[2:]
    r = y - model.beta(theta)[0]
    state = torch.cat([h, torch.zeros(2), m, log_sd]).expand(6, 9)
    seen = torch.cat([state, r[:, None], torch.ones(6, 1)], dim=1).double()
    inner = torch.tanh(seen @ phi["head.A1"].T + phi["head.a1"])
    q = seen @ phi["first"].T + inner @ phi["head.A2"].T + phi["head.a2"]
    mean, sd = q[:, :2], q[:, 2:].exp()
    z = m + log_sd.exp() * (mean + sd * e[..., :2])
    entering = torch.cat([z, h.expand(5, 6, 3)], dim=-1)
    hidden = torch.tanh(entering @ w["decoder.A1"].T + w["decoder.a1"])
    mu = z @ w["c"] + (hidden @ w["decoder.A2"].T + w["decoder.a2"])[..., 0]
    normal = torch.distributions.Normal(mu, theta["extra"][0].exp())
    kl = (0.5 * (sd.square() + mean.square() - 1) - sd.log()).sum(1)
    bound = elbo(model, encoder, theta, phi, whole(panel), e)
    assert torch.allclose(bound.elbo, normal.log_prob(r).mean(0) - kl, atol=1e-12)


def test_an_outcome_that_was_not_seen_is_integrated_out() -> None:
    """p(y_1, y_3) of a recurrent network: over white noise, and over y_2 itself."""
    data = frame(1, 3)
    text = "y ~ 1 + (vrnn(t, latent=0, hidden=3) | id)"
    model, panel, theta, *_ = learnt(text, pd.concat([data, data.assign(id=1)]))
    ready, nodes = model.prepare(theta), torch.tensor(hermegauss(60)[0])
    weight = torch.tensor(hermegauss(60)[1]).log() - 0.5 * math.log(2 * math.pi)
    gone = data.assign(y=data.y.where(data.t != 2))
    masked = build(text, pd.concat([gone, data.assign(id=1)]))[1].masked_rows()
    b = torch.zeros(60, 1, model.k, dtype=torch.float64)
    b[:, 0, 1] = nodes
    block = masked.block(torch.tensor([0]))
    by_noise = torch.logsumexp(model.log_likelihood(ready, b, block)[:, 0] + weight, 0)
    grid = torch.linspace(-12, 12, 601, dtype=torch.float64)
    full = panel.block(torch.tensor([0]))
    values = []
    for y2 in grid:
        y = full.rows.data.y.clone()
        y[0, 1] = y2
        told = replace(full, rows=replace(full.rows, data=full.rows.data._replace(y=y)))
        values.append(model.log_likelihood(ready, b[:1, :1] * 0, told)[0, 0])
    by_outcome = torch.logsumexp(torch.stack(values), 0) + math.log(float(grid[1] - grid[0]))
    assert abs(float(by_noise - by_outcome)) < 1e-9


def test_visits_without_a_row_are_visits_without_an_outcome() -> None:
    data = frame(4, 6)
    gone = (data.t == 3) | ((data.id == 2) & (data.t == 4))
    model, panel, theta, encoder, phi = learnt(VRNN, data[~gone])
    whole_model, filled, *_ = learnt(VRNN, data.assign(y=data.y.where(~gone)))
    e = torch.randn(3, 4, model.k, dtype=torch.float64)
    assert model.k == whole_model.k
    found = [
        one.log_likelihood(model.prepare(theta), e, whole(rows))
        for one, rows in ((model, panel), (whole_model, filled))
    ]
    assert torch.allclose(*found, atol=1e-12)
    one, _ = recursion(model)
    assert one.added == 5
    assert "5 visits without a row were inserted" in one.remark({})
    ratios = [
        encoder.posterior(phi, m, m.prepare(theta), whole(rows)).sample(e).log_ratio
        for m, rows in ((model, panel), (whole_model, filled))
    ]
    assert torch.allclose(*ratios, atol=1e-12)


def test_the_gap_enters_a_deep_markov_model_and_equal_times_share_a_step() -> None:
    data = frame(3, 4)
    model, panel, theta, *_ = learnt(DMM, data)
    b = torch.randn(3, model.k, dtype=torch.float64)
    ready = model.prepare(theta)
    mu = model.mu2(ready, b, whole(panel).rows)
    wide = data.assign(t=data.t + 3.0 * (data.t > 2))
    later = model.mu2(ready, b, whole(build(DMM, wide)[1]).rows)
    assert torch.allclose(mu[:, :2], later[:, :2], atol=1e-12)
    assert bool(((mu - later)[:, 2].abs() > 1e-4).all())
    twice = pd.concat([data, data[data.t == 2]]).sort_values(["id", "t"], kind="stable")
    double = model.mu2(ready, b, whole(build(DMM, twice)[1]).rows)
    assert torch.allclose(double, mu[:, [0, 1, 1, 2, 3]], atol=1e-12)


@pytest.mark.parametrize("text", [DMM, VRNN])
def test_the_jacobian_is_that_of_differences(text: str) -> None:
    model, panel, theta, *_ = learnt(text, frame(2, 3))
    rows, b = whole(panel).rows, torch.randn(2, model.k, dtype=torch.float64)
    ready = model.prepare(theta)
    J = model.jacobian(ready, b, rows)
    for k in range(model.k):
        step = torch.zeros_like(b)
        step[:, k] = 1e-5
        difference = model.mu2(ready, b + step, rows) - model.mu2(ready, b - step, rows)
        assert torch.allclose(J[..., k], difference / 2e-5, atol=1e-8)


# -- linear Gaussian: the filter knows everything --------------------------------------------------


def states(n: int, T: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    z, y = rng.normal(size=n), np.zeros((n, T))
    for t in range(T):
        z = z if t == 0 else A * z + math.sqrt(Q) * rng.normal(size=n)
        y[:, t] = z + math.sqrt(R) * rng.normal(size=n)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), T), "t": np.tile(np.arange(1, T + 1), n)})
    return data.assign(y=y.reshape(-1))


def kalman(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log p(y_i), (n,), and E(y_t | y_1..y_{t-1}), (n, T); missing outcomes are NaN."""
    m, P, total, means = np.zeros(len(y)), np.ones(len(y)), np.zeros(len(y)), []
    for t in range(y.shape[1]):
        if t:
            m, P = A * m, A**2 * P + Q
        means.append(m)
        seen, S = ~np.isnan(y[:, t]), P + R
        v = np.where(seen, y[:, t] - m, 0.0)
        total -= np.where(seen, 0.5 * (np.log(2 * np.pi * S) + v**2 / S), 0.0)
        m, P = m + P / S * v, np.where(seen, P * R / S, P)
    return total, np.stack(means, 1)


def truth(kind: str, n: int, T: int) -> tuple[Model, Panel, Theta, Stepwise, np.ndarray]:
    """The case as a deep Markov model whose networks are silent."""
    data = states(n, T)
    data.loc[[3, 5], "y"] = np.nan
    text = f"y ~ 1 + (dmm(t, state=1, hidden=16, posterior='{kind}') | id)"
    model, panel = build(text, data)
    theta = {k: torch.zeros(s, dtype=torch.float64) for k, s in model.packing.shapes.items()}
    theta["latent1.A"][:], theta["latent1.c"][:] = A, 1.0
    theta["latent1.l"][:], theta["extra"][:] = 0.5 * math.log(Q), 0.5 * math.log(R)
    exact = kalman(data.y.to_numpy().reshape(n, T))[0]
    return model, model.history(panel), theta, Stepwise.of(model), exact


def locally_exact(encoder: Stepwise) -> Weights:
    """q(z_t | z_{t-1}, y_t) = p(z_t | z_{t-1}, y_t), a normal whose mean is linear."""
    phi = {name: torch.zeros(s, dtype=torch.float64) for name, s in encoder.shapes().items()}
    for name, V, mean in (("first", 1.0, 0.0), ("linear", Q, -1.0)):
        gain = V / (V + R) / math.sqrt(V)
        # entering: state, mean, log sd, gap, residual, seen
        phi[name][0] = gain * torch.tensor([0.0, mean, 0.0, 0.0, 1.0, 0.0], dtype=torch.float64)
        phi[name][1, 5] = 0.5 * math.log(R / (V + R))
    return phi


def test_bounds_rise_to_the_likelihood_and_stay_below_it() -> None:
    model, panel, theta, encoder, exact = truth("filter", 400, 8)
    phi = locally_exact(encoder)
    w = importance(model, encoder, theta, phi, panel, 256, generator(4))
    gaps, last = [], None
    for k in (1, 4, 16, 64, 256):
        bound = (torch.logsumexp(w.unflatten(0, (-1, k)), 1) - math.log(k)).mean(0)
        gaps.append(float(bound.mean()) - exact.mean())
        if last is not None:  # the same draws, so that the difference has a small error
            rise = bound - last
            assert float(rise.mean()) > 4 * float(rise.std()) / 20 * (k == 4)
        last = bound
    assert gaps == sorted(gaps)
    at_most = (torch.logsumexp(w, 0) - math.log(256)).numpy() - exact
    assert at_most.mean() < 4 * at_most.std() / 20
    assert gaps[-1] > -0.05
    cloud = particles(model, encoder, theta, phi, panel, 128, generator(5)).numpy() - exact
    assert cloud.mean() < 4 * cloud.std() / 20
    assert cloud.mean() > -0.05


def test_weighted_bounds_are_means_of_weights() -> None:
    model, panel, theta, encoder, _ = truth("filter", 30, 8)
    phi = locally_exact(encoder)
    w = importance(model, encoder, theta, phi, panel, 16, generator(4))
    found = weighted_of_all(model, encoder, theta, phi, panel, 16, generator(4))
    assert torch.allclose(found, torch.logsumexp(w, 0) - math.log(16), atol=1e-12)


def test_the_local_posterior_is_a_filter_and_loses_what_the_future_says() -> None:
    """Two nats of a sequence of twenty. Its ELBO is sum_t E log p(y_t | z_{t-1}), z by q alone."""
    n, T = 1000, 20
    model, panel, theta, encoder, exact = truth("filter", n, T)
    bound = evaluate(model, encoder, theta, locally_exact(encoder), panel, 3, 16, 2)
    gain, apart = 1 / (1 + R), R / (1 + R)  # var(z_1 - draw of z_1 given y_1), twice
    apart, lost, P = 2 * apart, 0.0, 1.0
    gain = Q / (Q + R)
    for _ in range(1, T):
        P = A**2 * P * R / (P + R) + Q  # of the filter
        square = A**2 * apart + Q + R
        lost += 0.5 * math.log((Q + R) / (P + R)) + 0.5 * square / (Q + R) - 0.5
        apart = (1 - gain) ** 2 * (A**2 * apart + Q) + gain**2 * R + Q * R / (Q + R)
    assert lost == pytest.approx(2.156, abs=0.002)
    difference = bound.elbo.numpy() - exact
    assert abs(difference.mean() + lost) < 4 * difference.std() / math.sqrt(n)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "gap", "tolerance"), [("smooth", 0.0, 0.05), ("filter", 1.95, 0.1)]
)
def test_learning_reaches_the_best_of_its_family(kind: str, gap: float, tolerance: float) -> None:
    model, panel, theta, encoder, exact = truth(kind, 2000, 20)
    schedule = Schedule(epochs=60, learning_rate=0.02, pairs=1)
    phi = encoder.initial(generator(1))
    _, phi, _ = train(model, encoder, theta, phi, panel, schedule, generator(2), fixed_theta=True)
    bound = evaluate(model, encoder, theta, phi, panel, 3, 32, 4)
    difference = bound.elbo.numpy() - exact
    assert difference.mean() < 4 * bound.mc_error / 2000
    assert abs(difference.mean() + gap) < tolerance


def test_particles_predict_as_the_filter_does() -> None:
    model, panel, theta, encoder, _ = truth("filter", 30, 6)
    y = np.where(panel.observed.numpy(), panel.rows.data.y.numpy(), np.nan).reshape(30, 6)
    q = encoder.posterior(locally_exact(encoder), model, model.prepare(theta), whole(panel))
    found = torch.stack([_mean(Cloud(q, 500, generator(s), bootstrap=True)) for s in range(8)])
    error = found.std(0) / math.sqrt(8)
    away = ((found.mean(0) - torch.tensor(kalman(y)[1])) / error.clamp(min=1e-3)).abs()
    assert float(away.mean()) < 2
    assert float(away.max()) < 7  # a t with 7 degrees of freedom, 180 of them


def _mean(cloud: Cloud) -> Tensor:
    cloud.bound()
    return cloud.mean


# -- fits ------------------------------------------------------------------------------------------

QUICK: dict[str, Any] = {"epochs": 6, "draws": 32, "batch": 30}


@pytest.fixture(scope="module")
def fit() -> dgmm.Fit:
    data = frame(24, 5)
    data.loc[[7, 8], "y"] = np.nan
    text = "y ~ u + (vrnn(t, latent=1, hidden=4) | id)"
    found = dgmm.mixed_model(text, data, control=QUICK, verbose=0)
    assert isinstance(found, dgmm.Fit)
    return found


def test_a_report_calls_bounds_bounds(fit: dgmm.Fit) -> None:
    said = str(fit.summary(verbose=True))
    for words in (
        "fitted by maximising the ELBO, a lower bound",
        "importance-weighted lower bound, 32 draws of q per subject",
        "Lower bounds of the log-likelihood",
        "KL of q against the prior, nats per step",
        "Active latent variables",
    ):
        assert words in said
    assert "AIC" not in said
    assert str(fit.loglik()).startswith("lower bound of 'log Lik.'")
    assert fit.std_errors().isna().all()
    with pytest.raises(ValueError, match="a lower bound is known"):
        fit.aic()
    with pytest.raises(ValueError, match="a lower bound is known"):
        dgmm.anova(fit, fit)
    for asked in (dgmm.icc, dgmm.r2, lambda one: one.random_profile()):
        with pytest.raises(ValueError, match="a recursion makes it of the rows before"):
            asked(fit)


def test_the_bound_of_a_fit_is_that_of_its_encoder(fit: dgmm.Fit) -> None:
    done = fit.estimate
    likelihood = done.likelihood
    assert isinstance(likelihood, ImportanceBound)
    assert isinstance(likelihood.proposal, Learnt)
    scores = fit.log_score(fit.memory.frame, seed=fit.call.seed)
    assert scores["log_score"].sum() == pytest.approx(done.log_likelihood, abs=1e-9)
    assert done.elbo is not None
    assert done.elbo < done.log_likelihood + 4 * done.mc_error


def test_a_file_gives_the_fit_back(fit: dgmm.Fit, tmp_path: Any) -> None:
    fit.save(tmp_path / "fit.dgmm")
    again = dgmm.load(tmp_path / "fit.dgmm")
    assert str(again.summary()) == str(fit.summary())
    for type in ("subject", "one_step"):
        old, new = fit.predict(type=type)["fit"], again.predict(type=type)["fit"]
        assert np.array_equal(old, new)


def test_predictions_are_told_the_outcomes_that_they_name(fit: dgmm.Fit) -> None:
    """One step ahead of the first visit nothing is known, and after the history nothing more."""
    data = fit.memory.frame
    one = fit.predict(type="one_step")["fit"]
    other = data.assign(y=data.y.where(data.t != 5, 50.0))
    changed = fit.predict(data, type="one_step", history=other)["fit"]
    assert np.allclose(one, changed, atol=1e-12)  # the last outcome is after every row
    smoothed = fit.predict(data, history=other)["fit"] - fit.predict(data, history=data)["fit"]
    assert smoothed[data.t < 5].abs().max() > 1e-3
    past = data[data.t <= 2]
    ahead = fit.predict(data[data.t > 2], history=past)["fit"]
    assert ahead.notna().all()
    wide = fit.predict(data, history=past, interval="prediction")
    assert (wide["lower"] < wide["upper"]).all()
    with pytest.raises(ValueError, match="no interval"):
        fit.predict(type="one_step", interval="confidence")


def linear_fit(data: pd.DataFrame, draws: int) -> tuple[dgmm.Fit, np.ndarray, float, float]:
    """A Kalman auto-encoder with a linear decoder and a silent encoder; cov(a), c and sigma."""
    text = "y ~ 1 + (kvae(t, code=1, state=1, K=1) | id)"
    found = dgmm.mixed_model(text, data, control=QUICK | {"batch": 3}, verbose=0)
    assert isinstance(found, dgmm.Fit)
    done = found.estimate
    theta = {n: v * 0 if "decoder" in n else v for n, v in done.theta.items()}
    phi = {n: torch.zeros_like(v) for n, v in done.phi.items()}
    assert isinstance(done.likelihood, ImportanceBound)
    assert isinstance(done.likelihood.proposal, Learnt)
    silent = replace(done.likelihood, proposal=replace(done.likelihood.proposal, phi=phi))
    estimate = replace(done, theta=theta, phi=phi, likelihood=silent.by(draws=draws))
    w, one = part(theta, "latent1."), done.model.latents[0]
    a, c = float(w["A"]), float(w["C"])
    q, r, spread = (float(w[n].exp().square()) for n in ("lq", "lr", "l1"))
    V = np.zeros((5, 5))
    for t in range(5):
        V[t, t:] = c**2 * spread * a ** np.arange(5 - t)
        spread = a**2 * spread + q
    V = np.triu(V) + np.triu(V, 1).T + r * np.eye(5)
    fit = replace(found, estimate=estimate)
    return fit, V, float(w["c"] * one.frame), float(theta["extra"].exp())


def test_states_are_filtered_and_smoothed() -> None:
    """With a linear decoder those of the Kalman filter, given all outcomes and those so far."""
    data = frame(3, 5)
    fit, V, load, sd = linear_fit(data, 5_000)
    y = data.y.to_numpy().reshape(3, 5) - float(fit.fixef().iloc[0])
    for kind, factor in {"smoothed": 4, "filtered": 16}.items():  # resampling adds to the error
        table = fit.states(type=kind)
        for t in range(5):
            own = np.arange(5 if kind == "smoothed" else t + 1)
            S = load**2 * V[np.ix_(own, own)] + sd**2 * np.eye(len(own))
            gain = load * np.linalg.solve(S, V[own, t])
            variance = V[t, t] - load * gain @ V[own, t]
            rows = table[data.t == t + 1]
            away = np.abs(rows["kvae(t):z1"] - y[:, own] @ gain).max()
            assert away < factor * np.sqrt(variance / 5_000)
            assert np.allclose(rows["sd(kvae(t):z1)"], np.sqrt(variance), rtol=0.1)
    with pytest.raises(ValueError, match="smoothed, filtered"):
        fit.states(type="past")


def test_imputed_outcomes_have_their_distribution_given_those_seen() -> None:
    data = frame(3, 5)
    data.loc[[2, 3, 9], "y"] = np.nan
    fit, V, load, sd = linear_fit(data, 300)
    beta, S = float(fit.fixef().iloc[0]), load**2 * V + sd**2 * np.eye(5)
    drawn = np.stack([one["y"] for one in fit.impute(80, seed=4, data=data)])
    for i, rows in data.groupby("id"):
        gone, own = (np.flatnonzero(x) for x in (rows.y.isna(), rows.y.notna()))
        y = drawn[:, rows.index]
        assert np.array_equal(y[:, own], np.tile(rows.y.to_numpy()[own], (80, 1)))
        if len(gone):
            gain = np.linalg.solve(S[np.ix_(own, own)], S[np.ix_(own, gone)])
            mean = beta + (rows.y.to_numpy()[own] - beta) @ gain
            variance = np.diag(S[np.ix_(gone, gone)] - gain.T @ S[np.ix_(own, gone)])
            assert (np.abs(y[:, gone].mean(0) - mean) < 4 * np.sqrt(variance / 80)).all(), i
            assert np.allclose(y[:, gone].var(0), variance, rtol=4 * np.sqrt(2 / 80))


def test_simulated_outcomes_have_the_law_of_the_model() -> None:
    """Residuals of a recurrent network from its one-step means are white noise."""
    data = frame(400, 5)
    model, panel = build("y ~ 1 + (vrnn(t, latent=0, hidden=4) | id)", data)
    theta = random_theta(model, 4, 0.8)
    y = dgmm.model.simulation.simulate_panel(model, theta, panel, generator(6))
    told = panel.with_outcome(y).block(torch.arange(panel.n))
    zero = torch.zeros(1, panel.n, model.k, dtype=torch.float64)
    ready = model.prepare(theta)
    mu = model.mu1(ready, told.rows) + model.mu2(ready, zero, told.rows, seen=told.mask)[0]
    e = (told.rows.data.y - mu) / theta["extra"][0].exp()
    assert abs(float(e.mean())) < 4 / math.sqrt(2000)
    assert abs(float(e.var()) - 1) < 4 * math.sqrt(2 / 2000)
    lagged = float((e[:, 1:] * e[:, :-1]).mean())
    assert abs(lagged) < 4 / math.sqrt(1600)
    assert float(mu.std()) > 0.05


# -- bad input -------------------------------------------------------------------------------------


def refused(text: Any, data: pd.DataFrame, words: str, **options: Any) -> None:
    control = QUICK | options.pop("control", {})
    with pytest.raises(ValueError, match=words):
        dgmm.mixed_model(text, data, control=control, verbose=0, **options)


def test_grids_are_checked() -> None:
    data = frame(4, 4)
    refused(VRNN, data.assign(t=data.t / 3), "visits are whole numbers")
    refused(VRNN, data.assign(t=data.t * 3), "have no row: number the visits more coarsely")
    refused(VRNN, pd.concat([data, data.iloc[:1]]), "has several at visit")
    refused(VRNN, data[data.t == 1], "cannot tell")


def test_what_has_no_meaning_is_refused() -> None:
    data = frame(4, 4)
    for method in ("reml", "vb", "gibbs"):
        refused(VRNN, data, "method='(reml|vb|gibbs)'|dnn|linear terms", method=method)
    refused(VRNN, data, "log p|likelihood", likelihood="exact")
    two = "y ~ 1 + (dmm(t) | id) + (vrnn(t) | id)"
    refused(two, data, "one recursion")
    refused(VRNN, data.assign(y=np.nan), "missing|outcome")
    refused("y ~ (vrnn(t, control=~ v) | id)", data.assign(v=1.0), "does not vary|column")
    refused("y ~ (vrnn(t, prior='flat') | id)", data, "'rnn' or 'iid'")
    refused("y ~ (vrnn(t, latent=-1) | id)", data, "zero or larger")
    refused("y ~ (dmm(t, state=0) | id)", data, "positive whole number")
    refused(VRNN, data, "penalty of dnn", control={"ridge": 1.0})
    refused(VRNN, data, "free_bits", control={"bound": "weighted", "free_bits": 0.5})
    refused("y ~ u + (1 | id)", data, "for recursions", control={"bound": "weighted"})
    both = ["y ~ u + (1 |p| id)", "u ~ t + (1 |p| id)"]
    refused(dgmm.mv(*both), data, "for recursions", control={"bound": "weighted"})
    with pytest.raises(ValueError, match="lower bound|recursions"):
        dgmm.mixed_model("y ~ u + (1 | id)", data, likelihood="bound", verbose=0)
