"""Labels of subjects and categories: one exact, plain form of each, whatever type it came in.

    label                                        plain form          key
    3, 3.0, float32(3), Decimal("3.00")          3                   "3"
    0.1, float32(0.1), Decimal("0.10")           0.1                 "0.1"
    "3", "a", True                               as it is            "3", "a", "True"
    date, datetime64, Timestamp at midnight      "2020-01-31"        itself
    Timestamp with a time, in UTC with a zone    "2020-01-31 12:30:00"
    Period, Timedelta, Interval, tuple           their text, made of such labels

Labels are the same where their keys are. The plain form survives a file, and nothing passes through
a float that was not one: numbers of 64 bits and decimals keep every digit.
"""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pandas as pd

__all__ = [
    "factorize",
    "joined_label",
    "label_array",
    "label_key",
    "natural_order",
    "places_among",
    "plain_label",
    "plain_labels",
    "written_twice",
]

Plain = str | bool | int | float

_ALIKE = ("string", "integer", "floating", "mixed-integer-float", "decimal", "date", "datetime")
"""Kinds of object columns in which labels that compare equal have the same key."""


def plain_label(label: Any) -> Plain:
    """Return the plain form of a label: text, boolean, whole number or float."""
    if isinstance(label, str):
        return str.__str__(label)
    if isinstance(label, bool | np.bool_):
        return bool(label)
    if isinstance(label, numbers.Real) and not isinstance(label, np.timedelta64):
        return _number(label)
    if isinstance(label, Decimal):
        whole = label.is_finite() and label == label.to_integral_value()
        return int(label) if whole else _digits(label)
    return _text(label)


def plain_labels(labels: Iterable[Any]) -> tuple[Plain, ...]:
    """Return the plain forms of all labels; an array of whole numbers at once."""
    values = np.asarray(labels) if _is_array(labels) else labels
    if isinstance(values, np.ndarray) and values.dtype.kind in "iub":
        return tuple(values.tolist())
    return tuple(plain_label(label) for label in values)


def label_key(label: Any) -> str:
    """Return the text by which labels are matched: 1, 1.0 and "1" are the same subject."""
    plain = plain_label(label)
    return _digits(Decimal(repr(plain))) if isinstance(plain, float) else str(plain)


def label_array(labels: Sequence[Plain]) -> np.ndarray:
    """Return plain labels as an array: whole numbers as int64, all others as the objects they are.

    Numbers that int64 does not hold stay whole numbers of Python.
    """
    if set(map(type, labels)) <= {int}:
        try:
            return np.array(labels, dtype=np.int64)
        except OverflowError:
            pass
    out = np.empty(len(labels), dtype=object)
    out[:] = labels
    return out


def joined_label(parts: Iterable[Any]) -> str:
    """Return the label `a:b` of a level of several columns; a part with a colon is quoted.

    Different parts have different labels: `a:b` and `c` give `"a:b":c`, `a` and `b:c` `a:"b:c"`.
    """
    return _joined(parts, ":")


def factorize(series: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the code of every row, -1 where it has no label, and the labels in natural order.

    Args:
        series: (N,) a column of any type.

    Returns:
        codes (N,) int64 and plain labels (n,), whole numbers as int64.
    """
    if series.dtype == object and pd.api.types.infer_dtype(series) not in _ALIKE:
        known = series.notna().to_numpy()
        keys = np.full(len(series), None, dtype=object)
        keys[known] = [label_key(label) for label in series[known]]
        codes, _ = pd.factorize(keys, sort=False)
        _, first = np.unique(codes[codes >= 0], return_index=True)
        uniques: Any = series[known].iloc[first].tolist()
    else:
        codes, uniques = pd.factorize(series, sort=False)
    plain = plain_labels(uniques)
    if not set(map(type, plain)) <= {int}:  # labels that differ, keys that do not
        same, _ = pd.factorize(np.array([label_key(one) for one in plain], dtype=object))
        _, first = np.unique(same, return_index=True)
        codes = np.append(same, -1)[codes]
        plain = tuple(plain[k] for k in first)
    labels = label_array(plain)
    order = natural_order(labels)
    rank = np.empty(len(order) + 1, dtype=np.int64)
    rank[order], rank[-1] = np.arange(len(order)), -1
    return rank[codes], labels[order]


def written_twice(series: pd.Series) -> list[str]:
    """Return the labels that a column holds as text and as something else, 1 beside "1"."""
    if series.dtype != object or pd.api.types.infer_dtype(series) in _ALIKE:
        return []
    plain = [plain_label(label) for label in series[series.notna()]]
    texts = {label for label in plain if isinstance(label, str)}
    others = {label_key(label) for label in plain if not isinstance(label, str)}
    return sorted(texts & others)


def places_among(labels: Sequence[Any], known: np.ndarray) -> np.ndarray:
    """Return the place of every label among known ones (n,), -1 where it is none of them.

    A label that is None is like no other. Whole numbers in order are searched, others hashed.
    """
    keys = [None if one is None else label_key(one) for one in labels]
    if known.dtype == np.int64 and bool((known[1:] > known[:-1]).all()):
        whole = {key: int(key) for key in keys if key is not None and _is_whole(key)}
        numbers = np.array(list(whole.values()), dtype=known.dtype)
        at = np.searchsorted(known, numbers)
        there = at < len(known)
        there[there] = known[at[there]] == numbers[there]
        place = dict(zip(whole, np.where(there, at, -1).tolist(), strict=True))
    else:
        place = {label_key(label): j for j, label in enumerate(known.tolist())}
    found = (-1 if key is None else place.get(key, -1) for key in keys)
    return np.fromiter(found, dtype=np.int64, count=len(keys))


def _is_whole(key: str) -> bool:
    """Whether a key is that of a whole number that int64 holds."""
    digits = key.removeprefix("-")
    if not digits.isdecimal() or len(digits) > 19:
        return False
    return -(2**63) <= int(key) < 2**63 and str(int(key)) == key


def natural_order(labels: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return the order of labels: by value when all read as numbers, else as text."""
    array = np.asarray(labels)
    if array.dtype.kind in "iu":
        return np.argsort(array, kind="stable")
    text = [label_key(label) for label in labels]
    try:
        values = [Decimal(one) for one in text]
    except InvalidOperation:
        values = []
    if not values or not all(value.is_finite() for value in values):
        values = [Decimal(0)] * len(text)
    return np.array(sorted(range(len(text)), key=lambda k: (values[k], text[k])), dtype=np.int64)


def _is_array(labels: Any) -> bool:
    """Whether labels stand in an array or index; iterating over one would widen small floats."""
    return hasattr(labels, "dtype") and hasattr(labels, "__array__")


def _number(label: Any) -> Plain:
    if isinstance(label, numbers.Rational):
        return int(str(label)) if label.denominator == 1 else str(label)
    if not np.isfinite(label):
        return str(float(label))
    # the shortest text of a float32 is what was meant, its value as a double is not
    return int(label) if label == np.floor(label) else float(str(label))


def _digits(value: Decimal) -> str:
    """The digits of a number, without an exponent or trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _text(label: Any) -> str:
    if isinstance(label, np.datetime64 | datetime.datetime):
        moment = pd.Timestamp(label)
        moment = moment if moment.tz is None else moment.tz_convert("UTC")
        return str(moment).removesuffix(" 00:00:00")
    if isinstance(label, np.timedelta64 | datetime.timedelta):
        return str(pd.Timedelta(label))
    if isinstance(label, pd.Interval):
        left, right = "[" if label.closed_left else "(", "]" if label.closed_right else ")"
        return f"{left}{label_key(label.left)}, {label_key(label.right)}{right}"
    if isinstance(label, tuple):
        return f"({_joined(label, ', ')})"
    return str(label)


def _joined(parts: Iterable[Any], separator: str) -> str:
    texts = (label_key(part) for part in parts)
    return separator.join(
        '"' + text.replace('"', '""') + '"' if separator in text or text[:1] == '"' else text
        for text in texts
    )
