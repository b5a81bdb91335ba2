"""Files of tensors (safetensors) with JSON in their header; nothing in them is executed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

__all__ = ["read_tensors", "write_tensors"]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write a file in one go: at any moment there is the old file or the new one."""
    own = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    beside = path.with_name(path.name + ".part")
    save_file(own, beside, metadata={"dgmm": json.dumps(header)})
    os.replace(beside, path)  # noqa: PTH105


def read_tensors(path: Path, other: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header; ``other`` is the error about a file of another kind."""
    if not path.exists():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(other) from error
    return tensors, json.loads(metadata.get("dgmm", "{}"))
