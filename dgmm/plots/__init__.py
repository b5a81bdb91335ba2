"""Pictures of data and fits, each kind in its file.

Every function takes ``ax=``, axes of matplotlib to draw into (as many as it has panels), and
returns the axes; ``axes.figure.savefig(path)`` writes the picture. matplotlib is imported when a
picture is asked for.
"""

from dgmm.plots.chains import plot_density, plot_ranks
from dgmm.plots.checks import plot_calibration, plot_pp_check, plot_residuals
from dgmm.plots.coefficients import plot_coefficients
from dgmm.plots.covariance import plot_covariance
from dgmm.plots.dynamic import plot_dynamic
from dgmm.plots.effects import plot_effects
from dgmm.plots.forecasts import fan, plot_fan
from dgmm.plots.ordinal import plot_categories, plot_thresholds
from dgmm.plots.profiles import plot_profiles
from dgmm.plots.search import plot_trace, plot_tuning
from dgmm.plots.spaghetti import plot_spaghetti
from dgmm.plots.subjects import plot_qq, plot_ranef

__all__ = [
    "fan",
    "plot_calibration",
    "plot_categories",
    "plot_coefficients",
    "plot_covariance",
    "plot_density",
    "plot_dynamic",
    "plot_effects",
    "plot_fan",
    "plot_pp_check",
    "plot_profiles",
    "plot_qq",
    "plot_ranef",
    "plot_ranks",
    "plot_residuals",
    "plot_spaghetti",
    "plot_thresholds",
    "plot_trace",
    "plot_tuning",
]
