"""The main job on real data: deep and classical models of bilirubin in biliary cirrhosis."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd

from dgmm import datasets
from dgmm.api import mixed_model
from dgmm.comparison import compare
from dgmm.fit import Fit
from dgmm.plots import plot_profiles

__all__ = ["CLASSICAL", "DEEP", "fit_both", "run", "split"]

DEEP = "log(bili) ~ dnn(age, sex) + ns(years, 3) * trt + (dnn(ns(years, 3)) | id)"
CLASSICAL = "log(bili) ~ age + sex + ns(years, 3) * trt + (1 + ns(years, 3) | id)"


def split(seed: int = 2026) -> tuple[pd.DataFrame, pd.DataFrame]:
    """pbcseq with a fifth of the patients held out: (fit, held out)."""
    data = datasets.load("pbcseq")
    data["years"] = data["day"] / 365.25
    data["trt"] = data["trt"].map({0: "placebo", 1: "d-penicillamine"})
    data["trt"] = pd.Categorical(data["trt"], ["placebo", "d-penicillamine"])
    ids = np.sort(data["id"].unique())
    away = np.random.default_rng(seed).permutation(ids)[: len(ids) // 5]
    held_out = data["id"].isin(away)
    return data[~held_out], data[held_out]


def fit_both(train: pd.DataFrame, verbose: int = 1, seed: int = 1) -> tuple[Fit, Fit]:
    """The deep and the classical fit."""
    deep = mixed_model(DEEP, train, seed=seed, verbose=verbose)
    classical = mixed_model(CLASSICAL, train, verbose=verbose)
    assert isinstance(deep, Fit)
    assert isinstance(classical, Fit)
    return deep, classical


def run(folder: Path, verbose: int = 1) -> None:
    """Fit, print both reports and the comparison, draw some profiles."""
    started = time.perf_counter()
    train, held_out = split()
    print(
        f"pbcseq: {len(train)} visits of {train['id'].nunique()} patients; "
        f"{held_out['id'].nunique()} patients held out\n"
    )
    deep, classical = fit_both(train, verbose)
    rule = "=" * 80
    print(f"{rule}\n{classical.summary()}\n{rule}\n{deep.summary()}\n{rule}")
    print(compare(deep, held_out))
    path = folder / "dgmm_demo.png"
    axes = plot_profiles(deep, train, against={"LMM": classical}, label="deep")
    axes[0].figure.savefig(path, dpi=130)
    print(f"{rule}\nProfiles of six patients: {path}")
    print(f"{time.perf_counter() - started:.0f} seconds in all")
