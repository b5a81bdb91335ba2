# %% [markdown]
# # Kalman auto-encoders
#
# Question: a state moves linearly, and what is measured of it is bent: a sensor that saturates, a
# score with a ceiling. Does a Kalman auto-encoder fill a gap in the measurements better than a
# linear state space does?
#
#     z_t = A_t z_{t-1} + N(0, Q),   a_t = C_t z_t + N(0, R),   y_t = d(a_t) + noise
#
# `(kvae(visit, code=1, state=2, K=1) | id)`: the code a is what a network d measures. Given the
# codes, z is integrated out by the Kalman filter, so that q is about a alone; by default it is made
# of Gaussian potentials that the same filter carries over the gaps. (A formula sometimes seen,
# q(z | u), leaves out what z depends on: it is the exact smoother q(z | a, u). And the weights of
# several dynamics, K > 1, depend on codes of the past alone, without which a would have no
# innovations to integrate by.)

# %%
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import dgmm

FAST = os.environ.get("DGMM_FAST") == "1"  # few sequences, few epochs: for the tests
STEPS, GAP = 20, range(8, 14)
pd.set_option("display.width", 100)


def sensor(n: int, seed: int) -> pd.DataFrame:
    """A damped oscillation of period 10 that is driven by noise, seen through a sensor that
    saturates.
    """
    rng, turn = np.random.default_rng(seed), 2 * np.pi / 10
    A = 0.97 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    z, rows = 2 * rng.normal(size=(n, 2)), []
    for _ in range(STEPS):
        rows.append(np.tanh(1.5 * z[:, 0]))
        z = z @ A.T + 0.25 * rng.normal(size=(n, 2))
    clean = np.stack(rows, 1).reshape(-1)
    ids, visits = np.repeat(np.arange(n), STEPS), np.tile(np.arange(1, STEPS + 1), n)
    frame = pd.DataFrame({"id": ids, "visit": visits, "clean": clean})
    return frame.assign(y=clean + 0.1 * rng.normal(size=len(clean)))


data, new = sensor(40 if FAST else 400, 1), sensor(30 if FAST else 200, 2)
gap = new["visit"].isin(GAP)
seen = new.assign(y=new["y"].where(~gap))
print(new.head(4).round(3).to_string(index=False))

# %% [markdown]
# ## 1. Beside a linear state space
#
# `ssm()` is the linear relative: with `K=1` and a straight d both have the same likelihood, which
# the bound then equals. Its outcome is symmetric and pressed against plus and minus one, which no
# linear model knows.

# %%
linear = dgmm.mixed_model("y ~ 1 + (ssm(visit, state=2) | id)", data, verbose=0)
control = (
    {"epochs": 8, "draws": 16, "batch": 20}
    if FAST
    else {"epochs": 60, "learning_rate": 0.01, "precision": "single"}
)
code = dgmm.mixed_model(
    "y ~ 1 + (kvae(visit, code=1, state=2, K=1) | id)", data, control=control, verbose=0
)
print(code.summary())

# %% [markdown]
# ## 2. Gaps
#
# Visits 8 to 13 of new sequences are taken away. The rest is the history; the gap is predicted from
# both its sides.

# %%
carried = seen.groupby("id")["y"].ffill()
filled = {
    "mean": np.full(len(new), data["y"].mean()),
    "last value": carried,
    "ssm": linear.predict(new, history=seen)["fit"],
    "kvae": code.predict(new, history=seen)["fit"],
}
rmse = pd.Series(
    {
        name: float(np.sqrt(np.square(value - new["clean"])[gap].mean()))
        for name, value in filled.items()
    }
)
print("error in the gap, against the clean signal:")
print(rmse.round(3))

# %%
band = code.predict(new, history=seen, interval="prediction", seed=1)
figure = Figure(figsize=(10, 5.5), layout="constrained")
axes = figure.subplots(2, 3, sharex=True, sharey=True).ravel()
for axis, one in zip(axes, new["id"].unique()[:6], strict=True):
    rows = new["id"] == one
    visit = new.loc[rows, "visit"]
    axis.axvspan(GAP[0] - 0.5, GAP[-1] + 0.5, color="0.93")
    axis.fill_between(visit, band["lower"][rows], band["upper"][rows], color="#1f5a94", alpha=0.15)
    axis.plot(visit, new.loc[rows, "clean"], ":", color="black", label="clean signal")
    axis.plot(visit, seen.loc[rows, "y"], "o", color="black", ms=3)
    for name, colour in (("ssm", "#c2571a"), ("kvae", "#1f5a94")):
        axis.plot(visit, filled[name][rows], color=colour, lw=1.5, label=name)
axes[0].legend(frameon=False, fontsize=8)
figure.supxlabel("visit")
figure.supylabel("y")
with tempfile.TemporaryDirectory() as folder:
    figure.savefig(Path(folder) / "gaps.png", dpi=130)
    print("picture:", next(Path(folder).iterdir()).name)

# %% [markdown]
# The band holds 95 % of new measurements; in the gap it stays within what the sensor can show.

# %%
scores = {"ssm": linear.log_score(new), "kvae": code.log_score(new)}
held_out = pd.Series({name: score["log_score"].mean() for name, score in scores.items()})
print("log score of a new sequence (kvae: a lower bound)")
print(held_out.round(2))

# %% [markdown]
# At full length, 400 sequences, the error in the gap is 0.27 against 0.33 of the linear state
# space, and new sequences are 11 nats likelier at least: the linear model spreads its outcome over
# values that the sensor cannot show.
#
# ## 3. Several sensors of one state
#
# `mv(y, second) ~ 1 + (kvae(visit, ...) | id)`: outcomes share the code, and the decoder has an
# output for each, of a family of its own if need be. A second sensor, a switch that is on where the
# oscillation is below zero, sees what the first one does a quarter of a turn later; it goes on in
# half of the gaps. What is seen of either tells of both, and a visit may lack one of them.


# %%
def two_sensors(n: int, seed: int) -> pd.DataFrame:
    """The same oscillation, with a switch that follows its other coordinate."""
    rng, turn = np.random.default_rng(seed), 2 * np.pi / 10
    A = 0.97 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    z, rows = 2 * rng.normal(size=(n, 2)), []
    for _ in range(STEPS):
        rows.append(z)
        z = z @ A.T + 0.25 * rng.normal(size=(n, 2))
    states = np.stack(rows, 1).reshape(-1, 2)
    ids, visits = np.repeat(np.arange(n), STEPS), np.tile(np.arange(1, STEPS + 1), n)
    clean = np.tanh(1.5 * states[:, 0])
    frame = pd.DataFrame({"id": ids, "visit": visits, "clean": clean})
    frame["y"] = clean + 0.1 * rng.normal(size=len(clean))
    return frame.assign(switch=(states[:, 1] + 0.3 * rng.normal(size=len(clean)) < 0).astype(float))


pair, other = two_sensors(40 if FAST else 400, 3), two_sensors(30 if FAST else 200, 4)
both = dgmm.mixed_model(
    "mv(y, switch) ~ 1 + (kvae(visit, code=2, state=2, K=1) | id)",
    pair,
    family=["gaussian", "bernoulli"],
    control=control,
    verbose=0,
)
gap = other["visit"].isin(GAP)
silent = other.assign(y=other["y"].where(~gap), switch=other["switch"].where(~gap))
helped = other.assign(y=other["y"].where(~gap))
of_gap = {
    name: both.predict(other, outcome="y", history=past)["fit"]
    for name, past in {"both silent": silent, "switch seen": helped}.items()
}
joint_rmse = pd.Series(
    {
        name: float(np.sqrt(np.square(value - other["clean"])[gap].mean()))
        for name, value in of_gap.items()
    }
)
print("error of the first sensor in the gap:")
print(joint_rmse.round(3))

# %% [markdown]
# At full length 0.23 where the switch goes on, against 0.25. q is a product of one potential for
# each outcome, so that it is what it was for those seen where others are not.
#
# ## The figures above, as assertions

# %%
assert "a lower bound" in str(code.summary())
assert rmse["ssm"] < rmse["last value"]
assert joint_rmse.notna().all()
if not FAST:
    assert held_out["kvae"] > held_out["ssm"] + 1
    assert rmse["kvae"] < rmse["ssm"]
    assert joint_rmse["switch seen"] < joint_rmse["both silent"]
