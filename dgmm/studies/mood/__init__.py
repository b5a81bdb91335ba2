"""The study of daily mood: three outcomes of mixed kinds, five times a day, most of them missing.

truth (the model), simulate (people, beeps, answers), next_day (what methods say about the next day,
and its scores), oracle (the true model, asked the same).
"""

from dgmm.studies.mood.next_day import (
    asked_rows,
    fit_next_day,
    history_rows,
    joint_next_day,
    mean_course,
    mood_scores,
)
from dgmm.studies.mood.oracle import MoodOracle, mood_oracle
from dgmm.studies.mood.simulate import mood_frame, simulate_mood

__all__ = [
    "MoodOracle",
    "asked_rows",
    "fit_next_day",
    "history_rows",
    "joint_next_day",
    "mean_course",
    "mood_frame",
    "mood_oracle",
    "mood_scores",
    "simulate_mood",
]
