"""The data sets in `data/`: read with their factors as R had them, listed and described."""

import difflib
import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import pandas as pd

__all__ = ["available", "describe", "load"]

# R's level order where it is neither numeric nor alphabetical; the first level is the reference.
LEVELS: dict[str, dict[str, list[str]]] = {
    "btheb_wide": {"treatment": ["TAU", "BtheB"]},
    "math_ach_school": {"Sector": ["Public", "Catholic"]},
    "math_achieve": {"Sex": ["Male", "Female"]},
    "orthodont": {"Sex": ["Male", "Female"]},
    "pbc": {"sex": ["m", "f"]},
    "pbcseq": {"sex": ["m", "f"]},
    "psid7682": {
        "occupation": ["white", "blue"],
        "gender": ["male", "female"],
        "ethnicity": ["other", "afam"],
    },
    "toenail": {"outcome": ["none or mild", "moderate or severe"]},
}
ORDERED = {("wine", "rating")}

FIELD = re.compile(r'(?:^|,)("(?:[^"]|"")*"|[^,"]*)')


def load(name: str) -> pd.DataFrame:
    """Return the data set `name` as a data frame, one row per measurement.

    Columns quoted in the file were factors or strings in R and come back as categoricals, subject
    numbers such as "308" included. Levels run in numeric order if all are numbers, otherwise
    alphabetically, unless R's own order is another one (`sex` in pbcseq: m, then f). Missing
    values are NaN. An unknown name raises a `ValueError` that lists the names.

    >>> load("sleepstudy").dtypes["Subject"].name
    'category'
    """
    text = _file(name).read_text(encoding="utf-8")
    quoted = _quoted_columns(text)
    with _file(name).open("r", encoding="utf-8") as source:
        frame = pd.read_csv(
            source, dtype=dict.fromkeys(quoted, str), keep_default_na=False, na_values=[""]
        )
    for column in quoted:
        levels = LEVELS.get(name, {}).get(column) or _natural_order(frame[column])
        ordered = (name, column) in ORDERED
        frame[column] = pd.Categorical(frame[column], categories=levels, ordered=ordered)
    return frame


def available() -> list[str]:
    """Return the names that `load` knows, in alphabetical order.

    >>> "sleepstudy" in available()
    True
    """
    files = (entry.name for entry in _folder().iterdir())
    return sorted(file.removesuffix(".csv") for file in files if file.endswith(".csv"))


def describe(name: str) -> str:
    """Return one paragraph on the data set `name`: content, origin, citation, licence, columns.

    >>> "Belenky" in describe("sleepstudy")
    True
    """
    _file(name)
    pages = (_folder() / "README.md").read_text(encoding="utf-8").split("\n## ")
    section = next(page for page in pages if page.partition("\n")[0].strip() == name)
    plain = re.sub(r"^- |[*`]", "", section.partition("\n")[2], flags=re.MULTILINE)
    return f"{name}: " + " ".join(plain.split())


def _folder() -> Traversable:
    """Return the folder of the data: inside an installed wheel, else beside the checkout."""
    installed = resources.files("dgmm") / "_data"
    if installed.is_dir():
        return installed
    checkout = Path(__file__).resolve().parent.parent / "data"
    if checkout.is_dir():
        return checkout
    raise FileNotFoundError(
        "The data sets of dgmm are missing: neither dgmm/_data nor data/ exists. "
        "Install dgmm from a wheel or work from a complete checkout."
    )


def _file(name: str) -> Traversable:
    names = available()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"There is no data set {name!r}.{hint} Available: {', '.join(names)}.")
    return _folder() / f"{name}.csv"


def _quoted_columns(text: str) -> list[str]:
    """Return the columns whose values the file quotes; pandas forgets the quotes on reading.

    A column is decided by its first value that is not missing, since R quotes all or none.
    """
    header, *lines = text.splitlines()
    names = [field.strip('"') for field in FIELD.findall(header)]
    quoted: dict[int, bool] = {}
    for line in lines:
        for position, field in enumerate(FIELD.findall(line)):
            if field:
                quoted.setdefault(position, field.startswith('"'))
        if len(quoted) == len(names):
            break
    return [name for position, name in enumerate(names) if quoted.get(position, False)]


def _natural_order(values: pd.Series) -> list[str]:
    """Return the distinct values, numerically if all of them are numbers, else alphabetically."""
    levels = [str(value) for value in values.dropna().unique()]
    try:
        return sorted(levels, key=float)
    except ValueError:
        return sorted(levels)
