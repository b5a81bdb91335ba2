"""Write the figures of the documents, which nobody types: `make figures`.

A page marks what comes from a stored table, a block or some words of a sentence,

    <!-- figures: speed -->              ... <!-- end -->
    <!-- figures: demo score 1 +.3f -->-0.039<!-- end -->

with the name of a source (a function of this file) and its arguments. Sources read the tables that
the other scripts of this folder keep; nothing is fitted here. `python benchmarks/figures.py --list`
says which are still to be measured.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import cache

import coverage_fixed
import coverage_population
import coverage_random
import daily_mood
import demo_seeds
import dynamic
import encoder
import intervals
import mood_course as course
import pandas as pd
import panel as panels
import residual_checks
from stored import RESULTS, ROOT, kept, markdown

from dgmm.studies import standing

__all__ = ["PAGES", "figure", "rewritten"]

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
REGION = re.compile(
    r"(?P<start><!-- figures: (?P<words>[^>]*?) -->)(?P<old>.*?)(?P<end><!-- end -->)", re.S
)
PENDING = "*To be measured: `python benchmarks/{}.py`.*"
ROMAN = {1: "I", 2: "II"}
LINEAR = ("lmm4", "lmm7", "lmm_rich")


# -- pages ---------------------------------------------------------------------------------------


def rewritten(text: str) -> str:
    """The text of a page with all of its figures anew; blocks stand between blank lines."""

    def region(found: re.Match[str]) -> str:
        new = figure(found["words"])
        block = found["old"].startswith("\n")
        return found["start"] + (f"\n\n{new}\n\n" if block else new) + found["end"]

    return REGION.sub(region, text)


def figure(words: str) -> str:
    """What a source says, such as ``demo score 1 +.3f``."""
    name, *arguments = words.split()
    if name not in SOURCES:
        raise ValueError(f"no source {name!r} of figures; there are {', '.join(SOURCES)}")
    return SOURCES[name](*arguments)


# -- simulation studies --------------------------------------------------------------------------


@cache
def study_rows() -> pd.DataFrame:
    """docs/studies.csv by process, study, seed and method."""
    table = pd.read_csv(ROOT / "docs" / "studies.csv")
    return table.set_index(["process", "study", "seed", "method"])


@cache
def stands() -> pd.DataFrame:
    """Every method of every data set between the best linear mixed model and the oracle."""
    cells = study_rows().groupby(level=["process", "study", "seed"], sort=False)
    numbers = study_rows().select_dtypes("number").columns
    return pd.concat({key: standing(rows.droplevel([0, 1, 2])[numbers]) for key, rows in cells})


def study(process: str, number: str, seed: str, method: str, name: str, form: str) -> str:
    """One number of the table."""
    return format(study_rows().loc[(process, int(number), int(seed), method), name], form)


def shares(method: str) -> str:
    """The standing of a method in the studies that no linear mixed model is the truth of."""
    rows = (
        stands()
        .xs(method, level=3)
        .drop(index="lmm")
        .reset_index(names=["process", "study", "seed"])
    )
    rows["cell"] = rows["process"] + " " + rows["study"].map(ROMAN)
    return markdown(
        rows,
        {
            "cell": ("process, study", "{}"),
            "seed": ("seed", "{}"),
            "share_loglik": ("log-likelihood", "{:.2f}"),
            "share_rmse_observed": ("RMSE, seen", "{:.2f}"),
            "share_rmse_new": ("RMSE, new subjects", "{:.2f}"),
            "ratio_rmse_future": ("future", "{:.3f}"),
            "ratio_rmse_dropped": ("dropped", "{:.3f}"),
            "excess_coverage_future": ("coverage, future", "{:+.3f}"),
            "excess_coverage_dropped": ("coverage, dropped", "{:+.3f}"),
        },
    )


def mean_shares(method: str) -> str:
    """The same in short, means over seeds, with the best linear mixed model's future."""
    rows = []
    for (process, number), cells in stands().drop(index="lmm").groupby(level=[0, 1], sort=False):
        ours = cells.xs(method, level=3)
        rival = cells[cells.index.get_level_values(3).isin(LINEAR)]
        rows.append(
            {
                "truth": f"{process} profiles" + (", 30 % dropout" if number == 2 else ""),
                **ours.mean(),
                "rival": rival["ratio_rmse_future"].groupby(level=2).min().mean(),
            }
        )
    return markdown(
        pd.DataFrame(rows).sort_values(
            "truth", key=lambda one: one.str.contains("dropout"), kind="stable"
        ),
        {
            "truth": ("truth", "{}"),
            "share_loglik": (
                "share of the gap closed: log-likelihood of unseen subjects",
                "{:.2f}",
            ),
            "share_rmse_observed": ("RMSE, visits seen", "{:.2f}"),
            "ratio_rmse_future": ("RMSE of the future, relative to the true model", "{:.2f}"),
            "rival": ("the same, best linear mixed model", "{:.2f}"),
        },
    )


def mean_share(method: str, form: str) -> str:
    """Share of the gap in log-likelihood that a method closes, mean over all data sets."""
    return format(stands().xs(method, level=3).drop(index="lmm")["share_loglik"].mean(), form)


def lead(method: str, form: str) -> str:
    """By how much its log-likelihood is above the best baseline, smallest and largest."""
    rows = study_rows().drop(index="lmm")["loglik"].unstack()
    others = [name for name in rows if name not in ("oracle", "deep", "warped", "deep_wide")]
    above = rows[method] - rows[others].max(axis=1)
    return f"{above.min():{form}} to {above.max():{form}}"


def beside_truth(method: str) -> pd.DataFrame:
    """A method beside `lmm4` where the linear mixed model is the truth."""
    ours, truth = (study_rows().loc["lmm"].xs(one, level="method") for one in (method, "lmm4"))
    found = pd.DataFrame(
        {name: ours[name] / truth[name] for name in ours if name.startswith("rmse")}
    )
    found["loglik"] = ours["loglik"] - truth["loglik"]
    names = ("sex", "age", "sex:age", "x")
    moved = {
        name: (ours[f"estimate_{name}"] - truth[f"estimate_{name}"]).abs() / truth[f"se_{name}"]
        for name in names
    }
    return found.assign(coefficients=pd.DataFrame(moved).max(axis=1))


def where_linear(method: str) -> str:
    """That as a table."""
    rows = beside_truth(method).reset_index()
    return markdown(
        rows.assign(cell="lmm " + rows["study"].map(ROMAN)),
        {
            "cell": ("process, study", "{}"),
            "seed": ("seed", "{}"),
            "rmse_observed": ("RMSE, seen", "{:.4f}"),
            "rmse_new": ("new subjects", "{:.4f}"),
            "rmse_future": ("future", "{:.4f}"),
            "rmse_dropped": ("dropped", "{:.4f}"),
            "loglik": ("log-likelihood", "{:+.4f}"),
            "coefficients": ("coefficients", "{:.3f}"),
        },
    )


def linear_price(method: str, name: str, form: str) -> str:
    """The largest number of that table: "rmse", "loglik" or "coefficients"."""
    rows = beside_truth(method).abs()
    return format(rows[[one for one in rows if one.startswith(name)]].max().max(), form)


# -- other scripts -------------------------------------------------------------------------------


def coverage_fixed_table() -> str:
    """The study beside a network of covariates, in one row."""
    table = kept(RESULTS / "coverage_fixed_gaussian.csv", coverage_fixed.COLUMNS)
    return markdown(
        coverage_fixed.report(table).to_frame().T,
        {
            "replicates": ("replicates", "{:.0f}"),
            "coverage of x": ("coverage of x", "{:.3f}"),
            "bias": ("bias of x", "{:.4f}"),
            "empirical SD": ("its SD", "{:.4f}"),
            "mean SE": ("mean SE", "{:.4f}"),
            "coverage of the band": ("coverage of the band", "{:.3f}"),
            "its standard error": ("its s.e.", "{:.3f}"),
            "at its worst point": ("worst point", "{:.3f}"),
            "edf": ("edf", "{:.1f}"),
        },
    )


def coverage_of_random(name: str) -> str:
    """A table of the study beside neural random parts: by_cell, pooled, bands, routes."""
    if not coverage_random.TABLE.exists():
        return PENDING.format("coverage_random")
    return coverage_random.report()[name]


def coverage_of_population() -> str:
    """Coverage of population-averaged intervals."""
    table = kept(coverage_population.PATH, coverage_population.COLUMNS)
    found = coverage_population.report(table)
    found["within"] = found["within"].map({True: "yes", False: "**no**"})
    columns = {
        "interval": ("interval", "{}"),
        "coverage": ("coverage", "{:.3f}"),
        "within": ("within 99.9 % limits", "{}"),
    }
    return f"{len(table)} data sets:\n\n" + markdown(found, columns)


def check_sizes() -> str:
    """Sizes of the tests of check()."""
    return residual_checks.size_table()


def check_powers() -> str:
    """Their power against wrong models."""
    return residual_checks.power_table()


def check_left_out(scenario: str) -> str:
    """Data sets of a scenario without shares, of how many."""
    return residual_checks.left_out(scenario)


def check_share(scenario: str, name: str, form: str) -> str:
    """The share of rejections by one of them."""
    return format(residual_checks.share(scenario, name)[0], form)


def encoder_gaps() -> str:
    """How far the encoders of the studies are from p(b | y) of new subjects."""
    return encoder.gap_table()


def encoder_times() -> str:
    """Processor seconds by the encoder and by refined draws."""
    return encoder.time_table()


def dynamic_table() -> str:
    """Predictions of new subjects from their past."""
    return dynamic.table()


METHODS_OF_MOOD = [
    *("oracle", "joint", "deep_joint", "glmm", "glmm_ou", "deep", "gru", "network", "answers")
]


def mood_rows(people: str) -> pd.DataFrame:
    """The study of daily mood with a number of people, best informed methods first."""
    rows = kept(daily_mood.TABLE, daily_mood.COLUMNS)
    rows = rows[rows["people"] == int(people)]
    return rows.assign(place=rows["method"].map(METHODS_OF_MOOD.index)).sort_values(
        ["missing", "place"], kind="stable"
    )


def mood_scores(people: str, missing: str) -> str:
    """Predictions of the next day: a row per method, log scores of all outcomes."""
    rows = mood_rows(people)
    rows = rows[(rows["missing"] == missing) & rows["log_score"].notna()]
    if rows.empty:
        return PENDING.format("daily_mood")
    wide = rows.pivot_table(index=["place", "method"], columns="outcome", aggfunc="mean",
                            values=["log_score", "rmse", "calibration", "coverage"])  # fmt: skip
    wide.columns = [" ".join(one) for one in wide.columns]
    seconds = rows.groupby("method")["seconds"].mean()
    return markdown(
        wide.reset_index().assign(seconds=lambda one: one["method"].map(seconds)),
        {
            "method": ("method", "`{}`"),
            "log_score na": ("log score: negative affect", "{:.3f}"),
            "log_score lonely": ("lonely", "{:.4f}"),
            "log_score bored": ("bored", "{:.4f}"),
            "rmse na": ("RMSE of the mean: negative affect", "{:.3f}"),
            "rmse lonely": ("lonely", "{:.3f}"),
            "rmse bored": ("bored", "{:.3f}"),
            "coverage na": ("coverage, 95 %", "{:.3f}"),
            "calibration lonely": ("calibration: lonely", "{:.3f}"),
            "calibration bored": ("bored", "{:.3f}"),
            "seconds": ("CPU seconds", "{:.0f}"),
        },
    )


def mood_course() -> str:
    """Bias of the mean course over replicates of the study."""
    return course.report()


def mood_cost(people: str, method: str, name: str, form: str) -> str:
    """Seconds, CPU ("fit_seconds") or wall, or GiB ("memory") of a method, mean over data sets."""
    rows = mood_rows(people)
    rows = rows[(rows["method"] == method) & (rows["missing"] == "mar")]
    if rows.empty:
        return "(to be measured)"
    once = "joint" in method or name != "fit_seconds"
    found = rows.groupby("seed")[name].agg("max" if once else "sum")
    return format(found.mean(), form)


def interval_table() -> str:
    """Prediction intervals beside the oracle's."""
    if not intervals.TABLE.exists():
        return PENDING.format("intervals")
    return intervals.report()["by_kind"]


def demo(name: str, seed: str, form: str) -> str:
    """One number of the demo under a seed; "all" gives those of all seeds."""
    column = demo_seeds.table()[name]
    chosen = column if seed == "all" else column.loc[[int(seed)]]
    return ", ".join(format(value, form) for value in chosen)


RANDOM = {"gaussian": r"`(t \| id)`", "bernoulli": r"`(1 \| id)`", "poisson": r"`(t \| id)`"}


def speed() -> str:
    """CPU seconds of every program, a row per model, likelihood and number of subjects."""
    table = pd.read_csv(RESULTS / "speed.csv")
    peers = [one for one in table["program"].unique() if not one.startswith("dgmm")]
    lines = [f"| model | n | dgmm | {' | '.join(peers)} |", "| --- " * (len(peers) + 3) + "|"]
    for (family, n), rows in table.groupby(["family", "subjects"], sort=False):
        seconds = rows.set_index("program")["seconds"]
        for name in (one for one in seconds.index if one.startswith("dgmm")):
            given = seconds if "quadrature" not in name else seconds[[name]]
            cells = [f"{given[one]:.3g}" if one in given else "" for one in (name, *peers)]
            how = {"dgmm": "exact"}.get(name, name.removeprefix("dgmm, "))
            lines.append(f"| {family}, {RANDOM[family]}, {how} | {n} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ratios() -> str:
    """CPU seconds and memory beside glmm and mixedlm-rs by `benchmarks/ratios.py`."""
    table = pd.read_csv(RESULTS / "ratios.csv")
    own = table[table["program"] == "dgmm"].set_index("job")
    for name in ("first", "seconds", "memory"):
        table[f"{name}_ratio"] = own.loc[table["job"], name].to_numpy() / table[name]
    return markdown(
        table,
        {
            "job": ("job", "{}"),
            "program": ("program", "{}"),
            "seconds": ("seconds", "{:.3g}"),
            "seconds_ratio": ("dgmm / program", "{:.2f}"),
            "first_ratio": ("first call", "{:.2f}"),
            "memory": ("MiB", "{:.0f}"),
            "loglik": ("log-likelihood", "{:.3f}"),
        },
    )


def crossed() -> str:
    """Large crossed factors, a row per size."""
    file = RESULTS / "crossed.csv"
    if not file.exists():
        return PENDING.format("crossed")
    table = pd.read_csv(file)
    table["glmm_apart"] = (table["loglik"] - table["glmm_loglik"]).abs()
    forms = {
        "rows": ("rows", "{:,.0f}"),
        "students": ("levels", "{:,.0f}"),
        "lecturers": ("by", "{:,.0f}"),
        "seconds": ("processor seconds", "{:,.3g}"),
        "gigabytes": ("memory, GiB", "{:.2f}"),
        "ranef_seconds": ("`ranef()`: seconds", "{:,.3g}"),
        "predict_seconds": ("`predict()`: seconds", "{:,.3g}"),
        "off": ("off, s.e.", "{:.1f}"),
        "apart": ("other factor first: apart", "{:.0e}"),
        "glmm_seconds": ("glmm: seconds", "{:,.3g}"),
        "glmm_apart": ("glmm: apart", "{:.0e}"),
    }
    return markdown(table.sort_values("rows"), forms)


def many_speed() -> str:
    """CPU seconds of many small models by `benchmarks/many.py`, a row per way to fit them."""
    table = pd.read_csv(RESULTS / "many.csv")
    return markdown(
        table[table["models"] > 1],
        {
            "outcomes": ("outcomes", "{}"),
            "method": ("", "{}"),
            "program": ("program", "`{}`"),
            "seconds": ("seconds", "{:.3g}"),
            "converged": ("converged", "{:.4g}"),
            "singular": ("singular", "{:.3g}"),
            "loglik_off": ("log-likelihood off", "{:.0e}"),
            "error_off": ("standard errors off", "{:.0e}"),
        },
    )


def one_call(*words: str) -> str:
    """Milliseconds of one call on sleepstudy, or of a part of it."""
    seconds = pd.read_csv(RESULTS / "many.csv").set_index("program")["seconds"]
    return f"{1e3 * seconds[' '.join(words)]:.1f}"


def linear_speed() -> str:
    """The linear mixed model of `benchmarks/run.py`."""
    return markdown(
        pd.read_csv(RESULTS / "linear.csv"),
        {
            "program": ("", "{}"),
            "seconds": ("seconds", "{:.3g}"),
            "loglik": ("log-likelihood", "{:.4f}"),
        },
    )


def path_speed() -> str:
    """CPU seconds of models with paths by `benchmarks/paths.py`, a row per data set."""
    table = pd.read_csv(RESULTS / "paths.csv")
    lines = [
        "| subjects x visits | times | dgmm | peer | ratio |",
        "| --- | --- | --- | --- | --- |",
    ]
    for (n, visits, grid), rows in table.groupby(["subjects", "visits", "grid"], sort=False):
        seconds = rows.set_index("program")["seconds"]
        own, peers = seconds["dgmm"], seconds.drop("dgmm")
        cells = [f"{one} {value:.3g} | {value / own:.0f}" for one, value in peers.items()] or [
            " | "
        ]
        times = "one grid" if grid else "irregular"
        lines += [f"| {n} x {visits} | {times} | {own:.2f} | {cell} |" for cell in cells]
    return "\n".join(lines)


METHODS = {
    "sites": '`method="vae"`, encoder `sites`, polished',
    "saem, averaged": '`missing="saem"`, averaged iterates, not polished',
    "saem, last iterate": "the same, last iterate",
    "slides, zero-filled": "dense encoder on bare outcomes, zero where missing",
    "slides, imputed": "the same, imputed once in every epoch from the encoder's own b",
}


def outcome_speed() -> str:
    """CPU seconds of K Gaussian outcomes by `benchmarks/outcomes.py`, a row per number of them."""
    table = pd.read_csv(RESULTS / "outcomes.csv")
    table = table[table["kind"] == "gaussian"]
    lines = [
        "| outcomes | variance parameters | dgmm | glmmTMB | ratio |",
        "| --- | --- | --- | --- | --- |",
    ]
    for outcomes, rows in table.groupby("outcomes"):
        seconds = rows.set_index("program")["seconds"]
        peer = seconds.get("glmmTMB")
        cells = " | " if peer is None else f"{peer:.3g} | {peer / seconds['dgmm']:.0f}"
        size = outcomes * (2 * outcomes + 1)
        lines.append(f"| {outcomes} | {size} | {seconds['dgmm']:.3g} | {cells} |")
    return "\n".join(lines)


SHARED = {
    "truth": "the true model",
    "deep": "three shared neural effects, one joint fit",
    "factors": "three shared linear effects, the model within",
    "joint": "linear effects with a free covariance, one joint fit",
    "gru": "a recurrent network of all outcomes",
    "lmm": "a linear mixed model per outcome",
}


def shared_effects() -> str:
    """Log scores of new subjects by `benchmarks/shared_effects.py`, a row per method."""
    table = pd.read_csv(RESULTS / "shared_effects.csv")
    sizes = sorted(table["outcomes"].unique())
    lines = [
        "| method | " + " | ".join(f"K = {k}: log score (s.e.) | CPU s" for k in sizes) + " |",
        "| --- |" + " --- | --- |" * len(sizes),
    ]
    for method, words in SHARED.items():
        cells = []
        for k in sizes:
            row = table[(table["outcomes"] == k) & (table["method"] == method)]
            if row.empty:
                cells.append(" | ")
                continue
            one = row.iloc[0]
            seconds = "" if pd.isna(one["seconds"]) else f"{one['seconds']:.3g}"
            cells.append(f"{one['log_score']:.4f} ({one['se']:.4f}) | {seconds}")
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def outcome_bias() -> str:
    """K binary outcomes: Laplace less the sampled log-likelihood, and distances of estimates."""
    table = pd.read_csv(RESULTS / "outcomes.csv")
    table = table[table["kind"] == "bernoulli"].sort_values("outcomes")
    lines = [
        "| outcomes | CPU seconds | Laplace less sampled | largest distance (SE) |",
        "| --- | --- | --- | --- |",
    ]
    for row in table.itertuples():
        gap = (
            ""
            if pd.isna(row.importance)
            else f"{row.loglik - row.importance:.1f} ({row.error:.1g})"
        )
        apart = "" if pd.isna(row.apart) else f"{row.apart:.2f}"
        lines.append(f"| {row.outcomes} | {row.seconds:.3g} | {gap} | {apart} |")
    return "\n".join(lines)


def missing() -> str:
    """Distances from exact ML under dropout."""
    table = pd.read_csv(RESULTS / "missing.csv")
    return markdown(
        table.assign(method=table["method"].map(METHODS)),
        {"method": ("", "{}"), "mean": ("mean", "{:.2g}"), "worst": ("largest", "{:.2g}")},
    )


def accepted(form: str) -> str:
    """Rate at which SAEM accepted the proposals of the encoder."""
    return format(pd.read_csv(RESULTS / "missing.csv")["acceptance"].max(), form)


def elbo_bias() -> str:
    """SDs by quadrature, by the bound alone and after the polish."""
    return markdown(
        pd.read_csv(RESULTS / "elbo_bias.csv"),
        {
            "seed": ("data set", "{}"),
            "quadrature": ("quadrature (ML)", "{:.4f}"),
            "ELBO alone": ("ELBO alone", "{:.4f}"),
            "vae, polished": ('`method="vae"`, polished', "{:.4f}"),
            "log-likelihood lost by vae": ("log-likelihood, ML minus polished", "{:.4f}"),
        },
    )


PANELS = {
    ("logit", "random"): "random effects, `(1 | id)`",
    ("logit", "means"): "means, `(1 | cre(id, ~ x))`",
    ("logit", "network"): "and a network of them, `(1 | cre(id, ~ dnn(x)))`",
    ("logit", "conditional"): "given the sums of subjects",
    ("unrelated", "model"): "no correlation, model-based",
    ("unrelated", "robust"): "no correlation, cluster-robust",
    ("related", "model"): "correlation 0.3, model-based",
    ("related", "robust"): "correlation 0.3, cluster-robust",
}


def panel(part: str) -> str:
    """Slopes of a logit panel ("logit"), or shares of Mundlak tests that reject ("tests")."""
    table = panels.summarised(kept(RESULTS / "panel.csv", panels.COLUMNS))
    own = table[(table["study"] == "logit") == (part == "logit")]
    own = own[[pair in PANELS for pair in zip(own["study"], own["number"], strict=True)]]
    pairs = zip(own["study"], own["number"], strict=True)
    mean, form = ("mean slope", "{:.3f}") if part == "logit" else ("rejected at 5%", "{:.1%}")
    return markdown(
        own.assign(label=[PANELS[pair] for pair in pairs]),
        {
            "label": ("", "{}"),
            "sets": ("panels", "{}"),
            "mean": (mean, form),
            "error": ("Monte Carlo error", form),
        },
    )


def panel_gain(form: str) -> str:
    """Nats per new subject that a network of the means is worth, on average over panels."""
    table = kept(RESULTS / "panel.csv", panels.COLUMNS)
    return format(table["gain"].mean(), form)


def posterior_of_deviation() -> str:
    """The logarithm of a standard deviation: maximum, quadrature, draws."""
    columns = {"what": ("", "{}"), "mode": ("mode", "{:.3f}"), "mean": ("mean", "{:.3f}")}
    return markdown(_posterior(), {**columns, "sd": ("SD", "{:.3f}")})


def posterior_gap(form: str) -> str:
    """From the maximum to the posterior mean, in posterior standard deviations."""
    table = _posterior().set_index("what")
    exact = table.loc["posterior under the default prior"]
    return format((exact["mean"] - table["mode"].iloc[0]) / exact["sd"], form)


def posterior_off(form: str) -> str:
    """From the posterior mean by quadrature to that of the draws, in the same units."""
    table = _posterior().set_index("what")
    exact, drawn = table.loc["posterior under the default prior"], table.loc["draws"]
    return format(abs(drawn["mean"] - exact["mean"]) / exact["sd"], form)


def _posterior() -> pd.DataFrame:
    return pd.read_csv(RESULTS / "gibbs_posterior.csv")


def calibration() -> str:
    """The least p-value of uniform ranks over the scalars of every case, the largest Geweke z."""
    ranks = pd.read_csv(RESULTS / "gibbs_calibration.csv")
    z = pd.read_csv(RESULTS / "gibbs_geweke.csv").assign(z=lambda rows: rows["z"].abs())
    table = ranks.groupby(["case", "sampler"], sort=False).agg(
        scalars=("p", "size"), least=("p", "min")
    )
    table = table.reset_index()
    right = table["sampler"] == "as it is"
    table["z"] = table["case"].map(z.groupby("case")["z"].max()).where(right)
    return markdown(
        table,
        {
            "case": ("model", "{}"),
            "sampler": ("sampler", "{}"),
            "scalars": ("scalars", "{}"),
            "least": ("least p-value", "{:.2g}"),
            "z": ("largest Geweke z", "{:.1f}"),
        },
    )


def gibbs_speed() -> str:
    """Least effective sample sizes per second of one processor."""
    return markdown(
        pd.read_csv(RESULTS / "gibbs_speed.csv"),
        {
            "sampler": ("", "{}"),
            "min_ess": ("least ESS", "{:.0f}"),
            "cpu_seconds": ("seconds", "{:.1f}"),
            "ess_per_second": ("ESS per second", "{:.0f}"),
        },
    )


def bouncing_ball() -> str:
    """Errors in the gap of sixteen sensors: the median over seeds, and every seed."""
    file = RESULTS / "bouncing_ball.csv"
    if not file.exists():
        return PENDING.format("bouncing_ball")
    table = pd.read_csv(file)
    cells = table.groupby(["K", "missing"], sort=False)
    rows = cells[["smoothed", "filtered", "mean_frame", "entropy", "seconds"]].median()
    each = cells["smoothed"].agg(lambda one: ", ".join(f"{value:.3f}" for value in one))
    rows = rows.assign(each=each).reset_index()
    rows["model"] = rows["K"].map(lambda K: f"K = {K}") + rows["missing"].map(
        lambda share: f", {share:.0%} of the frames missing in training" if share else ""
    )
    return markdown(
        rows,
        {
            "model": ("dynamics", "{}"),
            "smoothed": ("smoothed", "{:.3f}"),
            "each": ("of every seed", "{}"),
            "filtered": ("filtered", "{:.3f}"),
            "mean_frame": ("mean frame", "{:.3f}"),
            "entropy": ("entropy of the mean weights / log K", "{:.2f}"),
            "seconds": ("seconds", "{:.0f}"),
        },
    )


def controls() -> str:
    """Variance explained by predictions of steered series, every seed."""
    file = RESULTS / "controls.csv"
    if not file.exists():
        return PENDING.format("controls")
    table = pd.read_csv(file)
    table["ratio"] = table["explained"] / table["oracle"]
    cells = table.groupby(["K", "control"], sort=False)
    rows = cells[["explained", "oracle", "ratio", "seconds"]].mean().reset_index()
    each = cells["ratio"].agg(lambda one: ", ".join(f"{value:.3f}" for value in one))
    rows["each"] = each.to_numpy()
    rows["model"] = rows["K"].map("K = {:.0f}".format) + rows["control"].map(
        lambda given: "" if given else ", without the controls"
    )
    forms = {
        "model": ("dynamics", "{}"),
        "explained": ("variance explained", "{:.3f}"),
        "oracle": ("by the filter at the truth", "{:.3f}"),
        "each": ("ratio of every seed", "{}"),
    }
    return markdown(rows, forms)


def ball_video() -> str:
    """Frames of films that were lost, filled in by several models."""
    file = RESULTS / "ball_video.csv"
    if not file.exists():
        return PENDING.format("ball_video")
    table = pd.read_csv(file)
    forms = {
        "model": ("", "{}"),
        "seed": ("seed", "{:.0f}"),
        "pixels": ("pixels", "{:.0f}"),
        "distance": ("distance of the centre, pixels", "{:.1f}"),
        "wrong": ("wrong pixels, %", "{:.2f}"),
        "log_likelihood": ("log-likelihood of a frame", "{:.1f}"),
        "cpu_seconds": ("processor seconds", "{:.0f}"),
    }
    return markdown(table, forms)


def labs() -> str:
    """Errors in gaps of two laboratory series, mean over choices of people."""
    file = RESULTS / "labs.csv"
    if not file.exists():
        return PENDING.format("labs")
    table = pd.read_csv(file).groupby("method", sort=False)
    rows = table[["hdl", "hdl_se", "sbp", "sbp_se"]].mean().reset_index()
    return markdown(
        rows.assign(seeds=table.size().to_numpy()),
        {
            "method": ("", "{}"),
            "hdl": ("HDL cholesterol", "{:.3f}"),
            "hdl_se": ("s.e.", "{:.3f}"),
            "sbp": ("systolic pressure", "{:.3f}"),
            "sbp_se": ("s.e.", "{:.3f}"),
            "seeds": ("choices of people", "{}"),
        },
    )


def recursion(name: str) -> str:
    """The table of a study of recursions."""
    file = RESULTS / f"recursion_{name}.csv"
    if not file.exists():
        return PENDING.format("recursion")
    table = pd.read_csv(file)
    forms = {
        "model": ("model", "`{}`"),
        "latent": ("latent variables", "{:.0f}"),
        "n": ("N", "{:.0f}"),
        "seed": ("seed", "{:.0f}"),
        "epochs": ("epochs", "{:.0f}"),
        "elbo": ("ELBO", "{:.3f}"),
        "iwae200": ("IWAE(200)", "{:.3f}"),
        "kl": ("KL", "{:.2f}"),
        "middle": ("share of draws between the modes", "{:.2f}"),
        "rmse": ("RMSE", "{:.3f}"),
        "log_score": ("nats per step", "{:.4f}"),
        "cpu_seconds": ("processor seconds", "{:.0f}"),
        "seconds": ("seconds", "{:.0f}"),
    }
    return markdown(table, forms)


def chorales() -> str:
    """Nats a step of models of 88 keys, a row per model."""
    file = RESULTS / "chorales.csv"
    if not file.exists():
        return PENDING.format("chorales")
    forms = {
        "model": ("model", "{}"),
        "setting": ("term", "`{}`"),
        "epochs": ("epochs", "{:.0f}"),
        "train": ("learnt from", "{:.2f}"),
        "valid": ("chosen by", "{:.3f}"),
        "test": ("scored", "{:.3f}"),
        "elbo": ("scored by one particle", "{:.2f}"),
        "particles": ("particles", "{:,.0f}"),
        "cpu_seconds": ("processor seconds", "{:,.0f}"),
    }
    return markdown(pd.read_csv(file), forms)


def large() -> str:
    """Models of rows that are not in memory, a row per model and size."""
    file = RESULTS / "large.csv"
    if not file.exists():
        return PENDING.format("large")
    table = pd.read_csv(file)
    table["apart"] = table[["apart_loglik", "apart_fixef", "apart_se"]].max(axis=1)
    forms = {
        "formula": ("model", "`{}`"),
        "rows": ("rows", "{:,.0f}"),
        "subjects": ("subjects", "{:,.0f}"),
        "gigabytes": ("file, GB", "{:.2g}"),
        "seconds": ("seconds", "{:.0f}"),
        "processor": ("processor seconds", "{:.0f}"),
        "peak": ("memory, GiB", "{:.2f}"),
        "scan_seconds": ("DuckDB reads: seconds", "{:.1f}"),
        "scan_processor": ("processor seconds", "{:.1f}"),
        "group_seconds": ("DuckDB groups: seconds", "{:.1f}"),
        "group_processor": ("processor seconds", "{:.1f}"),
        "apart": ("apart", "{:.0e}"),
    }
    return markdown(table.sort_values(["subjects", "model"]), forms)


SOURCES: dict[str, Callable[..., str]] = {
    one.__name__: one
    for one in (
        study, shares, mean_shares, mean_share, lead, where_linear, linear_price,
        coverage_fixed_table, coverage_of_random, coverage_of_population, interval_table, demo,
        speed, ratios, crossed, many_speed, one_call, linear_speed, path_speed, outcome_speed,
        outcome_bias, shared_effects, missing,
        accepted, elbo_bias, panel, panel_gain, mood_scores, mood_course, mood_cost, check_sizes,
        check_left_out, check_powers, check_share, dynamic_table, posterior_of_deviation,
        posterior_gap, posterior_off, calibration, gibbs_speed, bouncing_ball, controls,
        ball_video, labs, recursion, chorales, large, encoder_gaps, encoder_times,
    )
}  # fmt: skip


def main(*options: str) -> None:
    """Write the figures of all pages; with --list say what is still to be measured."""
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = rewritten(old)
        if "--list" in options:
            print(
                *(f"{page.name}: {line}" for line in new.splitlines() if "To be measured" in line),
                sep="\n",
            )
        elif new != old:
            page.write_text(new, encoding="utf-8")
            print(f"{page.relative_to(ROOT)} has new figures")


if __name__ == "__main__":
    main(*sys.argv[1:])
