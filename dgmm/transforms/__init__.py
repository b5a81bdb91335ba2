"""Every function a formula may call, one basis per file; nothing else resolves in a formula."""

from __future__ import annotations

from typing import Any

import numpy as np

from dgmm.transforms.bs import bs
from dgmm.transforms.categorical import C, Contrast, Factor, as_factor, factor
from dgmm.transforms.center import center
from dgmm.transforms.elementary import elementwise, identity, log, pmax, pmin
from dgmm.transforms.ns import ns
from dgmm.transforms.poly import poly
from dgmm.transforms.scale import scale
from dgmm.transforms.stateful import State, Stateful, Values

__all__ = [
    "FUNCTIONS",
    "C",
    "Contrast",
    "Factor",
    "State",
    "Stateful",
    "Values",
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
    "log2": elementwise(np.log2),
    "log10": elementwise(np.log10),
    "log1p": elementwise(np.log1p),
    "exp": elementwise(np.exp),
    "expm1": elementwise(np.expm1),
    "sqrt": elementwise(np.sqrt),
    "abs": elementwise(np.abs),
    "sin": elementwise(np.sin),
    "cos": elementwise(np.cos),
    "tan": elementwise(np.tan),
    "floor": elementwise(np.floor),
    "ceiling": elementwise(np.ceil),
    "pmin": pmin,
    "pmax": pmax,
    "pi": np.pi,
}
