"""The package's own simulation studies: data with known profiles, the oracle, scores.

simulate (the data; one process per file beside it), truth (the true model as a latent structure),
sampling (posteriors with several modes), oracle, predictions (of a fit), scores, standing (between
the linear mixed model and the oracle). ``mood`` is a study of three outcomes at once, most of them
missing.
"""

from dgmm.studies.base import Process
from dgmm.studies.mood import mood_frame, simulate_mood
from dgmm.studies.oracle import Oracle, oracle_predictions
from dgmm.studies.predictions import Predictions, fit_predictions
from dgmm.studies.scores import coefficient_errors, expected_coverage, row_kinds, score
from dgmm.studies.simulate import find_process, simulate_study, training_frame
from dgmm.studies.standing import standing

__all__ = [
    "Oracle",
    "Predictions",
    "Process",
    "coefficient_errors",
    "expected_coverage",
    "find_process",
    "fit_predictions",
    "mood_frame",
    "oracle_predictions",
    "row_kinds",
    "score",
    "simulate_mood",
    "simulate_study",
    "standing",
    "training_frame",
]
