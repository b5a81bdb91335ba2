"""R's elementary functions where numpy's differ: `I(x)`, `log(x, base)`."""

from __future__ import annotations

from typing import Any

import numpy as np


def identity(x: Any) -> Any:
    """`I(x ** 2)`: arithmetic inside I() is arithmetic, not formula algebra."""
    return x


def log(x: Any, base: float | None = None) -> Any:
    """Return the natural logarithm, or the one to a base."""
    return np.log(x) if base is None else np.log(x) / np.log(base)
