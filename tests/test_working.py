"""The working information about eta and its root."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import build, frame, random_theta, subject_rows

from dgmm.likelihood.working import working_information
from dgmm.parameters import part


@pytest.mark.parametrize("family", ["gaussian", "bernoulli", "poisson"])
def test_root_is_that_of_the_inverse_covariance(family: str) -> None:
    outcome = {"gaussian": "y", "bernoulli": "z", "poisson": "count"}[family]
    model, panel = build(f"{outcome} ~ x + (t | id)", frame(8, 5, missing=0.2), family, unit=2.0)
    panel = panel.observed_rows()
    theta = random_theta(model, 3)
    eta = torch.randn(panel.n_rows, dtype=torch.float64)
    modes = torch.randn(panel.n, 2, dtype=torch.float64)
    Lambda = model.latents[0].loadings(part(theta, "latent1."))
    R = working_information(model, theta, panel, eta, modes @ Lambda.T)
    eye = torch.eye(panel.n_rows, dtype=torch.float64)
    product = R.backward(R.forward(eye))
    total = eta + (panel.rows.T[0] @ Lambda * modes[panel.subject]).sum(1)
    W = model.family.information(panel.rows.data, total, theta["extra"])
    for i in range(panel.n):
        at = subject_rows(panel, i)
        TL = panel.rows.T[0][at] @ Lambda
        inverse = torch.linalg.inv(torch.diag(1 / W[at]) + TL @ TL.T)
        np.testing.assert_allclose(product[at, at].numpy(), inverse.numpy(), atol=1e-10)
        product[at, at] = 0.0
    assert float(product.abs().max()) == 0.0  # nothing between subjects


def test_without_random_effects_it_is_the_weight() -> None:
    model, panel = build("y ~ x + (1 | id)", frame(8, 5), unit=2.0)
    theta = {**random_theta(model, 3), "latent1.log_diagonal": torch.tensor([-60.0]).double()}
    zero = torch.zeros(panel.n_rows, dtype=torch.float64)
    modes = torch.zeros(panel.n, 1, dtype=torch.float64)
    R = working_information(model, theta, panel, zero, modes)
    expected = torch.exp(-theta["extra"][0]).expand(panel.n_rows)
    assert torch.allclose(R.forward(torch.ones(panel.n_rows, 1).double())[:, 0], expected)
