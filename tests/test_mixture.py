"""Normal distributions whose mean and variance are estimates: against t, draws, REML, algebra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from test_sensitivity import covariance
from torch import Tensor
from toys import build, frame, random_theta

from dgmm import Fit, mixed_model
from dgmm.estimate import Estimate
from dgmm.information import Covariance
from dgmm.likelihood import choose
from dgmm.prediction.intervals import Target, drawn
from dgmm.prediction.mixture import Mixture
from dgmm.prediction.moments import marginal
from dgmm.prediction.options import Wanted


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_an_estimated_variance_makes_a_t(level: float) -> None:
    """y of n measurements: mean and variance unknown, (y_new - ybar) / {s (1 + 1/n)^1/2} ~ t."""
    df = numbers(15.0, 30.0, 100.0)
    one, nothing = torch.ones_like(df), torch.zeros_like(df)
    law = Mixture(2 * one, nothing, 4 * one, 2 / df, nothing, nothing)
    exact = torch.from_numpy(2 + 2 * stats.t.ppf(0.5 + level / 2, df.numpy()))
    lower, upper = law.interval(level).T
    for size in (upper - 2, 2 - lower):
        assert ((size / (exact - 2) - 1).abs() < df**-2).all()


def test_quantiles_are_those_of_draws() -> None:
    m, s2, v = numbers(1.0, -2.0, 0.0), numbers(0.5, 2.0, 0.1), numbers(1.0, 0.3, 2.0)
    tau2, c, lost = numbers(0.1, 0.4, 0.3), numbers(0.1, -0.7, 0.0), numbers(0.0, 0.1, 0.3)
    rng, size = np.random.default_rng(3), 200_000
    z, e, x = (torch.from_numpy(rng.normal(size=(size, 1))) for _ in range(3))
    tau, along = tau2.sqrt(), c / tau2.sqrt()
    own = v * (lost + 0.5 * tau2 + tau * z).exp()
    y = m + along * z + (s2 - along.square()).sqrt() * x + own.sqrt() * e
    ends = Mixture(m, s2, v, tau2, c, lost).interval(0.9)
    inside = ((y < ends[:, 0]).double().mean(0), (y > ends[:, 1]).double().mean(0))
    for share in inside:
        assert ((share - 0.05).abs() < 4 * (0.05 * 0.95 / size) ** 0.5).all()


def test_known_parameters_leave_the_normal_distribution() -> None:
    nothing = torch.zeros(2, dtype=torch.float64)
    law = Mixture(numbers(1.0, 2.0), nothing, numbers(4.0, 0.0), nothing, nothing, nothing)
    found = law.interval(0.95)
    torch.testing.assert_close(found[1], numbers(2.0, 2.0), rtol=1e-8, atol=0)
    torch.testing.assert_close(
        found[0], numbers(1 - 3.919927969, 1 + 3.919927969), rtol=1e-9, atol=0
    )


@pytest.mark.parametrize("text", ["y ~ x + t + (t | id)", "y ~ dnn(x, hidden=(3,)) + (t | id)"])
def test_moves_are_the_derivatives_of_the_posterior(text: str) -> None:
    """E eta and log var(y new) of every row at theta and on both sides of it."""
    model, panel = build(text, frame(missing=0.3))
    theta, seen = random_theta(model), panel.observed_rows()
    V = covariance(model.packing.size)
    likelihood = choose(model, panel, "exact")
    done = Estimate(likelihood, theta, 0.0, 0.0, 0.0, 0, True, method="ml")
    moves = Target(done, seen, panel, 0).moves(
        Covariance(theta, model.packing, V), "subject", outcome=True
    )

    def both(vector: Tensor) -> tuple[Tensor, Tensor]:
        at = model.packing.unpack(vector)
        found = likelihood.on(seen).posterior(at).predictive(panel, "link")
        return found.mean, (found.variance + torch.exp(2 * at["extra"][0])).log()

    x, h = model.packing.pack(theta), 1e-5
    steps = h * torch.eye(len(x), dtype=torch.float64)
    ends = [(both(x + s), both(x - s)) for s in steps]
    J, g = (torch.stack([(up[i] - down[i]) / (2 * h) for up, down in ends], dim=1) for i in (0, 1))
    close = {"rtol": 2e-3, "atol": 1e-6}
    torch.testing.assert_close(moves.error, torch.einsum("np,pq,nq->n", J, V, J).sqrt(), **close)
    torch.testing.assert_close(moves.spread, torch.einsum("np,pq,nq->n", g, V, g), **close)
    torch.testing.assert_close(moves.covariance, torch.einsum("np,pq,nq->n", J, V, g), **close)
    assert float(moves.spread.min()) > 0


def test_what_maximum_likelihood_loses_is_what_reml_finds() -> None:
    """log var(y new) at the REML estimate, in one step from the ML one."""
    table = frame(n=60, J=5, seed=4)
    fits = [mixed_model("y ~ x * t + (t | id)", table, method=m, verbose=0) for m in ("ml", "reml")]
    ml, reml = (
        marginal(fit.estimate, fit.estimate.theta, fit.estimate.panel, "link").variance
        + fit.sigma() ** 2
        for fit in fits
    )
    done, info = fits[0].estimate, fits[0].information
    assert info is not None
    known = Covariance(done.theta, info.packing, info.vcov)
    moves = Target(done, done.observed, done.panel, 0).moves(known, "marginal", outcome=True)
    exact = (reml / ml).log()
    assert float(exact.min()) > 0.005
    torch.testing.assert_close(moves.lost, exact, rtol=0.1, atol=0)
    again = fits[1].estimate
    assert again.likelihood.mean_integrated(again.theta) == 0


def test_known_parameters_leave_no_room(sleepstudy: Fit) -> None:
    """With theta held the width is that of the exact normal distribution given y."""
    info = sleepstudy.information
    assert info is not None
    held = replace(sleepstudy, information=replace(info, vcov=0 * info.vcov))
    effects = sleepstudy.ranef(cond_var=True)
    assert isinstance(effects, pd.DataFrame)
    found = held.predict(pd.DataFrame({"Days": [0.0], "Subject": ["308"]}), interval="prediction")
    sd = np.hypot(effects.loc["308", "sd((Intercept))"], sleepstudy.sigma())
    np.testing.assert_allclose(found["upper"] - found["lower"], 2 * 1.959963985 * sd, rtol=1e-7)


@pytest.mark.parametrize("type", ["subject", "marginal"])
def test_the_closed_form_is_theta_before_b_before_y(type: str, sleepstudy: Fit) -> None:
    """Outcomes drawn as those of other families are, at values of theta around the estimate."""
    done, info = sleepstudy.estimate, sleepstudy.information
    assert info is not None
    known = Covariance(done.theta, info.packing, info.vcov)
    rows = done.panel.keep(torch.arange(done.panel.n_rows) % 9 == 0)
    target = Target(done, done.observed, rows, 3)
    eta = target.predictor(type)
    wanted = Wanted(type, "response", "prediction", 0.9, "population", 40_000)
    y = drawn(target, known, target.moves(known, type, outcome=False), eta.mean, wanted)
    moves = target.moves(known, type, outcome=True)
    law = Mixture.of(eta.mean, eta.variance + sleepstudy.sigma() ** 2, moves)
    ends = law.interval(0.9)
    inside = ((ends[:, 0] <= y) & (y <= ends[:, 1])).double().mean(0)
    plain = torch.special.ndtri(torch.tensor(0.95).double()) * law.sd
    narrow = ((y - eta.mean).abs() <= plain).double().mean()
    assert abs(float(inside.mean()) - 0.9) < 0.006
    assert float(narrow) < float(inside.mean())
