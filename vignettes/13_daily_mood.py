# %% [markdown]
# # Daily mood: from a study with an app to a prediction that follows one person
#
# Question: young adults answer five short questionnaires a day for three weeks, or would if they
# did not skip three of five. What will tomorrow be like for one of them, and what do the answers
# that are missing do to what is learned from the others? The data are simulated with the sizes of
# such a study, so the answers that nobody gave are known.

# %%
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import dgmm
from dgmm.studies import mood_frame, simulate_mood
from dgmm.studies.mood import fit_next_day, mean_course, mood_oracle, mood_scores

pd.set_option("display.width", 160, "display.max_columns", 20)
FAST = os.environ.get("DGMM_FAST") == "1"  # few people: for the tests
sizes = (50, 6) if FAST else (300, 60)

# %% [markdown]
# ## The study
#
# Negative affect is on [1, 7], with a floor at 1; loneliness and boredom are yes or no. The model
# behind them, with rhythms of the day and the week of every person's own, a momentary state, and
# the rules of skipping and leaving, stands in `help(dgmm.studies.mood.truth)` and
# `help(dgmm.studies.simulate_mood)`. At full size:

# %%
study = simulate_mood((1174, 0), seed=1)
answers = study[study["observed"]]
print(f"{len(study):,} beeps planned, {len(study) - len(answers):,} not answered")
print(
    f"negative affect at the floor: {(study['na'] == 1).mean():.0%}, mean {study['na'].mean():.2f}"
)
print(f"lonely {study['lonely'].mean():.0%}, bored {study['bored'].mean():.0%}")
per_person = answers.groupby("id").size()
print(f"answers of a person: median {per_person.median():.0f} of 105")
print(f"silent in the last week: {(answers.groupby('id')['day'].max() < 14).mean():.0%}")

# %% [markdown]
# A beep is skipped more often after an answer of high negative affect, and a person who answered
# so is more likely to leave. Those are answers that were *seen*: the outcomes are missing at
# random. The mean of the answers, week by week, falls all the same:

# %%
truth = mean_course(study["mu_na"], study)
week = answers["day"] // 7 + 1
print(pd.DataFrame({"all beeps": truth, "answers": answers["na"].groupby(week).mean()}).round(2))

# %% [markdown]
# ## Models of the outcomes
#
# A smaller study from here on: some people to fit to, and some that no model has seen. `observed`
# and the expectations `mu_...` are hidden by `mood_frame()`.

# %%
data = simulate_mood(sizes, seed=2)
train = mood_frame(data)
print(train[["id", "age", "female", "day", "hour", "na", "lonely", "bored"]].head(6).round(2))

# %% [markdown]
# An *ordered beta* outcome: a beta density inside, and two cutpoints that say how often the ends
# are chosen, by the same predictor. Everyone has a level and a trend of their own. The yes-or-no
# outcomes have a level. Laplace's approximation is good with this many answers per person.

# %%
COMMON = "female + ns(age, 3) + weekend + ns(hour, 3)"
start = time.perf_counter()
fits = {
    "na": dgmm.mixed_model(
        f"na ~ {COMMON} + ns(time, 3) + (time | id)",
        train,
        family="ordered_beta",
        bounds=(1, 7),
        likelihood="laplace",
    ),
    **{
        name: dgmm.mixed_model(
            f"{name} ~ {COMMON} + time + (1 | id)",
            train,
            family="bernoulli",
            likelihood="laplace",
        )
        for name in ("lonely", "bored")
    },
}
print(f"{time.perf_counter() - start:.0f} s")
print(fits["na"].summary())

# %% [markdown]
# ## The mean course
#
# What is wanted is the mean of all planned beeps, answered or not. A mixed model says what it
# expects of each, given what the person did answer.

# %%
own = data[data["set"] == "train"]
seen = own[own["observed"]]
course = pd.DataFrame(
    {
        "truth": mean_course(own["mu_na"], data),
        "answers": seen["na"].groupby(seen["day"] // 7 + 1).mean(),
        "mixed model": mean_course(fits["na"].predict(train)["fit"], data),
    }
)
error = course.sub(course["truth"], axis=0).drop(columns="truth")
print(course.round(2), "\n\nerror", error.round(3), sep="\n")

# %% [markdown]
# The likelihood of what was seen makes up for beeps that are missing at random; an average of the
# answers, or any regression of the answers on age, sex and time, does not: it has no person in it
# whose early answers stand for the late ones.

# %% [markdown]
# ## One person, answer by answer
#
# Someone the fits have not seen, with a change of mood. `history=` takes the answers so far, in the
# place of the data of the fit: nothing is refitted, and each further answer moves the prediction of
# the coming day.

# %%
new = data[data["set"] == "new"]
spread = new[new["observed"]].groupby("id")["na"].agg(["size", "std"])
person = int(spread[spread["size"] > spread["size"].median()]["std"].idxmax())
rows = new[new["id"] == person]
given = mood_frame(rows[rows["observed"]], None)
print(f"person {person}: {len(given)} answers, the last on day {given['day'].iloc[-1]}")

updates, seconds = [], []
for k in [1, 2, 3, 5, 8, 12, 20, len(given)]:
    so_far = given.head(k)
    last = so_far["time"].iloc[-1]
    tomorrow = rows[rows["day"] == min(int(last) + 1, 20)].drop(columns=["na", "lonely", "bored"])
    start = time.perf_counter()
    said = {name: fit.predict(tomorrow, history=so_far)["fit"].mean() for name, fit in fits.items()}
    seconds.append((time.perf_counter() - start) / len(fits))
    updates.append({"answers": k, "day": int(last), "last na": so_far["na"].iloc[-1], **said})
print(pd.DataFrame(updates).round(2).to_string(index=False))
print(f"{1000 * np.median(seconds):.0f} ms for each outcome and update")

# %% [markdown]
# The picture shows negative affect: answers so far (black), what came later (grey; hollow where the
# beep was not answered, which only a simulation knows), the expected course with its own 95%
# interval, which narrows as answers come in, and that of further answers, which hardly does.

# %%
landmarks = sorted(given["day"].quantile([0.1, 0.4, 0.75]).astype(int).clip(lower=1).unique())
figure = Figure(figsize=(10, 3.6), layout="constrained")
axes = np.atleast_1d(figure.subplots(1, len(landmarks), sharex=True, sharey=True))
bands = {}
for axis, landmark in zip(axes, landmarks, strict=True):
    past = given[given["day"] < landmark]
    future = rows[rows["day"] >= landmark].drop(columns=["na", "lonely", "bored"])
    words = {"history": past, "draws": 400 if FAST else 2000, "seed": 1}
    band = fits["na"].predict(future, interval="prediction", **words)
    sure = fits["na"].predict(future, interval="confidence", **words)
    bands[landmark] = band.assign(width=sure["upper"] - sure["lower"])
    for ends, alpha, label in ((band, 0.12, "95% of answers"), (sure, 0.35, "95% of the mean")):
        shade = {"color": "#1f5a94", "alpha": alpha, "lw": 0, "label": label}
        axis.fill_between(future["time"], ends["lower"], ends["upper"], **shade)
    axis.plot(future["time"], band["fit"], color="#1f5a94", lw=1.5, label="expected")
    axis.plot(past["time"], past["na"], "o", color="black", ms=3.5, label="answers so far")
    later = rows[rows["day"] >= landmark]
    for there, face in ((True, "0.6"), (False, "none")):
        some = later[later["observed"] == there]
        label = "later answers" if there else "not answered"
        axis.plot(some["time"], some["na"], "o", color="0.6", mfc=face, ms=3, label=label)
    axis.axvline(landmark, color="0.5", lw=0.8, ls=":")
    axis.set_title(f"before day {landmark}: {len(past)} answers", fontsize=9)
figure.supxlabel("day")
axes[0].set_ylabel("negative affect")
axes[0].set_ylim(0.8, 7.2)
handles, labels = axes[0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside upper center", ncols=6, frameon=False, fontsize=8)
with tempfile.TemporaryDirectory() as folder:
    figure.savefig(Path(folder) / "person.png", dpi=130)
    print("picture:", next(Path(folder).iterdir()).name)

# %% [markdown]
# ## All outcomes at once
#
# Someone who is often lonely is often bored, and low. One call fits the three outcomes together,
# with the levels and the trend named `p` correlated across them; then each answer, about whatever,
# moves all three predictions.

# %%
start = time.process_time()
joint = dgmm.mixed_model(
    dgmm.mv(
        f"na ~ {COMMON} + ns(time, 3) + (1 |p| id)",
        f"lonely ~ {COMMON} + time + (1 |p| id)",
        f"bored ~ {COMMON} + time + (1 |p| id)",
    ),
    train,
    family=["ordered_beta", "bernoulli", "bernoulli"],
    bounds=[(1, 7), None, None],
    likelihood="laplace",
)
print(f"{time.process_time() - start:.0f} CPU s for {train['na'].notna().sum():,} answers")
print(joint.correlation().round(2))

# %%
moods = given.head(8)
quiet = moods.assign(lonely=0.0, bored=0.0)
dark = moods.assign(lonely=1.0, bored=1.0)
tomorrow = rows[rows["day"] == min(int(moods["time"].iloc[-1]) + 1, 20)]
tomorrow = tomorrow.drop(columns=["na", "lonely", "bored"])
same = {
    word: joint.predict(tomorrow, history=history).xs("fit", axis=1, level=1).mean()
    for word, history in (("never lonely or bored", quiet), ("always", dark))
}
print(pd.DataFrame(same).T.round(2))

# %% [markdown]
# The eight answers about negative affect are the same in both lines; what was said about loneliness
# and boredom is not.

# %% [markdown]
# ## How good are such predictions?
#
# For everyone whom the fits have not seen, the day after each of five landmarks, from the answers
# before it. The *oracle* is the model that made the data, asked the same: nobody can do better than
# `log_score`, and its coverage is that of a right 95% interval whose lower end often is the floor.

# %%
days = (3, 11) if FAST else (3, 7, 11, 15, 19)
scores = {
    "mixed models": mood_scores(fit_next_day(fits, data, days, draws=200), data),
    "oracle": mood_scores(mood_oracle(data, days, draws=128).said, data),
}
table = pd.concat(scores, names=["method", "outcome"]).swaplevel().sort_index()
print(table.astype(float).round(3))

# %% [markdown]
# ## The table that is kept
#
# `python benchmarks/daily_mood.py` measures the same with a recurrent network and other models, and
# with the same outcomes under answers that are missing completely at random.

# %%
path = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "daily_mood.csv"
kept = pd.read_csv(path)
shown = ["log_score", "rmse", "calibration", "coverage", "bias1", "bias2", "bias3", "bias_se3"]
for (people, missing), some in kept[kept["outcome"] == "na"].groupby(["people", "missing"]):
    print(f"\nnegative affect, {people} people, {missing.upper()}")
    print(some.groupby("method", sort=False)[shown].mean().round(3).to_string())

# %% [markdown]
# ## The figures above, as assertions

# %%
assert len(study) == 123_270
assert abs((~study["observed"]).mean() - 0.61) < 0.001
assert error["answers"].iloc[-1] < -0.15
assert error["mixed model"].abs().max() < (0.15 if FAST else 0.08)
widths = [band["width"].mean() for band in bands.values()]
assert widths == sorted(widths, reverse=True)
for band in bands.values():
    assert band[["fit", "lower", "upper"]].stack().between(1, 7).all()
assert (
    table["log_score"]
    .unstack()["mixed models"]
    .le(table["log_score"].unstack()["oracle"] + 0.03)
    .all()
)
if not FAST:
    assert abs(table.loc[("na", "mixed models"), "coverage"] - 0.97) < 0.02
