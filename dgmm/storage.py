"""Fits in one file: tensors as safetensors, everything else as JSON among them.

Reading builds only the classes listed here (and members of the open folders) from plain fields;
no text of the file is evaluated or imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgmm.bayes import Chains, HalfT, InverseGamma, InverseWishart, NormalPrior, Prior
from dgmm.design import Alias, Column, Departures, Layout, LeftOut, Specification, Variable
from dgmm.encoders import Encoder, Learnt, Mixed, Potentials, Stepwise
from dgmm.estimate import (
    Control,
    Course,
    Estimate,
    FormChoice,
    Head,
    HeldOut,
    Member,
    Patterns,
    Saem,
)
from dgmm.families import Family, Observations
from dgmm.families import find as find_family
from dgmm.formula import Several
from dgmm.information import Information
from dgmm.latent import Latent, Structure, Warp
from dgmm.latent.several import Factors, Joined, Loaded
from dgmm.likelihood import MEMBERS, Integration, NodeRule, Within
from dgmm.model import Entry, Model
from dgmm.networks import Dense, FixedNetwork, Reference
from dgmm.numerics.splines import Spline
from dgmm.outcomes import Longitudinal, PartPredictor, Residual
from dgmm.panel import Crossing, Panel, Rows, Sums
from dgmm.parameters import Packing
from dgmm.plan import Call
from dgmm.record import Memory
from dgmm.runtime.absent import Absent
from dgmm.runtime.registry import members
from dgmm.runtime.tensor_file import Kind as FileKind
from dgmm.runtime.tensor_file import read_tensors, write_tensors
from dgmm.runtime.whole_file import path_of
from dgmm.variational.collapse import Activity
from dgmm.variational.teaching import Lesson
from dgmm.variational.training import Trace

__all__ = ["load", "save"]

FIT = FileKind("dgmm fit, format 3", "a file written by fit.save()", "Fit the model again")
OWN: tuple[type[Any], ...] = (
    *MEMBERS,
    Absent,
    Activity,
    Alias,
    Call,
    Chains,
    Column,
    Control,
    Course,
    Crossing,
    Dense,
    Departures,
    Entry,
    Estimate,
    Factors,
    FixedNetwork,
    FormChoice,
    HalfT,
    Head,
    HeldOut,
    InverseGamma,
    InverseWishart,
    Joined,
    Layout,
    Learnt,
    Loaded,
    Longitudinal,
    Information,
    Integration,
    LeftOut,
    Lesson,
    Member,
    Memory,
    Mixed,
    Model,
    NormalPrior,
    Packing,
    Panel,
    PartPredictor,
    Patterns,
    Potentials,
    Prior,
    Reference,
    Residual,
    Rows,
    Saem,
    Several,
    Spline,
    Stepwise,
    Sums,
    Trace,
    Warp,
    Variable,
    Within,
)


def known_classes() -> dict[str, type[Any]]:
    """Every class that a file may name."""
    known: dict[str, type[Any]] = {one.__name__: one for one in OWN}
    for package, base in (
        ("dgmm.latent", Latent),
        ("dgmm.latent.structures", Structure),
        ("dgmm.encoders", Encoder),
        ("dgmm.likelihood.rules", NodeRule),
    ):
        known |= {one.__name__: one for one in members(package, base).values()}
    return known


def save(fit: Any, path: str | Path) -> None:
    """Write the fit to one file (safetensors and JSON); ``dgmm.load`` reads it back.

    Raises:
        OSError: the file could not be written (no such folder, a full disk); a file that stood
            there is unchanged.
    """
    file, tensors = path_of(path, "save"), dict[str, Tensor]()
    content = _encode(fit, tensors)
    write_tensors(file, FIT, tensors, content)


def load(path: Path, *classes: type[Any]) -> Any:
    """Read a fit of one of the classes given.

    Raises:
        FileNotFoundError, ValueError: no such file; a damaged one, or another program's or
            version's.
    """
    tensors, content = read_tensors(path, FIT)
    decoder = _Decoder(tensors, known_classes() | {one.__name__: one for one in classes})
    try:
        fit = decoder.decode(content)
    except (AttributeError, LookupError, TypeError) as error:
        raise ValueError(
            f"{str(path)!r} holds a fit that this version cannot build ({error!r}). {FIT.remedy}, "
            "or read the file with the version that wrote it"
        ) from error
    if not isinstance(fit, classes):
        raise ValueError(f"{str(path)!r} does not hold a fit")
    return fit


# -- writing -------------------------------------------------------------------------------------


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, Tensor):
        return {"tensor": _keep(value, tensors)}
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "biuf":
            return {"array": _keep(torch.from_numpy(np.array(value, order="C")), tensors)}
        return {"labels": [_encode(entry, tensors) for entry in value.tolist()]}
    if isinstance(value, dict):
        return {"dict": [[key, _encode(entry, tensors)] for key, entry in value.items()]}
    if isinstance(value, Family):
        return {"family": value.name, "options": _encode(value.options(), tensors)}
    if isinstance(value, Specification):
        return {"specification": value.to_json()}
    if isinstance(value, Observations):
        return {"observations": [_encode(entry, tensors) for entry in value]}
    if isinstance(value, tuple | list):
        return {"tuple": [_encode(entry, tensors) for entry in value]}
    if is_dataclass(value):
        content = {
            f.name: _encode(getattr(value, f.name), tensors)
            for f in fields(value)
            if f.metadata.get("saved", True)
        }
        return {"class": type(value).__name__, "fields": content}
    return str(value)  # labels of other kinds, such as dates


def _keep(value: Tensor, tensors: dict[str, Tensor]) -> str:
    key = f"t{len(tensors)}"
    tensors[key] = value
    return key


# -- reading -------------------------------------------------------------------------------------


class _Decoder:
    def __init__(self, tensors: dict[str, Tensor], known: dict[str, type[Any]]) -> None:
        self.tensors, self.known = tensors, known

    def decode(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if "class" in value:
            return self._record(value["class"], value["fields"])
        (kind, content), *rest = value.items()
        if kind == "family":
            return find_family(content, **self.decode(dict(rest)["options"]))
        if kind == "specification":
            return Specification.from_json(content)
        readers: dict[str, Callable[[Any], Any]] = {
            "float": float,
            "tensor": self.tensors.__getitem__,
            "array": lambda key: self.tensors[key].numpy(),
            "labels": self._labels,
            "dict": lambda pairs: {key: self.decode(entry) for key, entry in pairs},
            "observations": lambda parts: Observations(*map(self.decode, parts)),
            "tuple": lambda parts: tuple(map(self.decode, parts)),
        }
        if kind not in readers:
            raise ValueError(f"the file has an unknown entry {kind!r}; it will not be read")
        return readers[kind](content)

    def _record(self, name: str, content: dict[str, Any]) -> Any:
        if name not in self.known:
            raise ValueError(f"the file names an unknown part {name!r}; it will not be built")
        one = self.known[name]
        wanted = {f.name for f in fields(one)}
        parts = {key: self.decode(entry) for key, entry in content.items() if key in wanted}
        try:
            return one(**parts)
        except TypeError as error:
            raise ValueError(f"the file was written by another version: {error}") from error

    def _labels(self, content: list[Any]) -> np.ndarray:
        out = np.empty(len(content), dtype=object)
        for place, entry in enumerate(content):  # entry by entry: a pair is one label
            out[place] = self.decode(entry)
        return out
