"""Is one mixed model nested in another, and what lies between them?

A random part is a set of independent blocks, each with a free covariance over the span of its
columns: (t | id) is one block of two columns, (t || id) two blocks of one. Blocks with the same
span are the same; what is left decides the null distribution.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from dgmm.estimate import Estimate, Request
from dgmm.inference.mixtures import Mixture

__all__ = ["Candidate", "check_same_data", "null_distribution"]

TOLERANCE = 1e-6
"""A column whose residual on others is below this share of its length lies in their span."""


@dataclass(frozen=True)
class Candidate:
    """A fitted model as a comparison sees it."""

    label: str  # formula
    estimate: Estimate
    request: Request
    rows: np.ndarray  # (N,) positions in the user's frame
    df: float
    nobs: int

    @property
    def order(self) -> np.ndarray:
        """Rows with an outcome, in the order of the user's frame."""
        seen = np.flatnonzero(self.estimate.panel.observed.numpy())
        return seen[np.argsort(self.rows[seen], kind="stable")]

    @property
    def X(self) -> np.ndarray:
        """Linear fixed columns, (N, p)."""
        return self.estimate.panel.rows.X.numpy()[self.order]

    def extra_columns(self) -> dict[str, np.ndarray]:
        """Per extra parameter of the family its columns, (N, c): one constant unless modelled."""
        model, rows = self.estimate.model, self.estimate.panel.rows
        constant = np.ones((len(self.order), 1))
        return {
            name: constant if Z is None else Z.numpy()[self.order]
            for name, Z in zip(model.family.extra, model.outcome.extra_designs(rows), strict=True)
        }

    def paths(self) -> Counter[tuple[str, tuple[str, ...]]]:
        """Word and time of its paths."""
        return Counter((one.name, one.names) for one in self.estimate.model.latents if one.serial)

    def blocks(self) -> list[RandomBlock]:
        """The independent random blocks."""
        panel, found = self.estimate.panel, []
        latents = self.estimate.model.latents
        level = {
            term: panel.rows.level[f] if panel.several else panel.subject
            for f, factor in enumerate(panel.factors(len(latents)))
            for term in factor.terms
        }
        for term, (latent, T) in enumerate(zip(latents, panel.rows.T, strict=True)):
            columns, group = T.numpy()[self.order], level[term].numpy()[self.order]
            found += [RandomBlock(columns[:, list(block)], group) for block in latent.blocks()]
        return found


@dataclass(frozen=True)
class RandomBlock:
    """Random effects with one free covariance matrix."""

    columns: np.ndarray  # (N, q)
    group: np.ndarray  # (N,) level of the grouping factor

    @property
    def parameters(self) -> int:
        """Variances and covariances."""
        q = self.columns.shape[1]
        return q * (q + 1) // 2

    def grouped_as(self, other: RandomBlock) -> bool:
        """Whether both divide the rows alike."""
        pairs = len(set(zip(self.group.tolist(), other.group.tolist(), strict=True)))
        return pairs == len(np.unique(self.group)) == len(np.unique(other.group))

    def within(self, other: RandomBlock) -> bool:
        """Whether its effects are among those of another block."""
        return self.grouped_as(other) and bool(inside(self.columns, other.columns).all())


def inside(columns: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which columns lie in the span of others, (c,) bool."""
    length = np.linalg.norm(columns, axis=0)
    scaled = columns / np.where(length > 0, length, 1.0)
    if not others.shape[1]:
        return length == 0
    size = np.linalg.norm(others, axis=0)
    basis = others / np.where(size > 0, size, 1.0)
    rest = scaled - basis @ np.linalg.lstsq(basis, scaled, rcond=None)[0]
    return np.linalg.norm(rest, axis=0) < TOLERANCE


# -- the data ------------------------------------------------------------------------------------


def check_same_data(one: Candidate, two: Candidate) -> None:
    """Raise ValueError naming what differs between the data of two fits."""
    a, b = one.estimate, two.estimate
    names = f"`{one.label}` and `{two.label}`"
    if one.nobs != two.nobs:
        raise ValueError(
            f"the fits use {one.nobs} and {two.nobs} observed outcomes ({names}): a likelihood "
            "ratio needs the same rows. Fit both to the rows that are complete in all variables."
        )
    first, second = one.order, two.order
    columns = (a.panel.rows.data, b.panel.rows.data)
    pairs = {
        "rows": (one.rows[first], two.rows[second]),
        "outcomes": (columns[0].y.numpy()[first], columns[1].y.numpy()[second]),
        "numbers of trials": (columns[0].trials.numpy()[first], columns[1].trials.numpy()[second]),
        "prior weights": (columns[0].weights.numpy()[first], columns[1].weights.numpy()[second]),
        "offsets": (a.panel.rows.offset.numpy()[first], b.panel.rows.offset.numpy()[second]),
    }
    for what, (left, right) in pairs.items():
        different = ~np.isclose(left, right, rtol=1e-12, atol=0.0)
        if different.any():
            raise ValueError(
                f"the {what} differ in {int(different.sum())} of {one.nobs} places ({names}): "
                "log-likelihoods of different data cannot be compared"
            )
    families = [
        f"{done.model.family.name} with {done.model.family.link.name} link" for done in (a, b)
    ]
    if families[0] != families[1]:
        raise ValueError(
            f"the families differ ({families[0]}; {families[1]}): neither model is nested in the "
            "other. Compare aic()."
        )


# -- the models ----------------------------------------------------------------------------------


def null_distribution(small: Candidate, big: Candidate) -> Mixture:
    """Distribution of 2 (l_big - l_small) when the small model holds.

    Raises:
        ValueError: when the small model is not nested in the big one, naming what it has that the
            other has not.
    """
    missing = ~inside(small.X, big.X)
    if missing.any():
        listed = ", ".join(
            f"`{name}`"
            for name, out in zip(small.estimate.model.names, missing, strict=True)
            if out
        )
        raise ValueError(
            f"`{small.label}` is not nested in `{big.label}`: the fixed part of the latter does "
            f"not contain {listed}. Compare aic(), or fit a model that contains both."
        )
    if small.paths() - big.paths():
        raise ValueError(
            f"the random part of `{small.label}` is not nested in that of `{big.label}`: a path of "
            "the former is absent from the latter. Compare aic()."
        )
    if big.paths() - small.paths():
        df = round(big.df - small.df)
        return Mixture(
            (df,),
            "without its variance a path has no correlation over time, so the likelihood ratio has "
            f"no known distribution and chi2({df}) is a rough guide; for a test give nsim= "
            "(parametric bootstrap)",
        )
    fixed = big.X.shape[1] - small.X.shape[1] + _more_in_parts(small, big)
    ours, theirs = _unmatched(small.blocks(), big.blocks())
    for block in ours:
        if not any(block.grouped_as(other) for other in big.blocks()):
            raise ValueError(
                f"the fits group the rows differently (`{small.label}` and `{big.label}`): a "
                f"grouping factor with {len(np.unique(block.group))} levels in the former is "
                "absent from the latter, and neither model is nested in the other. Compare aic()."
            )
        if not any(block.within(other) for other in theirs):
            raise ValueError(
                f"the random part of `{small.label}` is not nested in that of `{big.label}`: an "
                "effect, or a correlation, of the former is absent from the latter. Compare aic()."
            )
    extra = sum(t.parameters for t in theirs) - sum(t.parameters for t in ours)
    if not theirs:
        return Mixture((fixed,))
    if len(theirs) == 1:
        q, more = sum(block.columns.shape[1] for block in ours), theirs[0].columns.shape[1]
        if more == q:  # covariances between effects that both models have: no boundary
            return Mixture((fixed + extra,))
        if more == q + 1 and len(ours) <= 1:
            return Mixture((fixed + q, fixed + q + 1))
    return Mixture(
        (fixed + extra,),
        "several variances are tested at once: their null distribution is no simple mixture. "
        f"chi2({fixed + extra}) is conservative (p too large); for an exact test give nsim= "
        "(parametric bootstrap)",
    )


def _more_in_parts(small: Candidate, big: Candidate) -> int:
    """Coefficients that dispersion= and zi= of the big model have beyond those of the small one."""
    more, theirs = 0, big.extra_columns()
    for name, ours in small.extra_columns().items():
        if not inside(ours, theirs[name]).all():
            raise ValueError(
                f"`{small.label}` is not nested in `{big.label}`: the formula for {name} of the "
                "latter does not contain that of the former. Compare aic()."
            )
        more += theirs[name].shape[1] - ours.shape[1]
    return more


def _unmatched(
    ours: list[RandomBlock], theirs: list[RandomBlock]
) -> tuple[list[RandomBlock], list[RandomBlock]]:
    """Blocks of either model without a block of the same span in the other."""
    rest, open_ = [], list(theirs)
    for block in ours:
        for j, other in enumerate(open_):
            if block.columns.shape[1] == other.columns.shape[1] and block.within(other):
                del open_[j]
                break
        else:
            rest.append(block)
    return rest, open_
