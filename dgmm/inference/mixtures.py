"""The null distribution of a likelihood ratio when a variance may lie on its boundary.

Adding one random effect to q correlated ones, with f further fixed effects, puts the null value on
the edge of the parameter space, and

    2 (l_1 - l_0)  ~  1/2 chi2(q + f) + 1/2 chi2(q + f + 1).

Self and Liang (1987), J. American Statistical Association 82, 605-610; Stram and Lee (1994),
Biometrics 50, 1171-1177.
"""

from __future__ import annotations

from dataclasses import dataclass

from scipy import special

__all__ = ["Mixture"]


@dataclass(frozen=True)
class Mixture:
    """An equal mixture of chi-squared distributions; one of 0 degrees of freedom is 0 itself."""

    df: tuple[int, ...]
    remark: str = ""

    def p_value(self, statistic: float) -> float:
        """P(X >= statistic)."""
        if statistic <= 0:
            return 1.0
        parts = [float(special.chdtrc(df, statistic)) if df > 0 else 0.0 for df in self.df]
        return sum(parts) / len(parts)

    def __str__(self) -> str:
        if len(self.df) == 1:
            return f"chi2({self.df[0]})"
        share = f"{1 / len(self.df):.2g}"
        return " + ".join(f"{share} chi2({df})" for df in self.df)
