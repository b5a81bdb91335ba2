"""Means with their covariance, and comparisons among them.

    C m,   var(C m) = C V C',   t_j = (C m)_j / se_j

within each group of ``by``; p values and intervals of one group are adjusted together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from dgmm.families.links import LINKS, Link
from dgmm.inference.average_slopes import COMPARE, needs_link
from dgmm.inference.letters import compact_letters
from dgmm.inference.mean_part import MeanFunction, MeanPart
from dgmm.inference.multiplicity import ADJUSTMENTS, Family, adjusted, critical
from dgmm.inference.small_samples import SmallSamples
from dgmm.inference.wald import as_ratios, spread_table
from dgmm.information import Spread
from dgmm.runtime.probability import check_level
from dgmm.runtime.result_table import ResultTable

__all__ = ["Means"]

USUAL = {"pairwise": "tukey", "reference": "dunnett", "consecutive": "mvt", "average": "mvt"}
"""The contrasts that have a name, and how their p values are adjusted."""


@dataclass(frozen=True, eq=False)
class Means:
    """Estimated means: ``str`` prints them, ``table`` is a frame, ``pairs()`` compares them."""

    title: str
    cells: pd.DataFrame  # (K, .) the covariates of every mean
    by: tuple[str, ...]
    spread: Spread  # (K,)
    df_rows: np.ndarray | None  # (K, p) the means as L beta, where they are linear
    moments: SmallSamples | None
    df: float
    link: Link  # on whose scale intervals of the means are symmetric
    predictor: str | None  # the link of the family, where the means are linear predictors
    level: float
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        mean: MeanPart,
        function: MeanFunction,
        cells: pd.DataFrame,
        *,
        by: tuple[str, ...],
        title: str,
        notes: tuple[str, ...],
        moments: SmallSamples | None,
        df: float,
        level: float,
    ) -> Means:
        """The means of a function of the parameters."""
        model, spread, L = mean.done.model, mean.spread(function), None
        if moments is not None:
            L = (function.slope() @ torch.linalg.inv(model.basis)).numpy()
            covariance = torch.from_numpy(L @ moments.covariance @ L.T)
            lost = spread.value.isnan()
            covariance[lost] = torch.nan
            spread = Spread.normal(spread.value, covariance)
            notes = (*notes, f"degrees of freedom: {moments.words}")
        predictor = None if mean.quantity.whole else model.family.link.name
        return cls(
            title, cells, by, spread, L, moments, df, mean.quantity.link, predictor, level, notes
        )

    @property
    def table(self) -> ResultTable:
        """The covariates, then mean, se, df (where tests are t tests), lower, upper."""
        df, value, se = self._degrees(np.eye(len(self.cells))), self.spread.value, self.spread.se
        if self.spread.posterior:
            ends = self.spread.interval(self.level)
        else:
            half = critical(self._family(np.eye(len(self.cells))), "none", self.level)
            middle = self.link.forward(value)
            width = torch.from_numpy(half) * se / self.link.derivative(middle).abs()
            ends = torch.stack([middle - width, middle + width], 1)
            ends = self.link.inverse(ends).sort(1).values
        columns = {"mean": value.numpy(), "se": se.numpy()}
        if np.isfinite(df).any():
            columns["df"] = df
        columns |= {"lower": ends[:, 0].numpy(), "upper": ends[:, 1].numpy()}
        return ResultTable(
            pd.concat([self.cells, pd.DataFrame(columns)], axis=1),
            title=self.title,
            notes=self.notes,
        )

    def __str__(self) -> str:
        return str(self.table)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table._repr_html_()

    # -- comparisons -----------------------------------------------------------------------------

    def pairs(
        self,
        adjust: str = "tukey",
        *,
        compare: str = "difference",
        level: float | None = None,
    ) -> ResultTable:
        """All differences within the groups of ``by``, earlier less later: :meth:`contrast`."""
        return self.contrast("pairwise", adjust, compare=compare, level=level)

    def contrast(
        self,
        method: str | Mapping[str, Sequence[float]] = "pairwise",
        adjust: str | None = None,
        *,
        compare: str = "difference",
        reference: int = 0,
        level: float | None = None,
    ) -> ResultTable:
        """Linear combinations of the means, within the groups of ``by``.

        Args:
            method: "pairwise"; "reference", every mean against one; "consecutive", every mean
                against the one before it; "average", every mean against the average of all; or a
                dict {label: factors of the means of one group}.
            adjust: "tukey" (pairs), "dunnett" or "mvt" (multivariate t), "holm", "bonferroni" or
                "none"; by default tukey, dunnett and mvt for the methods above, none for a dict.
            compare: "difference", "ratio" or "odds_ratio": of linear predictors under a log or
                logit link, or of means.
            reference: the position of the mean that others are held against.
            level: probability that all intervals of a group cover; by default that of the means.

        Returns:
            A table with Estimate, Std. Error, t (or z), p, lower and upper for every contrast; of
            draws from a posterior Mean, SD and quantiles, without tests.

        Raises:
            ValueError: an unknown word, factors of a wrong number, tukey for other contrasts.

        References:
            :mod:`dgmm.inference.multiplicity`.
        """
        named = isinstance(method, str)
        if named and method not in USUAL:
            raise ValueError(f"method is {', '.join(map(repr, USUAL))} or a dict, not {method!r}")
        how = adjust or (USUAL[method] if isinstance(method, str) else "none")
        if how not in ADJUSTMENTS:
            raise ValueError(f"adjust is {', '.join(map(repr, ADJUSTMENTS))}, not {how!r}")
        if how == "tukey" and method != "pairwise":
            raise ValueError("adjust='tukey' is for pairs; other contrasts have adjust='mvt'")
        level = self.level if level is None else level
        check_level(level)
        scale, ratios = self._compared(compare), compare != "difference"
        found, sign = [], "/" if ratios else "-"
        for at, labels in self._groups():
            factors = _factors(method, labels, reference, sign)
            part = scale._in_group(at, factors, how, level, ratios=ratios)
            found.append(self._labelled(part, at))
        what = f"{compare.replace('_', ' ')}s".capitalize() if ratios else "Contrasts"
        sets = f" within {', '.join(self.by)}" if self.by and how != "none" else ""
        said = f"p values adjusted by {how}{sets}"
        if self.spread.posterior:
            said = "intervals are quantiles of the draws, of each by itself"
        elif how == "none":
            said = "p values not adjusted"
        return ResultTable(
            pd.concat(found),
            title=self.title.replace("Marginal means", what),
            notes=(*self.notes, said),
        )

    def letters(self, adjust: str = "tukey", *, level: float | None = None) -> ResultTable:
        """The means with compact letters: those that share one are not told apart by their pairs.

        adjust: of the pairs within the groups of ``by``, see :meth:`contrast`.
        level: one less the probability of telling apart means that are alike.

        Raises:
            ValueError: draws from a posterior, which have no tests.
        """
        if self.spread.posterior:
            raise ValueError(
                "letters() show which tests of pairs reject, and draws from a posterior "
                "(method='gibbs') have none: read the intervals of pairs()"
            )
        level = self.level if level is None else level
        pairs, found = self.pairs(adjust, level=level), [""] * len(self.cells)
        p_values = pairs.filter(like="Pr(").iloc[:, 0].to_numpy()
        used = 0
        for at, labels in self._groups():
            known = [j for j, place in enumerate(at) if self.spread.value[place].isfinite()]
            both = [(i, j) for i in range(len(labels)) for j in range(i + 1, len(labels))]
            own = p_values[used : used + len(both)]
            used += len(both)
            apart = [
                (known.index(i), known.index(j))
                for (i, j), p in zip(both, own, strict=True)
                if p < 1 - level
            ]
            for j, letters in zip(known, compact_letters(len(known), apart), strict=True):
                found[at[j]] = letters
        note = f"means that share a letter are not told apart ({adjust}, level {level:g})"
        table = self.table.assign(letters=found)
        return ResultTable(table, title=self.title, notes=(*self.notes, note))

    def _compared(self, compare: str) -> Means:
        """The means on the scale on which they are subtracted."""
        if compare not in COMPARE:
            raise ValueError(f"compare is {', '.join(map(repr, COMPARE))}, not {compare!r}")
        wanted = COMPARE[compare]
        if compare == "difference" or self.predictor == wanted:
            return self
        if self.predictor is not None:
            raise ValueError(f"{needs_link(compare, self.predictor)}take means on scale='response'")
        link = LINKS[wanted]
        slope = 1 / link.derivative(link.forward(self.spread.value))
        return replace(self, spread=self.spread.mapped(link.forward, slope))

    def _groups(self) -> list[tuple[np.ndarray, list[str]]]:
        """Positions of the means of every group, and their labels."""
        own = [name for name in self.cells.columns if name not in self.by]
        labels = self.cells[own].astype(str).agg(" ".join, axis=1)
        if not self.by:
            return [(np.arange(len(self.cells)), labels.to_list())]
        keys = self.cells[list(self.by)].astype(str).agg(" ".join, axis=1)
        places = [np.flatnonzero(keys == key) for key in dict.fromkeys(keys)]
        return [(at, labels.iloc[at].to_list()) for at in places]

    def _in_group(
        self,
        at: np.ndarray,
        factors: dict[str, np.ndarray],
        how: str,
        level: float,
        *,
        ratios: bool,
    ) -> pd.DataFrame:
        C = np.zeros((len(factors), len(self.cells)))
        for j, row in enumerate(factors.values()):
            C[j, at] = row
        found = self.spread.combined(torch.from_numpy(C))
        if found.posterior:
            return spread_table(found, list(factors), level, ratios=ratios)
        value, se = found.value.numpy(), found.se.numpy()
        df, known = self._degrees(C), np.isfinite(value) & (se > 0)
        p, half = np.full(len(C), np.nan), np.full(len(C), np.nan)
        if known.any():
            family = self._family(C[known], means=len(at))
            p[known] = adjusted(family, how)
            half[known] = critical(family, how, level) * se[known]
        ratio = np.divide(value, se, out=np.full(len(C), np.nan), where=known)
        table = pd.DataFrame({"Estimate": value, "Std. Error": se}, index=list(factors))
        t = np.isfinite(df).any()
        if t:
            table["df"] = df
        table["t value" if t else "z value"] = ratio
        table["Pr(>|t|)" if t else "Pr(>|z|)"] = p
        table["lower"], table["upper"] = value - half, value + half
        return as_ratios(table) if ratios else table

    def _labelled(self, part: pd.DataFrame, at: np.ndarray) -> pd.DataFrame:
        for place, name in enumerate(self.by):
            part.insert(place, name, self.cells[name].iloc[at[0]])
        return part

    def _degrees(self, C: np.ndarray) -> np.ndarray:
        """Degrees of freedom of combinations C (H, K) of the means."""
        if self.moments is None or self.df_rows is None:
            return np.full(len(C), self.df)
        return np.array([self.moments.df(row) for row in C @ self.df_rows])

    def _family(self, C: np.ndarray, means: int = 2) -> Family:
        found = self.spread.combined(torch.from_numpy(C))
        V, se = found.covariance.numpy(), found.se.numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio, R = found.value.numpy() / se, V / np.outer(se, se)
        return Family(ratio, self._degrees(C), R, means)


def _factors(
    method: str | Mapping[str, Sequence[float]], labels: list[str], reference: int, sign: str
) -> dict[str, np.ndarray]:
    """The rows of C for the means of one group, by their labels."""
    K, eye = len(labels), np.eye(len(labels))
    if not isinstance(method, str):
        return {str(label): _row(label, row, K) for label, row in method.items()}
    if method == "average":
        return {f"{label} {sign} average": eye[j] - 1 / K for j, label in enumerate(labels)}
    if method == "pairwise":
        chosen = [(i, j) for i in range(K) for j in range(i + 1, K)]
    elif method == "consecutive":
        chosen = [(j, j - 1) for j in range(1, K)]
    else:
        if not -K <= reference < K:
            raise ValueError(f"reference is the position of one of {K} means, not {reference!r}")
        chosen = [(j, reference % K) for j in range(K) if j != reference % K]
    return {f"{labels[i]} {sign} {labels[j]}": eye[i] - eye[j] for i, j in chosen}


def _row(label: Any, given: Sequence[float], K: int) -> np.ndarray:
    row = np.asarray(given, dtype=float)
    if row.shape != (K,) or not np.isfinite(row).all() or not row.any():
        raise ValueError(f"contrast {label!r} needs {K} finite factors, not all zero: {given!r}")
    return row
