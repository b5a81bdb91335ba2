"""Files of tensors (safetensors) with JSON and a checksum among them; nothing in them is executed.

    sha256 = SHA-256(head, names, types, shapes and bytes of all tensors, in the order of names)

The head names the format and the version that wrote the file, so that files of other versions can
be named. The JSON text is a tensor of bytes: a safetensors header ends at 100 MB, labels need not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dgmm.runtime.versions import versions
from dgmm.runtime.whole_file import write_whole

__all__ = ["Kind", "read_tensors", "write_tensors"]

KEY, JSON, SUM = "dgmm", "json", "sha256"

OTHERS = {
    b"PK\x03\x04": "a zip archive (.npz, .pt and .xlsx are such)",
    b"\x1f\x8b": "a gzip archive (.rds and .RData of R are such)",
    b"\x89HDF": "an HDF5 file",
    b"PAR1": "a parquet file",
    b"ARROW1": "an Arrow file",
    b"\x80": "a Python pickle",
}
"""First bytes of files of other programs."""


@dataclass(frozen=True)
class Kind:
    """One kind of file."""

    form: str  # in the head: "dgmm fit, format 3"
    what: str  # in errors: "a file written by fit.save()"
    remedy: str  # when it cannot be read: "Fit the model again"


# -- writing -------------------------------------------------------------------------------------


def write_tensors(path: Path, kind: Kind, tensors: Mapping[str, Tensor], content: Any) -> None:
    """Write a file in one go: at any moment, and after any failure, there is the old or the new.

    content: what JSON can hold.

    Raises:
        OSError: the file could not be written; the message names it and says why.
    """
    head = json.dumps({"format": kind.form, "version": versions()["dgmm"]})
    own = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    own[JSON] = _bytes(json.dumps(content).encode())
    own[SUM] = _checksum(head, own)
    write_whole(path, save(own, metadata={KEY: head}))


# -- reading -------------------------------------------------------------------------------------


def read_tensors(path: Path, kind: Kind) -> tuple[dict[str, Tensor], Any]:
    """Tensors and content of a file of one kind, as they were written.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, a file of another kind, program or version, or a damaged one.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    other = f"{str(path)!r} is not {kind.what}"
    if not path.is_file():
        raise ValueError(f"{other}: it is a {'folder' if path.is_dir() else 'device'}")
    try:
        with safe_open(path, framework="pt") as file:
            head = (file.metadata() or {}).get(KEY, "")
            _check_head(head, kind, other)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        begin = _first_bytes(path)
        if KEY.encode() not in begin:
            raise ValueError(f"{other}: {_resembles(begin)}") from error
        raise ValueError(_damaged(path, kind)) from error
    known = tensors.pop(SUM, None)
    if known is None or not torch.equal(known, _checksum(head, tensors)):
        raise ValueError(_damaged(path, kind))
    return tensors, json.loads(tensors.pop(JSON).numpy().tobytes())


def _check_head(head: str, kind: Kind, other: str) -> None:
    """Raise ValueError about a file of another kind, which has another format in its head."""
    found = re.search(r'"format": "(.*?)"', head)
    if found is None:
        raise ValueError(f"{other}: it is a safetensors file of another program")
    if found[1] != kind.form:
        # formats 1 and 2 have the version deeper within
        version = re.search(r'"(?:version|dgmm|version of dgmm)"[:,] "(\d[^"]*)"', head)
        by = f", written by dgmm {version[1]}" if version else ""
        raise ValueError(
            f"{other} of this version: it has {found[1]!r}{by}, and this version reads "
            f"{kind.form!r}. {kind.remedy}, or read the file with the version that wrote it"
        )


def _damaged(path: Path, kind: Kind) -> str:
    return (
        f"{str(path)!r} is damaged: some of its bytes have changed or are missing, and its numbers "
        f"cannot be trusted. {kind.remedy}, or use another copy"
    )


def _resembles(begin: bytes) -> str:
    if not begin:
        return "it is empty"
    for magic, name in OTHERS.items():
        if begin.startswith(magic):
            return f"it looks like {name}"
    return "it was written by another program"


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(512)


# -- checksum ------------------------------------------------------------------------------------


def _checksum(head: str, tensors: Mapping[str, Tensor]) -> Tensor:
    """SHA-256 of the head and all tensors, as 32 bytes."""
    digest = hashlib.sha256(head.encode())
    for name in sorted(tensors):
        array = tensors[name].numpy()
        digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return _bytes(digest.digest())


def _bytes(text: bytes) -> Tensor:
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)
