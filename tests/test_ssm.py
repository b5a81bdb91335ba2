"""Free state spaces: against ARMA models of statsmodels, the dense density, and ar1()."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from statsmodels.tsa.arima_process import arma_acf, arma_generate_sample
from statsmodels.tsa.statespace.sarimax import SARIMAX
from toys import build, random_theta

import dgmm
from dgmm.latent.ssm import StateSpace, stationary_coefficients
from dgmm.likelihood import choose
from dgmm.likelihood.filter import Filter
from dgmm.likelihood.filter_search import search
from dgmm.likelihood.numerical import NodeLaplace
from dgmm.likelihood.packed import moving_packing
from dgmm.model import Model
from dgmm.parameters import Theta, part

PHI, THETA = [1.2, -0.7], [0.4]


def panel(n: int = 25, seed: int = 3, longest: int = 40) -> pd.DataFrame:
    """An intercept, an ARMA(2, 1) process and noise, at 3 of 4 visits."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(n):
        z = arma_generate_sample(
            np.r_[1, -np.array(PHI)],
            np.r_[1, THETA],
            longest,
            burnin=300,
            distrvs=lambda size: rng.standard_normal(size),
        )
        y = 1 + 0.7 * rng.normal() + z + 0.5 * rng.normal(size=longest)
        kept = np.sort(rng.choice(longest, 3 * longest // 4, replace=False))
        one = {"id": i, "visit": kept + 1, "x": rng.normal(size=len(kept)), "y": y[kept]}
        rows.append(pd.DataFrame(one))
    return pd.concat(rows, ignore_index=True)


def of_term(model: Model, theta: Theta) -> tuple[StateSpace, Theta]:
    latent = model.latents[-1]
    assert isinstance(latent, StateSpace)
    return latent, part(theta, f"latent{len(model.latents)}.")


def test_partial_autocorrelations_give_a_stationary_autoregression() -> None:
    rng = np.random.default_rng(1)
    for d in (1, 2, 3, 5):
        partial = torch.from_numpy(rng.uniform(-1, 1, d))
        phi = stationary_coefficients(partial).numpy()
        assert np.abs(np.roots(np.r_[1, -phi])).max() < 1
        rho = arma_acf(np.r_[1, -phi], [1], d + 1)
        last = [np.linalg.solve(_toeplitz(rho[:k]), rho[1 : k + 1])[-1] for k in range(1, d + 1)]
        np.testing.assert_allclose(last, partial, atol=1e-10)


def _toeplitz(rho: np.ndarray) -> np.ndarray:
    lag = np.abs(np.subtract.outer(np.arange(len(rho)), np.arange(len(rho))))
    return rho[lag]


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_process_is_an_arma_process(d: int) -> None:
    """Its covariance at the visits of a panel, gaps included, is that of statsmodels' ARMA."""
    model, rows = build(f"y ~ 1 + (ssm(visit, state={d}) | id)", panel(4, longest=12))
    theta = random_theta(model, 3)
    latent, weights = of_term(model, theta)
    phi, ma = (c.numpy() for c in latent.coefficients(weights))
    sd = float(latent.reported(weights)[0])
    block = rows.block(torch.arange(rows.n))
    J = model.jacobian(theta, torch.zeros(rows.n, model.k, dtype=torch.float64), block.rows)
    rho = arma_acf(np.r_[1, -phi], np.r_[1, ma], 13)
    for i in range(rows.n):
        t = block.rows.T[0][i, :, 0].long()
        expected = sd**2 * rho[(t[:, None] - t).abs().numpy()]
        np.testing.assert_allclose(J[i] @ J[i].T, expected, atol=1e-10)


@pytest.mark.parametrize("start", ["stationary", "known"])
def test_the_likelihood_is_that_of_the_dense_density(start: str) -> None:
    formula = f"y ~ x + (1 | id) + (ssm(visit, state=2, start='{start}') | id)"
    model, rows = build(formula, panel(5, longest=15), unit=0.7)
    theta = random_theta(model, 3)
    found, dense = choose(model, rows, "filter"), choose(model, rows, "exact")
    assert found.value(theta) == pytest.approx(dense.value(theta), abs=1e-9)
    one, two = (by.value_and_gradient(theta)[1] for by in (found, dense))
    assert all(torch.allclose(one[name], two[name], atol=1e-8) for name in one)
    assert torch.allclose(found.scores(theta), dense.scores(theta), atol=1e-8)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_one_series_has_the_likelihood_of_sarimax_with_measurement_error(d: int) -> None:
    frame = panel(1, longest=80)
    model, rows = build(f"y ~ 1 + (ssm(visit, state={d}) | id)", frame)
    theta = random_theta(model, 5)
    latent, weights = of_term(model, theta)
    with torch.no_grad():
        phi, ma = (c.numpy() for c in latent.coefficients(weights))
        g = latent._matrices(weights)[1].numpy()
    sigma2, beta = float(torch.exp(2 * theta["extra"])), float(model.beta(theta))
    y = np.full(80, np.nan)
    y[frame["visit"] - 1] = frame["y"] - beta
    twin = SARIMAX(y, order=(d, 0, d - 1), measurement_error=True)
    expected = twin.loglike(np.r_[phi, ma, sigma2, g[0] ** 2])
    assert choose(model, rows, "filter").value(theta) == pytest.approx(expected, abs=1e-7)


def test_one_state_is_an_autoregressive_path() -> None:
    frame = panel()
    one = dgmm.mixed_model("y ~ x + (1 | id) + (ssm(visit, state=1) | id)", frame, verbose=0)
    two = dgmm.mixed_model("y ~ x + (1 | id) + (ar1(visit) | id)", frame, verbose=0)
    assert one.loglik().value == pytest.approx(two.loglik().value, abs=1e-6)
    np.testing.assert_allclose(one.fixef(), two.fixef(), atol=1e-4)


def test_a_fit_finds_the_process_from_which_the_data_came() -> None:
    frame = panel(60)
    fit = dgmm.mixed_model("y ~ x + (1 | id) + (ssm(visit, state=2) | id)", frame, verbose=0)
    table = fit.var_corr().set_index("kind")
    value, error = table["sdcor"], table["se_working"]
    for kind, truth in zip(("phi1", "phi2", "theta1"), [*PHI, *THETA], strict=True):
        assert abs(value[kind] - truth) < 3 * error[kind]
    told = " ".join(str(fit.summary()).split())
    assert "2 states in observer form, mu2 the first, known by its ARMA(2, 1) alone" in told
    period = 2 * math.pi / np.abs(np.angle(np.roots(np.r_[1, -value[["phi1", "phi2"]]])))[0]
    assert f"a period of {period:.3g} visits" in told
    smaller = dgmm.mixed_model("y ~ x + (1 | id) + (ar1(visit) | id)", frame, verbose=0)
    assert fit.aic() < smaller.aic() - 10
    ahead = pd.DataFrame({"id": [0], "visit": [100_000], "x": [0.0]})
    with pytest.raises(ValueError, match="a grid of more than 65,536"):
        fit.predict(ahead)
    far = fit.predict(ahead.assign(visit=4000), interval=None)["fit"]
    assert far.iloc[0] == pytest.approx(
        fit.fixef()["(Intercept)"] + fit.ranef().loc[0, "(Intercept)"], abs=1e-6
    )


@pytest.mark.parametrize(
    ("term", "said"),
    [
        ("ssm(visit, state=20)", "20 states have 40 parameters, and no subject has more than 30"),
        ("ssm(visit, state=0)", "positive whole number"),
        ("ssm(time)", "visits are whole numbers"),
        ("ssm(twice)", "`id` '0' has several at visit"),
        ("ssm(far)", "a grid of more than 65,536"),
        ("ssm(visit, start='diffuse')", "start= is 'stationary' or 'known'"),
    ],
)
def test_what_the_visits_do_not_tell_is_refused_in_words(term: str, said: str) -> None:
    frame = panel(4).assign(
        time=lambda d: d["visit"] + 0.5,
        twice=lambda d: (d["visit"] + 1) // 2,
        far=lambda d: d["visit"] * 10_000,
    )
    with pytest.raises(ValueError, match=said):
        dgmm.mixed_model(f"y ~ x + ({term} | id)", frame, verbose=0)


def test_states_that_the_data_do_not_have_are_told() -> None:
    """Noise alone has no state: what is estimated of it has no standard errors, and a note."""
    rng = np.random.default_rng(2)
    frame = panel(10)
    frame["y"] = rng.normal(size=len(frame))
    fit = dgmm.mixed_model("y ~ x + (ssm(visit, state=3) | id)", frame, verbose=0)
    plain = fit.loglik().value - (-0.5 * len(frame) * (1 + math.log(2 * math.pi)))
    assert np.isfinite(plain)
    kinds = fit.var_corr().set_index("kind")["se_working"]
    assert kinds.drop("sd").isna().any() or (kinds.drop("sd") > 0.5).any()


def test_a_maximum_far_from_slow_decay_is_found() -> None:
    """Found from one of four random starts: phi of alternating signs and a moving average."""
    rng, rows = np.random.default_rng([12, 77]), []
    n = int(rng.integers(8, 31))
    first, second = np.tanh(rng.normal(0.7, 0.8)), np.tanh(rng.normal(-0.4, 0.8))
    ma, sigma = np.tanh(rng.normal(0, 0.7)), np.exp(rng.normal(-0.7, 0.7))
    for i in range(n):
        J = int(rng.integers(10, 31))
        ar = np.r_[1, -first * (1 - second), -second]
        z = arma_generate_sample(
            ar, [1, ma], J, burnin=200, distrvs=lambda size: rng.standard_normal(size)
        )
        kept = np.sort(rng.choice(J, max(7, 3 * J // 4), replace=False))
        x = rng.normal(size=J)
        y = 1 + 0.5 * x + z + 0.6 * rng.normal() + sigma * rng.normal(size=J)
        rows.append(pd.DataFrame({"id": i, "visit": kept + 1, "x": x[kept], "y": y[kept]}))
    formula = "y ~ x + (1 | id) + (ssm(visit, state=2) | id)"
    fit = dgmm.mixed_model(formula, pd.concat(rows), verbose=0, se=None)
    likelihood = fit.estimate.likelihood
    assert isinstance(likelihood, Filter)
    own = moving_packing(fit.estimate.model)
    there = own.unpack(torch.tensor([-0.718, -2.792, -1.682, -1.273], dtype=torch.float64))
    best = search(likelihood.packed, False, [there]).value
    assert float(fit.loglik().value) > best - 1e-5


# -- inputs ----------------------------------------------------------------------------------------

A, B, G = np.array([[0.9, 1.0], [-0.4, 0.0]]), np.array([1.0, -0.6]), np.array([0.5, 0.2])
DRIVEN = "y ~ 1 + (1 | id) + (ssm(visit, state=2, control=~ u) | id)"


def driven(n: int = 30, longest: int = 14, seed: int = 1) -> pd.DataFrame:
    """Two states that a random input moves; rows without an outcome, and visits without a row."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(n):
        u, z, m, y = rng.normal(size=longest), np.zeros(2), np.zeros(2), []
        for _ in range(60):
            z = A @ z + G * rng.normal()
        own = 0.7 * rng.normal()
        for t in range(longest):
            z, m = A @ z + G * rng.normal(), A @ m + B * u[t]
            y.append(2 + own + z[0] + m[0] + 0.5 * rng.normal())
        seen = np.where(rng.random(longest) < 0.2, np.nan, y)
        rows.append(pd.DataFrame({"id": i, "visit": np.arange(longest) + 1, "u": u, "y": seen}))
    return pd.concat(rows, ignore_index=True)


def with_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[np.random.default_rng(4).random(len(frame)) > 0.25]


def course_by_hand(own: pd.DataFrame, A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """c'z at the rows of a subject, visit by visit; at a visit without a row u is what it was."""
    z, u, found = np.zeros(len(A)), np.zeros(B.shape[1]), {}
    inputs = own.set_index("visit")[["u"]]
    for visit in range(int(own["visit"].min()), int(own["visit"].max()) + 1):
        u = inputs.loc[visit].to_numpy() if visit in inputs.index else u
        z = A @ z + B @ u
        found[visit] = z[0]
    return own["visit"].map(found).to_numpy()


def test_the_density_with_inputs_is_the_normal_one_about_the_course_of_the_states() -> None:
    frame = with_gaps(driven(6))
    model, rows = build(DRIVEN, frame, unit=0.7)
    theta = random_theta(model, 3)
    latent, weights = of_term(model, theta)
    states, gain = latent._matrices(weights)[0].numpy(), latent.effects_of_inputs(weights).numpy()
    found = choose(model, rows, "filter")
    each = found.each(theta).value
    sized = model.sized(rows)
    for i, (_, own) in enumerate(frame.groupby("id")):
        block = rows.block(torch.tensor([i]))
        J = sized.jacobian(theta, torch.zeros(1, sized.k, dtype=torch.float64), block.rows)[0]
        mean = float(model.beta(theta)) + course_by_hand(own, states, gain)
        seen = own["y"].notna().to_numpy()
        V = (J @ J.T).numpy() + math.exp(2 * float(theta["extra"])) * np.eye(len(own))
        density = multivariate_normal(mean[seen], V[np.ix_(seen, seen)])
        assert float(each[i]) == pytest.approx(density.logpdf(own["y"][seen]), abs=1e-9)
    dense = choose(model, rows, "exact")
    one, two = (by.value_and_gradient(theta)[1] for by in (found, dense))
    assert all(torch.allclose(one[name], two[name], atol=1e-8) for name in one)
    assert torch.allclose(found.scores(theta), dense.scores(theta), atol=1e-8)


def test_laplace_with_inputs_is_that_of_nodes_and_has_its_gradient() -> None:
    frame = with_gaps(driven(5))
    frame["y"] = np.floor(frame["y"].clip(lower=0))
    model, rows = build(DRIVEN, frame, family="poisson")
    theta = random_theta(model, 3)
    found = choose(model, rows, "laplace")
    twin = NodeLaplace(model.sized(rows), rows)
    assert found.value(theta) == pytest.approx(twin.value(theta), abs=1e-8)
    _, gradient = found.value_and_gradient(theta)
    x, packing = model.packing.pack(theta), model.packing
    scores = found.scores(theta)
    np.testing.assert_allclose(scores.sum(0), packing.pack(gradient), atol=1e-8)
    for j, unit in enumerate(1e-4 * torch.eye(len(x), dtype=torch.float64)):
        up, down = (found.value(packing.unpack(x + s * unit)) for s in (1, -1))
        assert (up - down) / 2e-4 == pytest.approx(float(scores[:, j].sum()), rel=1e-5, abs=1e-5)


@pytest.fixture(scope="module")
def moved() -> dgmm.Fit:
    return dgmm.mixed_model(DRIVEN, driven(40), verbose=0)


def test_a_fit_finds_what_the_input_does(moved: dgmm.Fit) -> None:
    assert moved.estimate.converged
    table = moved.var_corr().set_index("kind")
    for kind, truth in zip(("B1[u]", "B2[u]"), B, strict=True):
        assert abs(table["sdcor"][kind] - truth) < 3 * table["se_working"][kind]
    phi = table["sdcor"][["phi1", "phi2"]].to_numpy()
    gain = table["sdcor"][["B1[u]", "B2[u]"]].to_numpy()
    told = " ".join(str(moved.summary()).split())
    change = gain.sum() / (1 - phi.sum())
    assert f"One unit more of an input, kept up, moves mu2 in the end by: u {change:.4g}." in told
    free = dgmm.mixed_model(DRIVEN.replace(", control=~ u", ""), driven(40), verbose=0, se=None)
    row = free.anova(moved).table.iloc[1]
    assert (row["Df"], row["null"]) == (2, "chi2(2)")
    assert row["Chisq"] == pytest.approx(2 * (moved.loglik().value - free.loglik().value), abs=1e-6)


def test_an_impulse_has_the_response_of_the_powers_of_A(moved: dgmm.Fit) -> None:
    table = moved.var_corr().set_index("kind")["sdcor"]
    a = np.array([[table["phi1"], 1.0], [table["phi2"], 0.0]])
    b = table[["B1[u]", "B2[u]"]].to_numpy(dtype=float)
    visits = np.array([3, 4, 5, 6, 9])
    frame = pd.DataFrame({"id": "new", "visit": visits, "u": [0.0, 1.0, 0.0, 0.0, 0.0]})
    expected = [0.0, *((np.linalg.matrix_power(a, v - 4) @ b)[0] for v in visits[1:])]
    for kind in ("mean_subject", "marginal", "subject"):
        found = moved.predict(frame, type=kind, new_groups="population")["fit"]
        np.testing.assert_allclose(found - moved.fixef().iloc[0], expected, atol=1e-10)
    held = moved.predict(frame.assign(u=1.0).iloc[[1, 4]], type="mean_subject")["fit"].iloc[1]
    steps = sum((np.linalg.matrix_power(a, k) @ b)[0] for k in range(6))
    assert held - moved.fixef().iloc[0] == pytest.approx(steps, abs=1e-10)


def test_a_known_subject_and_its_history_have_one_prediction(
    moved: dgmm.Fit, tmp_path: Path
) -> None:
    frame = driven(40)
    who = frame.query("visit == 14 and y.isna()")["id"].iloc[0]
    own = frame[frame["id"] == who]
    later = pd.DataFrame({"id": who, "visit": [15, 16, 19], "u": [2.0, 0.0, 0.0]})
    known = moved.predict(later, interval="prediction")
    past = moved.predict(later.assign(id="x"), history=own.assign(id="x"), interval="prediction")
    np.testing.assert_allclose(known, past, atol=1e-10)
    # the inputs of visits without an outcome count
    still = moved.predict(later, history=own.assign(u=own["u"].where(own["y"].notna(), 9.0)))
    assert (known["fit"] - still["fit"]).abs().max() > 0.01
    moved.save(tmp_path / "moved.dgmm")
    again = dgmm.load(tmp_path / "moved.dgmm").predict(later)
    np.testing.assert_allclose(again["fit"], known["fit"], atol=1e-12)
    drawn = moved.simulate(200, seed=1).to_numpy()
    mean = moved.predict(driven(40), type="mean_subject")["fit"].to_numpy()
    error = drawn.std(1, ddof=1) / math.sqrt(200)
    assert np.square((drawn.mean(1) - mean) / error).mean() == pytest.approx(1, abs=0.25)


def test_inputs_that_cannot_be_are_refused() -> None:
    frame = driven(4)
    with pytest.raises(ValueError, match="the control `v` does not vary"):
        dgmm.mixed_model(DRIVEN.replace("~ u)", "~ v)"), frame.assign(v=1.0), verbose=0)
    with pytest.raises(ValueError, match="no column `w`"):
        dgmm.mixed_model(DRIVEN.replace("~ u)", "~ w)"), frame, verbose=0)
    with pytest.raises(ValueError, match="no option control="):
        dgmm.mixed_model("y ~ 1 + (ou(visit, control=~ u) | id)", frame, verbose=0)
