"""check_family(): the battery."""

from __future__ import annotations

from collections.abc import Sequence

from dgmm.checking import density
from dgmm.checking.fits import check_fits
from dgmm.checking.outcomes import FamilyError, case_of
from dgmm.families import Family, find
from dgmm.runtime.gate import gate
from dgmm.runtime.listing import shortened

__all__ = ["check_family"]


@gate
def check_family(
    family: str | Family,
    *,
    y: Sequence[float] | None = None,
    eta: Sequence[float] | None = None,
    extra: Sequence[float] | None = None,
    fit: bool = True,
) -> None:
    """Check that a family is what the estimation takes it for, by itself and in fits.

    The density sums to 1, and its mean, variance, derivatives and draws are those that the family
    states, with weights, ties, one row, rows in any order and parameters by row; copies and files
    keep it. Fits of a small random-intercept model do not depend on the order of the rows, the
    names of the subjects, the type of the frame, the unit or origin of a covariate; constant
    outcomes and single rows end in a fit or in a sentence. :class:`dgmm.families.OwnFamily` says
    what must be written; what need not be (variance, simulate) is checked where it is.

    Args:
        family: a word of ``dgmm.families`` or a family of your own.
        y: some outcomes that it can have; by default those of its ``support``.
        eta: three values of the linear predictor, not far out.
        extra: values of its further parameters on the unconstrained scale; by default
            ``start_extra`` of the outcomes.
        fit: False leaves out the fits.

    Raises:
        TypeError, ValueError: no family, or values that it cannot be checked at.
        FamilyError: the first check that fails, by name, with what was found.

    Example:
        >>> import dgmm
        >>> dgmm.check_family("negative_binomial", fit=False)

    References:
        Buitinck et al. (2013), API design for machine learning software: check_estimator.
    """
    one = find(family) if isinstance(family, str) else family
    if not isinstance(one, Family):
        raise TypeError(f"check_family() checks a word or a Family, not {shortened(family)}")
    case = case_of(one, y, eta, extra)
    for check in (*density.CHECKS, *([check_fits] if fit else [])):
        try:
            check(case)
        except FamilyError:
            raise
        except Exception as error:  # of a family that anyone may have written
            found = f"it ends in {type(error).__name__}: {error}"
            raise case.fail(check.__name__, found) from error
