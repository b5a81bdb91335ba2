"""Networks in a model of several outcomes: their exact twins, and a fit through every door."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import dgmm
from dgmm import mv
from dgmm.design import build_design
from dgmm.encoders import context
from dgmm.encoders.base import linearised
from dgmm.estimate.amortised import tied_encoder
from dgmm.families import find
from dgmm.formula import parse_formula
from dgmm.latent import structures, words
from dgmm.likelihood import Quadrature, choose, freeze
from dgmm.model import Model, Part, build_model, join, join_panels
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.posterior.modes import find_modes

SHARED = ("y ~ t + (dnn(t, latent=2) |p| id)", "z ~ t + (dnn(t, latent=2) |p| id)")
BESIDE = ("y ~ t + (dnn(t, latent=2) |p| id)", "z ~ t + (1 |p| id)")


def frame(n: int = 30, visits: int = 4, seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    i, b = np.repeat(np.arange(n), visits), rng.normal(size=n)
    data = pd.DataFrame({"id": i, "t": np.tile(np.linspace(0, 1, visits), n)})
    data["y"] = 1 + data.t + 2 * np.tanh(2 * b[i]) + 0.4 * rng.normal(size=len(i))
    data["z"] = data.t * np.exp(b[i]) + 0.3 * rng.normal(size=len(i))
    data["w"] = (rng.random(len(i)) < 1 / (1 + np.exp(-b[i]))).astype(float)
    data.loc[::5, "z"] = np.nan
    return data


def made(
    formulas: tuple[str, ...],
    data: pd.DataFrame,
    parts: tuple[tuple[Part, ...], ...] | None = None,
    families: tuple[str, ...] = ("gaussian", "gaussian"),
) -> tuple[Model, Panel, Theta]:
    """The joint model, its panel, and some theta of it."""
    models, panels = [], []
    for text, word in zip(formulas, families, strict=False):
        formula = parse_formula(text, latent_words=words(), structures=structures())
        design, family = build_design(formula, data), find(word)
        models.append(build_model(design, family, 0.7))
        panels.append(Panel.from_design(design))
    parts = parts or (tuple(Part(o, 0, "p") for o in range(len(models))),)
    names = [text.partition(" ~")[0] for text in formulas]
    model, panel = join(names, models, parts), join_panels(panels, parts)
    generator = torch.Generator().manual_seed(1)
    theta = {
        name: 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in model.packing.shapes.items()
    }
    return model, panel.observed_rows(), theta


def silent(model: Model, theta: Theta) -> Theta:
    """Networks without a last layer."""
    dead = [name for name in model.packing.shapes if name.endswith(".A3")]
    assert dead
    return {**theta, **{name: torch.zeros_like(theta[name]) for name in dead}}


def by_nodes(model: Model, theta: Theta, panel: Panel, points: int = 7) -> torch.Tensor:
    rule = Quadrature(points)
    return freeze(model, theta, panel, rule, np.random.default_rng(0)).per_subject(theta)


def dense(model: Model, theta: Theta, panel: Panel) -> np.ndarray:
    """log p(y_i) of a linear Gaussian model: y_i ~ N(mu1, Z Z' + R)."""
    ready, found = model.prepare(theta), []
    for i in range(panel.n):
        block = panel.block(torch.tensor([i]))
        y, mu, Z, noise = [], [], [], []
        for o, own in enumerate(block.blocks):
            m, outcome = own.mask[0], model.outcomes[o]
            y.append(own.rows.data.y[0, m])
            mu.append(outcome.mu1(ready, own.rows)[0, m])
            Z.append(model.jacobian(ready, torch.zeros(1, model.k).double(), own.rows, o)[0, m])
            noise.append(theta[f"{outcome.key}extra"].exp().square().expand(int(m.sum())))
        z = torch.cat(Z)
        V = z @ z.T + torch.diag(torch.cat(noise))
        found.append(
            stats.multivariate_normal(torch.cat(mu).numpy(), V.numpy()).logpdf(torch.cat(y))
        )
    return np.array(found)


# -- twins -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("formulas", [SHARED, BESIDE])
def test_a_linear_decoder_gives_the_dense_normal_density(formulas) -> None:
    model, panel, theta = made(formulas, frame(12))
    theta = silent(model, theta)
    expected = dense(model, theta, panel)
    np.testing.assert_allclose(by_nodes(model, theta, panel).numpy(), expected, atol=1e-8)


def test_factors_are_the_linear_decoder() -> None:
    data = frame(12)
    model, panel, theta = made(SHARED, data)
    linear = tuple(text.replace("dnn(t, latent=2)", "t") for text in SHARED)
    models = [
        build_model(build_design(parse_formula(text), data), find("gaussian"), 0.7)
        for text in linear
    ]
    within = join(["y", "z"], models, ((Part(0, 0, "p"), Part(1, 0, "p")),), model)
    theta = silent(model, theta)
    Lambda = model.latents[0].loadings({"Lambda": theta["latent1.Lambda"]})
    weights = within.latents[0].nearest(Lambda @ Lambda.T)
    assert within.latents[0].dim == 2
    own = {name: theta[name] for name in within.packing.shapes if not name.startswith("latent")}
    own |= {f"latent1.{name}": value for name, value in weights.items()}
    exact = choose(within, panel)
    assert exact.exact
    np.testing.assert_allclose(exact.each(own).value, dense(model, theta, panel), atol=1e-8)


@pytest.mark.parametrize("formulas", [SHARED, BESIDE])
def test_sums_over_rows_are_the_density_row_by_row(formulas) -> None:
    model, panel, theta = made(formulas, frame(8))
    ready, block = model.prepare(theta), panel.block(torch.arange(8))
    b = torch.randn(5, 8, model.k, generator=torch.Generator().manual_seed(2)).double()
    fixed, rows = model.fixed(ready, block), 0.0
    for o, own in enumerate(block.blocks):
        eta = fixed[o] + model.mu2(ready, b, own.rows, outcome=o)
        rows = rows + model.log_density(ready, eta, b, own, o)
    torch.testing.assert_close(model.log_likelihood(ready, b, block), rows, atol=1e-9, rtol=0)


def test_slopes_of_joined_effects_are_those_of_automatic_differentiation() -> None:
    model, panel, theta = made(BESIDE, frame(4))
    ready, block = model.prepare(theta), panel.block(torch.arange(1))
    b = 0.3 * torch.ones(1, model.k).double()
    for o, own in enumerate(block.blocks):
        expected = torch.autograd.functional.jacobian(
            lambda x, own=own, o=o: model.mu2(ready, x, own.rows, outcome=o)[0], b
        )[:, 0]
        found = model.jacobian(ready, b, own.rows, o)[0]
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


def test_the_covariance_of_joined_effects_is_the_one_they_begin_with() -> None:
    model, _, _ = made(BESIDE, frame(8))
    latent, generator = model.latents[0], torch.Generator().manual_seed(1)
    A = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    D = A @ A.T + 0.5 * torch.eye(3)
    Lambda = latent.loadings(latent.from_covariance(D, torch.eye(3).double(), generator))
    torch.testing.assert_close(Lambda @ Lambda.T, D, atol=1e-8, rtol=0)


def test_one_outcome_is_the_model_of_it_alone() -> None:
    data = frame(12)
    model, panel, theta = made(SHARED[:1], data)
    formula = parse_formula(SHARED[0], latent_words=words(), structures=structures())
    design = build_design(formula, data)
    alone = build_model(design, find("gaussian"), 0.7)
    assert alone.packing.shapes == model.packing.shapes
    expected = by_nodes(alone, theta, Panel.from_design(design).observed_rows())
    torch.testing.assert_close(by_nodes(model, theta, panel), expected, atol=1e-10, rtol=0)


def test_parts_without_a_name_are_independent() -> None:
    data, one = frame(12), ("y ~ t + (dnn(t, latent=1) | id)", "z ~ t + (dnn(t, latent=1) | id)")
    apart = ((Part(0, 0),), (Part(1, 0),))
    model, panel, theta = made(one, data, apart)
    total = torch.zeros(panel.n, dtype=torch.float64)
    for o, text in enumerate(one):
        alone, own, _ = made((text,), data)
        key, prefix = model.outcomes[o].key, f"latent{o + 1}."
        names = {"beta": f"{key}beta", "extra": f"{key}extra"}
        at = {n: theta[names.get(n, n.replace("latent1.", prefix))] for n in alone.packing.shapes}
        total += by_nodes(alone, at, own.align(panel.ids), 15)
    torch.testing.assert_close(by_nodes(model, theta, panel, 15), total, atol=1e-9, rtol=0)


def test_rows_without_an_outcome_change_nothing() -> None:
    data = frame(12)
    model, panel, theta = made(SHARED, data, families=("gaussian", "gaussian"))
    whole = panel.select(torch.arange(panel.n))
    both = freeze(model, theta, whole.masked_rows(), Quadrature(7), np.random.default_rng(0))
    value = both.per_subject(theta)
    torch.testing.assert_close(value, by_nodes(model, theta, panel), atol=1e-9, rtol=0)
    assert int(panel.beside[0].count.sum()) == int(data.z.notna().sum())


@pytest.mark.parametrize("formulas", [SHARED, BESIDE])
def test_the_encoder_sees_all_outcomes(formulas) -> None:
    model, panel, theta = made(formulas, frame(8))
    theta, block = silent(model, theta), panel.block(torch.arange(8))
    _, phi = tied_encoder(model, theta, panel, "sites", torch.Generator().manual_seed(1))
    q = linearised(phi, context(model, model.prepare(theta), block))
    exact = find_modes(model, theta, block)
    torch.testing.assert_close(q.mean, exact.mode, atol=1e-8, rtol=0)
    torch.testing.assert_close(q.root @ q.root.mT, exact.covariance, atol=1e-8, rtol=0)


# -- a fit -----------------------------------------------------------------------------------------

QUICK = {"ridge": 1.0, "holdout": 0, "epochs": 5}


@pytest.fixture(scope="module")
def fit() -> dgmm.MultivariateFit:
    small = [text.replace("latent=2", "latent=1, hidden=(6,)") for text in SHARED]
    return dgmm.mixed_model(mv(*small), frame(40, 5), control=QUICK, starts=1, seed=1, verbose=0)


def test_the_history_of_one_outcome_updates_the_other_by_bayes(fit) -> None:
    done, past = fit.estimate, frame(40, 5).query("id == 7")[["id", "t", "y"]].assign(id=99)
    new = pd.DataFrame({"id": [99], "t": [0.5]})
    found = fit.predict(new, outcome="z", history=past)["fit"].item()
    model, ready = done.model, done.model.prepare(done.theta)
    b = torch.linspace(-6, 6, 4001).double()[:, None, None]
    y, t = torch.tensor(past.y.to_numpy()), torch.tensor(past.t.to_numpy())
    rows = done.panel.rows.take(torch.zeros(1, len(t), dtype=torch.long))
    T = torch.stack([torch.ones_like(t), t], dim=1)[None]
    rows = replace(rows, T=(T,), basis=(T,), X=T)
    eta = model.outcome.mu1(ready, rows) + model.mu2(ready, b, rows)
    weight = -0.5 * ((y - eta) / done.theta["extra"].exp()).square().sum((1, 2))
    weight = torch.softmax(weight - 0.5 * b[:, 0, 0].square(), 0)
    at = torch.tensor([[[1.0, 0.5]]]).double()
    rows = replace(done.panel.beside[0].rows.take(torch.zeros(1, 1, dtype=torch.long)))
    rows = replace(rows, T=(at,), basis=(at,), X=at)
    mean = model.outcomes[1].mu1(ready, rows) + model.mu2(ready, b, rows, outcome=1)
    assert found == pytest.approx(float((weight * mean[:, 0, 0]).sum()), abs=0.01)


def test_it_is_above_the_model_within_and_says_so(fit) -> None:
    done = fit.estimate
    assert done.nested is not None
    assert done.converged
    assert done.log_likelihood > done.nested.log_likelihood + 20  # the curves are there
    text = str(fit.summary(verbose=True))
    assert "Deep mixed model of 2 outcomes" in text
    assert "neural random effects of dimension 1" in text
    assert "1-6-4" in text
    assert fit.df() == pytest.approx(fit.information.effective["total"])
    new = frame(20, seed=9)
    scores = fit.log_score(new)
    expected = sum(one.log_score(new)["log_score"] for one in fit.separate)
    np.testing.assert_allclose(scores["separate"], expected, atol=1e-8)
    assert scores["difference"].mean() > 0


def test_it_is_compared_with_fits_of_ones_own(fit) -> None:
    new = frame(20, seed=9)
    new.loc[new["id"] == new["id"].iloc[0], fit.names[1]] = np.nan
    alone = dict(zip(fit.names, fit.separate, strict=True))
    given, began = fit.log_score(new, separate=alone), fit.log_score(new)
    np.testing.assert_allclose(given["separate"], began["separate"], atol=1e-8)
    first, second = fit.names
    swapped = {first: alone[second], second: alone[first]}
    with pytest.raises(ValueError, match=f"is a fit of `{second}` by id; it must be of `{first}`"):
        fit.log_score(new, separate=swapped)
    with pytest.raises(ValueError, match="a fit of every outcome by its name"):
        fit.log_score(new, separate={first: alone[first]})


def test_a_file_and_draws_keep_it(fit, tmp_path) -> None:
    fit.save(tmp_path / "fit.dgmm")
    again = dgmm.load(tmp_path / "fit.dgmm")
    options = {"outcome": "z", "interval": "confidence"}
    pd.testing.assert_frame_equal(again.predict(**options), fit.predict(**options))
    (full,) = fit.impute(1, seed=4)
    seen = frame(40, 5)
    assert full[["y", "z"]].notna().all().all()
    pd.testing.assert_series_equal(full.z[seen.z.notna()], seen.z.dropna())
    drawn = np.stack([one["z"].to_numpy() for one in fit.simulate(200, seed=2)])
    marginal = fit.predict(outcome="z", type="marginal")["fit"].to_numpy()
    away = (drawn.mean(0) - marginal) / (drawn.std(0) / np.sqrt(200))
    assert np.abs(away).max() < 4.5


# -- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formulas", "options", "message"),
    [
        (
            ("y ~ t + (dnn(t, latent=2) |p| id)", "z ~ t + (dnn(t, latent=1) |p| id)"),
            {},
            "share their effects and hidden layers",
        ),
        (
            ("y ~ t + (dnn(t, latent=2) |p| id)", "z ~ t + load(p)"),
            {},
            r"load\(p\) takes a linear random part",
        ),
        (SHARED, {"method": "reml"}, "`y` has one; leave"),
        (SHARED, {"method": "gibbs"}, "use 'ml' or 'vae'"),
    ],
)
def test_what_goes_wrong_is_said(formulas, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        dgmm.mixed_model(mv(*formulas), frame(), verbose=0, **options)


@pytest.mark.parametrize("word", ["shared", "rescor"])
def test_what_a_joint_model_cannot_have_beside_networks_is_said(word: str) -> None:
    given = {"shared": "t"} if word == "shared" else {"rescor": True}
    with pytest.raises(ValueError, match=rf"mv\({word}=\) is for models without dnn\(\)"):
        dgmm.mixed_model(mv(*SHARED, **given), frame(), verbose=0)


def test_a_network_of_covariates_alone_is_that_of_the_outcome_by_itself() -> None:
    """Without a name of its random part an outcome is independent of the other."""
    data = frame(40, 5)
    data["x"] = np.random.default_rng(5).normal(size=40)[data.id]
    formulas = ("y ~ dnn(x, hidden=(3,)) + t + (1 | id)", "z ~ t + (1 | id)")
    control = {**QUICK, "epochs": 2}
    joint = dgmm.mixed_model(mv(*formulas), data, control=control, seed=1, verbose=0)
    apart = [dgmm.mixed_model(one, data, control=control, seed=1, verbose=0) for one in formulas]
    total = sum(float(one.loglik()) for one in apart)
    assert float(joint.loglik()) == pytest.approx(total, abs=0.02)
    assert joint.fixef()["y", "t"] == pytest.approx(apart[0].fixef()["t"], abs=5e-3)


def test_networks_are_not_compared_by_a_likelihood_ratio(fit) -> None:
    with pytest.raises(ValueError, match="networks have a penalty"):
        fit.anova()
