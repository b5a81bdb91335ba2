"""A standard deviation of the random intercept that follows covariates of the subject.

Its likelihoods stand beside dense twins in contracts/test_likelihoods.py, its doors in
contracts/test_latents.py.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import dgmm


def scaled(n: int = 300, T: int = 6) -> pd.DataFrame:
    """log s_i = 0.2 + 0.5 z_i."""
    rng = np.random.default_rng(1)
    id, level, z = np.repeat(np.arange(n), T), rng.normal(size=n), rng.normal(size=n)
    x = level[id] + rng.normal(size=n * T)
    alpha = 0.7 * level + np.exp(0.2 + 0.5 * z) * rng.normal(size=n)
    y = 0.5 * x + alpha[id] + rng.normal(size=n * T)
    return pd.DataFrame({"id": id, "x": x, "z": z[id], "y": y})


@pytest.fixture(scope="module")
def fits() -> tuple[dgmm.Fit, dgmm.Fit]:
    texts = ("y ~ x + (1 | cre(id, ~ x, scale=~ z))", "y ~ x + (1 | cre(id, ~ x))")
    one, two = (dgmm.mixed_model(text, scaled(), verbose=0) for text in texts)
    return one, two


def test_the_change_of_the_log_standard_deviation_is_recovered(
    fits: tuple[dgmm.Fit, dgmm.Fit],
) -> None:
    table = fits[0].var_corr().set_index("kind")
    found = table.loc["scale(mean(z | id))"]
    assert abs(found["sdcor"] - 0.5) < 3 * found["se_working"]
    assert 0.03 < found["se_working"] < 0.1
    sd = table["sdcor"].loc["sd"].iloc[0]
    centre = scaled()["z"].mean()
    assert np.log(sd) == pytest.approx(0.2 + 0.5 * centre, abs=0.25)
    assert "Std.Dev. of the random intercept is that at mean(z | id)" in str(fits[0].summary())


def test_one_parameter_more_is_one_degree_of_freedom(fits: tuple[dgmm.Fit, dgmm.Fit]) -> None:
    table = dgmm.anova(*fits).table
    assert table["null"].iloc[1] == "chi2(1)"
    assert table["Chisq"].iloc[1] == pytest.approx(
        2 * float(fits[0].loglik()) - 2 * float(fits[1].loglik()), rel=1e-9
    )
    plain = dgmm.mixed_model("y ~ x + (1 | id)", scaled(), verbose=0)
    assert dgmm.anova(plain, fits[0]).table["null"].iloc[1] == "chi2(2)"


def test_what_it_is_not_for_is_refused() -> None:
    data = scaled(20).assign(one=1.0)
    with pytest.raises(ValueError, match=r"a cre\(\) has scale=; use method='ml'"):
        dgmm.mixed_model("y ~ x + (1 | cre(id, ~ x, scale=~ z))", data, method="reml", verbose=0)
    with pytest.raises(ValueError, match="for a random intercept alone"):
        dgmm.mixed_model("y ~ x + (x | cre(id, ~ x, scale=~ z))", data, verbose=0)
    with pytest.raises(ValueError, match=r"which `mean\(one \| id\)` does not"):
        dgmm.mixed_model("y ~ x + (1 | cre(id, ~ x, scale=~ one))", data, verbose=0)
