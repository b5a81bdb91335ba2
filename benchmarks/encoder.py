"""The encoder of a fit: how far it is from p(b | y), and how fast: `python benchmarks/encoder.py`.

The deep model of the simulation studies I and II, fitted to 200 subjects from one start (600 of
the sinusoid too, of which 200 leave the network silent). Of 600 new subjects, seen whole or up to
the middle of the study, without dropout:

    gap      log p(y) less the bound under q, that is KL(q || p(b | y)), nats per subject; log p(y)
             by draws around the moments of p(b | y) and from the prior, eight times 512 of them
    score    log score by the encoder less that log p(y), the mean and the root mean square
    refined  share of subjects whose draws had to be refined, k > 0.7

Processor seconds: log scores of 100,000 new subjects, predictions of 2,000 given the first half, by
either method, and one subject's posterior(), the median of 50 calls after the first.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from stored import RESULTS, keep, kept, markdown
from studies import DEEP

import dgmm
from dgmm.panel import Panel
from dgmm.prediction.moments import outcomes_seen
from dgmm.studies import training_frame
from dgmm.variational.by_encoder import EncoderPosterior
from dgmm.variational.elbo import evaluate

GAPS, TIMES = RESULTS / "encoder.csv", RESULTS / "encoder_speed.csv"
GAP_COLUMNS = (
    "process", "study", "subjects", "seed", "seen", "gap", "gap_error", "score", "score_rms",
    "ess", "refined", "version",
)  # fmt: skip
TIME_COLUMNS = ("what", "subjects", "encoder", "refined", "version")
CASES = (
    ("sigmoid", 1, 200),
    ("sigmoid", 2, 200),
    ("sinusoid", 1, 200),
    ("sinusoid", 2, 200),
    ("sinusoid", 1, 600),
)
NEW, REPLICATES = 600, 8


def fitted(process: str, study: int, subjects: int, seed: int) -> dgmm.Fit:
    """The deep model of a study."""
    data = dgmm.simulate_study(process, study=study, n=(subjects, 0, 2), seed=seed)
    control = {"holdout": 0.0, "workers": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dgmm.mixed_model(
            DEEP[process], training_frame(data), seed=seed, starts=1, se=None, verbose=0,
            control=control,
        )  # fmt: skip


def new_subjects(process: str, seed: int, size: int = NEW) -> pd.DataFrame:
    """Subjects that no fit has seen."""
    data = dgmm.simulate_study(process, n=(1, 0, size), seed=seed + 1000)
    return data[data["set"] == "new"]


def density(fit: dgmm.Fit, panel: Panel) -> torch.Tensor:
    """log p(y) by refined draws, (n,)."""
    done, parts = fit.estimate, []
    for seed in range(REPLICATES):
        value = torch.zeros(panel.n, dtype=torch.float64)
        for one in EncoderPosterior(done.model, done.theta, panel, None, {}, seed).drawn():
            value[one.block.subjects] = torch.logsumexp(one.log_weight, 0)
        parts.append(value)
    return torch.logsumexp(torch.stack(parts), 0) - math.log(REPLICATES)


def gaps(fit: dgmm.Fit, process: str, study: int, subjects: int, seed: int) -> None:
    """Keep two rows: new subjects seen whole, and up to the middle."""
    done, whole = fit.estimate, new_subjects(process, seed)
    assert done.encoder is not None
    for seen, frame in (("whole", whole), ("half", whole[whole["t"] <= 5])):
        panel = outcomes_seen(done, fit.memory.spec, frame)
        value = density(fit, panel)
        bound = evaluate(done.model, done.encoder, done.theta, done.phi, panel, seed)
        gap = value - bound.elbo
        table = fit.posterior(frame, method="encoder").table
        off = table["log_score"].to_numpy() - value.numpy()
        row = {
            "process": process, "study": study, "subjects": subjects, "seed": seed, "seen": seen,
            "gap": float(gap.mean()), "gap_error": float(gap.std()) / panel.n**0.5,
            "score": off.mean(), "score_rms": np.sqrt(np.mean(off**2)),
            "ess": table["ess"].median(), "refined": table["refined"].mean(),
        }  # fmt: skip
        keep(GAPS, row, ("process", "study", "subjects", "seed", "seen"))
        print(row, flush=True)


def seconds(call: Callable[[], Any]) -> float:
    """Processor seconds of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def times(fit: dgmm.Fit, process: str, many: int) -> None:
    """Keep the processor seconds of both methods."""
    frame, few = new_subjects(process, 7, many), new_subjects(process, 8, 2000)
    past, one = few[few["t"] <= 5], few[(few["id"] == few["id"].iloc[0]) & (few["t"] <= 5)]
    some = frame[frame["id"].isin(frame["id"].unique()[:2000])]
    for method in ("encoder", "refined"):
        fit.log_score(one, method=method)
    rows = (
        ("log scores", many, lambda method: fit.log_score(frame, method=method), 1),
        ("log scores", 2000, lambda method: fit.log_score(some, method=method), 1),
        ("predictions", 2000, lambda method: fit.predict(few, history=past, method=method), 1),
        ("one posterior()", 1, lambda method: fit.posterior(one, method=method), 50),
        ("one predict()", 1, lambda method: fit.predict(one, history=one, method=method), 50),
    )
    for what, subjects, call, repeats in rows:
        row: dict[str, Any] = {"what": what, "subjects": subjects}
        for method in ("encoder", "refined") if subjects <= 2000 else ("encoder",):
            spent = [seconds(lambda call=call, method=method: call(method)) for _ in range(repeats)]
            row[method] = float(np.median(spent))
        keep(TIMES, row, ("what", "subjects"))
        print(row, flush=True)


def gap_table() -> str:
    """Gaps of new subjects, in markdown."""
    rows = kept(GAPS, GAP_COLUMNS)
    rows = rows.assign(study=rows["study"].map({1: "I", 2: "II"}))
    return markdown(
        rows,
        {
            "process": ("process", "{}"),
            "study": ("study", "{}"),
            "subjects": ("fitted to", "{:,d}"),
            "seen": ("new subjects seen", "{}"),
            "gap": ("gap", "{:.4f}"),
            "gap_error": ("s.e.", "{:.4f}"),
            "score": ("log score less refined", "{:+.4f}"),
            "score_rms": ("root mean square", "{:.3f}"),
            "ess": ("effective draws of 128", "{:.0f}"),
            "refined": ("refined", "{:.3f}"),
        },
    )


def time_table() -> str:
    """Processor seconds, in markdown."""
    return markdown(
        kept(TIMES, TIME_COLUMNS),
        {
            "what": ("", "{}"),
            "subjects": ("subjects", "{:,d}"),
            "encoder": ('`method="encoder"`', "{:.3g}"),
            "refined": ('`method="refined"`', "{:.3g}"),
        },
    )


def main() -> None:
    """Fit every case, keep its gaps; the first is timed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--many", type=int, default=100_000, help="subjects of the log scores")
    parser.add_argument("--case", type=int, nargs="+", default=list(range(len(CASES))))
    asked = parser.parse_args()
    for number in asked.case:
        process, study, subjects = CASES[number]
        fit = fitted(process, study, subjects, asked.seed)
        gaps(fit, process, study, subjects, asked.seed)
        if number == 0:
            times(fit, process, asked.many)


if __name__ == "__main__":
    main()
