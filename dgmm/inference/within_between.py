"""The two effects of a covariate: of its change within subjects, of its mean between them.

    mu1 = x_it beta + xbar_i pi = (x_it - xbar_i) beta + xbar_i (beta + pi)

beta is the effect within, beta + pi that between, and pi = 0 says that the random intercept and the
covariates are uncorrelated. Mundlak (1978), Econometrica 46, 69-85; Neuhaus and Kalbfleisch (1998),
Biometrics 54, 638-645.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from dgmm.inference.contrasts import joint_test
from dgmm.inference.fixed_effects import vcov
from dgmm.inference.posterior import Scalars, scalars
from dgmm.inference.wald import wald_table
from dgmm.record import Fitted

__all__ = ["drawn_within_between", "given_means", "mundlak", "within_between"]


def given_means(fit: Fitted) -> dict[str, str]:
    """The columns that the means of cre() have added, by name, with the column they are of."""
    names, spec = fit.estimate.model.names, fit.memory.spec
    found = {}
    for key, between in spec.between.items():
        term = spec.parsed().latents[int(key.split()[1])] if key.startswith("given") else None
        if term is None or term.given is None or term.given.device != "mundlak":
            continue
        for name in between.names:
            source = name.removeprefix("mean(").removesuffix(f" | {term.group})")
            if name in names:
                found[name] = source
    return found


def within_between(fit: Fitted) -> pd.DataFrame:
    """Within, Between (with ``Std. Error``) and their difference, for covariates that have both."""
    V, beta = vcov(fit).to_numpy(), fit.fixef().to_numpy()
    rows, sources = [], []
    for source, L in _both(fit):
        value, error = L @ beta, np.sqrt(np.diag(L @ V @ L.T))
        rows.append([value[0], error[0], value[1], error[1], value[2], error[2]])
        sources.append(source)
    first = ["Within", "Std. Error", "Between", "Std. Error", "Difference", "Std. Error"]
    table = pd.DataFrame(rows, index=sources, columns=pd.Index(first), dtype=float)
    tail = wald_table(table.iloc[:, 4], table.iloc[:, 5])
    return table.assign(**{"z value": tail["z value"], "Pr(>|z|)": tail["Pr(>|z|)"]})


def drawn_within_between(fit: Fitted) -> pd.DataFrame:
    """They as scalars of a sampled posterior, three rows for each covariate: see posterior_table().

    The columns are those of the table of coefficients.
    """
    drawn = scalars(fit)
    names, parts = [], []
    for source, L in _both(fit):
        names += [f"{source}, {what}" for what in ("within", "between", "difference")]
        parts.append(drawn.values[:, :, : drawn.coefficients] @ L.T)
    if not parts:
        return pd.DataFrame()
    return Scalars(tuple(names), np.concatenate(parts, axis=2), 0).table()


def _both(fit: Fitted) -> Iterator[tuple[str, np.ndarray]]:
    """The covariates that have both effects, with L whose rows give within, between, difference."""
    names = list(fit.estimate.model.names)
    for mean, source in given_means(fit).items():
        if source not in names:
            continue
        L = np.zeros((3, len(names)))
        L[0, names.index(source)] = L[1, names.index(source)] = 1
        L[1, names.index(mean)] = L[2, names.index(mean)] = 1
        yield source, L


def mundlak(fit: Fitted) -> dict[str, float] | None:
    """The Wald test that the coefficients of all means are zero; None without means or errors."""
    means, V = list(given_means(fit)), vcov(fit)
    if not means or V.isna().to_numpy().any():
        return None
    return joint_test(fit.fixef()[means].to_numpy(), V.loc[means, means].to_numpy())
