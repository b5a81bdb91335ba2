"""Is one mixed model nested in another, and what lies between them?

A random part is a set of independent blocks, each with a free covariance over the span of its
columns: (t | id) is one block of two columns, (t || id) two blocks of one. Blocks with the same
span are the same; what is left decides the null distribution. A restricted covariance, cs(t | id),
is about its columns as they are: one block, within a free one and within those that hold it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from dgmm.design import Column, LeftOut
from dgmm.estimate import Estimate, Request
from dgmm.families import Family
from dgmm.inference.mixtures import Mixture
from dgmm.inference.stand_in import named_columns, named_groups
from dgmm.latent import Latent

__all__ = ["Candidate", "inside", "null_distribution"]

TOLERANCE = 1e-6
"""A column whose residual on others is below this share of its length lies in their span."""


PathKey = tuple[str, tuple[str, ...], int, bool, bool]


def _key(path: Latent) -> PathKey:
    return path.name, path.names, path.states, path.flat > 0, path.lone_variance


@dataclass(frozen=True)
class Candidate:
    """A fitted model as a comparison sees it."""

    label: str  # formula
    estimate: Estimate
    request: Request
    rows: np.ndarray  # (N,) positions in the user's frame
    left_out: LeftOut
    covariates: Mapping[str, Column]
    groups: tuple[str, ...]  # grouping factors
    df: float
    nobs: int
    order: np.ndarray  # (n,) the rows with an outcome, in an order that two candidates share

    @property
    def X(self) -> np.ndarray:
        """Linear fixed columns, (N, p); of rows that are not in memory those of their names."""
        if self.summed:
            return named_columns(self.estimate.model.names)
        return self.estimate.panel.rows.X.numpy()[self.order]

    @property
    def summed(self) -> bool:
        """Whether its rows are not in memory."""
        return self.estimate.panel.sums is not None

    def extra_columns(self) -> dict[str, np.ndarray]:
        """Per extra parameter of the family its columns, (N, c): one constant unless modelled."""
        model, rows = self.estimate.model, self.estimate.panel.rows
        constant = np.ones((len(self.order), 1))
        return {
            name: constant if Z is None else Z.numpy()[self.order]
            for name, Z in zip(model.family.extra, model.outcome.extra_designs(rows), strict=True)
        }

    def paths(self) -> Counter[PathKey]:
        """Word, time and states of its paths, whether one begins anywhere, and is one variance."""
        return Counter(_key(one) for one in self.estimate.model.latents if one.serial)

    def inputs(self) -> list[tuple[PathKey, np.ndarray]]:
        """Its paths by word and time, with the columns (N, r) of their inputs."""
        if self.summed:
            return []
        pairs = zip(self.estimate.model.latents, self.estimate.panel.rows.basis, strict=True)
        none = np.zeros((len(self.order), 0))
        found = [
            (_key(one), basis.numpy()[self.order] if one.inputs else none)
            for one, basis in pairs
            if one.serial
        ]
        return sorted(found, key=lambda pair: pair[0])

    def blocks(self) -> list[RandomBlock]:
        """The independent random blocks."""
        panel, found = self.estimate.panel, []
        latents = self.estimate.model.latents
        level = (
            {}
            if self.summed
            else {
                term: panel.rows.level[f] if panel.several else panel.subject
                for f, factor in enumerate(panel.factors(len(latents)))
                for term in factor.terms
            }
        )
        names = (None, *self.estimate.model.family.extra)
        for term, latent in enumerate(latents):
            if latent.serial:
                continue
            target = names[self.estimate.model.entries[term][0].predictor]
            if self.summed:
                columns, group = named_columns(latent.names), named_groups(self.groups[0])
            else:
                columns = panel.rows.T[term].numpy()[self.order]
                group = level[term].numpy()[self.order]
            whole = (tuple(range(len(latent.names))),)
            for block in whole if latent.by_reported else latent.blocks():
                found.append(RandomBlock(columns[:, list(block)], group, latent, target))
        return found


@dataclass(frozen=True)
class RandomBlock:
    """Random effects with one covariance matrix, free or restricted."""

    columns: np.ndarray  # (N, q)
    group: np.ndarray  # (N,) level of the grouping factor
    latent: Latent  # the random part that they are from
    target: str | None = None  # the extra parameter of the family that they enter; None: eta

    @property
    def parameters(self) -> int:
        """Variances and covariances."""
        if self.latent.by_reported:
            return len(self.latent.components())
        q = self.columns.shape[1]
        return q * (q + 1) // 2

    def grouped_as(self, other: RandomBlock) -> bool:
        """Whether both divide the rows alike."""
        pairs = len(set(zip(self.group.tolist(), other.group.tolist(), strict=True)))
        return pairs == len(np.unique(self.group)) == len(np.unique(other.group))

    def within(self, other: RandomBlock) -> bool:
        """Whether its effects are among those of another block."""
        alike = self.target == other.target and self.grouped_as(other)
        if not alike or not bool(inside(self.columns, other.columns).all()):
            return False
        if not other.latent.by_reported:
            return self.latent.wider().by_columns
        ours, theirs = self.columns.T, other.columns.T
        if self.latent.by_reported and not np.array_equal(ours, theirs):
            return False
        there = all(any(np.array_equal(one, two) for two in theirs) for one in ours)
        return there and other.latent.holds(self.latent)

    def apart(self, others: list[RandomBlock]) -> list[RandomBlock]:
        """Its independent effects where it is within none of the others as a whole."""
        parts = self.latent.blocks()
        if len(parts) < 2 or any(self.within(other) for other in others):
            return [self]
        free = self.latent.wider()
        return [replace(self, columns=self.columns[:, list(one)], latent=free) for one in parts]

    def same_as(self, other: RandomBlock) -> bool:
        """Whether it is the same block: each within the other."""
        return self.within(other) and other.within(self)


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


# -- the models ----------------------------------------------------------------------------------


def null_distribution(small: Candidate, big: Candidate) -> Mixture:
    """Distribution of 2 (l_big - l_small) when the small model holds.

    Raises:
        ValueError: when the small model is not nested in the big one, naming what it has that the
            other has not.
    """
    edges = _edges(small, big)
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
    more = big.paths() - small.paths()
    if any(flat for *_, flat, _ in more):
        raise ValueError(
            f"a path of `{big.label}` has a diffuse start, whose likelihood is one of other "
            f"contrasts than that of `{small.label}`: take start='known' to compare them"
        )
    alike = small.X.shape[1] == big.X.shape[1] and len(small.blocks()) == len(big.blocks())
    if alike and [alone for *_, alone in more.elements()] == [True]:
        return Mixture((0, 1))
    if more:
        df = round(big.df - small.df)
        return Mixture(
            (df,),
            "without its variance a path has no correlation over time, so the likelihood ratio has "
            f"no known distribution and chi2({df}) is a rough guide; for a test give nsim= "
            "(parametric bootstrap)",
        )
    fixed = big.X.shape[1] - small.X.shape[1] + _more_in_parts(small, big)
    fixed += _more_inputs(small, big)
    ours, theirs = _unmatched(small.blocks(), big.blocks())
    for block in ours:
        if not any(block.grouped_as(other) for other in big.blocks()):
            raise ValueError(
                f"the fits group the rows differently (`{small.label}` and `{big.label}`): a "
                f"grouping factor with {len(np.unique(block.group))} levels in the former is "
                "absent from the latter, and neither model is nested in the other. Compare aic()."
            )
        if not all(any(one.within(other) for other in theirs) for one in block.apart(theirs)):
            raise ValueError(
                f"the random part of `{small.label}` is not nested in that of `{big.label}`: an "
                "effect, or a correlation, of the former is absent from the latter. Compare aic()."
            )
    extra = sum(t.parameters for t in theirs) - sum(t.parameters for t in ours)
    if edges:
        return _beyond(edges, big, fixed, extra, bool(theirs))
    if not theirs:
        return Mixture((fixed,))
    q, more = (sum(block.columns.shape[1] for block in blocks) for blocks in (ours, theirs))
    if more == q:  # covariances between effects that both models have: no boundary
        return Mixture((fixed + extra,))
    if len(theirs) == 1:
        if not ours and theirs[0].parameters == 1:
            return Mixture((fixed, fixed + 1))
        restricted = any(block.latent.by_reported for block in (*ours, *theirs))
        if more == q + 1 and len(ours) <= 1 and not restricted:
            return Mixture((fixed + q, fixed + q + 1))
    return _several("variances", fixed + extra)


def _several(what: str, df: int) -> Mixture:
    return Mixture(
        (df,),
        f"several {what} are tested at once: their null distribution is no simple mixture. "
        f"chi2({df}) is conservative (p too large); for an exact test give nsim= "
        "(parametric bootstrap)",
    )


def _edges(small: Candidate, big: Candidate) -> tuple[str, ...]:
    """The extra parameters of the big model that are at their boundary in the small one.

    Raises:
        ValueError: neither family holds the other.
    """
    families = [one.estimate.model.family for one in (small, big)]
    found = _path(*families)
    if found is None:
        named = [f"{one.name} with {one.link.name} link" for one in families]
        raise ValueError(
            f"the families differ ({'; '.join(named)}), and the one of `{small.label}` is no "
            f"special case of that of `{big.label}`: neither model is nested in the other. Compare "
            "aic()."
        )
    return found


def _path(small: Family, big: Family) -> tuple[str, ...] | None:
    """The parameters whose boundaries lead from one family to another; None without a way."""
    if (small.name, small.options()) == (big.name, big.options()):
        return ()
    for name, family in big.edges():
        rest = _path(small, family)
        if rest is not None:
            return (name, *rest)
    return None


def _beyond(
    edges: tuple[str, ...], big: Candidate, fixed: int, extra: int, random: bool
) -> Mixture:
    """The null distribution when parameters of the family leave their boundary.

    One of them has half a chi-squared distribution at zero, as a variance has.
    """
    columns = big.extra_columns()
    size = sum(columns[name].shape[1] for name in edges)
    if size > len(edges):
        df = fixed + extra + size
        return Mixture(
            (df,),
            "in the smaller model the coefficients of dispersion= or zi= mean nothing, so that the "
            f"likelihood ratio has no known distribution and chi2({df}) is a rough guide; "
            "for a test give nsim= (parametric bootstrap)",
        )
    if random or len(edges) > 1:
        return _several("parameters at their boundaries", fixed + extra + size)
    return Mixture((fixed, fixed + 1))


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


def _more_inputs(small: Candidate, big: Candidate) -> int:
    """Coefficients of inputs that the paths of the big model have beyond those of the small one."""
    more = 0
    for (key, ours), (_, theirs) in zip(small.inputs(), big.inputs(), strict=True):
        if not inside(ours, theirs).all():
            raise ValueError(
                f"`{small.label}` is not nested in `{big.label}`: the control of {key[0]}() in the "
                "latter does not contain that of the former. Compare aic()."
            )
        more += key[2] * (theirs.shape[1] - ours.shape[1])
    return more


def _unmatched(
    ours: list[RandomBlock], theirs: list[RandomBlock]
) -> tuple[list[RandomBlock], list[RandomBlock]]:
    """Blocks of either model without a block of the same span in the other."""
    rest, open_ = [], list(theirs)
    for block in ours:
        for j, other in enumerate(open_):
            if block.same_as(other):
                del open_[j]
                break
        else:
            rest.append(block)
    return rest, open_
