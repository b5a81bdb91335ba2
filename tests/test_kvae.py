"""The Kalman auto-encoder: ssm() where it is linear, quadrature where its dynamics mix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from toys import build, generator, random_theta, whole

import dgmm
from dgmm.encoders import of_recursion
from dgmm.encoders.potentials import Potentials
from dgmm.likelihood import choose
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.panel import Panel
from dgmm.parameters import Theta, part
from dgmm.variational.bounds import importance, particles


def frame(n: int = 8, T: int = 6, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), T), "t": np.tile(np.arange(1, T + 1), n)})
    data["u"] = rng.normal(size=n * T)
    data["y"] = 1 + rng.normal(size=n * T).cumsum() / 3
    data.loc[data.index.isin([3, 10]), "y"] = np.nan
    return data


def linear(text: str, data: pd.DataFrame) -> tuple[Model, Panel, Theta, Potentials, Weights]:
    """A model with a silent decoder network and encoder."""
    model, panel = build(text, data)
    model = model.sized(panel)
    theta = random_theta(model, 3)
    theta = {n: v * 0 if "decoder" in n else v for n, v in theta.items()}
    encoder = of_recursion(model)
    assert isinstance(encoder, Potentials)
    phi = {n: torch.zeros(s, dtype=torch.float64) for n, s in encoder.shapes().items()}
    return model, model.history(panel), theta, encoder, phi


def test_with_a_linear_decoder_the_bound_is_the_likelihood_of_ssm() -> None:
    data, phi, sd, sigma, R = frame(), 0.7, 0.9, 0.5, 0.1
    plain, panel = build("y ~ 1 + (ssm(t, state=1, start='stationary') | id)", data)
    likelihood = choose(plain, panel, "filter")
    known = {n: torch.zeros(s, dtype=torch.float64) for n, s in plain.packing.shapes.items()}
    own = plain.latents[0].from_reported(torch.tensor([sd, phi], dtype=torch.float64))
    known |= {f"latent1.{n}": v for n, v in own.items()}
    known["extra"][:], known["beta"][:] = math.log(sigma), 0.3
    model, seen, theta, encoder, weights = linear("y ~ 1 + (kvae(t, state=1, K=1) | id)", data)
    theta["latent1.A"][:], theta["latent1.C"][:], theta["latent1.c"][:] = phi, 1.0, 1.0
    theta["latent1.l1"][:] = math.log(sd)
    theta["latent1.lq"][:] = math.log(sd * math.sqrt(1 - phi**2))
    theta["latent1.lr"][:] = 0.5 * math.log(R)
    theta["extra"][:], theta["beta"] = 0.5 * math.log(sigma**2 - R), known["beta"]
    w = importance(model, encoder, theta, weights, seen, 4, generator())
    exact = likelihood.each(known).value
    assert torch.allclose(w, exact.expand_as(w), atol=1e-9)
    cloud = particles(model, encoder, theta, weights, seen, 8, generator())
    assert torch.allclose(cloud, exact, atol=1e-9)


@pytest.mark.parametrize("form", ["smooth", "frame"])
@pytest.mark.parametrize("code", [1, 2])
def test_codes_and_controls_against_the_dense_normal(code: int, form: str) -> None:
    text = f"y ~ 1 + (kvae(t, code={code}, K=1, control=~ u, posterior='{form}') | id)"
    data = frame()
    model, seen, theta, encoder, phi = linear(text, data)
    w, one, T = part(theta, "latent1."), model.latents[0], 6
    A, B, c = w["A"][0], w["B"][0], w["c"] @ w["C"][0]
    variance = {n: torch.diag((2 * w[n]).exp()) for n in ("l1", "lq", "lr")}
    noise = w["c"] @ variance["lr"] @ w["c"] + (2 * theta["extra"][0]).exp()
    spread = [variance["l1"]]
    for _ in range(1, T):
        spread.append(A @ spread[-1] @ A.T + variance["lq"])
    V = noise * torch.eye(T, dtype=torch.float64)
    for s in range(T):
        for t in range(s, T):
            cross = c @ torch.linalg.matrix_power(A, t - s) @ spread[s] @ c
            V[s, t] = V[t, s] = cross + noise * (s == t)
    exact = []
    for _, rows in data.groupby("id"):
        u = torch.tensor((rows.u.to_numpy() - one.centre[0]) / one.spread[0])  # type: ignore[attr-defined]
        z = [B[:, 0] * u[0]]
        for t in range(1, T):
            z.append(A @ z[-1] + B[:, 0] * u[t])
        mean, y = model.beta(theta)[0] + torch.stack(z) @ c, torch.tensor(rows.y.to_numpy())
        own = ~torch.isnan(y)
        law = torch.distributions.MultivariateNormal(mean[own], V[own][:, own])
        exact.append(law.log_prob(y[own]))
    values = importance(model, encoder, theta, phi, seen, 2000, generator(4))
    if form == "smooth":
        assert float(values.std(0).max()) < 1e-10
        assert torch.allclose(values[0], torch.stack(exact), atol=1e-9)
        return
    gap = values - torch.stack(exact)  # weights of a loose q have long tails
    weighted = torch.logsumexp(gap, 0) - math.log(2000)
    error = (gap - weighted).exp().std(0) / math.sqrt(2000)
    assert bool((weighted < 4 * error).all())
    assert bool((gap.mean(0) < weighted).all())
    assert float(gap.mean(0).sum()) < -0.1


def test_mixed_dynamics_against_quadrature_over_the_first_code() -> None:
    """p(y_1, y_2) = int p(a_1) p(y_1 | a_1) p(y_2 | a_1) da_1, the last a normal density."""
    data = frame(4, 2).assign(y=lambda d: d["y"].fillna(0.5))
    text = "y ~ 1 + (kvae(t, state=1, K=2, hidden=3) | id)"
    model, seen, theta, encoder, phi = linear(text, data)
    theta = {n: 2 * v for n, v in theta.items()}
    w, one = part(theta, "latent1."), model.latents[0]
    R, Q, P = ((2 * w[n][0]).exp() for n in ("lr", "lq", "l1"))
    nodes, weight = (torch.tensor(x) for x in hermegauss(80))

    def mixed(h: torch.Tensor) -> torch.Tensor:
        return torch.softmax(h @ w["V"].T + w["v"], -1)

    start = mixed(w["h0"])
    C1 = start @ w["C"][:, 0, 0]
    S = C1**2 * P + R
    a = S.sqrt() * nodes
    m, left = P * C1 / S * a, P - P**2 * C1**2 / S
    memory = part(w, "memory.")
    h = one.memory.step(memory, one.memory.drive(memory, a[:, None]), w["h0"].expand(80, 3))  # type: ignore[attr-defined]
    A, C = mixed(h) @ w["A"][:, 0, 0], mixed(h) @ w["C"][:, 0, 0]
    sigma, beta, c = theta["extra"][0].exp(), model.beta(theta)[0], w["c"][0]
    y = torch.tensor(data.y.to_numpy()).reshape(4, 2, 1)
    first = torch.distributions.Normal(beta + c * a, sigma).log_prob(y[:, 0])
    variance = c**2 * (C**2 * (A**2 * left + Q) + R) + sigma**2
    second = torch.distributions.Normal(beta + c * C * A * m, variance.sqrt()).log_prob(y[:, 1])
    exact = torch.logsumexp(first + second + weight.log(), 1) - 0.5 * math.log(2 * math.pi)
    values = importance(model, encoder, theta, phi, seen, 20_000, generator(1))
    ratio = (values - exact).exp()
    assert float(ratio.std(0).max()) > 1e-3  # the dynamics do mix
    assert bool(((ratio.mean(0) - 1).abs() < 4 * ratio.std(0) / math.sqrt(20_000)).all())


def test_the_divergence_is_the_mean_of_the_log_ratio() -> None:
    text = "y ~ 1 + (kvae(t, code=2, K=3, hidden=3) | id)"
    model, seen, theta, encoder, _ = linear(text, frame(3, 4))
    phi, g = encoder.initial(generator(1)), generator(2)
    q = encoder.posterior(phi, model, model.prepare(theta), whole(seen))
    drawn = q.sample(torch.randn(20_000, 3, model.k, generator=g, dtype=torch.float64))
    error = drawn.log_ratio.std(0) / math.sqrt(20_000)
    assert bool(((drawn.log_ratio.mean(0) - drawn.kl).abs() < 4 * error).all())
    assert torch.allclose(drawn.kl_by_direction.sum(1), drawn.kl, atol=1e-12)


def test_a_fit_reports_its_dynamics(tmp_path: Any) -> None:
    control = {"epochs": 4, "draws": 16, "batch": 30}
    text = "y ~ 1 + (kvae(t, K=2, hidden=4) | id)"
    fit = dgmm.mixed_model(text, frame(24, 5), control=control, verbose=0)
    assert isinstance(fit, dgmm.Fit)
    course = fit.estimate.course
    assert course is not None
    assert course.mixing is not None
    assert float(course.mixing.sum()) == pytest.approx(1)
    assert "Mean weights of the 2 dynamics" in str(fit.summary(verbose=True))
    fit.save(tmp_path / "fit.dgmm")
    assert str(dgmm.load(tmp_path / "fit.dgmm").summary(verbose=True)) == str(
        fit.summary(verbose=True)
    )


def test_a_code_stands_alone() -> None:
    with pytest.raises(ValueError, match="stands alone"):
        dgmm.mixed_model("y ~ (1 | id) + (kvae(t) | id)", frame(), verbose=0)
