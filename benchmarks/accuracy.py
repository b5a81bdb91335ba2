"""Estimates beside dense quadrature: `python benchmarks/accuracy.py`.

The peer's numbers are those of tests/reference/glmm_exact.json: adaptive Gauss-Hermite quadrature
with 31 to 151 points per dimension in double precision, standard errors from the second derivatives
of the log-likelihood; for wine those of ordinal::clmm with 25 points.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

import dgmm
from dgmm.datasets import load

REFERENCE = Path(__file__).resolve().parent.parent / "tests" / "reference" / "glmm_exact.json"
EPIL = "y ~ lbase * trt + lage + V4 + (1 | subject)"
MODELS = {
    "cbpp": ("cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial"),
    "toenail": ("toenail", "y ~ trt * time + (1 | patientID)", "bernoulli"),
    "contraception": (
        "contraception_int",
        "y ~ age + I(age**2) + livch + urban + (1 | district)",
        "bernoulli",
    ),
    "epil, poisson": ("epil_poisson", EPIL, "poisson"),
    "epil, negative_binomial": ("epil_nb", EPIL, "negative_binomial"),
    "sim_beta": ("beta", "y ~ group * time + (1 | id)", "beta"),
    "sim_gamma": ("gamma_slope", "y ~ time + x + (time | id)", "gamma"),
    "wine": ("wine", "rating ~ temp + contact + (1 | judge)", "cumulative"),
}
WINE = {  # ordinal 2022.11-16, nAGQ = 25
    "coef": {"tempwarm": 3.06189, "contactyes": 1.83343},
    "se": {"tempwarm": 0.59508, "contactyes": 0.51217},
    "logLik": -81.532461,
    "re": {"sd": {"(Intercept)": 1.134783}},
}


def prepared(name: str) -> pd.DataFrame:
    """The data of a model with the outcomes as numbers."""
    frame = load(name.partition(",")[0])
    if name == "toenail":
        infected = frame["outcome"] != "none or mild"
        treated = frame["treatment"] != "itraconazole"
        return frame.assign(y=infected.astype(float), trt=treated.astype(float))
    if name == "contraception":
        return frame.assign(y=(frame["use"] == "Y").astype(float))
    return frame


def measure(likelihood: str = "auto") -> pd.DataFrame:
    """Per model: log-likelihood less the peer's, and the worst distances of the others."""
    stored = json.loads(REFERENCE.read_text(encoding="utf-8"))["refs"]
    known = {entry["id"]: entry for entry in stored} | {"wine": WINE}
    rows = {}
    for name, (entry, formula, family) in MODELS.items():
        fit = dgmm.mixed_model(
            formula, prepared(name), family=family, likelihood=likelihood, verbose=0
        )
        peer = known[entry]
        error = np.array([*peer["se"].values()])
        away = (fit.fixef().to_numpy() - np.array([*peer["coef"].values()])) / error
        ratio = fit.std_errors().to_numpy() / error
        sd = fit.var_corr().query("name2.isna()")["sdcor"].to_numpy()[: len(peer["re"]["sd"])]
        rows[name] = {
            "log-likelihood": float(fit.loglik()) - peer["logLik"],
            "coefficient, in SE": float(np.abs(away).max()),
            "ratio of SE": float(ratio[np.abs(np.log(ratio)).argmax()]),
            "ratio of SD": float(sd[0] / next(iter(peer["re"]["sd"].values()))),
        }
    return pd.DataFrame(rows).T


if __name__ == "__main__":
    for likelihood in ("auto", "laplace"):
        print(f"likelihood={likelihood!r}")
        print(measure(likelihood).round(5).to_string(), "\n")
