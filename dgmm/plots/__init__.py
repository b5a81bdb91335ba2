"""Pictures of a fit, each kind in its file; matplotlib is imported when a picture is asked for."""

from dgmm.plots.chains import plot_density, plot_ranks
from dgmm.plots.checks import plot_calibration, plot_pp_check, plot_residuals
from dgmm.plots.dynamic import plot_dynamic
from dgmm.plots.effects import plot_effects
from dgmm.plots.forecasts import fan, plot_fan
from dgmm.plots.profiles import plot_profiles
from dgmm.plots.search import plot_trace, plot_tuning

__all__ = [
    "fan",
    "plot_calibration",
    "plot_density",
    "plot_dynamic",
    "plot_effects",
    "plot_fan",
    "plot_pp_check",
    "plot_profiles",
    "plot_ranks",
    "plot_residuals",
    "plot_trace",
    "plot_tuning",
]
