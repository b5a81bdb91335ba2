"""Every function a formula may call, one basis per file; nothing else resolves in a formula."""

from __future__ import annotations

from typing import Any

import numpy as np

from dgmm.transforms.bs import bs
from dgmm.transforms.categorical import C, Contrast, Factor, as_factor, factor
from dgmm.transforms.center import center
from dgmm.transforms.elementary import identity, log
from dgmm.transforms.ns import ns
from dgmm.transforms.poly import poly
from dgmm.transforms.scale import scale
from dgmm.transforms.stateful import State, Stateful

__all__ = [
    "FUNCTIONS",
    "C",
    "Contrast",
    "Factor",
    "State",
    "Stateful",
    "as_factor",
    "bs",
    "center",
    "factor",
    "ns",
    "poly",
    "scale",
]

FUNCTIONS: dict[str, Any] = {
    "I": identity,
    "C": C,
    "factor": factor,
    "contr.treatment": Contrast("treatment"),
    "contr.sum": Contrast("sum"),
    "contr.helmert": Contrast("helmert"),
    "contr.poly": Contrast("poly"),
    "ns": ns,
    "bs": bs,
    "poly": poly,
    "scale": scale,
    "center": center,
    "log": log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "exp": np.exp,
    "expm1": np.expm1,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "floor": np.floor,
    "ceiling": np.ceil,
    "pmin": np.minimum,
    "pmax": np.maximum,
    "pi": np.pi,
}
